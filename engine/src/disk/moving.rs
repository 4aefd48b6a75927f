//! Moving a page of the index to the next generation: freeze, copy, declare moved.
//!
//! # Invariants
//! 1. One thread of a process at a time moves a page: whoever holds the growth lock (`growth.rs`).
//!    Of processes that share a store several may move one page at once.
//! 2. Until its moved bit is set, nobody but movers touches the page's two halves in the
//!    next generation.
//! 3. Every step can be done again after a crash: a frozen slot never changes, and copying it
//!    twice gives the same.
//! 4. Where processes share it, each slot of the next generation is *unborn* before it gets what is
//!    moved there, which may be nothing, and never again: a mover that fell asleep and goes on when
//!    the slot has long been changed changes nothing.
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
        for (target, slot) in freeze(old, page, number) {
            let word = new.word(target);
            // Relaxed: nobody looks here before the moved bit is set by Release (invariant 2).
            if word.load(Ordering::Relaxed) != slot.to_bits() {
                word.store(slot.to_bits(), Ordering::Relaxed);
            }
        }
    }
    set_moved(new, moved_at, page);
}

/// As [`move_page`], while other processes may do the same, or have done it long ago.
pub(crate) fn move_page_together<W: Words>(
    old: &Generation<W>,
    new: &Generation<W>,
    moved_at: usize,
    page: usize,
) {
    if has_moved(new, moved_at, page) {
        return;
    }
    for number in 0..PAGE_SLOTS {
        for (target, slot) in freeze(old, page, number) {
            let (unborn, born) = (Slot::UNBORN.to_bits(), slot.to_bits());
            let word = new.word(target);
            // Relaxed: whoever looks here has seen the moved bit, of a mover that has seen the record
            // behind the frozen slot, and this word as it is, whoever of them wrote it (invariant 4).
            let _ = word.compare_exchange(unborn, born, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
    set_moved(new, moved_at, page);
}

/// Freezes a slot of a page; returns what is to stand in its place in each of the two halves.
fn freeze<W: Words>(old: &Generation<W>, page: usize, number: usize) -> [(usize, Slot); 2] {
    let at = Generation::<W>::slot_at(page, number);
    let frozen = loop {
        let slot = old.load(at);
        if slot.is_frozen() || old.swap(at, slot, slot.freeze()) {
            break slot.freeze();
        }
    };
    let thawed = frozen.thaw();
    let half = old.geometry().split_page(page, thawed);
    [page, page + old.geometry().pages()].map(|target| {
        let slot = if target == half { thawed } else { Slot::EMPTY };
        (Generation::<W>::slot_at(target, number), slot)
    })
}
