//! Promise: caches over a store that processes share are as one, though each has memory of its own: what
//! one of them changes the others see at once, and what depends on a value is decided once.
//! Method: several caches over one directory, each with an opening of its own as in a process of its own;
//! random steps in any of them against one map, and threads that add, count and take.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use larder::{Cache, Disk, Error, ManualClock, Mode, Put};
use larder_engine::conformance::Random;

type Words = Cache<u64, u64>;

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Words {
    let clock = Arc::<ManualClock>::clone(clock);
    let disk = Disk::builder(dir).budget(64 << 20).segment_len(256 << 10).shared();
    let disk = disk.clock(Arc::<ManualClock>::clone(&clock)).open().unwrap();
    Cache::builder().engine(Arc::new(disk)).clock(clock).build().unwrap()
}

fn crowd(dir: &Path) -> (Vec<Words>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    ((0..3).map(|_| open(&dir.join("store"), &clock)).collect(), clock)
}

#[test]
fn what_one_changes_the_others_see() {
    let place = tempfile::tempdir().unwrap();
    let (caches, clock) = crowd(place.path());
    let mut model: HashMap<u64, (u64, &str)> = HashMap::new();
    let mut random = Random::new(20_261_122);
    for step in 0..20_000_u64 {
        let key = random.next_u64() % 50;
        let cache = &caches[random.below(caches.len())];
        let tag = if key.is_multiple_of(2) { "even" } else { "odd" };
        match random.below(100) {
            0..40 => {
                let expected = model.get(&key).map(|(value, _)| *value);
                assert_eq!(cache.get(&key).unwrap(), expected, "step {step}, key {key}");
            }
            40..60 => {
                assert!(cache.insert(key, step).unwrap().is_admitted());
                model.insert(key, (step, ""));
            }
            60..70 => {
                assert!(
                    cache
                        .insert_with(key, step, &Put { tags: &[tag.as_bytes()], ..Put::default() })
                        .unwrap()
                        .is_admitted()
                );
                model.insert(key, (step, tag));
            }
            70..78 => {
                assert_eq!(
                    cache.remove(&key).unwrap(),
                    model.remove(&key).is_some(),
                    "step {step}"
                );
            }
            78..84 => {
                let expected = model.remove(&key).map(|(value, _)| value);
                assert_eq!(cache.take(&key).unwrap(), expected, "step {step}");
            }
            84..90 => {
                let added = cache.add(key, step, &Put::default()).unwrap().is_admitted();
                assert_eq!(added, !model.contains_key(&key), "step {step}");
                if added {
                    model.insert(key, (step, ""));
                }
            }
            90..95 => {
                let new =
                    cache.update(&key, &Put::default(), |old| old.map(|old| old + 1)).unwrap();
                // It has the tags that it is given now.
                if let Some(entry) = model.get_mut(&key) {
                    *entry = (entry.0 + 1, "");
                }
                assert_eq!(new, model.get(&key).map(|(value, _)| *value), "step {step}");
            }
            95..97 => {
                cache.invalidate_tag(tag).unwrap();
                model.retain(|_, (_, other)| other != &tag);
            }
            97 => clock.advance(1),
            98 => {
                let listed: HashMap<_, _> = cache.iter().unwrap().map(Result::unwrap).collect();
                let expected: HashMap<_, _> = model.iter().map(|(k, (v, _))| (*k, *v)).collect();
                assert_eq!(listed, expected, "step {step}");
            }
            _ => {
                cache.clear().unwrap();
                model.clear();
            }
        }
    }
    let hits: u64 = caches.iter().map(|cache| cache.stats().memory_hits).sum();
    assert!(hits > 500, "memory serves, too: {hits}");
}

#[test]
fn threads_of_several_caches_never_go_back() {
    let place = tempfile::tempdir().unwrap();
    let (caches, _) = crowd(place.path());
    thread::scope(|scope| {
        for (number, cache) in (0_u64..).zip(&caches) {
            // Each writes one key, and reads those of the others: what it sees never gets smaller.
            scope.spawn(move || {
                let mut seen = [0; 3];
                for value in 1..3_000 {
                    assert!(cache.insert(number, value).unwrap().is_admitted());
                    assert_eq!(cache.get(&number).unwrap(), Some(value), "its own");
                    for other in 0..3_u64 {
                        let found = cache.get(&other).unwrap().unwrap_or(0);
                        let before = &mut seen[usize::try_from(other).unwrap()];
                        assert!(found >= *before, "{found} after {before}");
                        *before = found;
                    }
                }
            });
        }
    });
    for cache in &caches {
        assert_eq!(cache.get(&0).unwrap(), Some(2_999), "seen once it was acknowledged");
    }
}

#[test]
fn what_depends_on_a_value_is_decided_once() {
    let place = tempfile::tempdir().unwrap();
    let (caches, _) = crowd(place.path());
    let wins: usize = thread::scope(|scope| {
        let add = |cache: &Words| {
            (0..1_000)
                .filter(|key| cache.add(*key, 1, &Put::default()).unwrap().is_admitted())
                .count()
        };
        let all: Vec<_> = caches.iter().map(|cache| scope.spawn(move || add(cache))).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(wins, 1_000);
    let taken: Vec<u64> = thread::scope(|scope| {
        let take = |cache: &Words| -> Vec<u64> {
            (0..1_000).filter(|key| cache.take(key).unwrap().is_some()).collect()
        };
        let all: Vec<_> = caches.iter().map(|cache| scope.spawn(move || take(cache))).collect();
        all.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((taken.len(), taken.iter().collect::<HashSet<_>>().len()), (1_000, 1_000));
    thread::scope(|scope| {
        for cache in &caches {
            scope.spawn(move || {
                for _ in 0..500 {
                    cache.update(&7, &Put::default(), |old| Some(old.unwrap_or(&0) + 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(caches[0].get(&7).unwrap(), Some(1_500));
}

#[test]
fn values_that_the_others_could_not_see_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let disk = Disk::builder(place.path().join("store")).shared().open().unwrap();
    let built = Words::builder().engine(Arc::new(disk)).mode(Mode::WriteOnEvict).build();
    assert!(matches!(built, Err(Error::Config { option: "mode", .. })));
}
