//! `side-by-side`: larder and its rivals in one run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use larder_benches::machine::Machine;
use larder_benches::report::Report;
use larder_benches::{disk, memory, reopen};
use larder_rivals::Result;
use serde::Serialize;

/// Measures larder and its rivals in one run, in interleaved repeats.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Disk stores: put, load, get, miss, with values of 100 B and 16 KiB.
    Disk(DiskArgs),
    /// Caches in memory: hits, and a mix of hits and inserts.
    Memory(MemoryArgs),
    /// Opening larder again after a clean close, SIGKILL, and with nothing trusted.
    Reopen(ReopenArgs),
    /// Fills a store and waits to be killed; `reopen` starts this.
    #[command(hide = true)]
    Fill {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        count: u64,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// Engines to run; all unless given.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// Repeats of each measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// Threads that work at once; several numbers are run one after the other.
    #[arg(long, default_value = "1", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    threads: Vec<u16>,
    /// Writes all figures to this file, `-` for the standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct DiskArgs {
    #[command(flatten)]
    common: Common,
    /// Workloads to run; all unless given.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(disk::workloads()))]
    only: Vec<String>,
    /// Records with a value of 100 B; 0 leaves the size out.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Records with a value of 16 KiB; 0 leaves the size out.
    #[arg(long, default_value_t = 20_000)]
    count_16k: u64,
    /// Where to make stores: a directory on the disk to be measured.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct MemoryArgs {
    #[command(flatten)]
    common: Common,
    /// Workloads to run; all unless given.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(memory::workloads()))]
    only: Vec<String>,
    /// Requests of each repeat.
    #[arg(long, default_value_t = 8_000_000)]
    count: u64,
}

#[derive(Debug, Args)]
struct ReopenArgs {
    /// Numbers of entries.
    #[arg(long, default_value = "10000,100000,1000000", value_delimiter = ',')]
    count: Vec<u64>,
    /// Repeats of each measurement.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// Where to make stores: a directory on the disk to be measured.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Writes all figures to this file, `-` for the standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side-by-side: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Disk(args) => side_by_side(&args.common, |threads, groups| {
            let counts = [(100, args.count), (16 << 10, args.count_16k)];
            let options = disk::Options {
                dir: args.dir.clone(),
                only: args.only.clone(),
                engines: args.common.engines.clone(),
                counts: counts.into_iter().filter(|(_, count)| *count > 0).collect(),
                repeats: args.common.repeats.into(),
                threads,
            };
            disk::run(&options, groups)
        }),
        Command::Memory(args) => side_by_side(&args.common, |threads, groups| {
            let options = memory::Options {
                only: args.only.clone(),
                engines: args.common.engines.clone(),
                requests: args.count,
                repeats: args.common.repeats.into(),
                threads,
            };
            memory::run(&options, groups)
        }),
        Command::Reopen(args) => {
            let ReopenArgs { count: counts, repeats, dir, json } = args;
            let report = reopen::run(&reopen::Options { dir, counts, repeats: repeats.into() })?;
            write(json.as_deref(), &report)
        }
        Command::Fill { dir, count } => reopen::fill(&dir, count),
    }
}

fn side_by_side(
    common: &Common,
    mut run: impl FnMut(usize, &mut Vec<larder_benches::report::Group>) -> Result<()>,
) -> Result<()> {
    let repeats = common.repeats.into();
    let mut report = Report { machine: Machine::here(), repeats, groups: Vec::new() };
    report.machine.print();
    println!("medians of {repeats} interleaved repeats");
    for &threads in &common.threads {
        run(threads.into(), &mut report.groups)?;
    }
    write(common.json.as_deref(), &report)
}

fn write(path: Option<&Path>, report: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let json = serde_json::to_string_pretty(report)?;
    if path == Path::new("-") {
        println!("{json}");
    } else {
        std::fs::write(path, json + "\n")?;
    }
    Ok(())
}
