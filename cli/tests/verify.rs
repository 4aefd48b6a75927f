//! Promise: `verify` finds what is damaged and says whether the store can still be used.
//! Method: a small store, whole, damaged, and without its superblock.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{arg, run};

fn store(dir: &Path) -> PathBuf {
    let store = dir.join("store");
    for key in ["a", "b", "c"] {
        run(["put", arg(&store), key, "a value that can be found"]).ended(0);
    }
    store
}

fn segments(store: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.join("seg")).expect("the store has segments");
    entries.map(|entry| entry.expect("it can be listed").path()).collect()
}

#[test]
fn a_whole_store_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    run(["verify", arg(&store)]).ended(0);
    run(["verify", arg(&store), "--json"]).ended(0).json();
}

#[test]
fn a_changed_value_is_damage_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    for segment in segments(&store) {
        let mut bytes = fs::read(&segment).unwrap();
        let needle = b"can be found";
        let at = bytes.windows(needle.len()).position(|window| window == needle);
        if let Some(at) = at {
            bytes[at] ^= 1;
            fs::write(&segment, bytes).unwrap();
            break;
        }
    }
    let found = run(["verify", arg(&store)]).ended(1);
    assert!(!found.stdout.is_empty(), "{found:?}");
    let codes = ["a", "b", "c"].map(|key| run(["get", arg(&store), key]).code);
    let kept = codes.iter().filter(|code| **code == Some(0)).count();
    assert_eq!(kept, 2, "{codes:?}");
}

#[test]
fn a_store_without_a_superblock_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    fs::write(store.join("store"), b"not a superblock").unwrap();
    let found = run(["verify", arg(&store)]).ended(2);
    assert!(!found.stderr.is_empty(), "{found:?}");
}

#[test]
fn a_dump_names_the_fields_of_each_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let superblock = run(["dump", arg(&store.join("store")), "--limit", "40"]).ended(0);
    assert!(superblock.stdout.contains("superblock"), "{superblock:?}");
    for segment in segments(&store) {
        let segment = run(["dump", arg(&segment), "--limit", "40"]).ended(0);
        assert!(segment.stdout.contains("segment"), "{segment:?}");
        assert!(segment.stdout.lines().count() <= 41, "{segment:?}");
    }
    let other = dir.path().join("other");
    fs::write(&other, "no file of a store").unwrap();
    run(["dump", arg(&other)]).refused("other");
    run(["dump", arg(dir.path())]).refused("regular file");
}
