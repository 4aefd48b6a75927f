//! A policy that learns from a sample of the keys hears of their hits, and of no others.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{Arc, Mutex};

use larder_engine::memory::{Arrival, Capacity, Entries, OnHit, Policy, Tier};

/// A queue that samples.
#[derive(Debug)]
struct Sampling {
    queue: Vec<u32>,
    /// Hashes of newcomers, and of hits.
    told: Arc<Mutex<(Vec<u64>, Vec<u64>)>>,
}

const MASK: u64 = 7;

impl Policy for Sampling {
    fn on_hit(&self) -> OnHit {
        OnHit::count_to(3)
    }

    fn sample(&self) -> Option<u64> {
        // From the thousandth newcomer on it has learnt enough.
        (self.told.lock().unwrap().0.len() < 1_000).then_some(MASK)
    }

    fn insert(&mut self, id: u32, _: Arrival, entries: &dyn Entries) {
        self.queue.push(id);
        self.told.lock().unwrap().0.push(entries.hash(id));
    }

    fn hit(&mut self, id: u32, entries: &dyn Entries) {
        self.told.lock().unwrap().1.push(entries.hash(id));
    }

    fn overwrite(&mut self, _: u32, _: u64, _: &dyn Entries) {}

    fn remove(&mut self, id: u32, _: &dyn Entries) {
        self.queue.retain(|&other| other != id);
    }

    fn victim(&mut self, _: Arrival, _: &dyn Entries) -> Option<u32> {
        (!self.queue.is_empty()).then(|| self.queue.remove(0))
    }

    fn len(&self) -> usize {
        self.queue.len()
    }

    fn clear(&mut self) {
        self.queue.clear();
    }
}

#[test]
fn hits_of_sampled_keys_are_replayed_and_no_others() {
    let told = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let policy = {
        let told = Arc::clone(&told);
        move || -> Box<dyn Policy> {
            Box::new(Sampling { queue: Vec::new(), told: Arc::clone(&told) })
        }
    };
    let tier = Tier::builder(Capacity::Unbounded).shards(1).policy_with(policy).build().unwrap();
    for key in 0..999_u64 {
        tier.insert(key, key, u64::MAX).unwrap();
    }
    for _ in 0..2 {
        assert!((0..999).all(|key| tier.get(&key) == Some(key)));
        assert!((0..999).all(|key| tier.peek_with(&key, |_| ()).is_some()), "not a use");
    }
    tier.insert(999, 999, u64::MAX).unwrap();
    {
        let (newcomers, hits) = &*told.lock().unwrap();
        let sampled: Vec<u64> =
            newcomers[..999].iter().copied().filter(|hash| hash & MASK == 0).collect();
        assert!((60..200).contains(&sampled.len()), "about an eighth: {}", sampled.len());
        assert_eq!(*hits, [sampled.clone(), sampled].concat(), "in their order");
    }
    // The sample has ended with the last newcomer.
    let before = told.lock().unwrap().1.len();
    assert!((0..999).all(|key| tier.get(&key) == Some(key)));
    tier.remove(&0);
    assert_eq!(told.lock().unwrap().1.len(), before);
}
