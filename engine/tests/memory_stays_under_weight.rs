//! Promise: what the tier holds never weighs more than its budget, not even during an insert,
//! and no shard refuses or evicts what the tier as a whole could hold.
//!
//! Method: random writes on every policy, checked after each step; huge entries in every
//! shard; threads that insert entries of up to the whole budget while another one watches.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use larder_engine::memory::{Capacity, PolicyKind, Tier};
use proptest::prelude::*;

fn weighed(budget: u64, policy: PolicyKind, shards: usize) -> Tier<u64, u64> {
    Tier::builder(Capacity::weight(budget))
        .weigher(|_, &weight| weight)
        .policy(policy)
        .shards(shards)
        .build()
        .unwrap()
}

fn policies() -> impl Strategy<Value = PolicyKind> {
    proptest::sample::select(PolicyKind::ALL)
}

proptest! {
    #[test]
    fn after_every_write(
        policy in policies(), shard_bits in 0..5_u32, budget in 1..300_u64,
        writes in prop::collection::vec((0..80_u64, 0..60_u64, prop::bool::weighted(0.2)), 1..300),
    ) {
        let tier = weighed(budget, policy, 1 << shard_bits);
        for (key, weight, remove) in writes {
            if remove {
                tier.remove(&key);
            } else {
                let fits = weight <= budget;
                prop_assert_eq!(tier.insert(key, weight, u64::MAX).is_ok(), fits);
                // What was just inserted is there: it was not its own victim.
                prop_assert!(!fits || tier.contains(&key));
            }
            let held: u64 = tier.entries().iter().map(|&(_, weight)| weight).sum();
            prop_assert_eq!(tier.weight(), held);
            prop_assert!(held <= budget);
        }
        prop_assert_eq!(tier.validate(), Ok(()));
    }

    #[test]
    fn nothing_leaves_before_the_budget_is_full(
        policy in policies(), shard_bits in 0..7_u32, weights in prop::collection::vec(0..50_u64, 1..100),
    ) {
        let tier = weighed(weights.iter().sum::<u64>().max(1), policy, 1 << shard_bits);
        for (key, &weight) in (0..).zip(&weights) {
            tier.insert(key, weight, u64::MAX).unwrap();
        }
        prop_assert_eq!(tier.len(), weights.len() as u64);
        prop_assert_eq!(tier.stats().evictions, 0);
    }
}

#[test]
fn one_huge_entry_fits_whichever_shard_it_belongs_to() {
    for &policy in PolicyKind::ALL {
        for huge in 0..64 {
            let tier = weighed(1_000, policy, 16);
            (1_000..2_000).for_each(|key| tier.insert(key, 1, u64::MAX).unwrap());
            tier.insert(huge, 1_000, u64::MAX).unwrap();
            assert!(tier.contains(&huge));
            assert_eq!((tier.len(), tier.weight()), (1, 1_000));
            assert_eq!(tier.validate(), Ok(()));
        }
    }
}

#[test]
fn an_entry_that_grows_evicts_others_before_itself() {
    for &policy in PolicyKind::ALL {
        for shards in [1, 8] {
            let tier = weighed(100, policy, shards);
            (0..100).for_each(|key| tier.insert(key, 1, u64::MAX).unwrap());
            for weight in [10, 50, 100, 100, 1] {
                tier.insert(0, weight, u64::MAX).unwrap();
                assert_eq!(tier.get(&0), Some(weight), "{policy} with {shards} shards");
                assert_eq!(tier.validate(), Ok(()));
            }
            assert_eq!(tier.weight(), 1);
        }
    }
}

#[test]
fn shards_that_lent_room_get_it_back() {
    let tier = weighed(8_000, PolicyKind::Fifo, 8);
    (0..8_000).for_each(|key| tier.insert(key, 1, u64::MAX).unwrap());
    tier.insert(u64::MAX, 4_000, u64::MAX).unwrap();
    (8_000..40_000).for_each(|key| tier.insert(key, 1, u64::MAX).unwrap());
    assert!(!tier.contains(&u64::MAX), "it is long past its turn");
    // The 8,000 newest would be held by one queue; the shards together hold nearly those.
    assert_eq!(tier.weight(), 8_000);
    let recent = (40_000 - 7_000..40_000).filter(|key| tier.contains(key)).count();
    assert!(recent > 6_700, "{recent} of the 7,000 newest");
}

#[test]
fn with_threads_that_all_want_most_of_it() {
    for shards in [1, 8] {
        let tier = weighed(100, PolicyKind::S3Fifo, shards);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|thread| {
                    let tier = &tier;
                    scope.spawn(move || {
                        for step in 0..3_000 {
                            let weight = [100, 3, 60, 51, 1][(step % 5) as usize];
                            tier.insert(step * 7 % 50 + thread, weight, u64::MAX).unwrap();
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(tier.weight() <= 100);
                    assert_eq!(tier.validate(), Ok(()));
                }
            });
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let held: u64 = tier.entries().iter().map(|&(_, weight)| weight).sum();
        assert_eq!(tier.weight(), held, "all that was borrowed has been given back");
    }
}
