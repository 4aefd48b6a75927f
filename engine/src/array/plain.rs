//! Bytes of an array where they lie, shown once they were checked.

use std::ops::Range;
use std::sync::Arc;

use super::check::{Check, Checked};
use super::error::ArrayError;
use crate::disk::{Chunks, Frozen, View};

/// Some bytes of what is stored, or of what was decoded.
#[derive(Debug, Clone)]
pub(super) struct Plain {
    view: View,
    /// `None` for what is on the heap, which was right when it got there.
    checked: Option<Checked>,
}

impl Plain {
    /// A view whose bytes begin `at` in what `chunks` covers.
    pub(super) fn stored(view: View, chunks: Arc<dyn Chunks>, at: usize, policy: Check) -> Self {
        Self { view, checked: Some(Checked::new(chunks, at, policy)) }
    }

    /// A view of the heap.
    pub(super) fn on_heap(bytes: Arc<Frozen>) -> Self {
        let len = bytes.bytes().len();
        Self { view: View::new(bytes, 0..len), checked: None }
    }

    pub(super) const fn len(&self) -> usize {
        self.view.len()
    }

    /// Some of the bytes, checked as far as they are needed.
    #[inline]
    pub(super) fn bytes(&self, part: Range<usize>) -> Result<&[u8], ArrayError> {
        let all = self.view.bytes();
        if let Some(checked) = &self.checked {
            checked.check(part.clone(), part.len() == all.len())?;
        }
        Ok(all.get(part).unwrap_or_default())
    }

    /// The bytes as they are, unchecked: for their address.
    pub(super) fn unchecked(&self) -> &[u8] {
        self.view.bytes()
    }

    /// A view of some of the bytes.
    pub(super) fn part(&self, part: Range<usize>) -> Self {
        let checked = self.checked.as_ref().map(|checked| checked.part(part.start));
        Self { view: self.view.part(part), checked }
    }

    pub(super) fn pinned_len(&self) -> u64 {
        self.view.pinned_len()
    }

    /// Whether it lies in a mapped file.
    pub(super) const fn is_mapped(&self) -> bool {
        self.checked.is_some()
    }
}
