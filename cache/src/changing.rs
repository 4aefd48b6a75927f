//! The calls of a cache that change what is there, and tell what is known of it.

use std::borrow::Borrow;
use std::time::Duration;

use larder_engine::{Expected, Outcome, Put, Ttl};

use crate::cache::Cache;
use crate::codec::Codec;
use crate::conditional::Info;
use crate::error::{Error, Result};
use crate::key::KeyEncode;

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl<K, V, C> Cache<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// Stores a value if `key` has none: of several that try at once, one succeeds. The others are
    /// told the version of what is there, as [`Outcome::Conflict`].
    ///
    /// ```
    /// # use larder::{Cache, Put};
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// assert!(cache.add(7, "first".to_owned(), &Put::default())?.is_admitted());
    /// assert!(!cache.add(7, "second".to_owned(), &Put::default())?.is_admitted());
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn add(&self, key: K, value: V, put: &Put<'_>) -> Result<Outcome>
    where
        K: KeyEncode,
    {
        self.with_key(&key, |key| self.core.insert_if(key, value, put, Expected::Absent))
    }

    /// Stores a value if the key has one of this version ([`get_with_info`](Self::get_with_info)): a
    /// compare-and-swap. If not, [`Outcome::Conflict`] says which it has.
    ///
    /// ```
    /// # use larder::{Cache, Outcome, Put};
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// assert!(cache.insert(7, "one".to_owned())?.is_admitted());
    /// let (_, info) = cache.get_with_info(&7)?.expect("just put");
    /// let put = Put::default();
    /// assert!(cache.replace_if(7, info.version, "two".to_owned(), &put)?.is_admitted());
    /// let late = cache.replace_if(7, info.version, "three".to_owned(), &put)?;
    /// assert!(matches!(late, Outcome::Conflict { .. }));
    /// assert_eq!(cache.get(&7)?.as_deref(), Some("two"));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn replace_if(&self, key: K, version: u64, value: V, put: &Put<'_>) -> Result<Outcome>
    where
        K: KeyEncode,
    {
        let expected = Expected::Version(version);
        self.with_key(&key, |key| self.core.insert_if(key, value, put, expected))
    }

    /// Replaces the value of `key` by what `change` makes of it, and returns that; `None` removes
    /// it. What it replaces is what `change` has seen: if others change the key meanwhile, `change`
    /// is called again. No lock is held while it runs.
    ///
    /// The value keeps its time to live, unless `put` says another; its tags are those of `put`.
    ///
    /// ```
    /// # use larder::{Cache, Put};
    /// let visits = Cache::<String, u32>::builder().build()?;
    /// let add_one = |count: Option<&u32>| Some(count.copied().unwrap_or(0) + 1);
    /// visits.update("front", &Put::default(), add_one)?;
    /// assert_eq!(visits.update("front", &Put::default(), add_one)?, Some(2));
    /// # Ok::<(), larder::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Cache`], and [`Error::Rejected`] if the new value is refused.
    pub fn update<Q>(
        &self,
        key: &Q,
        put: &Put<'_>,
        mut change: impl FnMut(Option<&V>) -> Option<V>,
    ) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let change = |value: Option<&V>| Ok::<_, std::convert::Infallible>(change(value));
        self.with_key(key, |key| match self.core.update(key, put, change)? {
            Ok(value) => Ok(value),
            Err(never) => match never {},
        })
    }

    /// Gives the value of `key` another time to live, from now on. Whether there was a value. A
    /// deadline that has passed removes it.
    ///
    /// ```
    /// # use larder::{Cache, Ttl};
    /// # use std::time::Duration;
    /// let cache = Cache::<u32, String>::builder().build()?;
    /// assert!(cache.insert(7, "seven".to_owned())?.is_admitted());
    /// assert!(cache.touch(&7, Ttl::After(Duration::from_secs(60)))?);
    /// assert!(!cache.touch(&8, Ttl::Never)?);
    /// # Ok::<(), larder::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Cache`], and [`Error::Unsupported`] where the store cannot.
    pub fn touch<Q>(&self, key: &Q, ttl: Ttl) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.with_key(key, |key| self.core.touch(key, ttl))
    }

    /// The value of `key`, and what is known of it: its version, and when it was stored and expires.
    pub fn get_with_info<Q>(&self, key: &Q) -> Result<Option<(V, Info)>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let found = self.with_key(key, |key| self.core.get_with_info(key))?;
        Ok(found.map(|(entry, info)| (entry.value.clone(), info)))
    }

    /// The value of `key` if it was stored no longer ago than `age`.
    ///
    /// ```
    /// # use larder::{Cache, ManualClock};
    /// # use std::{sync::Arc, time::Duration};
    /// let clock = Arc::new(ManualClock::at(0));
    /// let cache = Cache::<u32, char>::builder().clock(clock.clone()).build()?;
    /// assert!(cache.insert(7, 'a')?.is_admitted());
    /// clock.advance(5_000);
    /// assert_eq!(cache.get_max_age(&7, Duration::from_secs(10))?, Some('a'));
    /// assert_eq!(cache.get_max_age(&7, Duration::from_secs(2))?, None);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn get_max_age<Q>(&self, key: &Q, age: Duration) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.with_key(key, |key| self.core.get_max_age(key, age))
    }
}

impl<K, C: Codec<i64>> Cache<K, i64, C> {
    /// Adds `by` to the number under `key` and returns the sum; where there is none, `by` is it. The
    /// number keeps its time to live.
    ///
    /// ```
    /// # use larder::Cache;
    /// let counts = Cache::<String, i64>::builder().build()?;
    /// assert_eq!(counts.add_to("visits", 5)?, 5);
    /// assert_eq!(counts.add_to("visits", -2)?, 3);
    /// # Ok::<(), larder::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Cache`], [`Error::Overflow`] if the sum does not fit, and [`Error::Rejected`] if it is
    /// refused. The number is then as it was.
    pub fn add_to<Q>(&self, key: &Q, by: i64) -> Result<i64>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let add = |number: Option<&i64>| match number {
            None => Ok(Some(by)),
            Some(number) => number.checked_add(by).map(Some).ok_or(Error::Overflow),
        };
        let sum = self.with_key(key, |key| self.core.update(key, &Put::default(), add))??;
        Ok(sum.unwrap_or(by))
    }
}
