//! candystore.
//!
//! Settings: the defaults, without the checkpoints in the background, as in its own benchmark
//! (`examples/perf.rs`, whose figures the README shows). A put goes to the page cache and the
//! mapped index, and survives the death of the process; checkpoints only shorten what is
//! replayed then. Compaction in the background stays on, at its default pace of 4 MiB/s; there
//! is no call for it.
//!
//! Values over 65,471 bytes go through `set_big` and `get_big`, which cut them into pieces. It
//! has neither batches nor read transactions. As durable, each put is followed by `flush`.

use std::path::Path;

use ::candystore::{CandyStore, Config, MAX_USER_VALUE_SIZE};

use super::{DiskEngine, DiskReader, DiskRival, Plan};
use crate::Result;

pub(super) const ENGINE: DiskEngine = DiskEngine {
    name: "candystore",
    settings: "no checkpoints in the background",
    batches: false,
    transactions: false,
    many: "single gets",
    evicts: false,
    open: |dir, plan| Ok(Box::new(Candy::open(dir, plan, false)?)),
    durable: Some(|dir, plan| Ok(Box::new(Candy::open(dir, plan, true)?))),
};

struct Candy {
    store: CandyStore,
    /// Whether values of this store are cut into pieces.
    big: bool,
    durable: bool,
}

impl Candy {
    fn open(dir: &Path, plan: &Plan, durable: bool) -> Result<Self> {
        let config =
            Config { checkpoint_interval: None, checkpoint_delta_bytes: None, ..Config::default() };
        let store = CandyStore::open(dir.join("candystore"), config)?;
        Ok(Self { store, big: plan.value_len > MAX_USER_VALUE_SIZE, durable })
    }
}

impl DiskRival for Candy {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.big {
            self.store.set_big(key, value)?;
        } else {
            self.store.set(key, value)?;
        }
        if self.durable { self.sync() } else { Ok(()) }
    }

    fn put_batch(&self, records: &mut dyn Iterator<Item = ([u8; 16], &[u8])>) -> Result<()> {
        for (key, value) in records {
            self.put(&key, value)?;
        }
        Ok(())
    }

    fn get(&self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = if self.big { self.store.get_big(key)? } else { self.store.get(key)? };
        Ok(value.inspect(|value| look(value)).is_some())
    }

    fn reader(&self) -> Result<Box<dyn DiskReader + '_>> {
        Ok(Box::new(Reader { store: self }))
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        if self.big {
            self.store.remove_big(key)?;
        } else {
            self.store.remove(key)?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(self.store.flush()?)
    }

    fn settle(&self) -> Result<()> {
        Ok(self.store.checkpoint()?)
    }
}

struct Reader<'a> {
    store: &'a Candy,
}

impl DiskReader for Reader<'_> {
    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.store.get(key, look)
    }
}
