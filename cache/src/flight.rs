//! One loader per key at a time.
//!
//! The first thread to miss a key becomes the **leader** of a flight and runs its loader;
//! others wait until the value has landed. A leader that fails (error or panic) hands over:
//! one of the waiters becomes the leader and runs its own loader.
//!
//! # Recursion
//! A loader may ask for other keys. If it asks for its own, that could never end: an error.
//! If waiting for another thread would close a circle (that thread waits, over any number of
//! others, for a key that this one leads), this one loads **alone**: it runs its loader and
//! keeps the result to itself, and the flight goes on undisturbed.
//!
//! # Invariants
//! 1. No lock is held while a loader runs.
//! 2. A circle can only be closed by a thread that begins to wait, and each looks for circles
//!    first, under the one lock of the graph. So nobody waits in a circle.
//! 3. A flight that is **doomed** (its key was changed while it loaded) takes no passengers
//!    any more, and what it loads is not stored. Keys change and loaded values are published
//!    under the key's stripe, so one of the two sees the other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::key::Key;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, Ordering};

const SHARDS: usize = 16;

pub(crate) struct Flights<V> {
    /// Tells caches apart in the list of keys that a thread loads alone.
    id: u64,
    hasher: RandomState,
    shards: Box<[Shard<V>]>,
    flying: AtomicUsize,
}

type Shard<V> = Mutex<HashMap<Key, Arc<Flight<V>>>>;

struct Flight<V> {
    route: Arc<Route>,
    doomed: AtomicBool,
    state: Mutex<State<V>>,
    turn: Condvar,
}

struct State<V> {
    phase: Phase<V>,
    waiting: usize,
}

enum Phase<V> {
    Loading,
    /// The leader has failed; whoever comes first takes over.
    Vacant,
    Landed(V),
}

/// What a thread that misses a key is to do.
pub(crate) enum Boarding<'a, V> {
    /// Load the value, publish it and land it.
    Lead(Lead<'a, V>),
    /// Use what another thread has loaded.
    Landed(V),
    /// Load the value and keep it; waiting would never end.
    Alone(Alone),
}

/// A key's loading was asked for within that loading, by the same thread.
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
    pub(crate) fn board(&self, key: &Key) -> Result<Boarding<'_, V>, Recursion> {
        let me = this_thread();
        let mut flights = self.shard(key).lock();
        let Some(flight) = flights.get(key).cloned() else {
            let flight = Arc::new(Flight::led_by(me));
            flights.insert(key.clone(), Arc::clone(&flight));
            // SeqCst: see `doom`.
            self.flying.fetch_add(1, Ordering::SeqCst);
            return Ok(Boarding::Lead(self.lead(key, flight)));
        };
        // Counted under the lock of the shard, so that a leader that fails sees it.
        flight.state.lock().waiting += 1;
        drop(flights);
        if flight.route.is_led_by(me) || Alone::is_loading(self.id, key) {
            flight.state.lock().waiting -= 1;
            return Err(Recursion);
        }
        let Some(waiting) = Waiting::begin(me, &flight.route) else {
            flight.state.lock().waiting -= 1;
            return Ok(Boarding::Alone(Alone::begin(self.id, key)));
        };
        let mut state = flight.state.lock();
        loop {
            match &state.phase {
                Phase::Loading => flight.turn.wait(&mut state),
                Phase::Vacant => {
                    state.phase = Phase::Loading;
                    state.waiting -= 1;
                    drop(state);
                    waiting.take_over();
                    return Ok(Boarding::Lead(self.lead(key, flight)));
                }
                Phase::Landed(value) => {
                    let value = value.clone();
                    state.waiting -= 1;
                    return Ok(Boarding::Landed(value));
                }
            }
        }
    }

    fn lead(&self, key: &Key, flight: Arc<Flight<V>>) -> Lead<'_, V> {
        Lead { flights: self, key: key.clone(), flight, landed: false }
    }
}

impl<V> Flights<V> {
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn shard(&self, key: &[u8]) -> &Shard<V> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// Marks a flight of `key`, if there is one, as overtaken by a change. Hold the stripe.
    #[inline]
    pub(crate) fn doom(&self, key: &[u8]) {
        // SeqCst: pairs with the add in `board`. A loader that was started before the change
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
            let flights = std::mem::take(&mut *shard.lock());
            self.flying.fetch_sub(flights.len(), Ordering::SeqCst);
            for flight in flights.values() {
                // Relaxed: a barrier over all stripes follows.
                flight.doomed.store(true, Ordering::Relaxed);
            }
        }
    }

    /// How many keys are being loaded.
    pub(crate) fn len(&self) -> usize {
        self.flying.load(Ordering::SeqCst)
    }
}

impl<V> Flight<V> {
    fn led_by(leader: u64) -> Self {
        Self {
            route: Arc::new(Route { leader: AtomicU64::new(leader) }),
            doomed: AtomicBool::new(false),
            state: Mutex::new(State { phase: Phase::Loading, waiting: 0 }),
            turn: Condvar::new(),
        }
    }
}

/// The duty to load a value. Dropping it unlanded hands over.
pub(crate) struct Lead<'a, V> {
    flights: &'a Flights<V>,
    key: Key,
    flight: Arc<Flight<V>>,
    landed: bool,
}

impl<V> Lead<'_, V> {
    /// Whether the key was changed since the flight began. Hold the stripe.
    pub(crate) fn is_doomed(&self) -> bool {
        // Relaxed: written under the same stripe.
        self.flight.doomed.load(Ordering::Relaxed)
    }

    /// Ends the flight; `value` is called if somebody waits for it.
    pub(crate) fn land(mut self, value: impl FnOnce() -> V) {
        let mut flights = self.flights.shard(&self.key).lock();
        self.take_off_the_board(&mut flights);
        drop(flights);
        // Nobody can board any more, so this count can only fall.
        if self.flight.state.lock().waiting != 0 {
            let value = value();
            self.flight.state.lock().phase = Phase::Landed(value);
        }
        // Not before: a clone that panics hands over.
        self.landed = true;
        self.flight.route.end();
        self.flight.turn.notify_all();
    }

    fn take_off_the_board(&self, flights: &mut HashMap<Key, Arc<Flight<V>>>) {
        if flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            flights.remove(&self.key);
            self.flights.flying.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl<V> Drop for Lead<'_, V> {
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        let mut flights = self.flights.shard(&self.key).lock();
        let mut state = self.flight.state.lock();
        self.flight.route.end();
        state.phase = Phase::Vacant;
        if state.waiting == 0 {
            self.take_off_the_board(&mut flights);
        }
        drop(state);
        self.flight.turn.notify_one();
    }
}

/// Who leads a flight now; 0 for nobody. Apart from `Flight`, because threads may wait for
/// flights of values of any type.
struct Route {
    leader: AtomicU64,
}

impl Route {
    // Relaxed, all: a thread's own id is written by itself, and what the search for circles
    // needs of others was written under the lock of the graph, or before that thread waited.
    fn is_led_by(&self, thread: u64) -> bool {
        self.leader.load(Ordering::Relaxed) == thread
    }

    fn end(&self) {
        let _graph = GRAPH.lock();
        self.leader.store(0, Ordering::Relaxed);
    }
}

/// Which thread waits for which flight, over all caches of the process. Only as long as the
/// number of threads that wait.
static GRAPH: Mutex<Vec<(u64, Arc<Route>)>> = Mutex::new(Vec::new());

/// A thread's entry in the graph.
struct Waiting<'a> {
    me: u64,
    route: &'a Arc<Route>,
}

impl<'a> Waiting<'a> {
    /// Notes that `me` waits, unless that would close a circle.
    fn begin(me: u64, route: &'a Arc<Route>) -> Option<Self> {
        let mut graph = GRAPH.lock();
        let mut next = Some(route);
        while let Some(route) = next {
            if route.is_led_by(me) {
                return None;
            }
            next =
                graph.iter().find(|(thread, _)| route.is_led_by(*thread)).map(|(_, route)| route);
        }
        graph.push((me, Arc::clone(route)));
        Some(Self { me, route })
    }

    /// Stops waiting, to lead.
    fn take_over(self) {
        let mut graph = GRAPH.lock();
        self.route.leader.store(self.me, Ordering::Relaxed);
        graph.retain(|(thread, _)| *thread != self.me);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        GRAPH.lock().retain(|(thread, _)| *thread != self.me);
    }
}

thread_local! {
    static ALONE: RefCell<Vec<(u64, Key)>> = const { RefCell::new(Vec::new()) };
}

/// A key that this thread loads for itself only.
#[derive(Debug)]
pub(crate) struct Alone(());

impl Alone {
    fn begin(cache: u64, key: &Key) -> Self {
        ALONE.with_borrow_mut(|keys| keys.push((cache, key.clone())));
        Self(())
    }

    fn is_loading(cache: u64, key: &Key) -> bool {
        ALONE.with_borrow(|keys| keys.iter().any(|(id, alone)| *id == cache && alone == key))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Loads nest, so the last that began is the first to end.
        ALONE.with_borrow_mut(|keys| drop(keys.pop()));
    }
}

/// A small number for this thread, never 0.
fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        // Relaxed: only has to be unique.
        static ME: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    ME.with(|me| *me)
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

impl<V> fmt::Debug for Boarding<'_, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Lead(_) => "Lead",
            Self::Landed(_) => "Landed",
            Self::Alone(_) => "Alone",
        })
    }
}
