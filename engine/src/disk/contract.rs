//! What a store on disk is to who knows it as an engine.

use super::Disk;
use super::observer::{Work, Working};
use super::space::{Entries, Scope, is_plain, plain, plain_all, with_tags};
use crate::batch::{BatchOutcome, WriteBatch};
use crate::engine::{
    Atomic, Batched, Durability, Engine, Expected, Outcome, Put, Stamp, Tagged, Ttl, Watched,
    WithTags,
};
use crate::error::Result;
use crate::stats::Stats;
use crate::value::Value;

impl Atomic for Disk {
    fn put_if(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Put<'_>,
        expected: Expected,
    ) -> Result<Outcome> {
        with_tags(options, None, |options| {
            self.put_stored(&plain(key), value, options, Some(expected))
        })
    }

    fn take(&self, key: &[u8]) -> Result<Option<Value>> {
        self.writable()?.take(&plain(key))
    }

    fn touch(&self, key: &[u8], ttl: Ttl) -> Result<bool> {
        self.writable()?.touch(&plain(key), ttl)
    }

    fn add_to(
        &self,
        key: &[u8],
        by: i64,
        initial: Option<i64>,
        options: &Put<'_>,
    ) -> Result<Option<i64>> {
        let store = self.writable()?;
        with_tags(options, None, |options| store.add_to(&plain(key), by, initial, options))
    }
}

impl Watched for Disk {
    fn stamp(&self, key: &[u8], tags: &[u64]) -> Option<Stamp> {
        self.store.stamp(&plain(key), tags)
    }

    #[inline]
    fn is_current(&self, stamp: &Stamp) -> bool {
        self.store.is_current(stamp)
    }
}

impl Engine for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        if is_plain(key) {
            return self.store.get(key);
        }
        self.store.get(&plain(key))
    }

    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        self.store.version(&plain(key))
    }

    #[inline]
    fn put(&self, key: &[u8], value: &[u8], options: &Put<'_>) -> Result<Outcome> {
        if self.store.is_usual(key, value, options)
            && let Some(outcome) = self.store.put_usual(key, value, options.codec)?
        {
            return Ok(outcome);
        }
        with_tags(options, None, |options| self.put_stored(&plain(key), value, options, None))
    }

    fn remove(&self, key: &[u8]) -> Result<bool> {
        self.writable()?.remove(&plain(key))
    }

    fn clear(&self) -> Result<u64> {
        self.working(Work::Clear)?.clear()
    }

    fn len(&self) -> u64 {
        self.store.len()
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        match self.store.iter() {
            Ok(iter) => Box::new(Entries::new(iter, Scope::Plain)),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn sync(&self) -> Result<()> {
        Working::on(&self.store, Work::Sync).sync()
    }

    fn close(&self) -> Result<()> {
        if let Some(worker) = &self.worker {
            worker.stop();
        }
        Working::on(&self.store, Work::Close).close()
    }

    fn stats(&self) -> Stats {
        self.store.stats()
    }

    fn set_budget(&self, bytes: u64) -> Result<()> {
        Self::set_budget(self, bytes)
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn watched(&self) -> Option<&dyn Watched> {
        if self.store.together.is_some() { Some(self) } else { None }
    }

    fn batched(&self) -> Option<&dyn Batched> {
        Some(self)
    }

    fn tagged(&self) -> Option<&dyn Tagged> {
        Some(self)
    }

    fn keeps_all(&self) -> bool {
        self.store.keeps_all()
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        Self::get_many(self, keys)
    }
}

impl Batched for Disk {
    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<BatchOutcome> {
        Self::write(self, batch, durability)
    }
}

impl Tagged for Disk {
    fn invalidate_tag(&self, tag: &[u8]) -> Result<()> {
        Self::invalidate_tag(self, tag)
    }

    fn keys_by_tag(&self, tag: &[u8]) -> Result<Vec<Vec<u8>>> {
        Self::keys_by_tag(self, tag)
    }

    fn tag_id(&self, tag: &[u8]) -> Result<u64> {
        self.store.tag_hash(&plain(tag))
    }

    fn get_tagged(&self, key: &[u8]) -> Result<Option<WithTags>> {
        self.store.get_tagged(&plain(key))
    }

    fn get_many_tagged(&self, keys: &[&[u8]]) -> Result<Vec<Option<WithTags>>> {
        match plain_all(keys) {
            None => self.store.get_many_tagged(keys),
            Some(stored) => self.store.get_many_tagged(&stored),
        }
    }
}
