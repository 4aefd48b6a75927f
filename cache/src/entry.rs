//! What memory holds for a key, and what is about to become that.

use std::sync::{Arc, OnceLock};

use larder_engine::clock::NEVER;
use larder_engine::{CodecId, Meta, Stamp};

use crate::codec::Codec;
use crate::sync::{AtomicBool, Ordering};
use crate::tags::Tags;

/// A value in memory. Behind an `Arc`, so that what leaves the tier moves on without a copy.
#[derive(Debug)]
pub(crate) struct Entry<V> {
    pub(crate) value: V,
    pub(crate) life: Life,
    /// The store's, or one of our own (see [`OWN_VERSION`]).
    pub(crate) version: u64,
    pub(crate) weight: u64,
    pub(crate) tags: Option<Arc<Tags>>,
    /// Whether memory, or the way to the store, is the only place that has it.
    unflushed: AtomicBool,
    /// Of a store that others change, as of before the value was read (`current.rs`).
    stamp: OnceLock<Box<Stamp>>,
}

/// From when to when a value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) written_at_ms: u64,
    /// When it is gone, from memory as well as from the store (`fresh.rs`).
    pub(crate) expires_at_ms: u64,
    /// How long it took to load, if it was loaded and took any time; else 0.
    pub(crate) load_ms: u32,
    /// Whether uses move the end (`idle.rs`).
    pub(crate) is_idle: bool,
}

impl Default for Life {
    fn default() -> Self {
        Self { written_at_ms: 0, expires_at_ms: NEVER, load_ms: 0, is_idle: false }
    }
}

impl From<&Meta> for Life {
    fn from(meta: &Meta) -> Self {
        let (written_at_ms, expires_at_ms) = (meta.written_at_ms, meta.expires_at_ms);
        Self { written_at_ms, expires_at_ms, ..Self::default() }
    }
}

/// Set in versions that we give out ourselves, to values that the store does not have. The
/// store's stay below.
pub(crate) const OWN_VERSION: u64 = 1 << 63;

impl<V> Entry<V> {
    pub(crate) fn new(
        value: V,
        life: Life,
        version: u64,
        weight: u64,
        tags: Option<Arc<Tags>>,
        unflushed: bool,
    ) -> Arc<Self> {
        let (unflushed, stamp) = (AtomicBool::new(unflushed), OnceLock::new());
        Arc::new(Self { value, life, version, weight, tags, unflushed, stamp })
    }

    /// Notes by what it is kept, once.
    pub(crate) fn keep_with(&self, stamp: Option<Stamp>) {
        if let Some(stamp) = stamp {
            let _ = self.stamp.set(Box::new(stamp));
        }
    }

    pub(crate) fn stamp(&self) -> Option<&Stamp> {
        self.stamp.get().map(|stamp| &**stamp)
    }

    /// The value, copied only if somebody else holds the entry.
    pub(crate) fn into_value(entry: Arc<Self>) -> V
    where
        V: Clone,
    {
        Arc::try_unwrap(entry).map_or_else(|entry| entry.value.clone(), |entry| entry.value)
    }

    /// Whether its tags are as they were when it was inserted. Of those that the store may lack;
    /// asked while moving (`tags.rs`).
    pub(crate) fn has_valid_tags(&self) -> bool {
        self.tags.as_ref().is_none_or(|tags| tags.are_valid())
    }

    pub(crate) fn is_unflushed(&self) -> bool {
        // Relaxed: changes under the key's stripe and the lock of its shard only.
        self.unflushed.load(Ordering::Relaxed)
    }

    /// The store has it now. Whether it had not before.
    pub(crate) fn flushed(&self) -> bool {
        // Relaxed: as above.
        self.unflushed.swap(false, Ordering::Relaxed)
    }
}

/// A value on its way in.
pub(crate) trait Incoming<V> {
    /// Its bytes for the store, made before any lock is taken.
    fn bytes(&self) -> &[u8];

    /// The codec that made them.
    fn codec(&self) -> CodecId;

    /// What memory is to hold.
    fn into_value(self, version: u64) -> V;
}

/// A value, and its bytes unless it consists of them or they are not needed.
pub(crate) struct Encoded<'c, V, C> {
    pub(crate) codec: &'c C,
    pub(crate) value: V,
    pub(crate) bytes: Vec<u8>,
}

impl<V, C: Codec<V>> Incoming<V> for Encoded<'_, V, C> {
    fn bytes(&self) -> &[u8] {
        self.codec.as_bytes(&self.value).unwrap_or(&self.bytes)
    }

    fn codec(&self) -> CodecId {
        self.codec.id_of(&self.value)
    }

    fn into_value(self, _: u64) -> V {
        self.value
    }
}
