//! The miss-ratio curve of LRU from a sample of the keys (SHARDS).
//!
//! Whether a key is in the sample is decided by a hash of it alone, so that it is there with all
//! of its requests or with none. Between two requests of a sampled key the sample then sees its
//! share `R` of the other keys, and their number divided by `R` is the distance that LRU would
//! see. Source: C. Waldspurger, N. Park, A. Garthwaite, I. Ahmad, "Efficient MRC Construction
//! with SHARDS", FAST 2015; the corrections are those of its sections 3.1 to 3.3:
//! - *Fixed rate*: the share of the keys is given, and memory grows with their number.
//! - *Fixed size*: the number of keys is given, and the rate falls as more appear: the key with
//!   the largest hash leaves, and nothing with that hash or more comes in again. A request
//!   counts as many as it stood for when it was made, which is what rescaling the histogram
//!   whenever the rate falls comes to.
//! - *Adjustment*: miss ratios are shares of all requests, not of the sampled ones, since a hot key
//!   that is in the sample by chance, or is not, moves the hits near distance 1 and not the rest.
//!
//! One thing differs from the paper: the requested key itself counts as 1, not as `1 / R`, since
//! it is certain to be in the sample. That matters for capacities of few multiples of `1 / R`.
//!
//! # Cost
//! A request outside of the sample costs a multiplication or three and a comparison; one inside
//! O(log n) for n sampled keys, about 0.3 µs; about 80 bytes a sampled key.
//!
//! Not here: what an estimate is worth (`curve.rs`), other policies (`advisor.rs`).

use std::collections::BinaryHeap;

use super::curve::{Curve, GROUPS, Histogram};
use super::recency::Recency;
use super::{Request, mix};
use crate::error::{Error, Result};

/// Which keys are in a sample, decided by nothing but the key.
///
/// Small and free of references, so that every thread of a live cache may hold its own.
///
/// ```
/// use larder_engine::memory::simulate::Sample;
/// let sample = Sample::of(0.01)?;
/// let sampled = (0..100_000).filter(|&key| sample.has(key)).count();
/// assert!((900..1_100).contains(&sampled));
/// # Ok::<(), larder_engine::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Hashes below are in the sample, of 2^32.
    below: u64,
}

const WHOLE: u64 = 1 << 32;

impl Sample {
    /// A share of `rate` of all keys.
    ///
    /// # Errors
    /// [`Error::Config`]: not above 0, or above 1, or less than one of 4 billion.
    pub fn of(rate: f64) -> Result<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
        #[expect(clippy::cast_sign_loss, reason = "checked below")]
        let below = (rate * WHOLE as f64).round() as u64;
        // Negated, so that what is no number is refused as well.
        if !(rate > 0.0 && rate <= 1.0) || below == 0 {
            return Err(Error::Config {
                option: "rate",
                value: rate.to_string(),
                accepted: "a share of the keys above 0, at most 1",
            });
        }
        Ok(Self { below })
    }

    /// Whether `key` is in it.
    #[inline]
    #[must_use]
    pub const fn has(self, key: u64) -> bool {
        (spot(key) & (WHOLE - 1)) < self.below
    }

    /// The share of the keys that is in it.
    #[must_use]
    pub fn rate(self) -> f64 {
        self.below as f64 / WHOLE as f64
    }
}

/// The hash that decides. Not that of a simulator's table, where a sample would crowd together.
#[inline]
const fn spot(key: u64) -> u64 {
    mix(key ^ 0x9E37_79B9_7F4A_7C15)
}

/// The group of a sampled key.
pub(super) const fn group(key: u64) -> usize {
    (spot(key) >> 60) as usize % GROUPS
}

/// Samples requests, and knows the miss-ratio curve of LRU.
///
/// ```
/// use larder_engine::memory::simulate::{Request, Shards};
///
/// let mut shards = Shards::fixed_size(1_000)?;
/// for round in 0..3 {
///     for key in 0..20_000 {
///         shards.request(&Request::new(key));
///     }
/// }
/// let curve = shards.curve();
/// assert!(curve.at(10_000).miss_ratio > 0.95, "a loop never hits in less than its length");
/// assert!(curve.at(25_000).miss_ratio < 0.4, "and only misses at first in more");
/// # Ok::<(), larder_engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Shards {
    sample: Sample,
    /// Most keys that may be sampled, and those that are, by their hash.
    size: Option<(usize, BinaryHeap<(u64, u64)>)>,
    recency: Recency,
    histogram: Histogram,
    /// All requests, whether sampled or not.
    requests: u64,
    sampled: u64,
}

impl Shards {
    /// Samples a share of `rate` of the keys.
    ///
    /// # Errors
    /// As [`Sample::of`].
    pub fn fixed_rate(rate: f64) -> Result<Self> {
        Ok(Self {
            sample: Sample::of(rate)?,
            size: None,
            recency: Recency::default(),
            histogram: Histogram::default(),
            requests: 0,
            sampled: 0,
        })
    }

    /// Samples up to `keys` keys. The paper finds 8,192 to be plenty.
    ///
    /// # Errors
    /// [`Error::Config`]: fewer than 16.
    pub fn fixed_size(keys: usize) -> Result<Self> {
        if keys < GROUPS {
            return Err(Error::Config {
                option: "samples",
                value: keys.to_string(),
                accepted: "16 or more",
            });
        }
        Ok(Self { size: Some((keys, BinaryHeap::new())), ..Self::fixed_rate(1.0)? })
    }

    /// Counts a request, and looks at it if its key is in the sample. Whether it is.
    #[inline]
    pub fn request(&mut self, request: &Request) -> bool {
        self.requests += 1;
        let sampled = self.sample.has(request.key);
        if sampled {
            self.record(request);
        }
        sampled
    }

    /// Looks at a request whose key [`sample`](Self::sample) has, without counting it: a live
    /// cache counts by itself and tells [`count`](Self::count).
    pub fn record(&mut self, request: &Request) {
        let Request { key, weight, .. } = *request;
        let rate = self.sample.rate();
        let above = self.recency.touch(key, weight);
        let distance = above.map(|above| weight.saturating_add(scaled(above, rate)));
        self.sampled += 1;
        self.histogram.count(distance, group(key), 1.0 / rate);
        if above.is_none()
            && let Some((most, kept)) = &mut self.size
        {
            kept.push((spot(key) & (WHOLE - 1), key));
            // Keys that share the largest hash leave together: the rate has no room between them.
            while kept.len() > *most || kept.peek().is_some_and(|last| last.0 >= self.sample.below)
            {
                let Some((hash, key)) = kept.pop() else { break };
                self.sample.below = self.sample.below.min(hash.max(1));
                self.recency.remove(key);
            }
        }
    }

    /// Counts requests that were not passed to [`request`](Self::request), sampled or not.
    pub const fn count(&mut self, requests: u64) {
        self.requests += requests;
    }

    /// What is sampled now. It becomes less only where the number of keys is fixed.
    #[must_use]
    pub const fn sample(&self) -> Sample {
        self.sample
    }

    /// All requests counted.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// Requests looked at.
    #[must_use]
    pub const fn sampled(&self) -> u64 {
        self.sampled
    }

    /// About how many different keys there are.
    #[must_use]
    pub fn keys(&self) -> u64 {
        scaled(self.recency.len() as u64, self.sample.rate())
    }

    /// About what all keys weigh together: a cache of this capacity never evicts.
    #[must_use]
    pub fn footprint(&self) -> u64 {
        scaled(self.recency.weight(), self.sample.rate())
    }

    /// Memory in use, in bytes.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        let kept = self.size.as_ref().map_or(0, |(_, kept)| kept.capacity());
        self.recency.allocated_bytes()
            + self.histogram.allocated_bytes()
            + kept * size_of::<(u64, u64)>()
    }

    /// What the requests so far say of LRU. Takes time in the number of buckets, about 1,000.
    #[must_use]
    pub fn curve(&self) -> Curve {
        self.histogram.curve(self.told(), self.sample.rate(), self.unit())
    }

    /// Forgets what was counted, but not in which order keys were used: what is counted from now
    /// on says how a warm cache does.
    pub fn start_over(&mut self) {
        self.histogram = Histogram::default();
        self.requests = 0;
        self.sampled = 0;
    }

    /// How many requests there were. Where nobody has counted, as many as those of the sample
    /// stand for.
    pub(super) fn told(&self) -> f64 {
        if self.requests == 0 { self.histogram.total() } else { self.requests as f64 }
    }

    /// What the key weighs in which an average unit of weight lies.
    pub(super) fn unit(&self) -> f64 {
        self.recency.mean_of_units()
    }
}

fn scaled(number: u64, rate: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
    #[expect(clippy::cast_sign_loss, reason = "no rate is negative")]
    let scaled = (number as f64 / rate).round() as u64;
    scaled
}
