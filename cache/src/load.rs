//! Loading a value that is in neither tier, or past its time, once.
//!
//! A loader runs on the thread of who asks (here), on one of the cache's (`behind`), or as a future
//! (`futures/load.rs`). What comes before and after is the same: `asked` says what there is to do,
//! `overtaken` whether it still has to be done, `land` and `failed` end it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_engine::{Cost, Durability, Outcome, Put};

use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::entry::{Encoded, Entry};
use crate::error::{Error, LoadError, Result};
use crate::flight::{Arrival, Asker, Fate, Landing, Lead, Seat, Shared};
use crate::fresh::State;
use crate::key::Key;
use crate::loaded::Loaded;
use crate::stats::Counters;
use crate::sync::Ordering;

/// Threads that load anew what is there, of one cache at a time. While all are busy the old values
/// serve.
const BEHIND_MAX: usize = 8;

/// Whether, and how, a loader's error is handed to those who wait for its value.
pub(crate) struct Sharing<E> {
    share: fn(&E) -> Option<Shared>,
    take: fn(&Shared) -> Option<E>,
    /// Whether what was loaded is the answer also where it cannot be stored.
    forgives: bool,
}

impl<E> Sharing<E> {
    /// Each who waits runs a loader of its own.
    pub(crate) const NONE: Self = Self { share: |_| None, take: |_| None, forgives: false };

    /// The same, for who needs the value and not that it is stored.
    pub(crate) const FORGIVING: Self = Self { forgives: true, ..Self::NONE };

    /// What was loaded, and whether it is an error that it was not stored.
    pub(crate) fn settle<V>(&self, published: Published<V>) -> Published<V> {
        if self.forgives { Published { result: Ok(()), ..published } } else { published }
    }

    /// The error, where it is one that this asker can use.
    pub(crate) fn take(&self, error: &Shared) -> Option<E> {
        (self.take)(error)
    }
}

impl<E: Clone + Send + Sync + 'static> Sharing<E> {
    /// All who wait, and expect an error of this type, get a clone.
    pub(crate) const ALL: Self = Self {
        share: |error| Some(Arc::new(error.clone())),
        take: |shared| shared.downcast_ref::<E>().cloned(),
        forgives: false,
    };
}

/// An entry that was found, and what it is to who would load it otherwise.
pub(crate) type Found<V> = Option<(Arc<Entry<V>>, State)>;

/// What is to be done for somebody who asks for a key.
pub(crate) enum Asked<'a, V> {
    /// Nothing: this is the value.
    Answered(V),
    /// To load anew what is there.
    Refresh(Lead<'a, V>, Arc<Entry<V>>),
    /// To take a seat in the key's flight. If that brings an error, there may be a last resort.
    Board(Option<Arc<Entry<V>>>),
}

/// What became of what was loaded.
pub(crate) struct Published<V> {
    /// The answer.
    value: V,
    /// As the store knows them.
    tags: Vec<Box<[u8]>>,
    result: Result<()>,
}

/// What a loader returned, and how long that took.
pub(crate) type Loads<V> = (Loaded<V>, Duration);

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// The value of `key`, loaded if need be.
    pub(crate) fn get_or_load<E>(
        &self,
        key: &[u8],
        sharing: &Sharing<E>,
        load: impl FnOnce() -> Result<Loaded<V>, E>,
    ) -> Result<V, LoadError<E>> {
        let found = match self.found(key)? {
            Ok(value) => return Ok(value),
            Err(found) => found,
        };
        let (key, asker) = (&Key::from(key), &Asker::thread());
        match self.asked(key, found, asker) {
            Asked::Answered(value) => Ok(value),
            Asked::Refresh(lead, old) => self.lead(key, lead, Some(old), asker, sharing, load),
            Asked::Board(last_resort) => self.board(key, last_resort, asker, sharing, load),
        }
    }

    /// As `get_or_load`, but what is there is loaded anew by a thread of its own.
    pub(crate) fn get_or_load_behind<E>(
        self: &Arc<Self>,
        key: &[u8],
        load: impl FnOnce() -> Result<Loaded<V>, E> + Send + 'static,
    ) -> Result<V, LoadError<E>> {
        let found = match self.found(key)? {
            Ok(value) => return Ok(value),
            Err(found) => found,
        };
        let key = Key::from(key);
        let Some((old, State::Due | State::Stale)) = &found else {
            let asker = &Asker::thread();
            return match self.asked(&key, found, asker) {
                Asked::Answered(value) => Ok(value),
                Asked::Refresh(lead, old) => {
                    self.lead(&key, lead, Some(old), asker, &Sharing::NONE, load)
                }
                Asked::Board(old) => self.board(&key, old, asker, &Sharing::NONE, load),
            };
        };
        let value = self.serve(old);
        if !self.flights.is_loading(&key) {
            self.refresh_behind(key, load);
        }
        Ok(value)
    }

    fn refresh_behind<E>(
        self: &Arc<Self>,
        key: Key,
        load: impl FnOnce() -> Result<Loaded<V>, E> + Send + 'static,
    ) {
        // Relaxed: a bound on a number, which guards nothing.
        let begin = |count| (count < BEHIND_MAX).then_some(count + 1);
        let behind = &self.behind;
        if behind.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begin).is_err() {
            return;
        }
        /// Counts the thread out, also if the loader panics.
        struct Behind<V: Cached, C: Codec<V>>(Arc<Core<V, C>>);
        impl<V: Cached, C: Codec<V>> Drop for Behind<V, C> {
            fn drop(&mut self) {
                // Relaxed: as above.
                self.0.behind.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let behind = Behind(Arc::clone(self));
        let refresh = move || {
            let core = &behind.0;
            // What went wrong is counted; the old value serves on.
            let Ok(found) = core.find(&key) else { return };
            let asker = &Asker::thread();
            if let Asked::Refresh(lead, old) = core.asked_anew(&key, found, asker) {
                drop(core.lead(&key, lead, Some(old), asker, &Sharing::NONE, load));
            }
        };
        // Where no thread can be had, the next who asks tries again.
        drop(std::thread::Builder::new().name("larder-refresh".to_owned()).spawn(refresh));
    }

    /// The value of `key` if it is simply there; else what was found.
    fn found(&self, key: &[u8]) -> Result<Result<V, Found<V>>> {
        if self.options.freshness.is_simple() {
            return Ok(self.get_with(key, V::clone)?.ok_or(None));
        }
        Ok(match self.find(key)? {
            Some((entry, State::Fresh)) => Ok(entry.value.clone()),
            found => Err(found),
        })
    }

    /// What is to be done for somebody who has found this.
    pub(crate) fn asked(&self, key: &Key, found: Found<V>, asker: &Asker) -> Asked<'_, V> {
        match found {
            None => Asked::Board(None),
            Some((entry, State::LastResort)) => Asked::Board(Some(entry)),
            Some((entry, State::Fresh)) => Asked::Answered(entry.value.clone()),
            Some((entry, _)) => match self.flights.start_if_none(key, asker) {
                Some(lead) => Asked::Refresh(lead, entry),
                None => Asked::Answered(self.serve(&entry)),
            },
        }
    }

    /// The same for a thread that was begun for a refresh: whether a value is due is not drawn again.
    fn asked_anew(&self, key: &Key, found: Found<V>, asker: &Asker) -> Asked<'_, V> {
        let due = |state| if state == State::Fresh { State::Due } else { state };
        self.asked(key, found.map(|(entry, state)| (entry, due(state))), asker)
    }

    /// The value of an entry that is not loaded anew by this asker.
    pub(crate) fn serve(&self, entry: &Entry<V>) -> V {
        self.counters.stale_hits.add(u64::from(!self.is_fresh(&entry.life)));
        entry.value.clone()
    }

    pub(crate) fn board<E>(
        &self,
        key: &Key,
        last_resort: Option<Arc<Entry<V>>>,
        asker: &Asker,
        sharing: &Sharing<E>,
        load: impl FnOnce() -> Result<Loaded<V>, E>,
    ) -> Result<V, LoadError<E>> {
        loop {
            let asked_at = self.invalidated.now();
            let arrival = match self.flights.board(key, asker).map_err(|_| Error::Recursion)? {
                Seat::Lead(lead) => Arrival::Lead(lead),
                Seat::Passenger(passenger) => passenger.wait(),
                Seat::Alone(_alone) => {
                    return match self.run(asker, load) {
                        Ok((loaded, _)) => Ok(loaded.value),
                        Err(error) => self.failed(None, error, last_resort, sharing),
                    };
                }
            };
            match arrival {
                Arrival::Lead(lead) => {
                    return self.lead(key, lead, last_resort, asker, sharing, load);
                }
                Arrival::Landed(landing) => {
                    self.counters.load_waits.add(1);
                    if self.answers(&landing, asked_at) {
                        return Ok(landing.value);
                    }
                }
                Arrival::Failed(error) => {
                    if let Some(error) = sharing.take(&error) {
                        self.counters.load_waits.add(1);
                        return self.failed(None, error, last_resort, sharing);
                    }
                }
            }
        }
    }

    fn lead<E>(
        &self,
        key: &Key,
        lead: Lead<'_, V>,
        old: Option<Arc<Entry<V>>>,
        asker: &Asker,
        sharing: &Sharing<E>,
        load: impl FnOnce() -> Result<Loaded<V>, E>,
    ) -> Result<V, LoadError<E>> {
        if let Some(value) = self.overtaken(key, old.as_deref())? {
            lead.land(|| value.clone());
            return Ok(value);
        }
        lead.begins_at(self.invalidated.now());
        match self.run(asker, load) {
            Ok(loads) => {
                let published = self.publish_loaded(key, loads, &lead.fate());
                let published = sharing.settle(published);
                Ok(self.land(lead, published, old.is_some())?)
            }
            Err(error) => self.failed(Some(lead), error, old, sharing),
        }
    }

    /// Whether a value is an answer to who asked when so many tags had been invalidated: not if one
    /// of its own was, between the beginning of its load and that.
    pub(crate) fn answers(&self, landing: &Landing<V>, asked_at: u64) -> bool {
        let tags = landing.tags.iter().map(|tag| &**tag);
        asked_at == landing.since || !self.invalidated.any_since(tags, landing.since)
    }

    /// What another flight has brought between the search and the start of this one.
    pub(crate) fn overtaken(&self, key: &[u8], old: Option<&Entry<V>>) -> Result<Option<V>> {
        let found = self.peek_entry(key)?;
        let found = found.filter(|found| old.is_none_or(|old| old.version != found.version));
        Ok(found.map(|entry| entry.value.clone()))
    }

    fn run<E>(
        &self,
        asker: &Asker,
        load: impl FnOnce() -> Result<Loaded<V>, E>,
    ) -> Result<Loads<V>, E> {
        let timed = Timed::begin(&self.counters);
        timed.end(asker.loads_as.run(load))
    }

    /// Stores what was loaded, if it is to be kept, and says what is the answer now. It is that also
    /// if it cannot be stored.
    pub(crate) fn publish_loaded(
        &self,
        key: &[u8],
        (loaded, took): Loads<V>,
        fate: &Fate<V>,
    ) -> Published<V> {
        let tags = loaded.tags.iter().map(|tag| self.stored_tag(tag)).collect();
        let (value, result) = self.publish_value(key, loaded, took, fate);
        Published { value, tags, result }
    }

    fn publish_value(
        &self,
        key: &[u8],
        loaded: Loaded<V>,
        took: Duration,
        fate: &Fate<V>,
    ) -> (V, Result<()>) {
        if !loaded.is_kept {
            return (loaded.value, Ok(()));
        }
        let tags = loaded.borrowed_tags();
        let put = Put { cost: loaded.cost.unwrap_or(Cost::of(took)), ..loaded.put(&tags) };
        let load_ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        let published = self.encode(key, loaded.value.clone(), put.durability).and_then(
            |(incoming, weight)| self.publish(key, incoming, weight, &put, load_ms, fate),
        );
        match published {
            // A value that neither tier takes is still the answer.
            Ok(Some(_)) => (loaded.value, Ok(())),
            // Whoever changed the key meanwhile was first.
            Ok(None) => match self.peek(key) {
                Ok(current) => (current.unwrap_or(loaded.value), Ok(())),
                Err(error) => (loaded.value, Err(error)),
            },
            Err(error) => (loaded.value, Err(error)),
        }
    }

    /// Ends a flight whose loader returned a value.
    pub(crate) fn land(
        &self,
        lead: Lead<'_, V>,
        Published { value, tags, result }: Published<V>,
        is_refresh: bool,
    ) -> Result<V> {
        self.counters.refreshes.add(u64::from(is_refresh));
        lead.land_tagged(|| value.clone(), &tags);
        result.map(|()| value)
    }

    /// Ends a flight whose loader failed: with the old value, if there is one.
    pub(crate) fn failed<E>(
        &self,
        lead: Option<Lead<'_, V>>,
        error: E,
        old: Option<Arc<Entry<V>>>,
        sharing: &Sharing<E>,
    ) -> Result<V, LoadError<E>> {
        if let Some(lead) = lead
            && let Some(shared) = (sharing.share)(&error)
        {
            lead.fail(|| shared);
        }
        match old {
            Some(old) if self.is_live(&old.life) => Ok(self.serve(&old)),
            _ => Err(LoadError::Load(error)),
        }
    }

    /// Encodes, if need be, and inserts a value.
    pub(crate) fn insert_value(&self, key: &[u8], value: V, put: &Put<'_>) -> Result<Outcome> {
        let (incoming, weight) = self.encode(key, value, put.durability)?;
        self.insert(key, incoming, weight, put)
    }

    /// A value with its weight, and with its bytes if the store needs them at once.
    pub(crate) fn encode(
        &self,
        key: &[u8],
        value: V,
        durability: Durability,
    ) -> Result<(Encoded<'_, V, C>, u64)> {
        let codec = &self.options.codec;
        let mut bytes = Vec::new();
        let mut encode = |value: &V| match codec.as_bytes(value) {
            Some(bytes) => Ok(bytes.len()),
            None => codec.encode(value, &mut bytes).map(|()| bytes.len()),
        };
        let failed = |source| Error::Encode { source };
        // Bytes are made once, if they are certain to be needed; else they are only counted,
        // which also finds out early what has no bytes.
        let through = self.goes_through(0, durability);
        let encoded_len = match (through, &self.lower, &self.options.weigher) {
            (true, ..) => encode(&value).map_err(failed)?,
            (false, None, Some(_)) => 0,
            _ => codec.encoded_len(&value).map_err(failed)?,
        };
        let weight = self.weight(key.len(), encoded_len, &value);
        if !through && self.goes_through(weight, durability) {
            encode(&value).map_err(failed)?;
        }
        Ok((Encoded { codec, value, bytes }, weight))
    }
}

/// A loader that runs. What panics has failed; a future that is dropped has not.
pub(crate) struct Timed<'a> {
    counters: &'a Counters,
    begun: Instant,
}

impl<'a> Timed<'a> {
    pub(crate) fn begin(counters: &'a Counters) -> Self {
        Self { counters, begun: Instant::now() }
    }

    pub(crate) fn end<V, E>(self, loaded: Result<Loaded<V>, E>) -> Result<Loads<V>, E> {
        let took = self.begun.elapsed();
        match &loaded {
            Ok(_) => {
                self.counters.loads.add(1);
                self.counters.load_ns.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
            Err(_) => self.counters.load_failures.add(1),
        }
        loaded.map(|loaded| (loaded, took))
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.counters.load_failures.add(1);
        }
    }
}
