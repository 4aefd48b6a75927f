//! Loaders that are futures.

use std::borrow::Borrow;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use super::AsyncCache;
use crate::codec::Codec;
use crate::entry::Entry;
use crate::error::{Error, LoadError, Result};
use crate::flight::{Arrival, Asker, Lead, Seat};
use crate::key::{Key, KeyEncode};
use crate::load::{Asked, Found, Loads, Sharing, Timed};
use crate::loaded::Loaded;

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl<K, V, C> AsyncCache<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// The value of `key`; on a miss what the future that `load` makes returns, which is stored.
    /// As [`Cache::get_or_insert_with`](crate::Cache::get_or_insert_with); see
    /// [`get_or_load`](Self::get_or_load).
    pub async fn get_or_insert_with<Q, F>(&self, key: &Q, load: impl FnOnce() -> F) -> Result<V>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
        F: Future<Output = V>,
    {
        let load = || {
            let loading = load();
            async { Ok::<_, Infallible>(Loaded::new(loading.await)) }
        };
        self.get_or_load(key, load).await.map_err(|error| match error {
            LoadError::Cache(error) => error,
            LoadError::Load(never) => match never {},
        })
    }

    /// The value of `key`; on a miss what the future that `load` makes returns, which is stored if
    /// it is no error.
    ///
    /// Of all who miss a key at the same time, threads and futures of all runtimes, one runs its
    /// loader. If that fails, or its future is dropped, the next of those who wait runs its own.
    /// For the rest see [`Cache::try_get_or_insert_with`](crate::Cache::try_get_or_insert_with).
    ///
    /// What is polled within `load`, and asks for the same key, gets [`Error::Recursion`]. A task
    /// that `load` spawns is not within it.
    ///
    /// ```
    /// # use larder::{Cache, LoadError, Loaded, Work};
    /// # use std::time::Duration;
    /// let cache = Cache::<String, u64>::builder().build()?;
    /// let cache = cache.nonblocking(|work: Work| work());
    /// # futures_executor::block_on(async {
    /// let parse = || async {
    ///     "7".parse().map(|number| Loaded::new(number).expires_after(Duration::from_secs(60)))
    /// };
    /// assert_eq!(cache.get_or_load("seven", parse).await?, 7);
    /// # Ok::<(), LoadError<std::num::ParseIntError>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn get_or_load<Q, E, F>(
        &self,
        key: &Q,
        load: impl FnOnce() -> F,
    ) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
        F: Future<Output = Result<Loaded<V>, E>>,
    {
        self.load(self.key(key)?, &Sharing::NONE, load).await
    }

    /// As [`get_or_load`](Self::get_or_load), where those who wait for a load that fails get a clone
    /// of its error. As [`Cache::get_or_load_shared`](crate::Cache::get_or_load_shared).
    pub async fn get_or_load_shared<Q, E, F>(
        &self,
        key: &Q,
        load: impl FnOnce() -> F,
    ) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
        E: Clone + Send + Sync + 'static,
        F: Future<Output = Result<Loaded<V>, E>>,
    {
        self.load(self.key(key)?, &Sharing::ALL, load).await
    }

    pub(crate) async fn load<E, F>(
        &self,
        key: Key,
        sharing: &Sharing<E>,
        load: impl FnOnce() -> F,
    ) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<Loaded<V>, E>>,
    {
        let found = match self.found(&key).await? {
            Ok(value) => return Ok(value),
            Err(found) => found,
        };
        let (core, asker) = (self.core(), &Asker::future());
        let last_resort = match core.asked(&key, found, asker) {
            Asked::Answered(value) => return Ok(value),
            Asked::Refresh(lead, old) => {
                return self.lead(&key, lead, Some(old), asker, sharing, load).await;
            }
            Asked::Board(last_resort) => last_resort,
        };
        loop {
            let asked_at = core.invalidated.now();
            let arrival = match core.flights.board(&key, asker).map_err(|_| Error::Recursion)? {
                Seat::Lead(lead) => Arrival::Lead(lead),
                Seat::Passenger(mut passenger) => poll_fn(|cx| passenger.poll(cx)).await,
                Seat::Alone(_alone) => {
                    return match self.run(asker, load).await {
                        Ok((loaded, _)) => Ok(loaded.value),
                        Err(error) => core.failed(None, error, last_resort, sharing),
                    };
                }
            };
            match arrival {
                Arrival::Lead(lead) => {
                    return self.lead(&key, lead, last_resort, asker, sharing, load).await;
                }
                Arrival::Landed(landing) => {
                    core.counters.load_waits.add(1);
                    if core.answers(&landing, asked_at) {
                        return Ok(landing.value);
                    }
                }
                Arrival::Failed(error) => {
                    if let Some(error) = sharing.take(&error) {
                        core.counters.load_waits.add(1);
                        return core.failed(None, error, last_resort, sharing);
                    }
                }
            }
        }
    }

    /// The value of `key` if it is simply there; else what was found.
    async fn found(&self, key: &Key) -> Result<Result<V, Found<V>>> {
        let core = self.core();
        if core.options.freshness.is_simple() {
            return Ok(match core.get_in_memory(key)? {
                Some(seen) => seen.ok_or(None),
                None => {
                    let key = key.clone();
                    let found = self.off(move |core| core.fresh_below_memory(&key)).await??;
                    found.map(|entry| entry.value.clone()).ok_or(None)
                }
            });
        }
        Ok(Err(match core.find_in_memory(key)? {
            None => {
                let key = key.clone();
                self.off(move |core| core.find_below_memory(&key)).await??
            }
            found => found,
        }))
    }

    async fn lead<E, F>(
        &self,
        key: &Key,
        lead: Lead<'_, V>,
        old: Option<Arc<Entry<V>>>,
        asker: &Asker,
        sharing: &Sharing<E>,
        load: impl FnOnce() -> F,
    ) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<Loaded<V>, E>>,
    {
        let (at, before) = (key.clone(), old.clone());
        let overtaken =
            move |core: &crate::core::Core<V, C>| core.overtaken(&at, before.as_deref());
        if let Some(value) = self.off(overtaken).await?? {
            lead.land(|| value.clone());
            return Ok(value);
        }
        let core = self.core();
        lead.begins_at(core.invalidated.now());
        match self.run(asker, load).await {
            Ok(loads) => {
                let (at, fate) = (key.clone(), lead.fate());
                let published =
                    self.off(move |core| core.publish_loaded(&at, loads, &fate)).await?;
                let published = sharing.settle(published);
                Ok(core.land(lead, published, old.is_some())?)
            }
            Err(error) => core.failed(Some(lead), error, old, sharing),
        }
    }

    async fn run<E, F>(&self, asker: &Asker, load: impl FnOnce() -> F) -> Result<Loads<V>, E>
    where
        F: Future<Output = Result<Loaded<V>, E>>,
    {
        let timed = Timed::begin(&self.core().counters);
        let mut loading = pin!(asker.loads_as.run(load));
        timed.end(poll_fn(|cx| asker.loads_as.run(|| loading.as_mut().poll(cx))).await)
    }
}
