//! `side-by-side`: larder and its rivals in one run.

mod args;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use larder_benches::report::{Group, Report};
use larder_benches::rounds::{Setup, named};
use larder_benches::sheet::Sheet;
use larder_benches::{
    all, amplification, arrays, disk, durable, heap, large, memo, memory, mix, plot, processes,
    reopen, space, stall,
};
use larder_rivals::Result;

use args::{
    AllArgs, AmplificationArgs, ArraysArgs, Cli, Command, Common, MemoArgs, Place, ProcessesArgs,
    ReopenArgs,
};

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
        Command::Disk(args) => {
            let counts = [(100, args.count), (16 << 10, args.count_16k)];
            let counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
            speeds(&args.common, &args.place, |setup, groups| {
                disk::run(setup, &args.only, &counts, groups)
            })
        }
        Command::Mix(args) => {
            speeds(&args.common, &args.place, |setup, groups| mix::run(setup, args.count, groups))
        }
        Command::Large(args) => {
            speeds(&args.common, &args.place, |setup, groups| large::run(setup, args.count, groups))
        }
        Command::Durable(args) => speeds(&args.common, &args.place, |setup, groups| {
            durable::run(setup, args.count, groups)
        }),
        Command::Stall(args) => figures(&args.common, &args.place, |setup, sheets| {
            stall::run(setup, args.count, sheets)
        }),
        Command::Processes(args) => run_processes(args),
        Command::Space(args) => figures(&args.common, &args.place, |setup, sheets| {
            space::run(setup, args.count, sheets)
        }),
        Command::Heap(args) => {
            figures(&args.common, &args.place, |setup, sheets| heap::run(setup, args.count, sheets))
        }
        Command::Memory(mut args) => {
            if args.short {
                (args.count, args.common.repeats) = (300_000, 3);
                args.common.threads = vec![1, 2, 8];
            }
            with_report(&args.common, |threads, report| {
                let options = memory::Options {
                    only: args.only.clone(),
                    engines: args.common.engines.clone(),
                    requests: args.count,
                    repeats: args.common.repeats.into(),
                    threads,
                };
                memory::run(&options, &mut report.groups, &mut report.sheets)
            })
        }
        Command::Memo(args) => run_memo(&args),
        Command::Reopen(args) => run_reopen(args),
        Command::Amplification(args) => run_amplification(args),
        Command::Arrays(args) => run_arrays(args),
        Command::All(args) => run_all(args),
        Command::Plot { from, to } => plot::draw(&from, &to),
        Command::Fill { dir, count } => reopen::fill(&dir, count),
        Command::DurableChild { engine, dir, count, threads } => {
            durable::child(&engine, &dir, count, threads)
        }
        Command::ProcessesChild { engine, dir, records, value_len, gets, number, ms } => {
            processes::child(
                &engine,
                &dir,
                &processes::Load { records, value_len, gets, ms },
                number,
            )
        }
        Command::FillMemory { engine } => memory::child(&engine),
        Command::HeapChild { engine, dir, count, phase } => {
            heap::child(&engine, &dir, count, &phase)
        }
    }
}

/// Runs something for each number of threads, and writes the report.
fn with_report(
    common: &Common,
    mut run: impl FnMut(usize, &mut Report) -> Result<()>,
) -> Result<()> {
    let mut report = Report::begin(common.repeats.into());
    for &threads in &common.threads {
        run(threads.into(), &mut report)?;
    }
    write(common.json.as_deref(), &report)
}

fn speeds(
    common: &Common,
    place: &Place,
    run: impl Fn(&Setup, &mut Vec<Group>) -> Result<()>,
) -> Result<()> {
    with_report(common, |threads, report| run(&common.setup(place, threads)?, &mut report.groups))
}

fn figures(
    common: &Common,
    place: &Place,
    run: impl Fn(&Setup, &mut Vec<Sheet>) -> Result<()>,
) -> Result<()> {
    with_report(common, |threads, report| run(&common.setup(place, threads)?, &mut report.sheets))
}

fn run_memo(args: &MemoArgs) -> Result<()> {
    let mut report = Report::begin(args.repeats.into());
    for &threads in &args.threads {
        let (calls, repeats) = (args.calls, args.repeats.into());
        let options = memo::Options { calls, repeats, threads: threads.into() };
        memo::run(&options, &mut report.groups)?;
    }
    memo::encoding()?;
    write(args.json.as_deref(), &report)
}

fn run_reopen(args: ReopenArgs) -> Result<()> {
    let (dir, repeats) = (args.place.dir, args.repeats.into());
    let setup = Setup { dir: dir.clone(), engines: named(&args.engines)?, repeats, threads: 1 };
    let mut report = Report::begin(repeats);
    let counts = args.count.clone();
    reopen::run(&reopen::Options { dir, counts, repeats }, &mut report.reopen)?;
    for count in args.count {
        reopen::beside(&setup, count, &mut report.sheets)?;
    }
    write(args.json.as_deref(), &report)
}

fn run_amplification(args: AmplificationArgs) -> Result<()> {
    let options = amplification::Options {
        dir: args.place.dir,
        trace: args.trace,
        requests: args.count,
        passes: args.passes,
        percents: args.budget_percent,
        repeats: args.repeats.into(),
    };
    let mut report = Report::begin(options.repeats);
    amplification::run(&options, &mut report.sheets)?;
    write(args.json.as_deref(), &report)
}

fn run_arrays(args: ArraysArgs) -> Result<()> {
    let options = arrays::Options {
        dir: args.place.dir,
        sizes: args.sizes,
        count: args.count,
        only: args.only,
        repeats: args.repeats.into(),
        python: args.python,
    };
    let mut report = Report::begin(options.repeats);
    let done = arrays::run(&options, &mut report.sheets);
    // What was measured before something failed is worth keeping.
    write(args.json.as_deref(), &report)?;
    done
}

fn run_processes(args: ProcessesArgs) -> Result<()> {
    let options = processes::Options {
        dir: args.place.dir,
        processes: args.processes.into_iter().map(u64::from).collect(),
        sizes: args.sizes,
        gets: args.gets,
        records: args.records,
        ms: args.ms,
        repeats: args.repeats.into(),
        python: args.python,
    };
    let mut report = Report::begin(options.repeats);
    processes::run(&options, &mut report.sheets)?;
    write(args.json.as_deref(), &report)
}

fn run_all(args: AllArgs) -> Result<()> {
    let options = all::Options {
        dir: args.place.dir,
        engines: named(&args.engines)?,
        repeats: args.repeats.into(),
        percent: args.percent,
        trace: args.trace,
    };
    let mut report = Report::begin(options.repeats);
    let done = all::run(&options, &mut report);
    // What was measured before something failed is worth keeping.
    write(Some(&args.json), &report)?;
    done?;
    args.plot.map_or(Ok(()), |picture| plot::draw(&args.json, &picture))
}

fn write(path: Option<&Path>, report: &Report) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let json = serde_json::to_string_pretty(report)?;
    if path == Path::new("-") {
        println!("{json}");
    } else {
        std::fs::write(path, json + "\n")?;
    }
    Ok(())
}
