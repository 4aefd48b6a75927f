//! Arrays: stored as they are, and looked at where they lie.
//!
//! | file | what |
//! |---|---|
//! | `element.rs` | which Rust type is which element type |
//! | `source.rs` | an array in memory, to be stored |
//! | `any.rs`, `view.rs` | a stored one, to be looked at: of any type, and of one |
//! | `plain.rs`, `check.rs` | bytes where they lie, and when they are compared with their checksums |
//! | `prefetch.rs` | telling the system what will be read |
//! | `ndarray.rs` | to and from `ndarray` (feature `ndarray`) |
//! | `packed.rs`, `shuffle.rs` | compressed ones |
//! | `strided.rs` | one that is strided, or of another order, on its way to being packed |
//! | `npy.rs`, `npz.rs`, `safetensors.rs` | files of others, in and out |
//! | `error.rs` | what can be wrong |
//!
//! Not here: where arrays are stored (`disk/arrays.rs`).

mod any;
mod check;
mod element;
mod error;
mod gaps;
#[cfg(feature = "ndarray")]
mod ndarray;
mod npy;
#[cfg(feature = "npz")]
mod npz;
mod packed;
mod plain;
mod prefetch;
#[cfg(feature = "safetensors")]
mod safetensors;
#[cfg(feature = "zstd")]
mod shuffle;
mod source;
mod strided;
mod view;

use std::sync::Arc;

use larder_format::ArrayDescriptor;

pub use any::AnyArray;
pub use check::Check;
pub use element::Element;
pub use error::{ArrayError, ElementName};
pub(crate) use npy::{born_whole, reading};
#[cfg(feature = "npz")]
pub use npz::Npz;
#[cfg(feature = "zstd")]
pub(crate) use packed::pack;
pub(crate) use packed::uncompressed;
pub use prefetch::Prefetch;
#[cfg(feature = "safetensors")]
pub use safetensors::Safetensors;
pub use source::ArrayRef;
pub use strided::Strided;
pub use view::ArrayView;

use crate::disk::{Chunks, View};
use crate::value::Meta;
use plain::Plain;

/// An array of bytes that are right, descriptor first, copied to the heap.
pub(crate) fn of_bytes(bytes: &[u8], meta: Meta) -> Result<AnyArray, ArrayError> {
    let (descriptor, stored) = ArrayDescriptor::split(bytes).map_err(ArrayError::Impossible)?;
    AnyArray::of_stored(descriptor, Plain::copied(stored)?, meta)
}

/// An array whose stored bytes a view shows, beginning `at` in what `chunks` covers.
pub(crate) fn of_stored(
    descriptor: ArrayDescriptor,
    (view, chunks, at): (View, Arc<dyn Chunks>, usize),
    meta: Meta,
    check: Check,
) -> Result<AnyArray, ArrayError> {
    AnyArray::of_stored(descriptor, Plain::stored(view, chunks, at, check), meta)
}
