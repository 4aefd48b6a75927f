//! The stores that are put to the test: ours, and stand-ins that are wrong on purpose.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_engine::{
    Access, ArrayRef, Atomic, BatchOutcome, Disk, Durability, Engine, Error, ManualClock, Outcome,
    Put, Result, WriteBatch,
};

use crate::standin::{Flaw, StandIn};
use crate::work::Job;

/// The name of the one that has to be right.
pub(crate) const DISK: &str = "disk";

/// The same in the buffered mode.
pub(crate) const BUFFERED: &str = "buffered disk";
/// The same, now in one mode and now in the other.
pub(crate) const EITHER: &str = "disk in either mode";

/// The same, open in several processes at once.
pub(crate) const SHARED: &str = "shared disk";

/// What is asked of a store beside what every engine can do.
pub(crate) trait Subject: Engine {
    /// Puts a value, as an array if that makes a difference, in one of four ways.
    fn put_array(&self, key: &[u8], value: &[u8], _way: u64, how: &Put<'_>) -> Result<Outcome> {
        self.put(key, value, how)
    }

    /// Puts or removes several keys, all or none.
    fn write(&self, changes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<()>;

    /// Invalidates all that was put under a tag.
    fn invalidate_tag(&self, tag: &[u8]) -> Result<()>;

    /// Adds to a number, from 0; the sum.
    fn add(&self, key: &[u8], by: i64) -> Result<i64>;
}

impl Subject for Disk {
    fn put_array(&self, key: &[u8], value: &[u8], way: u64, how: &Put<'_>) -> Result<Outcome> {
        match way {
            0 => Self::put_array(self, key, &ArrayRef::new(value, &[value.len()])?, how),
            1 => {
                let array = ArrayRef::fortran(value, &[value.len(), 1])?;
                #[cfg(feature = "zstd")]
                let array = array.compressed();
                Self::put_array(self, key, &array, how)
            }
            2 => {
                let mut array = self.reserve_array::<u8>(key, &[value.len()], how)?;
                array.as_mut_slice().copy_from_slice(value);
                array.commit()
            }
            _ => {
                let mut array = self.append_array::<u8>(key, &[], how)?;
                value.chunks(9_999).try_for_each(|rows| array.push(rows))?;
                array.commit()
            }
        }
    }

    fn write(&self, changes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<()> {
        let mut batch = WriteBatch::new();
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(key, value, &Put::default()),
                None => batch.remove(key),
            };
        }
        match Self::write(self, &batch, Durability::None)? {
            BatchOutcome::Committed { .. } => Ok(()),
            _ => Err(Error::Closed),
        }
    }

    fn invalidate_tag(&self, tag: &[u8]) -> Result<()> {
        Self::invalidate_tag(self, tag)
    }

    fn add(&self, key: &[u8], by: i64) -> Result<i64> {
        Ok(self.add_to(key, by, Some(0), &Put::default())?.unwrap_or(0))
    }
}

/// How this opening of a store gets at its files.
fn access(job: &Job) -> Access {
    static OPENINGS: AtomicU64 = AtomicU64::new(0);
    // Each life begins in the mode that the one before did not.
    let opening = OPENINGS.fetch_add(1, Ordering::Relaxed) + job.life;
    match &*job.store {
        BUFFERED => Access::Buffered,
        EITHER if opening.is_multiple_of(2) => Access::Buffered,
        _ => Access::Mapped,
    }
}

/// An open store.
pub(crate) struct Opened {
    pub(crate) engine: Box<dyn Subject>,
    /// What is wrong with its files, if anything.
    pub(crate) damage: Option<String>,
}

/// Opens the store of a job, and has every byte of it looked at if there is time for that.
pub(crate) fn open(job: &Job, verify: bool) -> Result<Opened> {
    let clock = Arc::new(ManualClock::at(job.now_ms()));
    if let Some(flaw) = Flaw::named(&job.store) {
        let engine = Box::new(StandIn::open(&job.dir, flaw, clock)?);
        return Ok(Opened { engine, damage: None });
    }
    if job.is_shared() {
        return Ok(Opened { engine: Box::new(shared(job)?), damage: None });
    }
    let (budget, segment_len) = if job.roomy { (1 << 30, 1 << 20) } else { (1 << 20, 64 << 10) };
    // The length of a segment counts for a store that is created here.
    let disk = Disk::builder(&job.dir)
        .clock(clock)
        .budget(budget)
        .segment_len(segment_len)
        .writers(2)
        .access(access(job))
        .open()?;
    let report = if verify { Some(disk.verify()?) } else { None };
    let damage = report.filter(|report| !report.is_clean()).map(|report| format!("{report:?}"));
    Ok(Opened { engine: Box::new(disk), damage })
}

/// Opens the store of a job together with whoever has it open.
pub(crate) fn shared(job: &Job) -> Result<Disk> {
    let (budget, segment_len) = shape(job);
    let clock = Arc::new(ManualClock::at(job.now_ms()));
    Disk::builder(&job.dir).clock(clock).budget(budget).segment_len(segment_len).shared().open()
}

/// Opens it alone, and has every byte of it looked at. Trusts nothing if `distrust` says so.
pub(crate) fn alone(job: &Job, distrust: bool) -> Result<Opened> {
    let (budget, segment_len) = shape(job);
    let clock = Arc::new(ManualClock::at(job.now_ms()));
    let builder = Disk::builder(&job.dir).clock(clock).budget(budget).segment_len(segment_len);
    let disk = if distrust { builder.distrust().open()? } else { builder.open()? };
    let report = disk.verify()?;
    let damage = (!report.is_clean()).then(|| format!("{report:?}"));
    Ok(Opened { engine: Box::new(disk), damage })
}

/// Budget, and length of segments, of a store that several processes share.
const fn shape(job: &Job) -> (u64, u32) {
    if job.roomy { (1 << 30, 256 << 10) } else { (4 << 20, 64 << 10) }
}

/// Creates a store whose index is as small as can be, so that it has to grow at work.
pub(crate) fn create_small(dir: &Path) -> Result<()> {
    Disk::builder(dir).budget(1 << 20).segment_len(128 << 10).open()?.close()
}

/// Where a job's store goes, before it is there.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    // Only the stand-ins need it: the first child may be killed before the store is created.
    DirBuilder::new().mode(0o700).create(dir)
}
