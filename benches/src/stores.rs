//! Stores in directories of their own: made, filled, read and checked.

use std::fs;
use std::hint::black_box;
use std::ops::Range;
use std::path::Path;

use larder_rivals::disk::Open;
use larder_rivals::{DiskRival, Plan, Result};
use tempfile::TempDir;

use crate::data::{ends, key, value};

/// Records of a batch.
pub const BATCH: usize = 1000;

/// A store and its directory, dropped in this order.
pub struct Loaded {
    /// The store.
    pub store: Box<dyn DiskRival>,
    /// Its directory, deleted when this is dropped.
    pub dir: TempDir,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Loaded").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Loaded {
    /// An empty store below `dir`.
    ///
    /// # Errors
    /// Whatever the store or the system says.
    pub fn fresh(open: Open, plan: &Plan, dir: &Path) -> Result<Self> {
        let dir = private(dir)?;
        Ok(Self { store: open(dir.path(), plan)?, dir })
    }

    /// A store below `dir` that holds all records and has settled.
    ///
    /// # Errors
    /// As [`Self::fresh`].
    pub fn full(open: Open, plan: &Plan, dir: &Path) -> Result<Self> {
        let loaded = Self::fresh(open, plan, dir)?;
        put_batches(&*loaded.store, plan, 0..usize::try_from(plan.count)?)?;
        loaded.store.settle()?;
        Ok(loaded)
    }

    /// A store below `dir` that holds all records, after all were read and compared once.
    ///
    /// # Errors
    /// As [`Self::fresh`], or a wrong answer of the store.
    pub fn checked(open: Open, plan: &Plan, dir: &Path, order: &[u64]) -> Result<Self> {
        let loaded = Self::full(open, plan, dir)?;
        let mut reader = loaded.store.reader()?;
        for &record in order {
            check(plan, record, |look| reader.get(&key(record), look))?;
        }
        drop(reader);
        Ok(loaded)
    }

    /// Bytes that the store takes on the disk: the blocks of all files in its directory, not
    /// their lengths, as files can have holes.
    ///
    /// # Errors
    /// What the system says.
    pub fn allocated(&self) -> Result<u64> {
        allocated(self.dir.path())
    }
}

/// A directory that is its owner's alone, as larder wants it.
///
/// # Errors
/// What the system says.
pub fn private(dir: &Path) -> Result<TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new().prefix("side-by-side-").tempdir_in(dir)?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700))?;
    Ok(dir)
}

fn allocated(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // A file may go while we look: stores work in the background.
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() { allocated(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(bytes)
}

/// Puts records, each as a write of its own.
///
/// # Errors
/// What the store says.
pub fn put_each(store: &dyn DiskRival, plan: &Plan, records: Range<usize>) -> Result<()> {
    for record in records {
        store.put(&key(record as u64), value(record as u64, plan.value_len))?;
    }
    store.drain()
}

/// Puts records in batches.
///
/// # Errors
/// What the store says.
pub fn put_batches(store: &dyn DiskRival, plan: &Plan, records: Range<usize>) -> Result<()> {
    for start in records.clone().step_by(BATCH) {
        let batch = start as u64..(start + BATCH).min(records.end) as u64;
        store.put_batch(&mut batch.map(|record| (key(record), value(record, plan.value_len))))?;
    }
    store.drain()
}

/// Checks that `get` shows the whole value of a record.
///
/// # Errors
/// What `get` says, or that the value is missing or wrong.
pub fn check(
    plan: &Plan,
    record: u64,
    get: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<bool>,
) -> Result<()> {
    let mut right = false;
    let found = get(&mut |bytes| right = bytes == value(record, plan.value_len))?;
    match (found, right) {
        (true, true) => Ok(()),
        (false, _) => Err(format!("record {record} is missing").into()),
        _ => Err(format!("record {record} has a wrong value").into()),
    }
}

/// A spot check after writes: the first, the middle and the last record are there, whole.
///
/// # Errors
/// As [`check`].
pub fn check_three(store: &dyn DiskRival, plan: &Plan) -> Result<()> {
    for record in [0, plan.count / 2, plan.count - 1] {
        check(plan, record, |look| store.get(&key(record), look))?;
    }
    Ok(())
}

/// What readers make of values, in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Values that were found.
    pub hits: u64,
    /// The sum of what [`ends`] makes of them.
    pub ends: u64,
}

impl Sum {
    /// Adds the value of one record, as if it had been found.
    pub fn add(&mut self, record: u64, value_len: usize) {
        self.hits += 1;
        self.ends = self.ends.wrapping_add(ends(value(record, value_len)));
    }

    /// The sum over all records of a plan.
    #[must_use]
    pub fn of_all(plan: &Plan) -> Self {
        let mut sum = Self::default();
        (0..plan.count).for_each(|record| sum.add(record, plan.value_len));
        sum
    }

    /// Checks what the threads found against this.
    ///
    /// # Errors
    /// That they differ.
    pub fn expect(self, found: impl IntoIterator<Item = Self>) -> Result<()> {
        let found = found.into_iter().fold(Self::default(), |a, b| Self {
            hits: a.hits + b.hits,
            ends: a.ends.wrapping_add(b.ends),
        });
        if found == self {
            return Ok(());
        }
        Err(format!("wrong answers: {found:?} instead of {self:?}").into())
    }
}

/// Gets each record of `order`, `offset` added to its number.
///
/// # Errors
/// What `get` says.
#[inline]
pub fn sum_of(
    order: &[u64],
    offset: u64,
    mut get: impl FnMut(&[u8], &mut dyn FnMut(&[u8])) -> Result<bool>,
) -> Result<Sum> {
    let mut sum = Sum::default();
    for record in order {
        let mut seen = 0;
        sum.hits += u64::from(get(&key(record + offset), &mut |value| seen = ends(value))?);
        sum.ends = sum.ends.wrapping_add(black_box(seen));
    }
    Ok(sum)
}

/// A length as people write it.
#[must_use]
pub fn size(len: usize) -> String {
    match len {
        len if len.is_multiple_of(1 << 20) => format!("{} MiB", len >> 20),
        len if len.is_multiple_of(1 << 10) => format!("{} KiB", len >> 10),
        len => format!("{len} B"),
    }
}
