//! Promise: after SIGKILL at any moment the store opens, verifies clean, has everything that
//! was acknowledged and not evicted, and holds no wrong value.
//! Method: replays that acknowledge each insertion in a file are killed at random moments,
//! all over one directory. `LARDER_KILLS` says how many times; a few by default.

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use common::{Ran, arg, larder, random, run};

const REQUESTS: u64 = 20_000;

fn kills() -> u64 {
    env::var("LARDER_KILLS").map_or(4, |kills| kills.parse().expect("LARDER_KILLS is a number"))
}

/// A trace that has new objects in every round, and some of the round before.
fn trace(dir: &Path, round: u64) -> PathBuf {
    let mut random = random(round + 1);
    let mut text = String::new();
    for _ in 0..REQUESTS {
        let id = round * REQUESTS / 2 + random() % REQUESTS;
        // Mostly small; a few are written past the mapping.
        let size = if id.is_multiple_of(500) { 40_000 } else { id % 250 };
        writeln!(text, "{id},{size}").expect("strings take everything");
    }
    let path = dir.join("round.csv");
    fs::write(&path, text).expect("it can be written");
    path
}

/// Starts a replay and kills it after a random part of the time that it needs.
fn storm(disk: &str, mut check: impl FnMut(&Path, &Path)) {
    let dir = tempfile::tempdir().expect("there is a place for it");
    let (store, acked) = (dir.path().join("store"), dir.path().join("acked"));
    let mut random = random(99);
    let mut whole = Duration::ZERO;
    for round in 0..=kills() {
        let trace = trace(dir.path(), round);
        let start = Instant::now();
        let mut child = larder(["replay", arg(&trace), "--dir", arg(&store), "--ack", arg(&acked)])
            .args(["--memory", "1MiB", "--disk", disk, "--json"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("the command starts");
        if round == 0 {
            // Not killed: says how long one takes.
            assert!(child.wait().expect("it can be waited for").success());
            whole = start.elapsed();
        } else {
            let part = u32::try_from(random() % 1_000).expect("it is small");
            thread::sleep((whole * part / 1_000).saturating_sub(start.elapsed()));
            child.kill().expect("it can be killed");
            child.wait().expect("it can be waited for");
        }
        check(&store, &acked);
    }
}

/// What is left of what was acknowledged.
fn verdict(store: &Path, acked: &Path, more: &[&str]) -> Ran {
    let command = ["replay", "--json", "--dir", arg(store), "--verify-acked", arg(acked)];
    run([command.as_slice(), more].concat())
}

#[test]
fn nothing_acknowledged_is_lost() {
    storm("8GiB", |store, acked| {
        let found = verdict(store, acked, &["--disk", "8GiB"]);
        let found = found.ended(0);
        assert_eq!(found.number("missing"), 0, "{found:?}");
        assert_eq!(found.number("wrong"), 0, "{found:?}");
        run(["verify", arg(store)]).ended(0);
    });
}

#[test]
fn a_store_that_evicts_holds_no_wrong_value() {
    storm("4MiB", |store, acked| {
        let found = verdict(store, acked, &["--disk", "4MiB", "--may-evict"]);
        assert_eq!(found.ended(0).number("wrong"), 0);
        run(["verify", arg(store)]).ended(0);
    });
}
