//! The cache that people embed.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use larder_engine::{Health, Outcome, Put};

use crate::advice::Advice;
use crate::builder::Builder;
use crate::codec::{Auto, Codec};
use crate::core::Core;
use crate::engines::Choice;
use crate::error::{Error, Result};
use crate::fallback::LinkState;
use crate::key::{Key, KeyBuf, KeyDecode, KeyEncode, KeyReader};
use crate::stats::CacheStats;

/// A cache of values of type `V` under keys of type `K`, in memory over a store on disk.
///
/// This is a handle: clones are cheap and all mean the same cache, from any thread. When the
/// last is dropped, what only memory held is written to the store; [`close`](Self::close) does
/// the same and says whether it went well.
///
/// ```
/// use larder::Cache;
///
/// # let home = tempfile::tempdir()?;
/// let cache = Cache::<String, Vec<u8>>::builder().disk(home.path().join("pages")).build()?;
/// assert!(cache.insert("front".to_owned(), b"<html>".to_vec())?.is_admitted());
/// assert_eq!(cache.get("front")?, Some(b"<html>".to_vec()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Keys
/// Any type with canonical bytes ([`KeyEncode`](trait@KeyEncode)). Lookups take borrowed forms, as in a
/// `HashMap`: a `Cache<String, _>` is asked with a `&str`. Both tiers know a key by its bytes
/// only, one of more than 32 KiB by a [digest](crate::key#long-keys) of them.
///
/// # Consistency
/// See [the crate](crate#consistency).
///
/// # Errors
/// All methods give [`Error::Closed`] after [`close`](Self::close). A store that fails gives no error but misses, unless the
/// cache is [strict](Builder::strict); [`flush`](Self::flush), [`sync`](Self::sync) and
/// [`close`](Self::close) always say what went wrong.
pub struct Cache<K, V, C = Auto>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    pub(crate) core: Arc<Core<V, C>>,
    keys: PhantomData<fn(K)>,
}

impl<K, V> Cache<K, V>
where
    V: Clone + Send + Sync + 'static,
    Auto: Codec<V>,
{
    /// Begins to set up a cache: 64 MiB of memory and no store, unless you say otherwise.
    #[must_use]
    pub fn builder() -> Builder<K, V> {
        Builder::new()
    }
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl<K, V, C> Cache<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    pub(crate) fn new(core: Core<V, C>) -> Self {
        Self::of(Arc::new(core))
    }

    /// Another handle, whatever the type of its keys.
    pub(crate) const fn of(core: Arc<Core<V, C>>) -> Self {
        Self { core, keys: PhantomData }
    }

    pub(crate) const fn core(&self) -> &Arc<Core<V, C>> {
        &self.core
    }

    /// Begins to set up a cache whose values are no serde types, with their codec.
    ///
    /// ```
    /// use larder::{Cache, Raw, Value};
    ///
    /// // Values are views of the mapped file, not copies.
    /// let cache = Cache::<u64, Value, Raw>::with_codec(Raw).build()?;
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[must_use]
    pub fn with_codec(codec: C) -> Builder<K, V, C> {
        Builder::with_codec(codec)
    }

    /// The value of `key`, cloned out of memory or read from the store.
    ///
    /// Never waits for a writer, an eviction or a loader. A value from the store is put into
    /// memory as well, unless somebody is changing the key at this very moment.
    ///
    /// ```
    /// # use larder::Cache;
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// assert_eq!(cache.get(&7)?, None);
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.get_with(key, V::clone)
    }

    /// What `look` makes of the value of `key`, without a clone.
    ///
    /// `look` must be quick and must not use the cache: memory may be locked meanwhile.
    ///
    /// ```
    /// # use larder::Cache;
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// assert!(cache.insert(7, "seven".to_owned())?.is_admitted());
    /// assert_eq!(cache.get_with(&7, |name| name.len())?, Some(5));
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[inline]
    pub fn get_with<Q, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Result<Option<R>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.with_key(key, |key| self.core.get_with(key, look))
    }

    /// Whether `key` has a live value. Reads nothing but the index, and is no use: the
    /// eviction policy does not hear of it. A value that another codec wrote counts here.
    ///
    /// ```
    /// # use larder::Cache;
    /// let cache = Cache::<(u32, String), bool>::builder().build()?;
    /// assert!(!cache.contains(&(1, "one".to_owned()))?);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn contains<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        Ok(self.with_key(key, |key| self.core.version(key))?.is_some())
    }

    /// Stores a value, in place of any other, with the cache's time to live.
    ///
    /// Says whether it was stored: a value that is too large is not, and then the old one
    /// stays.
    ///
    /// ```
    /// # use larder::Cache;
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// assert!(cache.insert(7, "seven".to_owned())?.is_admitted());
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn insert(&self, key: K, value: V) -> Result<Outcome>
    where
        K: KeyEncode,
    {
        self.insert_with(key, value, &Put::default())
    }

    /// Stores a value with options of its own. The codec is the cache's whatever `put` says.
    ///
    /// ```
    /// # use larder::{Cache, Put, Ttl};
    /// # use std::time::Duration;
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// let put = Put { ttl: Ttl::After(Duration::from_secs(60)), ..Put::default() };
    /// assert!(cache.insert_with(7, "seven".to_owned(), &put)?.is_admitted());
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn insert_with(&self, key: K, value: V, put: &Put) -> Result<Outcome>
    where
        K: KeyEncode,
    {
        self.with_key(&key, |key| self.core.insert_value(key, value, put))
    }

    /// The values of many keys, in their order. What memory lacks of them is read from the store in one
    /// go, which is quicker than one after the other. Each is looked up at a moment of its own.
    pub fn get_many<'q, Q>(&self, keys: impl IntoIterator<Item = &'q Q>) -> Result<Vec<Option<V>>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized + 'q,
    {
        let keys: Vec<_> = keys.into_iter().map(|key| self.stored_key(key)).collect();
        self.core.get_many(&keys)
    }

    /// Stores values one after the other, and says in their order what became of each. With
    /// [`Durability::Sync`](crate::Durability::Sync) there is one sync for all of them.
    ///
    /// ```
    /// # use larder::{Cache, Put};
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// let entries = (0..3).map(|key| (key, key.to_string()));
    /// assert!(cache.insert_many(entries, &Put::default())?.iter().all(|o| o.is_admitted()));
    /// assert_eq!(cache.get_many(&[2, 9])?, [Some("2".to_owned()), None]);
    /// assert_eq!(cache.remove_many(&[2, 9])?, [true, false]);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn insert_many(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
        put: &Put<'_>,
    ) -> Result<Vec<Outcome>>
    where
        K: KeyEncode,
    {
        let entries = entries.into_iter().map(|(key, value)| (self.stored_key(&key), value));
        self.core.insert_many(entries, put)
    }

    /// Removes keys one after the other, and says in their order which had a live value.
    pub fn remove_many<'q, Q>(&self, keys: impl IntoIterator<Item = &'q Q>) -> Result<Vec<bool>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized + 'q,
    {
        keys.into_iter().map(|key| self.remove(key)).collect()
    }

    /// A key as it is stored.
    fn stored_key<Q: KeyEncode + ?Sized>(&self, key: &Q) -> Key {
        let mut bytes = KeyBuf::storable(&self.core.options.prefix);
        key.encode(&mut bytes);
        Key::from(bytes.stored())
    }

    /// Removes `key`. Whether it had a live value.
    ///
    /// ```
    /// # use larder::Cache;
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// assert!(!cache.remove(&7)?);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn remove<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.with_key(key, |key| self.core.remove(key))
    }

    /// Removes `key` and hands out its value, in one step: of several threads one gets it.
    ///
    /// ```
    /// # use larder::Cache;
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// assert!(cache.insert(7, "seven".to_owned())?.is_admitted());
    /// assert_eq!(cache.take(&7)?.as_deref(), Some("seven"));
    /// assert_eq!(cache.take(&7)?, None);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn take<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.with_key(key, |key| self.core.take(key))
    }

    /// Invalidates everything that was inserted under `tag` before, in both tiers, in time
    /// independent of how much that is. Tags are given with [`Put::tags`] or [`Loaded::tags`](crate::Loaded::tags); they are
    /// exact, and each [namespace](Builder::namespace) has its own.
    ///
    /// Like a removal it survives the death of the process, and wins over loads that are under way:
    /// what they load is returned but not stored, if it has the tag. A store that fails to
    /// invalidate is not read from until it could.
    ///
    /// ```
    /// # use larder::{Cache, Put};
    /// let pages = Cache::<String, String>::builder().build()?;
    /// let put = Put { tags: &[b"user:7", b"layout"], ..Put::default() };
    /// assert!(pages.insert_with("/home".into(), "Hello, Ada".into(), &put)?.is_admitted());
    /// pages.invalidate_tag("user:7")?;
    /// assert_eq!(pages.get("/home")?, None);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<()> {
        self.core.invalidate_tag(tag.as_ref())
    }

    /// The keys that are live under `tag`, in no order. Looks at every entry of the store.
    pub fn keys_by_tag(&self, tag: impl AsRef<[u8]>) -> Result<Vec<K>>
    where
        K: KeyDecode,
    {
        let prefix_len = self.core.options.prefix.len();
        let decode = |key: crate::key::Key| {
            let mut bytes = KeyReader::new(key.get(prefix_len..)?);
            K::decode(&mut bytes).filter(|_| bytes.is_empty())
        };
        Ok(self.core.keys_by_tag(tag.as_ref())?.into_iter().filter_map(decode).collect())
    }

    /// Removes everything that was inserted before the call, and says how many entries that
    /// were. With a [namespace](Builder::namespace) only what is in it, which means looking at
    /// every key of the store; without one, everything that the store holds.
    pub fn clear(&self) -> Result<u64> {
        self.core.clear()
    }

    /// Number of entries in the store and of those that only memory holds, expired ones
    /// included until they are noticed. Without a store, those in memory.
    ///
    /// With a [namespace](Builder::namespace) this looks at every key of the store.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.core.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All live entries of both tiers, in no order. An entry that stays comes exactly once; one
    /// that comes or goes meanwhile may come or not. What another codec wrote, and keys of
    /// another type, are passed over.
    ///
    /// ```
    /// # use larder::Cache;
    /// let cache = Cache::<(u8, String), i32>::builder().build()?;
    /// assert!(cache.insert((1, "one".to_owned()), -1)?.is_admitted());
    /// let entries: Vec<_> = cache.iter()?.collect::<Result<_, _>>()?;
    /// assert_eq!(entries, [((1, "one".to_owned()), -1)]);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn iter(&self) -> Result<impl Iterator<Item = Result<(K, V)>> + '_>
    where
        K: KeyDecode,
    {
        let prefix_len = self.core.options.prefix.len();
        Ok(self.core.iter()?.filter_map(move |entry| match entry {
            Ok((key, value)) => {
                let mut bytes = KeyReader::new(key.get(prefix_len..)?);
                let key = K::decode(&mut bytes)?;
                bytes.is_empty().then_some(Ok((key, value)))
            }
            Err(error) => Some(Err(error)),
        }))
    }

    /// Writes everything that only memory holds to the store, and says how many values that
    /// were. After it they survive the death of the process, as in write-through mode they do
    /// from the start.
    pub fn flush(&self) -> Result<u64> {
        self.core.flush()
    }

    /// Flushes, and returns when everything inserted before survives the loss of power.
    pub fn sync(&self) -> Result<()> {
        self.core.sync()
    }

    /// Flushes, syncs and ends the cache, for all handles: later calls give
    /// [`Error::Closed`]. A store that was given by [`Builder::engine`] stays open.
    ///
    /// ```
    /// # use larder::{Cache, Error};
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// cache.close()?;
    /// assert!(matches!(cache.get(&7), Err(Error::Closed)));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn close(&self) -> Result<()> {
        self.core.close()
    }

    /// What was done since the cache was built, by tier.
    ///
    /// ```
    /// # use larder::Cache;
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// cache.get_or_insert_with(&7, || "seven".to_owned())?;
    /// cache.get(&7)?;
    /// let stats = cache.stats();
    /// assert_eq!((stats.memory_hits, stats.misses, stats.loads), (1, 1, 1));
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.core.stats()
    }

    /// How many gets memory would miss with more room or less, or under another policy: estimates
    /// from a sample of the keys, with bounds that hold with about 99 %. `None` unless the cache was
    /// built to [advise](Builder::advise).
    ///
    /// Counts gets since the cache was built, or since the last
    /// [`start_advice_over`](Self::start_advice_over). What a missing value weighs is taken to be
    /// what entries weigh on average.
    ///
    /// Sources: SHARDS (FAST 2015) and miniature simulations (ATC 2017), see
    /// [`Advisor`](larder_engine::memory::simulate::Advisor).
    ///
    /// ```
    /// # use larder::{Cache, PolicyKind};
    /// let cache = Cache::<u64, u64>::builder().memory_items(1_000);
    /// let cache = cache.policy(PolicyKind::Lru).advise(0.5, &[PolicyKind::S3Fifo]).build()?;
    /// // A loop over half as much again as memory holds.
    /// for request in 0..30_000 {
    ///     cache.get_or_insert_with(&(request % 1_500), || request)?;
    /// }
    /// let advice = cache.advice().expect("built to give it");
    /// assert!(advice.at(PolicyKind::Lru, 1_000).unwrap().miss_ratio > 0.9);
    /// assert!(advice.at(PolicyKind::Lru, 2_000).unwrap().miss_ratio < 0.2);
    /// assert_eq!(advice.best().unwrap().policy, PolicyKind::S3Fifo);
    /// println!("{advice}");
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[must_use]
    pub fn advice(&self) -> Option<Advice> {
        self.core.advice()
    }

    /// Lets [`advice`](Self::advice) count from now on: after the cache has warmed up, say, or the
    /// load has changed. The simulated caches keep what they hold.
    pub fn start_advice_over(&self) {
        self.core.start_advice_over();
    }

    /// Whether the store can be relied on now; [`Health::Healthy`] without one.
    #[must_use]
    pub fn health(&self) -> Health {
        self.core.health()
    }

    /// Which engines were chosen, and why, if the builder was told of
    /// [engines](Builder::engines) or [needs](Builder::needs).
    #[must_use]
    pub fn choice(&self) -> Option<&Choice> {
        self.core.options.choice.as_ref()
    }

    /// The engines that stand in for each other below memory, in their order, and how they are;
    /// none unless there are [several](Builder::engines).
    #[must_use]
    pub fn links(&self) -> Vec<LinkState> {
        self.core.options.fallback.as_ref().map_or_else(Vec::new, |fallback| fallback.links())
    }

    /// Encodes a key on the stack.
    #[inline]
    pub(crate) fn with_key<Q, R, E>(
        &self,
        key: &Q,
        act: impl FnOnce(&[u8]) -> Result<R, E>,
    ) -> Result<R, E>
    where
        Q: KeyEncode + ?Sized,
        E: From<Error>,
    {
        let mut bytes = KeyBuf::storable(&self.core.options.prefix);
        key.encode(&mut bytes);
        act(bytes.stored())
    }
}

impl<K, V, C> Clone for Cache<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), keys: PhantomData }
    }
}

impl<K, V, C> fmt::Debug for Cache<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(out)
    }
}
