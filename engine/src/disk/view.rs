//! Views: committed bytes, and what keeps them mapped.
//!
//! # Invariants
//! 1. What an [`Owner`] shows stays mapped and unchanged for as long as it lives (`map.rs`,
//!    invariant 1).
//! 2. A view has its owner for as long as it has its bytes.

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use larder_format::ArrayDescriptor;
use larder_format::layout::NPY_HEADER_LEN;

use super::whole::Frozen;

/// A view of committed bytes that keeps its mapping alive.
#[derive(Clone)]
pub(crate) struct View {
    bytes: NonNull<[u8]>,
    owner: Arc<dyn Owner>,
}

/// Something that keeps a mapping, and the bytes of a view in it, as they are.
pub(crate) trait Owner: Send + Sync {
    /// The committed bytes of a range; the view is made of them. Empty if the range is not
    /// committed.
    fn committed_bytes(&self, range: Range<usize>) -> &[u8];

    /// Bytes of disk that stay taken for as long as a view is held.
    fn pinned_len(&self) -> u64;

    /// What the array is that all of this holds, if it is a NumPy file.
    fn array(&self) -> Option<&ArrayDescriptor> {
        None
    }
}

// SAFETY: a view is a shared slice of bytes that never change, and an owner that is Send and
// Sync.
unsafe impl Send for View {}
// SAFETY: as for Send.
unsafe impl Sync for View {}

impl fmt::Debug for View {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("View").field("len", &self.bytes.len()).finish()
    }
}

impl View {
    /// A view of `range` in what `owner` keeps.
    pub(crate) fn new(owner: Arc<dyn Owner>, range: Range<usize>) -> Self {
        let bytes = NonNull::from(owner.committed_bytes(range));
        Self { bytes, owner }
    }

    /// A view of a part of the bytes; empty if they have no such part.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        let bytes = NonNull::from(self.bytes().get(range).unwrap_or_default());
        Self { bytes, owner: Arc::clone(&self.owner) }
    }

    /// Bytes of disk that stay taken for as long as the view is held.
    pub(crate) fn pinned_len(&self) -> u64 {
        self.owner.pinned_len()
    }

    /// What the array is whose NumPy file this is a view of, if of all of it.
    pub(crate) fn as_npy(&self) -> Option<&ArrayDescriptor> {
        let array = self.owner.array()?;
        let len = (NPY_HEADER_LEN as u64).saturating_add(array.data_len());
        (len == self.len() as u64).then_some(array)
    }

    /// How many bytes there are.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `bytes` came from a reference into what `owner` keeps mapped and
        // unchanged; the Arc makes it live at least as long as `self`.
        unsafe { self.bytes.as_ref() }
    }
}

impl Owner for Frozen {
    fn committed_bytes(&self, range: Range<usize>) -> &[u8] {
        self.bytes().get(range).unwrap_or_default()
    }

    /// Nothing: what is frozen by itself is on the heap.
    fn pinned_len(&self) -> u64 {
        0
    }
}
