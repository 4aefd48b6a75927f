//! Arrays as values of a cache.

use larder_engine::{AnyArray, ArrayView, CodecId, Element, Value};

use crate::codec::{Codec, CodecError};

/// An array as the value of a [`Cache`](crate::Cache) with the codec [`Arrays`]: a view of what
/// the store holds, or one on the heap that a program has made
/// ([`ArrayView::copied`]). Cloning it copies no element.
pub type Array<T> = ArrayView<T>;

/// The codec of arrays: values of type [`Array`] of any [`Element`].
///
/// What is read from disk is a view of the mapped file, in memory too: there the view itself is
/// kept of an array that fills most of its file, and charged as much as it pins; of a small one,
/// which would keep a whole segment, a copy. On disk an array is what
/// [`Disk::put_array`](crate::Disk::put_array) makes of it, so that a large one is a NumPy file.
///
/// ```
/// use larder::{Array, Arrays, Cache};
///
/// # let home = tempfile::tempdir()?;
/// let cache = Cache::<String, Array<f32>, Arrays>::with_codec(Arrays)
///     .disk(home.path().join("store"))
///     .build()?;
/// let made = cache.get_or_insert_with("embedding", || {
///     Array::copied(&[0.25, 0.5, 0.75, 1.0], &[2, 2]).expect("four elements")
/// })?;
/// assert_eq!(made.rows(1..2)?.as_slice()?, [0.75, 1.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrays;

impl<T: Element> Codec<Array<T>> for Arrays {
    fn id(&self) -> CodecId {
        CodecId::ARRAY
    }

    fn encode(&self, value: &Array<T>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        value.as_any().encode(out).map_err(CodecError::new)
    }

    fn decode(&self, stored: &Value) -> Result<Array<T>, CodecError> {
        AnyArray::of_value(stored).and_then(AnyArray::typed).map_err(CodecError::new)
    }

    fn encoded_len(&self, value: &Array<T>) -> Result<usize, CodecError> {
        Ok(value.as_any().encoded_len())
    }

    fn to_keep(&self, value: &Array<T>) -> Option<Array<T>> {
        let len = value.as_any().encoded_len() as u64;
        // What cannot be copied is kept where it is.
        if value.pinned_len() > 2 * len { value.to_owned().ok() } else { None }
    }
}
