//! What keys and tags are called in the log: plain ones, those of namespaces, those of queues.
//!
//! ```text
//! plain       the bytes as they are, unless they begin with the marker: then marker 0 rest
//! namespace   marker 1 varint(length of the name) name key; its tag: marker 1 name
//! queue       marker 2 varint(length of the name) name, and what queue.rs puts behind that
//! ```
//!
//! # Invariants
//! 1. The encoding is injective, so that no two keys of different owners are ever the same one.
//!    A stored key that does not begin with the marker is plain, and of one that does, the byte
//!    behind the marker says whose it is. A varint is no prefix of another one, so that the
//!    length, the name and the rest of a key can be told apart again.
//! 2. Everything that comes from a caller passes one of these encodings, and everything that
//!    goes to one the decoding: callers may use any bytes, the marker included.

use std::borrow::Cow;

use larder_format::layout::TAGS_MAX;

use super::iter::Iter;
use super::segment::Record;
use crate::batch::{BatchChange, BatchOutcome, WriteBatch};
use crate::engine::Put;
use crate::error::{Error, Result};
use crate::value::Value;

/// Begins the keys and tags that are not stored as they are.
const MARKER: [u8; 4] = *b"\xFFlr\xFE";

/// Whose a key is that begins with the marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Owner {
    Plain = 0,
    Namespace = 1,
    Queue = 2,
}

/// Whether a plain key or tag is stored as it is.
#[inline]
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    !bytes.starts_with(&MARKER)
}

/// A plain key or tag as it is stored.
#[inline]
pub(super) fn plain(bytes: &[u8]) -> Cow<'_, [u8]> {
    match bytes.strip_prefix(&MARKER) {
        None => bytes.into(),
        Some(rest) => marked(Owner::Plain, &[rest]).into(),
    }
}

/// Plain keys as they are stored, if that is not what they are already.
pub(super) fn plain_all(keys: &[impl AsRef<[u8]>]) -> Option<Vec<Cow<'_, [u8]>>> {
    let any = keys.iter().any(|key| key.as_ref().starts_with(&MARKER));
    any.then(|| keys.iter().map(|key| plain(key.as_ref())).collect())
}

impl WriteBatch {
    /// The batch with keys and tags as they are stored, if that is not what it is already.
    pub(super) fn as_plain(&self) -> Option<Self> {
        let is_marked = |bytes: &Vec<u8>| bytes.starts_with(&MARKER);
        let tags = |change: &BatchChange| {
            change.put.as_ref().is_some_and(|put| put.tags.iter().any(is_marked))
        };
        let changes = || self.changes.iter();
        if !changes().any(|change| is_marked(&change.key) || tags(change))
            && !self.expected.iter().any(|(key, _)| is_marked(key))
        {
            return None;
        }
        Some(self.stored(|key| plain(key).into_owned(), None))
    }

    /// The batch with other keys, tags as they are stored, and one tag more if there is an own
    /// one.
    pub(super) fn stored(&self, key: impl Fn(&[u8]) -> Vec<u8>, own: Option<&[u8]>) -> Self {
        let mut stored = self.clone();
        for change in &mut stored.changes {
            change.key = key(&change.key);
            if let Some(put) = &mut change.put {
                put.tags.iter_mut().for_each(|tag| *tag = plain(tag).into_owned());
                put.tags.extend(own.map(<[u8]>::to_vec));
            }
        }
        stored.expected.iter_mut().for_each(|(expected, _)| *expected = key(expected));
        stored
    }
}

impl BatchOutcome {
    /// The outcome with the key that its owner knows.
    pub(super) fn for_owner(self, scope: &Scope) -> Self {
        match self {
            Self::Conflict { key, version } => {
                let key = scope.key(&key).map(Cow::into_owned).unwrap_or_default();
                Self::Conflict { key, version }
            }
            other => other,
        }
    }
}

/// What a plain key was before it was stored; `None` if it is not plain.
fn plain_again(stored: &[u8]) -> Option<Cow<'_, [u8]>> {
    match stored.strip_prefix(&MARKER) {
        None => Some(stored.into()),
        Some([0, rest @ ..]) => Some([&MARKER, rest].concat().into()),
        Some(_) => None,
    }
}

/// What a stored key is made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) owner: Owner,
    /// The owner's; empty for plain keys.
    pub(super) name: &'a [u8],
    /// As its owner knows it.
    pub(super) key: Cow<'a, [u8]>,
}

/// Takes a stored key apart; `None` if it is none of these encodings.
pub(super) fn split(stored: &[u8]) -> Option<Parts<'_>> {
    if let Some(key) = plain_again(stored) {
        return Some(Parts { owner: Owner::Plain, name: &[], key });
    }
    let (owner, mut rest) = match stored.strip_prefix(&MARKER)? {
        [1, rest @ ..] => (Owner::Namespace, rest),
        [2, rest @ ..] => (Owner::Queue, rest),
        _ => return None,
    };
    let mut len = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        len |= usize::from(byte & 0x7F).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            let (name, key) = rest.split_at_checked(len)?;
            return Some(Parts { owner, name, key: key.into() });
        }
    }
    None
}

/// What all keys of a namespace or queue begin with.
pub(super) fn prefix(owner: Owner, name: &[u8]) -> Vec<u8> {
    marked(owner, &[&varint(name.len()), name])
}

/// The tag of a namespace.
pub(super) fn tag_of(name: &[u8]) -> Vec<u8> {
    marked(Owner::Namespace, &[name])
}

fn marked(owner: Owner, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = MARKER.to_vec();
    bytes.push(owner as u8);
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// LEB128: seven bits a byte, the lowest first; all bytes but the last have the top bit.
fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7F).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Hands over options with their tags as they are stored, and with one tag more if there is an
/// own one.
pub(super) fn with_tags<R>(
    options: &Put<'_>,
    own: Option<&[u8]>,
    f: impl FnOnce(&Put<'_>) -> Result<R>,
) -> Result<R> {
    if own.is_none() && !options.tags.iter().any(|tag| tag.starts_with(&MARKER)) {
        return f(options);
    }
    let max = TAGS_MAX - usize::from(own.is_some());
    if options.tags.len() > max {
        return Err(Error::TooManyTags { count: options.tags.len(), max });
    }
    let stored: Vec<_> = options.tags.iter().map(|tag| plain(tag)).collect();
    let tags: Vec<&[u8]> = stored.iter().map(|tag| &**tag).chain(own).collect();
    f(&Put { tags: &tags, ..*options })
}

/// Whose entries a walk is to yield.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    /// Plain ones.
    Plain,
    /// Those whose keys begin with this.
    Under(Vec<u8>),
}

impl Scope {
    /// The key as its owner knows it, if it is one of these.
    pub(super) fn key<'k>(&self, stored: &'k [u8]) -> Option<Cow<'k, [u8]>> {
        match self {
            Self::Plain => plain_again(stored),
            Self::Under(prefix) => stored.strip_prefix(&**prefix).map(Cow::Borrowed),
        }
    }
}

/// The entries of one owner, with the keys that it knows.
pub(super) struct Entries<'a> {
    iter: Iter<'a>,
    scope: Scope,
}

impl<'a> Entries<'a> {
    pub(super) const fn new(iter: Iter<'a>, scope: Scope) -> Self {
        Self { iter, scope }
    }

    /// The keys of those whose record is to the liking of `wanted`.
    pub(super) fn keys(self, wanted: impl Fn(&Record<'_>) -> bool) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let Self { iter, scope } = self;
        iter.for_each_live(|record| {
            if let Some(key) = scope.key(record.key())
                && wanted(record)
            {
                keys.push(key.into_owned());
            }
        });
        keys
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(Vec<u8>, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        let scope = &self.scope;
        self.iter.next_with(|record| scope.key(record.key()).map(Cow::into_owned))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Names and keys that would collide if only they were put side by side.
    fn awkward() -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> =
            [&b""[..], b"a", b"ab", b"\0", b"\x01", b"\x01a", b"\x02", b"\x80", b"\xFF", b"lr\xFE"]
                .iter()
                .map(|bytes| bytes.to_vec())
                .collect();
        all.push(MARKER.to_vec());
        all.extend([127, 128, 129, 300, 1 << 14].map(|len| vec![b'a'; len]));
        for owner in [Owner::Plain, Owner::Namespace, Owner::Queue] {
            all.push(marked(owner, &[b""]));
            all.push(marked(owner, &[b"\x01a"]));
            all.push(prefix(owner, b"b"));
        }
        all
    }

    #[test]
    fn no_two_keys_are_stored_as_one() {
        let mut seen = HashMap::new();
        let mut note = |stored: Vec<u8>, of: (u8, Vec<u8>, Vec<u8>)| {
            assert_eq!(seen.insert(stored, of.clone()), None, "{of:?}");
        };
        for key in awkward() {
            note(plain(&key).into_owned(), (0, Vec::new(), key.clone()));
            for name in awkward() {
                for owner in [Owner::Namespace, Owner::Queue] {
                    let stored = [&*prefix(owner, &name), &key].concat();
                    note(stored, (owner as u8, name.clone(), key.clone()));
                }
            }
        }
    }

    #[test]
    fn no_two_tags_are_stored_as_one() {
        let mut seen = HashMap::new();
        for tag in awkward() {
            assert_eq!(seen.insert(plain(&tag).into_owned(), (false, tag.clone())), None);
            assert_eq!(seen.insert(tag_of(&tag), (true, tag)), None);
        }
    }

    #[test]
    fn owners_get_their_own_keys_back_and_no_others() {
        for key in awkward() {
            assert_eq!(Scope::Plain.key(&plain(&key)).unwrap(), key);
            let parts = Parts { owner: Owner::Plain, name: b"", key: Cow::Borrowed(&*key) };
            assert_eq!(split(&plain(&key)), Some(parts));
            for name in awkward() {
                let scope = Scope::Under(prefix(Owner::Namespace, &name));
                let stored = [&*prefix(Owner::Namespace, &name), &key].concat();
                assert_eq!(scope.key(&stored).unwrap(), key);
                let owner = Owner::Namespace;
                let parts = Parts { owner, name: &name, key: Cow::Borrowed(&*key) };
                assert_eq!(split(&stored), Some(parts));
                assert_eq!(Scope::Plain.key(&stored), None);
                assert_eq!(scope.key(&plain(&key)), None);
                let longer = [&*name, b"b"].concat();
                assert_eq!(Scope::Under(prefix(Owner::Namespace, &longer)).key(&stored), None);
            }
        }
    }
}
