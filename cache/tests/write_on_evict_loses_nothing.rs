//! In write-on-evict mode a value is always in memory, on its way, or in the store, and what
//! was replaced or removed does not come back from there.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use common::{Flaky, Trouble, bytes};
use larder::{Cache, Durability, Error, Event, Mode, PolicyKind, Put};

fn over(engine: &Arc<Flaky>, items: u64) -> Cache<u32, String> {
    Cache::builder()
        .memory_items(items)
        .engine(Arc::<Flaky>::clone(engine))
        .mode(Mode::WriteOnEvict)
        .build()
        .unwrap()
}

fn put(cache: &Cache<u32, String>, key: u32, value: &str) {
    assert!(cache.insert(key, value.to_owned()).unwrap().is_admitted());
}

fn get(cache: &Cache<u32, String>, key: u32) -> Option<String> {
    cache.get(&key).unwrap()
}

#[test]
fn only_what_is_evicted_is_written() {
    let engine = Flaky::new();
    let cache = over(&engine, 10);
    (0..100).for_each(|key| put(&cache, key, "value"));
    let written = engine.puts.load(SeqCst);
    assert_eq!(written, 90);
    assert_eq!((cache.stats().flushed, cache.stats().unflushed), (90, 10));
    assert_eq!(cache.len(), 100);
    for key in 0..100 {
        assert_eq!(get(&cache, key).as_deref(), Some("value"), "{key}");
    }
    cache.close().unwrap();
    assert_eq!(engine.entries(), 100);
    assert_eq!(engine.puts.load(SeqCst), 100, "what came from the store is not written again");
}

#[test]
fn every_policy_keeps_everything() {
    for &policy in PolicyKind::ALL {
        let engine = Flaky::new();
        let cache = Cache::<u32, u32>::builder()
            .memory_items(7)
            .policy(policy)
            .engine(engine)
            .mode(Mode::WriteOnEvict)
            .build()
            .unwrap();
        for key in 0..500 {
            assert!(cache.insert(key, key).unwrap().is_admitted());
            assert_eq!(cache.get(&(key / 3)).unwrap(), Some(key / 3), "{policy:?}");
        }
        assert!((0..500).all(|key| cache.get(&key).unwrap() == Some(key)));
    }
}

#[test]
fn dropping_the_last_handle_writes_what_is_left() {
    let engine = Flaky::new();
    let cache = over(&engine, 10);
    let other = cache.clone();
    (0..5).for_each(|key| put(&cache, key, "value"));
    drop(cache);
    assert_eq!(engine.entries(), 0);
    drop(other);
    assert_eq!(engine.entries(), 5);
}

#[test]
fn flush_writes_each_value_once() {
    let engine = Flaky::new();
    let cache = over(&engine, 10);
    (0..5).for_each(|key| put(&cache, key, "value"));
    assert_eq!(cache.flush().unwrap(), 5);
    assert_eq!(cache.flush().unwrap(), 0);
    assert_eq!((cache.len(), cache.stats().unflushed), (5, 0));
    // Evicting what was flushed writes nothing.
    (5..15).for_each(|key| put(&cache, key, "value"));
    let evicted = cache.stats().memory.evictions;
    assert!(engine.puts.load(SeqCst) <= 5 + evicted);
    assert_eq!(cache.len(), 15);
}

#[test]
fn the_store_never_keeps_what_memory_has_replaced() {
    let engine = Flaky::new();
    let cache = over(&engine, 10);
    put(&cache, 1, "old");
    cache.flush().unwrap();
    put(&cache, 1, "new");
    // Were the process killed now, the old value must not come back.
    assert_eq!(engine.peek(&bytes(1_u32)), None);
    // And that is paid for once.
    let removes = engine.removes.load(SeqCst);
    put(&cache, 1, "newer");
    assert_eq!(engine.removes.load(SeqCst), removes);
    assert_eq!(get(&cache, 1).as_deref(), Some("newer"));
}

#[test]
fn a_removal_is_not_undone_by_a_flush() {
    let engine = Flaky::new();
    let cache = over(&engine, 2);
    for key in 0..50 {
        put(&cache, key, "value");
        assert!(cache.remove(&key).unwrap());
    }
    cache.flush().unwrap();
    assert_eq!((engine.entries(), cache.len()), (0, 0));
}

#[test]
fn a_value_that_must_survive_power_loss_goes_through_at_once() {
    let engine = Flaky::new();
    let cache = over(&engine, 10);
    let sync = Put { durability: Durability::Sync, ..Put::default() };
    assert!(cache.insert_with(1, "value".to_owned(), &sync).unwrap().is_admitted());
    assert!(engine.peek(&bytes(1_u32)).is_some());
}

#[test]
fn a_value_too_large_for_memory_goes_to_the_store() {
    let engine = Flaky::new();
    let cache = Cache::<u32, Vec<u8>>::builder()
        .memory(4 << 10)
        .engine(Arc::<Flaky>::clone(&engine))
        .mode(Mode::WriteOnEvict)
        .build()
        .unwrap();
    assert!(cache.insert(1, vec![1; 100]).unwrap().is_admitted());
    assert!(cache.insert(1, vec![2; 10_000]).unwrap().is_admitted());
    assert_eq!(cache.get(&1).unwrap(), Some(vec![2; 10_000]));
    assert_eq!(cache.len(), 1);
    // Larger than both: refused by name, and the old value stays.
    engine.limit.store(20_000, SeqCst);
    assert!(!cache.insert(1, vec![3; 30_000]).unwrap().is_admitted());
    assert_eq!(cache.get(&1).unwrap(), Some(vec![2; 10_000]));
}

#[test]
fn while_the_store_fails_values_wait_and_are_written_when_it_works_again() {
    let engine = Flaky::new();
    let cache = over(&engine, 10);
    engine.fail(Trouble::Before);
    (0..100).for_each(|key| put(&cache, key, "value"));
    assert!((0..100).all(|key| get(&cache, key).is_some()), "they wait within reach");
    assert!(matches!(cache.flush(), Err(Error::Engine { .. } | Error::Offline)));
    engine.fail(Trouble::None);
    thread::sleep(std::time::Duration::from_millis(600));
    while cache.flush().is_err() {}
    assert_eq!(engine.entries(), 100);
    assert_eq!(cache.stats().flush_losses, 0);
}

#[test]
fn what_waits_is_bounded_and_losses_are_counted() {
    let engine = Flaky::new();
    let lost = Arc::new(AtomicUsize::new(0));
    let cache = Cache::<u32, String>::builder()
        .memory_items(10)
        .engine(Arc::<Flaky>::clone(&engine))
        .mode(Mode::WriteOnEvict)
        .on_event({
            let lost = Arc::clone(&lost);
            move |event| {
                lost.fetch_add(usize::from(matches!(event, Event::Lost { .. })), SeqCst);
            }
        })
        .build()
        .unwrap();
    engine.fail(Trouble::Before);
    for key in 0..5_000 {
        assert!(cache.insert(key, "value".to_owned()).unwrap().is_admitted());
    }
    let there = (0..5_000).filter(|key| cache.get(key).unwrap().is_some()).count() as u64;
    let losses = cache.stats().flush_losses;
    assert!(losses > 3_000, "{losses}");
    assert_eq!(there + losses, 5_000);
    assert_eq!(lost.load(SeqCst) as u64, losses);
}

#[test]
fn threads_that_evict_each_others_values_lose_none() {
    const KEYS: u32 = 64;
    let engine = Flaky::new();
    let cache = over(&engine, 8);
    thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for turn in 0..3_000_u32 {
                    let key = thread * KEYS + turn % KEYS;
                    let value = turn.to_string();
                    match turn % 11 {
                        0 if turn > KEYS => {
                            assert!(cache.remove(&key).unwrap(), "{key} in turn {turn}");
                            assert_eq!(get(cache, key), None);
                            put(cache, key, &value);
                        }
                        1 if turn > KEYS => {
                            assert!(cache.take(&key).unwrap().is_some(), "{key} in turn {turn}");
                            put(cache, key, &value);
                        }
                        _ => put(cache, key, &value),
                    }
                    assert_eq!(get(cache, key), Some(value));
                }
            });
        }
    });
    assert_eq!(cache.len(), 4 * u64::from(KEYS));
    assert_eq!(cache.iter().unwrap().count(), 4 * KEYS as usize);
    cache.close().unwrap();
    for key in 0..4 * KEYS {
        let stored = engine.peek(&bytes(key)).unwrap();
        let turn: u32 = String::from_utf8(stored).unwrap().parse().unwrap();
        assert_eq!(turn, 3_000 - 1 - (3_000 - 1 - key % KEYS) % KEYS);
    }
}
