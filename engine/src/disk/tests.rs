//! Tests of the store on the heap: restarts of the machine, and what Miri can run.

#![expect(clippy::cast_possible_truncation, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use larder_format::SegmentState;

use super::Disk;
use super::builder::Options;
use super::dying::Step;
use super::heap::Heap;
use super::maintenance::Maintenance;
use crate::clock::ManualClock;
use crate::engine::{Engine, Put, Ttl};
use crate::error::Error;
use crate::stats::Recovery;

fn options(budget: u64, writers: usize) -> Options {
    let maintenance = Maintenance::Manual;
    Options {
        budget,
        segment_len: Some(64 << 10),
        writers: Some(writers),
        maintenance,
        ..Options::default()
    }
}

fn open(heap: &Heap, options: &Options) -> Disk {
    options.open_in(Arc::new(heap.clone())).unwrap()
}

fn put(disk: &Disk, key: u32, value: &[u8]) {
    assert!(disk.put(&key.to_le_bytes(), value, &Put::default()).unwrap().is_admitted());
}

fn get(disk: &Disk, key: u32) -> Option<Vec<u8>> {
    disk.get(&key.to_le_bytes()).unwrap().map(|value| value.to_vec())
}

/// Fewer rounds where an interpreter runs them.
const fn rounds(many: u32) -> u32 {
    if cfg!(miri) { many / 500 } else { many }
}

#[test]
fn a_restart_of_the_machine_rebuilds_the_index() {
    let heap = Heap::default();
    let options = options(8 << 20, 1);
    let count = rounds(5_000);
    let disk = open(&heap, &options);
    for key in 0..count {
        put(&disk, key, &[1; 40]);
    }
    for key in (0..count).step_by(3) {
        put(&disk, key, &key.to_le_bytes());
    }
    for key in (0..count).step_by(5) {
        assert!(disk.remove(&key.to_le_bytes()).unwrap());
    }
    let len = disk.len();
    for _ in 0..2 {
        heap.reboot();
    }
    drop(disk);
    for round in 0..3 {
        heap.reboot();
        let disk = open(&heap, &options);
        assert_eq!(disk.stats().recovery, Recovery::Rebuilt, "round {round}");
        assert!(disk.stats().recovered_records >= len);
        assert_eq!(disk.len(), len, "round {round}");
        for key in 0..count {
            let expected = match key {
                _ if key % 5 == 0 => None,
                _ if key % 3 == 0 => Some(key.to_le_bytes().to_vec()),
                _ => Some(vec![1; 40]),
            };
            assert_eq!(get(&disk, key), expected, "key {key}, round {round}");
        }
        assert!(disk.verify().unwrap().is_clean());
        // What is written after a rebuild is newer than everything before.
        put(&disk, 1, b"after");
        assert_eq!(get(&disk, 1).unwrap(), b"after");
        put(&disk, 1, &[1; 40]);
    }
}

#[test]
fn a_closed_store_is_trusted_on_another_machine() {
    let heap = Heap::default();
    let options = options(1 << 20, 1);
    let disk = open(&heap, &options);
    put(&disk, 1, b"one");
    disk.close().unwrap();
    assert!(disk.get(b"key").is_err(), "closed");
    drop(disk);
    heap.reboot();
    let disk = open(&heap, &options);
    assert_eq!(disk.stats().recovery, Recovery::Clean);
    assert_eq!(get(&disk, 1).unwrap(), b"one");
    drop(disk);
    // Opening ended the clean state.
    assert_eq!(open(&heap, &options).stats().recovery, Recovery::ProcessDied);
}

/// Whatever is under way when a store is closed: it is done before, or refused.
#[test]
fn nothing_is_written_after_the_clean_mark() {
    for round in 0..rounds(20_000).clamp(2, 40) {
        let heap = Heap::default();
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let options = Options { clock: clock.clone(), ..options(4 << 20, 2) };
        let disk = open(&heap, &options);
        let soon = Put { ttl: Ttl::After(Duration::from_secs(1)), ..Put::default() };
        for key in 0..100_u32 {
            let _ = disk.put(&(1_000 + key).to_le_bytes(), &[9; 50], &soon).unwrap();
        }
        clock.advance(2_000);
        let kept = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for thread in 0..4_u32 {
                let (disk, kept) = (&disk, &kept);
                scope.spawn(move || {
                    for number in 0.. {
                        let key = (thread * 100 + number % 100).to_le_bytes();
                        let large = vec![thread as u8; 12_000];
                        let put = Put::default();
                        let done = match (thread, number % 2) {
                            (0, _) => disk.put(&key, &[1; 40], &put).map(|_| Some(40)),
                            (1, 0) => disk.put(&key, &large, &put).map(|_| Some(12_000)),
                            (1, _) => disk
                                .put_reader(&key, &mut &large[..], None, &put)
                                .map(|_| Some(12_000)),
                            (2, _) => disk.get(&(1_000 + number % 100).to_le_bytes()).map(|_| None),
                            _ => disk.maintain().map(|_| None),
                        };
                        match done {
                            Ok(Some(len)) => kept.lock().push((key, len)),
                            Ok(None) => {}
                            Err(Error::Closed) => return,
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            thread::sleep(Duration::from_micros(u64::from(round) * 50));
            disk.close().unwrap();
        });
        drop(disk);
        heap.reboot();
        let disk = open(&heap, &options);
        let stats = disk.stats();
        assert_eq!((stats.recovery, stats.corrupt), (Recovery::Clean, 0), "round {round}");
        if stats.evictions == 0 {
            for (key, len) in kept.into_inner() {
                let found = disk.get(&key).unwrap().map(|value| value.len());
                assert_eq!(found, Some(len), "round {round}");
            }
        }
        assert!(disk.verify().unwrap().is_clean(), "round {round}");
        assert_eq!(disk.stats().corrupt, 0, "round {round}");
    }
}

/// Workers that run one operation at a time, each in a thread, and hence a lane, of its own.
#[derive(Debug)]
pub(super) struct Workers {
    jobs: Vec<mpsc::Sender<Box<dyn FnOnce() + Send>>>,
    done: mpsc::Receiver<()>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Workers {
    pub(super) fn new(count: usize) -> Self {
        let (finished, done) = mpsc::channel();
        let (jobs, threads) = (0..count)
            .map(|_| {
                let (sender, jobs) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
                let finished = finished.clone();
                let thread = thread::spawn(move || {
                    for job in jobs {
                        job();
                        finished.send(()).unwrap();
                    }
                });
                (sender, thread)
            })
            .unzip();
        Self { jobs, done, threads }
    }

    pub(super) fn run(&self, worker: usize, job: impl FnOnce() + Send + 'static) {
        self.jobs[worker].send(Box::new(job)).unwrap();
        self.done.recv().unwrap();
    }

    pub(super) fn join(self) {
        drop(self.jobs);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// A small seeded generator: xorshift64*, Vigna 2016.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32;
        high % end
    }
}

/// Segments of several lanes overlap in time, and eviction drops them in turn: a rebuild must
/// never bring back a value that was replaced or removed.
#[test]
fn the_dead_stay_dead_over_eviction_and_rebuild() {
    let openings = if cfg!(miri) { 2 } else { 4 };
    for seed in 1..=u64::from(rounds(250).clamp(1, 5)) {
        let mut random = Random(seed);
        let heap = Heap::default();
        let mut options = options(1 << 20, 3);
        if seed % 2 == 0 {
            options.maintenance = Maintenance::Thread;
        }
        let mut model: BTreeMap<u32, Option<Vec<u8>>> = BTreeMap::new();
        for _ in 0..openings {
            let disk = Arc::new(open(&heap, &options));
            let workers = Workers::new(5);
            for _ in 0..rounds(6_000) {
                let key = random.below(400);
                // Some lanes write rarely, so that their segments stay open for long.
                let worker = [0, 0, 0, 0, 0, 0, 1, 1, 2, 3][random.below(10) as usize];
                let disk = Arc::clone(&disk);
                if seed % 4 == 3 && random.below(8) == 0 {
                    let _ = disk.maintain().unwrap();
                }
                match random.below(10) {
                    0 | 1 => {
                        workers.run(worker, move || {
                            let _ = disk.remove(&key.to_le_bytes()).unwrap();
                        });
                        model.insert(key, None);
                    }
                    2 => {
                        let found = get(&disk, key);
                        if let Some(value) = found {
                            assert_eq!(Some(value), model[&key], "key {key}, seed {seed}");
                        }
                    }
                    _ => {
                        let len = 8 + random.below(900) as usize;
                        let mut value = vec![random.below(256) as u8; len];
                        value[..4].copy_from_slice(&key.to_le_bytes());
                        model.insert(key, Some(value.clone()));
                        workers.run(worker, move || put(&disk, key, &value));
                    }
                }
            }
            workers.join();
            // What it would evict from here on may be there, and gone after the restart.
            if let Some(worker) = &disk.worker {
                worker.stop();
            }
            assert!(disk.stats().evictions > 0 || cfg!(miri));
            let before: Vec<_> =
                model.keys().filter(|key| get(&disk, **key).is_some()).copied().collect();
            drop(disk);
            heap.reboot();
            let disk = open(&heap, &options);
            for (key, expected) in &model {
                if let Some(found) = get(&disk, *key) {
                    assert_eq!(Some(&found), expected.as_ref(), "key {key}, seed {seed}");
                }
            }
            for key in before {
                assert!(get(&disk, key).is_some(), "key {key} was there before, seed {seed}");
            }
            assert!(disk.verify().unwrap().is_clean(), "seed {seed}");
        }
    }
}

#[test]
fn the_thread_ends_before_the_store_does() {
    let heap = Heap::default();
    let options = Options { maintenance: Maintenance::Thread, ..options(2 << 20, 1) };
    for _ in 0..rounds(5_000).clamp(2, 50) {
        let disk = open(&heap, &options);
        put(&disk, 1, b"one");
        let store = Arc::downgrade(&disk.store);
        drop(disk);
        assert!(store.upgrade().is_none(), "somebody still has the store");
    }
}

#[test]
fn threads_agree_on_the_newest_value() {
    let heap = Heap::default();
    let options = Options { maintenance: Maintenance::Thread, ..options(2 << 20, 4) };
    let disk = open(&heap, &options);
    let rounds = rounds(20_000);
    thread::scope(|scope| {
        for thread in 0..4_u32 {
            let disk = &disk;
            scope.spawn(move || {
                let mut random = Random(u64::from(thread) + 1);
                let mut seen = [0_u64; 16];
                for round in 0..rounds {
                    let key = random.below(16);
                    match random.below(4) {
                        0 => put(disk, key, &vec![thread as u8; random.below(300) as usize]),
                        1 if round % 7 == 0 => {
                            let _ = disk.remove(&key.to_le_bytes()).unwrap();
                        }
                        _ => {
                            let version = disk.version(&key.to_le_bytes()).unwrap().unwrap_or(0);
                            let seen = &mut seen[key as usize];
                            assert!(version == 0 || version >= *seen, "went back");
                            *seen = (*seen).max(version);
                        }
                    }
                }
            });
        }
    });
    assert!(disk.len() <= 16);
    assert_eq!(disk.iter().count() as u64, disk.len());
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn what_a_process_that_died_was_reclaiming_goes_first() {
    let heap = Heap::default();
    let options = options(1 << 20, 1);
    let sealed = |disk: &Disk| -> Vec<_> {
        disk.store.sealed_by_age().iter().map(|segment| segment.id()).collect()
    };
    let disk = open(&heap, &options);
    (0..60).for_each(|key| put(&disk, key, &[7; 7_000]));
    let before = sealed(&disk);
    let begun = before[2];
    disk.store.all_live()[&begun].set_state(SegmentState::Retiring);
    drop(disk);
    let disk = open(&heap, &options);
    assert_eq!(disk.stats().recovery, Recovery::ProcessDied);
    let mut reclaiming = disk.store.reclaiming.lock();
    let mut lane = disk.store.lanes.acquire_maintenance();
    let step = disk.store.step_oldest(&mut reclaiming, Some(&mut lane)).unwrap();
    assert_eq!(step, Some(Step::Gone));
    let after = sealed(&disk);
    assert!(!after.contains(&begun) && after.contains(&before[0]), "{before:?}, {after:?}");
}
