//! Opening stores.

use std::path::Path;

use anyhow::bail;
use larder_engine::Engine;

/// Refuses a directory that is not there, before anything would create it.
pub(crate) fn check_exists(dir: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(dir.try_exists()?, "{} does not exist", dir.display());
    Ok(())
}

/// Opens the store in `dir`, creating it if there is none.
pub(crate) fn create(_dir: &Path, _budget_bytes: u64) -> anyhow::Result<Box<dyn Engine>> {
    bail!("this build has no disk store")
}

/// Opens the store in `dir`, which must be there.
pub(crate) fn existing(_dir: &Path) -> anyhow::Result<Box<dyn Engine>> {
    bail!("this build has no disk store")
}

/// Runs `work` on `store` and closes it, whatever came of the work.
pub(crate) fn closing<T>(
    store: Box<dyn Engine>,
    work: impl FnOnce(&dyn Engine) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let result = work(&*store);
    let closed = store.close();
    let result = result?;
    closed?;
    Ok(result)
}
