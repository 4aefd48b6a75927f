//! Results of functions, kept: [`Memo`] around a closure, and what `#[cached]` generates.
//!
//! ```
//! use larder::{Cache, Memo};
//!
//! let areas = Memo::new(Cache::<(u32, u32), u64>::builder().build()?, |&(width, height): &(u32, u32)| {
//!     u64::from(width) * u64::from(height)
//! });
//! assert_eq!(areas.call(&(3, 4)), 12);
//! assert!(areas.is_cached(&(3, 4)));
//! assert_eq!((areas.stats().hits, areas.stats().runs), (0, 1));
//! # Ok::<(), larder::Error>(())
//! ```
//!
//! # What is kept
//! What is kept is what the cache holds: of a function that returns `Result<T, E>` over a cache of `T` the
//! values that are `Ok`, of one that returns `Option<T>` those that are `Some`. Over a cache
//! of the whole `Result` or `Option`, errors and `None` are kept as well. See [`Returns`].
//!
//! # A function always answers
//! Where a cache would give an error (it is closed, its store fails and it is strict, the value has
//! no bytes), the body runs, its result is returned and not kept, and
//! [`uncached`](FunctionStats::uncached) counts it.
//!
//! # One run
//! Of all threads that call a function with the same arguments while nothing is kept for them one
//! runs the body, and the others wait for what it keeps. What is not kept is not shared either: after
//! an error, a `None`, a panic or a result that [`cache_if`](MemoBuilder::cache_if) refuses the next
//! of them runs its own.
//!
//! A body that calls the function again with other arguments is served as anybody. With the same
//! arguments, the body runs again, as it would without a cache, and the inner result is not kept. If
//! threads run bodies that need each other's results, the one that would close the circle does the
//! same.
//!
//! # Functions in one cache
//! With a name or a version, and unless its cache is in memory and has no other functions, 9 bytes before the arguments tell a function's results from all
//! others in the same cache: the tag `51` and the first 8 bytes of a BLAKE3 digest of name,
//! version and what the macro says of the code. Two functions of a
//! million in one store share these with a probability of 1 to 37 million. With another version the old
//! results stay, unseen, until they are evicted.
//!
//! # Invariants
//! 1. A hit takes no lock and writes one word of a stripe of a counter.
//! 2. What is run is published under its flight (`flight.rs`), so that an invalidation that comes
//!    meanwhile is not undone.
//! 3. The notes that explanations are made of (`notes.rs`) are bounded, and say when they have
//!    forgotten something.

mod call;
mod explain;
mod function;
#[cfg(feature = "async")]
mod futures;
mod handle;
mod notes;
mod returns;
mod run;
mod setup;
mod site;
mod stats;
mod typed;
mod versions;

pub use call::Call;
pub use explain::Explanation;
pub use function::{Arguments, Function};
pub use handle::Handle;
pub use returns::Returns;
#[doc(hidden)]
pub use run::Extra;
#[doc(hidden)]
pub use setup::Setup;
#[doc(hidden)]
pub use site::Site;
pub use stats::FunctionStats;
pub use typed::{Memo, MemoBuilder};
pub(crate) use versions::Versions;

/// What `#[cached]` on an async function looks for, so that its name is the error without it.
#[cfg(feature = "async")]
#[doc(hidden)]
pub const fn async_functions_need_the_feature_async_of_larder() {}
