//! Promise: an index is a map in the order of insertion, whatever store it is in: against a list of
//! pairs, over reopening, and with many threads at once.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod common;
#[path = "common/grounds.rs"]
mod grounds;

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

use common::Random;
use grounds::{clock, grounds, on_disk};
use larder::structures::Index;

type Pairs = Vec<(String, u32)>;

fn pairs(index: &Index<String, u32>) -> Pairs {
    index.iter().unwrap().map(Result::unwrap).collect()
}

fn owned(pairs: &[(&str, u32)]) -> Pairs {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

#[test]
fn keys_keep_the_place_in_which_they_came() {
    for ground in grounds() {
        let index = ground.structures.index::<String, u32>("i").unwrap();
        assert_eq!((index.first().unwrap(), index.pop_last().unwrap()), (None, None));
        index.extend(owned(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)])).unwrap();
        assert_eq!(index.insert("b", 20).unwrap(), Some(2));
        assert_eq!(pairs(&index), owned(&[("a", 1), ("b", 20), ("c", 3), ("d", 4)]));
        assert_eq!((index.get("b").unwrap(), index.get("z").unwrap()), (Some(20), None));
        assert!(index.contains("a").unwrap() && !index.contains("").unwrap());
        assert_eq!((index.remove("a").unwrap(), index.remove("a").unwrap()), (Some(1), None));
        assert_eq!(index.insert("a", 10).unwrap(), None, "it comes anew");
        let back: Pairs = index.iter().unwrap().rev().map(Result::unwrap).collect();
        assert_eq!(back, owned(&[("a", 10), ("d", 4), ("c", 3), ("b", 20)]), "{}", ground.name);
        let mut both = index.iter().unwrap();
        assert_eq!(both.next().unwrap().unwrap().0, "b");
        assert_eq!(both.next_back().unwrap().unwrap().0, "a");
        assert_eq!(both.by_ref().map(|pair| pair.unwrap().0).collect::<String>(), "cd");
        assert!(both.next_back().is_none());
        assert!(index.equals(owned(&[("b", 20), ("c", 3), ("d", 4), ("a", 10)])).unwrap());
        assert!(!index.equals(owned(&[("c", 3), ("b", 20), ("d", 4), ("a", 10)])).unwrap());
        assert!(!index.equals(owned(&[("b", 20), ("c", 3), ("d", 4)])).unwrap());
        assert_eq!(index.pop_first().unwrap(), Some(("b".to_owned(), 20)));
        assert_eq!(index.pop_last().unwrap(), Some(("a".to_owned(), 10)));
        assert_eq!(index.get_or_insert_with("c", || unreachable!()).unwrap(), 3);
        assert_eq!(index.get_or_insert_with("e", || 5).unwrap(), 5);
        assert_eq!(index.last().unwrap(), Some(("e".to_owned(), 5)));
        assert_eq!((index.clear().unwrap(), index.len().unwrap()), (3, 0));
        assert_eq!((index.get("c").unwrap(), pairs(&index)), (None, Vec::new()));
        index.insert("c", 33).unwrap();
        assert_eq!(pairs(&index), owned(&[("c", 33)]));
        let long = "k".repeat(100_000);
        index.insert(&long[..], 7).unwrap();
        assert_eq!((index.get(&long[..]).unwrap(), index.len().unwrap()), (Some(7), 2));
        assert_eq!(index.pop_last().unwrap(), Some((long, 7)), "long keys come back whole");
        assert_eq!(index.lost().unwrap(), 0);
    }
}

#[test]
fn it_does_what_a_list_of_pairs_does() {
    for (ground, seed) in grounds().into_iter().zip(3..) {
        let mut random = Random(seed);
        let index = ground.structures.index::<u64, u64>("i").unwrap();
        let mut model: Vec<(u64, u64)> = Vec::new();
        for step in 0..2_500 {
            // Sometimes many come and sometimes many go, so that pages fill up and empty.
            let many = if step / 500 % 2 == 0 { 7 } else { 2 };
            let (key, value) = (random.below(300), random.below(1_000));
            let at = model.iter().position(|pair| pair.0 == key);
            match random.below(12) {
                turn if turn < many => {
                    let old = at.map(|at| std::mem::replace(&mut model[at].1, value));
                    assert_eq!(index.insert(&key, value).unwrap(), old);
                    if old.is_none() {
                        model.push((key, value));
                    }
                }
                7 => {
                    let expected = (!model.is_empty()).then(|| model.remove(0));
                    assert_eq!(index.pop_first().unwrap(), expected);
                }
                8 => assert_eq!(index.pop_last().unwrap(), model.pop()),
                9 => {
                    let found = at.map(|at| model[at].1);
                    assert_eq!(
                        index.get_or_insert_with(&key, || value).unwrap(),
                        found.unwrap_or(value)
                    );
                    if found.is_none() {
                        model.push((key, value));
                    }
                }
                10 if value < 5 => {
                    assert_eq!(index.clear().unwrap(), model.len() as u64);
                    model.clear();
                }
                10 => assert_eq!(index.get(&key).unwrap(), at.map(|at| model[at].1)),
                _ => {
                    let expected = at.map(|at| model.remove(at).1);
                    assert_eq!(index.remove(&key).unwrap(), expected, "{}, {step}", ground.name);
                }
            }
            assert_eq!(index.len().unwrap(), model.len() as u64, "{}, {step}", ground.name);
            assert_eq!(index.first().unwrap(), model.first().copied());
            assert_eq!(index.last().unwrap(), model.last().copied());
            if step % 100 == 0 {
                assert!(index.equals(model.iter().copied()).unwrap(), "{}, {step}", ground.name);
            }
        }
        let back: Vec<_> = index.iter().unwrap().rev().map(Result::unwrap).collect();
        assert!(back.into_iter().rev().eq(model), "{}", ground.name);
        assert_eq!(index.lost().unwrap(), 0);
    }
}

#[test]
fn it_is_there_when_the_store_is_opened_again() {
    let (home, clock) = (tempfile::tempdir().unwrap(), clock());
    let open = || on_disk(&home.path().join("store"), &clock).index::<u32, String>("i").unwrap();
    let index = open();
    for key in 0..200 {
        index.insert(&key, key.to_string()).unwrap();
    }
    for key in (0..200).filter(|key| key % 3 != 1) {
        index.remove(&key).unwrap();
    }
    // Dropped without being closed, as a process that dies.
    drop(index);
    let index = open();
    let left = (0..200).filter(|key| key % 3 == 1).map(|key| (key, key.to_string()));
    assert!(index.equals(left).unwrap());
    index.insert(&0, "again".to_owned()).unwrap();
    assert_eq!(index.last().unwrap(), Some((0, "again".to_owned())));
}

#[test]
fn what_threads_put_in_is_in_once_and_each_entry_is_taken_once() {
    const THREADS: u64 = 4;
    const EACH: u64 = 100;
    for ground in grounds() {
        let index = ground.structures.index::<u64, u64>("i").unwrap();
        let won = AtomicU32::new(0);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (index, won) = (&index, &won);
                scope.spawn(move || {
                    for key in 0..EACH {
                        // All want the same keys: one of them makes each.
                        let mine = index.get_or_insert_with(&key, || thread).unwrap() == thread;
                        won.fetch_add(u32::from(mine), SeqCst);
                        index.insert(&(1_000 + thread * EACH + key), key).unwrap();
                    }
                });
            }
        });
        assert_eq!(u64::from(won.load(SeqCst)), EACH, "{}", ground.name);
        assert_eq!(index.len().unwrap(), EACH + THREADS * EACH);
        let taken = AtomicU32::new(0);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (index, taken) = (&index, &taken);
                scope.spawn(move || {
                    let take = || match thread % 2 {
                        0 => index.pop_first().unwrap(),
                        _ => index.pop_last().unwrap(),
                    };
                    while take().is_some() {
                        taken.fetch_add(1, SeqCst);
                    }
                });
            }
        });
        assert_eq!(u64::from(taken.load(SeqCst)), EACH + THREADS * EACH, "{}", ground.name);
        assert_eq!((index.len().unwrap(), index.lost().unwrap()), (0, 0));
    }
}
