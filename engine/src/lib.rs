//! The engines of larder, behind one trait.
//!
//! | module | what |
//! |---|---|
//! | [`engine`] | [`Engine`], the contract that memory, disk and their composition share |
//! | [`Disk`] | the log-structured store in a directory |
//! | [`value`] | [`Value`]: bytes with their metadata, on the heap or mapped |
//! | [`memory`] | [`Tier`](memory::Tier), the typed memory tier; [`Memory`](memory::Memory), the engine over it |
//! | [`error`] | [`Error`] |
//! | [`clock`] | [`Clock`]: the only source of time |
//! | [`stats`] | [`Stats`], [`Health`] |
//!
//! Data flows one way: `larder-format` knows bytes, this crate knows engines, and `larder`
//! composes them into the cache that people embed.

pub mod clock;
mod disk;
pub mod engine;
pub mod error;
pub mod memory;
pub mod stats;
mod sync;
pub mod value;

pub use clock::{Clock, ManualClock, SystemClock};
pub use disk::{Disk, DiskBuilder, Finding, VerifyReport};
pub use engine::{Durability, Engine, Outcome, Put, Rejection, Ttl};
pub use error::{Error, Result};
pub use larder_format::CodecId;
pub use stats::{Health, Recovery, Stats};
pub use value::{Meta, Value};
