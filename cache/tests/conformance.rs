//! The composition keeps the contract that its parts keep: the same suite, over a map and over
//! a disk, in both modes, with memory for everything and with hardly any.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::Flaky;
use larder::{Disk, Engine, ManualClock, Mode, Outcome, Put, Stats, TwoLevel, Value};
use larder_engine::Result;
use larder_engine::conformance::{Harness, Keeps, Liberties, Place, check};
use tempfile::TempDir;

const TTL: Duration = Duration::from_secs(3_600);

/// A tier of so many bytes over something.
struct Over {
    memory: u64,
    mode: Mode,
    disk: bool,
}

/// Numbers values itself.
///
/// In write-on-evict mode a value has another version when it has been written down. The suite
/// goes by versions, so this one keeps a number behind the bytes of each value and says that.
/// What is tested is then which value is found, which is all that can be promised there.
#[derive(Debug)]
struct Numbered {
    inner: TwoLevel,
    numbers: Arc<Numbers>,
    extra: Mutex<Extra>,
}

/// What the numbering adds to the counters.
#[derive(Debug, Default)]
struct Extra {
    put_bytes: u64,
    hits: u64,
    misses: u64,
}

/// The next number, for all keys, and a lock per key, so that numbers grow in the order of puts.
#[derive(Debug, Default)]
struct Numbers {
    next: Mutex<u64>,
    keys: Mutex<HashMap<Vec<u8>, Arc<Mutex<()>>>>,
}

fn split(value: &Value) -> Value {
    let (bytes, number) = value.split_last_chunk::<8>().unwrap();
    let mut meta = *value.meta();
    meta.version = u64::from_le_bytes(*number);
    Value::new(bytes, meta)
}

impl Engine for Numbered {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        Ok(self.inner.get(key)?.as_ref().map(split))
    }

    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        let value = self.get(key)?;
        let mut extra = self.extra.lock().unwrap();
        extra.hits += u64::from(value.is_some());
        extra.misses += u64::from(value.is_none());
        Ok(value.map(|value| value.meta().version))
    }

    fn contains(&self, key: &[u8]) -> Result<bool> {
        self.inner.contains(key)
    }

    fn put(&self, key: &[u8], value: &[u8], options: &Put) -> Result<Outcome> {
        let lock = Arc::clone(self.numbers.keys.lock().unwrap().entry(key.to_vec()).or_default());
        let _order = lock.lock().unwrap();
        let version = {
            let mut next = self.numbers.next.lock().unwrap();
            *next += 1;
            *next
        };
        let numbered = [value, &version.to_le_bytes()].concat();
        let outcome = self.inner.put(key, &numbered, options)?;
        self.extra.lock().unwrap().put_bytes += 8 * u64::from(outcome.is_admitted());
        Ok(if outcome.is_admitted() { Outcome::Admitted { version } } else { outcome })
    }

    fn remove(&self, key: &[u8]) -> Result<bool> {
        self.inner.remove(key)
    }

    fn clear(&self) -> Result<u64> {
        self.inner.clear()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        let numbered = |(key, value): (_, Value)| (key, split(&value));
        Box::new(self.inner.iter().map(move |entry| entry.map(numbered)))
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }

    fn stats(&self) -> Stats {
        let mut stats = self.inner.stats();
        let extra = self.extra.lock().unwrap();
        stats.put_bytes -= extra.put_bytes;
        stats.hits -= extra.hits;
        stats.misses -= extra.misses;
        stats
    }
}

impl Harness for Over {
    fn liberties(&self) -> Liberties {
        Liberties {
            keeps: if self.disk { Keeps::Everything } else { Keeps::Nothing },
            default_ttl: Some(TTL),
            ..Liberties::default()
        }
    }

    fn place(&self) -> Box<dyn Place> {
        let Self { memory, mode, disk } = *self;
        let (over, dir) = (Self { memory, mode, disk }, tempfile::tempdir().unwrap());
        Box::new(Home { over, dir, numbers: Arc::default() })
    }
}

struct Home {
    over: Over,
    dir: TempDir,
    numbers: Arc<Numbers>,
}

impl Place for Home {
    fn open(&self, clock: Arc<ManualClock>) -> Result<Box<dyn Engine>> {
        let lower: Arc<dyn Engine> = if self.over.disk {
            let disk = Disk::builder(self.dir.path().join("store"));
            Arc::new(disk.budget(256 << 20).clock(Arc::<ManualClock>::clone(&clock)).open()?)
        } else {
            Flaky::with_clock(Arc::<ManualClock>::clone(&clock))
        };
        let builder = TwoLevel::builder(lower).memory(self.over.memory).mode(self.over.mode);
        let inner = builder.ttl(TTL).clock(clock).strict(true).build().unwrap();
        Ok(match self.over.mode {
            Mode::WriteThrough => Box::new(inner),
            _ => Box::new(Numbered {
                inner,
                numbers: Arc::clone(&self.numbers),
                extra: Mutex::default(),
            }),
        })
    }
}

fn holds(memory: u64, mode: Mode, disk: bool) {
    check(&Over { memory, mode, disk });
}

const AMPLE: u64 = 256 << 20;
const SCARCE: u64 = 2 << 10;

#[test]
fn write_through_over_a_map() {
    holds(AMPLE, Mode::WriteThrough, false);
    holds(SCARCE, Mode::WriteThrough, false);
}

#[test]
fn write_on_evict_over_a_map() {
    holds(AMPLE, Mode::WriteOnEvict, false);
    holds(SCARCE, Mode::WriteOnEvict, false);
}

#[test]
fn write_through_over_a_disk() {
    holds(AMPLE, Mode::WriteThrough, true);
    holds(SCARCE, Mode::WriteThrough, true);
}

#[test]
fn write_on_evict_over_a_disk() {
    holds(AMPLE, Mode::WriteOnEvict, true);
    holds(SCARCE, Mode::WriteOnEvict, true);
}
