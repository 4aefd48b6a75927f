//! Promise: after a loss of power, what was acknowledged as durable is there, a batch is there in
//! full or not at all, and nothing is torn, foreign or older than it may be.
//!
//! Method: a child process works on a store in a file system of its own and says which of its
//! operations have returned. At a random moment that file system is shut down as by a loss of
//! power, its journal unwritten (`FS_IOC_GOINGDOWN` of ext4 and XFS); the child is killed, the
//! file system mounted again, and the store compared with what was said. Then the next child goes
//! on in it. What a process would still find in the page cache is lost here, as on a real machine;
//! what the simulation assumes of file systems is put to the test.
//!
//! `LARDER_POWER_CUTS` says how many cuts fall in each setting, `LARDER_SEED` from which seed,
//! `LARDER_FS=xfs` takes another file system. It takes root, and says `SKIPPED` where that is
//! not permitted.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test")]

mod ledger;
mod mounted;
mod script;

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use larder_engine::conformance::Random;
use larder_engine::{Access, Disk, Engine, Recovery, Result};

use ledger::{Finished, Ledger};
use mounted::Mounted;
use script::{Job, THREADS, act};

/// Lives in one file system before the next one is made.
const LIVES: u64 = 40;

/// How a store is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    /// Whether nothing has to be evicted.
    roomy: bool,
    access: Access,
}

impl Setting {
    fn open(self, dir: &Path) -> Result<Disk> {
        let (budget, segment_len) =
            if self.roomy { (64 << 20, 1 << 20) } else { (2 << 20, 128 << 10) };
        let builder = Disk::builder(dir).budget(budget).segment_len(segment_len);
        builder.writers(2).access(self.access).open()
    }
}

#[test]
fn a_store_that_has_room_loses_nothing_durable() {
    storm(Setting { roomy: true, access: Access::Mapped });
}

#[test]
fn a_store_that_evicts_gets_nothing_old_back() {
    storm(Setting { roomy: false, access: Access::Mapped });
}

#[test]
fn the_buffered_mode_loses_nothing_durable() {
    storm(Setting { roomy: true, access: Access::Buffered });
}

/// Not a test: what the others start and cut off.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Some(job) = env::var(script::JOB).ok().and_then(|line| Job::from_line(&line)) else {
        return;
    };
    let access = if job.buffered { Access::Buffered } else { Access::Mapped };
    let setting = Setting { roomy: job.roomy, access };
    let disk = setting.open(&job.dir).expect("opens");
    say("ready");
    let (disk, job) = (&disk, &job);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for (number, op) in (0..).zip(job.script(thread)) {
                    if let Err(error) = act(disk, job, thread, number, &op) {
                        // What else should it do: its file system is gone.
                        say(&format!("failed {thread} {number} {error}"));
                        return;
                    }
                    say(&format!("done {thread} {number}"));
                }
            });
        }
    });
}

/// Writes a line at once, as a whole.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

fn storm(setting: Setting) {
    let cuts = number("LARDER_POWER_CUTS", 6);
    let seed = number("LARDER_SEED", 0x1a4d_e400);
    let mut random = Random::new(seed ^ u64::from(setting.roomy) << 40);
    let (mut done, mut found, mut rebuilt, mut slowest) = (0, 0, 0, Duration::ZERO);
    while done < cuts {
        let Some(mut mounted) = Mounted::new() else { return };
        let mut ledger = Ledger::default();
        for life in 0..LIVES.min(cuts - done) {
            let job = Job {
                dir: mounted.at().join("store"),
                seed: seed.wrapping_add(done),
                life,
                roomy: setting.roomy,
                buffered: setting.access == Access::Buffered,
            };
            let acks = 1 + random.below(400) as u64;
            let finished =
                live(&job, acks, &mounted).unwrap_or_else(|what| panic!("{job:?}: {what}"));
            mounted.again();
            let started = Instant::now();
            let disk = setting.open(&job.dir).unwrap_or_else(|error| panic!("{job:?}: {error}"));
            slowest = slowest.max(started.elapsed());
            rebuilt += u64::from(disk.stats().recovery == Recovery::Rebuilt);
            ledger.lived(&job, &finished);
            let verified = disk.verify().unwrap();
            assert!(verified.is_clean(), "{job:?}: {verified:?}");
            found += ledger
                .check(&disk, setting.roomy)
                .unwrap_or_else(|what| panic!("{job:?}, after {finished:?} operations: {what}"));
            disk.close().unwrap();
            done += 1;
        }
    }
    println!(
        "{setting:?}: {done} cuts, {found} values found, {rebuilt} rebuilt, slowest {slowest:?}"
    );
    assert!(done == 0 || rebuilt > 0, "no cut was noticed");
}

/// Lets a child work until so many operations have returned, then cuts the power. Of each thread, how
/// many have returned until then, and how many were heard of in the end.
fn live(job: &Job, acks: u64, mounted: &Mounted) -> std::result::Result<Vec<Finished>, String> {
    let told = |error: io::Error| error.to_string();
    let program: PathBuf = env::current_exe().map_err(told)?;
    let mut child = Command::new(program)
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(script::JOB, job.line())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(told)?;
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let mut finished = vec![Finished::default(); THREADS];
    let (mut seen, mut ready, mut cut) = (0, false, false);
    for line in lines {
        let line = line.map_err(told)?;
        // The harness of the tests writes to the same place, without an end of line.
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [.., "ready"] => ready = true,
            [.., "done", thread, number] => {
                let thread: usize = thread.parse().map_err(|_| line.clone())?;
                let count = number.parse::<u64>().map_err(|_| line.clone())? + 1;
                finished[thread].heard_of = count;
                seen += 1;
                // Whoever returns during the cut is told that it is durable what is not: on a real
                // machine nobody would hear that.
                if !cut {
                    finished[thread].returned = count;
                }
                if seen == acks {
                    mounted.cut_power();
                    cut = true;
                    let _ = child.kill();
                }
            }
            [.., "failed", _, _] | ["failed", ..] if !cut => return Err(line),
            _ => {}
        }
    }
    child.wait().map_err(told)?;
    match (ready, cut) {
        (true, true) => Ok(finished),
        _ => Err(format!("the child ended by itself: ready {ready}, {finished:?}")),
    }
}
