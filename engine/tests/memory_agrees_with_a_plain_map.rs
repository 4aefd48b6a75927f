//! Promise: without bounds the tier does what a map with deadlines does; with bounds it finds
//! nothing else.
//!
//! Method: random operations on both, with a clock that only the test moves; then threads,
//! where each key's values only ever grow.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use larder_engine::memory::{Capacity, PolicyKind, Tier};
use larder_engine::{Clock, ManualClock};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Op {
    Get(u8),
    Insert(u8, u32, u64),
    InsertIfGreater(u8, u32),
    Remove(u8),
    Take(u8),
    RemoveIfEven(u8),
    Purge,
    Clear,
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..30_u8;
    prop_oneof![
        6 => key().prop_map(Op::Get),
        8 => (key(), any::<u32>(), 0..20_u64).prop_map(|(key, value, ttl)| Op::Insert(key, value, ttl)),
        3 => (key(), any::<u32>()).prop_map(|(key, value)| Op::InsertIfGreater(key, value)),
        2 => key().prop_map(Op::Remove),
        2 => key().prop_map(Op::Take),
        2 => key().prop_map(Op::RemoveIfEven),
        1 => Just(Op::Purge),
        1 => Just(Op::Clear),
        2 => (0..5_u64).prop_map(Op::Wait),
    ]
}

/// A plain map with deadlines.
#[derive(Default)]
struct Model(HashMap<u8, (u32, u64)>);

impl Model {
    fn live(&self, key: u8, now: u64) -> Option<u32> {
        self.0.get(&key).filter(|entry| now < entry.1).map(|entry| entry.0)
    }
}

fn run(ops: &[Op], capacity: Capacity, policy: PolicyKind) -> Result<(), TestCaseError> {
    let clock = Arc::new(ManualClock::at(0));
    let tier = Tier::<u8, u32>::builder(capacity).policy(policy).shards(4);
    let tier = tier.clock(Arc::clone(&clock) as Arc<dyn Clock>).build().unwrap();
    let mut model = Model::default();
    // A bounded tier may have lost anything, but has nothing else.
    let same = |found: Option<u32>, expected: Option<u32>| {
        found == expected || (found.is_none() && capacity != Capacity::Unbounded)
    };
    for &op in ops {
        let now = clock.now_ms();
        match op {
            Op::Get(key) => prop_assert!(same(tier.get(&key), model.live(key, now))),
            Op::Insert(key, value, ttl) => {
                // One in ten for ever.
                let deadline = if ttl < 2 { u64::MAX } else { now + ttl - 2 };
                tier.insert(key, value, deadline).unwrap();
                prop_assert_eq!(tier.contains(&key), now < deadline);
                model.0.insert(key, (value, deadline));
            }
            Op::InsertIfGreater(key, value) => {
                let mut seen = None;
                let inserted = tier.insert_if(key, value, u64::MAX, |current| {
                    seen = current.copied();
                    current.is_none_or(|&current| current < value)
                });
                prop_assert!(same(seen, model.live(key, now)));
                if inserted.unwrap() {
                    model.0.insert(key, (value, u64::MAX));
                }
            }
            Op::Remove(key) => {
                let removed = tier.remove(&key);
                prop_assert!(same(removed.then_some(0), model.live(key, now).map(|_| 0)));
                model.0.remove(&key);
            }
            Op::Take(key) => {
                prop_assert!(same(tier.take(&key), model.live(key, now)));
                model.0.remove(&key);
            }
            Op::RemoveIfEven(key) => {
                let expected = model.live(key, now).filter(|value| value % 2 == 0);
                let removed = tier.remove_if(&key, |value| value % 2 == 0);
                prop_assert!(same(removed.then_some(0), expected.map(|_| 0)));
                if expected.is_some() {
                    model.0.remove(&key);
                }
            }
            Op::Purge => drop(tier.purge_expired()),
            Op::Clear => {
                tier.clear();
                model.0.clear();
            }
            Op::Wait(ms) => clock.advance(ms),
        }
        prop_assert_eq!(tier.validate(), Ok(()));
    }
    let now = clock.now_ms();
    for (key, value) in tier.entries() {
        prop_assert_eq!(model.live(key, now), Some(value));
    }
    if capacity == Capacity::Unbounded {
        let live = model.0.keys().filter(|&&key| model.live(key, now).is_some()).count();
        prop_assert_eq!(tier.entries().len(), live);
    }
    Ok(())
}

proptest! {
    #[test]
    fn without_bounds(
        ops in prop::collection::vec(op(), 0..200), policy in prop::sample::select(PolicyKind::ALL),
    ) {
        run(&ops, Capacity::Unbounded, policy)?;
    }

    #[test]
    fn with_bounds(
        ops in prop::collection::vec(op(), 0..200), policy in prop::sample::select(PolicyKind::ALL),
        items in 1..30_u64,
    ) {
        run(&ops, Capacity::items(items), policy)?;
    }
}

#[test]
fn of_many_threads_that_add_exactly_one_wins_each_key() {
    let tier = Tier::builder(Capacity::Unbounded).build().unwrap();
    let wins: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let tier = &tier;
                scope.spawn(move || {
                    let add = |key| {
                        tier.insert_if(key, thread, u64::MAX, |current| current.is_none()).unwrap()
                    };
                    (0..1_000).filter(|&key| add(key)).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(wins, 1_000);
}

#[test]
fn no_reader_sees_a_key_go_back_in_time() {
    // Each key is written by one thread, with growing values, through a tier that is too
    // small; a reader may miss, but never sees less than it saw before.
    let tier = Tier::<u64, u64>::builder(Capacity::items(24)).shards(2).build().unwrap();
    thread::scope(|scope| {
        for writer in 0..2_u64 {
            let tier = &tier;
            scope.spawn(move || {
                for step in 1..15_000_u64 {
                    let key = step % 16 * 2 + writer;
                    tier.insert(key, step, u64::MAX).unwrap();
                    if step % 11 == 0 {
                        tier.remove(&key);
                        assert_eq!(tier.get(&key), None, "nobody else writes key {key}");
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut newest = HashMap::new();
                for step in 0..30_000_u64 {
                    let key = step * 7 % 32;
                    let Some(seen) = tier.get(&key) else { continue };
                    let before = newest.insert(key, seen).unwrap_or(0);
                    assert!(before <= seen, "key {key} went from {before} back to {seen}");
                }
            });
        }
    });
    assert_eq!(tier.validate(), Ok(()));
}
