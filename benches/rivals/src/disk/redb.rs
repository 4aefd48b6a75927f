//! redb.
//!
//! Settings: `Durability::None`, by its documentation the level for commits that need not be
//! persisted before a later one is (`WriteTransaction::set_durability`); they do not survive the
//! death of the process. The cache is redb's default of 1 GiB, or twice the payload if that is
//! more, so that all pages stay in it.
//!
//! `put` is a write transaction of its own, a batch is one write transaction. A reader opens the
//! table once, in one read transaction.
//!
//! As durable: `Durability::Immediate`, the default. Compaction is `Database::compact`.

use std::path::Path;

use ::redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition, WriteTransaction,
};

use super::{DiskEngine, DiskReader, DiskRival, Plan};
use crate::Result;

pub(super) const ENGINE: DiskEngine = DiskEngine {
    name: "redb",
    settings: "Durability::None; a cache that holds everything",
    batches: true,
    transactions: true,
    many: "one transaction",
    evicts: false,
    open: |dir, plan| Ok(Box::new(Redb::open(dir, plan, Durability::None)?)),
    durable: Some(|dir, plan| Ok(Box::new(Redb::open(dir, plan, Durability::Immediate)?))),
};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

struct Redb {
    database: Database,
    durability: Durability,
}

impl Redb {
    fn open(dir: &Path, plan: &Plan, durability: Durability) -> Result<Self> {
        let cache = usize::try_from((2 * plan.payload()).max(1 << 30))?;
        let database = Database::builder().set_cache_size(cache).create(dir.join("redb"))?;
        // Readers cannot open a table that was never written.
        let writing = database.begin_write()?;
        writing.open_table(RECORDS)?;
        writing.commit()?;
        Ok(Self { database, durability })
    }

    fn begin_write(&self) -> Result<WriteTransaction> {
        let mut writing = self.database.begin_write()?;
        writing.set_durability(self.durability)?;
        Ok(writing)
    }
}

impl DiskRival for Redb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let writing = self.begin_write()?;
        writing.open_table(RECORDS)?.insert(key, value)?;
        Ok(writing.commit()?)
    }

    fn put_batch(&self, records: &mut dyn Iterator<Item = ([u8; 16], &[u8])>) -> Result<()> {
        let writing = self.begin_write()?;
        let mut table = writing.open_table(RECORDS)?;
        for (key, value) in records {
            table.insert(&key[..], value)?;
        }
        drop(table);
        Ok(writing.commit()?)
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.reader()?.get(key, look)
    }

    fn reader(&self) -> Result<Box<dyn DiskReader + '_>> {
        Ok(Box::new(Reader { table: self.database.begin_read()?.open_table(RECORDS)? }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        let writing = self.begin_write()?;
        writing.open_table(RECORDS)?.remove(key)?;
        Ok(writing.commit()?)
    }

    /// A durable commit makes the ones before it durable.
    fn sync(&self) -> Result<()> {
        Ok(self.database.begin_write()?.commit()?)
    }

    fn compact(&mut self) -> Result<bool> {
        self.database.compact()?;
        Ok(true)
    }
}

struct Reader {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl DiskReader for Reader {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(self.table.get(key)?.inspect(|value| look(value.value())).is_some())
    }
}
