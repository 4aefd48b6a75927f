//! Every atomic of this crate comes from here, so that a model checker can supply its own.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};

/// Words that live somewhere: in a mapped file, or on the heap under a model checker.
pub(crate) trait Words {
    /// The word at `at` bytes, a multiple of 8.
    fn word(&self, at: usize) -> &AtomicU64;
}
