//! Drives a policy without a tier, beside a slow and obvious model of it.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{Entries, Policy};
use crate::sync::{AtomicU8, Ordering};

/// A policy as the paper or the textbook would write it, over keys.
pub(super) trait Model {
    fn hit(&mut self, key: u64);
    /// Whether `key` is a ghost; it is none afterwards.
    fn arrive(&mut self, _key: u64) -> bool {
        false
    }
    fn insert(&mut self, key: u64, weight: u64, capacity: u64, ghost: bool);
    fn overwrite(&mut self, key: u64, weight: u64);
    fn remove(&mut self, key: u64);
    fn evict(&mut self, capacity: u64) -> Option<u64>;
}

#[derive(Debug)]
struct Entry {
    key: u64,
    weight: u64,
    hits: AtomicU8,
}

#[derive(Debug, Default)]
struct Shelf {
    capacity: u64,
    used: u64,
    entries: Vec<Entry>,
}

/// A bijection that mixes well.
fn mix(key: u64) -> u64 {
    let key = (key ^ (key >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (key ^ (key >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB)
}

impl Entries for Shelf {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn weight(&self, id: u32) -> u64 {
        self.entries[id as usize].weight
    }

    fn hash(&self, id: u32) -> u64 {
        mix(self.entries[id as usize].key)
    }

    fn hits(&self, id: u32) -> u8 {
        self.entries[id as usize].hits.load(Ordering::Relaxed)
    }

    fn set_hits(&self, id: u32, hits: u8) {
        self.entries[id as usize].hits.store(hits, Ordering::Relaxed);
    }
}

/// A cache of weights only.
struct Simulator<P> {
    policy: P,
    shelf: Shelf,
    ids: HashMap<u64, u32>,
    free: Vec<u32>,
}

impl<P: Policy> Simulator<P> {
    fn evict(&mut self, arrival: super::Arrival) -> u64 {
        let id = self.policy.victim(arrival, &self.shelf).expect("something is resident");
        self.forget(id)
    }

    fn forget(&mut self, id: u32) -> u64 {
        let Entry { key, weight, .. } = self.shelf.entries[id as usize];
        assert_eq!(self.ids.remove(&key), Some(id), "a victim is resident");
        self.shelf.used -= weight;
        self.free.push(id);
        key
    }

    /// Uses `key`, and inserts it if it is not there. The keys that had to leave.
    fn request(&mut self, key: u64, weight: u64) -> Vec<u64> {
        if let Some(&id) = self.ids.get(&key) {
            self.policy.on_hit().count(&self.shelf.entries[id as usize].hits);
            if self.policy.on_hit().replay {
                self.policy.hit(id, &self.shelf);
            }
            return Vec::new();
        }
        let arrival = self.policy.arrive(mix(key), weight, &self.shelf);
        let mut evicted = Vec::new();
        while self.shelf.used + weight > self.shelf.capacity {
            evicted.push(self.evict(arrival));
        }
        let entry = Entry { key, weight, hits: AtomicU8::new(0) };
        let id = match self.free.pop() {
            Some(id) => {
                self.shelf.entries[id as usize] = entry;
                id
            }
            None => {
                self.shelf.entries.push(entry);
                u32::try_from(self.shelf.entries.len() - 1).unwrap()
            }
        };
        self.shelf.used += weight;
        self.ids.insert(key, id);
        self.policy.insert(id, arrival, &self.shelf);
        evicted
    }

    fn overwrite(&mut self, key: u64, weight: u64) -> Vec<u64> {
        let id = self.ids[&key];
        let old = std::mem::replace(&mut self.shelf.entries[id as usize].weight, weight);
        self.shelf.used = self.shelf.used - old + weight;
        self.policy.overwrite(id, old, &self.shelf);
        let mut evicted = Vec::new();
        while self.shelf.used > self.shelf.capacity {
            evicted.push(self.evict(super::Arrival::NEW));
        }
        evicted
    }

    fn remove(&mut self, key: u64) {
        let id = self.ids[&key];
        self.policy.remove(id, &self.shelf);
        self.forget(id);
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Request,
    Overwrite,
    Remove,
}

/// Runs random operations on both, and compares every victim.
pub(super) fn check_against_model<P: Policy, M: Model>(
    policy: impl Fn() -> P,
    model: impl Fn() -> M,
) {
    let op = prop_oneof![8 => Just(Op::Request), 1 => Just(Op::Overwrite), 1 => Just(Op::Remove)];
    let unit_or_not = prop_oneof![Just(1..2_u64), Just(0..13_u64)];
    let ops = unit_or_not.prop_flat_map(move |weight| vec((op.clone(), 0..60_u64, weight), 0..600));
    let strategy = (ops, 1..120_u64);
    let outcome = TestRunner::default().run(&strategy, |(ops, capacity)| {
        let (mut model, shelf) = (model(), Shelf { capacity, ..Shelf::default() });
        let mut cache =
            Simulator { policy: policy(), shelf, ids: HashMap::new(), free: Vec::new() };
        for (op, key, weight) in ops {
            let weight = weight.min(capacity);
            let resident = cache.ids.contains_key(&key);
            let (evicted, ghost) = match op {
                Op::Request if resident => {
                    model.hit(key);
                    (cache.request(key, weight), None)
                }
                Op::Request => (cache.request(key, weight), Some(model.arrive(key))),
                Op::Overwrite if resident => {
                    model.overwrite(key, weight);
                    (cache.overwrite(key, weight), None)
                }
                Op::Remove if resident => {
                    model.remove(key);
                    cache.remove(key);
                    continue;
                }
                Op::Overwrite | Op::Remove => continue,
            };
            for key in evicted {
                prop_assert_eq!(model.evict(capacity), Some(key));
            }
            if let Some(ghost) = ghost {
                model.insert(key, weight, capacity, ghost);
            }
            prop_assert_eq!(cache.policy.len(), cache.ids.len());
            prop_assert_eq!(cache.policy.validate(&cache.shelf), Ok(()));
        }
        Ok(())
    });
    if let Err(why) = outcome {
        panic!("{why}");
    }
}
