//! Caches in memory: hits, and a mix with misses, under a Zipf load.

use std::hint::black_box;

use larder_rivals::memory::{Larder, Moka, QuickCache};
use larder_rivals::{MemoryRival, Result};

use crate::data::{Zipf, mix};
use crate::report::{Group, Row};
use crate::rounds::asked;
use crate::timed::{Took, on_threads, share};

/// Entries that caches may hold.
const CAPACITY: u32 = 100_000;
/// Keys that are asked for in the mix.
const KEYS: u32 = 1_000_000;
/// Keys that are asked for in pure hits: half of the capacity, so that no cache has evicted
/// one, however it divides its capacity.
const RESIDENT: u32 = CAPACITY / 2;
const EXPONENT: f64 = 0.99;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Names of the workloads; all if empty.
    pub only: Vec<String>,
    /// Names of the engines; all if empty.
    pub engines: Vec<String>,
    /// Requests of each repeat, over all threads.
    pub requests: u64,
    /// Repeats of each measurement.
    pub repeats: usize,
    /// Threads that work at once.
    pub threads: usize,
}

/// Names that `--only` takes.
#[must_use]
pub fn workloads() -> Vec<&'static str> {
    vec![Workload::Hits.name(), Workload::Zipf.name()]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Workload {
    Hits,
    Zipf,
}

impl Workload {
    const fn name(self) -> &'static str {
        match self {
            Self::Hits => "hits",
            Self::Zipf => "zipf",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Hits => "memory, u64 → u64: hits, Zipf 0.99 over 50k resident keys",
            Self::Zipf => {
                "memory, u64 → u64: get, insert on a miss, Zipf 0.99 over 1M keys, capacity 100k"
            }
        }
    }

    const fn regime(self) -> &'static str {
        match self {
            Self::Hits => "warm",
            Self::Zipf => "warm: as many other requests ran before",
        }
    }
}

/// A cache, by the functions that fill and drive it.
struct Engine {
    name: &'static str,
    settings: &'static str,
    measure: fn(Workload, &Requests, usize) -> Result<(Took, f64)>,
}

/// Keys to ask for: two draws from one distribution, since asking for the same again would
/// make a loop, which is another load.
struct Requests {
    warming: Vec<u64>,
    measured: Vec<u64>,
}

impl Engine {
    const fn of<C: MemoryRival<u64>>() -> Self {
        Self { name: C::NAME, settings: C::SETTINGS, measure: measure::<C> }
    }
}

/// Runs all workloads that were asked for.
///
/// # Errors
/// A wrong answer of a cache.
pub fn run(options: &Options, groups: &mut Vec<Group>) -> Result<()> {
    let mut engines =
        [Engine::of::<Larder<u64>>(), Engine::of::<QuickCache<u64>>(), Engine::of::<Moka<u64>>()]
            .into_iter()
            .filter(|engine| asked(&options.engines, engine.name))
            .collect::<Vec<_>>();
    if engines.is_empty() {
        return Err("no such engine: there are larder, quick_cache, moka".into());
    }
    for workload in [Workload::Hits, Workload::Zipf] {
        if asked(&options.only, workload.name()) {
            rounds(workload, options, &mut engines, groups)?;
        }
    }
    Ok(())
}

fn rounds(
    workload: Workload,
    options: &Options,
    engines: &mut [Engine],
    groups: &mut Vec<Group>,
) -> Result<()> {
    let ranks = if workload == Workload::Hits { RESIDENT } else { KEYS };
    let zipf = Zipf::new(ranks, EXPONENT);
    let warming = zipf.keys(options.requests, 1);
    let keys = Requests { warming, measured: zipf.keys(options.requests, 2) };
    let mut samples = vec![Vec::new(); engines.len()];
    let mut hit_ratios = vec![0.0; engines.len()];
    for round in 0..options.repeats {
        for turn in 0..engines.len() {
            let at = (round + turn) % engines.len();
            let engine = &engines[at];
            let (took, hit_ratio) = (engine.measure)(workload, &keys, options.threads)
                .map_err(|error| format!("{} of {}: {error}", workload.name(), engine.name))?;
            samples[at].push(took);
            hit_ratios[at] = hit_ratio;
        }
    }
    let rows = engines.iter().zip(samples).zip(hit_ratios);
    let row = |((engine, samples), hit_ratio): ((&Engine, Vec<Took>), f64)| Row {
        hit_ratio: (workload == Workload::Zipf).then_some(hit_ratio),
        ..Row::new(engine.name, engine.settings, options.requests, &samples)
    };
    let mut group = Group {
        workload: format!("memory/{}", workload.name()),
        title: workload.title().to_owned(),
        regime: workload.regime(),
        threads: options.threads,
        operations: options.requests,
        rows: rows.map(row).collect(),
    };
    group.compare();
    group.print();
    groups.push(group);
    Ok(())
}

/// Fills a fresh cache, runs the requests, and returns how long that took and the share of hits.
fn measure<C: MemoryRival<u64>>(
    workload: Workload,
    keys: &Requests,
    threads: usize,
) -> Result<(Took, f64)> {
    let cache = C::with_capacity(CAPACITY);
    if workload == Workload::Hits {
        for rank in 0..RESIDENT {
            let key = mix(rank.into());
            cache.insert(key, value(key));
        }
    }
    cache.settle();
    requests(&cache, workload, &keys.warming, threads)?;
    requests(&cache, workload, &keys.measured, threads)
}

fn requests<C: MemoryRival<u64>>(
    cache: &C,
    workload: Workload,
    keys: &[u64],
    threads: usize,
) -> Result<(Took, f64)> {
    let (took, counts) = on_threads(threads, |thread| {
        let keys = &keys[share(keys.len(), thread, threads)];
        Ok(match workload {
            Workload::Hits => hits(cache, keys),
            Workload::Zipf => mixed(cache, keys),
        })
    })?;
    let hits: u64 = counts.iter().map(|counts| counts.0).sum();
    let wrong: u64 = counts.iter().map(|counts| counts.1).sum();
    let requests = keys.len() as u64;
    if wrong > 0 || (workload == Workload::Hits && hits < requests) {
        return Err(format!("{wrong} wrong values, {hits} hits of {requests}").into());
    }
    Ok((took, hits as f64 / requests as f64))
}

/// Counts hits and wrong values.
fn hits<C: MemoryRival<u64>>(cache: &C, keys: &[u64]) -> (u64, u64) {
    let (mut hits, mut wrong) = (0, 0);
    for &key in keys {
        if let Some(found) = black_box(cache.get(key)) {
            hits += 1;
            wrong += u64::from(found != value(key));
        }
    }
    (hits, wrong)
}

fn mixed<C: MemoryRival<u64>>(cache: &C, keys: &[u64]) -> (u64, u64) {
    let (mut hits, mut wrong) = (0, 0);
    for &key in keys {
        let (found, hit) = black_box(cache.get_or_insert_with(key, || value(key)));
        hits += u64::from(hit);
        wrong += u64::from(found != value(key));
    }
    (hits, wrong)
}

/// The value of a key: another number, cheap to check.
const fn value(key: u64) -> u64 {
    key.rotate_left(17) ^ 0x00ca_c4e0
}
