//! The engines of larder, behind one trait.
//!
//! | module | what |
//! |---|---|
//! | [`engine`] | [`Engine`], the contract that memory, disk and their composition share |
//! | [`mod@array`] | arrays, stored and looked at without a copy |
//! | [`Disk`] | the log-structured store in a directory |
//! | [`value`] | [`Value`]: bytes with their metadata, on the heap or mapped |
//! | [`memory`] | [`Tier`](memory::Tier), the typed memory tier; [`Memory`](memory::Memory), the engine over it |
//! | [`error`] | [`Error`] |
//! | [`clock`] | [`Clock`]: the only source of time |
//! | [`stats`] | [`Stats`], [`Health`] |
//! | `conformance` | the suite that every engine has to pass (feature `conformance`) |
//!
//! Data flows one way: `larder-format` knows bytes, this crate knows engines, and `larder`
//! composes them into the cache that people embed.

#![cfg_attr(
    loom,
    allow(dead_code, unused_imports, reason = "models use a part, and the store is not there")
)]

#[cfg(not(loom))]
pub mod array;
#[cfg(not(loom))]
mod batch;
pub mod clock;
#[cfg(all(feature = "conformance", not(loom)))]
pub mod conformance;
#[cfg(not(loom))]
mod disk;
#[cfg(not(loom))]
pub mod engine;
pub mod error;
#[cfg(all(feature = "histograms", not(loom)))]
mod latency;
#[cfg(not(loom))]
pub mod memory;
pub mod stats;
mod sync;
#[cfg(not(loom))]
pub mod value;

#[cfg(all(test, loom))]
mod models;

/// Under a model checker: the protocols, over its atomics.
#[cfg(all(test, loom))]
mod disk {
    pub(crate) mod bucket;
    pub(crate) mod cell;
    pub(crate) mod committed;
    pub(crate) mod gate;
    pub(crate) mod group;
    pub(crate) mod in_flight;
    pub(crate) mod index;
    pub(crate) mod lookup;
    pub(crate) mod moving;
}

/// Under a model checker: what readers of the memory tier rest on.
#[cfg(all(test, loom))]
mod memory {
    pub(crate) mod bits;
    pub(crate) mod buckets;
    pub(crate) mod budget;
    pub(crate) mod entry;
    pub(crate) mod extra;
    pub(crate) mod ids;
    pub(crate) mod limbo;
    pub(crate) mod lodging;
    pub(crate) mod marks;
    pub(crate) mod readers;
    pub(crate) mod replay;
    pub(crate) mod slab;
    pub(crate) mod table;
}

#[cfg(all(feature = "npz", not(loom)))]
pub use array::Npz;
#[cfg(all(feature = "safetensors", not(loom)))]
pub use array::Safetensors;
#[cfg(not(loom))]
pub use array::{
    AnyArray, ArrayError, ArrayRef, ArrayView, Check, Element, ElementName, Prefetch, Strided,
};
#[cfg(not(loom))]
pub use batch::{BatchOutcome, WriteBatch};
pub use clock::{Clock, ManualClock, SystemClock};
#[cfg(all(feature = "zstd", not(loom)))]
pub use disk::Compression;
#[cfg(all(feature = "metrics", not(loom)))]
pub use disk::Metrics;
#[cfg(all(feature = "tracing", not(loom)))]
pub use disk::Tracing;
#[cfg(not(loom))]
pub use disk::{
    Access, Admission, ArrayAppender, BackupReport, Disk, DiskBuilder, Event, Finding, Limits,
    Listed, Maintained, Maintenance, Namespace, Observer, Place, Process, Pushed, Queue,
    RepairReport, Reserved, ReservedArray, Retain, ValueReader, VerifyReport, Work,
};
#[cfg(not(loom))]
pub use engine::{
    Atomic, Batched, Cost, Durability, Engine, Expected, Outcome, Put, Rejection, Stamp, Tagged,
    Ttl, Watched, WhenShort, WithTags,
};
pub use error::{Error, Result};
pub use larder_format::{Alignment, ArrayDescriptor, CodecId, DType, Order};
#[cfg(all(feature = "histograms", not(loom)))]
pub use latency::{Latencies, Latency};
pub use stats::{Health, Recovery, Stats};
#[cfg(not(loom))]
pub use value::{Meta, Value};
