//! Promise: a store that is opened to be read needs no leave to write, changes nothing, has all
//! that is there, and refuses every change by its type.
//! Method: every byte of the directory is compared; a child process as a user who may not write.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use larder_engine::conformance::expand;
use larder_engine::{
    Atomic, Disk, Durability, Engine, Error, Limits, Put, Recovery, Ttl, WriteBatch,
};

const ENTRIES: u64 = 400;
/// Says to this program, run anew, where the store is.
const STORE: &str = "LARDER_TEST_READ_ONLY_STORE";

fn key(number: u64) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

fn value(number: u64) -> Vec<u8> {
    expand(number, if number.is_multiple_of(50) { 10_000 } else { 600 })
}

fn fill(dir: &Path) -> Disk {
    let disk = Disk::builder(dir).budget(16 << 20).segment_len(64 << 10).open().unwrap();
    for number in 0..ENTRIES {
        assert!(disk.put(&key(number), &value(number), &Put::default()).unwrap().is_admitted());
    }
    assert!(disk.remove(&key(0)).unwrap());
    disk
}

fn look(disk: &Disk) {
    assert!(disk.get(&key(0)).unwrap().is_none());
    for number in 1..ENTRIES {
        // Often, so that its slot gets hot.
        for _ in 0..3 {
            assert_eq!(*disk.get(&key(number)).unwrap().unwrap(), *value(number), "{number}");
        }
    }
    assert_eq!(disk.iter().count() as u64, ENTRIES - 1);
    assert_eq!(disk.len(), ENTRIES - 1);
    let report = disk.verify().unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// All files with their bytes and the time of their last change.
fn files(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => {
                let changed = fs::metadata(&path).unwrap().modified().unwrap();
                let bytes = fs::read(&path).unwrap();
                files.insert(path, (bytes, changed));
            }
        }
    }
    files
}

#[test]
fn nothing_changes_however_the_store_was_left() {
    for (close, distrust, expected) in [
        (true, false, Recovery::Clean),
        (false, false, Recovery::ProcessDied),
        (true, true, Recovery::Rebuilt),
        (false, true, Recovery::Rebuilt),
    ] {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("store");
        let disk = fill(&dir);
        if close {
            disk.close().unwrap();
        }
        drop(disk);
        let before = files(&dir);
        for _ in 0..2 {
            let mut builder = Disk::builder(&dir).read_only();
            if distrust {
                builder = builder.distrust();
            }
            let disk = builder.open().unwrap();
            assert_eq!(disk.stats().recovery, expected);
            look(&disk);
            disk.sync().unwrap();
            let to = place.path().join("backup");
            assert_eq!(disk.backup(&to).unwrap().entries, ENTRIES - 1);
            fs::remove_dir_all(to).unwrap();
            disk.close().unwrap();
            assert!(matches!(disk.get(b"key"), Err(Error::Closed)));
        }
        assert!(files(&dir) == before, "a file changed: closed {close}, distrusted {distrust}");
        // And it can be written to afterwards.
        let disk = Disk::builder(&dir).budget(16 << 20).open().unwrap();
        assert!(disk.put(b"new", b"value", &Put::default()).unwrap().is_admitted());
        look_for_all(&disk);
    }
}

fn look_for_all(disk: &Disk) {
    assert!((1..ENTRIES).all(|number| disk.get(&key(number)).unwrap().is_some()));
}

#[test]
fn every_change_is_refused_by_its_type() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    fill(&dir).close().unwrap();
    let disk = Disk::builder(&dir).read_only().open().unwrap();
    let put = Put::default();
    let key = &key(1);
    let refused = [
        disk.put(b"new", b"value", &put).err(),
        disk.add(b"new", b"value", &put).err(),
        disk.remove(key).err(),
        disk.take(key).err(),
        disk.touch(key, Ttl::Never).err(),
        disk.add_to(key, 1, None, &put).err(),
        disk.write(&WriteBatch::new(), Durability::None).err(),
        disk.invalidate_tag(b"tag").err(),
        disk.clear().err(),
        disk.compact().err(),
        disk.purge().err(),
        disk.trim(Limits::default()).err(),
        disk.maintain().err(),
    ];
    for (number, error) in refused.into_iter().enumerate() {
        assert!(matches!(error, Some(Error::ReadOnly)), "{number}: {error:?}");
    }
    look(&disk);
}

#[test]
fn readers_share_a_store_and_exclude_writers() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    let disk = fill(&dir);
    let locked = |opened: Result<Disk, Error>| matches!(opened, Err(Error::Locked { .. }));
    assert!(locked(Disk::builder(&dir).read_only().open()));
    disk.close().unwrap();
    let one = Disk::builder(&dir).read_only().open().unwrap();
    let other = Disk::builder(&dir).read_only().open().unwrap();
    assert!(locked(Disk::builder(&dir).open()));
    one.close().unwrap();
    assert!(locked(Disk::builder(&dir).open()));
    look(&other);
    drop(other);
    assert!(Disk::builder(&dir).open().is_ok());
}

#[test]
fn nothing_is_made_where_no_store_is() {
    let place = tempfile::tempdir().unwrap();
    assert!(Disk::builder(place.path()).read_only().open().is_err());
    assert!(Disk::builder(place.path().join("store")).read_only().open().is_err());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_user_who_may_not_write_can_read() {
    if let Some(dir) = std::env::var_os(STORE) {
        let dir = PathBuf::from(dir);
        assert!(fs::write(dir.join("probe"), "").is_err(), "this user may write");
        let builder = || Disk::builder(&dir).allow_shared_directory();
        assert!(builder().open().is_err());
        look(&builder().read_only().open().unwrap());
        look(&builder().read_only().distrust().open().unwrap());
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("store");
    fill(&dir).close().unwrap();
    let program = place.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(place.path(), 0o755);
    files(&dir).keys().for_each(|file| mode(file, 0o444));
    let dirs = ["", "seg", "arr", "big", "proc"];
    dirs.iter().for_each(|sub| mode(&dir.join(sub), 0o555));
    // As root a mode forbids nothing: the child is somebody else.
    let is_root = fs::write(dir.join("probe"), "").is_ok();
    let mut child = match is_root {
        true => {
            fs::remove_file(dir.join("probe")).unwrap();
            let mut child = Command::new("setpriv");
            child.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
            child
        }
        false => Command::new(&program),
    };
    child.args(["--exact", "a_user_who_may_not_write_can_read", "--nocapture"]).env(STORE, &dir);
    let ran = child.output();
    dirs.iter().for_each(|sub| mode(&dir.join(sub), 0o755));
    match ran {
        Err(error) if is_root && error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: no setpriv here, and root may write anywhere");
        }
        ran => {
            let ran = ran.unwrap();
            let told = String::from_utf8_lossy(&ran.stderr).into_owned();
            assert!(ran.status.success(), "{told}\n{}", String::from_utf8_lossy(&ran.stdout));
        }
    }
}
