//! Whether the store can be relied on: counting failures, pausing, trying again.
//!
//! Reads and writes have a [`Breaker`] each, because a full disk still reads. A breaker lets
//! everything through until `limit` operations have failed in a row. Then nothing is tried for
//! a pause; after it a single operation is let through as a probe. If it fails, the pause
//! doubles, up to a bound; if it succeeds, all is well. Time is the cache's clock.

use std::time::Duration;

use larder_engine::Health;

use crate::sync::{AtomicU32, Mutex, Ordering};

/// When to stop trying a store that fails, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Patience {
    /// Failures in a row that take it offline.
    pub(crate) limit: u32,
    /// The first pause.
    pub(crate) first: Duration,
    /// The longest pause.
    pub(crate) longest: Duration,
    /// The share of a pause, from 0 to 1, that may be left out by chance: so that many who lost the
    /// same store do not all come back to it at once.
    pub(crate) jitter: f64,
}

impl Patience {
    /// Until when to wait, for a pause of this length that begins now.
    fn until(&self, now_ms: u64, len_ms: u64) -> u64 {
        if self.jitter <= 0.0 {
            return now_ms.saturating_add(len_ms);
        }
        let kept = 1.0 - self.jitter.min(1.0) * fastrand::f64();
        let len = Duration::from_millis(len_ms).mul_f64(kept);
        now_ms.saturating_add(u64::try_from(len.as_millis()).unwrap_or(len_ms))
    }
}

/// What a breaker does with what comes.
///
/// ```text
///   closed ──failures in a row──► open ──pause over──► half open ──success──► closed
///                                   ▲                      │
///                                   └───failure: the pause doubles
/// ```
///
/// Source: Nygard, Release It! (2007), "Circuit Breaker".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Circuit {
    /// Everything is let through.
    #[default]
    Closed,
    /// Nothing is.
    Open,
    /// One operation was let through, to find out.
    HalfOpen,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            limit: 5,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(60),
            jitter: 0.1,
        }
    }
}

/// Counts the failures of one kind of operation.
#[derive(Debug)]
pub(crate) struct Breaker {
    patience: Patience,
    /// Failures in a row; mirrors nothing else, so Relaxed will do.
    failures: AtomicU32,
    pause: Mutex<Pause>,
}

#[derive(Debug, Default)]
struct Pause {
    retry_at_ms: u64,
    len_ms: u64,
    /// Whether a probe is out.
    probing: bool,
}

/// Leave to try an operation; its outcome goes to [`Breaker::ok`] or [`Breaker::failed`].
#[derive(Debug)]
pub(crate) struct Permit {
    probe: bool,
}

impl Permit {
    /// Whether it is the one that finds out whether a pause is over.
    pub(crate) const fn is_probe(&self) -> bool {
        self.probe
    }
}

impl Breaker {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, failures: AtomicU32::new(0), pause: Mutex::default() }
    }

    /// Leave to try, unless the pause is on. After it, only the first to ask gets it.
    #[inline]
    pub(crate) fn ask(&self, now_ms: impl FnOnce() -> u64) -> Option<Permit> {
        if self.failures.load(Ordering::Relaxed) < self.patience.limit {
            return Some(Permit { probe: false });
        }
        let mut pause = self.pause.lock();
        let now_ms = now_ms();
        if now_ms < pause.retry_at_ms {
            return None;
        }
        // Should this probe never report, the next one goes out after another pause.
        pause.retry_at_ms = now_ms.saturating_add(pause.len_ms);
        pause.probing = true;
        Some(Permit { probe: true })
    }

    /// Whether leave would be given.
    #[inline]
    pub(crate) fn is_ready(&self, now_ms: impl FnOnce() -> u64) -> bool {
        self.failures.load(Ordering::Relaxed) < self.patience.limit
            || now_ms() >= self.pause.lock().retry_at_ms
    }

    /// Leave for one who does not care.
    pub(crate) const fn insist() -> Permit {
        Permit { probe: false }
    }

    /// The operation succeeded. Whether that changed anything.
    #[inline]
    pub(crate) fn ok(&self, _: Permit) -> bool {
        let changed = self.failures.load(Ordering::Relaxed) != 0;
        if changed {
            *self.pause.lock() = Pause::default();
            self.failures.store(0, Ordering::Relaxed);
        }
        changed
    }

    /// The operation succeeded, which says little about others of its kind: failures in a row stay
    /// so. If it was the probe, the next one to ask is another.
    pub(crate) fn unproven(&self, permit: Permit, now_ms: u64) {
        if permit.probe {
            let mut pause = self.pause.lock();
            pause.retry_at_ms = now_ms;
            pause.probing = false;
        }
    }

    /// The operation failed.
    pub(crate) fn failed(&self, permit: Permit, now_ms: u64) {
        let mut pause = self.pause.lock();
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        self.failures.store(failures, Ordering::Relaxed);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if permit.probe {
            pause.probing = false;
            pause.len_ms = pause.len_ms.saturating_mul(2).min(ms(self.patience.longest));
        } else if failures == self.patience.limit {
            pause.len_ms = ms(self.patience.first);
        } else {
            return;
        }
        pause.retry_at_ms = self.patience.until(now_ms, pause.len_ms);
    }

    /// The operation failed in a way that others of its kind will, too: no more are tried before
    /// the pause.
    pub(crate) fn failed_for_good(&self, permit: Permit, now_ms: u64) {
        let last = self.patience.limit.saturating_sub(1);
        if !permit.probe {
            // Relaxed: as everywhere; who counts at the same time finds it open.
            self.failures.fetch_max(last, Ordering::Relaxed);
        }
        self.failed(permit, now_ms);
    }

    pub(crate) fn circuit(&self) -> Circuit {
        if self.failures.load(Ordering::Relaxed) < self.patience.limit {
            return Circuit::Closed;
        }
        if self.pause.lock().probing { Circuit::HalfOpen } else { Circuit::Open }
    }

    pub(crate) fn health(&self) -> Health {
        match self.failures.load(Ordering::Relaxed) {
            0 => Health::Healthy,
            failures if failures < self.patience.limit => Health::Degraded,
            _ => Health::Offline,
        }
    }
}

/// One word for both: offline when nothing comes from the store any more.
pub(crate) fn overall(reads: Health, writes: Health) -> Health {
    match (reads, writes) {
        (Health::Healthy, Health::Healthy) => Health::Healthy,
        (Health::Offline, _) | (Health::Degraded, Health::Offline) => Health::Offline,
        _ => Health::Degraded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(Patience {
            limit: 2,
            first: Duration::from_millis(100),
            longest: Duration::from_millis(300),
            jitter: 0.0,
        })
    }

    #[test]
    fn pauses_double_up_to_the_bound_and_one_success_ends_them() {
        let breaker = breaker();
        let mut now = 0;
        for _ in 0..2 {
            let permit = breaker.ask(|| now).unwrap();
            breaker.failed(permit, now);
        }
        assert_eq!(breaker.health(), Health::Offline);
        for pause in [100, 200, 300, 300] {
            assert!(breaker.ask(|| now + pause - 1).is_none());
            now += pause;
            let probe = breaker.ask(|| now).unwrap();
            assert!(breaker.ask(|| now).is_none(), "one probe at a time");
            breaker.failed(probe, now);
        }
        now += 300;
        let probe = breaker.ask(|| now).unwrap();
        assert!(breaker.ok(probe));
        assert_eq!(breaker.health(), Health::Healthy);
        assert!(breaker.ask(|| now).is_some());
    }

    #[test]
    fn what_proves_nothing_ends_no_pause_and_takes_no_probe() {
        let breaker = breaker();
        for _ in 0..2 {
            let permit = breaker.ask(|| 0).unwrap();
            breaker.failed(permit, 0);
            if let Some(permit) = breaker.ask(|| 0) {
                breaker.unproven(permit, 0);
            }
        }
        assert!(breaker.ask(|| 99).is_none());
        let probe = breaker.ask(|| 100).unwrap();
        breaker.unproven(probe, 100);
        assert_eq!(breaker.health(), Health::Offline);
        let probe = breaker.ask(|| 100).unwrap();
        breaker.failed(probe, 100);
        assert!(breaker.ask(|| 299).is_none(), "the pause has doubled");
    }

    #[test]
    fn pauses_are_shorter_by_chance_and_never_longer() {
        let patience = Patience { jitter: 0.25, ..breaker().patience };
        let until: Vec<u64> = (0..1_000).map(|_| patience.until(1_000, 400)).collect();
        assert!(until.iter().all(|until| (1_300..=1_400).contains(until)));
        assert!(
            until.iter().any(|until| *until < 1_330) && until.iter().any(|until| *until > 1_370)
        );
    }

    #[test]
    fn a_failure_for_good_opens_the_circuit_at_once() {
        let breaker = Breaker::new(Patience { limit: 5, ..breaker().patience });
        assert_eq!(breaker.circuit(), Circuit::Closed);
        let permit = breaker.ask(|| 0).unwrap();
        breaker.failed_for_good(permit, 0);
        assert_eq!(breaker.circuit(), Circuit::Open);
        assert!(breaker.ask(|| 99).is_none());
        let probe = breaker.ask(|| 100).unwrap();
        assert_eq!(breaker.circuit(), Circuit::HalfOpen);
        breaker.failed_for_good(probe, 100);
        assert_eq!(breaker.circuit(), Circuit::Open);
        assert!(breaker.ask(|| 299).is_none() && breaker.ask(|| 300).is_some());
    }

    #[test]
    fn operations_that_were_under_way_do_not_lengthen_the_pause() {
        let breaker = breaker();
        let permits: Vec<_> = (0..10).map(|_| breaker.ask(|| 0).unwrap()).collect();
        for permit in permits {
            breaker.failed(permit, 0);
        }
        assert!(breaker.ask(|| 99).is_none());
        assert!(breaker.ask(|| 100).is_some());
    }

    #[test]
    fn a_success_forgets_single_failures() {
        let breaker = breaker();
        for _ in 0..10 {
            let permit = breaker.ask(|| 0).unwrap();
            breaker.failed(permit, 0);
            assert_eq!(breaker.health(), Health::Degraded);
            let permit = breaker.ask(|| 0).unwrap();
            assert!(breaker.ok(permit));
        }
        assert_eq!(breaker.health(), Health::Healthy);
    }
}
