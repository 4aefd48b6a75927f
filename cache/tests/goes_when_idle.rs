//! Promise: a value that nobody uses goes: exactly then in memory, between the idle time and an eighth
//! more over a store, which is seldom written for it. Time is set by the test.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::{Flaky, Random, bytes};
use larder::{Builder, Cache, Clock, Disk, Engine, Error, Loaded, ManualClock, Mode, Put, Ttl};

const IDLE: u64 = 800;
/// How much longer a value may stay over a store.
const MORE: u64 = 100;

type Setup = fn(Builder<u64, u64>) -> Builder<u64, u64>;

/// A cache of which values go when they are idle.
struct Place {
    name: &'static str,
    cache: Cache<u64, u64>,
    clock: Arc<ManualClock>,
    store: Option<Arc<Disk>>,
    more: u64,
    _home: tempfile::TempDir,
}

fn idle(builder: Builder<u64, u64>, clock: &Arc<ManualClock>) -> Cache<u64, u64> {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    builder.clock(clock).time_to_idle(Duration::from_millis(IDLE)).build().unwrap()
}

fn disk(dir: &std::path::Path, clock: &Arc<ManualClock>) -> Arc<Disk> {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Arc::new(Disk::builder(dir).clock(clock).open().unwrap())
}

fn places() -> Vec<Place> {
    let setups: [(_, Setup); 5] = [
        ("memory", |builder| builder),
        ("disk", |builder| builder.no_memory()),
        ("both", |builder| builder),
        ("hardly any memory", |builder| builder.memory_items(2)),
        ("on evict", |builder| builder.memory_items(2).mode(Mode::WriteOnEvict)),
    ];
    let make = |(name, setup): (_, Setup)| {
        let (home, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(1_000_000)));
        let store = (name != "memory").then(|| disk(&home.path().join("store"), &clock));
        let builder = Cache::builder();
        let builder = match &store {
            Some(store) => builder.engine(store.clone()),
            None => builder,
        };
        let (cache, more) = (idle(setup(builder), &clock), if store.is_some() { MORE } else { 0 });
        Place { name, cache, clock, store, more, _home: home }
    };
    setups.map(make).into()
}

#[test]
fn a_value_goes_when_nobody_has_used_it() {
    for place in places() {
        let Place { name, cache, clock, more, .. } = &place;
        assert!(cache.insert(1, 10).unwrap().is_admitted());
        clock.advance(IDLE - 1);
        assert!(cache.contains(&1).unwrap(), "{name}");
        clock.advance(more + 1);
        assert!(!cache.contains(&1).unwrap(), "{name}: to ask whether it is there is no use");
        assert_eq!(cache.get(&1).unwrap(), None);

        assert!(cache.insert(1, 10).unwrap().is_admitted());
        for _ in 0..30 {
            clock.advance(IDLE - 1);
            assert_eq!(cache.get(&1).unwrap(), Some(10), "{name}: it is used in time");
        }
        clock.advance(IDLE - 1);
        assert_eq!(cache.get_many(&[1, 2]).unwrap(), [Some(10), None], "{name}");
        clock.advance(IDLE - 1);
        assert_eq!(cache.get_with_info(&1).unwrap().map(|found| found.0), Some(10), "{name}");
        clock.advance(IDLE - 1);
        assert_eq!(cache.get_or_insert_with(&1, || unreachable!()).unwrap(), 10, "{name}");
        clock.advance(IDLE - 1);
        let add_one = |old: Option<&u64>| old.map(|old| old + 1);
        assert_eq!(cache.update(&1, &Put::default(), add_one).unwrap(), Some(11), "{name}");
        clock.advance(IDLE - 1);
        assert_eq!(cache.get(&1).unwrap(), Some(11), "{name}: to change it is to use it");
        assert!(cache.touch(&1, Ttl::Default).unwrap());
        clock.advance(IDLE - 1);
        assert!(cache.contains(&1).unwrap(), "{name}");
        clock.advance(more + 1);
        assert_eq!(cache.get(&1).unwrap(), None, "{name}");
        let loaded = cache.get_or_load(&1, || Ok::<_, ()>(Loaded::new(12))).unwrap();
        clock.advance(IDLE + more);
        assert_eq!((loaded, cache.get(&1).unwrap()), (12, None), "{name}");
    }
}

#[test]
fn a_time_of_its_own_is_kept_whoever_uses_the_value() {
    for place in places() {
        let Place { name, cache, clock, .. } = &place;
        let soon = Put { ttl: Ttl::After(Duration::from_millis(100)), ..Put::default() };
        let late = Put { ttl: Ttl::After(Duration::from_millis(2_000)), ..Put::default() };
        let never = Put { ttl: Ttl::Never, ..Put::default() };
        for (key, put) in [(1, soon), (2, late), (3, never)] {
            assert!(cache.insert_with(key, key, &put).unwrap().is_admitted());
        }
        for passed in 1..=2_000 {
            clock.advance(1);
            let expected = [(passed < 100).then_some(1), (passed < 2_000).then_some(2)];
            if passed % 37 == 0 || [99, 100, 1_999, 2_000].contains(&passed) {
                assert_eq!(cache.get_many(&[1, 2]).unwrap(), expected, "{name}: {passed}");
            }
        }
        assert_eq!(cache.get(&3).unwrap(), Some(3), "{name}");
    }
}

#[test]
fn a_use_seldom_writes() {
    for place in places() {
        let (Some(store), cache) = (&place.store, &place.cache) else { continue };
        assert!(cache.insert(1, 10).unwrap().is_admitted());
        cache.flush().unwrap();
        let (mut versions, mut last) = (0, None);
        for _ in 0..1_000 {
            place.clock.advance(10);
            assert_eq!(cache.get(&1).unwrap(), Some(10), "{}", place.name);
            let version = store.version(&bytes(1_u64)).unwrap();
            versions += u32::from(version.is_some() && version != last);
            last = version;
        }
        // 10 s, and an eighth of the idle time is 100 ms.
        assert!((50..=101).contains(&versions), "{}: {versions}", place.name);
    }
}

#[test]
fn values_go_on_being_used_when_the_store_is_opened_again() {
    let home = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let open = || {
        let builder = Cache::<u64, u64>::builder().disk(home.path().join("store"));
        idle(builder, &clock)
    };
    let cache = open();
    let tagged = Put { tags: &[b"t"], ..Put::default() };
    assert!(cache.insert_with(1, 10, &tagged).unwrap().is_admitted());
    assert!(cache.insert(2, 20).unwrap().is_admitted());
    clock.advance(IDLE - 1);
    cache.close().unwrap();
    drop(cache);
    let cache = open();
    assert_eq!(cache.get(&1).unwrap(), Some(10));
    clock.advance(IDLE - 1);
    assert_eq!(cache.get(&1).unwrap(), Some(10), "its end was moved after it was opened again");
    assert_eq!(cache.get(&2).unwrap(), None);
    // It has its own tag still, and no other.
    assert_eq!(cache.keys_by_tag("t").unwrap(), [1]);
    cache.invalidate_tag("t").unwrap();
    assert_eq!(cache.get(&1).unwrap(), None);
}

#[test]
fn random_uses_agree_with_the_time_of_the_last_one() {
    for (place, seed) in places().into_iter().zip(11..) {
        let Place { name, cache, clock, more, .. } = &place;
        let mut random = Random(seed);
        // When each key was used last, and its value.
        let mut model: HashMap<u64, (u64, u64)> = HashMap::new();
        for step in 0..3_000 {
            clock.advance(random.below(150));
            let (now, key) = (clock.now_ms(), random.below(8));
            let known = model.get(&key).copied();
            match random.below(8) {
                0 | 1 => {
                    assert!(cache.insert(key, step).unwrap().is_admitted());
                    model.insert(key, (now, step));
                }
                2 => {
                    cache.remove(&key).unwrap();
                    model.remove(&key);
                }
                _ => {
                    let found = cache.get(&key).unwrap();
                    let Some((used, value)) = known else {
                        assert_eq!(found, None, "{name}, {step}");
                        continue;
                    };
                    let idle = now - used;
                    if idle < IDLE {
                        assert_eq!(found, Some(value), "{name}, {step}: idle for {idle}");
                    } else if idle >= IDLE + more {
                        assert_eq!(found, None, "{name}, {step}: idle for {idle}");
                    } else {
                        assert!(found.is_none_or(|found| found == value), "{name}, {step}");
                    }
                    match found {
                        Some(_) => model.insert(key, (now, value)),
                        None => model.remove(&key),
                    };
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let second = Duration::from_secs(1);
    let refused = |builder: Builder<u64, u64>| match builder.build() {
        Err(Error::Config { option, .. }) => option,
        other => panic!("{other:?}"),
    };
    let builder = Cache::builder;
    assert_eq!(refused(builder().time_to_idle(Duration::ZERO)), "time_to_idle");
    assert_eq!(refused(builder().time_to_idle(second).ttl(second)), "time_to_idle");
    assert_eq!(refused(builder().time_to_idle(second).jitter(0.1)), "time_to_idle");
    assert_eq!(refused(builder().time_to_idle(second).serve_stale(second)), "time_to_idle");
    let without = builder().engine(Flaky::new()).time_to_idle(second).build();
    assert!(matches!(without, Err(Error::Unsupported { .. })));
    let home = tempfile::tempdir().unwrap();
    let store = Cache::<u64, u64>::builder().disk(home.path().join("store"));
    let store = store.time_to_idle(second).build().unwrap();
    let fifteen = [&b"t"[..]; 15];
    let put = Put { tags: &fifteen, ..Put::default() };
    let error = store.insert_with(1, 1, &put).unwrap_err();
    assert!(matches!(error, Error::TooManyTags { count: 15, max: 14 }));
}
