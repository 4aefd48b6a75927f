//! Looking up a key: a first look that is enough nearly always, and a closer one.
//!
//! Nearly always one candidate slot, or none, has the key's tag. The first look finds that out
//! by loading each slot once; the record is judged outside of the general search, which would
//! have to carry it along. Everything else is left to the closer look.

#[cfg(not(loom))]
use larder_format::layout::BUCKET_SLOTS;
use larder_format::{Slot, SlotState};

use super::bucket::{Bits, Bucket};
use super::index::{Found, Generation, Verdict};
#[cfg(loom)]
use crate::models::BUCKET_SLOTS;
use crate::sync::Words;

/// What a first look at a key's candidate slots found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Glance {
    /// None has the key's tag.
    Nothing,
    /// One has it, and is no pending one: where, and what stood there after all were looked at.
    One(usize, Slot),
    /// More than one, or one that has to be thought about.
    Unclear,
}

impl<W: Words> Generation<W> {
    /// Looks at a key's candidates once.
    #[inline(always)]
    pub(crate) fn glance(&self, hash: u64) -> Glance {
        glance_at(&self.candidates(hash), hash)
    }
}

/// A first look at candidates.
///
/// A slot that is the only one with the tag is loaded after all others were: had a batch
/// settled a pending one behind our back, this load would see what it left (invariant 5).
#[inline(always)]
pub(super) fn glance_at(candidates: &[Bucket<'_>; 2], hash: u64) -> Glance {
    let [first, second] = candidates;
    // Both buckets at once: in which of the two it is, nobody could foresee.
    let mut which = Bits(first.with_tag(hash).0 | second.with_tag(hash).0 << BUCKET_SLOTS);
    match (which.next(), which.0) {
        (None, _) => Glance::Nothing,
        (Some(i), 0) => {
            let bucket = candidates[i / BUCKET_SLOTS % 2];
            let (at, slot) = bucket.slot(i % BUCKET_SLOTS);
            let is_plain = matches!(slot.state(), SlotState::Value | SlotState::Tombstone);
            if is_plain { Glance::One(at, slot) } else { Glance::Unclear }
        }
        _ => Glance::Unclear,
    }
}

/// The newest record of a key, in the generation that `slots` says is the one to read.
#[inline]
pub(crate) fn lookup<'g, W: Words + 'g, T>(
    slots: impl Fn() -> &'g Generation<W>,
    hash: u64,
    mut judge: impl FnMut(Slot) -> Verdict<T>,
) -> Option<Found<T>> {
    let seen = match slots().glance(hash) {
        Glance::Nothing => return None,
        Glance::One(at, slot) => judge(slot).found_at(at, slot),
        Glance::Unclear => Err(Again),
    };
    match seen {
        Ok(found) => found,
        Err(Again) => lookup_closely(slots, hash, judge),
    }
}

/// What a first look is not enough for.
#[derive(Debug)]
pub(crate) struct Again;

impl<T> Verdict<T> {
    /// What a lookup finds if this is said of the one slot with the key's tag.
    #[inline(always)]
    pub(crate) fn found_at(self, at: usize, slot: Slot) -> Result<Option<Found<T>>, Again> {
        match self {
            Self::Same { seq, state, found } => Ok(Some(Found { slot, at, seq, state, found })),
            Self::Other => Ok(None),
            Self::Gone => Err(Again),
        }
    }
}

/// As [`lookup`], whatever stands there.
///
/// A segment goes once no slot points to it. A reader that loaded a slot before may find the
/// segment gone, although the record was only moved or replaced: it has to look again, unless
/// the slot is still the same, left behind by a process that died.
#[cold]
#[inline(never)]
pub(crate) fn lookup_closely<'g, W: Words + 'g, T>(
    slots: impl Fn() -> &'g Generation<W>,
    hash: u64,
    mut judge: impl FnMut(Slot) -> Verdict<T>,
) -> Option<Found<T>> {
    let mut gone_before: Option<Slot> = None;
    loop {
        let mut gone: Option<Slot> = None;
        let found = slots().find(hash, |slot| {
            let verdict = judge(slot);
            if matches!(verdict, Verdict::Gone) {
                gone = Some(slot);
            }
            verdict
        });
        match gone {
            Some(gone) if gone_before.is_none_or(|before| !before.same_place(gone)) => {
                gone_before = Some(gone);
            }
            _ => return found,
        }
    }
}
