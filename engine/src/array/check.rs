//! Checking the bytes of a view: how often, and chunk by chunk.
//!
//! A view of an array needs some chunks of what is stored, and looks at no other. Which of them
//! were found right is remembered where the file is mapped (`disk/chunks.rs`), for all views of
//! it; a view remembers besides when all of its own were.

use std::ops::Range;
use std::sync::Arc;

use super::error::ArrayError;
use crate::disk::{Chunks, GUARDED, Hint};
use crate::sync::{AtomicBool, Ordering};

/// How often the bytes of an array are compared with their checksums.
///
/// Summing takes about as long as reading from memory, and happens in pieces of 64 KiB. What
/// describes the array is always checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// Whenever bytes are asked for, anew: finds what was damaged in memory meanwhile.
    Always,
    /// When they are asked for the first time since their file was opened. What is right then
    /// stays so, as nothing that is stored ever changes.
    #[default]
    FirstTouch,
    /// Never: for arrays that are checked by other means. Elements are still values of their
    /// type, though perhaps not those that were stored.
    Never,
}

/// What a view has to do before it shows bytes.
#[derive(Debug)]
pub(super) struct Checked {
    chunks: Arc<dyn Chunks>,
    /// Where the view begins in what the chunks cover.
    at: usize,
    policy: Check,
    /// Whether all of the view was found right, where that is remembered.
    done: AtomicBool,
}

impl Clone for Checked {
    fn clone(&self) -> Self {
        self.part(0)
    }
}

impl Checked {
    pub(super) fn new(chunks: Arc<dyn Chunks>, at: usize, policy: Check) -> Self {
        // The first chunk was looked at before anything was made of it.
        let is_known = policy == Check::FirstTouch && at > 0 && chunks.chunk_count() == 1;
        let done = AtomicBool::new(policy == Check::Never || is_known);
        Self { chunks, at, policy, done }
    }

    /// The same of a view that begins later.
    pub(super) fn part(&self, from: usize) -> Self {
        let chunks = Arc::clone(&self.chunks);
        // Relaxed, here and below: the flag only spares work; the bytes that it speaks of never
        // change.
        let done = AtomicBool::new(self.done.load(Ordering::Relaxed));
        Self { chunks, at: self.at + from, policy: self.policy, done }
    }

    /// Whether nothing is left to be checked.
    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed) && !self.is_broken()
    }

    /// Whether something of the file was found to be gone, where that is guarded against.
    #[inline]
    pub(super) fn is_broken(&self) -> bool {
        GUARDED && self.chunks.is_broken()
    }

    /// Checks what a part of the view needs; `is_all` if that is all of it.
    #[inline]
    pub(super) fn check(&self, part: Range<usize>, is_all: bool) -> Result<(), ArrayError> {
        if self.is_done() || part.is_empty() {
            return Ok(());
        }
        self.check_chunks(part)?;
        if is_all && self.policy == Check::FirstTouch {
            self.done.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The chunks that a part of the view lies in.
    fn chunks_of(&self, part: Range<usize>) -> Range<u64> {
        let len = self.chunks.chunk_len();
        ((self.at + part.start) / len) as u64..(self.at + part.end).div_ceil(len) as u64
    }

    /// Bytes of the view up to where the next lot of `len` bytes begins of what the chunks cover.
    pub(super) const fn up_to_next(&self, len: usize) -> usize {
        len - self.at % len
    }

    /// Tells the system what will be done with a part of the view.
    pub(super) fn advise(&self, part: Range<usize>, hint: Hint) -> bool {
        self.chunks.advise(self.chunks_of(part), hint)
    }

    /// An error if something of the file was found to be gone.
    pub(super) fn still(&self) -> Result<(), ArrayError> {
        let first = (self.at / self.chunks.chunk_len()) as u64;
        if self.is_broken() { Err(self.damaged(first)) } else { Ok(()) }
    }

    fn check_chunks(&self, part: Range<usize>) -> Result<(), ArrayError> {
        let is_due = |number: &u64| self.policy == Check::Always || !self.chunks.is_known(*number);
        let mut due = self.chunks_of(part).filter(is_due).peekable();
        match due.peek() {
            // Where that is guarded against, the chunks that are there can be looked at.
            Some(first) if !GUARDED && !self.chunks.is_whole() => {
                return Err(self.damaged(*first));
            }
            _ => {}
        }
        match due.find(|number| !self.chunks.sum(*number)) {
            Some(wrong) => Err(self.damaged(wrong)),
            None => Ok(()),
        }
    }

    /// The file that the view lies in, and where in it.
    pub(super) fn place(&self) -> (String, u64) {
        let len = self.chunks.chunk_len();
        let (file, at) = self.chunks.place((self.at / len) as u64);
        (file, at + (self.at % len) as u64)
    }

    #[cold]
    fn damaged(&self, chunk: u64) -> ArrayError {
        let (file, at) = self.chunks.place(chunk);
        let chunks = self.chunks.chunk_count();
        ArrayError::Damaged { chunk, chunks, place: format!("{file} at {at}") }
    }
}
