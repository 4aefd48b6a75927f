//! Disk stores: writes into fresh stores, reads from preloaded ones.

use std::hint::black_box;
use std::path::Path;

use larder_rivals::disk::engines;
use larder_rivals::{DiskEngine, DiskRival, Plan, Result};
use tempfile::TempDir;

use crate::data::{ends, key, shuffled, value};
use crate::report::{Group, Row};
use crate::timed::{Took, on_threads, share};

/// Records of a batch.
const BATCH: usize = 1000;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where stores are made.
    pub dir: std::path::PathBuf,
    /// Names of the workloads; all if empty.
    pub only: Vec<String>,
    /// Names of the engines; all if empty.
    pub engines: Vec<String>,
    /// Lengths of values, and how many records of each.
    pub counts: Vec<(usize, u64)>,
    /// Repeats of each measurement.
    pub repeats: usize,
    /// Threads that work at once.
    pub threads: usize,
}

/// A workload over stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Workload {
    Put,
    Load,
    Get,
    GetAlone,
    Miss,
}

impl Workload {
    const WRITES: [Self; 2] = [Self::Put, Self::Load];
    const READS: [Self; 3] = [Self::Get, Self::GetAlone, Self::Miss];

    const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Load => "load",
            Self::Get => "get",
            Self::GetAlone => "get-alone",
            Self::Miss => "miss",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Put => "put, each a write of its own, no sync",
            Self::Load => "load in batches of 1000, no sync",
            Self::Get => "get, random hits, in one read transaction",
            Self::GetAlone => "get, random hits, each a read of its own",
            Self::Miss => "miss, in one read transaction",
        }
    }

    const fn regime(self) -> &'static str {
        match self {
            Self::Put | Self::Load => "fresh store, in page cache",
            Self::Get | Self::GetAlone | Self::Miss => "settled store, page cache warm",
        }
    }
}

/// Names that `--only` takes.
#[must_use]
pub fn workloads() -> Vec<&'static str> {
    Workload::WRITES.into_iter().chain(Workload::READS).map(Workload::name).collect()
}

/// Runs all workloads that were asked for.
///
/// # Errors
/// Whatever an engine says, or a wrong answer of one.
pub fn run(options: &Options, groups: &mut Vec<Group>) -> Result<()> {
    let asked = |names: &[String], name| names.is_empty() || names.iter().any(|n| n == name);
    let mut engines = engines();
    let known: Vec<_> = engines.iter().map(|engine| engine.name).collect();
    engines.retain(|engine| asked(&options.engines, engine.name));
    if engines.is_empty() {
        return Err(format!("no such engine: there are {}", known.join(", ")).into());
    }
    for &(value_len, count) in &options.counts {
        let plan = Plan::new(count, value_len);
        let bench = Bench { options, plan, order: shuffled(count) };
        for workload in Workload::WRITES {
            if asked(&options.only, workload.name()) {
                let measure = |at: usize| bench.write(workload, &engines[at]);
                bench.rounds(workload, &engines, measure, groups)?;
            }
        }
        let reads = Workload::READS.into_iter().filter(|read| asked(&options.only, read.name()));
        let reads: Vec<_> = reads.collect();
        if reads.is_empty() {
            continue;
        }
        let stores: Vec<_> =
            engines.iter().map(|engine| bench.preloaded(engine)).collect::<Result<_>>()?;
        for workload in reads {
            let measure = |at: usize| bench.read(workload, &*stores[at].store);
            bench.rounds(workload, &engines, measure, groups)?;
        }
    }
    Ok(())
}

/// One size of values.
struct Bench<'a> {
    options: &'a Options,
    plan: Plan,
    /// The records in the order of reads. They are written in their own order.
    order: Vec<u64>,
}

/// A store and its directory, dropped in this order.
struct Loaded {
    store: Box<dyn DiskRival>,
    _dir: TempDir,
}

impl Bench<'_> {
    /// Measures every engine once in each round, beginning with another one each time, so that
    /// what disturbs the machine disturbs all alike.
    fn rounds(
        &self,
        workload: Workload,
        engines: &[DiskEngine],
        mut measure: impl FnMut(usize) -> Result<Took>,
        groups: &mut Vec<Group>,
    ) -> Result<()> {
        let mut samples = vec![Vec::new(); engines.len()];
        for round in 0..self.options.repeats {
            for turn in 0..engines.len() {
                let at = (round + turn) % engines.len();
                let took = measure(at).map_err(|error| {
                    format!("{} of {}: {error}", workload.name(), engines[at].name)
                })?;
                samples[at].push(took);
            }
        }
        let row = |(engine, samples): (&DiskEngine, Vec<Took>)| Row {
            note: note(workload, engine).to_owned(),
            ..Row::new(engine.name, engine.settings, self.plan.count, &samples)
        };
        let size = match self.plan.value_len {
            len if len.is_multiple_of(1 << 10) => format!("{} KiB", len >> 10),
            len => format!("{len} B"),
        };
        let mut group = Group {
            workload: format!("disk/{}/{}", workload.name(), self.plan.value_len),
            title: format!("disk, {size}: {}", workload.title()),
            regime: workload.regime(),
            threads: self.options.threads,
            operations: self.plan.count,
            rows: engines.iter().zip(samples).map(row).collect(),
        };
        group.compare();
        group.print();
        groups.push(group);
        Ok(())
    }

    fn fresh(&self, engine: &DiskEngine) -> Result<Loaded> {
        let dir = tempfile::Builder::new().prefix("side-by-side-").tempdir_in(&self.options.dir)?;
        private(dir.path())?;
        Ok(Loaded { store: (engine.open)(dir.path(), &self.plan)?, _dir: dir })
    }

    /// Fills a fresh store, and returns how long that took. Opening and closing do not
    /// count; the files are deleted before they have to be written back.
    fn write(&self, workload: Workload, engine: &DiskEngine) -> Result<Took> {
        let loaded = self.fresh(engine)?;
        let store = &*loaded.store;
        let threads = self.options.threads;
        let count = usize::try_from(self.plan.count)?;
        let (took, _) = on_threads(threads, |thread| {
            let share = share(count, thread, threads);
            if workload == Workload::Put {
                self.put_each(store, share)
            } else {
                self.put_batches(store, share)
            }
        })?;
        // A spot check: what was written is there, to the last byte.
        for record in [0, self.plan.count / 2, self.plan.count - 1] {
            self.check(record, |look| store.get(&key(record), look))?;
        }
        Ok(took)
    }

    fn put_each(&self, store: &dyn DiskRival, share: std::ops::Range<usize>) -> Result<()> {
        for record in share {
            store.put(&key(record as u64), value(record as u64, self.plan.value_len))?;
        }
        Ok(())
    }

    fn put_batches(&self, store: &dyn DiskRival, share: std::ops::Range<usize>) -> Result<()> {
        for start in share.clone().step_by(BATCH) {
            let records = start as u64..(start + BATCH).min(share.end) as u64;
            let mut records =
                records.map(|record| (key(record), value(record, self.plan.value_len)));
            store.put_batch(&mut records)?;
        }
        Ok(())
    }

    /// A store that holds everything, after all of it was read and compared once.
    fn preloaded(&self, engine: &DiskEngine) -> Result<Loaded> {
        let loaded = self.fresh(engine)?;
        self.put_batches(&*loaded.store, 0..usize::try_from(self.plan.count)?)?;
        loaded.store.settle()?;
        let mut reader = loaded.store.reader()?;
        for &record in &self.order {
            self.check(record, |look| reader.get(&key(record), look))
                .map_err(|error| format!("{}: {error}", engine.name))?;
        }
        drop(reader);
        Ok(loaded)
    }

    /// Reads in random order, and returns how long that took.
    fn read(&self, workload: Workload, store: &dyn DiskRival) -> Result<Took> {
        let threads = self.options.threads;
        let (took, sums) = on_threads(threads, |thread| {
            let order = &self.order[share(self.order.len(), thread, threads)];
            match workload {
                Workload::GetAlone => sum_of(order, 0, |key, look| store.get(key, look)),
                Workload::Miss => {
                    let mut reader = store.reader()?;
                    sum_of(order, self.plan.count, |key, look| reader.get(key, look))
                }
                _ => {
                    let mut reader = store.reader()?;
                    sum_of(order, 0, |key, look| reader.get(key, look))
                }
            }
        })?;
        let sum = sums.into_iter().fold(Sum::default(), |a, b| Sum {
            hits: a.hits + b.hits,
            ends: a.ends.wrapping_add(b.ends),
        });
        let expected = if workload == Workload::Miss { Sum::default() } else { self.all() };
        if sum != expected {
            return Err(format!("wrong answers: {sum:?} instead of {expected:?}").into());
        }
        Ok(took)
    }

    /// The sum over all records, as the readers make it.
    fn all(&self) -> Sum {
        let values = (0..self.plan.count).map(|record| value(record, self.plan.value_len));
        let ends = values.fold(0_u64, |sum, value| sum.wrapping_add(ends(value)));
        Sum { hits: self.plan.count, ends }
    }

    /// Checks that `get` shows the whole value of a record.
    fn check(
        &self,
        record: u64,
        get: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<bool>,
    ) -> Result<()> {
        let mut right = false;
        let found = get(&mut |bytes| right = bytes == value(record, self.plan.value_len))?;
        match (found, right) {
            (true, true) => Ok(()),
            (false, _) => Err(format!("record {record} is missing").into()),
            _ => Err(format!("record {record} has a wrong value").into()),
        }
    }
}

/// What readers make of values, in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    hits: u64,
    ends: u64,
}

/// Gets each record of `order`, `offset` added to its number.
#[inline]
fn sum_of(
    order: &[u64],
    offset: u64,
    mut get: impl FnMut(&[u8], &mut dyn FnMut(&[u8])) -> Result<bool>,
) -> Result<Sum> {
    let mut sum = Sum::default();
    for record in order {
        let mut seen = 0;
        sum.hits += u64::from(get(&key(record + offset), &mut |value| seen = ends(value))?);
        sum.ends = sum.ends.wrapping_add(black_box(seen));
    }
    Ok(sum)
}

fn note(workload: Workload, engine: &DiskEngine) -> &'static str {
    match workload {
        Workload::Load if !engine.batches => "single puts",
        Workload::Get | Workload::Miss if !engine.transactions => "single gets",
        _ => "",
    }
}

/// Makes a directory its owner's alone, as larder wants it.
fn private(dir: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    }
    let _ = dir;
    Ok(())
}
