//! An index whose growth was cut off by the death of the process, at its first and last step.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use larder_engine::{Disk, Engine, Put, Recovery};

use crate::sample::place;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(dir: &Path) -> Disk {
    // Four pages of index, so that a growth takes a few writes.
    Disk::builder(dir).budget(64 << 20).segment_len(1 << 20).writers(1).open().expect("a store")
}

/// The generations that have a file.
fn generations(dir: &Path) -> Vec<u64> {
    let names = fs::read_dir(dir).expect("a directory").flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let number = |name: String| u64::from_str_radix(name.strip_prefix("index.")?, 16).ok();
    let mut numbers: Vec<_> = names.filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Puts entries until a growth is under way, and a few more; closes in the midst of it or after.
fn grown(dir: &Path, finish: bool) -> Contents {
    let disk = open(dir);
    let mut contents = Contents::new();
    let mut put = |n: u32| {
        let (key, value) = (n.to_le_bytes().to_vec(), format!("value {n}").into_bytes());
        let _ = disk.put(&key, &value, &Put::default()).expect("room");
        contents.insert(key, value);
    };
    let mut n = 0;
    while generations(dir).len() < 2 {
        put(n);
        n += 1;
        assert!(n < 100_000, "it does not grow");
    }
    while finish && generations(dir).len() == 2 {
        put(n);
        n += 1;
    }
    if !finish {
        put(n);
        assert_eq!(generations(dir).len(), 2, "it was done too soon");
    }
    disk.close().expect("an open store");
    contents
}

/// Everything is there and can be overwritten, in finite time.
fn works(dir: PathBuf, contents: Contents) -> Recovery {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || {
        let disk = open(&dir);
        let missing = contents.iter().filter(|(key, value)| {
            let found = disk.get(key).expect("an open store");
            found.as_deref() != Some(&value[..])
        });
        let missing = missing.count();
        for key in contents.keys() {
            let _ = disk.put(key, b"new", &Put::default()).expect("room");
        }
        done.send((disk.stats().recovery, missing))
    });
    let (recovery, missing) = wait.recv_timeout(Duration::from_secs(20)).expect("it hangs");
    assert_eq!(missing, 0, "{recovery:?}");
    recovery
}

#[test]
fn a_growth_can_go_on_after_closing() {
    for finish in [false, true] {
        let place = place();
        let dir = place.path().join("store");
        let contents = grown(&dir, finish);
        assert_eq!(works(dir, contents), Recovery::Clean);
    }
}

/// However little the committed words say, the index is made for what the segments hold.
#[test]
fn an_index_does_not_grow_while_it_is_built_anew() {
    use std::os::unix::fs::FileExt;

    let place = place();
    let dir = place.path().join("store");
    let contents = grown(&dir, false);
    let last = generations(&dir).pop().expect("an index");
    for entry in fs::read_dir(dir.join("seg")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let file = fs::File::options().write(true).open(path).expect("a segment");
        file.write_all_at(&[0; 8], 256).expect("a committed word");
    }
    let disk = Disk::builder(&dir).budget(64 << 20).writers(1).distrust().open().expect("a store");
    assert_eq!(disk.stats().recovery, Recovery::Rebuilt);
    assert_eq!(generations(&dir), [last + 1]);
    assert!(disk.stats().index_slots >= 2 * contents.len() as u64);
    for (key, value) in &contents {
        let found = disk.get(key).expect("an open store");
        assert_eq!(found.as_deref(), Some(&value[..]));
    }
}
