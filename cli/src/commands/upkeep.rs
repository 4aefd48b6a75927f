//! `compact`, `purge`, `trim`, `backup`, `repair`, `tags` and `invalidate`: a store kept in
//! order.

use std::io::{self, Write};

use larder_engine::{BackupReport, Disk, Engine as _, Finding, Limits, RepairReport};
use serde::Serialize;

use crate::args::{Backup, Compact, Invalidate, Purge, Repair, Tags, Trim};
use crate::keys;
use crate::open::{self, closing};
use crate::output::{self, Exit, Facts, count};
use crate::progress;
use crate::size::Size;

/// Findings that the table shows.
const FINDINGS_SHOWN: usize = 20;

/// What came of a change, and what the store holds afterwards.
#[derive(Debug, Serialize)]
struct Changed {
    /// Entries that went; none where only space comes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<u64>,
    freed_bytes: u64,
    entries: u64,
    used_bytes: u64,
}

impl Changed {
    /// Makes a change that says how many entries went, if any can.
    fn by(
        store: &Disk,
        change: impl FnOnce(&Disk) -> larder_engine::Result<Option<u64>>,
    ) -> anyhow::Result<Self> {
        // What is unlinked goes with the last look at it, which may still be under way.
        let used = || {
            let stats = store.stats();
            stats.used_bytes.saturating_sub(stats.retired_bytes)
        };
        let before = used();
        let removed = change(store)?;
        let used_bytes = used();
        let freed_bytes = before.saturating_sub(used_bytes);
        Ok(Self { removed, freed_bytes, entries: store.len(), used_bytes })
    }

    fn print(&self, json: bool) -> anyhow::Result<Exit> {
        let mut stdout = output::stdout();
        if json {
            output::json(&mut stdout, self)?;
            return Ok(Exit::Fine);
        }
        let mut facts = Facts::new();
        if let Some(removed) = self.removed {
            facts.row("removed", count(removed));
        }
        facts.row("freed", Size(self.freed_bytes).to_string());
        facts.row("entries", count(self.entries));
        facts.row("used", Size(self.used_bytes).to_string());
        facts.print(&mut stdout)?;
        Ok(Exit::Fine)
    }
}

pub(super) fn compact(args: &Compact) -> anyhow::Result<Exit> {
    let bar = progress::waiting("compacting", args.json);
    let changed = closing(&open::existing(&args.dir, args.join)?, |store| {
        Changed::by(store, |store| store.compact().map(|_| None))
    })?;
    bar.finish_and_clear();
    changed.print(args.json)
}

pub(super) fn purge(args: &Purge) -> anyhow::Result<Exit> {
    let bar = progress::waiting("purging", args.json);
    let changed = closing(&open::existing(&args.dir, args.join)?, |store| {
        Changed::by(store, |store| store.purge().map(Some))
    })?;
    bar.finish_and_clear();
    changed.print(args.json)
}

pub(super) fn trim(args: &Trim) -> anyhow::Result<Exit> {
    let bytes = args.bytes.map(|size| size.0);
    let limits = Limits { bytes, items: args.items, age: args.age };
    let bar = progress::waiting("trimming", args.json);
    let changed = closing(&open::existing(&args.dir, args.join)?, |store| {
        Changed::by(store, |store| store.trim(limits).map(Some))
    })?;
    bar.finish_and_clear();
    changed.print(args.json)
}

/// What `backup --json` prints.
#[derive(Debug, Serialize)]
struct BackedUp {
    to: String,
    entries: u64,
    bytes: u64,
    damaged: u64,
}

pub(super) fn backup(args: &Backup) -> anyhow::Result<Exit> {
    let bar = progress::segments(args.json);
    let written: BackupReport = closing(&open::to_read(&args.dir, args.join)?, |store| {
        Ok(store.backup_with(&args.to, |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        })?)
    })?;
    bar.finish_and_clear();
    let mut stdout = output::stdout();
    if args.json {
        let to = args.to.display().to_string();
        let BackupReport { entries, bytes, damaged, .. } = written;
        output::json(&mut stdout, &BackedUp { to, entries, bytes, damaged })?;
    } else {
        let mut facts = Facts::new();
        facts.row3("entries", count(written.entries), Size(written.bytes).to_string());
        facts.row("damaged, left out", count(written.damaged));
        facts.print(&mut stdout)?;
    }
    Ok(if written.damaged == 0 { Exit::Fine } else { Exit::Found })
}

/// What `repair --json` prints, and the source of the table.
#[derive(Debug, Serialize)]
struct Repaired {
    status: &'static str,
    entries: u64,
    damaged: u64,
    superblock: bool,
    dropped: Vec<String>,
    moved: Vec<String>,
    left: Vec<String>,
}

impl Repaired {
    fn new(report: &RepairReport) -> Self {
        let shown = |Finding { path, offset, what }: &Finding| {
            format!("{} at {offset}: {what}", path.display())
        };
        let status = match () {
            () if !report.left.is_empty() => "damaged",
            () if report.was_clean() => "clean",
            () => "repaired",
        };
        Self {
            status,
            entries: report.entries,
            damaged: report.damaged,
            superblock: report.superblock,
            dropped: report.dropped.iter().map(shown).collect(),
            moved: report.moved.iter().map(|path| path.display().to_string()).collect(),
            left: report.left.iter().map(shown).collect(),
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mut facts = Facts::new();
        facts.row("entries", count(self.entries));
        facts.row("damaged when opened", count(self.damaged));
        facts.row("dropped", count(self.dropped.len() as u64));
        facts.row("files moved", count(self.moved.len() as u64));
        facts.row("superblock", if self.superblock { "written again" } else { "whole" });
        facts.row("still damaged", count(self.left.len() as u64));
        facts.print(out)?;
        let lines = [("dropped", &self.dropped), ("moved to", &self.moved), ("left", &self.left)];
        for (name, lines) in lines {
            for line in lines.iter().take(FINDINGS_SHOWN) {
                writeln!(out, "{name}: {}", output::plain(line))?;
            }
            if lines.len() > FINDINGS_SHOWN {
                writeln!(out, "{name}: {} more", count((lines.len() - FINDINGS_SHOWN) as u64))?;
            }
        }
        writeln!(out, "{}", self.status)
    }
}

pub(super) fn repair(args: &Repair) -> anyhow::Result<Exit> {
    let bar = progress::segments(args.json);
    let report = Disk::repair_with(&args.dir, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let repaired = Repaired::new(&report);
    let mut stdout = output::stdout();
    if args.json {
        output::json(&mut stdout, &repaired)?;
    } else {
        repaired.print(&mut stdout)?;
    }
    Ok(if report.was_clean() && report.left.is_empty() { Exit::Fine } else { Exit::Found })
}

/// What `tags --json` prints.
#[derive(Debug, Serialize)]
struct Tagged {
    tag: String,
    /// As they can be typed.
    keys: Vec<String>,
}

pub(super) fn tags(args: &Tags) -> anyhow::Result<Exit> {
    let bar = progress::waiting("looking at every entry", args.json);
    let mut keys =
        closing(
            &open::to_read(&args.dir, args.join)?,
            |store| Ok(store.keys_by_tag(&args.tag.0)?),
        )?;
    bar.finish_and_clear();
    keys.sort();
    let keys: Vec<_> = keys.iter().map(|key| keys::show(key)).collect();
    let mut stdout = io::BufWriter::new(output::stdout());
    if args.json {
        output::json(&mut stdout, &Tagged { tag: keys::show(&args.tag.0), keys })?;
    } else {
        keys.iter().try_for_each(|key| writeln!(stdout, "{key}"))?;
    }
    stdout.flush()?;
    Ok(Exit::Fine)
}

/// What `invalidate --json` prints.
#[derive(Debug, Serialize)]
struct Invalidated {
    tag: String,
    invalidated: u64,
}

pub(super) fn invalidate(args: &Invalidate) -> anyhow::Result<Exit> {
    let bar = progress::waiting("looking at every entry", args.json);
    let invalidated = closing(&open::existing(&args.dir, args.join)?, |store| {
        let keys = store.keys_by_tag(&args.tag.0)?;
        store.invalidate_tag(&args.tag.0)?;
        Ok(keys.len() as u64)
    })?;
    bar.finish_and_clear();
    let mut stdout = output::stdout();
    if args.json {
        let tag = keys::show(&args.tag.0);
        output::json(&mut stdout, &Invalidated { tag, invalidated })?;
    } else {
        writeln!(stdout, "{} invalidated", count(invalidated))?;
    }
    Ok(Exit::Fine)
}
