//! Values as bytes, and back.
//!
//! A record on disk carries the id and version of the codec that made it. What another codec
//! wrote is a miss (counted, see [`CacheStats`](crate::CacheStats)), never misread. Serde types
//! in postcard do not describe themselves: when a type changes, count the version up.
//!
//! | codec | for | id |
//! |---|---|---|
//! | [`Auto`], the default | bytes and strings as [`Raw`], all else as [`Postcard`] | as theirs |
//! | [`Raw`] | `Vec<u8>`, `Box<[u8]>`, `Arc<[u8]>`, `String`, [`Value`] | 0 |
//! | [`Postcard`] | everything that serde knows | 1 |
//! | [`Arrays`](crate::Arrays) | [`Array`](crate::Array) of any element | 3 |
//! | your own | | from 128 |

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use larder_engine::{CodecId, Value};
use postcard::ser_flavors::{Flavor, Size};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Turns values of type `V` into bytes and back.
///
/// ```
/// use larder::{Cache, Codec, CodecError, CodecId, Value};
///
/// /// Numbers as decimal text.
/// struct Decimal;
///
/// impl Codec<u64> for Decimal {
///     fn id(&self) -> CodecId {
///         CodecId { id: 128, version: 1 }
///     }
///     fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<(), CodecError> {
///         out.extend_from_slice(value.to_string().as_bytes());
///         Ok(())
///     }
///     fn decode(&self, stored: &Value) -> Result<u64, CodecError> {
///         let text = std::str::from_utf8(stored).map_err(CodecError::new)?;
///         text.parse().map_err(CodecError::new)
///     }
/// }
///
/// let cache = Cache::<String, u64>::builder().codec(Decimal).build()?;
/// # Ok::<(), larder::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "codec `{Self}` does not know how to store a `{V}`",
    note = "derive serde's `Serialize` and `Deserialize` for it, or give the builder a `.codec(…)`"
)]
pub trait Codec<V>: Send + Sync + 'static {
    /// Which codec this is, and which version of it. Stored beside the bytes.
    fn id(&self) -> CodecId;

    /// Appends the bytes of `value`.
    ///
    /// # Errors
    /// When `value` has no form in bytes; it is then not stored.
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The value back. The bytes are those that were encoded, checked; yet they may stem from
    /// another type that used the same id.
    ///
    /// # Errors
    /// When the bytes are none of this codec's; that is a counted miss.
    fn decode(&self, stored: &Value) -> Result<V, CodecError>;

    /// How many bytes [`encode`](Self::encode) would append. By default it is asked to.
    ///
    /// # Errors
    /// As `encode`.
    fn encoded_len(&self, value: &V) -> Result<usize, CodecError> {
        let mut bytes = Vec::new();
        self.encode(value, &mut bytes)?;
        Ok(bytes.len())
    }

    /// The bytes of `value` where they are already there, so that nothing has to be copied.
    #[inline]
    fn as_bytes<'v>(&self, value: &'v V) -> Option<&'v [u8]> {
        let _ = value;
        None
    }

    /// Whether [`decode`](Self::decode) reads what `id` wrote: by default its own only.
    fn accepts(&self, id: CodecId) -> bool {
        id == self.id()
    }

    /// What memory is to hold of a value that was decoded, if not the value itself.
    #[doc(hidden)]
    fn to_keep(&self, value: &V) -> Option<V> {
        let _ = value;
        None
    }

    /// The id to store beside this value, for codecs that have several.
    #[doc(hidden)]
    fn id_of(&self, value: &V) -> CodecId {
        let _ = value;
        self.id()
    }
}

/// Why a value could not be turned into bytes, or bytes into a value.
pub struct CodecError(Box<dyn Error + Send + Sync>);

impl CodecError {
    /// Wraps what the codec said.
    pub fn new(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(why.into())
    }
}

impl fmt::Debug for CodecError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CodecError({:?})", self.0)
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl Error for CodecError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Bytes and strings as they are.
///
/// A [`Value`] is read from disk without a copy, as a view of the mapped file. Memory holds
/// the view only of a value that fills most of its file; of others it holds a copy, so that a
/// few bytes do not keep a whole segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Raw;

macro_rules! raw {
    ($($value:ty, $bytes:expr, $decode:expr;)*) => {$(
        impl Codec<$value> for Raw {
            fn id(&self) -> CodecId {
                CodecId::RAW
            }

            fn encode(&self, value: &$value, out: &mut Vec<u8>) -> Result<(), CodecError> {
                out.extend_from_slice($bytes(value));
                Ok(())
            }

            fn decode(&self, stored: &Value) -> Result<$value, CodecError> {
                $decode(stored)
            }

            fn encoded_len(&self, value: &$value) -> Result<usize, CodecError> {
                Ok(value.len())
            }

            fn as_bytes<'v>(&self, value: &'v $value) -> Option<&'v [u8]> {
                Some($bytes(value))
            }
        }
    )*};
}

raw! {
    Vec<u8>, Vec::as_slice, |stored: &Value| Ok(stored.to_vec());
    Box<[u8]>, AsRef::as_ref, |stored: &Value| Ok((**stored).into());
    Arc<[u8]>, AsRef::as_ref, |stored: &Value| Ok((**stored).into());
    String, String::as_bytes, text;
}

/// A codec whose values are the engine's own.
macro_rules! values {
    ($codec:ty, $($rest:item)*) => {
        impl Codec<Value> for $codec {
            fn id(&self) -> CodecId {
                CodecId::RAW
            }

            fn encode(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
                out.extend_from_slice(value);
                Ok(())
            }

            fn decode(&self, stored: &Value) -> Result<Value, CodecError> {
                Ok(stored.clone())
            }

            fn encoded_len(&self, value: &Value) -> Result<usize, CodecError> {
                Ok(value.len())
            }

            fn as_bytes<'v>(&self, value: &'v Value) -> Option<&'v [u8]> {
                Some(value)
            }

            fn to_keep(&self, value: &Value) -> Option<Value> {
                (value.pinned_len() > 2 * value.len() as u64).then(|| value.to_owned())
            }

            $($rest)*
        }
    };
}

values! { Raw, }

fn text(stored: &Value) -> Result<String, CodecError> {
    std::str::from_utf8(stored).map(str::to_owned).map_err(CodecError::new)
}

/// Serde types in the postcard format: compact, fast, specified, and no code runs when it is
/// read. It does not describe itself, so count the version up when a type changes.
///
/// ```
/// use larder::{Cache, Postcard};
/// let cache = Cache::<u32, (f64, String)>::builder().codec(Postcard::version(2)).build()?;
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Postcard {
    version: u8,
}

impl Postcard {
    const ID: u8 = 1;

    /// The codec for the given version of your types; 0 by default.
    #[must_use]
    pub const fn version(version: u8) -> Self {
        Self { version }
    }
}

impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn id(&self) -> CodecId {
        CodecId { id: Self::ID, version: self.version }
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        postcard::serialize_with_flavor(value, Append(out)).map_err(CodecError::new)
    }

    fn decode(&self, stored: &Value) -> Result<V, CodecError> {
        match postcard::take_from_bytes(stored).map_err(CodecError::new)? {
            (value, []) => Ok(value),
            (_, rest) => Err(CodecError::new(format!("{} bytes too many", rest.len()))),
        }
    }

    fn encoded_len(&self, value: &V) -> Result<usize, CodecError> {
        postcard::serialize_with_flavor(value, Size::default()).map_err(CodecError::new)
    }
}

/// Lets postcard append to a vector.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// The default: `Vec<u8>`, `Box<[u8]>` and `String` as they are, every other serde type as
/// [`Postcard`]. Which of them is settled when the program is compiled.
///
/// ```
/// use larder::{Auto, Codec, CodecId};
/// assert_eq!(Codec::<Vec<u8>>::id(&Auto::default()), CodecId::RAW);
/// assert_eq!(Codec::<u64>::id(&Auto::version(3)), CodecId { id: 1, version: 3 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Auto {
    postcard: Postcard,
}

impl Auto {
    /// The codec for the given version of your types; 0 by default. Bytes and strings have
    /// no versions.
    #[must_use]
    pub const fn version(version: u8) -> Self {
        Self { postcard: Postcard::version(version) }
    }
}

impl<V: Serialize + DeserializeOwned + 'static> Codec<V> for Auto {
    fn id(&self) -> CodecId {
        if is_raw::<V>() { CodecId::RAW } else { Codec::<V>::id(&self.postcard) }
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match raw_bytes(value) {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            None => self.postcard.encode(value, out),
        }
    }

    fn decode(&self, stored: &Value) -> Result<V, CodecError> {
        if !is_raw::<V>() {
            return self.postcard.decode(stored);
        }
        let mut value: Option<V> = None;
        let slot: &mut dyn Any = &mut value;
        if let Some(slot) = slot.downcast_mut::<Option<Vec<u8>>>() {
            *slot = Some(stored.to_vec());
        } else if let Some(slot) = slot.downcast_mut::<Option<Box<[u8]>>>() {
            *slot = Some((**stored).into());
        } else if let Some(slot) = slot.downcast_mut::<Option<String>>() {
            *slot = Some(text(stored)?);
        }
        value.ok_or_else(|| CodecError::new("no raw form"))
    }

    fn encoded_len(&self, value: &V) -> Result<usize, CodecError> {
        match raw_bytes(value) {
            Some(bytes) => Ok(bytes.len()),
            None => self.postcard.encoded_len(value),
        }
    }

    #[inline]
    fn as_bytes<'v>(&self, value: &'v V) -> Option<&'v [u8]> {
        raw_bytes(value)
    }
}

fn is_raw<V: 'static>() -> bool {
    let absent: &dyn Any = &None::<V>;
    absent.is::<Option<Vec<u8>>>()
        || absent.is::<Option<Box<[u8]>>>()
        || absent.is::<Option<String>>()
}

fn raw_bytes<V: 'static>(value: &V) -> Option<&[u8]> {
    let value: &dyn Any = value;
    if let Some(bytes) = value.downcast_ref::<Vec<u8>>() {
        Some(bytes)
    } else if let Some(bytes) = value.downcast_ref::<Box<[u8]>>() {
        Some(bytes)
    } else {
        value.downcast_ref::<String>().map(String::as_bytes)
    }
}

/// For values that already are an engine's: bytes, codec and all. Used between engines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsStored;

values! {
    AsStored,

    fn accepts(&self, _: CodecId) -> bool {
        true
    }

    fn id_of(&self, value: &Value) -> CodecId {
        value.meta().codec
    }
}
