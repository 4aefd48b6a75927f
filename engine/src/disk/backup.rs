//! Backups: another directory with everything that a store held at one moment.
//!
//! The moment is when all lanes are held: which segments are live, and how much of each is
//! committed, is noted then, and writers go on. A record that the index still leads to is
//! written to the backup at once. Of a key that has changed since, the log says what it had:
//! its newest record below the moment's sequence number, which is found once all are seen.
//!
//! # Invariants
//! 1. What the moment saw stays readable until the backup is done: its segments are held, and
//!    an external file that goes meanwhile is kept mapped (`external.rs`).
//! 2. Every key gets into the backup once. What is written first is the newest of the moment,
//!    as the index led to it; what the log says of a key counts only if the key is not there.
//! 3. The directory gets its name when all of it is durable.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;

use larder_format::layout::UNIT;
use larder_format::{ArrayDescriptor, Committed, ExternalRef, Flags, Kind, Superblock};

use super::Disk;
use super::builder::{Options, random};
use super::change::{Change, Content, Decision, Draft};
use super::file::Directory;
use super::maintenance::Maintenance;
use super::newborn::Newborn;
use super::retain::Retain;
use super::segment::{Record, Segment};
use super::shortage::Patience;
use super::store::Store;
use crate::clock::is_live;
use crate::error::Result;
use crate::sync::Ordering;

/// What [`Disk::backup`] wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Entries written.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Entries left out because they fail their checksums, which lookups miss as well.
    pub damaged: u64,
}

impl Disk {
    /// Writes everything that is live when the call begins to another directory, which opens as
    /// a store of its own. The store can be used meanwhile; writers wait for a moment only.
    ///
    /// Values keep their codec, expiry and tags, and mostly their order; versions and times of
    /// writing are new. When it returns, the backup is durable. Until then it is in a directory
    /// with another name (`.NAME.PID.larder-tmp`, beside `dir`), so that one that was cut off is
    /// never taken for a backup; such a directory can be removed. What is evicted or replaced
    /// meanwhile stays on disk until it is done.
    ///
    /// ```
    /// # let place = tempfile::tempdir()?;
    /// # use larder_engine::{Disk, Engine, Put};
    /// let disk = Disk::builder(place.path().join("store")).open()?;
    /// let _ = disk.put(b"key", b"value", &Put::default())?;
    /// assert_eq!(disk.backup(place.path().join("backup"))?.entries, 1);
    /// let backup = Disk::builder(place.path().join("backup")).open()?;
    /// assert_eq!(backup.get(b"key")?.as_deref(), Some(&b"value"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::WrongType`](crate::Error::WrongType) if `dir` is there and is no empty
    /// directory; [`Error`](crate::Error) if the store is closed or the system refused, and
    /// then nothing is left of the backup.
    pub fn backup(&self, dir: impl AsRef<Path>) -> Result<BackupReport> {
        self.backup_with(dir, |_, _| {})
    }

    /// As [`backup`](Self::backup), telling after each segment how many are done, and of how
    /// many.
    ///
    /// # Errors
    /// As [`backup`](Self::backup).
    pub fn backup_with(
        &self,
        dir: impl AsRef<Path>,
        progress: impl FnMut(u64, u64),
    ) -> Result<BackupReport> {
        self.store.backup(dir.as_ref(), progress)
    }
}

/// What the store was at the moment that counts.
struct Moment {
    segments: Vec<(Arc<Segment>, Committed)>,
    /// Every record of the moment has a lower sequence number.
    end_seq: u64,
    now_ms: u64,
    /// Sequence numbers of the last invalidations, by the hash of the tag.
    invalidated: HashMap<u64, u64>,
}

impl Moment {
    fn is_live(&self, record: &Record<'_>) -> bool {
        let seq = record.header.seq;
        let is_valid = |tag| self.invalidated.get(&tag).is_none_or(|at| *at < seq);
        is_live(record.header.expires_at_ms, self.now_ms) && record.tags().all(is_valid)
    }
}

/// The newest that was seen in the log of a key that the index no longer knows as it was.
struct Former {
    seq: u64,
    /// Where its live value is; `None` if it had none.
    place: Option<(Arc<Segment>, usize)>,
}

impl Store {
    fn backup(&self, dir: &Path, progress: impl FnMut(u64, u64)) -> Result<BackupReport> {
        self.check_open()?;
        let newborn = Newborn::create(dir)?;
        let directory = Directory::open(newborn.path(), false)?;
        let (storage, _) = self.target_access().storage(directory);
        let superblock = Superblock {
            uuid: random()?,
            created_ms: self.clock.now_ms(),
            ..*self.file.superblock()
        };
        let options = Options {
            budget: u64::MAX,
            superblock: Some(superblock),
            writers: Some(1),
            clock: Arc::clone(&self.clock),
            maintenance: Maintenance::Manual,
            // Nothing of it may give way, slots of the index included.
            retain: Retain::All,
            ..Options::default()
        };
        let target = Self::open(Arc::clone(&storage), &options)?;
        let report = self.copy_to(&target, progress)?;
        target.close()?;
        drop(target);
        newborn.name(&*storage)?;
        Ok(report)
    }

    /// Writes everything that lives to another, empty store.
    pub(super) fn copy_to(
        &self,
        target: &Self,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<BackupReport> {
        // First, so that no file goes that the moment sees.
        let _keeping = self.externals.keep();
        let moment = self.moment();
        let total = moment.segments.len() as u64;
        let mut report = BackupReport::default();
        let mut formers: HashMap<Vec<u8>, Former> = HashMap::new();
        for (done, (segment, end)) in moment.segments.iter().enumerate() {
            progress(done as u64, total);
            self.check_open()?;
            for entry in segment.entries().rev().take(end.entries as usize) {
                if !matches!(entry.kind, Kind::Value | Kind::Tombstone) {
                    continue;
                }
                let Ok(record) = segment.record(entry.offset()) else {
                    report.damaged += 1;
                    continue;
                };
                let seq = record.header.seq;
                let now = {
                    let guard = &crossbeam_epoch::pin();
                    self.lookup(entry.key_hash, record.key(), guard).map(|found| found.seq)
                };
                if now.is_some_and(|now| now != seq && now < moment.end_seq) {
                    // It was replaced before the moment.
                    continue;
                }
                let lives = record.header.kind == Kind::Value && moment.is_live(&record);
                if now == Some(seq) && lives && self.copy(&record, target, &mut report)? {
                    continue;
                }
                let place =
                    (lives && now != Some(seq)).then(|| (Arc::clone(segment), entry.offset()));
                match formers.entry(record.key().to_vec()) {
                    Entry::Occupied(mut former) if former.get().seq <= seq => {
                        former.insert(Former { seq, place });
                    }
                    Entry::Occupied(_) => {}
                    Entry::Vacant(former) => {
                        former.insert(Former { seq, place });
                    }
                }
            }
        }
        let mut formers: Vec<_> = formers.into_values().collect();
        formers.sort_unstable_by_key(|former| former.seq);
        for (segment, offset) in formers.into_iter().filter_map(|former| former.place) {
            if let Ok(record) = segment.record(offset) {
                self.copy(&record, target, &mut report)?;
            }
        }
        progress(total, total);
        Ok(report)
    }

    fn moment(&self) -> Moment {
        let lanes = self.lanes.acquire_all();
        let segments: Vec<_> = {
            let live = self.all_live();
            live.values().map(|s| (Arc::clone(s), s.region().committed())).collect()
        };
        // Relaxed: all lanes are held, so that no record gets a number meanwhile.
        let end_seq = self.file.next_seq().load(Ordering::Relaxed);
        let now_ms = self.clock.now_ms();
        drop(lanes);
        let mut invalidated = HashMap::new();
        for (segment, end) in &segments {
            for entry in segment.entries().rev().take(end.entries as usize) {
                if entry.kind == Kind::TagInvalidation {
                    // One that cannot be read counts as the newest that it can be.
                    let seq = self.number_of(Some(segment), Some(&entry));
                    let last = invalidated.entry(entry.key_hash).or_insert(seq);
                    *last = seq.max(*last);
                }
            }
        }
        Moment { segments, end_seq, now_ms, invalidated }
    }

    /// Writes a record's value to another store, unless its key is there. Whether the value is
    /// whole.
    fn copy(&self, record: &Record<'_>, target: &Self, report: &mut BackupReport) -> Result<bool> {
        let mut steady = Vec::new();
        let Some(record) = &record.steady(&mut steady).filter(Record::is_intact) else {
            report.damaged += 1;
            return Ok(false);
        };
        let view;
        let mut file = None;
        let mut array = None;
        let value = if record.header.flags.has(Flags::EXTERNAL) {
            let guard = &crossbeam_epoch::pin();
            file = match ExternalRef::decode(record.value()) {
                Ok(named) => self.externals.get_kept(&*self.storage, &named, guard)?,
                Err(_) => None,
            };
            let found = file.as_ref().and_then(|file| Some((file, file.value()?)));
            let Some((file, found)) = found else {
                report.damaged += 1;
                return Ok(false);
            };
            view = found;
            array = file.array();
            // Its NumPy header follows from what it is.
            if array.is_some() {
                file.parts().map_or(&[][..], |(data, _)| data)
            } else {
                view.bytes()
            }
        } else {
            record.value()
        };
        let taken = target.take_in(record, array, value)?;
        if file.as_ref().is_some_and(|file| file.frozen().is_broken()) {
            return Err(self.cut_under(record));
        }
        if taken {
            report.entries += 1;
            report.bytes += (record.key().len() + value.len()) as u64;
        }
        Ok(true)
    }

    /// Puts the value of another store's record, whose keys are hashed alike, unless the key is
    /// there. Whether it was not.
    fn take_in(
        &self,
        record: &Record<'_>,
        array: Option<&ArrayDescriptor>,
        value: &[u8],
    ) -> Result<bool> {
        let key = record.key();
        let hash = self.hash(key)?;
        let tags: Vec<u64> = record.tags().collect();
        let header = &record.header;
        let fate = (Kind::Value, header.expires_at_ms);
        let mut change = Change {
            hash,
            key,
            head: &[],
            value,
            tags: &tags,
            fate,
            now_ms: self.clock.now_ms(),
            patience: Patience::Help,
            durable: false,
        };
        if self.lookup(hash, key, &crossbeam_epoch::pin()).is_some() {
            return Ok(false);
        }
        let kept = Draft::kept(record, header.expires_at_ms);
        let draft = Draft { content: Content::Given, ..kept };
        let encoded;
        if draft.flags.has(Flags::EXTERNAL) {
            encoded = self.put_external(&change, array, false)?.encode();
            change.value = &encoded;
        } else if draft.flags.has(Flags::ARRAY) {
            // Its place has to be aligned.
            (change.head, change.value) = value.split_at(value.len().min(UNIT));
        }
        let (taken, _) = self.update(&change, |_, _| Ok(Decision::Write(draft, true)))?;
        Ok(taken)
    }
}
