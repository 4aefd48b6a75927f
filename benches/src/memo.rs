//! What it costs to find the result of a function in memory, beside a bare tier, the crate
//! `cached` and moka's `get_with`; and how fast arguments become keys.
//!
//! Functions of a `u64` are called with keys whose results are all there, in an order that no
//! prefetcher knows. Rounds of all candidates are interleaved.

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use larder::Cache;
use larder_engine::memory::{Capacity, Tier};
use larder_rivals::Result;

use crate::report::{Group, Row};
use crate::timed::{Took, on_threads, share};

/// Results that are there.
const KEYS: u64 = 1_000;
/// Results for which there is room.
const ROOM: u64 = 100_000;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Calls of each repeat.
    pub calls: u64,
    /// Repeats of each measurement.
    pub repeats: usize,
    /// Threads that call at once.
    pub threads: usize,
}

const fn triple(n: u64) -> u64 {
    n * 3
}

#[larder::cached(capacity = ROOM)]
fn ours(n: u64) -> u64 {
    triple(n)
}

mod theirs {
    use cached::macros::{cached, concurrent_cached};

    #[cached]
    pub(super) fn unbounded(n: u64) -> u64 {
        super::triple(n)
    }

    #[cached(max_size = 100_000)]
    pub(super) fn lru(n: u64) -> u64 {
        super::triple(n)
    }

    #[concurrent_cached(max_size = 100_000)]
    pub(super) fn sharded(n: u64) -> u64 {
        super::triple(n)
    }
}

static TIER: LazyLock<Tier<u64, u64>> = LazyLock::new(|| {
    Tier::builder(Capacity::items(ROOM)).build().expect("a tier of entries can be built")
});

static CACHE: LazyLock<Cache<u64, u64>> = LazyLock::new(|| {
    Cache::builder().memory_items(ROOM).build().expect("a cache in memory can be built")
});

static MOKA: LazyLock<moka::sync::Cache<u64, u64>> = LazyLock::new(|| moka::sync::Cache::new(ROOM));

fn tier(n: u64) -> u64 {
    TIER.get(&n).unwrap_or_else(|| {
        drop(TIER.insert(n, triple(n), u64::MAX));
        triple(n)
    })
}

fn cache(n: u64) -> u64 {
    CACHE.get_or_insert_with(&n, || triple(n)).unwrap_or_default()
}

fn moka(n: u64) -> u64 {
    MOKA.get_with(n, || triple(n))
}

/// A candidate: its name, its settings, and a call.
type Candidate = (&'static str, &'static str, fn(u64) -> u64);

const CANDIDATES: [Candidate; 7] = [
    ("larder", "#[larder::cached(capacity)]", ours),
    ("bare tier", "larder's memory tier, u64 → u64", tier),
    ("larder's Cache", "get_or_insert_with", cache),
    ("cached", "#[cached], without a bound, one lock", theirs::unbounded),
    ("cached lru", "#[cached(max_size)], one lock", theirs::lru),
    ("cached sharded", "#[concurrent_cached(max_size)]", theirs::sharded),
    ("moka", "get_with", moka),
];

/// Measures hits.
///
/// # Errors
/// A candidate that returns a wrong result.
pub fn run(options: &Options, groups: &mut Vec<Group>) -> Result<()> {
    let mut took: Vec<Vec<Took>> = CANDIDATES.iter().map(|_| Vec::new()).collect();
    for round in 0..options.repeats {
        for turn in 0..CANDIDATES.len() {
            let at = (round + turn) % CANDIDATES.len();
            let (name, _, call) = CANDIDATES[at];
            if (0..KEYS).any(|n| call(n) != triple(n)) {
                return Err(format!("{name} returned a wrong result").into());
            }
            took[at].push(calls(options, call)?);
        }
    }
    let rows = CANDIDATES.iter().zip(&took);
    let rows =
        rows.map(|((name, settings, _), took)| Row::new(name, settings, options.calls, took));
    let mut group = Group {
        workload: "memo-hit".to_owned(),
        title: format!("results of a function of u64, {KEYS} keys that are all there"),
        regime: "warm",
        threads: options.threads,
        operations: options.calls,
        rows: rows.collect(),
    };
    group.compare();
    group.print();
    groups.push(group);
    Ok(())
}

fn calls(options: &Options, call: fn(u64) -> u64) -> Result<Took> {
    let count = usize::try_from(options.calls)?;
    let (took, _) = on_threads(options.threads, |thread| {
        // Xorshift (Marsaglia 2003): cheap beside what is measured.
        let mut random = 0x9e37_79b9_7f4a_7c15 ^ thread as u64;
        for _ in share(count, thread, options.threads) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            black_box(call(black_box(random % KEYS)));
        }
        Ok(())
    })?;
    Ok(took)
}

/// Measures how fast long arguments become keys, digest included, and prints it: the best of many
/// tries each, as others may want the cores.
///
/// # Errors
/// What the cache says.
pub fn encoding() -> Result<()> {
    const BYTES: usize = 4 << 20;
    let floats: Vec<f64> = (0..BYTES / 8).map(|n| n as f64).collect();
    let words: Vec<u32> = (0..BYTES / 4).map(|n| n as u32).collect();
    let bytes: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
    let text = "larder ".repeat(BYTES / 7);
    let (of_floats, of_words) =
        (Cache::<Vec<f64>, u8>::builder().build()?, Cache::<Vec<u32>, u8>::builder().build()?);
    let (of_bytes, of_text) =
        (Cache::<Vec<u8>, u8>::builder().build()?, Cache::<String, u8>::builder().build()?);
    println!(
        "\narguments of 4 MiB as keys, the best of 100 tries; digested where nothing else is said"
    );
    best("f64", floats.len() * 8, || of_floats.contains(&floats[..]))?;
    best("u32", words.len() * 4, || of_words.contains(&words[..]))?;
    best("bytes", bytes.len(), || of_bytes.contains(&bytes[..]))?;
    best("text", text.len(), || of_text.contains(&*text))?;
    let short = &floats[..4_000];
    best("f64, 32 kB, in full", short.len() * 8, || of_floats.contains(short))?;
    Ok(())
}

fn best(what: &str, len: usize, mut encode: impl FnMut() -> larder::Result<bool>) -> Result<()> {
    let mut least = Duration::MAX;
    for _ in 0..100 {
        let start = Instant::now();
        black_box(encode()?);
        least = least.min(start.elapsed());
    }
    println!("  {what:<20} {:>6.2} GB/s", len as f64 / least.as_secs_f64() / 1e9);
    Ok(())
}
