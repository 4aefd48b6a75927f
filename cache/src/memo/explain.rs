//! Why a call would miss.

use larder_engine::clock::is_live;

use super::function::Function;
use super::notes::Note;
use crate::codec::Codec;
use crate::error::Error;
use crate::key::tag;

/// Why a call finds no result, or that it would find one.
///
/// What happened to a result before the process began is not known, but for what the store itself shows. Within the process
/// the function notes what becomes of the latest 8,192 different arguments that were run or
/// invalidated. What neither shows is [`Unknown`](Self::Unknown).
///
/// ```
/// use larder::{Cache, Explanation, Memo};
///
/// let half = |n: &u64| n.is_multiple_of(2).then(|| n / 2);
/// let halves = Memo::new(Cache::<u64, u64>::builder().build()?, half);
/// assert_eq!(halves.explain(&6), Explanation::NeverStored);
/// halves.call(&6);
/// halves.call(&7);
/// assert_eq!(halves.explain(&6), Explanation::Cached);
/// assert_eq!(halves.explain(&7), Explanation::NotKept);
/// halves.invalidate(&6)?;
/// assert_eq!(halves.explain(&6), Explanation::Invalidated);
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Explanation {
    /// It would find one.
    Cached,
    /// There never was one, of this version or another that is known.
    NeverStored,
    /// The body was run, and its latest result was not kept: an error, a `None`, refused by
    /// `cache_if` or by the cache.
    NotKept,
    /// There was one, and its time is over.
    Expired,
    /// There was one, and it left to make room. One that was removed through the cache, or by another
    /// handle than the function, counts here.
    Evicted,
    /// There is one of another version of the function.
    VersionChanged,
    /// There is one, of a codec that this cache does not read.
    CodecChanged,
    /// There was one, and the function was told to forget it.
    Invalidated,
    /// There is one, and `valid_if` refuses it.
    Invalid,
    /// There is one, and it cannot be read.
    Corrupt,
    /// The cache is closed, switched off, or its store cannot be asked now.
    Unavailable,
    /// It was never stored, or it was and left, or a tag may have been invalidated that it had:
    /// nothing is left that says which.
    Unknown,
}

impl<V: Clone + Send + Sync + 'static, C: Codec<V>> Function<V, C> {
    pub(super) fn explain(&self, key: &[u8]) -> Explanation {
        if self.is_disabled() {
            return Explanation::Unavailable;
        }
        let corrupt = self.corrupt();
        match self.core.peek(key) {
            Ok(Some(value)) if self.is_valid(&value) => return Explanation::Cached,
            Ok(Some(_)) => return Explanation::Invalid,
            Ok(None) => {}
            Err(Error::Decode { .. }) => return Explanation::Corrupt,
            Err(_) => return Explanation::Unavailable,
        }
        if let Some(seen) = self.explain_stored(key) {
            return seen;
        }
        if self.corrupt() != corrupt {
            return Explanation::Corrupt;
        }
        match self.notes.read(key) {
            Some(Note::Invalidated) => return Explanation::Invalidated,
            Some(Note::NotKept) => return Explanation::NotKept,
            Some(Note::Stored { expires_at_ms, .. })
                if !is_live(expires_at_ms, self.core.now_ms()) =>
            {
                return Explanation::Expired;
            }
            // It may be what was damaged since.
            Some(Note::Stored { .. }) if self.corrupt() != self.corrupt_before => {
                return Explanation::Unknown;
            }
            // Some tag was invalidated since; which is not remembered.
            Some(Note::Stored { tagged_at: Some(then), .. })
                if self.core.invalidated.now() != then =>
            {
                return Explanation::Unknown;
            }
            Some(Note::Stored { .. }) => return Explanation::Evicted,
            None => {}
        }
        if self.has_other_version(key) {
            return Explanation::VersionChanged;
        }
        if self.is_new && self.notes.are_complete() {
            return Explanation::NeverStored;
        }
        Explanation::Unknown
    }

    /// What the store shows of a result that is no hit.
    fn explain_stored(&self, key: &[u8]) -> Option<Explanation> {
        let lower = self.core.lower.as_ref()?;
        match lower.get(key) {
            Ok(Some(stored)) => {
                let codec = &self.core.options.codec;
                if !codec.accepts(stored.meta().codec) {
                    return Some(Explanation::CodecChanged);
                }
                codec.decode(&stored).is_err().then_some(Explanation::Corrupt)
            }
            Ok(None) if lower.health() == larder_engine::Health::Offline => {
                Some(Explanation::Unavailable)
            }
            Ok(None) => None,
            Err(_) => Some(Explanation::Unavailable),
        }
    }

    fn corrupt(&self) -> u64 {
        self.core.lower.as_ref().map_or(0, |lower| lower.engine.stats().corrupt)
    }

    fn has_other_version(&self, key: &[u8]) -> bool {
        let (Some(id), Some(arguments)) = (self.id, key.get(self.prefix.len()..)) else {
            return false;
        };
        let namespace = &self.core.options.prefix;
        self.core.functions.others(&self.rules.name, id).into_iter().any(|other| {
            let key = [namespace, &[tag::FUNCTION][..], &other, arguments].concat();
            matches!(self.core.version(&key), Ok(Some(_)))
        })
    }
}
