//! What can go wrong in a cache, and what to do about it.

use larder_engine::{Error as EngineError, Rejection};

use crate::codec::CodecError;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a cache could not do what it was asked.
///
/// The message says what could not be done and what to do about it; `source()` holds what the
/// store, a codec or the system said, which the message does not repeat.
/// [`is_transient`](Self::is_transient) says whether it is worth trying again.
///
/// A store that fails is not among the reasons, unless the cache was built with
/// [`strict(true)`](crate::Builder::strict): it is a miss, counted and announced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store under the memory tier failed: when the cache was opened, synced or closed,
    /// or at any time if it is strict.
    #[error("the store cannot {op}")]
    Engine {
        /// What was asked of it, as an infinitive.
        op: &'static str,
        /// What it said.
        source: EngineError,
    },
    /// The store has failed too often and is not tried now. Only if the cache is strict.
    #[error("the store is offline after repeated failures: it is tried again after a pause")]
    Offline,
    /// A key whose encoded form is longer than the format allows.
    #[error("a key of {len} bytes is too long: at most {max} are allowed; use a hash of it")]
    KeyTooLong {
        /// Its encoded length in bytes, with the namespace.
        len: usize,
        /// Most bytes allowed.
        max: usize,
    },
    /// More tags than a value can carry; it was not stored.
    #[error("{count} tags are too many: a value can carry {max}; leave some out")]
    TooManyTags {
        /// How many were given.
        count: usize,
        /// Most that are allowed.
        max: usize,
    },
    /// A value that was computed of the old one was refused; the old one is as it was.
    #[error("the new value was refused, and the old one stays: {why}")]
    Rejected {
        /// Why.
        why: Rejection,
    },
    /// The store that the cache was given cannot do what was asked.
    #[error("the store of this cache has no {what}: use one that has, or leave them out")]
    Unsupported {
        /// What it lacks, in the plural.
        what: &'static str,
    },
    /// What would be promised cannot be kept in a store that may evict anything.
    #[error(
        "the store may evict {what}: open it with `Retain::All`, or give them one of their own with `Structures::open`"
    )]
    Evicts {
        /// What it may evict, in the plural.
        what: &'static str,
    },
    /// The time of a lease was over before it was renewed or given back: another may hold it.
    #[error("the lease of {name:?} was over: renew it in time, or ask for a longer one")]
    LeaseOver {
        /// What it was of.
        name: String,
    },
    /// The codec has no bytes for this value; it was not stored.
    #[error("the value cannot be encoded, and was not stored: use a codec that knows it")]
    Encode {
        /// What the codec said.
        source: CodecError,
    },
    /// The codec could not read what it wrote. Only if the cache is strict.
    #[error(
        "the stored value cannot be decoded: if its type has changed, count the codec's version up"
    )]
    Decode {
        /// What the codec said.
        source: CodecError,
    },
    /// The sum does not fit; the number is as it was.
    #[error("the sum does not fit into 64 bits; the number is as it was")]
    Overflow,
    /// Loading a key asked for that same key, so that it could never end.
    #[error("loading this key asks for the same key again: break the cycle in the loader")]
    Recursion,
    /// An option has a value that cannot be.
    #[error("option {option} is {value}: {accepted}")]
    Config {
        /// The option.
        option: &'static str,
        /// The value given.
        value: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// An engine that was asked for by name cannot be used.
    #[error("the engine {engine} cannot be used: {why}")]
    Unavailable {
        /// The name.
        engine: std::sync::Arc<str>,
        /// Why not, and what to do.
        why: crate::engines::Unavailable,
    },
    /// What was to run elsewhere for a future was dropped: the executor shuts down, say.
    #[error("the work was dropped before it was done: is the executor shutting down?")]
    Cancelled,
    /// A file or directory beside the store could not be used.
    #[error("cannot {op} {}", path.display())]
    Settings {
        /// What was tried, as an infinitive.
        op: &'static str,
        /// The file or directory.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The cache was closed.
    #[error("the cache is closed: build it again")]
    Closed,
}

impl Error {
    /// Whether the same call may succeed later without anything being changed by hand. If not,
    /// it is what was asked, how the cache is set up, or what lies on disk that has to change.
    ///
    /// ```
    /// use larder::{Cache, Error};
    ///
    /// # let home = tempfile::tempdir()?;
    /// # let dir = home.path().join("store");
    /// let first = Cache::<u32, u32>::builder().disk(&dir).build()?;
    /// // In use: it may be free in a moment.
    /// let locked = Cache::<u32, u32>::builder().disk(&dir).build().unwrap_err();
    /// assert!(matches!(&locked, Error::Engine { .. }) && locked.is_transient());
    /// // No option becomes right by itself.
    /// let wrong = Cache::<u32, u32>::builder().jitter(7.0).build().unwrap_err();
    /// assert!(!wrong.is_transient());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Engine { source, .. } => source.is_transient(),
            Self::Offline | Self::Settings { .. } => true,
            Self::Rejected { why } => why.is_transient(),
            Self::Unavailable { why, .. } => why.is_transient(),
            _ => false,
        }
    }
}

/// An error with all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Why [`try_get_or_insert_with`](crate::Cache::try_get_or_insert_with) has no value: the loader's error, or
/// the cache's. There is no third.
#[derive(Debug, thiserror::Error)]
pub enum LoadError<E> {
    /// The loader's own error; nothing was stored.
    #[error("the value could not be loaded")]
    Load(#[source] E),
    /// The cache's.
    #[error(transparent)]
    Cache(#[from] Error),
}

impl<E> LoadError<E> {
    /// Whether it is the cache's and [will pass](Error::is_transient). Of a loader's error that is not
    /// known here.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Cache(error) if error.is_transient())
    }

    /// The loader's error, if it is that.
    pub fn into_load(self) -> Option<E> {
        match self {
            Self::Load(error) => Some(error),
            Self::Cache(_) => None,
        }
    }
}
