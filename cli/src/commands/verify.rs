//! `verify`: everything that a store holds, checked.

use std::io::{self, Write};

use larder_engine::{Disk, Engine as _, VerifyReport};
use serde::Serialize;

use crate::args::{Join, Verify};
use crate::open::{self, closing};
use crate::output::{self, Exit, Facts, count};
use crate::progress;
use crate::size::Size;

/// Findings that the table shows.
const FINDINGS_SHOWN: usize = 20;

pub(super) fn run(args: &Verify) -> anyhow::Result<Exit> {
    let result = open::existing(&args.dir, Join::default())
        .and_then(|store| closing(&store, |store| check(store, args)));
    let mut stdout = output::stdout();
    match result {
        Ok(report) => {
            if args.json {
                output::json(&mut stdout, &report)?;
            } else {
                report.print(&mut stdout)?;
            }
            Ok(if report.findings.is_empty() { Exit::Fine } else { Exit::Found })
        }
        Err(error) => {
            if args.json {
                output::json(
                    &mut stdout,
                    &Refusal { status: "refused", error: output::chain(&error) },
                )?;
            }
            Err(error)
        }
    }
}

fn check(store: &Disk, args: &Verify) -> anyhow::Result<Report> {
    let bar = progress::segments(args.json);
    let found = store.verify_with(|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    Ok(Report::new(found, store.stats().recovery.name()))
}

/// What `--json` prints of a store that cannot be used.
#[derive(Debug, Serialize)]
struct Refusal {
    status: &'static str,
    error: String,
}

/// What `--json` prints, and the source of the table.
#[derive(Debug, Serialize)]
struct Report {
    status: &'static str,
    recovery: &'static str,
    segments: u64,
    records: u64,
    live: u64,
    bytes: u64,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    path: String,
    offset: u64,
    what: String,
}

impl Report {
    fn new(found: VerifyReport, recovery: &'static str) -> Self {
        let findings = found.findings.into_iter().map(|finding| Finding {
            path: finding.path.display().to_string(),
            offset: finding.offset,
            what: finding.what,
        });
        let findings: Vec<_> = findings.collect();
        Self {
            status: if findings.is_empty() { "clean" } else { "damaged" },
            recovery,
            segments: found.segments,
            records: found.records,
            live: found.live,
            bytes: found.bytes,
            findings,
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mut facts = Facts::new();
        facts.row("segments", count(self.segments));
        facts.row3("records", count(self.records), Size(self.bytes).to_string());
        facts.row("live", count(self.live));
        facts.row("found", self.recovery);
        facts.row("damage", count(self.findings.len() as u64));
        facts.print(out)?;
        for Finding { path, offset, what } in self.findings.iter().take(FINDINGS_SHOWN) {
            writeln!(out, "{}", output::plain(&format!("{path} at {offset}: {what}")))?;
        }
        if self.findings.len() > FINDINGS_SHOWN {
            writeln!(out, "and {} more", count((self.findings.len() - FINDINGS_SHOWN) as u64))?;
        }
        let verdict = if self.findings.is_empty() {
            "clean"
        } else {
            "damaged, but usable: what is damaged is a miss"
        };
        writeln!(out, "{verdict}")
    }
}
