//! Changes that depend on what a key has, and what is known of that.
//!
//! All changes of a key run under its stripe, so what is compared there stays as it is until the
//! change has taken place. The user's code runs without it: `update` reads, computes, and
//! stores if nothing has changed meanwhile, or begins again.

use std::sync::Arc;
use std::time::Duration;

use larder_engine::clock::NEVER;
use larder_engine::{Expected, Outcome, Put, Ttl};

use crate::change::until;
use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::key::Key;

/// What is known of a value beside itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// Of two values of a key the newer has another. It may change without the value, when the
    /// store gets it.
    pub version: u64,
    /// When it was stored, in ms since 1970.
    pub written_at_ms: u64,
    /// When its time is over, in ms since 1970; `u64::MAX` for never.
    pub expires_at_ms: u64,
}

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// The value of `key`, with what is known of it. Counts as a use.
    pub(crate) fn get_with_info(&self, key: &[u8]) -> Result<Option<(Arc<Entry<V>>, Info)>> {
        let found = self.find(key)?.filter(|(_, state)| state.is_fresh());
        Ok(found.map(|(entry, _)| {
            let info = self.info(&entry);
            (entry, info)
        }))
    }

    fn info(&self, entry: &Entry<V>) -> Info {
        Info {
            version: entry.version,
            written_at_ms: entry.life.written_at_ms,
            expires_at_ms: self.options.freshness.fresh_until(entry.life.expires_at_ms),
        }
    }

    /// The value of `key` if it was stored no longer ago than this.
    pub(crate) fn get_max_age(&self, key: &[u8], age: Duration) -> Result<Option<V>> {
        let found = self.get_with_info(key)?;
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(NEVER);
        let is_young = |info: &Info| self.now_ms().saturating_sub(info.written_at_ms) <= age_ms;
        Ok(found.filter(|(_, info)| is_young(info)).map(|(entry, _)| entry.value.clone()))
    }

    /// Stores a value if the key is as expected.
    pub(crate) fn insert_if(
        &self,
        key: &[u8],
        value: V,
        put: &Put<'_>,
        expected: Expected,
    ) -> Result<Outcome> {
        let (incoming, weight) = self.encode(key, value, put.durability)?;
        self.change(key, |key| {
            let version = self.current(key)?;
            if !expected.is_met_by(version) {
                return Ok(Outcome::Conflict { version });
            }
            self.flights.doom(key);
            let expected = self.is_watched.then_some(expected);
            self.insert_under(key, incoming, weight, put, (0, expected))
        })
    }

    /// Whether `key` has a live value, as far as can be said without reading it.
    pub(crate) fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        self.open()?;
        if self.options.freshness.grace_ms() != 0 {
            return Ok(self.peek_entry(key)?.map(|entry| entry.version));
        }
        let search = || {
            if let Some(entry) = self.peek_in_memory(key) {
                return Ok(Some(entry.version));
            }
            if let Some(entry) = self.waiting(key) {
                return Ok(Some(entry.version));
            }
            let below = self.lower.as_ref().map_or(Ok(None), |lower| lower.version(key))?;
            // As for the value: see `above`.
            let above = below.and_then(|_| self.above(key)).map(|entry| entry.version);
            Ok(above.or(below))
        };
        let version = match search() {
            Ok(None) => self.settled(search),
            found => found,
        };
        self.events.emit();
        version
    }

    /// The version of the fresh value of `key`. Hold the stripe.
    pub(crate) fn current(&self, key: &Key) -> Result<Option<u64>> {
        if let Some(entry) = self.above(key) {
            return Ok(self.is_fresh(&entry.life).then_some(entry.version));
        }
        let Some(lower) = &self.lower else { return Ok(None) };
        if self.options.freshness.grace_ms() == 0 {
            return lower.version(key);
        }
        let stored = lower.get(key)?.map(|stored| *stored.meta());
        Ok(stored.filter(|meta| self.is_fresh(&meta.into())).map(|meta| meta.version))
    }

    /// Gives the value of `key` another expiry. Whether there was one.
    pub(crate) fn touch(&self, key: &[u8], ttl: Ttl) -> Result<bool> {
        loop {
            if let Some(touched) = self.change(key, |key| self.touch_stored(key, ttl))? {
                return Ok(touched);
            }
            // Only memory has it: it is inserted once more.
            let Some(entry) = self.peek_entry(key)? else { return Ok(false) };
            let tags = entry.tags.as_ref().map_or_else(Vec::new, |tags| tags.given());
            let put = Put { ttl, tags: &tags, ..Put::default() };
            let expected = Expected::Version(entry.version);
            match self.insert_if(key, entry.value.clone(), &put, expected)? {
                Outcome::Conflict { .. } => {}
                outcome => return Ok(outcome.is_admitted()),
            }
        }
    }

    /// The same where the store has the value, or nobody. Hold the stripe.
    fn touch_stored(&self, key: &Key, ttl: Ttl) -> Result<Option<bool>> {
        if self.current(key)?.is_none() {
            return Ok(Some(false));
        }
        let Some(lower) = &self.lower else { return Ok(None) };
        if self.above(key).is_some_and(|entry| entry.is_unflushed()) {
            return Ok(None);
        }
        let now_ms = self.now_ms();
        let deadline_ms = match &self.options.idle {
            Some(idle) if ttl == Ttl::Default => idle.end(now_ms),
            _ => ttl.deadline_ms(now_ms, self.options.freshness.ttl()),
        };
        let expires_at_ms = self.options.freshness.kept_until(now_ms, deadline_ms);
        let touched = lower.touch(key, until(expires_at_ms))?;
        // The next who asks gets it from the store, with its new deadline.
        self.memory.remove(&**key);
        Ok(Some(touched))
    }

    /// Replaces the value of `key` by what `change` makes of it: see `Cache::update`.
    pub(crate) fn update<E>(
        &self,
        key: &[u8],
        put: &Put<'_>,
        mut change: impl FnMut(Option<&V>) -> Result<Option<V>, E>,
    ) -> Result<Result<Option<V>, E>> {
        loop {
            let entry = self.peek_entry(key)?;
            let new = match change(entry.as_ref().map(|entry| &entry.value)) {
                Ok(new) => new,
                Err(error) => return Ok(Err(error)),
            };
            let expected =
                entry.as_ref().map_or(Expected::Absent, |entry| Expected::Version(entry.version));
            let Some(new) = new else {
                if self.remove_if(key, expected)? {
                    return Ok(Ok(None));
                }
                continue;
            };
            let ttl = match (put.ttl, &entry) {
                // To change it is to use it.
                (Ttl::Default, Some(entry)) if entry.life.is_idle => Ttl::Default,
                // It keeps the time that it has.
                (Ttl::Default, Some(entry)) => until(self.info(entry).expires_at_ms),
                (ttl, _) => ttl,
            };
            match self.insert_if(key, new.clone(), &Put { ttl, ..*put }, expected)? {
                Outcome::Conflict { .. } => {}
                Outcome::Admitted { .. } => return Ok(Ok(Some(new))),
                Outcome::Rejected(why) => return Err(Error::Rejected { why }),
                Outcome::Blocked => {
                    return Err(Error::Rejected { why: larder_engine::Rejection::NoRoom });
                }
            }
        }
    }

    /// Removes `key` if its value is unwanted: whether it was. A load of the key that is under way
    /// counts as begun after that.
    pub(crate) fn discard_if(&self, key: &[u8], unwanted: impl FnOnce(&V) -> bool) -> Result<bool> {
        // Without the stripe: to read is the codec's work, and to decide the user's.
        let Some(entry) = self.peek_entry(key)?.filter(|entry| unwanted(&entry.value)) else {
            return Ok(false);
        };
        self.change(key, |key| {
            if self.current(key)? != Some(entry.version) {
                return Ok(false);
            }
            if let Some(lower) = self.watched() {
                return self.remove_watched(lower, key, Expected::Version(entry.version));
            }
            drop(self.memory.take(&**key));
            drop(self.pending.take(key));
            self.remove_below(key)?;
            Ok(true)
        })
    }

    /// Removes `key` if it is as expected. Whether it was.
    fn remove_if(&self, key: &[u8], expected: Expected) -> Result<bool> {
        self.change(key, |key| {
            let is_met = expected.is_met_by(self.current(key)?);
            if is_met && let Some(lower) = self.watched() {
                self.flights.doom(key);
                return self.remove_watched(lower, key, expected);
            }
            if is_met {
                self.remove_under(key)?;
            }
            Ok(is_met)
        })
    }
}
