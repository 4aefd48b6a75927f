//! Promise: a backup holds what the store held when it was begun, whatever is written meanwhile,
//! and what is no whole backup is never taken for one.
//! Method: stores that are changed from the progress of their own backup, that is at known
//! points of it, and by threads.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder_engine::conformance::expand;
use larder_engine::{CodecId, Disk, Engine, Error, Maintenance, ManualClock, Put, Recovery, Ttl};

const BUDGET: u64 = 16 << 20;

fn open(dir: &Path) -> Disk {
    let builder = Disk::builder(dir).budget(BUDGET).segment_len(64 << 10).writers(2);
    builder.maintenance(Maintenance::Manual).open().unwrap()
}

/// Values of all sizes, one in twenty with a file of its own.
fn value(number: u64) -> Vec<u8> {
    expand(number, if number.is_multiple_of(20) { 10_000 } else { 700 })
}

fn key(number: u64) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

fn fill(disk: &Disk, numbers: std::ops::Range<u64>, change: u64) {
    for number in numbers {
        assert!(
            disk.put(&key(number), &value(number + change), &Put::default()).unwrap().is_admitted()
        );
    }
}

fn contents(disk: &Disk) -> BTreeMap<Vec<u8>, Vec<u8>> {
    disk.iter().map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap()).collect()
}

fn look_into(dir: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let backup = open(dir);
    assert_eq!(backup.stats().recovery, Recovery::Clean);
    let report = backup.verify().unwrap();
    assert!(report.is_clean(), "{report:?}");
    contents(&backup)
}

#[test]
fn a_backup_is_of_the_moment_whatever_is_changed_meanwhile() {
    let place = tempfile::tempdir().unwrap();
    let disk = open(&place.path().join("store"));
    fill(&disk, 0..600, 1);
    fill(&disk, 0..500, 0);
    (0..40).for_each(|number| assert!(disk.remove(&key(number)).unwrap()));
    let before = contents(&disk);
    let to = place.path().join("backups/first");
    let mut calls = 0;
    let report = disk.backup_with(&to, |done, total| {
        assert!(done <= total);
        match calls {
            // Everything is replaced, removed or added while nothing is written yet.
            0 => {
                fill(&disk, 0..300, 7);
                (300..400).for_each(|number| assert!(disk.remove(&key(number)).unwrap()));
            }
            // And again while a part is, with all that can go gone.
            4 => {
                fill(&disk, 200..700, 9);
                disk.compact().unwrap();
            }
            6 => assert!(disk.clear().unwrap() > 0),
            _ => {}
        }
        calls += 1;
    });
    let report = report.unwrap();
    assert!(calls > 6, "{calls}");
    let backup = look_into(&to);
    assert_eq!(backup.len(), before.len());
    assert!(backup == before, "the values are others");
    let bytes = before.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() as u64;
    assert_eq!((report.entries, report.bytes, report.damaged), (before.len() as u64, bytes, 0));
    // What was kept for the backup goes with it.
    disk.sync().unwrap();
    assert_eq!(fs::read_dir(place.path().join("store/big")).unwrap().count(), 0);
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(place.path().join("backups")).unwrap().count(), 1);
}

#[test]
fn a_backup_under_writers_has_every_key_once() {
    let place = tempfile::tempdir().unwrap();
    let disk = Disk::builder(place.path().join("store")).budget(BUDGET).segment_len(64 << 10);
    let disk = disk.open().unwrap();
    fill(&disk, 0..400, 0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (disk, stop) = (&disk, &stop);
            scope.spawn(move || {
                for round in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let number = (round * 7 + thread) % 400;
                    let changed = value(number + round);
                    assert!(
                        disk.put(&key(number), &changed, &Put::default()).unwrap().is_admitted()
                    );
                }
            });
        }
        for round in 0..3 {
            let report = disk.backup(place.path().join(format!("backup {round}"))).unwrap();
            assert_eq!((report.entries, report.damaged), (400, 0));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(look_into(&place.path().join("backup 2")).len(), 400);
}

#[test]
fn codec_expiry_and_tags_come_along_and_what_is_dead_does_not() {
    let place = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let open = |dir: &str| {
        let builder = Disk::builder(place.path().join(dir)).budget(BUDGET);
        builder.clock(Arc::clone(&clock) as _).open().unwrap()
    };
    let disk = open("store");
    let codec = CodecId { id: 200, version: 3 };
    let ttl = Ttl::After(Duration::from_secs(60));
    let put = |key: &[u8], put: Put<'_>| {
        assert!(disk.put(key, key, &put).unwrap().is_admitted());
    };
    put(b"all", Put { ttl, codec, tags: &[b"red", b"blue"], ..Put::default() });
    put(b"gone by tag", Put { tags: &[b"green"], ..Put::default() });
    put(b"gone by time", Put { ttl: Ttl::After(Duration::from_secs(5)), ..Put::default() });
    disk.invalidate_tag(b"green").unwrap();
    put(b"tagged later", Put { tags: &[b"green"], ..Put::default() });
    clock.advance(10_000);
    assert_eq!(disk.backup(place.path().join("backup")).unwrap().entries, 2);
    let backup = open("backup");
    let meta = backup.entry(b"all").unwrap().unwrap();
    assert_eq!((meta.codec, meta.expires_at_ms), (codec, 1_060_000));
    assert_eq!(backup.keys_by_tag(b"green").unwrap(), [b"tagged later".to_vec()]);
    backup.invalidate_tag(b"blue").unwrap();
    assert!(backup.get(b"all").unwrap().is_none());
    assert!(disk.get(b"all").unwrap().is_some(), "a store of its own");
}

#[test]
fn a_place_that_is_taken_is_refused_and_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let disk = open(&place.path().join("store"));
    fill(&disk, 0..3, 0);
    let (file, full, empty) =
        (place.path().join("file"), place.path().join("full"), place.path().join("empty"));
    fs::write(&file, "mine").unwrap();
    fs::create_dir(&full).unwrap();
    fs::write(full.join("file"), "mine").unwrap();
    fs::create_dir(&empty).unwrap();
    for taken in [&file, &full, &place.path().join("store")] {
        let refused = disk.backup(taken);
        assert!(matches!(refused, Err(Error::WrongType { .. })), "{refused:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
    assert_eq!(disk.backup(&empty).unwrap().entries, 3);
    disk.close().unwrap();
    assert!(matches!(disk.backup(place.path().join("late")), Err(Error::Closed)));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 4, "nothing else was made");
}
