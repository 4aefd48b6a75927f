//! All entries, as a stream.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::AsyncCache;
use crate::codec::Codec;
use crate::error::Result;
use crate::key::{Key, KeyDecode, KeyReader};

/// Values that are read at a time.
const BATCH: usize = 64;

type Batch<K, V> = Result<VecDeque<(K, V)>>;
type Reading<K, V> = Pin<Box<dyn Future<Output = Batch<K, V>> + Send>>;

/// The entries of a cache, from [`AsyncCache::entries`].
pub struct Entries<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    cache: AsyncCache<K, V, C>,
    keys: std::vec::IntoIter<Key>,
    read: VecDeque<(K, V)>,
    reading: Option<Reading<K, V>>,
}

impl<K, V, C> AsyncCache<K, V, C>
where
    K: KeyDecode + Send + 'static,
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// All live entries, in no order. What is there when this is called comes once, unless it goes
    /// before it is reached; what is inserted later does not come. The keys are collected at
    /// once, the values read some at a time.
    ///
    /// # Errors
    /// As of [`AsyncCache`].
    pub async fn entries(&self) -> Result<Entries<K, V, C>> {
        let keys = self.off(|core| core.keys()).await??;
        Ok(Entries {
            cache: self.clone(),
            keys: keys.into_iter(),
            read: VecDeque::new(),
            reading: None,
        })
    }

    async fn read(self, keys: Vec<Key>) -> Batch<K, V> {
        let prefix_len = self.core().options.prefix.len();
        let read = move |core: &crate::core::Core<V, C>| -> Batch<K, V> {
            let mut read = VecDeque::with_capacity(keys.len());
            for key in keys {
                let mut bytes = KeyReader::new(key.get(prefix_len..).unwrap_or_default());
                let decoded = K::decode(&mut bytes).filter(|_| bytes.is_empty());
                if let Some(decoded) = decoded
                    && let Some(value) = core.peek(&key)?
                {
                    read.push_back((decoded, value));
                }
            }
            Ok(read)
        };
        self.off(read).await?
    }
}

impl<K, V, C> Stream for Entries<K, V, C>
where
    K: KeyDecode + Send + Unpin + 'static,
    V: Clone + Send + Sync + Unpin + 'static,
    C: Codec<V>,
{
    type Item = Result<(K, V)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(entry) = self.read.pop_front() {
                return Poll::Ready(Some(Ok(entry)));
            }
            if self.reading.is_none() {
                let keys: Vec<Key> = self.keys.by_ref().take(BATCH).collect();
                if keys.is_empty() {
                    return Poll::Ready(None);
                }
                let cache = self.cache.clone();
                self.reading = Some(Box::pin(cache.read(keys)));
            }
            if let Some(reading) = &mut self.reading {
                let batch = ready!(reading.as_mut().poll(cx));
                self.reading = None;
                match batch {
                    Ok(batch) => self.read = batch,
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
        }
    }
}

impl<K, V, C> fmt::Debug for Entries<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Entries").field("keys_left", &self.keys.len()).finish_non_exhaustive()
    }
}
