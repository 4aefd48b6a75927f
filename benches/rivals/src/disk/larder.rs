//! larder's disk store.
//!
//! Settings: the defaults, except that the budget is large enough to evict nothing: the default
//! of 1 GiB, or three times the bytes that will be written if that is more. A put survives the
//! death of the process; opened as durable, where each put asks for `Durability::Sync`, the loss
//! of power.

use std::path::Path;

use larder_engine::{Disk, Durability, Engine, Put};

use super::{DiskEngine, DiskReader, DiskRival, Plan};
use crate::Result;

pub(super) const ENGINE: DiskEngine = DiskEngine {
    name: "larder",
    settings: "defaults; a budget that evicts nothing",
    batches: false,
    transactions: false,
    many: "get_many_with",
    evicts: true,
    open: |dir, plan| Ok(Box::new(Larder::open(dir, plan, Durability::None)?)),
    durable: Some(|dir, plan| Ok(Box::new(Larder::open(dir, plan, Durability::Sync)?))),
};

/// The same, let open in several processes at once.
pub(super) const SHARED: DiskEngine = DiskEngine {
    name: "larder-shared",
    settings: "shared; a budget that evicts nothing",
    open: |dir, plan| Ok(Box::new(Larder::open_as(dir, plan, Durability::None, true)?)),
    durable: None,
    ..ENGINE
};

struct Larder {
    disk: Disk,
    put: Put<'static>,
}

impl Larder {
    fn open(dir: &Path, plan: &Plan, durability: Durability) -> Result<Self> {
        Self::open_as(dir, plan, durability, false)
    }

    fn open_as(dir: &Path, plan: &Plan, durability: Durability, shared: bool) -> Result<Self> {
        let budget = plan.budget.unwrap_or_else(|| (3 * plan.written()).max(1 << 30));
        let builder = Disk::builder(dir.join("larder")).budget(budget);
        let disk = if shared { builder.shared().open()? } else { builder.open()? };
        Ok(Self { disk, put: Put { durability, ..Put::default() } })
    }

    /// Looks at the values of many keys.
    fn many(&self, keys: &[[u8; 16]], look: &mut dyn FnMut(&[u8])) -> Result<u64> {
        let mut found = 0;
        self.disk.get_many_with(keys, |_, value| {
            if let Some((value, _)) = value {
                look(value);
                found += 1;
            }
        })?;
        Ok(found)
    }
}

impl DiskRival for Larder {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let outcome = self.disk.put(key, value, &self.put)?;
        if outcome.is_admitted() { Ok(()) } else { Err(format!("refused: {outcome:?}").into()) }
    }

    fn put_batch(&self, records: &mut dyn Iterator<Item = ([u8; 16], &[u8])>) -> Result<()> {
        for (key, value) in records {
            self.put(&key, value)?;
        }
        Ok(())
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(self.disk.get_with(key, |value, _| look(value))?.is_some())
    }

    fn get_many(&self, keys: &[[u8; 16]], look: &mut dyn FnMut(&[u8])) -> Result<u64> {
        self.many(keys, look)
    }

    fn reader(&self) -> Result<Box<dyn DiskReader + '_>> {
        Ok(Box::new(Reader { store: self }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        self.disk.remove(key)?;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(self.disk.sync()?)
    }
}

/// larder has no read transactions: a series of reads is single reads.
struct Reader<'a> {
    store: &'a Larder,
}

impl DiskReader for Reader<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.store.get(key, look)
    }
}
