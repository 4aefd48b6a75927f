//! A shared pointer that readers follow without a lock: reclamation by epochs.
//!
//! # Invariants
//! 1. A value that was taken out is dropped only when every guard that was pinned at the
//!    time is gone; a reference lives no longer than its guard.
//! 2. Whoever holds on to a value for long clones an `Arc` out of it and lets the guard go, so
//!    that no sleeper stops reclamation.
//!
//! # Orderings
//! `replace` is Release, `load` Acquire: who sees the pointer sees the value behind it.

use std::fmt;

use crossbeam_epoch::{Atomic, Guard, Owned, Shared};

use crate::sync::{Ordering, Site};

/// How often the epoch has to go on until what was taken out is dropped, with one to spare.
const PASSES: usize = 4;

/// Drops what was taken out of all cells, as far as no reader is in the way. The caller must not
/// be pinned.
pub(crate) fn let_go() {
    // Each lets the epoch go on by one.
    (0..PASSES).for_each(|_| crossbeam_epoch::pin().flush());
}

/// A place for one value or none.
pub(crate) struct EpochCell<T>(Atomic<T>);

impl<T: Send + Sync + 'static> EpochCell<T> {
    /// An empty cell.
    pub(crate) fn empty() -> Self {
        Self(Atomic::null())
    }

    /// The value, for as long as the guard is pinned.
    #[inline]
    pub(crate) fn load<'g>(&self, guard: &'g Guard) -> Option<&'g T> {
        // Acquire: pairs with the swap in `replace`.
        let shared = self.0.load(Site::CellLoad.is(Ordering::Acquire), guard);
        // SAFETY: the pointer is null or came from an `Owned` in `replace`, was published by
        // Release, and is not freed while `guard` is pinned (invariant 1).
        unsafe { shared.as_ref() }
    }

    /// Puts another value in; the old one is dropped when its last reader is gone.
    pub(crate) fn replace(&self, value: Option<T>, guard: &Guard) {
        let new = value.map_or(Shared::null(), |value| Owned::new(value).into_shared(guard));
        // AcqRel: Release for `load`; Acquire to drop what another thread put here.
        let old = self.0.swap(new, Site::CellReplace.is(Ordering::AcqRel), guard);
        if !old.is_null() {
            // SAFETY: the swap took it out of the only place where it could be found, and
            // only the thread that swapped it out gets here.
            unsafe { guard.defer_destroy(old) };
        }
    }
}

impl<T> Drop for EpochCell<T> {
    fn drop(&mut self) {
        let last = std::mem::replace(&mut self.0, Atomic::null());
        // SAFETY: `&mut self`: no reader is left, and nobody else owns the pointer.
        drop(unsafe { last.try_into_owned() });
    }
}

impl<T> fmt::Debug for EpochCell<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("EpochCell")
    }
}
