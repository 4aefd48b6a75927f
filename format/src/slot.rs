//! A slot of the index, and where a key's slots lie.
//!
//! ```text
//!  63          42 41        26 25             4 3    2 1    0
//! | tag 22       | segment 16 | offset 22      | freq | state |
//! ```
//!
//! A slot is a hint: it says where to look, and the record there says whether it is so. The
//! tag is the top of the key's hash. Its low bits double as page bits: each time the index
//! doubles, the next of them decides which half a slot moves to, so that moving reads no
//! record. The two candidate buckets lie in one page, at a distance that the tag's top bits
//! give, so that a slot also tells its other bucket.
//!
//! # States
//! | state | bits | freq bits hold |
//! |---|---|---|
//! | empty | 00, whole word 0 | – |
//! | value | 01 | hits, saturating at 3 |
//! | tombstone | 10 | 0 |
//! | tentative | 10 | 1 |
//! | pending | 10 | 2 |
//! | frozen | 11 | what it was: 0 empty or tentative, 1 value, 2 tombstone, 3 pending |
//!
//! A *tentative* slot is being inserted and does not count yet: readers pass over it, and
//! whoever inserts the same key may empty it. A *pending* slot belongs to a batch: it counts,
//! value or tombstone as its record says, once that record is committed, and then hides an
//! older slot of its key. A *frozen* slot belongs to a generation that is being moved out of.
//! It is still read, and never written again.

use crate::layout::{BUCKET_SLOTS, PAGE_BUCKETS, SPLITS_MAX, UNIT};

const BUCKET_MASK: u64 = PAGE_BUCKETS as u64 - 1;

/// Where the tag begins in a slot's word.
pub const TAG_SHIFT: u32 = 42;
const SEGMENT_SHIFT: u32 = 26;
const OFFSET_SHIFT: u32 = 4;
const FREQ_SHIFT: u32 = 2;
const TAG_MASK: u64 = (1 << 22) - 1;
const SEGMENT_MASK: u64 = 0xFFFF;
const OFFSET_MASK: u64 = (1 << 22) - 1;

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SlotState {
    /// Nothing.
    Empty = 0,
    /// A key with this tag may have its value there.
    Value = 1,
    /// A key with this tag may have been removed by the record there.
    Tombstone = 2,
    /// A key with this tag is being inserted; nothing counts yet.
    Tentative = 6,
    /// What the record there says of a key with this tag counts once the record is committed.
    Pending = 10,
}

/// One word of the index.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(u64);

impl Slot {
    /// The empty slot.
    pub const EMPTY: Self = Self(0);
    /// What stands in a generation that processes share until something, or nothing, was moved there.
    pub const UNBORN: Self = Self::EMPTY.freeze();
    /// Highest hit count that a slot holds.
    pub const FREQ_MAX: u8 = 3;

    /// A slot for the record at `offset` bytes of segment `segment_id`.
    #[must_use]
    #[inline]
    pub const fn new(hash: u64, segment_id: u64, offset: usize, state: SlotState) -> Self {
        let tag = hash >> TAG_SHIFT << TAG_SHIFT;
        let segment = (segment_id & SEGMENT_MASK) << SEGMENT_SHIFT;
        let offset = (offset as u64 >> 4 & OFFSET_MASK) << OFFSET_SHIFT;
        Self(tag | segment | offset | state as u64)
    }

    /// The word as stored.
    #[must_use]
    #[inline]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// From the stored word, which may hold anything.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The top 22 bits of the key's hash.
    #[must_use]
    #[inline]
    pub const fn tag(self) -> u64 {
        self.0 >> TAG_SHIFT
    }

    /// The low 16 bits of the segment's id; the ids of live segments differ in them.
    #[must_use]
    #[inline]
    pub const fn segment(self) -> u16 {
        (self.0 >> SEGMENT_SHIFT & SEGMENT_MASK) as u16
    }

    /// Where the record starts, in bytes from the start of the segment.
    #[must_use]
    #[inline]
    pub const fn offset(self) -> usize {
        ((self.0 >> OFFSET_SHIFT & OFFSET_MASK) as usize) << UNIT.trailing_zeros()
    }

    /// Hits since written or last aged, at most [`FREQ_MAX`](Self::FREQ_MAX).
    #[must_use]
    #[inline]
    pub const fn freq(self) -> u8 {
        if self.0 & 3 == 1 { (self.0 >> FREQ_SHIFT & 3) as u8 } else { 0 }
    }

    /// The same slot with another hit count, capped. Only a value that is not frozen has one:
    /// all others stay as they are.
    #[must_use]
    #[inline]
    pub const fn with_freq(self, freq: u8) -> Self {
        if self.0 & 3 != 1 {
            return self;
        }
        let freq = if freq > Self::FREQ_MAX { Self::FREQ_MAX } else { freq };
        Self(self.0 & !(3 << FREQ_SHIFT) | (freq as u64) << FREQ_SHIFT)
    }

    /// What the slot says, frozen or not. A frozen slot with impossible bits says nothing.
    #[must_use]
    #[inline]
    pub const fn state(self) -> SlotState {
        match self.0 & 0xF {
            0b0001 | 0b0101 | 0b1001 | 0b1101 | 0b0111 => SlotState::Value,
            0b0010 | 0b1011 => SlotState::Tombstone,
            0b0110 => SlotState::Tentative,
            0b1010 | 0b1111 => SlotState::Pending,
            _ => SlotState::Empty,
        }
    }

    /// The same place in another state, without hits.
    #[must_use]
    #[inline]
    pub const fn with_state(self, state: SlotState) -> Self {
        match state {
            SlotState::Empty => Self::EMPTY,
            state => Self(self.0 & !0xF | state as u64),
        }
    }

    /// Whether the slot belongs to a generation that is being moved out of.
    #[must_use]
    #[inline]
    pub const fn is_frozen(self) -> bool {
        self.0 & 3 == 3
    }

    /// The frozen form of this slot. What was tentative is given up: its writer finds the slot
    /// frozen, and begins again in the next generation.
    #[must_use]
    #[inline]
    pub const fn freeze(self) -> Self {
        let was = match self.state() {
            SlotState::Empty | SlotState::Tentative => 0,
            SlotState::Value => 1,
            SlotState::Tombstone => 2,
            SlotState::Pending => 3,
        };
        Self(self.0 & !0xF | was << FREQ_SHIFT | 3)
    }

    /// The slot to put into the next generation for a frozen one: the same place, no hits.
    #[must_use]
    #[inline]
    pub const fn thaw(self) -> Self {
        self.with_state(self.state())
    }

    /// Whether both point to the same record, whatever their hits.
    #[must_use]
    #[inline]
    pub const fn same_place(self, other: Self) -> bool {
        self.0 >> OFFSET_SHIFT == other.0 >> OFFSET_SHIFT
    }
}

impl core::fmt::Debug for Slot {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.debug_struct("Slot")
            .field("state", &self.state())
            .field("frozen", &self.is_frozen())
            .field("tag", &format_args!("{:#08x}", self.tag()))
            .field("segment", &self.segment())
            .field("offset", &self.offset())
            .field("freq", &self.freq())
            .finish()
    }
}

/// How many pages an index generation has, and which bits of the hash choose among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Pages, as a power of two.
    pub page_bits: u8,
    /// Pages of the first generation of this line, as a power of two. The page bits above
    /// these come from the tag.
    pub base_bits: u8,
}

impl Geometry {
    /// Number of pages.
    #[must_use]
    #[inline]
    pub const fn pages(self) -> usize {
        1 << (self.page_bits & 31)
    }

    /// Number of slots.
    #[must_use]
    #[inline]
    pub const fn slots(self) -> usize {
        self.pages().saturating_mul(PAGE_BUCKETS * BUCKET_SLOTS)
    }

    /// Times that this line has doubled.
    #[must_use]
    pub const fn splits(self) -> u8 {
        self.page_bits.saturating_sub(self.base_bits)
    }

    /// The next generation, unless its tags would hold too little of the hash.
    #[must_use]
    pub const fn doubled(self) -> Option<Self> {
        if self.splits() >= SPLITS_MAX || self.page_bits >= crate::layout::PAGE_BITS_MAX {
            return None;
        }
        Some(Self { page_bits: self.page_bits.saturating_add(1), base_bits: self.base_bits })
    }

    /// The page of a key.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "masked to at most 24 bits")]
    pub const fn page(self, hash: u64) -> usize {
        let base_mask = (1_u64 << (self.base_bits & 31)).wrapping_sub(1);
        let split_mask = (1_u64 << (self.splits() & 31)).wrapping_sub(1);
        let split = (hash >> TAG_SHIFT & TAG_MASK) & split_mask;
        ((hash & base_mask) | split << (self.base_bits & 31)) as usize
    }

    /// The page that a slot of `page` moves to when this generation doubles.
    #[must_use]
    #[inline]
    pub const fn split_page(self, page: usize, slot: Slot) -> usize {
        let bit = (slot.tag() >> (self.splits() & 31) & 1) as usize;
        page | bit << (self.page_bits & 31)
    }
}

/// A key's two candidate buckets within its page.
#[must_use]
#[inline]
pub const fn buckets(hash: u64) -> [usize; 2] {
    let first = (hash >> 32 & BUCKET_MASK) as usize;
    [first, other_bucket(first, Slot::from_bits(hash))]
}

/// The other candidate bucket of a slot that lies in `bucket`. Being its own inverse, it
/// needs no record: `other_bucket(other_bucket(b, s), s) == b`.
#[must_use]
#[inline]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a remainder by 63 plus 1 fits"
)]
pub const fn other_bucket(bucket: usize, slot: Slot) -> usize {
    // The tag's top 8 bits are never page bits (SPLITS_MAX), so they stay the same for life.
    let distance = (slot.tag() >> SPLITS_MAX) % 63 + 1;
    bucket ^ distance as usize
}

const _: () = assert!(SPLITS_MAX as u32 + 8 <= 22);
const _: () = assert!(PAGE_BUCKETS == 64);
