//! Storage for file systems where mappings cannot be trusted: no file is mapped.
//!
//! What the store takes for a map is a copy of the file in memory. Writes of segments go to the
//! file first, in order, and then to the copy; so what was acknowledged is in the kernel, and
//! survives the death of the process. The words that threads share (those of segments and of
//! `store`, and the index) change in the copy only, and are written to the file when it is
//! synced.
//!
//! # Invariants
//! 1. The file has the bytes of a record, in full, before the copy shows them.
//! 2. Words in the file say what was so at the last sync, and nothing can be concluded from
//!    them, unless the store was closed: a session of this mode says that it is suspect, so that
//!    whoever opens the store after its death, in either mode, looks at all records, and at their
//!    payloads where no sync is known (`open.rs`).
//! 3. A write that fails behind the copy's back makes every later sync of the file fail.
//! 4. The store's lock is held, exclusively: nobody else changes the files.
//!
//! Not here: when this mode is used (`access.rs`).

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use larder_format::BootIdentity;
use larder_format::layout::{PAGE, SHARED_AT, STORE_FILE_LEN};

use super::heap::HeapFile;
use super::map::Map;
use super::storage::{File, Guard, Storage};
use crate::error::Result;
use crate::sync::{AtomicBool, Ordering, Words as _};

/// Bytes that are read or written at a time.
const STEP: usize = 256 << 10;

/// A storage of which no file is mapped.
#[derive(Debug)]
pub(super) struct Buffered<S>(pub(super) S);

impl<S: Storage> Storage for Buffered<S> {
    fn root(&self) -> &Path {
        self.0.root()
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        Ok(Copied::over(name, self.0.create(name, len)?))
    }

    fn resize(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        Ok(Copied::over(name, self.0.resize(name, len)?))
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn File>>> {
        Ok(self.0.open(name)?.map(|file| Copied::over(name, file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn make_dir(&self, dir: &str) -> Result<()> {
        self.0.make_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn lock(&self, name: &str, note: &str) -> Result<Option<Box<dyn Guard>>> {
        self.0.lock(name, note)
    }

    fn read_note(&self, name: &str) -> String {
        self.0.read_note(name)
    }

    fn identity(&self) -> BootIdentity {
        self.0.identity()
    }

    fn is_buffered(&self) -> bool {
        true
    }
}

/// Which words of a file live in its copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shared {
    /// Of a segment those of the first page.
    Segment,
    /// Of the index all.
    Index,
    /// Of the file `store` those of the last page.
    Store,
    /// Of a large value none.
    Nothing,
}

impl Shared {
    fn of(name: &str) -> Self {
        match name {
            _ if name.starts_with("seg/") => Self::Segment,
            _ if name.starts_with("index.") => Self::Index,
            _ if name.starts_with("store") => Self::Store,
            _ => Self::Nothing,
        }
    }
}

/// A file, and its copy once it was asked for as a map.
#[derive(Debug)]
struct Copied {
    file: Arc<dyn File>,
    shared: Shared,
    copy: OnceLock<Copy>,
    /// A write behind the copy's back failed.
    failed: AtomicBool,
}

/// The copy, to write to and to read words of.
#[derive(Debug)]
struct Copy {
    bytes: HeapFile,
    words: Map,
}

impl Copied {
    fn over(name: &str, file: Arc<dyn File>) -> Arc<dyn File> {
        let (copy, failed) = (OnceLock::new(), AtomicBool::new(false));
        Arc::new(Self { file, shared: Shared::of(name), copy, failed })
    }

    /// Writes the words of the copy to the file.
    fn write_words(&self) -> io::Result<()> {
        let Some(Copy { words, .. }) = self.copy.get() else { return Ok(()) };
        let range = match self.shared {
            Shared::Segment => 0..PAGE,
            Shared::Index => 0..words.len(),
            Shared::Store => SHARED_AT..STORE_FILE_LEN,
            Shared::Nothing => return Ok(()),
        };
        let mut bytes = Vec::with_capacity(STEP.min(range.len()));
        for at in range.clone().step_by(STEP) {
            let end = range.end.min(at + STEP);
            bytes.clear();
            // Relaxed: each word by itself; what they say together counts only when nobody
            // changes them any more.
            let words = words.words(at, (end - at) / 8).iter();
            bytes.extend(words.flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()));
            self.file.write_at(&bytes, at as u64)?;
        }
        Ok(())
    }
}

impl File for Copied {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)?;
        match self.copy.get() {
            Some(copy) => copy.bytes.write_at(bytes, offset),
            None => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        // Relaxed: whoever wrote before, in whatever thread, is waited for by other means.
        if self.failed.load(Ordering::Relaxed) {
            return Err(io::Error::other("an earlier write to the file failed"));
        }
        self.write_words()?;
        self.file.sync()
    }

    fn is_buffered(&self) -> bool {
        true
    }

    fn write_behind(&self, bytes: &[u8], offset: u64) {
        if self.file.write_at(bytes, offset).is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
    }

    fn map(&self, len: usize) -> io::Result<Map> {
        let bytes = load(len, |into, at| self.file.read_at(into, at))?;
        let (map, words) = (bytes.map(len)?, bytes.map(len)?);
        let is_first = self.copy.set(Copy { bytes, words }).is_ok();
        if is_first { Ok(map) } else { Err(io::Error::other("a file is copied once")) }
    }
}

/// A copy of the first `len` bytes of what `read` reads.
pub(super) fn load(
    len: usize,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<HeapFile> {
    let copy = HeapFile::try_new(len)?;
    let mut bytes = vec![0; STEP.min(len)];
    for at in (0..len).step_by(STEP) {
        let step = STEP.min(len - at);
        read(&mut bytes[..step], at as u64)?;
        copy.write_at(&bytes[..step], at as u64)?;
    }
    Ok(copy)
}
