//! Stores and caches that larder is measured against, behind one trait for each kind.
//!
//! | module | what |
//! |---|---|
//! | [`disk`] | [`DiskRival`]: stores in a directory, larder's among them |
//! | [`memory`] | [`MemoryRival`]: concurrent caches, larder's tier among them |
//!
//! An adapter does nothing but translate the call. How each rival is configured, and why, stands
//! at the top of its file; the one rule is: as its authors advise for data that may be lost with
//! the machine, on a machine whose memory holds the data.
//!
//! To add a rival: a file with an adapter beside the others, and a line in
//! [`disk::engines`] or in the list of the `larder-benches` memory runner.

pub mod disk;
pub mod memory;

pub use disk::{DiskEngine, DiskReader, DiskRival, Plan};
pub use memory::MemoryRival;

/// Whatever a rival says went wrong.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// The result of every adapter.
pub type Result<T, E = Error> = std::result::Result<T, E>;
