//! A store in which nobody writes takes little more than it holds: blocks that its segments do not
//! need yet are given back, and allocated again before they are written to.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use larder_engine::{Disk, Engine, Maintenance, Put};
use tempfile::TempDir;

const BUDGET: u64 = 256 << 20;
const SEGMENT: u64 = 8 << 20;
const LEN: usize = 1000;

fn open(dir: &TempDir) -> Disk {
    let builder = Disk::builder(dir.path().join("store")).budget(BUDGET);
    builder.writers(1).maintenance(Maintenance::Manual).open().unwrap()
}

fn put(disk: &Disk, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let outcome = disk.put(&number.to_le_bytes(), &[7; LEN], &Put::default()).unwrap();
        assert!(outcome.is_admitted());
    }
}

fn check(disk: &Disk, count: u32) {
    for number in 0..count {
        let value = disk.get(&number.to_le_bytes()).unwrap().unwrap();
        assert_eq!(&*value, [7; LEN], "{number}");
    }
    assert_eq!(disk.len(), u64::from(count));
    assert!(disk.verify().unwrap().is_clean());
}

/// Bytes that the segments take on the disk, and how long they are.
fn segments(dir: &TempDir) -> (u64, u64) {
    let files = std::fs::read_dir(dir.path().join("store/seg")).unwrap();
    let sizes = files.map(|file| {
        let found = file.unwrap().metadata().unwrap();
        (found.blocks() * 512, found.len())
    });
    sizes.fold((0, 0), |(blocks, len), file| (blocks + file.0, len + file.1))
}

/// Steps until nothing is due, and then as after a time in which nobody wrote.
fn rest(disk: &Disk) {
    while disk.maintain().unwrap().more {}
    disk.maintain().unwrap();
    disk.maintain().unwrap();
}

fn is_supported(dir: &Path) -> bool {
    use rustix::fs::{FallocateFlags, fallocate};
    let file = std::fs::File::create(dir.join("try")).unwrap();
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let is_supported = fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).is_ok()
        && fallocate(&file, how, 4096, 8192).is_ok();
    if !is_supported {
        eprintln!("SKIPPED: the file system gives no blocks back");
    }
    is_supported
}

#[test]
fn what_is_ready_for_writers_is_given_back_while_there_are_none() {
    let dir = tempfile::tempdir().unwrap();
    if !is_supported(dir.path()) {
        return;
    }
    let disk = open(&dir);
    put(&disk, 0..1_000);
    while disk.maintain().unwrap().more {}
    assert_eq!(segments(&dir).1, 2 * SEGMENT, "one that is open, and a spare");
    assert!(segments(&dir).0 >= 2 * SEGMENT, "allocated in full while somebody writes");
    rest(&disk);
    let (taken, len) = segments(&dir);
    assert!(taken < (2 << 20) && len == 2 * SEGMENT, "{taken} of {len}");

    // First what was kept is used, then what has to be allocated anew, then the spare.
    put(&disk, 1_000..1_100);
    assert!(segments(&dir).0 < 2 << 20);
    put(&disk, 1_100..2_000);
    assert!(segments(&dir).0 > SEGMENT);
    put(&disk, 2_000..20_000);
    check(&disk, 20_000);
}

#[test]
fn segments_without_blocks_are_written_on_by_whoever_comes_next() {
    let dir = tempfile::tempdir().unwrap();
    if !is_supported(dir.path()) {
        return;
    }
    let disk = open(&dir);
    put(&disk, 0..1_000);
    rest(&disk);
    // As if the process had died.
    drop(disk);
    let disk = open(&dir);
    put(&disk, 1_000..3_000);
    check(&disk, 3_000);
    disk.close().unwrap();
    let closed = segments(&dir).0;
    assert!(closed < 6 << 20, "a clean end gives back: {closed}");
    let disk = open(&dir);
    put(&disk, 3_000..20_000);
    rest(&disk);
    drop(disk);
    // As if the machine had stopped.
    let builder = Disk::builder(dir.path().join("store")).budget(BUDGET).distrust();
    let disk = builder.maintenance(Maintenance::Manual).open().unwrap();
    check(&disk, 20_000);
    put(&disk, 20_000..30_000);
    check(&disk, 30_000);
}
