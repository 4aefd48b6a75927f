//! The engine that keeps nothing.

use larder_engine::{
    Atomic, Engine, Error, Expected, Outcome, Put, Rejection, Result, Stats, Tagged, Ttl, Value,
};

use crate::stats::Counter;
use crate::sync::{AtomicBool, Ordering};

/// An engine that keeps nothing: every value is refused, for
/// [`Rejection::Disabled`](larder_engine::Rejection::Disabled), and every lookup a miss. For caches that
/// are switched off, and for the end of a [`Fallback`](crate::Fallback).
///
/// ```
/// use larder::{Engine, Null, Outcome, Put, Rejection};
///
/// let null = Null::default();
/// let outcome = null.put(b"key", b"value", &Put::default())?;
/// assert_eq!(outcome, Outcome::Rejected(Rejection::Disabled));
/// assert_eq!(null.get(b"key")?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Null {
    misses: Counter,
    rejected: Counter,
    closed: AtomicBool,
}

impl Null {
    fn open<T>(&self, answer: T) -> Result<T> {
        // Acquire: pairs with `close`.
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(answer) }
    }
}

impl Engine for Null {
    fn name(&self) -> &'static str {
        "null"
    }

    fn get(&self, _: &[u8]) -> Result<Option<Value>> {
        self.misses.add(1);
        self.open(None)
    }

    fn version(&self, _: &[u8]) -> Result<Option<u64>> {
        self.open(None)
    }

    fn put(&self, _: &[u8], _: &[u8], _: &Put<'_>) -> Result<Outcome> {
        self.rejected.add(1);
        self.open(Outcome::Rejected(Rejection::Disabled))
    }

    fn remove(&self, _: &[u8]) -> Result<bool> {
        self.open(false)
    }

    fn clear(&self) -> Result<u64> {
        self.open(0)
    }

    fn len(&self) -> u64 {
        0
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        match self.open(()) {
            Ok(()) => Box::new(std::iter::empty()),
            Err(closed) => Box::new(std::iter::once(Err(closed))),
        }
    }

    fn sync(&self) -> Result<()> {
        self.open(())
    }

    fn close(&self) -> Result<()> {
        // AcqRel: pairs with `open`.
        if self.closed.swap(true, Ordering::AcqRel) { Err(Error::Closed) } else { Ok(()) }
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        (stats.misses, stats.rejected) = (self.misses.get(), self.rejected.get());
        stats
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn tagged(&self) -> Option<&dyn Tagged> {
        Some(self)
    }
}

impl Atomic for Null {
    fn put_if(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Put<'_>,
        expected: Expected,
    ) -> Result<Outcome> {
        match expected {
            Expected::Absent => self.put(key, value, options),
            Expected::Version(_) => self.open(Outcome::Conflict { version: None }),
        }
    }

    fn take(&self, key: &[u8]) -> Result<Option<Value>> {
        self.get(key)
    }

    fn touch(&self, _: &[u8], _: Ttl) -> Result<bool> {
        self.open(false)
    }

    fn add_to(&self, _: &[u8], by: i64, initial: Option<i64>, _: &Put<'_>) -> Result<Option<i64>> {
        let sum = |value: i64| value.checked_add(by).ok_or(Error::Overflow { value, by });
        self.open(initial.map(sum).transpose()?)
    }
}

impl Tagged for Null {
    fn invalidate_tag(&self, _: &[u8]) -> Result<()> {
        self.open(())
    }

    fn keys_by_tag(&self, _: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.open(Vec::new())
    }

    /// Nothing has tags here.
    fn tag_id(&self, _: &[u8]) -> Result<u64> {
        Ok(0)
    }

    fn get_tagged(&self, key: &[u8]) -> Result<Option<(Value, Vec<u64>)>> {
        Ok(self.get(key)?.map(|value| (value, Vec::new())))
    }
}
