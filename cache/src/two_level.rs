//! Memory over a store, as an engine: what the cache does, for plain bytes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::memory::PolicyKind;
use larder_engine::{
    Clock, CodecId, Engine, Error as EngineError, Meta, Outcome, Put, Result, Stats, Value,
};
use larder_format::layout::KEY_LEN_MAX;

use crate::builder::Builder;
use crate::codec::AsStored;
use crate::core::{Core, Mode};
use crate::entry::Incoming;
use crate::error::Error;
use crate::event::Event;
use crate::stats::{CacheStats, Counter};

/// Two engines as one: a memory tier over another engine, by the rules of
/// [`Cache`](crate::Cache), for keys and values that are plain bytes.
///
/// ```
/// use larder::{Engine, Put, TwoLevel};
/// use std::sync::Arc;
///
/// # let home = tempfile::tempdir()?;
/// let disk = larder::Disk::builder(home.path().join("store")).open()?;
/// let both = TwoLevel::builder(Arc::new(disk)).memory(8 << 20).build()?;
/// assert!(both.put(b"key", b"value", &Put::default())?.is_admitted());
/// assert_eq!(both.get(b"key")?.as_deref(), Some(&b"value"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Versions
/// A value has the version of the lower engine. One that only memory holds has a version of
/// its own, with the top bit set, and gets another when it is written down. So versions of one
/// key never repeat, and two values with the same version are the same; but where values are
/// not written at once (write-on-evict, or a lower engine that fails) they do not always grow.
pub struct TwoLevel {
    core: Core<Value, AsStored>,
    lower: Arc<dyn Engine>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    inserts: Counter,
    rejected: Counter,
    removes: Counter,
    put_bytes: Counter,
}

impl TwoLevel {
    /// Begins to set up a memory tier over `lower`, which is closed with it.
    #[must_use]
    pub fn builder(lower: Arc<dyn Engine>) -> TwoLevelBuilder {
        let mut inner = Builder::with_codec(AsStored).engine(Arc::clone(&lower));
        inner.owns_engine = true;
        TwoLevelBuilder { inner, lower }
    }

    /// What was done, by tier. [`stats`](Engine::stats) says it of both as one; bytes and
    /// budget there are the lower engine's.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        self.core.stats()
    }
}

/// Sets up a [`TwoLevel`].
#[derive(Debug)]
pub struct TwoLevelBuilder {
    inner: Builder<(), Value, AsStored>,
    lower: Arc<dyn Engine>,
}

impl TwoLevelBuilder {
    fn with(
        self,
        set: impl FnOnce(Builder<(), Value, AsStored>) -> Builder<(), Value, AsStored>,
    ) -> Self {
        Self { inner: set(self.inner), lower: self.lower }
    }

    /// As [`Builder::memory`].
    #[must_use]
    pub fn memory(self, bytes: u64) -> Self {
        self.with(|inner| inner.memory(bytes))
    }

    /// As [`Builder::policy`].
    #[must_use]
    pub fn policy(self, policy: PolicyKind) -> Self {
        self.with(|inner| inner.policy(policy))
    }

    /// As [`Builder::mode`].
    #[must_use]
    pub fn mode(self, mode: Mode) -> Self {
        self.with(|inner| inner.mode(mode))
    }

    /// As [`Builder::ttl`]: rules over what the lower engine has set up.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.with(|inner| inner.ttl(ttl))
    }

    /// As [`Builder::strict`].
    #[must_use]
    pub fn strict(self, strict: bool) -> Self {
        self.with(|inner| inner.strict(strict))
    }

    /// As [`Builder::on_event`].
    #[must_use]
    pub fn on_event(self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.on_event(observer))
    }

    /// As [`Builder::clock`]. The lower engine should have the same.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        self.with(|inner| inner.clock(clock))
    }

    /// Builds the engine.
    ///
    /// # Errors
    /// [`Error::Config`] names an option that cannot be, its value and what is accepted.
    pub fn build(self) -> crate::error::Result<TwoLevel> {
        let core = self.inner.build_core()?;
        Ok(TwoLevel { core, lower: self.lower, counters: Counters::default() })
    }
}

impl Engine for TwoLevel {
    fn name(&self) -> &'static str {
        "two-level"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        check(key)?;
        self.core.get_with(key, Value::clone).map_err(plain)
    }

    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        check(key)?;
        self.core.version(key).map_err(plain)
    }

    fn put(&self, key: &[u8], value: &[u8], options: &Put) -> Result<Outcome> {
        check(key)?;
        let now_ms = self.core.now_ms();
        let mut meta = Meta::default();
        meta.codec = options.codec;
        meta.written_at_ms = now_ms;
        meta.expires_at_ms = options.ttl.deadline_ms(now_ms, self.core.options.freshness.ttl());
        let incoming = Plain { bytes: value, meta };
        let weight = self.core.weight_of(key.len(), value.len());
        let outcome = self.core.insert(key, incoming, weight, options).map_err(plain)?;
        if outcome.is_admitted() {
            self.counters.inserts.add(1);
            self.counters.put_bytes.add((key.len() + value.len()) as u64);
        } else {
            self.counters.rejected.add(1);
        }
        Ok(outcome)
    }

    fn remove(&self, key: &[u8]) -> Result<bool> {
        check(key)?;
        let removed = self.core.remove(key).map_err(plain)?;
        self.counters.removes.add(u64::from(removed));
        Ok(removed)
    }

    fn clear(&self) -> Result<u64> {
        self.core.clear().map_err(plain)
    }

    fn len(&self) -> u64 {
        self.core.len()
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        match self.core.iter() {
            Ok(entries) => Box::new(entries.map(|entry| entry.map_err(plain))),
            Err(error) => Box::new(std::iter::once(Err(plain(error)))),
        }
    }

    fn sync(&self) -> Result<()> {
        self.core.sync().map_err(plain)
    }

    fn close(&self) -> Result<()> {
        self.core.close().map_err(plain)
    }

    fn stats(&self) -> Stats {
        let stats = self.core.stats();
        let mut sum = stats.disk;
        sum.hits = stats.memory_hits + stats.disk_hits;
        sum.misses = stats.misses;
        sum.inserts = self.counters.inserts.get();
        sum.rejected = self.counters.rejected.get();
        sum.removes = self.counters.removes.get();
        sum.put_bytes = self.counters.put_bytes.get();
        sum.evictions += stats.flush_losses;
        sum.entries = self.len();
        sum
    }
}

impl fmt::Debug for TwoLevel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TwoLevel").field("core", &self.core).field("lower", &self.lower).finish()
    }
}

/// Bytes that become a value once their version is known.
struct Plain<'a> {
    bytes: &'a [u8],
    meta: Meta,
}

impl Incoming<Value> for Plain<'_> {
    fn bytes(&self) -> &[u8] {
        self.bytes
    }

    fn codec(&self) -> CodecId {
        self.meta.codec
    }

    fn into_value(self, version: u64) -> Value {
        let mut meta = self.meta;
        meta.version = version;
        Value::new(self.bytes, meta)
    }
}

fn check(key: &[u8]) -> Result<()> {
    match key.len() {
        len if len > KEY_LEN_MAX => Err(EngineError::KeyTooLong { len, max: KEY_LEN_MAX }),
        _ => Ok(()),
    }
}

/// The error in an engine's words.
pub(crate) fn plain(error: Error) -> EngineError {
    match error {
        Error::Engine { source, .. } => source,
        Error::KeyTooLong { len, max } => EngineError::KeyTooLong { len, max },
        Error::Closed => EngineError::Closed,
        Error::TooManyTags { count, max } => EngineError::TooManyTags { count, max },
        error => EngineError::Io {
            op: "use the store",
            path: std::path::PathBuf::new(),
            source: std::io::Error::other(error),
        },
    }
}
