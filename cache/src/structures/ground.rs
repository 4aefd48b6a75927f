//! What structures stand on: records under a name, changed by batches that expect what was seen.
//!
//! ```text
//! prefix of the cache · 54 · kind · length of the name · name · part
//! ```
//!
//! A structure has a root, the part `r`, and any number of other parts. No state is kept anywhere
//! else, so that any number of handles, and of processes where the engine has them, are one.
//!
//! # Invariants
//! 1. Whatever changes a structure is one compare-and-swap of its root, or one batch that expects the
//!    root that it has seen and writes another. So changes have one order, and each takes place as a
//!    whole, also over a kill or a loss of power.
//! 2. A batch writes parts first, then the root, and removes parts last. So a reader who finds the
//!    root as it was before and after has seen parts of that root, also where an engine shows changes
//!    one after the other.
//! 3. Every record has the codec [`CODEC`], so that a cache over the same store takes none for a
//!    value of its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::{
    BatchOutcome, Clock, CodecId, Durability, Engine, Error as EngineError, Expected, Outcome, Put,
    Rejection, Ttl, Value, WriteBatch,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Codec, CodecError};
use crate::error::{Error, Result};
use crate::key::{KeyBuf, tag};
use crate::sync::{Condvar, Mutex};

/// Of everything that structures store. What is in it follows from the part.
pub(crate) const CODEC: CodecId = CodecId { id: 4, version: 1 };
/// Longest name: parts shall have room beside it.
const NAME_MAX: usize = 1024;

/// Where structures are.
pub(super) struct Ground {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) clock: Arc<dyn Clock>,
    prefix: Box<[u8]>,
    /// Whether anything may go without being removed.
    pub(super) evicts: bool,
    pub(super) bell: Bell,
}

impl Ground {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        prefix: Box<[u8]>,
    ) -> Result<Self> {
        if engine.batched().is_none() {
            return Err(Error::Unsupported { what: "batches" });
        }
        let evicts = !engine.keeps_all();
        Ok(Self { engine, clock, prefix, evicts, bell: Bell::default() })
    }
}

impl fmt::Debug for Ground {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Ground")
            .field("engine", &self.engine.name())
            .field("evicts", &self.evicts)
            .finish_non_exhaustive()
    }
}

/// What a structure is. Part of its keys: never give one of these numbers to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Deque = 1,
    Index = 2,
    Counter = 3,
    Mean = 4,
    Lock = 5,
    RwLock = 6,
    Semaphore = 7,
    RateLimiter = 8,
}

/// The place of one structure.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    pub(super) ground: Arc<Ground>,
    prefix: Box<[u8]>,
    pub(super) name: Box<str>,
}

/// A root, and what a change of it is to expect.
#[derive(Debug, Clone)]
pub(super) struct Seen<R> {
    pub(super) root: R,
    pub(super) expected: Expected,
}

/// What is to become of parts.
#[derive(Debug, Default)]
pub(super) struct Edits {
    puts: Vec<(Vec<u8>, Vec<u8>)>,
    removals: Vec<Vec<u8>>,
}

impl Edits {
    pub(super) fn put(&mut self, part: Vec<u8>, bytes: Vec<u8>) {
        self.removals.retain(|other| *other != part);
        self.puts.push((part, bytes));
    }

    pub(super) fn remove(&mut self, part: Vec<u8>) {
        self.puts.retain(|(other, _)| *other != part);
        self.removals.push(part);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.removals.is_empty()
    }
}

/// What a change has come to.
pub(super) enum Step<R> {
    /// This, if it takes place.
    Done(R),
    /// There is more to be done after it.
    Again,
}

const ROOT: &[u8] = b"r";

impl Plot {
    pub(super) fn new(ground: &Arc<Ground>, kind: Kind, name: &str) -> Result<Self> {
        if name.len() > NAME_MAX {
            return Err(Error::KeyTooLong { len: name.len(), max: NAME_MAX });
        }
        let mut prefix = KeyBuf::new();
        prefix.push(&ground.prefix);
        prefix.push(&[tag::STRUCTURE, kind as u8]);
        prefix.len(name.len());
        prefix.push(name.as_bytes());
        let prefix = prefix.as_bytes().into();
        Ok(Self { ground: Arc::clone(ground), prefix, name: name.into() })
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.ground.clock.now_ms()
    }

    fn key(&self, part: &[u8]) -> Vec<u8> {
        [&*self.prefix, part].concat()
    }

    /// The part of a key of the user's, behind some bytes: digested if it is long.
    pub(super) fn part_of(&self, before: &[u8], encoded: &[u8]) -> Vec<u8> {
        let mut key = KeyBuf::storable(&self.key(before));
        key.push(encoded);
        key.stored().get(self.prefix.len()..).unwrap_or_default().to_vec()
    }

    /// A part, and its version.
    pub(super) fn part(&self, part: &[u8]) -> Result<Option<Value>> {
        let found = self.ground.engine.get(&self.key(part)).map_err(engine)?;
        Ok(found.filter(|value| value.meta().codec == CODEC))
    }

    /// The root as it is; what it is to begin with if there is none.
    pub(super) fn root<R: DeserializeOwned + Default>(&self) -> Result<Seen<R>> {
        match self.part(ROOT)? {
            None => Ok(Seen { root: R::default(), expected: Expected::Absent }),
            Some(value) => {
                let expected = Expected::Version(value.meta().version);
                Ok(Seen { root: read(&value)?, expected })
            }
        }
    }

    /// Whether the root is as it was seen.
    pub(super) fn is_still(&self, expected: Expected) -> Result<bool> {
        let version = self.ground.engine.version(&self.key(ROOT)).map_err(engine)?;
        Ok(expected.is_met_by(version))
    }

    /// Replaces a root that is as it was seen. Whether it was.
    pub(super) fn swap_root<R: Serialize>(&self, expected: Expected, root: &R) -> Result<bool> {
        self.swap(ROOT, expected, &written(root)?)
    }

    /// Replaces a part that is as it was seen. Whether it was.
    pub(super) fn swap(&self, part: &[u8], expected: Expected, bytes: &[u8]) -> Result<bool> {
        let atomic = self.ground.engine.atomic();
        let atomic = atomic.ok_or(Error::Unsupported { what: "compare-and-swap" })?;
        match atomic.put_if(&self.key(part), bytes, &PUT, expected).map_err(engine)? {
            Outcome::Admitted { .. } => Ok(true),
            Outcome::Conflict { .. } => Ok(false),
            Outcome::Rejected(why) => Err(Error::Rejected { why }),
            Outcome::Blocked => Err(Error::Rejected { why: Rejection::NoRoom }),
        }
    }

    /// Changes the root by what `change` makes of it, until nobody was quicker. `None` leaves it.
    pub(super) fn update<R, T>(
        &self,
        mut change: impl FnMut(&mut R) -> Result<(T, bool)>,
    ) -> Result<T>
    where
        R: Serialize + DeserializeOwned + Default,
    {
        loop {
            let Seen { mut root, expected } = self.root()?;
            let (answer, is_changed) = change(&mut root)?;
            if !is_changed || self.swap_root(expected, &root)? {
                return Ok(answer);
            }
        }
    }

    /// Edits parts together with the root, if that is as it was seen. Whether it was.
    pub(super) fn commit<R: Serialize>(
        &self,
        expected: Expected,
        root: &R,
        edits: &Edits,
    ) -> Result<bool> {
        if edits.is_empty() {
            return self.swap_root(expected, root);
        }
        let mut batch = WriteBatch::new();
        batch.expect(&self.key(ROOT), expected);
        for (part, bytes) in &edits.puts {
            batch.put(&self.key(part), bytes, &PUT);
        }
        batch.put(&self.key(ROOT), &written(root)?, &PUT);
        for part in &edits.removals {
            batch.remove(&self.key(part));
        }
        let batched = self.ground.engine.batched();
        let batched = batched.ok_or(Error::Unsupported { what: "batches" })?;
        match batched.write(&batch, Durability::None).map_err(engine)? {
            BatchOutcome::Committed { .. } => Ok(true),
            BatchOutcome::Conflict { .. } => Ok(false),
            BatchOutcome::Rejected(why) => Err(Error::Rejected { why }),
        }
    }
}

/// How everything is put.
const PUT: Put<'static> = Put {
    ttl: Ttl::Never,
    durability: Durability::None,
    codec: CODEC,
    tags: &[],
    cost: larder_engine::Cost::NONE,
    when_short: None,
};

/// What an engine said, in this crate's words.
pub(super) fn engine(source: EngineError) -> Error {
    match source {
        EngineError::Closed => Error::Closed,
        EngineError::KeyTooLong { len, max } => Error::KeyTooLong { len, max },
        source => Error::Engine { op: "get at a structure", source },
    }
}

fn written<R: Serialize>(root: &R) -> Result<Vec<u8>> {
    postcard::to_stdvec(root).map_err(|why| Error::Encode { source: CodecError::new(why) })
}

fn read<R: DeserializeOwned>(value: &Value) -> Result<R> {
    postcard::from_bytes(value).map_err(|why| Error::Decode { source: CodecError::new(why) })
}

/// A value of the user's behind some bytes, and behind what codec made it.
pub(super) fn pack<V, C: Codec<V>>(codec: &C, before: &[u8], value: &V) -> Result<Vec<u8>> {
    let CodecId { id, version } = codec.id_of(value);
    let mut bytes = before.to_vec();
    bytes.extend_from_slice(&[id, version]);
    codec.encode(value, &mut bytes).map_err(|source| Error::Encode { source })?;
    Ok(bytes)
}

/// The value back. `None` if the bytes are none of the codec's.
///
/// # Errors
/// Another codec made it: whoever has opened the structure takes it for another one.
pub(super) fn unpack<V, C: Codec<V>>(
    codec: &C,
    before: usize,
    stored: &Value,
) -> Result<Option<V>> {
    let Some(&[id, version, ref bytes @ ..]) = stored.get(before..) else { return Ok(None) };
    let made_by = CodecId { id, version };
    if !codec.accepts(made_by) {
        let why = format!("it was written by codec {id}, version {version}");
        return Err(Error::Decode { source: CodecError::new(why) });
    }
    let mut meta = *stored.meta();
    meta.codec = made_by;
    Ok(codec.decode(&Value::new(bytes, meta)).ok())
}

/// Rings when something was given back, so that who waits in this process need not wait for its
/// next look.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<u64>,
    heard: Condvar,
}

impl Bell {
    /// How often it has rung.
    pub(super) fn count(&self) -> u64 {
        *self.rung.lock()
    }

    pub(super) fn ring(&self) {
        *self.rung.lock() += 1;
        self.heard.notify_all();
    }

    /// Returns when it has rung more often than this, or after so long.
    pub(super) fn wait(&self, count: u64, longest: Duration) {
        let mut rung = self.rung.lock();
        if *rung == count {
            self.heard.wait_for(&mut rung, longest);
        }
    }
}

/// A number that nobody has drawn before, as far as chance goes.
pub(super) fn nonce() -> u64 {
    fastrand::u64(..)
}
