//! No store: one file that values are written to, one after the other, with `pwrite`, and read
//! from with `pread`. Where they are is in a map in memory.
//!
//! A measure of what the system asks for the same bytes, and no rival: nothing is found again
//! after the process has died, nothing is checked, and what is replaced stays.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use super::{DiskEngine, DiskReader, DiskRival};
use crate::Result;

pub(super) const ENGINE: DiskEngine = DiskEngine {
    name: "pwrite",
    settings: "no store: one file, and a map in memory",
    batches: false,
    transactions: false,
    many: "single gets",
    evicts: false,
    open: |dir, _| Ok(Box::new(Plain::open(dir)?)),
    durable: None,
};

struct Plain {
    file: File,
    end: AtomicU64,
    /// Where the value of a key is, and its length.
    places: RwLock<HashMap<Vec<u8>, (u64, usize)>>,
}

impl Plain {
    fn open(dir: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(dir.join("values"))?;
        Ok(Self { file, end: AtomicU64::new(0), places: RwLock::default() })
    }
}

impl DiskRival for Plain {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        // Relaxed: the number alone matters; the map's lock shows the bytes to readers.
        let at = self.end.fetch_add(value.len() as u64, Ordering::Relaxed);
        self.file.write_all_at(value, at)?;
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        places.insert(key.to_vec(), (at, value.len()));
        Ok(())
    }

    fn put_batch(&self, records: &mut dyn Iterator<Item = ([u8; 16], &[u8])>) -> Result<()> {
        for (key, value) in records {
            self.put(&key, value)?;
        }
        Ok(())
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        let Some(&(at, len)) = places.get(key) else { return Ok(false) };
        drop(places);
        let mut value = vec![0; len];
        self.file.read_exact_at(&mut value, at)?;
        look(&value);
        Ok(true)
    }

    fn reader(&self) -> Result<Box<dyn DiskReader + '_>> {
        Ok(Box::new(Reader { file: self }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.places.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(self.file.sync_data()?)
    }
}

struct Reader<'a> {
    file: &'a Plain,
}

impl DiskReader for Reader<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.file.get(key, look)
    }
}
