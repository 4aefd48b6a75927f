//! Promise: `coldest`, `hottest` and `drain` name live entries in the order in which they would
//! leave, and draining hands out exactly what leaves.
//!
//! Method: random operations on FIFO and LRU against plain lists; every policy, over several
//! shards, against what is there; a policy that does not tell its order.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use larder_engine::memory::{
    Arrival, Capacity, Cause, Entries, OnHit, Policy, PolicyKind, Tier, TierBuilder,
};
use larder_engine::{Clock, ManualClock};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Op {
    Get(u8),
    Insert(u8),
    Remove(u8),
    Pin(u8),
    Unpin(u8),
    Coldest(usize),
    Hottest(usize),
    Drain(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..20_u8;
    let count = || 0..24_usize;
    prop_oneof![
        5 => key().prop_map(Op::Get),
        8 => key().prop_map(Op::Insert),
        1 => key().prop_map(Op::Remove),
        1 => key().prop_map(Op::Pin),
        1 => key().prop_map(Op::Unpin),
        3 => count().prop_map(Op::Coldest),
        3 => count().prop_map(Op::Hottest),
        1 => (0..4_usize).prop_map(Op::Drain),
    ]
}

/// Keys, the next to leave first.
#[derive(Default)]
struct Model {
    keys: Vec<u8>,
    pinned: HashSet<u8>,
    moves: bool,
}

impl Model {
    fn touch(&mut self, key: u8) {
        if self.moves && self.keys.contains(&key) {
            self.keys.retain(|&other| other != key);
            self.keys.push(key);
        }
    }

    fn remove(&mut self, key: u8) {
        self.keys.retain(|&other| other != key);
        self.pinned.remove(&key);
    }

    fn evictable(&self) -> Vec<u8> {
        self.keys.iter().copied().filter(|key| !self.pinned.contains(key)).collect()
    }
}

fn keys(entries: Vec<(u8, ())>) -> Vec<u8> {
    entries.into_iter().map(|(key, ())| key).collect()
}

fn run(ops: &[Op], policy: PolicyKind) -> Result<(), TestCaseError> {
    let tier = Tier::<u8, ()>::builder(Capacity::items(16)).policy(policy).shards(1);
    let tier = tier.build().unwrap();
    let mut model = Model { moves: policy == PolicyKind::Lru, ..Model::default() };
    for &op in ops {
        match op {
            Op::Get(key) => {
                tier.get(&key);
                model.touch(key);
            }
            // So that nothing is evicted, which would have pinned entries come back as new.
            Op::Insert(key) if model.keys.len() == 16 && !model.keys.contains(&key) => {}
            Op::Insert(key) => {
                tier.insert(key, (), u64::MAX).unwrap();
                model.touch(key);
                if !model.keys.contains(&key) {
                    model.keys.push(key);
                }
            }
            Op::Remove(key) => {
                tier.remove(&key);
                model.remove(key);
            }
            Op::Pin(key) => {
                if tier.pin(&key) {
                    model.pinned.insert(key);
                }
            }
            Op::Unpin(key) => prop_assert_eq!(tier.unpin(&key), model.pinned.remove(&key)),
            Op::Coldest(count) => {
                let loose = model.evictable();
                let found = keys(tier.coldest(count));
                prop_assert_eq!(found.len(), count.min(model.keys.len()));
                let (first, last) = found.split_at(count.min(loose.len()));
                prop_assert_eq!(first, &loose[..first.len()]);
                prop_assert!(last.iter().all(|key| model.pinned.contains(key)));
            }
            Op::Hottest(count) => {
                let mut loose = model.evictable();
                loose.reverse();
                let found = keys(tier.hottest(count));
                prop_assert_eq!(found.len(), count.min(model.keys.len()));
                let (first, last) = found.split_at(count.min(model.pinned.len()));
                prop_assert!(first.iter().all(|key| model.pinned.contains(key)));
                prop_assert_eq!(last, &loose[..last.len()]);
            }
            Op::Drain(count) => {
                let mut expected = model.evictable();
                expected.truncate(count);
                prop_assert_eq!(keys(tier.drain(count)), expected.clone());
                expected.into_iter().for_each(|key| model.remove(key));
            }
        }
        prop_assert_eq!(tier.len(), model.keys.len() as u64);
        prop_assert_eq!(tier.validate(), Ok(()));
    }
    Ok(())
}

proptest! {
    #[test]
    fn one_shard_against_a_list(
        ops in prop::collection::vec(op(), 0..200),
        policy in prop::sample::select(&[PolicyKind::Fifo, PolicyKind::Lru][..]),
    ) {
        run(&ops, policy)?;
    }
}

#[test]
fn draining_hands_out_what_leaves_and_nothing_else() {
    for &policy in PolicyKind::ALL {
        for shards in [1, 8] {
            let heard: Arc<Mutex<Vec<(u64, Cause)>>> = Arc::default();
            let tell = Arc::clone(&heard);
            let clock = Arc::new(ManualClock::at(0));
            let tier = Tier::<u64, u64>::builder(Capacity::items(1_000)).policy(policy);
            let tier = tier.shards(shards).clock(Arc::clone(&clock) as Arc<dyn Clock>);
            let listener =
                move |&key: &u64, _: &u64, cause| tell.lock().unwrap().push((key, cause));
            let tier = tier.listener(listener).build().unwrap();
            for key in 0..600 {
                tier.insert(key, key, if key % 5 == 0 { 10 } else { u64::MAX }).unwrap();
                tier.get(&(key / 2));
                if key % 7 == 0 {
                    tier.pin(&key);
                }
            }
            clock.advance(10);
            let (all, live) = (tier.coldest(usize::MAX), tier.entries());
            assert_eq!((all.len(), live.len()), (480, 480), "{policy}: the live ones");
            assert_eq!(HashSet::<_>::from_iter(all), HashSet::<_>::from_iter(live));
            // Iterating has taken out the dead.
            assert_eq!(tier.len(), 480);
            heard.lock().unwrap().clear();
            let next = tier.coldest(100);
            assert!(next.iter().all(|(key, value)| key == value && key % 7 != 0 && key % 5 != 0));
            let drained = tier.drain(100);
            if shards == 1 {
                assert_eq!(drained, next, "{policy}");
            }
            let told = heard.lock().unwrap().clone();
            let told: HashSet<_> = told.into_iter().collect();
            assert_eq!(told.len(), 100);
            assert!(drained.iter().all(|&(key, _)| told.contains(&(key, Cause::Invalidated))));
            assert!(drained.iter().all(|(key, _)| !tier.contains(key)));
            assert_eq!((tier.len(), tier.weight(), tier.stats().removes), (380, 380, 100));
            let pinned = (0..600).filter(|key| key % 7 == 0 && key % 5 != 0).count();
            assert_eq!(tier.drain(usize::MAX).len(), 380 - pinned, "all but what is pinned");
            assert!(tier.iter().all(|(key, _)| key % 7 == 0 && tier.is_pinned(&key)));
            assert_eq!(tier.hottest(1_000).len(), pinned);
            assert_eq!(tier.validate(), Ok(()));
        }
    }
}

#[test]
fn shards_are_merged_in_proportion() {
    let tier = Tier::<u64, ()>::builder(Capacity::Unbounded).policy(PolicyKind::Fifo).shards(4);
    let tier = tier.build().unwrap();
    (0..1_000).for_each(|key| tier.insert(key, (), u64::MAX).unwrap());
    // Exactly the oldest tenth of each shard, which is near the oldest tenth of all.
    let coldest = tier.coldest(100);
    assert_eq!(coldest.len(), 100);
    assert!(coldest.iter().all(|&(key, ())| key < 300), "{coldest:?}");
    assert!(tier.hottest(100).iter().all(|&(key, ())| key >= 700));
}

/// Evicts what came last, and does not tell its order, or only a part of it.
#[derive(Debug, Default)]
struct Lifo(Vec<u32>, bool);

impl Policy for Lifo {
    fn on_hit(&self) -> OnHit {
        OnHit::NOTHING
    }
    fn insert(&mut self, id: u32, _: Arrival, _: &dyn Entries) {
        self.0.push(id);
    }
    fn overwrite(&mut self, _: u32, _: u64, _: &dyn Entries) {}
    fn remove(&mut self, id: u32, _: &dyn Entries) {
        self.0.retain(|&other| other != id);
    }
    fn victim(&mut self, _: Arrival, _: &dyn Entries) -> Option<u32> {
        self.0.pop()
    }
    fn order(&self, _: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        if self.1 {
            // Wrong besides: what it names is not there, or was named before; and without an end.
            while self.0.iter().rev().take(2).chain(&[1_000]).all(|&id| f(id)) {}
        }
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn clear(&mut self) {
        self.0.clear();
    }
}

#[test]
fn a_policy_that_does_not_tell_is_no_obstacle() {
    let tier = |tells| -> Tier<u8, ()> {
        let tier: TierBuilder<u8, ()> = Tier::builder(Capacity::items(10)).shards(1);
        let tier = tier.policy_with(move || Box::new(Lifo(Vec::new(), tells))).build().unwrap();
        (0..10).for_each(|key| tier.insert(key, (), u64::MAX).unwrap());
        tier
    };
    for tells in [false, true] {
        let tier = tier(tells);
        let all: HashSet<u8> = keys(tier.coldest(100)).into_iter().collect();
        assert_eq!(all.len(), 10);
        if tells {
            assert_eq!(keys(tier.coldest(2)), [9, 8]);
        }
        assert_eq!(keys(tier.drain(4)).len(), 4);
        assert_eq!((tier.len(), keys(tier.hottest(100)).len()), (6, 6));
        assert_eq!(tier.validate(), Ok(()));
    }
}

#[test]
fn namespaces_have_an_order_of_their_own() {
    let tier =
        Tier::builder(Capacity::items(100)).policy(PolicyKind::Lru).shards(1).build().unwrap();
    let (one, other) = (tier.namespace("one"), tier.namespace("other"));
    for key in 0..6 {
        for (at, space) in [&one, &other].into_iter().enumerate() {
            space.insert(key, at * 10 + key, u64::MAX).unwrap();
        }
        tier.insert(key, 100 + key, u64::MAX).unwrap();
    }
    one.get(&0);
    assert_eq!(one.coldest(2), [(1, 1), (2, 2)]);
    assert_eq!(one.hottest(1), [(0, 0)]);
    assert_eq!(other.coldest(1), [(0, 10)]);
    other.pin(&0);
    assert_eq!(other.drain(2), [(1, 11), (2, 12)]);
    assert_eq!((other.drain(9).len(), other.coldest(9)), (3, vec![(0, 10)]));
    assert_eq!((one.iter().count(), tier.iter().count()), (6, 6), "others are as they were");
    tier.validate().unwrap();
}
