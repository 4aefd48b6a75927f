//! LMDB, through heed.
//!
//! Settings: `MDB_NOSYNC`, which LMDB's documentation offers to those who can lose the last
//! transactions with the machine (lmdb.h, `mdb_env_open`); what was committed is in the page
//! cache and survives the death of the process. The second variant adds `MDB_WRITEMAP`, which
//! the same documentation calls faster, at the price of exposing the pages to stray writes, and
//! which LMDB's own microbenchmark uses for its asynchronous runs. The map is large enough that
//! it never has to grow; it takes address space, and as much disk as is used.
//!
//! `put` is a write transaction of its own, a batch is one write transaction. Keys are spread
//! at random, so `MDB_APPEND` would not apply.
//!
//! As durable, the same without `MDB_NOSYNC`: a commit then waits for `fdatasync` or `msync` of
//! its pages, and writes the meta page through a descriptor opened with `O_DSYNC` (without the
//! writable map), which is a wait that no count of `fdatasync` calls shows.
//!
//! Compaction would make a copy (`mdb_env_copy2`), not give back storage in place: it is left
//! out.

use std::path::Path;

use ::heed::types::Bytes;
use ::heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithTls};

use super::{DiskEngine, DiskReader, DiskRival, Plan};
use crate::{Error, Result};

pub(super) const NO_SYNC: DiskEngine = DiskEngine {
    name: "lmdb",
    settings: "heed; MDB_NOSYNC",
    batches: true,
    transactions: true,
    many: "one transaction",
    evicts: false,
    open: |dir, plan| Ok(Box::new(Lmdb::open(dir, plan, EnvFlags::NO_SYNC)?)),
    durable: Some(|dir, plan| Ok(Box::new(Lmdb::open(dir, plan, EnvFlags::empty())?))),
};

pub(super) const WRITE_MAP: DiskEngine = DiskEngine {
    name: "lmdb-writemap",
    settings: "heed; MDB_NOSYNC | MDB_WRITEMAP",
    batches: true,
    transactions: true,
    many: "one transaction",
    evicts: false,
    open: |dir, plan| {
        Ok(Box::new(Lmdb::open(dir, plan, EnvFlags::NO_SYNC.union(EnvFlags::WRITE_MAP))?))
    },
    durable: Some(|dir, plan| Ok(Box::new(Lmdb::open(dir, plan, EnvFlags::WRITE_MAP)?))),
};

struct Lmdb {
    env: Env,
    records: Database<'static, Bytes, Bytes>,
}

impl Lmdb {
    fn open(dir: &Path, plan: &Plan, flags: EnvFlags) -> Result<Self> {
        let map_len = (4 * plan.payload() + (1 << 30)).next_multiple_of(1 << 20);
        let mut options = EnvOpenOptions::new();
        options.map_size(usize::try_from(map_len)?);
        // SAFETY: `NO_SYNC` and `WRITE_MAP` are unsafe in what a crash of the machine or a
        // stray write does to the file; the file is thrown away after the run.
        unsafe { options.flags(flags) };
        // SAFETY: the directory belongs to this run, so that nobody else changes the file.
        let env = unsafe { options.open(dir) }?;
        let writing = env.write_txn()?;
        let records = env
            .create_databases_and_commit(writing, |opener, writing| {
                let records = opener.create_database::<Bytes, Bytes>(writing, None)?;
                Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit(records))
            })?
            .commit()
            .ok_or("the database was not created")?;
        Ok(Self { env, records })
    }
}

impl DiskRival for Lmdb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut writing = self.env.write_txn()?;
        self.records.put(&mut writing, key, value)?;
        Ok(writing.commit()?)
    }

    fn put_batch(&self, records: &mut dyn Iterator<Item = ([u8; 16], &[u8])>) -> Result<()> {
        let mut writing = self.env.write_txn()?;
        for (key, value) in records {
            self.records.put(&mut writing, &key, value)?;
        }
        Ok(writing.commit()?)
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let reading = self.env.read_txn()?;
        Ok(self.records.get(&reading, key)?.inspect(|value| look(value)).is_some())
    }

    fn reader(&self) -> Result<Box<dyn DiskReader + '_>> {
        Ok(Box::new(Reader { store: self, reading: self.env.read_txn()? }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let mut writing = self.env.write_txn()?;
        self.records.delete(&mut writing, key)?;
        Ok(writing.commit()?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }
}

struct Reader<'a> {
    store: &'a Lmdb,
    reading: RoTxn<'a, WithTls>,
}

impl DiskReader for Reader<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.store.records.get(&self.reading, key)?;
        Ok(value.inspect(|value| look(value)).is_some())
    }
}
