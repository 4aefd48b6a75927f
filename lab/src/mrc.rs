//! Miss-ratio curves of a trace from a sample of its objects: LRU in one pass, any other policy
//! in a second one.
//!
//! The sampling, its sources and its errors are those of `larder_engine::memory::simulate`
//! ([`Shards`], [`Advisor`]), so that what is said of a trace here is what a live cache would
//! say of itself.

use std::ops::ControlFlow;

use larder_engine::memory::PolicyKind;
use larder_engine::memory::simulate::{Advisor, Estimate, Shards};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::run::request;
use crate::trace::{Access, CHUNK, Trace};

/// How to sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// A share of all objects.
    Rate(f64),
    /// Up to this many objects.
    Samples(usize),
}

/// What the objects of a trace are taken for.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Whether each object counts 1, whatever its size.
    pub ignore_size: bool,
    /// Stop after this many requests.
    pub limit: Option<u64>,
}

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// What fits, in bytes, or in objects where each counts 1.
    pub capacity: u64,
    /// The miss ratio there.
    pub miss_ratio: f64,
    /// At least this, with 99 % certainty.
    pub low: f64,
    /// At most this.
    pub high: f64,
}

impl Point {
    fn new(capacity: u64, estimate: Estimate) -> Self {
        let Estimate { miss_ratio, low, high } = estimate;
        Self { capacity, miss_ratio, low, high }
    }
}

/// Samples the rest of `trace` for the curve of LRU, in one pass. `watch` is told the number of
/// requests now and then, and may stop it.
///
/// # Errors
/// - What the trace says.
/// - The engine's [`Config`](larder_engine::Error::Config) as [`Error::Engine`]: the sampling
///   makes no sense.
/// - [`Error::Stopped`]: `watch` said so.
pub fn sample(
    trace: &mut Trace,
    sampling: Sampling,
    settings: Settings,
    watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Shards> {
    let mut shards = match sampling {
        Sampling::Rate(rate) => Shards::fixed_rate(rate)?,
        Sampling::Samples(samples) => Shards::fixed_size(samples)?,
    };
    pass(trace, settings, watch, |access| {
        shards.request(&request(access, settings.ignore_size));
    })?;
    Ok(shards)
}

/// Simulates caches of `policies` in miniature over the rest of `trace`: as many objects as
/// `shards` has sampled last, in caches that stand for those of `capacities`.
///
/// # Errors
/// As [`sample`].
pub fn miniatures(
    trace: &mut Trace,
    shards: &Shards,
    capacities: &[u64],
    policies: &[PolicyKind],
    settings: Settings,
    watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Advisor> {
    let mut advisor = Advisor::over(shards.sample().rate(), capacities, policies)?;
    let sample = advisor.sample();
    let requests = pass(trace, settings, watch, |access| {
        if sample.has(access.id) {
            advisor.record(&request(access, settings.ignore_size));
        }
    })?;
    advisor.count(requests);
    Ok(advisor)
}

/// Capacities for a curve: `points` of them at equal ratios, up to where everything fits.
#[must_use]
pub fn capacities(shards: &Shards, points: u32) -> Vec<u64> {
    let whole = shards.footprint().max(1) as f64;
    // Below a few multiples of what one sampled object stands for, nothing is known.
    let least =
        (4.0 / shards.sample().rate() * whole / shards.keys().max(1) as f64).min(whole / 2.0);
    let ratio = (whole / least).powf(1.0 / f64::from(points.max(2) - 1));
    let mut capacities: Vec<u64> = (0..points.max(2))
        .map(|at| {
            #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
            #[expect(clippy::cast_sign_loss, reason = "no capacity is negative")]
            let capacity = (least * ratio.powf(f64::from(at))).round() as u64;
            capacity.max(1)
        })
        .collect();
    capacities.dedup();
    capacities
}

/// The curve of LRU at `capacities`.
#[must_use]
pub fn lru(shards: &Shards, capacities: &[u64]) -> Vec<Point> {
    let curve = shards.curve();
    capacities.iter().map(|&capacity| Point::new(capacity, curve.at(capacity))).collect()
}

/// The curve of another policy, at those of `capacities` that were tried.
#[must_use]
pub fn other(advisor: &Advisor, policy: PolicyKind, capacities: &[u64]) -> Vec<Point> {
    let at = |&capacity: &u64| Some(Point::new(capacity, advisor.at(policy, capacity)?));
    capacities.iter().filter_map(at).collect()
}

fn pass(
    trace: &mut Trace,
    settings: Settings,
    watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
    mut each: impl FnMut(&Access),
) -> Result<u64> {
    let (mut accesses, mut read) = (Vec::with_capacity(CHUNK), 0);
    loop {
        let left = settings.limit.map_or(u64::MAX, |limit| limit - read);
        accesses.clear();
        trace.fill(&mut accesses, usize::try_from(left).unwrap_or(CHUNK).min(CHUNK))?;
        if accesses.is_empty() {
            return Ok(read);
        }
        read += accesses.len() as u64;
        accesses.iter().for_each(&mut each);
        if watch(read).is_break() {
            return Err(Error::Stopped);
        }
    }
}
