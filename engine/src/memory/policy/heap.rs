//! A binary heap of entries whose rank can change.
//!
//! # Invariants
//! 1. No entry has a smaller rank than its parent, so the first has the smallest.
//! 2. `places` says where in the heap an entry is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cover;

/// Entries by rank, the smallest first; 8 bytes per entry and the rank.
#[derive(Debug)]
pub(in crate::memory) struct Heap<R> {
    heap: Vec<u32>,
    places: Vec<u32>,
    ranks: Vec<R>,
}

impl<R> Default for Heap<R> {
    fn default() -> Self {
        Self { heap: Vec::new(), places: Vec::new(), ranks: Vec::new() }
    }
}

impl<R: Ord + Copy> Heap<R> {
    pub(in crate::memory) const fn len(&self) -> usize {
        self.heap.len()
    }

    pub(in crate::memory) fn first(&self) -> Option<u32> {
        self.heap.first().copied()
    }

    /// The rank of an entry that is in here.
    pub(in crate::memory) fn rank(&self, id: u32) -> R {
        self.ranks[id as usize]
    }

    /// Adds an entry that is not in here.
    pub(in crate::memory) fn push(&mut self, id: u32, rank: R) {
        cover(&mut self.ranks, id, rank);
        cover(&mut self.places, id, 0);
        self.ranks[id as usize] = rank;
        let at = self.heap.len();
        // The heap is as long as the columns at most, and grows as they do.
        let last = u32::try_from(at).unwrap_or(u32::MAX);
        cover(&mut self.heap, last, id);
        self.heap.truncate(at + 1);
        self.put(at, id);
        self.rise(at);
    }

    /// Gives an entry that is in here another rank.
    pub(in crate::memory) fn rerank(&mut self, id: u32, rank: R) {
        let old = std::mem::replace(&mut self.ranks[id as usize], rank);
        let at = self.places[id as usize] as usize;
        if rank < old { self.rise(at) } else { self.sink(at) }
    }

    /// Removes an entry that is in here.
    pub(in crate::memory) fn remove(&mut self, id: u32) {
        let at = self.places[id as usize] as usize;
        self.heap.swap_remove(at);
        if let Some(&moved) = self.heap.get(at) {
            self.put(at, moved);
            self.rise(at);
            self.sink(at);
        }
    }

    /// All entries, by rank; the first n of them take O(n log n).
    pub(in crate::memory) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut next = BinaryHeap::new();
        let reach = |at: usize| Some(Reverse((self.ranks[*self.heap.get(at)? as usize], at)));
        next.extend(reach(0));
        std::iter::from_fn(move || {
            let Reverse((_, at)) = next.pop()?;
            next.extend(reach(2 * at + 1));
            next.extend(reach(2 * at + 2));
            Some(self.heap[at])
        })
    }

    pub(in crate::memory) const fn allocated_bytes(&self) -> usize {
        (self.heap.capacity() + self.places.capacity()) * size_of::<u32>()
            + self.ranks.capacity() * size_of::<R>()
    }

    /// Checks both invariants.
    pub(super) fn validate(&self) -> Result<(), String> {
        for (at, &id) in self.heap.iter().enumerate() {
            if self.places[id as usize] as usize != at {
                return Err(format!("entry {id} does not know that it is at {at}"));
            }
            if at > 0 && self.less(at, (at - 1) / 2) {
                return Err(format!("entry {id} has a smaller rank than its parent"));
            }
        }
        Ok(())
    }

    fn less(&self, one: usize, other: usize) -> bool {
        self.ranks[self.heap[one] as usize] < self.ranks[self.heap[other] as usize]
    }

    fn put(&mut self, at: usize, id: u32) {
        self.heap[at] = id;
        self.places[id as usize] = u32::try_from(at).unwrap_or(u32::MAX);
    }

    fn swap(&mut self, one: usize, other: usize) {
        let (first, second) = (self.heap[one], self.heap[other]);
        self.put(one, second);
        self.put(other, first);
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.less(at, (at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            if left >= self.heap.len() {
                return;
            }
            let child =
                if right < self.heap.len() && self.less(right, left) { right } else { left };
            if !self.less(child, at) {
                return;
            }
            self.swap(at, child);
            at = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranks_as_a_sorted_set_does(ops in prop::collection::vec((0..30_u32, 0..50_u64), 0..300)) {
            let (mut heap, mut model) = (Heap::default(), BTreeSet::new());
            for (id, rank) in ops {
                match model.iter().find(|entry: &&(u64, u32)| entry.1 == id).copied() {
                    Some(old) if rank % 3 == 0 => {
                        heap.remove(id);
                        model.remove(&old);
                    }
                    Some(old) => {
                        heap.rerank(id, (rank, id));
                        model.remove(&old);
                        model.insert((rank, id));
                    }
                    None => {
                        heap.push(id, (rank, id));
                        model.insert((rank, id));
                    }
                }
                prop_assert_eq!(heap.validate(), Ok(()));
                let sorted: Vec<u32> = model.iter().map(|entry| entry.1).collect();
                prop_assert_eq!(heap.first(), sorted.first().copied());
                prop_assert_eq!(heap.iter().collect::<Vec<u32>>(), sorted);
            }
        }
    }
}
