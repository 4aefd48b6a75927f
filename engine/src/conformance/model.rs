//! What an engine should be: a plain map with a clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::CodecId;
use crate::clock::{Clock, ManualClock, is_live};
use crate::engine::Put;

/// An entry as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value's bytes.
    pub value: Vec<u8>,
    /// The codec given with them.
    pub codec: CodecId,
    /// Live while the clock shows less than this.
    pub deadline_ms: u64,
    /// The version that the engine gave it.
    pub version: u64,
}

/// An engine that keeps everything and is simple enough to be seen to be right.
#[derive(Debug, Clone)]
pub struct Model {
    clock: Arc<ManualClock>,
    default_ttl: Option<Duration>,
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Highest version that each key ever had; removing does not lower it.
    versions: BTreeMap<Vec<u8>, u64>,
}

impl Model {
    /// An empty one.
    #[must_use]
    pub fn new(clock: Arc<ManualClock>, default_ttl: Option<Duration>) -> Self {
        Self { clock, default_ttl, entries: BTreeMap::new(), versions: BTreeMap::new() }
    }

    /// The live entry of `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        let now_ms = self.clock.now_ms();
        self.entries.get(key).filter(|entry| is_live(entry.deadline_ms, now_ms))
    }

    /// Stores a value that the engine says it stored with `version`. Whether the version has
    /// grown, as it has to.
    pub fn put(&mut self, key: &[u8], value: &[u8], options: &Put, version: u64) -> bool {
        let deadline_ms = options.ttl.deadline_ms(self.clock.now_ms(), self.default_ttl);
        let entry = Entry { value: value.to_vec(), codec: options.codec, deadline_ms, version };
        self.entries.insert(key.to_vec(), entry);
        self.versions.insert(key.to_vec(), version).is_none_or(|before| before < version)
    }

    /// Removes `key`; whether it was live.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let was_live = self.get(key).is_some();
        self.entries.remove(key);
        was_live
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// All live entries.
    pub fn live(&self) -> impl Iterator<Item = (&Vec<u8>, &Entry)> {
        let now_ms = self.clock.now_ms();
        self.entries.iter().filter(move |(_, entry)| is_live(entry.deadline_ms, now_ms))
    }

    /// Number of entries, expired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none, not even expired ones.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Ttl;

    #[test]
    fn the_model_expires_replaces_and_removes() {
        let clock = Arc::new(ManualClock::at(1_000));
        let mut model = Model::new(clock.clone(), None);
        let short = Put { ttl: Ttl::After(Duration::from_millis(5)), ..Put::default() };
        assert!(model.put(b"k", b"old", &Put::default(), 1));
        assert!(model.put(b"k", b"new", &short, 2));
        assert_eq!(model.get(b"k").map(|entry| &entry.value[..]), Some(&b"new"[..]));
        clock.advance(4);
        assert_eq!(model.live().count(), 1);
        clock.advance(1);
        assert_eq!(model.get(b"k"), None);
        assert_eq!((model.live().count(), model.len()), (0, 1));
        assert!(!model.remove(b"k"), "what has expired is not there to be removed");
        assert!(!model.put(b"k", b"v", &short, 2), "a version has to grow over a removal, too");
        model.clear();
        assert!(model.is_empty());
    }
}
