//! Least frequently used.
//!
//! ```text
//! fewest ─► [1 use: a b c] ⇄ [2 uses: d] ⇄ [7 uses: e f]
//!                   │ a hit            ▲
//!                   └──────────────────┘ as the newest there
//! ```
//!
//! # Invariants
//! 1. Buckets are linked in the order of their counts; none is empty, no two counts are equal.
//! 2. `bucket_of` says in which bucket's queue an entry is.

use super::list::{Links, List};
use super::{Arrival, Entries, OnHit, Policy, cover};

/// No bucket.
const NONE: u32 = u32::MAX;

/// Least frequently used: what was used least often since it came leaves first.
///
/// Source: Shah, Mitra, Matani, "An O(1) algorithm for implementing the LFU cache eviction
/// scheme", 2010. Entries of one count stand in a queue; the queues are linked by count.
///
/// Costs 12 bytes per entry, and 48 per count that occurs. A hit moves the entry, so hits are
/// replayed under the lock.
///
/// Choices (implementations differ in all of them): counts are forgotten on eviction. Among
/// equals, what reached that count first leaves first. An overwrite keeps the count and is a
/// use. Counts do not age: what was popular once stays; for counts that age, see
/// [`WTinyLfu`](super::WTinyLfu) and [`Gdsf`](super::Gdsf).
#[derive(Debug, Default)]
pub struct Lfu {
    links: Links,
    bucket_of: Vec<u32>,
    buckets: Vec<Bucket>,
    free: Vec<u32>,
    /// The bucket of the smallest count.
    fewest: Option<u32>,
    len: usize,
}

#[derive(Debug)]
struct Bucket {
    count: u64,
    queue: List,
    fewer: u32,
    more: u32,
}

impl Lfu {
    fn bucket(&mut self, at: u32) -> &mut Bucket {
        &mut self.buckets[at as usize]
    }

    /// A new bucket after `fewer`, or as the first.
    fn add_bucket(&mut self, count: u64, fewer: u32) -> u32 {
        let more = match fewer {
            NONE => self.fewest.unwrap_or(NONE),
            fewer => self.buckets[fewer as usize].more,
        };
        let bucket = Bucket { count, queue: List::default(), fewer, more };
        let at = match self.free.pop() {
            Some(at) => {
                *self.bucket(at) = bucket;
                at
            }
            None => {
                self.buckets.push(bucket);
                u32::try_from(self.buckets.len() - 1).unwrap_or(NONE)
            }
        };
        match fewer {
            NONE => self.fewest = Some(at),
            fewer => self.bucket(fewer).more = at,
        }
        if more != NONE {
            self.bucket(more).fewer = at;
        }
        at
    }

    fn push(&mut self, at: u32, id: u32, weight: u64) {
        self.bucket_of[id as usize] = at;
        self.buckets[at as usize].queue.push(&mut self.links, id, weight);
    }

    fn take(&mut self, id: u32, weight: u64) {
        let at = self.bucket_of[id as usize];
        let bucket = &mut self.buckets[at as usize];
        bucket.queue.remove(&mut self.links, id, weight);
        if bucket.queue.len() > 0 {
            return;
        }
        let (fewer, more) = (bucket.fewer, bucket.more);
        match fewer {
            NONE => self.fewest = (more != NONE).then_some(more),
            fewer => self.bucket(fewer).more = more,
        }
        if more != NONE {
            self.bucket(more).fewer = fewer;
        }
        self.free.push(at);
    }

    fn count_up(&mut self, id: u32, weight: u64) {
        let at = self.bucket_of[id as usize];
        let Bucket { count, more, .. } = self.buckets[at as usize];
        let next = if more != NONE && self.buckets[more as usize].count == count + 1 {
            more
        } else if self.buckets[at as usize].queue.len() == 1 {
            // Alone: the bucket itself may count up.
            self.bucket(at).count += 1;
            return;
        } else {
            self.add_bucket(count + 1, at)
        };
        self.take(id, weight);
        self.push(next, id, weight);
    }

    /// All buckets, from the smallest count.
    fn buckets(&self) -> impl Iterator<Item = (u32, &Bucket)> {
        let more = |&at: &u32| Some(self.buckets[at as usize].more).filter(|&at| at != NONE);
        std::iter::successors(self.fewest, more).map(|at| (at, &self.buckets[at as usize]))
    }
}

impl Policy for Lfu {
    fn on_hit(&self) -> OnHit {
        OnHit::REPLAY
    }

    fn insert(&mut self, id: u32, _arrival: Arrival, entries: &dyn Entries) {
        cover(&mut self.bucket_of, id, NONE);
        let first = self.fewest.filter(|&at| self.buckets[at as usize].count == 1);
        let at = first.unwrap_or_else(|| self.add_bucket(1, NONE));
        self.push(at, id, entries.weight(id));
        self.len += 1;
    }

    fn hit(&mut self, id: u32, entries: &dyn Entries) {
        self.count_up(id, entries.weight(id));
    }

    fn overwrite(&mut self, id: u32, old_weight: u64, entries: &dyn Entries) {
        let (at, weight) = (self.bucket_of[id as usize], entries.weight(id));
        self.bucket(at).queue.reweigh(old_weight, weight);
        self.count_up(id, weight);
    }

    fn remove(&mut self, id: u32, entries: &dyn Entries) {
        self.take(id, entries.weight(id));
        self.len -= 1;
    }

    fn victim(&mut self, _arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        let id = self.buckets[self.fewest? as usize].queue.oldest()?;
        self.remove(id, entries);
        Some(id)
    }

    fn len(&self) -> usize {
        self.len
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// Exact.
    fn order(&self, _entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        for (_, bucket) in self.buckets() {
            if !bucket.queue.iter(&self.links).all(&mut *f) {
                return;
            }
        }
    }

    fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes()
            + (self.bucket_of.capacity() + self.free.capacity()) * size_of::<u32>()
            + self.buckets.capacity() * size_of::<Bucket>()
    }

    fn validate(&self, entries: &dyn Entries) -> Result<(), String> {
        let (mut count, mut fewer, mut len) = (0, NONE, 0);
        for (at, bucket) in self.buckets().take(self.buckets.len() + 1) {
            bucket.queue.validate(&self.links, entries)?;
            if bucket.count <= count || bucket.fewer != fewer || bucket.queue.len() == 0 {
                return Err(format!("the bucket of count {} stands wrong", bucket.count));
            }
            if bucket.queue.iter(&self.links).any(|id| self.bucket_of[id as usize] != at) {
                return Err("an entry is not in the bucket that it is said to be in".to_owned());
            }
            (count, fewer, len) = (bucket.count, at, len + bucket.queue.len());
        }
        if len != self.len {
            return Err(format!("{len} entries in all buckets were counted as {}", self.len));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::policy::model::{Model, Order, check_against_model};
    use crate::memory::simulate::{Request, Simulator};

    /// Key, count, and when it reached that count.
    #[derive(Debug, Default)]
    struct Counts {
        entries: Vec<(u64, u64, u64)>,
        now: u64,
    }

    impl Model for Counts {
        fn hit(&mut self, key: u64) {
            self.now += 1;
            let entry = self.entries.iter_mut().find(|entry| entry.0 == key).unwrap();
            (entry.1, entry.2) = (entry.1 + 1, self.now);
        }

        fn evict(&mut self, _capacity: u64, _arrival: u8) -> Option<u64> {
            let &(key, ..) = self.entries.iter().min_by_key(|entry| (entry.1, entry.2))?;
            self.remove(key);
            Some(key)
        }

        fn insert(&mut self, key: u64, _weight: u64, _capacity: u64, _arrival: u8) {
            self.now += 1;
            self.entries.push((key, 1, self.now));
        }

        fn overwrite(&mut self, key: u64, _weight: u64) {
            self.hit(key);
        }

        fn remove(&mut self, key: u64) {
            self.entries.retain(|entry| entry.0 != key);
        }
    }

    #[test]
    fn does_what_plain_counts_do() {
        check_against_model(Lfu::default, Counts::default, Order::Exact);
    }

    #[test]
    fn among_equals_the_first_to_get_there_leaves() {
        let mut cache = Simulator::new(Lfu::default(), 3);
        let mut left = Vec::new();
        // 2 uses: [3 2 1], in the order in which they got there; 4 has one. 3, then 4 leave.
        for key in [1, 2, 3, 3, 2, 1, 4, 5] {
            cache.request_with(&Request::new(key), |key| left.push(key));
        }
        assert_eq!(left, [3, 4]);
    }
}
