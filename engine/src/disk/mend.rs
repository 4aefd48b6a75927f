//! The words of segments after a clean end: compared with what the session says, and mended.
//!
//! One checksum in the session stands for ids, committed words and states of all segments, so
//! that an opening reads nothing but these words. If it fails, each segment is looked at: one
//! with a trailer was sealed, and the trailer says how much counts; one without is scanned, and
//! sealed. Nothing is believed by a word that may be wrong: one that says too little would
//! hide the newest record of a key.

use std::sync::Arc;

use larder_format::layout::SEGMENT_COMMITTED;
use larder_format::{Committed, SegmentState, Session};

use super::collect;
use super::counters::Count;
use super::rebuild::Large;
use super::segment::{Segment, file_name};
use super::session::STORE;
use super::store::Store;
use crate::clock::NEVER;
use crate::error::Result;

impl Store {
    /// Checksum of the words of all segments but those in which nothing was written: whether
    /// one of them is there makes no difference.
    pub(super) fn segments_crc(&self) -> u32 {
        let live = self.all_live();
        let words = live.values().map(|segment| segment.raw_words());
        let blank = [Committed::EMPTY.to_bits(), SegmentState::Open as u64];
        Session::segments_crc_of(
            words.filter(|[_, committed, state]| [*committed, *state] != blank),
        )
    }

    /// Compares the words of all segments with their checksum, and mends them. For an opening
    /// after a clean end.
    pub(super) fn mend_segments(&self) -> Result<()> {
        let Some(last) = self.file.session() else { return Ok(()) };
        if last.segments_crc == self.segments_crc() {
            // In another place or after a start of the machine the files may be copies that
            // nobody has synced.
            if self.file.is_same_boot(&*self.storage) {
                self.all_live().values().for_each(|segment| segment.note_clean_end());
            }
            return Ok(());
        }
        let note = |file: String, offset, what| {
            self.counters.add(Count::Corrupt, 1);
            self.damage.note(file, offset, what);
        };
        // After a clean end all large values are on the disk.
        let mut large = Large::new(NEVER);
        let mut mended = false;
        let segments: Vec<_> = self.all_live().values().cloned().collect();
        for segment in segments.iter().filter(|segment| segment.region().is_whole()) {
            let [_, before, state] = segment.raw_words();
            if let Ok(trailer) = segment.trailer() {
                if ![SegmentState::Sealed as u64, SegmentState::Retiring as u64].contains(&state) {
                    segment.set_state(SegmentState::Sealed);
                }
                segment.region().trust(trailer.committed);
            } else if !segment.is_blank() || SegmentState::Open as u64 != state {
                let (mut found, tail) = self.scan(segment, &mut large)?;
                // It was complete when the store was closed.
                collect::decide(&mut [&mut found], |_, _| true);
                self.adopt(segment, tail, &found.entries);
            }
            let [_, after, state_after] = segment.raw_words();
            // A scan seals what was open and right.
            let was_open = state == SegmentState::Open as u64;
            if before != after || state != state_after && !was_open {
                let what = "the segment's words were wrong, and were mended from its records";
                note(file_name(segment.id()), SEGMENT_COMMITTED, what);
                mended = true;
            }
        }
        if !mended {
            let what = "the words of the segments are not those of the last session";
            note(STORE.to_owned(), 0, what);
        }
        self.forget_torn(&large)
    }

    /// Lists what is left in segments whose files were cut short, and their footers with them: for
    /// whoever goes through entries. The index is trusted, and leads to what is left anyway.
    pub(super) fn list_cut_short(&self) -> Result<()> {
        let is_unlisted = |segment: &&Arc<Segment>| segment.is_unlisted();
        let cut: Vec<_> = self.all_live().values().filter(is_unlisted).cloned().collect();
        let mut large = Large::new(NEVER);
        for segment in cut {
            let (mut found, _) = self.scan(&segment, &mut large)?;
            collect::decide(&mut [&mut found], |_, _| true);
            let entries: Vec<_> = found.entries.iter().map(|(entry, _)| *entry).collect();
            segment.list(&entries);
        }
        Ok(())
    }
}
