//! Time, from one place, so that tests can set it.
//!
//! Deadlines are absolute and survive restarts, so time is ms since 1970; within a process it
//! never goes back. Nothing orders writes by it.

use std::fmt;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::sync::{AtomicU64, Ordering};

/// A deadline that never comes.
pub const NEVER: u64 = u64::MAX;

/// The one predicate of expiry: live while `now < deadline`.
#[must_use]
#[inline]
pub const fn is_live(deadline_ms: u64, now_ms: u64) -> bool {
    now_ms < deadline_ms
}

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Milliseconds since 1970-01-01T00:00Z. Must not go back within a process.
    fn now_ms(&self) -> u64;

    /// About the same, at less cost: may lag behind by some milliseconds. For noting when
    /// something was written, not for comparing with deadlines.
    fn about_now_ms(&self) -> u64 {
        self.now_ms()
    }
}

/// The machine's clock: read once, then advanced by the monotonic one, so that setting the
/// wall clock neither revives nor kills what this process holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        since_1970_ms(ClockId::Monotonic)
    }

    fn about_now_ms(&self) -> u64 {
        since_1970_ms(ClockId::MonotonicCoarse)
    }
}

/// What a monotonic clock shows, in ms, counted from 1970.
fn since_1970_ms(clock: ClockId) -> u64 {
    /// What is to be added to a monotonic clock, in ms.
    static OFFSET_MS: OnceLock<u64> = OnceLock::new();
    let monotonic_ms = |clock| {
        let time = clock_gettime(clock);
        let (seconds, nanos) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
        seconds * 1000 + nanos / 1_000_000
    };
    let offset_ms = *OFFSET_MS.get_or_init(|| {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_1970_ms = u64::try_from(since_1970.as_millis()).unwrap_or(0);
        since_1970_ms.saturating_sub(monotonic_ms(ClockId::Monotonic))
    });
    offset_ms.saturating_add(monotonic_ms(clock))
}

/// A clock that stands still until it is told.
///
/// ```
/// use larder_engine::{Clock, ManualClock};
/// let clock = ManualClock::at(1_000);
/// clock.advance(500);
/// assert_eq!(clock.now_ms(), 1_500);
/// ```
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now_ms`.
    #[must_use]
    pub fn at(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// Lets `by_ms` pass.
    pub fn advance(&self, by_ms: u64) {
        // Relaxed: a test's clock orders nothing; threads that must agree join or lock.
        self.0.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        // Relaxed: see `advance`.
        self.0.load(Ordering::Relaxed)
    }
}
