//! Random operations on an engine and on the model, compared after each.
//!
//! A sequence is drawn first and run then, so that a failing one can be shrunk: operations
//! are left out as long as it still fails. What is left is printed.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, UNIX_EPOCH};

use super::random::{Random, expand};
use super::report::{Stop, Verdict, ensure};
use super::trial::{End, START_MS, Trial, show};
use super::{Harness, Keeps, Liberties, Model, Plan};
use crate::CodecId;
use crate::engine::{Durability, Put, Ttl};
use crate::value::Value;
use larder_format::layout::KEY_LEN_MAX;

/// Most runs that shrinking may take.
const SHRINK_RUNS: usize = 300;
/// An engine that may evict has to answer at least one lookup in this many that the model
/// answers: one that keeps nothing at all is no cache.
const LEAST_HITS: usize = 50;

/// One operation.
#[derive(Clone)]
enum Op {
    Put { key: Vec<u8>, seed: u64, len: usize, options: Put<'static> },
    Get(Vec<u8>),
    Hold(Vec<u8>),
    Remove(Vec<u8>),
    Contains(Vec<u8>),
    Version(Vec<u8>),
    Advance(u64),
    List,
    Sync,
    Clear,
    Reopen(End),
}

pub(super) fn run(harness: &dyn Harness, plan: &Plan) -> Verdict {
    let mut found = Score::default();
    for sequence in 0..plan.sequences {
        let seed = plan.seed.wrapping_add(u64::try_from(sequence).unwrap_or(0));
        let ops = draw(seed, plan.steps, harness.liberties());
        match attempt(harness, &ops) {
            Ok(score) => found.add(score),
            Err(what) => {
                let least = shrink(harness, ops);
                let what = attempt(harness, &least).err().unwrap_or(what);
                let list: Vec<_> = least.iter().map(|op| format!("\n    {op:?}")).collect();
                return Err(Stop::Broken(format!("{what}; seed {seed:#x}:{}", list.concat())));
            }
        }
    }
    ensure!(
        found.hits * LEAST_HITS >= found.live,
        "{} lookups of what was put found {}",
        found.live,
        found.hits
    );
    Ok(())
}

/// How many lookups the model answered, and how many of them the engine.
#[derive(Default)]
struct Score {
    live: usize,
    hits: usize,
}

impl Score {
    fn add(&mut self, other: Self) {
        self.live += other.live;
        self.hits += other.hits;
    }
}

/// Runs a sequence on a fresh engine; what went wrong, a panic included.
fn attempt(harness: &dyn Harness, ops: &[Op]) -> Result<Score, String> {
    let run = || -> Verdict<Score> {
        let mut pair = Pair::new(harness)?;
        for (at, op) in ops.iter().enumerate() {
            pair.step(op).map_err(|stop| match stop {
                Stop::Broken(what) => {
                    Stop::Broken(format!("operation {} of {}: {what}", at + 1, ops.len()))
                }
                other @ Stop::DoesNotApply(_) => other,
            })?;
        }
        pair.compare()?;
        Ok(pair.score)
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(score)) => Ok(score),
        Ok(Err(Stop::Broken(what))) => Err(what),
        Ok(Err(Stop::DoesNotApply(why))) => Err(why.to_owned()),
        Err(_) => Err("panicked".to_owned()),
    }
}

/// Leaves out operations, in halves, quarters and so on, as long as the rest still fails.
fn shrink(harness: &dyn Harness, mut ops: Vec<Op>) -> Vec<Op> {
    let mut runs = 0;
    let mut chunk = ops.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < ops.len() && runs < SHRINK_RUNS {
            let end = (at + chunk).min(ops.len());
            let rest = [&ops[..at], &ops[end..]].concat();
            runs += 1;
            match attempt(harness, &rest) {
                Ok(_) => at = end,
                Err(_) => ops = rest,
            }
        }
        chunk /= 2;
    }
    ops
}

/// The engine, the model, and values held since some time ago.
struct Pair {
    trial: Trial,
    model: Model,
    held: Vec<(Value, Vec<u8>)>,
    score: Score,
}

impl Pair {
    fn new(harness: &dyn Harness) -> Verdict<Self> {
        let trial = Trial::new(harness)?;
        let model = Model::new(trial.clock.clone(), trial.liberties.default_ttl);
        Ok(Self { trial, model, held: Vec::new(), score: Score::default() })
    }

    fn step(&mut self, op: &Op) -> Verdict {
        let engine = self.trial.engine();
        match op {
            Op::Put { key, seed, len, options } => {
                let value = expand(*seed, *len);
                let version = self.trial.put_with(key, &value, options)?;
                let grew = self.model.put(key, &value, options, version);
                ensure!(grew, "{} got version {version}, not its highest", show(key));
            }
            Op::Get(key) => {
                self.get(key)?;
            }
            Op::Hold(key) => {
                let found = self.get(key)?;
                self.held.extend(found.map(|found| (found.clone(), found.to_vec())));
            }
            Op::Remove(key) => {
                let removed = engine.remove(key)?;
                let expected = self.model.remove(key);
                ensure!(
                    removed == expected || self.trial.evicted(!removed),
                    "remove {} says {removed} instead of {expected}",
                    show(key)
                );
            }
            Op::Contains(key) => {
                let contains = engine.contains(key)?;
                let expected = self.model.get(key).is_some();
                ensure!(
                    contains == expected || self.trial.evicted(!contains),
                    "contains {} says {contains} instead of {expected}",
                    show(key)
                );
            }
            Op::Version(key) => {
                let version = engine.version(key)?;
                let expected = self.model.get(key).map(|entry| entry.version);
                ensure!(
                    version == expected || self.trial.evicted(version.is_none()),
                    "{} has version {version:?} instead of {expected:?}",
                    show(key)
                );
            }
            Op::Advance(by_ms) => self.trial.clock.advance(*by_ms),
            Op::List => self.compare()?,
            Op::Sync => engine.sync()?,
            Op::Clear => {
                let cleared = usize::try_from(engine.clear()?).unwrap_or(usize::MAX);
                let (live, all) = (self.model.live().count(), self.model.len());
                let least = if self.trial.liberties.may_evict { 0 } else { live };
                ensure!(
                    (least..=all).contains(&cleared),
                    "clear says {cleared}, {live} of {all} entries were live"
                );
                self.model.clear();
            }
            Op::Reopen(end) => self.trial.reopen(*end)?,
        }
        Ok(())
    }

    fn get(&mut self, key: &[u8]) -> Verdict<Option<Value>> {
        let found = self.trial.get(key)?;
        let expected = self.model.get(key);
        self.score.live += usize::from(expected.is_some());
        self.score.hits += usize::from(found.is_some());
        self.agrees(key, found.as_ref())?;
        Ok(found)
    }

    /// What was found is what the model has, in every respect.
    fn agrees(&self, key: &[u8], found: Option<&Value>) -> Verdict {
        let expected = self.model.get(key);
        let (Some(found), Some(expected)) = (found, expected) else {
            ensure!(
                found.is_none() && (expected.is_none() || self.trial.liberties.may_evict),
                "{} is {} and should be {}",
                show(key),
                found.map_or("absent".to_owned(), |value| show(value)),
                expected.map_or("absent".to_owned(), |entry| show(&entry.value))
            );
            return Ok(());
        };
        ensure!(
            **found == *expected.value,
            "{} is {} and should be {}",
            show(key),
            show(found),
            show(&expected.value)
        );
        let meta = found.meta();
        let said = (meta.codec, meta.expires_at_ms, meta.version);
        let due = (expected.codec, expected.deadline_ms, expected.version);
        ensure!(
            said == due,
            "codec, deadline and version of {} are {said:?}, not {due:?}",
            show(key)
        );
        Ok(())
    }

    /// Everything listed is in the model, once, and nothing is missing; what is held is whole.
    fn compare(&self) -> Verdict {
        let mut seen = BTreeSet::new();
        // Counted before: an engine that evicts in a thread of its own may do so while it lists.
        let before = usize::try_from(self.trial.engine().len()).unwrap_or(usize::MAX);
        for entry in self.trial.engine().iter() {
            let (key, value) = entry?;
            self.agrees(&key, Some(&value))?;
            ensure!(seen.insert(key.clone()), "{} is listed twice", show(&key));
        }
        let may_evict = self.trial.liberties.may_evict;
        let unlisted = self.model.live().find(|(key, _)| !seen.contains(*key));
        if let Some((key, _)) = unlisted {
            ensure!(may_evict, "{} is there and not listed", show(key));
        }
        let after = usize::try_from(self.trial.engine().len()).unwrap_or(usize::MAX);
        let least = if may_evict { 0 } else { seen.len() };
        ensure!(
            (seen.len()..=self.model.len()).contains(&before)
                && (least..=self.model.len()).contains(&after),
            "len is {before}, and {after} after listing: {} entries are live, {} were put",
            seen.len(),
            self.model.len()
        );
        for (held, bytes) in &self.held {
            ensure!(
                **held == **bytes,
                "a held value turned from {} into {}",
                show(bytes),
                show(held)
            );
        }
        Ok(())
    }
}

/// Draws a sequence. Each has keys, sizes and habits of its own, so that some stay small and
/// others fill up.
fn draw(seed: u64, steps: usize, liberties: Liberties) -> Vec<Op> {
    let mut random = Random::new(seed);
    let keys = draw_keys(&mut random);
    let large = random.chance(30);
    let expiring = *random.pick(&[0, 20, 60]);
    let mut ops = Vec::with_capacity(steps);
    for _ in 0..steps {
        let key = random.pick(&keys).clone();
        ops.push(match random.below(1000) {
            0..420 => Op::Put {
                key,
                seed: random.next_u64(),
                len: draw_len(&mut random, large).min(liberties.admits_len),
                options: draw_options(&mut random, expiring),
            },
            420..690 => Op::Get(key),
            690..720 => Op::Hold(key),
            720..810 => Op::Remove(key),
            810..850 => Op::Contains(key),
            850..890 => Op::Version(key),
            890..950 => Op::Advance(u64::try_from(random.below(40)).unwrap_or(0)),
            950..970 => Op::List,
            970..980 => Op::Sync,
            980..985 => Op::Clear,
            _ if liberties.keeps == Keeps::Nothing => Op::List,
            _ if random.chance(50) => Op::Reopen(End::Close),
            // Dropping what says that it loses something would only excuse misses.
            _ if liberties.keeps == Keeps::Everything => Op::Reopen(End::Drop),
            _ => Op::Sync,
        });
    }
    ops
}

fn draw_keys(random: &mut Random) -> Vec<Vec<u8>> {
    let count = *random.pick(&[3, 30, 300]);
    let base = expand(random.next_u64(), 64);
    let mut keys = vec![Vec::new(), base.clone(), expand(1, KEY_LEN_MAX)];
    for n in 0..count {
        keys.push(match random.below(4) {
            0 => base[..random.below(base.len())].to_vec(),
            1 => expand(n, 1 + random.below(2_000)),
            _ => format!("key {n}").into_bytes(),
        });
    }
    keys
}

fn draw_len(random: &mut Random, large: bool) -> usize {
    match random.below(if large { 100 } else { 90 }) {
        0..10 => 0,
        10..60 => random.below(200),
        60..80 => random.below(5_000),
        80..90 => (30 << 10) + random.below(5 << 10),
        _ => random.below(300 << 10),
    }
}

fn draw_options(random: &mut Random, expiring: usize) -> Put<'static> {
    let ms = |random: &mut Random| Duration::from_millis(random.below(80) as u64);
    let ttl = match random.below(10) {
        _ if !random.chance(expiring) => Ttl::Default,
        0 => Ttl::Never,
        1 => Ttl::After(Duration::ZERO),
        2 => Ttl::At(UNIX_EPOCH + Duration::from_millis(START_MS) + 20 * ms(random)),
        _ => Ttl::After(ms(random)),
    };
    let durability = if random.chance(2) { Durability::Sync } else { Durability::None };
    let codec = CodecId { id: random.next_u64().to_le_bytes()[0], version: 1 };
    Put { ttl, durability, codec, ..Put::default() }
}

impl fmt::Debug for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, len, options, .. } => {
                write!(out, "put {} of {len} bytes, {:?}", show(key), options.ttl)
            }
            Self::Get(key) => write!(out, "get {}", show(key)),
            Self::Hold(key) => write!(out, "get and hold {}", show(key)),
            Self::Remove(key) => write!(out, "remove {}", show(key)),
            Self::Contains(key) => write!(out, "contains {}", show(key)),
            Self::Version(key) => write!(out, "version {}", show(key)),
            Self::Advance(by_ms) => write!(out, "advance {by_ms} ms"),
            Self::List => write!(out, "list"),
            Self::Sync => write!(out, "sync"),
            Self::Clear => write!(out, "clear"),
            Self::Reopen(end) => write!(out, "reopen after {end:?}"),
        }
    }
}
