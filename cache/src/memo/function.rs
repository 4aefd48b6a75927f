//! A function as the cache sees it: its name, its version, its rules, and what it keeps.

use std::fmt;
use std::sync::Arc;

use larder_engine::Ttl;

use super::handle::Handle;
use super::notes::Notes;
use super::run::Extra;
use super::setup::Rules;
use super::stats::{Counters, FunctionStats};
use super::versions::{FunctionId, Registered};
use crate::cache::Cache;
use crate::codec::{Auto, Codec};
use crate::core::{Cached, Core};
use crate::error::{Error, Result};
use crate::key::{KeyBuf, tag};
use crate::loaded::Loaded;
use crate::lower::Lower;
use crate::memo::Returns;

/// The results of one function in a cache. What `#[cached]` gives out, and what a
/// [`Memo`](super::Memo) is made of.
pub struct Function<V, C = Auto>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    pub(super) core: Arc<Core<V, C>>,
    /// Namespace and function: what stands before the arguments.
    pub(super) prefix: Box<[u8]>,
    /// A key that begins with that.
    begun: KeyBuf,
    pub(super) id: Option<FunctionId>,
    pub(super) rules: Rules<V>,
    pub(super) counters: Counters,
    pub(super) notes: Notes,
    /// Whether there was nothing of it in the cache when it was set up, so that all is noted.
    pub(super) is_new: bool,
    /// How much the store had found to be damaged by then.
    pub(super) corrupt_before: u64,
    /// Why it has another cache than was asked for.
    pub(super) trouble: Option<Error>,
}

/// The keys of the cache of a function: its arguments, whatever they are.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Arguments;

impl<V: Clone + Send + Sync + 'static, C: Codec<V>> Function<V, C> {
    /// Claims a function's name and version in a cache.
    pub(super) fn register(core: &Core<V, C>, rules: &Rules<V>, body: &str) -> Result<Registered> {
        let Some(id) = rules.id() else {
            let is_new = core.lower.as_ref().is_none_or(Lower::is_empty);
            return Ok(Registered { id: None, is_new });
        };
        core.functions.register(core, &rules.name, id, body).map_err(|other| Error::Config {
            option: "name",
            value: format!("{:?}, which is {other}", rules.name),
            accepted: "a name or version that no other function in this cache has",
        })
    }

    pub(super) fn new(core: Arc<Core<V, C>>, rules: Rules<V>, registered: Registered) -> Self {
        let mut prefix = KeyBuf::new();
        prefix.push(&core.options.prefix);
        // In a cache of its own that ends with the process there is nothing to tell it from.
        let is_alone = !rules.shares && core.lower.is_none();
        if let Some(id) = registered.id.filter(|_| !is_alone) {
            prefix.tagged(tag::FUNCTION, id);
        }
        let corrupt_before = core.stats().disk.corrupt;
        Self {
            core,
            begun: KeyBuf::storable(prefix.as_bytes()),
            prefix: prefix.as_bytes().into(),
            id: registered.id,
            rules,
            counters: Counters::default(),
            notes: Notes::default(),
            is_new: registered.is_new,
            corrupt_before,
            trouble: None,
        }
    }

    /// What it is called in the cache; empty if nothing tells it from others there.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.rules.name
    }

    /// What its calls came to.
    #[must_use]
    pub fn stats(&self) -> FunctionStats {
        self.counters.stats()
    }

    /// Forgets all results of the function, and says how many there were. Calls that are under
    /// way return what they compute, and it is not kept.
    ///
    /// In a cache with others this looks at every key, and leaves results of other versions
    /// alone; a cache of its own is cleared as a whole.
    ///
    /// # Errors
    /// [`Error::Closed`], or what the store says if the cache is strict.
    pub fn clear(&self) -> Result<u64> {
        let cleared = match self.id {
            Some(_) if self.rules.shares => self.core.clear_under(&self.prefix),
            _ => self.core.clear(),
        };
        self.notes.clear();
        cleared
    }

    /// Forgets all results that were marked with a tag (`tags = […]` of `#[cached]`), as
    /// [`Cache::invalidate_tag`]: those of other functions in the same cache and namespace as well.
    ///
    /// # Errors
    /// [`Error::Closed`], or what the store says if the cache is strict.
    pub fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<()> {
        self.core.invalidate_tag(tag.as_ref())
    }

    /// The cache, to look at its figures, flush, sync or close it.
    ///
    /// ```
    /// # use larder::{Cache, Memo};
    /// let memo = Memo::new(Cache::<u64, u64>::builder().build()?, |n: &u64| n + 1);
    /// assert_eq!((memo.call(&1), memo.call(&1)), (2, 2));
    /// assert_eq!(memo.function().cache().stats().memory_hits, 1);
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[must_use]
    pub fn cache(&self) -> Cache<Arguments, V, C> {
        Cache::of(Arc::clone(&self.core))
    }

    /// Why results are kept in memory only, or nowhere, though the function was declared with another cache: a directory
    /// that cannot be opened, say. A declared function has no other way to say so.
    #[must_use]
    pub const fn trouble(&self) -> Option<&Error> {
        self.trouble.as_ref()
    }

    /// The result that a handle refers to, if it is still kept, and by this version of this function.
    ///
    /// # Errors
    /// [`Error::Closed`], or what the store says if the cache is strict.
    pub fn fetch(&self, handle: &Handle<V>) -> Result<Option<V>> {
        match self.key_of(handle) {
            Some(mut key) => self.lookup(key.stored()),
            None => Ok(None),
        }
    }

    /// Forgets the result that a handle refers to: whether there was one.
    ///
    /// # Errors
    /// [`Error::Closed`], or what the store says if the cache is strict.
    pub fn invalidate_handle(&self, handle: &Handle<V>) -> Result<bool> {
        match self.key_of(handle) {
            Some(mut key) => self.invalidate(key.stored()),
            None => Ok(false),
        }
    }

    fn key_of(&self, handle: &Handle<V>) -> Option<KeyBuf> {
        let arguments = handle.arguments_of(self.id)?;
        let mut key = self.begin();
        key.push(arguments);
        Some(key)
    }

    /// A buffer that the arguments are encoded into.
    #[doc(hidden)]
    #[inline]
    pub fn begin(&self) -> KeyBuf {
        self.begun.begun()
    }

    /// The result that is kept under a key.
    #[doc(hidden)]
    #[inline]
    pub fn find(&self, key: &mut KeyBuf) -> Option<V> {
        // What is near or past its time is found, and loaded anew, by `run`.
        if !self.core.options.freshness.is_simple() {
            return None;
        }
        let valid = self.rules.valid_if.as_deref();
        let look = |value: &V| match valid {
            Some(valid) if !valid(value) => None,
            _ => Some(value.clone()),
        };
        // What the cache cannot answer is answered by the body.
        match self.core.get_with(key.stored(), look) {
            Ok(Some(Some(value))) => {
                self.counters.hit();
                Some(value)
            }
            Ok(Some(None)) => {
                self.counters.invalid.add(1);
                None
            }
            _ => None,
        }
    }

    /// The result that is kept under a key, or that of `body`.
    #[doc(hidden)]
    #[inline]
    pub fn find_or_run<R: Returns<V>>(
        &self,
        key: &mut KeyBuf,
        body: impl FnOnce(&mut Extra) -> R,
    ) -> R {
        match self.find(key) {
            Some(value) => R::kept(value),
            None => self.run(key, body),
        }
    }

    /// What is kept, whether or not it counts as a hit.
    pub(super) fn lookup(&self, key: &[u8]) -> Result<Option<V>> {
        self.core.open()?;
        Ok(self.core.peek(key)?.filter(|value| self.is_valid(value)))
    }

    pub(super) fn is_valid(&self, value: &V) -> bool {
        self.rules.valid_if.as_ref().is_none_or(|valid| valid(value))
    }

    pub(super) fn invalidate(&self, key: &[u8]) -> Result<bool> {
        let removed = self.core.remove(key);
        if matches!(removed, Ok(true)) {
            self.notes.write(key, super::notes::Note::Invalidated);
        }
        removed
    }

    /// How a result is stored.
    pub(super) fn loaded(&self, value: V, extra: Extra) -> Loaded<V> {
        let ttl = self.rules.ttl.map_or(Ttl::Default, Ttl::After);
        Loaded::new(value).ttl(ttl).tags(extra.tags)
    }

    pub(super) fn is_disabled(&self) -> bool {
        self.rules.disabled || self.core.open().is_err()
    }
}

impl<V: Cached, C: Codec<V>> fmt::Debug for Function<V, C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Function")
            .field("name", &self.rules.name)
            .field("version", &self.rules.version)
            .field("stats", &self.stats())
            .field("cache", &self.core)
            .finish_non_exhaustive()
    }
}

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// Removes all entries whose keys begin with `prefix`, and those that are being loaded.
    fn clear_under(&self, prefix: &[u8]) -> Result<u64> {
        // What was being loaded before the call is not stored. Of others it makes no difference
        // but that of one more load.
        self.flights.doom_all();
        let keys = self.keys()?;
        let under = keys.iter().filter(|key| key.starts_with(prefix));
        under
            .map(|key| self.remove(key))
            .try_fold(0, |count, removed| Ok(count + u64::from(removed?)))
    }
}
