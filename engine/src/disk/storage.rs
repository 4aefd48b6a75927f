//! The only way to files: a trait, so that tests can supply memory or faults.
//!
//! Names are relative to the store's directory, with `/` between the parts. Every file has
//! its final length, and is allocated in full, before it gets its name and before it is
//! mapped, and never changes length afterwards: a mapping can then be trusted as far as the
//! file system can.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder_format::BootIdentity;

use super::map::Map;
use crate::error::{Error, Result};
use crate::sync::{AtomicUsize, Ordering};

/// A directory that holds one store.
pub(crate) trait Storage: Send + Sync + fmt::Debug {
    /// Where it is, for messages.
    fn root(&self) -> &Path;

    /// Creates a file of `len` bytes, all zero and all allocated. Fails if the name is taken;
    /// leaves nothing behind when it fails.
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>>;

    /// Gives a file that is still being born, and that nobody has mapped, another length, and
    /// returns it anew. What is added is zero and allocated. On failure it is as it was, or
    /// longer.
    fn resize(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>>;

    /// Opens a file; `None` if there is none. Anything but a regular file is refused.
    fn open(&self, name: &str) -> Result<Option<Arc<dyn File>>>;

    /// Renames; fails with `AlreadyExists` if `to` is taken.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Names of the regular files in a directory of the store, in no order.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes a directory of the store unless it is there.
    fn make_dir(&self, dir: &str) -> Result<()>;

    /// Makes creations, renames and removals in `dir` durable. `""` is the root.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Locks a file for this process for as long as the guard lives, creating it if need be;
    /// `None` if another has it. `note` is written into it for people.
    fn lock(&self, name: &str, note: &str) -> Result<Option<Box<dyn Guard>>>;

    /// Locks a file as [`lock`](Self::lock) does, together with others who lock it so; `None` if
    /// somebody has it alone. Fails where processes cannot share a store.
    fn lock_in_common(&self, name: &str) -> Result<Option<Box<dyn Guard>>> {
        let why = "its file system, or how the store was opened, does not allow it; \
                   let one process open it";
        let path = self.path(name);
        Err(Error::Unshareable { path, why })
    }

    /// Whether somebody has locked a file.
    fn is_locked(&self, _name: &str) -> Result<bool> {
        Ok(false)
    }

    /// The first bytes of a small file, as text; empty if there is none.
    fn read_note(&self, name: &str) -> String;

    /// Which boot, mount and directory this is.
    fn identity(&self) -> BootIdentity;

    /// Whether maps are copies of the files, which need not say what the copies do
    /// (`buffered.rs`).
    fn is_buffered(&self) -> bool {
        false
    }

    /// The path of a name, for messages.
    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }
}

/// An open file of fixed length.
pub(crate) trait File: Send + Sync + fmt::Debug {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Fills `into` from `offset` on, or fails.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Returns when everything written, mapped or not, is on stable storage.
    fn sync(&self) -> io::Result<()>;

    /// Whether it still has a name.
    fn is_linked(&self) -> bool {
        true
    }

    /// Whether its map is a copy.
    fn is_buffered(&self) -> bool {
        false
    }

    /// Writes what was written through the map already, where that is a copy. A failure is
    /// told by the next [`sync`](Self::sync).
    fn write_behind(&self, _bytes: &[u8], _offset: u64) {}

    /// Gives back the blocks of a range, which reads as zeros from then on. Nothing may be written
    /// there before the file is [allocated](Self::allocate) again.
    fn punch(&self, _range: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Allocates all blocks that were given back.
    fn allocate(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether blocks of it may be missing.
    fn is_sparse(&self) -> bool {
        false
    }

    /// Maps the first `len` bytes for reading and writing; the file must be that long.
    fn map(&self, len: usize) -> io::Result<Map>;
}

/// Holds a lock until it is dropped.
pub(crate) trait Guard: Send + Sync + fmt::Debug {}

/// Gives birth to a file: temporary name, allocation, first bytes, name. Where it has to be
/// `durable`, the bytes are synced before it gets its name, and the directory afterwards.
pub(crate) fn give_birth(
    storage: &dyn Storage,
    name: &str,
    len: u64,
    durable: bool,
    fill: impl FnOnce(&dyn File) -> io::Result<()>,
) -> Result<Arc<dyn File>> {
    let temporary = temporary_name(name);
    let failed = |error| Error::io("create", &storage.path(name), error);
    let file = create_anew(storage, &temporary, len).map_err(failed)?;
    if let Err(error) = fill(&*file) {
        // Best effort: what stays is swept by the next opening.
        let _ = storage.remove(&temporary);
        return Err(failed(error));
    }
    christen(storage, &*file, &temporary, name, durable).map_err(failed)?;
    Ok(file)
}

/// What a file is called before it gets its name.
pub(crate) fn temporary_name(name: &str) -> String {
    // Relaxed: only distinctness counts, where one process has a store open more than once.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}.{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Creates a file under a temporary name.
pub(crate) fn create_anew(
    storage: &dyn Storage,
    temporary: &str,
    len: u64,
) -> io::Result<Arc<dyn File>> {
    match storage.create(temporary, len) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Left by a process of this id that died; ours is the only one that may exist now.
            storage.remove(temporary).and_then(|()| storage.create(temporary, len))
        }
        created => created,
    }
}

/// Gives a file that is complete its name. Where that fails, it has none.
pub(crate) fn christen(
    storage: &dyn Storage,
    file: &dyn File,
    temporary: &str,
    name: &str,
    durable: bool,
) -> io::Result<()> {
    let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut found_as = temporary;
    let sync = if durable { file.sync() } else { Ok(()) };
    sync.and_then(|()| storage.rename(temporary, name))
        .inspect(|()| found_as = name)
        .and_then(|()| if durable { storage.sync_dir(dir) } else { Ok(()) })
        .inspect_err(|_| {
            // Best effort: what stays is swept, or taken over, by the next opening.
            let _ = storage.remove(found_as);
        })
}
