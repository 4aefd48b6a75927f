//! Repair: a store that has what is right of a damaged one, and in which nothing is wrong.
//!
//! What would stop an opening is seen to first (`salvage.rs`). The opening trusts nothing, and
//! builds the index from what passes its checks. Then every segment in which something is wrong
//! is rewritten, as compaction does it: what lives is moved, what is damaged is not, and leaves
//! a tombstone where an older value would show otherwise.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder_format::{ExternalRef, Flags, Kind};

use super::Disk;
use super::access::Access;
use super::builder::Options;
use super::external::FileId;
use super::file::Directory;
use super::maintenance::Maintenance;
use super::retain::Retain;
use super::salvage::{Salvaged, salvage, set_aside};
use super::segment::Segment;
use super::storage::Storage;
use super::store::Store;
use super::verify::{Finding, VerifyReport};
use crate::error::{Error, Result};

/// Rounds of looking and rewriting: what one round leaves damaged, the disk does.
const ROUNDS: usize = 3;

/// What [`Disk::repair`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// Entries that the store has now.
    pub entries: u64,
    /// Headers and records that failed their checks when the store was opened.
    pub damaged: u64,
    /// What was wrong then, and is no longer there; records that were not live among it.
    pub dropped: Vec<Finding>,
    /// Files that could not be used, where they are now: in `lost+found`. Of one that was cut
    /// short what is left was taken over.
    pub moved: Vec<PathBuf>,
    /// Whether the superblock was written again.
    pub superblock: bool,
    /// What is still wrong: nothing, unless the disk damages what is written to it.
    pub left: Vec<Finding>,
}

impl RepairReport {
    /// Whether there was nothing to repair.
    #[must_use]
    pub const fn was_clean(&self) -> bool {
        self.damaged == 0 && self.dropped.is_empty() && self.moved.is_empty() && !self.superblock
    }
}

impl Disk {
    /// Repairs the store in `dir`, which nobody has open: keeps all that is right, drops what
    /// fails its checks, and moves files that cannot be used to the directory `lost+found` in
    /// it. Nothing is evicted, whatever budget the store had. Afterwards
    /// [`verify`](Self::verify) finds nothing wrong.
    ///
    /// As after the loss of power nothing is trusted that is not known to be on disk. Of a key
    /// whose last value is damaged in a segment that was never synced, or stood in a file or a
    /// part of one that is gone, the value before it may show, as nothing speaks of the last.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use larder_engine::{Disk, Engine, Put};
    /// let disk = Disk::builder(dir.path().join("store")).open()?;
    /// let _ = disk.put(b"key", b"value", &Put::default())?;
    /// disk.close()?;
    /// let report = Disk::repair(dir.path().join("store"))?;
    /// assert!(report.was_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Irreparable`] if the superblock is damaged and nothing proves what stood in it;
    /// [`Error::Format`] if it is of a newer format; others as of
    /// [`open`](crate::DiskBuilder::open). A repair that was cut off can be taken up again.
    pub fn repair(dir: impl AsRef<Path>) -> Result<RepairReport> {
        Self::repair_with(dir, |_, _| {})
    }

    /// As [`repair`](Self::repair), telling after each segment how many are done, and of how
    /// many.
    ///
    /// # Errors
    /// As [`repair`](Self::repair).
    pub fn repair_with(
        dir: impl AsRef<Path>,
        progress: impl FnMut(u64, u64),
    ) -> Result<RepairReport> {
        let dir = dir.as_ref();
        // Nothing is created where no store is.
        std::fs::metadata(dir).map_err(|error| Error::io("look at", dir, error))?;
        let (storage, _) = Access::Auto.storage(Directory::open(dir, false)?);
        repair(storage, progress)
    }
}

/// Repairs the store in a storage of any kind.
fn repair(storage: Arc<dyn Storage>, mut progress: impl FnMut(u64, u64)) -> Result<RepairReport> {
    let Salvaged { moved, superblock } = salvage(&*storage)?;
    let mut report = RepairReport { moved, superblock, ..RepairReport::default() };
    let options = Options {
        budget: u64::MAX,
        distrust: true,
        repairs: true,
        maintenance: Maintenance::Manual,
        retain: Retain::All,
        ..Options::default()
    };
    let store = Store::open(storage, &options)?;
    report.damaged = store.stats().corrupt;
    for _ in 0..ROUNDS {
        let mut found = VerifyReport::default();
        store.drop_damaged(&mut found, &mut report.moved, &mut progress)?;
        if found.is_clean() {
            break;
        }
        report.dropped.append(&mut found.findings);
    }
    report.left = store.verify(|_, _| {})?.findings;
    report.dropped.retain(|finding| !report.left.contains(finding));
    report.entries = store.len();
    store.close()?;
    Ok(report)
}

impl Store {
    /// Looks at everything, and drops what is damaged.
    fn drop_damaged(
        &self,
        found: &mut VerifyReport,
        moved: &mut Vec<PathBuf>,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<()> {
        self.lanes.acquire_all().iter_mut().for_each(|lane| self.seal(lane));
        self.seal_full();
        let segments = self.sealed_by_age();
        let total = segments.len() as u64;
        let mut damaged = Vec::new();
        for (done, segment) in segments.into_iter().enumerate() {
            progress(done as u64, total);
            self.drop_broken_externals(&segment, found, moved)?;
            let before = found.findings.len();
            self.verify_segment(&segment, found)?;
            if found.findings.len() > before {
                damaged.push(segment);
            }
        }
        for segment in damaged {
            self.rewrite(&segment)?;
        }
        self.sync()?;
        progress(total, total);
        Ok(())
    }

    /// Removes keys whose value is in a file of its own that is damaged or missing.
    fn drop_broken_externals(
        &self,
        segment: &Arc<Segment>,
        found: &mut VerifyReport,
        moved: &mut Vec<PathBuf>,
    ) -> Result<()> {
        for entry in segment.entries().filter(|entry| entry.external && entry.kind == Kind::Value) {
            let Ok(record) = segment.record(entry.offset()) else { continue };
            let guard = crossbeam_epoch::pin();
            let lives = self.lookup(entry.key_hash, record.key(), &guard).is_some_and(|live| {
                live.found.segment.id() == segment.id() && live.found.offset == record.offset
            });
            if !lives || !record.header.flags.has(Flags::EXTERNAL) || !record.is_intact() {
                continue;
            }
            let named = ExternalRef::decode(record.value()).ok();
            let file = match &named {
                Some(named) => self.externals.get(&*self.storage, named, &guard)?,
                None => None,
            };
            if file.is_some_and(|file| file.value().is_some()) {
                continue;
            }
            drop(guard);
            let name = named.map(|named| FileId::named(&named).name());
            let path =
                name.as_ref().map_or_else(|| self.storage.path("big"), |n| self.storage.path(n));
            let what = "the file is missing or damaged, and its key was removed".to_owned();
            found.findings.push(Finding { path, offset: 0, what });
            // First, so that the key never has a value without its file.
            self.remove(record.key())?;
            if let Some(name) = name
                && self.storage.open(&name)?.is_some()
            {
                set_aside(&*self.storage, &name, moved)?;
            }
        }
        Ok(())
    }
}
