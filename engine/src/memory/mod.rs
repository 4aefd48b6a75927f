//! The memory tier: a sharded, weighted cache of typed entries, and an engine over it.
//!
//! | module | what |
//! |---|---|
//! | `tier`, `lookup`, `insert`, `quick`, `room`, `bulk`, `builder` | [`Tier`]: lookups and removals, inserts, the usual one in a straight line, evictions for them, many at once, options |
//! | `shard`, `shelf`, `places` | what writers need, behind a lock: a policy, what it sees, and by what names it knows entries |
//! | `expiry`, `wheel` | what has expired leaves first |
//! | `keep` | [`Keep`]: what an insert says of its entry |
//! | `table`, `buckets`, `lodging`, `slab`, `ids`, `entry` | entries that readers find without a lock |
//! | `extra`, `marks` | what few entries have: a time to idle, a cost, tags |
//! | `readers`, `limbo` | who reads, and what has left and waits for readers |
//! | `replay`, `stripes` | hits on their way to a policy, and counted, without sharing a word |
//! | `conditional`, `order`, `iter` | inserts that depend on what is there; entries in the order of leaving, and in none |
//! | `pins` | what is not evicted |
//! | `tags`, `namespace`, `space`, `names`, `sweep` | what is invalidated at once; keys of their own; cells that names stand for; finding what is dead |
//! | `budget` | the one weight budget that all shards borrow from |
//! | `policy` | [`Policy`]: what leaves when room is needed |
//! | [`simulate`] | policies without a tier, to compare them on traces |
//! | `departure` | [`Cause`], and telling the listener |
//! | `engine` | [`Memory`]: an [`Engine`](crate::Engine) for bytes |
//!
//! Not here: loading on a miss, values on disk, codecs. The `larder` crate composes those.

mod batch;
mod bits;
mod buckets;
mod budget;
mod builder;
mod bulk;
mod conditional;
mod departure;
mod engine;
mod entry;
mod expiry;
mod extra;
mod ids;
mod insert;
mod iter;
mod keep;
mod limbo;
mod lodging;
mod lookup;
mod marks;
mod names;
mod namespace;
mod order;
mod pins;
mod places;
mod policy;
mod quick;
mod readers;
mod replay;
mod resize;
mod room;
mod shard;
mod shelf;
pub mod simulate;
mod slab;
mod space;
mod stripes;
mod sweep;
mod table;
mod tags;
mod tier;
mod wheel;

pub use builder::{Capacity, TierBuilder};
pub use departure::Cause;
pub use engine::{ENTRY_OVERHEAD, Memory, MemoryBuilder};
pub use insert::Rejected;
pub use iter::Iter;
pub use keep::Keep;
pub use namespace::Namespace;
pub use policy::{
    Adaptive, ArcPolicy, Arrival, Clock, Entries, Fifo, Gdsf, Lfu, Lirs, Lru, Mru, OnHit, Policy,
    PolicyKind, Random, S3Fifo, Sieve, TwoQ, WTinyLfu,
};
pub use tier::Tier;
