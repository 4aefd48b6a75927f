//! Bytes that an engine hands out, and what it knows about them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use larder_format::CodecId;

use crate::clock::NEVER;
use crate::disk::View;

/// What is stored beside a value's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meta {
    /// The codec that the bytes were written with.
    pub codec: CodecId,
    /// When the value expires, in ms since 1970; `u64::MAX` for never.
    pub expires_at_ms: u64,
    /// When it was written, in ms since 1970.
    pub written_at_ms: u64,
    /// Grows with every write; two values of one key with the same version are the same.
    pub version: u64,
}

impl Default for Meta {
    fn default() -> Self {
        Self { codec: CodecId::RAW, expires_at_ms: NEVER, written_at_ms: 0, version: 0 }
    }
}

/// A stored value: bytes that stay as they are for as long as this lives, and their metadata.
///
/// Cloning copies no bytes. A value from disk is a view of the mapped file: it keeps the
/// mapping, and the disk space under it, alive whatever happens to the entry. Hold it briefly,
/// or [`to_owned`](Self::to_owned) it.
///
/// ```
/// let value = larder_engine::Value::from(b"bytes".to_vec());
/// assert_eq!(&*value, b"bytes");
/// ```
#[derive(Clone)]
pub struct Value {
    bytes: Bytes,
    meta: Meta,
}

#[derive(Clone)]
enum Bytes {
    Heap(Arc<[u8]>),
    /// On the heap as well, where it was made.
    Owned(Arc<Vec<u8>>),
    Mapped(View),
}

impl Value {
    /// A value on the heap.
    #[must_use]
    pub fn new(bytes: impl Into<Arc<[u8]>>, meta: Meta) -> Self {
        Self { bytes: Bytes::Heap(bytes.into()), meta }
    }

    /// A value on the heap, where it is: no byte of it is copied.
    pub(crate) fn owned(bytes: Vec<u8>, meta: Meta) -> Self {
        Self { bytes: Bytes::Owned(Arc::new(bytes)), meta }
    }

    /// A view of committed bytes in a mapped file.
    pub(crate) const fn mapped(view: View, meta: Meta) -> Self {
        Self { bytes: Bytes::Mapped(view), meta }
    }

    /// What is known about it.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The same value under another version: for engines that are made of others.
    #[must_use]
    pub const fn with_version(mut self, version: u64) -> Self {
        self.meta.version = version;
        self
    }

    /// Whether the bytes are a view of a mapped file.
    #[must_use]
    pub const fn is_mapped(&self) -> bool {
        matches!(self.bytes, Bytes::Mapped(_))
    }

    /// Bytes of disk that stay taken for as long as this is held, whatever happens to the
    /// entry: the length of the mapped file, or 0 for a value on the heap.
    #[must_use]
    pub fn pinned_len(&self) -> u64 {
        match &self.bytes {
            Bytes::Heap(_) | Bytes::Owned(_) => 0,
            Bytes::Mapped(view) => view.pinned_len(),
        }
    }

    /// The bytes, if they are a view of a mapped file.
    pub(crate) const fn view(&self) -> Option<&View> {
        match &self.bytes {
            Bytes::Heap(_) | Bytes::Owned(_) => None,
            Bytes::Mapped(view) => Some(view),
        }
    }

    /// The same value on the heap, holding no mapping.
    #[must_use]
    pub fn to_owned(&self) -> Self {
        Self::new(&**self, self.meta)
    }
}

impl Deref for Value {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Heap(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(view) => view.bytes(),
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes, Meta::default())
    }
}

/// Values are equal when their bytes are.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Value")
            .field("len", &self.len())
            .field("mapped", &self.is_mapped())
            .field("meta", &self.meta)
            .finish()
    }
}
