//! All entries of both tiers, and their number.

use std::collections::HashSet;

use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::error::Result;
use crate::key::Key;

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// Number of entries, expired ones included until they are noticed.
    pub(crate) fn len(&self) -> u64 {
        match &self.lower {
            None => self.memory.len(),
            Some(lower) if self.options.prefix.is_empty() => {
                lower.engine.len() + self.unflushed_len()
            }
            // Others share the store, and it does not count by prefix.
            Some(lower) => lower.iter().flatten().count() as u64 + self.unflushed_len(),
        }
    }

    /// The keys of all entries of both tiers, each once.
    pub(crate) fn keys(&self) -> Result<Vec<Key>> {
        self.open()?;
        let resident = self.memory.entries().into_iter().map(|(key, _)| key);
        let mut keys: HashSet<Key> = resident.collect();
        keys.extend(self.pending.keys());
        for entry in self.lower.iter().flat_map(|lower| lower.iter()) {
            keys.insert(Key::from(&entry?.0[..]));
        }
        Ok(keys.into_iter().collect())
    }

    /// All live entries. What is in memory comes first; what moves down meanwhile is met in
    /// the store, and not given out twice.
    pub(crate) fn iter(&self) -> Result<impl Iterator<Item = Result<(Vec<u8>, V)>> + '_> {
        self.open()?;
        // First memory, then what waits, then the store: the way that values go.
        let resident = self.memory.entries().into_iter().map(|(key, _)| key);
        let mut above: HashSet<Key> = resident.collect();
        above.extend(self.pending.keys());
        let below = self.lower.iter().flat_map(|lower| lower.iter());
        let keys: Vec<Key> = above.iter().cloned().collect();
        let first = keys.into_iter().filter_map(|key| {
            let value = self.peek(&key).transpose()?;
            Some(value.map(|value| (key.to_vec(), value)))
        });
        let rest = below.filter_map(move |entry| match entry {
            Ok((key, _)) if above.contains(&key[..]) => None,
            // Promoted meanwhile: as with a lookup, what is above counts, for the store may have the
            // value of a write that is still under way (`above` in `core.rs`).
            Ok((key, stored)) => match self.above(&key) {
                Some(entry) => self.is_fresh(&entry.life).then(|| Ok((key, entry.value.clone()))),
                None if !self.is_fresh(&stored.meta().into()) => None,
                None => Some(self.decode(&stored).transpose()?.map(|value| (key, value))),
            },
            Err(error) => Some(Err(error)),
        });
        Ok(first.chain(rest))
    }
}
