//! foyer, its hybrid cache with nothing but the disk in use.
//!
//! Settings: the block engine with its defaults (blocks of 16 MiB, one flusher, a buffer of
//! 16 MiB) on a directory (`FsDeviceBuilder`), `pread` and `pwrite` (`PsyncIoEngineConfig`,
//! which works everywhere), and the tombstone log, which its documentation asks for where values
//! change or go (`with_tombstone_log`). A memory tier of one byte, and values written on
//! insertion (`HybridCachePolicy::WriteOnInsertion`). The device has room for all that is
//! written, unless the plan sets a budget, of which it needs at least 256 MiB for its blocks. Its own threads are a tokio runtime of two workers.
//!
//! What is not alike, and cannot be made so:
//! - It is asynchronous. A put only queues the value; it survives nothing before a flusher has
//!   written it. A full queue drops values, which a cache may and a comparison may not, so that
//!   this adapter waits for the flusher whenever half of its buffer is queued; that counts.
//! - A read is a task of its pool of threads for blocking reads, which wakes this thread again.
//!   Reads ask the disk engine itself (`storage().load`), which spares them the memory tier.
//! - Each entry takes a whole number of pages of 4 KiB; its documentation advises it for entries
//!   from 2 KiB on.
//! - It never syncs, so that there are no durable puts, and `settle` waits for the flusher only.
//! - Entries are found by a hash of 64 bits; no two keys of the benches share one.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ::foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, Load, PsyncIoEngineConfig,
};
use tokio::runtime::{Builder, Handle, Runtime};

use super::{DiskEngine, DiskReader, DiskRival, Plan};
use crate::Result;

pub(super) const ENGINE: DiskEngine = DiskEngine {
    name: "foyer",
    settings: "block engine, a memory tier of one byte, 2 workers",
    batches: false,
    transactions: false,
    many: "single gets",
    evicts: true,
    open: |dir, plan| Ok(Box::new(Foyer::open(dir, plan)?)),
    durable: None,
};

const PAGE: u64 = 4 << 10;
/// Bytes of an entry beside key and value, more or less.
const HEADER_LEN: u64 = 64;
/// Half of the flusher's buffer.
const QUEUED_MAX: u64 = 8 << 20;

/// 16 blocks.
const CAPACITY_MIN: u64 = 256 << 20;

struct Foyer {
    cache: HybridCache<u128, Vec<u8>>,
    /// Bytes that were put since the flusher was last waited for, in whole pages.
    queued: Mutex<u64>,
    handle: Handle,
}

impl Foyer {
    fn open(dir: &Path, plan: &Plan) -> Result<Self> {
        let room = plan.writes * pages(plan.value_len);
        let capacity = plan.budget.unwrap_or(room + room / 4).max(CAPACITY_MIN);
        let device = FsDeviceBuilder::new(dir.join("foyer"))
            .with_capacity(usize::try_from(capacity)?)
            .build()?;
        let runtime: Runtime = Builder::new_multi_thread().worker_threads(2).build()?;
        let handle = runtime.handle().clone();
        let cache = HybridCacheBuilder::new()
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(1)
            .with_shards(1)
            .with_weighter(|_: &u128, value: &Vec<u8>| 16 + value.len())
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(BlockEngineConfig::new(device).with_tombstone_log(true))
            .with_spawner(runtime.into())
            .build();
        Ok(Self { cache: handle.block_on(cache)?, queued: Mutex::new(0), handle })
    }

    fn wait(&self) {
        self.handle.block_on(self.cache.storage().wait());
    }
}

/// Bytes that an entry with such a value takes on the device.
const fn pages(value_len: usize) -> u64 {
    (value_len as u64 + 16 + HEADER_LEN).next_multiple_of(PAGE)
}

fn number(key: &[u8]) -> Result<u128> {
    Ok(u128::from_le_bytes(key.try_into()?))
}

impl DiskRival for Foyer {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.cache.insert(number(key)?, value.to_vec());
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        *queued += pages(value.len());
        if *queued >= QUEUED_MAX {
            // Under the lock, so that the other threads wait as well.
            self.wait();
            *queued = 0;
        }
        Ok(())
    }

    fn put_batch(&self, records: &mut dyn Iterator<Item = ([u8; 16], &[u8])>) -> Result<()> {
        for (key, value) in records {
            self.put(&key, value)?;
        }
        Ok(())
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        match self.handle.block_on(self.cache.storage().load(&number(key)?))? {
            Load::Entry { value, .. } => look(&value),
            Load::Piece { piece, .. } => look(piece.value()),
            Load::Miss => return Ok(false),
            Load::Throttled => return Err("foyer throttled a read".into()),
        }
        Ok(true)
    }

    fn reader(&self) -> Result<Box<dyn DiskReader + '_>> {
        Ok(Box::new(Reader { store: self }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.cache.remove(&number(key)?);
        Ok(())
    }

    fn drain(&self) -> Result<()> {
        self.wait();
        Ok(())
    }

    /// Waits for the flusher: there is no more to be had.
    fn sync(&self) -> Result<()> {
        self.drain()
    }
}

struct Reader<'a> {
    store: &'a Foyer,
}

impl DiskReader for Reader<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.store.get(key, look)
    }
}
