//! The calls of a cache that load what is missing.

use std::borrow::Borrow;

use crate::cache::Cache;
use crate::codec::Codec;
use crate::error::{LoadError, Result};
use crate::key::KeyEncode;
use crate::load::Sharing;
use crate::loaded::Loaded;

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl<K, V, C> Cache<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// The value of `key`; on a miss what `load` returns, which is stored.
    ///
    /// Of all threads that miss a key at the same time one runs its `load`; the others wait
    /// for the value. It is stored before they get it. `load` may use the cache, other keys
    /// included: see [`try_get_or_insert_with`](Self::try_get_or_insert_with).
    ///
    /// ```
    /// # use larder::Cache;
    /// let cache = Cache::<String, usize>::builder().build()?;
    /// assert_eq!(cache.get_or_insert_with("larder", || "larder".len())?, 6);
    /// assert_eq!(cache.get_or_insert_with("larder", || unreachable!())?, 6);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn get_or_insert_with<Q>(&self, key: &Q, load: impl FnOnce() -> V) -> Result<V>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let never_fails = || Ok::<_, std::convert::Infallible>(load());
        self.try_get_or_insert_with(key, never_fails).map_err(|error| match error {
            LoadError::Cache(error) => error,
            LoadError::Load(never) => match never {},
        })
    }

    /// The value of `key`; on a miss what `load` returns, which is stored if it is no error.
    ///
    /// - **An error** goes to the caller whose `load` returned it, and nothing is stored. Of
    ///   those who wait the next runs its own `load`. A panic does the same.
    /// - **A change** of the key while it is loaded wins: what was inserted meanwhile is
    ///   returned, and after a removal the value is returned but not stored.
    /// - **Recursion** within one thread for the same key is [`Error::Recursion`](crate::Error::Recursion). If threads
    ///   load keys that need each other's, the one that would close the circle loads for
    ///   itself, and its result is not stored.
    /// - **A value that is refused** (too large, say) is returned all the same.
    ///
    /// ```
    /// # use larder::{Cache, LoadError};
    /// let cache = Cache::<String, u64>::builder().build()?;
    /// let parsed = cache.try_get_or_insert_with("seven", || "seven".parse());
    /// assert!(matches!(parsed, Err(LoadError::Load(_))));
    /// assert_eq!(cache.try_get_or_insert_with("seven", || "7".parse())?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`LoadError::Load`] with what `load` returned; [`LoadError::Cache`] for anything else.
    pub fn try_get_or_insert_with<Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.with_key(key, |key| {
            self.core.get_or_load(key, &Sharing::NONE, || load().map(Loaded::new))
        })
    }

    /// As [`try_get_or_insert_with`](Self::try_get_or_insert_with), for a `load` that says how its
    /// value is to be kept: how long, say, or not at all.
    ///
    /// ```
    /// # use larder::{Cache, Loaded, LoadError};
    /// # use std::time::Duration;
    /// let cache = Cache::<String, u64>::builder().build()?;
    /// let parse = |text: &str| text.parse().map(|number: u64| {
    ///     Loaded::new(number).expires_after(Duration::from_secs(number))
    /// });
    /// assert_eq!(cache.get_or_load("60", || parse("60"))?, 60);
    /// assert!(matches!(cache.get_or_load("sixty", || parse("sixty")), Err(LoadError::Load(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`LoadError::Load`] with what `load` returned; [`LoadError::Cache`] for anything else.
    pub fn get_or_load<Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<Loaded<V>, E>,
    ) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.with_key(key, |key| self.core.get_or_load(key, &Sharing::NONE, load))
    }

    /// As [`get_or_load`](Self::get_or_load), where those who wait for a load that fails get a clone
    /// of its error instead of trying in turn: good where the next try would fail as well, and
    /// take as long. Counts for those who wait with this call, and for an error of the same type.
    ///
    /// ```
    /// # use larder::{Cache, Loaded, LoadError};
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// let down = || Err::<Loaded<String>, _>("no network");
    /// assert!(matches!(cache.get_or_load_shared(&7, down), Err(LoadError::Load("no network"))));
    /// # Ok::<(), larder::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`LoadError::Load`] with what a `load` returned; [`LoadError::Cache`] for anything else.
    pub fn get_or_load_shared<Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<Loaded<V>, E>,
    ) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
        E: Clone + Send + Sync + 'static,
    {
        self.with_key(key, |key| self.core.get_or_load(key, &Sharing::ALL, load))
    }

    /// As [`get_or_load`](Self::get_or_load), but a value that is there and is only to be loaded anew
    /// ([`Builder::serve_stale`](crate::Builder::serve_stale), [`Builder::refresh_ahead`](crate::Builder::refresh_ahead), [`Builder::refresh_early`](crate::Builder::refresh_early)) is
    /// returned at once, and `load` runs on a thread of its own. At most 8 such threads run for a
    /// cache; while they are busy, old values serve on. An error that `load` returns there is counted
    /// ([`CacheStats::load_failures`](crate::CacheStats::load_failures)).
    ///
    /// ```
    /// # use larder::{Cache, Loaded, ManualClock};
    /// # use std::{sync::Arc, time::Duration};
    /// let clock = Arc::new(ManualClock::at(0));
    /// let cache = Cache::<u32, char>::builder().ttl(Duration::from_secs(60));
    /// let cache = cache.serve_stale(Duration::from_secs(60)).clock(clock.clone()).build()?;
    /// let load = |value| move || Ok::<_, std::io::Error>(Loaded::new(value));
    /// assert_eq!(cache.get_or_load_behind(&7, load('a'))?, 'a');
    /// clock.advance(70_000);
    /// // The old one at once; the new one when a thread has loaded it.
    /// assert_eq!(cache.get_or_load_behind(&7, load('b'))?, 'a');
    /// while cache.get(&7)? != Some('b') {}
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`LoadError::Load`] with what `load` returned, if there was nothing to return at once;
    /// [`LoadError::Cache`] for anything else.
    pub fn get_or_load_behind<Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<Loaded<V>, E> + Send + 'static,
    ) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.with_key(key, |key| self.core.get_or_load_behind(key, load))
    }
}
