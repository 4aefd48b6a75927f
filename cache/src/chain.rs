//! Who asks within whose loader, and who waits for whom.
//!
//! A loader may ask for other keys. If it asks for its own, that could never end: an error. If
//! waiting for another loader would close a circle (that one waits, over any number of others, for
//! a key that this one loads), this one loads **alone**: it runs its loader and keeps the result to
//! itself, and the flight goes on undisturbed.
//!
//! Loaders are known by **chains**: a number, and that of the loader within which it was begun, up
//! to the outermost. A thread is one loader, whatever it loads; of futures each is one, since a
//! loader may have many under way at once. Whatever is asked for while a loader runs, or while its
//! future is polled, is asked for within it.
//!
//! # Limits
//! What a loader leaves to other threads, or to tasks that it spawns, is not known to be within
//! it. What another task asks for while a thread's loader polls it (an executor that the loader
//! runs) counts as within that loader.
//!
//! # Invariants
//! 1. The graph has no circles: whoever adds an edge to it has looked, under its lock.

use std::cell::RefCell;
use std::iter::successors;
use std::sync::Arc;

use crate::flight::Asker;
use crate::key::Key;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// A loader, and what it was begun within.
#[derive(Debug)]
pub(crate) struct Chain {
    id: u64,
    within: Option<Arc<Self>>,
}

thread_local! {
    /// The loader that runs, or whose future is polled, on this thread.
    static CURRENT: RefCell<Option<Arc<Chain>>> = const { RefCell::new(None) };
    /// This thread as a loader.
    static THREAD: Arc<Chain> = Arc::new(Chain::new(None));
}

impl Chain {
    fn new(within: Option<Arc<Self>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only has to be unique, and never 0.
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), within }
    }

    /// This loader and those that it is within.
    fn ids(&self) -> impl Iterator<Item = u64> {
        successors(Some(self), |chain| chain.within.as_deref()).map(|chain| chain.id)
    }

    /// Runs a loader, or polls its future.
    pub(crate) fn run<R>(self: &Arc<Self>, load: impl FnOnce() -> R) -> R {
        /// Puts back what was current, also if the loader panics.
        struct Before(Option<Arc<Chain>>);
        impl Drop for Before {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _before = Before(CURRENT.replace(Some(Arc::clone(self))));
        load()
    }
}

impl Asker {
    /// This thread.
    pub(crate) fn thread() -> Self {
        let chain = CURRENT.with_borrow(Clone::clone).unwrap_or_else(|| THREAD.with(Arc::clone));
        Self { within: Some(Arc::clone(&chain)), loads_as: chain }
    }

    #[cfg(feature = "async")]
    /// A future that is polled now.
    pub(crate) fn future() -> Self {
        let within = CURRENT.with_borrow(Clone::clone);
        Self { loads_as: Arc::new(Chain::new(within.clone())), within }
    }
}

/// Who leads a flight now; 0 for nobody. Apart from flights, because loaders may wait for flights
/// of values of any type.
#[derive(Debug)]
pub(crate) struct Route {
    leader: AtomicU64,
}

impl Route {
    pub(crate) fn led_by(leader: &Chain) -> Self {
        Self { leader: AtomicU64::new(leader.id) }
    }

    // Relaxed, all: that a loader of its own chain leads was written by what this one is within, and
    // what the search for circles needs of others was written under the lock of the graph, or
    // before they waited.
    fn leader(&self) -> u64 {
        self.leader.load(Ordering::Relaxed)
    }

    /// Whether one of these loads.
    pub(crate) fn is_led_within(&self, chain: &Chain) -> bool {
        chain.ids().any(|id| id == self.leader())
    }

    pub(crate) fn end(&self) {
        let _graph = GRAPH.lock();
        self.leader.store(0, Ordering::Relaxed);
    }

    /// Another leads from now on, who waits no longer.
    pub(crate) fn take_over(&self, by: &Chain, waiting: Option<Waiting>) {
        let mut graph = GRAPH.lock();
        self.leader.store(by.id, Ordering::Relaxed);
        if let Some(mut waiting) = waiting {
            waiting.leave(&mut graph);
        }
    }
}

/// Who waits for which flight, over all caches of the process. Only as long as their number.
static GRAPH: Mutex<Vec<Edge>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Edge {
    number: u64,
    from: Arc<Chain>,
    to: Arc<Route>,
}

/// An edge in the graph.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// 0 once it is gone.
    number: u64,
}

impl Waiting {
    /// Notes that all of a chain wait for a flight, unless that would close a circle.
    pub(crate) fn begin(from: &Arc<Chain>, to: &Arc<Route>) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut graph = GRAPH.lock();
        let mut ahead = vec![to.leader()];
        let mut seen = 0;
        while let Some(leader) = ahead.get(seen).copied() {
            seen += 1;
            if from.ids().any(|id| id == leader) {
                return None;
            }
            for edge in graph.iter().filter(|edge| edge.from.ids().any(|id| id == leader)) {
                let next = edge.to.leader();
                if next != 0 && !ahead.contains(&next) {
                    ahead.push(next);
                }
            }
        }
        // Relaxed: only has to be unique.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        graph.push(Edge { number, from: Arc::clone(from), to: Arc::clone(to) });
        Some(Self { number })
    }

    fn leave(&mut self, graph: &mut Vec<Edge>) {
        if let Some(at) = graph.iter().position(|edge| edge.number == self.number) {
            graph.swap_remove(at);
        }
        self.number = 0;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.number != 0 {
            self.leave(&mut GRAPH.lock());
        }
    }
}

/// Keys that are loaded alone: by which loader, of which cache.
static ALONE: Mutex<Vec<(u64, u64, Key)>> = Mutex::new(Vec::new());

/// A key that a loader loads for itself only.
#[derive(Debug)]
pub(crate) struct Alone {
    by: u64,
    cache: u64,
    key: Key,
}

impl Alone {
    pub(crate) fn begin(cache: u64, key: &Key, by: &Chain) -> Self {
        let alone = Self { by: by.id, cache, key: key.clone() };
        ALONE.lock().push((alone.by, alone.cache, alone.key.clone()));
        alone
    }

    /// Whether one of these loads this key alone.
    pub(crate) fn is_loading(cache: u64, key: &Key, within: &Chain) -> bool {
        let alone = ALONE.lock();
        alone
            .iter()
            .any(|(by, of, at)| *of == cache && at == key && within.ids().any(|id| id == *by))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let mut alone = ALONE.lock();
        let is_it = |(by, cache, key): &(u64, u64, Key)| {
            (*by, *cache) == (self.by, self.cache) && *key == self.key
        };
        if let Some(at) = alone.iter().position(is_it) {
            alone.swap_remove(at);
        }
    }
}
