//! What expires next: a hierarchical timer wheel.
//!
//! Source: Varghese and Lauck, "Hashed and hierarchical timing wheels: data structures for the
//! efficient implementation of a timer facility", SOSP 1987, section 6.2 (scheme 7). A deadline is a
//! number of eleven digits of 6 bits. A place stands in the slot of the highest digit in which its
//! deadline differs from the wheel's time, and moves down when the time comes to that slot:
//!
//! ```text
//! time  3 5 9       level 2   slots 4 … 63   deadlines 4 0 0 …         the digit differs first here
//!                   level 1   slots 6 … 63   deadlines 3 6 0 … 3 63 63
//!                   level 0   slots 10 … 63  deadlines 3 5 10 … 3 5 63      exact to the ms
//! ```
//!
//! Adding and removing take a few instructions; until it is due, a place moves down at most ten
//! times, and two or three times for most. The levels are of absolute time, so no slot is ever passed
//! twice, and there is no horizon.
//!
//! A list of places stands in each slot, linked by arrays of integers: 8 bytes for each place, 256
//! for each level in use. The wheel does not know deadlines, but asks for them when a slot's time
//! comes; so a deadline may move to later at any time without being told to the wheel.
//!
//! # Invariants
//! 1. A place stands in one slot or in none, and a slot that has any is marked as occupied.
//! 2. In each level, occupied slots are beyond that digit of the time, but for the slot that is
//!    open: whose time has come, and which is being emptied.
//! 3. No place stands in a slot that comes after its deadline.

use super::policy::cover;
use super::slab::IDS;

/// Bits of a digit.
const BITS: u32 = 6;
/// Slots of a level.
const SLOTS: usize = 1 << BITS;

/// The end of a list, and what leads to a place that is in no slot.
const NONE: u32 = u32::MAX;

/// What stands before the first place of a slot. There are no such places.
fn head(level: usize, slot: usize) -> u32 {
    const FIRST: u32 = IDS;
    // Eleven levels of 64: less than what is left above `IDS`.
    FIRST + u32::try_from(level * SLOTS + slot).unwrap_or(0)
}

/// The level and slot of a head.
const fn slot_of(head: u32) -> (usize, usize) {
    let at = (head - IDS) as usize;
    (at / SLOTS, at % SLOTS)
}

#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

const UNLINKED: Link = Link { before: NONE, after: NONE };

#[derive(Debug, Clone)]
struct Level {
    /// A bit for each slot.
    occupied: u64,
    first: [u32; SLOTS],
}

impl Level {
    const EMPTY: Self = Self { occupied: 0, first: [NONE; SLOTS] };
}

/// Places by their deadlines.
#[derive(Debug, Default)]
pub(super) struct Wheel {
    now_ms: u64,
    /// As many as were needed so far.
    levels: Vec<Level>,
    /// By place.
    links: Vec<Link>,
    len: usize,
    /// The slot that is being emptied.
    open: Option<(usize, usize)>,
}

/// The digit of a number at a level.
#[expect(clippy::cast_possible_truncation, reason = "6 bits")]
const fn digit(number: u64, level: usize) -> usize {
    ((number >> (BITS as usize * level)) & (SLOTS as u64 - 1)) as usize
}

/// When a slot of a level begins that has the same digits above as this time.
const fn begin_of(now_ms: u64, level: usize, slot: usize) -> u64 {
    let shift = BITS as usize * level;
    ((now_ms >> shift) & !(SLOTS as u64 - 1) | slot as u64) << shift
}

impl Wheel {
    /// Number of places in it.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing can expire.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a place with this deadline, or gives it another one.
    pub(super) fn put(&mut self, place: u32, deadline_ms: u64) {
        self.remove(place);
        // What is due already becomes so with the next ms.
        let deadline_ms = deadline_ms.max(self.now_ms.saturating_add(1));
        let level = match deadline_ms ^ self.now_ms {
            0 => 0,
            differing => (differing.ilog2() / BITS) as usize,
        };
        let slot = digit(deadline_ms, level);
        if self.levels.len() <= level {
            self.levels.resize(level + 1, Level::EMPTY);
        }
        cover(&mut self.links, place, UNLINKED);
        let level_of = &mut self.levels[level];
        level_of.occupied |= 1 << slot;
        let after = std::mem::replace(&mut level_of.first[slot], place);
        self.links[place as usize] = Link { before: head(level, slot), after };
        if after != NONE {
            self.links[after as usize].before = place;
        }
        self.len += 1;
    }

    /// Takes out a place, if it is there.
    pub(super) fn remove(&mut self, place: u32) {
        let Some(link) = self.links.get_mut(place as usize) else { return };
        let Link { before, after } = std::mem::replace(link, UNLINKED);
        if before == NONE {
            return;
        }
        self.len -= 1;
        if after != NONE {
            self.links[after as usize].before = before;
        }
        if before < IDS {
            self.links[before as usize].after = after;
            return;
        }
        let (level, slot) = slot_of(before);
        let level = &mut self.levels[level];
        level.first[slot] = after;
        if after == NONE {
            level.occupied &= !(1 << slot);
        }
    }

    /// Forgets all places.
    pub(super) fn clear(&mut self) {
        *self = Self { now_ms: self.now_ms, ..Self::default() };
    }

    /// Goes on to a time, by at most so many steps, each of which moves one place or takes it out.
    /// The next place that is due then, which is in the wheel no more. `None`: there is no more,
    /// or there are no steps left.
    ///
    /// `deadline_of` says the deadline of a place as it is now, later than that time; `None`, if it
    /// has passed.
    pub(super) fn next_due(
        &mut self,
        now_ms: u64,
        steps: &mut usize,
        deadline_of: impl Fn(u32) -> Option<u64>,
    ) -> Option<u32> {
        while *steps > 0 {
            let (level, slot) = match self.open {
                Some(open) => open,
                None => self.open_next(now_ms)?,
            };
            let place = self.levels[level].first[slot];
            if place == NONE {
                self.open = None;
                continue;
            }
            *steps -= 1;
            self.remove(place);
            let Some(deadline_ms) = deadline_of(place) else { return Some(place) };
            // Later than now, which is not before the time of the slot: so it comes elsewhere.
            self.put(place, deadline_ms);
        }
        None
    }

    /// Opens the next slot whose time has come; `None` if there is none, and then it is now.
    fn open_next(&mut self, now_ms: u64) -> Option<(usize, usize)> {
        let next = self.first_slot().filter(|&(_, begin_ms)| begin_ms <= now_ms);
        match next {
            Some((open, begin_ms)) => {
                self.now_ms = begin_ms;
                self.open = Some(open);
            }
            None => self.now_ms = self.now_ms.max(now_ms),
        }
        self.open
    }

    /// The first occupied slot, and when it begins. No slot is open.
    fn first_slot(&self) -> Option<((usize, usize), u64)> {
        // What differs from the time in a lower digit only comes before what does in a higher one.
        let (level, slots) =
            self.levels.iter().enumerate().find(|(_, level)| level.occupied != 0)?;
        let slot = slots.occupied.trailing_zeros() as usize;
        Some(((level, slot), begin_of(self.now_ms, level, slot)))
    }

    /// Checks the invariants; `deadlines` are those of all places that have any, 0 of one that is
    /// known to have passed.
    pub(super) fn validate(
        &self,
        deadlines: impl Iterator<Item = (u32, u64)>,
    ) -> Result<(), String> {
        let mut linked = 0;
        for (level, slots) in self.levels.iter().enumerate() {
            for slot in 0..SLOTS {
                let mut before = head(level, slot);
                let mut at = slots.first[slot];
                if (slots.occupied >> slot) & 1 != u64::from(at != NONE) {
                    return Err(format!("slot {slot} of level {level} is not marked as it is"));
                }
                let is_open = self.open == Some((level, slot));
                if at != NONE && !is_open && slot <= digit(self.now_ms, level) {
                    return Err(format!("slot {slot} of level {level} was passed"));
                }
                while at != NONE {
                    let link = self.links[at as usize];
                    if link.before != before || linked == self.len {
                        return Err(format!("place {at} is linked wrongly in the wheel"));
                    }
                    linked += 1;
                    before = at;
                    at = link.after;
                }
            }
        }
        if linked != self.len {
            return Err(format!("{linked} places are in the wheel, which counts {}", self.len));
        }
        let mut known = 0;
        for (place, deadline_ms) in deadlines {
            known += 1;
            let mut at = self.links.get(place as usize).copied().unwrap_or(UNLINKED).before;
            if at == NONE {
                return Err(format!("place {place} has a deadline, and is not in the wheel"));
            }
            while at < IDS {
                at = self.links[at as usize].before;
            }
            let (level, slot) = slot_of(at);
            let begin_ms = begin_of(self.now_ms, level, slot);
            // What was due when it came is noticed as soon as can be.
            if deadline_ms > 0 && begin_ms > deadline_ms.max(self.now_ms.saturating_add(1)) {
                return Err(format!("place {place} is due at {deadline_ms}, not at {begin_ms} ms"));
            }
        }
        if known != self.len {
            return Err(format!("{} places in the wheel, {known} with a deadline", self.len));
        }
        Ok(())
    }

    /// Heap memory in use.
    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        self.links.capacity() * size_of::<Link>() + self.levels.capacity() * size_of::<Level>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Op {
        /// A place, and how many ms from now; or before.
        Put(u32, u64),
        PutLate(u32),
        Remove(u32),
        /// The deadline moves to so much later, and the wheel does not hear of it.
        Defer(u32, u64),
        /// Time goes on, and there are so many steps.
        GoOn(u64, usize),
        Clear,
    }

    fn op() -> impl Strategy<Value = Op> {
        let place = || 0..40_u32;
        // Of all magnitudes.
        let span = || (0..64_u32, any::<u64>()).prop_map(|(bits, number)| number >> bits);
        let short = || (40..64_u32, any::<u64>()).prop_map(|(bits, number)| number >> bits);
        prop_oneof![
            8 => (place(), span()).prop_map(|(place, ms)| Op::Put(place, ms)),
            8 => (place(), short()).prop_map(|(place, ms)| Op::Put(place, ms)),
            1 => place().prop_map(Op::PutLate),
            3 => place().prop_map(Op::Remove),
            3 => (place(), short()).prop_map(|(place, ms)| Op::Defer(place, ms)),
            6 => (short(), prop_oneof![0..6_usize, Just(usize::MAX)])
                .prop_map(|(ms, steps)| Op::GoOn(ms, steps)),
            1 => (span(), Just(usize::MAX)).prop_map(|(ms, steps)| Op::GoOn(ms, steps)),
            1 => Just(Op::Clear),
        ]
    }

    proptest! {
        #[test]
        fn tells_what_a_sorted_map_tells(
            begin_ms in 0..1_u64 << 62, ops in prop::collection::vec(op(), 0..120),
        ) {
            let (mut wheel, mut now_ms) = (Wheel::default(), begin_ms);
            let mut model = BTreeMap::<u32, u64>::new();
            for op in ops {
                match op {
                    Op::Put(place, ms) => {
                        let deadline_ms = (now_ms + 1).saturating_add(ms).min(u64::MAX - 1);
                        wheel.put(place, deadline_ms);
                        model.insert(place, deadline_ms);
                    }
                    Op::PutLate(place) => {
                        wheel.put(place, begin_ms);
                        model.insert(place, begin_ms);
                    }
                    Op::Remove(place) => {
                        wheel.remove(place);
                        model.remove(&place);
                    }
                    Op::Defer(place, ms) => {
                        // A use moves the deadline of what is live.
                        let live = |deadline_ms: &&mut u64| **deadline_ms > now_ms;
                        if let Some(deadline_ms) = model.get_mut(&place).filter(live) {
                            *deadline_ms = deadline_ms.saturating_add(ms).min(u64::MAX - 1);
                        }
                    }
                    Op::GoOn(ms, mut steps) => {
                        now_ms = now_ms.saturating_add(ms).min(u64::MAX / 2);
                        let later = |deadline_ms: &u64| *deadline_ms > now_ms;
                        let before = steps;
                        let mut due = 0;
                        while let Some(place) = wheel.next_due(now_ms, &mut steps, |place| {
                            model.get(&place).copied().filter(later)
                        }) {
                            due += 1;
                            let deadline_ms = model.remove(&place);
                            prop_assert!(deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms));
                        }
                        prop_assert!(due <= before - steps);
                        // With steps left, nothing is left that is due; but for what came too
                        // late, which is due with the next ms.
                        if steps > 0 {
                            prop_assert!(model.values().all(|ms| later(ms) || *ms == begin_ms));
                        }
                    }
                    Op::Clear => {
                        wheel.clear();
                        model.clear();
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let deadlines = model.iter().map(|(&place, &ms)| (place, ms));
                prop_assert_eq!(wheel.validate(deadlines), Ok(()));
            }
            let (mut steps, mut left) = (usize::MAX, model.len());
            while wheel.next_due(u64::MAX, &mut steps, |_| None).is_some() {
                left -= 1;
            }
            prop_assert!(left == 0 && wheel.is_empty());
        }
    }

    #[test]
    fn what_is_due_comes_in_the_order_of_the_slots() {
        let mut wheel = Wheel::default();
        let deadlines = [70, 5, 64, 3, 4_100];
        (0..).zip(deadlines).for_each(|(place, ms)| wheel.put(place, ms));
        let due = |wheel: &mut Wheel, now_ms| -> Vec<u32> {
            let later = |place: u32| Some(deadlines[place as usize]).filter(|&ms| ms > now_ms);
            let mut steps = usize::MAX;
            std::iter::from_fn(|| wheel.next_due(now_ms, &mut steps, later)).collect()
        };
        assert!(due(&mut wheel, 2).is_empty());
        assert_eq!(due(&mut wheel, 3), [3], "to the ms");
        assert_eq!(due(&mut wheel, 69), [1, 2]);
        assert_eq!(due(&mut wheel, 70), [0]);
        assert!(due(&mut wheel, 4_099).is_empty());
        assert_eq!(due(&mut wheel, 4_100), [4]);
    }

    #[test]
    fn a_place_moves_a_few_times_at_most_and_takes_nine_bytes() {
        let mut wheel = Wheel::default();
        let hour = 3_600_000;
        let begin_ms = 1_800_000_000_000;
        let mut steps = usize::MAX;
        assert_eq!(wheel.next_due(begin_ms, &mut steps, |_| None), None);
        let deadline_of = |place: u32| begin_ms + 1 + u64::from(place) * 13 % hour;
        let count = 20_000;
        (0..count).for_each(|place| wheel.put(place, deadline_of(place)));
        assert!(wheel.allocated_bytes() < count as usize * 9 + 4_000);
        let mut due = 0;
        for now_ms in (begin_ms..=begin_ms + hour).step_by(1_000) {
            let later = |place| Some(deadline_of(place)).filter(|&ms| ms > now_ms);
            while wheel.next_due(now_ms, &mut steps, later).is_some() {
                due += 1;
            }
        }
        assert_eq!(due, count);
        let moves = (usize::MAX - steps) as f64 / f64::from(count);
        assert!(moves < 5.0, "each took {moves} steps");
    }
}
