//! Promise: numbers under a name lose no addition; structures of different names, kinds and caches are
//! apart; a damaged record blocks nothing behind it; and structures are no entries of their cache.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

#[path = "common/grounds.rs"]
mod grounds;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use grounds::grounds;
use larder::structures::Structures;
use larder::{Cache, Disk, Engine, Error, Put, Retain, SystemClock};
use larder_engine::memory::Memory;

#[test]
fn a_mean_is_that_of_all_that_was_added() {
    for ground in grounds() {
        let mean = ground.structures.running_mean("m").unwrap();
        assert_eq!((mean.get().unwrap(), mean.take().unwrap()), (None, None));
        for number in 0..10 {
            mean.add(f64::from(number)).unwrap();
        }
        assert_eq!((mean.get().unwrap(), mean.count().unwrap()), (Some(4.5), 10));
        assert_eq!(mean.take().unwrap(), Some(4.5));
        assert_eq!((mean.get().unwrap(), mean.count().unwrap()), (None, 0));
        thread::scope(|scope| {
            for thread in 0..4 {
                let mean = &mean;
                scope.spawn(move || {
                    for number in 0..5 {
                        mean.add(f64::from(5 * thread + number)).unwrap();
                    }
                });
            }
        });
        assert_eq!((mean.get().unwrap(), mean.count().unwrap()), (Some(9.5), 20));
    }
}

#[test]
fn sixteen_threads_that_count_lose_nothing() {
    for ground in grounds() {
        let counter = ground.structures.counter("c").unwrap();
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| (0..50).for_each(|_| assert!(counter.add(1).unwrap() > 0)));
            }
        });
        assert_eq!(counter.get().unwrap(), 800, "{}", ground.name);
        assert_eq!(counter.set(i64::MAX - 1).unwrap(), 800);
        assert_eq!(counter.add(1).unwrap(), i64::MAX);
        assert!(matches!(counter.add(1), Err(Error::Overflow)));
        assert_eq!(counter.get().unwrap(), i64::MAX, "it is as it was");
        assert_eq!(counter.add(i64::MIN).unwrap(), -1);
        assert_eq!(counter.add(0).unwrap(), -1);
    }
}

#[test]
fn names_and_kinds_are_apart() {
    for ground in grounds() {
        let structures = &ground.structures;
        // Names of which one begins with another, and those that look like parts.
        let names = ["", "a", "ab", "a\u{1}r", "r", "\u{1}"];
        for (name, number) in names.iter().zip(1..) {
            structures.counter(name).unwrap().set(number).unwrap();
            structures.deque(name).unwrap().push_back(number).unwrap();
            structures.index::<String, i64>(name).unwrap().insert("r", number).unwrap();
            structures.running_mean(name).unwrap().add(number as f64).unwrap();
        }
        let lock = structures.lock("a", Duration::from_secs(1)).unwrap();
        let held = lock.lock().unwrap();
        structures.deque::<i64>("a").unwrap().clear().unwrap();
        structures.index::<String, i64>("a").unwrap().clear().unwrap();
        for (name, number) in names.iter().zip(1..) {
            let is_cleared = *name == "a";
            assert_eq!(structures.counter(name).unwrap().get().unwrap(), number);
            let left = (!is_cleared).then_some(number);
            assert_eq!(structures.deque::<i64>(name).unwrap().front().unwrap(), left, "{name:?}");
            let index = structures.index::<String, i64>(name).unwrap();
            assert_eq!(index.get("r").unwrap(), left, "{name:?}");
            assert_eq!(structures.running_mean(name).unwrap().get().unwrap(), Some(number as f64));
        }
        assert!(held.is_held().unwrap(), "{}", ground.name);
    }
}

/// Removes or overwrites the record of which this says that it is one.
fn damage(engine: &Memory, with: Option<&[u8]>, is_it: impl Fn(&[u8], &[u8]) -> bool) {
    let entries: Vec<_> = engine.iter().map(Result::unwrap).collect();
    let (key, value) = entries.iter().find(|(key, value)| is_it(key, value)).expect("it is there");
    match with {
        None => assert!(engine.remove(key).unwrap()),
        Some(bytes) => {
            let put = Put { codec: value.meta().codec, ..Put::default() };
            assert!(engine.put(key, bytes, &put).unwrap().is_admitted());
        }
    }
}

fn kept() -> (Arc<Memory>, Structures) {
    let memory = Arc::new(Memory::builder(8 << 20).retain(Retain::All).build().unwrap());
    let structures = Structures::over(memory.clone(), Arc::new(SystemClock)).unwrap();
    (memory, structures)
}

#[test]
fn a_damaged_item_blocks_nothing() {
    // A record that is damaged is a miss to a store; bytes that are none of the codec's are as bad.
    for with in [None, Some(&[0, 0, 0xFF][..]), Some(&[][..])] {
        let (memory, structures) = kept();
        let deque = structures.deque::<String>("d").unwrap();
        deque.extend((0..10).map(|n| format!("item {n}"))).unwrap();
        for bad in ["item 0", "item 1", "item 5", "item 9"] {
            damage(&memory, with, |_, value| value.ends_with(bad.as_bytes()));
        }
        let seen: Vec<_> = deque.iter().unwrap().map(Result::unwrap).collect();
        assert_eq!(seen.len(), 6);
        assert_eq!(deque.front().unwrap().as_deref(), Some("item 2"));
        assert_eq!(deque.pop_back().unwrap().as_deref(), Some("item 8"));
        assert_eq!(deque.lost().unwrap(), 3);
        assert_eq!(deque.get(3).unwrap().as_deref(), Some("item 6"));
        assert_eq!((deque.lost().unwrap(), deque.len().unwrap()), (4, 5));
        deque.rotate(1).unwrap();
        assert_eq!(deque.front().unwrap().as_deref(), Some("item 7"));
    }
}

#[test]
fn a_damaged_entry_blocks_nothing() {
    let part = |part: u8| move |key: &[u8]| key.get(4) == Some(&part);
    for (what, with) in [
        (b'k', None),
        (b'k', Some(&[][..])),
        (b'n', None),
        (b'n', Some(&[0xFF][..])),
        (b'p', None),
        (b'p', Some(&[1][..])),
    ] {
        let (memory, structures) = kept();
        let index = structures.index::<u32, u32>("i").unwrap();
        index.extend((0..5).map(|n| (n, 10 * n))).unwrap();
        damage(&memory, with, |key, _| part(what)(key));
        // Whatever it was, at most one entry is gone, and the rest is in its order.
        let seen: Vec<_> = index.iter().unwrap().map(Result::unwrap).collect();
        let gone = usize::from(what != b'p');
        assert_eq!(seen.len(), 5 - gone, "{what}, {with:?}");
        assert!(seen.is_sorted());
        index.insert(&77, 1).unwrap();
        assert_eq!(index.last().unwrap(), Some((77, 1)));
        // What lost its place gets a new one when it is put in again.
        for key in 0..5 {
            index.insert(&key, 100).unwrap();
            assert_eq!(index.get(&key).unwrap(), Some(100), "{what}, {with:?}");
        }
        let mut popped = Vec::new();
        while let Some((key, _)) = index.pop_first().unwrap() {
            popped.push(key);
        }
        popped.sort_unstable();
        assert_eq!(popped, [0, 1, 2, 3, 4, 77], "{what}, {with:?}");
        assert_eq!(index.len().unwrap(), 0, "{what}, {with:?}");
    }
}

#[test]
fn a_structure_whose_root_is_lost_begins_anew() {
    let (memory, structures) = kept();
    let deque = structures.deque::<u32>("d").unwrap();
    deque.extend(0..5).unwrap();
    damage(&memory, None, |key, _| key.ends_with(b"r"));
    assert!(deque.is_empty().unwrap());
    deque.push_back(7).unwrap();
    assert!(deque.equals([7]).unwrap(), "nothing of the old one comes back");
    assert_eq!(deque.get(1).unwrap(), None);
}

#[test]
fn structures_are_beside_the_entries_of_a_cache() {
    let home = tempfile::tempdir().unwrap();
    let disk = Disk::builder(home.path().join("store")).retain(Retain::All).open().unwrap();
    let disk: Arc<dyn Engine> = Arc::new(disk);
    let cache = |namespace: &str| {
        let builder = Cache::<String, String>::builder().engine(Arc::clone(&disk));
        builder.namespace(namespace).strict(true).build().unwrap()
    };
    let (one, two) = (cache("one"), cache("two"));
    for (cache, n) in [(&one, 1), (&two, 2)] {
        let structures = cache.structures().unwrap();
        structures.counter("n").unwrap().set(n).unwrap();
        structures.deque("d").unwrap().push_back(n.to_string()).unwrap();
        assert!(cache.insert("n".to_owned(), "value".to_owned()).unwrap().is_admitted());
    }
    assert_eq!(one.structures().unwrap().counter("n").unwrap().get().unwrap(), 1);
    // Strict: a record of a structure that was taken for a value would be an error.
    let entries: Vec<_> = one.iter().unwrap().map(Result::unwrap).collect();
    assert_eq!(entries, [("n".to_owned(), "value".to_owned())]);
    assert_eq!(one.stats().codec_changed, 0);
    one.clear().unwrap();
    assert_eq!(one.structures().unwrap().counter("n").unwrap().get().unwrap(), 0);
    assert_eq!(two.structures().unwrap().counter("n").unwrap().get().unwrap(), 2);
    let back = two.structures().unwrap().deque::<String>("d").unwrap().pop_back().unwrap();
    assert_eq!(back.as_deref(), Some("2"));
    two.close().unwrap();
    assert!(matches!(two.structures(), Err(Error::Closed)));
}

#[test]
fn structures_of_a_cache_in_memory_are_one_for_all_handles() {
    let cache = Cache::<u32, u32>::builder().memory(1 << 20).build().unwrap();
    cache.structures().unwrap().counter("n").unwrap().add(1).unwrap();
    let same = cache.clone();
    assert_eq!(same.structures().unwrap().counter("n").unwrap().add(1).unwrap(), 2);
    assert_eq!(cache.len(), 0);
}

#[test]
fn engines_without_batches_and_caches_that_are_off_are_refused() {
    let lower = Arc::new(Memory::builder(1 << 20).retain(Retain::All).build().unwrap());
    let both = larder::TwoLevel::builder(lower).build().unwrap();
    let error = Structures::over(Arc::new(both), Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(error, Error::Unsupported { what: "batches" }), "{error}");
    let off = Cache::<u32, u32>::builder().enabled(false).build().unwrap();
    assert!(matches!(off.structures(), Err(Error::Unsupported { .. })), "not in memory unnoticed");
}
