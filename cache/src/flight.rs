//! One loader per key at a time.
//!
//! The first to miss a key becomes the **leader** of a flight and runs its loader; others wait
//! until the value has landed, threads asleep, futures pending. A leader that fails (error, panic,
//! a future that is dropped) hands over: one of those who wait becomes the leader and runs its own
//! loader. A leader may also land its error, for those who asked for one like it.
//!
//! What is asked for within a loader, and what waits for whom, is in `chain.rs`.
//!
//! # Invariants
//! 1. No lock is held while a loader runs.
//! 2. A circle can only be closed by who begins to wait, and each looks for circles first, under
//!    the one lock of the graph. So nobody waits in a circle.
//! 3. A flight that is **doomed** (its key was changed while it loaded) takes no passengers
//!    any more, and what it loads is not stored. Keys change and loaded values are published
//!    under the key's stripe, so one of the two sees the other.
//! 4. A flight that is vacant has passengers, or is off the board: the last to leave takes it off.
//! 5. The lock of a shard of the board is taken before that of a flight.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::mem::take;
use std::sync::Arc;
use std::task::Waker;
#[cfg(feature = "async")]
use std::task::{Context, Poll};

use crate::chain::{Alone, Chain, Route, Waiting};
use crate::key::Key;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering};

const SHARDS: usize = 16;

pub(crate) struct Flights<V> {
    /// Tells caches apart in the list of keys that somebody loads alone.
    id: u64,
    hasher: RandomState,
    shards: Box<[Shard<V>]>,
    flying: AtomicUsize,
}

type Board<V> = HashMap<Key, Arc<Flight<V>>>;
type Shard<V> = Mutex<Board<V>>;

/// An error that a leader shares.
pub(crate) type Shared = Arc<dyn Any + Send + Sync>;

struct Flight<V> {
    route: Arc<Route>,
    doomed: AtomicBool,
    /// The number of invalidations when its loader began.
    since: AtomicU64,
    state: Mutex<State<V>>,
    turn: Condvar,
}

struct State<V> {
    phase: Phase<V>,
    waiting: usize,
    /// Who of them is a future that was polled, by the number of its passenger.
    pending: Vec<(u64, Waker)>,
}

enum Phase<V> {
    Loading,
    /// The leader has failed; whoever comes first takes over.
    Vacant,
    Landed(Landing<V>),
    Failed(Shared),
}

/// A value that was loaded, with what decides whether it is an answer to all who wait.
#[derive(Debug, Clone)]
pub(crate) struct Landing<V> {
    pub(crate) value: V,
    /// The number of invalidations when its loader began.
    pub(crate) since: u64,
    pub(crate) tags: Arc<[Box<[u8]>]>,
}

/// Who asks for a key: within which loaders it does, and what it is if it loads.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// What cannot end before this is answered.
    pub(crate) within: Option<Arc<Chain>>,
    pub(crate) loads_as: Arc<Chain>,
}

/// What who misses a key is to do.
pub(crate) enum Seat<'a, V> {
    /// Load the value, publish it and land it.
    Lead(Lead<'a, V>),
    /// Wait for what another loads.
    Passenger(Passenger<'a, V>),
    /// Load the value and keep it; waiting would never end.
    Alone(Alone),
}

/// How waiting ended.
pub(crate) enum Arrival<'a, V> {
    /// The leader failed. Now it is this one's turn.
    Lead(Lead<'a, V>),
    Landed(Landing<V>),
    Failed(Shared),
}

/// A key's loading was asked for within that loading.
#[derive(Debug)]
pub(crate) struct Recursion;

impl<V> Default for Flights<V> {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            // Relaxed: only has to be unique.
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            flying: AtomicUsize::new(0),
        }
    }
}

impl<V: Clone> Flights<V> {
    /// Boards the flight of `key`, or starts one.
    pub(crate) fn board(&self, key: &Key, asker: &Asker) -> Result<Seat<'_, V>, Recursion> {
        let mut board = self.shard(key).lock();
        let Some(flight) = board.get(key).cloned() else {
            return Ok(Seat::Lead(self.start(key, &mut board, asker)));
        };
        // Counted under the lock of the shard, so that a leader that fails sees it.
        flight.state.lock().waiting += 1;
        drop(board);
        let mut passenger = Passenger {
            flights: self,
            key: key.clone(),
            flight,
            loads_as: Arc::clone(&asker.loads_as),
            waiting: None,
            ticket: None,
            left: false,
        };
        if let Some(within) = &asker.within {
            let route = &passenger.flight.route;
            if route.is_led_within(within) || Alone::is_loading(self.id, key, within) {
                return Err(Recursion);
            }
            match Waiting::begin(within, route) {
                Some(waiting) => passenger.waiting = Some(waiting),
                None => {
                    drop(passenger);
                    return Ok(Seat::Alone(Alone::begin(self.id, key, &asker.loads_as)));
                }
            }
        }
        Ok(Seat::Passenger(passenger))
    }

    /// Starts a flight of `key`, unless there is one.
    pub(crate) fn start_if_none(&self, key: &Key, asker: &Asker) -> Option<Lead<'_, V>> {
        let mut board = self.shard(key).lock();
        let is_free = !board.contains_key(key);
        is_free.then(|| self.start(key, &mut board, asker))
    }

    fn start(&self, key: &Key, board: &mut Board<V>, asker: &Asker) -> Lead<'_, V> {
        let flight = Arc::new(Flight::led_by(&asker.loads_as));
        board.insert(key.clone(), Arc::clone(&flight));
        // SeqCst: see `doom`.
        self.flying.fetch_add(1, Ordering::SeqCst);
        self.lead(key, flight)
    }
}

impl<V> Flights<V> {
    fn lead(&self, key: &Key, flight: Arc<Flight<V>>) -> Lead<'_, V> {
        Lead { flights: self, key: key.clone(), flight, landed: false }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn shard(&self, key: &[u8]) -> &Shard<V> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// Marks a flight of `key`, if there is one, as overtaken by a change. Hold the stripe.
    #[inline]
    pub(crate) fn doom(&self, key: &[u8]) {
        // SeqCst: pairs with the add in `start`. A loader that was started before the change
        // is seen; one that is missed counts as started after it.
        if self.flying.load(Ordering::SeqCst) != 0
            && let Some(flight) = self.shard(key).lock().remove(key)
        {
            self.flying.fetch_sub(1, Ordering::SeqCst);
            // Relaxed: read under the same stripe.
            flight.doomed.store(true, Ordering::Relaxed);
        }
    }

    /// Marks all flights.
    pub(crate) fn doom_all(&self) {
        for shard in &self.shards {
            let flights = take(&mut *shard.lock());
            self.flying.fetch_sub(flights.len(), Ordering::SeqCst);
            for flight in flights.values() {
                // Relaxed: a barrier over all stripes follows.
                flight.doomed.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Whether this key is being loaded.
    pub(crate) fn is_loading(&self, key: &[u8]) -> bool {
        self.shard(key).lock().contains_key(key)
    }

    /// How many keys are being loaded.
    pub(crate) fn len(&self) -> usize {
        self.flying.load(Ordering::SeqCst)
    }

    /// Takes this very flight off the board.
    fn take_off(&self, board: &mut Board<V>, key: &Key, flight: &Arc<Flight<V>>) {
        if board.get(key).is_some_and(|on_it| Arc::ptr_eq(on_it, flight)) {
            board.remove(key);
            self.flying.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl<V> Flight<V> {
    fn led_by(leader: &Chain) -> Self {
        let state = State { phase: Phase::Loading, waiting: 0, pending: Vec::new() };
        Self {
            route: Arc::new(Route::led_by(leader)),
            doomed: AtomicBool::new(false),
            since: AtomicU64::new(0),
            state: Mutex::new(state),
            turn: Condvar::new(),
        }
    }

    /// Lets those who wait look again: one of the threads or all, and all futures, of which any may
    /// be dropped before it does. Lets go of the state first.
    fn wake(&self, mut state: MutexGuard<'_, State<V>>, all: bool) {
        let pending = take(&mut state.pending);
        drop(state);
        if all {
            self.turn.notify_all();
        } else {
            self.turn.notify_one();
        }
        pending.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// The duty to load a value. Dropping it unlanded hands over.
pub(crate) struct Lead<'a, V> {
    flights: &'a Flights<V>,
    key: Key,
    flight: Arc<Flight<V>>,
    landed: bool,
}

/// Whether what a flight loads may be stored.
pub(crate) struct Fate<V>(Arc<Flight<V>>);

impl<V> Fate<V> {
    /// Whether the key was changed since the flight began. Hold the stripe.
    pub(crate) fn is_doomed(&self) -> bool {
        // Relaxed: written under the same stripe.
        self.0.doomed.load(Ordering::Relaxed)
    }

    /// The number of invalidations when its loader began.
    pub(crate) fn since(&self) -> u64 {
        // Relaxed: written by who leads it.
        self.0.since.load(Ordering::Relaxed)
    }
}

impl<V> Lead<'_, V> {
    /// Notes the number of invalidations, before the loader begins.
    pub(crate) fn begins_at(&self, invalidations: u64) {
        // Relaxed: read by whoever publishes what this one loads, after it.
        self.flight.since.store(invalidations, Ordering::Relaxed);
    }

    pub(crate) fn fate(&self) -> Fate<V> {
        Fate(Arc::clone(&self.flight))
    }

    /// Ends the flight with a value that is not tagged, or not loaded; `value` is called if somebody
    /// waits for it.
    pub(crate) fn land(self, value: impl FnOnce() -> V) {
        self.land_tagged(value, &[]);
    }

    /// Ends the flight with what was loaded under some tags.
    pub(crate) fn land_tagged(self, value: impl FnOnce() -> V, tags: &[Box<[u8]>]) {
        // Relaxed: this one has written it.
        let since = self.flight.since.load(Ordering::Relaxed);
        self.end(|| Phase::Landed(Landing { value: value(), since, tags: tags.into() }));
    }

    /// Ends the flight with an error for those who can use it; the others start another.
    pub(crate) fn fail(self, error: impl FnOnce() -> Shared) {
        self.end(|| Phase::Failed(error()));
    }

    fn end(mut self, phase: impl FnOnce() -> Phase<V>) {
        let mut board = self.flights.shard(&self.key).lock();
        self.flights.take_off(&mut board, &self.key, &self.flight);
        drop(board);
        // Nobody can board any more, so this count can only fall.
        let is_awaited = self.flight.state.lock().waiting != 0;
        if is_awaited {
            // Without the lock: a clone is the user's code.
            let phase = phase();
            self.flight.state.lock().phase = phase;
        }
        // Not before: a clone that panics hands over.
        self.landed = true;
        self.flight.route.end();
        self.flight.wake(self.flight.state.lock(), true);
    }
}

impl<V> Drop for Lead<'_, V> {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        let mut board = self.flights.shard(&self.key).lock();
        let mut state = self.flight.state.lock();
        self.flight.route.end();
        state.phase = Phase::Vacant;
        if state.waiting == 0 {
            self.flights.take_off(&mut board, &self.key, &self.flight);
        }
        drop(board);
        self.flight.wake(state, false);
    }
}

/// The wait for what another loads. Dropping it ends it.
pub(crate) struct Passenger<'a, V> {
    flights: &'a Flights<V>,
    key: Key,
    flight: Arc<Flight<V>>,
    loads_as: Arc<Chain>,
    waiting: Option<Waiting>,
    /// The number under which a waker was left.
    ticket: Option<u64>,
    /// Whether it does not count any more.
    left: bool,
}

impl<'a, V: Clone> Passenger<'a, V> {
    /// Waits, asleep.
    pub(crate) fn wait(mut self) -> Arrival<'a, V> {
        let flight = Arc::clone(&self.flight);
        let mut state = flight.state.lock();
        loop {
            if let Some(arrival) = self.look(&mut state) {
                drop(state);
                return self.arrive(arrival);
            }
            flight.turn.wait(&mut state);
        }
    }

    #[cfg(feature = "async")]
    /// Waits, pending. Not to be asked again once it is ready.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Arrival<'a, V>> {
        let flight = Arc::clone(&self.flight);
        let mut state = flight.state.lock();
        if let Some(arrival) = self.look(&mut state) {
            drop(state);
            return Poll::Ready(self.arrive(arrival));
        }
        static TICKETS: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only has to be unique.
        let ticket = *self.ticket.get_or_insert_with(|| TICKETS.fetch_add(1, Ordering::Relaxed));
        match state.pending.iter_mut().find(|(number, _)| *number == ticket) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => state.pending.push((ticket, cx.waker().clone())),
        }
        Poll::Pending
    }

    /// How the flight ended for this one, if it has.
    fn look(&mut self, state: &mut State<V>) -> Option<Ended<V>> {
        let ended = match &state.phase {
            Phase::Loading => return None,
            Phase::Landed(landing) => Ended::Landed(landing.clone()),
            Phase::Failed(error) => Ended::Failed(Arc::clone(error)),
            Phase::Vacant => {
                state.phase = Phase::Loading;
                Ended::TakenOver
            }
        };
        state.waiting -= 1;
        let ticket = self.ticket;
        state.pending.retain(|(number, _)| Some(*number) != ticket);
        self.left = true;
        Some(ended)
    }

    fn arrive(&mut self, ended: Ended<V>) -> Arrival<'a, V> {
        match ended {
            Ended::Landed(landing) => Arrival::Landed(landing),
            Ended::Failed(error) => Arrival::Failed(error),
            Ended::TakenOver => {
                self.flight.route.take_over(&self.loads_as, self.waiting.take());
                Arrival::Lead(self.flights.lead(&self.key, Arc::clone(&self.flight)))
            }
        }
    }
}

enum Ended<V> {
    Landed(Landing<V>),
    Failed(Shared),
    TakenOver,
}

impl<V> Drop for Passenger<'_, V> {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let mut board = self.flights.shard(&self.key).lock();
        let mut state = self.flight.state.lock();
        state.waiting -= 1;
        state.pending.retain(|(number, _)| Some(*number) != self.ticket);
        if !matches!(state.phase, Phase::Vacant) {
            return;
        }
        // This one may have been told that it is its turn.
        if state.waiting == 0 {
            self.flights.take_off(&mut board, &self.key, &self.flight);
        }
        drop(board);
        self.flight.wake(state, false);
    }
}

impl<V> fmt::Debug for Flights<V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Flights").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for Lead<'_, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Lead").field(&self.key).finish()
    }
}

impl<V> fmt::Debug for Passenger<'_, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Passenger").field(&self.key).finish()
    }
}
