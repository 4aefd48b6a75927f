//! Moving a page of the index to the next generation: freeze, copy, declare moved.
//!
//! # Invariants
//! 1. One mover at a time moves a page: whoever holds the growth lock (`growth.rs`).
//! 2. Until its moved bit is set, nobody but the mover touches the page's two halves in the
//!    next generation.
//! 3. Every step can be done again after a crash: a frozen slot never changes, and copying it
//!    twice gives the same.
//!
//! # Orderings
//! The moved bit is set by Release and read by Acquire: who sees it sees the slots.

use super::index::{Generation, PAGE_SLOTS};
use crate::sync::{Ordering, Site, Words};
use larder_format::Slot;

/// Whether `page` of the generation before is in this one, whose moved bits start at
/// `moved_at`.
#[inline]
pub(crate) fn has_moved<W: Words>(new: &Generation<W>, moved_at: usize, page: usize) -> bool {
    let word = new.word(moved_at + page / 64 * 8);
    // Acquire: pairs with `set_moved`; who sees the bit sees the slots.
    word.load(Site::MovedLoad.is(Ordering::Acquire)) >> (page % 64) & 1 == 1
}

fn set_moved<W: Words>(new: &Generation<W>, moved_at: usize, page: usize) {
    let word = new.word(moved_at + page / 64 * 8);
    // Release: pairs with `has_moved`.
    word.fetch_or(1 << (page % 64), Site::MovedSet.is(Ordering::Release));
}

/// Moves one page, unless it is moved. The caller holds the growth lock.
pub(crate) fn move_page<W: Words>(
    old: &Generation<W>,
    new: &Generation<W>,
    moved_at: usize,
    page: usize,
) {
    if has_moved(new, moved_at, page) {
        return;
    }
    for number in 0..PAGE_SLOTS {
        let at = Generation::<W>::slot_at(page, number);
        let frozen = loop {
            let slot = old.load(at);
            if slot.is_frozen() || old.swap(at, slot, slot.freeze()) {
                break slot.freeze();
            }
        };
        let thawed = frozen.thaw();
        let target = Generation::<W>::slot_at(old.geometry().split_page(page, thawed), number);
        if thawed != Slot::EMPTY {
            // Relaxed: nobody looks here before the moved bit is set by Release (invariant 2).
            new.word(target).store(thawed.to_bits(), Ordering::Relaxed);
        }
    }
    set_moved(new, moved_at, page);
}
