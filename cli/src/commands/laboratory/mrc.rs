//! `mrc`: miss-ratio curves from a sample.

use std::io::{self, Write};

use larder::PolicyKind;
use larder_lab::mrc::{self, Point, Sampling, Settings};
use larder_lab::plot::{Chart, Line};
use larder_lab::{Error, Policy};
use serde::Serialize;

use super::{check_units, go_on, percent, resolve, shown};
use crate::args::{Mrc, PolicyName};
use crate::output::{self, Exit, Grid, count};
use crate::reading::title;
use crate::{interrupt, progress};

/// Points of a curve where nothing else is said.
const POINTS: u32 = 24;

/// What `--json` says of the bounds.
const BOUND: &str = "about 99 %: three standard errors of the spread of 16 parts of the sample, \
                     at distances three standard deviations apart";

pub(in super::super) fn run(args: &Mrc) -> anyhow::Result<Exit> {
    check_units(&args.capacity, args.ignore_size)?;
    interrupt::listen()?;
    let report = match estimate(args) {
        Err(error) if error.downcast_ref().is_some_and(|e| matches!(e, Error::Stopped)) => {
            return Ok(Exit::Interrupted);
        }
        report => report?,
    };
    if let Some(plot) = &args.plot {
        report.chart().draw(plot)?;
    }
    let mut stdout = output::stdout();
    if args.json {
        output::json(&mut stdout, &report)?;
    } else {
        report.print(&mut stdout)?;
    }
    Ok(Exit::Fine)
}

fn estimate(args: &Mrc) -> anyhow::Result<Report> {
    let settings = Settings { ignore_size: args.ignore_size, limit: args.limit };
    let sampling = args.rate.map_or(Sampling::Samples(args.samples), Sampling::Rate);
    let bar = progress::bytes(0, args.json);
    bar.set_message("sampling");
    let mut trace = args.reading.open(&args.trace, &bar)?;
    let shards = mrc::sample(&mut trace, sampling, settings, &mut |_| go_on())?;
    let capacities = if args.capacity.is_empty() {
        mrc::capacities(&shards, POINTS)
    } else {
        resolve(&args.capacity, shards.footprint())
    };
    let policies = PolicyName::expand(&args.policy, |policy| !policy.looks_ahead());
    let kind = |policy: &Policy| match policy {
        Policy::Online(kind) => Some(*kind),
        _ => None,
    };
    let kinds: Vec<PolicyKind> = policies.iter().filter_map(kind).collect();
    let advisor = if kinds.iter().any(|&kind| kind != PolicyKind::Lru) {
        bar.set_message("simulating in miniature");
        let mut trace = args.reading.open(&args.trace, &bar)?;
        let watch = &mut |_| go_on();
        Some(mrc::miniatures(&mut trace, &shards, &capacities, &kinds, settings, watch)?)
    } else {
        None
    };
    bar.finish_and_clear();
    let curve = |&kind: &PolicyKind| {
        let points = match &advisor {
            Some(advisor) if kind != PolicyKind::Lru => mrc::other(advisor, kind, &capacities),
            _ => mrc::lru(&shards, &capacities),
        };
        Curve { policy: kind.name(), points }
    };
    Ok(Report {
        trace: title(&args.trace),
        path: args.trace.display().to_string(),
        requests: shards.requests(),
        sampled_requests: shards.sampled(),
        rate: shards.sample().rate(),
        objects: shards.keys(),
        footprint: shards.footprint(),
        memory_bytes: shards.allocated_bytes(),
        bytes: !args.ignore_size && shards.footprint() != shards.keys(),
        bound: BOUND,
        curves: kinds.iter().map(curve).collect(),
    })
}

/// What `--json` prints, and the source of the table.
#[derive(Debug, Serialize)]
struct Report {
    trace: String,
    path: String,
    requests: u64,
    sampled_requests: u64,
    /// Share of the objects that was sampled at the end.
    rate: f64,
    /// Estimated number of objects.
    objects: u64,
    /// Estimated size of all objects together, in the unit of the capacities.
    footprint: u64,
    /// Memory that the sample of LRU took.
    memory_bytes: usize,
    /// Whether capacities are bytes.
    bytes: bool,
    /// What the bounds are worth, and where they come from.
    bound: &'static str,
    curves: Vec<Curve>,
}

#[derive(Debug, Serialize)]
struct Curve {
    policy: &'static str,
    points: Vec<Point>,
}

impl Report {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{}: {} requests, {} sampled: {:.3} % of about {} objects",
            output::plain(&self.trace),
            count(self.requests),
            count(self.sampled_requests),
            100.0 * self.rate,
            count(self.objects),
        )?;
        let names = self.curves.iter().map(|curve| curve.policy.to_owned());
        let mut grid = Grid::new("miss ratio in %", names);
        let mut capacities: Vec<u64> = self
            .curves
            .iter()
            .flat_map(|curve| &curve.points)
            .map(|point| point.capacity)
            .collect();
        capacities.sort_unstable();
        capacities.dedup();
        for capacity in capacities {
            let cell = |curve: &Curve| {
                let point = curve.points.iter().find(|point| point.capacity == capacity);
                point.map_or_else(String::new, |point| {
                    let Point { miss_ratio, low, high, .. } = *point;
                    format!("{} ({} to {})", percent(miss_ratio), percent(low), percent(high))
                })
            };
            grid.row(shown(capacity, self.bytes), self.curves.iter().map(cell));
        }
        grid.print(out)?;
        writeln!(out, "in brackets: bounds that hold with about 99 % certainty")
    }

    fn chart(&self) -> Chart {
        let line = |curve: &Curve| Line {
            name: curve.policy.to_owned(),
            points: curve.points.iter().map(|at| (at.capacity as f64, at.miss_ratio)).collect(),
            band: curve.points.iter().map(|at| (at.capacity as f64, at.low, at.high)).collect(),
            optimum: false,
        };
        Chart {
            title: format!(
                "{}: estimated from {:.3} % of the objects",
                self.trace,
                100.0 * self.rate
            ),
            bytes: self.bytes,
            lines: self.curves.iter().map(line).collect(),
        }
    }
}
