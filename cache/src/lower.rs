//! The store under the memory tier, with what is known about its failures.
//!
//! Everything that the cache asks of the store goes through here: it is not tried while a
//! [`Breaker`](crate::health) pauses, failures are counted and announced, and keys that it may
//! answer wrongly are masked (`stale.rs`).
//!
//! # Invariants
//! 1. A key whose newest value the store lacks is absent from it, or masked. So what `get`
//!    returns is the newest value as of some moment during the call.
//! 2. Keys are masked, unmasked and written under their stripe (`stripe.rs`) only.

use std::sync::Arc;

use larder_engine::{
    BatchOutcome, Clock, Durability, Engine, Expected, Health, Outcome, Put, Rejection, Ttl, Value,
    WithTags, WriteBatch,
};

use crate::error::{Error, Result, chain};
use crate::event::{Event, Events};
use crate::health::{Breaker, Patience, Permit, overall};
use crate::stale::Stale;
use crate::stats::Counter;
use crate::sync::{AtomicBool, Mutex, Ordering};

#[derive(Debug)]
pub(crate) struct Lower {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) stale: Stale,
    /// Operations that failed.
    pub(crate) failures: Counter,
    /// Operations that were not tried.
    pub(crate) skipped: Counter,
    /// Only keys with this prefix are the cache's.
    prefix: Box<[u8]>,
    strict: bool,
    reads: Breaker,
    writes: Breaker,
    /// Whether the store said last that it cannot be relied on.
    ailing: AtomicBool,
    /// The health that the observer knows.
    told: Mutex<Health>,
    clock: Arc<dyn Clock>,
    events: Arc<Events>,
}

/// A write that did not happen, or not for sure. The key is masked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The store refused.
    Failed(Error),
    /// The store is offline or bypassed.
    NotTried,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Failed(error) => error,
            Failure::NotTried => Self::Offline,
        }
    }
}

/// What became of a write that did happen.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Written {
    Stored {
        version: u64,
    },
    /// The store has something else than was expected, with this version.
    Conflict {
        version: Option<u64>,
    },
    Rejected(Rejection),
}

impl Lower {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        prefix: Box<[u8]>,
        strict: bool,
        patience: Patience,
        clock: Arc<dyn Clock>,
        events: Arc<Events>,
    ) -> Self {
        Self {
            engine,
            stale: Stale::default(),
            failures: Counter::default(),
            skipped: Counter::default(),
            prefix,
            strict,
            reads: Breaker::new(patience),
            writes: Breaker::new(patience),
            ailing: AtomicBool::new(false),
            told: Mutex::default(),
            clock,
            events,
        }
    }

    pub(crate) fn health(&self) -> Health {
        if self.stale.bypassed() {
            return Health::Offline;
        }
        let engine = self.engine.health();
        match overall(self.reads.health(), self.writes.health()) {
            Health::Healthy => engine,
            Health::Degraded if engine == Health::Offline => engine,
            found => found,
        }
    }

    /// Whether the store is known to hold nothing, of anybody.
    pub(crate) fn is_empty(&self) -> bool {
        // What is away may hold something.
        self.engine.health() == Health::Healthy && self.engine.is_empty()
    }

    /// Whether a write would be tried now.
    pub(crate) fn takes_writes(&self) -> bool {
        !self.stale.bypassed() && self.may_write()
    }

    /// Whether the pause after failed writes, if there was one, is over.
    pub(crate) fn may_write(&self) -> bool {
        self.writes.is_ready(|| self.clock.now_ms())
    }

    /// The stored value. Failures are misses, unless the cache is strict.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        Ok(self.get_tagged(key)?.map(|(value, _)| value))
    }

    /// The stored value, and the numbers of its tags.
    pub(crate) fn get_tagged(&self, key: &[u8]) -> Result<Option<(Value, Vec<u64>)>> {
        if self.stale.hides(key) {
            return Ok(None);
        }
        let read = |engine: &dyn Engine| match engine.tagged() {
            Some(tagged) => tagged.get_tagged(key),
            None => Ok(engine.get(key)?.map(|value| (value, Vec::new()))),
        };
        self.miss_on_failure(self.attempt(&self.reads, "read a value", read))
    }

    /// The same for many keys, asked for at once.
    pub(crate) fn get_many_tagged(&self, keys: &[&[u8]]) -> Result<Vec<Option<WithTags>>> {
        let is_asked: Vec<bool> = keys.iter().map(|key| !self.stale.hides(key)).collect();
        let asked = keys.iter().zip(&is_asked).filter(|(_, is_asked)| **is_asked);
        let asked: Vec<&[u8]> = asked.map(|(key, _)| *key).collect();
        let read = |engine: &dyn Engine| match engine.tagged() {
            Some(tagged) => tagged.get_many_tagged(&asked),
            None => {
                let values = engine.get_many(&asked)?;
                Ok(values.into_iter().map(|value| Some((value?, Vec::new()))).collect())
            }
        };
        let found = self.attempt(&self.reads, "read values", read).map(Some);
        let mut found = self.miss_on_failure(found)?.unwrap_or_default().into_iter();
        let answer = |is_asked: bool| if is_asked { found.next().flatten() } else { None };
        Ok(is_asked.into_iter().map(answer).collect())
    }

    /// Gives a stored value another expiry. Whether there is one. Hold the key's stripe.
    pub(crate) fn touch(&self, key: &[u8], ttl: Ttl) -> Result<bool> {
        if self.engine.atomic().is_none() {
            return Err(Error::Unsupported { what: "expiry that can be changed" });
        }
        if self.stale.hides(key) {
            return Ok(false);
        }
        let touched = self.attempt(&self.writes, "change an expiry", |engine| {
            engine.atomic().map_or(Ok(false), |atomic| atomic.touch(key, ttl))
        });
        // The value is as it was, or its time is: neither is wrong.
        Ok(self.miss_on_failure(touched.map(Some))?.unwrap_or(false))
    }

    /// Invalidates a tag. If the store cannot, it is owed: nothing is read until it could.
    pub(crate) fn invalidate_tag(&self, tag: &[u8]) -> Result<(), Failure> {
        if self.stale.bypassed() {
            return Err(self.not_tried());
        }
        let invalidated = self.attempt_invalidation(tag);
        if invalidated.is_err() && self.stale.owe(tag) {
            self.events.push(|| Event::Bypassed);
            self.tell_health();
        }
        invalidated
    }

    /// The keys under a tag, of whoever shares the store. None where it fails, unless the cache is
    /// strict.
    pub(crate) fn keys_by_tag(&self, tag: &[u8]) -> Result<Vec<Vec<u8>>> {
        let keys = self.attempt(&self.reads, "list keys by tag", |engine| match engine.tagged() {
            Some(tagged) => tagged.keys_by_tag(tag),
            None => Ok(Vec::new()),
        });
        Ok(self.miss_on_failure(keys.map(Some))?.unwrap_or_default())
    }

    fn attempt_invalidation(&self, tag: &[u8]) -> Result<(), Failure> {
        self.attempt(&self.writes, "invalidate a tag", |engine| match engine.tagged() {
            Some(tagged) => tagged.invalidate_tag(tag),
            // Nothing was put there under a tag.
            None => Ok(()),
        })
    }

    /// Makes good invalidations that are owed. Whether none is left.
    pub(crate) fn settle(&self) -> bool {
        while let Some(tag) = self.stale.owed() {
            if self.attempt_invalidation(&tag).is_err() {
                return false;
            }
            self.stale.settled(&tag);
        }
        true
    }

    /// The version of the stored value.
    pub(crate) fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        if self.stale.hides(key) {
            return Ok(None);
        }
        let version = self.attempt(&self.reads, "look a key up", |engine| engine.version(key));
        self.miss_on_failure(version)
    }

    fn miss_on_failure<T>(&self, answer: Result<Option<T>, Failure>) -> Result<Option<T>> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(failure) if self.strict => Err(failure.into()),
            Err(_) => Ok(None),
        }
    }

    /// Stores a value. Hold the key's stripe.
    pub(crate) fn put(
        &self,
        key: &[u8],
        bytes: &[u8],
        put: &Put,
        expected: Option<Expected>,
    ) -> Result<Written, Failure> {
        if self.stale.bypassed() {
            return Err(self.not_tried());
        }
        let outcome = self.attempt(&self.writes, "store a value", |engine| {
            match (expected, engine.atomic()) {
                (Some(expected), Some(atomic)) => atomic.put_if(key, bytes, put, expected),
                _ => engine.put(key, bytes, put),
            }
        });
        match outcome {
            Ok(Outcome::Conflict { version }) if expected.is_some() => {
                Ok(Written::Conflict { version })
            }
            Ok(Outcome::Admitted { version }) => {
                self.stale.unmask(key);
                Ok(Written::Stored { version })
            }
            Ok(Outcome::Rejected(why)) => Ok(Written::Rejected(why)),
            Ok(Outcome::Blocked) => Ok(Written::Rejected(Rejection::NoRoom)),
            // An engine that answers so to a put without a condition cannot be relied on.
            Ok(Outcome::Conflict { .. }) => Err(self.masked(key, self.not_tried())),
            Err(failure) => Err(self.masked(key, failure)),
        }
    }

    /// Removes a value. Hold the key's stripe.
    pub(crate) fn remove(&self, key: &[u8]) -> Result<bool, Failure> {
        if self.stale.bypassed() {
            return Err(self.not_tried());
        }
        let hidden = self.stale.hides(key);
        match self.attempt_removal(key) {
            Ok(removed) => {
                self.stale.unmask(key);
                // What was hidden was not there for anyone.
                Ok(removed && !hidden)
            }
            Err(failure) => Err(self.masked(key, failure)),
        }
    }

    /// Removes and hands out a value, at one moment. Hold the key's stripe.
    pub(crate) fn take(&self, key: &[u8]) -> Result<Option<Value>> {
        let taken = self.attempt(&self.writes, "take a value", |engine| match engine.atomic() {
            Some(atomic) => atomic.take(key),
            None => Ok(None),
        });
        self.miss_on_failure(taken)
    }

    /// Removes a value that is as expected. Whether it was. Hold the key's stripe.
    pub(crate) fn remove_if(&self, key: &[u8], expected: Expected) -> Result<bool> {
        let removed = self.attempt(&self.writes, "remove a value", |engine| {
            let Some(batched) = engine.batched() else { return Ok(None) };
            let mut batch = WriteBatch::new();
            batch.expect(key, expected).remove(key);
            let outcome = batched.write(&batch, Durability::None)?;
            Ok(matches!(outcome, BatchOutcome::Committed { .. }).then_some(()))
        });
        Ok(self.miss_on_failure(removed)?.is_some())
    }

    /// Whether the store may hold anything for `key`. If it does not say, the key is masked.
    /// Hold the key's stripe.
    pub(crate) fn may_hold(&self, key: &[u8]) -> Result<bool, Failure> {
        if self.stale.bypassed() {
            return Err(self.not_tried());
        }
        if self.stale.hides(key) {
            return Ok(true);
        }
        let held = self.attempt(&self.reads, "look a key up", |engine| engine.may_hold(key));
        held.map_err(|failure| self.masked(key, failure))
    }

    /// Masks `key`, unless nothing was tried and the store says that it holds nothing for it.
    fn masked(&self, key: &[u8], failure: Failure) -> Failure {
        let absent = matches!(failure, Failure::NotTried)
            && !self.stale.hides(key)
            && matches!(self.attempt(&self.reads, "look a key up", |e| e.may_hold(key)), Ok(false));
        if !absent && self.stale.mask(key) {
            self.events.push(|| Event::Bypassed);
            self.tell_health();
        }
        failure
    }

    /// All that the store shows of this cache. Ends early at a failure, which comes out as an
    /// error only if the cache is strict.
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        if self.stale.bypassed() || (self.reads.health() == Health::Offline && !self.strict) {
            drop(self.not_tried());
            return Box::new(std::iter::empty());
        }
        let ours = |entry: &Result<(Vec<u8>, Value)>| {
            entry
                .as_ref()
                .map_or(true, |(key, _)| key.starts_with(&self.prefix) && !self.stale.hides(key))
        };
        let entries = self.engine.iter().map_while(|entry| match entry {
            Ok(entry) => Some(Ok(entry)),
            Err(source) => {
                let error = self.note("list its entries", source);
                self.strict.then_some(Err(error))
            }
        });
        Box::new(entries.filter(ours))
    }

    /// Takes everything of this cache out of the store.
    pub(crate) fn clear(&self) -> Result<u64, Failure> {
        if self.prefix.is_empty() {
            return self.attempt(&self.writes, "clear", |engine| engine.clear());
        }
        // Others share the store: what is theirs stays.
        let keys = self.attempt(&self.reads, "list its keys", |engine| {
            let keys = engine.iter().map(|entry| entry.map(|(key, _)| key));
            let ours = |key: &Result<Vec<u8>, _>| {
                key.as_ref().map_or(true, |key| key.starts_with(&self.prefix))
            };
            keys.filter(ours).collect::<Result<Vec<_>, _>>()
        })?;
        let mut count = 0;
        for key in keys {
            let removed = self.attempt_removal(&key)?;
            count += u64::from(removed);
        }
        Ok(count)
    }

    /// Nothing is read or written until the store was cleared.
    pub(crate) fn bypass(&self) {
        if self.stale.bypass() {
            self.events.push(|| Event::Bypassed);
            self.tell_health();
        }
    }

    /// The store is empty: nothing in it is stale. Call while no key changes.
    pub(crate) fn cleared(&self) {
        if self.stale.cleared() {
            self.events.push(|| Event::Cleared);
            self.tell_health();
        }
    }

    /// Does what the caller has asked for by name, and gives out its errors.
    pub(crate) fn direct<T>(
        &self,
        op: &'static str,
        call: impl FnOnce(&dyn Engine) -> larder_engine::Result<T>,
    ) -> Result<T> {
        call(&*self.engine).map_err(|source| self.note(op, source))
    }

    fn note(&self, op: &'static str, source: larder_engine::Error) -> Error {
        self.failures.add(1);
        self.events.push(|| Event::Failed { op, why: chain(&source) });
        Error::Engine { op, source }
    }

    /// Tries an operation, if its breaker lets it, and takes note of how it went.
    fn attempt<T>(
        &self,
        breaker: &Breaker,
        op: &'static str,
        call: impl FnOnce(&dyn Engine) -> larder_engine::Result<T>,
    ) -> Result<T, Failure> {
        // Who asked for errors gets the store's own, each time.
        let (answer, permit) = self.attempt_unproven(breaker, op, call)?;
        if breaker.ok(permit) {
            self.tell_health();
        }
        Ok(answer)
    }

    /// Tries to remove a value. That it works does not say that a put would: it may need no room,
    /// and each change of the cache removes what is masked because a put failed.
    fn attempt_removal(&self, key: &[u8]) -> Result<bool, Failure> {
        let (removed, permit) =
            self.attempt_unproven(&self.writes, "remove a value", |engine| engine.remove(key))?;
        if removed && permit.is_probe() {
            if self.writes.ok(permit) {
                self.tell_health();
            }
        } else {
            self.writes.unproven(permit, self.clock.now_ms());
        }
        Ok(removed)
    }

    /// As [`attempt`](Self::attempt), leaving it to the caller what a success says.
    fn attempt_unproven<T>(
        &self,
        breaker: &Breaker,
        op: &'static str,
        call: impl FnOnce(&dyn Engine) -> larder_engine::Result<T>,
    ) -> Result<(T, Permit), Failure> {
        let permit = match breaker.ask(|| self.clock.now_ms()) {
            Some(permit) => permit,
            None if self.strict => Breaker::insist(),
            None => return Err(self.not_tried()),
        };
        match call(&*self.engine) {
            Ok(answer) => {
                // Relaxed: a hint; what is told is compared under a lock.
                let engine = self.engine.health();
                if (engine != Health::Healthy) != self.ailing.load(Ordering::Relaxed) {
                    self.ailing.store(engine != Health::Healthy, Ordering::Relaxed);
                    self.tell_health();
                }
                Ok((answer, permit))
            }
            Err(source) => {
                breaker.failed(permit, self.clock.now_ms());
                let error = self.note(op, source);
                self.tell_health();
                Err(Failure::Failed(error))
            }
        }
    }

    fn not_tried(&self) -> Failure {
        self.skipped.add(1);
        Failure::NotTried
    }

    fn tell_health(&self) {
        let mut told = self.told.lock();
        let (from, to) = (*told, self.health());
        if from != to {
            *told = to;
            self.events.push(|| Event::Health { from, to });
        }
    }
}
