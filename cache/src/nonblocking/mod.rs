//! The cache for futures: nothing here waits on the thread that polls.
//!
//! What memory holds is answered at once. Everything that may wait, for the disk or for another
//! change of the key, is [offloaded](Offload); a cache without a store has nothing of that kind and
//! does all on the spot. No executor is needed or assumed.
//!
//! # Invariants
//! 1. No lock is held over an `.await`.
//! 2. A future may be dropped at any of them: who leads a load then hands over, who waits for one
//!    is counted out, and what was offloaded goes on to its end by itself.

mod entries;
mod load;
mod offload;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use larder_engine::Outcome;

pub use self::entries::Entries;
pub use self::offload::{Offload, Work};
use crate::cache::Cache;
use crate::codec::{Auto, Codec};
use crate::core::Core;
use crate::error::Result;
use crate::key::{Key, KeyEncode};
use crate::loaded::Loaded;

/// A cache for futures. See [`Cache::nonblocking`].
///
/// It is a handle as [`Cache`] is, and both may be used at once: loads of a key are run once over
/// all of them.
///
/// ```
/// use larder::{Cache, Work};
///
/// # let home = tempfile::tempdir()?;
/// let cache = Cache::<String, u64>::builder().disk(home.path().join("lengths")).build()?;
/// // Your runtime's own way to run what may wait: tokio's is `cache.on_tokio()`.
/// let cache = cache.nonblocking(|work: Work| drop(std::thread::spawn(work)));
/// # futures_executor::block_on(async {
/// let load = || async { "larder".len() as u64 };
/// assert_eq!(cache.get_or_insert_with("larder", load).await?, 6);
/// assert_eq!(cache.get("larder").await?, Some(6));
/// # Ok::<(), larder::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As of [`Cache`], and [`Error::Cancelled`](crate::Error::Cancelled) if what is offloaded is dropped.
pub struct AsyncCache<K, V, C = Auto>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    cache: Cache<K, V, C>,
    offload: Arc<dyn Offload>,
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl<K, V, C> AsyncCache<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    pub(crate) fn new(cache: Cache<K, V, C>, offload: Arc<dyn Offload>) -> Self {
        Self { cache, offload }
    }

    /// The same cache for threads. Its calls may wait: not for use in futures.
    #[must_use]
    pub const fn blocking(&self) -> &Cache<K, V, C> {
        &self.cache
    }

    fn core(&self) -> &Arc<Core<V, C>> {
        self.cache.core()
    }

    /// Does what may wait, if there is a store to wait for.
    pub(crate) async fn off<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Core<V, C>) -> R + Send + 'static,
    ) -> Result<R> {
        let core = Arc::clone(self.core());
        if core.lower.is_none() {
            return Ok(work(&core));
        }
        offload::elsewhere(&*self.offload, move || work(&core)).await
    }

    fn key<Q>(&self, key: &Q) -> Result<Key>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.cache.with_key(key, |key| Ok(Key::from(key)))
    }

    /// The value of `key`. As [`Cache::get`].
    pub async fn get<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let key = self.key(key)?;
        if let Some(seen) = self.core().get_in_memory(&key)? {
            return Ok(seen);
        }
        self.off(move |core| Ok(core.fresh_below_memory(&key)?.map(|entry| entry.value.clone())))
            .await?
    }

    /// Whether `key` has a live value. As [`Cache::contains`].
    pub async fn contains<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let key = self.key(key)?;
        Ok(self.off(move |core| core.version(&key)).await??.is_some())
    }

    /// Stores a value: as it is, or with how it is to be kept. As [`Cache::insert`].
    pub async fn insert<Q>(&self, key: &Q, value: impl Into<Loaded<V>>) -> Result<Outcome>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let (key, loaded) = (self.key(key)?, value.into());
        self.off(move |core| {
            let tags = loaded.borrowed_tags();
            let put = loaded.put(&tags);
            core.insert_value(&key, loaded.value.clone(), &put)
        })
        .await?
    }

    /// Removes `key`. As [`Cache::remove`].
    pub async fn remove<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let key = self.key(key)?;
        self.off(move |core| core.remove(&key)).await?
    }

    /// Removes `key` and hands out its value. As [`Cache::take`].
    pub async fn take<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let key = self.key(key)?;
        self.off(move |core| core.take(&key)).await?
    }

    /// Invalidates a tag. As [`Cache::invalidate_tag`].
    pub async fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<()> {
        let tag = tag.as_ref().to_vec();
        self.off(move |core| core.invalidate_tag(&tag)).await?
    }

    /// Removes everything. As [`Cache::clear`].
    pub async fn clear(&self) -> Result<u64> {
        self.off(Core::clear).await?
    }

    /// Writes everything that only memory holds. As [`Cache::flush`].
    pub async fn flush(&self) -> Result<u64> {
        self.off(Core::flush).await?
    }

    /// Flushes, and returns when everything survives the loss of power. As [`Cache::sync`].
    pub async fn sync(&self) -> Result<()> {
        self.off(Core::sync).await?
    }

    /// Flushes, syncs and ends the cache. As [`Cache::close`].
    pub async fn close(&self) -> Result<()> {
        self.off(Core::close).await?
    }
}

impl<K, V, C> Cache<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// The same cache for futures, with a way to run what may wait: see [`AsyncCache`].
    #[must_use]
    pub fn nonblocking(&self, offload: impl Offload) -> AsyncCache<K, V, C> {
        AsyncCache::new(self.clone(), Arc::new(offload))
    }

    /// The same cache for futures of the tokio runtime that this is called in.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[cfg(feature = "tokio")]
    #[must_use]
    pub fn on_tokio(&self) -> AsyncCache<K, V, C> {
        self.nonblocking(tokio::runtime::Handle::current())
    }
}

impl<K, V, C> Clone for AsyncCache<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), offload: Arc::clone(&self.offload) }
    }
}

impl<K, V, C> fmt::Debug for AsyncCache<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AsyncCache").field("cache", &self.cache).finish_non_exhaustive()
    }
}
