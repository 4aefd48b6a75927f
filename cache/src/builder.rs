//! How a cache is set up.

mod build;
#[cfg(feature = "config")]
mod record;

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::memory::{Capacity, PolicyKind};
use larder_engine::{Clock, Engine, Retain, SystemClock};

#[cfg_attr(not(doc), allow(unused_imports, reason = "named in the documentation"))]
use crate::cache::Cache;
use crate::codec::Auto;
use crate::core::{Mode, Weigher};
use crate::engines::{Engines, Needs, Selection};
use crate::event::{Event, Observer};
#[cfg_attr(not(doc), allow(unused_imports, reason = "named in the documentation"))]
use crate::fallback::Fallback;
use crate::fresh::Freshness;
use crate::health::Patience;

/// Memory that a cache may use if nothing is said.
const MEMORY_DEFAULT: u64 = 64 << 20;
/// Longest namespace in bytes: keys shall have room beside it.
pub(crate) const NAMESPACE_MAX: usize = 255;

/// Sets up a [`Cache`]. Nothing is opened before [`build`](Self::build).
///
/// ```
/// use larder::{Cache, Mode, PolicyKind};
/// use std::time::Duration;
///
/// # let home = tempfile::tempdir()?;
/// let cache = Cache::<(String, u32), Vec<u8>>::builder()
///     .memory(256 << 20)
///     .policy(PolicyKind::S3Fifo)
///     .disk(home.path().join("thumbnails"))
///     .disk_budget(4 << 30)
///     .mode(Mode::WriteThrough)
///     .ttl(Duration::from_secs(7 * 24 * 3600))
///     .on_event(|event| eprintln!("thumbnails: {event:?}"))
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Builder<K, V, C = Auto> {
    memory: Capacity,
    policy: PolicyKind,
    weigher: Option<Weigher<V>>,
    disk: Option<PathBuf>,
    disk_budget: Option<u64>,
    retain: Retain,
    shared: bool,
    engine: Option<Arc<dyn Engine>>,
    enabled: bool,
    pub(crate) owns_engine: bool,
    mode: Mode,
    pub(crate) ttl: Option<Duration>,
    pub(crate) freshness: Freshness,
    pub(crate) idle: Option<Duration>,
    namespace: Option<String>,
    strict: bool,
    patience: Patience,
    observer: Option<Observer>,
    advise: Option<(f64, Vec<PolicyKind>)>,
    selection: Selection,
    watched: Vec<u8>,
    clock: Arc<dyn Clock>,
    codec: C,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> Builder<K, V> {
    pub(crate) fn new() -> Self {
        Self::with_codec(Auto::default())
    }
}

impl<K, V, C> Builder<K, V, C> {
    pub(crate) fn with_codec(codec: C) -> Self {
        Self {
            memory: Capacity::weight(MEMORY_DEFAULT),
            policy: PolicyKind::default(),
            weigher: None,
            disk: None,
            disk_budget: None,
            retain: Retain::default(),
            shared: false,
            engine: None,
            enabled: true,
            owns_engine: false,
            mode: Mode::default(),
            ttl: None,
            freshness: Freshness::default(),
            idle: None,
            namespace: None,
            strict: false,
            patience: Patience::default(),
            observer: None,
            advise: None,
            selection: Selection::default(),
            watched: Vec::new(),
            clock: Arc::new(SystemClock),
            codec,
            types: PhantomData,
        }
    }

    /// Bytes that the memory tier may use, keys and administration included; 64 MiB if nothing
    /// is said. What a value weighs: see [`weigher`](Self::weigher).
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Capacity::weight(bytes);
        self
    }

    /// Entries that the memory tier may hold, whatever they weigh.
    #[must_use]
    pub fn memory_items(mut self, count: u64) -> Self {
        self.memory = Capacity::items(count);
        self
    }

    /// Memory without a limit: nothing is ever evicted from it.
    #[must_use]
    pub fn memory_unbounded(mut self) -> Self {
        self.memory = Capacity::Unbounded;
        self
    }

    /// No memory tier: every value is read from the store.
    #[must_use]
    pub fn no_memory(mut self) -> Self {
        self.memory = Capacity::Disabled;
        self
    }

    /// What chooses the entries that leave memory; [`PolicyKind::S3Fifo`] if nothing is said.
    #[must_use]
    pub fn policy(mut self, policy: PolicyKind) -> Self {
        self.policy = policy;
        self
    }

    /// What a value weighs in memory, in bytes; key and administration are added. If nothing
    /// is said, its size and the length of its encoded form.
    ///
    /// ```
    /// # use larder::Cache;
    /// // What is behind the pointer is what takes room.
    /// let builder = Cache::<u32, Vec<u64>>::builder().memory(8 << 20);
    /// let cache = builder.weigher(|numbers| numbers.capacity() as u64 * 8).build()?;
    /// assert!(!cache.insert(7, vec![0; 2 << 20])?.is_admitted(), "16 MiB do not fit");
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[must_use]
    pub fn weigher(mut self, weigher: impl Fn(&V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// The directory of the store, created if absent. It must be private to this user. One
    /// process at a time may have it open.
    #[must_use]
    pub fn disk(mut self, dir: impl Into<PathBuf>) -> Self {
        self.disk = Some(dir.into());
        self
    }

    /// Bytes that the directory may hold in all; 1 GiB if nothing is said.
    #[must_use]
    pub fn disk_budget(mut self, bytes: u64) -> Self {
        self.disk_budget = Some(bytes);
        self
    }

    /// What becomes of values when the budget of [`disk`](Self::disk) is used up: the oldest go, as
    /// long as nothing is said; with [`Retain::All`] all stay, and new ones are kept in memory only, or
    /// refused. [`Structures`](crate::structures::Structures) need that.
    #[must_use]
    pub fn retain(mut self, retain: Retain) -> Self {
        self.retain = retain;
        self
    }

    /// Lets other processes have the store in [`disk`](Self::disk) open at the same time, which all of them
    /// have to say, with the same budget. What one of them changes the others see with their next call,
    /// also where they have the value in memory, at the price of one load more for a hit. Values are written
    /// through ([`Mode::WriteThrough`]). The guide has a page on it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use larder::Cache;
    /// let open = || Cache::<u64, String>::builder().disk(dir.path().join("store")).shared().build();
    /// // As two processes would.
    /// let (one, other) = (open()?, open()?);
    /// let _ = one.insert(1, "one".to_owned())?;
    /// assert_eq!(other.get(&1)?.as_deref(), Some("one"));
    /// one.remove(&1)?;
    /// assert_eq!(other.get(&1)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// A store of your own making or setting up, instead of [`disk`](Self::disk). Several
    /// caches may share one if each has a [namespace](Self::namespace) of its own.
    #[must_use]
    pub fn engine(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// The engines to use, by [name](Engines): the first is the one that is wanted, those after it
    /// serve while those before them cannot, as a [`Fallback`] does it. `"auto"` chooses one that
    /// fits the [needs](Self::needs). [`Cache::choice`] says what was chosen and why,
    /// [`Cache::links`] how each of them is.
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// # let home = tempfile::tempdir()?;
    /// # let dir = home.path().join("store");
    /// let first = Cache::<u32, String>::builder().disk(&dir).build()?;
    /// // The directory is in use: memory serves, and the disk once it is free.
    /// let second = Cache::<u32, String>::builder();
    /// let second = second.disk(&dir).engines(["two-level", "memory"]).build()?;
    /// assert!(second.insert(7, "seven".into())?.is_admitted());
    /// assert_eq!(second.get(&7)?.as_deref(), Some("seven"));
    /// let [disk, memory] = &second.links()[..] else { panic!() };
    /// assert!(memory.serves() && disk.why().unwrap().contains("is open in process"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn engines(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.selection.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Where [`engines`](Self::engines) are looked up, with your own among them.
    #[must_use]
    pub fn registry(mut self, engines: Engines) -> Self {
        self.selection.registry = engines;
        self
    }

    /// What is needed of the engine: one that fits is [chosen](Engines::choose).
    ///
    /// ```
    /// use larder::{Cache, Needs, Survives};
    ///
    /// # let home = tempfile::tempdir()?;
    /// # let dir = home.path().join("store");
    /// let needs = Needs::new().value_bytes(8 << 20).survives(Survives::Process);
    /// let cache = Cache::<u32, Vec<u8>>::builder().disk(dir).needs(needs).build()?;
    /// assert_eq!(cache.choice().unwrap().engine(), "disk");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn needs(mut self, needs: Needs) -> Self {
        self.selection.needs = Some(needs);
        self
    }

    /// Whether the cache keeps anything. One that is switched off takes nothing in, opens no
    /// store, and loads each time, still once for all who ask at the same time. Every cache is
    /// switched off where the environment has `LARDER_DISABLE=1`.
    ///
    /// ```
    /// # use larder::Cache;
    /// let cache = Cache::<u32, u32>::builder().enabled(false).build()?;
    /// assert_eq!(cache.get_or_insert_with(&1, || 1)?, 1);
    /// assert_eq!(cache.get_or_insert_with(&1, || 2)?, 2);
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// When values reach the store; [`Mode::WriteThrough`] if nothing is said.
    ///
    /// ```
    /// # use larder::{Cache, Mode};
    /// # let home = tempfile::tempdir()?;
    /// let cache = Cache::<u32, u32>::builder().disk(home.path().join("store"));
    /// let cache = cache.mode(Mode::WriteOnEvict).build()?;
    /// assert!(cache.insert(7, 1)?.is_admitted());
    /// assert_eq!(cache.stats().unflushed, 1);
    /// assert_eq!(cache.flush()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How long values live that are inserted without a word about it; for ever if nothing
    /// is said.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// For how long after its time a value still serves while one caller loads it anew: the others
    /// get the old one at once, and so does that caller where it need not wait for the load
    /// ([`Cache::get_or_load_behind`]). Counts in the calls that load; for all others the value is
    /// gone when its time is over.
    ///
    /// It is kept that much longer in both tiers. Change this time for a store that exists and what is
    /// in it keeps the moment at which it goes; when it stops being fresh follows from that.
    ///
    /// Source: stale-while-revalidate of RFC 5861.
    ///
    /// ```
    /// use larder::{Cache, ManualClock};
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let clock = Arc::new(ManualClock::at(0));
    /// let cache = Cache::<u32, char>::builder().clock(clock.clone());
    /// let cache = cache.ttl(Duration::from_secs(60)).serve_stale(Duration::from_secs(30)).build()?;
    /// cache.get_or_insert_with(&7, || 'a')?;
    /// clock.advance(70_000);
    /// assert_eq!(cache.get(&7)?, None);
    /// let seen = cache.get_or_insert_with(&7, || {
    ///     // Whoever asks meanwhile gets the old value.
    ///     assert_eq!(cache.get_or_insert_with(&7, || unreachable!()).unwrap(), 'a');
    ///     'b'
    /// });
    /// assert_eq!(seen?, 'b');
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[must_use]
    pub fn serve_stale(mut self, time: Duration) -> Self {
        self.freshness.stale_ms = ms(time);
        self
    }

    /// For how long after its time a value still is the answer to those who cannot load it: instead
    /// of the loader's error. Otherwise as [`serve_stale`](Self::serve_stale); where both are
    /// given, both begin when the value's time is over.
    ///
    /// Source: stale-if-error of RFC 5861.
    #[must_use]
    pub fn serve_stale_on_error(mut self, time: Duration) -> Self {
        self.freshness.last_resort_ms = ms(time);
        self
    }

    /// How long before its time is over a value is loaded anew, by one of those who ask to load it.
    /// The others get what is there.
    #[must_use]
    pub fn refresh_ahead(mut self, time: Duration) -> Self {
        self.freshness.ahead_ms = ms(time);
        self
    }

    /// Loads values anew before their time is over, by chance: the sooner the longer they take to
    /// load, and the larger `beta` is. 1 is good where loads take about as long each time; 0, as
    /// if nothing is said, is never. So callers on many machines do not all begin at once.
    ///
    /// How long a value took to load is known while it stays in memory; of others the average is taken.
    ///
    /// Source: Vattani, Chierichetti and Lowenstein, Optimal Probabilistic Cache Stampede Prevention
    /// (VLDB 2015).
    #[must_use]
    pub fn refresh_early(mut self, beta: f64) -> Self {
        self.freshness.beta = beta;
        self
    }

    /// The share of its time to live, from 0 to 1, that a value may lose by chance: so that what was
    /// stored together does not expire together.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Self {
        self.freshness.jitter = share;
        self
    }

    /// Keeps the keys of this cache apart from others in the same store. It is part of the
    /// key: 1 to 255 bytes. There must be only one cache (with any number of handles) per
    /// store and namespace, because caches do not hear of each other's changes.
    ///
    /// ```
    /// use larder::{Cache, Disk};
    /// use std::sync::Arc;
    ///
    /// # let home = tempfile::tempdir()?;
    /// let disk = Arc::new(Disk::builder(home.path().join("store")).open()?);
    /// let users = Cache::<u32, String>::builder().engine(disk.clone()).namespace("users").build()?;
    /// let pages = Cache::<u32, String>::builder().engine(disk).namespace("pages").build()?;
    /// assert!(users.insert(7, "Ada".to_owned())?.is_admitted());
    /// assert_eq!(pages.get(&7)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Has a namespace where nobody gave it one and others may use the store.
    pub(crate) fn namespace_if_shared(mut self, namespace: impl FnOnce() -> String) -> Self {
        if self.engine.is_some() && self.namespace.is_none() {
            self.namespace = Some(namespace());
        }
        self
    }

    /// Whether a store that fails, and stored bytes that cannot be decoded, are errors for the
    /// caller instead of misses.
    ///
    /// ```
    /// # use larder::{Cache, Disk, Engine, Error};
    /// # use std::sync::Arc;
    /// # let home = tempfile::tempdir()?;
    /// let disk = Arc::new(Disk::builder(home.path().join("store")).open()?);
    /// let cache = Cache::<u32, u32>::builder().engine(disk.clone()).namespace("a").build()?;
    /// let strict = Cache::<u32, u32>::builder().engine(disk.clone()).namespace("b").strict(true);
    /// let strict = strict.build()?;
    /// disk.close()?;
    /// assert_eq!(cache.get(&7)?, None);
    /// assert!(matches!(strict.get(&7), Err(Error::Engine { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// After how many failures in a row the store is not tried for a while; 5 if nothing is
    /// said. Reads and writes are counted apart.
    #[must_use]
    pub fn offline_after(mut self, failures: u32) -> Self {
        self.patience.limit = failures;
        self
    }

    /// How long it is not tried: at first, and at most. The pause doubles with every attempt
    /// that fails. Half a second and a minute if nothing is said.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.patience.first = first;
        self.patience.longest = longest;
        self
    }

    /// The share of a pause, from 0 to 1, that may be left out by chance; a tenth if nothing is said.
    #[must_use]
    pub fn backoff_jitter(mut self, share: f64) -> Self {
        self.patience.jitter = share;
        self
    }

    /// Called with what happens that nobody asked for: see [`Event`]. It runs on the thread
    /// that it happened on, with no lock held.
    #[must_use]
    pub fn on_event(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Shares of the budgets of memory and store, in percent, that are told of when they are exceeded, and
    /// when they are not any more ([`Event::Usage`]). Looked at after every 64th change.
    ///
    /// ```
    /// use larder::{Cache, Event};
    ///
    /// let cache = Cache::<u32, [u8; 16]>::builder()
    ///     .memory_items(1_000)
    ///     .watch_usage([50, 90])
    ///     .on_event(|event| {
    ///         if let Event::Usage { tier, percent, is_rising: true, .. } = event {
    ///             eprintln!("{tier} is to {percent} % full");
    ///         }
    ///     })
    ///     .build()?;
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[must_use]
    pub fn watch_usage(mut self, percents: impl IntoIterator<Item = u8>) -> Self {
        self.watched = percents.into_iter().collect();
        self
    }

    /// Samples a share of `rate` of the keys, so that [`Cache::advice`] can tell how many gets
    /// memory would miss if it were larger or smaller, with its own policy, LRU, or one of
    /// `policies`.
    ///
    /// A get of another key pays a hash; one of the sample a step of each simulated cache (five
    /// capacities of each policy), which together hold some hundred bytes for each key of the sample. So
    /// 0.01 is a good rate for some 10,000 entries, and 0.001 for 100,000: what is told is the more exact the
    /// more keys are
    /// in the sample; where a simulated cache would hold fewer than 16 entries, nothing is.
    #[must_use]
    pub fn advise(mut self, rate: f64, policies: &[PolicyKind]) -> Self {
        self.advise = Some((rate, policies.to_vec()));
        self
    }

    /// Where time comes from, for deadlines and pauses, in both tiers.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How values become bytes; [`Auto`] if nothing is said.
    #[must_use]
    pub fn codec<D>(self, codec: D) -> Builder<K, V, D> {
        Builder {
            memory: self.memory,
            policy: self.policy,
            weigher: self.weigher,
            disk: self.disk,
            disk_budget: self.disk_budget,
            retain: self.retain,
            shared: self.shared,
            engine: self.engine,
            enabled: self.enabled,
            owns_engine: self.owns_engine,
            mode: self.mode,
            ttl: self.ttl,
            freshness: self.freshness,
            idle: self.idle,
            namespace: self.namespace,
            strict: self.strict,
            patience: self.patience,
            observer: self.observer,
            advise: self.advise,
            selection: self.selection,
            watched: self.watched,
            clock: self.clock,
            codec,
            types: PhantomData,
        }
    }
}

impl<K, V, C: fmt::Debug> fmt::Debug for Builder<K, V, C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Builder")
            .field("memory", &self.memory)
            .field("disk", &self.disk)
            .field("engine", &self.engine)
            .field("mode", &self.mode)
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}

/// A time after or before a deadline; more than a hundred years is as good as that.
fn ms(time: Duration) -> u64 {
    const LONGEST_MS: u64 = 100 * 365 * 24 * 3600 * 1000;
    u64::try_from(time.as_millis()).unwrap_or(LONGEST_MS).min(LONGEST_MS)
}
