//! A small store with known contents, copies of it, and a look at what is left of one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use larder_engine::conformance::expand;
use larder_engine::{AnyArray, ArrayError, ArrayRef, Check, Disk, Engine, Error, Put, Recovery};
use tempfile::TempDir;

/// Nothing may take longer than this, whatever the files hold.
const PATIENCE: Duration = Duration::from_secs(5);
/// The value that each key had before.
const REPLACED: &[u8] = b"replaced";
const ENTRIES: u64 = 150;
/// Values from this size on get a file of their own: an eighth of a segment.
pub(crate) const EXTERNAL_LEN: usize = 9_000;

/// How an array of the sample is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Whole,
    Reserved,
    Appended,
    #[cfg(feature = "zstd")]
    Compressed,
}

/// The arrays of the sample: keys, ways, and numbers of rows. Those of 512 rows or more have files of
/// their own: a quarter of a segment.
const ARRAYS: &[(&str, Way, usize)] = &[
    ("array in the log", Way::Whole, 40),
    ("array in a file", Way::Whole, 700),
    ("array computed in the log", Way::Reserved, 30),
    ("array computed in a file", Way::Reserved, 600),
    ("array appended in the log", Way::Appended, 50),
    ("array appended in a file", Way::Appended, 650),
    #[cfg(feature = "zstd")]
    ("array compressed", Way::Compressed, 300),
];
/// Elements of a row.
const COLUMNS: usize = 8;

/// The elements of an array of the sample: not zeros, and with some order.
fn elements(rows: usize) -> Vec<u32> {
    (0..COLUMNS * rows)
        .map(|place| u32::try_from((place * 7 + rows) % 251 + 1).unwrap_or(1))
        .collect()
}

/// What `get` gives for an array of the sample.
fn array_bytes(rows: usize) -> Vec<u8> {
    let elements = elements(rows);
    let array = ArrayRef::new(&elements, &[rows, COLUMNS]).expect("a shape");
    let array = AnyArray::copied(&array).expect("memory");
    let mut bytes = Vec::new();
    if rows < 512 {
        array.encode(&mut bytes).expect("in memory");
    } else {
        array.write_npy(&mut bytes).expect("in memory");
    }
    bytes
}

fn put_array(disk: &Disk, key: &[u8], way: Way, rows: usize) {
    let (elements, options) = (elements(rows), Put::default());
    let shape = [rows, COLUMNS];
    let array = ArrayRef::new(&elements, &shape).expect("a shape");
    let outcome = match way {
        Way::Whole => disk.put_array(key, &array, &options),
        #[cfg(feature = "zstd")]
        Way::Compressed => disk.put_array(key, &array.compressed(), &options),
        Way::Reserved => {
            let mut place = disk.reserve_array::<u32>(key, &shape, &options).expect("room");
            place.as_mut_slice().copy_from_slice(&elements);
            place.commit()
        }
        Way::Appended => {
            let mut rows = disk.append_array::<u32>(key, &[COLUMNS], &options).expect("room");
            elements.chunks(100 * COLUMNS).for_each(|some| rows.push(some).expect("room"));
            rows.commit()
        }
    };
    assert!(outcome.expect("room").is_admitted());
}

/// Whether the arrays of a store are right, or say what is wrong.
fn look_at_arrays(disk: &Disk, what: &str) {
    for (key, _, rows) in ARRAYS {
        for check in [Check::FirstTouch, Check::Always, Check::Never] {
            let view = match disk.get_array_with::<u32>(key.as_bytes(), check) {
                Ok(Some(view)) => view,
                // What it had before is no array.
                Ok(None) | Err(Error::Array(ArrayError::NotAnArray)) => continue,
                Err(error) => {
                    assert_told(&error, what);
                    continue;
                }
            };
            assert_eq!(view.shape(), [*rows, COLUMNS], "{what}: {key}");
            let expected = elements(*rows);
            for from in (0..*rows).step_by(300) {
                let part = from..(from + 300).min(*rows);
                if let Ok(found) = view.rows(part.clone()).expect("there are such rows").as_slice()
                    && check != Check::Never
                {
                    let expected = &expected[part.start * COLUMNS..part.end * COLUMNS];
                    assert!(found == expected, "{what}: {key}: wrong elements in {part:?}");
                }
            }
        }
    }
}

/// Opens the store in a directory as all tests here do.
pub(crate) fn open(dir: &Path) -> Result<Disk, Error> {
    Disk::builder(dir).budget(8 << 20).segment_len(64 << 10).writers(1).open()
}

/// A new place for stores: in memory where that can be had, as these tests open thousands.
pub(crate) fn place() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// The contents of the sample.
pub(crate) fn contents() -> &'static BTreeMap<Vec<u8>, Vec<u8>> {
    static CONTENTS: OnceLock<BTreeMap<Vec<u8>, Vec<u8>>> = OnceLock::new();
    let len = |n: u64| match n % 50 {
        0 => EXTERNAL_LEN,
        1 => 0,
        rest => usize::try_from(rest * 20).unwrap_or(0),
    };
    let entry = |n: u64| (format!("key {n}").into_bytes(), expand(n, len(n)));
    let array = |(key, _, rows): &(&str, _, usize)| (key.as_bytes().to_vec(), array_bytes(*rows));
    CONTENTS.get_or_init(|| (0..ENTRIES).map(entry).chain(ARRAYS.iter().map(array)).collect())
}

/// A store that was filled and closed; made once, and only copied after that.
#[derive(Debug)]
pub(crate) struct Sample {
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Sample {
    /// The store that most tests damage.
    pub(crate) fn get() -> &'static Self {
        static SAMPLE: OnceLock<Sample> = OnceLock::new();
        SAMPLE.get_or_init(|| Self::make(true))
    }

    /// A store with the same contents and another identity.
    pub(crate) fn other() -> &'static Self {
        static OTHER: OnceLock<Sample> = OnceLock::new();
        OTHER.get_or_init(|| Self::make(true))
    }

    /// A store with the same contents that was not closed.
    pub(crate) fn unclosed() -> &'static Self {
        static UNCLOSED: OnceLock<Sample> = OnceLock::new();
        UNCLOSED.get_or_init(|| Self::make(false))
    }

    fn make(close: bool) -> Self {
        let place = place();
        let dir = place.path().join("store");
        let disk = open(&dir).expect("a new store");
        for (key, value) in contents() {
            let _ = disk.put(key, REPLACED, &Put::default()).expect("room");
            match ARRAYS.iter().find(|(array, _, _)| array.as_bytes() == key) {
                Some((_, way, rows)) => put_array(&disk, key, *way, *rows),
                None => {
                    let outcome = disk.put(key, value, &Put::default()).expect("room");
                    assert!(outcome.is_admitted());
                }
            }
        }
        let _ = disk.put(b"removed", b"value", &Put::default()).expect("room");
        disk.remove(b"removed").expect("an open store");
        if close {
            disk.close().expect("an open store");
        }
        drop(disk);
        let mut files = Vec::new();
        collect(&dir, Path::new(""), &mut files);
        files.sort();
        Self { files }
    }

    /// Every file, with its path in the store.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.files.iter().map(|(path, bytes)| (path.as_path(), bytes.as_slice()))
    }

    /// Files that matter to the contents: all but the lock files.
    pub(crate) fn data_files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.files().filter(|(path, _)| !path.starts_with("proc"))
    }

    /// A copy in `dir`.
    pub(crate) fn copy_to(&self, dir: &Path) {
        for sub in ["", "seg", "arr", "big", "proc"] {
            let path = dir.join(sub);
            fs::DirBuilder::new().mode(0o700).recursive(true).create(path).expect("a directory");
        }
        for (path, bytes) in self.files() {
            fs::write(dir.join(path), bytes).expect("a file");
        }
    }
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(root.join(dir)).expect("a directory") {
        let entry = entry.expect("an entry");
        let path = dir.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            collect(root, &path, files);
        } else {
            files.push((path.clone(), fs::read(root.join(path)).expect("a file")));
        }
    }
}

/// What was left of a store.
#[derive(Debug)]
pub(crate) enum Left {
    /// It does not open.
    Refused(Error),
    /// It opens; so many of its entries are missing.
    Opened {
        missing: usize,
        /// How many have the value from before.
        old: usize,
        recovery: Recovery,
        /// Whether `verify` or the statistics say that something is wrong.
        told: bool,
    },
}

impl Left {
    /// How many entries have an old value.
    pub(crate) fn old(&self) -> usize {
        match self {
            Self::Refused(_) => 0,
            Self::Opened { old, .. } => *old,
        }
    }

    /// Whether somebody notices that something is wrong.
    pub(crate) fn told(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Opened { told, .. } => *told,
        }
    }

    /// How many entries cannot be had.
    pub(crate) fn missing(&self) -> usize {
        match self {
            Self::Refused(_) => contents().len(),
            Self::Opened { missing, .. } => *missing,
        }
    }
}

/// Opens a damaged store, reads everything in every way, writes to it, and opens it again.
///
/// Panics if anything is wrong, foreign, removed or slow, or if what was written is not there.
pub(crate) fn look(dir: &Path, what: &str) -> Left {
    let (done, wait) = mpsc::channel();
    let (dir, name) = (dir.to_owned(), what.to_owned());
    let looking = thread::spawn(move || done.send(look_at(&dir, &name)));
    match wait.recv_timeout(PATIENCE * 4) {
        Ok(left) => left,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match looking.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(_) => panic!("{what}: nothing came back"),
        },
    }
}

fn look_at(dir: &Path, what: &str) -> Left {
    let begin = Instant::now();
    let disk = match open(dir) {
        Ok(disk) => disk,
        Err(error) => {
            assert_told(&error, what);
            return Left::Refused(error);
        }
    };
    let expected = contents();
    let (mut missing, mut old) = (0, 0);
    for (key, value) in expected {
        match disk.get(key) {
            Ok(Some(found)) if *found == *REPLACED => old += 1,
            Ok(Some(found)) => assert_eq!(*found, **value, "{what}: a wrong value"),
            Ok(None) => missing += 1,
            Err(error) => {
                assert_told(&error, what);
                missing += 1;
            }
        }
    }
    look_at_arrays(&disk, what);
    assert!(!matches!(disk.get(b"removed"), Ok(Some(_))), "{what}: what was removed is back");
    for entry in disk.iter() {
        match entry {
            Ok((key, value)) => {
                let due = expected.get(&key).is_some_and(|due| [due, REPLACED].contains(&&*value));
                assert!(due, "{what}: {key:?} is listed with {value:?}");
            }
            Err(error) => assert_told(&error, what),
        }
    }
    let clean = match disk.verify() {
        Ok(report) => report.is_clean(),
        Err(error) => {
            assert_told(&error, what);
            false
        }
    };
    let (stats, recovery) = (disk.stats(), disk.stats().recovery);
    let told = !clean || stats.corrupt > 0 || recovery == Recovery::Rebuilt;
    write_and_reopen(disk, dir, what);
    let took = begin.elapsed();
    assert!(took < PATIENCE, "{what}: took {took:?}");
    Left::Opened { missing, old, recovery, told }
}

/// A store that has opened can be used.
fn write_and_reopen(disk: Disk, dir: &Path, what: &str) {
    let value = expand(1_000, 1_000);
    for n in 0..10_u8 {
        match disk.put(&[n], &value, &Put::default()) {
            Ok(outcome) => assert!(outcome.is_admitted(), "{what}: {outcome:?}"),
            Err(error) => panic!("{what}: a put fails: {error}: {error:?}"),
        }
    }
    disk.close().unwrap_or_else(|error| panic!("{what}: closing: {error}"));
    drop(disk);
    let disk = open(dir).unwrap_or_else(|error| panic!("{what}: reopening: {error}: {error:?}"));
    for n in 0..10_u8 {
        let found = disk.get(&[n]).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(found.is_some_and(|found| *found == *value), "{what}: what was put is not there");
    }
    for (key, value) in contents() {
        let found = disk.get(key).ok().flatten();
        let due = found.is_none_or(|found| *found == **value || *found == *REPLACED);
        assert!(due, "{what}: a wrong value, reopened");
    }
}

/// An error says what, where, and what to do; or names at least the file.
fn assert_told(error: &Error, what: &str) {
    let text = error.to_string();
    let named = text.contains('/') || matches!(error, Error::Closed | Error::KeyTooLong { .. });
    assert!(named && text.len() > 10, "{what}: an error that does not say where: {text}");
}
