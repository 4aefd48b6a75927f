//! What another capacity or policy would do, asked of a sample while the cache is in use.
//!
//! LRU has its whole curve from one pass (`shards.rs`). Other policies have no such shortcut, but
//! a small cache can stand for a large one: if a share `R` of the keys is sampled, a cache of `R`
//! times the capacity that sees only them misses as often as the large one does. Source:
//! C. Waldspurger, T. Saemundsson, I. Ahmad, N. Park, "Cache Modeling and Optimization using
//! Miniature Simulations", ATC 2017.
//!
//! # What a cache pays
//! For a request outside of the sample, [`Sample::has`], a few instructions and no memory. With
//! 1 of 1,000 keys in the sample, a request costs a few nanoseconds on average, and the advisor
//! takes about 100 bytes for each sampled key, and as much again for each policy that it tries.
//!
//! Errors of estimates come from where `curve.rs` says. Between two capacities that are tried,
//! estimates lie on a line over the logarithm of the capacity, which no bound accounts for: on a
//! load with a cliff, such as a loop, a policy may do otherwise between them.

use super::curve::{ERRORS, Estimate, GROUPS, blur, spread};
use super::shards::{Sample, Shards, group};
use super::{Request, Simulate, Tally};
use crate::error::Result;
use crate::memory::policy::PolicyKind;

/// Smallest capacity of a miniature: what is smaller behaves unlike any large cache.
const SMALLEST: f64 = 16.0;

/// Advises a cache on its policy and capacity.
///
/// ```
/// use larder_engine::memory::PolicyKind;
/// use larder_engine::memory::simulate::{Advisor, Request};
///
/// // A cache of 10,000 entries under a load that scans 15,000 keys over and over.
/// let mut advisor = Advisor::new(0.05, 10_000, &[PolicyKind::S3Fifo])?;
/// let sample = advisor.sample();
/// for request in 0..150_000 {
///     let key = request % 15_000;
///     if sample.has(key) {
///         advisor.record(&Request::new(key)); // in a live cache: under a try-lock, or dropped
///     }
/// }
/// advisor.count(150_000);
/// assert!(advisor.at(PolicyKind::Lru, 10_000).unwrap().miss_ratio > 0.9);
/// assert!(advisor.at(PolicyKind::Lru, 20_000).unwrap().miss_ratio < 0.2, "twice as large");
/// assert!(advisor.at(PolicyKind::S3Fifo, 10_000).is_some());
/// # Ok::<(), larder_engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Advisor {
    shards: Shards,
    policies: Vec<Miniatures>,
}

/// Caches of one policy, of several sizes.
#[derive(Debug)]
struct Miniatures {
    kind: PolicyKind,
    /// The smallest first.
    trials: Vec<Trial>,
}

/// A small cache that stands for a large one.
#[derive(Debug)]
struct Trial {
    /// Of the large one.
    capacity: u64,
    cache: Box<dyn Simulate>,
    misses: [f64; GROUPS],
}

impl Advisor {
    /// Samples a share of `rate` of the keys of a cache of `capacity`, and tries `policies` at
    /// quarters, halves, doubles and quadruples of it.
    ///
    /// # Errors
    /// As [`Sample::of`].
    pub fn new(rate: f64, capacity: u64, policies: &[PolicyKind]) -> Result<Self> {
        let around = [capacity / 4, capacity / 2, capacity];
        let more = [2, 4].map(|times| capacity.saturating_mul(times));
        Self::over(rate, &[around.as_slice(), &more].concat(), policies)
    }

    /// Samples a share of `rate` of the keys, and tries `policies` at `capacities`. Those whose
    /// miniature would be smaller than 16 are left out. LRU needs no trial.
    ///
    /// # Errors
    /// As [`Sample::of`].
    pub fn over(rate: f64, capacities: &[u64], policies: &[PolicyKind]) -> Result<Self> {
        let shards = Shards::fixed_rate(rate)?;
        let mut capacities = capacities.to_vec();
        capacities.sort_unstable();
        capacities.dedup();
        let trial = |kind: PolicyKind, capacity| {
            let scaled = (capacity as f64 * rate).round();
            #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
            #[expect(clippy::cast_sign_loss, reason = "no capacity is negative")]
            (scaled >= SMALLEST).then(|| Trial {
                capacity,
                cache: kind.simulate(scaled as u64),
                misses: [0.0; GROUPS],
            })
        };
        let policies = policies.iter().filter(|&&kind| kind != PolicyKind::Lru).map(|&kind| {
            let trials = capacities.iter().filter_map(|&capacity| trial(kind, capacity)).collect();
            Miniatures { kind, trials }
        });
        Ok(Self { shards, policies: policies.collect() })
    }

    /// Which keys to [`record`](Self::record).
    #[must_use]
    pub const fn sample(&self) -> Sample {
        self.shards.sample()
    }

    /// Takes note of a request for a key of the sample.
    pub fn record(&mut self, request: &Request) {
        self.shards.record(request);
        for trial in self.policies.iter_mut().flat_map(|policy| &mut policy.trials) {
            let mut tally = Tally::default();
            trial.cache.run(std::slice::from_ref(request), &mut tally);
            trial.misses[group(request.key)] += (tally.requests - tally.hits) as f64;
        }
    }

    /// Counts requests, those of the sample among them.
    pub const fn count(&mut self, requests: u64) {
        self.shards.count(requests);
    }

    /// The sample, and the curve of LRU.
    #[must_use]
    pub const fn shards(&self) -> &Shards {
        &self.shards
    }

    /// The miss ratio that `policy` would have at `capacity`. `None` for a policy or a capacity
    /// that is not tried; LRU is known at every capacity.
    #[must_use]
    pub fn at(&self, policy: PolicyKind, capacity: u64) -> Option<Estimate> {
        if policy == PolicyKind::Lru {
            return Some(self.shards.curve().at(capacity));
        }
        let tried = self.policies.iter().find(|tried| tried.kind == policy)?;
        tried.at(capacity as f64, &self.shards)
    }

    /// Forgets what was counted, but not what the caches hold: what is counted from now on says
    /// how they do when warm, and after a change of the load.
    pub fn start_over(&mut self) {
        self.shards.start_over();
        for trial in self.policies.iter_mut().flat_map(|policy| &mut policy.trials) {
            trial.misses = [0.0; GROUPS];
        }
    }

    /// Memory in use, in bytes.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        let trials = self.policies.iter().flat_map(|policy| &policy.trials);
        self.shards.allocated_bytes()
            + trials.map(|trial| trial.cache.allocated_bytes()).sum::<usize>()
    }
}

impl Miniatures {
    fn at(&self, capacity: f64, shards: &Shards) -> Option<Estimate> {
        let (first, last) = (self.trials.first()?, self.trials.last()?);
        if shards.sampled() == 0
            || capacity < first.capacity as f64
            || capacity > last.capacity as f64
        {
            return None;
        }
        let rate = shards.sample().rate();
        let requests = shards.told() * rate;
        let read = |capacity| self.read(capacity, requests, rate);
        let (miss_ratio, _) = read(capacity);
        let blur = ERRORS * blur(capacity, rate, shards.unit());
        let (fewest, below) = read(capacity + blur);
        // Nothing is known below the smallest trial, and little changes above the largest.
        let (most, above) = if capacity - blur < first.capacity as f64 && blur > 0.0 {
            (1.0, 0.0)
        } else {
            read(capacity - blur)
        };
        // More room is not always better for a policy that is no stack algorithm.
        let (fewest, most) = (fewest.min(miss_ratio), most.max(miss_ratio));
        Some(Estimate { miss_ratio, low: fewest - below, high: most + above }.clamped())
    }

    /// Miss ratio and error, on the line between the trials around `capacity`.
    fn read(&self, capacity: f64, requests: f64, rate: f64) -> (f64, f64) {
        let at = self.trials.partition_point(|trial| (trial.capacity as f64) < capacity);
        let right = &self.trials[at.min(self.trials.len() - 1)];
        let left = &self.trials[at.saturating_sub(1)];
        let of = |trial: &Trial| spread(&trial.misses, requests, rate);
        let (from, to) = (left.capacity as f64, right.capacity as f64);
        if to <= from {
            return of(right);
        }
        let part = ((capacity / from).ln() / (to / from).ln()).clamp(0.0, 1.0);
        let ((here, error), (there, other)) = (of(left), of(right));
        (here + part * (there - here), error.max(other))
    }
}
