//! Promise: a store can be kept in order from the command line: space comes back, limits hold,
//! backups open, damage is repaired, tags are found and invalidated; and each command says what
//! it did.
//! Method: the commands on stores in temporary directories.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{arg, run};
use larder_engine::{Disk, Engine as _, Put};

/// A store with 40 entries, every other one tagged, and as many that were replaced.
fn store(dir: &Path) -> PathBuf {
    let store = dir.join("store");
    let disk = Disk::builder(&store).budget(8 << 20).open().unwrap();
    for round in 0..2 {
        for number in 0..40 {
            let tags: &[&[u8]] = if number % 2 == 0 { &[b"even"] } else { &[] };
            let put = Put { tags, ..Put::default() };
            let value = format!("value {round} of {number} {}", "x".repeat(5_000));
            let outcome = disk.put(format!("key {number:02}").as_bytes(), value.as_bytes(), &put);
            assert!(outcome.unwrap().is_admitted());
        }
    }
    disk.close().unwrap();
    store
}

fn keys(store: &Path) -> usize {
    run(["ls", arg(store)]).ended(0).stdout.lines().count()
}

#[test]
fn space_comes_back_and_limits_hold() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let compacted = run(["compact", arg(&store), "--json"]).ended(0);
    assert!(compacted.number("freed_bytes") > 100_000, "{compacted:?}");
    assert_eq!(compacted.number("entries"), 40);

    run(["put", arg(&store), "brief", "value", "--ttl", "1ms"]).ended(0);
    std::thread::sleep(std::time::Duration::from_millis(5));
    // The maintenance of the process that purges may have been first.
    assert_eq!(run(["purge", arg(&store), "--json"]).ended(0).number("entries"), 40);
    assert_eq!(keys(&store), 40);

    let trimmed = run(["trim", arg(&store), "--items", "10", "--json"]).ended(0);
    assert_eq!((trimmed.number("removed"), trimmed.number("entries")), (30, 10));
    assert_eq!(keys(&store), 10);
    let emptied = run(["trim", arg(&store), "--age", "0s"]).ended(0);
    assert!(emptied.stdout.contains("removed"), "{emptied:?}");
    assert_eq!(keys(&store), 0);
    run(["trim", arg(&store)]).ended(2);
}

#[test]
fn a_backup_opens_and_a_place_that_is_taken_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, to) = (store(dir.path()), dir.path().join("backup"));
    let written = run(["backup", arg(&store), arg(&to), "--json"]).ended(0);
    assert_eq!((written.number("entries"), written.number("damaged")), (40, 0));
    run(["verify", arg(&to)]).ended(0);
    let value = run(["get", arg(&to), "key 07"]).ended(0).stdout;
    assert!(value.starts_with("value 1 of 7 "), "{value}");
    assert_eq!(run(["tags", arg(&to), "even"]).ended(0).stdout.lines().count(), 20);
    run(["backup", arg(&store), arg(&to)]).refused("backup");
    let (nowhere, other) = (dir.path().join("nowhere"), dir.path().join("other"));
    run(["backup", arg(&nowhere), arg(&other)]).refused("nowhere");
    assert!(!nowhere.exists() && !other.exists());
}

#[test]
fn damage_is_repaired_once_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    assert_eq!(run(["repair", arg(&store), "--json"]).ended(0).json()["status"], "clean");
    let needle = b"value 1 of 30 ";
    let mut hit = 0;
    for entry in fs::read_dir(store.join("seg")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            hit += 1;
        }
    }
    assert!(hit > 0);
    run(["verify", arg(&store)]).ended(1);
    let repaired = run(["repair", arg(&store)]).ended(1);
    assert!(repaired.stdout.ends_with("repaired\n"), "{repaired:?}");
    assert!(repaired.stdout.contains("dropped: "), "{repaired:?}");
    run(["verify", arg(&store)]).ended(0);
    run(["repair", arg(&store)]).ended(0);
    assert_eq!(keys(&store), 39);
    fs::remove_file(store.join("store")).unwrap();
    run(["repair", arg(&store)]).refused("cannot be repaired");
}

#[test]
fn tags_are_listed_and_invalidated() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let listed = run(["tags", arg(&store), "even", "--json"]).ended(0).json();
    assert_eq!(listed["keys"][1], "key 02");
    assert_eq!(listed["keys"].as_array().map(Vec::len), Some(20));
    assert_eq!(
        run(["invalidate", arg(&store), "even", "--json"]).ended(0).number("invalidated"),
        20
    );
    assert_eq!(run(["tags", arg(&store), "even"]).ended(0).stdout, "");
    assert_eq!(keys(&store), 20);
    let none = run(["invalidate", arg(&store), "even"]).ended(0);
    assert_eq!(none.stdout, "0 invalidated\n");
}
