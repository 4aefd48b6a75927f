//! Changes of a key, each under the key's stripe: insert, remove, take. And clear.
//!
//! The order of the steps is what keeps readers right, who look in memory, in pending and in
//! the store, in this order and without a lock:
//!
//! | change | order | so that |
//! |---|---|---|
//! | insert, through | store, pending, memory | the new value is below before the old one goes above |
//! | insert, above | memory, pending, store | there is always one of the two to be found |
//! | insert, above, with a deadline | store, pending, memory | the old value is not found again, should the new one expire meanwhile; a miss may be |
//! | remove | memory, pending, store | nothing comes down behind the removal |
//!
//! Inserting above takes the old value away from under a reader who has passed the place of
//! the new one. So it counts a move in between, and who misses looks again if that count has
//! changed (`settled` in `core.rs`).

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use larder_engine::clock::NEVER;
use larder_engine::{CodecId, Durability, Expected, Outcome, Put, Rejection, Ttl, Value};

use crate::codec::Codec;
use crate::core::{Cached, Core, Mode};
use crate::entry::{Entry, Incoming, Life};
use crate::error::Result;
use crate::flight::Fate;
use crate::key::Key;
use crate::lower::{Failure, Lower, Written};
use crate::stripe::Held;
use crate::sync::{AtomicBool, MutexGuard, Ordering};
use crate::tags::Tags;

/// What a key had: in memory or pending, or else in the store.
type Removed<V> = (Option<Arc<Entry<V>>>, Option<Value>);

/// An insert of which everything is known that can be known without a lock.
struct Change<'a, I> {
    key: &'a Key,
    incoming: I,
    put: Put<'a>,
    life: Life,
    weight: u64,
    tags: Option<Arc<Tags>>,
}

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// Whether an insert has to go to the store at once, and so needs bytes.
    pub(crate) fn goes_through(&self, weight: u64, durability: Durability) -> bool {
        self.lower.is_some()
            && (self.options.mode == Mode::WriteThrough
                || durability == Durability::Sync
                || !self.fits_memory(weight))
    }

    /// Stores a value.
    pub(crate) fn insert(
        &self,
        key: &[u8],
        incoming: impl Incoming<V>,
        weight: u64,
        put: &Put<'_>,
    ) -> Result<Outcome> {
        self.change(key, |key| {
            self.flights.doom(key);
            self.insert_under(key, incoming, weight, put, (0, None))
        })
    }

    /// Stores a value that was loaded, unless its key was changed meanwhile: then `None`.
    pub(crate) fn publish(
        &self,
        key: &[u8],
        incoming: impl Incoming<V>,
        weight: u64,
        put: &Put<'_>,
        load_ms: u32,
        fate: &Fate<V>,
    ) -> Result<Option<Outcome>> {
        self.change(key, |key| {
            let _moving = (!put.tags.is_empty()).then(|| self.moving.read());
            let overtaken = || {
                let tags: Vec<_> = put.tags.iter().map(|tag| self.stored_tag(tag)).collect();
                self.invalidated.any_since(tags.iter().map(|tag| &**tag), fate.since())
            };
            if fate.is_doomed() || overtaken() {
                return Ok(None);
            }
            self.insert_under(key, incoming, weight, put, (load_ms, None)).map(Some)
        })
    }

    /// Removes `key`: whether it had a live value.
    pub(crate) fn remove(&self, key: &[u8]) -> Result<bool> {
        self.change(key, |key| {
            self.flights.doom(key);
            if self.options.freshness.grace_ms() != 0 {
                return self.remove_under(key).map(|(above, stored)| {
                    let fresh_above = above.is_some_and(|entry| self.is_fresh(&entry.life));
                    fresh_above || stored.is_some_and(|value| self.is_fresh(&value.meta().into()))
                });
            }
            self.drop_stale(key);
            let above = self.memory.remove(&**key);
            if self.is_watched {
                // The store alone says what was there: another process may have been faster.
                return self.remove_below(key);
            }
            let waiting = self.waiting(key).is_some();
            drop(self.pending.take(key));
            Ok(self.remove_below(key)? || above || waiting)
        })
    }

    /// Removes `key`, and hands out what was there.
    pub(crate) fn remove_under(&self, key: &Key) -> Result<Removed<V>> {
        self.flights.doom(key);
        let above = self.memory.take(&**key);
        let waiting = self.waiting(key);
        drop(self.pending.take(key));
        let above = above.or(waiting);
        let stored = match &self.lower {
            Some(lower) if above.is_none() => lower.get(key)?,
            _ => None,
        };
        self.remove_below(key)?;
        Ok((above, stored))
    }

    /// Removes `key` and hands out its value.
    pub(crate) fn take(&self, key: &[u8]) -> Result<Option<V>> {
        if let Some(lower) = self.watched() {
            let taken = self.change(key, |key| {
                self.flights.doom(key);
                drop(self.memory.take(&**key));
                lower.take(key)
            })?;
            let fresh = taken.filter(|stored| self.is_fresh(&stored.meta().into()));
            return fresh.map_or(Ok(None), |stored| self.decode(&stored));
        }
        let (entry, stored) = self.change(key, |key| self.remove_under(key))?;
        match (entry, stored) {
            (Some(entry), _) if self.is_fresh(&entry.life) => Ok(Some(Entry::into_value(entry))),
            (None, Some(stored)) if self.is_fresh(&stored.meta().into()) => self.decode(&stored),
            _ => Ok(None),
        }
    }

    /// Runs a change of `key` under its stripe, and afterwards what it left to be done.
    pub(crate) fn change<R>(
        &self,
        key: &[u8],
        change: impl FnOnce(&Key) -> Result<R>,
    ) -> Result<R> {
        self.open()?;
        self.repair();
        let key = Key::from(key);
        let changed = {
            let _stripe = self.lock(&key);
            // Again: who closes waits for all stripes.
            self.open().and_then(|()| change(&key))
        };
        self.drain();
        self.watch_usage();
        self.events.emit();
        changed
    }

    /// The stripe of `key`, at a time when nobody is clearing.
    fn lock(&self, key: &[u8]) -> Held<'_> {
        loop {
            let stripe = self.stripes.lock(key);
            if !self.is_clearing() {
                return stripe;
            }
            drop(stripe);
            drop(self.clear.lock());
        }
    }

    pub(crate) fn insert_under(
        &self,
        key: &Key,
        incoming: impl Incoming<V>,
        weight: u64,
        put: &Put<'_>,
        (load_ms, expected): (u32, Option<Expected>),
    ) -> Result<Outcome> {
        let now_ms = self.now_ms();
        let idle = self.options.idle.filter(|_| put.ttl == Ttl::Default);
        let deadline_ms = match (idle, &self.lower) {
            (Some(_), None) => NEVER,
            (Some(idle), Some(_)) => idle.end(now_ms),
            (None, _) => put.ttl.deadline_ms(now_ms, self.options.freshness.ttl()),
        };
        let expires_at_ms = self.options.freshness.kept_until(now_ms, deadline_ms);
        let is_marked = idle.is_some() && self.lower.is_some();
        let tags = self.tags(put.tags, is_marked)?;
        let stored = tags.clone();
        let stored = stored.as_ref().map_or_else(Vec::new, |tags| tags.stored());
        let put = Put { tags: &stored, ..exact(expires_at_ms, incoming.codec(), put) };
        let is_idle = idle.is_some();
        let life = Life { written_at_ms: now_ms, expires_at_ms, load_ms, is_idle };
        let change = Change { key, incoming, put, life, weight, tags };
        match &self.lower {
            None => self.insert_in_memory(change, false),
            Some(lower) if self.goes_through(weight, put.durability) => {
                self.insert_through(lower, change, expected)
            }
            Some(lower) => self.insert_above(lower, change),
        }
    }

    fn insert_through(
        &self,
        lower: &Lower,
        change: Change<'_, impl Incoming<V>>,
        expected: Option<Expected>,
    ) -> Result<Outcome> {
        let before = lower.stamp_of(change.key, change.put.tags);
        let gone = match lower.put(change.key, change.incoming.bytes(), &change.put, expected) {
            Ok(Written::Conflict { version }) => {
                self.drop_stale(change.key);
                return Ok(Outcome::Conflict { version });
            }
            Ok(Written::Stored { version }) => {
                let Change { key, incoming, put, life, weight, tags } = change;
                // From here on the old value must not come between memory and the store.
                let bar = self.pending.bar(key);
                drop(self.pending.take(key));
                let value = incoming.into_value(version);
                let entry = Entry::new(value, life, version, weight, tags, false);
                if let Some(before) = before {
                    let after = lower.stamp_of(key, put.tags);
                    entry.keep_with(after.filter(|after| after.is_next_to(&before)));
                }
                let kept = self.with_keep(&entry, cost(&put), |keep| {
                    self.memory.insert_as(key.clone(), Arc::clone(&entry), keep)
                });
                if kept.is_err() {
                    self.memory.remove(&**key);
                }
                drop(bar);
                return Ok(Outcome::Admitted { version });
            }
            // The old value stays, everywhere.
            Ok(Written::Rejected(why @ Rejection::TooLarge { .. })) => {
                return Ok(Outcome::Rejected(why));
            }
            // Memory could not tell whether others have changed it.
            Ok(Written::Rejected(why)) if self.is_watched => return Ok(Outcome::Rejected(why)),
            // It may still live in memory, but not over an old one in the store.
            Ok(Written::Rejected(_)) => lower.remove(change.key).map(|_| ()),
            Err(failure) => Err(failure),
        };
        let unflushed = gone.is_err();
        self.gone_below(change.key, gone)?;
        let key = change.key;
        let outcome = self.insert_in_memory(change, unflushed)?;
        if !outcome.is_admitted() {
            // Memory has no place for it either, and the old value is gone below.
            self.memory.remove(&**key);
            drop(self.pending.take(key));
        }
        Ok(outcome)
    }

    fn insert_above(&self, lower: &Lower, change: Change<'_, impl Incoming<V>>) -> Result<Outcome> {
        let key = change.key;
        // The store has nothing beside an unflushed value (invariant 2 of `core.rs`).
        let above = self.memory.peek_with(&**key, |entry| entry.is_unflushed());
        let below = match above {
            Some(true) => Ok(false),
            _ => lower.may_hold(key),
        };
        let empty_below = |below| match below {
            Ok(false) => Ok(()),
            Ok(true) => self.gone_below(key, lower.remove(key).map(|_| ())),
            Err(failure) => self.gone_below(key, Err(failure)),
        };
        if change.life.expires_at_ms != NEVER {
            empty_below(below)?;
            return self.insert_in_memory(change, true);
        }
        let outcome = self.insert_in_memory(change, true)?;
        if outcome.is_admitted() {
            if !matches!(below, Ok(false)) {
                self.moved_up();
            }
            empty_below(below)?;
        }
        Ok(outcome)
    }

    /// Says that what is about to be taken away has a successor higher up, which is there
    /// already.
    fn moved_up(&self) {
        // Release: pairs with the Acquire in `settled`. Who does not see this count change
        // has begun to search after it, and so finds the successor.
        self.moves.fetch_add(1, Ordering::Release);
    }

    /// After the store was told to forget the value of `key`. If it could not, the key is
    /// masked; if the cache is strict as well, the key has no value any more.
    fn gone_below(&self, key: &Key, gone: Result<(), Failure>) -> Result<()> {
        match gone {
            Err(failure) if self.options.strict => {
                self.memory.remove(&**key);
                drop(self.pending.take(key));
                Err(failure.into())
            }
            _ => Ok(()),
        }
    }

    fn insert_in_memory(
        &self,
        change: Change<'_, impl Incoming<V>>,
        unflushed: bool,
    ) -> Result<Outcome> {
        let Change { key, incoming, put, life, weight, tags } = change;
        let version = self.own_version();
        let value = incoming.into_value(version);
        let entry = Entry::new(value, life, version, weight, tags, unflushed);
        // One that may expire before this is done leaves no old value to be found behind it.
        let bar = (life.expires_at_ms != NEVER && self.lower.is_some()).then(|| {
            let bar = self.pending.bar(key);
            bar.admit(&entry);
            drop(self.pending.take(key));
            bar
        });
        if unflushed {
            // Relaxed: a figure. Before the entry can leave again.
            self.unflushed.fetch_add(1, Ordering::Relaxed);
        }
        let inserted = self.with_keep(&entry, cost(&put), |keep| {
            self.memory.insert_as(key.clone(), Arc::clone(&entry), keep)
        });
        drop(bar);
        if let Err(rejected) = inserted {
            if unflushed {
                self.unflushed.fetch_sub(1, Ordering::Relaxed);
            }
            return Ok(Outcome::Rejected(rejected.why));
        }
        if let Some(old) = self.pending.get(key).filter(|old| !Arc::ptr_eq(old, &entry)) {
            self.moved_up();
            self.pending.remove(key, &old);
        }
        Ok(Outcome::Admitted { version })
    }

    pub(crate) fn remove_below(&self, key: &Key) -> Result<bool> {
        match self.lower.as_ref().map(|lower| lower.remove(key)) {
            Some(Err(failure)) if self.options.strict => Err(failure.into()),
            Some(removed) => Ok(removed.unwrap_or(false)),
            None => Ok(false),
        }
    }

    /// Removes everything that was put before the call, and says how much that was.
    pub(crate) fn clear(&self) -> Result<u64> {
        self.open()?;
        let cleared = self.while_clearing(&self.clear.lock(), || {
            // Relaxed: a figure.
            let unflushed = self.unflushed.load(Ordering::Relaxed) as u64;
            let memory = self.memory.clear();
            let waiting = self.pending.clear();
            match &self.lower {
                None => Ok(memory),
                Some(lower) => self.clear_lower(lower).map(|stored| stored + unflushed + waiting),
            }
        });
        self.events.emit();
        cleared
    }

    /// Runs `clear` while no key changes: changes that began before have ended, others wait,
    /// and nothing is promoted or flushed. So every key is cleared at one moment, and what is
    /// cleared does not come back. Hold no stripe.
    pub(crate) fn while_clearing<R>(&self, _: &MutexGuard<'_, ()>, clear: impl FnOnce() -> R) -> R {
        struct Clearing<'a>(&'a AtomicBool);
        impl Drop for Clearing<'_> {
            fn drop(&mut self) {
                // Release: whoever sees it sees what was cleared.
                self.0.store(false, Ordering::Release);
            }
        }
        // Relaxed: the barrier publishes it.
        self.clearing.store(true, Ordering::Relaxed);
        let _clearing = Clearing(&self.clearing);
        self.stripes.barrier();
        self.flights.doom_all();
        clear()
    }

    /// Clears the store. Call while clearing.
    pub(crate) fn clear_lower(&self, lower: &Lower) -> Result<u64> {
        match lower.clear() {
            Ok(count) => {
                lower.cleared();
                Ok(count)
            }
            Err(failure) => {
                lower.bypass();
                if self.options.strict { Err(failure.into()) } else { Ok(0) }
            }
        }
    }
}

/// What memory is told of a cost, in ns.
fn cost(put: &Put<'_>) -> u64 {
    u64::try_from(put.cost.saved().as_nanos()).unwrap_or(u64::MAX)
}

/// What the store is to be told, so that both tiers have the same deadline.
pub(crate) fn exact<'a>(expires_at_ms: u64, codec: CodecId, put: &Put<'a>) -> Put<'a> {
    Put { ttl: until(expires_at_ms), codec, ..*put }
}

/// A deadline in ms since 1970 as a time to live.
pub(crate) fn until(expires_at_ms: u64) -> Ttl {
    match expires_at_ms {
        NEVER => Ttl::Never,
        ms => UNIX_EPOCH.checked_add(Duration::from_millis(ms)).map_or(Ttl::Never, Ttl::At),
    }
}
