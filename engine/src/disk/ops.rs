//! What callers do to a key, in terms of [`update`](Store::update).

use larder_format::{CodecId, ExternalRef, Flags, Kind, SlotState};

use super::change::{Change, Content, Decision, Draft, Written};
use super::counters::Count;
use super::index::Found;
use super::segment::Record;
use super::store::Store;
use crate::clock::{NEVER, is_live};
use crate::engine::{Durability, Expected, Outcome, Put, Rejection, Ttl};
use crate::error::{Error, Result};
use crate::sync::Ordering;
use crate::value::Value;

impl Store {
    /// Puts a value, if the key is as expected.
    pub(crate) fn put_if(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Put<'_>,
        expected: Option<Expected>,
    ) -> Result<Outcome> {
        self.check_open()?;
        let hash = self.hash(key)?;
        let now_ms = self.clock.now_ms();
        let weight = (key.len() as u64).saturating_add(value.len() as u64);
        let limit = self.largest_value();
        if weight > limit {
            self.counters.add(Count::Rejected, 1);
            return Ok(Outcome::Rejected(Rejection::TooLarge { weight, limit }));
        }
        let tags =
            if options.tags.is_empty() { Vec::new() } else { self.tag_hashes(options.tags)? };
        let expires_at_ms = options.ttl.deadline_ms(now_ms, self.ttl);
        let durable = options.durability == Durability::Sync;
        let fate = (Kind::Value, expires_at_ms);
        let mut change = Change { hash, key, value, tags: &tags, fate, now_ms };
        let mut draft = Draft {
            content: Content::Given,
            flags: Flags::NONE,
            codec: options.codec,
            expires_at_ms,
        };
        if !is_live(expires_at_ms, now_ms) {
            // Dead on arrival: what counts is that the old value goes.
            (draft, change.value) = (Draft::REMOVAL, &[]);
            change.fate = (Kind::Tombstone, NEVER);
        }
        let mut named = None;
        let encoded;
        if change.value.len() >= self.file.superblock().external_min as usize {
            if let Some(Outcome::Conflict { version }) = self.conflict_now(&change, expected) {
                return Ok(Outcome::Conflict { version });
            }
            let external = self.put_external(&change, durable)?;
            encoded = external.encode();
            change.value = &encoded;
            draft.flags = Flags::EXTERNAL;
            named = Some(external);
        }
        let orphan = |_: &Error| self.doom_orphan(draft.flags, change.value);
        let updated = self.update(&change, |current, guard| {
            let conflict = expected.and_then(|expected| {
                let live = self.live_version(current, now_ms, guard);
                (!expected.is_met_by(live)).then_some(Outcome::Conflict { version: live })
            });
            Ok(match conflict {
                Some(conflict) => Decision::Leave(Some(conflict)),
                None if draft.content.is_nothing() && self.is_certainly_absent(current) => {
                    Decision::Leave(None)
                }
                None => Decision::Write(draft, None),
            })
        });
        let (conflict, written) = updated.inspect_err(orphan)?;
        if let Some(conflict) = conflict {
            if let Some(named) = named {
                let guard = &crossbeam_epoch::pin();
                self.externals.remove(&*self.storage, named.id, guard)?;
            }
            return Ok(conflict);
        }
        if durable && let Some(written) = &written {
            self.make_durable(written)?;
        }
        self.counters.add(Count::Inserts, 1);
        self.counters.add(Count::PutBytes, weight);
        // Relaxed: only distinctness and growth count.
        let version = written.map_or_else(
            || self.file.next_seq().fetch_add(1, Ordering::Relaxed),
            |written| written.seq,
        );
        Ok(Outcome::Admitted { version })
    }

    pub(super) fn make_durable(&self, written: &Written) -> Result<()> {
        written.segment.sync(&*self.storage).inspect_err(|_| self.note_suspect())
    }

    /// What an expectation says to the key as it is now; a hint that spares work.
    fn conflict_now(&self, change: &Change<'_>, expected: Option<Expected>) -> Option<Outcome> {
        let guard = &crossbeam_epoch::pin();
        let current = self.lookup(change.hash, change.key, guard);
        let live = self.live_version(current.as_ref(), change.now_ms, guard);
        let met = expected.is_none_or(|expected| expected.is_met_by(live));
        (!met).then_some(Outcome::Conflict { version: live })
    }

    /// The version of the live value among what a key has.
    pub(super) fn live_version(
        &self,
        current: Option<&Found<Record<'_>>>,
        now_ms: u64,
        guard: &crossbeam_epoch::Guard,
    ) -> Option<u64> {
        let current = current?;
        let is_live =
            current.state == SlotState::Value && self.is_live_at(&current.found, || now_ms, guard);
        is_live.then_some(current.seq)
    }

    /// Whether the log holds no value of a key for which the index has this.
    pub(super) fn is_certainly_absent(&self, current: Option<&Found<Record<'_>>>) -> bool {
        match current {
            Some(found) => found.state == SlotState::Tombstone,
            // Relaxed: a hint that is set before any record can be unknown because of it.
            None => self.file.dropped().load(Ordering::Relaxed) == 0,
        }
    }

    pub(super) fn put_external(&self, change: &Change<'_>, durable: bool) -> Result<ExternalRef> {
        let (key, value) = (change.key, change.value);
        self.make_space_for(value.len() as u64, change.now_ms)?;
        // Relaxed: only distinctness counts.
        let id = self.file.next_external().fetch_add(1, Ordering::Relaxed);
        let seq = self.file.next_seq().fetch_add(1, Ordering::Relaxed);
        let identity = (id, seq, change.hash);
        let named = self.externals.put(&*self.storage, identity, key, value, durable)?;
        self.counters.add(Count::WrittenBytes, value.len() as u64);
        Ok(named)
    }

    /// Most bytes of key and value that the store takes: what is left of the budget when all
    /// lanes have a segment and everything else is evicted.
    pub(super) fn largest_value(&self) -> u64 {
        let fixed = u64::from(self.file.superblock().segment_len) * 2 + (256 << 10);
        self.budget.saturating_sub(fixed)
    }

    pub(crate) fn remove(&self, key: &[u8]) -> Result<bool> {
        let was_live = self.take_with(key, |_, _| Ok(()))?.is_some();
        Ok(was_live)
    }

    /// Removes a key and returns the value that it had.
    pub(crate) fn take(&self, key: &[u8]) -> Result<Option<Value>> {
        let taken = self.take_with(key, |record, guard| self.value(record, guard))?;
        Ok(taken.flatten())
    }

    /// Removes a key, and says of its live record what `look` makes of it.
    fn take_with<R>(
        &self,
        key: &[u8],
        mut look: impl FnMut(&Record<'_>, &crossbeam_epoch::Guard) -> Result<R>,
    ) -> Result<Option<R>> {
        self.check_open()?;
        let hash = self.hash(key)?;
        let now_ms = self.clock.now_ms();
        let fate = (Kind::Tombstone, NEVER);
        let change = Change { hash, key, value: &[], tags: &[], fate, now_ms };
        if self.file.dropped().load(Ordering::Relaxed) == 0 {
            // Nothing to write, most likely: no lane is needed to find that out.
            let guard = &crossbeam_epoch::pin();
            let found = self.lookup(hash, key, guard);
            if self.is_certainly_absent(found.as_ref()) {
                return Ok(None);
            }
        }
        let (taken, _) = self.update(&change, |current, guard| {
            let live = self.live_version(current, change.now_ms, guard).and(current);
            let taken = match live {
                Some(live) => Some(look(&live.found, guard)?),
                None => None,
            };
            Ok(if self.is_certainly_absent(current) {
                Decision::Leave(taken)
            } else {
                Decision::Write(Draft::REMOVAL, taken)
            })
        })?;
        if taken.is_some() {
            self.counters.add(Count::Removes, 1);
        }
        Ok(taken)
    }

    /// Gives a live value another deadline. Whether there was one.
    pub(crate) fn touch(&self, key: &[u8], ttl: Ttl) -> Result<bool> {
        self.check_open()?;
        let hash = self.hash(key)?;
        let now_ms = self.clock.now_ms();
        let expires_at_ms = ttl.deadline_ms(now_ms, self.ttl);
        let fate = (Kind::Value, expires_at_ms);
        let change = Change { hash, key, value: &[], tags: &[], fate, now_ms };
        let (touched, _) = self.update(&change, |current, guard| {
            let Some(live) = self.live_version(current, now_ms, guard).and(current) else {
                return Ok(Decision::Leave(false));
            };
            if !live.found.is_intact() {
                self.counters.add(Count::Corrupt, 1);
                return Ok(Decision::Leave(false));
            }
            Ok(match live.found.header.expires_at_ms == expires_at_ms {
                true => Decision::Leave(true),
                false if !is_live(expires_at_ms, now_ms) => Decision::Write(Draft::REMOVAL, true),
                false => Decision::Write(Draft::kept(&live.found, expires_at_ms), true),
            })
        })?;
        Ok(touched)
    }

    /// Adds to a number. `None` if there is none and `initial` is none.
    pub(crate) fn add_to(
        &self,
        key: &[u8],
        by: i64,
        initial: Option<i64>,
        options: &Put<'_>,
    ) -> Result<Option<i64>> {
        self.check_open()?;
        let hash = self.hash(key)?;
        let now_ms = self.clock.now_ms();
        let fate = (Kind::Value, options.ttl.deadline_ms(now_ms, self.ttl));
        let tags = self.tag_hashes(options.tags)?;
        let change = Change { hash, key, value: &[0; 8], tags: &tags, fate, now_ms };
        let (sum, written) = self.update(&change, |current, guard| {
            let live = self.live_version(current, now_ms, guard).and(current);
            let live = match live {
                Some(live) => match self.value(&live.found, guard)? {
                    Some(value) => Some((live.found.header, value)),
                    None => {
                        self.counters.add(Count::Corrupt, 1);
                        None
                    }
                },
                None => None,
            };
            let number = if live.is_some() { Content::Number } else { Content::FirstNumber };
            let (old, codec, expires_at_ms) = match (live, initial) {
                (Some((header, value)), _) => {
                    let Ok(bytes) = <[u8; 8]>::try_from(&*value) else {
                        return Err(Error::NotANumber { len: value.len() });
                    };
                    (i64::from_le_bytes(bytes), header.codec, header.expires_at_ms)
                }
                (None, Some(initial)) => {
                    (initial, CodecId::RAW, options.ttl.deadline_ms(now_ms, self.ttl))
                }
                (None, None) => return Ok(Decision::Leave(None)),
            };
            let sum = old.checked_add(by).ok_or(Error::Overflow { value: old, by })?;
            let content = number(sum.to_le_bytes());
            let draft = Draft { content, flags: Flags::NONE, codec, expires_at_ms };
            Ok(Decision::Write(draft, Some(sum)))
        })?;
        if options.durability == Durability::Sync
            && let Some(written) = &written
        {
            self.make_durable(written)?;
        }
        Ok(sum)
    }
}

impl Content {
    pub(super) const fn is_nothing(self) -> bool {
        matches!(self, Self::Nothing)
    }
}
