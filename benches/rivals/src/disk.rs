//! Stores in a directory.

mod fjall;
mod heed;
mod larder;
mod redb;

use std::path::Path;

use crate::Result;

/// A store, open in a directory, that takes writes from any thread.
///
/// No write waits for the disk. Everything an adapter does per call is what a program would
/// have to do that uses the store for independent reads and writes.
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

    /// Makes everything durable.
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
}

impl Plan {
    /// Bytes of all keys and values.
    #[must_use]
    pub const fn payload(&self) -> u64 {
        self.count * (16 + self.value_len as u64)
    }
}

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
    /// Creates the store in an existing, empty directory, or opens it there.
    pub open: fn(&Path, &Plan) -> Result<Box<dyn DiskRival>>,
}

/// All stores, larder first.
#[must_use]
pub fn engines() -> Vec<DiskEngine> {
    vec![larder::ENGINE, heed::NO_SYNC, heed::WRITE_MAP, redb::ENGINE, fjall::ENGINE]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_keeps_the_contract() {
        for engine in engines() {
            let dir = tempfile::tempdir().unwrap();
            let plan = Plan { count: 1000, value_len: 100 };
            let store = (engine.open)(dir.path(), &plan).unwrap();
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
            assert_eq!(seen, [b"alone".to_vec(), b"batch".to_vec()], "{}", engine.name);

            store.delete(&[7; 16]).unwrap();
            assert!(!store.get(&[7; 16], &mut |_| {}).unwrap(), "{}", engine.name);
        }
    }
}
