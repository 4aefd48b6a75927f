//! Promise: processes that share a store are as one. What one has done the others see at once; one that
//! is stopped or killed holds nobody up; what must happen once happens once; the directory stays as
//! small as was said; and who does not share is kept out, and told by whom.
//!
//! Method: children started from this executable, told what to do over pipes. Longer runs are asked for by
//! `LARDER_STOPS`, `LARDER_STOP_MS`, `LARDER_COLD` and `LARDER_ROUNDS`, other ones by `LARDER_SEED`.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test")]

mod cold;
mod fresh;
mod joint;
mod peer;
mod refused;
mod room;
mod stopped;

use std::env;
use std::path::Path;

use larder_engine::{Disk, DiskBuilder, Error, Result};

use peer::Told;

/// A number that the environment may change.
fn asked(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A store as all tests here share it that say nothing else.
fn builder(dir: &Path) -> DiskBuilder {
    Disk::builder(dir).budget(64 << 20).segment_len(256 << 10).shared()
}

/// Opens it alone, and looks at every byte of it.
fn alone(dir: &Path, budget: u64) -> Disk {
    let disk = Disk::builder(dir).budget(budget).open().unwrap();
    let report = disk.verify().unwrap();
    assert!(report.is_clean(), "{report:?}");
    disk
}

/// Not a test: what the others start.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Some(mut told) = Told::from_parent() else { return };
    let done: Result<(), Error> = match &*told.role {
        "cold" => cold::child(&mut told),
        "fresh" => fresh::child(&mut told),
        "joint" => joint::child(&mut told),
        "open" => refused::child(&mut told),
        "room" => room::child(&mut told),
        "stopped" => stopped::child(&mut told),
        role => panic!("no role {role}"),
    };
    if let Err(error) = done {
        told.say(&format!("failed: {error}: {error:?}"));
        std::process::exit(2);
    }
}
