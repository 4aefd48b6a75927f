//! Greedy dual, by size and frequency.

use super::heap::Heap;
use super::{Arrival, Entries, OnHit, Policy, cover, offer};

/// GDSF: what is worth least per unit of weight leaves first, and worth fades.
///
/// Source: Cherkasova, "Improving WWW proxies performance with greedy-dual-size-frequency
/// caching policy", HP Laboratories report HPL-98-69R1, 1998, section 4. An entry ranks at
/// L + uses × cost ÷ weight, computed whenever it is used; L is the rank of the last victim, so
/// what is not used any more is overtaken in time. (With costs and weights of 1 this is LFU with
/// dynamic ageing: Arlitt, Cherkasova, Dilley, Friedrich, Jin, "Evaluating content management
/// techniques for web proxy caches", 1999.)
///
/// Costs 28 bytes per entry; a hit takes O(log n) and is replayed under the lock.
///
/// Choices: uses are forgotten on eviction, and counted up to 2³². Among equals, what was used
/// least recently leaves first. An overwrite keeps the uses and is one; the new weight and cost
/// count. What weighs nothing counts as weighing 1.
#[derive(Debug, Default)]
pub struct Gdsf {
    heap: Heap<Rank>,
    uses: Vec<u32>,
    /// The worth of the last victim.
    faded: f64,
    now: u64,
}

/// By worth, and among equals by time.
#[derive(Debug, Clone, Copy)]
struct Rank {
    worth: f64,
    used_at: u64,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.worth.total_cmp(&other.worth).then(self.used_at.cmp(&other.used_at))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

impl Gdsf {
    /// Counts a use, and says where that ranks.
    fn use_once(&mut self, id: u32, entries: &dyn Entries) -> Rank {
        let uses = &mut self.uses[id as usize];
        *uses = uses.saturating_add(1);
        self.now += 1;
        let weight = entries.weight(id).max(1) as f64;
        let worth = self.faded + f64::from(*uses) * entries.cost(id) as f64 / weight;
        Rank { worth, used_at: self.now }
    }
}

impl Policy for Gdsf {
    fn on_hit(&self) -> OnHit {
        OnHit::REPLAY
    }

    fn insert(&mut self, id: u32, _arrival: Arrival, entries: &dyn Entries) {
        cover(&mut self.uses, id, 0);
        self.uses[id as usize] = 0;
        let rank = self.use_once(id, entries);
        self.heap.push(id, rank);
    }

    fn hit(&mut self, id: u32, entries: &dyn Entries) {
        let rank = self.use_once(id, entries);
        self.heap.rerank(id, rank);
    }

    fn overwrite(&mut self, id: u32, _old_weight: u64, entries: &dyn Entries) {
        self.hit(id, entries);
    }

    fn remove(&mut self, id: u32, _entries: &dyn Entries) {
        self.heap.remove(id);
    }

    fn victim(&mut self, _arrival: Arrival, _entries: &dyn Entries) -> Option<u32> {
        let id = self.heap.first()?;
        self.faded = self.heap.rank(id).worth;
        self.heap.remove(id);
        Some(id)
    }

    fn len(&self) -> usize {
        self.heap.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// Exact; the first n take O(n log n).
    fn order(&self, _entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        offer(self.heap.iter(), f);
    }

    fn allocated_bytes(&self) -> usize {
        self.heap.allocated_bytes() + self.uses.capacity() * size_of::<u32>()
    }

    fn validate(&self, _entries: &dyn Entries) -> Result<(), String> {
        self.heap.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::policy::model::{Model, Order, check_against_model};
    use crate::memory::simulate::{Request, Simulator};

    #[derive(Debug)]
    struct Entry {
        key: u64,
        weight: u64,
        uses: u64,
        worth: f64,
        used_at: u64,
    }

    /// The formula, over a list.
    #[derive(Debug, Default)]
    struct Worths {
        entries: Vec<Entry>,
        faded: f64,
        now: u64,
    }

    impl Model for Worths {
        fn hit(&mut self, key: u64) {
            self.now += 1;
            let entry = self.entries.iter_mut().find(|entry| entry.key == key).unwrap();
            entry.uses += 1;
            entry.worth = self.faded + entry.uses as f64 / entry.weight.max(1) as f64;
            entry.used_at = self.now;
        }

        fn evict(&mut self, _capacity: u64, _arrival: u8) -> Option<u64> {
            let order = |one: &&Entry, other: &&Entry| {
                one.worth.total_cmp(&other.worth).then(one.used_at.cmp(&other.used_at))
            };
            let &Entry { key, worth, .. } = self.entries.iter().min_by(order)?;
            self.faded = worth;
            self.remove(key);
            Some(key)
        }

        fn insert(&mut self, key: u64, weight: u64, _capacity: u64, _arrival: u8) {
            self.entries.push(Entry { key, weight, uses: 0, worth: 0.0, used_at: 0 });
            self.hit(key);
        }

        fn overwrite(&mut self, key: u64, weight: u64) {
            let entry = self.entries.iter_mut().find(|entry| entry.key == key).unwrap();
            entry.weight = weight;
            self.hit(key);
        }

        fn remove(&mut self, key: u64) {
            self.entries.retain(|entry| entry.key != key);
        }
    }

    #[test]
    fn does_what_the_formula_says() {
        check_against_model(Gdsf::default, Worths::default, Order::Exact);
    }

    #[test]
    fn large_and_cheap_leaves_before_small_and_dear() {
        let mut cache = Simulator::new(Gdsf::default(), 100);
        let mut left = Vec::new();
        let requests = [(1, 50, 10), (2, 10, 10), (3, 40, 80), (4, 20, 1), (5, 60, 60)];
        for (key, weight, cost) in requests {
            cache.request_with(&Request { key, weight, cost }, |key| left.push(key));
        }
        // Worth: 0.2, 1, 2; then 4 pushes 1 out and ranks at 0.2 + 0.05, next below 2 and 3.
        assert_eq!(left, [1, 4, 2]);
    }
}
