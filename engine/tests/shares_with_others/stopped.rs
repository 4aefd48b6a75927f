//! One process is stopped, wherever it is; the others go on meanwhile, and nothing is wrong afterwards.
//!
//! Each process has keys of its own, so that what has to be under them follows from what it did. The first
//! one also writes batches. A batch waits for a writer that was stopped in the middle of a change; the
//! others must not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use larder_engine::conformance::Random;
use larder_engine::{Atomic as _, Disk, Durability, Engine as _, Error, Put, Result, WriteBatch};
use rustix::process::Signal;

use crate::peer::{Peer, Told};
use crate::{alone, asked};

const CHILDREN: usize = 3;
/// The one that writes batches as well.
const BATCHES: usize = 0;
const KEYS: usize = 3_000;
const TAGS: usize = 2;
const BUDGET: u64 = 6 << 20;
/// What operations are told apart by.
const KINDS: [&str; 6] = ["put", "remove", "batch", "invalidate", "add", "get"];

#[test]
fn who_is_stopped_holds_nobody_up() {
    // Where a sync takes no time: the disk is to hold nobody up either.
    let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let dir = place.path().join("store");
    // The smallest index, so that it has to grow.
    Disk::builder(&dir).budget(1 << 20).segment_len(64 << 10).open().unwrap().close().unwrap();
    let (stops, ms) = (asked("LARDER_STOPS", 6), asked("LARDER_STOP_MS", 300));
    let mut random = Random::new(asked("LARDER_SEED", 1));
    let mut children = Peer::start_all("stopped", CHILDREN, &dir);
    for child in &mut children {
        assert_eq!(child.hear(), "open");
    }
    let mut longest = [0; KINDS.len()];
    for stop in 0..stops {
        thread::sleep(Duration::from_micros(random.below(50_000) as u64));
        let stopped = random.below(CHILDREN);
        children[stopped].signal(Signal::STOP);
        let before: Vec<_> =
            others(&mut children, stopped).map(|(_, child)| figures(child)).collect();
        thread::sleep(Duration::from_millis(ms));
        let after: Vec<_> =
            others(&mut children, stopped).map(|(at, child)| (at, figures(child))).collect();
        children[stopped].signal(Signal::CONT);
        // What it was in the middle of took that long because it was stopped: it is not to count.
        let (begun, _) = figures(&mut children[stopped]);
        while figures(&mut children[stopped]).0 < begun + 2 {
            thread::sleep(Duration::from_millis(1));
        }
        for ((begun, _), (at, (done, took))) in before.into_iter().zip(after) {
            // Who writes batches may have waited all the time.
            assert!(done > begun || at == BATCHES, "stop {stop} of {stopped}: {at} stood still");
            for (longest, took) in longest.iter_mut().zip(took) {
                *longest = took.max(*longest);
            }
        }
    }
    let mut total = 0;
    let said: Vec<Vec<String>> = children
        .iter_mut()
        .map(|child| {
            total += figures(child).0;
            child.tell("end");
            std::iter::from_fn(|| Some(child.hear()).filter(|line| line != "done")).collect()
        })
        .collect();
    let longest: Vec<_> = KINDS.iter().zip(longest).collect();
    println!(
        "{stops} stops of {ms} ms, {total} operations; the longest meanwhile, in us: {longest:?}"
    );
    drop(children);
    for budget in [BUDGET, u64::MAX] {
        let disk = alone(&dir, budget);
        for (number, lines) in said.iter().enumerate() {
            let mut expected: BTreeMap<Vec<u8>, &str> = BTreeMap::new();
            for line in lines {
                let (key, value) = line.split_once(' ').unwrap();
                expected.insert(key.into(), value);
            }
            for n in 0..KEYS {
                let key = key(number, n);
                let found = disk.get(&key).unwrap();
                check(&key, found.as_deref(), expected.get(&key).copied()).unwrap();
            }
        }
        disk.close().unwrap();
    }
}

fn others(children: &mut [Peer], stopped: usize) -> impl Iterator<Item = (usize, &mut Peer)> {
    children.iter_mut().enumerate().filter(move |(at, _)| *at != stopped)
}

/// Operations done, and the longest of each kind since the child was last asked, in us.
fn figures(child: &mut Peer) -> (u64, Vec<u64>) {
    let said = child.ask("figures");
    let mut numbers = said.split(' ').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.collect())
}

fn key(number: usize, n: usize) -> Vec<u8> {
    format!("{number}/{n}").into_bytes()
}

/// What may be found: the value that was put last, or nothing, as it may have been evicted.
fn check(key: &[u8], found: Option<&[u8]>, expected: Option<&str>) -> Result<(), String> {
    let is_right = match (found, expected) {
        (None, _) => true,
        (Some(found), Some(expected)) => {
            let mut wanted = expected.split(' ');
            let (name, len) = (wanted.next().unwrap(), wanted.next().unwrap());
            found == value(name, len.parse().unwrap())
        }
        (Some(_), None) => false,
    };
    let found = found.map(|found| String::from_utf8_lossy(&found[..found.len().min(40)]));
    let key = String::from_utf8_lossy(key);
    is_right.then_some(()).ok_or_else(|| format!("{key}: found {found:?}, expected {expected:?}"))
}

/// Numbers stand for themselves, others begin with their name.
fn value(name: &str, len: usize) -> Vec<u8> {
    match name.strip_prefix('=') {
        Some(sum) => sum.parse::<i64>().unwrap().to_le_bytes().into(),
        None => {
            let mut value = format!("{name}.").into_bytes();
            value.resize(len, b'x');
            value
        }
    }
}

/// What the thread that works tells the one that is asked.
#[derive(Debug, Default)]
struct Figures {
    done: AtomicU64,
    longest: [AtomicU64; KINDS.len()],
    ends: AtomicBool,
}

pub(crate) fn child(told: &mut Told) -> Result<()> {
    let disk = Disk::builder(&told.dir).budget(BUDGET).shared().open()?;
    told.say("open");
    let figures = Figures::default();
    let number = told.number;
    let expected = thread::scope(|scope| {
        let worker = scope.spawn(|| work(&disk, number, &figures));
        while let Some(line) = told.hear() {
            if line != "figures" {
                break;
            }
            let mut line = figures.done.load(Ordering::Relaxed).to_string();
            for longest in &figures.longest {
                line += &format!(" {}", longest.swap(0, Ordering::Relaxed));
            }
            told.say(&line);
            if worker.is_finished() {
                break;
            }
        }
        figures.ends.store(true, Ordering::Relaxed);
        worker.join().unwrap()
    });
    for (key, Expected { name, len, .. }) in expected.map_err(wrong)? {
        told.say(&format!("{} {name} {len}", String::from_utf8_lossy(&key)));
    }
    disk.close()?;
    told.say("done");
    Ok(())
}

fn wrong(what: String) -> Error {
    Error::Io { op: "work with", path: what.into(), source: std::io::ErrorKind::Other.into() }
}

#[derive(Debug)]
struct Expected {
    name: String,
    len: usize,
    tag: Option<usize>,
}

fn work(
    disk: &Disk,
    number: usize,
    figures: &Figures,
) -> Result<BTreeMap<Vec<u8>, Expected>, String> {
    let told = |error: Error| format!("{error}: {error:?}");
    let mut random = Random::new(asked("LARDER_SEED", 1) + number as u64 * 1_000);
    let mut model: BTreeMap<Vec<u8>, Expected> = BTreeMap::new();
    let mut put_count = 0_u64;
    let mut fresh = |random: &mut Random| {
        put_count += 1;
        let len = if random.chance(5) { 9_000 } else { 40 + random.below(400) };
        (format!("{number}-{put_count}"), len)
    };
    while !figures.ends.load(Ordering::Relaxed) {
        let key_of = |random: &mut Random| key(number, 10 + random.below(KEYS - 10));
        let begun = Instant::now();
        let kind = match random.below(100) {
            0..45 => {
                let (key, (name, len)) = (key_of(&mut random), fresh(&mut random));
                let tag = random.chance(20).then(|| random.below(TAGS));
                let bytes = tag.map(|tag| format!("{number}#{tag}").into_bytes());
                let tags: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
                let put = Put { tags: &tags, ..Put::default() };
                let outcome = disk.put(&key, &value(&name, len), &put).map_err(told)?;
                if !outcome.is_admitted() {
                    return Err(format!("refused: {outcome:?}"));
                }
                model.insert(key, Expected { name, len, tag });
                0
            }
            45..60 => {
                let key = key_of(&mut random);
                let was = disk.remove(&key).map_err(told)?;
                if model.remove(&key).is_none() && was {
                    return Err(format!("{} was there", String::from_utf8_lossy(&key)));
                }
                1
            }
            60..64 if number == BATCHES => {
                let mut batch = WriteBatch::new();
                let keys: [_; 3] = std::array::from_fn(|_| key_of(&mut random));
                let values: [_; 2] = std::array::from_fn(|_| fresh(&mut random));
                batch.remove(&keys[2]);
                for (key, (name, len)) in keys.iter().zip(&values) {
                    batch.put(key, &value(name, *len), &Put::default());
                }
                let outcome = disk.write(&batch, Durability::None).map_err(told)?;
                if !outcome.is_committed() {
                    return Err(format!("batch: {outcome:?}"));
                }
                model.remove(&keys[2]);
                for (key, (name, len)) in keys.into_iter().zip(values) {
                    model.insert(key, Expected { name, len, tag: None });
                }
                2
            }
            64 if random.chance(20) => {
                let tag = random.below(TAGS);
                disk.invalidate_tag(format!("{number}#{tag}").as_bytes()).map_err(told)?;
                model.retain(|_, expected| expected.tag != Some(tag));
                3
            }
            65..75 => {
                let key = key(number, random.below(10));
                let sum = disk.add_to(&key, 3, Some(0), &Put::default()).map_err(told)?;
                let sum = sum.ok_or("nothing was added")?;
                let before =
                    model.get(&key).and_then(|old| old.name.strip_prefix('=')?.parse().ok());
                // It begins anew if it was evicted.
                if sum != 3 && before.is_none_or(|before: i64| sum != before + 3) {
                    return Err(format!("{before:?} and 3 made {sum}"));
                }
                model.insert(key, Expected { name: format!("={sum}"), len: 8, tag: None });
                4
            }
            _ => {
                let key = key_of(&mut random);
                let found = disk.get(&key).map_err(told)?;
                let expected = model.get(&key).map(|old| format!("{} {}", old.name, old.len));
                check(&key, found.as_deref(), expected.as_deref())?;
                5
            }
        };
        let us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        figures.longest[kind].fetch_max(us, Ordering::Relaxed);
        figures.done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(model)
}
