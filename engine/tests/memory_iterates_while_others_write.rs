//! Promise: an iterator over the tier yields what stays exactly once, nothing that is dead when it
//! comes, and is disturbed by nobody; and inserts that depend on what is there are single steps.
//!
//! Method: threads that write while others iterate, or compare and swap; a clock that moves in
//! the middle of an iteration.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use larder_engine::memory::{Capacity, Keep, Tier};
use larder_engine::{Clock, ManualClock, Rejection};

#[test]
fn what_stays_comes_once_whatever_else_comes_and_goes() {
    let tier = Tier::<u64, u64>::builder(Capacity::Unbounded).shards(4).build().unwrap();
    (0..500).for_each(|key| tier.insert(key, key, u64::MAX).unwrap());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (tier, done) = (&tier, &done);
        scope.spawn(move || {
            for step in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                // New values of what stays, and others that come and go.
                tier.insert(step % 500, step % 500 + 1_000 * (step / 500), u64::MAX).unwrap();
                tier.insert(500 + step % 700, 500 + step % 700, u64::MAX).unwrap();
                tier.remove(&(500 + (step + 350) % 700));
            }
        });
        for _ in 0..30 {
            let mut seen = HashMap::new();
            for (key, value) in tier {
                assert_eq!(value % 1_000, key % 1_000, "a value of another key");
                assert_eq!(seen.insert(key, value), None, "key {key} came twice");
            }
            assert!((0..500).all(|key| seen.contains_key(&key)));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(tier.validate(), Ok(()));
}

#[test]
fn what_dies_or_changes_before_its_turn_comes_as_it_is_then() {
    let clock = Arc::new(ManualClock::at(0));
    let tier = Tier::<u64, &str>::builder(Capacity::Unbounded).shards(1);
    let tier = tier.clock(Arc::clone(&clock) as Arc<dyn Clock>).build().unwrap();
    for key in 0..10 {
        tier.insert(key, "old", if key < 5 { 100 } else { u64::MAX }).unwrap();
    }
    let mut iter = tier.iter();
    let first = iter.next().unwrap().0;
    clock.advance(100);
    (0..10).filter(|key| key % 2 == 0).for_each(|key| tier.insert(key, "new", u64::MAX).unwrap());
    tier.remove(&7);
    let rest: HashMap<u64, &str> = iter.by_ref().collect();
    for key in (0..10).filter(|&key| key != first) {
        let expected = match key {
            key if key % 2 == 0 => Some("new"),
            0..5 | 7 => None,
            _ => Some("old"),
        };
        assert_eq!(rest.get(&key).copied(), expected, "key {key}");
    }
    assert_eq!(iter.next(), None);
    // What is dead leaves when an iterator comes across it.
    tier.insert(1, "short", 101).unwrap();
    clock.advance(1);
    let live = tier.entries().len() as u64;
    assert_eq!(tier.len(), live);
    assert_eq!(tier.validate(), Ok(()));
}

#[test]
fn of_many_threads_that_compare_and_swap_none_is_lost() {
    let tier = Tier::<&str, u64>::builder(Capacity::items(10)).build().unwrap();
    assert!(!tier.compare_and_swap("count", &0, 1, &Keep::default()).unwrap(), "there is none");
    assert!(
        tier.add("count", 0, &Keep::default()).unwrap()
            && !tier.add("count", 7, &Keep::default()).unwrap()
    );
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    while {
                        let seen = tier.peek("count").unwrap();
                        !tier.compare_and_swap("count", &seen, seen + 1, &Keep::default()).unwrap()
                    } {}
                }
            });
        }
    });
    assert_eq!(tier.get("count"), Some(2_000));
    let wins: usize = thread::scope(|scope| {
        let tier = &tier;
        let add = move || usize::from(tier.add("other", 1, &Keep::default()).unwrap());
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(add)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(wins, 1);
}

#[test]
fn what_is_too_large_is_refused_only_where_it_would_be_inserted() {
    let clock = Arc::new(ManualClock::at(0));
    let tier = Tier::builder(Capacity::weight(10)).weigher(|_, &weight: &u64| weight);
    let tier = tier.clock(Arc::clone(&clock) as Arc<dyn Clock>).build().unwrap();
    let too_large = Rejection::TooLarge { weight: 11, limit: 10 };
    assert_eq!(tier.add("key", 11, &Keep::default()).unwrap_err().why, too_large);
    assert!(tier.add("key", 9, &Keep::until(5)).unwrap());
    assert!(!tier.add("key", 11, &Keep::default()).unwrap());
    assert!(!tier.compare_and_swap("key", &8, 11, &Keep::default()).unwrap());
    assert_eq!(tier.compare_and_swap("key", &9, 11, &Keep::default()).unwrap_err().why, too_large);
    assert_eq!(tier.get("key"), Some(9), "the old one stays");
    clock.advance(5);
    assert!(!tier.compare_and_swap("key", &9, 1, &Keep::default()).unwrap(), "it has expired");
    assert!(tier.add("key", 10, &Keep::default()).unwrap());
    assert_eq!(tier.validate(), Ok(()));
}
