//! Queues of entries, linked through one array of ids.
//!
//! Every id is in at most one list, so all lists of a policy share one [`Links`]: 8 bytes per
//! id, no allocation per entry, removal from the middle in O(1).
//!
//! # Invariants
//! 1. A list's `newest` has no newer neighbour, its `oldest` no older one.
//! 2. Neighbours point at each other; `len` and `weight` are those of the linked ids.

use super::Entries;

/// No id.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
}

/// The neighbours of every id.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Link>);

impl Links {
    #[inline]
    fn at(&mut self, id: u32) -> &mut Link {
        &mut self.0[id as usize]
    }

    pub(super) const fn allocated_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Link>()
    }

    #[inline]
    fn cover(&mut self, id: u32) {
        if self.0.len() <= id as usize {
            super::cover(&mut self.0, id, Link { newer: NONE, older: NONE });
        }
    }
}

/// A queue from the oldest to the newest.
#[derive(Debug)]
pub(super) struct List {
    newest: u32,
    oldest: u32,
    len: usize,
    weight: u64,
}

impl Default for List {
    fn default() -> Self {
        Self { newest: NONE, oldest: NONE, len: 0, weight: 0 }
    }
}

impl List {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) const fn oldest(&self) -> Option<u32> {
        if self.oldest == NONE { None } else { Some(self.oldest) }
    }

    pub(super) const fn newest(&self) -> Option<u32> {
        if self.newest == NONE { None } else { Some(self.newest) }
    }

    /// The neighbour of `id` that came after it.
    pub(super) fn newer(links: &Links, id: u32) -> Option<u32> {
        Some(links.0[id as usize].newer).filter(|&id| id != NONE)
    }

    /// Adds `id`, which is in no list, as the newest.
    pub(super) fn push(&mut self, links: &mut Links, id: u32, weight: u64) {
        links.cover(id);
        *links.at(id) = Link { newer: NONE, older: self.newest };
        match self.newest {
            NONE => self.oldest = id,
            newest => links.at(newest).newer = id,
        }
        self.newest = id;
        self.len += 1;
        self.weight += weight;
    }

    /// Takes out `id`, which is in this list.
    pub(super) fn remove(&mut self, links: &mut Links, id: u32, weight: u64) {
        let Link { newer, older } = *links.at(id);
        match newer {
            NONE => self.newest = older,
            newer => links.at(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => links.at(older).newer = newer,
        }
        self.len -= 1;
        self.weight -= weight;
    }

    /// Makes `id`, which is in this list, the newest.
    pub(super) fn refresh(&mut self, links: &mut Links, id: u32) {
        if self.newest != id {
            self.remove(links, id, 0);
            self.push(links, id, 0);
        }
    }

    /// Says that an id of this list has another weight now.
    pub(super) const fn reweigh(&mut self, old: u64, new: u64) {
        self.weight = self.weight - old + new;
    }

    /// All ids, the oldest first.
    pub(super) fn iter<'a>(&self, links: &'a Links) -> impl Iterator<Item = u32> + 'a {
        std::iter::successors(self.oldest(), |&id| Self::newer(links, id))
    }

    /// All ids, the newest first.
    pub(super) fn iter_back<'a>(&self, links: &'a Links) -> impl Iterator<Item = u32> + 'a {
        let older = |&id: &u32| Some(links.0[id as usize].older).filter(|&id| id != NONE);
        std::iter::successors(self.newest(), older)
    }

    /// Checks both invariants.
    pub(super) fn validate(&self, links: &Links, entries: &dyn Entries) -> Result<(), String> {
        let (mut older, mut len, mut weight) = (NONE, 0, 0);
        for id in self.iter(links).take(self.len + 1) {
            if links.0[id as usize].older != older {
                return Err(format!("entry {id} does not link back to {older}"));
            }
            (older, len, weight) = (id, len + 1, weight + entries.weight(id));
        }
        if (older, len, weight) != (self.newest, self.len, self.weight) {
            return Err(format!(
                "a list of {} entries weighing {} up to {} was walked as {len} weighing {weight} \
                 up to {older}",
                self.len, self.weight, self.newest
            ));
        }
        Ok(())
    }
}
