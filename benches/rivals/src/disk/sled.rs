//! sled, 1.0 alpha.
//!
//! The alpha, as its development goes on there and 0.34 is from 2021. It says of itself that it
//! is not finished.
//!
//! Settings: the defaults, by which a thread writes and syncs what has changed every 200 ms; a
//! put survives nothing before that. The cache is the default of 512 MiB, or twice the payload
//! if that is more (`Config::cache_capacity_bytes`). zstd cannot be switched off; it is at level
//! 1 instead of 3, since the values of the benches cannot be compressed. Leaves hold up to 1024
//! entries, as in all examples of its documentation.
//!
//! A handle belongs to one thread, so that each thread that works at once has a clone of its own.
//! A batch is a `Batch`. Reads are single reads, as it has no read transactions. As durable,
//! each put is followed by `flush`. It has no compaction to be called.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ::sled::{Batch, Config, Db};

use super::pool::Pool;
use super::{DiskEngine, DiskReader, DiskRival, Plan};
use crate::Result;

pub(super) const ENGINE: DiskEngine = DiskEngine {
    name: "sled",
    settings: "flush every 200 ms; a cache that holds everything",
    batches: true,
    transactions: false,
    many: "single gets",
    evicts: false,
    open: |dir, plan| Ok(Box::new(Sled::open(dir, plan, false)?)),
    durable: Some(|dir, plan| Ok(Box::new(Sled::open(dir, plan, true)?))),
};

type Records = Db<1024>;

struct Sled {
    /// What the others are cloned from.
    first: Mutex<Records>,
    handles: Pool<Records>,
    durable: bool,
}

impl Sled {
    fn open(dir: &Path, plan: &Plan, durable: bool) -> Result<Self> {
        let cache = usize::try_from((2 * plan.payload()).max(512 << 20))?;
        let config = Config::new()
            .path(dir.join("sled"))
            .cache_capacity_bytes(cache)
            .zstd_compression_level(1);
        let first: Records = config.open()?;
        Ok(Self { handles: Pool::new(first.clone()), first: Mutex::new(first), durable })
    }

    fn take(&self) -> Result<Records> {
        self.handles.take(|| Ok(self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }

    /// Does something with a handle that is this thread's alone.
    fn with<T>(&self, work: impl FnOnce(&Records) -> Result<T>) -> Result<T> {
        let records = self.take()?;
        let result = work(&records);
        self.handles.leave(records);
        result
    }
}

impl DiskRival for Sled {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.with(|records| {
            records.insert(key, value)?;
            if self.durable {
                records.flush()?;
            }
            Ok(())
        })
    }

    fn put_batch(&self, records: &mut dyn Iterator<Item = ([u8; 16], &[u8])>) -> Result<()> {
        let mut batch = Batch::default();
        for (key, value) in records {
            batch.insert(key, value);
        }
        self.with(|records| Ok(records.apply_batch(batch)?))
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.with(|records| get(records, key, look))
    }

    fn reader(&self) -> Result<Box<dyn DiskReader + '_>> {
        Ok(Box::new(Reader { store: self, records: Some(self.take()?) }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.with(|records| {
            records.remove(key)?;
            Ok(())
        })
    }

    fn sync(&self) -> Result<()> {
        self.with(|records| {
            records.flush()?;
            Ok(())
        })
    }
}

fn get(records: &Records, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
    Ok(records.get(key)?.inspect(|value| look(value)).is_some())
}

struct Reader<'a> {
    store: &'a Sled,
    /// Only ever `None` while it is dropped.
    records: Option<Records>,
}

impl DiskReader for Reader<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        get(self.records.as_ref().ok_or("the reader has ended")?, key, look)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(records) = self.records.take() {
            self.store.handles.leave(records);
        }
    }
}
