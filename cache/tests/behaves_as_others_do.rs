//! Promise: what users of other caches rely on holds in memory, over a store, without memory, and in both
//! modes: every kind of value comes back, of many who add one wins, no addition is lost, and time counts
//! tick by tick.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use larder::{Builder, Cache, Clock, Error, KeyEncode, ManualClock, Mode, Put, Ttl};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

const SECOND: u64 = 1_000;

/// What values are.
trait Stored: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Stored for V {}

struct Place<K, V: Stored> {
    name: &'static str,
    cache: Cache<K, V>,
    clock: Arc<ManualClock>,
    _home: TempDir,
}

fn places<K: KeyEncode, V: Stored>() -> Vec<Place<K, V>> {
    ["memory", "disk", "both", "on evict"]
        .map(|name| {
            let (home, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(SECOND)));
            let builder: Builder<K, V> = Cache::builder();
            let dir = home.path().join("store");
            let builder = match name {
                "memory" => builder,
                "disk" => builder.disk(dir).no_memory(),
                "both" => builder.disk(dir),
                _ => builder.disk(dir).mode(Mode::WriteOnEvict).memory_items(50),
            };
            let cache = builder.clock(Arc::clone(&clock) as Arc<dyn Clock>).build().unwrap();
            Place { name, cache, clock, _home: home }
        })
        .into()
}

fn lives(seconds: u64) -> Put<'static> {
    Put { ttl: Ttl::After(Duration::from_secs(seconds)), ..Put::default() }
}

/// Puts, gets, replaces and removes values of one type.
fn round_trip<V: Stored + Debug + PartialEq>(values: &[V]) {
    for Place { name, cache, .. } in places::<u64, V>() {
        for (key, value) in (0..).zip(values) {
            assert!(cache.insert(key, value.clone()).unwrap().is_admitted());
        }
        for (key, value) in (0..).zip(values) {
            assert_eq!(cache.get(&key).unwrap().as_ref(), Some(value), "{name}");
        }
        // Each in place of the next, so that large ones replace small ones and the other way round.
        for (key, value) in (0..).zip(values.iter().rev()) {
            assert!(cache.insert(key, value.clone()).unwrap().is_admitted());
            assert_eq!(cache.take(&key).unwrap().as_ref(), Some(value), "{name}");
            assert_eq!(cache.get(&key).unwrap(), None);
            assert!(!cache.remove(&key).unwrap());
        }
        assert_eq!((cache.len(), cache.iter().unwrap().count()), (0, 0), "{name}");
    }
}

#[test]
fn every_kind_of_value_comes_back() {
    round_trip(&[None, Some(0_u32), Some(u32::MAX)]);
    round_trip(&[i64::MIN, -1, 0, i64::MAX]);
    round_trip(&[0.0, -0.5, f64::MAX, f64::INFINITY]);
    round_trip(&["", "a", "日本", &"x".repeat(100_000)].map(str::to_owned));
    round_trip(&[vec![], vec![0_u8], vec![0; 4 << 20], vec![255; 40_000]]);
    round_trip(&[(), ()]);
    round_trip(&[BTreeMap::from([(1, vec!["a".to_owned()])]), BTreeMap::new()]);
}

#[test]
fn of_sixteen_who_add_a_thousand_keys_a_thousand_win() {
    for Place { name, cache, .. } in places::<u64, u64>() {
        let wins = AtomicU32::new(0);
        thread::scope(|scope| {
            for thread in 0..16 {
                let (cache, wins) = (&cache, &wins);
                scope.spawn(move || {
                    for key in 0..1_000 {
                        let added = cache.add(key, thread, &Put::default()).unwrap();
                        wins.fetch_add(u32::from(added.is_admitted()), SeqCst);
                    }
                });
            }
        });
        assert_eq!(wins.into_inner(), 1_000, "{name}");
        assert_eq!(cache.len(), 1_000, "{name}");
    }
}

#[test]
fn sixteen_who_count_to_fifty_count_to_eight_hundred() {
    for Place { name, cache, .. } in places::<String, i64>() {
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| (0..50).for_each(|_| assert!(cache.add_to("n", 1).unwrap() > 0)));
            }
        });
        assert_eq!(cache.get("n").unwrap(), Some(800), "{name}");
    }
}

#[test]
fn numbers_begin_with_what_is_added_and_keep_their_time() {
    for Place { name, cache, clock, .. } in places::<String, i64>() {
        assert_eq!(
            (cache.add_to("a", 6).unwrap(), cache.add_to("a", 2).unwrap()),
            (6, 8),
            "{name}"
        );
        assert_eq!(cache.add_to("b", -1).unwrap(), -1);
        assert!(cache.insert_with("c".to_owned(), 10, &lives(5)).unwrap().is_admitted());
        clock.advance(3 * SECOND);
        assert_eq!(cache.add_to("c", 1).unwrap(), 11);
        clock.advance(2 * SECOND - 1);
        assert_eq!(cache.get("c").unwrap(), Some(11), "{name}");
        clock.advance(1);
        assert_eq!(cache.get("c").unwrap(), None, "{name}: its time is what it was");
        assert_eq!(cache.add_to("c", 1).unwrap(), 1, "it begins anew");
        clock.advance(1 << 40);
        assert_eq!(cache.get("c").unwrap(), Some(1), "{name}: and stays");
        assert!(cache.insert("m".to_owned(), i64::MAX).unwrap().is_admitted());
        assert!(matches!(cache.add_to("m", 1), Err(Error::Overflow)));
        assert_eq!(cache.get("m").unwrap(), Some(i64::MAX));
    }
}

#[test]
fn what_was_added_stays_until_its_time_is_over() {
    for Place { name, cache, clock, .. } in places::<u32, String>() {
        let add = |value: &str| cache.add(1, value.to_owned(), &lives(1)).unwrap().is_admitted();
        assert!(add("first") && !add("second"), "{name}");
        clock.advance(SECOND - 1);
        assert!(!add("third"));
        clock.advance(1);
        assert!(add("fourth"), "{name}: what has expired is not there");
        assert_eq!(cache.get(&1).unwrap().as_deref(), Some("fourth"));
        let large = "x".repeat(4 << 20);
        assert!(!cache.add(1, large, &Put::default()).unwrap().is_admitted());
        assert_eq!((cache.get(&1).unwrap().map(|value| value.len()), cache.len()), (Some(6), 1));
    }
}

#[test]
fn a_hundred_times_to_live_end_one_after_the_other() {
    for Place { name, cache, clock, .. } in places::<u64, u64>() {
        for seconds in 1..=100 {
            assert!(cache.insert_with(seconds, seconds, &lives(seconds)).unwrap().is_admitted());
        }
        clock.advance(11 * SECOND - 1);
        let live = || cache.iter().unwrap().map(|entry| entry.unwrap().0).collect::<BTreeSet<_>>();
        assert_eq!(live(), (11..=100).collect(), "{name}");
        clock.advance(1);
        assert_eq!(live(), (12..=100).collect(), "{name}: over when its time is");
        for key in 1..=100 {
            assert_eq!(cache.contains(&key).unwrap(), key > 11, "{name}: {key}");
            assert_eq!(cache.get(&key).unwrap(), (key > 11).then_some(key));
        }
        assert!(!cache.remove(&11).unwrap() && cache.take(&11).unwrap().is_none());
    }
}

#[test]
fn a_third_of_ninety_goes_by_its_tag() {
    for Place { name, cache, .. } in places::<u64, u64>() {
        let names: [&[u8]; 3] = [b"", b"\0", b"two"];
        for key in 0..90 {
            let tag = names[usize::try_from(key % 3).unwrap()];
            let put = Put { tags: &[tag], ..Put::default() };
            assert!(cache.insert_with(key, key, &put).unwrap().is_admitted());
        }
        for (gone, tag) in (0..).zip(names) {
            assert_eq!(cache.keys_by_tag(tag).unwrap().len(), 30, "{name}");
            cache.invalidate_tag(tag).unwrap();
            let left: BTreeSet<u64> = cache.iter().unwrap().map(|entry| entry.unwrap().0).collect();
            assert_eq!(left, (0..90).filter(|key| key % 3 > gone).collect(), "{name}");
        }
        cache.invalidate_tag("never given").unwrap();
    }
}

/// A time of nothing, and no time at all, are two things.
#[test]
fn a_value_can_be_given_another_time_none_or_no_end() {
    for Place { name, cache, clock, .. } in places::<u32, u32>() {
        let zero = Ttl::After(Duration::ZERO);
        assert!(!cache.touch(&1, Ttl::Never).unwrap(), "{name}: there is nothing");
        for key in 1..=3 {
            assert!(cache.insert_with(key, key, &lives(10)).unwrap().is_admitted());
        }
        assert!(cache.touch(&1, Ttl::Never).unwrap());
        assert!(cache.touch(&2, zero).unwrap());
        assert!(cache.touch(&3, Ttl::After(Duration::from_secs(20))).unwrap());
        assert_eq!(cache.get(&2).unwrap(), None, "{name}: gone at once");
        assert!(!cache.touch(&2, Ttl::Never).unwrap(), "{name}: what is gone does not come back");
        clock.advance(19 * SECOND);
        assert_eq!(cache.get(&3).unwrap(), Some(3), "{name}");
        clock.advance(SECOND);
        assert_eq!((cache.get(&3).unwrap(), cache.touch(&3, Ttl::Never).unwrap()), (None, false));
        clock.advance(1 << 40);
        assert_eq!(cache.get(&1).unwrap(), Some(1), "{name}");
        // What replaces a value has its own time, and not the old one's.
        assert!(cache.insert_with(1, 4, &lives(1)).unwrap().is_admitted());
        assert!(cache.insert(1, 5).unwrap().is_admitted());
        clock.advance(1 << 40);
        assert_eq!(cache.get(&1).unwrap(), Some(5), "{name}");
        // What is dead on arrival takes the place of what was there.
        assert!(cache.insert_with(1, 6, &Put { ttl: zero, ..Put::default() }).is_ok());
        assert_eq!((cache.get(&1).unwrap(), cache.contains(&1).unwrap()), (None, false), "{name}");
    }
}

/// Three keys that are put one tick after the other, live for two, and one of which is put again.
#[test]
fn time_counts_tick_by_tick() {
    for Place { name, cache, clock, .. } in places::<u32, u32>() {
        let put = |key, value| {
            assert!(cache.insert_with(key, value, &lives(2)).unwrap().is_admitted());
        };
        let seen = |expected: [Option<u32>; 3], tick: u32| {
            for (key, expected) in (1..).zip(expected) {
                assert_eq!(cache.get(&key).unwrap(), expected, "{name}, tick {tick}: {key}");
                assert_eq!(cache.contains(&key).unwrap(), expected.is_some());
            }
            let live = cache.iter().unwrap().count();
            assert_eq!(live, expected.into_iter().flatten().count(), "{name}, tick {tick}");
        };
        put(1, 10);
        seen([Some(10), None, None], 0);
        clock.advance(SECOND);
        seen([Some(10), None, None], 1);
        put(2, 20);
        clock.advance(SECOND);
        seen([None, Some(20), None], 2);
        put(1, 11);
        put(3, 30);
        clock.advance(SECOND);
        seen([Some(11), None, Some(30)], 3);
        put(3, 31);
        clock.advance(SECOND);
        seen([None, None, Some(31)], 4);
        clock.advance(SECOND);
        seen([None; 3], 5);
    }
}

#[test]
fn a_walk_over_all_is_not_disturbed_by_changes() {
    for Place { name, cache, .. } in places::<u64, u64>() {
        for key in 0..40 {
            assert!(cache.insert(key, key).unwrap().is_admitted());
        }
        let mut seen = Vec::new();
        for entry in cache.iter().unwrap() {
            let (key, _) = entry.unwrap();
            seen.push(key);
            // Others come and go; those below 40 with an even number stay.
            cache.remove(&(2 * (key % 20) + 1)).unwrap();
            assert!(cache.insert(1_000 + key, key).unwrap().is_admitted());
        }
        let stayed: Vec<u64> =
            seen.iter().copied().filter(|key| *key < 40 && key % 2 == 0).collect();
        let once: BTreeSet<u64> = stayed.iter().copied().collect();
        assert_eq!((stayed.len(), once.len()), (20, 20), "{name}: each once");
    }
}
