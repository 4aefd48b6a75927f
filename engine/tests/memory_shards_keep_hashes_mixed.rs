//! Hashes that the policy of one shard sees are mixed as those of all keys are, so that its ghosts,
//! sketches and samples spread as they do in a tier of one shard.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use larder_engine::memory::{Arrival, Capacity, Entries, OnHit, Policy, Tier};

/// Hashes of the entries of each shard.
type Seen = Arc<Mutex<Vec<Vec<u64>>>>;

/// Evicts nothing, and notes hashes.
#[derive(Debug)]
struct Noting {
    shard: usize,
    seen: Seen,
    ids: HashSet<u32>,
}

impl Policy for Noting {
    fn on_hit(&self) -> OnHit {
        OnHit::NOTHING
    }

    fn insert(&mut self, id: u32, _: Arrival, entries: &dyn Entries) {
        self.ids.insert(id);
        self.seen.lock().unwrap()[self.shard].push(entries.hash(id));
    }

    fn overwrite(&mut self, _: u32, _: u64, _: &dyn Entries) {}

    fn remove(&mut self, id: u32, _: &dyn Entries) {
        self.ids.remove(&id);
    }

    fn victim(&mut self, _: Arrival, _: &dyn Entries) -> Option<u32> {
        let id = self.ids.iter().next().copied()?;
        self.ids.take(&id)
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn clear(&mut self) {
        self.ids.clear();
    }
}

#[test]
fn keys_of_one_shard_have_nothing_in_common_that_policies_look_at() {
    let seen = Seen::default();
    let make = {
        let seen = Arc::clone(&seen);
        move || -> Box<dyn Policy> {
            let mut shards = seen.lock().unwrap();
            shards.push(Vec::new());
            let (shard, seen) = (shards.len() - 1, Arc::clone(&seen));
            Box::new(Noting { shard, seen, ids: HashSet::new() })
        }
    };
    let tier = Tier::builder(Capacity::Unbounded).shards(16).policy_with(make).build().unwrap();
    for key in 0..32_000_u64 {
        tier.insert(key, (), u64::MAX).unwrap();
    }
    let seen = seen.lock().unwrap();
    let shards: Vec<_> = seen.iter().filter(|hashes| !hashes.is_empty()).collect();
    assert_eq!(shards.len(), 16, "all shards are used");
    for hashes in shards {
        assert!((1_500..2_500).contains(&hashes.len()), "evenly: {}", hashes.len());
        // Buckets of ghosts and blocks of sketches; samples.
        for lowest in [0, 8, 16, 24] {
            let values: HashSet<u64> = hashes.iter().map(|hash| hash >> lowest & 0xFF).collect();
            assert!(values.len() > 250, "bits from {lowest} on: {} of 256", values.len());
        }
    }
}
