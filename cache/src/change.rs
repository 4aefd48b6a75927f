//! Changes of a key, each under the key's stripe: insert, remove, take. And clear.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use larder_engine::{CodecId, Durability, Outcome, Put, Rejection, Ttl};

use crate::codec::Codec;
use crate::core::{Cached, Core, Mode};
use crate::entry::{Entry, Incoming};
use crate::error::Result;
use crate::flight::Lead;
use crate::key::Key;
use crate::lower::{Failure, Lower, Written};
use crate::pending::Bar;
use crate::sync::{AtomicUsize, Ordering};

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    Done(Outcome),
    /// The key was changed while the value was loaded: nothing was stored.
    Overtaken,
}

/// An insert of which everything is known that can be known without a lock.
struct Change<'a, I> {
    key: &'a Key,
    incoming: I,
    put: Put,
    expires_at_ms: u64,
    weight: u64,
}

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// Stores a value; one that was loaded, only if its key was not changed meanwhile.
    pub(crate) fn insert(
        &self,
        key: &[u8],
        incoming: impl Incoming<V>,
        weight: u64,
        put: &Put,
        loaded: Option<&Lead<'_, V>>,
    ) -> Result<Inserted> {
        self.open()?;
        self.repair();
        let now_ms = self.now_ms();
        let expires_at_ms = put.ttl.deadline_ms(now_ms, self.options.ttl);
        let put = exact(expires_at_ms, incoming.codec(), put.durability);
        let key = &Key::from(key);
        let inserted = {
            let _stripe = self.stripes.lock(key);
            self.open()?;
            if let Some(lead) = loaded {
                if lead.is_doomed() {
                    return Ok(Inserted::Overtaken);
                }
            } else {
                self.flights.doom(key);
            }
            let bar = self.pending.bar(key);
            if larder_engine::clock::is_live(expires_at_ms, now_ms) {
                let through = self.options.mode == Mode::WriteThrough
                    || put.durability == Durability::Sync
                    || !self.fits_memory(weight);
                let change = Change { key, incoming, put, expires_at_ms, weight };
                match &self.lower {
                    None => self.insert_in_memory(&bar, change, false),
                    Some(lower) if through => self.insert_through(lower, &bar, change),
                    Some(lower) => self.insert_above(lower, &bar, change),
                }
            } else {
                // Expired at once: what it leaves behind is no value.
                self.remove_under(&bar, key)
                    .map(|_| Outcome::Admitted { version: self.own_version() })
            }
        };
        self.drain();
        self.events.emit();
        inserted.map(Inserted::Done)
    }

    /// Into the store, then into memory.
    fn insert_through(
        &self,
        lower: &Lower,
        bar: &Bar<'_, V>,
        change: Change<'_, impl Incoming<V>>,
    ) -> Result<Outcome> {
        match lower.put(change.key, change.incoming.bytes(), &change.put) {
            Ok(Written::Stored { version }) => {
                drop(bar.take());
                let Change { key, incoming, expires_at_ms, weight, .. } = change;
                let value = incoming.into_value(version);
                let entry = Entry::new(value, expires_at_ms, version, weight, false);
                if self.memory.insert(key.clone(), entry, expires_at_ms).is_err() {
                    self.memory.remove(&**key);
                }
                Ok(Outcome::Admitted { version })
            }
            // The old value stays, everywhere.
            Ok(Written::Rejected(why @ Rejection::TooLarge { .. })) => Ok(Outcome::Rejected(why)),
            // Memory may still have it; the store must not keep the old one.
            Ok(Written::Rejected(_)) => {
                self.gone_below(bar, change.key, lower.remove(change.key))?;
                self.insert_in_memory(bar, change, false)
            }
            Err(failure) => {
                self.gone_below(bar, change.key, Err(failure))?;
                self.insert_in_memory(bar, change, true)
            }
        }
    }

    /// Into memory, and out of the store.
    fn insert_above(
        &self,
        lower: &Lower,
        bar: &Bar<'_, V>,
        change: Change<'_, impl Incoming<V>>,
    ) -> Result<Outcome> {
        let above = self.memory.peek_with(&**change.key, |entry| entry.is_unflushed());
        // The store has nothing beside an unflushed value, or the key is masked (invariant 2).
        if above != Some(true) {
            let gone = lower.evacuate(change.key);
            self.gone_below(bar, change.key, gone)?;
        }
        self.insert_in_memory(bar, change, true)
    }

    /// After the store was told to forget `key`: if it could not and the cache is strict, the
    /// key has no value any more.
    fn gone_below(&self, bar: &Bar<'_, V>, key: &Key, gone: Result<bool, Failure>) -> Result<bool> {
        match gone {
            Err(failure) if self.options.strict => {
                self.memory.remove(&**key);
                drop(bar.take());
                Err(failure.into())
            }
            gone => Ok(gone.unwrap_or(false)),
        }
    }

    fn insert_in_memory(
        &self,
        bar: &Bar<'_, V>,
        change: Change<'_, impl Incoming<V>>,
        unflushed: bool,
    ) -> Result<Outcome> {
        let Change { key, incoming, expires_at_ms, weight, .. } = change;
        let version = self.own_version();
        let entry = Entry::new(incoming.into_value(version), expires_at_ms, version, weight, unflushed);
        drop(bar.take());
        bar.admit(&entry);
        if unflushed {
            // Relaxed: a figure. Before the entry can leave again.
            self.unflushed.fetch_add(1, Ordering::Relaxed);
        }
        match self.memory.insert(key.clone(), entry, expires_at_ms) {
            Ok(()) => Ok(Outcome::Admitted { version }),
            Err(rejected) => {
                if unflushed {
                    self.unflushed.fetch_sub(1, Ordering::Relaxed);
                }
                if self.lower.is_some() {
                    // Its place in the store is gone already.
                    self.memory.remove(&**key);
                }
                Ok(Outcome::Rejected(rejected.why))
            }
        }
    }

    /// Removes `key`: whether it had a live value.
    pub(crate) fn remove(&self, key: &[u8]) -> Result<bool> {
        self.open()?;
        self.repair();
        let key = &Key::from(key);
        let removed = {
            let _stripe = self.stripes.lock(key);
            self.open()?;
            self.flights.doom(key);
            self.remove_under(&self.pending.bar(key), key)
        };
        self.events.emit();
        removed
    }

    /// The store goes first: while it is asked, the value is still found above it.
    fn remove_under(&self, bar: &Bar<'_, V>, key: &Key) -> Result<bool> {
        let below = match &self.lower {
            Some(lower) => self.gone_below(bar, key, lower.remove(key))?,
            None => false,
        };
        let above = self.memory.remove(&**key);
        let waiting = bar.take().is_some_and(|entry| self.is_live(entry.expires_at_ms));
        Ok(below || above || waiting)
    }

    /// Removes `key` and hands out its value.
    pub(crate) fn take(&self, key: &[u8]) -> Result<Option<V>> {
        self.open()?;
        self.repair();
        let key = &Key::from(key);
        let (entry, stored) = {
            let _stripe = self.stripes.lock(key);
            self.open()?;
            self.flights.doom(key);
            let bar = self.pending.bar(key);
            let above = self.memory.peek_with(&**key, Arc::clone);
            let entry = above.or_else(|| self.waiting(key));
            let stored = match &self.lower {
                Some(lower) if entry.is_none() => lower.get(key)?,
                _ => None,
            };
            self.remove_under(&bar, key)?;
            (entry, stored)
        };
        let value = match (entry, stored) {
            (Some(entry), _) => Ok(Some(Arc::try_unwrap(entry).map_or_else(|e| e.value.clone(), |e| e.value))),
            (None, Some(stored)) => self.decode(&stored),
            (None, None) => Ok(None),
        };
        self.events.emit();
        value
    }

    /// Removes everything that was put before the call, and says how much that was.
    pub(crate) fn clear(&self) -> Result<u64> {
        self.open()?;
        let cleared = self.while_clearing(|bypassed| {
            // Relaxed: a figure.
            let unflushed = self.unflushed.load(Ordering::Relaxed) as u64;
            let memory = self.memory.clear();
            let waiting = self.pending.clear();
            match &self.lower {
                None => Ok(memory),
                Some(lower) => {
                    self.clear_lower(lower, bypassed).map(|stored| stored + unflushed + waiting)
                }
            }
        });
        self.events.emit();
        cleared
    }

    /// Runs `clear` while no change that began before is under way, nothing is promoted and
    /// nothing flushed: what is cleared does not come back. Tells `clear` whether the store was
    /// bypassed before those changes ended; if so, nothing writes to it.
    pub(crate) fn while_clearing<R>(&self, clear: impl FnOnce(bool) -> R) -> R {
        struct Clearing<'a>(&'a AtomicUsize);
        impl Drop for Clearing<'_> {
            fn drop(&mut self) {
                // Relaxed: too late is harmless.
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        // Relaxed: the barrier publishes it.
        self.clearing.fetch_add(1, Ordering::Relaxed);
        let _clearing = Clearing(&self.clearing);
        let bypassed = self.lower.as_ref().is_some_and(|lower| lower.stale.bypassed());
        self.flights.doom_all();
        self.stripes.barrier();
        clear(bypassed)
    }

    /// Clears the store. Call while clearing, with what that says of the bypass.
    pub(crate) fn clear_lower(&self, lower: &Lower, bypassed: bool) -> Result<u64> {
        match lower.clear() {
            Ok(count) => {
                if bypassed {
                    lower.cleared();
                }
                Ok(count)
            }
            Err(failure) => {
                lower.bypass();
                if self.options.strict { Err(failure.into()) } else { Ok(0) }
            }
        }
    }
}

/// What the store is to be told, so that both tiers have the same deadline.
pub(crate) fn exact(expires_at_ms: u64, codec: CodecId, durability: Durability) -> Put {
    let ttl = match expires_at_ms {
        u64::MAX => Ttl::Never,
        ms => UNIX_EPOCH.checked_add(Duration::from_millis(ms)).map_or(Ttl::Never, Ttl::At),
    };
    Put { ttl, durability, codec }
}
