//! Giving back blocks of segments that are written to later: what a store keeps ready for its
//! writers is out of proportion while it is small, or while nobody writes.
//!
//! Segments are allocated in full before they are mapped, so that no write meets a full disk. The
//! maintenance gives the unwritten middle back, but for what a few records take, of open segments
//! and of the spare, once nobody has written for a while; a clean end does as well. The next writer
//! that gets there allocates all of it again, before it writes, or goes on to another segment.
//!
//! # Invariants
//! 1. Blocks are given back, and allocated again, by who has the right to append, which a writer
//!    takes with the lane, and the spare's lock keeps for who slims the spare.
//! 2. The file keeps its length, and counts in full: what is given back can be had again.

use super::lanes::Held;
use super::store::Store;
use super::writer::Writer;
use crate::sync::Ordering;

/// What was seen of the writers when the maintenance last looked.
#[derive(Debug, Default)]
pub(super) struct Lull {
    next_seq: Option<u64>,
    is_slim: bool,
}

impl Store {
    /// Gives back blocks if nobody has written since the last look. Whether to look again.
    pub(super) fn slim_in_lull(&self, lull: &mut Lull) -> bool {
        // Relaxed: a hint; who writes meanwhile allocates what is missing.
        let next_seq = self.file.next_seq().load(Ordering::Relaxed);
        if lull.next_seq != Some(next_seq) {
            *lull = Lull { next_seq: Some(next_seq), is_slim: false };
        } else if !std::mem::replace(&mut lull.is_slim, true) {
            self.lanes.each_idle(Writer::slim);
            self.slim_spare();
        }
        !lull.is_slim
    }

    /// Gives back the blocks of the spare.
    pub(super) fn slim_spare(&self) {
        let spare = self.upkeep.spare.lock();
        if let Some(mut appender) = spare.as_ref().and_then(|spare| spare.region().appender()) {
            appender.slim(0);
        }
    }

    /// Allocates what the open segment of a lane has given back; whether that was something, and
    /// is there again.
    pub(super) fn fill_out(&self, lane: &mut Held<'_>) -> bool {
        let filled = lane.writer.as_mut().is_some_and(Writer::fill_out);
        if filled {
            // So that it looks for the end of this writer's work.
            self.upkeep.bell.ring();
        }
        filled
    }
}
