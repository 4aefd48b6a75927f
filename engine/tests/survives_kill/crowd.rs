//! Several children work on one store at once; one of them is killed, and the others go on.
//!
//! Each child has keys of its own, so that what is allowed under them follows from its notes alone.
//! A child that died is compared with its notes while the others go on, once one of them, or this
//! process, has taken over what it left; in the end all are killed, and the store is opened alone: as
//! they left it, and once more with its index built anew.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use larder_engine::Engine as _;
use larder_engine::conformance::Random;

use crate::ledger::Ledger;
use crate::stores::{self, Subject};
use crate::work::{Job, read_notes};
use crate::{child, identify};

/// How many work at once.
const CHILDREN: usize = 4;
/// Kills in one directory.
const LIVES: u64 = 24;
/// How long a dead process may wait for its heir.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn processes_that_share_a_store_lose_nothing() {
    many(true);
}

#[test]
fn processes_that_share_a_store_and_evict_get_nothing_old_back() {
    many(false);
}

#[expect(clippy::print_stdout, reason = "a test says what it has done")]
fn many(roomy: bool) {
    let kills = env::var("LARDER_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8);
    let (mut done, mut acknowledged, mut slowest) = (0, 0, Duration::ZERO);
    while done < kills {
        let lives = LIVES.min(kills - done);
        let seed = crate::seed().wrapping_add(done);
        match directory(seed, lives, roomy, &mut slowest) {
            Ok(operations) => acknowledged += operations,
            Err(what) => panic!("after {done} kills, LARDER_SEED={seed}, roomy {roomy}: {what}"),
        }
        done += lives;
    }
    assert!(acknowledged > 0, "nothing was tried");
    println!(
        "roomy {roomy}: {done} kills, {acknowledged} operations acknowledged, an heir after at \
         most {slowest:?}"
    );
}

/// A child, and what is known of its keys.
struct Worker {
    job: Job,
    process: Child,
    ledger: Ledger,
}

fn told(error: std::io::Error) -> String {
    format!("the test itself failed: {error}")
}

fn directory(seed: u64, lives: u64, roomy: bool, slowest: &mut Duration) -> Result<usize, String> {
    let place = tempfile::tempdir().map_err(told)?;
    stores::make_dir(&place.path().join("store")).map_err(told)?;
    let mut random = Random::new(seed);
    let mut workers = Vec::new();
    for number in (0..).take(CHILDREN) {
        let job = job(place.path(), seed, (number, 0), roomy)?;
        workers.push(Worker { process: start(&job)?, job, ledger: Ledger::default() });
    }
    let mut acknowledged = 0;
    for _ in 0..lives {
        let at_most = 300_usize << random.below(9);
        thread::sleep(Duration::from_micros(random.below(at_most) as u64));
        let worker = &mut workers[random.below(CHILDREN)];
        let pid = worker.process.id();
        acknowledged += bury(worker)?;
        let begin = Instant::now();
        let disk = stores::shared(&worker.job).map_err(|error| format!("joining: {error}"))?;
        while disk.processes().iter().any(|process| process.pid == pid) {
            if begin.elapsed() > PATIENCE {
                return Err(format!("nobody takes over what process {pid} left"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        *slowest = (*slowest).max(begin.elapsed());
        compare(worker, &disk).map_err(|what| format!("while others go on: {what}"))?;
        worker.ledger.settle();
        if random.chance(50) {
            disk.close().map_err(|error| format!("close: {error}"))?;
        }
        drop(disk);
        let next = (worker.job.first, worker.job.life + 1);
        worker.job = job(place.path(), seed, next, roomy)?;
        worker.process = start(&worker.job)?;
    }
    for worker in &mut workers {
        acknowledged += bury(worker)?;
    }
    for distrust in [false, true] {
        let job = workers[0].job.clone();
        let opened = stores::alone(&job, distrust).map_err(|error| format!("alone: {error}"))?;
        let how = opened.engine.stats().recovery;
        if let Some(damage) = opened.damage {
            return Err(format!("alone, {how:?}: verify found {damage}"));
        }
        for worker in &mut workers {
            compare(worker, &*opened.engine).map_err(|what| format!("alone, {how:?}: {what}"))?;
            worker.ledger.settle();
        }
        opened.engine.close().map_err(|error| format!("close: {error}"))?;
    }
    Ok(acknowledged)
}

fn job(place: &Path, seed: u64, (first, life): (u64, u64), roomy: bool) -> Result<Job, String> {
    let notes = place.join(format!("notes {first} {life}"));
    std::fs::create_dir_all(&notes).map_err(told)?;
    let (store, dir) = (stores::SHARED.to_owned(), place.join("store"));
    Ok(Job { store, dir, notes, seed, life, first, threads: 1, keys: 500, roomy })
}

/// Starts a child, and waits until it is at work.
fn start(job: &Job) -> Result<Child, String> {
    let mut process = Command::new(env::current_exe().map_err(told)?)
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(child::JOB, job.to_line())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(told)?;
    let mut out = BufReader::new(process.stdout.take().ok_or("no pipe")?);
    let mut line = String::new();
    while out.read_line(&mut line).map_err(told)? > 0 && !line.contains(child::READY) {}
    Ok(process)
}

/// Kills a child and takes down what it did. How much that was.
fn bury(worker: &mut Worker) -> Result<usize, String> {
    let Worker { job, process, ledger } = worker;
    process.kill().map_err(told)?;
    let status = process.wait().map_err(told)?;
    if status.signal() != Some(crate::SIGKILL) {
        let mut said = String::new();
        process.stderr.take().map(|mut err| err.read_to_string(&mut said));
        return Err(format!("{} {}: it ended by itself ({status}): {said}", job.first, job.life));
    }
    let notes = read_notes(&job.notes, job.first).map_err(told)?;
    let count = notes.len();
    ledger.live(job, &[notes]).map_err(|what| format!("{} {}: {what}", job.first, job.life))?;
    Ok(count)
}

/// Compares a store with what may be in it under the keys of a child.
fn compare(worker: &mut Worker, engine: &dyn Subject) -> Result<(), String> {
    let Worker { job, ledger, .. } = worker;
    let told = |error: larder_engine::Error| format!("{error}: {error:?}");
    let mut listed = BTreeMap::new();
    for key in ledger.keys() {
        let value = engine.get(&key.bytes()).map_err(told)?;
        let found = value.map(|value| identify(key, &value)).transpose()?;
        ledger.found(job, key, found)?;
        listed.extend(found.map(|found| (key, found)));
    }
    ledger.check_joint(job, &listed)
}
