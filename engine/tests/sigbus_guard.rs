//! Promise of the feature `sigbus-guard`: a file that another process cuts short while it is mapped
//! ends no process; what is read of it from then on is a miss or an error that says so, and no
//! value that is copied out is wrong.
#![cfg(all(feature = "sigbus-guard", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use larder_engine::{
    Access, ArrayError, ArrayRef, Check, Disk, DiskBuilder, Durability, Engine, Maintenance, Put,
};

const SEGMENT: u64 = 64 << 10;

fn builder(dir: &Path) -> DiskBuilder {
    Disk::builder(dir).budget(8 << 20).segment_len(64 << 10).access(Access::Mapped)
}

/// Another process cuts a file short.
fn cut(path: &Path, len: u64) {
    let cut = Command::new("truncate").arg("-s").arg(len.to_string()).arg(path).status().unwrap();
    assert!(cut.success());
}

/// The files in a directory of the store, the youngest last.
fn files(store: &Path, dir: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(store.join(dir)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn value(number: u64, len: usize) -> Vec<u8> {
    let mut state = number | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        state.to_le_bytes()[7]
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn a_view_of_a_file_that_is_cut_short_is_an_error_from_then_on() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    let disk = builder(&store).open().unwrap();
    let elements: Vec<u64> = (1..100_001).collect();
    let array = ArrayRef::new(&elements, &[1000, 100]).unwrap();
    assert!(disk.put_array(b"array", &array, &Put::default()).unwrap().is_admitted());
    let file = disk.array_file(b"array").unwrap().unwrap();
    let view = disk.get_array::<u64>(b"array").unwrap().unwrap();
    let unchecked = disk.get_array_with::<u64>(b"array", Check::Never).unwrap().unwrap();
    let always = disk.get_array_with::<u64>(b"array", Check::Always).unwrap().unwrap();
    let slice = view.as_slice().unwrap();
    assert_eq!(slice, elements);

    // The first 4 KiB are the NumPy header, the next 400 KiB stay.
    cut(&file, 404 << 10);
    let stays = (400 << 10) / 8;
    assert_eq!(slice[..stays], elements[..stays]);
    // What was handed out before: zeros, page by page.
    assert!(slice[stays..].iter().all(|element| *element == 0));
    // What is asked for from then on.
    for view in [&view, &unchecked, &always, &view.clone()] {
        let Err(ArrayError::Damaged { chunk, chunks, place }) = view.as_slice() else {
            panic!("{:?}", view.as_slice().map(<[u64]>::len));
        };
        assert_eq!((chunk, chunks), (6, 13));
        assert!(place.contains("arr/"), "{place}");
        assert_eq!(view.rows(0..100).unwrap().as_slice().unwrap(), &elements[..10_000]);
        assert!(view.rows(900..901).unwrap().as_slice().is_err());
        assert_eq!(view.get(&[0, 7]).unwrap(), Some(8));
        assert!(view.get(&[999, 7]).is_err() && view.to_owned().is_err());
    }
    assert!(disk.export_npy(b"array", home.path().join("out.npy")).is_err());
    assert!(!home.path().join("out.npy").exists());
    assert!(!disk.verify().unwrap().is_clean());
    // As a value it is a miss, and it can be stored anew.
    assert!(disk.get(b"array").unwrap().is_none());
    assert!(disk.put_array(b"array", &array, &Put::default()).unwrap().is_admitted());
    assert_eq!(disk.get_array::<u64>(b"array").unwrap().unwrap().as_slice().unwrap(), elements);
}

#[test]
fn an_array_whose_file_is_cut_while_it_is_computed_is_not_stored() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    let disk = builder(&store).open().unwrap();
    let mut array = disk.reserve_array::<u64>(b"array", &[100_000], &Put::default()).unwrap();
    assert!(array.is_in_place());
    array.as_mut_slice().fill(1);
    cut(&files(&store, "arr")[0], 0);
    array.as_mut_slice().fill(2);
    let refused = array.commit();
    assert!(refused.is_err(), "{refused:?}");
    assert!(disk.get_array::<u64>(b"array").unwrap().is_none());
    assert!(files(&store, "arr").is_empty());
}

/// What came of many gets of values that are checked.
fn read_all(disk: &Disk, keys: u64, lens: &[usize]) -> (u64, u64) {
    let (mut found, mut missed) = (0, 0);
    for number in 0..keys {
        let expected = value(number, lens[usize::try_from(number).unwrap() % lens.len()]);
        let got = disk.get(&number.to_le_bytes()).unwrap();
        let shown = disk.get_with(&number.to_le_bytes(), |bytes, _| bytes == expected).unwrap();
        assert!(shown.is_none_or(|is_right| is_right), "{number} was shown wrong");
        match got {
            Some(got) => {
                assert_eq!(*got, *expected, "{number}");
                found += 1;
            }
            None => missed += 1,
        }
    }
    (found, missed)
}

#[test]
fn a_segment_that_is_cut_short_gives_misses_and_the_store_goes_on() {
    for len in [0, 4096, SEGMENT / 2, SEGMENT - 4096, 5000, SEGMENT / 2 + 77] {
        let home = tempfile::tempdir().unwrap();
        let store = home.path().join("store");
        let disk = builder(&store).maintenance(Maintenance::Manual).open().unwrap();
        let lens = [100, 900, 3000];
        let put = |number: u64| {
            let value = value(number, lens[usize::try_from(number).unwrap() % lens.len()]);
            let outcome = disk.put(&number.to_le_bytes(), &value, &Put::default()).unwrap();
            assert!(outcome.is_admitted());
        };
        (0..200).for_each(put);
        assert_eq!(read_all(&disk, 200, &lens), (200, 0));
        for segment in files(&store, "seg") {
            cut(&segment, len);
        }
        let (found, missed) = read_all(&disk, 200, &lens);
        assert!(missed > 0, "{len}: {found} found");
        // Nothing is said to be durable that is gone.
        assert!(disk.sync().is_err(), "{len}");
        (0..200).for_each(put);
        let (found, _) = read_all(&disk, 200, &lens);
        assert_eq!(found, 200, "{len}: what was put anew is there");
        let _ = disk.compact();
        let _ = disk.close();
        drop(disk);
        let disk = builder(&store).open().unwrap();
        assert!(read_all(&disk, 200, &lens).0 > 0, "{len}");
    }
}

#[test]
fn an_index_that_is_cut_short_lets_nothing_dead_come_back() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    let disk = builder(&store).maintenance(Maintenance::Manual).open().unwrap();
    for number in 0..200_u64 {
        let put = disk.put(&number.to_le_bytes(), &value(number, 100), &Put::default()).unwrap();
        assert!(put.is_admitted());
    }
    let index = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path());
    let index = index.filter(|path| path.to_str().unwrap().contains("index."));
    index.for_each(|path| cut(&path, 0));
    let (_, missed) = read_all(&disk, 200, &[100]);
    assert_eq!(missed, 200);
    for number in 0..100_u64 {
        disk.remove(&number.to_le_bytes()).unwrap();
    }
    let _ = disk.close();
    drop(disk);
    let disk = builder(&store).open().unwrap();
    for number in 0..200_u64 {
        let found = disk.get(&number.to_le_bytes()).unwrap();
        assert_eq!(found.is_some(), number >= 100, "{number}");
    }
}

#[test]
fn shared_words_that_are_gone_are_an_error_that_says_so() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    let disk = builder(&store).open().unwrap();
    assert!(disk.put(b"key", b"value", &Put::default()).unwrap().is_admitted());
    cut(&store.join("store"), 0);
    // The first call meets it, and the rest are told.
    let _ = disk.put(b"key", b"other", &Put::default());
    let durable = Put { durability: Durability::Sync, ..Put::default() };
    let refused = disk.put(b"key", b"third", &durable).unwrap_err().to_string();
    assert!(refused.contains("store"), "{refused}");
    assert!(disk.get(b"key").is_err() && disk.sync().is_err());
    let _ = disk.close();
}

#[test]
fn threads_that_read_while_files_are_cut_read_nothing_wrong() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    let disk = builder(&store).open().unwrap();
    let (over, seen, missed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for reader in 0..4_u64 {
            let (disk, over, seen, missed) = (&disk, &over, &seen, &missed);
            scope.spawn(move || {
                let mut number = reader;
                while !over.load(Ordering::Relaxed) {
                    number = (number * 5 + 1) % 300;
                    match disk.get(&number.to_le_bytes()).unwrap() {
                        // Longer ones are views of the file, which may be cut by now.
                        Some(got) if got.len() <= 1000 => {
                            assert_eq!(*got, *value(number, got.len()), "{number}");
                            seen.fetch_add(1, Ordering::Relaxed);
                        }
                        Some(_) => {}
                        None => drop(missed.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            });
        }
        for round in 0..30_u64 {
            for number in 0..300_u64 {
                let len = [50, 1000, 2000][usize::try_from(number % 3).unwrap()];
                let bytes = value(number, len);
                let _ = disk.put(&number.to_le_bytes(), &bytes, &Put::default()).unwrap();
            }
            let segments = files(&store, "seg");
            let which = usize::try_from(round).unwrap() % segments.len();
            let len = [0, 4096, 9000, SEGMENT / 2][usize::try_from(round % 4).unwrap()];
            cut(&segments[which], len);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(seen.into_inner() > 0);
}

/// A signal that is not ours does what it did before.
#[test]
fn other_signals_end_the_process_as_they_did() {
    const CHILD: &str = "LARDER_SIGBUS_CHILD";
    if let Ok(dir) = std::env::var(CHILD) {
        let disk = builder(Path::new(&dir)).open().unwrap();
        assert!(disk.put(b"key", b"value", &Put::default()).unwrap().is_admitted());
        // The standard library's handler takes the first one for a fault that comes again.
        let send = || Command::new("kill").arg("-BUS").arg(std::process::id().to_string()).status();
        panic!("{:?} and alive", [send(), send()]);
    }
    use std::os::unix::process::ExitStatusExt as _;
    let home = tempfile::tempdir().unwrap();
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "other_signals_end_the_process_as_they_did"])
        .env(CHILD, home.path().join("store"))
        .output()
        .unwrap();
    const SIGBUS: i32 = 7;
    assert_eq!(ended.status.signal(), Some(SIGBUS), "{ended:?}");
}
