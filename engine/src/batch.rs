//! Several changes as one.

use crate::engine::{Expected, Put};

/// Changes that take place together or not at all: all become visible at one moment, and a
/// kill or a loss of power leaves all of them or none.
///
/// Of several changes of one key the last counts. See [`Disk::write`](crate::Disk::write).
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
/// use larder_engine::{Durability, Engine, Expected, Put, WriteBatch};
///
/// let mut batch = WriteBatch::new();
/// batch.expect(b"to", Expected::Absent);
/// batch.put(b"to", b"moved", &Put::default());
/// batch.remove(b"from");
/// assert!(disk.write(&batch, Durability::None)?.is_committed());
/// assert_eq!(disk.get(b"to")?.as_deref(), Some(&b"moved"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    pub(crate) changes: Vec<BatchChange>,
    pub(crate) expected: Vec<(Vec<u8>, Expected)>,
}

/// One change of a batch.
#[derive(Debug, Clone)]
pub(crate) struct BatchChange {
    pub(crate) key: Vec<u8>,
    /// The value and its options; `None` removes the key.
    pub(crate) put: Option<BatchPut>,
}

/// A value of a batch.
#[derive(Debug, Clone)]
pub(crate) struct BatchPut {
    pub(crate) value: Vec<u8>,
    pub(crate) ttl: crate::engine::Ttl,
    pub(crate) codec: larder_format::CodecId,
    pub(crate) tags: Vec<Vec<u8>>,
}

impl WriteBatch {
    /// A batch without changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores a value. The durability in `options` does not count: that of the batch does.
    pub fn put(&mut self, key: &[u8], value: &[u8], options: &Put<'_>) -> &mut Self {
        let put = BatchPut {
            value: value.to_vec(),
            ttl: options.ttl,
            codec: options.codec,
            tags: options.tags.iter().map(|tag| tag.to_vec()).collect(),
        };
        self.change(key, Some(put))
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &[u8]) -> &mut Self {
        self.change(key, None)
    }

    /// Lets nothing take place unless the key is as expected.
    pub fn expect(&mut self, key: &[u8], expected: Expected) -> &mut Self {
        self.expected.push((key.to_vec(), expected));
        self
    }

    /// Number of keys that it changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn change(&mut self, key: &[u8], put: Option<BatchPut>) -> &mut Self {
        self.changes.push(BatchChange { key: key.to_vec(), put });
        self
    }

    /// The changes that count: of several of one key the last.
    pub(crate) fn last_changes(&self) -> Vec<&BatchChange> {
        let mut seen = std::collections::HashSet::with_capacity(self.changes.len());
        let mut last: Vec<_> =
            self.changes.iter().rev().filter(|change| seen.insert(&change.key)).collect();
        last.reverse();
        last
    }
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a batch may not have taken place"]
pub enum BatchOutcome {
    /// All of it took place.
    Committed {
        /// The version of its first change; later ones have higher versions.
        version: u64,
    },
    /// None of it took place, as this key is not as it was expected to be.
    Conflict {
        /// The key.
        key: Vec<u8>,
        /// The version of its live value; `None` if it has none.
        version: Option<u64>,
    },
    /// None of it took place.
    Rejected(crate::engine::Rejection),
}

impl BatchOutcome {
    /// Whether the batch took place.
    #[must_use]
    pub const fn is_committed(&self) -> bool {
        matches!(self, Self::Committed { .. })
    }
}
