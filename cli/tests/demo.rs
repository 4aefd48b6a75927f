//! Promise: what the demo computed once, it never computes again until the content changes.
//! Method: runs over a small tree, in processes of their own, with edits in between.

mod common;

use std::fs;
use std::path::Path;

use common::{Ran, arg, larder, run};

fn demo(tree: &Path, cache: &Path) -> Ran {
    run(["demo", arg(tree), "--dir", arg(cache), "--json"])
}

fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("sub")).expect("it can be created");
    for (name, text) in [
        ("one.txt", "one\ntwo\n"),
        ("copy.txt", "one\ntwo\n"),
        ("sub/two.txt", "three\n"),
        ("empty", ""),
    ] {
        fs::write(dir.join(name), text).expect("it can be written");
    }
}

#[test]
fn a_second_process_computes_nothing_and_an_edit_computes_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let (files, cache) = (dir.path().join("files"), dir.path().join("cache"));
    tree(&files);

    let first = demo(&files, &cache).ended(0);
    assert_eq!(first.number("files"), 4);
    // Two of the four are equal.
    assert_eq!(first.number("computed"), 3);
    assert_eq!(first.number("memory_hits") + first.number("disk_hits"), 1);

    let second = demo(&files, &cache).ended(0);
    assert_eq!(second.number("computed"), 0);
    assert_eq!(second.number("memory_hits") + second.number("disk_hits"), 4);
    // Two threads that want the same one at once may both find it on disk.
    let alone = run(["demo", arg(&files), "--dir", arg(&cache), "--threads", "1", "--json"]);
    assert_eq!(alone.ended(0).number("disk_hits"), 3);
    assert_eq!(second.json()["histogram"], first.json()["histogram"]);
    assert!(second.json()["speedup"].as_f64().unwrap() >= 1.0);
    assert!(second.json()["seconds"].as_f64().unwrap() > 0.0);

    let edited = files.join("sub/two.txt");
    let time = fs::metadata(&edited).unwrap().modified().unwrap();
    fs::write(&edited, "eerht\n").unwrap();
    fs::File::options().write(true).open(&edited).unwrap().set_modified(time).unwrap();
    let third = demo(&files, &cache).ended(0);
    assert_eq!(third.number("computed"), 1);
    assert_eq!(third.number("files"), 4);

    fs::rename(files.join("one.txt"), files.join("renamed.txt")).unwrap();
    assert_eq!(demo(&files, &cache).ended(0).number("computed"), 0);
}

#[test]
fn a_cache_inside_the_tree_is_not_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let cache = dir.path().join("cache");
    for computed in [3, 0] {
        let ran = demo(dir.path(), &cache).ended(0);
        assert_eq!((ran.number("files"), ran.number("computed")), (4, computed));
    }
}

#[test]
fn the_table_says_what_was_done_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let (files, home) = (dir.path().join("files"), dir.path().join("home"));
    tree(&files);
    fs::create_dir(&home).unwrap();
    // The platform's cache directory lies below the home directory.
    let output = larder(["demo", arg(&files)])
        .env("HOME", &home)
        .env_remove("XDG_CACHE_HOME")
        .output()
        .unwrap();
    let ran = Ran::from(output).ended(0);
    for line in ["files ", "computed ", "memory hits ", "disk hits ", "time ", "speed-up "] {
        assert!(ran.stdout.contains(line), "{line}: {ran:?}");
    }
    let cache = ran.stdout.lines().find_map(|line| line.strip_prefix("cache: ")).unwrap();
    let end = Path::new("larder").join("demo");
    assert!(cache.starts_with(arg(&home.canonicalize().unwrap())), "{cache}");
    assert!(Path::new(cache).ends_with(end), "{cache}");
    assert_eq!(ran.stderr, "");
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_skipped_and_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (files, cache) = (dir.path().join("files"), dir.path().join("cache"));
    tree(&files);
    let locked = files.join("one.txt");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&locked).is_ok() {
        return; // The superuser may read everything.
    }
    let ran = demo(&files, &cache).ended(0);
    assert_eq!((ran.number("files"), ran.number("skipped")), (3, 1));
    assert!(ran.stderr.contains("one.txt"), "{ran:?}");
}

#[test]
fn a_missing_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    demo(&nowhere, &dir.path().join("cache")).refused("nowhere");
    assert!(!dir.path().join("cache").exists());
}
