//! Structures that outlive the process: queues, ordered maps, counters, locks, limits.
//!
//! All state is in the store, under the structure's name, and nothing in a handle: handles can be
//! cloned, made anew and used from any thread, and mean the same structure. What a call has done
//! survives the death of the process, and the loss of power after [`Structures::sync`]. A call
//! takes place at one moment, as a whole, or fails and leaves everything as it was; where it is
//! several steps, it says so.
//!
//! | structure | what it is |
//! |---|---|
//! | [`Deque`] | a queue with two ends, and positions from both |
//! | [`Index`] | a map in the order of insertion |
//! | [`Counter`] | a whole number |
//! | [`RunningMean`] | the mean of what was added |
//! | [`Lock`], [`RwLock`], [`Semaphore`] | leases: held until given back, or until their time is over |
//! | [`RateLimiter`] | so many within so long |
//!
//! ```
//! use larder::structures::Structures;
//! use std::time::Duration;
//!
//! # let home = tempfile::tempdir()?;
//! let structures = Structures::open(home.path().join("jobs"))?;
//! let jobs = structures.deque::<String>("jobs")?;
//! jobs.push_back("first".to_owned())?;
//! jobs.push_back("second".to_owned())?;
//!
//! let lock = structures.lock("worker", Duration::from_secs(30))?;
//! let job = lock.run(|| jobs.pop_front())??;
//! assert_eq!(job.as_deref(), Some("first"));
//! assert_eq!(jobs.get(-1)?.as_deref(), Some("second"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where they can be
//! In an engine that [keeps everything](larder_engine::Engine::keeps_all): a store opened with
//! [`Retain::All`], or memory that refuses rather than evicts. One that is full
//! refuses a change as [`Error::Rejected`]. A cache evicts what it likes, and a lock or an item that is
//! evicted is one that was promised and is gone: so [`Structures::over`] refuses it as
//! [`Error::Evicts`]. Where lost items are no harm, [`Structures::over_evicting`] takes it, for those
//! structures whose loss nobody is hurt by.
//!
//! Structures never go through a cache's memory tier, nor past a store that fails: its errors are the
//! caller's.
//!
//! # Damage
//! A record that does not pass its checks is a miss to the store. An item of a [`Deque`] or an
//! [`Index`] that is missing is passed over, taken out where it is met, and counted (`lost`); it
//! never blocks what is behind it. A structure whose root is lost begins anew.

mod counter;
mod deque;
mod ground;
mod index;
mod leases;
mod locks;
mod mean;
mod rate;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::memory::Memory;
use larder_engine::{Clock, Disk, Engine, Retain, SystemClock};

use crate::cache::Cache;
use crate::codec::{Auto, Codec};
use crate::error::{Error, Result};
use crate::key::{KeyDecode, KeyEncode};

pub use counter::Counter;
pub use deque::{Deque, Items};
pub use index::{Entries, Index};
pub use leases::Lease;
pub use locks::{Lock, RwLock, Semaphore};
pub use mean::RunningMean;
pub use rate::{RateLimiter, Turn};

pub(crate) use ground::CODEC;
use ground::{Ground, Kind, Plot};

/// The structures of one store, by name. Clones are cheap and mean the same.
///
/// Structures of different kinds do not share names: a deque and a lock may be called the same.
/// Names are at most 1024 bytes. Nothing is stored before something is done to a structure.
#[derive(Debug, Clone)]
pub struct Structures {
    ground: Arc<Ground>,
}

impl Structures {
    /// In a store of their own in `dir`, which keeps everything.
    ///
    /// # Errors
    /// [`Error::Engine`] if it cannot be opened.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let opened = Disk::builder(dir).retain(Retain::All).open();
        let disk = opened.map_err(|source| Error::Engine { op: "be opened", source })?;
        Self::over(Arc::new(disk), Arc::new(SystemClock))
    }

    /// In memory, at most so many bytes of it.
    ///
    /// # Errors
    /// None that there is a reason for today.
    pub fn in_memory(bytes: u64) -> Result<Self> {
        Self::in_memory_at(bytes, Arc::new(SystemClock))
    }

    fn in_memory_at(bytes: u64, clock: Arc<dyn Clock>) -> Result<Self> {
        let memory = Memory::builder(bytes).retain(Retain::All).clock(Arc::clone(&clock)).build();
        let memory = memory.map_err(|source| Error::Engine { op: "be set up", source })?;
        Self::over(Arc::new(memory), clock)
    }

    /// In an engine that keeps everything. The engine should have the same clock.
    ///
    /// # Errors
    /// [`Error::Evicts`] if it does not keep everything, and [`Error::Unsupported`] if it cannot
    /// change several keys as one.
    pub fn over(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::within(engine, clock, Box::default())
    }

    /// In an engine that may evict, for structures that may lose what they hold: items of a
    /// [`Deque`] or an [`Index`], a [`Counter`], a [`RunningMean`]. A structure whose root is evicted is
    /// empty. Leases and limits are refused, as what is lost there was a promise.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it cannot change several keys as one.
    pub fn over_evicting(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Result<Self> {
        Ok(Self { ground: Arc::new(Ground::new(engine, clock, Box::default())?) })
    }

    fn within(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>, prefix: Box<[u8]>) -> Result<Self> {
        let ground = Ground::new(engine, clock, prefix)?;
        if ground.evicts {
            return Err(Error::Evicts { what: "structures" });
        }
        Ok(Self { ground: Arc::new(ground) })
    }

    /// Returns when everything done before survives the loss of power.
    ///
    /// # Errors
    /// What the store said.
    pub fn sync(&self) -> Result<()> {
        self.ground.engine.sync().map_err(ground::engine)
    }

    /// The deque of this name.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`] for a name that is.
    pub fn deque<T>(&self, name: impl AsRef<str>) -> Result<Deque<T>>
    where
        Auto: Codec<T>,
    {
        self.deque_with(name, Auto::default())
    }

    /// The same, with a codec for its items.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`] for a name that is.
    pub fn deque_with<T, C: Codec<T>>(
        &self,
        name: impl AsRef<str>,
        codec: C,
    ) -> Result<Deque<T, C>> {
        Ok(Deque::new(self.plot(Kind::Deque, name.as_ref())?, codec))
    }

    /// The index of this name.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`] for a name that is.
    pub fn index<K, V>(&self, name: impl AsRef<str>) -> Result<Index<K, V>>
    where
        K: KeyEncode + KeyDecode,
        Auto: Codec<V>,
    {
        self.index_with(name, Auto::default())
    }

    /// The same, with a codec for its values.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`] for a name that is.
    pub fn index_with<K, V, C>(&self, name: impl AsRef<str>, codec: C) -> Result<Index<K, V, C>>
    where
        K: KeyEncode + KeyDecode,
        C: Codec<V>,
    {
        Ok(Index::new(self.plot(Kind::Index, name.as_ref())?, codec))
    }

    /// The counter of this name.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`] for a name that is.
    pub fn counter(&self, name: impl AsRef<str>) -> Result<Counter> {
        Ok(Counter::new(self.plot(Kind::Counter, name.as_ref())?))
    }

    /// The running mean of this name.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`] for a name that is.
    pub fn running_mean(&self, name: impl AsRef<str>) -> Result<RunningMean> {
        Ok(RunningMean::new(self.plot(Kind::Mean, name.as_ref())?))
    }

    /// The lock of this name, which is held for at most `lease` without being renewed.
    ///
    /// # Errors
    /// [`Error::Evicts`] in an engine that does; [`Error::Config`] for a lease below 1 ms;
    /// [`Error::KeyTooLong`] for a name that is.
    pub fn lock(&self, name: impl AsRef<str>, lease: Duration) -> Result<Lock> {
        Lock::new(self.promising(Kind::Lock, name.as_ref(), "locks")?, lease)
    }

    /// The lock of this name that many may share.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn rw_lock(&self, name: impl AsRef<str>, lease: Duration) -> Result<RwLock> {
        RwLock::new(self.promising(Kind::RwLock, name.as_ref(), "locks")?, lease)
    }

    /// The semaphore of this name, of which so many permits can be held at once.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`Error::Config`] for no permits.
    pub fn semaphore(
        &self,
        name: impl AsRef<str>,
        permits: u32,
        lease: Duration,
    ) -> Result<Semaphore> {
        let plot = self.promising(Kind::Semaphore, name.as_ref(), "semaphores")?;
        Semaphore::new(plot, permits, lease)
    }

    /// The rate limiter of this name: `count` within `per`, and as many at once after a pause.
    ///
    /// # Errors
    /// [`Error::Evicts`] in an engine that does; [`Error::Config`] if `count` is 0 or `per` below 1 ms;
    /// [`Error::KeyTooLong`] for a name that is.
    pub fn rate_limiter(
        &self,
        name: impl AsRef<str>,
        count: u32,
        per: Duration,
    ) -> Result<RateLimiter> {
        let plot = self.promising(Kind::RateLimiter, name.as_ref(), "rate limiters")?;
        RateLimiter::new(plot, count, per)
    }

    fn plot(&self, kind: Kind, name: &str) -> Result<Plot> {
        Plot::new(&self.ground, kind, name)
    }

    /// The same for what must not be lost.
    fn promising(&self, kind: Kind, name: &str, what: &'static str) -> Result<Plot> {
        if self.ground.evicts {
            return Err(Error::Evicts { what });
        }
        self.plot(kind, name)
    }
}

impl<K, V, C> Cache<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// Structures in the store of this cache, beside its values: see [`structures`](crate::structures).
    /// They have the cache's namespace and clock; [`clear`](Self::clear) removes them too, and
    /// [`len`](Self::len) counts their records. Those of a cache without a store are in memory, in a
    /// budget of their own that is as large as the cache's was set up to be (64 MiB where it counts
    /// items or has no limit), and end with the last handle to them.
    ///
    /// ```
    /// use larder::{Cache, Retain};
    ///
    /// # let home = tempfile::tempdir()?;
    /// let builder = Cache::<String, u32>::builder().disk(home.path().join("store"));
    /// let cache = builder.retain(Retain::All).build()?;
    /// cache.structures()?.counter("runs")?.add(1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Evicts`] if the store does not keep everything ([`Builder::retain`](crate::Builder::retain)),
    /// [`Error::Unsupported`] if it has no batches or the cache is
    /// [switched off](crate::Builder::enabled), [`Error::Closed`] after [`close`](Self::close).
    pub fn structures(&self) -> Result<Structures> {
        use larder_engine::memory::Capacity;
        const ELSE: u64 = 64 << 20;
        let core = self.core();
        core.open()?;
        let clock = Arc::clone(&core.options.clock);
        match &core.lower {
            Some(lower) => {
                let prefix = core.options.prefix.clone();
                Structures::within(Arc::clone(&lower.engine), clock, prefix)
            }
            None => {
                let mut kept = core.structures.lock();
                if let Some(structures) = &*kept {
                    return Ok(structures.clone());
                }
                let bytes = match core.memory.capacity() {
                    Capacity::Weight(bytes) => bytes.get(),
                    // What was to outlive the process must not be in memory unnoticed.
                    Capacity::Disabled => {
                        return Err(Error::Unsupported { what: "structures, being switched off" });
                    }
                    _ => ELSE,
                };
                let structures = Structures::in_memory_at(bytes, clock)?;
                Ok(kept.insert(structures).clone())
            }
        }
    }
}
