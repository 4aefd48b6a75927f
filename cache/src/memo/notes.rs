//! What is remembered of calls, so that a miss can be explained.
//!
//! A cache forgets: of what is not there any more it cannot say whether it ever was. So a
//! function notes, for the latest [`NOTES_MAX`] different arguments that something happened
//! to, what that was. A note is written where a body was run or a result invalidated, never
//! on a hit, and takes some 50 bytes. Arguments are known by a hash of 64 bits.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use crate::sync::Mutex;

/// Arguments that are remembered.
const NOTES_MAX: usize = 8192;

/// What happened last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Stored {
        expires_at_ms: u64,
        /// If it has tags, how many invalidations of any there had been.
        tagged_at: Option<u64>,
    },
    Invalidated,
    /// It was run, and there was nothing to keep.
    NotKept,
}

#[derive(Debug, Default)]
pub(super) struct Notes {
    hasher: RandomState,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    notes: HashMap<u64, (Note, u64)>,
    /// Fingerprints and when they were noted, oldest first; some are noted again since.
    order: VecDeque<(u64, u64)>,
    moment: u64,
    /// The moment of the latest clear.
    cleared: u64,
    forgotten: bool,
}

impl Notes {
    pub(super) fn write(&self, key: &[u8], note: Note) {
        let fingerprint = self.hasher.hash_one(key);
        let mut inner = self.inner.lock();
        inner.moment += 1;
        let moment = inner.moment;
        inner.notes.insert(fingerprint, (note, moment));
        inner.order.push_back((fingerprint, moment));
        // As many again of what was noted since, at most.
        while inner.notes.len() > NOTES_MAX || inner.order.len() > 2 * NOTES_MAX {
            let Some((fingerprint, moment)) = inner.order.pop_front() else { break };
            if inner.notes.get(&fingerprint).is_some_and(|(_, noted)| *noted == moment) {
                inner.notes.remove(&fingerprint);
                inner.forgotten = true;
            }
        }
    }

    /// Everything that was noted so far is invalidated.
    pub(super) fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.cleared = inner.moment;
    }

    pub(super) fn read(&self, key: &[u8]) -> Option<Note> {
        let inner = self.inner.lock();
        let (note, moment) = inner.notes.get(&self.hasher.hash_one(key))?;
        let stored = matches!(note, Note::Stored { .. });
        Some(if stored && *moment <= inner.cleared { Note::Invalidated } else { *note })
    }

    /// Whether nothing was forgotten.
    pub(super) fn are_complete(&self) -> bool {
        !self.inner.lock().forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_notes_stay_and_what_is_forgotten_is_known_to_be() {
        let notes = Notes::default();
        let key = |at: usize| at.to_string();
        for at in 0..NOTES_MAX {
            notes.write(key(at).as_bytes(), Note::Invalidated);
        }
        assert!(notes.are_complete());
        // Noted again, so it is not the oldest any more.
        notes.write(key(0).as_bytes(), Note::NotKept);
        assert!(notes.are_complete());
        notes.write(b"one more", Note::NotKept);
        assert!(!notes.are_complete());
        assert_eq!(notes.read(key(0).as_bytes()), Some(Note::NotKept));
        assert_eq!(notes.read(key(1).as_bytes()), None);
        assert_eq!(notes.read(key(2).as_bytes()), Some(Note::Invalidated));
    }

    #[test]
    fn the_same_arguments_again_and_again_take_no_more_room() {
        let notes = Notes::default();
        notes.write(b"first", Note::NotKept);
        for _ in 0..3 * NOTES_MAX {
            notes.write(b"same", Note::Stored { expires_at_ms: 7, tagged_at: None });
        }
        assert!(notes.inner.lock().order.len() <= 2 * NOTES_MAX);
        assert_eq!(notes.read(b"same"), Some(Note::Stored { expires_at_ms: 7, tagged_at: None }));
    }

    #[test]
    fn to_clear_invalidates_what_was_stored_before() {
        let notes = Notes::default();
        notes.write(b"before", Note::Stored { expires_at_ms: 7, tagged_at: None });
        notes.write(b"failed", Note::NotKept);
        notes.clear();
        notes.write(b"after", Note::Stored { expires_at_ms: 7, tagged_at: None });
        assert_eq!(notes.read(b"before"), Some(Note::Invalidated));
        assert_eq!(notes.read(b"failed"), Some(Note::NotKept));
        assert_eq!(notes.read(b"after"), Some(Note::Stored { expires_at_ms: 7, tagged_at: None }));
    }
}
