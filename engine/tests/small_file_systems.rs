//! File systems that are full, or just large enough: no signal, no wrong value, reads go on, a
//! write evicts or says that the storage is full, and once there is space again the same open
//! store works.
//!
//! They are mounted for the test, which takes root; where that is not permitted the tests say
//! `SKIPPED` and why. `LARDER_LONG=1` takes more rounds.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use larder_engine::{Disk, Engine, Error, Maintenance, Outcome, Put, Rejection};

/// A file system of its own, gone when it is dropped.
struct Mounted {
    at: PathBuf,
    /// Where the image lies, if there is one.
    _dir: tempfile::TempDir,
}

impl Mounted {
    fn tmpfs(options: &str) -> Option<Self> {
        Self::mount(|_, at| run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", at]))
    }

    /// ext4 without a journal in a file of this many bytes.
    fn ext4(bytes: u64, options: &[&str]) -> Option<Self> {
        Self::mount(|dir, at| {
            let image = dir.join("image");
            std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
            let image = image.to_str().unwrap();
            let plain = ["-q", "-F", "-m", "0", "-O", "^has_journal"];
            run("mkfs.ext4", &[&plain[..], options, &[image]].concat())?;
            run("mount", &["-o", "loop", image, at])
        })
    }

    fn mount(mount: impl FnOnce(&Path, &str) -> Result<(), String>) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("mounted");
        std::fs::create_dir(&at).unwrap();
        match mount(dir.path(), at.to_str().unwrap()) {
            Ok(()) => Some(Self { at, _dir: dir }),
            Err(why) => {
                eprintln!("SKIPPED: no file system of its own: {why}");
                None
            }
        }
    }

    /// Bytes and files that are free.
    fn free(&self) -> (u64, u64) {
        let found = rustix::fs::statvfs(&self.at).unwrap();
        (found.f_bfree * found.f_frsize, found.f_ffree)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What is still mapped for a moment, as nobody has let go of it, goes when it is.
        if let Err(why) = run("umount", &["-l", self.at.to_str().unwrap()]) {
            eprintln!("{} stays mounted: {why}", self.at.display());
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn rounds(quick: u32, long: u32) -> u32 {
    if std::env::var_os("LARDER_LONG").is_some() { long } else { quick }
}

fn open(at: &Path, budget: u64) -> larder_engine::Result<Disk> {
    let builder = Disk::builder(at.join("store")).budget(budget).segment_len(256 << 10);
    builder.writers(2).maintenance(Maintenance::Manual).open()
}

fn value(key: u32, round: u32) -> Vec<u8> {
    let len = match key % 20 {
        0 => 200_000,
        n if n < 5 => 10_000,
        _ => 500,
    };
    let mut value = vec![(key ^ round).to_le_bytes()[0]; len];
    value[..4].copy_from_slice(&key.to_le_bytes());
    value[4..8].copy_from_slice(&round.to_le_bytes());
    value
}

/// Fills the file system, reads, frees, and fills again, with one open store.
fn fill_and_free(mounted: &Mounted, rounds: u32) {
    // Far more than there is: the file system sets the limit.
    let disk = open(&mounted.at, 1 << 30).unwrap();
    let mut model: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for round in 0..rounds {
        let mut full = 0;
        for key in 0..40_000 {
            let value = value(key, round);
            match disk.put(&key.to_le_bytes(), &value, &Put::default()) {
                Ok(Outcome::Admitted { .. }) => drop(model.insert(key, value)),
                Ok(Outcome::Rejected(Rejection::Full { .. })) | Err(Error::StorageFull { .. }) => {
                    full += 1;
                }
                other => panic!("round {round}, put {key}: {other:?}"),
            }
            if full > 20 {
                break;
            }
        }
        let evicted = disk.stats().evictions;
        assert!(full > 0 || evicted > 0, "round {round}: never full, {:?}", disk.stats());
        let mut found = 0;
        for (key, value) in &model {
            if let Some(got) = disk.get(&key.to_le_bytes()).unwrap() {
                assert_eq!(&*got, &value[..], "round {round}, key {key}");
                found += 1;
            }
        }
        let (stats, put) = (disk.stats(), model.len());
        assert!(found > 0, "round {round}: nothing is left of {put}: {stats:?}");
        let free = mounted.free();
        disk.clear().unwrap();
        model.clear();
        // What was unlinked is gone once nobody looks at it any more.
        let put = Put::default();
        let done = (0..50).any(
            |_| matches!(disk.put(b"now", &[1; 5_000], &put), Ok(outcome) if outcome.is_admitted()),
        );
        assert!(
            done,
            "round {round}: full for good; {free:?} was free, and {:?} is",
            mounted.free()
        );
    }
    assert_eq!(disk.stats().corrupt, 0);
    assert!(disk.verify().unwrap().is_clean());
    drop(disk);
    let disk = open(&mounted.at, 1 << 30).unwrap();
    assert!(disk.verify().unwrap().is_clean());
    disk.close().unwrap();
}

#[test]
fn eight_megabytes_of_tmpfs_are_filled_and_freed() {
    let Some(mounted) = Mounted::tmpfs("size=8m") else { return };
    fill_and_free(&mounted, rounds(5, 500));
}

#[test]
fn an_ext4_of_64_megabytes_is_filled_and_freed() {
    let Some(mounted) = Mounted::ext4(64 << 20, &[]) else { return };
    fill_and_free(&mounted, rounds(2, 100));
}

#[test]
fn a_file_system_without_inodes_is_lived_with() {
    let Some(mounted) = Mounted::ext4(64 << 20, &["-N", "32"]) else { return };
    fill_and_free(&mounted, rounds(3, 300));
    let Some(mounted) = Mounted::tmpfs("size=64m,nr_inodes=24") else { return };
    fill_and_free(&mounted, rounds(3, 300));
}

/// A file system of the budget and a tenth: the store never meets its end.
#[test]
fn a_budget_holds_on_a_file_system_that_is_hardly_larger() {
    const BUDGET: u64 = 32 << 20;
    const SEGMENT: u64 = 256 << 10;
    // Its own tables take some as well.
    let Some(mounted) = Mounted::ext4(BUDGET * 11 / 10 + (1 << 20), &["-N", "512"]) else { return };
    let (all, _) = mounted.free();
    assert!(all <= BUDGET * 115 / 100, "it is larger than that: {all}");
    let disk = open(&mounted.at, BUDGET).unwrap();
    let most = BUDGET + SEGMENT + BUDGET / 50;
    let large = vec![3; 3 << 20];
    let (mut written, mut number) = (0_u64, 0_u32);
    let times = u64::from(rounds(3, 20));
    while written < BUDGET * times {
        number += 1;
        let value = if number % 500 == 0 { large.clone() } else { value(number, 1) };
        let put = disk.put(&number.to_le_bytes(), &value, &Put::default());
        assert!(put.unwrap().is_admitted(), "put {number}");
        written += value.len() as u64;
        if number % 16 == 0 {
            let _ = disk.maintain().unwrap();
        }
        if number % 50 == 0 {
            // Directories are not the store's account.
            let used = all - mounted.free().0;
            assert!(used <= most + (64 << 10), "{used} of {most} at {number}: {:?}", disk.stats());
        }
    }
    assert!(disk.stats().evictions > 0);
    assert!(disk.verify().unwrap().is_clean());
}

/// What a store has given back while nobody wrote, somebody else takes: nothing is written to where
/// there are no blocks, which would be the end of the process.
#[test]
fn blocks_that_were_given_back_are_missed_by_name() {
    for attempt in [0, 40, 400] {
        let Some(mounted) = Mounted::tmpfs("size=24m") else { return };
        let builder = Disk::builder(mounted.at.join("store")).budget(64 << 20);
        let builder = builder.segment_len(4 << 20).writers(1);
        let disk = builder.maintenance(Maintenance::Manual).open().unwrap();
        let put = |key: u32| disk.put(&key.to_le_bytes(), &[7; 1_000], &Put::default());
        (0..500).for_each(|key| assert!(put(key).unwrap().is_admitted()));
        while disk.maintain().unwrap().more {}
        let lean = mounted.free().0;
        for _ in 0..3 {
            let _ = disk.maintain().unwrap();
        }
        assert!(mounted.free().0 > lean + (2 << 20), "nothing was given back");
        // Some of it is used again first, or none.
        (500..500 + attempt).for_each(|key| assert!(put(key).unwrap().is_admitted()));
        let mut stranger = std::fs::File::create(mounted.at.join("stranger")).unwrap();
        while std::io::Write::write_all(&mut stranger, &[1; 4096]).is_ok() {}
        let mut refused = 0;
        for key in 1_000..9_000 {
            match put(key) {
                Ok(outcome) if outcome.is_admitted() => {}
                Ok(Outcome::Rejected(Rejection::Full { .. })) | Err(Error::StorageFull { .. }) => {
                    refused += 1;
                }
                other => panic!("put {key}: {other:?}"),
            }
        }
        assert!(refused > 0 || disk.stats().evictions > 0, "{:?}", disk.stats());
        assert!(disk.verify().unwrap().is_clean());
        drop(stranger);
        std::fs::remove_file(mounted.at.join("stranger")).unwrap();
        let admitted = (0..50).any(|key| put(key).is_ok_and(|outcome| outcome.is_admitted()));
        assert!(admitted, "full for good");
    }
}
