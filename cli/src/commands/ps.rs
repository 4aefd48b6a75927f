//! `ps`: which processes have a store open.

use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use larder_engine::{Disk, Process};
use serde::Serialize;

use crate::args::Ps;
use crate::open;
use crate::output::{self, Exit, Grid, count};
use crate::size::Size;

/// What `ps --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    dir: String,
    processes: Vec<Row>,
}

/// A process that has the store open.
#[derive(Debug, Serialize)]
struct Row {
    pid: u32,
    /// Whether it lets others in. If not, it says no more than its id.
    shares: bool,
    opened_ms: Option<u64>,
    segments: Option<u64>,
    held_bytes: Option<u64>,
}

impl Row {
    fn new(process: Process) -> Self {
        let shares = process.opened_ms > 0;
        let said = |figure: u64| shares.then_some(figure);
        Self {
            pid: process.pid,
            shares,
            opened_ms: said(process.opened_ms),
            segments: said(process.segments),
            held_bytes: said(process.held_bytes),
        }
    }

    fn cells(&self) -> [String; 3] {
        let shown = |figure: Option<u64>, show: &dyn Fn(u64) -> String| {
            figure.map_or_else(|| "-".to_owned(), show)
        };
        let since = |ms| {
            let opened = UNIX_EPOCH + Duration::from_millis(ms);
            humantime::format_rfc3339_seconds(opened).to_string()
        };
        let since = if self.shares { shown(self.opened_ms, &since) } else { "alone".to_owned() };
        [
            since,
            shown(self.segments, &count),
            shown(self.held_bytes, &|held| Size(held).to_string()),
        ]
    }
}

pub(super) fn run(args: &Ps) -> anyhow::Result<Exit> {
    open::check_exists(&args.dir)?;
    let processes: Vec<Row> = Disk::who(&args.dir)?.into_iter().map(Row::new).collect();
    let mut stdout = output::stdout();
    if args.json {
        let dir = output::plain(&args.dir.display().to_string()).into_owned();
        output::json(&mut stdout, &Report { dir, processes })?;
    } else if processes.is_empty() {
        writeln!(stdout, "no process has it open")?;
    } else {
        let head = ["since", "segments", "held by views"].map(str::to_owned);
        let mut grid = Grid::new("process", head);
        for row in &processes {
            grid.row(row.pid.to_string(), row.cells());
        }
        grid.print(&mut stdout)?;
    }
    Ok(Exit::Fine)
}
