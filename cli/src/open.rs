//! Opening stores.

use std::path::Path;

use anyhow::{bail, ensure};
use larder_engine::{Disk, Engine as _, Error};

/// Budget of a store that is created, unless another is asked for.
const BUDGET_DEFAULT: u64 = 1 << 30;

/// Budget of a store that is looked into: what it holds stays.
const NO_BUDGET: u64 = u64::MAX;

/// Opens the store in `dir`, creating it if there is none. Without a `budget`, nothing that is
/// there is evicted.
pub(crate) fn create(dir: &Path, budget: Option<u64>) -> anyhow::Result<Disk> {
    let default = if is_store(dir) { NO_BUDGET } else { BUDGET_DEFAULT };
    match Disk::builder(dir).budget(budget.unwrap_or(default)).open() {
        Err(Error::Config { option, value, accepted }) => {
            Err(Error::Config { option: typed(option), value, accepted }.into())
        }
        opened => Ok(opened?),
    }
}

/// Opens the store in `dir`, which must be there.
pub(crate) fn existing(dir: &Path) -> anyhow::Result<Disk> {
    check_exists(dir)?;
    Ok(Disk::builder(dir).budget(NO_BUDGET).open()?)
}

/// Opens the store in `dir`, which must be there, to be read: nothing of it changes.
pub(crate) fn to_read(dir: &Path) -> anyhow::Result<Disk> {
    check_exists(dir)?;
    Ok(Disk::builder(dir).read_only().open()?)
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
            assert!(existing(path).is_err(), "{}", path.display());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_refused_budget_is_named_as_it_was_typed() {
        let dir = tempfile::tempdir().unwrap();
        let error = create(&dir.path().join("store"), Some(1)).expect_err("too small");
        assert!(error.to_string().starts_with("option --disk is 1: "), "{error}");
    }

    #[test]
    fn a_store_without_a_budget_takes_values() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("store");
        for (key, budget) in [("a", None), ("b", None), ("c", Some(1 << 30))] {
            closing(&create(&dir, budget).unwrap(), |store| {
                let outcome = store.put(key.as_bytes(), b"value", &Put::default())?;
                assert!(outcome.is_admitted());
                Ok(())
            })
            .unwrap();
        }
        closing(&existing(&dir).unwrap(), |store| {
            assert_eq!(store.len(), 3);
            Ok(())
        })
        .unwrap();
    }
}
