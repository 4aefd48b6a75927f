//! One bucket of the index: what a look at its eight slots tells.
//!
//! # Orderings
//! A slot is loaded by Acquire; what that pairs with stands in `index.rs`.

use larder_format::Slot;
#[cfg(not(loom))]
use larder_format::layout::BUCKET_SLOTS;
use larder_format::slot::TAG_SHIFT;

#[cfg(loom)]
use crate::models::BUCKET_SLOTS;
use crate::sync::{AtomicU64, Ordering, Site};

/// One bucket: a cache line of slots.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket<'a> {
    /// Where it begins, in bytes from the start of the file.
    pub(super) at: usize,
    pub(super) words: &'a [AtomicU64; BUCKET_SLOTS],
}

impl Bucket<'_> {
    /// Slot `i` as it is now, and where it is.
    #[inline]
    pub(super) fn slot(&self, i: usize) -> (usize, Slot) {
        (self.at + i * 8, load(&self.words[i]))
    }

    /// Which slots fit, one bit each: all are looked at before any is acted upon, so that the
    /// loads overlap.
    #[inline(always)]
    fn which(&self, mut fits: impl FnMut(u64) -> bool) -> Bits {
        // From the last to the first: shifting what is there is the least to do for each.
        let add = |bits, word| bits << 1 | u32::from(fits(load(word).to_bits()));
        Bits(self.words.iter().rev().fold(0, add))
    }

    /// Which slots have the tag of a hash.
    #[inline(always)]
    pub(super) fn with_tag(&self, hash: u64) -> Bits {
        self.which(|bits| has_tag(bits, hash))
    }

    /// Which slots are free or frozen.
    #[inline]
    pub(super) fn states(&self) -> Overview {
        let add = |states, word| states << 2 | low_bits(load(word).to_bits());
        Overview { with_tag: Bits(0), states: self.words.iter().rev().fold(0, add) }
    }

    /// Which slots have the tag of a hash, and which are free or frozen.
    #[inline]
    pub(super) fn overview(&self, hash: u64) -> Overview {
        let mut states = 0;
        let with_tag = self.which(|bits| {
            states = states << 2 | low_bits(bits);
            has_tag(bits, hash)
        });
        Overview { with_tag, states }
    }
}

/// The low two bits of a slot.
#[inline]
pub(super) const fn low_bits(slot: u64) -> u32 {
    (slot & 3) as u32
}

/// What a writer sees of a bucket at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overview {
    /// Which slots have the tag of a hash.
    pub(super) with_tag: Bits,
    /// The low two bits of all slots, those of the first one lowest.
    states: u32,
}

impl Overview {
    /// The low bit of each pair of bits in `states`.
    const LOW: u32 = 0x5555_5555;

    /// Whether some slot is frozen: both of its bits are set.
    pub(super) const fn is_any_frozen(self) -> bool {
        self.states & self.states >> 1 & Self::LOW != 0
    }

    /// Which slots are free, two bits each: none of theirs is set.
    pub(super) const fn free(self) -> u32 {
        let all = (1 << (2 * BUCKET_SLOTS)) - 1;
        !(self.states | self.states >> 1) & Self::LOW & all
    }
}

/// Numbers of slots in a bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits(pub(super) u32);

impl Iterator for Bits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let next = self.0.trailing_zeros();
        // Clears the lowest bit.
        self.0 &= self.0.wrapping_sub(1);
        (next < u32::BITS).then_some(next as usize)
    }
}

/// A free slot of the emptier of two buckets, which is what makes two choices fill evenly.
#[inline]
pub(super) fn emptier(buckets: &[Bucket<'_>; 2], views: [Overview; 2]) -> Option<(usize, Slot)> {
    let free = [views[0].free(), views[1].free()];
    let half = usize::from(free[1].count_ones() > free[0].count_ones());
    // Loaded once more: it may be taken by now.
    let place = (free[half] != 0)
        .then(|| buckets[half].slot(free[half].trailing_zeros() as usize / 2 % BUCKET_SLOTS));
    place.filter(|(_, slot)| low_bits(slot.to_bits()) == 0)
}

#[inline]
pub(super) fn load(word: &AtomicU64) -> Slot {
    // Acquire: pairs with the Release of whoever published the slot; the record that it points
    // to is complete (invariant 1).
    Slot::from_bits(word.load(Site::SlotLoad.is(Ordering::Acquire)))
}

/// Whether a slot has the tag of a hash: the bits above the place are the same.
#[inline]
const fn has_tag(slot: u64, hash: u64) -> bool {
    (slot ^ hash) < 1 << TAG_SHIFT
}
