//! Storage that knows what a loss of power would leave: for tests.
//!
//! ```text
//!   store ── write_at, map ──▶ page cache (heap.rs)   names as the process sees them
//!                                   │ sync, write-back      │ sync_dir, journal
//!                                   ▼                       ▼
//!                                 disk                 names on the disk
//! ```
//!
//! The process sees the page cache: plain memory behind the files and their maps. A *cut* makes
//! another storage that holds what the disk might hold at that moment (`cut.rs`); the first
//! one runs on, so that one run yields many cuts. Cuts fall before a call that changes
//! something, which are numbered, or wherever a harness asks for one.
//!
//! # Invariants
//! 1. A sync makes the sectors of a file durable as they are at that time, and its length; a
//!    sync of a directory its names. Until then each sector is old or new, each file whole or
//!    empty, and each name as it was at any time since the last sync.
//! 2. Between syncs the system may write back what it likes (also stores through maps).
//! 3. After a failed sync the sectors that it was to write are clean: no later sync writes
//!    them, unless they have changed since (Rebello et al., ATC 2020). Names are not lost like
//!    that: they go through a journal, without which a file system does not go on.
//! 4. One thread at a time runs a store over it; contents are looked at without a lock.
//!
//! Not here: what goes wrong on purpose (`fault.rs`); the harnesses (`random_cuts.rs`,
//! `short_sequences.rs`, `nested_cuts.rs`, `failing_calls.rs`, `full_disk.rs`), and what they
//! found (`found.rs`).

mod cut;
mod damage;
mod damaged_tags;
mod failing_calls;
mod fault;
mod found;
mod full_disk;
mod inode;
mod ledger;
mod machine;
mod nested_cuts;
mod random;
mod random_cuts;
mod short_sequences;
mod world;

use std::io;
use std::path::Path;
use std::sync::Arc;

use larder_format::BootIdentity;
use parking_lot::Mutex;

use super::heap::HeapFile;
use super::map::Map;
use super::storage::{File, Guard, Storage};
use crate::error::{Error, Result};
use cut::Survives;
use fault::Call;
use world::World;

/// A machine with one directory. Clones share it, as processes share a directory.
#[derive(Debug, Clone)]
pub(super) struct Sim(Arc<Mutex<World>>);

impl Sim {
    /// A machine with an empty disk.
    pub(super) fn new(seed: u64) -> Self {
        Self::of(World::new(seed))
    }

    fn of(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// Looks at the machine, or sets it up.
    fn with<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut self.0.lock())
    }

    /// What the disk might hold if the power went now.
    pub(super) fn cut(&self) -> Self {
        Self::of(self.0.lock().cut(Survives::Random))
    }
}

impl Storage for Sim {
    fn root(&self) -> &Path {
        Path::new("sim:")
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        let mut world = self.0.lock();
        world.begin(Call::Create)?;
        let (inode, cache) = world.create(name, len)?;
        Ok(Arc::new(SimFile { sim: self.clone(), inode, cache }))
    }

    fn resize(&self, name: &str, len: u64) -> io::Result<Arc<dyn File>> {
        let mut world = self.0.lock();
        world.begin(Call::Create)?;
        let (inode, cache) = world.resize(name, len)?;
        Ok(Arc::new(SimFile { sim: self.clone(), inode, cache }))
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn File>>> {
        let mut world = self.0.lock();
        world.begin(Call::Open).map_err(|error| Error::io("open", &self.path(name), error))?;
        Ok(world.open(name).map(|(inode, cache)| {
            Arc::new(SimFile { sim: self.clone(), inode, cache }) as Arc<dyn File>
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.0.lock();
        world.begin(Call::Rename)?;
        world.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.0.lock();
        world.begin(Call::Remove)?;
        world.remove(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut world = self.0.lock();
        world.begin(Call::List)?;
        Ok(world.list(dir))
    }

    fn make_dir(&self, dir: &str) -> Result<()> {
        let mut world = self.0.lock();
        world.begin(Call::MakeDir).map_err(|error| Error::io("create", &self.path(dir), error))?;
        world.make_dir(dir);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut world = self.0.lock();
        let begun = world.begin(Call::SyncDir);
        world.sync_dir(dir, begun)
    }

    fn lock(&self, name: &str, _note: &str) -> Result<Option<Box<dyn Guard>>> {
        let mut world = self.0.lock();
        world.begin(Call::Lock).map_err(|error| Error::io("lock", &self.path(name), error))?;
        if !world.lock(name) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimGuard { sim: self.clone(), name: name.to_owned() })))
    }

    fn read_note(&self, _name: &str) -> String {
        String::new()
    }

    fn identity(&self) -> BootIdentity {
        BootIdentity { boot_id: [self.0.lock().boot(); 16], device: 1, inode: 1, mount_id: 1 }
    }
}

#[derive(Debug)]
struct SimGuard {
    sim: Sim,
    name: String,
}

impl Guard for SimGuard {}

impl Drop for SimGuard {
    fn drop(&mut self) {
        self.sim.0.lock().unlock(&self.name);
    }
}

#[derive(Debug)]
struct SimFile {
    sim: Sim,
    inode: u64,
    cache: HeapFile,
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.cache.len()
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.sim.0.lock().begin(Call::ReadAt)?;
        self.cache.read_at(into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.sim.0.lock();
        let begun = world.begin(Call::WriteAt);
        world.write_at(self.inode, &self.cache, bytes, offset, begun)
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.sim.0.lock();
        let begun = world.begin(Call::Sync);
        world.sync(self.inode, begun)
    }

    fn map(&self, len: usize) -> io::Result<Map> {
        self.sim.0.lock().begin(Call::Map)?;
        self.cache.map(len)
    }
}
