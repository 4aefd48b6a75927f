//! An engine for tests: a plain map that fails on request.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, PoisonError};

use larder::{Clock, Engine, Outcome, Put, Rejection, Stats, SystemClock, Value};
use larder_engine::{Error, Meta, Result};

/// A map behind a lock. Switches say what fails.
#[derive(Debug)]
pub struct Flaky {
    map: Mutex<BTreeMap<Vec<u8>, Value>>,
    clock: Arc<dyn Clock>,
    version: AtomicU64,
    pub fail_reads: AtomicBool,
    fail_writes: AtomicU8,
    /// Fails puts only: a removal may need no room.
    pub fail_puts: AtomicBool,
    /// Values of more bytes are refused.
    pub limit: AtomicU64,
    pub gets: AtomicU64,
    pub puts: AtomicU64,
    pub removes: AtomicU64,
    pub closed: AtomicBool,
    /// Stops a lookup before it has read.
    pub before_get: Gate,
    /// Stops a question for a version before it is answered.
    pub before_version: Gate,
    /// Stops a write after it has happened.
    pub after_put: Gate,
}

/// A place where one call is stopped.
#[derive(Debug, Default)]
pub struct Gate(Mutex<Option<Arc<Barrier>>>);

impl Gate {
    /// Stops the next call that comes by. It is there when `wait` on the barrier returns, and
    /// goes on at the second `wait`.
    pub fn shut(&self) -> Arc<Barrier> {
        let barrier = Arc::new(Barrier::new(2));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&barrier));
        barrier
    }

    fn pass(&self) {
        let stopped = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(barrier) = stopped {
            barrier.wait();
            barrier.wait();
        }
    }
}

/// How a write fails. The contract allows each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Trouble {
    None = 0,
    /// Nothing has happened.
    Before = 1,
    /// It has happened.
    After = 2,
    /// The key has no value any more.
    Lost = 3,
}

impl Trouble {
    pub const ALL: [Self; 4] = [Self::None, Self::Before, Self::After, Self::Lost];
}

impl Flaky {
    pub fn new() -> Arc<Self> {
        Self::with_clock(Arc::new(SystemClock))
    }

    pub fn with_clock(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            map: Mutex::default(),
            clock,
            version: AtomicU64::new(0),
            fail_reads: AtomicBool::new(false),
            fail_writes: AtomicU8::new(0),
            fail_puts: AtomicBool::new(false),
            limit: AtomicU64::new(u64::MAX),
            gets: AtomicU64::new(0),
            puts: AtomicU64::new(0),
            removes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            before_get: Gate::default(),
            before_version: Gate::default(),
            after_put: Gate::default(),
        })
    }

    /// Fails all reads, and writes in this way.
    pub fn fail(&self, trouble: Trouble) {
        self.fail_reads.store(trouble != Trouble::None, SeqCst);
        self.fail_writes(trouble);
    }

    pub fn fail_writes(&self, trouble: Trouble) {
        self.fail_writes.store(trouble as u8, SeqCst);
    }

    /// What is stored, whatever fails.
    pub fn peek(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.lock().get(key).map(|value| value.to_vec())
    }

    pub fn entries(&self) -> usize {
        self.lock().len()
    }

    /// Stores bytes past the cache.
    pub fn plant(&self, key: &[u8], value: &[u8], put: &Put) {
        self.set(key, value, put);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Vec<u8>, Value>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, key: &[u8], value: &[u8], put: &Put) -> u64 {
        let mut map = self.lock();
        let mut meta = Meta::default();
        meta.version = self.version.fetch_add(1, SeqCst) + 1;
        meta.codec = put.codec;
        meta.written_at_ms = self.clock.now_ms();
        meta.expires_at_ms = put.ttl.deadline_ms(meta.written_at_ms, None);
        map.insert(key.to_vec(), Value::new(value, meta));
        meta.version
    }

    /// The live value; an expired one leaves when it is noticed.
    fn live(&self, key: &[u8]) -> Option<Value> {
        let mut map = self.lock();
        let value = map.get(key)?.clone();
        if self.clock.now_ms() < value.meta().expires_at_ms {
            return Some(value);
        }
        map.remove(key);
        None
    }

    fn read<T>(&self, answer: impl FnOnce() -> T) -> Result<T> {
        if self.closed.load(SeqCst) {
            return Err(Error::Closed);
        }
        if self.fail_reads.load(SeqCst) { Err(broken()) } else { Ok(answer()) }
    }

    fn write<T>(&self, key: &[u8], act: impl FnOnce() -> T) -> Result<T> {
        if self.closed.load(SeqCst) {
            return Err(Error::Closed);
        }
        match self.fail_writes.load(SeqCst) {
            0 => return Ok(act()),
            2 => drop(act()),
            3 => drop(self.lock().remove(key)),
            _ => {}
        }
        Err(broken())
    }
}

fn broken() -> Error {
    let source = std::io::Error::other("switched off by the test");
    Error::Io { op: "use", path: PathBuf::from("flaky"), source }
}

impl Engine for Flaky {
    fn name(&self) -> &'static str {
        "flaky"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.gets.fetch_add(1, SeqCst);
        self.before_get.pass();
        self.read(|| self.live(key))
    }

    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        self.before_version.pass();
        self.read(|| self.live(key).map(|value| value.meta().version))
    }

    fn put(&self, key: &[u8], value: &[u8], put: &Put) -> Result<Outcome> {
        let (weight, limit) = (value.len() as u64, self.limit.load(SeqCst));
        if weight > limit {
            return Ok(Outcome::Rejected(Rejection::TooLarge { weight, limit }));
        }
        self.puts.fetch_add(1, SeqCst);
        if self.fail_puts.load(SeqCst) {
            return Err(broken());
        }
        let written = self.write(key, || Outcome::Admitted { version: self.set(key, value, put) });
        self.after_put.pass();
        written
    }

    fn remove(&self, key: &[u8]) -> Result<bool> {
        self.removes.fetch_add(1, SeqCst);
        self.write(key, || {
            let live = self.live(key).is_some();
            self.lock().remove(key);
            live
        })
    }

    fn clear(&self) -> Result<u64> {
        self.write(b"", || std::mem::take(&mut *self.lock()).len() as u64)
    }

    fn len(&self) -> u64 {
        self.lock().len() as u64
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        match self.read(|| self.lock().clone()) {
            Ok(map) => {
                let now_ms = self.clock.now_ms();
                let live = move |value: &Value| now_ms < value.meta().expires_at_ms;
                Box::new(map.into_iter().filter(move |(_, value)| live(value)).map(Ok))
            }
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn sync(&self) -> Result<()> {
        self.write(b"", || ())
    }

    fn close(&self) -> Result<()> {
        self.write(b"", || self.closed.store(true, SeqCst))
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}

/// The bytes under which a cache without a namespace stores `key`.
pub fn bytes(key: impl larder::KeyEncode) -> Vec<u8> {
    let mut bytes = larder::KeyBuf::new();
    key.encode(&mut bytes);
    bytes.as_bytes().to_vec()
}

/// SplitMix64 (Steele, Lea, Flood 2014): numbers that every run repeats.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
