//! Bytes of an array where they lie, shown once they were checked.

use std::ops::Range;
use std::sync::Arc;

use super::check::{Check, Checked};
use super::error::ArrayError;
use crate::disk::{Chunks, Frozen, Hint, View};

/// Some bytes of what is stored, or of what was decoded.
#[derive(Debug, Clone)]
pub(super) struct Plain {
    view: View,
    /// `None` for what was right when it was first seen.
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

    /// A copy on the heap.
    pub(super) fn copied(bytes: &[u8]) -> Result<Self, ArrayError> {
        Self::made(bytes.len(), |out| {
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// So many bytes on the heap, which `fill` writes over zeros.
    pub(super) fn made(
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), ArrayError>,
    ) -> Result<Self, ArrayError> {
        let made = Frozen::on_heap(len, fill);
        Ok(Self::on_heap(made.map_err(|_| ArrayError::NoMemory { len: len as u64 })??))
    }

    pub(super) const fn len(&self) -> usize {
        self.view.len()
    }

    /// All of the bytes, if nothing is left to be checked.
    #[inline]
    pub(super) fn known(&self) -> Option<&[u8]> {
        let is_known = self.checked.as_ref().is_none_or(Checked::is_done);
        is_known.then(|| self.view.bytes())
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

    /// Whether nothing of the file was found to be gone meanwhile.
    pub(super) fn still(&self) -> Result<(), ArrayError> {
        self.checked.as_ref().map_or(Ok(()), Checked::still)
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

    /// Bytes up to where the next lot of `len` bytes begins of what is checked together.
    pub(super) fn up_to_next(&self, len: usize) -> usize {
        self.checked.as_ref().map_or(len, |checked| checked.up_to_next(len))
    }

    /// Tells the system what will be done with the bytes. Whether they are there, if that was
    /// asked.
    pub(super) fn advise(&self, hint: Hint) -> bool {
        self.checked.as_ref().is_none_or(|checked| checked.advise(0..self.len(), hint))
    }

    /// A view of bytes that are right, wherever they lie.
    pub(super) const fn right(view: View) -> Self {
        Self { view, checked: None }
    }

    pub(super) fn pinned_len(&self) -> u64 {
        self.view.pinned_len()
    }

    /// The file that it lies in, and where in it; `None` for what is on the heap.
    pub(super) fn place(&self) -> Option<(String, u64)> {
        self.checked.as_ref().map(Checked::place)
    }

    /// Whether it lies in a mapped file.
    pub(super) fn is_mapped(&self) -> bool {
        self.view.pinned_len() > 0
    }
}
