//! A two-level cache that survives restarts: memory over a log-structured store on disk.
pub mod key;

mod builder;
mod cache;
mod change;
mod codec;
mod core;
mod entry;
mod error;
mod event;
mod flight;
mod flush;
mod health;
mod list;
mod load;
mod lower;
mod pending;
mod stale;
mod stats;
mod stripe;
mod sync;
mod two_level;

pub use builder::Builder;
pub use cache::Cache;
pub use codec::{Auto, Codec, CodecError, Postcard, Raw};
pub use core::Mode;
pub use error::{Error, LoadError, Result};
pub use event::Event;
pub use key::{KeyBuf, KeyDecode, KeyEncode, KeyReader};
pub use stats::CacheStats;
pub use two_level::{TwoLevel, TwoLevelBuilder};

pub use larder_engine::memory::PolicyKind;
pub use larder_engine::{
    Clock, CodecId, Disk, Durability, Engine, Health, ManualClock, Outcome, Put, Rejection, Stats,
    SystemClock, Ttl, Value,
};
