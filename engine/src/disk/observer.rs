//! What a store tells of what goes on in it, as it happens.
//!
//! Events come up while locks are held. They are kept for a moment, and told when the call or
//! the step of the maintenance in which they came up is over: an observer may use the store.
//! Without an observer nothing is kept.

use std::any::Any;
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

    /// Some work begins. What is returned is dropped in the same thread when the work is over,
    /// after the events that came up in it have been told; so an observer can time the work, or
    /// be in a span meanwhile.
    fn enter(&self, _work: Work) -> Option<Box<dyn Any>> {
        None
    }
}

/// Work of a store that may take its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Work {
    /// The store is being opened.
    Open,
    /// The index is built anew from the segments, which is a part of opening.
    Rebuild,
    /// A step of the maintenance.
    Maintain,
    /// [`Disk::compact`](crate::Disk::compact).
    Compact,
    /// [`Disk::purge`](crate::Disk::purge).
    Purge,
    /// [`Disk::trim`](crate::Disk::trim).
    Trim,
    /// [`Disk::clear`](crate::Engine::clear).
    Clear,
    /// [`Disk::sync`](crate::Engine::sync).
    Sync,
    /// [`Disk::close`](crate::Engine::close).
    Close,
}

impl Work {
    /// What it is called in traces and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Rebuild => "rebuild",
            Self::Maintain => "maintain",
            Self::Compact => "compact",
            Self::Purge => "purge",
            Self::Trim => "trim",
            Self::Clear => "clear",
            Self::Sync => "sync",
            Self::Close => "close",
        }
    }
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
    /// Mappings of the directory's files are not trusted: the store is open in the buffered mode
    /// ([`Access`](crate::Access)), and keeps copies of its files in memory.
    Unmapped {
        /// What was found.
        why: &'static str,
    },
    /// A process that shared the store died, and what it left was taken over.
    Adopted {
        /// Its process id.
        pid: u32,
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
        /// Whether it was compacted: what lives was to be kept, and only the dead to go.
        compacted: bool,
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

impl Event {
    /// What it is called in traces and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Recovered { .. } => "recovered",
            Self::Unmapped { .. } => "unmapped",
            Self::Adopted { .. } => "adopted",
            Self::Rolled { .. } => "rolled",
            Self::Reclaimed { .. } => "reclaimed",
            Self::Grown { .. } => "grown",
            Self::SyncFailed => "sync_failed",
            Self::Corrupt => "corrupt",
            Self::Full { .. } => "full",
            Self::MaintenanceFailed { .. } => "maintenance_failed",
        }
    }
}

/// The observers of a store, and what they are still to be told.
#[derive(Debug, Default)]
pub(super) struct Observed {
    observers: Vec<Arc<dyn Observer>>,
    any: AtomicBool,
    pending: Mutex<Vec<Event>>,
}

impl Observed {
    pub(super) fn by(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self { observers, ..Self::default() }
    }

    /// Says that some work begins; it is over when what is returned is dropped.
    pub(super) fn enter(&self, work: Work) -> Entered {
        Entered(enter(&self.observers, work))
    }

    /// Keeps an event until [`tell`](Self::tell) is called.
    pub(super) fn note(&self, event: impl FnOnce() -> Event) {
        if self.observers.is_empty() {
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
        // Relaxed: see `note`.
        if self.observers.is_empty() || !self.any.swap(false, Ordering::Relaxed) {
            return;
        }
        let events = std::mem::take(&mut *self.pending.lock());
        for event in &events {
            self.observers.iter().for_each(|observer| observer.event(event));
        }
    }
}

/// Tells observers that some work begins; the last one that was told leaves it first.
fn enter(observers: &[Arc<dyn Observer>], work: Work) -> Vec<Box<dyn Any>> {
    let mut entered: Vec<_> = observers.iter().filter_map(|o| o.enter(work)).collect();
    entered.reverse();
    entered
}

/// Work that is under way.
#[derive(Debug)]
#[must_use = "the work is over when it is dropped"]
pub(super) struct Entered(#[expect(dead_code, reason = "dropped")] Vec<Box<dyn Any>>);

impl Entered {
    /// The opening of a store that is not there yet.
    pub(super) fn opening(observers: &[Arc<dyn Observer>]) -> Self {
        Self(enter(observers, Work::Open))
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

/// A call that is work by itself.
#[derive(Debug)]
pub(super) struct Working<'a> {
    /// First, so that it is dropped first, and what came up is told in time.
    call: Call<'a>,
    _entered: Entered,
}

impl<'a> Working<'a> {
    pub(super) fn on(store: &'a Store, work: Work) -> Self {
        let entered = store.upkeep.observed.enter(work);
        Self { call: Call(store), _entered: entered }
    }
}

impl std::ops::Deref for Working<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.call
    }
}
