//! Syncing together: of those who wait for the disk at a time, one syncs for all.
//!
//! The one who leads gives the others the time to append first: as many as the last sync was for,
//! for about as long as that took. Nobody holds the lock meanwhile, so that whoever is served
//! goes on, and comes back with the next record while the next sync is under way.
//!
//! # Invariants
//! 1. What is committed is looked at before the sync begins that is to cover it: what comes later
//!    need not be on the disk.
//! 2. Whoever waits is told that its record is durable once a sync that succeeded covered what was
//!    committed when it came, and not before.
//! 3. After a sync that failed nobody is told so ever again: the system may take the pages that it
//!    lost for clean, so that the next sync succeeds without them.
//!
//! # Orderings
//! All here are Relaxed. Counts and times decide nothing but the length of a wait; what is known
//! of syncs is changed by who leads, and looked at under the lock, which is taken in between. What
//! is committed is looked at by Acquire (`committed.rs`), so that the sync covers the bytes.

use std::time::{Duration, Instant};

use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering, PoisonError, Site};

/// How long others are waited for at least, and at most, in microseconds.
const PATIENCE_US: (u64, u64) = (100, 1000);

/// Those who wait for one file to be synced.
#[derive(Debug)]
pub(crate) struct Group {
    /// What was committed before the last sync that succeeded.
    synced: AtomicU64,
    /// Whether the file was sealed by then.
    synced_sealed: AtomicBool,
    /// A sync failed: what was written since the one before may never reach the disk.
    suspect: AtomicBool,
    /// Whether somebody leads. The standard library's lock and condition: they wake all who wait
    /// at once, and not one after the other.
    led: Mutex<bool>,
    done: Condvar,
    /// How many have come to wait, and of those, how many a sync that began was for.
    came: AtomicU64,
    served: AtomicU64,
    /// How many the last sync was for, and how long it took.
    size: AtomicU64,
    took_us: AtomicU64,
}

/// Says that the current thread leads, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lead<'a> {
    group: &'a Group,
    since: Instant,
}

/// What there is to be synced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    /// A number that only grows.
    pub(crate) committed: u64,
    /// Sealing commits nothing, but changes the file once more.
    pub(crate) is_sealed: bool,
}

/// How a wait for the disk ended.
#[derive(Debug)]
pub(crate) enum Synced<E> {
    /// All was on the disk already, or somebody else's sync covered it.
    Already,
    /// This one's own did; what was known to be there before, and now.
    Now(u64, u64),
    /// A sync failed earlier.
    Lost,
    /// This one's own failed.
    Failed(E),
}

impl Group {
    /// Of a file of which so much is known to be on the disk.
    pub(crate) fn new(synced: u64) -> Self {
        Self {
            synced: AtomicU64::new(synced),
            synced_sealed: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
            led: Mutex::new(false),
            done: Condvar::new(),
            came: AtomicU64::new(0),
            served: AtomicU64::new(0),
            size: AtomicU64::new(0),
            took_us: AtomicU64::new(0),
        }
    }

    /// What is known to be on the disk.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Relaxed)
    }

    /// Notes whether a sync came after the file was sealed. For who has it to itself.
    pub(crate) fn set_synced_sealed(&self, is_synced: bool) {
        self.synced_sealed.store(is_synced, Ordering::Relaxed);
    }

    /// Waits until all that `look` sees now is on the disk, by this one's own `sync` or by
    /// another's. `note` is told, before anybody else is, what a sync covered.
    pub(crate) fn sync<E>(
        &self,
        look: impl Fn() -> Sight,
        prepare: impl FnOnce(&mut Lead<'_>),
        sync: impl FnOnce() -> Result<(), E>,
        note: impl FnOnce(u64),
    ) -> Synced<E> {
        let needed = look().committed;
        let known = || {
            if self.suspect.load(Ordering::Relaxed) {
                return Some(Synced::Lost);
            }
            let is_covered = self.synced() >= needed || Site::GroupCover.is_skipped();
            let is_all = !look().is_sealed || self.synced_sealed.load(Ordering::Relaxed);
            (is_covered && is_all).then_some(Synced::Already)
        };
        let mut lead = match self.lead(known) {
            Ok(lead) => lead,
            Err(known) => return known,
        };
        prepare(&mut lead);
        // Invariant 1.
        let mut seen = look();
        let before = self.synced();
        if let Err(error) = sync() {
            // Invariant 3.
            if !Site::GroupFailure.is_skipped() {
                self.suspect.store(true, Ordering::Relaxed);
            }
            return Synced::Failed(error);
        }
        if Site::GroupLook.is_skipped() {
            seen = look();
        }
        self.synced.store(seen.committed, Ordering::Relaxed);
        self.synced_sealed.store(seen.is_sealed, Ordering::Relaxed);
        note(seen.committed);
        lead.end();
        Synced::Now(before, seen.committed)
    }

    /// Notes that somebody has appended, and will wait.
    pub(crate) fn join(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until nobody leads, and leads, or until there is something to `tell`.
    fn lead<T>(&self, tell: impl Fn() -> Option<T>) -> Result<Lead<'_>, T> {
        let mut led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(told) = tell() {
                return Err(told);
            }
            if !*led {
                *led = true;
                return Ok(Lead { group: self, since: Instant::now() });
            }
            led = self.done.wait(led).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Lead<'_> {
    /// Gives those who are `coming`, and those who came before, the time to append.
    pub(crate) fn gather(&mut self, coming: &AtomicU64) {
        let group = self.group;
        let (least, most) = PATIENCE_US;
        let patience_us = group.took_us.load(Ordering::Relaxed).clamp(least, most);
        let patience = Duration::from_micros(patience_us);
        let size = group.size.load(Ordering::Relaxed);
        let waiting = || {
            let served = group.served.load(Ordering::Relaxed);
            group.came.load(Ordering::Relaxed).wrapping_sub(served)
        };
        while (coming.load(Ordering::Relaxed) > 0 || waiting() < size)
            && self.since.elapsed() < patience
        {
            std::thread::yield_now();
        }
        self.since = Instant::now();
        group.size.store(waiting(), Ordering::Relaxed);
        group.served.store(group.came.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Notes how long the sync took.
    pub(crate) fn end(self) {
        let took_us = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.group.took_us.store(took_us, Ordering::Relaxed);
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        *self.group.led.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.group.done.notify_all();
    }
}
