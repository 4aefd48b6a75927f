//! Files on the heap: what the buffered mode keeps of its files (`buffered.rs`), and storage for
//! tests and for Miri, which cannot map files.

#[cfg(test)]
use std::collections::{BTreeMap, HashSet};
use std::io;
#[cfg(test)]
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

#[cfg(test)]
use larder_format::BootIdentity;
#[cfg(test)]
use parking_lot::Mutex;

use super::backing::Backing;
use super::map::Map;
use super::storage::File;
#[cfg(test)]
use super::storage::{Guard, Storage};
#[cfg(test)]
use crate::error::Result;

#[cfg(test)]
/// A directory on the heap. Clones share it, as processes share a directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heap(Arc<Mutex<Contents>>);

#[cfg(test)]
#[derive(Debug, Default)]
struct Contents {
    files: BTreeMap<String, Arc<HeapFile>>,
    locked: HashSet<String>,
    notes: BTreeMap<String, String>,
    /// Which boot the machine is in; tests count it up to feign a restart.
    boot: u8,
}

#[cfg(test)]
impl Heap {
    /// Feigns a restart of the machine that lost nothing.
    pub(crate) fn reboot(&self) {
        self.0.lock().boot += 1;
    }
}

#[cfg(test)]
impl Storage for Heap {
    fn root(&self) -> &Path {
        Path::new("heap:")
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        let mut contents = self.0.lock();
        if contents.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(HeapFile::new(usize::try_from(len).map_err(io::Error::other)?));
        contents.files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn resize(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        let mut contents = self.0.lock();
        let file = contents.files.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        *file = Arc::new(file.resized(usize::try_from(len).map_err(io::Error::other)?)?);
        Ok(Arc::clone(file) as Arc<dyn File>)
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn File>>> {
        let contents = self.0.lock();
        Ok(contents.files.get(name).map(|file| Arc::clone(file) as Arc<dyn File>))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut contents = self.0.lock();
        if contents.files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = contents.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        contents.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.0.lock().files.remove(name);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let contents = self.0.lock();
        let names = contents.files.keys().filter_map(|name| name.strip_prefix(&prefix));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn make_dir(&self, _dir: &str) -> Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, name: &str, note: &str) -> Result<Option<Box<dyn Guard>>> {
        let mut contents = self.0.lock();
        if !contents.locked.insert(name.to_owned()) {
            return Ok(None);
        }
        if !note.is_empty() {
            contents.notes.insert(name.to_owned(), note.to_owned());
        }
        Ok(Some(Box::new(HeapGuard { heap: self.clone(), name: name.to_owned() })))
    }

    fn read_note(&self, name: &str) -> String {
        self.0.lock().notes.get(name).cloned().unwrap_or_default()
    }

    fn identity(&self) -> BootIdentity {
        BootIdentity { boot_id: [self.0.lock().boot; 16], device: 1, inode: 1, mount_id: 1 }
    }
}

#[cfg(test)]
#[derive(Debug)]
struct HeapGuard {
    heap: Heap,
    name: String,
}

#[cfg(test)]
impl Guard for HeapGuard {}

#[cfg(test)]
impl Drop for HeapGuard {
    fn drop(&mut self) {
        self.heap.0.lock().locked.remove(&self.name);
    }
}

/// Zeroed memory that a file and its maps share, as the page cache does. Clones are handles of
/// one file.
#[derive(Debug, Clone)]
pub(super) struct HeapFile(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    base: NonNull<u8>,
    layout: std::alloc::Layout,
    len: usize,
}

// SAFETY: plain memory; who may touch which bytes when is the contract of `Map` and `File`.
unsafe impl Send for Memory {}
// SAFETY: as for Send.
unsafe impl Sync for Memory {}

impl Backing for Arc<Memory> {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `HeapFile::try_new`, freed once.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) };
    }
}

impl HeapFile {
    /// Handles and maps of the file, this one included.
    #[cfg(test)]
    pub(super) fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    #[cfg(test)]
    pub(super) fn new(len: usize) -> Self {
        Self::try_new(len).expect("tests are small")
    }

    /// A file of this length, all zero; fails if there is no memory for it.
    pub(super) fn try_new(len: usize) -> io::Result<Self> {
        let layout = std::alloc::Layout::from_size_align(len.max(1), 4096)
            .map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the layout's size is not zero.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self(Arc::new(Memory { base, layout, len })))
    }

    /// Another file of this length that begins as this one does.
    #[cfg(test)]
    pub(super) fn resized(&self, len: usize) -> io::Result<Self> {
        let mut bytes = vec![0; len.min(self.0.len)];
        self.read_at(&mut bytes, 0)?;
        let resized = Self::new(len);
        resized.write_at(&bytes, 0)?;
        Ok(resized)
    }

    fn check(&self, offset: u64, len: usize) -> io::Result<usize> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        if offset <= self.0.len && len <= self.0.len - offset {
            Ok(offset)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

impl File for HeapFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let source = self.0.base.as_ptr().wrapping_add(self.check(offset, into.len())?);
        // SAFETY: in the allocation (checked), and `into` cannot overlap it. Bytes that are
        // read are not written meanwhile: callers read what is committed or their own.
        unsafe { std::ptr::copy_nonoverlapping(source, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let target = self.0.base.as_ptr().wrapping_add(self.check(offset, bytes.len())?);
        // SAFETY: in the allocation (checked). Callers write only what nobody reads yet.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, len: usize) -> io::Result<Map> {
        self.check(0, len)?;
        // SAFETY: `len` bytes at the base are valid, zeroed at birth, aligned to a page and
        // live as long as the clone of the Arc.
        Ok(unsafe { Map::of_raw(self.0.base, len, Box::new(Arc::clone(&self.0))) })
    }
}
