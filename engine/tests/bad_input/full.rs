//! A disk without room: reads go on, writes say so or evict, and space that is freed is used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use larder_engine::conformance::expand;
use larder_engine::{Disk, Engine, Error, Put};
use tempfile::TempDir;

use crate::skip;

/// A small file system of its own; needs root.
#[derive(Debug)]
pub(crate) struct Mount {
    place: TempDir,
}

impl Mount {
    /// One of this size; `None`, and a word about it, where that is not possible.
    pub(crate) fn new(size: &str) -> Option<Self> {
        let place = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "larder-test"])
            .arg(place.path())
            .output();
        match mounted {
            Ok(told) if told.status.success() => Some(Self { place }),
            Ok(told) => {
                skip("cannot mount a small file system", &String::from_utf8_lossy(&told.stderr));
                None
            }
            Err(error) => {
                skip("cannot mount a small file system", &error.to_string());
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: whatever still maps a file of it keeps only that.
        let _ = Command::new("umount").arg("-l").arg(self.place.path()).status();
    }
}

fn value(n: u64) -> Vec<u8> {
    let len = if n % 20 == 3 { 30_000 } else { 700 };
    expand(n, len)
}

/// Puts values until `count` puts have failed, or so many were tried; which of them are in.
fn fill(disk: &Disk, from: u64, tries: u64, failures: &mut u64) -> Vec<u64> {
    let mut admitted = Vec::new();
    for n in from..from + tries {
        match disk.put(&n.to_le_bytes(), &value(n), &Put::default()) {
            Ok(outcome) if outcome.is_admitted() => admitted.push(n),
            Ok(_) => {}
            Err(Error::StorageFull { .. }) => *failures += 1,
            Err(other) => panic!("a put on a full disk: {other}: {other:?}"),
        }
    }
    admitted
}

/// Everything that is there is right; how much is there.
fn right(disk: &Disk, all: impl Iterator<Item = u64>) -> usize {
    let mut there = 0;
    for n in all {
        match disk.get(&n.to_le_bytes()) {
            Ok(Some(found)) => {
                assert_eq!(*found, *value(n), "entry {n}");
                there += 1;
            }
            Ok(None) => {}
            Err(error) => panic!("a get on a full disk: {error}: {error:?}"),
        }
    }
    there
}

fn temporary_files(dir: &Path) -> Vec<PathBuf> {
    let dirs = ["", "seg", "big"].map(|sub| dir.join(sub));
    let entries = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "tmp")).collect()
}

#[test]
fn a_full_disk_is_survived() {
    let Some(mount) = Mount::new("8m") else { return };
    let dir = mount.path().join("store");
    // A budget that the disk does not have.
    let disk =
        Disk::builder(&dir).budget(64 << 20).segment_len(256 << 10).open().expect("room for that");
    let mut failures = 0;
    let early = fill(&disk, 0, 200, &mut failures);
    assert_eq!((failures, early.len()), (0, 200), "there was room for these");
    // Nothing is left at all; then everything goes on as if nothing had been.
    let ballast = mount.path().join("ballast");
    for round in 1..=20_u64 {
        let _ = fs::write(&ballast, vec![1; 16 << 20]).expect_err("the disk is full");
        assert!(right(&disk, 0..round * 400) > 0, "round {round}: nothing can be read");
        let from = round * 400;
        let mut failures = 0;
        fill(&disk, from, 300, &mut failures);
        right(&disk, 0..from + 300);
        assert_eq!(temporary_files(&dir), [""; 0].map(PathBuf::from));
        fs::remove_file(&ballast).expect("a file");
        let mut failures = 0;
        let late = fill(&disk, from + 300, 50, &mut failures);
        assert_eq!(failures, 0, "round {round}: there is room again, and {failures} puts failed");
        assert!(right(&disk, late.into_iter()) > 0, "round {round}: what was put is not there");
    }
    let report = disk.verify().expect("an open store");
    assert!(report.is_clean(), "{report:?}");
    disk.close().expect("room for that");
    drop(disk);
    let disk = Disk::builder(&dir).budget(64 << 20).open().expect("it was closed");
    assert!(right(&disk, 0..9_000) > 0);
}

#[test]
fn a_store_on_a_full_disk_opens_or_says_why() {
    let Some(mount) = Mount::new("4m") else { return };
    let dir = mount.path().join("store");
    let ballast = mount.path().join("ballast");
    let opened = || Disk::builder(&dir).budget(2 << 20).segment_len(64 << 10).open();
    let disk = opened().expect("room for that");
    let mut failures = 0;
    fill(&disk, 0, 300, &mut failures);
    drop(disk);
    let _ = fs::write(&ballast, vec![1; 8 << 20]).expect_err("the disk is full");
    match opened() {
        Ok(disk) => assert!(right(&disk, 0..300) > 0),
        Err(error) => assert!(matches!(error, Error::StorageFull { .. }), "{error:?}"),
    }
    // A new one has no room at all.
    let none = Disk::builder(mount.path().join("other")).budget(2 << 20).open();
    match none {
        Ok(disk) => right(&disk, 0..0),
        Err(error) => {
            assert!(matches!(error, Error::StorageFull { .. }), "{error:?}");
            0
        }
    };
    fs::remove_file(&ballast).expect("a file");
    let disk = opened().expect("there is room again");
    assert!(right(&disk, 0..300) > 0);
    Disk::builder(mount.path().join("other")).budget(2 << 20).open().expect("there is room");
}
