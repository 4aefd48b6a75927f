//! Promise: what is pinned is not evicted, whatever the policy says; and what finds no room
//! because of that is refused by name, and evicts nothing.
//!
//! Method: every policy under many inserts; tiers in which all is pinned, by threads and over
//! shards; random operations against a set of pins; a policy that counts how often it is asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use larder_engine::memory::{
    Arrival, Capacity, Entries, OnHit, Policy, PolicyKind, Tier, TierBuilder,
};
use larder_engine::{Clock, ManualClock, Rejection};
use proptest::prelude::*;

/// A tier whose values are weights, in the making.
fn weighed(budget: u64, policy: PolicyKind, shards: usize) -> TierBuilder<u64, u64> {
    let tier = Tier::builder(Capacity::weight(budget)).weigher(|_, &weight| weight);
    tier.policy(policy).shards(shards)
}

#[test]
fn pinned_entries_stay_under_every_policy_and_leave_when_they_are_unpinned() {
    for &policy in PolicyKind::ALL {
        for shards in [1, 8] {
            let tier = weighed(200, policy, shards).build().unwrap();
            (0..20).for_each(|key| tier.insert(key, 1 + key % 5, u64::MAX).unwrap());
            let pinned: Vec<u64> = (0..20).filter(|key| key % 2 == 0).collect();
            assert!(pinned.iter().all(|key| tier.pin(key)));
            let weight = pinned.iter().map(|key| 1 + key % 5).sum();
            for key in 100..10_100 {
                tier.insert(key, 1 + key % 7, u64::MAX).unwrap();
                tier.get(&(key - 50));
                assert!(tier.weight() <= 200);
                if key % 500 == 0 {
                    assert_eq!(tier.validate(), Ok(()), "{policy}");
                }
            }
            assert_eq!(tier.pinned_weight(), weight, "{policy} with {shards} shards");
            assert!(pinned.iter().all(|key| tier.get(key) == Some(1 + key % 5)), "{policy}");
            let before = tier.len();
            let why = tier.insert(1, 201 - weight, u64::MAX).unwrap_err().why;
            let weight = Rejection::Pinned { weight: 201 - weight, pinned: weight, limit: 200 };
            assert_eq!((why, tier.len()), (weight, before), "nothing left for what is refused");
            assert!(pinned.iter().all(|key| tier.unpin(key) && !tier.unpin(key)));
            tier.insert(1, 200, u64::MAX).unwrap();
            assert_eq!((tier.len(), tier.pinned_weight()), (1, 0), "{policy}");
            assert_eq!(tier.validate(), Ok(()), "{policy}");
        }
    }
}

#[test]
fn where_all_is_pinned_inserts_are_refused_and_come_to_an_end() {
    for &policy in PolicyKind::ALL {
        for shards in [1, 4] {
            let tier = Tier::<u64, u64>::builder(Capacity::items(64)).policy(policy);
            let tier = tier.shards(shards).build().unwrap();
            for key in 0..64 {
                tier.insert(key, 0, u64::MAX).unwrap();
                assert!(tier.pin(&key));
            }
            let full = Rejection::Pinned { weight: 1, pinned: 64, limit: 64 };
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                let refused: Vec<_> = (0..4_u64)
                    .map(|thread| {
                        let tier = &tier;
                        scope.spawn(move || {
                            let keys = (1..200).map(|key| key * 64 + thread);
                            keys.filter(|&key| tier.insert(key, 1, u64::MAX).is_err()).count()
                        })
                    })
                    .collect();
                refused.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 199));
                // And where somebody pins and unpins all the time, each gets one answer or the other.
                let inserts: Vec<_> = (1..4_u64)
                    .map(|thread| {
                        let tier = &tier;
                        scope.spawn(move || {
                            for key in (1..500).map(|key| key * 64 + thread) {
                                if let Err(refused) = tier.insert(key, 1, u64::MAX) {
                                    let Rejection::Pinned { weight: 1, pinned, limit: 64 } =
                                        refused.why
                                    else {
                                        panic!("{refused}");
                                    };
                                    assert_eq!(pinned, 64);
                                }
                            }
                        })
                    })
                    .collect();
                let (tier, done) = (&tier, &done);
                let pins = scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        for key in 0..64 {
                            tier.unpin(&key);
                            tier.pin(&key);
                        }
                    }
                });
                inserts.into_iter().for_each(|thread| thread.join().unwrap());
                done.store(true, Ordering::Relaxed);
                pins.join().unwrap();
            });
            assert_eq!(tier.validate(), Ok(()));
            for (key, _) in tier.entries() {
                tier.pin(&key);
            }
            if tier.len() == 64 {
                let refused = tier.insert(1_000_000, 1, u64::MAX).unwrap_err();
                assert_eq!(refused.why, full);
                assert_eq!(
                    refused.to_string(),
                    "the value weighs 1, and 64 of the 64 that the tier may hold is pinned"
                );
            }
        }
    }
}

#[test]
fn a_pin_outlives_the_value_but_not_the_entry() {
    let clock = Arc::new(ManualClock::at(0));
    let tier = weighed(10, PolicyKind::Fifo, 1).clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let tier = tier.build().unwrap();
    assert!(!tier.pin(&1), "there is nothing to pin");
    tier.insert(1, 4, u64::MAX).unwrap();
    assert!(tier.pin(&1) && tier.pin(&1));
    tier.insert(1, 6, u64::MAX).unwrap();
    assert_eq!((tier.is_pinned(&1), tier.pinned_weight()), (true, 6));
    // It may grow to all that there is, and no further; nothing else is as large.
    tier.insert(1, 10, u64::MAX).unwrap();
    let refused = tier.insert(2, 1, u64::MAX).unwrap_err();
    assert_eq!(refused.why, Rejection::Pinned { weight: 1, pinned: 10, limit: 10 });
    assert_eq!((refused.key, refused.value, tier.stats().rejected), (2, 1, 1));
    assert_eq!(tier.insert(2, 0, u64::MAX).ok(), Some(()), "what weighs nothing fits");
    tier.insert(1, 3, 5).unwrap();
    assert_eq!(tier.pinned_weight(), 3);
    clock.advance(5);
    assert!(!tier.is_pinned(&1) && !tier.unpin(&1) && !tier.pin(&1), "it has expired");
    tier.insert(1, 3, u64::MAX).unwrap();
    assert!(!tier.is_pinned(&1), "another entry");
    assert_eq!(tier.pinned_weight(), 0);
    for leave in [
        |tier: &Tier<u64, u64>| assert!(tier.remove(&1)),
        |tier: &Tier<u64, u64>| assert!(tier.clear() > 0),
    ] {
        tier.insert(1, 3, u64::MAX).unwrap();
        assert!(tier.pin(&1));
        leave(&tier);
        assert_eq!(tier.pinned_weight(), 0);
        tier.insert(1, 3, u64::MAX).unwrap();
        assert!(!tier.is_pinned(&1));
        assert_eq!(tier.validate(), Ok(()));
    }
}

#[test]
fn pinned_entries_that_have_expired_give_their_room_whichever_shard_they_are_in() {
    for &policy in PolicyKind::ALL {
        let clock = Arc::new(ManualClock::at(0));
        let tier = weighed(64, policy, 8).clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let tier = tier.build().unwrap();
        for key in 0..64 {
            tier.insert(key, 1, if key % 2 == 0 { 10 } else { u64::MAX }).unwrap();
            tier.pin(&key);
        }
        assert!(tier.insert(100, 1, u64::MAX).is_err());
        clock.advance(10);
        tier.insert(100, 32, u64::MAX).unwrap();
        assert_eq!((tier.len(), tier.pinned_weight(), tier.stats().expired), (33, 32, 32));
        assert_eq!(tier.validate(), Ok(()));
    }
}

/// A policy that counts how often it is asked for a victim.
#[derive(Debug)]
struct Counting(Box<dyn Policy>, Arc<AtomicU64>);

impl Policy for Counting {
    fn on_hit(&self) -> OnHit {
        self.0.on_hit()
    }
    fn insert(&mut self, id: u32, arrival: Arrival, entries: &dyn Entries) {
        self.0.insert(id, arrival, entries);
    }
    fn overwrite(&mut self, id: u32, old_weight: u64, entries: &dyn Entries) {
        self.0.overwrite(id, old_weight, entries);
    }
    fn remove(&mut self, id: u32, entries: &dyn Entries) {
        self.0.remove(id, entries);
    }
    fn victim(&mut self, arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.victim(arrival, entries)
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn clear(&mut self) {
        self.0.clear();
    }
}

#[test]
fn all_searches_together_pass_a_pinned_entry_once() {
    for &policy in PolicyKind::ALL {
        let asked = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&asked);
        let tier = Tier::<u64, u64>::builder(Capacity::items(1_100)).shards(1);
        let tier =
            tier.policy_with(move || Box::new(Counting(policy.build(), Arc::clone(&counting))));
        let tier = tier.build().unwrap();
        for key in 0..1_000 {
            tier.insert(key, 0, u64::MAX).unwrap();
            tier.pin(&key);
        }
        (1_000..3_100).for_each(|key| tier.insert(key, 0, u64::MAX).unwrap());
        let asked = asked.load(Ordering::Relaxed);
        assert!((2_000..=3_000).contains(&asked), "{policy} was asked {asked} times");
        assert_eq!((tier.len(), tier.pinned_weight()), (1_100, 1_000));
        assert_eq!(tier.validate(), Ok(()));
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Insert(u64, u64),
    Get(u64),
    Remove(u64),
    Pin(u64),
    Unpin(u64),
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..40_u64;
    prop_oneof![
        12 => (key(), 0..12_u64).prop_map(|(key, weight)| Op::Insert(key, weight)),
        4 => key().prop_map(Op::Get),
        2 => key().prop_map(Op::Remove),
        4 => key().prop_map(Op::Pin),
        3 => key().prop_map(Op::Unpin),
        1 => Just(Op::Clear),
    ]
}

proptest! {
    #[test]
    fn random_operations(
        policy in prop::sample::select(PolicyKind::ALL), shard_bits in 0..3_u32, budget in 1..80_u64,
        ops in prop::collection::vec(op(), 0..300),
    ) {
        let tier = weighed(budget, policy, 1 << shard_bits).build().unwrap();
        let mut pins: HashMap<u64, u64> = HashMap::new();
        for op in ops {
            match op {
                Op::Insert(key, weight) => {
                    let pinned: u64 =
                        pins.iter().filter(|&(&other, _)| other != key).map(|(_, weight)| weight).sum();
                    let expected = if weight > budget {
                        Err(Rejection::TooLarge { weight, limit: budget })
                    } else if pinned + weight > budget {
                        Err(Rejection::Pinned { weight, pinned, limit: budget })
                    } else {
                        Ok(())
                    };
                    let done = tier.insert(key, weight, u64::MAX).map_err(|refused| refused.why);
                    prop_assert_eq!(done, expected);
                    if let (Ok(()), Some(pinned)) = (done, pins.get_mut(&key)) {
                        *pinned = weight;
                    }
                }
                Op::Get(key) => drop(tier.get(&key)),
                Op::Remove(key) => prop_assert!(tier.remove(&key) || pins.remove(&key).is_none()),
                Op::Pin(key) => if tier.pin(&key) {
                    pins.insert(key, tier.peek(&key).unwrap());
                },
                Op::Unpin(key) => prop_assert_eq!(tier.unpin(&key), pins.remove(&key).is_some()),
                Op::Clear => {
                    tier.clear();
                    pins.clear();
                }
            }
            if let Op::Remove(key) = op {
                pins.remove(&key);
            }
            for (key, weight) in &pins {
                prop_assert_eq!(tier.peek(key), Some(*weight));
            }
            prop_assert_eq!(tier.pinned_weight(), pins.values().sum::<u64>());
            prop_assert!(tier.weight() <= budget);
            prop_assert_eq!(tier.validate(), Ok(()));
        }
    }
}
