//! What more memory, or another policy, would do: a sample of the keys, followed through small
//! simulated caches while the real one is in use.
//!
//! # What a get pays
//! A hash of its key, and a comparison. For a key of the sample, the simulated caches, under a lock
//! that nobody waits for: a get that finds it taken is left out, and so is its share of the others.

use std::fmt;

use larder_engine::Error as EngineError;
use larder_engine::memory::simulate::{Advisor, Estimate, Request, Sample};
use larder_engine::memory::{Capacity, PolicyKind};
use larder_format::KeyHasher;

use crate::error::{Error, Result};
use crate::stats::Counter;
use crate::sync::Mutex;

/// Fewest entries of a simulated cache: a smaller one behaves unlike any large cache.
const ENTRIES_MIN: u64 = 16;

/// What the memory of a cache would do if it were larger or smaller, or had another policy. See
/// [`Cache::advice`](crate::Cache::advice).
///
/// Shown, it is a table for people.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Advice {
    /// The policy that memory has.
    pub policy: PolicyKind,
    /// What it may hold, in bytes or items, as it was set up.
    pub capacity: u64,
    /// Gets that the estimates stand for.
    pub gets: u64,
    /// Those of them for keys of the sample.
    pub sampled: u64,
    /// All that can be told so far: by policy, the smallest capacity first.
    pub trials: Vec<Trial>,
}

/// One way in which memory could be set up.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Trial {
    /// The policy.
    pub policy: PolicyKind,
    /// The capacity, in the unit of the real one.
    pub capacity: u64,
    /// The share of gets that memory would not answer.
    pub estimate: Estimate,
}

impl Advice {
    /// The share of gets that memory would not answer with `policy` at `capacity`; `None` if that
    /// was not tried, or nothing can be told yet.
    #[must_use]
    pub fn at(&self, policy: PolicyKind, capacity: u64) -> Option<Estimate> {
        let found = |trial: &&Trial| (trial.policy, trial.capacity) == (policy, capacity);
        self.trials.iter().find(found).map(|trial| trial.estimate)
    }

    /// The trial with the fewest misses that takes no more room than there is.
    #[must_use]
    pub fn best(&self) -> Option<Trial> {
        let fitting = self.trials.iter().filter(|trial| trial.capacity <= self.capacity);
        let best = |a: &&Trial, b: &&Trial| a.estimate.miss_ratio.total_cmp(&b.estimate.miss_ratio);
        fitting
            .copied()
            .reduce(|least, trial| if best(&&trial, &&least).is_lt() { trial } else { least })
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, capacity, gets, sampled, .. } = self;
        writeln!(out, "{policy} with {capacity}; {sampled} of {gets} gets sampled")?;
        for Trial { policy, capacity, estimate } in &self.trials {
            let [miss, low, high] =
                [estimate.miss_ratio, estimate.low, estimate.high].map(|share| share * 100.0);
            writeln!(
                out,
                "{policy:>10} {capacity:>14}: {miss:5.1} % misses ({low:.1} to {high:.1})"
            )?;
        }
        Ok(())
    }
}

/// Samples the gets of a cache.
#[derive(Debug)]
pub(crate) struct Advising {
    sample: Sample,
    hasher: KeyHasher,
    policy: PolicyKind,
    policies: Vec<PolicyKind>,
    capacity: u64,
    capacities: Vec<u64>,
    in_items: bool,
    state: Mutex<State>,
    /// Gets of the sample that found the lock taken.
    left_out: Counter,
}

#[derive(Debug)]
struct State {
    advisor: Advisor,
    /// Gets before the first that counts, and those that the advisor was told of since.
    before: u64,
    counted: u64,
    sampled: u64,
}

impl Advising {
    /// For a memory tier like this.
    pub(crate) fn new(
        rate: f64,
        policies: &[PolicyKind],
        policy: PolicyKind,
        memory: Capacity,
    ) -> Result<Self> {
        let Some(capacity) = memory.limit().filter(|&limit| limit > 0) else {
            let (option, value) = ("advise", format!("{memory:?}"));
            let accepted = "give the memory tier a limit, or leave this out";
            return Err(Error::Config { option, value, accepted });
        };
        let mut tried = vec![policy, PolicyKind::Lru];
        tried.extend_from_slice(policies);
        tried.sort_by_key(|kind| kind.name());
        tried.dedup();
        let around = [capacity / 4, capacity / 2, capacity];
        let more = [2, 4].map(|times| capacity.saturating_mul(times));
        let capacities = [around.as_slice(), &more].concat();
        let advisor = Advisor::over(rate, &capacities, &tried).map_err(|error| match error {
            EngineError::Config { value, accepted, .. } => {
                Error::Config { option: "advise", value, accepted }
            }
            source => Error::Engine { op: "be sampled", source },
        })?;
        let sample = advisor.sample();
        Ok(Self {
            sample,
            hasher: KeyHasher::new([0; 16]),
            policy,
            policies: tried,
            capacity,
            capacities,
            in_items: matches!(memory, Capacity::Items(_)),
            state: Mutex::new(State { advisor, before: 0, counted: 0, sampled: 0 }),
            left_out: Counter::default(),
        })
    }

    /// Takes note of a get. `weight` is asked for keys of the sample only.
    #[inline]
    pub(crate) fn note(&self, key: &[u8], weight: impl FnOnce() -> u64) {
        let key = self.hasher.hash(key);
        if self.sample.has(key) {
            let weight = if self.in_items { 1 } else { weight() };
            self.record(&Request::new(key).weighing(weight));
        }
    }

    #[cold]
    fn record(&self, request: &Request) {
        match self.state.try_lock() {
            Some(mut state) => {
                state.advisor.record(request);
                state.sampled += 1;
            }
            None => self.left_out.add(1),
        }
    }

    /// What can be told after so many gets since the cache was built, when entries weigh so much on
    /// average.
    pub(crate) fn advice(&self, gets: u64, mean_weight: u64) -> Advice {
        let mut state = self.state.lock();
        let State { advisor, before, counted, sampled } = &mut *state;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
        #[expect(clippy::cast_sign_loss, reason = "a count by a rate")]
        let left_out = (self.left_out.get() as f64 / self.sample.rate()) as u64;
        let now = gets.saturating_sub(*before).saturating_sub(left_out);
        advisor.count(now.saturating_sub(*counted));
        *counted = now.max(*counted);
        #[expect(clippy::cast_precision_loss, reason = "a bound")]
        let is_large = |capacity: u64| {
            let entries = if self.in_items { capacity } else { capacity / mean_weight.max(1) };
            entries as f64 * self.sample.rate() >= ENTRIES_MIN as f64
        };
        let trial = |policy, capacity| {
            let estimate = advisor.at(policy, capacity)?;
            Some(Trial { policy, capacity, estimate })
        };
        let trials = self.policies.iter().flat_map(|&policy| {
            let fitting = self.capacities.iter().filter(|&&capacity| is_large(capacity));
            fitting.filter_map(move |&capacity| trial(policy, capacity))
        });
        let trials = if *sampled == 0 { Vec::new() } else { trials.collect() };
        let (policy, capacity) = (self.policy, self.capacity);
        Advice { policy, capacity, gets: *counted, sampled: *sampled, trials }
    }

    /// Forgets what was counted until now, after so many gets.
    pub(crate) fn start_over(&self, gets: u64) {
        let mut state = self.state.lock();
        state.advisor.start_over();
        (state.before, state.counted, state.sampled) = (gets, 0, 0);
        self.left_out.reset();
    }
}
