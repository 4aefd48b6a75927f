//! What a process leaves that dies while others have the store open, and who takes it over.
//!
//! | what it left | what becomes of it |
//! |---|---|
//! | a segment that it wrote to | what the kill cut off there is decided (`cut_off.rs`), and it is sealed |
//! | one that it had ready | it is removed |
//! | one that it was reclaiming | whoever reclaims next goes on with it |
//! | the place of one that it was making | it is free again |
//! | a batch | it counts if it was about to be committed, and else not (`gate.rs`) |
//! | its in-flight words | they say that nobody is under way |
//! | large values that nothing names | they stay until the store is opened by one process after all |
//!
//! # Invariants
//! 1. Who adopts holds the lock that the dead process held, so that it is dead, and nobody else adopts it.
//! 2. Every step can be done again: who dies over it leaves the slot taken, and its lock free.
//! 3. A slot is given up last. Until then its in-flight words stand, and removals leave tombstones that
//!    hide whatever the dead process may have been about to publish.

use std::sync::Arc;

use larder_format::SegmentState;

use super::observer::Event;
use super::segment::{Segment, file_name};
use super::share::{Entry, process_lock};
use super::store::Store;
use super::together::Together;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::sync::Ordering;

impl Store {
    /// Takes over what processes left that died. Whether there were any. The caller holds no lane.
    pub(super) fn adopt_dead(&self) -> Result<bool> {
        let Some(together) = &self.together else { return Ok(false) };
        let share = &together.share;
        let mut any = false;
        for number in share.taken() {
            if number == share.me() {
                continue;
            }
            let Some(_lock) = self.storage.lock(&process_lock(number), "")? else { continue };
            // It may have been given up, or adopted, before the lock was free.
            if !share.taken().any(|taken| taken == number) {
                continue;
            }
            self.settle_gate(together, number);
            self.adopt_process(together, number)?;
            share.vacate(number);
            any = true;
            let pid = share.pid(number);
            self.upkeep.observed.note(|| Event::Adopted { pid });
        }
        Ok(any)
    }

    fn adopt_process(&self, together: &Together, number: usize) -> Result<()> {
        let share = &together.share;
        let owned: Vec<Entry> =
            share.entries().filter(|entry| entry.owner() == Some(number)).collect();
        for entry in owned {
            let unmapped = self.unmapped();
            let segment = self.all_live().get(&entry.id()).cloned();
            self.check_mapped(unmapped)?;
            match segment {
                // Not there any more, or not yet.
                None if self.storage.open(&file_name(entry.id()))?.is_none() => {
                    share.forget(entry.id());
                }
                None => {}
                Some(ref segment) => {
                    if !self.is_there(segment) {
                        // It died between the file and the word.
                        share.forget(entry.id());
                        continue;
                    }
                    if !entry.is_claimed() && segment.state() == SegmentState::Open {
                        self.adopt_segment(segment)?;
                    }
                    share.disown(share.entry(entry.id()));
                }
            }
        }
        Ok(())
    }

    /// Whether the file of a segment still has its name.
    fn is_there(&self, segment: &Segment) -> bool {
        !matches!(self.storage.open(&file_name(segment.id())), Ok(None))
    }

    /// Decides what was cut off at the end of a segment, and seals it.
    fn adopt_segment(&self, segment: &Arc<Segment>) -> Result<()> {
        if segment.is_blank() {
            return self.unlink(segment);
        }
        let Some(mut writer) = Writer::new(Arc::clone(segment)) else {
            segment.set_state(SegmentState::Sealed);
            return Ok(());
        };
        let path = || self.storage.path(&file_name(segment.id()));
        writer.scrub().map_err(|error| Error::io("write to", &path(), error))?;
        let last = segment.last_entry().map(|entry| (Arc::clone(segment), entry));
        self.settle_cut_off(last.into_iter().collect())?;
        // Relaxed: as for any seal.
        let _ = writer.seal(self.file.next_segment().load(Ordering::Relaxed));
        Ok(())
    }
}
