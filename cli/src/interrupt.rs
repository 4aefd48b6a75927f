//! Ctrl-C: the first asks long work to stop and close its store, the second ends the process.

use std::process;
use std::sync::OnceLock;

use anyhow::Context as _;

static REQUESTED: OnceLock<()> = OnceLock::new();

/// Takes Ctrl-C over from the system. Long work asks [`requested`] now and then.
pub(crate) fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if REQUESTED.set(()).is_err() {
            process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")
}

/// Whether Ctrl-C was pressed. Costs one load.
pub(crate) fn requested() -> bool {
    REQUESTED.get().is_some()
}
