//! Values of any type as values of one cache.
//!
//! What a program puts on a shelf is held as it is, with the codec that can make bytes of it. What comes
//! from the store is held as bytes until somebody has asked for it, and as the value from then on: so it
//! is decoded once for as long as it stays in memory, and memory holds one form of it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use larder_engine::{CodecId, Value};

use crate::codec::{Codec, CodecError};
use crate::error::{Error, Result};
use crate::structures;
use crate::sync::Mutex;

/// A value on some [`Shelf`](super::Shelf) of a cache: what is the same of all of them.
#[derive(Clone)]
pub struct Shelved(Held);

#[derive(Clone)]
enum Held {
    Made(Arc<dyn Made>),
    Stored(Arc<Stored>),
}

/// A value that came from the program.
trait Made: Any + Send + Sync {
    fn id(&self) -> CodecId;
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError>;
    fn encoded_len(&self) -> Result<usize, CodecError>;
    fn as_bytes(&self) -> Option<&[u8]>;
}

struct Of<V, C> {
    value: V,
    codec: Arc<C>,
}

impl<V: Send + Sync + 'static, C: Codec<V>> Made for Of<V, C> {
    fn id(&self) -> CodecId {
        self.codec.id_of(&self.value)
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.codec.encode(&self.value, out)
    }

    fn encoded_len(&self) -> Result<usize, CodecError> {
        self.codec.encoded_len(&self.value)
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        self.codec.as_bytes(&self.value)
    }
}

/// A value that came from the store.
struct Stored {
    id: CodecId,
    len: usize,
    /// Taken when the value was made of them, so that there is always one of the two.
    bytes: Mutex<Option<Value>>,
    made: OnceLock<Arc<dyn Made>>,
}

impl Stored {
    fn new(bytes: Value) -> Self {
        let (id, len) = (bytes.meta().codec, bytes.len());
        Self { id, len, bytes: Mutex::new(Some(bytes)), made: OnceLock::new() }
    }

    /// What is held now.
    fn now(&self) -> Option<Result<&Arc<dyn Made>, Value>> {
        let made = || self.made.get().map(Ok);
        // The value is there before the bytes are taken.
        made().or_else(|| self.bytes.lock().clone().map(Err)).or_else(made)
    }
}

impl Shelved {
    pub(super) fn new<V: Send + Sync + 'static, C: Codec<V>>(value: V, codec: &Arc<C>) -> Self {
        Self(Held::Made(Arc::new(Of { value, codec: Arc::clone(codec) })))
    }

    /// The value, if it is one of this type, and this codec's.
    pub(super) fn read<V, C>(&self, codec: &Arc<C>) -> Result<V, Unread>
    where
        V: Clone + Send + Sync + 'static,
        C: Codec<V>,
    {
        let stored = match &self.0 {
            Held::Made(made) => return value_of::<V, C>(made),
            Held::Stored(stored) => stored,
        };
        if !codec.accepts(stored.id) {
            return Err(Unread::Other);
        }
        let bytes = match stored.now() {
            Some(Ok(made)) => return value_of::<V, C>(made),
            Some(Err(bytes)) => bytes,
            None => return Err(Unread::Other),
        };
        let value = codec.decode(&bytes).map_err(Unread::Damaged)?;
        let made: Arc<dyn Made> = Arc::new(Of { value: value.clone(), codec: Arc::clone(codec) });
        // Of two who decode it at once, the first keeps it. What would be stored by another id than
        // it was stays as it is.
        if made.id() == stored.id && stored.made.set(made).is_ok() {
            drop(stored.bytes.lock().take());
        }
        Ok(value)
    }
}

fn value_of<V, C>(made: &Arc<dyn Made>) -> Result<V, Unread>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    let made: &dyn Any = &**made;
    made.downcast_ref::<Of<V, C>>().map(|made| made.value.clone()).ok_or(Unread::Other)
}

/// Why a value cannot be read.
pub(super) enum Unread {
    /// Another codec wrote it.
    Other,
    /// The codec cannot read it.
    Damaged(CodecError),
}

impl fmt::Debug for Shelved {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Held::Made(_) => out.write_str("Shelved(made)"),
            Held::Stored(stored) => write!(out, "Shelved({} bytes)", stored.len),
        }
    }
}

/// The codec of a cache with shelves: each value has its shelf's.
#[derive(Debug, Default)]
pub struct PerShelf {
    /// What is on the shelves that were asked for in this process.
    types: Mutex<HashMap<Box<str>, (TypeId, &'static str)>>,
}

impl PerShelf {
    /// Notes what is on a shelf.
    ///
    /// # Errors
    /// [`Error::Config`] if it is something else.
    pub(super) fn register<T: 'static>(&self, name: &str) -> Result<()> {
        let of = (TypeId::of::<T>(), std::any::type_name::<T>());
        match *self.types.lock().entry(name.into()).or_insert(of) {
            known if known == of => Ok(()),
            (_, known) => Err(Error::Config {
                option: "shelf",
                value: format!("{name:?} of {}, and was one of {known}", of.1),
                accepted: "one type of values, and one codec, for each name",
            }),
        }
    }
}

impl Codec<Shelved> for PerShelf {
    fn id(&self) -> CodecId {
        CodecId::RAW
    }

    fn encode(&self, shelved: &Shelved, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match &shelved.0 {
            Held::Made(made) => made.encode(out),
            Held::Stored(stored) => match stored.now() {
                Some(Ok(made)) => made.encode(out),
                Some(Err(bytes)) => {
                    out.extend_from_slice(&bytes);
                    Ok(())
                }
                None => Err(CodecError::new("a value that has gone")),
            },
        }
    }

    fn decode(&self, stored: &Value) -> Result<Shelved, CodecError> {
        Ok(Shelved(Held::Stored(Arc::new(Stored::new(stored.clone())))))
    }

    fn encoded_len(&self, shelved: &Shelved) -> Result<usize, CodecError> {
        match &shelved.0 {
            Held::Made(made) => made.encoded_len(),
            Held::Stored(stored) => Ok(stored.len),
        }
    }

    fn as_bytes<'v>(&self, shelved: &'v Shelved) -> Option<&'v [u8]> {
        match &shelved.0 {
            Held::Made(made) => made.as_bytes(),
            Held::Stored(_) => None,
        }
    }

    fn accepts(&self, id: CodecId) -> bool {
        id != structures::CODEC
    }

    fn to_keep(&self, shelved: &Shelved) -> Option<Shelved> {
        let Held::Stored(stored) = &shelved.0 else { return None };
        let bytes = stored.bytes.lock().clone()?;
        let is_wasteful = bytes.pinned_len() > 2 * bytes.len() as u64;
        is_wasteful.then(|| Shelved(Held::Stored(Arc::new(Stored::new(bytes.to_owned())))))
    }

    fn id_of(&self, shelved: &Shelved) -> CodecId {
        match &shelved.0 {
            Held::Made(made) => made.id(),
            Held::Stored(stored) => stored.id,
        }
    }
}
