//! Promise: what `put`, `remove`, a batch, an invalidation or an addition has acknowledged survives
//! `kill -9`, a batch and an invalidation as a whole, and no dead, torn or foreign value comes back.
//!
//! Method: a child process works on a store and notes, outside of it, each operation that has
//! returned. It is killed at a random moment; its directory is opened, verified and compared
//! with the notes; then the next child goes on in it. `LARDER_KILLS` says how many children
//! die in each setting, `LARDER_SEED` from which seed.
#![cfg(unix)]

mod child;
mod crowd;
mod ledger;
mod standin;
mod stores;
mod work;

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use larder_engine::conformance::Random;
use larder_engine::{AnyArray, CodecId, Value};

use ledger::{Found, Ledger};
use standin::Flaw;
use stores::Subject;
use work::{Job, Key, Note, Number, count_notes, read_notes};

/// A directory sees this many deaths before the next begins: a store that must not evict
/// would overflow in the end.
const LIVES_ROOMY: u64 = 8;
/// One that evicts has to fill up first.
const LIVES_TIGHT: u64 = 32;
const SIGKILL: i32 = 9;
/// A child that has not done its work by then is killed all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// A setting that children die in.
#[derive(Debug, Clone)]
struct Setting {
    store: String,
    threads: u64,
    keys: u64,
    roomy: bool,
    seed: u64,
}

/// What happened.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    /// Of which before the store was open.
    early: u64,
    acknowledged: usize,
    found: usize,
    /// Values that are gone though nobody removed them: evicted, or cleared when it died.
    gone: usize,
    slowest_open: Duration,
}

#[test]
fn one_writer_loses_nothing() {
    disk(stores::DISK, 1, 3_000, true);
}

#[test]
fn four_writers_lose_nothing() {
    disk(stores::DISK, 4, 500, true);
}

#[test]
fn one_writer_that_evicts_gets_nothing_old_back() {
    disk(stores::DISK, 1, 3_000, false);
}

#[test]
fn four_writers_that_evict_get_nothing_old_back() {
    disk(stores::DISK, 4, 500, false);
}

#[test]
fn the_buffered_mode_loses_nothing() {
    disk(stores::BUFFERED, 2, 1_000, true);
}

#[test]
fn the_buffered_mode_that_evicts_gets_nothing_old_back() {
    disk(stores::BUFFERED, 2, 1_000, false);
}

#[test]
fn a_store_goes_from_one_mode_to_the_other_and_back() {
    disk(stores::EITHER, 2, 1_000, true);
    disk(stores::EITHER, 2, 1_000, false);
}

#[expect(clippy::print_stdout, reason = "a test says what it has done")]
fn disk(store: &str, threads: u64, keys: u64, roomy: bool) {
    let setting = Setting { store: store.to_owned(), threads, keys, roomy, seed: seed() };
    let kills = env::var("LARDER_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8);
    match storm(&setting, kills) {
        Ok(tally) => println!("{setting:?}: {tally}"),
        Err(what) => panic!("{setting:?}: {what}"),
    }
}

#[test]
fn every_flawed_stand_in_is_caught() {
    // A storm ends when the flaw shows: most take a few kills, the rarest some dozens.
    let of = |flaw: Flaw, kills| {
        let setting = Setting {
            store: format!("{flaw:?}"),
            threads: 2,
            keys: 300,
            roomy: true,
            seed: seed(),
        };
        storm(&setting, kills)
    };
    let tally = of(Flaw::Nothing, 12).expect("a stand-in without a flaw passes");
    println!("no flaw: {tally}");
    let mut caught = 0;
    for &flaw in Flaw::ALL {
        match of(flaw, 300) {
            Ok(tally) => println!("{flaw:?}: NOT CAUGHT: {tally}"),
            Err(what) => {
                println!("{flaw:?}: {what:.200}");
                caught += 1;
            }
        }
    }
    println!("{caught} of {} flaws caught", Flaw::ALL.len());
    assert_eq!(caught, Flaw::ALL.len());
}

/// Not a test: what the others start and kill.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Some(job) = env::var(child::JOB).ok().and_then(|line| Job::from_line(&line)) else {
        return;
    };
    if let Err(error) = child::run(&job) {
        eprintln!("{error}");
        std::process::exit(2);
    }
}

fn seed() -> u64 {
    let given = env::var("LARDER_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or(20_260_731)
}

/// Kills one child after the other and checks what each leaves behind.
fn storm(setting: &Setting, kills: u64) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let mut directory = 0;
    while tally.kills < kills {
        let lives = if setting.roomy { LIVES_ROOMY } else { LIVES_TIGHT };
        let lives = lives.min(kills - tally.kills);
        let seed = setting.seed.wrapping_add(directory);
        lives_of_a_directory(setting, seed, lives, &mut tally)
            .map_err(|what| format!("{what} (after {tally}; LARDER_SEED={})", setting.seed))?;
        directory += 1;
    }
    if tally.acknowledged == 0 {
        return Err(format!("nothing was tried: {tally}"));
    }
    Ok(tally)
}

fn lives_of_a_directory(
    setting: &Setting,
    seed: u64,
    lives: u64,
    tally: &mut Tally,
) -> Result<(), String> {
    let told = |error: std::io::Error| format!("the test itself failed: {error}");
    let place = tempfile::tempdir().map_err(told)?;
    let mut random = Random::new(seed);
    let mut ledger = Ledger::default();
    for life in 0..lives {
        let notes = place.path().join(format!("notes {life}"));
        let dir = place.path().join("store");
        std::fs::create_dir_all(&notes).map_err(told)?;
        if life == 0 && seed % 2 == 1 && setting.store == stores::DISK {
            stores::create_small(&dir).map_err(|error| format!("creating failed: {error}"))?;
        } else if life == 0 {
            stores::make_dir(&dir).map_err(told)?;
        }
        let Setting { store, threads, keys, roomy, .. } = setting.clone();
        let job = Job { store, dir, notes, seed, life, first: 0, threads, keys, roomy };
        let moment = Moment::draw(&mut random);
        kill_one(&job, moment, &mut random)?;
        tally.kills += 1;
        tally.early += u64::from(moment == Moment::Opening);
        let notes: Vec<Vec<Note>> = (0..threads)
            .map(|thread| read_notes(&job.notes, thread).map_err(told))
            .collect::<Result<_, _>>()?;
        tally.acknowledged += notes.iter().map(Vec::len).sum::<usize>();
        ledger.live(&job, &notes).map_err(|what| format!("life {life}: {what}"))?;
        // As the child left it; and as this process leaves it, closed or not.
        for again in [false, true] {
            let begin = Instant::now();
            let opened = stores::open(&job, true)
                .map_err(|error| format!("life {life}: reopening failed: {error}"))?;
            tally.slowest_open = tally.slowest_open.max(begin.elapsed());
            if let Some(damage) = opened.damage {
                let how = opened.engine.stats().recovery;
                return Err(format!("life {life}, {how:?}: verify found {damage}"));
            }
            let (found, gone) = compare(&job, &mut ledger, &*opened.engine).map_err(|what| {
                let how = opened.engine.stats().recovery;
                format!("life {life}, opened again {again}, {how:?}: {what}")
            })?;
            ledger.settle();
            tally.found += if again { 0 } else { found };
            tally.gone += gone;
            if random.chance(50) {
                opened.engine.close().map_err(|error| format!("life {life}: close: {error}"))?;
            }
        }
    }
    Ok(())
}

/// When a child is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// While it starts or opens the store.
    Opening,
    /// Soon after it has begun to write.
    Beginning,
    /// After each thread has done about this much.
    Working(u64),
}

impl Moment {
    fn draw(random: &mut Random) -> Self {
        match random.below(100) {
            0..15 => Self::Opening,
            15..40 => Self::Beginning,
            _ => Self::Working(1 << random.below(13)),
        }
    }
}

/// Starts a child and kills it.
fn kill_one(job: &Job, moment: Moment, random: &mut Random) -> Result<(), String> {
    let told = |error: std::io::Error| format!("the test itself failed: {error}");
    let mut child = Command::new(env::current_exe().map_err(told)?)
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(child::JOB, job.to_line())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(told)?;
    let mut out = BufReader::new(child.stdout.take().ok_or("no pipe")?);
    if moment != Moment::Opening {
        let mut line = String::new();
        while out.read_line(&mut line).map_err(told)? > 0 && !line.contains(child::READY) {}
    }
    if let Moment::Working(done) = moment {
        let patience = Instant::now();
        while count_notes(&job.notes, 0) < done && patience.elapsed() < PATIENCE {
            thread::sleep(Duration::from_micros(200));
        }
    }
    // Up to 20 ms, short times as likely as long ones.
    let at_most = 300_usize << random.below(7);
    thread::sleep(Duration::from_micros(random.below(at_most) as u64));
    child.kill().map_err(told)?;
    let status = child.wait().map_err(told)?;
    if status.signal() != Some(SIGKILL) {
        let mut said = String::new();
        child.stderr.take().map(|mut err| err.read_to_string(&mut said));
        return Err(format!("life {}: the child ended by itself ({status}): {said}", job.life));
    }
    Ok(())
}

/// Compares a store with what may be in it; how many values were found, and are gone.
fn compare(job: &Job, ledger: &mut Ledger, engine: &dyn Subject) -> Result<(usize, usize), String> {
    let keys = ledger.keys();
    let names: BTreeMap<Vec<u8>, Key> = keys.iter().map(|key| (key.bytes(), *key)).collect();
    let told = |error: larder_engine::Error| format!("{error}: {error:?}");
    let mut listed = BTreeMap::new();
    for entry in engine.iter() {
        let (name, value) = entry.map_err(told)?;
        let key = *names.get(&name).ok_or_else(|| format!("{name:?} was never put"))?;
        if listed.insert(key, identify(key, &value)?).is_some() {
            return Err(format!("{key:?} is listed twice"));
        }
    }
    let mut gone = 0;
    for &key in &keys {
        let value = engine.get(&key.bytes()).map_err(told)?;
        let found = value.map(|value| identify(key, &value)).transpose()?;
        if listed.get(&key) != found.as_ref() {
            return Err(format!("{key:?} is {found:?}, listed as {:?}", listed.get(&key)));
        }
        gone += usize::from(ledger.found(job, key, found)?);
    }
    ledger.check_joint(job, &listed)?;
    let len = usize::try_from(engine.len()).unwrap_or(usize::MAX);
    if len < listed.len() || len > keys.len() {
        return Err(format!("{} entries are listed, len says {len}", listed.len()));
    }
    Ok((listed.len(), gone))
}

fn identify(key: Key, value: &Value) -> Result<Found, String> {
    let array = match value.meta().codec {
        CodecId::ARRAY => Some(AnyArray::of_value(value).map_err(|why| format!("{key:?}: {why}"))?),
        _ => None,
    };
    let bytes = match &array {
        Some(array) => array.data().map_err(|why| format!("{key:?}: {why}"))?,
        None => value,
    };
    let number = Number::of(key, bytes).ok_or_else(|| {
        format!("{key:?} has {} bytes that are torn or foreign: {value:?}", value.len())
    })?;
    Ok(Found { number, version: value.meta().version })
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, early, acknowledged, found, gone, slowest_open } = self;
        write!(
            out,
            "{kills} kills ({early} while opening), {acknowledged} operations acknowledged, \
             {found} values found, {gone} gone, slowest open {slowest_open:?}"
        )
    }
}
