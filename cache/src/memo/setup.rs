//! How a function is set up.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::Engine;

use super::function::{Arguments, Function};
use super::versions::FunctionId;
use crate::builder::{Builder, NAMESPACE_MAX};
use crate::cache::Cache;
use crate::codec::{Auto, Codec};
use crate::core::{Cached, Core};
use crate::error::Result;

pub(super) type Rule<V> = Arc<dyn Fn(&V) -> bool + Send + Sync>;

/// What holds for a function, whatever cache it has.
pub(super) struct Rules<V> {
    pub(super) name: Box<str>,
    pub(super) version: Option<u64>,
    /// What the macro says of the code.
    pub(super) code: u64,
    pub(super) ttl: Option<Duration>,
    pub(super) cache_if: Option<Rule<V>>,
    pub(super) valid_if: Option<Rule<V>>,
    /// Whether the cache may have other functions' results.
    pub(super) shares: bool,
    pub(super) disabled: bool,
    /// How an async function does what may wait, if not as usual.
    #[cfg(feature = "async")]
    pub(super) offload: Option<Arc<dyn crate::nonblocking::Offload>>,
}

impl<V> Default for Rules<V> {
    fn default() -> Self {
        Self {
            name: Box::default(),
            version: None,
            code: 0,
            ttl: None,
            cache_if: None,
            valid_if: None,
            shares: true,
            disabled: false,
            #[cfg(feature = "async")]
            offload: None,
        }
    }
}

impl<V> Rules<V> {
    /// What stands before the arguments, if there is anything to tell apart.
    pub(super) fn id(&self) -> Option<FunctionId> {
        if self.name.is_empty() && self.version.is_none() && self.code == 0 {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.version.unwrap_or(0).to_le_bytes());
        hasher.update(&self.code.to_le_bytes());
        hasher.update(self.name.as_bytes());
        hasher.finalize().as_bytes().first_chunk().copied()
    }
}

/// A cache that is still to be built, or one that is there.
enum Source<V: Cached, C: Codec<V>> {
    Own(Box<Builder<Arguments, V, C>>),
    Shared(Arc<Core<V, C>>),
}

/// What `#[cached]` says, step by step.
#[doc(hidden)]
pub struct Setup<V: Clone + Send + Sync + 'static, C: Codec<V> = Auto> {
    source: Source<V, C>,
    rules: Rules<V>,
    body: &'static str,
}

/// What a function is called whose accessor has this closure.
fn name_of(body: &str, function: &str) -> String {
    let path = body.trim_end_matches("::{{closure}}");
    let accessor = format!("{function}_cache");
    match path.rfind(&accessor) {
        Some(at) => [&path[..at], function, &path[at + accessor.len()..]].concat(),
        None => path.to_owned(),
    }
}

#[expect(clippy::must_use_candidate, clippy::return_self_not_must_use, reason = "for the macro")]
impl<V: Clone + Send + Sync + 'static, C: Codec<V>> Setup<V, C> {
    /// A function that keeps its results in a cache with others.
    pub fn shared<K>(body: &'static str, function: &str, cache: &Cache<K, V, C>) -> Self {
        let source = Source::Shared(Arc::clone(cache.core()));
        Self { source, rules: Rules::default(), body }.name(&name_of(body, function))
    }

    pub fn name(mut self, name: &str) -> Self {
        self.rules.name = name.into();
        self
    }

    pub fn code(mut self, code: u64) -> Self {
        self.rules.code = code;
        self
    }

    pub fn version(mut self, version: u64) -> Self {
        self.rules.version = Some(version);
        self
    }

    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.rules.ttl = Some(ttl);
        self
    }

    pub fn cache_if(mut self, rule: impl Fn(&V) -> bool + Send + Sync + 'static) -> Self {
        self.rules.cache_if = Some(Arc::new(rule));
        self
    }

    pub fn valid_if(mut self, rule: impl Fn(&V) -> bool + Send + Sync + 'static) -> Self {
        self.rules.valid_if = Some(Arc::new(rule));
        self
    }

    /// How an async function does what may wait.
    #[cfg(feature = "async")]
    pub fn offload(mut self, offload: impl crate::nonblocking::Offload) -> Self {
        self.rules.offload = Some(Arc::new(offload));
        self
    }

    /// Entries that memory may hold; none switches the cache off.
    pub fn capacity(mut self, entries: u64) -> Self {
        self.rules.disabled = entries == 0;
        self.with(|builder| builder.memory_items(entries.max(1)))
    }

    pub fn memory(self, bytes: u64) -> Self {
        self.with(|builder| builder.memory(bytes))
    }

    pub fn disk(self, dir: impl Into<PathBuf>) -> Self {
        self.with(|builder| builder.disk(dir))
    }

    /// A store with others: the name of the function is the namespace there.
    pub fn engine(self, engine: Arc<dyn Engine>) -> Self {
        self.with(|builder| builder.engine(engine))
    }

    pub fn with(
        self,
        change: impl FnOnce(Builder<Arguments, V, C>) -> Builder<Arguments, V, C>,
    ) -> Self {
        match self.source {
            Source::Own(builder) => {
                Self { source: Source::Own(Box::new(change(*builder))), ..self }
            }
            Source::Shared(_) => self,
        }
    }
}

impl<V: Clone + Send + Sync + 'static, C: Codec<V> + Default> Setup<V, C> {
    /// A function with a cache of its own, in memory.
    #[must_use]
    pub fn own(body: &'static str, function: &str) -> Self {
        let builder = Box::new(Cache::with_codec(C::default()));
        let rules = Rules { shares: false, ..Rules::default() };
        Self { source: Source::Own(builder), rules, body }.name(&name_of(body, function))
    }

    /// The function. If its cache cannot be had, it has one in memory, and says why.
    pub fn function(self) -> Function<V, C> {
        let Self { source, rules, body } = self;
        let registered = Self::core(source, &rules).and_then(|core| {
            let registered = Function::register(&core, &rules, body)?;
            Ok((core, registered))
        });
        match registered {
            Ok((core, registered)) => Function::new(core, rules, registered),
            Err(trouble) => {
                let builder = Cache::<Arguments, V, C>::with_codec(C::default());
                let core = Arc::new(builder.build_core().unwrap_or_else(|error| {
                    unreachable!("a cache in memory with nothing special can be built: {error}")
                }));
                let registered = Function::register(&core, &rules, body).unwrap_or_default();
                let mut function = Function::new(core, rules, registered);
                function.trouble = Some(trouble);
                function
            }
        }
    }

    fn core(source: Source<V, C>, rules: &Rules<V>) -> Result<Arc<Core<V, C>>> {
        match source {
            Source::Shared(core) => Ok(core),
            Source::Own(builder) => {
                builder.namespace_if_shared(|| namespace(&rules.name)).build_core().map(Arc::new)
            }
        }
    }
}

impl<V: Clone + Send + Sync + 'static, C: Codec<V>> fmt::Debug for Setup<V, C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Setup").field("name", &self.rules.name).finish_non_exhaustive()
    }
}

/// A namespace for a function of this name, which may be longer than one can be.
fn namespace(name: &str) -> String {
    let namespace = format!("fn {name}");
    if namespace.len() <= NAMESPACE_MAX {
        return namespace;
    }
    format!("fn {}", blake3::hash(name.as_bytes()).to_hex())
}
