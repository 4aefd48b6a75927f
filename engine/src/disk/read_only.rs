//! Storage that is only read: a directory of which nothing changes, whatever is written.
//!
//! Files are mapped privately: what is written to a mapping, the heat of a slot say, goes to
//! memory of this process and to nobody else. A file that is created is such memory alone, so
//! that an index can be built anew. What would go through the system (names, syncs, bytes that
//! are written to a file) is left out.
//!
//! # Invariants
//! 1. No call of this module changes the directory or needs leave to.
//! 2. The lock is shared: readers exclude writers, whose locks are exclusive, and the other way
//!    round, so that what is mapped does not change while it is read.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use larder_format::BootIdentity;
use parking_lot::Mutex;

use super::buffered::load;
use super::file::Directory;
use super::map::Map;
use super::storage::{File, Guard, Storage};
use crate::error::Result;

/// A directory, to be read.
#[derive(Debug)]
pub(super) struct ReadOnly {
    pub(super) dir: Directory,
    /// Whether files are copied instead of mapped.
    pub(super) is_buffered: bool,
}

impl Storage for ReadOnly {
    fn root(&self) -> &Path {
        self.dir.root()
    }

    fn create(&self, _name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        Ok(Arc::new(Memory { len, head: Mutex::new(Vec::new()) }))
    }

    fn resize(&self, _name: &str, _len: u64) -> io::Result<Arc<dyn File>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn File>>> {
        let file = self.dir.open_to_read(name)?;
        let is_buffered = self.is_buffered;
        Ok(file.map(|file| Arc::new(Unchanged { file, is_buffered }) as Arc<dyn File>))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        match self.dir.list(dir) {
            // Where the others would make it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names,
        }
    }

    fn make_dir(&self, _dir: &str) -> Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, name: &str, _note: &str) -> Result<Option<Box<dyn Guard>>> {
        self.dir.lock_shared(name)
    }

    fn is_locked(&self, name: &str) -> Result<bool> {
        self.dir.is_locked(name)
    }

    fn read_note(&self, name: &str) -> String {
        self.dir.read_note(name)
    }

    fn identity(&self) -> BootIdentity {
        self.dir.identity()
    }

    fn is_buffered(&self) -> bool {
        self.is_buffered
    }
}

/// A file of the directory.
#[derive(Debug)]
struct Unchanged {
    file: std::fs::File,
    is_buffered: bool,
}

impl File for Unchanged {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, into, offset)
    }

    /// Writes nothing. An opening writes its session this way, which others need not see, and
    /// bytes that are there already.
    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, len: usize) -> io::Result<Map> {
        if self.is_buffered {
            return load(len, |into, at| self.file.read_exact_at(into, at))?.map(len);
        }
        Map::of_private(&self.file, len)
    }
}

/// A file that is nowhere but in memory.
#[derive(Debug)]
struct Memory {
    len: usize,
    /// What was written to it before it was mapped.
    head: Mutex<Vec<u8>>,
}

impl File for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let head = self.head.lock();
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        if at.checked_add(into.len()).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let written = head.get(at..).unwrap_or_default();
        let written = &written[..written.len().min(into.len())];
        into[..written.len()].copy_from_slice(written);
        into[written.len()..].fill(0);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut head = self.head.lock();
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let end = at.checked_add(bytes.len()).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::FileTooLarge)?;
        if head.len() < end {
            head.resize(end, 0);
        }
        head[at..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, len: usize) -> io::Result<Map> {
        Map::of_memory(len, &self.head.lock())
    }
}
