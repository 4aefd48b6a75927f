//! What memory holds for a key, and what is about to become that.

use std::sync::Arc;

use larder_engine::CodecId;

use crate::codec::Codec;
use crate::sync::{AtomicBool, Ordering};

/// A value in memory. Behind an `Arc`, so that what leaves the tier moves on without a copy.
#[derive(Debug)]
pub(crate) struct Entry<V> {
    pub(crate) value: V,
    pub(crate) expires_at_ms: u64,
    /// The store's, or one of our own (see [`OWN_VERSION`]).
    pub(crate) version: u64,
    pub(crate) weight: u64,
    /// Whether memory, or the way to the store, is the only place that has it.
    unflushed: AtomicBool,
}

/// Set in versions that we give out ourselves, to values that the store does not have. The
/// store's stay below.
pub(crate) const OWN_VERSION: u64 = 1 << 63;

impl<V> Entry<V> {
    pub(crate) fn new(
        value: V,
        expires_at_ms: u64,
        version: u64,
        weight: u64,
        unflushed: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            value,
            expires_at_ms,
            version,
            weight,
            unflushed: AtomicBool::new(unflushed),
        })
    }

    /// The value, copied only if somebody else holds the entry.
    pub(crate) fn into_value(entry: Arc<Self>) -> V
    where
        V: Clone,
    {
        Arc::try_unwrap(entry).map_or_else(|entry| entry.value.clone(), |entry| entry.value)
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
