//! Promise: after a repair nothing is wrong with a store; all that was right is there, what is
//! not is said, nothing is deleted that could not be read, and no key has a value that it never
//! had.
//! Method: a store with known contents, damaged in one way after the other.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use larder_engine::conformance::expand;
use larder_engine::{Disk, Engine, Error, Put, RepairReport};
use tempfile::TempDir;

const ENTRIES: u64 = 300;

fn open(dir: &Path) -> Disk {
    Disk::builder(dir).budget(16 << 20).segment_len(64 << 10).writers(1).open().unwrap()
}

fn key(number: u64) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

fn value(number: u64) -> Vec<u8> {
    expand(number, if number.is_multiple_of(60) { 10_000 } else { 500 })
}

/// A store that is closed: an older value of every key, the value, a removed key.
fn store() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    let disk = open(&dir);
    let put = |key: &[u8], value: &[u8]| {
        assert!(disk.put(key, value, &Put::default()).unwrap().is_admitted());
    };
    put(b"removed", b"value");
    (0..ENTRIES).for_each(|number| put(&key(number), b"replaced"));
    (0..ENTRIES).for_each(|number| put(&key(number), &value(number)));
    assert!(disk.remove(b"removed").unwrap());
    disk.close().unwrap();
    (place, dir)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Repairs, and looks at what is left: how many keys have lost their value. None has an older
/// one.
fn repaired(dir: &Path) -> (RepairReport, u64) {
    let (report, lost, old) = repaired_with_old(dir);
    assert_eq!(old, 0);
    (report, lost)
}

/// The same, and how many keys have the value before their last.
fn repaired_with_old(dir: &Path) -> (RepairReport, u64, u64) {
    let report = Disk::repair(dir).unwrap();
    assert_eq!(report.left, []);
    let disk = open(dir);
    let verified = disk.verify().unwrap();
    assert!(verified.is_clean(), "{verified:?}");
    let (mut lost, mut old) = (0, 0);
    for number in 0..ENTRIES {
        match disk.get(&key(number)).unwrap() {
            Some(found) if *found == *b"replaced" => old += 1,
            Some(found) => assert!(*found == *value(number), "{number}: {} bytes", found.len()),
            None => lost += 1,
        }
    }
    assert!(disk.get(b"removed").unwrap().is_none());
    assert_eq!(report.entries, ENTRIES - lost);
    disk.close().unwrap();
    assert!(Disk::repair(dir).unwrap().was_clean(), "the second time there is nothing to do");
    (report, lost, old)
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

#[test]
fn a_whole_store_is_left_alone() {
    let (_place, dir) = store();
    let (report, lost) = repaired(&dir);
    assert!(report.was_clean(), "{report:?}");
    assert_eq!(lost, 0);
    assert!(!dir.join("lost+found").exists());
}

#[test]
fn damaged_values_go_and_no_older_one_takes_their_place() {
    let (_place, dir) = store();
    let newest = files(&dir.join("seg")).into_iter().nth(1).unwrap();
    let bytes = fs::read(&newest).unwrap();
    let mut hit = 0;
    for number in (0..ENTRIES).filter(|number| number % 60 != 0) {
        let value = value(number);
        if let Some(at) = bytes.windows(value.len()).position(|window| window == value) {
            flip(&newest, at as u64 + 9);
            hit += 1;
        }
        if hit == 3 {
            break;
        }
    }
    assert_eq!(hit, 3);
    let (report, lost) = repaired(&dir);
    assert_eq!(lost, 3);
    assert!(report.dropped.len() >= 3, "{report:?}");
    assert!(report.dropped.iter().all(|finding| finding.path == newest), "{report:?}");
}

#[test]
fn large_values_that_are_damaged_or_missing_lose_their_key() {
    let (_place, dir) = store();
    let large = files(&dir.join("big"));
    assert_eq!(large.len(), 5);
    flip(&large[0], 5_000);
    fs::remove_file(&large[1]).unwrap();
    // Its end says whose it is.
    let file = fs::File::options().write(true).open(&large[2]).unwrap();
    file.set_len(9_000).unwrap();
    let (report, lost) = repaired(&dir);
    assert_eq!(lost, 3);
    let moved = [0, 2].map(|at: usize| dir.join("lost+found").join(large[at].file_name().unwrap()));
    assert!(moved.iter().all(|path| path.exists() && report.moved.contains(path)), "{report:?}");
}

#[test]
fn files_that_cannot_be_used_are_moved_and_cut_ones_taken_over() {
    let (_place, dir) = store();
    let segments = files(&dir.join("seg"));
    let (_other_place, other) = store();
    let foreign = dir.join("seg/00000000000000ff.log");
    fs::copy(&files(&other.join("seg"))[0], &foreign).unwrap();
    let cut = fs::File::options().write(true).open(&segments[2]).unwrap();
    cut.set_len(20_000).unwrap();
    let (report, lost, old) = repaired_with_old(&dir);
    // Nothing speaks any more of what stood in the part that is gone.
    assert!(lost + old > 0 && lost + old < 120, "{lost}, {old}");
    let lost_found = dir.join("lost+found");
    assert!(report.moved.contains(&lost_found.join("00000000000000ff.log")), "{report:?}");
    assert_eq!(
        fs::metadata(lost_found.join(segments[2].file_name().unwrap())).unwrap().len(),
        20_000
    );
}

#[test]
fn headers_words_and_trailers_are_made_anew() {
    let (_place, dir) = store();
    let segments = files(&dir.join("seg"));
    flip(&segments[0], 30);
    flip(&segments[1], (64 << 10) - 20);
    let (report, lost) = repaired(&dir);
    assert_eq!(lost, 0);
    assert!(!report.was_clean());
}

#[test]
fn a_superblock_is_written_again_if_a_record_proves_it() {
    for at in [0, 20, 60, 70] {
        let (_place, dir) = store();
        flip(&dir.join("store"), at);
        assert!(matches!(Disk::builder(&dir).open(), Err(Error::Format { .. })), "byte {at}");
        let (report, lost) = repaired(&dir);
        assert!(report.superblock, "byte {at}");
        assert_eq!(lost, 0, "byte {at}");
        assert!(dir.join("lost+found/store").exists());
    }
}

#[test]
fn a_store_whose_seed_is_lost_is_refused_and_left_alone() {
    // The seed, and all of it.
    for remove in [false, true] {
        let (_place, dir) = store();
        match remove {
            true => fs::remove_file(dir.join("store")).unwrap(),
            false => flip(&dir.join("store"), 40),
        }
        let segments = files(&dir.join("seg"));
        let refused = Disk::repair(&dir);
        assert!(matches!(refused, Err(Error::Irreparable { .. })), "{refused:?}");
        assert_eq!(files(&dir.join("seg")), segments);
        assert!(!dir.join("lost+found").exists());
    }
}

#[test]
fn only_a_store_that_nobody_has_open_is_repaired() {
    let (place, dir) = store();
    let disk = open(&dir);
    assert!(matches!(Disk::repair(&dir), Err(Error::Locked { .. })));
    drop(disk);
    let nothing = place.path().join("nothing");
    assert!(Disk::repair(&nothing).is_err());
    assert!(!nothing.exists());
    fs::create_dir(&nothing).unwrap();
    assert!(Disk::repair(&nothing).is_err());
    assert!(files(&nothing).is_empty());
}
