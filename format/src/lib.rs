//! The on-disk format of larder, as pure bytes.
//!
//! Nothing here opens a file, takes a lock or trusts a byte: every `decode` takes a slice
//! that may hold anything and returns a checked value or a [`FormatError`] that says what was
//! found and what was expected. `docs/format.md` is the same as a document; a test compares
//! the two.
//!
//! | module | structure |
//! |---|---|
//! | [`layout`] | every offset, size and magic |
//! | [`superblock`] | what a store is, and who had it open |
//! | [`segment`] | log files: header, committed word, footer, trailer |
//! | [`record`] | what a segment is made of |
//! | [`scan`] | finding records without a footer, checking their payloads |
//! | [`batch`] | records that count together |
//! | [`external`] | values and arrays in files of their own |
//! | [`mod@array`] | what an array is: element type, shape, NumPy header |
//! | [`npy`] | headers of NumPy files that others wrote |
//! | [`slot`], [`index`] | the index: slots and where they lie, the file around them |
//! | [`fields`], [`dump`](mod@dump) | every structure as a table; files explained for people |
//! | [`hash`] | key hash and checksums |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod array;
pub mod batch;
mod bytes;
mod dtype;
pub mod dump;
pub mod error;
pub mod external;
pub mod fields;
pub mod hash;
pub mod index;
pub mod layout;
pub mod npy;
pub mod record;
pub mod scan;
pub mod segment;
pub mod share;
pub mod slot;
pub mod superblock;

pub use array::{Alignment, ArrayDescriptor, Compression, Order};
pub use batch::Batch;
pub use dtype::DType;
pub use dump::{FileKind, dump};
pub use error::{Excerpt, FormatError};
pub use external::{ExternalClass, ExternalFooter, ExternalRef};
pub use hash::{KeyHasher, Salt};
pub use index::IndexHeader;
pub use npy::NpyHeader;
pub use record::{CodecId, Flags, Kind, RecordHeader};
pub use scan::{Scan, Scanned};
pub use segment::{Committed, FooterEntry, SegmentHeader, SegmentState, Trailer};
pub use share::ShareHeader;
pub use slot::{Geometry, Slot, SlotState};
pub use superblock::{BootIdentity, Session, Superblock};
