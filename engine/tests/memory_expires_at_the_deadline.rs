//! Promise: an entry is found while `now < deadline` and not from then on, whatever looks; it
//! counts until it is noticed, and it leaves with the cause `Expired`.
//!
//! Method: a clock that is set by hand, at the last moment before and the first one after.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::sync::{Arc, Mutex};

use larder_engine::memory::{Capacity, Cause, Tier};
use larder_engine::{Clock, ManualClock};

type Heard = Arc<Mutex<Vec<(u32, Cause)>>>;

fn tier(capacity: Capacity) -> (Tier<u32, u32>, Arc<ManualClock>, Heard) {
    let clock = Arc::new(ManualClock::at(1_000));
    let heard = Heard::default();
    let tell = Arc::clone(&heard);
    let tier = Tier::builder(capacity)
        .shards(1)
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .listener(move |&key, _, cause| tell.lock().unwrap().push((key, cause)))
        .build()
        .unwrap();
    (tier, clock, heard)
}

#[test]
fn at_the_deadline_itself_and_for_every_lookup() {
    let (tier, clock, heard) = tier(Capacity::Unbounded);
    tier.insert(1, 10, 1_500).unwrap();
    tier.insert(2, 20, 1_400).unwrap();
    clock.advance(400);
    assert_eq!(tier.entries(), [(1, 10)]);
    assert_eq!(tier.len(), 1, "an iteration removes what has expired");
    clock.advance(99);
    assert_eq!(tier.get(&1), Some(10));
    assert!(tier.contains(&1) && tier.entries() == [(1, 10)]);
    clock.advance(1);
    assert!(!tier.contains(&1) && tier.coldest(1).is_empty());
    assert_eq!(tier.peek_with(&1, |_| ()), None);
    assert_eq!(tier.len(), 1, "nothing that only looks removes it");
    assert_eq!(tier.get(&1), None);
    assert_eq!(tier.len(), 0, "a get does");
    assert_eq!(*heard.lock().unwrap(), [(2, Cause::Expired), (1, Cause::Expired)]);
    let stats = tier.stats();
    assert_eq!((stats.hits, stats.misses, stats.expired), (1, 1, 2));
}

#[test]
fn removing_or_taking_what_has_expired_finds_nothing() {
    let (tier, clock, heard) = tier(Capacity::Unbounded);
    (0..3).for_each(|key| tier.insert(key, 0, 1_001).unwrap());
    clock.advance(1);
    assert!(!tier.remove(&0));
    assert_eq!(tier.take(&1), None);
    assert!(!tier.remove_if(&2, |_| unreachable!("it is not live")));
    assert_eq!(tier.len(), 0);
    assert!(heard.lock().unwrap().iter().all(|&(_, cause)| cause == Cause::Expired));
}

#[test]
fn a_condition_does_not_see_what_has_expired() {
    let (tier, clock, heard) = tier(Capacity::Unbounded);
    tier.insert(1, 10, 1_001).unwrap();
    clock.advance(1);
    let absent = |current: Option<&u32>| current.is_none();
    assert!(tier.insert_if(1, 11, u64::MAX, absent).unwrap());
    assert_eq!(*heard.lock().unwrap(), [(1, Cause::Expired)]);
}

#[test]
fn what_arrives_expired_replaces_the_old_and_evicts_nobody() {
    let (tier, _, heard) = tier(Capacity::items(2));
    tier.insert(1, 10, u64::MAX).unwrap();
    tier.insert(2, 20, u64::MAX).unwrap();
    tier.insert(3, 30, 1_000).unwrap();
    assert_eq!(tier.len(), 2);
    tier.insert(1, 11, 999).unwrap();
    assert_eq!(tier.entries(), [(2, 20)]);
    let expected = [(3, Cause::Expired), (1, Cause::Replaced), (1, Cause::Expired)];
    assert_eq!(*heard.lock().unwrap(), expected);
}

#[test]
fn a_purge_removes_exactly_what_has_expired() {
    let (tier, clock, heard) = tier(Capacity::Unbounded);
    (0..100).for_each(|key| tier.insert(key, 0, 1_000 + u64::from(key) * 10).unwrap());
    tier.insert(1_000, 0, u64::MAX).unwrap();
    assert_eq!(tier.purge_expired(), 0, "the first one arrived expired, and is gone already");
    clock.advance(500);
    assert_eq!(tier.purge_expired(), 50);
    assert_eq!(tier.purge_expired(), 0);
    assert_eq!(tier.len(), 50);
    assert_eq!(heard.lock().unwrap().len(), 51);
    assert_eq!(tier.validate(), Ok(()));
}

#[test]
fn an_evicted_entry_that_had_expired_says_so() {
    let (tier, clock, heard) = tier(Capacity::items(1));
    tier.insert(1, 10, 1_001).unwrap();
    clock.advance(1);
    tier.insert(2, 20, u64::MAX).unwrap();
    assert_eq!(*heard.lock().unwrap(), [(1, Cause::Expired)]);
    assert_eq!((tier.stats().evictions, tier.stats().expired), (0, 1));
}

#[test]
fn the_clock_is_not_read_for_what_never_expires() {
    #[derive(Debug)]
    struct Forbidden;
    impl Clock for Forbidden {
        fn now_ms(&self) -> u64 {
            unreachable!("nothing here can expire")
        }
    }
    let tier = Tier::builder(Capacity::items(10)).clock(Arc::new(Forbidden)).build().unwrap();
    (0..100).for_each(|key| tier.insert(key, key, u64::MAX).unwrap());
    (0..100).filter(|key| tier.get(key).is_some()).for_each(|key| assert!(tier.remove(&key)));
    assert_eq!((tier.purge_expired(), tier.clear()), (0, 0));
}
