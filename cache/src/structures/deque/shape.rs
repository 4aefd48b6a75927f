//! What a deque's root says: which numbers its items have, and in which order they count.
//!
//! Items have the numbers from `head` to below `tail`, but for the gaps, which taking items out of the
//! middle has left. Turning the deque round turns the order of the numbers round.
//!
//! # Invariants
//! 1. `head ≤ tail`; the gaps are sorted, and none is at either end.
//! 2. A number that is in the trash is no item's: whoever takes it for one takes it out first.

use serde::{Deserialize, Serialize};

use super::super::ground::nonce;

/// The number of the first item of an empty deque: as far from one end of the numbers as from the
/// other.
const START: u64 = 1 << 63;

/// An end of a deque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Front,
    Back,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Front => Self::Back,
            Self::Back => Self::Front,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    /// Part of the names of all items: another one when everything is cleared.
    pub(super) era: u64,
    head: u64,
    tail: u64,
    gaps: Vec<u64>,
    is_reversed: bool,
    pub(super) max_len: Option<u64>,
    /// Items that could not be read, and were taken out.
    pub(super) lost: u64,
    trash: Vec<Trash>,
}

/// Numbers whose records are still to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Trash {
    era: u64,
    from: u64,
    to: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            era: nonce(),
            head: START,
            tail: START,
            gaps: Vec::new(),
            is_reversed: false,
            max_len: None,
            lost: 0,
            trash: Vec::new(),
        }
    }
}

impl Shape {
    pub(super) const fn len(&self) -> u64 {
        (self.tail - self.head).saturating_sub(self.gaps.len() as u64)
    }

    pub(super) const fn gap_count(&self) -> usize {
        self.gaps.len()
    }

    /// Turns the order round.
    pub(super) const fn reverse(&mut self) {
        self.is_reversed = !self.is_reversed;
    }

    /// The number of the item in this position.
    pub(super) fn at(&self, index: u64) -> Option<u64> {
        let len = self.len();
        if index >= len {
            return None;
        }
        let rank = if self.is_reversed { len - 1 - index } else { index };
        // As many gaps lie before it as have fewer items before them than it has.
        let (mut low, mut high) = (0, self.gaps.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.gaps[middle] - self.head - middle as u64 <= rank {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(self.head + rank + low as u64)
    }

    /// The number of the item at an end.
    pub(super) fn end(&self, side: Side) -> Option<u64> {
        match side {
            Side::Front => self.at(0),
            Side::Back => self.at(self.len().checked_sub(1)?),
        }
    }

    /// Whether an item has this number.
    pub(super) fn has(&self, number: u64) -> bool {
        (self.head..self.tail).contains(&number) && self.gaps.binary_search(&number).is_err()
    }

    /// A number for an item that is added at an end.
    pub(super) fn add(&mut self, side: Side) -> u64 {
        let is_high = (side == Side::Back) != self.is_reversed;
        let number = if is_high {
            self.tail += 1;
            self.tail - 1
        } else {
            self.head -= 1;
            self.head
        };
        self.recycle(number);
        number
    }

    /// Takes a number out of the trash: it is overwritten, and not to be removed.
    fn recycle(&mut self, number: u64) {
        let holds =
            |trash: &Trash| trash.era == self.era && (trash.from..trash.to).contains(&number);
        if let Some(at) = self.trash.iter().position(holds) {
            let Trash { era, from, to } = self.trash.swap_remove(at);
            self.throw(era, from, number);
            self.throw(era, number + 1, to);
        }
    }

    fn throw(&mut self, era: u64, from: u64, to: u64) {
        if from < to {
            self.trash.push(Trash { era, from, to });
        }
    }

    /// Takes the item of a number out. What is stored under it is to be removed.
    pub(super) fn remove(&mut self, number: u64) {
        if let Err(at) = self.gaps.binary_search(&number) {
            self.gaps.insert(at, number);
        }
        let (mut first, mut last) = (0, self.gaps.len());
        while self.gaps.get(first) == Some(&self.head) {
            (first, self.head) = (first + 1, self.head + 1);
        }
        while last > first && self.gaps[last - 1] + 1 == self.tail {
            (last, self.tail) = (last - 1, self.tail - 1);
        }
        self.gaps.truncate(last);
        self.gaps.drain(..first);
    }

    /// Throws away all but so many items, from the front.
    pub(super) fn keep_last(&mut self, keep: u64) {
        let Some(first) = self.len().checked_sub(keep).filter(|over| *over > 0) else { return };
        let (era, head, tail) = (self.era, self.head, self.tail);
        match (self.at(first), self.is_reversed) {
            (None, _) => {
                self.throw(era, head, tail);
                self.head = tail;
            }
            (Some(number), false) => {
                self.throw(era, head, number);
                self.head = number;
            }
            (Some(number), true) => {
                self.throw(era, number + 1, tail);
                self.tail = number + 1;
            }
        }
        let (head, tail) = (self.head, self.tail);
        self.gaps.retain(|gap| (head..tail).contains(gap));
    }

    /// Throws everything away. How much that was.
    pub(super) fn clear(&mut self) -> u64 {
        let len = self.len();
        self.throw(self.era, self.head, self.tail);
        (self.era, self.head, self.tail) = (nonce(), START, START);
        self.gaps.clear();
        len
    }

    pub(super) const fn has_trash(&self) -> bool {
        !self.trash.is_empty()
    }

    /// Takes so many numbers out of the trash at most, whose records are to be removed now.
    pub(super) fn sweep(&mut self, most: u64) -> Vec<(u64, u64)> {
        let mut swept = Vec::new();
        while let Some(trash) = self.trash.last_mut()
            && (swept.len() as u64) < most
        {
            let to = trash.to.min(trash.from + most - swept.len() as u64);
            swept.extend((trash.from..to).map(|number| (trash.era, number)));
            trash.from = to;
            if trash.from == trash.to {
                self.trash.pop();
            }
        }
        swept
    }

    /// A gap, and the item beside it that is to move there, so that the gap comes nearer to an end.
    pub(super) fn closing(&self) -> Option<(u64, u64)> {
        let (first, last) = (*self.gaps.first()?, *self.gaps.last()?);
        // The one that has the shorter way.
        if first - self.head <= self.tail - last {
            Some((first, first - 1))
        } else {
            Some((last, last + 1))
        }
    }

    /// The item with a number beside a gap has moved there.
    pub(super) fn moved(&mut self, gap: u64, from: u64) {
        self.gaps.retain(|other| *other != gap);
        self.remove(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of all items in order, found one by one.
    fn numbers(shape: &Shape) -> Vec<u64> {
        (0..shape.len()).filter_map(|index| shape.at(index)).collect()
    }

    #[test]
    fn positions_pass_over_gaps_in_both_directions() {
        let mut shape = Shape::default();
        let added: Vec<u64> = (0..20).map(|_| shape.add(Side::Back)).collect();
        let mut model = added.clone();
        for at in [5, 5, 5, 9, 1, 12] {
            shape.remove(model.remove(at));
            assert_eq!(numbers(&shape), model);
        }
        assert_eq!(shape.gap_count(), 6);
        shape.reverse();
        model.reverse();
        assert_eq!(numbers(&shape), model);
        assert_eq!(shape.end(Side::Front), model.first().copied());
        assert!(model.iter().all(|number| shape.has(*number)) && !shape.has(added[5]));
        assert_eq!(shape.at(model.len() as u64), None);
    }

    #[test]
    fn gaps_go_when_they_come_to_an_end() {
        let mut shape = Shape::default();
        let added: Vec<u64> = (0..5).map(|_| shape.add(Side::Back)).collect();
        shape.remove(added[1]);
        shape.remove(added[3]);
        shape.remove(added[0]);
        assert_eq!((shape.gap_count(), shape.head), (1, added[2]));
        shape.remove(added[4]);
        assert_eq!((shape.gap_count(), shape.len(), shape.tail), (0, 1, added[2] + 1));
        shape.remove(added[2]);
        assert_eq!((shape.len(), shape.end(Side::Front)), (0, None));
    }

    #[test]
    fn gaps_are_closed_from_the_nearer_end() {
        let mut shape = Shape::default();
        let added: Vec<u64> = (0..10).map(|_| shape.add(Side::Back)).collect();
        shape.remove(added[2]);
        shape.remove(added[6]);
        let mut steps = 0;
        while let Some((gap, from)) = shape.closing() {
            assert!(shape.has(from) && !shape.has(gap));
            shape.moved(gap, from);
            assert!(shape.has(gap));
            steps += 1;
            assert_eq!(shape.len(), 8);
        }
        assert_eq!((steps, shape.tail - shape.head), (2 + 3, 8));
    }

    #[test]
    fn what_is_thrown_away_is_swept_unless_it_comes_to_be_used() {
        let mut shape = Shape::default();
        let added: Vec<u64> = (0..10).map(|_| shape.add(Side::Back)).collect();
        shape.keep_last(3);
        assert_eq!(numbers(&shape), added[7..]);
        let again = shape.add(Side::Front);
        assert_eq!(again, added[6]);
        let era = shape.era;
        let first = shape.sweep(4);
        assert_eq!(first.len(), 4);
        let mut swept = [first, shape.sweep(100)].concat();
        swept.sort_unstable();
        assert_eq!(swept, added[..6].iter().map(|number| (era, *number)).collect::<Vec<_>>());
        assert_eq!(shape.clear(), 4);
        assert_ne!(shape.era, era);
        assert_eq!(shape.sweep(100).len(), 4);
        assert!(!shape.has_trash());
    }

    #[test]
    fn a_reversed_deque_keeps_the_last_as_well() {
        let mut shape = Shape::default();
        let mut added: Vec<u64> = (0..10).map(|_| shape.add(Side::Back)).collect();
        shape.remove(added[4]);
        added.remove(4);
        shape.reverse();
        added.reverse();
        shape.keep_last(6);
        assert_eq!(numbers(&shape), added[3..]);
        shape.keep_last(0);
        assert_eq!((shape.len(), shape.gap_count()), (0, 0));
    }
}
