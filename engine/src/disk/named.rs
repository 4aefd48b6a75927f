//! Which large values go with a segment: those that no record names any more.
//!
//! More than one record of the log may name a file, each with the key of the others: a copy, while
//! the segment of the record that it was made of is still there, and a record with another
//! expiry. Not all of them need have a slot. A process may die between making a copy and
//! publishing it; a rebuild publishes one of two that say the same; and a slot may be given up
//! for want of room. The file goes with the last of them: a rebuild would find any other one
//! without it.
//!
//! # Invariants
//! 1. As long as the log holds a record that names a file, and nothing newer hides it, the file is
//!    there.

use std::collections::HashSet;
use std::sync::Arc;

use crossbeam_epoch::Guard;
use larder_format::{ExternalRef, Flags, SlotState};

use super::external::FileId;
use super::segment::{Record, Segment};
use super::store::Store;
use crate::sync::Ordering;

/// The keys, by hash, of the records of a segment that have large values, as far as its footer was
/// looked at. Each entry is looked at once.
#[derive(Debug, Default)]
pub(super) struct LargeKeys {
    looked_at: usize,
    hashes: HashSet<u64>,
}

impl Segment {
    /// Whether a record here has a large value of a key with this hash.
    fn has_large(&self, hash: u64) -> bool {
        let mut keys = self.large_keys.lock();
        while keys.looked_at < self.entry_count() {
            if let Some(entry) = self.entry(keys.looked_at).filter(|entry| entry.external) {
                keys.hashes.insert(entry.key_hash);
            }
            keys.looked_at += 1;
        }
        keys.hashes.contains(&hash)
    }

    /// Whether a record here, of a key with this hash, names a file.
    fn names(&self, file: FileId, hash: u64) -> bool {
        let names = |offset| {
            let record = self.record(offset).ok();
            record.is_some_and(|record| named_by(&record) == Some(file))
        };
        self.has_large(hash)
            && self
                .entries()
                .filter(|entry| entry.external && entry.key_hash == hash)
                .any(|entry| names(entry.offset()))
    }
}

/// The file that a record names.
fn named_by(record: &Record<'_>) -> Option<FileId> {
    let is_external = record.header.flags.has(Flags::EXTERNAL);
    let named = is_external.then(|| ExternalRef::decode(record.value()).ok()).flatten();
    named.map(|named| FileId::named(&named))
}

impl Store {
    /// Unlinks the large values of a segment that is gone for good. Not before: a record whose
    /// file is missing hides nothing after a crash, and an older one would show.
    pub(super) fn drop_externals(&self, segment: &Arc<Segment>) {
        for entry in segment.entries().filter(|entry| entry.external) {
            if let Ok(record) = segment.record(entry.offset()) {
                self.drop_external(&record, entry.key_hash, &crossbeam_epoch::pin());
            }
        }
    }

    /// Unlinks the file that a record names whose segment is gone, unless another one does so too.
    fn drop_external(&self, record: &Record<'_>, hash: u64, guard: &Guard) {
        let Ok(named) = ExternalRef::decode(record.value()) else { return };
        let file = FileId::named(&named);
        if self.is_named(record.key(), file, hash, guard) {
            return;
        }
        // What cannot be unlinked now is swept by the next opening.
        let _ = self.externals.remove(&*self.storage, file, guard);
        // Relaxed: a sum.
        let bytes = record.segment.external_bytes();
        bytes.fetch_sub(named.data_len.min(bytes.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Whether some record names a file, whose key is this: the live one, or, where there is none,
    /// any other that a rebuild would find.
    fn is_named(&self, key: &[u8], file: FileId, hash: u64, guard: &Guard) -> bool {
        if let Some(newest) = self.lookup(hash, key, guard) {
            return newest.state == SlotState::Value && named_by(&newest.found) == Some(file);
        }
        let others: Vec<_> = self.all_live().values().cloned().collect();
        others.iter().any(|other| other.names(file, hash))
    }
}
