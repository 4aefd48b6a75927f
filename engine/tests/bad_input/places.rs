//! Directories that cannot or should not be used, and things that stand where files should.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use larder_engine::conformance::expand;
use larder_engine::{Disk, Engine, Error, Put};

use crate::sample::{Left, Sample, contents, look, open, place};
use crate::skip;

const DIRS: [&str; 4] = ["seg", "arr", "big", "proc"];

/// Every place where the store keeps a file or a directory.
fn names() -> Vec<PathBuf> {
    let mut names: Vec<_> = Sample::get().files().map(|(path, _)| path.to_owned()).collect();
    // One segment and one external file stand for all.
    for dir in ["seg", "big"] {
        let mut seen = 0;
        names.retain(|path| {
            seen += usize::from(path.starts_with(dir));
            !path.starts_with(dir) || seen == 1
        });
    }
    names.extend(DIRS.map(PathBuf::from));
    names
}

fn remove(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        fs::remove_dir_all(path).expect("a directory");
    } else {
        fs::remove_file(path).expect("a file");
    }
}

/// Puts something in the place of each file and directory in turn, and looks at the store.
fn in_every_place(what: &str, plant: impl Fn(&Path), after: impl Fn(&Path)) {
    for name in names() {
        let place = place();
        let dir = place.path().join("store");
        Sample::get().copy_to(&dir);
        let path = dir.join(&name);
        remove(&path);
        plant(&path);
        let what = format!("{what} for {}", name.display());
        if let Left::Refused(error) = look(&dir, &what) {
            let typed =
                matches!(error, Error::WrongType { .. } | Error::Io { .. } | Error::Format { .. });
            assert!(typed, "{what}: {error:?}");
        }
        after(&path);
    }
}

#[test]
fn a_symlink_is_neither_followed_nor_replaced_through() {
    let outside = place();
    let target = outside.path().join("precious");
    fs::write(&target, b"not ours").expect("a file");
    in_every_place(
        "a symlink to a file",
        |path| symlink(&target, path).expect("a symlink"),
        |_| assert_eq!(fs::read(&target).expect("a file"), b"not ours"),
    );
    let absent = outside.path().join("absent");
    in_every_place(
        "a dangling symlink",
        |path| symlink(&absent, path).expect("a symlink"),
        |_| assert!(!absent.exists(), "something was created through a symlink"),
    );
    let directory = outside.path().join("directory");
    fs::create_dir(&directory).expect("a directory");
    in_every_place(
        "a symlink to a directory",
        |path| symlink(&directory, path).expect("a symlink"),
        |_| {
            let inside = fs::read_dir(&directory).expect("a directory").count();
            assert_eq!(inside, 0, "something was created through a symlink");
        },
    );
}

#[test]
fn a_fifo_is_not_waited_for() {
    let fifo = |path: &Path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).expect("a FIFO");
    };
    in_every_place("a FIFO", fifo, |_| {});
}

#[test]
fn a_socket_is_not_spoken_to() {
    in_every_place(
        "a socket",
        |path| {
            // The path of a socket has to be short; it is made elsewhere and moved.
            let place = tempfile::tempdir().expect("a directory");
            let short = place.path().join("s");
            drop(UnixListener::bind(&short).expect("a socket"));
            if fs::rename(&short, path).is_err() {
                // Another file system: a short enough path, hopefully.
                drop(UnixListener::bind(path).expect("a socket"));
            }
            assert!(fs::symlink_metadata(path).expect("there").file_type().is_socket());
        },
        |_| {},
    );
}

#[test]
fn a_directory_or_an_empty_file_in_a_place_is_survived() {
    in_every_place("a directory", |path| fs::create_dir(path).expect("a directory"), |_| {});
    in_every_place("an empty file", |path| fs::write(path, b"").expect("a file"), |_| {});
}

#[test]
fn names_taken_in_advance_are_not_written_through() {
    // Whoever guesses the next names cannot make the store write elsewhere.
    let place = place();
    let dir = place.path().join("store");
    Sample::get().copy_to(&dir);
    let target = place.path().join("precious");
    fs::write(&target, b"not ours").expect("a file");
    for id in 0..64_u64 {
        for name in [
            format!("seg/{id:016x}.log"),
            format!("seg/{id:016x}.log.tmp"),
            format!("seg/{id:016x}.tmp"),
            format!("big/{id:016x}.val"),
            format!("big/{id:016x}.val.tmp"),
            format!("index.{id:08x}"),
            format!("index.{id:08x}.tmp"),
        ] {
            if fs::symlink_metadata(dir.join(&name)).is_err() {
                symlink(&target, dir.join(&name)).expect("a symlink");
            }
        }
    }
    if let Ok(disk) = open(&dir) {
        for n in 0..60_u64 {
            // It may fail, and say so; it may not write into what it did not create.
            let _ = disk.put(&n.to_le_bytes(), &expand(n, 12_000), &Put::default());
            let _ = disk.put(&(n + 1_000).to_le_bytes(), &expand(n, 4_000), &Put::default());
        }
        let _ = disk.close();
    }
    assert_eq!(fs::read(&target).expect("a file"), b"not ours");
}

/// Links a foreign file into each place; the places where it was changed by that.
fn changed_through_a_hard_link() -> Vec<PathBuf> {
    let place = place();
    let foreign = expand(9, 20_000);
    let is_file = |name: &PathBuf| !DIRS.contains(&name.to_str().unwrap_or_default());
    let mut changed = Vec::new();
    for name in names().into_iter().filter(is_file) {
        let dir = place.path().join("store");
        Sample::get().copy_to(&dir);
        let target = place.path().join("precious");
        fs::write(&target, &foreign).expect("a file");
        remove(&dir.join(&name));
        fs::hard_link(&target, dir.join(&name)).expect("a link");
        look(&dir, &format!("a hard link for {}", name.display()));
        if fs::read(&target).expect("a file") != foreign {
            changed.push(name);
        }
        fs::remove_dir_all(&dir).expect("a directory");
        fs::remove_file(&target).expect("a file");
    }
    changed
}

#[test]
fn a_foreign_file_under_the_name_of_a_lock_or_header_is_not_changed() {
    let changed = changed_through_a_hard_link();
    assert!(changed.iter().all(|name| name.starts_with("seg")), "{changed:?}");
}

#[test]
fn a_foreign_file_under_the_name_of_a_segment_is_not_changed() {
    assert_eq!(changed_through_a_hard_link(), [""; 0].map(PathBuf::from));
}

#[test]
fn foreign_files_are_left_alone() {
    let place = place();
    let dir = place.path().join("store");
    Sample::get().copy_to(&dir);
    let foreign = [
        "README",
        "notes.tmp",
        "index.txt",
        "index.old",
        "index.zzzzzzzz",
        "index.00000001.bak",
        "store.bak",
        "store~",
        ".hidden",
        "seg/README",
        "seg/0.log",
        "seg/x.log.tmp",
        "seg/00000000000000000000.log",
        "seg/zzzzzzzzzzzzzzzz.log",
        "big/notes",
        "big/1.val",
        "arr/mine.npy",
        "proc/notes",
    ];
    for name in foreign {
        fs::write(dir.join(name), b"not ours").expect("a file");
    }
    fs::create_dir(dir.join("mine")).expect("a directory");
    fs::write(dir.join("mine/file"), b"not ours").expect("a file");
    assert_eq!(look(&dir, "foreign files").missing(), 0);
    let disk = open(&dir).expect("a store");
    disk.clear().expect("an open store");
    drop(disk);
    for name in foreign.into_iter().chain(["mine/file"]) {
        let found = fs::read(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found, b"not ours", "{name}");
    }
}

#[test]
fn files_and_directories_are_private() {
    let place = place();
    let dir = place.path().join("a/b/store");
    let disk = open(&dir).expect("parents are created");
    for n in 0..40_u64 {
        let _ = disk.put(&n.to_le_bytes(), &expand(n, 12_000), &Put::default()).expect("room");
    }
    disk.close().expect("an open store");
    let mut dirs = vec![dir];
    while let Some(dir) = dirs.pop() {
        assert_eq!(fs::metadata(&dir).expect("there").mode() & 0o7777, 0o700, "{}", dir.display());
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let found = fs::symlink_metadata(&path).expect("there");
            if found.is_dir() {
                dirs.push(path);
            } else {
                assert_eq!(found.mode() & 0o7777, 0o600, "{}", path.display());
            }
        }
    }
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    for mode in [0o777, 0o722, 0o702, 0o1777] {
        let place = place();
        let dir = place.path().join("store");
        Sample::get().copy_to(&dir);
        fs::set_permissions(&dir, Permissions::from_mode(mode)).expect("ours");
        let error = open(&dir).expect_err("it is not private");
        assert!(matches!(error, Error::Insecure { .. }), "{mode:o}: {error:?}");
        let text = error.to_string();
        assert!(text.contains("store") && text.contains("chmod"), "{text}");
        let disk = Disk::builder(&dir).budget(8 << 20).allow_shared_directory().open();
        let found = disk.expect("it was allowed").get(b"key 5").expect("an open store");
        assert_eq!(found.as_deref(), Some(&contents()[&b"key 5"[..]][..]));
    }
}

#[test]
fn a_directory_of_someone_else_is_refused() {
    let place = place();
    let dir = place.path().join("store");
    Sample::get().copy_to(&dir);
    if let Err(error) = std::os::unix::fs::chown(&dir, Some(65_534), None) {
        return skip("only root can give a directory away", &error.to_string());
    }
    let error = open(&dir).expect_err("it belongs to someone else");
    assert!(matches!(error, Error::Insecure { .. }), "{error:?}");
    let disk = Disk::builder(&dir).budget(8 << 20).allow_shared_directory().open();
    assert!(disk.is_ok(), "{disk:?}");
}

#[test]
fn what_is_no_directory_is_refused() {
    let place = place();
    let file = place.path().join("file");
    fs::write(&file, b"not ours").expect("a file");
    for path in [file.clone(), file.join("store"), PathBuf::from("/dev/null")] {
        let error = open(&path).expect_err("there can be no store");
        let typed = matches!(error, Error::WrongType { .. } | Error::Io { .. });
        assert!(typed && error.to_string().contains('/'), "{error:?}");
    }
    assert_eq!(fs::read(&file).expect("a file"), b"not ours");
    let empty = open(Path::new("")).expect_err("no path at all");
    assert!(matches!(empty, Error::Io { .. } | Error::WrongType { .. }), "{empty:?}");
    let long = place.path().join("x".repeat(300));
    let error = open(&long).expect_err("no such name can be");
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
}

#[test]
fn a_second_opener_is_told_who_was_first() {
    let place = place();
    let dir = place.path().join("store");
    let first = open(&dir).expect("a new store");
    let begin = Instant::now();
    let error = open(&dir).expect_err("it is open");
    assert!(begin.elapsed() < Duration::from_secs(1), "it was waited for");
    assert!(matches!(error, Error::Locked { pid, .. } if pid == std::process::id()), "{error:?}");
    drop(first);
    open(&dir).expect("nobody has it open any more");
}

#[test]
fn a_directory_that_vanishes_or_moves_does_no_harm() {
    for moves in [false, true] {
        let place = place();
        let dir = place.path().join("store");
        Sample::get().copy_to(&dir);
        let disk = open(&dir).expect("a store");
        let elsewhere = place.path().join("elsewhere");
        if moves {
            fs::rename(&dir, &elsewhere).expect("moved");
        } else {
            fs::remove_dir_all(&dir).expect("removed");
        }
        for (key, value) in contents() {
            if let Ok(Some(found)) = disk.get(key) {
                assert_eq!(*found, **value);
            }
        }
        for n in 0..60_u64 {
            // Each of these may fail, and has to come back.
            let _ = disk.put(&n.to_le_bytes(), &expand(n, 12_000), &Put::default());
            let _ = disk.put(&(n + 1_000).to_le_bytes(), &expand(n, 4_000), &Put::default());
        }
        let _ = (disk.sync(), disk.verify().map(|report| report.is_clean()), disk.close());
        drop(disk);
        if moves {
            let disk = open(&elsewhere).expect("a directory can be moved");
            let there = contents().keys().filter(|key| disk.contains(key).unwrap_or(false));
            assert_eq!(there.count(), contents().len());
        }
    }
}

#[test]
fn a_store_that_cannot_be_written_is_refused_or_read() {
    if !rustix::process::geteuid().is_root() {
        let place = place();
        let dir = place.path().join("store");
        Sample::get().copy_to(&dir);
        fs::set_permissions(&dir, Permissions::from_mode(0o500)).expect("ours");
        read_only(&dir);
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).expect("ours");
        return;
    }
    // Nothing stops root but a file system that takes no writes.
    let Some(mount) = crate::full::Mount::new("16m") else { return };
    let dir = mount.path().join("store");
    Sample::get().copy_to(&dir);
    let told = Command::new("mount").args(["-o", "remount,ro"]).arg(mount.path()).status();
    if !told.is_ok_and(|status| status.success()) {
        return skip("cannot remount read-only", "mount failed");
    }
    read_only(&dir);
    read_only(&mount.path().join("new"));
}

fn read_only(dir: &Path) {
    match open(dir) {
        Err(error) => {
            let text = error.to_string();
            assert!(matches!(error, Error::Io { .. }) && text.contains('/'), "{error:?}");
        }
        Ok(disk) => {
            for (key, value) in contents() {
                let found = disk.get(key).expect("an open store");
                assert_eq!(found.as_deref(), Some(&value[..]));
            }
            let _ = disk.put(b"key", b"value", &Put::default());
        }
    }
}
