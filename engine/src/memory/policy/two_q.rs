//! 2Q: a queue for what is new, a list for what came back.
//!
//! ```text
//!           new                           not asked for again
//! insert ─────────► A1in (25 %) ─ oldest ─► out, hash kept in A1out (50 %)
//!    │                                             │
//!    └── was in A1out ─► Am, in order of use ◄─────┘ asked for again
//!                            └─ least recently used ─► out
//! ```

use super::ghost::Ghost;
use super::list::{Links, List};
use super::{Arrival, Entries, OnHit, Policy, cover, ghosts_max, offer};

/// 2Q: what is asked for again after it has left the queue of the new is kept in order of use.
///
/// Source: Johnson, Shasha, "2Q: a low overhead high performance buffer management replacement
/// algorithm", VLDB 1994, section 3 ("2Q, full version"), with the parameters of section 4.1:
/// Kin 25 %, Kout 50 % of the capacity. A1in, a FIFO queue, gives while it weighs more than
/// Kin; else Am, in order of use, gives. A hit in A1in changes nothing: uses that follow closely
/// are one use.
///
/// Costs 9 bytes per entry and 11 to 16 per ghost. Hits are replayed under the lock.
///
/// Where it departs from the paper: all shares are weights, not numbers of pages, and A1out is
/// limited by number as well, to twice that of the resident entries. If Am is empty, A1in
/// gives. Choices: an overwrite counts as a use, so in A1in it changes nothing either.
#[derive(Debug, Default)]
pub struct TwoQ {
    links: Links,
    a1in: List,
    am: List,
    /// Which of the two an entry is in.
    in_am: Vec<bool>,
    a1out: Ghost,
}

impl TwoQ {
    fn list(&mut self, id: u32) -> (&mut List, &mut Links) {
        let list = if self.in_am[id as usize] { &mut self.am } else { &mut self.a1in };
        (list, &mut self.links)
    }
}

impl Policy for TwoQ {
    fn on_hit(&self) -> OnHit {
        OnHit::REPLAY
    }

    fn arrive(&mut self, hash: u64, _weight: u64, _entries: &dyn Entries) -> Arrival {
        if self.a1out.take(hash) { Arrival::GHOST } else { Arrival::NEW }
    }

    fn insert(&mut self, id: u32, arrival: Arrival, entries: &dyn Entries) {
        cover(&mut self.in_am, id, false);
        self.in_am[id as usize] = arrival == Arrival::GHOST;
        let (list, links) = self.list(id);
        list.push(links, id, entries.weight(id));
    }

    fn hit(&mut self, id: u32, _entries: &dyn Entries) {
        if self.in_am[id as usize] {
            self.am.refresh(&mut self.links, id);
        }
    }

    fn overwrite(&mut self, id: u32, old_weight: u64, entries: &dyn Entries) {
        self.list(id).0.reweigh(old_weight, entries.weight(id));
        self.hit(id, entries);
    }

    fn remove(&mut self, id: u32, entries: &dyn Entries) {
        let (list, links) = self.list(id);
        list.remove(links, id, entries.weight(id));
    }

    fn victim(&mut self, _arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        let (len, capacity) = (self.len(), entries.capacity());
        if self.a1in.weight() > capacity / 4 || self.am.len() == 0 {
            let id = self.a1in.oldest()?;
            let weight = entries.weight(id);
            self.a1in.remove(&mut self.links, id, weight);
            self.a1out.push(entries.hash(id), weight, capacity / 2, ghosts_max(len));
            return Some(id);
        }
        let id = self.am.oldest()?;
        self.am.remove(&mut self.links, id, entries.weight(id));
        Some(id)
    }

    fn len(&self) -> usize {
        self.a1in.len() + self.am.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// Exact while the capacity stays what it is: A1in as far as it is too heavy, then Am, then
    /// the rest of A1in.
    fn order(&self, entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        let (share, mut weight) = (entries.capacity() / 4, self.a1in.weight());
        let mut a1in = self.a1in.iter(&self.links).peekable();
        while weight > share
            && let Some(id) = a1in.next()
        {
            weight -= entries.weight(id);
            if !f(id) {
                return;
            }
        }
        offer(self.am.iter(&self.links).chain(a1in), f);
    }

    fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes() + self.in_am.capacity() + self.a1out.allocated_bytes()
    }

    fn validate(&self, entries: &dyn Entries) -> Result<(), String> {
        self.a1in.validate(&self.links, entries)?;
        self.am.validate(&self.links, entries)?;
        if self.a1in.iter(&self.links).any(|id| self.in_am[id as usize])
            || self.am.iter(&self.links).any(|id| !self.in_am[id as usize])
        {
            return Err("an entry is not in the list that it is said to be in".to_owned());
        }
        self.a1out.validate()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::memory::policy::model::{Model, Order, check_against_model};
    use crate::memory::simulate::{Request, Simulator};

    type Queue = VecDeque<(u64, u64)>;

    /// The full version of the paper, keys and weights, the oldest first.
    #[derive(Debug, Default)]
    struct Lists {
        a1in: Queue,
        am: Queue,
        a1out: Queue,
    }

    fn weight(queue: &Queue) -> u64 {
        queue.iter().map(|entry| entry.1).sum()
    }

    impl Model for Lists {
        fn hit(&mut self, key: u64) {
            if let Some(at) = self.am.iter().position(|entry| entry.0 == key) {
                let entry = self.am.remove(at).unwrap();
                self.am.push_back(entry);
            }
        }

        fn arrive(&mut self, key: u64, _weight: u64, _capacity: u64) -> u8 {
            let before = self.a1out.len();
            self.a1out.retain(|ghost| ghost.0 != key);
            u8::from(self.a1out.len() < before)
        }

        fn evict(&mut self, capacity: u64, _arrival: u8) -> Option<u64> {
            let len_max = 2 * (self.a1in.len() + self.am.len()).max(16);
            if weight(&self.a1in) <= capacity / 4 && !self.am.is_empty() {
                return Some(self.am.pop_front()?.0);
            }
            let gone = self.a1in.pop_front()?;
            if gone.1 <= capacity / 2 {
                self.a1out.push_back(gone);
            }
            while self.a1out.len() > len_max || weight(&self.a1out) > capacity / 2 {
                self.a1out.pop_front();
            }
            Some(gone.0)
        }

        fn insert(&mut self, key: u64, weight: u64, _capacity: u64, known: u8) {
            let queue = if known == 1 { &mut self.am } else { &mut self.a1in };
            queue.push_back((key, weight));
        }

        fn overwrite(&mut self, key: u64, weight: u64) {
            let all = self.a1in.iter_mut().chain(&mut self.am);
            all.filter(|entry| entry.0 == key).for_each(|entry| entry.1 = weight);
            self.hit(key);
        }

        fn remove(&mut self, key: u64) {
            self.a1in.retain(|entry| entry.0 != key);
            self.am.retain(|entry| entry.0 != key);
        }
    }

    #[test]
    fn does_what_the_paper_says() {
        check_against_model(TwoQ::default, Lists::default, Order::Exact);
    }

    #[test]
    fn uses_that_follow_closely_are_one_use() {
        let mut cache = Simulator::new(TwoQ::default(), 8);
        // A1in 8 … 1. Then 1 to 3 leave for A1out, although 1 was used most; 1 comes back to Am.
        for key in [1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 9, 10, 11, 1] {
            cache.request(&Request::new(key));
        }
        let mut left = Vec::new();
        cache.order(|key| {
            left.push(key);
            true
        });
        // A1in gives until a quarter is left, 10 and 11; then Am, then those.
        assert_eq!(left, [5, 6, 7, 8, 9, 1, 10, 11]);
    }
}
