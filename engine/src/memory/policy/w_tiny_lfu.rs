//! W-TinyLFU: who leaves the window has to be more popular than who would leave for it.
//!
//! ```text
//!           ┌─ window (1 %, adapts) ─┐      ┌─ main ──────────────────────────────┐
//! insert ──►│ in order of use        │─────►│ probation ──── a use ──► protected  │
//!           └────────────────────────┘ once │     ▲  └ oldest ► out      (80 %)   │
//!                                      full:│     └────── too many ────────┘      │
//!            the oldest of the window and of probation compete: the one that the
//!            sketch has seen less often leaves
//! ```
//!
//! # Invariants
//! 1. `place` says in which of the three lists an entry is.
//! 2. What came last is in the window, however heavy it is.

use super::climber::Climber;
use super::list::{Links, List};
use super::random::Draws;
use super::sketch::Sketch;
use super::{Arrival, Entries, OnHit, Policy, cover, offer};

/// The main part's share before anything is adapted.
const MAIN_SHARE: f64 = 0.99;
/// The share of the main part that is protected.
const PROTECTED_SHARE: f64 = 0.80;
/// What was seen so often may enter by chance although it is not more popular.
const WARM: u64 = 6;
/// One in so many of those enters.
const WARM_CHANCE: u64 = 128;
/// Most entries that change their list for the climber at once.
const MOVES_MAX: usize = 1_000;

/// W-TinyLFU: LRU lists behind a sketch that remembers how popular even the evicted are.
///
/// Source: Einziger, Friedman, Manes, "TinyLFU: a highly efficient cache admission policy", ACM
/// Transactions on Storage 13(4), 2017, section 4; the window's size adapts by hill climbing:
/// Einziger, Eytan, Friedman, Manes, "Adaptive software cache management", Middleware 2018,
/// section 4.1; constants and random admission as in Caffeine.
///
/// Costs 9 bytes per entry and 8 to 16 for the sketch; no ghosts. Hits are replayed under the
/// lock. Once in ten requests per entry all counters are halved, which takes about a
/// millisecond per million entries.
///
/// Where it departs from Caffeine:
/// - The sketch grows with the number of entries without forgetting
///   ([`expecting`](Self::expecting) sets it at once), so it needs no idea of their weight.
/// - Room is made before the newcomer is in, so it never competes itself. If it is heavier
///   than the window, the window gives all it has, then probation gives without competition,
///   and the newcomer stays alone in the window until the next one comes.
/// - Each climb takes ten requests per word of the sketch, and turns at the end of the range.
///
/// Choices: an overwrite counts as a use.
#[derive(Debug)]
pub struct WTinyLfu {
    links: Links,
    place: Vec<Place>,
    window: List,
    probation: List,
    protected: List,
    sketch: Sketch,
    draws: Draws,
    /// The share of the main part.
    main_share: f64,
    /// `None`: the window does not adapt.
    climber: Option<Climber>,
    /// The window may take entries of the main part, until it is full.
    growing: bool,
    /// Something had to leave already.
    full: bool,
    expected: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Window,
    Probation,
    Protected,
}

/// What the lists may weigh.
struct Shares {
    window: u64,
    protected: u64,
}

impl Default for WTinyLfu {
    fn default() -> Self {
        Self {
            links: Links::default(),
            place: Vec::new(),
            window: List::default(),
            probation: List::default(),
            protected: List::default(),
            sketch: Sketch::default(),
            draws: Draws::new(0),
            main_share: MAIN_SHARE,
            climber: Some(Climber::default()),
            growing: false,
            full: false,
            expected: 0,
        }
    }
}

/// ⌊number × share⌋.
#[expect(clippy::cast_possible_truncation, reason = "not more than the number")]
#[expect(clippy::cast_sign_loss, reason = "shares are not negative")]
const fn part(number: u64, share: f64) -> u64 {
    (number as f64 * share) as u64
}

impl WTinyLfu {
    /// The same with a window that stays at one hundredth.
    #[must_use]
    pub fn with_fixed_window(self) -> Self {
        Self { climber: None, ..self }
    }

    /// The same with a sketch that is large enough for so many entries from the start.
    #[must_use]
    pub fn expecting(mut self, entries: usize) -> Self {
        self.expected = entries;
        self.sketch.cover(entries);
        self
    }

    fn shares(&self, capacity: u64) -> Shares {
        let main = part(capacity, MAIN_SHARE);
        let probation = main - part(main, PROTECTED_SHARE);
        let main = part(capacity, self.main_share);
        Shares { window: (capacity - main).max(1), protected: main.saturating_sub(probation) }
    }

    fn list(&mut self, place: Place) -> (&mut List, &mut Links) {
        let list = match place {
            Place::Window => &mut self.window,
            Place::Probation => &mut self.probation,
            Place::Protected => &mut self.protected,
        };
        (list, &mut self.links)
    }

    fn transfer(&mut self, id: u32, to: Place, weight: u64) {
        let from = std::mem::replace(&mut self.place[id as usize], to);
        let (list, links) = self.list(from);
        list.remove(links, id, weight);
        let (list, links) = self.list(to);
        list.push(links, id, weight);
    }

    /// Whether one that leaves the window may take the place of one in the main part.
    fn admits(&mut self, candidate: u64, victim: u64) -> bool {
        let (candidate, victim) = (self.sketch.estimate(candidate), self.sketch.estimate(victim));
        // Without the chance, somebody who knows the hashes could keep everything else out.
        candidate > victim || (candidate >= WARM && self.draws.next().is_multiple_of(WARM_CHANCE))
    }

    /// Moves entries between the lists until each keeps to its share.
    fn settle(&mut self, entries: &dyn Entries) {
        let shares = self.shares(entries.capacity());
        let mut moves = MOVES_MAX;
        let mut may_move = || {
            moves = moves.saturating_sub(1);
            moves > 0
        };
        while self.protected.weight() > shares.protected
            && may_move()
            && let Some(id) = self.protected.oldest()
        {
            self.transfer(id, Place::Probation, entries.weight(id));
        }
        while self.window.weight() > shares.window
            && self.window.len() > 1
            && may_move()
            && let Some(id) = self.window.oldest()
        {
            self.transfer(id, Place::Probation, entries.weight(id));
        }
        while self.growing && may_move() {
            let room = shares.window.saturating_sub(self.window.weight());
            let fits = |id: &u32| entries.weight(*id) <= room;
            let next = self.probation.oldest().filter(fits);
            match next.or(self.protected.oldest().filter(fits)) {
                Some(id) if room > 0 => self.transfer(id, Place::Window, entries.weight(id)),
                _ => self.growing = false,
            }
        }
    }

    /// Tells sketch and climber of a request.
    fn record(&mut self, hash: u64, hit: bool) {
        self.sketch.count(hash);
        let period = self.sketch.period();
        let Some(climber) = self.climber.as_mut().filter(|_| self.full) else {
            return;
        };
        if let Some(way) = climber.count(hit, period) {
            // At most, the window takes all that was to be protected.
            let least = MAIN_SHARE * (1.0 - PROTECTED_SHARE);
            let share = (self.main_share - way).clamp(least, MAIN_SHARE);
            if share == self.main_share {
                climber.turn();
            }
            self.growing = share < self.main_share;
            self.main_share = share;
        }
    }
}

impl Policy for WTinyLfu {
    fn on_hit(&self) -> OnHit {
        OnHit::REPLAY
    }

    fn arrive(&mut self, hash: u64, _weight: u64, _entries: &dyn Entries) -> Arrival {
        self.record(hash, false);
        Arrival::NEW
    }

    fn insert(&mut self, id: u32, _arrival: Arrival, entries: &dyn Entries) {
        cover(&mut self.place, id, Place::Window);
        self.place[id as usize] = Place::Window;
        self.window.push(&mut self.links, id, entries.weight(id));
        self.sketch.cover(self.len());
        self.settle(entries);
    }

    fn hit(&mut self, id: u32, entries: &dyn Entries) {
        self.record(entries.hash(id), true);
        match self.place[id as usize] {
            Place::Window => self.window.refresh(&mut self.links, id),
            Place::Probation => self.transfer(id, Place::Protected, entries.weight(id)),
            Place::Protected => self.protected.refresh(&mut self.links, id),
        }
        self.settle(entries);
    }

    fn overwrite(&mut self, id: u32, old_weight: u64, entries: &dyn Entries) {
        let place = self.place[id as usize];
        self.list(place).0.reweigh(old_weight, entries.weight(id));
        self.hit(id, entries);
    }

    fn remove(&mut self, id: u32, entries: &dyn Entries) {
        let (list, links) = self.list(self.place[id as usize]);
        list.remove(links, id, entries.weight(id));
    }

    fn victim(&mut self, _arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        self.full = true;
        let of_main = self.probation.oldest().or(self.protected.oldest());
        let of_window = self.window.oldest();
        let competes = self.window.weight() >= self.shares(entries.capacity()).window;
        let id = match (of_window, of_main) {
            (Some(candidate), Some(victim)) if competes => {
                if self.admits(entries.hash(candidate), entries.hash(victim)) {
                    self.transfer(candidate, Place::Probation, entries.weight(candidate));
                    victim
                } else {
                    candidate
                }
            }
            _ => of_main.or(of_window)?,
        };
        self.remove(id, entries);
        Some(id)
    }

    /// As something new; but no request is counted.
    fn spare(&mut self, id: u32, entries: &dyn Entries) {
        self.insert(id, Arrival::NEW, entries);
    }

    fn len(&self) -> usize {
        self.window.len() + self.probation.len() + self.protected.len()
    }

    fn clear(&mut self) {
        let climber = self.climber.as_ref().map(|_| Climber::default());
        *self = Self { climber, ..Self::default().expecting(self.expected) };
    }

    /// Every entry once: probation, protected, window, the oldest of each first. Who competes
    /// with whom is decided by newcomers, so the truth may differ.
    fn order(&self, _entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        let main = self.probation.iter(&self.links).chain(self.protected.iter(&self.links));
        offer(main.chain(self.window.iter(&self.links)), f);
    }

    fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes() + self.place.capacity() + self.sketch.allocated_bytes()
    }

    fn validate(&self, entries: &dyn Entries) -> Result<(), String> {
        let lists = [
            (&self.window, Place::Window),
            (&self.probation, Place::Probation),
            (&self.protected, Place::Protected),
        ];
        for (list, place) in lists {
            list.validate(&self.links, entries)?;
            if list.iter(&self.links).any(|id| self.place[id as usize] != place) {
                return Err(format!("an entry is said to be in {place:?}, and is not"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::memory::policy::mix;
    use crate::memory::policy::model::{Model, Order, check_against_model};
    use crate::memory::simulate::{Request, Simulate, Simulator, Tally};

    type Queue = VecDeque<(u64, u64)>;

    /// Three plain lists, the least recently used in front, and the sketch, which has tests of
    /// its own. The window is fixed.
    #[derive(Debug)]
    struct Lists {
        window: Queue,
        probation: Queue,
        protected: Queue,
        sketch: Sketch,
        draws: Draws,
        capacity: u64,
    }

    fn lists() -> Lists {
        Lists {
            window: Queue::new(),
            probation: Queue::new(),
            protected: Queue::new(),
            sketch: Sketch::default(),
            draws: Draws::new(0),
            capacity: 0,
        }
    }

    fn weight(queue: &Queue) -> u64 {
        queue.iter().map(|entry| entry.1).sum()
    }

    fn take(queue: &mut Queue, key: u64) -> Option<(u64, u64)> {
        let at = queue.iter().position(|entry| entry.0 == key)?;
        queue.remove(at)
    }

    impl Lists {
        fn window_max(&self) -> u64 {
            (self.capacity - self.capacity * 99 / 100).max(1)
        }

        fn settle(&mut self) {
            let main = self.capacity * 99 / 100;
            while weight(&self.protected) > main * 8 / 10 {
                self.probation.extend(self.protected.pop_front());
            }
            while weight(&self.window) > self.window_max() && self.window.len() > 1 {
                self.probation.extend(self.window.pop_front());
            }
        }
    }

    impl Model for Lists {
        fn hit(&mut self, key: u64) {
            self.sketch.count(mix(key));
            if let Some(entry) = take(&mut self.window, key) {
                self.window.push_back(entry);
            } else {
                let known = take(&mut self.probation, key);
                let known = known.or_else(|| take(&mut self.protected, key));
                self.protected.extend(known);
            }
            self.settle();
        }

        fn arrive(&mut self, key: u64, _weight: u64, capacity: u64) -> u8 {
            self.capacity = capacity;
            self.sketch.count(mix(key));
            0
        }

        fn evict(&mut self, _capacity: u64, _arrival: u8) -> Option<u64> {
            let main = if self.probation.is_empty() { &self.protected } else { &self.probation };
            let (candidate, victim) = (self.window.front().copied(), main.front().copied());
            let competes = weight(&self.window) >= self.window_max();
            if let (Some(candidate), Some(victim), true) = (candidate, victim, competes) {
                let count = |entry: (u64, u64)| self.sketch.estimate(mix(entry.0));
                let (new, old) = (count(candidate), count(victim));
                if new <= old && (new < 6 || !self.draws.next().is_multiple_of(128)) {
                    return Some(self.window.pop_front()?.0);
                }
                self.remove(victim.0);
                self.probation.extend(self.window.pop_front());
                return Some(victim.0);
            }
            let key = victim.or(candidate)?.0;
            self.remove(key);
            Some(key)
        }

        fn insert(&mut self, key: u64, weight: u64, _capacity: u64, _arrival: u8) {
            self.window.push_back((key, weight));
            let len = self.window.len() + self.probation.len() + self.protected.len();
            self.sketch.cover(len);
            self.settle();
        }

        fn overwrite(&mut self, key: u64, weight: u64) {
            let all = self.window.iter_mut().chain(&mut self.probation).chain(&mut self.protected);
            all.filter(|entry| entry.0 == key).for_each(|entry| entry.1 = weight);
            self.hit(key);
        }

        fn remove(&mut self, key: u64) {
            for queue in [&mut self.window, &mut self.probation, &mut self.protected] {
                take(queue, key);
            }
        }

        fn spare(&mut self, key: u64, weight: u64, capacity: u64) {
            self.insert(key, weight, capacity, 0);
        }
    }

    #[test]
    fn does_what_plain_lists_do() {
        let policy = || WTinyLfu::default().with_fixed_window();
        check_against_model(policy, lists, Order::Complete);
    }

    fn hit_ratio(policy: WTinyLfu, trace: &[Request]) -> f64 {
        let mut tally = Tally::default();
        Simulator::new(policy, 200).run(trace, &mut tally);
        tally.hit_ratio()
    }

    #[test]
    fn a_scan_does_not_drive_out_the_popular() {
        let popular = (0..100_u64).cycle().take(1_000);
        let mut cache = Simulator::new(WTinyLfu::default().expecting(200), 200);
        for key in popular.chain(1_000..4_000) {
            cache.request(&Request::new(key));
        }
        let left = (0..100).filter(|&key| cache.contains(key)).count();
        assert!(left >= 95, "{left} of 100");
    }

    /// Every second request is for one of the hundred newest keys: what counts is to be new,
    /// and one hundredth of the capacity is too little for that.
    #[test]
    fn the_window_grows_where_recency_counts() {
        let keys = (100..40_000_u64).flat_map(|key| [key, key - mix(key) % 100]);
        let trace: Vec<Request> = keys.map(Request::new).collect();
        let fixed = hit_ratio(WTinyLfu::default().with_fixed_window(), &trace);
        let adaptive = hit_ratio(WTinyLfu::default(), &trace);
        assert!(adaptive > fixed + 0.2, "{fixed} fixed, {adaptive} adaptive");
    }
}
