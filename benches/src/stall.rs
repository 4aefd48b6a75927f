//! How long single puts take: the usual, and the worst. A put that happens to grow an index,
//! roll a segment, write a memtable or compact makes its caller wait.

use std::time::Instant;

use hdrhistogram::Histogram;
use larder_rivals::{DiskEngine, DiskRival, Plan, Result};

use crate::data::{is_value, key, mix, stamped};
use crate::rounds::Setup;
use crate::sheet::{Column, Line, Sheet};
use crate::stores::{Loaded, size};
use crate::timed::{on_threads, share, threads};

const VALUE_LEN: usize = 100;
/// Bytes that larder takes for a record of this size, its slot included, more or less.
const RECORD_LEN: u64 = 160;
/// How often the budget is written over while it reclaims.
const BUDGETS_WRITTEN: u64 = 8;
const BUDGET_MIN: u64 = 16 << 20;
const COLUMNS: [Column; 4] = [
    Column { name: "p50", unit: "µs" },
    Column { name: "p99", unit: "µs" },
    Column { name: "p99.99", unit: "µs" },
    Column { name: "max", unit: "µs" },
];

/// Which records are put.
#[derive(Debug, Clone, Copy)]
struct Load {
    plan: Plan,
    puts: u64,
    /// Whether records are overwritten at random, rather than each put once.
    overwrites: bool,
}

/// What one run found.
struct Found {
    figures: Vec<Option<f64>>,
    /// The share of records that is still there.
    kept: f64,
}

/// Measures so many puts of new keys, and so many overwrites with a small budget.
///
/// # Errors
/// Whatever an engine says, or a wrong answer of one.
pub fn run(setup: &Setup, puts: u64, sheets: &mut Vec<Sheet>) -> Result<()> {
    let grow = Load { plan: Plan::new(puts, VALUE_LEN), puts, overwrites: false };
    let title = format!("latency of single puts of 100 B: {puts} new keys");
    measure_all(setup, "grow", title, "fresh store, in page cache", &grow, sheets)?;

    let budget = (puts * RECORD_LEN / BUDGETS_WRITTEN).max(BUDGET_MIN);
    let live = (budget / 4 / RECORD_LEN).min(puts);
    let plan = Plan { writes: puts, budget: Some(budget), ..Plan::new(live, VALUE_LEN) };
    let reclaim = Load { plan, puts, overwrites: true };
    let title = format!(
        "latency of single puts of 100 B: {puts} overwrites of {live} records at random, in a \
         budget of {} for those that evict",
        size(usize::try_from(budget)? >> 20 << 20)
    );
    measure_all(setup, "reclaim", title, "a store that reclaims what is dead", &reclaim, sheets)
}

fn measure_all(
    setup: &Setup,
    name: &str,
    title: String,
    regime: &'static str,
    load: &Load,
    sheets: &mut Vec<Sheet>,
) -> Result<()> {
    let found = setup.rounds(name, |_, engine| measure(setup, load, engine))?;
    let row = |(engine, found): (&DiskEngine, Vec<Found>)| {
        let kept = found.iter().map(|found| found.kept).fold(1.0, f64::min);
        let note = if kept < 1.0 {
            format!("{:.1} % of the records kept", 100.0 * kept)
        } else {
            String::new()
        };
        let figures: Vec<_> = found.into_iter().map(|found| found.figures).collect();
        Line::new(engine.name, engine.settings, note, &figures)
    };
    let mut sheet = Sheet {
        workload: format!("stall/{name}/{VALUE_LEN}"),
        title: format!("{title}, {}", threads(setup.threads)),
        regime,
        columns: COLUMNS.to_vec(),
        rows: setup.engines.iter().zip(found).map(row).collect(),
    };
    sheet.compare();
    sheet.print();
    sheets.push(sheet);
    Ok(())
}

fn measure(setup: &Setup, load: &Load, engine: &DiskEngine) -> Result<Found> {
    let loaded = Loaded::fresh(engine.open, &load.plan, &setup.dir)?;
    let store = &*loaded.store;
    let count = usize::try_from(load.puts)?;
    let (_, histograms) = on_threads(setup.threads, |thread| {
        put_timed(store, load, share(count, thread, setup.threads))
    })?;
    let mut all = histogram()?;
    for histogram in histograms {
        all.add(histogram)?;
    }
    let us = |ns: u64| Some(ns as f64 / 1000.0);
    let figures = vec![
        us(all.value_at_quantile(0.5)),
        us(all.value_at_quantile(0.99)),
        us(all.value_at_quantile(0.9999)),
        us(all.max()),
    ];
    store.drain()?;
    Ok(Found { figures, kept: kept(store, load, engine.evicts)? })
}

fn histogram() -> Result<Histogram<u64>> {
    // From 1 ns to 10 minutes, to three digits.
    Ok(Histogram::new_with_bounds(1, 600_000_000_000, 3)?)
}

fn put_timed(
    store: &dyn DiskRival,
    load: &Load,
    puts: std::ops::Range<usize>,
) -> Result<Histogram<u64>> {
    let mut histogram = histogram()?;
    let mut buffer = Vec::with_capacity(VALUE_LEN);
    for put in puts {
        let record = load.record(put as u64);
        stamped(record, VALUE_LEN, put as u64, &mut buffer);
        let start = Instant::now();
        store.put(&key(record), &buffer)?;
        histogram.saturating_record(u64::try_from(start.elapsed().as_nanos())?);
    }
    Ok(histogram)
}

impl Load {
    const fn record(&self, put: u64) -> u64 {
        if self.overwrites { mix(put ^ 0x57a1_1ed0) % self.plan.count } else { put }
    }
}

/// The share of records that are there, whole; a store that does not evict must have all.
fn kept(store: &dyn DiskRival, load: &Load, evicts: bool) -> Result<f64> {
    let mut put = vec![false; usize::try_from(load.plan.count)?];
    for number in 0..load.puts {
        put[usize::try_from(load.record(number))?] = true;
    }
    let (mut kept, mut records) = (0_u64, 0_u64);
    for (record, _) in put.iter().enumerate().filter(|(_, put)| **put) {
        let mut right = false;
        let record = record as u64;
        let mut look = |bytes: &[u8]| right = is_value(bytes, record, VALUE_LEN);
        let found = store.get(&key(record), &mut look)?;
        if found && !right {
            return Err(format!("record {record} has a wrong value").into());
        }
        records += 1;
        kept += u64::from(found);
    }
    if kept < records && !(evicts && load.plan.budget.is_some()) {
        return Err(format!("{} of {records} records are missing", records - kept).into());
    }
    Ok(kept as f64 / records.max(1) as f64)
}
