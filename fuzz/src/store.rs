//! The store under any sequence of operations, and with damaged files: nothing panics, and no
//! value is wrong.
//!
//! A byte string is a program: operations on a store in a temporary directory, compared with a
//! plain map. Some damage the files while the store is closed. From then on a value may be gone, or
//! an older one of its key be back, but what is found is whole, and was put under that key.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use larder_engine::{
    Atomic, BatchOutcome, Disk, Durability, Engine, Expected, Maintenance, Outcome, Put, Ttl,
    WriteBatch,
};

/// Most operations of a program, and most bytes that it puts: nothing is evicted.
const STEPS_MAX: usize = 200;
const BYTES_MAX: usize = 1 << 20;
const KEYS: u8 = 8;
const TAGS: [&[u8]; 2] = [b"one", b"two"];

/// The bytes of a value: its key, its version, and what follows from them.
fn value(key: u8, version: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![key];
    bytes.extend_from_slice(&version.to_le_bytes());
    let mut word = u64::from(version) << 8 | u64::from(key) | 1 << 50;
    while bytes.len() < len {
        word = word.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        bytes.push((word >> 32) as u8);
    }
    bytes
}

fn name(key: u8) -> Vec<u8> {
    vec![b'k'; usize::from(key) * 9 + 1]
}

struct Program<'a> {
    bytes: std::slice::Iter<'a, u8>,
    dir: PathBuf,
    disk: Option<Disk>,
    /// What each key has: its version, and its tag.
    map: BTreeMap<u8, (u32, u8)>,
    /// Lengths of all values that were put, by version.
    lens: Vec<usize>,
    put: usize,
    is_damaged: bool,
}

impl Program<'_> {
    fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    fn key(&mut self) -> u8 {
        self.byte() % KEYS
    }

    fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("open")
    }

    /// Opens the store; false if its files are too damaged for that.
    fn open(&mut self, distrust: bool) -> bool {
        let builder = Disk::builder(&self.dir).budget(8 << 20).segment_len(64 << 10).writers(1);
        let builder = builder.maintenance(Maintenance::Manual);
        let opened = if distrust { builder.distrust() } else { builder }.open();
        assert!(opened.is_ok() || self.is_damaged, "{opened:?}");
        self.disk = opened.ok();
        self.disk.is_some()
    }

    /// The next value of a key.
    fn fresh(&mut self, key: u8) -> (u32, Vec<u8>) {
        let len = usize::from(self.byte());
        // Up to 16 KiB: from 8 KiB on a value has a file of its own.
        let len = (len * len / 4).min(BYTES_MAX - self.put.min(BYTES_MAX)) + 5;
        self.put += len;
        self.lens.push(len);
        let version = self.lens.len() as u32;
        (version, value(key, version, len))
    }

    /// What may only fail in a store that is damaged.
    fn sound<T>(&self, done: larder_engine::Result<T>) -> Option<T> {
        assert!(done.is_ok() || self.is_damaged, "{:?}", done.err());
        done.ok()
    }

    /// Compares something with what the map says, unless the store is damaged.
    fn same<T: PartialEq + std::fmt::Debug>(&self, found: Option<T>, expected: T) {
        if !self.is_damaged {
            assert_eq!(found, Some(expected));
        }
    }

    fn put(&mut self, expected: Option<Expected>) {
        let key = self.key();
        let (version, bytes) = self.fresh(key);
        let tag = self.byte() % 3;
        let tags = &TAGS[usize::from(tag.saturating_sub(1))..usize::from(tag)];
        let put = Put { tags, ..Put::default() };
        let done = match expected {
            None => self.disk().put(&name(key), &bytes, &put),
            Some(expected) => self.disk().put_if(&name(key), &bytes, &put, expected),
        };
        match self.sound(done) {
            Some(Outcome::Admitted { .. }) => {
                assert!(self.is_damaged || expected.is_none() || !self.map.contains_key(&key));
                self.map.insert(key, (version, tag));
            }
            Some(Outcome::Conflict { .. }) => {
                assert!(self.is_damaged || self.map.contains_key(&key));
            }
            refused => assert!(self.is_damaged, "{refused:?}"),
        }
    }

    fn batch(&mut self) {
        let (first, second, gone) = (self.key(), self.key(), self.key());
        let (old, bytes) = self.fresh(first);
        let (new, other) = self.fresh(second);
        let mut batch = WriteBatch::new();
        batch.put(&name(first), &bytes, &Put::default());
        batch.put(&name(second), &other, &Put::default()).remove(&name(gone));
        match self.sound(self.disk().write(&batch, Durability::None)) {
            Some(BatchOutcome::Committed { .. }) => {
                self.map.insert(first, (old, 0));
                self.map.insert(second, (new, 0));
                self.map.remove(&gone);
            }
            refused => assert!(self.is_damaged, "{refused:?}"),
        }
    }

    /// Runs one operation; false at the end of the program.
    fn step(&mut self) -> bool {
        let Some(op) = self.bytes.next() else { return false };
        match op % 16 {
            0..4 => self.put(None),
            4 => self.put(Some(Expected::Absent)),
            5 | 6 => self.batch(),
            7 => {
                let key = self.key();
                let removed = self.sound(self.disk().remove(&name(key)));
                self.same(removed, self.map.contains_key(&key));
                self.map.remove(&key);
            }
            8 => {
                let key = self.key();
                if let Some(Some(taken)) = self.sound(self.disk().take(&name(key))) {
                    self.check(key, Some(&taken));
                } else {
                    self.check(key, None);
                }
                self.map.remove(&key);
            }
            9 => {
                let tag = self.byte() % 2;
                self.sound(self.disk().invalidate_tag(TAGS[usize::from(tag)]));
                self.map.retain(|_, (_, of)| *of != tag + 1);
            }
            10 => {
                let (key, hours) = (self.key(), u64::from(self.byte()) + 1);
                let ttl = Ttl::After(std::time::Duration::from_secs(hours * 3_600));
                let touched = self.sound(self.disk().touch(&name(key), ttl));
                self.same(touched, self.map.contains_key(&key));
            }
            11 => drop(self.sound(self.disk().sync())),
            12 | 13 => {
                if op % 16 == 12 {
                    self.sound(self.disk().close());
                }
                self.disk = None;
                let distrust = self.byte() % 2 == 1;
                return self.open(distrust);
            }
            14 => {
                let (close, distrust) = (self.byte() % 2 == 1, self.byte() % 2 == 1);
                if close {
                    self.sound(self.disk().close());
                }
                self.disk = None;
                self.is_damaged = true;
                for _ in 0..1 + self.byte() % 4 {
                    self.damage();
                }
                return self.open(distrust);
            }
            _ => self.check_all(),
        }
        true
    }

    /// Changes a file of the store.
    fn damage(&mut self) {
        let mut files = Vec::new();
        list(&self.dir, &mut files);
        let path = files[usize::from(self.byte()) % files.len()].clone();
        let other = files[usize::from(self.byte()) % files.len()].clone();
        let (kind, byte) = (self.byte(), self.byte());
        let at = u64::from_le_bytes([self.byte(), self.byte(), self.byte(), 0, 0, 0, 0, 0]);
        let len = fs::metadata(&path).map_or(0, |file| file.len());
        let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { return };
        let at = at % len.max(1);
        let written = match kind % 8 {
            0..4 => file.write_all_at(&[byte], at),
            4 => file
                .write_all_at(&vec![0; usize::from(byte) * 8], at.min(len.saturating_sub(2_040))),
            5 => file.set_len(at),
            6 => fs::remove_file(&path),
            _ => copy_within(&file, &other, at),
        };
        assert!(written.is_ok(), "{written:?}");
    }

    /// Compares what was found under a key with what may be there.
    fn check(&self, key: u8, found: Option<&[u8]>) {
        let expected = self.map.get(&key).map(|(version, _)| *version);
        let Some(found) = found else {
            assert!(self.is_damaged || expected.is_none(), "key {key} is lost");
            return;
        };
        let version = found.get(1..5).and_then(|bytes| bytes.try_into().ok());
        let version = u32::from_le_bytes(version.expect("a value is torn"));
        let len = (version as usize).checked_sub(1).and_then(|at| self.lens.get(at));
        let len = *len.expect("a value that was never put");
        assert!(found == value(key, version, len), "a value of key {key} is wrong");
        assert!(self.is_damaged || expected == Some(version), "key {key} has another value");
    }

    fn check_all(&self) {
        for key in 0..KEYS {
            if let Some(found) = self.sound(self.disk().get(&name(key))) {
                self.check(key, found.as_deref());
            }
        }
        let mut walked = 0;
        for (key, found) in self.disk().iter().filter_map(|entry| self.sound(entry)) {
            let key = (0..KEYS).find(|number| name(*number) == key).expect("a key that was put");
            self.check(key, Some(&found));
            walked += 1;
        }
        self.same(Some(walked), self.map.len());
        if let Some(report) = self.sound(self.disk().verify()) {
            assert!(self.is_damaged || report.is_clean(), "{report:?}");
        }
    }
}

/// All files under a directory, in an order that is always the same.
fn list(dir: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}

/// Puts the beginning of a file somewhere into another one.
fn copy_within(file: &File, from: &Path, at: u64) -> std::io::Result<()> {
    let bytes = fs::read(from)?;
    file.write_all_at(&bytes[..bytes.len().min(8 << 10)], at)
}

/// Runs a program.
pub fn store(data: &[u8]) {
    let place = tempfile::tempdir().expect("a directory");
    let mut program = Program {
        bytes: data.iter(),
        dir: place.path().join("store"),
        disk: None,
        map: BTreeMap::new(),
        lens: Vec::new(),
        put: 0,
        is_damaged: false,
    };
    program.open(false);
    for _ in 0..STEPS_MAX {
        if !program.step() {
            break;
        }
    }
    if program.disk.is_some() {
        program.check_all();
    }
}
