//! Disk stores: writes into fresh stores, reads from preloaded ones, and deletes.

use larder_rivals::{DiskEngine, DiskRival, Plan, Result};

use crate::data::{ends, key, shuffled};
use crate::report::Group;
use crate::rounds::{Setup, Title, asked};
use crate::stores::{Loaded, Sum, check_three, put_batches, put_each, size, sum_of};
use crate::timed::{Took, on_threads, share};

/// Keys of one call of `get-many`.
const MANY: usize = 64;

/// A workload over stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Workload {
    Put,
    Load,
    Get,
    GetMany,
    GetAlone,
    Miss,
    Delete,
}

impl Workload {
    const ALL: [Self; 7] =
        [Self::Put, Self::Load, Self::Get, Self::GetMany, Self::GetAlone, Self::Miss, Self::Delete];

    const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Load => "load",
            Self::Get => "get",
            Self::GetMany => "get-many",
            Self::GetAlone => "get-alone",
            Self::Miss => "miss",
            Self::Delete => "delete",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Put => "put, each a write of its own, no sync",
            Self::Load => "load in batches of 1000, no sync",
            Self::Get => "get, random hits, in one read transaction",
            Self::GetMany => "get-many, random hits, 64 keys a call",
            Self::GetAlone => "get, random hits, each a read of its own",
            Self::Miss => "miss, in one read transaction",
            Self::Delete => "delete, in random order, each a write of its own, no sync",
        }
    }

    const fn regime(self) -> &'static str {
        match self {
            Self::Put | Self::Load => "fresh store, in page cache",
            Self::Delete => "settled store, in page cache",
            Self::Get | Self::GetMany | Self::GetAlone | Self::Miss => {
                "settled store, page cache warm"
            }
        }
    }

    /// Whether it reads a store that the other reads use as well.
    const fn reads(self) -> bool {
        matches!(self, Self::Get | Self::GetMany | Self::GetAlone | Self::Miss)
    }

    fn note(self, engine: &DiskEngine) -> String {
        match self {
            Self::Load if !engine.batches => "single puts",
            Self::Get | Self::Miss if !engine.transactions => "single gets",
            Self::GetMany => engine.many,
            _ => "",
        }
        .to_owned()
    }
}

/// Names that `--only` takes.
#[must_use]
pub fn workloads() -> Vec<&'static str> {
    Workload::ALL.into_iter().map(Workload::name).collect()
}

/// Runs the workloads of these names, or all, over so many records of each length of values.
///
/// # Errors
/// Whatever an engine says, or a wrong answer of one.
pub fn run(
    setup: &Setup,
    only: &[String],
    counts: &[(usize, u64)],
    groups: &mut Vec<Group>,
) -> Result<()> {
    for &(value_len, count) in counts {
        let plan = Plan::new(count, value_len);
        let bench = Bench { setup, plan, order: shuffled(count) };
        let (reads, writes): (Vec<_>, Vec<_>) = Workload::ALL
            .into_iter()
            .filter(|workload| asked(only, workload.name()))
            .partition(|workload| workload.reads());
        let (deletes, writes): (Vec<_>, Vec<_>) =
            writes.into_iter().partition(|workload| *workload == Workload::Delete);
        for workload in writes {
            let measure = |_: usize, engine: &DiskEngine| bench.write(workload, engine);
            bench.rounds(workload, measure, groups)?;
        }
        if !reads.is_empty() {
            let stores = setup.engines.iter().map(|engine| bench.preloaded(engine));
            let stores: Vec<_> = stores.collect::<Result<_>>()?;
            for workload in reads {
                let measure = |at: usize, _: &DiskEngine| bench.read(workload, &*stores[at].store);
                bench.rounds(workload, measure, groups)?;
            }
        }
        for workload in deletes {
            bench.rounds(workload, |_, engine| bench.delete(engine), groups)?;
        }
    }
    Ok(())
}

/// One size of values.
struct Bench<'a> {
    setup: &'a Setup,
    plan: Plan,
    /// The records in the order of reads. They are written in their own order.
    order: Vec<u64>,
}

impl Bench<'_> {
    fn rounds(
        &self,
        workload: Workload,
        measure: impl FnMut(usize, &DiskEngine) -> Result<Took>,
        groups: &mut Vec<Group>,
    ) -> Result<()> {
        let samples = self.setup.rounds(workload.name(), measure)?;
        let Plan { count, value_len, .. } = self.plan;
        let title = Title {
            workload: format!("disk/{}/{value_len}", workload.name()),
            title: format!("disk, {}: {}", size(value_len), workload.title()),
            regime: workload.regime(),
        };
        self.setup.speeds(title, count, &samples, |engine| workload.note(engine), groups);
        Ok(())
    }

    /// The part of the records in random order that falls to a thread.
    fn order(&self, thread: usize) -> &[u64] {
        &self.order[share(self.order.len(), thread, self.setup.threads)]
    }

    /// Fills a fresh store, and returns how long that took. Opening and closing do not
    /// count; the files are deleted before they have to be written back.
    fn write(&self, workload: Workload, engine: &DiskEngine) -> Result<Took> {
        let loaded = Loaded::fresh(engine.open, &self.plan, &self.setup.dir)?;
        let store = &*loaded.store;
        let threads = self.setup.threads;
        let count = usize::try_from(self.plan.count)?;
        let put = if workload == Workload::Put { put_each } else { put_batches };
        let (took, _) =
            on_threads(threads, |thread| put(store, &self.plan, share(count, thread, threads)))?;
        check_three(store, &self.plan)?;
        Ok(took)
    }

    fn preloaded(&self, engine: &DiskEngine) -> Result<Loaded> {
        Loaded::checked(engine.open, &self.plan, &self.setup.dir, &self.order)
            .map_err(|error| format!("{}: {error}", engine.name).into())
    }

    /// Reads in random order, and returns how long that took.
    fn read(&self, workload: Workload, store: &dyn DiskRival) -> Result<Took> {
        let (took, sums) = on_threads(self.setup.threads, |thread| {
            let order = self.order(thread);
            match workload {
                Workload::GetAlone => sum_of(order, 0, |key, look| store.get(key, look)),
                Workload::GetMany => sum_of_many(order, store),
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
        let missing = workload == Workload::Miss;
        let expected = if missing { Sum::default() } else { Sum::of_all(&self.plan) };
        expected.expect(sums)?;
        Ok(took)
    }

    /// Fills a fresh store, removes everything, and returns how long the latter took.
    fn delete(&self, engine: &DiskEngine) -> Result<Took> {
        let loaded = Loaded::full(engine.open, &self.plan, &self.setup.dir)?;
        let store = &*loaded.store;
        check_three(store, &self.plan)?;
        let (took, _) = on_threads(self.setup.threads, |thread| {
            for &record in self.order(thread) {
                store.delete(&key(record))?;
            }
            store.drain()
        })?;
        let mut reader = store.reader()?;
        Sum::default().expect([sum_of(&self.order, 0, |key, look| reader.get(key, look))?])?;
        drop(reader);
        Ok(took)
    }
}

/// Gets the records of `order`, many at a time.
fn sum_of_many(order: &[u64], store: &dyn DiskRival) -> Result<Sum> {
    let mut sum = Sum::default();
    let mut keys = Vec::with_capacity(MANY);
    for records in order.chunks(MANY) {
        keys.clear();
        keys.extend(records.iter().map(|record| key(*record)));
        let mut seen = 0_u64;
        sum.hits += store.get_many(&keys, &mut |value| seen = seen.wrapping_add(ends(value)))?;
        sum.ends = sum.ends.wrapping_add(seen);
    }
    Ok(sum)
}
