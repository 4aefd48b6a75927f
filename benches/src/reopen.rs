//! Opening larder's disk store again: after a clean close, after SIGKILL, and with nothing
//! trusted, as after a crash of the machine. The rivals beside it: after a clean close.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use larder_engine::{Disk, Engine, Put, Recovery};
use larder_rivals::{DiskEngine, Plan, Result};
use serde::Serialize;

use crate::data::{key, value};
use crate::rounds::Setup;
use crate::sheet::{Column, Line, Sheet};
use crate::stores::{Loaded, check};
use crate::timed::Spread;

const VALUE_LEN: usize = 100;
/// Of all stores, so that they differ in nothing but the number of entries.
const BUDGET: u64 = 2 << 30;
/// What a child says when it has stored everything.
const DONE: &str = "done";

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where stores are made.
    pub dir: std::path::PathBuf,
    /// Numbers of entries.
    pub counts: Vec<u64>,
    /// Repeats of each measurement.
    pub repeats: usize,
}

/// What reopening takes at one number of entries.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Number of entries, of 16 B keys and 100 B values.
    pub entries: u64,
    /// Milliseconds of `open` after a clean close.
    pub clean_ms: Spread,
    /// Milliseconds of `open` after the last process was killed with SIGKILL.
    pub killed_ms: Spread,
    /// Milliseconds of `open` with the index built anew.
    pub rebuild_ms: Spread,
    /// Records that were looked at to rebuild, a second.
    pub rebuilt_per_second: Spread,
}

/// Runs the measurements of larder and prints the table.
///
/// # Errors
/// Whatever the store says, or a wrong answer of it.
pub fn run(options: &Options, rows: &mut Vec<Row>) -> Result<()> {
    println!("\nreopening larder, 16 B keys, 100 B values, page cache warm; median (min – max)");
    println!(
        "  {:>9}  {:>22}  {:>22}  {:>22}  {:>14}",
        "entries", "clean close, ms", "SIGKILL, ms", "rebuild, ms", "rebuilt per s"
    );
    for &entries in &options.counts {
        let row = measure(options, entries)?;
        println!(
            "  {entries:>9}  {:>22}  {:>22}  {:>22}  {:>12.2} M",
            shown(&row.clean_ms),
            shown(&row.killed_ms),
            shown(&row.rebuild_ms),
            row.rebuilt_per_second.median / 1e6
        );
        rows.push(row);
    }
    Ok(())
}

const COLUMNS: [Column; 2] =
    [Column { name: "open", unit: "ms" }, Column { name: "open, first get", unit: "ms" }];

/// Measures what opening takes for all engines, after they were closed in this process.
///
/// # Errors
/// Whatever an engine says, or a wrong answer of one.
pub fn beside(setup: &Setup, count: u64, sheets: &mut Vec<Sheet>) -> Result<()> {
    let plan = Plan::new(count, VALUE_LEN);
    let dirs = setup.engines.iter().map(|engine| {
        // Dropping the store closes it, and leaves the directory.
        Loaded::full(engine.open, &plan, &setup.dir).map(|loaded| loaded.dir)
    });
    let dirs: Vec<_> = dirs.collect::<Result<_>>()?;
    let samples = setup.rounds("reopen", |at, engine| {
        let start = Instant::now();
        let store = (engine.open)(dirs[at].path(), &plan)?;
        let opened = start.elapsed();
        check(&plan, 0, |look| store.get(&key(0), look))?;
        let read = start.elapsed();
        for record in (0..count).step_by(usize::try_from(count / 100)?.max(1)) {
            check(&plan, record, |look| store.get(&key(record), look))?;
        }
        Ok([opened, read].map(|time| Some(time.as_secs_f64() * 1000.0)).to_vec())
    })?;
    let row = |(engine, figures): (&DiskEngine, &Vec<Vec<Option<f64>>>)| {
        Line::new(engine.name, engine.settings, String::new(), figures)
    };
    let mut sheet = Sheet {
        workload: format!("reopen/{count}"),
        title: format!("reopening after a clean close, {count} records of 16 B + 100 B"),
        regime: "page cache warm",
        columns: COLUMNS.to_vec(),
        rows: setup.engines.iter().zip(&samples).map(row).collect(),
    };
    sheet.compare();
    sheet.print();
    sheets.push(sheet);
    Ok(())
}

fn shown(ms: &Spread) -> String {
    format!("{:.2} ({:.2} – {:.2})", ms.median, ms.min, ms.max)
}

fn measure(options: &Options, entries: u64) -> Result<Row> {
    let dir = tempfile::Builder::new().prefix("reopen-").tempdir_in(&options.dir)?;
    let store = dir.path().join("larder");
    // The first round writes all entries, the others one more that replaces the first, so that
    // each begins with a process that had the store open and was killed.
    let (mut killed, mut clean, mut rebuild, mut rate) = (vec![], vec![], vec![], vec![]);
    let mut count = entries;
    for _ in 0..options.repeats {
        fill_and_be_killed(&store, count)?;
        count = 1;
        let (ms, disk) = open(&store, entries, false, Recovery::ProcessDied)?;
        killed.push(ms);
        disk.close()?;
        drop(disk);

        let (ms, disk) = open(&store, entries, false, Recovery::Clean)?;
        clean.push(ms);
        disk.close()?;
        drop(disk);

        let (ms, disk) = open(&store, entries, true, Recovery::Rebuilt)?;
        rebuild.push(ms);
        rate.push(disk.stats().recovered_records as f64 * 1000.0 / ms);
        disk.close()?;
    }
    Ok(Row {
        entries,
        clean_ms: Spread::of(clean),
        killed_ms: Spread::of(killed),
        rebuild_ms: Spread::of(rebuild),
        rebuilt_per_second: Spread::of(rate),
    })
}

/// Opens a store that is there, checks that it was found as expected and still holds what it
/// should, and returns the milliseconds that opening took.
fn open(dir: &Path, entries: u64, distrust: bool, expected: Recovery) -> Result<(f64, Disk)> {
    let builder = Disk::builder(dir).budget(BUDGET);
    let builder = if distrust { builder.distrust() } else { builder };
    let start = Instant::now();
    let disk = builder.open()?;
    let ms = start.elapsed().as_secs_f64() * 1000.0;
    let found = disk.stats().recovery;
    if found != expected {
        return Err(format!("the store was found {found:?}, not {expected:?}").into());
    }
    for record in (0..entries).step_by(usize::try_from(entries / 100)?.max(1)) {
        if disk.get(&key(record))?.as_deref() != Some(value(record, VALUE_LEN)) {
            return Err(format!("record {record} of {entries} is missing or wrong").into());
        }
    }
    Ok((ms, disk))
}

/// Has a child process put records, and kills it with SIGKILL once it has said that it is done.
fn fill_and_be_killed(dir: &Path, count: u64) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["fill", "--count", &count.to_string(), "--dir"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    let stdout = child.stdout.take().ok_or("the child has no output")?;
    let read = BufReader::new(stdout).read_line(&mut said);
    child.kill()?;
    child.wait()?;
    read?;
    if said.trim_end() == DONE { Ok(()) } else { Err("the child could not fill the store".into()) }
}

/// The child: puts records, says so, and waits to be killed.
///
/// # Errors
/// Whatever the store says.
pub fn fill(dir: &Path, count: u64) -> Result<()> {
    let disk = Disk::builder(dir).budget(BUDGET).open()?;
    for record in 0..count {
        let outcome = disk.put(&key(record), value(record, VALUE_LEN), &Put::default())?;
        if !outcome.is_admitted() {
            return Err(format!("record {record} was refused: {outcome:?}").into());
        }
    }
    println!("{DONE}");
    std::io::stdout().flush()?;
    // The parent never writes: this ends only if it died without killing us.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Err("nobody killed this process".into())
}
