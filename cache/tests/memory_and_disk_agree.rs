//! Nobody ever reads an older value than one that was acknowledged or that it has seen.
//!
//! Each key has one writer at a time, who counts up; readers check that the number never falls,
//! neither below what they have seen nor below what had been acknowledged when they began. The
//! store keeps everything, so that a miss of what is there is an error, too.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use common::{Flaky, Random, Trouble};
use larder::{Cache, Engine, ManualClock, Mode, Put, Ttl, TwoLevel};

const KEYS: usize = 24;
const TURNS: u64 = 2_500;

/// What the writer of a key has had acknowledged: the number, doubled; odd while a change is
/// under way. 0 for none.
struct Truth {
    writers: Vec<Mutex<u64>>,
    acknowledged: Vec<AtomicU64>,
}

impl Truth {
    fn new() -> Self {
        Self {
            writers: (0..KEYS).map(|_| Mutex::new(0)).collect(),
            acknowledged: (0..KEYS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

/// How much of the truth a store is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    Works,
    Fails,
}

fn storm(cache: &Cache<usize, u64>, store: Store, engine: Option<&Flaky>) {
    let truth = Truth::new();
    thread::scope(|scope| {
        for thread in 0..4 {
            let truth = &truth;
            scope.spawn(move || {
                let mut random = Random(thread);
                let mut seen = [0; KEYS];
                for turn in 0..TURNS {
                    let key = usize::try_from(random.below(KEYS as u64)).unwrap();
                    match random.below(10) {
                        0..3 => write(cache, truth, key, &mut random, store),
                        3 if turn % 8 == 0 => remove(cache, truth, key),
                        _ => read(cache, truth, key, &mut seen[key], store),
                    }
                    if let Some(engine) = engine.filter(|_| turn % 97 == 0) {
                        let trouble = random.below(8).min(3);
                        engine.fail_writes(Trouble::ALL[usize::try_from(trouble).unwrap()]);
                    }
                }
            });
        }
    });
}

fn write(cache: &Cache<usize, u64>, truth: &Truth, key: usize, random: &mut Random, store: Store) {
    let mut last = truth.writers[key].lock().unwrap();
    *last += 1;
    truth.acknowledged[key].fetch_or(1, SeqCst);
    let put = match random.below(4) {
        // A deadline that does not come takes another path than none.
        0 => Put { ttl: Ttl::After(std::time::Duration::from_secs(3600)), ..Put::default() },
        _ => Put::default(),
    };
    if random.below(16) == 0 {
        // What is loaded counts as written, if it was stored.
        assert!(cache.remove(&key).is_ok());
        let value = cache.get_or_insert_with(&key, || *last).unwrap();
        assert!(value <= *last);
    } else {
        let outcome = cache.insert_with(key, *last, &put).unwrap();
        assert!(outcome.is_admitted() || store == Store::Fails);
    }
    truth.acknowledged[key].store(*last << 1, SeqCst);
}

fn remove(cache: &Cache<usize, u64>, truth: &Truth, key: usize) {
    let last = truth.writers[key].lock().unwrap();
    truth.acknowledged[key].fetch_or(1, SeqCst);
    cache.remove(&key).unwrap();
    // The next value is still larger; until then there is none.
    assert_eq!(cache.get(&key).unwrap(), None);
    assert!(!cache.contains(&key).unwrap());
    let _ = cache.insert(key, *last).unwrap();
    truth.acknowledged[key].store(*last << 1, SeqCst);
}

fn read(cache: &Cache<usize, u64>, truth: &Truth, key: usize, seen: &mut u64, store: Store) {
    let before = truth.acknowledged[key].load(SeqCst);
    let value = cache.get(&key).unwrap();
    let after = truth.acknowledged[key].load(SeqCst);
    let floor = (before >> 1).max(*seen);
    match value {
        Some(value) => {
            assert!(value >= floor, "key {key}: {value} after {floor} had been there");
            *seen = value;
        }
        None => {
            // A removal may be under way, and the first value may not be there yet.
            let quiet = before == after && before & 1 == 0 && before != 0;
            assert!(!quiet || store == Store::Fails, "key {key} was there and is missed");
        }
    }
}

/// A clock that stands still: pauses never end by themselves.
fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(1_000))
}

fn map() -> Arc<Flaky> {
    Flaky::with_clock(clock())
}

fn cache(engine: Arc<dyn Engine>, items: u64, mode: Mode) -> Cache<usize, u64> {
    let builder = Cache::<usize, u64>::builder().engine(engine).mode(mode);
    let builder = builder.clock(clock()).offline_after(50);
    builder.memory_items(items).build().unwrap()
}

#[test]
fn write_through_over_a_map() {
    for items in [1, 4, 1_000] {
        storm(&cache(map(), items, Mode::WriteThrough), Store::Works, None);
    }
}

#[test]
fn write_on_evict_over_a_map() {
    for items in [1, 4, 1_000] {
        storm(&cache(map(), items, Mode::WriteOnEvict), Store::Works, None);
    }
}

#[test]
fn both_modes_over_a_disk() {
    for mode in [Mode::WriteThrough, Mode::WriteOnEvict] {
        let home = tempfile::tempdir().unwrap();
        let disk = larder::Disk::builder(home.path().join("store")).clock(clock()).open().unwrap();
        storm(&cache(Arc::new(disk), 6, mode), Store::Works, None);
    }
}

/// A reader that passed memory before the old value was promoted, and reaches the store after
/// the new one came there, must not run ahead of readers that still meet the old one above.
#[test]
fn nobody_runs_ahead_of_a_write_that_is_under_way() {
    let engine = map();
    let cache = cache(Arc::<Flaky>::clone(&engine), 4, Mode::WriteThrough);
    let another = self::cache(Arc::<Flaky>::clone(&engine), 4, Mode::WriteThrough);
    assert!(another.insert(7, 1).unwrap().is_admitted(), "so that only the store has it");
    thread::scope(|scope| {
        let reader_stops = engine.before_get.shut();
        let early = scope.spawn(|| cache.get(&7).unwrap());
        reader_stops.wait();
        assert_eq!(cache.get(&7).unwrap(), Some(1), "promotes the old value");
        let writer_stops = engine.after_put.shut();
        let writer = scope.spawn(|| cache.insert(7, 2).unwrap());
        writer_stops.wait();
        reader_stops.wait();
        let early = early.join().unwrap();
        let late = cache.get(&7).unwrap();
        writer_stops.wait();
        assert!(writer.join().unwrap().is_admitted());
        assert!(late >= early, "read {early:?}, and afterwards {late:?}");
        assert_eq!(cache.get(&7).unwrap(), Some(2));
    });
}

/// The same of who asks for the version only.
#[test]
fn no_version_runs_ahead_of_a_write_that_is_under_way() {
    let engine = map();
    let put = Put::default();
    assert!(engine.put(b"k", b"1", &put).unwrap().is_admitted(), "so that only the store has it");
    let cache = TwoLevel::builder(Arc::<Flaky>::clone(&engine)).clock(clock()).build().unwrap();
    thread::scope(|scope| {
        let reader_stops = engine.before_version.shut();
        let early = scope.spawn(|| cache.version(b"k").unwrap());
        reader_stops.wait();
        assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"1"[..]), "promotes the old value");
        let writer_stops = engine.after_put.shut();
        let writer = scope.spawn(|| cache.put(b"k", b"2", &put).unwrap());
        writer_stops.wait();
        reader_stops.wait();
        let early = early.join().unwrap();
        let late = cache.version(b"k").unwrap();
        writer_stops.wait();
        assert!(writer.join().unwrap().is_admitted());
        assert!(late >= early, "told {early:?}, and afterwards {late:?}");
        assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"2"[..]));
    });
}

/// The same of who lists all entries: the key was in no tier but the store when that began.
#[test]
fn no_listing_runs_ahead_of_a_write_that_is_under_way() {
    let engine = map();
    let put = Put::default();
    assert!(engine.put(b"k", b"1", &put).unwrap().is_admitted(), "so that only the store has it");
    let cache = TwoLevel::builder(Arc::<Flaky>::clone(&engine)).clock(clock()).build().unwrap();
    let mut listing = cache.iter();
    assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"1"[..]), "promotes the old value");
    thread::scope(|scope| {
        let writer_stops = engine.after_put.shut();
        let writer = scope.spawn(|| cache.put(b"k", b"2", &put).unwrap());
        writer_stops.wait();
        let listed = listing.next().unwrap().unwrap().1;
        let late = cache.get(b"k").unwrap();
        writer_stops.wait();
        assert!(writer.join().unwrap().is_admitted());
        assert_eq!(late.as_deref(), Some(&listed[..]), "listed, and seen afterwards");
        assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"2"[..]));
    });
}

#[test]
fn no_memory_over_a_map() {
    let builder = Cache::<usize, u64>::builder().engine(map()).no_memory().clock(clock());
    storm(&builder.build().unwrap(), Store::Works, None);
}

#[test]
fn a_store_that_fails_now_and_then() {
    for mode in [Mode::WriteThrough, Mode::WriteOnEvict] {
        for items in [2, 10] {
            let engine = map();
            let cache = cache(Arc::<Flaky>::clone(&engine), items, mode);
            storm(&cache, Store::Fails, Some(&engine));
        }
    }
}

#[test]
fn clearing_is_not_undone() {
    for mode in [Mode::WriteThrough, Mode::WriteOnEvict] {
        let engine = map();
        let cache = cache(engine, 4, mode);
        for round in 0..50 {
            for key in 0..KEYS {
                assert!(cache.insert(key, round).unwrap().is_admitted());
            }
            thread::scope(|scope| {
                // Promotions and evictions, while all is cleared.
                let readers = [0, 1].map(|reader| {
                    let cache = &cache;
                    scope.spawn(move || {
                        for turn in 0..200 {
                            cache.get(&((turn * 7 + reader) % KEYS)).unwrap();
                        }
                    })
                });
                assert_eq!(cache.clear().unwrap(), KEYS as u64);
                readers.into_iter().for_each(|reader| reader.join().unwrap());
            });
            assert!((0..KEYS).all(|key| cache.get(&key).unwrap().is_none()));
            assert_eq!(cache.len(), 0);
        }
    }
}
