//! What callers do to a key, in terms of [`update`](Store::update).

use larder_format::{ArrayDescriptor, CodecId, ExternalRef, Flags, Kind, SlotState};

use super::change::{Change, Content, Decision, Draft, Written};
use super::counters::Count;
use super::external::{Contents, FileId};
use super::index::Found;
use super::segment::Record;
use super::shortage::Patience;
use super::store::Store;
use super::timing::Timed;
use crate::clock::{NEVER, is_live};
use crate::engine::{Durability, Expected, Outcome, Put, Rejection, Ttl, WhenShort};
use crate::error::{Error, Result};
use crate::sync::Ordering;
use crate::value::Value;

/// How a value is put under a key, whatever the value.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// Of the key.
    pub(super) hash: u64,
    /// Hashes of the tags.
    tags: Vec<u64>,
    pub(super) ttl: Ttl,
    codec: CodecId,
    pub(super) durable: bool,
    when_short: WhenShort,
}

impl Terms {
    pub(super) fn change<'a>(
        &'a self,
        key: &'a [u8],
        value: &'a [u8],
        expires_at_ms: u64,
        now_ms: u64,
    ) -> (Change<'a>, Draft) {
        let fate = (Kind::Value, expires_at_ms);
        let (hash, tags, durable) = (self.hash, &*self.tags, self.durable);
        let patience = Patience::of(self.when_short);
        let change = Change { hash, key, head: &[], value, tags, fate, now_ms, patience, durable };
        let (content, flags) = (Content::Given, Flags::NONE);
        (change, Draft { content, flags, codec: self.codec, expires_at_ms })
    }
}

/// What is known about a value that is ready to be stored.
pub(super) struct Offer {
    /// Its file, if it has one.
    pub(super) named: Option<ExternalRef>,
    /// Bytes that packing it saved.
    pub(super) saved: usize,
    pub(super) weight: u64,
    pub(super) durable: bool,
}

impl Store {
    /// Puts a value, if the key is as expected.
    #[inline]
    pub(crate) fn put_if(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Put<'_>,
        expected: Option<Expected>,
    ) -> Result<Outcome> {
        self.check_open()?;
        let terms = self.terms(key, options)?;
        self.upkeep.timings.time(Timed::Put, || self.put_under(key, value, &terms, expected))
    }

    /// Under which terms a key is put, checked.
    #[inline]
    pub(super) fn terms(&self, key: &[u8], options: &Put<'_>) -> Result<Terms> {
        let tags =
            if options.tags.is_empty() { Vec::new() } else { self.tag_hashes(options.tags)? };
        Ok(Terms {
            hash: self.hash(key)?,
            tags,
            ttl: options.ttl,
            codec: options.codec,
            durable: options.durability == Durability::Sync,
            when_short: self.when_short(options.when_short),
        })
    }

    /// As [`put_if`](Self::put_if), under terms.
    pub(super) fn put_under(
        &self,
        key: &[u8],
        value: &[u8],
        terms: &Terms,
        expected: Option<Expected>,
    ) -> Result<Outcome> {
        self.check_open()?;
        let guard = crossbeam_epoch::pin();
        self.index.for_reading(terms.hash, &guard).prefetch(terms.hash);
        let mut pinned = Some(guard);
        let lasts = terms.ttl == Ttl::Never || terms.ttl == Ttl::Default && self.ttl.is_none();
        let now_ms = if lasts && expected.is_none() {
            self.clock.about_now_ms()
        } else {
            self.clock.now_ms()
        };
        let weight = (key.len() as u64).saturating_add(value.len() as u64);
        let limit = self.largest_value();
        if weight > limit {
            self.counters.add(Count::Rejected, 1);
            return Ok(Outcome::Rejected(Rejection::TooLarge { weight, limit }));
        }
        let expires_at_ms = terms.ttl.deadline_ms(now_ms, self.ttl);
        let (mut change, mut draft) = terms.change(key, value, expires_at_ms, now_ms);
        if !is_live(expires_at_ms, now_ms) {
            // Dead on arrival: what counts is that the old value goes.
            (draft, change.value) = (Draft::REMOVAL, &[]);
            change.fate = (Kind::Tombstone, NEVER);
        }
        let external_min = self.file.superblock().external_min as usize;
        let is_work = self.packer.tries(change.value.len()) || change.value.len() >= external_min;
        if is_work {
            pinned = None;
        }
        if expected.is_some()
            && is_work
            && let Some(conflict) = self.conflict_now(&change, expected)
        {
            return Ok(conflict);
        }
        let packed;
        let mut saved = 0;
        if !draft.content.is_nothing()
            && let Some(bytes) = self.packer.pack(change.value)
        {
            saved = change.value.len().saturating_sub(bytes.len());
            packed = bytes;
            change.value = &packed;
            draft.flags = draft.flags.with(Flags::COMPRESSED);
        }
        let mut named = None;
        let (encoded, _gate);
        if change.value.len() >= external_min {
            _gate = self.enter_gate()?;
            let external = self.put_external(&change, None, terms.durable)?;
            encoded = external.encode();
            change.value = &encoded;
            draft.flags = draft.flags.with(Flags::EXTERNAL);
            named = Some(external);
        }
        let offer = Offer { named, saved, weight, durable: terms.durable };
        self.publish(&change, draft, &offer, expected, pinned)
    }

    /// Puts the value that lies in a file which nothing names yet. If it is not put, the file
    /// goes.
    pub(super) fn put_file(
        &self,
        key: &[u8],
        named: ExternalRef,
        flags: Flags,
        terms: &Terms,
    ) -> Result<Outcome> {
        let now_ms = self.clock.now_ms();
        let expires_at_ms = terms.ttl.deadline_ms(now_ms, self.ttl);
        let open = self.check_open();
        if open.is_err() || !is_live(expires_at_ms, now_ms) {
            let file = FileId::named(&named);
            self.externals.remove(&*self.storage, file, &crossbeam_epoch::pin())?;
            open?;
            return self.put_under(key, &[], terms, None);
        }
        let encoded = named.encode();
        let (change, mut draft) = terms.change(key, &encoded, expires_at_ms, now_ms);
        draft.flags = Flags::EXTERNAL.with(flags);
        let weight = named.data_len.saturating_add(key.len() as u64);
        let offer = Offer { named: Some(named), saved: 0, weight, durable: terms.durable };
        self.publish(&change, draft, &offer, None, None)
    }

    /// Writes the record of a value that is ready to be stored, if the key is as expected.
    #[inline]
    pub(super) fn publish(
        &self,
        change: &Change<'_>,
        draft: Draft,
        offer: &Offer,
        expected: Option<Expected>,
        pinned: Option<crossbeam_epoch::Guard>,
    ) -> Result<Outcome> {
        let now_ms = change.now_ms;
        let orphan = |_: &Error| self.doom_orphan(draft.flags, change.value);
        let mut drawn = 0;
        let decide = |current: Option<&Found<Record<'_>>>, guard: &crossbeam_epoch::Guard| {
            let conflict = expected.and_then(|expected| {
                let live = self.live_version(current, now_ms, guard);
                (!expected.is_met_by(live)).then_some(Outcome::Conflict { version: live })
            });
            Ok(match conflict {
                Some(conflict) => Decision::Leave(Some(conflict)),
                None if draft.content.is_nothing() && self.is_certainly_absent(current) => {
                    // Relaxed: only distinctness and growth count.
                    drawn = self.file.next_seq().fetch_add(1, Ordering::Relaxed);
                    Decision::Leave(None)
                }
                None => Decision::Write(draft, None),
            })
        };
        let updated = self.as_coming(offer.durable, || self.update_pinned(change, pinned, decide));
        let (conflict, written) = updated.inspect_err(orphan)?;
        if let Some(conflict) = conflict {
            if let Some(named) = &offer.named {
                let guard = &crossbeam_epoch::pin();
                self.externals.remove(&*self.storage, FileId::named(named), guard)?;
            }
            return Ok(conflict);
        }
        self.make_durable(written.as_ref())?;
        self.counters.add(Count::Inserts, 1);
        self.counters.add(Count::PutBytes, offer.weight);
        self.counters.add(Count::CompressedSaved, offer.saved as u64);
        let version = written.map_or(drawn, |written| written.seq);
        Ok(Outcome::Admitted { version })
    }

    /// Waits for the disk to have what was written, together with other writers. Does nothing if
    /// the change did not ask for it.
    #[inline]
    pub(super) fn make_durable(&self, written: Option<&Written>) -> Result<()> {
        match written.and_then(|written| written.segment.as_ref()) {
            Some(segment) => self.sync_together(segment),
            None => Ok(()),
        }
    }

    /// Does `write`, which ends with a wait for the disk, as one that others may wait for.
    pub(super) fn as_coming<R>(&self, durable: bool, write: impl FnOnce() -> R) -> R {
        if !durable {
            return write();
        }
        // Relaxed: a hint; whoever is missed has the next sync.
        self.coming.fetch_add(1, Ordering::Relaxed);
        let done = write();
        self.coming.fetch_sub(1, Ordering::Relaxed);
        done
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
            None => !self.may_lack_slots(),
        }
    }

    /// Writes the value of a change to a file of its own; that of an array if it is one.
    pub(super) fn put_external(
        &self,
        change: &Change<'_>,
        array: Option<&ArrayDescriptor>,
        durable: bool,
    ) -> Result<ExternalRef> {
        let (key, value) = (change.key, change.value);
        if change.patience != Patience::Help {
            self.wait_for_space(value.len() as u64, change.patience)?;
        }
        self.make_space_for(value.len() as u64, change.now_ms)?;
        // Relaxed: only distinctness counts.
        let id = self.file.next_external().fetch_add(1, Ordering::Relaxed);
        let seq = self.file.next_seq().fetch_add(1, Ordering::Relaxed);
        let identity = (id, seq, change.hash);
        let named = self.externals.put(
            &*self.storage,
            identity,
            &Contents { key, value, array },
            durable,
        )?;
        self.counters.add(Count::WrittenBytes, value.len() as u64);
        Ok(named)
    }

    /// Most bytes of key and value that the store takes: what is left of the budget when all
    /// lanes have a segment and everything else is evicted.
    pub(super) fn largest_value(&self) -> u64 {
        let fixed = u64::from(self.file.superblock().segment_len) * 2 + (256 << 10);
        self.budget().saturating_sub(fixed)
    }

    pub(crate) fn remove(&self, key: &[u8]) -> Result<bool> {
        let was_live = self.take_with(key, |_, _| Ok(()))?.is_some();
        Ok(was_live)
    }

    /// Removes a key and returns the value that it had.
    pub(crate) fn take(&self, key: &[u8]) -> Result<Option<Value>> {
        let taken = self.take_with(key, |record, guard| self.value(record, guard))?;
        if let Some(None) = taken {
            self.counters.add(Count::Corrupt, 1);
        }
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
        let (patience, durable) = (Patience::Help, false);
        let change =
            Change { hash, key, head: &[], value: &[], tags: &[], fate, now_ms, patience, durable };
        if !self.may_lack_slots() {
            // Nothing to write, most likely: no lane is needed to find that out.
            let guard = &crossbeam_epoch::pin();
            let found = self.lookup(hash, key, guard);
            if self.is_certainly_absent(found.as_ref()) {
                return Ok(None);
            }
        }
        let started = self.upkeep.timings.start();
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
        self.upkeep.timings.end(Timed::Remove, started);
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
        let (patience, durable) = (Patience::Help, false);
        let change =
            Change { hash, key, head: &[], value: &[], tags: &[], fate, now_ms, patience, durable };
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
        let durable = options.durability == Durability::Sync;
        let patience = Patience::of(self.when_short(options.when_short));
        let (value, tags) = (&[0; 8], &*tags);
        let change = Change { hash, key, head: &[], value, tags, fate, now_ms, patience, durable };
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
        self.make_durable(written.as_ref())?;
        Ok(sum)
    }
}

impl Content {
    pub(super) const fn is_nothing(self) -> bool {
        matches!(self, Self::Nothing)
    }
}
