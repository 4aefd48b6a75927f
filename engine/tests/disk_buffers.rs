//! Promise: in the buffered mode no file is mapped, and all else is as in the mapped one: what was
//! put is in the file when `put` returns, and found again by either mode after either mode, closed
//! or not. It is chosen where mappings cannot be trusted, or forced.
//! Method: forced on a directory, whose files are looked at from outside; and chosen on a file
//! system that does not allocate in advance, where one can be mounted.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use larder_engine::{
    Access, Disk, DiskBuilder, Durability, Engine, Error, Event, Maintenance, Observer, Put,
    Recovery, Retain, WriteBatch,
};

fn builder(dir: &Path, access: Access) -> DiskBuilder {
    let builder = Disk::builder(dir.join("store")).budget(8 << 20).segment_len(64 << 10);
    builder.writers(2).maintenance(Maintenance::Manual).access(access)
}

fn value(number: u32, len: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(len).collect()
}

fn put(disk: &Disk, number: u32, len: usize) {
    let value = value(number, len);
    assert!(disk.put(&number.to_le_bytes(), &value, &Put::default()).unwrap().is_admitted());
}

/// Everything that a store holds.
fn contents(disk: &Disk) -> BTreeMap<Vec<u8>, Vec<u8>> {
    disk.iter().map(Result::unwrap).map(|(key, value)| (key, value.to_vec())).collect()
}

/// Whether some file of a segment has these bytes.
fn is_in_a_segment(dir: &Path, needle: &[u8]) -> bool {
    fs::read_dir(dir.join("store").join("seg")).unwrap().any(|entry| {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

#[test]
fn no_file_is_mapped_and_what_was_put_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let is_mapped = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.contains(dir.path().to_str().unwrap())
    };
    let disk = builder(dir.path(), Access::Mapped).open().unwrap();
    put(&disk, 0, 100);
    assert!(is_mapped());
    disk.close().unwrap();
    drop(disk);
    let disk = builder(dir.path(), Access::Buffered).open().unwrap();
    assert_eq!(disk.access(), Access::Buffered);
    for (number, len) in (1..).zip([10, 1_000, 7_000, 100_000]) {
        put(&disk, number, len);
        let found = disk.get(&number.to_le_bytes()).unwrap().unwrap();
        assert_eq!(&*found, value(number, len));
        let large = len >= 64 << 7;
        assert!(large || is_in_a_segment(dir.path(), &value(number, len)), "{number}");
    }
    assert!(!is_mapped());
}

#[test]
fn either_mode_finds_what_either_mode_left_closed_or_not() {
    for before in [Access::Mapped, Access::Buffered] {
        for after in [Access::Mapped, Access::Buffered] {
            for closes in [true, false] {
                let dir = tempfile::tempdir().unwrap();
                let disk = builder(dir.path(), before).open().unwrap();
                (0..200).for_each(|number| put(&disk, number, 500 + number as usize));
                (0..200)
                    .step_by(3)
                    .for_each(|n| assert!(disk.remove(&u32::to_le_bytes(n)).unwrap()));
                (0..200).step_by(5).for_each(|number| put(&disk, number, 30));
                put(&disk, 1_000, 300_000);
                let mut batch = WriteBatch::new();
                batch.put(b"one", b"batched", &Put::default()).put(
                    b"two",
                    b"as well",
                    &Put::default(),
                );
                assert!(disk.write(&batch, Durability::None).unwrap().is_committed());
                disk.invalidate_tag(b"no such tag").unwrap();
                let held = contents(&disk);
                assert!(held.len() > 130);
                if closes {
                    disk.close().unwrap();
                }
                drop(disk);
                for _ in 0..2 {
                    let disk = builder(dir.path(), after).open().unwrap();
                    let case = format!("{before:?} then {after:?}, closed {closes}");
                    let found = disk.stats();
                    let right = match (closes, before, after) {
                        (true, ..) => Recovery::Clean,
                        (false, Access::Mapped, Access::Mapped) => Recovery::ProcessDied,
                        _ => Recovery::Rebuilt,
                    };
                    assert_eq!((found.recovery, found.corrupt), (right, 0), "{case}");
                    assert!(contents(&disk) == held, "{case}");
                    assert!(disk.verify().unwrap().is_clean(), "{case}");
                    if !closes {
                        break;
                    }
                    disk.close().unwrap();
                }
            }
        }
    }
}

#[test]
fn a_full_store_evicts_and_one_that_keeps_all_compacts_as_in_the_mapped_mode() {
    for retain in [Retain::Recent, Retain::All] {
        let dir = tempfile::tempdir().unwrap();
        let open = || builder(dir.path(), Access::Buffered).retain(retain).open().unwrap();
        let disk = open();
        for number in 0..2_500 {
            put(&disk, number % 400, 6_000);
        }
        let stats = disk.stats();
        assert!(stats.inline_reclaims > 50 || retain == Retain::All, "{stats:?}");
        assert!(stats.used_bytes - stats.retired_bytes <= stats.budget_bytes, "{stats:?}");
        disk.sync().unwrap();
        let held = contents(&disk);
        drop(disk);
        let disk = open();
        assert!(contents(&disk) == held, "{retain:?}");
        assert!(retain == Retain::Recent || held.len() == 400);
        disk.compact().unwrap();
        disk.close().unwrap();
        drop(disk);
        assert!(contents(&open()) == held, "{retain:?}");
    }
}

#[test]
fn a_second_opening_is_told_who_has_the_store_and_readers_need_no_mapping() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(dir.path(), Access::Buffered).open().unwrap();
    put(&disk, 1, 2_000);
    for access in [Access::Buffered, Access::Mapped, Access::Auto] {
        let error = builder(dir.path(), access).open().expect_err("it is open");
        assert!(matches!(error, Error::Locked { pid, .. } if pid == std::process::id()), "{error}");
    }
    // As a process that dies leaves it: readers build the index anew, in memory.
    drop(disk);
    let reader = builder(dir.path(), Access::Buffered).read_only().open().unwrap();
    assert_eq!(reader.get(&1_u32.to_le_bytes()).unwrap().unwrap().len(), 2_000);
    drop(reader);
    let disk = builder(dir.path(), Access::Buffered).open().unwrap();
    let report = disk.backup(dir.path().join("backup")).unwrap();
    assert_eq!((report.entries, report.damaged), (1, 0));
    drop(disk);
    let repaired = Disk::repair(dir.path().join("store")).unwrap();
    assert!(repaired.was_clean(), "{repaired:?}");
}

#[derive(Debug, Default)]
struct Why(Mutex<Vec<&'static str>>);

impl Observer for Why {
    fn event(&self, event: &Event) {
        if let Event::Unmapped { why } = event {
            self.0.lock().unwrap().push(why);
        }
    }
}

/// A mounted file system, until it is dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// In memory, and without allocation in advance.
    fn ramfs() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "ramfs", "none"]).arg(dir.path()).output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(dir)),
            other => {
                eprintln!("SKIPPED: no file system can be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn it_is_found_out_that_a_file_system_does_not_allocate_in_advance() {
    let Some(mounted) = Mounted::ramfs() else { return };
    let why = Arc::new(Why::default());
    let dir = mounted.0.path();
    let open = |access| {
        let disk = builder(dir, access).observer(Arc::clone(&why) as _).open().unwrap();
        (disk.access(), disk)
    };
    let (access, disk) = open(Access::Auto);
    assert_eq!(access, Access::Buffered);
    assert_eq!(*why.0.lock().unwrap(), ["the file system does not allocate in advance"]);
    (0..500).for_each(|number| put(&disk, number, 3_000));
    drop(disk);
    let (access, disk) = open(Access::Auto);
    assert_eq!((access, disk.len()), (Access::Buffered, 500));
    drop(disk);
    let (access, disk) = open(Access::Mapped);
    assert_eq!((access, disk.len()), (Access::Mapped, 500));
    assert_eq!(why.0.lock().unwrap().len(), 2, "who asked for it is not told why");
}

#[test]
fn an_ordinary_directory_is_mapped_and_trying_that_out_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(dir.path(), Access::Auto).open().unwrap();
    if disk.access() == Access::Buffered {
        eprintln!("SKIPPED: mappings of the temporary directory cannot be trusted");
        return;
    }
    let names =
        fs::read_dir(dir.path().join("store")).unwrap().map(|entry| entry.unwrap().file_name());
    let probes = names.filter(|name| name.to_str().unwrap().contains("probe"));
    assert_eq!(probes.count(), 0);
}
