//! Functions that are async: as `run.rs`, and what may wait for a disk is done elsewhere.

use std::sync::Arc;

use super::function::{Arguments, Function};
use super::returns::Returns;
use super::run::{Extra, Running};
use crate::cache::Cache;
use crate::codec::Codec;
use crate::core::Core;
use crate::error::LoadError;
use crate::key::{Key, KeyBuf};
use crate::load::Sharing;
use crate::nonblocking::{AsyncCache, Offload, Work};

/// What may wait runs on tokio's threads for that, where there is a runtime, and else on one of its own.
#[derive(Debug)]
struct Usual;

impl Offload for Usual {
    fn offload(&self, work: Work) {
        #[cfg(feature = "tokio")]
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            return runtime.offload(work);
        }
        // Where no thread can be had, `work` is dropped, and the function computes.
        drop(std::thread::Builder::new().name("larder-work".to_owned()).spawn(work));
    }
}

impl<V: Clone + Send + Sync + 'static, C: Codec<V>> Function<V, C> {
    /// The result that is kept under a key, or that of the future that `body` makes.
    #[doc(hidden)]
    pub async fn find_or_await<R, F>(
        &self,
        mut key: KeyBuf,
        body: impl FnOnce(&mut Extra) -> F,
    ) -> R
    where
        R: Returns<V>,
        F: Future<Output = R>,
    {
        if self.is_disabled() {
            self.counters.misses.add(1);
            return self.await_alone(body).await;
        }
        let key = Key::from(key.stored());
        let cache = self.nonblocking();
        if let Some(valid) = self.rules.valid_if.clone() {
            let at = key.clone();
            let discard = move |core: &Core<V, C>| core.discard_if(&at, |value| !valid(value));
            // What cannot be removed is found once more.
            let discarded = cache.off(discard).await;
            let was_invalid = matches!(discarded, Ok(Ok(true)));
            self.counters.invalid.add(u64::from(was_invalid));
        }
        let waits = self.core.flights.len() != 0 && self.core.flights.is_loading(&key);
        let mut body = Some(body);
        // Of what the offload may drop on its way to the store.
        let mut spare = None;
        let (body_slot, spare_slot, at) = (&mut body, &mut spare, &key);
        let load = move || {
            let body = body_slot.take().unwrap_or_else(|| unreachable!("a loader runs once"));
            self.counters.runs.add(1);
            let mut extra = Extra::default();
            let running = Running(&self.counters.failures);
            let computing = body(&mut extra);
            async move {
                let result = computing.await.split();
                drop(running);
                let loaded = self.judge(at, result, extra)?;
                if self.core.lower.is_some() {
                    *spare_slot = Some(loaded.value.clone());
                }
                Ok(loaded)
            }
        };
        let answer = cache.load(key.clone(), &Sharing::FORGIVING, load).await;
        let has_run = body.is_none();
        match (answer, spare) {
            (Ok(value), _) => {
                self.count(has_run, waits);
                if has_run {
                    // No longer than to look at the index, of a key that was just written.
                    self.check_stored(&key);
                }
                R::kept(value)
            }
            (Err(LoadError::Load(missed)), _) => {
                self.count(has_run, waits);
                R::missed(missed)
            }
            (Err(LoadError::Cache(_)), Some(value)) => {
                self.counters.misses.add(1);
                self.counters.uncached.add(1);
                R::kept(value)
            }
            (Err(LoadError::Cache(error)), None) => match body {
                Some(body) => {
                    self.counters.misses.add(1);
                    self.await_alone(body).await
                }
                None => unreachable!("what was computed is the answer, and not: {error}"),
            },
        }
    }

    /// Awaits what `body` makes whatever is kept, and keeps what that returns.
    #[doc(hidden)]
    pub async fn await_fresh<R, F>(&self, mut key: KeyBuf, body: impl FnOnce(&mut Extra) -> F) -> R
    where
        R: Returns<V>,
        F: Future<Output = R>,
    {
        self.counters.fresh.add(1);
        if self.is_disabled() {
            return self.await_alone(body).await;
        }
        let key = Key::from(key.stored());
        self.counters.runs.add(1);
        let running = Running(&self.counters.failures);
        let mut extra = Extra::default();
        let result = body(&mut extra).await.split();
        drop(running);
        let loaded = match self.judge(&key, result, extra) {
            Ok(loaded) => loaded,
            Err(missed) => return R::missed(missed),
        };
        let value = loaded.value.clone();
        if loaded.is_kept {
            let at = key.clone();
            let insert = move |core: &Core<V, C>| {
                core.insert_value(&at, loaded.value.clone(), &loaded.put(&loaded.borrowed_tags()))
            };
            // If it cannot be stored, that is seen below.
            drop(self.nonblocking().off(insert).await);
            self.check_stored(&key);
        }
        R::kept(value)
    }

    /// Awaits what `body` makes, and keeps nothing.
    async fn await_alone<R, F>(&self, body: impl FnOnce(&mut Extra) -> F) -> R
    where
        R: Returns<V>,
        F: Future<Output = R>,
    {
        self.counters.uncached.add(1);
        self.counters.runs.add(1);
        let running = Running(&self.counters.failures);
        let result = body(&mut Extra::default()).await.split();
        drop(running);
        self.counters.failures.add(u64::from(result.is_err()));
        match result {
            Ok(value) => R::kept(value),
            Err(missed) => R::missed(missed),
        }
    }

    fn nonblocking(&self) -> AsyncCache<Arguments, V, C> {
        let offload = self.rules.offload.clone().unwrap_or_else(|| Arc::new(Usual));
        AsyncCache::new(Cache::of(Arc::clone(&self.core)), offload)
    }
}
