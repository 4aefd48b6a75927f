//! Stores in a directory.

mod candystore;
mod fjall;
mod foyer;
mod heed;
mod larder;
mod plain;
mod pool;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sled;
mod sqlite;

use std::path::Path;

use crate::Result;

/// A store, open in a directory, that takes writes from any thread.
///
/// No write waits for the disk, unless the store was opened with [`DiskEngine::durable`].
/// Everything an adapter does per call is what a program would have to do that
/// uses the store for independent reads and writes.
pub trait DiskRival: Send + Sync {
    /// Stores one value, as a write of its own.
    ///
    /// # Errors
    /// What the store says.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Stores many values in one transaction or batch; one by one if the store has neither.
    ///
    /// # Errors
    /// What the store says.
    fn put_batch(&self, records: &mut dyn Iterator<Item = ([u8; 16], &[u8])>) -> Result<()>;

    /// Shows the value of a key, as a read of its own, and says whether there is one.
    ///
    /// # Errors
    /// What the store says.
    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool>;

    /// Shows the values of many keys, in the fastest way that the store has for that and in any
    /// order, and says how many there are.
    ///
    /// # Errors
    /// What the store says.
    fn get_many(&self, keys: &[[u8; 16]], look: &mut dyn FnMut(&[u8])) -> Result<u64> {
        let mut reader = self.reader()?;
        let mut found = 0;
        for key in keys {
            found += u64::from(reader.get(key, look)?);
        }
        Ok(found)
    }

    /// Begins a series of reads on this thread, in one read transaction if the store has them.
    ///
    /// # Errors
    /// What the store says.
    fn reader(&self) -> Result<Box<dyn DiskReader + '_>>;

    /// Removes a key, present or not.
    ///
    /// # Errors
    /// What the store says.
    fn delete(&self, key: &[u8]) -> Result<()>;

    /// Waits until the writes before it are where writes go, for stores that hand them to a
    /// thread of their own and would drop some of them otherwise. Counts as part of the writes.
    ///
    /// # Errors
    /// What the store says.
    fn drain(&self) -> Result<()> {
        Ok(())
    }

    /// Makes everything durable, as far as the store can.
    ///
    /// # Errors
    /// What the store says.
    fn sync(&self) -> Result<()>;

    /// Brings the store into the state that it would reach by itself if left alone, so that no
    /// background work disturbs the readers that come next.
    ///
    /// # Errors
    /// What the store says.
    fn settle(&self) -> Result<()> {
        self.sync()
    }

    /// Gives back storage that is no longer used, if the store has a call for that. Whether it
    /// has.
    ///
    /// # Errors
    /// What the store says.
    fn compact(&mut self) -> Result<bool> {
        Ok(false)
    }
}

/// A series of reads.
pub trait DiskReader {
    /// Shows the value of a key, and says whether there is one.
    ///
    /// # Errors
    /// What the store says.
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool>;
}

/// What a store will be asked to hold, for those that want to know in advance.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Number of records.
    pub count: u64,
    /// Bytes of each value. Keys have 16.
    pub value_len: usize,
    /// Records that are written in all, those that replace others included.
    pub writes: u64,
    /// Bytes that a store which evicts may use; if `None`, so many that it evicts nothing.
    pub budget: Option<u64>,
}

impl Plan {
    /// So many records, each written once, and none evicted.
    #[must_use]
    pub const fn new(count: u64, value_len: usize) -> Self {
        Self { count, value_len, writes: count, budget: None }
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub const fn payload(&self) -> u64 {
        self.count * (16 + self.value_len as u64)
    }

    /// Bytes of all keys and values that are written.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.writes * (16 + self.value_len as u64)
    }
}

/// Creates a store in an existing, empty directory, or opens it there.
pub type Open = fn(&Path, &Plan) -> Result<Box<dyn DiskRival>>;

/// How to open a store.
#[derive(Debug, Clone, Copy)]
pub struct DiskEngine {
    /// Its name in tables.
    pub name: &'static str,
    /// Its settings, in a few words.
    pub settings: &'static str,
    /// Whether [`DiskRival::put_batch`] is more than a loop.
    pub batches: bool,
    /// Whether [`DiskRival::reader`] reads in a transaction.
    pub transactions: bool,
    /// How [`DiskRival::get_many`] reads.
    pub many: &'static str,
    /// Whether it evicts what no longer fits [`Plan::budget`].
    pub evicts: bool,
    /// Opens it so that a put does not wait for the disk.
    pub open: Open,
    /// Opens it so that a put survives the loss of power, if it can.
    pub durable: Option<Open>,
}

/// All stores, larder first.
#[must_use]
pub fn engines() -> Vec<DiskEngine> {
    vec![
        larder::ENGINE,
        heed::NO_SYNC,
        heed::WRITE_MAP,
        redb::ENGINE,
        fjall::ENGINE,
        sled::ENGINE,
        sqlite::ENGINE,
        candystore::ENGINE,
        foyer::ENGINE,
        #[cfg(feature = "rocksdb")]
        rocksdb::ENGINE,
    ]
}

/// Stores that several processes can have open at once. The first one can not, and says what that costs.
#[must_use]
pub fn shared_engines() -> Vec<DiskEngine> {
    vec![larder::ENGINE, larder::SHARED, heed::NO_SYNC, sqlite::ENGINE]
}

/// No store but a file that values are written to one after the other: what the writes of a
/// store could cost at the least.
pub const REFERENCE: DiskEngine = plain::ENGINE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_keeps_the_contract() {
        for engine in engines().into_iter().chain([REFERENCE]) {
            let dir = tempfile::tempdir().unwrap();
            let mut store = (engine.open)(dir.path(), &Plan::new(1000, 100)).unwrap();
            store.put(&[7; 16], b"alone").unwrap();
            let mut batch = (0..100_u8).map(|number| ([number ^ 0x80; 16], &b"batch"[..]));
            store.put_batch(&mut batch).unwrap();
            store.settle().unwrap();

            let mut seen = Vec::new();
            let mut look = |value: &[u8]| seen.push(value.to_vec());
            assert!(store.get(&[7; 16], &mut look).unwrap(), "{}", engine.name);
            assert!(!store.get(&[8; 16], &mut look).unwrap(), "{}", engine.name);
            let mut reader = store.reader().unwrap();
            assert!(reader.get(&[0x80; 16], &mut look).unwrap(), "{}", engine.name);
            assert!(!reader.get(&[8; 16], &mut look).unwrap(), "{}", engine.name);
            drop(reader);
            let many = store.get_many(&[[7; 16], [8; 16], [0x81; 16]], &mut look).unwrap();
            assert_eq!(many, 2, "{}", engine.name);
            seen.sort();
            assert_eq!(seen, [&b"alone"[..], b"alone", b"batch", b"batch"], "{}", engine.name);

            store.put(&[9; 16], b"short").unwrap();
            store.put(&[9; 16], &[9; 100]).unwrap();
            store.drain().unwrap();
            store.delete(&[7; 16]).unwrap();
            store.compact().unwrap();
            assert!(!store.get(&[7; 16], &mut |_| {}).unwrap(), "{}", engine.name);
            let mut right = false;
            assert!(store.get(&[9; 16], &mut |value| right = value == [9; 100]).unwrap());
            assert!(right, "{}", engine.name);
        }
    }

    #[test]
    fn every_store_finds_its_records_when_it_is_opened_again() {
        for engine in engines() {
            for open in [Some(engine.open), engine.durable].into_iter().flatten() {
                let dir = tempfile::tempdir().unwrap();
                let plan = Plan::new(1000, 100);
                let store = open(dir.path(), &plan).unwrap();
                store.put(&[7; 16], b"kept").unwrap();
                store.put(&[8; 16], b"gone").unwrap();
                store.delete(&[8; 16]).unwrap();
                store.settle().unwrap();
                drop(store);
                let store = open(dir.path(), &plan).unwrap();
                let mut right = false;
                let kept = store.get(&[7; 16], &mut |value| right = value == b"kept").unwrap();
                assert!(kept && right, "{}", engine.name);
                assert!(!store.get(&[8; 16], &mut |_| {}).unwrap(), "{}", engine.name);
            }
        }
    }
}
