//! RocksDB.
//!
//! Settings: the write-ahead log on and never synced, the default, by which a put survives the
//! death of the process; full Bloom filters of 10 bits, levels sized from the last one
//! (`level_compaction_dynamic_level_bytes`), and as many background threads as cores, as the wiki
//! advises ("Setup Options and Basic Tuning"). The block cache holds the payload twice over.
//! Compression is left out: the values of the benches cannot be compressed. Large values stay in
//! the tables, too: blob files (`enable_blob_files`) would be read from the page cache, a system
//! call for each get, as this version of the crate cannot give them a cache.
//!
//! A batch is a `WriteBatch`, many keys are one `MultiGet` (the batched one, whose values are
//! pinned in the cache). Reads are single reads of pinned values; a point read needs no snapshot.
//! As durable, each write has `sync` set.

use std::path::Path;

use ::rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType,
    DEFAULT_COLUMN_FAMILY_NAME, Options, WriteBatch, WriteOptions,
};

use super::{DiskEngine, DiskReader, DiskRival, Plan};
use crate::Result;

pub(super) const ENGINE: DiskEngine = DiskEngine {
    name: "rocksdb",
    settings: "log not synced; Bloom filters; a cache that holds everything",
    batches: true,
    transactions: false,
    many: "MultiGet",
    evicts: false,
    open: |dir, plan| Ok(Box::new(Rocks::open(dir, plan, false)?)),
    durable: Some(|dir, plan| Ok(Box::new(Rocks::open(dir, plan, true)?))),
};

const BLOOM_BITS: f64 = 10.0;

struct Rocks {
    database: DB,
    write: WriteOptions,
}

impl Rocks {
    fn open(dir: &Path, plan: &Plan, durable: bool) -> Result<Self> {
        let cache = Cache::new_lru_cache(usize::try_from((2 * plan.payload()).max(256 << 20))?)?;
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache);
        table.set_bloom_filter(BLOOM_BITS, false);
        table.set_format_version(5);

        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.increase_parallelism(i32::try_from(cores)?);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_compression_type(DBCompressionType::None);
        options.set_block_based_table_factory(&table);

        let mut write = WriteOptions::default();
        write.set_sync(durable);
        // `batched_multi_get_cf` wants a handle of the family, which there is only of those that
        // were named.
        let family = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, options.clone());
        let database = DB::open_cf_descriptors(&options, dir.join("rocksdb"), [family])?;
        Ok(Self { database, write })
    }
}

impl DiskRival for Rocks {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.database.put_opt(key, value, &self.write)?)
    }

    fn put_batch(&self, records: &mut dyn Iterator<Item = ([u8; 16], &[u8])>) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in records {
            batch.put(key, value);
        }
        Ok(self.database.write_opt(batch, &self.write)?)
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(self.database.get_pinned(key)?.inspect(|value| look(value)).is_some())
    }

    fn get_many(&self, keys: &[[u8; 16]], look: &mut dyn FnMut(&[u8])) -> Result<u64> {
        let family = self.database.cf_handle(DEFAULT_COLUMN_FAMILY_NAME);
        let family = family.ok_or("RocksDB has no default column family")?;
        let mut found = 0;
        for value in self.database.batched_multi_get_cf(&family, keys, false) {
            found += u64::from(value?.inspect(|value| look(value)).is_some());
        }
        Ok(found)
    }

    fn reader(&self) -> Result<Box<dyn DiskReader + '_>> {
        Ok(Box::new(Reader { store: self }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        Ok(self.database.delete_opt(key, &self.write)?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.flush_wal(true)?)
    }

    /// Flushes and compacts, as its background threads would in time.
    fn settle(&self) -> Result<()> {
        self.database.flush()?;
        self.database.compact_range::<&[u8], &[u8]>(None, None);
        self.sync()
    }
}

struct Reader<'a> {
    store: &'a Rocks,
}

impl DiskReader for Reader<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.store.get(key, look)
    }
}
