//! How long operations take: distributions, and the recorders that fill them (feature
//! `histograms`).
//!
//! Values are kept with two significant digits, so that a quantile is off by at most 1 %. The
//! histograms are those of Gil Tene's HdrHistogram.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::disk::Timed;

/// Digits that are kept of a value.
const DIGITS: u8 = 2;
/// Recorders of each operation, so that threads rarely share one.
const STRIPES: usize = 8;
const OPERATIONS: usize = Timed::Step as usize + 1;

/// How long one operation took, each time since the store was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency(Histogram<u64>);

impl Latency {
    fn new() -> Self {
        Self(Histogram::new(DIGITS).expect("the number of digits is one that is accepted"))
    }

    /// How often.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time within which the share `q` of all was done, from 0 (the quickest) to 1 (the
    /// slowest): 0.5 for the median. Zero before the first one.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(q))
    }

    /// The slowest. Zero before the first one.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// The average. Zero before the first one.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean() / 1e9)
    }

    /// Shows how often each length of time has come since an earlier state of the same
    /// recorders; within 1 %.
    #[cfg(feature = "metrics")]
    pub(crate) fn for_each_since(
        &self,
        before: Option<&Self>,
        mut show: impl FnMut(Duration, usize),
    ) {
        for step in self.0.iter_recorded() {
            let value = step.value_iterated_to();
            let count = step.count_at_value();
            let known = before.map_or(0, |before| before.0.count_at(value));
            if let Ok(grown @ 1..) = usize::try_from(count.saturating_sub(known)) {
                show(Duration::from_nanos(value), grown);
            }
        }
    }

    fn record(&mut self, took: Duration) {
        // It grows with its values, and there is none that it could not hold.
        let _ = self.0.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    fn add(&mut self, other: &Self) {
        // As for `record`; and there are more quantiles than this to be off by one.
        let _ = self.0.add(&other.0);
    }
}

/// How long the operations of a store took. Made by [`Disk::latencies`](crate::Disk::latencies).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Latencies {
    /// Lookups that found a live value.
    pub get_hit: Latency,
    /// Lookups that did not.
    pub get_miss: Latency,
    /// Values stored, waits for the disk included.
    pub put: Latency,
    /// Removals of what may have been there.
    pub remove: Latency,
    /// Syncs of a segment, waits for others included.
    pub sync: Latency,
    /// What writers waited for room in the log: for a segment to be begun, or old ones to go.
    pub stall: Latency,
    /// Steps of the maintenance.
    pub step: Latency,
}

impl Latencies {
    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Latency)> {
        [
            ("get_hit", &self.get_hit),
            ("get_miss", &self.get_miss),
            ("put", &self.put),
            ("remove", &self.remove),
            ("sync", &self.sync),
            ("stall", &self.stall),
            ("step", &self.step),
        ]
        .into_iter()
    }
}

/// One histogram for each operation.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe([Mutex<Latency>; OPERATIONS]);

/// What threads record into.
#[derive(Debug)]
pub(crate) struct Recorders([Stripe; STRIPES]);

impl Default for Recorders {
    fn default() -> Self {
        let stripe = |_| Stripe(std::array::from_fn(|_| Mutex::new(Latency::new())));
        Self(std::array::from_fn(stripe))
    }
}

impl Recorders {
    /// Records that an operation of this thread took so long.
    #[inline]
    pub(crate) fn record(&self, what: Timed, thread: usize, took: Duration) {
        self.0[thread % STRIPES].0[what as usize].lock().record(took);
    }

    /// Adds up what all threads recorded.
    pub(crate) fn sum(&self) -> Latencies {
        let sum = |what: Timed| {
            let mut sum = Latency::new();
            self.0.iter().for_each(|stripe| sum.add(&stripe.0[what as usize].lock()));
            sum
        };
        Latencies {
            get_hit: sum(Timed::GetHit),
            get_miss: sum(Timed::GetMiss),
            put: sum(Timed::Put),
            remove: sum(Timed::Remove),
            sync: sum(Timed::Sync),
            stall: sum(Timed::Stall),
            step: sum(Timed::Step),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_recorded_is_added_up_within_a_percent() {
        let recorders = Recorders::default();
        for thread in 0..100 {
            let took = Duration::from_micros(thread as u64 + 1);
            recorders.record(Timed::Put, thread, took);
        }
        recorders.record(Timed::Stall, 3, Duration::from_secs(3600));
        let sum = recorders.sum();
        assert_eq!(sum.put.count(), 100);
        let close = |found: Duration, right: Duration| {
            let ratio = found.as_secs_f64() / right.as_secs_f64();
            assert!((0.99..1.01).contains(&ratio), "{found:?}, not {right:?}");
        };
        close(sum.put.quantile(0.5), Duration::from_micros(50));
        close(sum.put.max(), Duration::from_micros(100));
        close(sum.put.mean(), Duration::from_nanos(50_500));
        close(sum.stall.max(), Duration::from_secs(3600));
        assert_eq!(sum.get_hit.count(), 0);
        assert_eq!(sum.get_hit.max(), Duration::ZERO);
    }
}
