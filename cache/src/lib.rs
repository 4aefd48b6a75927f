//! A cache in two levels that survives restarts: memory over a log-structured store on disk.
//!
//! ```
//! use larder::Cache;
//!
//! # let home = tempfile::tempdir()?;
//! let dir = home.path().join("digests");
//! let digests = Cache::<String, u64>::builder().memory(32 << 20).disk(&dir).build()?;
//!
//! // Computed once, whichever thread asks first; read from memory after that.
//! let slow = || "a long text".bytes().map(u64::from).sum();
//! let digest = digests.get_or_insert_with("text", slow)?;
//! digests.close()?;
//!
//! // Another process, or the same one tomorrow: nothing is computed again.
//! let digests = Cache::<String, u64>::builder().disk(&dir).build()?;
//! assert_eq!(digests.get("text")?, Some(digest));
//! assert_eq!(digests.stats().disk_hits, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The tour
//!
//! | you want | use |
//! |---|---|
//! | a cache | [`Cache`], set up by its [`Builder`] |
//! | results of functions kept | [`cached`](macro@cached), or [`Memo`] without a macro |
//! | keys of your own type | [`KeyEncode`](trait@KeyEncode), which can be derived; what keys are: [`key`] |
//! | values of your own type | derive serde's traits; or a [`Codec`] |
//! | a time to live, or to wait for the disk | [`Put`] with [`Cache::insert_with`]; [`Loaded`] with [`Cache::get_or_load`] |
//! | all that depends on something to go at once | [`Put::tags`], [`Cache::invalidate_tag`] |
//! | to change what is there | [`Cache::add`], [`Cache::replace_if`], [`Cache::update`], [`Cache::touch`] |
//! | nobody to wait while an old value is loaded anew | [`Builder::serve_stale`], [`Builder::refresh_ahead`], [`Cache::get_or_load_behind`] |
//! | the old value if the new one cannot be had | [`Builder::serve_stale_on_error`] |
//! | keys and values of many types in one cache | [`Shelves`], each a [`Shelf`] with a name |
//! | queues, ordered maps, counters, locks and limits that survive restarts | [`structures`] |
//! | settings from a file or the environment, and changes while in use | `Config`, `Cache::reconfigure` (feature `config`) |
//! | futures instead of threads | `Cache::nonblocking`, `Cache::on_tokio` (features `async`, `tokio`) |
//! | fewer writes | [`Mode::WriteOnEvict`] |
//! | to know how it does | [`Cache::stats`], [`Builder::on_event`] |
//! | the same for plain bytes, as an [`Engine`] | [`TwoLevel`] |
//! | an engine by name, one that fits, or several that stand in for each other | [`Builder::engines`], [`Engines`], [`Fallback`] |
//! | the store alone | [`Disk`] |
//!
//! # Consistency
//!
//! **One key.** Operations on one key are linearizable: each takes effect at one moment between
//! its call and its return, in both tiers, for all threads. A value that `get` returns was put
//! under that key, is the newest, is whole, has not expired and was not removed.
//!
//! **Misses.** Whatever is stored may be evicted at any time, so a `get` may miss it. As long as
//! the store has room it does not, with one exception: while a value with a deadline replaces
//! another in write-on-evict mode, neither may be found for a moment.
//!
//! **Several keys.** Nothing is promised across keys. [`Cache::clear`] takes each key at one
//! moment, and changes wait until it is through; [`Cache::iter`] gives every entry that stays
//! exactly once.
//!
//! **Waiting.** A `get` waits for no writer, eviction or loader. Memory hits take none of this
//! crate's locks. Changes of a key wait for each other, and for the store.
//!
//! **Loading.** [`Cache::get_or_insert_with`] runs one loader per key at a time. No lock is held
//! meanwhile. A key that changes while it is loaded keeps the change: what was loaded is not
//! stored over it.
//!
//! **Time.** A value is fresh while now < deadline. Past that it is gone, but for those who would
//! load it: if the cache is built to, they get the old value while one of them loads it anew, or
//! if that fails.
//!
//! **Survival.** In write-through mode, what was inserted survives the death of the process;
//! in write-on-evict mode it does after [`Cache::flush`], or once it was evicted from memory.
//! What it replaced never comes back in its stead. After [`Cache::sync`], or with
//! [`Durability::Sync`], it survives the loss of power.
//!
//! **Failure.** A store that fails is a miss, not an error, unless the cache is
//! [strict](Builder::strict), and never a wrong value: keys that it may answer wrongly since a
//! write failed are not read from it until a write or a removal went through. That is kept in
//! memory: when the process ends before the store works again, what such a write should have
//! replaced or removed may come back. State and counters are in [`CacheStats`], changes are
//! announced as [`Event`]s.
//!
//! **Your code.** `Clone` and `Drop` of values, weighers and what is given to
//! [`Cache::get_with`] run where locks may be held: they must not use the cache. Loaders,
//! codecs and observers may.
//!
//! **Several caches.** Caches over the same store do not hear of each other. Use clones of one,
//! or a [namespace](Builder::namespace) each.

#![forbid(unsafe_code)]

/// The guide to arrays, whose examples run with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../docs/arrays.md")]
struct Guide;

pub mod key;
pub mod memo;
pub mod structures;

mod advice;
mod array;
mod builder;
mod cache;
mod chain;
mod change;
mod changing;
mod codec;
mod conditional;
#[cfg(feature = "config")]
mod config;
mod core;
mod current;
mod engines;
mod entry;
mod error;
mod event;
mod fallback;
mod flight;
mod flush;
mod fresh;
mod health;
mod idle;
mod list;
mod load;
mod loaded;
mod loading;
mod lower;
mod many;
#[cfg(feature = "async")]
mod nonblocking;
mod pending;
#[cfg(feature = "config")]
mod places;
mod shelf;
mod stale;
mod stats;
mod stripe;
mod sync;
mod tags;
#[cfg(feature = "tracing")]
mod traced;
mod two_level;
mod usage;

pub use advice::{Advice, Trial};
pub use array::{Array, Arrays};
pub use builder::Builder;
pub use cache::Cache;
pub use codec::{Auto, Codec, CodecError, Postcard, Raw};
pub use conditional::Info;
#[cfg(feature = "config")]
pub use config::{Config, ConfigError, MemoryLimit, Problem, Reconfigured};
pub use core::Mode;
pub use engines::{
    Availability, Choice, EngineSettings, Engines, Kind, Needs, Null, Sharing, Survives,
    Unavailable,
};
pub use error::{Error, LoadError, Result};
pub use event::Event;
pub use fallback::{Fallback, FallbackBuilder, LinkState};
pub use health::Circuit;
pub use key::{KeyBuf, KeyDecode, KeyEncode, KeyReader, Rounded, Tolerant};
pub use loaded::Loaded;
pub use memo::{Call, Explanation, Function, FunctionStats, Handle, Memo, MemoBuilder};
#[cfg(feature = "async")]
pub use nonblocking::{AsyncCache, Entries, Offload, Work};
#[cfg(feature = "config")]
pub use places::cache_dir;
pub use shelf::{PerShelf, Shelf, Shelved, Shelves};
pub use stats::CacheStats;
#[cfg(feature = "tracing")]
pub use traced::trace_event;
pub use two_level::{TwoLevel, TwoLevelBuilder};

/// Derives [`KeyDecode`](trait@KeyDecode): see [`KeyEncode`](derive@KeyEncode), whose attributes it
/// takes. What is skipped is made by `Default`.
#[cfg(feature = "macros")]
pub use larder_macros::KeyDecode;
/// Derives [`KeyEncode`](trait@KeyEncode) for a struct or an enum.
///
/// | attribute | on | means |
/// |---|---|---|
/// | `#[key(name = "…")]` | type, variant, field | is called so in keys, whatever it is called in the program |
/// | `#[key(skip)]` | field | does not count: values that differ in nothing else are the same key |
/// | `#[key(transparent)]` | struct of one field | has that field's bytes, and so can be borrowed as that |
///
/// Fields are encoded in the order of their names, behind the [shape](crate::key#what-is-equal)
/// of the type: to move fields about changes nothing; to rename, add or remove one makes
/// other keys, so that no old key is taken for a new one.
///
/// ```
/// use larder::{Cache, KeyDecode, KeyEncode};
///
/// #[derive(Debug, PartialEq, KeyEncode, KeyDecode)]
/// enum Shape<T> {
///     Circle { radius: T },
///     Polygon(Vec<(T, T)>),
///     #[key(name = "Empty")]
///     Nothing,
/// }
///
/// #[derive(Debug, PartialEq, KeyEncode, KeyDecode)]
/// struct Request {
///     shape: Shape<u32>,
///     #[key(skip)]
///     trace: String,
/// }
///
/// let cache = Cache::<Request, f64>::builder().build()?;
/// let request = |trace: &str| Request { shape: Shape::Circle { radius: 2 }, trace: trace.into() };
/// assert!(cache.insert(request("first"), 12.566)?.is_admitted());
/// assert_eq!(cache.get(&request("second"))?, Some(12.566));
/// assert_eq!(cache.iter()?.next().unwrap()?.0, request(""));
/// # Ok::<(), larder::Error>(())
/// ```
///
/// All type parameters have to be keys. Unions cannot be keys:
///
/// ```compile_fail
/// #[derive(larder::KeyEncode)]
/// union Either { number: u32, float: f32 }
/// ```
#[cfg(feature = "macros")]
pub use larder_macros::KeyEncode;
/// Keeps the results of a function: what it returned for some arguments it returns again, without being run.
///
/// ```
/// #[larder::cached]
/// fn fib(n: u32) -> u64 {
///     if n < 2 { n.into() } else { fib(n - 1) + fib(n - 2) }
/// }
///
/// assert_eq!(fib(90), 2_880_067_194_370_816_120);
/// assert_eq!(fib_cache().stats().runs, 91);
/// ```
///
/// It works on functions and on methods with `&self`, generic or not, async or not (with the feature
/// `async`). Arguments have to be keys ([`KeyEncode`](trait@KeyEncode)), what is kept has to be
/// `Clone` and to have a [`Codec`], which serde's types have. Type parameters have to be `'static`.
///
/// # What is generated
///
/// | for `fn area(…) -> R` | |
/// |---|---|
/// | `area(…)` | the result, kept or computed |
/// | `area_call(…)` | the [`Call`], to ask about: `is_cached`, `get`, `invalidate`, `handle`, `explain` |
/// | `area_fresh(…)` | the result, computed whatever is kept, and kept in place of that |
/// | `area_uncached(…)` | the function as it was written |
/// | `area_cache()` | the [`Function`]: `stats`, `clear`, `fetch`, `cache` |
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `capacity = 1_000` | results that memory may hold; 0 keeps none. 64 MiB of them if nothing is said |
/// | `memory = 1 << 20` | bytes that they may take there |
/// | `policy = PolicyKind::Lru` | [`Builder::policy`] |
/// | `ttl = "1h30m"` | how long they are good: units `ms` `s` `m` `h` `d`, or a `Duration` |
/// | `serve_stale = "30s"`, `serve_stale_on_error = …`, `refresh_ahead = …`, `refresh_early = 1.0`, `jitter = 0.1` | how they are computed anew near and past their time: the same of [`Builder`] |
/// | `disk = path` | a directory of its own, in which results outlive the process |
/// | `engine = store` | a store with others, an `Arc<dyn Engine>`; `namespace = "…"` if not the function's name |
/// | `cache = CACHE` | a [`Cache`] with others, of the same values |
/// | `setup = \|builder\| builder.strict(true)` | anything else that a [`Builder`] can do |
/// | `codec = Raw` | the type of the codec; [`Auto`] if nothing is said |
/// | `offload = work` | how an async function does what may wait for a disk (`Offload`); tokio's threads where there are any, else one of its own |
/// | `name = "…"` | what it is called in the store; its path if nothing is said |
/// | `version = 2` | counts in the key beside a hash of the code |
/// | `ignore_code` | only `version` counts: changed code finds the old results |
/// | `key = (user.id, text.len())` | all that counts of the arguments |
/// | `ignore(verbose, self)` | arguments that do not count |
/// | `tolerance = 0.01`, `tolerance(x = 0.01)` | floats are told apart to this much: all, or these ([`Rounded`]) |
/// | `tags = ["layout", format!("user:{id}")]` | what results can be forgotten by together: [`Function::invalidate_tag`] |
/// | `cache_if = \|value\| …` | which results are kept; it gets a reference to what would be |
/// | `valid_if = \|value\| …` | which are still good when they are found |
/// | `cache_errors`, `cache_none` | an `Err`, a `None` is kept as well |
/// | `associated` | this is a function of an `impl` that takes no `self` and does not say `Self` |
///
/// # Changed code
/// A hash of the function's tokens (neither comments nor layout) is part of every key: when the code changes, its results
/// are computed anew, and the old ones stay until they are evicted. What the function calls is not in the
/// hash: count `version` up when that changes.
///
/// # What cannot be
/// `&mut` arguments, `impl Trait`, `unsafe`, `const` and trait functions, results that borrow. In an `impl`
/// with a lifetime, types have to be written without it.
///
/// ```compile_fail
/// #[larder::cached]
/// fn append(to: &mut Vec<u32>) -> usize { to.len() }
/// ```
///
/// ```compile_fail
/// #[larder::cached]
/// fn first(text: &str) -> &str { &text[..1] }
/// ```
///
/// ```compile_fail
/// struct NoKey;
/// #[larder::cached]
/// fn of(_: NoKey) -> u32 { 7 }
/// ```
///
/// More, with examples: [`memo`], and the guide in `docs/guide/memoise.md`.
#[cfg(feature = "macros")]
pub use larder_macros::cached;

#[cfg(feature = "zstd")]
pub use larder_engine::Compression;
#[cfg(feature = "metrics")]
pub use larder_engine::Metrics;
#[cfg(feature = "npz")]
pub use larder_engine::Npz;
#[cfg(feature = "safetensors")]
pub use larder_engine::Safetensors;
#[cfg(feature = "tracing")]
pub use larder_engine::Tracing;
pub use larder_engine::memory::PolicyKind;
pub use larder_engine::memory::simulate::Estimate;
pub use larder_engine::{
    Alignment, AnyArray, ArrayAppender, ArrayDescriptor, ArrayError, ArrayRef, ArrayView, Check,
    DType, Element, Order, Prefetch, ReservedArray, Strided,
};
pub use larder_engine::{
    Atomic, Batched, Clock, CodecId, Cost, Disk, DiskBuilder, Durability, Engine, Health,
    ManualClock, Meta, Outcome, Put, Recovery, Rejection, Reserved, Retain, Stats, SystemClock,
    Tagged, Ttl, Value, ValueReader, WhenShort, WithTags,
};
#[cfg(feature = "histograms")]
pub use larder_engine::{Latencies, Latency};

/// The examples of the guide, so that they are compiled and run.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../docs/guide/choosing-an-engine.md")]
    struct ChoosingAnEngine;
    #[doc = include_str!("../../docs/guide/configuration.md")]
    struct Configuration;
    #[doc = include_str!("../../docs/guide/errors.md")]
    struct Errors;
    #[doc = include_str!("../../docs/guide/loading.md")]
    struct Loading;
    #[doc = include_str!("../../docs/guide/structures.md")]
    struct Structures;
    #[cfg(feature = "macros")]
    #[doc = include_str!("../../docs/guide/memoise.md")]
    struct Memoise;
    #[doc = include_str!("../../docs/guide/performance.md")]
    struct Performance;
    #[doc = include_str!("../../docs/guide/processes.md")]
    struct Processes;
    #[cfg(feature = "macros")]
    #[doc = include_str!("../../docs/guide/quickstart.md")]
    struct Quickstart;
}
