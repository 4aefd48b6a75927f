//! Several engines as one: what the first cannot do now, the next one does.
//!
//! ```text
//!   put ──► first ──fails, or is not tried──► second ──► …        get ──► first ──► … ──► reach
//!            │ the key is masked there          │
//!            └── comes back: what was masked is removed, then the others are cleared
//! ```
//!
//! # Invariants
//! 1. The newest value of a key, if there still is one, is shown by exactly one engine: the others
//!    lack the key, or it is masked there (`stale.rs`). So whatever comes back, no old value does.
//! 2. Changes of a key run under its stripe. Reads take none, and masks are set before what they
//!    stand for can be found elsewhere.
//! 3. `reach` is the last engine that may hold anything. It is raised before a value is put there,
//!    and lowered under all stripes, when all engines beyond were cleared.
//!
//! Nothing is carried back to an engine that was away: a value cannot be put with the moment at which it
//! was written, so it would seem younger than it is.
//!
//! Waiting and trying again are the breaker's (`health.rs`), by the cache's clock: crates that retry
//! sleep by a clock of their own, and hold the caller up meanwhile.

mod atomic;
mod back;
mod builder;
mod contract;
mod link;

use std::fmt;
use std::sync::Arc;

use larder_engine::{Engine, Error, Outcome, Put, Rejection, Result, Value};

use self::back::Returning;
pub use self::builder::FallbackBuilder;
use self::link::{Kind, Link, Trouble};
use crate::event::Events;
use crate::health::Circuit;
use crate::stripe::{Held, Stripes};
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};

/// Engines that stand in for each other: the first does what is asked; while it cannot be opened, fails
/// time and again, or fails for good, the next one does, and so on.
///
/// ```
/// use larder::{Disk, Engine, Fallback, Put, Null};
/// use std::sync::Arc;
///
/// # let home = tempfile::tempdir()?;
/// # std::fs::write(home.path().join("file"), "")?;
/// // A file stands where the directory should be.
/// let dir = home.path().join("file");
/// let engine = Fallback::builder()
///     .or("disk", move || Ok(Arc::new(Disk::builder(&dir).open()?)))
///     .or("nothing", || Ok(Arc::new(Null::default())))
///     .build()?;
/// assert_eq!(engine.links()[0].name(), "disk");
/// assert!(engine.links()[0].why().is_some_and(|why| why.contains("move it away")));
/// assert_eq!(engine.get(b"key")?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What holds
/// - What was replaced, removed or invalidated while an engine was away is not shown by it when it is
///   back. That is kept in memory: of an engine that is still away when the process ends, such
///   values may come back with the next one.
/// - Engines after the first hold only what was put while those before them were away. They are
///   **cleared when they are opened** and when all before them are back, so give none here that holds
///   anything else. Values under tags are not put into engines that know no tags.
/// - An engine is opened when it is first needed, the first one when this is built. It is tried
///   again after a pause, which doubles with every failure, by one operation; coming back is done by a
///   thread of its own, so that nobody waits for it.
/// - Each operation that fails for a passing reason is tried again at once, once unless
///   [`retries`](FallbackBuilder::retries) says otherwise.
/// - It is no error if a value cannot be had from an engine that is away, but a miss, as long as there is
///   one that serves.
///
/// Versions of values from the first engine are its own; those of others have bits set that
/// tell them apart.
pub struct Fallback {
    inner: Arc<Inner>,
    returning: Returning,
}

/// What threads that bring engines back share.
struct Inner {
    links: Vec<Link>,
    stripes: Stripes,
    reach: AtomicUsize,
    /// Whether any engine is not as it should be: only then is anything looked at.
    troubled: AtomicBool,
    closed: AtomicBool,
    /// The one that serves, as far as the observer knows; no link's number if none does.
    serves: Mutex<usize>,
    events: Arc<Events>,
    /// Whether events are given out from here, and not by a cache above.
    emits: bool,
}

/// How an engine of a [`Fallback`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    name: Arc<str>,
    circuit: Circuit,
    is_open: bool,
    serves: bool,
    owed: u64,
    failures: u64,
    why: Option<String>,
}

impl LinkState {
    /// What it was called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is tried.
    #[must_use]
    pub const fn circuit(&self) -> Circuit {
        self.circuit
    }

    /// Whether it was opened; those that were not needed so far are not.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether it is the one that takes what is put now.
    #[must_use]
    pub const fn serves(&self) -> bool {
        self.serves
    }

    /// Keys that are not read from it, because they changed while it was away.
    #[must_use]
    pub const fn masked_keys(&self) -> u64 {
        self.owed
    }

    /// Operations that failed.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        self.failures
    }

    /// What was wrong last, unless all is well.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }
}

/// So many that their numbers fit beside a version.
const LINKS_MAX: usize = 8;
/// Where the number of the engine stands in a version: below what the cache sets, above what engines
/// count to.
const LINK_AT: u32 = 58;

impl Fallback {
    /// Begins to set one up.
    pub fn builder() -> FallbackBuilder {
        FallbackBuilder::new()
    }

    /// The engines in their order, and how they are.
    #[must_use]
    pub fn links(&self) -> Vec<LinkState> {
        let serving = self.inner.serving();
        let state = |(at, link): (usize, &Link)| LinkState {
            name: Arc::clone(&link.name),
            circuit: link.circuit(),
            is_open: link.engine().is_some(),
            serves: serving == Some(at),
            owed: link.stale.len() as u64,
            failures: link.failures.get(),
            why: link.why(),
        };
        self.inner.links.iter().enumerate().map(state).collect()
    }

    /// The name of the engine that takes what is put now; `None` if there is none.
    #[must_use]
    pub fn serving(&self) -> Option<&str> {
        self.inner.serving().map(|at| &*self.inner.links[at].name)
    }

    /// After an operation: looks whether something should be done about engines that are away.
    #[inline]
    fn tend(&self) {
        // Relaxed: a hint; who comes next sees it.
        if self.inner.troubled.load(Ordering::Relaxed) {
            self.tend_now();
        }
    }

    #[cold]
    fn tend_now(&self) {
        self.inner.look();
        if self.inner.is_due() {
            self.returning.begin(&self.inner);
        }
        self.inner.emit();
    }
}

impl Inner {
    fn open(&self) -> Result<()> {
        // Acquire: pairs with `close`.
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    fn stripe(&self, key: &[u8]) -> Held<'_> {
        self.stripes.lock(key)
    }

    /// The last engine that may hold anything.
    fn reach(&self) -> usize {
        // Acquire: pairs with the Release in `put_under`: who has seen a value that was put beyond
        // looks there.
        self.reach.load(Ordering::Acquire)
    }

    /// The engines that may hold anything.
    fn reached(&self) -> impl DoubleEndedIterator<Item = (usize, &Link)> {
        self.links.iter().enumerate().take(self.reach() + 1)
    }

    fn serving(&self) -> Option<usize> {
        self.links.iter().position(|link| link.is_well() && !link.stale.bypassed())
    }

    /// Says that something is to be looked at. Call after what that is was noted.
    fn in_trouble(&self) {
        // SeqCst: one order with `look`, so that it sees what was noted, or comes first.
        self.troubled.store(true, Ordering::SeqCst);
    }

    /// What is said where nobody answered.
    fn unanswered<T>(&self, last: Option<Error>, none: T) -> Result<T> {
        self.in_trouble();
        if self.links.iter().any(Link::may_serve) {
            return Ok(none);
        }
        let names: Vec<_> = self.links.iter().map(|link| &*link.name).collect();
        Err(last.unwrap_or_else(|| Error::Io {
            op: "use any of the engines",
            path: names.join(", ").into(),
            source: std::io::Error::other("all failed of late, and are tried again after a pause"),
        }))
    }

    /// Asks the engines that may hold something for `key`, until one has an answer.
    fn first<T>(
        &self,
        key: &[u8],
        op: &'static str,
        ask: impl Fn(usize, &dyn Engine) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        self.open()?;
        let (mut last, mut asked) = (None, false);
        for (at, link) in self.reached() {
            if link.stale.hides(key) {
                asked |= !link.stale.bypassed();
                continue;
            }
            match link.attempt(Kind::Read, op, |engine| ask(at, engine)) {
                Ok(None) => asked = true,
                Ok(found) => return Ok(found),
                Err(Trouble::Callers(error)) => return Err(error),
                Err(Trouble::Failed(error)) => {
                    self.in_trouble();
                    last = Some(error);
                }
                Err(Trouble::NotTried) => {}
            }
        }
        if asked { Ok(None) } else { self.unanswered(last, None) }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.first(key, "read a value", |at, engine| {
            Ok(engine.get(key)?.map(|value| renumbered(at, value)))
        })
    }

    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        self.first(key, "look a key up", |at, engine| {
            Ok(engine.version(key)?.map(|version| numbered(at, version)))
        })
    }

    /// Stores a value in the first engine that takes it. Hold the key's stripe.
    fn put_under(&self, key: &[u8], value: &[u8], put: &Put<'_>) -> Result<Outcome> {
        let mut last = None;
        for (at, link) in self.links.iter().enumerate() {
            if at > 0 {
                // Release: pairs with `reach`. Before the value can be found there.
                self.reach.fetch_max(at, Ordering::Release);
            }
            match self.put_in(at, key, value, put) {
                Ok(Outcome::Admitted { version }) => {
                    link.stale.unmask(key);
                    for (_, beyond) in self.reached().skip(at + 1) {
                        beyond.remove(key)?;
                    }
                    return Ok(Outcome::Admitted { version: numbered(at, version) });
                }
                Ok(refused) => return Ok(refused),
                Err(Trouble::Callers(error)) => return Err(error),
                Err(Trouble::Failed(error)) => last = Some(error),
                Err(Trouble::NotTried) => {}
            }
            link.mask(key);
            self.in_trouble();
        }
        self.unanswered(last, Outcome::Rejected(Rejection::NoRoom))
    }

    fn put_in(
        &self,
        at: usize,
        key: &[u8],
        value: &[u8],
        put: &Put<'_>,
    ) -> Result<Outcome, Trouble> {
        let link = &self.links[at];
        // Where another one is there to serve, who brings this one back opens it.
        let is_urgent = || self.links.iter().skip(at + 1).all(|link| link.engine().is_none());
        let engine = match link.engine() {
            Some(engine) => engine,
            None if is_urgent() => link.open()?,
            None => return Err(Trouble::NotTried),
        };
        if link.stale.bypassed() {
            return Err(Trouble::NotTried);
        }
        if !put.tags.is_empty() && engine.tagged().is_none() {
            return Ok(Outcome::Rejected(Rejection::Disabled));
        }
        link.attempt(Kind::Write, "store a value", |engine| engine.put(key, value, put))
    }

    /// Removes a key from wherever it may be. Hold its stripe.
    fn remove_under(&self, key: &[u8]) -> Result<bool> {
        let mut removed = false;
        for (_, link) in self.reached() {
            removed |= link.remove(key)?;
            if link.stale.any() {
                self.in_trouble();
            }
        }
        Ok(removed)
    }

    fn emit(&self) {
        if self.emits {
            self.events.emit();
        }
    }
}

/// The version as this engine has it of a value that one of its own has.
const fn numbered(at: usize, version: u64) -> u64 {
    version ^ ((at as u64) << LINK_AT)
}

/// A value with the version that it has here.
fn renumbered(at: usize, value: Value) -> Value {
    let version = numbered(at, value.meta().version);
    if at == 0 { value } else { value.with_version(version) }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Fallback").field("links", &self.inner.links).finish_non_exhaustive()
    }
}
