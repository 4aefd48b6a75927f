//! What a store tells of what goes on in it, as it happens.
//!
//! Events come up while locks are held. They are kept for a moment, and told when the call or
//! the step of the maintenance in which they came up is over: an observer may use the store.
//! Without an observer nothing is kept.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::store::Store;
use crate::error::Error;
use crate::stats::Recovery;
use crate::sync::{AtomicBool, Ordering};

/// Events that are kept until a call is over; of more the oldest are told of.
const PENDING_MAX: usize = 1024;

/// Is told what goes on in a [`Disk`](crate::Disk). See
/// [`DiskBuilder::observer`](crate::DiskBuilder::observer).
///
/// Called in the thread that an event came up in, or in another that uses the store at that
/// time, when the store holds no lock; it may use the store, but its own events come up later.
/// It should be quick, and must not panic.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Something happened.
    fn event(&self, event: &Event);
}

/// Something that happened in a store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The store was opened.
    Recovered {
        /// How it was found.
        recovery: Recovery,
        /// Records that were looked at to build the index anew.
        records: u64,
        /// Time that opening took, in µs.
        open_us: u64,
    },
    /// A segment was begun.
    Rolled {
        /// Its id, which is its file's name in hex.
        segment: u64,
    },
    /// A segment went.
    Reclaimed {
        /// Its id.
        segment: u64,
        /// Values that were moved, to keep them.
        moved: u64,
        /// Values that were live and went with it.
        dropped: u64,
    },
    /// The index began to grow.
    Grown {
        /// Slots that it is to have.
        slots: u64,
    },
    /// A sync failed: what was written since the one before may not be durable.
    SyncFailed,
    /// A record failed its checks and was answered as a miss.
    Corrupt,
    /// A value was refused, as the store keeps everything and its budget is used up.
    Full {
        /// Bytes that the budget would still have to allow.
        needed: u64,
        /// The budget in bytes.
        budget: u64,
    },
    /// A step of the maintenance failed; it is tried again.
    MaintenanceFailed {
        /// What it failed with; `None` if it panicked.
        error: Option<Arc<Error>>,
    },
}

/// The observer of a store, and what it is still to be told.
#[derive(Debug, Default)]
pub(super) struct Observed {
    observer: Option<Arc<dyn Observer>>,
    any: AtomicBool,
    pending: Mutex<Vec<Event>>,
}

impl Observed {
    pub(super) fn by(observer: Option<Arc<dyn Observer>>) -> Self {
        Self { observer, ..Self::default() }
    }

    /// Keeps an event until [`tell`](Self::tell) is called.
    pub(super) fn note(&self, event: impl FnOnce() -> Event) {
        if self.observer.is_none() {
            return;
        }
        let mut pending = self.pending.lock();
        if pending.len() < PENDING_MAX {
            pending.push(event());
        }
        // Relaxed: a hint; the lock orders what it speaks of, and whoever noted an event tells
        // of it later in the same thread.
        self.any.store(true, Ordering::Relaxed);
    }

    /// Tells what was kept. The caller holds no lock of the store.
    pub(super) fn tell(&self) {
        let Some(observer) = &self.observer else { return };
        // Relaxed: see `note`.
        if !self.any.swap(false, Ordering::Relaxed) {
            return;
        }
        let events = std::mem::take(&mut *self.pending.lock());
        events.iter().for_each(|event| observer.event(event));
    }
}

/// A call that may change a store: when it is over, what came up is told.
#[derive(Debug)]
pub(super) struct Call<'a>(pub(super) &'a Store);

impl std::ops::Deref for Call<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.0
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.upkeep.observed.tell();
    }
}
