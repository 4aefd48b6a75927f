//! Asking for a key's buckets before anything is certain.
//!
//! Marking a reader takes a locked instruction, which later loads wait for, and which itself waits
//! for all that came before. What was asked for ahead of it is on its way meanwhile; so the wait
//! for a bucket overlaps with the end of the lookup before.
//!
//! # Invariants
//! 1. What is noted here is only ever asked for, never read: the generation may be gone, and its
//!    memory with it.
//!
//! # Orderings
//! Relaxed throughout: the two words need not fit together (invariant 1).

use larder_format::Geometry;
use larder_format::layout::{BUCKET_SLOTS, PAGE};
use larder_format::slot::buckets;

use super::index::Placing;
use super::map::ask_for;
use crate::sync::{AtomicPtr, AtomicU64, Ordering};

/// Where the buckets of keys most likely are.
#[derive(Debug)]
pub(super) struct Ahead {
    /// The first page.
    pages: AtomicPtr<u8>,
    geometry: AtomicU64,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Self { pages: AtomicPtr::new(std::ptr::null_mut()), geometry: AtomicU64::new(0) }
    }

    /// Notes where the pages of the generation begin that most lookups will want.
    pub(super) fn note(&self, pages: *mut u8, geometry: Geometry) {
        let bits = u16::from_le_bytes([geometry.page_bits, geometry.base_bits]);
        self.geometry.store(bits.into(), Ordering::Relaxed);
        self.pages.store(pages, Ordering::Relaxed);
    }

    /// Asks for the buckets of a key.
    #[inline(always)]
    pub(super) fn ask(&self, hash: u64) {
        let [page_bits, base_bits, ..] = self.geometry.load(Ordering::Relaxed).to_le_bytes();
        let page = Placing::of(Geometry { page_bits, base_bits }).page(hash);
        let page = self.pages.load(Ordering::Relaxed).wrapping_add(page * PAGE);
        buckets(hash)
            .into_iter()
            .for_each(|bucket| ask_for(page.wrapping_add(bucket * BUCKET_SLOTS * 8)));
    }
}
