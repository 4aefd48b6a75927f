//! Both tiers as one: looking up and promoting. Keys are bytes here.
//!
//! ```text
//!   get: memory ─miss─► pending ─miss─► store ─hit─► promote, if nobody is changing the key
//! ```
//!
//! # Invariants
//! 1. Changes of a key run under its stripe (`stripe.rs`), reads take none. No lock is held
//!    over a loader, a codec or an observer.
//! 2. The newest value of a key is in memory, in pending, or in the store. If it is not in the
//!    store, then the store holds nothing for the key, or the key is masked (`lower.rs`).
//!    So a read that gets as far as the store finds the newest value, or none.
//! 3. A value moves from memory to pending to the store, never back, except by promotion,
//!    which copies. So who looks in this order misses nothing that stays. A value that
//!    replaces one further down counts as a move first.
//! 4. A promotion copies only what is still the newest: under the stripe, with the store's
//!    version unchanged and nothing in memory or pending.
//!
//! Not here: changes (`change.rs`), flushing (`flush.rs`), loading (`load.rs`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::clock::NEVER;
use larder_engine::memory::{ENTRY_OVERHEAD, Keep, Tier};
use larder_engine::{Clock, Health, Value, WithTags};

use crate::advice::{Advice, Advising};
use crate::codec::{Codec, CodecError};
use crate::engines::Choice;
use crate::entry::{Entry, Life, OWN_VERSION};
use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::fallback::Fallback;
use crate::flight::Flights;
use crate::fresh::{Live, State};
use crate::idle::Idle;
use crate::key::Key;
use crate::load::Found;
use crate::lower::Lower;
use crate::memo::Versions;
use crate::pending::Pending;
use crate::stats::Counters;
use crate::stripe::Stripes;
use crate::structures::{self, Structures};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, RwLock};
use crate::tags::{Cells, Log, Tags};
use crate::usage::Watch;

/// When values reach the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// With every insert: what was inserted outlives the process.
    #[default]
    WriteThrough,
    /// When memory evicts them, and on [`flush`](crate::Cache::flush) and
    /// [`close`](crate::Cache::close): saves writes; what only memory held dies with a kill.
    WriteOnEvict,
}

pub(crate) type Weigher<V> = Box<dyn Fn(&V) -> u64 + Send + Sync>;

/// What values can be. Implemented by all that fit.
pub(crate) trait Cached: Clone + Send + Sync + 'static {}

impl<V: Clone + Send + Sync + 'static> Cached for V {}

/// How a core is to be.
pub(crate) struct Options<V, C> {
    pub(crate) codec: C,
    pub(crate) mode: Mode,
    pub(crate) strict: bool,
    pub(crate) freshness: Live,
    pub(crate) idle: Option<Idle>,
    /// Whether memory asks what a value cost.
    pub(crate) counts_cost: bool,
    pub(crate) prefix: Box<[u8]>,
    pub(crate) weigher: Option<Weigher<V>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whether closing the cache closes the store.
    pub(crate) owns_lower: bool,
    pub(crate) advising: Option<Advising>,
    /// Which engines were chosen, if that was left to us.
    pub(crate) choice: Option<Choice>,
    /// The engines that stand in for each other, if there are several.
    pub(crate) fallback: Option<Arc<Fallback>>,
    /// What is told of room that gets short.
    pub(crate) watch: Option<Watch>,
    /// The settings as they are now.
    #[cfg(feature = "config")]
    pub(crate) settings: Mutex<crate::config::Config>,
}

pub(crate) struct Core<V: Cached, C: Codec<V>> {
    pub(crate) memory: Tier<Key, Arc<Entry<V>>>,
    pub(crate) lower: Option<Lower>,
    pub(crate) pending: Arc<Pending<V>>,
    /// Unflushed entries in the memory tier.
    pub(crate) unflushed: Arc<AtomicUsize>,
    pub(crate) stripes: Stripes,
    pub(crate) flights: Flights<V>,
    pub(crate) options: Options<V, C>,
    pub(crate) events: Arc<Events>,
    pub(crate) counters: Counters,
    /// Held by whoever clears.
    pub(crate) clear: Mutex<()>,
    /// Whether somebody does: nothing changes then.
    pub(crate) clearing: AtomicBool,
    pub(crate) closed: AtomicBool,
    /// Threads that load anew what is there.
    pub(crate) behind: AtomicUsize,
    /// Held by what moves between the tiers, and alone by who invalidates a tag.
    pub(crate) moving: RwLock<()>,
    /// The tags of values that the store may lack.
    pub(crate) cells: Cells,
    pub(crate) invalidated: Log,
    /// Values that were moved up, from the store or pending to memory, by being replaced.
    pub(crate) moves: AtomicU64,
    /// Whose results are in here.
    pub(crate) functions: Versions,
    versions: AtomicU64,
    /// Whether others may change what the store has.
    pub(crate) is_watched: bool,
    /// Of a cache without a store.
    pub(crate) structures: Mutex<Option<Structures>>,
}

/// Searches after which a miss is a miss.
const SEARCHES_MAX: usize = 64;

/// Where a value was found that memory did not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Pending,
    Store,
}

impl<V: Cached, C: Codec<V>> Core<V, C> {
    pub(crate) fn new(
        memory: Tier<Key, Arc<Entry<V>>>,
        lower: Option<Lower>,
        pending: Arc<Pending<V>>,
        unflushed: Arc<AtomicUsize>,
        events: Arc<Events>,
        options: Options<V, C>,
    ) -> Self {
        let is_watched = lower.as_ref().is_some_and(|lower| lower.watched().is_some());
        Self {
            is_watched,
            memory,
            lower,
            pending,
            unflushed,
            stripes: Stripes::default(),
            flights: Flights::default(),
            options,
            events,
            counters: Counters::default(),
            clear: Mutex::default(),
            clearing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            behind: AtomicUsize::new(0),
            moving: RwLock::new(()),
            cells: Cells::default(),
            invalidated: Log::default(),
            moves: AtomicU64::new(0),
            functions: Versions::default(),
            versions: AtomicU64::new(OWN_VERSION),
            structures: Mutex::default(),
        }
    }

    #[inline]
    pub(crate) fn open(&self) -> Result<()> {
        // Acquire: pairs with `close`.
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.options.clock.now_ms()
    }

    /// A version for a value that the store does not have.
    pub(crate) fn own_version(&self) -> u64 {
        // Relaxed: only has to grow.
        self.versions.fetch_add(1, Ordering::Relaxed)
    }

    /// The value of `key`, looked at in place.
    #[inline]
    pub(crate) fn get_with<R>(&self, key: &[u8], look: impl FnOnce(&V) -> R) -> Result<Option<R>> {
        self.open()?;
        let mut look = Some(look);
        let mut look = |entry: &Entry<V>| {
            let look = if self.is_fresh(&entry.life) { look.take() } else { None };
            look.map(|look| look(&entry.value))
        };
        let seen = self.in_memory(key, |entry| (!self.is_due(entry)).then(|| look(entry)));
        match seen.flatten() {
            Some(seen) => {
                self.counters.past.add(u64::from(seen.is_none()));
                Ok(seen)
            }
            None => Ok(self.fresh_below_memory(key)?.and_then(|entry| look(&entry))),
        }
    }

    /// The value of `key` as far as memory can tell: `None` if it has nothing, `Some(None)` if that
    /// is past its time.
    #[cfg(feature = "async")]
    pub(crate) fn get_in_memory(&self, key: &[u8]) -> Result<Option<Option<V>>> {
        self.open()?;
        let look = |entry: &Arc<Entry<V>>| {
            let value = || self.is_fresh(&entry.life).then(|| entry.value.clone());
            (!self.is_due(entry)).then(value)
        };
        let seen = self.in_memory(key, look).flatten();
        self.counters.past.add(u64::from(matches!(seen, Some(None))));
        Ok(seen)
    }

    /// The fresh value that pending or the store holds for `key`. Counts.
    #[cold]
    pub(crate) fn fresh_below_memory(&self, key: &[u8]) -> Result<Option<Arc<Entry<V>>>> {
        let found = self.below_memory(key)?;
        let found = found.filter(|(entry, _)| self.is_fresh(&entry.life));
        self.count(found.as_ref().map(|(_, place)| *place));
        if let Some((entry, _)) = &found {
            self.used(key, entry);
        }
        Ok(found.map(|(entry, _)| entry))
    }

    pub(crate) fn count(&self, place: Option<Place>) {
        let counter = match place {
            Some(Place::Pending) => &self.counters.pending_hits,
            Some(Place::Store) => &self.counters.disk_hits,
            None => &self.counters.misses,
        };
        counter.add(1);
    }

    /// What memory holds for `key`, looked at in place. Counts as a use.
    #[inline]
    pub(crate) fn in_memory<R>(
        &self,
        key: &[u8],
        look: impl FnOnce(&Arc<Entry<V>>) -> R,
    ) -> Option<R> {
        let look = |entry: &Arc<Entry<V>>| self.is_current(entry).then(|| look(entry));
        let Some(advising) = self.options.advising.as_ref() else {
            return self.memory.get_with(key, look).flatten();
        };
        let found = self.memory.get_with(key, |entry| {
            advising.note(key, || entry.weight);
            look(entry)
        });
        let found = found.flatten();
        if found.is_none() {
            advising.note(key, || self.mean_weight());
        }
        found
    }

    /// The value of `key`, and what it is to who would load it otherwise: anything that is still
    /// there.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Found<V>> {
        match self.find_in_memory(key)? {
            None => self.find_below_memory(key),
            found => Ok(found),
        }
    }

    /// The same for what memory has.
    pub(crate) fn find_in_memory(&self, key: &[u8]) -> Result<Found<V>> {
        self.open()?;
        let found = self.in_memory(key, |entry| (!self.is_due(entry)).then(|| Arc::clone(entry)));
        let found = found.flatten().map(|entry| {
            let state = self.state(&entry.life);
            self.counters.past.add(u64::from(!state.is_fresh()));
            (entry, state)
        });
        Ok(found)
    }

    /// The same where memory has nothing.
    pub(crate) fn find_below_memory(&self, key: &[u8]) -> Result<Found<V>> {
        let found = self.below_memory(key)?;
        let found = found.map(|(entry, place)| (self.state(&entry.life), entry, place));
        let counts = found.as_ref().filter(|(state, ..)| state.is_fresh());
        self.count(counts.map(|(.., place)| *place));
        if let Some((_, entry, _)) = &found {
            self.used(key, entry);
        }
        Ok(found.map(|(state, entry, _)| (entry, state)))
    }

    pub(crate) fn state(&self, life: &Life) -> State {
        if life.expires_at_ms == NEVER {
            return State::Fresh;
        }
        self.options.freshness.state(life, self.now_ms(), self.counters.usual_load_ms())
    }

    /// Whether a live value is within its time.
    #[inline]
    pub(crate) fn is_fresh(&self, life: &Life) -> bool {
        let freshness = &self.options.freshness;
        freshness.grace_ms() == 0
            || is_live(freshness.fresh_until(life.expires_at_ms), || self.now_ms())
    }

    /// What an entry in memory weighs on average; what a missing one would weigh is not known.
    pub(crate) fn mean_weight(&self) -> u64 {
        self.memory.weight().checked_div(self.memory.len()).unwrap_or(ENTRY_OVERHEAD)
    }

    /// What other ways to set up memory would do.
    pub(crate) fn advice(&self) -> Option<Advice> {
        let advising = self.options.advising.as_ref()?;
        Some(advising.advice(self.gets(), self.mean_weight()))
    }

    pub(crate) fn start_advice_over(&self) {
        if let Some(advising) = &self.options.advising {
            advising.start_over(self.gets());
        }
    }

    /// Gets so far.
    fn gets(&self) -> u64 {
        let stats = self.memory.stats();
        stats.hits + stats.misses
    }

    /// The value of `key`, without counting.
    pub(crate) fn peek(&self, key: &[u8]) -> Result<Option<V>> {
        Ok(self.peek_entry(key)?.map(|entry| entry.value.clone()))
    }

    /// The entry of `key`, without counting.
    pub(crate) fn peek_entry(&self, key: &[u8]) -> Result<Option<Arc<Entry<V>>>> {
        let found = match self.peek_in_memory(key) {
            None => self.below_memory(key)?.map(|(entry, _)| entry),
            found => found,
        };
        Ok(found.filter(|entry| self.is_fresh(&entry.life)))
    }

    /// What pending or the store holds for `key`.
    fn below_memory(&self, key: &[u8]) -> Result<Option<(Arc<Entry<V>>, Place)>> {
        if let Some(entry) = self.waiting(key) {
            return Ok(Some((entry, Place::Pending)));
        }
        let found = match &self.lower {
            Some(lower) => self.looked_up(lower, key, self.stored(lower, key)),
            None => Ok(None),
        };
        self.events.emit();
        Ok(found?.map(|entry| (entry, Place::Store)))
    }

    /// What is there for `key`, after its store was asked: see `above` and `settled`.
    pub(crate) fn looked_up(
        &self,
        lower: &Lower,
        key: &[u8],
        stored: Result<Option<Arc<Entry<V>>>>,
    ) -> Result<Option<Arc<Entry<V>>>> {
        match stored {
            Ok(None) => self.settled(|| self.once_more(lower, key)),
            Ok(Some(below)) => {
                let above = self.above(key).filter(|above| above.version != below.version);
                Ok(Some(above.unwrap_or(below)))
            }
            failed => failed,
        }
    }

    /// A miss counts only if nothing was moved against the direction of the search meanwhile
    /// (see `change.rs`). So in write-on-evict mode, and only there, a miss searches again.
    pub(crate) fn settled<T>(&self, search: impl Fn() -> Result<Option<T>>) -> Result<Option<T>> {
        if self.options.mode == Mode::WriteThrough {
            return Ok(None);
        }
        // Each turn but the last means that somebody else got on; a miss after many is one
        // that eviction might have caused as well.
        for _ in 0..SEARCHES_MAX {
            // Acquire: pairs with the Release in `moved_up`. A value that was moved before is
            // found where it is now.
            let moves = self.moves.load(Ordering::Acquire);
            let found = search()?;
            if found.is_some() || moves == self.moves.load(Ordering::Acquire) {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn once_more(&self, lower: &Lower, key: &[u8]) -> Result<Option<Arc<Entry<V>>>> {
        if let Some(entry) = self.above(key) {
            return Ok(Some(entry));
        }
        match lower.version(key)? {
            Some(_) => self.stored(lower, key),
            None => Ok(None),
        }
    }

    /// What memory or pending holds for `key`, in the order in which entries go down.
    ///
    /// Asked again after a hit in the store: the value there may belong to a write that is
    /// still under way, while the old one was promoted behind this search. As long as memory
    /// or pending shows the old value, everybody gets that one; nothing promotes it any more
    /// once the store has the new one.
    pub(crate) fn above(&self, key: &[u8]) -> Option<Arc<Entry<V>>> {
        self.peek_in_memory(key).or_else(|| self.waiting(key))
    }

    /// What memory holds for `key`. Does not count as a use.
    pub(crate) fn peek_in_memory(&self, key: &[u8]) -> Option<Arc<Entry<V>>> {
        self.memory.peek_with(key, Arc::clone).filter(|entry| self.is_current(entry))
    }

    /// The live entry that waits for the store under `key`.
    pub(crate) fn waiting(&self, key: &[u8]) -> Option<Arc<Entry<V>>> {
        let is_live = |entry: &Arc<Entry<V>>| self.is_live(&entry.life) && entry.has_valid_tags();
        self.pending.get(key).filter(is_live)
    }

    pub(crate) fn is_live(&self, life: &Life) -> bool {
        is_live(life.expires_at_ms, || self.now_ms())
    }

    fn stored(&self, lower: &Lower, key: &[u8]) -> Result<Option<Arc<Entry<V>>>> {
        let found = lower.get_tagged(key)?;
        found.map_or(Ok(None), |found| self.taken(lower, key, found))
    }

    /// The entry of what the store has for `key`, which goes up.
    pub(crate) fn taken(
        &self,
        lower: &Lower,
        key: &[u8],
        (stored, mut tags): WithTags,
    ) -> Result<Option<Arc<Entry<V>>>> {
        let all_tags = if self.is_watched { tags.clone() } else { Vec::new() };
        let is_idle = self.options.idle.is_some_and(|idle| idle.unmark(&mut tags));
        let Some(value) = self.decode(&stored)? else {
            return Ok(None);
        };
        let meta = stored.meta();
        let life = Life { is_idle, ..meta.into() };
        let weight = self.weight(key.len(), stored.len(), &value);
        let entry = Entry::new(value, life, meta.version, weight, Tags::of_stored(&tags), false);
        self.promote(lower, key, &entry, &all_tags);
        Ok(Some(entry))
    }

    /// The value, unless another codec wrote it or it cannot be decoded.
    pub(crate) fn decode(&self, stored: &Value) -> Result<Option<V>> {
        let codec = &self.options.codec;
        if !codec.accepts(stored.meta().codec) {
            if stored.meta().codec == structures::CODEC {
                return Ok(None);
            }
            self.counters.codec_changed.add(1);
            return Ok(None);
        }
        match codec.decode(stored) {
            Ok(value) => Ok(Some(value)),
            Err(source) => self.undecodable(source).map(|()| None),
        }
    }

    fn undecodable(&self, source: CodecError) -> Result<()> {
        self.counters.undecodable.add(1);
        self.events.push(|| Event::Undecodable { why: source.to_string() });
        if self.options.strict { Err(Error::Decode { source }) } else { Ok(()) }
    }

    /// Puts what was found in the store into memory, if that takes no waiting.
    fn promote(&self, lower: &Lower, key: &[u8], found: &Arc<Entry<V>>, tags: &[u64]) {
        if !self.fits_memory(found.weight) {
            return;
        }
        let entry = &match self.options.codec.to_keep(&found.value) {
            None => Arc::clone(found),
            Some(kept) => {
                let tags = found.tags.clone();
                Entry::new(kept, found.life, found.version, found.weight, tags, false)
            }
        };
        let Some(stripe) = self.stripes.try_lock(key) else { return };
        // What is being invalidated now need not come up.
        let Some(moving) = self.moving.try_read() else { return };
        if self.is_watched {
            // Before the store is asked whether it still has this value.
            entry.keep_with(lower.stamp(key, tags));
            self.drop_stale(key);
        }
        let unchanged = !self.is_clearing()
            && self.pending.get(key).is_none()
            && matches!(lower.version(key), Ok(Some(version)) if version == entry.version);
        if unchanged {
            let vacant = |current: Option<&_>| current.is_none();
            let promoted = self.with_keep(entry, 0, |keep| {
                self.memory.insert_if_as(key.into(), Arc::clone(entry), keep, vacant)
            });
            self.counters.promotions.add(u64::from(matches!(promoted, Ok(true))));
        }
        drop((moving, stripe));
        self.drain_without_waiting();
    }

    /// Says to memory how an entry is to be kept.
    pub(crate) fn with_keep<R>(
        &self,
        entry: &Entry<V>,
        cost: u64,
        insert: impl FnOnce(&Keep<'_>) -> R,
    ) -> R {
        let keep = Keep::until(entry.life.expires_at_ms);
        let keep = if self.options.counts_cost && cost != 0 { keep.cost(cost) } else { keep };
        let keep = match &self.options.idle {
            // Where there is a store, both tiers know one deadline.
            Some(idle) if entry.life.is_idle && self.lower.is_none() => {
                keep.idle(Duration::from_millis(idle.ms))
            }
            _ => keep,
        };
        match &entry.tags {
            None => insert(&keep),
            Some(tags) => insert(&keep.tags(&tags.names())),
        }
    }

    /// Whether everything is being cleared. Hold a stripe: clearing begins by waiting for all.
    pub(crate) fn is_clearing(&self) -> bool {
        // Acquire: pairs with the Release at the end of `while_clearing`; its beginning is
        // ordered by the stripe.
        self.clearing.load(Ordering::Acquire)
    }

    /// What an entry costs in memory.
    pub(crate) fn weight(&self, key_len: usize, encoded_len: usize, value: &V) -> u64 {
        match &self.options.weigher {
            Some(weigher) => {
                weigher(value).saturating_add(key_len as u64).saturating_add(ENTRY_OVERHEAD)
            }
            None => self.weight_of(key_len, encoded_len),
        }
    }

    /// The same where nobody weighs values.
    pub(crate) fn weight_of(&self, key_len: usize, encoded_len: usize) -> u64 {
        let known = key_len.saturating_add(encoded_len).saturating_add(size_of::<V>());
        (known as u64).saturating_add(ENTRY_OVERHEAD)
    }

    /// Whether the memory tier would take an entry of this weight.
    pub(crate) fn fits_memory(&self, weight: u64) -> bool {
        use larder_engine::memory::Capacity;
        match self.memory.capacity() {
            Capacity::Disabled => false,
            Capacity::Weight(limit) => weight <= limit.get(),
            Capacity::Items(_) | Capacity::Unbounded => true,
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.lower.as_ref().map_or(Health::Healthy, Lower::health)
    }
}

/// The one predicate: live while now < deadline. The time is asked for only if it matters.
#[inline]
fn is_live(deadline_ms: u64, now_ms: impl FnOnce() -> u64) -> bool {
    deadline_ms == NEVER || larder_engine::clock::is_live(deadline_ms, now_ms())
}

impl<V: Cached, C: Codec<V>> fmt::Debug for Core<V, C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Core")
            .field("memory", &self.memory)
            .field("store", &self.lower.as_ref().map(|lower| lower.engine.name()))
            .field("mode", &self.options.mode)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
