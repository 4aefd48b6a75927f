//! fjall.
//!
//! Settings: the default durability, by which every write reaches the operating system and none
//! waits for the disk (README, "Durability"), so that it survives the death of the process. The
//! block cache holds the payload twice over: its README asks for a quarter of the memory, or
//! more if the data fits. Values of 1 KiB and more are kept apart from the keys
//! (`with_kv_separation`, the README's "large blob use cases", at its default threshold).
//! Compression is left out: the values of the benches cannot be compressed.
//!
//! A batch is a `WriteBatch`. Reads go to the keyspace, as in its examples: a point read
//! needs no snapshot.
//!
//! As durable, each put is followed by `persist(PersistMode::SyncAll)`, its documentation's way to
//! make a write durable.

use std::path::Path;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

use super::{DiskEngine, DiskReader, DiskRival, Plan};
use crate::Result;

pub(super) const ENGINE: DiskEngine = DiskEngine {
    name: "fjall",
    settings: "default durability; a cache that holds everything; blobs apart from 1 KiB",
    batches: true,
    transactions: false,
    many: "single gets",
    evicts: false,
    open: |dir, plan| Ok(Box::new(Fjall::open(dir, plan, false)?)),
    durable: Some(|dir, plan| Ok(Box::new(Fjall::open(dir, plan, true)?))),
};

const BLOB_LEN_MIN: usize = 1 << 10;

struct Fjall {
    database: Database,
    records: Keyspace,
    durable: bool,
}

impl Fjall {
    fn open(dir: &Path, plan: &Plan, durable: bool) -> Result<Self> {
        let cache = (2 * plan.payload()).max(256 << 20);
        let database = Database::builder(dir.join("fjall")).cache_size(cache).open()?;
        let blobs = (plan.value_len >= BLOB_LEN_MIN).then(KvSeparationOptions::default);
        let options = || KeyspaceCreateOptions::default().with_kv_separation(blobs);
        let records = database.keyspace("records", options)?;
        Ok(Self { database, records, durable })
    }
}

impl DiskRival for Fjall {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.records.insert(key, value)?;
        if self.durable { self.sync() } else { Ok(()) }
    }

    fn put_batch(&self, records: &mut dyn Iterator<Item = ([u8; 16], &[u8])>) -> Result<()> {
        let mut batch = self.database.batch();
        for (key, value) in records {
            batch.insert(&self.records, &key[..], value);
        }
        Ok(batch.commit()?)
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(self.records.get(key)?.inspect(|value| look(value)).is_some())
    }

    fn reader(&self) -> Result<Box<dyn DiskReader + '_>> {
        Ok(Box::new(Reader { store: self }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.records.remove(key)?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    /// Flushes and compacts, as its background threads would in time.
    fn settle(&self) -> Result<()> {
        self.records.rotate_memtable_and_wait()?;
        self.records.major_compact()?;
        self.sync()
    }
}

struct Reader<'a> {
    store: &'a Fjall,
}

impl DiskReader for Reader<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.store.get(key, look)
    }
}
