//! Caches in memory under a Zipf load: hits, mixes of gets and overwrites, inserts on a miss; how
//! long single gets take, and what an entry costs.

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use hdrhistogram::Histogram;
use larder_rivals::memory::{Foyer, Larder, Moka, Papaya, QuickCache, Scc};
use larder_rivals::{MemoryRival, Result};

use crate::data::{Zipf, mix};
use crate::heap::anonymous;
use crate::report::{Group, Row};
use crate::rounds::asked;
use crate::sheet::{Column, Line, Sheet};
use crate::timed::{Took, on_threads, share, threads};

/// Entries that caches may hold.
const CAPACITY: u32 = 100_000;
/// Keys that are asked for where some have to leave.
const KEYS: u32 = 1_000_000;
/// Keys that are asked for elsewhere: half of the capacity, so that no cache has evicted
/// one, however it divides its capacity.
const RESIDENT: u32 = CAPACITY / 2;
const EXPONENT: f64 = 0.99;
/// Entries whose memory is measured.
const FILLED: u32 = 1_000_000;

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
    let speeds = Workload::ALL.iter().map(|workload| workload.name());
    speeds.chain([WAITS, BYTES]).collect()
}

const WAITS: &str = "get-times";
const BYTES: &str = "bytes";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Workload {
    Hits,
    Reads,
    Halves,
    Zipf,
    Clones,
    Looks,
}

impl Workload {
    const ALL: [Self; 6] =
        [Self::Hits, Self::Reads, Self::Halves, Self::Zipf, Self::Clones, Self::Looks];

    const fn name(self) -> &'static str {
        match self {
            Self::Hits => "hits",
            Self::Reads => "95-5",
            Self::Halves => "50-50",
            Self::Zipf => "zipf",
            Self::Clones => "arc-clone",
            Self::Looks => "arc-look",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Hits => "memory, u64 → u64: hits, Zipf 0.99 over 50k resident keys",
            Self::Reads => {
                "memory, u64 → u64: 95 % get, 5 % overwrite, Zipf 0.99 over 50k resident keys"
            }
            Self::Halves => {
                "memory, u64 → u64: 50 % get, 50 % overwrite, Zipf 0.99 over 50k resident keys"
            }
            Self::Zipf => {
                "memory, u64 → u64: get, insert on a miss, Zipf 0.99 over 1M keys, capacity 100k"
            }
            Self::Clones => {
                "memory, u64 → Arc<[u8]> of 64 – 256 B: hits, cloned, Zipf 0.99 over 50k resident keys"
            }
            Self::Looks => {
                "memory, u64 → Arc<[u8]> of 64 – 256 B: hits, looked at in place where the cache can"
            }
        }
    }

    const fn regime(self) -> &'static str {
        "warm: as many other requests ran before"
    }

    /// How many of a hundred requests overwrite.
    const fn overwrites(self) -> u64 {
        match self {
            Self::Reads => 5,
            Self::Halves => 50,
            Self::Hits | Self::Zipf | Self::Clones | Self::Looks => 0,
        }
    }

    const fn ranks(self) -> u32 {
        if matches!(self, Self::Zipf) { KEYS } else { RESIDENT }
    }
}

/// A value that can be told from that of another key.
trait Value: Clone + Send + Sync + 'static {
    fn of(key: u64) -> Self;
    fn is_of(&self, key: u64) -> bool;
}

impl Value for u64 {
    fn of(key: u64) -> Self {
        key.rotate_left(17) ^ 0x00ca_c4e0
    }

    fn is_of(&self, key: u64) -> bool {
        *self == Self::of(key)
    }
}

impl Value for Arc<[u8]> {
    fn of(key: u64) -> Self {
        let len = 64 + (key % 193) as usize;
        key.to_le_bytes().into_iter().cycle().take(len).collect()
    }

    fn is_of(&self, key: u64) -> bool {
        self.starts_with(&key.to_le_bytes()) && self.len() as u64 == 64 + key % 193
    }
}

/// A cache, by the functions that fill and drive it.
struct Engine {
    name: &'static str,
    settings: &'static str,
    evicts: bool,
    measure: fn(Workload, &Requests, usize) -> Result<(Took, f64)>,
    waits: fn(&Requests, usize) -> Result<Histogram<u64>>,
    fill: fn() -> Result<u64>,
}

/// Keys to ask for: two draws from one distribution, since asking for the same again would
/// make a loop, which is another load.
struct Requests {
    warming: Vec<u64>,
    measured: Vec<u64>,
}

impl Requests {
    fn new(ranks: u32, count: u64) -> Self {
        let zipf = Zipf::new(ranks, EXPONENT);
        Self { warming: zipf.keys(count, 1), measured: zipf.keys(count, 2) }
    }
}

impl Engine {
    const fn of<N: MemoryRival<u64>, A: MemoryRival<Arc<[u8]>>>() -> Self {
        Self {
            name: N::NAME,
            settings: N::SETTINGS,
            evicts: N::EVICTS,
            measure: |workload, keys, threads| match workload {
                Workload::Clones | Workload::Looks => {
                    measure::<A, Arc<[u8]>>(workload, keys, threads)
                }
                _ => measure::<N, u64>(workload, keys, threads),
            },
            waits: waits::<N>,
            fill: fill::<N>,
        }
    }

    fn all() -> [Self; 6] {
        [
            Self::of::<Larder<_>, Larder<_>>(),
            Self::of::<QuickCache<_>, QuickCache<_>>(),
            Self::of::<Moka<_>, Moka<_>>(),
            Self::of::<Scc<_>, Scc<_>>(),
            Self::of::<Foyer<_>, Foyer<_>>(),
            Self::of::<Papaya<_>, Papaya<_>>(),
        ]
    }
}

/// Runs all workloads that were asked for.
///
/// # Errors
/// A wrong answer of a cache.
pub fn run(options: &Options, groups: &mut Vec<Group>, sheets: &mut Vec<Sheet>) -> Result<()> {
    let all = Engine::all();
    let known = all.iter().map(|engine| engine.name).collect::<Vec<_>>().join(", ");
    let chosen = all.into_iter().filter(|engine| asked(&options.engines, engine.name));
    let engines: Vec<Engine> = chosen.collect();
    if engines.is_empty() {
        return Err(format!("no such engine: there are {known}").into());
    }
    for workload in Workload::ALL {
        if asked(&options.only, workload.name()) {
            speeds(workload, options, &engines, groups)?;
        }
    }
    if asked(&options.only, WAITS) {
        let keys = Requests::new(RESIDENT, options.requests);
        let title = format!(
            "memory, u64 → u64: the time of each get among 50 % gets, 50 % overwrites, {}",
            threads(options.threads)
        );
        let column = |name| Column { name, unit: "ns" };
        let columns = ["p50", "p99", "p99.9"].map(column).to_vec();
        let measure = |engine: &Engine| {
            let times = (engine.waits)(&keys, options.threads)?;
            let at = |quantile| Some(times.value_at_quantile(quantile) as f64);
            Ok([0.5, 0.99, 0.999].map(at).to_vec())
        };
        sheet(
            WAITS,
            title,
            Workload::Halves.regime(),
            columns,
            options,
            &engines,
            measure,
            sheets,
        )?;
    }
    // The same for any number of threads.
    if asked(&options.only, BYTES) && !sheets.iter().any(|sheet| sheet.workload.ends_with(BYTES)) {
        let title = format!(
            "memory, u64 → u64: growth of the process's anonymous memory with {FILLED} entries"
        );
        let columns = vec![Column { name: "loaded", unit: "B/entry" }];
        let measure = |engine: &Engine| Ok(vec![Some(filled(engine.name)? / f64::from(FILLED))]);
        let regime = "a process of its own, room for twice as many";
        sheet(BYTES, title, regime, columns, options, &engines, measure, sheets)?;
    }
    Ok(())
}

/// Measures every engine once in each round, beginning with another one each time.
fn rounds<T>(
    name: &str,
    options: &Options,
    engines: &[&Engine],
    mut measure: impl FnMut(&Engine) -> Result<T>,
) -> Result<Vec<Vec<T>>> {
    let mut samples: Vec<Vec<T>> = engines.iter().map(|_| Vec::new()).collect();
    for round in 0..options.repeats {
        for turn in 0..engines.len() {
            let at = (round + turn) % engines.len();
            let sample = measure(engines[at])
                .map_err(|error| format!("{name} of {}: {error}", engines[at].name))?;
            samples[at].push(sample);
        }
    }
    Ok(samples)
}

fn speeds(
    workload: Workload,
    options: &Options,
    engines: &[Engine],
    groups: &mut Vec<Group>,
) -> Result<()> {
    let keys = Requests::new(workload.ranks(), options.requests);
    let is_peer = |engine: &&Engine| engine.evicts || workload != Workload::Zipf;
    let engines: Vec<&Engine> = engines.iter().filter(is_peer).collect();
    let samples = rounds(workload.name(), options, &engines, |engine| {
        (engine.measure)(workload, &keys, options.threads)
    })?;
    let row = |(engine, samples): (&&Engine, Vec<(Took, f64)>)| {
        let hit_ratio = samples.last().map(|sample| sample.1);
        let took: Vec<Took> = samples.into_iter().map(|sample| sample.0).collect();
        Row {
            hit_ratio: hit_ratio.filter(|_| workload == Workload::Zipf),
            ..Row::new(engine.name, engine.settings, options.requests, &took)
        }
    };
    let mut group = Group {
        workload: format!("memory/{}", workload.name()),
        title: workload.title().to_owned(),
        regime: workload.regime(),
        threads: options.threads,
        operations: options.requests,
        rows: engines.iter().zip(samples).map(row).collect(),
    };
    group.compare();
    group.print();
    groups.push(group);
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the parts of a table")]
fn sheet(
    name: &str,
    title: String,
    regime: &'static str,
    columns: Vec<Column>,
    options: &Options,
    engines: &[Engine],
    measure: impl FnMut(&Engine) -> Result<Vec<Option<f64>>>,
    sheets: &mut Vec<Sheet>,
) -> Result<()> {
    let engines: Vec<&Engine> = engines.iter().collect();
    let samples = rounds(name, options, &engines, measure)?;
    let row = |(engine, figures): (&&Engine, &Vec<Vec<Option<f64>>>)| {
        Line::new(engine.name, engine.settings, String::new(), figures)
    };
    let rows = engines.iter().zip(&samples).map(row).collect();
    let mut sheet = Sheet { workload: format!("memory/{name}"), title, regime, columns, rows };
    sheet.compare();
    sheet.print();
    sheets.push(sheet);
    Ok(())
}

/// A fresh cache; where all requests are to hit, with all keys.
fn prepared<C: MemoryRival<V>, V: Value>(is_filled: bool) -> C {
    let cache = C::with_capacity(CAPACITY);
    if is_filled {
        for rank in 0..RESIDENT {
            let key = mix(rank.into());
            cache.insert(key, V::of(key));
        }
    }
    cache.settle();
    cache
}

/// Runs the requests over a fresh cache, and returns how long that took and the share of hits.
fn measure<C: MemoryRival<V>, V: Value>(
    workload: Workload,
    keys: &Requests,
    threads: usize,
) -> Result<(Took, f64)> {
    let cache = prepared::<C, V>(workload != Workload::Zipf);
    requests::<C, V>(&cache, workload, &keys.warming, threads)?;
    requests::<C, V>(&cache, workload, &keys.measured, threads)
}

fn requests<C: MemoryRival<V>, V: Value>(
    cache: &C,
    workload: Workload,
    keys: &[u64],
    threads: usize,
) -> Result<(Took, f64)> {
    let (took, counts) = on_threads(threads, |thread| {
        let keys = &keys[share(keys.len(), thread, threads)];
        Ok(match workload {
            Workload::Hits | Workload::Clones => hits(cache, keys),
            Workload::Looks => looks(cache, keys),
            Workload::Reads | Workload::Halves => overwriting(cache, keys, workload.overwrites()),
            Workload::Zipf => inserting(cache, keys),
        })
    })?;
    let hits: u64 = counts.iter().map(|counts| counts.0).sum();
    let wrong: u64 = counts.iter().map(|counts| counts.1).sum();
    let requests = keys.len() as u64;
    if wrong > 0 || (workload != Workload::Zipf && hits < requests) {
        return Err(format!("{wrong} wrong values, {hits} hits of {requests}").into());
    }
    Ok((took, hits as f64 / requests as f64))
}

/// Counts hits and wrong values.
fn hits<C: MemoryRival<V>, V: Value>(cache: &C, keys: &[u64]) -> (u64, u64) {
    let (mut hits, mut wrong) = (0, 0);
    for &key in keys {
        if let Some(found) = black_box(cache.get(key)) {
            hits += 1;
            wrong += u64::from(!found.is_of(key));
        }
    }
    (hits, wrong)
}

fn looks<C: MemoryRival<V>, V: Value>(cache: &C, keys: &[u64]) -> (u64, u64) {
    let (mut hits, mut wrong) = (0, 0);
    for &key in keys {
        if let Some(is_right) = black_box(cache.get_with(key, |value| value.is_of(key))) {
            hits += 1;
            wrong += u64::from(!is_right);
        }
    }
    (hits, wrong)
}

/// Whether a request overwrites: as many of a hundred, in no order.
const fn overwrites(at: usize, percent: u64) -> bool {
    mix(at as u64) % 100 < percent
}

fn overwriting<C: MemoryRival<V>, V: Value>(cache: &C, keys: &[u64], percent: u64) -> (u64, u64) {
    let (mut hits, mut wrong) = (0, 0);
    for (at, &key) in keys.iter().enumerate() {
        if overwrites(at, percent) {
            cache.insert(key, V::of(key));
            hits += 1;
        } else if let Some(found) = black_box(cache.get(key)) {
            hits += 1;
            wrong += u64::from(!found.is_of(key));
        }
    }
    (hits, wrong)
}

fn inserting<C: MemoryRival<V>, V: Value>(cache: &C, keys: &[u64]) -> (u64, u64) {
    let (mut hits, mut wrong) = (0, 0);
    for &key in keys {
        let (found, hit) = black_box(cache.get_or_insert_with(key, || V::of(key)));
        hits += u64::from(hit);
        wrong += u64::from(!found.is_of(key));
    }
    (hits, wrong)
}

/// How long each get takes among as many overwrites, in ns, the two looks at the clock included.
fn waits<C: MemoryRival<u64>>(keys: &Requests, threads: usize) -> Result<Histogram<u64>> {
    let cache = prepared::<C, u64>(true);
    requests::<C, u64>(&cache, Workload::Halves, &keys.warming, threads)?;
    let (_, times) = on_threads(threads, |thread| {
        let mut times = Histogram::new(3)?;
        let keys = &keys.measured[share(keys.measured.len(), thread, threads)];
        for (at, &key) in keys.iter().enumerate() {
            if overwrites(at, Workload::Halves.overwrites()) {
                cache.insert(key, u64::of(key));
                continue;
            }
            let begin = Instant::now();
            let found = black_box(cache.get(key));
            times.record(u64::try_from(begin.elapsed().as_nanos())?)?;
            if found.is_none_or(|value| !value.is_of(key)) {
                return Err("a wrong value".into());
            }
        }
        Ok(times)
    })?;
    let mut all = Histogram::new(3)?;
    times.iter().try_for_each(|times| all.add(times))?;
    Ok(all)
}

/// Fills a cache, and says by how much the anonymous memory of this process grew.
fn fill<C: MemoryRival<u64>>() -> Result<u64> {
    let before = anonymous()?;
    let cache = C::with_capacity(2 * FILLED);
    for number in 0..FILLED {
        let key = mix(number.into());
        cache.insert(key, u64::of(key));
    }
    cache.settle();
    let grown = anonymous()?.saturating_sub(before);
    let held = (0..FILLED).filter(|&number| cache.get(mix(number.into())).is_some()).count();
    // Some caches place by the hash alone, and let go of a few although there is room.
    if held < FILLED as usize / 1_000 * 999 {
        return Err(format!("only {held} of {FILLED} entries are there").into());
    }
    Ok(grown)
}

/// The same, in a process of its own.
fn filled(engine: &str) -> Result<f64> {
    let output = Command::new(std::env::current_exe()?)
        .args(["fill-memory", "--engine", engine])
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// The child: fills a cache and prints how many bytes that took.
///
/// # Errors
/// A name that no cache has, or entries that are not there.
pub fn child(engine: &str) -> Result<()> {
    let all = Engine::all();
    let chosen = all.iter().find(|known| known.name == engine).ok_or("no such engine")?;
    println!("{}", (chosen.fill)()?);
    Ok(())
}
