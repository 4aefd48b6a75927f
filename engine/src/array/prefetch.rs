//! Telling the system what will be read, so that reading does not wait for it.

use super::any::AnyArray;
use super::view::ArrayView;
use crate::disk::Hint;

/// What is about to be done with the data of an array that lies in a mapped file.
///
/// All of it is advice: it changes nothing that is seen, and what the system does not know is left
/// out. On the heap, and for a compressed array, it does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prefetch {
    /// It will be read soon: the system begins to read the file, and nothing waits
    /// (`MADV_WILLNEED`).
    Soon,
    /// It will be read at once: returns when all of it is in memory and mapped, so that no look at
    /// it stops for a page (`MADV_POPULATE_READ`). Worth it where all of it is needed.
    Now,
    /// It will be read all over, in no order: large pages, where the file system has them
    /// (`MADV_HUGEPAGE`; with tmpfs and few others).
    LargePages,
}

impl AnyArray {
    /// Says what is about to be done. Of a large array, take the [rows](Self::rows) first.
    /// Whether the data is there: not if its file was cut short.
    pub fn prefetch(&self, how: Prefetch) -> bool {
        let hint = match how {
            Prefetch::Soon => Hint::Soon,
            Prefetch::Now => Hint::Now,
            Prefetch::LargePages => Hint::Large,
        };
        self.advise(hint) || how != Prefetch::Now
    }
}

impl<T> ArrayView<T> {
    /// See [`AnyArray::prefetch`].
    pub fn prefetch(&self, how: Prefetch) -> bool {
        self.as_any().prefetch(how)
    }
}
