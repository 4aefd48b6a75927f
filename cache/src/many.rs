//! Many keys at once.
//!
//! What memory lacks of them is asked of the store in one call, so that its waits overlap. Each key is
//! looked up in the same order as alone (`core.rs`), at a moment of its own.

use std::sync::Arc;

use larder_engine::{Durability, Outcome, Put};

use crate::codec::Codec;
use crate::core::{Cached, Core, Place};
use crate::entry::Entry;
use crate::error::Result;
use crate::key::Key;
use crate::lower::Lower;

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// The values of keys, in their order.
    pub(crate) fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<V>>> {
        self.open()?;
        let fresh = |entry: &Arc<Entry<V>>| {
            let value = || self.is_fresh(&entry.life).then(|| entry.value.clone());
            (!self.is_due(entry)).then(value)
        };
        let mut values = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let seen = self.in_memory(key, fresh).flatten();
            match &seen {
                None => missing.push(at),
                Some(value) => self.counters.past.add(u64::from(value.is_none())),
            }
            values.push(seen.flatten());
        }
        match &self.lower {
            None => missing.iter().for_each(|_| self.count(None)),
            Some(lower) => {
                let looked_up = self.get_many_below(lower, keys, &missing, &mut values);
                self.events.emit();
                looked_up?;
            }
        }
        Ok(values)
    }

    /// The values of those that memory lacks.
    fn get_many_below(
        &self,
        lower: &Lower,
        keys: &[Key],
        missing: &[usize],
        values: &mut [Option<V>],
    ) -> Result<()> {
        let mut asked = Vec::with_capacity(missing.len());
        for at in missing {
            match self.waiting(&keys[*at]).filter(|entry| self.is_fresh(&entry.life)) {
                None => asked.push(*at),
                Some(entry) => {
                    self.count(Some(Place::Pending));
                    self.used(&keys[*at], &entry);
                    values[*at] = Some(entry.value.clone());
                }
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let bytes: Vec<&[u8]> = asked.iter().map(|at| &*keys[*at]).collect();
        for (at, found) in asked.iter().zip(lower.get_many_tagged(&bytes)?) {
            let key = &keys[*at];
            let stored = found.map_or(Ok(None), |found| self.taken(lower, key, found));
            let entry = self.looked_up(lower, key, stored)?;
            let entry = entry.filter(|entry| self.is_fresh(&entry.life));
            self.count(entry.is_some().then_some(Place::Store));
            if let Some(entry) = &entry {
                self.used(key, entry);
            }
            values[*at] = entry.map(|entry| entry.value.clone());
        }
        Ok(())
    }

    /// Stores values one after the other, and says what became of each. If they are to survive the
    /// loss of power, there is one sync for all of them.
    pub(crate) fn insert_many(
        &self,
        entries: impl IntoIterator<Item = (Key, V)>,
        put: &Put<'_>,
    ) -> Result<Vec<Outcome>> {
        let each = Put { durability: Durability::None, ..*put };
        let entries = entries.into_iter();
        let outcomes = entries
            .map(|(key, value)| self.insert_value(&key, value, &each))
            .collect::<Result<_>>()?;
        if put.durability == Durability::Sync {
            self.sync()?;
        }
        Ok(outcomes)
    }
}
