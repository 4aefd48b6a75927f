//! Runs a policy beside a slow and obvious model of it, and compares every victim.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::Policy;
use crate::memory::simulate::{Request, Simulator};

/// A policy as the paper or the textbook would write it, over keys.
pub(super) trait Model {
    fn hit(&mut self, key: u64);
    /// What is known of something that is about to be inserted; it comes back.
    fn arrive(&mut self, _key: u64, _weight: u64, _capacity: u64) -> u8 {
        0
    }
    fn evict(&mut self, capacity: u64, arrival: u8) -> Option<u64>;
    fn insert(&mut self, key: u64, weight: u64, capacity: u64, arrival: u8);
    fn overwrite(&mut self, key: u64, weight: u64);
    fn remove(&mut self, key: u64);
    /// Takes back what `evict` has just named.
    fn spare(&mut self, key: u64, weight: u64, capacity: u64) {
        let arrival = self.arrive(key, weight, capacity);
        self.insert(key, weight, capacity, arrival);
    }
}

/// What a policy promises of [`Policy::order`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The order in which `victim` names them.
    Exact,
    /// Every resident once.
    Complete,
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Request,
    Overwrite,
    Remove,
    Spare,
}

fn step<P: Policy>(
    cache: &mut Simulator<P>,
    model: &mut impl Model,
    (op, key, weight): (Op, u64, u64),
) -> Result<(), TestCaseError> {
    let capacity = cache.capacity();
    let (resident, request) = (cache.contains(key), Request::new(key).weighing(weight));
    let mut evicted = Vec::new();
    match op {
        Op::Request => {
            cache.request_with(&request, |key| evicted.push(key));
            if resident {
                model.hit(key);
                return Ok(());
            }
            let arrival = model.arrive(key, weight, capacity);
            for key in evicted {
                prop_assert_eq!(model.evict(capacity, arrival), Some(key));
            }
            model.insert(key, weight, capacity, arrival);
        }
        Op::Overwrite if resident => {
            cache.overwrite(&request, |key| evicted.push(key));
            model.overwrite(key, weight);
            for key in evicted {
                prop_assert_eq!(model.evict(capacity, 0), Some(key));
            }
        }
        Op::Remove if resident => {
            cache.remove(key);
            model.remove(key);
        }
        Op::Spare => {
            if let Some((key, weight)) = cache.spare_one() {
                prop_assert_eq!(model.evict(capacity, 0), Some(key));
                model.spare(key, weight, capacity);
            }
        }
        Op::Overwrite | Op::Remove => {}
    }
    Ok(())
}

fn ordered<P: Policy>(cache: &Simulator<P>) -> Vec<u64> {
    let mut keys = Vec::new();
    cache.order(|key| {
        keys.push(key);
        keys.len() < cache.len() + 1
    });
    keys
}

/// Runs random operations on both, and compares every victim; then `order`, with what leaves
/// when everything has to.
pub(super) fn check_against_model<P: Policy, M: Model>(
    policy: impl Fn() -> P,
    model: impl Fn() -> M,
    order: Order,
) {
    let op = prop_oneof![
        16 => Just(Op::Request),
        2 => Just(Op::Overwrite),
        2 => Just(Op::Remove),
        1 => Just(Op::Spare),
    ];
    let unit_or_not = prop_oneof![Just(1..2_u64), Just(0..13_u64)];
    let ops = unit_or_not.prop_flat_map(move |weight| vec((op.clone(), 0..60_u64, weight), 0..300));
    let strategy = (ops, 1..120_u64);
    let cases = Config { cases: Config::default().cases / 2, ..Config::default() };
    let outcome = TestRunner::new(cases).run(&strategy, |(ops, capacity)| {
        let (mut model, mut cache) = (model(), Simulator::new(policy(), capacity));
        for (op, key, weight) in ops {
            step(&mut cache, &mut model, (op, key, weight.min(capacity)))?;
            prop_assert_eq!(cache.validate(), Ok(()));
        }
        let mut named = ordered(&cache);
        let mut left: Vec<u64> = std::iter::from_fn(|| cache.evict()).collect();
        if order == Order::Complete {
            named.sort_unstable();
            left.sort_unstable();
        }
        prop_assert_eq!(named, left);
        Ok(())
    });
    if let Err(why) = outcome {
        panic!("{why}");
    }
}
