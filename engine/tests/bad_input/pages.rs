//! Damage to one page of the index of a store that was closed: any bit of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use larder_engine::conformance::{Random, expand};
use larder_engine::{Disk, Engine, Maintenance, Put, Recovery};

use crate::sample::place;

const HEADER: u64 = 4096;
const PAGE: u64 = 4096;
const KEYS: u64 = 300;

fn open(dir: &Path) -> Disk {
    Disk::builder(dir)
        .budget(8 << 20)
        .segment_len(64 << 10)
        .writers(1)
        .maintenance(Maintenance::Manual)
        .open()
        .expect("a store")
}

/// What each key had first, and what it has now; `None` if it was removed.
fn life(number: u64) -> (Vec<u8>, Option<Vec<u8>>) {
    let now = (!number.is_multiple_of(5)).then(|| expand(number, 40));
    (format!("old {number}").into_bytes(), now)
}

fn fill(dir: &Path) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let disk = open(dir);
    let mut contents = BTreeMap::new();
    for number in 0..KEYS {
        let key = format!("key {number}").into_bytes();
        let (old, now) = life(number);
        assert!(disk.put(&key, &old, &Put::default()).expect("room").is_admitted());
        match &now {
            Some(now) => {
                assert!(disk.put(&key, now, &Put::default()).expect("room").is_admitted());
            }
            None => assert!(disk.remove(&key).expect("an open store")),
        }
        contents.insert(key, now);
    }
    disk.close().expect("an open store");
    contents
}

fn index_of(dir: &Path) -> PathBuf {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let mut found = entries.map(|entry| entry.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("index."))
    });
    found.next().expect("an index")
}

/// The files of a store that a look at it changes.
fn save(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for sub in ["", "seg"] {
        for entry in fs::read_dir(dir.join(sub)).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                files.push((path.clone(), fs::read(path).expect("a file")));
            }
        }
    }
    files
}

fn restore(dir: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for (path, _) in save(dir) {
        if files.iter().all(|(kept, _)| *kept != path) {
            fs::remove_file(path).expect("a file");
        }
    }
    for (path, bytes) in files {
        fs::write(path, bytes).expect("a file");
    }
}

fn flip(path: &Path, at: u64, bit: u64) {
    let file = fs::File::options().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1 << bit], at).expect("a byte");
}

/// Everything reads right, and nothing that was removed is back.
fn assert_all_right(disk: &Disk, contents: &BTreeMap<Vec<u8>, Option<Vec<u8>>>, what: &str) {
    for (key, now) in contents {
        let found = disk.get(key).expect("an open store");
        assert_eq!(found.as_deref(), now.as_deref(), "{what}: {}", String::from_utf8_lossy(key));
    }
}

#[test]
fn no_bit_of_a_page_leads_to_anything_old() {
    let place = place();
    let dir = place.path().join("store");
    let contents = fill(&dir);
    let files = save(&dir);
    let index = index_of(&dir);
    let bytes = fs::read(&index).expect("a file");
    // The page with the most slots.
    let pages = (0..(bytes.len() as u64 - HEADER) / PAGE).map(|page| HEADER + page * PAGE);
    let set = |at: &u64| {
        let at = usize::try_from(*at).expect("an offset");
        bytes[at..at + 4096].iter().filter(|byte| **byte != 0).count()
    };
    let page = pages.max_by_key(set).expect("a page");
    let all = std::env::var("LARDER_DAMAGE").is_ok_and(|how| how == "all");
    let mut random = Random::new(0x9A6E);
    let tries = if all { PAGE * 8 } else { 2_000 };
    let mut uncounted = 0;
    for number in 0..tries {
        let bit = if all { number } else { random.below(4096 * 8) as u64 };
        let (at, bit) = (page + bit / 8, bit % 8);
        flip(&index, at, bit);
        let what = format!("byte {at} bit {bit}");
        let disk = open(&dir);
        assert_eq!(disk.stats().recovery, Recovery::Clean, "{what}");
        assert_all_right(&disk, &contents, &what);
        let report = disk.verify().expect("an open store");
        let told = report.findings.iter().any(|finding| finding.path == index);
        assert_eq!(told, disk.stats().corrupt > 0, "{what}: {report:?}");
        // Hits are no part of the checksum: nothing depends on them.
        let slot = usize::try_from(at / 8 * 8).expect("an offset");
        let is_value = bytes[slot] & 3 == 1;
        let is_hit = at.is_multiple_of(8) && is_value && (bit == 2 || bit == 3);
        assert_eq!(told, !is_hit, "{what}");
        uncounted += u64::from(!told);
        if number % 100 == 0 {
            let live = contents.values().flatten().count() as u64;
            assert_eq!(disk.len(), live, "{what}");
            disk.close().expect("an open store");
            drop(disk);
            let disk = open(&dir);
            assert_all_right(&disk, &contents, &what);
            assert!(disk.verify().expect("an open store").is_clean(), "{what}: mended for good");
            assert_eq!(disk.stats().entries, live, "{what}");
        } else {
            drop(disk);
        }
        restore(&dir, &files);
    }
    println!("{tries} flips, {uncounted} of them in counts of hits");
}

#[test]
fn a_page_that_nobody_met_is_compared_after_a_death_as_well() {
    let place = place();
    let dir = place.path().join("store");
    let contents = fill(&dir);
    let index = index_of(&dir);
    let bytes = fs::read(&index).expect("a file");
    let set = (4096..4096 * 2).find(|&at| bytes[at] != 0 && at % 8 == 7).expect("a slot");
    flip(&index, set as u64, 6);
    // A session that meets no page, and does not close.
    drop(open(&dir));
    let disk = open(&dir);
    assert_eq!(disk.stats().recovery, Recovery::ProcessDied);
    assert_all_right(&disk, &contents, "after a death");
    assert!(disk.stats().corrupt > 0);
}

#[test]
fn an_index_of_noise_is_filled_again() {
    let place = place();
    let dir = place.path().join("store");
    let contents = fill(&dir);
    let index = index_of(&dir);
    let mut bytes = fs::read(&index).expect("a file");
    let noise = expand(3, bytes.len() - 4096);
    bytes[4096..].copy_from_slice(&noise);
    fs::write(&index, bytes).expect("a file");
    let disk = open(&dir);
    assert_all_right(&disk, &contents, "noise");
    assert!(disk.stats().corrupt > 0);
    assert!(!disk.verify().expect("an open store").is_clean());
}
