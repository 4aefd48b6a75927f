//! Opening stores.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use larder_engine::{Disk, Engine as _, Error, Process, Retain};
use larder_format::layout::{SHARE_HEADER_LEN, SUPERBLOCK_LEN};
use larder_format::{ShareHeader, Superblock};

use crate::args::Join;

/// Budget of a store that is created, unless another is asked for.
const BUDGET_DEFAULT: u64 = 1 << 30;

/// Budget of a store that is looked into: what it holds stays.
const NO_BUDGET: u64 = u64::MAX;

/// Opens the store in `dir`, creating it if there is none. Without a `budget`, nothing that is
/// there is evicted; joined processes have said theirs.
pub(crate) fn create(dir: &Path, join: Join, budget: Option<u64>) -> anyhow::Result<Disk> {
    let default = if is_store(dir) { NO_BUDGET } else { BUDGET_DEFAULT };
    if let Some(joined) = joined(dir, join, budget)? {
        return Ok(joined);
    }
    match Disk::builder(dir).budget(budget.unwrap_or(default)).open() {
        Err(Error::Config { option, value, accepted }) => {
            Err(Error::Config { option: typed(option), value, accepted }.into())
        }
        opened => explained(dir, opened),
    }
}

/// Opens the store in `dir`, which must be there.
pub(crate) fn existing(dir: &Path, join: Join) -> anyhow::Result<Disk> {
    check_exists(dir)?;
    match joined(dir, join, None)? {
        Some(joined) => Ok(joined),
        None => explained(dir, Disk::builder(dir).budget(NO_BUDGET).open()),
    }
}

/// Opens the store in `dir`, which must be there, to be read: nothing of it changes, but what those
/// change who are joined.
pub(crate) fn to_read(dir: &Path, join: Join) -> anyhow::Result<Disk> {
    check_exists(dir)?;
    match joined(dir, join, None)? {
        Some(joined) => Ok(joined),
        None => explained(dir, Disk::builder(dir).read_only().open()),
    }
}

/// Joins those who share the store, if that is wanted and there are any.
fn joined(dir: &Path, join: Join, budget: Option<u64>) -> anyhow::Result<Option<Disk>> {
    if !join.shared || !is_store(dir) || sharers(dir)?.is_empty() {
        return Ok(None);
    }
    let header = share_header(dir)?;
    let retain = if header.retains_all { Retain::All } else { Retain::Recent };
    let budget = budget.unwrap_or(header.budget);
    match Disk::builder(dir).budget(budget).retain(retain).shared().open() {
        Err(Error::Config { option, value, accepted }) => {
            Err(Error::Config { option: typed(option), value, accepted }.into())
        }
        opened => Ok(Some(opened?)),
    }
}

/// Those who have the store open and let others in.
pub(crate) fn sharers(dir: &Path) -> anyhow::Result<Vec<Process>> {
    let mut processes = Disk::who(dir)?;
    // Who has it alone does not say since when.
    processes.retain(|process| process.opened_ms > 0);
    Ok(processes)
}

/// What those agreed on who share the store.
fn share_header(dir: &Path) -> anyhow::Result<ShareHeader> {
    let head = |name, len: usize| -> anyhow::Result<Vec<u8>> {
        let path = dir.join(name);
        let mut head = vec![0; len];
        let read = File::open(&path).and_then(|mut file| file.read_exact(&mut head));
        read.with_context(|| format!("cannot read {}", path.display()))?;
        Ok(head)
    };
    let superblock = Superblock::decode(&head("store", SUPERBLOCK_LEN)?);
    let uuid = superblock.with_context(|| format!("cannot use {}", dir.display()))?.uuid;
    let header = ShareHeader::decode(&head("share", SHARE_HEADER_LEN)?, &uuid);
    header.with_context(|| format!("cannot use {}", dir.join("share").display()))
}

/// What was opened, or an error that says what to type if others share the store.
fn explained(dir: &Path, opened: larder_engine::Result<Disk>) -> anyhow::Result<Disk> {
    match opened {
        Err(Error::Locked { pid, .. }) if sharers(dir).is_ok_and(|found| !found.is_empty()) => {
            let dir = dir.display();
            bail!("{dir} is open in process {pid}, which shares it: say --shared to join it")
        }
        opened => Ok(opened?),
    }
}

/// Refuses a directory without a store, before anything would create one.
pub(crate) fn check_exists(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    match dir.metadata() {
        Ok(meta) => ensure!(meta.is_dir(), "{shown} is not a directory"),
        Err(error) => bail!("cannot open {shown}: {error}"),
    }
    ensure!(is_store(dir), "there is no store in {shown}");
    Ok(())
}

fn is_store(dir: &Path) -> bool {
    dir.join("store").symlink_metadata().is_ok()
}

/// The error of a cache, with the name that was typed of an option that was refused.
pub(crate) fn as_typed(error: larder::Error) -> larder::Error {
    match error {
        larder::Error::Config { option, value, accepted } => {
            larder::Error::Config { option: typed(option), value, accepted }
        }
        error => error,
    }
}

fn typed(option: &'static str) -> &'static str {
    match option {
        "memory" => "--memory",
        "budget" | "disk_budget" => "--disk",
        "mode" => "--mode",
        other => other,
    }
}

/// Runs `work` on `store` and closes it, whatever came of the work.
pub(crate) fn closing<T>(
    store: &Disk,
    work: impl FnOnce(&Disk) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let result = work(store);
    let closed = store.close();
    let result = result?;
    closed?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_engine::Put;
    use std::fs;

    #[test]
    fn nothing_is_created_where_a_store_is_expected() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [dir.path(), &dir.path().join("nowhere"), &file] {
            assert!(existing(path, Join::default()).is_err(), "{}", path.display());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_refused_budget_is_named_as_it_was_typed() {
        let dir = tempfile::tempdir().unwrap();
        let error =
            create(&dir.path().join("store"), Join::default(), Some(1)).expect_err("too small");
        assert!(error.to_string().starts_with("option --disk is 1: "), "{error}");
    }

    #[test]
    fn a_store_without_a_budget_takes_values() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("store");
        for (key, budget) in [("a", None), ("b", None), ("c", Some(1 << 30))] {
            closing(&create(&dir, Join::default(), budget).unwrap(), |store| {
                let outcome = store.put(key.as_bytes(), b"value", &Put::default())?;
                assert!(outcome.is_admitted());
                Ok(())
            })
            .unwrap();
        }
        closing(&existing(&dir, Join::default()).unwrap(), |store| {
            assert_eq!(store.len(), 3);
            Ok(())
        })
        .unwrap();
    }
}
