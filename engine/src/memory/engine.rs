//! The memory tier as an engine for bytes.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use larder_format::CodecId;
use larder_format::layout::KEY_LEN_MAX;
use parking_lot::{Mutex, MutexGuard};

use super::builder::{Capacity, SHARD_CAPACITY_MIN, TierBuilder, default_shards};
use super::keep::Keep;
use super::policy::{Policy, PolicyKind};
use super::tier::Tier;
use crate::clock::{Clock, SystemClock};
use crate::disk::Retain;
use crate::engine::{Atomic, Batched, Engine, Expected, Outcome, Put, Rejection, Ttl};
use crate::error::{Error, Result};
use crate::stats::Stats;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::value::{Meta, Value};

/// What an entry costs beyond the bytes of its key and its value.
pub const ENTRY_OVERHEAD: u64 = 256;

/// A shard of so few bytes would not pay.
const SHARD_BYTES_MIN: u64 = 64 << 10;

/// Changes of different keys that can take place at once.
const CHANGING: usize = 64;

/// An engine that keeps values in memory only.
///
/// The weight of an entry is the length of key and value plus [`ENTRY_OVERHEAD`], so that the
/// budget is what the process really spends.
///
/// ```
/// use larder_engine::memory::Memory;
/// use larder_engine::{Engine, Put};
///
/// let memory = Memory::builder(64 << 20).build()?;
/// assert!(memory.put(b"key", b"value", &Put::default())?.is_admitted());
/// assert_eq!(memory.get(b"key")?.as_deref(), Some(&b"value"[..]));
/// # Ok::<(), larder_engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Memory {
    pub(super) tier: Tier<Box<[u8]>, Value>,
    clock: Arc<dyn Clock>,
    ttl: Option<Duration>,
    pub(super) budget_bytes: u64,
    /// Whether it refuses rather than evicts: then all that it holds is pinned.
    pub(super) keeps_all: bool,
    version: AtomicU64,
    /// Held while a key is changed; one of them for each key.
    changing: [Mutex<()>; CHANGING],
    hasher: RandomState,
    put_bytes: AtomicU64,
    closed: AtomicBool,
}

impl Memory {
    /// Begins to set up an engine that may spend this many bytes; none at all with 0.
    #[must_use]
    pub fn builder(budget_bytes: u64) -> MemoryBuilder {
        MemoryBuilder {
            budget_bytes,
            tier: Tier::builder(Capacity::weight(budget_bytes)).weigher(weight),
            shards: None,
            clock: Arc::new(SystemClock),
            ttl: None,
            retain: Retain::default(),
        }
    }

    pub(super) fn open(&self) -> Result<()> {
        // Acquire: pairs with the Release in `close`, so that whoever is told that the engine
        // is closed also sees it empty.
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

impl Memory {
    /// What is held while a key is changed.
    fn changing(&self, key: &[u8]) -> &Mutex<()> {
        let hash = self.hasher.hash_one(key);
        &self.changing[usize::try_from(hash % CHANGING as u64).unwrap_or(0)]
    }

    /// What is held while keys are to stay as they are.
    pub(super) fn still(&self) -> Vec<MutexGuard<'_, ()>> {
        // In one order for all who take them; who holds one of them waits for no other.
        self.changing.iter().map(|changing| changing.lock()).collect()
    }

    /// Stores a value. The caller holds what is held while its key is changed, so that
    /// versions are drawn in the order in which changes of one key take place.
    pub(super) fn store(
        &self,
        key: &[u8],
        value: &[u8],
        codec: CodecId,
        expires_at_ms: u64,
    ) -> Outcome {
        // Relaxed: ordered by the lock, as far as it matters.
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let written_at_ms = self.clock.now_ms();
        let meta = Meta { codec, expires_at_ms, written_at_ms, version };
        let keep = Keep::until(expires_at_ms);
        let keep = if self.keeps_all { keep.pinned() } else { keep };
        match self.tier.insert_as(key.into(), Value::new(value, meta), &keep) {
            Ok(()) => {
                // Relaxed: a counter for people.
                self.put_bytes.fetch_add((key.len() + value.len()) as u64, Ordering::Relaxed);
                Outcome::Admitted { version }
            }
            Err(refused) => Outcome::Rejected(match refused.why {
                Rejection::Pinned { weight, .. } if self.keeps_all => {
                    Rejection::Full { needed: weight, budget: self.budget_bytes }
                }
                why => why,
            }),
        }
    }

    /// When a value expires that is stored now.
    pub(super) fn deadline_ms(&self, ttl: Ttl) -> u64 {
        ttl.deadline_ms(self.clock.now_ms(), self.ttl)
    }

    /// The live value of a key, without counting as a use.
    fn live(&self, key: &[u8]) -> Option<Value> {
        self.tier.peek_with(key, Value::clone)
    }
}

impl Atomic for Memory {
    fn put_if(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Put<'_>,
        expected: Expected,
    ) -> Result<Outcome> {
        self.open()?;
        check(key)?;
        let expires_at_ms = options.ttl.deadline_ms(self.clock.now_ms(), self.ttl);
        let _changing = self.changing(key).lock();
        let version = self.tier.peek_with(key, |value| value.meta().version);
        if !expected.is_met_by(version) {
            return Ok(Outcome::Conflict { version });
        }
        Ok(self.store(key, value, options.codec, expires_at_ms))
    }

    fn take(&self, key: &[u8]) -> Result<Option<Value>> {
        self.open()?;
        let _changing = self.changing(key).lock();
        Ok(self.tier.take(key))
    }

    fn touch(&self, key: &[u8], ttl: Ttl) -> Result<bool> {
        self.open()?;
        let expires_at_ms = ttl.deadline_ms(self.clock.now_ms(), self.ttl);
        let _changing = self.changing(key).lock();
        let Some(value) = self.live(key) else { return Ok(false) };
        // As large as before: it is never refused.
        let _ = self.store(key, &value, value.meta().codec, expires_at_ms);
        Ok(true)
    }

    fn add_to(
        &self,
        key: &[u8],
        by: i64,
        initial: Option<i64>,
        options: &Put<'_>,
    ) -> Result<Option<i64>> {
        self.open()?;
        check(key)?;
        let fresh_ms = options.ttl.deadline_ms(self.clock.now_ms(), self.ttl);
        let _changing = self.changing(key).lock();
        let (old, codec, expires_at_ms) = match (self.live(key), initial) {
            (Some(value), _) => {
                let Ok(bytes) = <[u8; 8]>::try_from(&*value) else {
                    return Err(Error::NotANumber { len: value.len() });
                };
                let meta = value.meta();
                (i64::from_le_bytes(bytes), meta.codec, meta.expires_at_ms)
            }
            (None, Some(initial)) => (initial, CodecId::RAW, fresh_ms),
            (None, None) => return Ok(None),
        };
        let sum = old.checked_add(by).ok_or(Error::Overflow { value: old, by })?;
        match self.store(key, &sum.to_le_bytes(), codec, expires_at_ms) {
            Outcome::Rejected(_) | Outcome::Blocked => Ok(None),
            Outcome::Admitted { .. } | Outcome::Conflict { .. } => Ok(Some(sum)),
        }
    }
}

pub(super) fn check(key: &[u8]) -> Result<()> {
    match key.len() {
        len if len > KEY_LEN_MAX => Err(Error::KeyTooLong { len, max: KEY_LEN_MAX }),
        _ => Ok(()),
    }
}

#[expect(clippy::borrowed_box, reason = "the type of a weigher")]
fn weight(key: &Box<[u8]>, value: &Value) -> u64 {
    weight_of(key.len(), value.len())
}

/// What an entry of so many bytes weighs.
pub(super) const fn weight_of(key_len: usize, value_len: usize) -> u64 {
    (key_len as u64).saturating_add(value_len as u64).saturating_add(ENTRY_OVERHEAD)
}

impl Engine for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.open()?;
        Ok(self.tier.get(key))
    }

    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        self.open()?;
        Ok(self.tier.peek_with(key, |value| value.meta().version))
    }

    fn put(&self, key: &[u8], value: &[u8], options: &Put<'_>) -> Result<Outcome> {
        self.open()?;
        check(key)?;
        let now_ms = self.clock.now_ms();
        let expires_at_ms = options.ttl.deadline_ms(now_ms, self.ttl);
        let _changing = self.changing(key).lock();
        Ok(self.store(key, value, options.codec, expires_at_ms))
    }

    fn remove(&self, key: &[u8]) -> Result<bool> {
        self.open()?;
        let _changing = self.changing(key).lock();
        Ok(self.tier.remove(key))
    }

    fn clear(&self) -> Result<u64> {
        self.open()?;
        // So that nothing of a batch is cleared beside what is not.
        let _still = self.still();
        Ok(self.tier.clear())
    }

    fn len(&self) -> u64 {
        self.tier.len()
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        if let Err(closed) = self.open() {
            return Box::new(std::iter::once(Err(closed)));
        }
        Box::new(self.tier.iter().map(|(key, value)| Ok((key.into_vec(), value))))
    }

    fn sync(&self) -> Result<()> {
        self.open()
    }

    fn close(&self) -> Result<()> {
        self.open()?;
        // Release: pairs with the Acquire in `open`.
        self.closed.store(true, Ordering::Release);
        self.tier.clear();
        Ok(())
    }

    fn stats(&self) -> Stats {
        // Relaxed: a counter for people.
        Stats { put_bytes: self.put_bytes.load(Ordering::Relaxed), ..self.tier.stats() }
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn batched(&self) -> Option<&dyn Batched> {
        Some(self)
    }

    fn keeps_all(&self) -> bool {
        self.keeps_all
    }
}

/// Sets up a [`Memory`].
#[derive(Debug)]
pub struct MemoryBuilder {
    budget_bytes: u64,
    tier: TierBuilder<Box<[u8]>, Value>,
    shards: Option<usize>,
    clock: Arc<dyn Clock>,
    ttl: Option<Duration>,
    retain: Retain,
}

impl MemoryBuilder {
    /// What chooses victims; [`PolicyKind::S3Fifo`] if nothing is said.
    #[must_use]
    pub fn policy(mut self, kind: PolicyKind) -> Self {
        self.tier = self.tier.policy(kind);
        self
    }

    /// A policy of your own: `make` is called once per shard.
    #[must_use]
    pub fn policy_with(mut self, make: impl Fn() -> Box<dyn Policy> + 'static) -> Self {
        self.tier = self.tier.policy_with(make);
        self
    }

    /// The number of shards, as [`TierBuilder::shards`].
    #[must_use]
    pub const fn shards(mut self, count: usize) -> Self {
        self.shards = Some(count);
        self
    }

    /// Where time comes from.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Arc::clone(&clock);
        self.tier = self.tier.clock(clock);
        self
    }

    /// What [`Ttl::Default`](crate::Ttl::Default) stands for; never, if nothing is said.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// What becomes of values when the budget is used up: with [`Retain::All`] all stay, and new ones
    /// are refused as [`Rejection::Full`].
    #[must_use]
    pub const fn retain(mut self, retain: Retain) -> Self {
        self.retain = retain;
        self
    }

    /// Builds the engine.
    ///
    /// # Errors
    /// [`Error::Config`] for a number of shards that is not a power of two up to 1024.
    pub fn build(self) -> Result<Memory> {
        let shards = self.shards.unwrap_or_else(|| {
            // The tier's own choice, but for a unit of bytes.
            default_shards(Capacity::weight(
                self.budget_bytes / SHARD_BYTES_MIN * SHARD_CAPACITY_MIN,
            ))
        });
        Ok(Memory {
            tier: self.tier.shards(shards).build()?,
            clock: self.clock,
            ttl: self.ttl,
            budget_bytes: self.budget_bytes,
            keeps_all: self.retain == Retain::All,
            version: AtomicU64::new(0),
            changing: [const { Mutex::new(()) }; CHANGING],
            hasher: RandomState::default(),
            put_bytes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        })
    }
}
