//! Durability: syncing, and closing for good.
//!
//! A sync that fails is remembered for good: by the segment, which never again says that it is
//! durable, and by the session, so that the next opening trusts nothing unsynced.

use larder_format::Session;

use super::counters::Count;
use super::observer::Event;
use super::segment::{Segment, file_name};
use super::store::Store;
use super::timing::Timed;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::sync::Ordering;

impl Store {
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_open()?;
        self.sync_all()
    }

    fn sync_all(&self) -> Result<()> {
        // Relaxed: whoever drew a number below it for a record had its file on the list before, and
        // is seen there: the list's lock orders it.
        let next_seq = self.file.next_seq().load(Ordering::Relaxed);
        self.sync_externals()?;
        if self.externals.is_unsaid() {
            // First: what is acknowledged hides what is older even if its file is damaged.
            let settled_seq = next_seq.saturating_sub(1);
            let settled = |session: Session| Session {
                settled_seq: session.settled_seq.max(settled_seq),
                ..session
            };
            self.externals.note_said();
            self.file.change_session(&*self.storage, settled).inspect_err(|_| {
                self.externals.note_unsaid();
            })?;
        }
        self.sync_segments()?;
        self.free_doomed()
    }

    /// Makes the records of all segments durable; all are tried, the first failure counts.
    pub(super) fn sync_segments(&self) -> Result<()> {
        let segments: Vec<_> = self.all_live().values().cloned().collect();
        let mut result = Ok(());
        for segment in segments {
            let synced = self.sync_counted(&segment);
            result = result.and(synced);
        }
        result.inspect_err(|_| self.note_suspect())
    }

    /// Makes the records of a segment durable.
    pub(super) fn sync_segment(&self, segment: &Segment) -> Result<()> {
        self.sync_counted(segment).inspect_err(|_| self.note_suspect())
    }

    /// As [`sync_segment`](Self::sync_segment), together with other writers.
    pub(super) fn sync_together(&self, segment: &Segment) -> Result<()> {
        let synced = || segment.sync_together(&*self.storage, &self.coming);
        self.count_sync(synced).inspect_err(|_| self.note_suspect())
    }

    fn sync_counted(&self, segment: &Segment) -> Result<()> {
        self.count_sync(|| segment.sync(&*self.storage))
    }

    fn count_sync(&self, sync: impl FnOnce() -> Result<Option<u64>>) -> Result<()> {
        let started = self.upkeep.timings.start();
        if let Some(records) = sync()? {
            self.upkeep.timings.end(Timed::Sync, started);
            self.counters.add(Count::Syncs, 1);
            self.counters.add(Count::SyncedRecords, records);
        }
        Ok(())
    }

    /// Makes the large values written so far durable.
    pub(super) fn sync_externals(&self) -> Result<()> {
        let synced = self.externals.sync(&*self.storage).inspect_err(|_| self.note_suspect())?;
        self.counters.add(Count::Syncs, synced);
        Ok(())
    }

    /// Remembers durably, as far as the disk still goes along, that write-back failed: what
    /// the page cache holds cannot be trusted to be on disk.
    pub(super) fn note_suspect(&self) {
        self.upkeep.observed.note(|| Event::SyncFailed);
        // The error that brought us here is what the caller gets.
        let suspect = |session| Session { suspect: true, ..session };
        let _ = self.file.change_session(&*self.storage, suspect);
    }

    /// An error if a file was found to be cut short (`guard.rs`): the next opening looks at
    /// everything then.
    fn check_whole(&self) -> Result<()> {
        let cut = {
            let live = self.all_live();
            live.values().find(|segment| segment.region().is_broken()).map(|it| it.id())
        };
        let Some(id) = cut else { return Ok(()) };
        self.note_suspect();
        Err(Error::SyncLost { path: self.storage.path(&file_name(id)) })
    }

    pub(crate) fn close(&self) -> Result<()> {
        self.check_open()?;
        if self.together.is_some() {
            // As far as that works: the next opening, or another process, does the rest.
            let _ = self.adopt_dead();
        }
        self.vital.close()?;
        // Whoever is under way finishes first: with a large value, with a step of the maintenance,
        // and with a lane. Whoever comes to one of these later finds the store closed, as they
        // are held until the clean mark is written, which nothing may come after.
        let _gate = self.gate.write();
        let _progress = self.upkeep.progress.lock();
        let mut lanes = self.lanes.acquire_all();
        lanes.iter_mut().for_each(|lane| lane.writer.each(Writer::slim));
        self.slim_spare();
        self.seal_full();
        self.sync_all()?;
        self.check_whole()?;
        if self.storage.is_buffered() {
            // The words of segments that had nothing else to be synced.
            let live = self.all_live();
            for segment in live.values() {
                let path = || self.storage.path(&file_name(segment.id()));
                segment
                    .region()
                    .file()
                    .sync()
                    .map_err(|error| Error::io("sync", &path(), error))?;
            }
        }
        if let Some(together) = &self.together {
            lanes.iter_mut().for_each(|lane| self.seal(lane));
            let _ = self.drop_spare();
            for lane in &lanes {
                self.add_entries(lane.note_entries(0, 0).unwrap_or(0));
            }
            if let Some(dying) = self.reclaiming.lock().take() {
                together.share.disown(together.share.entry(dying.segment.id()));
            }
            self.sync_all()?;
            let is_last = self.file.begin_to_leave(&*self.storage)?;
            together.share.leave();
            if !is_last || together.share.taken().next().is_some() {
                self.file.unlock();
                return Ok(());
            }
            super::share::remove(&*self.storage)?;
            self.storage
                .sync_dir("")
                .map_err(|error| Error::io("sync", self.storage.root(), error))?;
        }
        let guard = &crossbeam_epoch::pin();
        // So that one generation is left, whose pages are summed.
        self.index.finish(self.ground(), guard);
        // The next opening takes the count for exact. Relaxed: nobody changes it now.
        let is_exact = self.entries_exact && self.damage.len() == 0;
        let entries = if is_exact { self.entries() } else { self.index.count_values(guard) };
        for lane in &lanes {
            let _ = lane.note_entries(0, 0);
        }
        self.file.entries().store(entries, Ordering::Relaxed);
        let epoch = self.file.session().map_or(0, |session| session.epoch);
        self.index.write_sums(epoch);
        // A sync of the index that fails loses slots: the next opening must not go by them.
        let synced = self.index.sync(&*self.storage, guard);
        synced.inspect_err(|_| self.note_suspect())?;
        // The clean mark may reach the disk as soon as it is written: what it vouches for has
        // to be there before.
        self.file.sync_words(&*self.storage).inspect_err(|_| self.note_suspect())?;
        let ends = self.segments_crc();
        let words_crc = self.file.words_crc();
        // Relaxed: all lanes are held.
        let settled_seq = self.file.next_seq().load(Ordering::Relaxed).saturating_sub(1);
        let clean = |session| Session {
            clean: true,
            words_crc,
            segments_crc: ends,
            settled_seq,
            ..session
        };
        self.file.change_session(&*self.storage, clean)?;
        self.file.unlock();
        Ok(())
    }
}
