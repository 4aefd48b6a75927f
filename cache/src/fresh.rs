//! How long values are as good as new, and for how long after that they still serve.
//!
//! ```text
//!   written        early          fresh until                     gone
//!      |── fresh ────|── due ────────|── stale ──|── last resort ──|
//!                     one caller      one caller   all who ask wait for a
//!                     loads anew, the others       load, and get the old
//!                     get what is there            value if that fails
//! ```
//!
//! Both tiers know the last of these moments only, as the entry's deadline. The others follow from
//! it, since the time that a value may serve as stale is the same for all of a cache.
//!
//! # Sources
//! Early, at random: A. Vattani, F. Chierichetti, K. Lowenstein, Optimal Probabilistic Cache Stampede
//! Prevention, VLDB 2015. Stale while revalidated, stale if there is an error: RFC 5861.

use std::time::Duration;

use larder_engine::clock::NEVER;

use crate::entry::Life;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// What a value is to those who would load it otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Fresh,
    /// Fresh, but who asks is to load it anew, if nobody does.
    Due,
    /// Who asks is to load it anew, if nobody does.
    Stale,
    /// Only where it cannot be loaded.
    LastResort,
}

impl State {
    /// Whether it is within its time.
    pub(crate) const fn is_fresh(self) -> bool {
        matches!(self, Self::Fresh | Self::Due)
    }
}

/// How a cache treats values near and past their time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Freshness {
    /// How long a value serves after its time while one caller loads it anew.
    pub(crate) stale_ms: u64,
    /// How long it serves after its time where it cannot be loaded.
    pub(crate) last_resort_ms: u64,
    /// How much earlier than its time one caller loads it anew.
    pub(crate) ahead_ms: u64,
    /// How eagerly that is done by chance; 0 for never.
    pub(crate) beta: f64,
    /// The share of its time that a value may lose by chance.
    pub(crate) jitter: f64,
}

impl Freshness {
    /// How long a value is kept after its time.
    #[inline]
    pub(crate) fn grace_ms(&self) -> u64 {
        self.stale_ms.max(self.last_resort_ms)
    }

    /// Whether a value is fresh until it is gone, and never loaded before.
    pub(crate) fn is_simple(&self) -> bool {
        self.grace_ms() == 0 && self.ahead_ms == 0 && self.beta == 0.0
    }

    /// When a value is to go that is to be fresh until `deadline_ms`.
    pub(crate) fn kept_until(&self, now_ms: u64, deadline_ms: u64) -> u64 {
        if deadline_ms == NEVER {
            return NEVER;
        }
        // As seconds, so that the product is exact enough for any time to live.
        let lives = Duration::from_millis(deadline_ms.saturating_sub(now_ms));
        let loses =
            if self.jitter > 0.0 { lives.mul_f64(self.jitter * chance()) } else { Duration::ZERO };
        let loses_ms = u64::try_from(loses.as_millis()).unwrap_or(0);
        // What is expired from the start is never served.
        if deadline_ms <= now_ms {
            return deadline_ms;
        }
        (deadline_ms - loses_ms).saturating_add(self.grace_ms()).min(NEVER - 1)
    }

    /// Until when a value is fresh that is kept until `expires_at_ms`.
    #[inline]
    pub(crate) fn fresh_until(&self, expires_at_ms: u64) -> u64 {
        if expires_at_ms == NEVER { NEVER } else { expires_at_ms.saturating_sub(self.grace_ms()) }
    }

    /// What a live value is now. `usual_ms` is what loading takes where it is not known for this one.
    pub(crate) fn state(&self, life: &Life, now_ms: u64, usual_ms: u64) -> State {
        let fresh_until = self.fresh_until(life.expires_at_ms);
        if fresh_until == NEVER {
            return State::Fresh;
        }
        if now_ms >= fresh_until {
            let is_stale = now_ms < fresh_until.saturating_add(self.stale_ms);
            return if is_stale { State::Stale } else { State::LastResort };
        }
        if fresh_until - now_ms <= self.ahead_ms {
            return State::Due;
        }
        if self.beta > 0.0 {
            let took_ms = if life.load_ms == 0 { usual_ms } else { life.load_ms.into() };
            // 1 - chance: of (0, 1], so that the logarithm is a number.
            #[expect(clippy::cast_precision_loss, reason = "a draw by chance")]
            let early_ms = took_ms as f64 * self.beta * -(1.0 - chance()).ln();
            #[expect(clippy::cast_precision_loss, reason = "a draw by chance")]
            if early_ms >= (fresh_until - now_ms) as f64 {
                return State::Due;
            }
        }
        State::Fresh
    }
}

/// The same, of which some can be changed while the cache is in use. How long values are kept after
/// their time cannot: what is there was stored with it.
#[derive(Debug)]
pub(crate) struct Live {
    stale_ms: u64,
    last_resort_ms: u64,
    /// Whether a value is fresh until it is gone, and never loaded before.
    simple: AtomicBool,
    ttl_ms: AtomicU64,
    ahead_ms: AtomicU64,
    /// The bits of numbers.
    beta: AtomicU64,
    jitter: AtomicU64,
}

// All Relaxed: each is a number by itself.
impl Live {
    pub(crate) fn new(freshness: Freshness, ttl: Option<Duration>) -> Self {
        let live = Self {
            stale_ms: freshness.stale_ms,
            last_resort_ms: freshness.last_resort_ms,
            simple: AtomicBool::new(freshness.is_simple()),
            ttl_ms: AtomicU64::new(NEVER),
            ahead_ms: AtomicU64::new(freshness.ahead_ms),
            beta: AtomicU64::new(freshness.beta.to_bits()),
            jitter: AtomicU64::new(freshness.jitter.to_bits()),
        };
        live.set_ttl(ttl);
        live
    }

    /// As it is now.
    pub(crate) fn now(&self) -> Freshness {
        Freshness {
            stale_ms: self.stale_ms,
            last_resort_ms: self.last_resort_ms,
            ahead_ms: self.ahead_ms.load(Ordering::Relaxed),
            beta: f64::from_bits(self.beta.load(Ordering::Relaxed)),
            jitter: f64::from_bits(self.jitter.load(Ordering::Relaxed)),
        }
    }

    /// Changes what can be changed.
    #[cfg(feature = "config")]
    pub(crate) fn set(&self, then: Freshness) {
        self.ahead_ms.store(then.ahead_ms, Ordering::Relaxed);
        self.beta.store(then.beta.to_bits(), Ordering::Relaxed);
        self.jitter.store(then.jitter.to_bits(), Ordering::Relaxed);
        self.simple.store(self.now().is_simple(), Ordering::Relaxed);
    }

    /// How long values live of which nothing is said.
    pub(crate) fn ttl(&self) -> Option<Duration> {
        match self.ttl_ms.load(Ordering::Relaxed) {
            NEVER => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }

    pub(crate) fn set_ttl(&self, ttl: Option<Duration>) {
        let ms = ttl.map_or(NEVER, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(NEVER));
        self.ttl_ms.store(ms, Ordering::Relaxed);
    }

    /// See [`Freshness::grace_ms`].
    #[inline]
    pub(crate) fn grace_ms(&self) -> u64 {
        self.stale_ms.max(self.last_resort_ms)
    }

    /// See [`Freshness::is_simple`].
    #[inline]
    pub(crate) fn is_simple(&self) -> bool {
        self.simple.load(Ordering::Relaxed)
    }

    /// See [`Freshness::fresh_until`].
    #[inline]
    pub(crate) fn fresh_until(&self, expires_at_ms: u64) -> u64 {
        if expires_at_ms == NEVER { NEVER } else { expires_at_ms.saturating_sub(self.grace_ms()) }
    }

    /// See [`Freshness::kept_until`].
    pub(crate) fn kept_until(&self, now_ms: u64, deadline_ms: u64) -> u64 {
        self.now().kept_until(now_ms, deadline_ms)
    }

    /// See [`Freshness::state`].
    pub(crate) fn state(&self, life: &Life, now_ms: u64, usual_ms: u64) -> State {
        self.now().state(life, now_ms, usual_ms)
    }
}

/// A number from 0 to 1, 1 excluded.
fn chance() -> f64 {
    fastrand::f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(expires_at_ms: u64) -> Life {
        Life { expires_at_ms, ..Life::default() }
    }

    #[test]
    fn a_value_passes_through_its_states_in_order() {
        let freshness =
            Freshness { stale_ms: 100, last_resort_ms: 300, ahead_ms: 50, ..Freshness::default() };
        let kept_until = freshness.kept_until(0, 1_000);
        assert_eq!(kept_until, 1_300);
        let state = |now_ms| freshness.state(&life(kept_until), now_ms, 0);
        assert_eq!([0, 949].map(state), [State::Fresh; 2]);
        assert_eq!([950, 999].map(state), [State::Due; 2]);
        assert_eq!([1_000, 1_099].map(state), [State::Stale; 2]);
        assert_eq!([1_100, 1_299].map(state), [State::LastResort; 2]);
        assert_eq!(freshness.state(&life(NEVER), u64::MAX - 1, 0), State::Fresh);
    }

    #[test]
    fn what_is_expired_from_the_start_gets_no_grace() {
        let freshness = Freshness { stale_ms: 100, ..Freshness::default() };
        assert_eq!(freshness.kept_until(1_000, 1_000), 1_000);
        assert_eq!(freshness.kept_until(1_000, 0), 0);
        assert_eq!(freshness.kept_until(1_000, NEVER), NEVER);
    }

    #[test]
    fn jitter_takes_up_to_its_share_and_never_adds() {
        let freshness = Freshness { jitter: 0.25, ..Freshness::default() };
        let drawn: Vec<u64> = (0..10_000).map(|_| freshness.kept_until(1_000, 2_000)).collect();
        assert!(drawn.iter().all(|ms| (1_750..=2_000).contains(ms)));
        // 10,000 draws that all keep to one half would be a chance of 2^-10,000.
        assert!(drawn.iter().any(|ms| *ms < 1_875) && drawn.iter().any(|ms| *ms > 1_875));
    }

    #[test]
    fn early_loads_come_the_sooner_the_longer_they_take() {
        let freshness = Freshness { beta: 1.0, ..Freshness::default() };
        let due = |load_ms: u32, left_ms: u64| {
            let life = Life { expires_at_ms: 100_000, load_ms, ..Life::default() };
            let draw = |_: &i32| freshness.state(&life, 100_000 - left_ms, 0) == State::Due;
            (0..10_000).filter(draw).count()
        };
        // The chance is exp(-left / took): of 10,000 draws 3,679 ± 5 deviations of 48.
        assert!((3_400..3_960).contains(&due(1_000, 1_000)));
        assert_eq!(due(10, 1_000), 0, "a chance of e^-100");
        assert!(due(1_000, 100) > 8_800);
        let never = Freshness::default();
        let life = Life { expires_at_ms: 100, load_ms: 1_000, ..Life::default() };
        assert_eq!(never.state(&life, 99, 1_000), State::Fresh);
    }
}
