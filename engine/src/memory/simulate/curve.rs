//! Miss-ratio curves from samples: how often a distance was seen, and what is known of it.
//!
//! # Where the error comes from
//! Sampling keys at rate `R` makes two errors, and the bound of [`Curve::at`] covers both.
//! - **Which keys are in the sample.** Keys are sampled whole, with all of their requests. The
//!   sample is dealt to 16 groups by other bits of the hash; each group is a sample of its own,
//!   and the spread of what they say gives the standard error of what they say together.
//! - **How far a distance is off.** Of `C` keys between two requests, the sample has a binomial
//!   number, so that a distance of `C` is known up to a standard deviation of `√(C (1 − R) / R)`
//!   (with weights, times the root of the weight of the key that an average unit lies in). The
//!   curve is therefore read at both ends of that interval, too.
//!
//! Both are taken three times: about 99 % for each (15 degrees of freedom), and more together,
//! since they rarely meet.
//!
//! - **How wide buckets are.** Distances are counted in buckets 3 % wide; the bound takes in all of
//!   the bucket that a capacity lies in.

/// Groups that the sample is dealt to.
pub(super) const GROUPS: usize = 16;
/// Buckets for each power of two, as a power of two.
const SUB_BITS: u32 = 5;
const SUB: u64 = 1 << SUB_BITS;
/// How many standard errors the bound has room for.
pub(super) const ERRORS: f64 = 3.0;

/// A miss ratio, and between what it lies with about 99 % certainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The most likely miss ratio, from 0 to 1.
    pub miss_ratio: f64,
    /// At least this.
    pub low: f64,
    /// At most this.
    pub high: f64,
}

/// Sampled distances by their size, each weighing as many requests as it stands for.
///
/// Distances below 64 are told apart; above, buckets are 3 % wide. 128 bytes a bucket, and
/// about 1,000 buckets for distances up to a billion.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    buckets: Vec<[f64; GROUPS]>,
    /// First requests for a key: their distance is infinite.
    first: [f64; GROUPS],
}

impl Histogram {
    /// Counts a request at `distance`, `None` for a first one, that stands for `requests`.
    pub(super) fn count(&mut self, distance: Option<u64>, group: usize, requests: f64) {
        let Some(distance) = distance else {
            self.first[group] += requests;
            return;
        };
        let at = bucket(distance);
        if at >= self.buckets.len() {
            self.buckets.resize(at + 1, [0.0; GROUPS]);
        }
        self.buckets[at][group] += requests;
    }

    /// All requests that the sampled ones stand for.
    pub(super) fn total(&self) -> f64 {
        self.buckets.iter().chain([&self.first]).flatten().sum()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<[f64; GROUPS]>()
    }

    /// The curve over `requests` in all, of which a share of `rate` was sampled at the end.
    pub(super) fn curve(&self, requests: f64, rate: f64, unit: f64) -> Curve {
        let mut misses = vec![self.first; self.buckets.len() + 1];
        for (at, counts) in self.buckets.iter().enumerate().rev() {
            for group in 0..GROUPS {
                misses[at][group] = misses[at + 1][group] + counts[group];
            }
        }
        Curve { misses, requests, rate, unit }
    }
}

/// The bucket of a distance.
fn bucket(distance: u64) -> usize {
    let shift = (u64::BITS - distance.leading_zeros()).saturating_sub(SUB_BITS + 1);
    // At most 64 × 32, whatever the distance.
    usize::try_from(u64::from(shift) * SUB + (distance >> shift)).unwrap_or(usize::MAX)
}

/// The smallest distance in a bucket.
fn smallest(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    let shift = (bucket / SUB).saturating_sub(1);
    let mantissa = (bucket - shift * SUB) as f64;
    mantissa * (shift as f64).exp2()
}

/// The miss ratio of LRU at every capacity.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Requests, by group, whose distance lies in this bucket or a later one.
    misses: Vec<[f64; GROUPS]>,
    requests: f64,
    rate: f64,
    /// Weight of the key that an average unit lies in.
    unit: f64,
}

impl Curve {
    /// The miss ratio at `capacity`. Everything from 0 to 1 if nothing was sampled. O(1).
    #[must_use]
    pub fn at(&self, capacity: u64) -> Estimate {
        if self.requests <= 0.0 || self.misses[0].iter().sum::<f64>() <= 0.0 {
            return Estimate { miss_ratio: 1.0, low: 0.0, high: 1.0 };
        }
        let capacity = capacity as f64;
        let blur = ERRORS * blur(capacity, self.rate, self.unit);
        let (miss_ratio, _) = self.read(capacity, |part| part);
        // All of a bucket hits, or all of it misses unless the capacity is its end.
        let (fewest, below) = self.read(capacity + blur, |_| 0.0);
        let (most, above) = self.read((capacity - blur).max(0.0), f64::ceil);
        Estimate { miss_ratio, low: fewest - below, high: most + above }.clamped()
    }

    /// Capacities at which the curve bends, the smallest first, as far as something changes.
    pub fn capacities(&self) -> impl Iterator<Item = u64> {
        // The distance is a whole number below 2^64.
        #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
        #[expect(clippy::cast_sign_loss, reason = "no distance is negative")]
        (1..=self.misses.len()).map(|at| smallest(at) as u64 - 1)
    }

    /// Miss ratio, and the error of that by the spread of the groups; `round` is asked which part
    /// of the bucket that the capacity lies in misses.
    fn read(&self, capacity: f64, round: impl Fn(f64) -> f64) -> (f64, f64) {
        #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
        #[expect(clippy::cast_sign_loss, reason = "no capacity is negative")]
        let at = bucket(capacity as u64);
        let last = self.misses.len() - 1;
        if at >= last {
            return spread(&self.misses[last], self.requests, self.rate);
        }
        // Distances are taken to be spread evenly over their bucket; those above the capacity miss.
        let (from, to) = (smallest(at), smallest(at + 1));
        let part = round(((to - 1.0 - capacity) / (to - from)).clamp(0.0, 1.0));
        let (here, beyond) = (&self.misses[at], &self.misses[at + 1]);
        let misses =
            std::array::from_fn(|group| beyond[group] + part * (here[group] - beyond[group]));
        spread(&misses, self.requests, self.rate)
    }
}

/// How far a distance of `capacity` may be off, as a standard deviation.
pub(super) fn blur(capacity: f64, rate: f64, unit: f64) -> f64 {
    (capacity * unit * (1.0 - rate) / rate).max(0.0).sqrt()
}

/// The miss ratio of all groups together, and the error that their spread tells.
pub(super) fn spread(misses: &[f64; GROUPS], requests: f64, rate: f64) -> (f64, f64) {
    let groups = GROUPS as f64;
    let missed: f64 = misses.iter().sum();
    let squares: f64 = misses.iter().map(|misses| (misses - missed / groups).powi(2)).sum();
    // A sample of everything has no error; the spread of its groups says nothing then.
    let error = (squares / (groups - 1.0) * groups * (1.0 - rate).max(0.0)).sqrt();
    (missed / requests, ERRORS * error / requests)
}

impl Estimate {
    pub(super) fn clamped(self) -> Self {
        let miss_ratio = self.miss_ratio.clamp(0.0, 1.0);
        Self {
            miss_ratio,
            low: self.low.clamp(0.0, miss_ratio),
            high: self.high.clamp(miss_ratio, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_begin_where_they_say() {
        let mut before = None;
        for distance in (0..5000).chain((13..64).map(|bit| 1 << bit)).chain([u64::MAX]) {
            let at = bucket(distance);
            assert!(smallest(at) <= distance as f64 && distance as f64 <= smallest(at + 1));
            assert!(before <= Some(at), "{distance}");
            assert!(distance >= 64 || Some(at) != before, "{distance} shares a bucket");
            before = Some(at);
        }
        assert!(bucket(u64::MAX) < 2_000);
    }

    #[test]
    fn a_whole_sample_has_no_error() {
        let mut histogram = Histogram::default();
        histogram.count(None, 0, 1.0);
        for distance in [3, 1, 3] {
            histogram.count(Some(distance), 1, 1.0);
        }
        let curve = histogram.curve(4.0, 1.0, 1.0);
        for (capacity, misses) in [(0, 4.0), (1, 3.0), (2, 3.0), (3, 1.0), (4, 1.0), (1 << 40, 1.0)]
        {
            let ratio = misses / 4.0;
            let exact = Estimate { miss_ratio: ratio, low: ratio, high: ratio };
            assert_eq!(curve.at(capacity), exact, "{capacity}");
        }
        let nothing = Histogram::default().curve(0.0, 0.1, 1.0).at(5);
        assert_eq!((nothing.low, nothing.high), (0.0, 1.0));
    }
}
