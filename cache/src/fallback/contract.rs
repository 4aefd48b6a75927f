//! What engines that stand in for each other are to who knows them as one.

use std::collections::HashSet;

use larder_engine::{Atomic, Engine, Error, Health, Outcome, Put, Result, Stats, Tagged, Value};

use super::link::{Kind, Link, Trouble};
use super::{Fallback, renumbered};
use crate::sync::Ordering;

impl Engine for Fallback {
    fn name(&self) -> &'static str {
        "fallback"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        let found = self.inner.get(key);
        self.tend();
        found
    }

    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        let version = self.inner.version(key);
        self.tend();
        version
    }

    fn may_hold(&self, key: &[u8]) -> Result<bool> {
        self.inner.open()?;
        Ok(self.inner.reached().any(|(_, link)| {
            let is_gone = link.stale.bypassed() || link.stale.masks(key);
            let ask = |engine: &dyn Engine| engine.may_hold(key);
            !is_gone && link.attempt(Kind::Read, "look a key up", ask).unwrap_or(true)
        }))
    }

    fn put(&self, key: &[u8], value: &[u8], options: &Put<'_>) -> Result<Outcome> {
        self.inner.open()?;
        let outcome = {
            let _stripe = self.inner.stripe(key);
            self.inner.put_under(key, value, options)
        };
        self.tend();
        outcome
    }

    fn remove(&self, key: &[u8]) -> Result<bool> {
        self.inner.open()?;
        let removed = {
            let _stripe = self.inner.stripe(key);
            self.inner.remove_under(key)
        };
        self.tend();
        removed
    }

    fn clear(&self) -> Result<u64> {
        self.inner.open()?;
        let mut count = 0;
        {
            let _all = self.inner.stripes.lock_all();
            for (_, link) in self.inner.reached() {
                match link.attempt(Kind::Removal, "clear", |engine| engine.clear()) {
                    Ok(cleared) => {
                        count += cleared;
                        link.stale.cleared();
                    }
                    Err(_) => {
                        link.bypass();
                        self.inner.in_trouble();
                    }
                }
            }
        }
        self.tend();
        Ok(count)
    }

    fn len(&self) -> u64 {
        let shown = |link: &Link| match link.engine() {
            Some(engine) if !link.stale.bypassed() => {
                engine.len().saturating_sub(link.stale.len() as u64)
            }
            _ => 0,
        };
        self.inner.reached().map(|(_, link)| shown(link)).sum()
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        if let Err(closed) = self.inner.open() {
            return Box::new(std::iter::once(Err(closed)));
        }
        // Backwards, and each key once: what is put anew meanwhile goes to an earlier one.
        let mut seen = HashSet::new();
        let entries = self.inner.reached().rev().flat_map(|(at, link)| {
            let engine = link.engine().filter(|_| link.is_readable());
            let entries = engine.map(|engine| engine.iter()).into_iter().flatten();
            entries.map(move |entry| (at, link, entry))
        });
        Box::new(entries.filter_map(move |(at, link, entry)| match entry {
            Ok((key, value)) => {
                let is_new = !link.stale.hides(&key)
                    && (at == 0 && !seen.contains(&key) || at > 0 && seen.insert(key.clone()));
                is_new.then(|| Ok((key, renumbered(at, value))))
            }
            Err(error) => Some(Err(error)),
        }))
    }

    fn sync(&self) -> Result<()> {
        self.inner.open()?;
        let opened = self.inner.reached().filter_map(|(_, link)| link.engine());
        // All of them, whatever the first says.
        opened.map(|engine| engine.sync()).fold(Ok(()), Result::and)
    }

    fn close(&self) -> Result<()> {
        // AcqRel: pairs with `open`.
        if self.inner.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::Closed);
        }
        self.returning.end();
        drop(self.inner.stripes.lock_all());
        let opened = self.inner.links.iter().filter_map(Link::engine);
        opened.map(|engine| engine.close()).fold(Ok(()), Result::and)
    }

    fn stats(&self) -> Stats {
        let serving = self.inner.serving().and_then(|at| self.inner.links[at].engine());
        serving.map(|engine| engine.stats()).unwrap_or_default()
    }

    /// Of the first engine.
    fn set_budget(&self, bytes: u64) -> Result<()> {
        self.inner.open()?;
        match self.inner.links[0].engine() {
            Some(engine) => engine.set_budget(bytes),
            None => Err(Error::Config {
                option: "budget",
                value: bytes.to_string(),
                accepted: "it is away: wait until it is back",
            }),
        }
    }

    fn health(&self) -> Health {
        match self.inner.serving() {
            None => Health::Offline,
            Some(0) if self.inner.reach() == 0 => self.inner.links[0].health(),
            Some(_) => Health::Degraded,
        }
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn tagged(&self) -> Option<&dyn Tagged> {
        Some(self)
    }
}

impl Tagged for Fallback {
    fn invalidate_tag(&self, tag: &[u8]) -> Result<()> {
        self.inner.open()?;
        for (_, link) in self.inner.reached() {
            let invalidate = |engine: &dyn Engine| match engine.tagged() {
                Some(tagged) => tagged.invalidate_tag(tag),
                None => Ok(()),
            };
            match link.attempt(Kind::Write, "invalidate a tag", invalidate) {
                Ok(()) => {}
                Err(Trouble::Callers(error)) => return Err(error),
                Err(_) => {
                    link.owe(tag);
                    self.inner.in_trouble();
                }
            }
        }
        self.tend();
        Ok(())
    }

    fn keys_by_tag(&self, tag: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.inner.open()?;
        let mut keys = HashSet::new();
        for (_, link) in self.inner.reached() {
            let list = |engine: &dyn Engine| match engine.tagged() {
                Some(tagged) => tagged.keys_by_tag(tag),
                None => Ok(Vec::new()),
            };
            if let Ok(listed) = link.attempt(Kind::Read, "list keys by tag", list) {
                keys.extend(listed.into_iter().filter(|key| !link.stale.hides(key)));
            }
        }
        Ok(keys.into_iter().collect())
    }

    /// A number that does not depend on which engines are open.
    fn tag_id(&self, tag: &[u8]) -> Result<u64> {
        let mut id = [0; 8];
        blake3::Hasher::new_derive_key("larder fallback tag")
            .update(tag)
            .finalize_xof()
            .fill(&mut id);
        Ok(u64::from_le_bytes(id))
    }

    fn tag_ids(&self, tag: &[u8]) -> Result<Vec<u64>> {
        // Not only what may hold something: what it held may be in memory still.
        let opened = self.inner.links.iter().filter_map(|link| link.engine()?.tagged());
        let mut ids = vec![self.tag_id(tag)?];
        for tagged in opened {
            ids.extend(tagged.tag_ids(tag)?);
        }
        Ok(ids)
    }

    fn get_tagged(&self, key: &[u8]) -> Result<Option<(Value, Vec<u64>)>> {
        let found = self.inner.first(key, "read a value", |at, engine| {
            let found = match engine.tagged() {
                Some(tagged) => tagged.get_tagged(key)?,
                None => engine.get(key)?.map(|value| (value, Vec::new())),
            };
            Ok(found.map(|(value, tags)| (renumbered(at, value), tags)))
        });
        self.tend();
        found
    }
}
