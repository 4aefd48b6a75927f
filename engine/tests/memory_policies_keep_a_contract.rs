//! One contract for a tier under any policy, and the choices where caches elsewhere differ, as
//! `docs/policies.md` has them. The order is looked at in tiers of one shard, where it is exact.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::collections::BTreeSet;
use std::sync::Arc;

use larder_engine::memory::{Capacity, PolicyKind, Tier};
use larder_engine::{ManualClock, Rejection};

const NEVER: u64 = u64::MAX;

fn tier(policy: PolicyKind, items: u64) -> Tier<u32, u32> {
    Tier::builder(Capacity::items(items)).policy(policy).shards(1).build().unwrap()
}

fn filled(policy: PolicyKind, keys: u32) -> Tier<u32, u32> {
    let tier = tier(policy, keys.into());
    (1..=keys).for_each(|key| tier.insert(key, key * 10, NEVER).unwrap());
    tier
}

/// The key that leaves when a new one comes.
fn victim_of(tier: &Tier<u32, u32>, newcomer: u32) -> BTreeSet<u32> {
    let before: BTreeSet<u32> = tier.iter().map(|(key, _)| key).collect();
    tier.insert(newcomer, 0, NEVER).unwrap();
    before.into_iter().filter(|key| !tier.contains(key)).collect()
}

#[test]
fn what_is_put_is_there_as_it_was_put_last() {
    for &policy in PolicyKind::ALL {
        let tier = filled(policy, 10);
        assert_eq!(tier.len(), 10, "{policy}");
        assert!((1..=10).all(|key| tier.get(&key) == Some(key * 10)), "{policy}");
        assert_eq!((tier.get(&99), tier.peek(&99), tier.contains(&99)), (None, None, false));
        tier.insert(3, 7, NEVER).unwrap();
        assert_eq!((tier.get(&3), tier.len()), (Some(7), 10), "{policy}: replaced, not added");
        assert!(tier.remove(&3) && !tier.remove(&3), "{policy}");
        assert_eq!(
            (tier.get(&3), tier.take(&4), tier.take(&4)),
            (None, Some(40), None),
            "{policy}"
        );
        let rest: BTreeSet<_> = tier.iter().collect();
        let expected = [1, 2, 5, 6, 7, 8, 9, 10].map(|key| (key, key * 10));
        assert_eq!(rest, BTreeSet::from(expected), "{policy}");
        assert_eq!((tier.clear(), tier.len(), tier.clear()), (8, 0, 0), "{policy}");
        tier.insert(1, 1, NEVER).unwrap();
        assert_eq!(tier.get(&1), Some(1), "{policy}: as good as new");
        tier.validate().unwrap();
    }
}

#[test]
fn one_leaves_for_one_that_comes_and_never_the_newcomer() {
    for &policy in PolicyKind::ALL {
        let tier = filled(policy, 20);
        for newcomer in 21..200 {
            // W-TinyLFU may let in who then loses to those that are used more.
            let gone = victim_of(&tier, newcomer);
            assert!(gone.len() <= 1, "{policy}: {gone:?} left for one");
            assert_eq!(tier.len(), 20, "{policy}");
            let is_doorkept = matches!(policy, PolicyKind::WTinyLfu | PolicyKind::Adaptive);
            assert!(tier.contains(&newcomer) || is_doorkept, "{policy} refused {newcomer}");
        }
        tier.validate().unwrap();
    }
}

#[test]
fn a_weight_that_changes_is_what_counts() {
    for &policy in PolicyKind::ALL {
        let tier = Tier::builder(Capacity::weight(1_000)).policy(policy).shards(1);
        let tier = tier.weigher(|_: &u32, value: &u32| u64::from(*value)).build().unwrap();
        (0..10).for_each(|key| tier.insert(key, 100, NEVER).unwrap());
        assert_eq!(tier.weight(), 1_000, "{policy}");
        tier.insert(0, 10, NEVER).unwrap();
        assert_eq!((tier.weight(), tier.len()), (910, 10), "{policy}: the difference is free");
        tier.insert(10, 90, NEVER).unwrap();
        assert_eq!(
            (tier.weight(), tier.len()),
            (1_000, 11),
            "{policy}: and is used, nobody leaves"
        );
        // A larger one takes the room of others, and is itself there.
        tier.insert(1, 900, NEVER).unwrap();
        assert_eq!(tier.peek(&1), Some(900), "{policy}");
        assert!(tier.weight() <= 1_000, "{policy}");
        // One that fits nowhere is refused, and the old one stays.
        let refused = tier.insert(1, 1_001, NEVER).unwrap_err();
        assert_eq!(refused.why, Rejection::TooLarge { weight: 1_001, limit: 1_000 }, "{policy}");
        assert_eq!(tier.peek(&1), Some(900), "{policy}");
        tier.validate().unwrap();
    }
}

#[test]
fn draining_follows_the_order_that_is_told() {
    for &policy in PolicyKind::ALL {
        let tier = filled(policy, 12);
        for key in [3, 3, 7, 5, 3] {
            tier.get(&key);
        }
        let order: Vec<u32> = tier.coldest(12).into_iter().map(|(key, _)| key).collect();
        let all: BTreeSet<u32> = order.iter().copied().collect();
        assert_eq!((order.len(), all), (12, (1..=12).collect()), "{policy}: each once");
        let drained: Vec<u32> = tier.drain(5).into_iter().map(|(key, _)| key).collect();
        assert_eq!(drained, order[..5], "{policy}");
        assert_eq!((tier.len(), tier.drain(100).len(), tier.drain(1).len()), (7, 7, 0), "{policy}");
    }
}

#[test]
fn nothing_fits_where_nothing_is_kept() {
    for &policy in PolicyKind::ALL {
        let tier = Tier::<u32, u32>::builder(Capacity::items(0)).policy(policy).build().unwrap();
        assert_eq!(tier.insert(1, 1, NEVER).unwrap_err().why, Rejection::Disabled, "{policy}");
        assert_eq!((tier.get(&1), tier.len()), (None, 0), "{policy}");
        let tier = Tier::<u32, u32>::builder(Capacity::Unbounded).policy(policy).build().unwrap();
        (0..5_000).for_each(|key| tier.insert(key, key, NEVER).unwrap());
        assert_eq!(tier.len(), 5_000, "{policy}: nothing ever leaves");
    }
}

#[test]
fn what_has_expired_is_nowhere_and_leaves_first() {
    for &policy in PolicyKind::ALL {
        let clock = Arc::new(ManualClock::at(1_000));
        let builder = Tier::builder(Capacity::items(10)).policy(policy).shards(1);
        let tier: Tier<u32, u32> = builder.clock(clock.clone()).build().unwrap();
        (0..10).for_each(|key| {
            tier.insert(key, key, if key % 2 == 0 { NEVER } else { 2_000 }).unwrap();
        });
        tier.insert(0, 0, 1_000).unwrap();
        assert_eq!(tier.get(&0), None, "{policy}: a time of zero is over at once");
        clock.advance(999);
        assert!(tier.contains(&1), "{policy}");
        clock.advance(1);
        assert!(!tier.contains(&1) && tier.get(&1).is_none(), "{policy}");
        let live: BTreeSet<u32> = tier.iter().map(|(key, _)| key).collect();
        assert_eq!(live, BTreeSet::from([2, 4, 6, 8]), "{policy}: passed over");
        (10..16).for_each(|key| tier.insert(key, key, NEVER).unwrap());
        assert!([2, 4, 6, 8].iter().all(|key| tier.contains(key)), "{policy}: the dead went first");
    }
}

/// Where caches elsewhere differ: what is done before a newcomer, and who leaves for it.
#[test]
fn the_choices_are_as_they_are_written_down() {
    type Step = fn(&Tier<u32, u32>);
    let read: Step = |tier| assert!(tier.get(&1).is_some());
    let looked: Step = |tier| assert!(tier.contains(&1) && tier.peek(&1).is_some());
    let replaced: Step = |tier| tier.insert(1, 5, NEVER).unwrap();
    // Uses of 1: five; of 2: three; then 1 is replaced.
    let counted: Step = |tier| {
        (0..5).for_each(|_| assert!(tier.get(&1).is_some()));
        (0..3).for_each(|_| assert!(tier.get(&2).is_some()));
        (0..9).for_each(|_| assert!(tier.get(&3).is_some()));
        tier.insert(1, 5, NEVER).unwrap();
    };
    // Each reaches one use, the oldest entry last.
    let tied: Step = |tier| [3, 2, 1].iter().for_each(|key| assert!(tier.get(key).is_some()));
    let rows: [(&str, PolicyKind, Step, u32); 10] = [
        ("fifo: a read changes nothing", PolicyKind::Fifo, read, 1),
        ("fifo: an overwrite keeps the place", PolicyKind::Fifo, replaced, 1),
        ("lru: a read is a use", PolicyKind::Lru, read, 2),
        ("lru: an overwrite is a use", PolicyKind::Lru, replaced, 2),
        ("lru: a look is none", PolicyKind::Lru, looked, 1),
        ("mru: the last one used leaves", PolicyKind::Mru, read, 1),
        ("lfu: a look is none", PolicyKind::Lfu, looked, 1),
        ("lfu: an overwrite keeps the count, and is a use", PolicyKind::Lfu, counted, 2),
        ("lfu: among equals, who reached the count first", PolicyKind::Lfu, tied, 3),
        ("clock: an overwrite is no use", PolicyKind::Clock, replaced, 1),
    ];
    for (choice, policy, step, leaves) in rows {
        let tier = filled(policy, 3);
        step(&tier);
        assert_eq!(victim_of(&tier, 4), BTreeSet::from([leaves]), "{choice}");
    }
}
