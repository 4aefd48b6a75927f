//! Syncing together: of those who wait for the disk at a time, one syncs for all.
//!
//! The one who leads gives the others the time to append first: as many as the last sync was for,
//! for about as long as that took. Nobody holds the lock meanwhile, so that whoever is served
//! goes on, and comes back with the next record while the next sync is under way.
//!
//! # Orderings
//! All are Relaxed: counts and times, by which nothing but the length of a wait is decided. What
//! the leader found out is seen by those who waited, as the lock is taken in between.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering};

/// How long others are waited for at least, and at most, in microseconds.
const PATIENCE_US: (u64, u64) = (100, 1000);

/// Those who wait for one file to be synced.
#[derive(Debug, Default)]
pub(crate) struct Group {
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

impl Group {
    /// Notes that somebody has appended, and will wait.
    pub(crate) fn join(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until nobody leads, and leads, or until there is something to `tell`.
    pub(crate) fn lead<T>(&self, tell: impl Fn() -> Option<T>) -> Result<Lead<'_>, T> {
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
