//! ARC: two lists, and ghosts of both that say which deserves more room.
//!
//! ```text
//!   L1, seen once                       L2, seen again
//! ┌ B1 ghosts ┬─ T1 ◄── new      seen again ──► T2 ─┬ B2 ghosts ┐
//! └───────────┴──────────┘             └────────────┴───────────┘
//!   a hit in B1: p grows                 a hit in B2: p shrinks
//! ```

use super::ghost::Ghost;
use super::list::{Links, List};
use super::{Arrival, Entries, OnHit, Policy, cover, ghosts_max, offer};

/// It was a ghost of what was seen again.
const GHOST_2: Arrival = Arrival(2);

/// ARC: balances recency and frequency by what turns out to have been evicted wrongly.
///
/// Source: Megiddo, Modha, "ARC: a self-tuning, low overhead replacement cache", FAST 2003,
/// section III.B and figure 4. T1 has what was seen once lately, T2 what was seen again; B1 and
/// B2 have the hashes of what left them. T1 should weigh `p`: a hit in B1 raises it, one in B2
/// lowers it, by more the smaller that list is.
///
/// Costs 9 bytes per entry and 11 to 16 per ghost. Hits are replayed under the lock.
///
/// Where it departs from the paper: all sizes are weights; `p` moves by the newcomer's weight
/// times the ratio of the paper. Each of B1 and B2 is limited by number as well, to twice that
/// of the resident entries. With weights of 1 the victims are those of the paper.
///
/// Choices: an overwrite counts as a use, so it moves an entry to T2.
#[derive(Debug, Default)]
pub struct ArcPolicy {
    links: Links,
    t1: List,
    t2: List,
    in_t2: Vec<bool>,
    b1: Ghost,
    b2: Ghost,
    /// What T1 should weigh.
    p: f64,
}

impl ArcPolicy {
    fn list(&mut self, id: u32) -> (&mut List, &mut Links) {
        let list = if self.in_t2[id as usize] { &mut self.t2 } else { &mut self.t1 };
        (list, &mut self.links)
    }

    /// Forgets ghosts so that L1 stays within the capacity, and both lists within twice that,
    /// once something new of this weight has come (case IV of the paper).
    fn make_room_for_ghosts(&mut self, weight: u64, capacity: u64) {
        let (l1, twice) = (self.t1.weight() + weight, capacity.saturating_mul(2));
        if l1 + self.b1.weight() > capacity {
            while l1 + self.b1.weight() > capacity && self.b1.pop() {}
        } else {
            let rest = l1 + self.t2.weight() + self.b1.weight();
            while rest + self.b2.weight() > twice && self.b2.pop() {}
        }
    }

    fn evict_from_t1(&mut self, arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        let (id, before, len) = (self.t1.oldest()?, self.t1.weight(), self.len());
        let weight = entries.weight(id);
        self.t1.remove(&mut self.links, id, weight);
        // Something new will take the place of the victim in T1. (If T1 is all there is, its
        // victims are not remembered, as in the paper.)
        let t1 = if arrival == Arrival::NEW { before } else { self.t1.weight() };
        let weight_max = entries.capacity().saturating_sub(t1);
        self.b1.push(entries.hash(id), weight, weight_max, ghosts_max(len));
        Some(id)
    }

    fn evict_from_t2(&mut self, entries: &dyn Entries) -> Option<u32> {
        let (id, len) = (self.t2.oldest()?, self.len());
        let weight = entries.weight(id);
        self.t2.remove(&mut self.links, id, weight);
        let others = self.t1.weight() + self.t2.weight() + self.b1.weight();
        let weight_max = entries.capacity().saturating_mul(2).saturating_sub(others);
        self.b2.push(entries.hash(id), weight, weight_max, ghosts_max(len));
        Some(id)
    }
}

/// How much longer one list is than the other, at least 1.
fn ratio(longer: &Ghost, shorter: u64) -> f64 {
    (longer.weight() as f64 / shorter.max(1) as f64).max(1.0)
}

impl Policy for ArcPolicy {
    fn on_hit(&self) -> OnHit {
        OnHit::REPLAY
    }

    fn arrive(&mut self, hash: u64, weight: u64, entries: &dyn Entries) -> Arrival {
        let capacity = entries.capacity();
        let (b1, b2) = (self.b1.weight(), self.b2.weight());
        if self.b1.take(hash) {
            self.p = (self.p + ratio(&self.b2, b1) * weight as f64).min(capacity as f64);
            Arrival::GHOST
        } else if self.b2.take(hash) {
            self.p = (self.p - ratio(&self.b1, b2) * weight as f64).max(0.0);
            GHOST_2
        } else {
            self.make_room_for_ghosts(weight, capacity);
            Arrival::NEW
        }
    }

    fn insert(&mut self, id: u32, arrival: Arrival, entries: &dyn Entries) {
        cover(&mut self.in_t2, id, false);
        self.in_t2[id as usize] = arrival != Arrival::NEW;
        let (list, links) = self.list(id);
        list.push(links, id, entries.weight(id));
    }

    fn hit(&mut self, id: u32, entries: &dyn Entries) {
        if self.in_t2[id as usize] {
            self.t2.refresh(&mut self.links, id);
        } else {
            let weight = entries.weight(id);
            self.t1.remove(&mut self.links, id, weight);
            self.in_t2[id as usize] = true;
            self.t2.push(&mut self.links, id, weight);
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

    fn victim(&mut self, arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        let t1 = self.t1.weight() as f64;
        if self.t1.len() > 0 && (t1 > self.p || (arrival == GHOST_2 && t1 >= self.p)) {
            return self.evict_from_t1(arrival, entries);
        }
        self.evict_from_t2(entries).or_else(|| self.evict_from_t1(arrival, entries))
    }

    /// As if it had been seen again; `p` stays, since nothing was evicted wrongly.
    fn spare(&mut self, id: u32, entries: &dyn Entries) {
        let hash = entries.hash(id);
        let known = self.b1.take(hash) || self.b2.take(hash);
        self.insert(id, if known { GHOST_2 } else { Arrival::NEW }, entries);
    }

    fn len(&self) -> usize {
        self.t1.len() + self.t2.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }

    /// Exact: T1 as far as it is too heavy, then T2, then the rest of T1.
    fn order(&self, entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        let (mut t1, mut weight) = (self.t1.iter(&self.links).peekable(), self.t1.weight());
        while weight as f64 > self.p
            && let Some(id) = t1.next()
        {
            weight -= entries.weight(id);
            if !f(id) {
                return;
            }
        }
        offer(self.t2.iter(&self.links).chain(t1), f);
    }

    fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes()
            + self.in_t2.capacity()
            + self.b1.allocated_bytes()
            + self.b2.allocated_bytes()
    }

    fn validate(&self, entries: &dyn Entries) -> Result<(), String> {
        self.t1.validate(&self.links, entries)?;
        self.t2.validate(&self.links, entries)?;
        if self.t1.iter(&self.links).any(|id| self.in_t2[id as usize])
            || self.t2.iter(&self.links).any(|id| !self.in_t2[id as usize])
        {
            return Err("an entry is not in the list that it is said to be in".to_owned());
        }
        self.b1.validate()?;
        self.b2.validate()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::memory::policy::model::{Model, Order, check_against_model};
    use crate::memory::simulate::{Request, Simulator};

    type Queue = VecDeque<(u64, u64)>;

    /// Figure 4 of the paper with weights for numbers; the least recently used in front.
    #[derive(Debug, Default)]
    struct Lists {
        t1: Queue,
        t2: Queue,
        b1: Queue,
        b2: Queue,
        p: f64,
    }

    fn weight(queue: &Queue) -> u64 {
        queue.iter().map(|entry| entry.1).sum()
    }

    fn take(queue: &mut Queue, key: u64) -> Option<(u64, u64)> {
        let at = queue.iter().position(|entry| entry.0 == key)?;
        queue.remove(at)
    }

    fn remember(ghosts: &mut Queue, gone: (u64, u64), weight_max: u64, len_max: usize) {
        if gone.1 <= weight_max {
            ghosts.push_back(gone);
            while weight(ghosts) > weight_max || ghosts.len() > len_max {
                ghosts.pop_front();
            }
        }
    }

    impl Model for Lists {
        fn hit(&mut self, key: u64) {
            let entry = take(&mut self.t1, key).or_else(|| take(&mut self.t2, key)).unwrap();
            self.t2.push_back(entry);
        }

        fn arrive(&mut self, key: u64, new: u64, capacity: u64) -> u8 {
            let (b1, b2) = (weight(&self.b1) as f64, weight(&self.b2) as f64);
            if take(&mut self.b1, key).is_some() {
                let step = (b2 / b1.max(1.0)).max(1.0) * new as f64;
                self.p = (self.p + step).min(capacity as f64);
                return 1;
            }
            if take(&mut self.b2, key).is_some() {
                let step = (b1 / b2.max(1.0)).max(1.0) * new as f64;
                self.p = (self.p - step).max(0.0);
                return 2;
            }
            let rest = weight(&self.t1) + weight(&self.t2) + new;
            if weight(&self.t1) + weight(&self.b1) + new > capacity {
                while weight(&self.t1) + weight(&self.b1) + new > capacity {
                    if self.b1.pop_front().is_none() {
                        break;
                    }
                }
            } else {
                while rest + weight(&self.b1) + weight(&self.b2) > 2 * capacity {
                    if self.b2.pop_front().is_none() {
                        break;
                    }
                }
            }
            0
        }

        fn evict(&mut self, capacity: u64, arrival: u8) -> Option<u64> {
            let (t1, len_max) = (weight(&self.t1), 2 * (self.t1.len() + self.t2.len()).max(16));
            let too_heavy = t1 as f64 > self.p || arrival == 2 && t1 as f64 == self.p;
            if !self.t1.is_empty() && (too_heavy || self.t2.is_empty()) {
                let gone = self.t1.pop_front()?;
                let kept = if arrival == 0 { t1 } else { t1 - gone.1 };
                remember(&mut self.b1, gone, capacity.saturating_sub(kept), len_max);
                return Some(gone.0);
            }
            let gone = self.t2.pop_front()?;
            let others = weight(&self.t1) + weight(&self.t2) + weight(&self.b1);
            let weight_max = (2 * capacity).saturating_sub(others);
            remember(&mut self.b2, gone, weight_max, len_max);
            Some(gone.0)
        }

        fn insert(&mut self, key: u64, weight: u64, _capacity: u64, arrival: u8) {
            let list = if arrival == 0 { &mut self.t1 } else { &mut self.t2 };
            list.push_back((key, weight));
        }

        fn overwrite(&mut self, key: u64, weight: u64) {
            self.hit(key);
            self.t2.back_mut().unwrap().1 = weight;
        }

        fn remove(&mut self, key: u64) {
            take(&mut self.t1, key).or_else(|| take(&mut self.t2, key)).unwrap();
        }

        fn spare(&mut self, key: u64, weight: u64, capacity: u64) {
            let known = take(&mut self.b1, key).or_else(|| take(&mut self.b2, key)).is_some();
            self.insert(key, weight, capacity, u8::from(known));
        }
    }

    #[test]
    fn does_what_the_paper_says() {
        check_against_model(ArcPolicy::default, Lists::default, Order::Exact);
    }

    proptest! {
        /// The inequalities of section III.A.
        #[test]
        fn ghosts_are_as_many_as_the_paper_allows(
            keys in proptest::collection::vec(0..40_u64, 0..400), capacity in 1..30_u64,
        ) {
            let mut cache = Simulator::new(ArcPolicy::default(), capacity);
            for key in keys {
                cache.request(&Request::new(key));
                let ArcPolicy { t1, t2, b1, b2, .. } = cache.policy();
                prop_assert!(t1.weight() + b1.weight() <= capacity);
                let all = t1.weight() + t2.weight() + b1.weight() + b2.weight();
                prop_assert!(all <= 2 * capacity);
            }
        }
    }

    /// A scan goes through T1 and leaves T2 alone; a hit in B1 gives T1 more room.
    #[test]
    fn a_scan_passes_by_what_was_seen_again() {
        let mut cache = Simulator::new(ArcPolicy::default(), 4);
        for key in [1, 1, 2, 2, 10, 11, 12, 13, 14] {
            cache.request(&Request::new(key));
        }
        // T1 [14 13], T2 [2 1], B1 [12 11]: L1 is full, 10 is forgotten.
        assert!(cache.contains(1) && cache.contains(2));
        assert_eq!((cache.policy().b1.len(), cache.policy().p), (2, 0.0));
        cache.request(&Request::new(12));
        assert_eq!((cache.policy().b1.len(), cache.policy().p), (2, 1.0));
        assert!(!cache.contains(13) && cache.contains(1));
    }
}
