//! LIRS: keeps what comes back at short distances.
//!
//! ```text
//!  stack (recency)                     queue (residents that may go)
//!  top    h1                            end    h2
//!         L1                                   h1
//!         g1   gone, remembered                h3 (not in the stack)
//!         L2                            front: the next victim
//!         h2
//!  bottom L3   always an L
//! ```
//!
//! # Invariants
//! 1. The lowest in the stack is an L, or the stack is empty; all Ls are in the stack.
//! 2. The queue has exactly the residents that are no Ls; ghosts are in the stack.
//! 3. `ghosts` has the ghosts as they stand in the stack, the lowest first: what is in stack
//!    and queue stands in the same order in both.
//!
//! Stack and queues hold nodes, not ids: a ghost has no id.

use hashbrown::HashTable;

use super::list::{Links, List};
use super::{Arrival, Entries, OnHit, Policy, cover, ghosts_max, offer};

/// No node.
const NONE: u32 = u32::MAX;

/// LIRS: evicts what comes back at long distances, however recently it was used.
///
/// Source: Jiang, Zhang, "LIRS: an efficient low inter-reference recency set replacement policy
/// to improve buffer cache performance", SIGMETRICS 2002, section 3. Most of the capacity is
/// for Ls, entries that came back soon after their last use (compared with all others). One
/// hundredth is for the rest, which waits in a queue. Who comes back while it is still in the
/// stack takes the place of the L that is unused for longest.
///
/// Costs 29 bytes per entry and 35 to 45 per ghost. Hits are replayed under the lock.
///
/// Where it departs from the paper: the paper lets the ghosts in the stack grow without
/// limit, and says that limiting them costs little (section 3.3). Here there are at most twice
/// as many as residents, the lowest forgotten first; [`unbounded`](Self::unbounded) keeps all.
/// Shares are weights: the queue's is a hundredth of the capacity, but at least 2 (that of the
/// authors' program).
///
/// Choices: an overwrite counts as a use. While the Ls do not fill their share, what comes
/// becomes one of them at once.
#[derive(Debug)]
pub struct Lirs {
    stack_links: Links,
    queue_links: Links,
    /// The id of a resident, the hash of a ghost.
    names: Vec<u64>,
    kinds: Vec<Kind>,
    free: Vec<u32>,
    node_of: Vec<u32>,
    ghost_of: HashTable<u32>,
    /// From the bottom to the top.
    stack: List,
    queue: List,
    /// Linked as the queue is: a node is in one of them at most.
    ghosts: List,
    /// What all Ls weigh, and how many there are.
    low_weight: u64,
    low_len: usize,
    bounded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An L: in the stack.
    Low,
    /// In stack and queue.
    Waiting,
    /// In the queue alone.
    Outside,
    /// Not resident: in the stack and in `ghosts`.
    Ghost,
}

impl Default for Lirs {
    fn default() -> Self {
        Self {
            stack_links: Links::default(),
            queue_links: Links::default(),
            names: Vec::new(),
            kinds: Vec::new(),
            free: Vec::new(),
            node_of: Vec::new(),
            ghost_of: HashTable::new(),
            stack: List::default(),
            queue: List::default(),
            ghosts: List::default(),
            low_weight: 0,
            low_len: 0,
            bounded: true,
        }
    }
}

/// What the Ls may weigh.
fn low_share(capacity: u64) -> u64 {
    capacity - (capacity / 100).max(2).min(capacity / 2)
}

impl Lirs {
    /// As the paper has it: as many ghosts as the stack reaches, which can be any number.
    #[must_use]
    pub fn unbounded() -> Self {
        Self { bounded: false, ..Self::default() }
    }

    fn kind(&self, node: u32) -> Kind {
        self.kinds[node as usize]
    }

    fn set_kind(&mut self, node: u32, kind: Kind) {
        self.kinds[node as usize] = kind;
    }

    /// The id of a resident.
    fn id(&self, node: u32) -> u32 {
        u32::try_from(self.names[node as usize]).unwrap_or(NONE)
    }

    fn add_node(&mut self, id: u32, kind: Kind) -> u32 {
        let node = self.free.pop().unwrap_or_else(|| {
            let node = u32::try_from(self.names.len()).unwrap_or(NONE);
            cover(&mut self.names, node, 0);
            cover(&mut self.kinds, node, Kind::Low);
            node
        });
        self.names[node as usize] = u64::from(id);
        self.set_kind(node, kind);
        cover(&mut self.node_of, id, NONE);
        self.node_of[id as usize] = node;
        node
    }

    fn find_ghost(&self, hash: u64) -> Option<u32> {
        self.ghost_of.find(hash, |&node| self.names[node as usize] == hash).copied()
    }

    fn forget_ghost(&mut self, node: u32) {
        self.stack.remove(&mut self.stack_links, node, 0);
        self.ghosts.remove(&mut self.queue_links, node, 0);
        if let Ok(found) = self.ghost_of.find_entry(self.names[node as usize], |&it| it == node) {
            found.remove();
        }
        self.free.push(node);
    }

    fn remember(&mut self, node: u32, hash: u64) {
        // Its key is resident, so no ghost has that hash, but for a collision.
        if let Some(other) = self.find_ghost(hash) {
            self.forget_ghost(other);
        }
        self.names[node as usize] = hash;
        self.set_kind(node, Kind::Ghost);
        self.ghosts.push(&mut self.queue_links, node, 0);
        let names = &self.names;
        self.ghost_of.insert_unique(hash, node, |&node| names[node as usize]);
        while self.bounded
            && self.ghosts.len() > ghosts_max(self.len())
            && let Some(lowest) = self.ghosts.oldest()
        {
            self.forget_ghost(lowest);
        }
    }

    /// Takes away what is below the lowest L: nothing there can come back sooner than an L.
    fn prune(&mut self) {
        while let Some(node) = self.stack.oldest() {
            match self.kind(node) {
                Kind::Low => return,
                Kind::Ghost => self.forget_ghost(node),
                Kind::Waiting | Kind::Outside => {
                    self.stack.remove(&mut self.stack_links, node, 0);
                    self.set_kind(node, Kind::Outside);
                }
            }
        }
    }

    /// Lets the lowest L wait in the queue. Whether there was one.
    fn demote(&mut self, entries: &dyn Entries) -> bool {
        let Some(node) = self.stack.oldest() else {
            return false;
        };
        self.low_weight -= entries.weight(self.id(node));
        self.low_len -= 1;
        self.stack.remove(&mut self.stack_links, node, 0);
        self.set_kind(node, Kind::Outside);
        self.queue.push(&mut self.queue_links, node, 0);
        self.prune();
        true
    }

    fn promote(&mut self, node: u32, weight: u64) {
        self.set_kind(node, Kind::Low);
        self.low_weight += weight;
        self.low_len += 1;
    }

    /// Demotes until the Ls keep to their share; one of them may always stay.
    fn settle(&mut self, entries: &dyn Entries) {
        let share = low_share(entries.capacity());
        while self.low_weight > share && self.low_len > 1 && self.demote(entries) {}
    }
}

impl Policy for Lirs {
    fn on_hit(&self) -> OnHit {
        OnHit::REPLAY
    }

    fn arrive(&mut self, hash: u64, _weight: u64, _entries: &dyn Entries) -> Arrival {
        match self.find_ghost(hash) {
            Some(node) => {
                self.forget_ghost(node);
                Arrival::GHOST
            }
            None => Arrival::NEW,
        }
    }

    fn insert(&mut self, id: u32, arrival: Arrival, entries: &dyn Entries) {
        let (weight, share) = (entries.weight(id), low_share(entries.capacity()));
        let node = self.add_node(id, Kind::Waiting);
        self.stack.push(&mut self.stack_links, node, 0);
        if arrival == Arrival::GHOST || self.low_weight + weight <= share {
            self.promote(node, weight);
            self.settle(entries);
        } else {
            self.queue.push(&mut self.queue_links, node, 0);
            // Without an L, the stack has to be empty.
            self.prune();
        }
    }

    fn hit(&mut self, id: u32, entries: &dyn Entries) {
        let node = self.node_of[id as usize];
        match self.kind(node) {
            Kind::Low => self.stack.refresh(&mut self.stack_links, node),
            Kind::Waiting => {
                self.queue.remove(&mut self.queue_links, node, 0);
                self.stack.refresh(&mut self.stack_links, node);
                self.promote(node, entries.weight(id));
            }
            Kind::Outside | Kind::Ghost => {
                self.set_kind(node, Kind::Waiting);
                self.stack.push(&mut self.stack_links, node, 0);
                self.queue.refresh(&mut self.queue_links, node);
            }
        }
        self.prune();
        self.settle(entries);
    }

    fn overwrite(&mut self, id: u32, old_weight: u64, entries: &dyn Entries) {
        if self.kind(self.node_of[id as usize]) == Kind::Low {
            self.low_weight = self.low_weight - old_weight + entries.weight(id);
        }
        self.hit(id, entries);
    }

    fn remove(&mut self, id: u32, entries: &dyn Entries) {
        let node = self.node_of[id as usize];
        let kind = self.kind(node);
        if kind != Kind::Outside {
            self.stack.remove(&mut self.stack_links, node, 0);
        }
        if kind == Kind::Low {
            self.low_weight -= entries.weight(id);
            self.low_len -= 1;
        } else {
            self.queue.remove(&mut self.queue_links, node, 0);
        }
        self.free.push(node);
        self.prune();
    }

    fn victim(&mut self, _arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        if self.queue.len() == 0 && !self.demote(entries) {
            return None;
        }
        let node = self.queue.oldest()?;
        let id = self.id(node);
        self.queue.remove(&mut self.queue_links, node, 0);
        if self.kind(node) == Kind::Waiting {
            self.remember(node, entries.hash(id));
        } else {
            self.free.push(node);
        }
        Some(id)
    }

    fn len(&self) -> usize {
        self.low_len + self.queue.len()
    }

    fn clear(&mut self) {
        *self = Self { bounded: self.bounded, ..Self::default() };
    }

    /// Exact: the queue, then the Ls, the lowest first.
    fn order(&self, _entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        let low = self.stack.iter(&self.stack_links).filter(|&node| self.kind(node) == Kind::Low);
        let nodes = self.queue.iter(&self.queue_links).chain(low);
        offer(nodes.map(|node| self.id(node)), f);
    }

    fn allocated_bytes(&self) -> usize {
        self.stack_links.allocated_bytes()
            + self.queue_links.allocated_bytes()
            + self.names.capacity() * size_of::<u64>()
            + self.kinds.capacity()
            + (self.free.capacity() + self.node_of.capacity()) * size_of::<u32>()
            + self.ghost_of.allocation_size()
    }

    fn validate(&self, entries: &dyn Entries) -> Result<(), String> {
        let of_kind = |list: &List, links: &Links, kinds: &[Kind]| -> Vec<u32> {
            list.iter(links).filter(|&node| kinds.contains(&self.kind(node))).collect()
        };
        let in_stack = |kind| of_kind(&self.stack, &self.stack_links, &[kind]);
        let low = in_stack(Kind::Low);
        let weight: u64 = low.iter().map(|&node| entries.weight(self.id(node))).sum();
        if (low.len(), weight) != (self.low_len, self.low_weight) {
            return Err(format!("{} Ls weighing {weight} were counted wrongly", low.len()));
        }
        if low.first().copied() != self.stack.oldest() {
            return Err("the lowest in the stack is no L".to_owned());
        }
        if in_stack(Kind::Waiting) != of_kind(&self.queue, &self.queue_links, &[Kind::Waiting]) {
            return Err("stack and queue disagree about who waits in both".to_owned());
        }
        let (queue, waits) = (self.queue.len(), [Kind::Waiting, Kind::Outside]);
        if of_kind(&self.queue, &self.queue_links, &waits).len() != queue {
            return Err("an L or a ghost is in the queue".to_owned());
        }
        if in_stack(Kind::Ghost) != self.ghosts.iter(&self.queue_links).collect::<Vec<u32>>()
            || self.ghosts.len() != self.ghost_of.len()
        {
            return Err("the ghosts are not those of the stack, in its order".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::memory::policy::model::{Model, Order, check_against_model};
    use crate::memory::simulate::{Request, Simulator};

    /// Section 3.3 of the paper on plain lists: bottom and front come first.
    #[derive(Debug, Default)]
    struct Lists {
        bounded: bool,
        weights: HashMap<u64, u64>,
        low: HashSet<u64>,
        stack: Vec<u64>,
        queue: Vec<u64>,
        capacity: u64,
    }

    impl Lists {
        fn prune(&mut self) {
            let lowest = self.stack.iter().position(|key| self.low.contains(key));
            self.stack.drain(..lowest.unwrap_or(self.stack.len()));
        }

        fn settle(&mut self) {
            let share = self.capacity - (self.capacity / 100).max(2).min(self.capacity / 2);
            while self.low.iter().map(|key| self.weights[key]).sum::<u64>() > share
                && self.low.len() > 1
            {
                self.demote();
            }
        }

        fn demote(&mut self) {
            let key = self.stack.remove(0);
            assert!(self.low.remove(&key), "the lowest is an L");
            self.queue.push(key);
            self.prune();
        }

        fn lift(&mut self, key: u64) {
            self.stack.retain(|&other| other != key);
            self.stack.push(key);
        }
    }

    impl Model for Lists {
        fn hit(&mut self, key: u64) {
            let in_stack = self.stack.contains(&key);
            self.lift(key);
            if !self.low.contains(&key) {
                self.queue.retain(|&other| other != key);
                if in_stack {
                    self.low.insert(key);
                } else {
                    self.queue.push(key);
                }
            }
            self.prune();
            self.settle();
        }

        fn arrive(&mut self, key: u64, _weight: u64, capacity: u64) -> u8 {
            self.capacity = capacity;
            let known = self.stack.contains(&key);
            self.stack.retain(|&other| other != key);
            u8::from(known)
        }

        fn evict(&mut self, _capacity: u64, _arrival: u8) -> Option<u64> {
            if self.queue.is_empty() {
                self.demote();
            }
            let key = self.queue.remove(0);
            self.weights.remove(&key);
            let ghost = |key: &u64| !self.weights.contains_key(key);
            let len_max = 2 * self.weights.len().max(16);
            if self.bounded && self.stack.iter().filter(|key| ghost(key)).count() > len_max {
                let lowest = self.stack.iter().position(ghost).unwrap();
                self.stack.remove(lowest);
            }
            Some(key)
        }

        fn insert(&mut self, key: u64, weight: u64, _capacity: u64, known: u8) {
            let low: u64 = self.low.iter().map(|key| self.weights[key]).sum();
            let share = self.capacity - (self.capacity / 100).max(2).min(self.capacity / 2);
            self.weights.insert(key, weight);
            self.stack.push(key);
            if known == 1 || low + weight <= share {
                self.low.insert(key);
            } else {
                self.queue.push(key);
            }
            self.settle();
            self.prune();
        }

        fn overwrite(&mut self, key: u64, weight: u64) {
            self.weights.insert(key, weight);
            self.hit(key);
        }

        fn remove(&mut self, key: u64) {
            self.weights.remove(&key);
            self.low.remove(&key);
            self.stack.retain(|&other| other != key);
            self.queue.retain(|&other| other != key);
            self.prune();
        }
    }

    #[test]
    fn does_what_the_paper_says() {
        let lists = |bounded| move || Lists { bounded, ..Lists::default() };
        check_against_model(Lirs::default, lists(true), Order::Exact);
        check_against_model(Lirs::unbounded, lists(false), Order::Exact);
    }

    /// Three Ls and two that wait. `4` comes back while it is in the stack, and takes the place
    /// of the L that is unused for longest.
    #[test]
    fn who_comes_back_soon_takes_the_place_of_the_oldest_low() {
        let mut cache = Simulator::new(Lirs::default(), 5);
        let order = |cache: &Simulator<Lirs>| {
            let mut keys = Vec::new();
            cache.order(|key| {
                keys.push(key);
                true
            });
            keys
        };
        for key in [1, 2, 3, 4, 5] {
            cache.request(&Request::new(key));
        }
        // Stack 1L 2L 3L 4 5, queue 4 5.
        assert_eq!(order(&cache), [4, 5, 1, 2, 3]);
        cache.request(&Request::new(6));
        // Stack 1L 2L 3L 4g 5 6, queue 5 6.
        cache.request(&Request::new(4));
        // Stack 2L 3L 5g 6 4L, queue 6 1.
        assert_eq!(order(&cache), [6, 1, 2, 3, 4]);
        assert_eq!(cache.policy().ghosts.len(), 1);
    }

    #[test]
    fn ghosts_are_no_more_than_twice_the_residents() {
        for (policy, ghosts) in [(Lirs::default(), 80), (Lirs::unbounded(), 960)] {
            let mut cache = Simulator::new(policy, 40);
            (0..1_000).for_each(|key| _ = cache.request(&Request::new(key)));
            // The resident before the victim is gone count, and one that waits is resident.
            assert!(cache.policy().ghosts.len().abs_diff(ghosts) <= 2);
        }
    }
}
