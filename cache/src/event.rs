//! What the cache tells who watches it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use larder_engine::Health;

use crate::health::Circuit;
use crate::sync::{AtomicBool, Mutex, Ordering};

/// Something that happened that nobody asked for.
///
/// Given to [`Builder::on_event`](crate::Builder::on_event), by the thread it happened on,
/// after all locks are released: the callback may use the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The store can be relied on less, or more, than before.
    Health {
        /// What it was.
        from: Health,
        /// What it is.
        to: Health,
    },
    /// An operation of the store failed. It was answered as a miss, unless the cache is strict.
    Failed {
        /// What was asked of the store, as an infinitive.
        op: &'static str,
        /// What it said, with all causes.
        why: String,
    },
    /// Stored bytes could not be decoded: a miss.
    Undecodable {
        /// What the codec said.
        why: String,
    },
    /// A value that only memory held could not be written before it had to go. It is lost.
    Lost {
        /// Why it was not written.
        why: &'static str,
    },
    /// More keys changed while the store failed than can be remembered: nothing is read from
    /// it until it could be cleared.
    Bypassed,
    /// The store was cleared, because it was bypassed and works again.
    Cleared,
    /// An engine of a [fallback](crate::Fallback) is tried again, or not any more.
    Circuit {
        /// What it is called there.
        engine: Arc<str>,
        /// What becomes of operations from now on.
        to: Circuit,
        /// What was wrong, unless all is well.
        why: Option<String>,
    },
    /// More of a budget is in use than the builder was told to
    /// [watch for](crate::Builder::watch_usage), or less again.
    Usage {
        /// `memory` or `store`.
        tier: &'static str,
        /// The share that was crossed, in percent.
        percent: u8,
        /// Whether it is exceeded now, or was before.
        is_rising: bool,
        /// What is in use: bytes, or entries where memory counts those.
        used: u64,
        /// What may be.
        budget: u64,
    },
    /// The directory was opened with other settings than the last time. Those that were given
    /// count.
    SettingsChanged {
        /// What is different, as `ttl was "15m", is "1h"`.
        changes: Vec<String>,
    },
    /// Another engine of a [fallback](crate::Fallback) takes what is put from now on.
    Switched {
        /// The one that did; `None` if none was there to do so.
        from: Option<Arc<str>>,
        /// The one that does; `None` if there is none.
        to: Option<Arc<str>>,
    },
}

/// A callback for events.
pub(crate) type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// Events on their way to the observer. They are collected under locks and given out when all
/// are released.
pub(crate) struct Events {
    observer: Option<Observer>,
    queue: Mutex<VecDeque<Event>>,
    any: AtomicBool,
}

/// Events beyond this many are dropped, oldest first: a store that fails a million times is
/// counted in the stats.
const QUEUE_MAX: usize = 1024;

impl Events {
    pub(crate) fn new(observer: Option<Observer>) -> Self {
        Self { observer, queue: Mutex::default(), any: AtomicBool::new(false) }
    }

    /// Notes an event; `event` is called only if somebody watches.
    pub(crate) fn push(&self, event: impl FnOnce() -> Event) {
        if self.observer.is_some() {
            let mut queue = self.queue.lock();
            if queue.len() == QUEUE_MAX {
                queue.pop_front();
            }
            queue.push_back(event());
            // Relaxed: a hint. Whoever pushed also calls `emit`.
            self.any.store(true, Ordering::Relaxed);
        }
    }

    /// Gives out what was noted. Call with no lock held.
    #[inline]
    pub(crate) fn emit(&self) {
        if self.any.load(Ordering::Relaxed) {
            self.emit_all();
        }
    }

    #[cold]
    fn emit_all(&self) {
        let Some(observer) = &self.observer else { return };
        loop {
            let mut queue = self.queue.lock();
            let Some(event) = queue.pop_front() else {
                self.any.store(false, Ordering::Relaxed);
                return;
            };
            drop(queue);
            observer(&event);
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Events")
            .field("observed", &self.observer.is_some())
            .finish_non_exhaustive()
    }
}
