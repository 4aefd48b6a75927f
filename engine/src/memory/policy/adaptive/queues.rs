//! The structure that is steered: a window before a main queue, and a rule for who passes.
//!
//! ```text
//! new ──► window ──┬─ used often enough ──────────► main ──► out, unless used:
//!            ▲     ├─ more popular than who would   ▲  ▲         │ then around again
//!            └─ or │  have to leave main instead ───┘  └─────────┘
//!        around    └─ else: out, a ghost     back while a ghost: into main at once
//! ```
//! Both are FIFO queues, so a hit only raises the entry's counter. What differs from one
//! [`Setting`] to another is how long the window is and who passes; nothing that is kept, so a
//! new setting holds from the next victim on, and costs nothing.
//!
//! # Invariants
//! 1. Every entry is in the queue that `in_main` says, and in no other.
//! 2. All hits reach the sketch: when the counter that holds them is lowered. (What is removed
//!    takes its last ones along.)

use super::super::list::{Links, List};
use super::super::sketch::Sketch;
use super::super::{Arrival, Entries, OnHit, Policy, cover, offer};
use super::ghosts::Ghosts;

/// Hits are counted up to this (2 bits).
const HITS_MAX: u8 = 3;
/// Most entries that go from an oversized window to a main queue with room, for one victim.
const MOVES_MAX: usize = 4;

/// How the structure is to behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting {
    /// What the window may weigh, in hundredths of the capacity.
    pub window: u64,
    /// Hits in the window that lead to the main queue; above what is counted, none do.
    pub promote_at: u8,
    /// Whether what leaves the window may take the place of something less popular in main.
    pub by_frequency: bool,
    /// How long ghosts are known: until so much was evicted, in hundredths of the capacity.
    pub ghosts: u64,
    /// All is window, and what was used goes around once more: CLOCK.
    pub clock: bool,
}

/// The window and the main queue of one cache.
#[derive(Debug)]
pub(super) struct Queues {
    setting: Setting,
    links: Links,
    window: List,
    main: List,
    /// Which of the two queues an entry is in.
    in_main: Vec<bool>,
    /// Nothing has had to leave yet: what the window has no room for fills the main queue.
    filling: bool,
    sketch: Sketch,
    /// A sketch is kept, whatever the setting says now.
    with_sketch: bool,
    ghosts: Ghosts,
    /// Ghosts are kept, whatever the setting says now.
    with_ghosts: bool,
}

/// So many hundredths of a capacity, without overflow.
fn share(capacity: u64, hundredths: u64) -> u64 {
    let part = u128::from(capacity) * u128::from(hundredths) / 100;
    u64::try_from(part).unwrap_or(u64::MAX)
}

impl Queues {
    /// Empty queues, which may be set to anything later.
    pub(super) fn steered(setting: Setting) -> Self {
        Self { with_sketch: true, with_ghosts: true, ..Self::fixed(setting) }
    }

    /// Empty queues that only keep what this one setting needs.
    pub(super) fn fixed(setting: Setting) -> Self {
        Self {
            setting,
            links: Links::default(),
            window: List::default(),
            main: List::default(),
            in_main: Vec::new(),
            filling: true,
            sketch: Sketch::default(),
            with_sketch: setting.by_frequency,
            ghosts: Ghosts::default(),
            with_ghosts: setting.ghosts > 0,
        }
    }

    pub(super) const fn steer(&mut self, setting: Setting) {
        self.setting = setting;
    }

    /// Makes the sketch large enough for the history of so many entries.
    pub(super) fn cover_history(&mut self, entries: usize) {
        if self.with_sketch {
            self.sketch.cover(entries);
        }
    }

    /// Makes the sketch no larger than the history of so many entries needs.
    pub(super) fn shrink_history(&mut self, entries: usize) {
        self.sketch.shrink(entries);
    }

    fn window_max(&self, capacity: u64) -> u64 {
        if self.setting.clock { u64::MAX } else { share(capacity, self.setting.window).max(1) }
    }

    fn count(&mut self, hash: u64, times: u8) {
        if self.with_sketch && times > 0 {
            self.sketch.raise(hash, times);
        }
    }

    fn push_window(&mut self, id: u32, weight: u64) {
        self.in_main[id as usize] = false;
        self.window.push(&mut self.links, id, weight);
    }

    fn push_main(&mut self, id: u32, weight: u64) {
        self.in_main[id as usize] = true;
        self.main.push(&mut self.links, id, weight);
    }

    fn leave(&mut self, id: u32, entries: &dyn Entries) -> u32 {
        if self.with_ghosts {
            self.ghosts.push(entries.hash(id), entries.weight(id), entries.capacity());
        }
        id
    }

    /// Who would have to leave main; it stays linked. Those used before it go around.
    fn last_of_main(&mut self, entries: &dyn Entries) -> Option<u32> {
        while let Some(id) = self.main.oldest() {
            match entries.hits(id).min(HITS_MAX) {
                0 => return Some(id),
                hits => {
                    let taken = if self.setting.clock { hits } else { 1 };
                    entries.set_hits(id, hits - taken);
                    self.count(entries.hash(id), taken);
                    self.main.refresh(&mut self.links, id);
                }
            }
        }
        None
    }

    fn victim_of_main(&mut self, entries: &dyn Entries) -> Option<u32> {
        let id = self.last_of_main(entries)?;
        self.main.remove(&mut self.links, id, entries.weight(id));
        Some(self.leave(id, entries))
    }

    /// What becomes of the oldest of the window, which is unlinked: a victim, if that is
    /// anyone's end.
    fn judge(&mut self, id: u32, weight: u64, entries: &dyn Entries) -> Option<u32> {
        let (hash, hits) = (entries.hash(id), entries.hits(id).min(HITS_MAX));
        entries.set_hits(id, 0);
        self.count(hash, hits);
        if self.setting.clock && hits > 0 {
            self.push_window(id, weight);
            return None;
        }
        if hits >= self.setting.promote_at {
            self.push_main(id, weight);
            return None;
        }
        if self.setting.by_frequency {
            let rival = self.last_of_main(entries).map(|rival| entries.hash(rival));
            let passes =
                rival.is_none_or(|rival| self.sketch.estimate(hash) > self.sketch.estimate(rival));
            if passes {
                let victim = rival.and_then(|_| self.victim_of_main(entries));
                self.push_main(id, weight);
                return victim;
            }
        }
        Some(self.leave(id, entries))
    }
}

impl Policy for Queues {
    fn on_hit(&self) -> OnHit {
        OnHit::count_to(HITS_MAX)
    }

    fn arrive(&mut self, hash: u64, _weight: u64, entries: &dyn Entries) -> Arrival {
        self.count(hash, 1);
        let known = share(entries.capacity(), self.setting.ghosts);
        // Taken in any case: it is about to be resident.
        if self.with_ghosts && self.ghosts.take(hash, known) {
            Arrival::GHOST
        } else {
            Arrival::NEW
        }
    }

    fn insert(&mut self, id: u32, arrival: Arrival, entries: &dyn Entries) {
        cover(&mut self.in_main, id, false);
        let weight = entries.weight(id);
        if arrival == Arrival::GHOST {
            self.push_main(id, weight);
        } else {
            self.push_window(id, weight);
        }
        if self.with_ghosts {
            self.ghosts.cover(self.len());
        }
        if self.filling
            && self.window.weight() > self.window_max(entries.capacity())
            && let Some(oldest) = self.window.oldest()
        {
            let weight = entries.weight(oldest);
            self.window.remove(&mut self.links, oldest, weight);
            self.push_main(oldest, weight);
        }
    }

    fn overwrite(&mut self, id: u32, old_weight: u64, entries: &dyn Entries) {
        let list = if self.in_main[id as usize] { &mut self.main } else { &mut self.window };
        list.reweigh(old_weight, entries.weight(id));
    }

    fn remove(&mut self, id: u32, entries: &dyn Entries) {
        let list = if self.in_main[id as usize] { &mut self.main } else { &mut self.window };
        list.remove(&mut self.links, id, entries.weight(id));
    }

    fn victim(&mut self, _arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        self.filling &= self.is_empty();
        let capacity = entries.capacity();
        let window_max = self.window_max(capacity);
        let mut moves = 0;
        while self.window.weight() > window_max || self.main.len() == 0 {
            let Some(id) = self.window.oldest() else {
                break;
            };
            let weight = entries.weight(id);
            self.window.remove(&mut self.links, id, weight);
            let main_has_room = self.main.weight().saturating_add(window_max) < capacity;
            if moves < MOVES_MAX && self.window.weight() > window_max && main_has_room {
                moves += 1;
                self.push_main(id, weight);
            } else if let Some(victim) = self.judge(id, weight, entries) {
                return Some(victim);
            }
        }
        self.victim_of_main(entries)
    }

    fn len(&self) -> usize {
        self.window.len() + self.main.len()
    }

    fn clear(&mut self) {
        let (with_sketch, with_ghosts) = (self.with_sketch, self.with_ghosts);
        *self = Self { with_sketch, with_ghosts, ..Self::fixed(self.setting) };
    }

    fn spare(&mut self, id: u32, entries: &dyn Entries) {
        let known = share(entries.capacity(), self.setting.ghosts);
        let ghost = self.with_ghosts && self.ghosts.take(entries.hash(id), known);
        entries.set_hits(id, 0);
        self.insert(id, if ghost { Arrival::GHOST } else { Arrival::NEW }, entries);
    }

    fn order(&self, _entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        offer(self.window.iter(&self.links).chain(self.main.iter(&self.links)), f);
    }

    fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes()
            + self.in_main.capacity()
            + self.sketch.allocated_bytes()
            + self.ghosts.allocated_bytes()
    }

    fn validate(&self, entries: &dyn Entries) -> Result<(), String> {
        self.window.validate(&self.links, entries)?;
        self.main.validate(&self.links, entries)?;
        if self.window.iter(&self.links).any(|id| self.in_main[id as usize])
            || self.main.iter(&self.links).any(|id| !self.in_main[id as usize])
        {
            return Err("an entry is not in the queue that it is said to be in".to_owned());
        }
        Ok(())
    }
}
