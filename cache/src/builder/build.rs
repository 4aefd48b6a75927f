//! How a cache is built: what cannot be, what is opened, and how the parts are wired.

use std::fmt;
use std::sync::Arc;

use larder_engine::memory::{Capacity, Cause, PolicyKind, Tier};
use larder_engine::{Disk, Engine, Error as EngineError, Retain};

use super::{Builder, NAMESPACE_MAX};
use crate::advice::Advising;
use crate::cache::Cache;
use crate::codec::Codec;
use crate::core::{Core, Mode, Options};
use crate::engines::{Composition, EngineSettings};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::fresh::Live;
use crate::idle::Idle;
use crate::key::{Key, KeyBuf, tag};
use crate::lower::Lower;
use crate::pending::Pending;
#[cfg(feature = "config")]
use crate::sync::Mutex;
use crate::sync::{AtomicUsize, Ordering};
use crate::usage::Watch;

impl<K, V, C> Builder<K, V, C> {
    /// The first thing that cannot be, if there is one.
    fn validate(&self, composition: Option<&Composition>) -> Result<()> {
        let has_store = match composition {
            None => self.disk.is_some() || self.engine.is_some(),
            Some(composition) => composition.has_store(),
        };
        let refuse = |option, value: &dyn fmt::Debug, accepted| {
            Err(Error::Config { option, value: format!("{value:?}"), accepted })
        };
        let namespace = self.namespace.as_deref();
        let is_left_out = composition.is_some_and(|composition| !composition.has_memory);
        let no_memory = self.memory == Capacity::Disabled || is_left_out;
        let is_null = composition.is_some_and(|it| it.choice.engine() == "null");
        match () {
            () if composition.is_some() && self.engine.is_some() => refuse(
                "engines",
                &self.selection.names,
                "give either .engine(engine) or names: an engine of your own can be registered",
            ),
            () if no_memory && !has_store && !is_null => refuse(
                "memory",
                &0,
                "give it at least 1 byte, or a store with .disk(dir) or .engine(engine)",
            ),
            () if self.disk.is_some() && self.engine.is_some() => {
                refuse("engine", &self.engine, "give either .disk(dir) or .engine(engine)")
            }
            () if self.disk_budget.is_some() && self.disk.is_none() => {
                refuse("disk_budget", &self.disk_budget, "give .disk(dir) as well")
            }
            () if self.retain != Retain::default() && self.disk.is_none() => refuse(
                "retain",
                &self.retain,
                "give .disk(dir) as well, or an engine that keeps all",
            ),
            () if self.shared && self.disk.is_none() => refuse(
                "shared",
                &self.shared,
                "give .disk(dir) as well, or an engine that is shared",
            ),
            () if self.shared && self.mode == Mode::WriteOnEvict => refuse(
                "mode",
                &self.mode,
                "a store that processes share takes every value at once: write-through",
            ),
            () if self.mode == Mode::WriteOnEvict && (no_memory || !has_store) => {
                refuse("mode", &self.mode, "give it memory and a store to write to")
            }
            () if self.ttl.is_some_and(|ttl| ttl.as_millis() == 0) => {
                refuse("ttl", &self.ttl, "at least 1 ms; leave it out for values that stay")
            }
            () if !(0.0..=1.0).contains(&self.freshness.jitter) => {
                refuse("jitter", &self.freshness.jitter, "a share from 0 to 1")
            }
            () if !(0.0..1e6).contains(&self.freshness.beta) => {
                refuse("refresh_early", &self.freshness.beta, "from 0, for never, to 1,000,000")
            }
            () if self.watched.iter().any(|percent| !(1..=100).contains(percent)) => {
                refuse("watch_usage", &self.watched, "shares from 1 to 100 percent")
            }
            () if namespace.is_some_and(|name| name.is_empty() || name.len() > NAMESPACE_MAX) => {
                refuse("namespace", &namespace, "1 to 255 bytes; leave it out for none")
            }
            () if self.patience.limit == 0 => {
                refuse("offline_after", &self.patience.limit, "at least 1 failure")
            }
            () if !(0.0..=1.0).contains(&self.patience.jitter) => {
                refuse("backoff_jitter", &self.patience.jitter, "a share from 0 to 1")
            }
            () if self.patience.first > self.patience.longest => {
                refuse("backoff", &self.patience.first, "at most the longest pause")
            }
            () => self.validate_idle(),
        }
    }

    /// Opens the store, if the cache is to do that.
    fn open(&self) -> Result<Option<Arc<dyn Engine>>> {
        let Some(dir) = &self.disk else {
            return Ok(self.engine.clone());
        };
        let mut disk = Disk::builder(dir).clock(Arc::clone(&self.clock)).retain(self.retain);
        if let Some(bytes) = self.disk_budget {
            disk = disk.budget(bytes);
        }
        if self.shared {
            disk = disk.shared();
        }
        match disk.open() {
            Ok(disk) => Ok(Some(Arc::new(disk))),
            Err(EngineError::Config { option: "budget", value, accepted }) => {
                Err(Error::Config { option: "disk_budget", value, accepted })
            }
            Err(source) => Err(Error::Engine { op: "be opened", source }),
        }
    }

    /// What was chosen of engines by name, or by what is needed.
    fn compose(&self) -> Result<Option<Composition>> {
        self.selection.compose(&self.engine_settings())
    }

    fn engine_settings(&self) -> EngineSettings {
        let mut settings = EngineSettings::new().clock(Arc::clone(&self.clock)).policy(self.policy);
        if let Capacity::Weight(bytes) = self.memory {
            settings.memory = bytes.get();
        }
        // Deadlines are the cache's, for all engines below it.
        (settings.dir, settings.disk_budget) = (self.disk.clone(), self.disk_budget);
        settings
    }

    fn prefix(&self) -> Box<[u8]> {
        let mut prefix = KeyBuf::new();
        if let Some(namespace) = &self.namespace {
            prefix.tag_len(tag::NAMESPACE, namespace.len());
            prefix.push(namespace.as_bytes());
        }
        prefix.as_bytes().into()
    }
}

impl<K, V, C> Builder<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// Builds the cache, and opens or creates the store.
    ///
    /// # Errors
    /// [`Error::Config`] names an option that cannot be, its value and what is accepted;
    /// [`Error::Engine`] says why the store cannot be opened.
    pub fn build(self) -> Result<Cache<K, V, C>> {
        self.build_core().map(Cache::new)
    }

    pub(crate) fn build_core(mut self) -> Result<Core<V, C>> {
        let composition = self.compose()?;
        self.validate(composition.as_ref())?;
        let choice = composition.as_ref().map(|composition| composition.choice.clone());
        #[cfg(feature = "config")]
        let given = self.as_config();
        let is_null = choice.as_ref().is_some_and(|choice| choice.engine() == "null");
        let is_on = self.enabled && !is_switched_off() && !is_null;
        if !is_on {
            self.memory = Capacity::Disabled;
            (self.disk, self.engine, self.mode) = (None, None, Mode::default());
            self.advise = None;
        }
        let settings = self.engine_settings();
        if composition.as_ref().is_some_and(|composition| !composition.has_memory) {
            self.memory = Capacity::Disabled;
        }
        let advise = self.advise.as_ref();
        let advising = advise
            .map(|(rate, policies)| Advising::new(*rate, policies, self.policy, self.memory))
            .transpose()?;
        let prefix = self.prefix();
        let events = Arc::new(Events::new(self.observer.take()));
        let (engine, fallback) = match composition.filter(|_| is_on) {
            None => (self.open()?, None),
            Some(composition) => {
                composition.open(&self.selection.registry, &settings, self.patience, &events)?
            }
        };
        if engine.as_ref().is_some_and(|engine| engine.watched().is_some())
            && self.mode != Mode::WriteThrough
        {
            let accepted = "a store that processes share takes every value at once: write-through";
            let value = format!("{:?}", self.mode);
            return Err(Error::Config { option: "mode", value, accepted });
        }
        let idle = self.idle.map(|time| Idle::over(time, engine.as_deref())).transpose()?;
        let pending = Arc::new(Pending::default());
        let unflushed = Arc::new(AtomicUsize::new(0));
        let memory = memory_tier(
            Tier::builder(self.memory).policy(self.policy).clock(Arc::clone(&self.clock)),
            engine.is_some().then_some((&pending, &unflushed)),
        )?;
        let owns_lower =
            self.owns_engine || self.disk.is_some() || choice.is_some() && self.engine.is_none();
        let lower = engine.map(|engine| {
            let (clock, events) = (Arc::clone(&self.clock), Arc::clone(&events));
            Lower::new(engine, prefix.clone(), self.strict, self.patience, clock, events)
        });
        let options = Options {
            codec: self.codec,
            mode: self.mode,
            strict: self.strict,
            freshness: Live::new(self.freshness, self.ttl),
            idle,
            counts_cost: self.policy == PolicyKind::Gdsf,
            prefix,
            weigher: self.weigher,
            clock: self.clock,
            owns_lower,
            advising,
            choice,
            fallback,
            watch: (!self.watched.is_empty()).then(|| Watch::new(&self.watched)),
            #[cfg(feature = "config")]
            settings: Mutex::new(given),
        };
        let core = Core::new(memory, lower, pending, unflushed, events, options);
        #[cfg(feature = "config")]
        if is_on {
            core.note_settings();
        }
        core.events.emit();
        Ok(core)
    }
}

/// Whether the environment switches all caches off.
fn is_switched_off() -> bool {
    let value = std::env::var("LARDER_DISABLE").unwrap_or_default();
    !matches!(&*value, "" | "0" | "false" | "no" | "off")
}

type TierOf<V> = Tier<Key, Arc<Entry<V>>>;

/// The memory tier, wired so that what only it holds goes to pending when it is evicted.
fn memory_tier<V: Send + Sync + 'static>(
    tier: larder_engine::memory::TierBuilder<Key, Arc<Entry<V>>>,
    store: Option<(&Arc<Pending<V>>, &Arc<AtomicUsize>)>,
) -> Result<TierOf<V>> {
    let mut tier = tier.weigher(|_, entry: &Arc<Entry<V>>| entry.weight);
    if let Some((pending, unflushed)) = store {
        let (pending, unflushed) = (Arc::clone(pending), Arc::clone(unflushed));
        tier = tier
            .before_evict(move |key, entry, cause| {
                if cause == Cause::Capacity && entry.is_unflushed() {
                    pending.insert(key, entry);
                }
            })
            .listener(move |_, entry, _| {
                if entry.is_unflushed() {
                    // Relaxed: a figure.
                    unflushed.fetch_sub(1, Ordering::Relaxed);
                }
            });
    }
    tier.build().map_err(|source| Error::Engine { op: "be set up", source })
}
