//! Everything, at sizes that fit some minutes.

use std::path::PathBuf;

use larder_rivals::{DiskEngine, Result};

use crate::report::Report;
use crate::rounds::Setup;
use crate::{amplification, disk, durable, heap, large, memory, mix, reopen, space, stall};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where stores are made.
    pub dir: PathBuf,
    /// The stores.
    pub engines: Vec<DiskEngine>,
    /// Repeats of each measurement; waits, storage and memory are measured once.
    pub repeats: usize,
    /// Counts, in percent of those that take some 12 minutes.
    pub percent: u32,
    /// A recorded trace for the write amplification; without one, Zipf 0.99 stands in.
    pub trace: Option<PathBuf>,
}

/// Runs everything.
///
/// # Errors
/// Whatever an engine says, or a wrong answer of one.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let scaled = |count: u32| (u64::from(count) * u64::from(options.percent) / 100).max(100);
    let setup = |threads, repeats| Setup {
        dir: options.dir.clone(),
        engines: options.engines.clone(),
        repeats,
        threads,
    };
    let once = setup(1, 1);
    let groups = &mut report.groups;
    let sizes = [(100, scaled(COUNT)), (16 << 10, scaled(COUNT_16K))];
    disk::run(&setup(1, options.repeats), &[], &sizes, groups)?;
    let two: Vec<String> = TWO_THREADS.map(str::to_owned).to_vec();
    disk::run(&setup(2, options.repeats), &two, &sizes[..1], groups)?;
    for threads in [1, 2, 4] {
        mix::run(&setup(threads, options.repeats), scaled(MIX), groups)?;
    }
    large::run(&setup(1, options.repeats), scaled(LARGE), groups)?;
    for threads in [1, 16] {
        durable::run(&setup(threads, options.repeats), scaled(DURABLE), groups)?;
    }
    for threads in [1, 2] {
        let memory = memory::Options {
            only: Vec::new(),
            engines: Vec::new(),
            requests: scaled(MEMORY),
            repeats: options.repeats,
            threads,
        };
        memory::run(&memory, groups, &mut report.sheets)?;
    }

    let sheets = &mut report.sheets;
    stall::run(&once, scaled(STALL), sheets)?;
    space::run(&once, scaled(SPACE), sheets)?;
    heap::run(&once, scaled(COUNT), sheets)?;
    reopen::beside(&setup(1, options.repeats), scaled(COUNT), sheets)?;
    let dir = tempfile::tempdir_in(&options.dir)?;
    let trace = dir.path().join("zipf-0.99.oracleGeneral");
    if options.trace.is_none() {
        let requests = scaled(TRACE);
        amplification::write_synthetic(&trace, u32::try_from(requests / 12)?.max(1), requests)?;
    }
    let amplification = amplification::Options {
        dir: options.dir.clone(),
        trace: options.trace.clone().unwrap_or(trace),
        requests: u64::from(u32::MAX),
        passes: 1,
        percents: vec![10],
        repeats: 1,
    };
    amplification::run(&amplification, sheets)?;

    let counts = vec![scaled(COUNT)];
    let reopening = reopen::Options { dir: options.dir.clone(), counts, repeats: options.repeats };
    reopen::run(&reopening, &mut report.reopen)
}

const COUNT: u32 = 120_000;
const COUNT_16K: u32 = 2_000;
/// Workloads of 100 B that are run with two threads as well.
const TWO_THREADS: [&str; 3] = ["put", "get-alone", "miss"];
const MIX: u32 = 200_000;
const LARGE: u32 = 200;
const DURABLE: u32 = 500;
const MEMORY: u32 = 4_000_000;
const STALL: u32 = 400_000;
/// So many that a segment more or less does not show.
const SPACE: u32 = 400_000;
const TRACE: u32 = 3_000_000;
