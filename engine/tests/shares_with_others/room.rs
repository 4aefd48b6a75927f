//! The directory stays as small as was said, whatever the processes do that share it.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use larder_engine::conformance::Random;
use larder_engine::{Disk, DiskBuilder, Engine as _, Outcome, Put, Result};

use crate::peer::{Peer, Told};
use crate::{alone, asked};

const CHILDREN: usize = 4;
const BUDGET: u64 = 16 << 20;
const SEGMENT: u64 = 256 << 10;
/// How long processes may take to let go of what is gone, once nobody writes.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a view is held.
const HOLD: Duration = Duration::from_secs(1);

fn builder(dir: &Path) -> DiskBuilder {
    Disk::builder(dir).budget(BUDGET).segment_len(256 << 10).shared()
}

#[test]
#[cfg(target_os = "linux")]
fn many_writers_and_one_who_holds_views_stay_within_the_budget() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    let mut children = Peer::start_all("room", CHILDREN, &dir);
    for child in &mut children {
        assert_eq!(child.hear(), "open");
    }
    let pids: Vec<u32> = children.iter().map(Peer::pid).collect();
    let until = Instant::now() + Duration::from_millis(asked("LARDER_ROOM_MS", 3_000));
    // A segment for each process, as documented.
    let allowed = BUDGET + BUDGET / 50 + SEGMENT * CHILDREN as u64;
    let (mut most, mut samples) = (Taken::default(), 0);
    while Instant::now() < until {
        let taken = Taken::now(&dir, &pids);
        assert!(taken.named <= allowed, "{taken:?}, allowed {allowed}");
        samples += 1;
        if taken.all() > most.all() {
            most = taken;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let said: Vec<_> = children.iter_mut().map(|child| child.ask("end")).collect();
    // What another process has unlinked is let go at the next look of each.
    let begun = Instant::now();
    while Taken::now(&dir, &pids).all() > allowed {
        assert!(begun.elapsed() < PATIENCE, "{:?} > {allowed}", Taken::now(&dir, &pids));
        thread::sleep(Duration::from_millis(5));
    }
    let part = most.all() as f64 / BUDGET as f64;
    println!(
        "{samples} samples, at most {most:?}: {part:.3} of the budget, allowed {allowed}; within it \
         {:?} after the last put; {said:?}",
        begun.elapsed()
    );
    drop(children);
    alone(&dir, BUDGET).close().unwrap();
}

/// Bytes of disk.
#[derive(Debug, Default, Clone, Copy)]
struct Taken {
    named: u64,
    /// Of files that are gone, but mapped.
    unlinked: u64,
}

impl Taken {
    const fn all(&self) -> u64 {
        self.named + self.unlinked
    }

    fn now(dir: &Path, pids: &[u32]) -> Self {
        let mut files = HashMap::new();
        // Those without a name first: a file that goes meanwhile is not counted at both places.
        let mut unlinked = HashMap::new();
        for pid in pids {
            for line in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default().lines()
            {
                let Some((range, rest)) = line.split_once(' ') else { continue };
                if !line.ends_with(" (deleted)") || !line.contains(&*dir.to_string_lossy()) {
                    continue;
                }
                let ends = range.split('-').map(|end| u64::from_str_radix(end, 16).unwrap());
                let len = ends.reduce(|from, to| to - from).unwrap();
                let inode = rest.split_whitespace().nth(3).unwrap().to_owned();
                let known: &mut u64 = unlinked.entry(inode).or_default();
                *known = len.max(*known);
            }
        }
        for sub in ["", "seg", "big", "arr", "proc"] {
            let Ok(entries) = fs::read_dir(dir.join(sub)) else { continue };
            for entry in entries.flatten() {
                if let Ok(found) = entry.metadata()
                    && found.is_file()
                {
                    files.insert(found.ino().to_string(), found.blocks() * 512);
                }
            }
        }
        unlinked.retain(|inode, _| !files.contains_key(inode));
        Self { named: files.values().sum(), unlinked: unlinked.values().sum() }
    }
}

pub(crate) fn child(told: &mut Told) -> Result<()> {
    let disk = builder(&told.dir).open()?;
    told.say("open");
    let ends = std::sync::atomic::AtomicBool::new(false);
    let number = told.number;
    let done: Result<String> = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut random = Random::new(asked("LARDER_SEED", 1) + number as u64);
            let mut held = VecDeque::new();
            let (mut puts, mut rejected) = (0, 0);
            while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                let key = format!("{number}/{}", random.below(5_000));
                let len = if random.chance(2) { 50_000 } else { 2_000 + random.below(6_000) };
                match disk.put(key.as_bytes(), &vec![3; len], &Put::default())? {
                    Outcome::Admitted { .. } => puts += 1,
                    _ => rejected += 1,
                }
                if number == 0 && random.chance(3) {
                    let of = random.below(CHILDREN);
                    let key = format!("{of}/{}", random.below(5_000));
                    held.extend(disk.get(key.as_bytes())?.map(|view| (Instant::now(), view)));
                }
                while held.front().is_some_and(|(since, _)| since.elapsed() > HOLD) {
                    held.pop_front();
                }
            }
            Ok(format!("{puts} puts, {rejected} rejected, {} held", held.len()))
        });
        told.hear();
        ends.store(true, std::sync::atomic::Ordering::Relaxed);
        worker.join().unwrap()
    });
    told.say(&done?);
    told.hear();
    Ok(())
}
