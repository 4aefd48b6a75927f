//! Mapped memory that is looked at as a whole: that of files that are complete, and that which one
//! thread writes to before anybody else sees it. What can be looked at while it grows is a
//! [`Region`](super::map::Region).
//!
//! # Invariants
//! 1. What is [`Frozen`] is never written again, by anyone, while it is mapped (`map.rs`, 1 and 4).
//! 2. What is [`Unborn`] has one map, and that map one owner.

use std::ops::Range;
use std::sync::Arc;

use super::backing::Hint;
use super::heap::HeapFile;
use super::map::Map;
use super::storage::File;

/// A mapped file that is complete: it got its name only after its last byte was written.
#[derive(Debug)]
pub(crate) struct Frozen {
    map: Map,
}

impl Frozen {
    /// Over the map of a file that nobody writes any more (invariant 1 for all of it).
    pub(crate) const fn new(map: Map) -> Self {
        Self { map }
    }

    /// Bytes on the heap, aligned to a page, that `fill` writes over zeros; or what it says
    /// instead.
    pub(crate) fn on_heap<E>(
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> std::io::Result<Result<Arc<Self>, E>> {
        let mut unborn = Unborn::on_heap(len)?;
        let filled = fill(unborn.bytes_mut());
        Ok(filled.map(|()| Arc::new(unborn.freeze())))
    }

    /// Says what will be done with a range. Whether all of its pages are there, if that was asked:
    /// not if the file was cut short.
    pub(crate) fn advise(&self, range: Range<usize>, hint: Hint) -> bool {
        self.map.advise(range, hint)
    }

    /// See [`Map::is_broken`].
    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        self.map.is_broken()
    }

    /// All of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: complete, hence never written again.
        unsafe { self.map.bytes(0..self.map.len()) }
    }
}

/// Memory that one thread writes to before anybody else sees it: of a file that has no name yet,
/// or on the heap.
#[derive(Debug)]
pub(crate) struct Unborn {
    map: Map,
}

impl Unborn {
    /// Over the map of a file that nobody else has or maps, or will until it is
    /// [frozen](Self::freeze).
    pub(crate) const fn new(map: Map) -> Self {
        Self { map }
    }

    /// As many zeros on the heap, aligned to a page.
    pub(crate) fn on_heap(len: usize) -> std::io::Result<Self> {
        Ok(Self::new(HeapFile::try_new(len)?.map(len)?))
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: in the map; written only through `bytes_mut`, which borrows `self` mutably.
        unsafe { self.map.bytes(0..self.map.len()) }
    }

    /// Makes its first pages writable now, many at a time: that costs less than to stop for each.
    pub(crate) fn make_ready(&self, most: usize) {
        self.map.populate(0..self.map.len().min(most));
    }

    /// All of it, to be written to.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: all of the map, whose memory is valid and writable while `self` lives. Nobody
        // else has a map of the file (said by who made this), and `&mut self` makes this slice
        // the only one over it. u8 has no invalid values.
        unsafe { std::slice::from_raw_parts_mut(self.map.address(0), self.map.len()) }
    }

    /// See [`Map::is_broken`].
    pub(crate) fn is_broken(&self) -> bool {
        self.map.is_broken()
    }

    /// Ends the writing.
    pub(crate) fn freeze(self) -> Frozen {
        Frozen::new(self.map)
    }
}
