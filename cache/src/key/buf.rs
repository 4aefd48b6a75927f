//! Where keys are encoded, and how the cache holds them.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use larder_format::layout::KEY_LEN_MAX;

use super::tag;

/// Bytes that fit without an allocation; most keys do.
const INLINE: usize = 64;

/// A buffer that a key is encoded into. Short keys need no allocation.
///
/// ```
/// use larder::{KeyBuf, KeyEncode};
/// let mut key = KeyBuf::new();
/// ("user", 7_u32).encode(&mut key);
/// assert_eq!(key.as_bytes(), b"\x42\x02\x30\x04user\x12\x07\0\0\0");
/// ```
#[derive(Clone)]
pub struct KeyBuf {
    len: usize,
    inline: [u8; INLINE],
    /// Holds everything as soon as it holds anything, but for what was digested.
    heap: Vec<u8>,
    /// Bytes on the heap beyond which they are digested.
    limit: usize,
    /// Bytes that are not digested: what stands before the key itself.
    kept: usize,
    digest: Option<Box<blake3::Hasher>>,
}

/// Bytes that are collected before they are digested.
const STAGE: usize = 64 << 10;

impl KeyBuf {
    /// An empty buffer.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self {
            len: 0,
            inline: [0; INLINE],
            heap: Vec::new(),
            limit: usize::MAX,
            kept: 0,
            digest: None,
        }
    }

    /// A buffer for a key that is to be stored, behind `prefix`: a long key is digested.
    #[inline]
    pub(crate) fn storable(prefix: &[u8]) -> Self {
        let mut buf = Self::new();
        buf.push(prefix);
        buf.limit = KEY_LEN_MAX;
        buf.kept = prefix.len();
        buf
    }

    /// The same begin again, of a buffer that holds but a short one.
    #[inline]
    pub(crate) fn begun(&self) -> Self {
        let Self { len, inline, limit, kept, .. } = *self;
        Self { len, inline, heap: self.heap.clone(), limit, kept, digest: None }
    }

    /// Appends bytes as they are. Who implements [`KeyEncode`](trait@crate::KeyEncode) with this
    /// answers for its promises; encoding a tuple of the parts keeps them by itself.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        if self.heap.is_empty() {
            let end = self.len + bytes.len();
            if let Some(room) = self.inline.get_mut(self.len..end) {
                room.copy_from_slice(bytes);
                self.len = end;
                return;
            }
        }
        self.push_on_the_heap(bytes);
    }

    #[cold]
    fn push_on_the_heap(&mut self, bytes: &[u8]) {
        if self.heap.is_empty() && self.digest.is_none() {
            let room = (self.len + bytes.len()).min(self.limit);
            self.heap.reserve(room.max(2 * INLINE));
            self.heap.extend_from_slice(&self.inline[..self.len]);
        }
        if bytes.len() <= self.limit - self.heap.len() {
            self.heap.extend_from_slice(bytes);
        } else {
            self.digest(bytes);
        }
    }

    /// Digests what was encoded so far, and `bytes`.
    #[cold]
    fn digest(&mut self, bytes: &[u8]) {
        let digest = self.digest.get_or_insert_with(Box::default);
        digest.update(&self.heap[self.kept..]);
        digest.update(bytes);
        self.heap.truncate(self.kept);
        // Nothing goes in place any more, even if nothing is kept.
        self.len = INLINE;
        self.limit = self.kept + STAGE;
    }

    /// What is stored: the prefix and the key, or the prefix and the key's digest.
    #[inline]
    pub(crate) fn stored(&mut self) -> &[u8] {
        if self.digest.is_some() {
            self.finish_digest();
        }
        self.as_bytes()
    }

    #[cold]
    fn finish_digest(&mut self) {
        if let Some(mut digest) = self.digest.take() {
            digest.update(&self.heap[self.kept..]);
            self.heap.truncate(self.kept);
            self.heap.push(tag::DIGEST);
            self.heap.extend_from_slice(digest.finalize().as_bytes());
        }
    }

    /// Appends a tag and fixed bytes.
    #[inline]
    pub(crate) fn tagged<const N: usize>(&mut self, tag: u8, bytes: [u8; N]) {
        // Both at once, with one look at the room, as nearly all keys are short.
        if self.heap.is_empty()
            && let Some(room) = self.inline.get_mut(self.len..)
            && let Some((first, rest)) = room.split_first_mut()
            && let Some(rest) = rest.first_chunk_mut()
        {
            *first = tag;
            *rest = bytes;
            self.len += 1 + N;
            return;
        }
        self.push(&[tag]);
        self.push(&bytes);
    }

    /// Appends the shape of a derived type.
    #[doc(hidden)]
    #[inline]
    pub fn shape(&mut self, shape: &'static str) {
        self.tag_len(tag::SHAPE, shape.len());
        self.push(shape.as_bytes());
    }

    /// Begins the arguments of a function.
    #[doc(hidden)]
    #[inline]
    pub fn arguments(&mut self, count: u8) {
        self.push(&[tag::TUPLE, count]);
    }

    /// Appends a tag and a length.
    #[inline]
    pub(crate) fn tag_len(&mut self, tag: u8, len: usize) {
        self.push(&[tag]);
        self.len(len);
    }

    /// Appends a length in base 128.
    #[inline]
    pub(crate) fn len(&mut self, mut len: usize) {
        loop {
            let [low, ..] = (len as u64).to_le_bytes();
            let low = low & 0x7f;
            len >>= 7;
            if len == 0 {
                return self.push(&[low]);
            }
            self.push(&[low | 0x80]);
        }
    }

    /// What was encoded.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        if self.heap.is_empty() { &self.inline[..self.len] } else { &self.heap }
    }
}

impl Default for KeyBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for KeyBuf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "KeyBuf({:02x?})", self.as_bytes())
    }
}

/// An encoded key that the memory tier holds: up to 22 bytes in place, more behind a pointer.
#[derive(Clone)]
pub(crate) enum Key {
    Short { len: u8, bytes: [u8; Key::SHORT] },
    Long(Arc<[u8]>),
}

const _: () = assert!(size_of::<Key>() == 24);

impl Key {
    const SHORT: usize = 22;
}

impl From<&[u8]> for Key {
    #[inline]
    fn from(key: &[u8]) -> Self {
        match u8::try_from(key.len()) {
            Ok(len) if key.len() <= Self::SHORT => {
                let mut bytes = [0; Self::SHORT];
                bytes[..key.len()].copy_from_slice(key);
                Self::Short { len, bytes }
            }
            _ => Self::Long(key.into()),
        }
    }
}

impl Deref for Key {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Key {
    // A call would cost more than it does; the compiler leaves it one otherwise.
    #[inline(always)]
    fn borrow(&self) -> &[u8] {
        self
    }
}

// As `[u8]` does it, because the tier looks keys up by `&[u8]`.
impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl PartialEq for Key {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Key({:02x?})", &**self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_spills_to_the_heap_without_losing_a_byte() {
        for (first, second) in [(0, 65), (63, 1), (63, 2), (64, 1), (1, 64), (200, 3)] {
            let bytes: Vec<u8> = (0..=255).cycle().take(first + second).collect();
            let mut key = KeyBuf::new();
            key.push(&bytes[..first]);
            key.push(&bytes[first..]);
            assert_eq!(key.as_bytes(), bytes);
        }
    }

    #[test]
    fn short_and_long_keys_compare_by_their_bytes() {
        for len in [0, 1, 22, 23, 300] {
            let bytes = vec![7; len];
            let key = Key::from(&bytes[..]);
            assert_eq!(&*key, &bytes[..]);
            assert_eq!(matches!(key, Key::Short { .. }), len <= 22);
        }
    }
}
