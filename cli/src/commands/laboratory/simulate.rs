//! `simulate`: many caches over a trace, side by side.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::ensure;
use larder_lab::links::{Links, LinksBuilder};
use larder_lab::plot::{Chart, Line};
use larder_lab::run::{Job, Outcome, Settings, run as run_jobs};
use larder_lab::survey::{Survey, Surveyor};
use larder_lab::trace::{CHUNK, Format};
use larder_lab::{Error, Policy};
use serde::Serialize;

use super::{check_units, go_on, percent, resolve, shown};
use crate::args::{Asked, PolicyName, Simulate};
use crate::output::{self, Exit, Grid, count};
use crate::reading::title;
use crate::{interrupt, progress};

pub(in super::super) fn run(args: &Simulate) -> anyhow::Result<Exit> {
    check_units(&args.capacity, args.ignore_size)?;
    let policies = PolicyName::expand(&args.policy, |_| true);
    interrupt::listen()?;
    let mut stdout = output::stdout();
    if args.csv {
        writeln!(stdout, "{}", Row::HEADER)?;
    }
    let mut report = Report::default();
    for path in &args.traces {
        let simulated = match simulate(args, path, &policies) {
            Err(error) if error.downcast_ref().is_some_and(|e| matches!(e, Error::Stopped)) => {
                return Ok(Exit::Interrupted);
            }
            simulated => simulated?,
        };
        if let Some(plot) = &args.plot {
            let plot = if args.traces.len() > 1 { beside(plot, path) } else { plot.clone() };
            simulated.chart().draw(&plot)?;
        }
        if args.csv {
            simulated.rows.iter().try_for_each(|row| row.print(&mut stdout))?;
        } else if !args.json {
            if !report.traces.is_empty() {
                writeln!(stdout)?;
            }
            simulated.print(&mut stdout)?;
        }
        stdout.flush()?;
        report.traces.push(simulated);
    }
    if args.json {
        output::json(&mut stdout, &report)?;
    }
    Ok(Exit::Fine)
}

fn simulate(args: &Simulate, path: &Path, policies: &[Policy]) -> anyhow::Result<Simulated> {
    let looks_ahead = policies.iter().any(|policy| policy.looks_ahead());
    let shares = args.capacity.iter().any(|asked| matches!(asked, Asked::Share(_)));
    let (survey, mut links) = if shares || looks_ahead {
        let (survey, links) = survey(args, path, looks_ahead)?;
        (Some(survey), links)
    } else {
        (None, None)
    };
    if let Some(survey) = &survey {
        ensure!(survey.requests > 0, "{}: has no request", path.display());
    }
    // Without sizes, a byte is an object.
    let bytes = !args.ignore_size && survey.is_none_or(|survey| survey.sized);
    let whole = survey
        .map_or(0, |survey| if args.ignore_size { survey.objects } else { survey.footprint_bytes });
    let capacities = resolve(&args.capacity, whole);
    let each = |policy| capacities.iter().map(move |&capacity| Job { policy, capacity });
    let jobs: Vec<Job> = policies.iter().flat_map(|&policy| each(policy)).collect();
    let bar = progress::bytes(0, args.json || args.csv);
    bar.set_message("simulating");
    let mut trace = args.reading.open(path, &bar)?;
    let settings = Settings {
        threads: args.threads.unwrap_or_else(processors),
        ignore_size: args.ignore_size,
        limit: args.limit,
    };
    let outcomes = run_jobs(&mut trace, links.as_mut(), &jobs, settings, &mut |_| go_on());
    bar.finish_and_clear();
    let name = title(path);
    let rows: Vec<Row> = outcomes?.iter().map(|outcome| Row::new(&name, outcome)).collect();
    let requests = rows.first().map_or(0, |row| row.requests);
    ensure!(requests > 0, "{}: has no request", path.display());
    let path = path.display().to_string();
    Ok(Simulated { trace: name, path, requests, bytes, survey, rows })
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// The first pass: counts, and links where the trace does not.
fn survey(
    args: &Simulate,
    path: &Path,
    looks_ahead: bool,
) -> anyhow::Result<(Survey, Option<Links>)> {
    let bar = progress::bytes(0, args.json || args.csv);
    let pass = |links: &mut Option<LinksBuilder>| -> anyhow::Result<(Survey, Format)> {
        let mut trace = args.reading.open(path, &bar)?;
        let mut surveyor = Surveyor::default();
        let mut left = args.limit.unwrap_or(u64::MAX);
        let mut chunk = Vec::with_capacity(CHUNK);
        // Only oracleGeneral says when objects are asked for again.
        if trace.format() != Format::OracleGeneral && looks_ahead {
            *links = Some(LinksBuilder::new(args.temp.as_deref())?);
        }
        loop {
            chunk.clear();
            trace.fill(&mut chunk, usize::try_from(left).unwrap_or(CHUNK).min(CHUNK))?;
            if chunk.is_empty() {
                return Ok((surveyor.finish(), trace.format()));
            }
            left -= chunk.len() as u64;
            for access in &chunk {
                surveyor.note(access);
                if let Some(links) = links {
                    links.push(access.id)?;
                }
            }
            if go_on().is_break() {
                return Err(Error::Stopped.into());
            }
        }
    };
    let mut links = None;
    bar.set_message("counting objects");
    let (survey, format) = pass(&mut links)?;
    if looks_ahead && format == Format::OracleGeneral && !survey.linked {
        // What it says is wrong, as in a trace that was cut out of another.
        bar.set_message("linking requests");
        links = Some(LinksBuilder::new(args.temp.as_deref())?);
        pass(&mut links)?;
    }
    bar.finish_and_clear();
    Ok((survey, links.map(LinksBuilder::finish).transpose()?))
}

/// `out.svg` for the trace `t` is `out-t.svg`.
fn beside(plot: &Path, trace: &Path) -> PathBuf {
    let stem = plot.file_stem().unwrap_or_default().to_string_lossy();
    let end = plot.extension().unwrap_or_default().to_string_lossy();
    plot.with_file_name(format!("{stem}-{}.{end}", title(trace)))
}

/// What `--json` prints.
#[derive(Debug, Default, Serialize)]
struct Report {
    traces: Vec<Simulated>,
}

/// What came of one trace.
#[derive(Debug, Serialize)]
struct Simulated {
    trace: String,
    path: String,
    requests: u64,
    /// Whether capacities are bytes.
    bytes: bool,
    /// None where nobody had to count.
    survey: Option<Survey>,
    rows: Vec<Row>,
}

/// One cache.
#[derive(Debug, Serialize)]
struct Row {
    trace: String,
    policy: &'static str,
    capacity: u64,
    requests: u64,
    hits: u64,
    miss_ratio: f64,
    byte_miss_ratio: f64,
    seconds: f64,
    #[serde(skip)]
    looks_ahead: bool,
}

impl Row {
    const HEADER: &str = "trace,policy,capacity,requests,hits,miss_ratio,byte_miss_ratio,seconds";

    fn new(trace: &str, outcome: &Outcome) -> Self {
        let Outcome { job, tally, elapsed } = outcome;
        Self {
            trace: trace.to_owned(),
            policy: job.policy.name(),
            capacity: job.capacity,
            requests: tally.requests,
            hits: tally.hits,
            miss_ratio: 1.0 - tally.hit_ratio(),
            byte_miss_ratio: 1.0 - tally.byte_hit_ratio(),
            seconds: elapsed.as_secs_f64(),
            looks_ahead: job.policy.looks_ahead(),
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { policy, capacity, requests, hits, miss_ratio, byte_miss_ratio, seconds, .. } =
            self;
        let trace = if self.trace.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", self.trace.replace('"', "\"\""))
        } else {
            self.trace.clone()
        };
        writeln!(
            out,
            "{trace},{policy},{capacity},{requests},{hits},{miss_ratio:.6},{byte_miss_ratio:.6},\
             {seconds:.6}"
        )
    }
}

impl Simulated {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "{}: {} requests", output::plain(&self.trace), count(self.requests))?;
        if let Some(survey) = &self.survey {
            write!(out, " for {} objects", count(survey.objects))?;
            if survey.sized {
                write!(out, " of {} in all", shown(survey.footprint_bytes, true))?;
            }
        }
        writeln!(out)?;
        self.grid("miss ratio in %", |row| row.miss_ratio).print(out)?;
        if self.bytes {
            self.grid("byte miss ratio in %", |row| row.byte_miss_ratio).print(out)?;
        }
        writeln!(out, "* the least that a cache can have; policies in brackets know the future")
    }

    /// Policies below each other, capacities beside each other.
    fn grid(&self, name: &str, value: fn(&Row) -> f64) -> Grid {
        let mut capacities: Vec<u64> = self.rows.iter().map(|row| row.capacity).collect();
        capacities.sort_unstable();
        capacities.dedup();
        let best = |capacity: u64| {
            let rows = self.rows.iter().filter(|row| row.capacity == capacity && !row.looks_ahead);
            rows.map(value).fold(f64::INFINITY, f64::min)
        };
        let head = capacities.iter().map(|&capacity| shown(capacity, self.bytes));
        let mut grid = Grid::new(name, head.chain(["Mreq/s".to_owned()]));
        for rows in self.rows.chunk_by(|left, right| left.policy == right.policy) {
            let mut cells: Vec<String> = rows
                .iter()
                .map(|row| {
                    let mark = if value(row) <= best(row.capacity) && !row.looks_ahead {
                        "*"
                    } else {
                        " "
                    };
                    format!("{}{mark}", percent(value(row)))
                })
                .collect();
            let seconds: f64 = rows.iter().map(|row| row.seconds).sum();
            let made: f64 = rows.iter().map(|row| row.requests as f64).sum();
            cells.push(format!("{:.1}", made / seconds.max(1e-9) / 1e6));
            let brackets = rows.iter().any(|row| row.looks_ahead);
            let policy = rows.first().map_or("", |row| row.policy);
            grid.row(if brackets { format!("({policy})") } else { policy.to_owned() }, cells);
        }
        grid
    }

    fn chart(&self) -> Chart {
        let line = |rows: &[Row]| Line {
            name: rows.first().map_or("", |row| row.policy).to_owned(),
            points: rows.iter().map(|row| (row.capacity as f64, row.miss_ratio)).collect(),
            band: Vec::new(),
            optimum: rows.iter().any(|row| row.looks_ahead),
        };
        Chart {
            title: format!("{}: miss ratio of {} requests", self.trace, count(self.requests)),
            bytes: self.bytes,
            lines: self
                .rows
                .chunk_by(|left, right| left.policy == right.policy)
                .map(line)
                .collect(),
        }
    }
}
