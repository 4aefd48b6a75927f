//! `replay`: a real trace through the two-level cache, every hit checked.

mod acked;
mod drive;
mod tiers;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use self::drive::{Ack, Drive, Tally};
use self::tiers::{Gauge, Replayed, Setup, Tiers as _};
use crate::args::Replay;
use crate::open;
use crate::output::{self, Exit, Facts, count};
use crate::size::Size;
use crate::troubles::Troubles;
use crate::{interrupt, progress};

pub(super) fn run(args: &Replay) -> anyhow::Result<Exit> {
    if let Some(file) = &args.verify_acked {
        return verify_acked(args, file);
    }
    let path = args.trace.as_deref().context("no trace was given")?;
    // The trace first: what is no trace must not leave a store behind.
    let bar = progress::bytes(0, args.json);
    let mut trace = args.reading.open(path, &bar)?;
    let ack = args.ack.as_deref().map(open_ack).transpose()?;
    let home = Home::new(args.dir.as_deref())?;
    interrupt::listen()?;
    let troubles = Troubles::default();
    let cache = Replayed::open(&setup(args, home.dir()), troubles.clone())?;
    let before = cache.gauge();
    let start = Instant::now();
    let drive = Drive {
        tiers: &cache,
        limit: args.limit,
        size: args.value_size,
        threads: args.threads,
        ack: ack.as_ref(),
    };
    let driven = drive.run(&mut trace, &bar);
    let elapsed = start.elapsed();
    bar.finish_and_clear();
    let after = cache.gauge();
    let health = cache.health();
    let closed = cache.close().context("the cache could not be closed");
    troubles.warn();
    let tally = driven?;

    let report = Report::new(args, path, &home, &tally, (before, after), elapsed, health);
    for wrong in &tally.wrong_kept {
        output::warn(&format!("wrong value: {wrong}"));
    }
    let mut stdout = output::stdout();
    if args.json {
        output::json(&mut stdout, &report)?;
    } else {
        report.print(&mut stdout)?;
    }
    if let Err(error) = &closed {
        output::report(error);
    }
    Ok(if tally.wrong > 0 || closed.is_err() {
        Exit::Found
    } else if tally.interrupted {
        Exit::Interrupted
    } else {
        Exit::Fine
    })
}

fn setup<'a>(args: &Replay, dir: &'a Path) -> Setup<'a> {
    Setup {
        dir,
        memory_bytes: args.memory.0,
        disk_bytes: args.disk.0,
        policy: args.policy,
        mode: args.mode.into(),
    }
}

fn open_ack(path: &Path) -> anyhow::Result<Ack> {
    let file = File::options().create(true).append(true).open(path);
    Ok(Ack::append_to(file.with_context(|| format!("cannot open {}", path.display()))?))
}

fn verify_acked(args: &Replay, file: &Path) -> anyhow::Result<Exit> {
    let dir = args.dir.as_deref().context("--verify-acked needs --dir")?;
    open::check_exists(dir)?;
    let troubles = Troubles::default();
    let cache = Replayed::open(&setup(args, dir), troubles.clone())?;
    let found = acked::check(file, &cache);
    let closed = cache.close();
    troubles.warn();
    let found = found?;
    closed?;
    let mut stdout = output::stdout();
    if args.json {
        output::json(&mut stdout, &found)?;
    } else {
        let mut facts = Facts::new();
        facts.row("acknowledged", count(found.acked));
        facts.row("present", count(found.present));
        facts.row("newer", count(found.newer));
        facts.row("missing", count(found.missing));
        facts.row("wrong", count(found.wrong));
        facts.row("evictions", count(found.evictions));
        facts.print(&mut stdout)?;
    }
    let lost = found.missing > 0 && !args.may_evict;
    Ok(if found.wrong > 0 || lost { Exit::Found } else { Exit::Fine })
}

/// Where the cache lives: the user's directory, or one that goes when this does.
enum Home {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Home {
    fn new(dir: Option<&Path>) -> anyhow::Result<Self> {
        Ok(match dir {
            Some(dir) => Self::Given(dir.to_owned()),
            None => Self::Temporary(
                tempfile::Builder::new()
                    .prefix("larder-replay-")
                    .tempdir()
                    .context("cannot create a temporary directory: name one with --dir")?,
            ),
        })
    }

    fn dir(&self) -> &Path {
        match self {
            Self::Given(dir) => dir,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

/// What `--json` prints, and the source of the table.
#[derive(Debug, Serialize)]
struct Report {
    trace: String,
    /// None: a temporary one, gone by now.
    dir: Option<String>,
    policy: String,
    mode: String,
    threads: usize,
    memory_budget: u64,
    disk_budget: u64,
    /// Entries on disk before the first request.
    warm_entries: u64,
    requests: u64,
    memory_hits: u64,
    disk_hits: u64,
    misses: u64,
    miss_ratio: f64,
    byte_miss_ratio: f64,
    resized: u64,
    rejected: u64,
    corrupt: u64,
    wrong: u64,
    memory_evictions: u64,
    disk_evictions: u64,
    peak_memory_bytes: u64,
    peak_disk_bytes: u64,
    bytes_requested: u64,
    bytes_written: u64,
    seconds: f64,
    requests_per_second: f64,
    /// Operations of the disk tier that failed, or were not tried after others had.
    disk_errors: u64,
    disk_skipped: u64,
    health: &'static str,
    interrupted: bool,
}

impl Report {
    fn new(
        args: &Replay,
        trace: &Path,
        home: &Home,
        tally: &Tally,
        (before, after): (Gauge, Gauge),
        elapsed: Duration,
        health: &'static str,
    ) -> Self {
        let seconds = elapsed.as_secs_f64();
        Self {
            trace: trace.display().to_string(),
            dir: match home {
                Home::Given(dir) => Some(dir.display().to_string()),
                Home::Temporary(_) => None,
            },
            policy: args.policy.name().to_owned(),
            mode: name(args.mode),
            threads: args.threads,
            memory_budget: args.memory.0,
            disk_budget: args.disk.0,
            warm_entries: before.disk_entries,
            requests: tally.requests,
            memory_hits: after.memory_hits - before.memory_hits,
            disk_hits: after.disk_hits - before.disk_hits,
            misses: tally.misses,
            miss_ratio: ratio(tally.misses, tally.requests),
            byte_miss_ratio: ratio(tally.missed_bytes, tally.bytes),
            resized: tally.resized,
            rejected: tally.rejected,
            corrupt: after.corrupt - before.corrupt,
            wrong: tally.wrong,
            memory_evictions: after.memory_evictions - before.memory_evictions,
            disk_evictions: after.disk_evictions - before.disk_evictions,
            peak_memory_bytes: tally.peak.memory_used,
            peak_disk_bytes: tally.peak.disk_used,
            bytes_requested: tally.bytes,
            bytes_written: after.bytes_written - before.bytes_written,
            seconds,
            requests_per_second: if seconds > 0.0 { as_f64(tally.requests) / seconds } else { 0.0 },
            disk_errors: after.disk_errors - before.disk_errors,
            disk_skipped: after.disk_skipped - before.disk_skipped,
            health,
            interrupted: tally.interrupted,
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let percent = |part: u64| 100.0 * ratio(part, self.requests);
        let mut facts = Facts::new();
        facts.row("requests", count(self.requests));
        for (name, part) in [
            ("memory hits", self.memory_hits),
            ("disk hits", self.disk_hits),
            ("misses", self.misses),
        ] {
            facts.row3(name, count(part), format!("{:.2} %", percent(part)));
        }
        facts.row("miss ratio", format!("{:.4}", self.miss_ratio));
        facts.row("byte miss ratio", format!("{:.4}", self.byte_miss_ratio));
        facts.row("wrong values", count(self.wrong));
        for (name, number) in [
            ("damaged records", self.corrupt),
            ("disk failures", self.disk_errors),
            ("disk not tried", self.disk_skipped),
            ("changed sizes", self.resized),
            ("refused", self.rejected),
        ] {
            if number > 0 {
                facts.row(name, count(number));
            }
        }
        facts.row3("evictions", count(self.memory_evictions), "from memory");
        facts.row3("", count(self.disk_evictions), "from disk");
        facts.row3("peak", Size(self.peak_memory_bytes).to_string(), "in memory");
        facts.row3("", Size(self.peak_disk_bytes).to_string(), "on disk");
        facts.row("requested", Size(self.bytes_requested).to_string());
        facts.row("written", Size(self.bytes_written).to_string());
        facts.row("time", format!("{:.3} s", self.seconds));
        facts.row3("speed", rounded(self.requests_per_second), "requests/s, checks included");
        facts.print(out)?;
        if self.warm_entries > 0 {
            writeln!(out, "started warm, with {} entries on disk", count(self.warm_entries))?;
        }
        if self.health != "healthy" {
            writeln!(out, "the disk tier is {}", self.health)?;
        }
        if self.interrupted {
            writeln!(out, "interrupted; the cache was closed")?;
        }
        Ok(())
    }
}

/// The name that was typed for this choice.
fn name(choice: impl clap::ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { as_f64(part) / as_f64(whole) }
}

fn as_f64(number: u64) -> f64 {
    // Good to 53 bits, which is more than any ratio is printed with.
    number as f64
}

fn rounded(number: f64) -> String {
    format!("{number:.0}").parse().map_or_else(|_| format!("{number:.0}"), count)
}
