//! `stats`: what a directory tells about its store, without reading the values.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use larder_engine::{Access, Disk, Engine as _};
use larder_format::Superblock;
use serde::Serialize;

use crate::args::{Join, Stats};
use crate::interrupt;
use crate::keys;
use crate::open::{self, closing};
use crate::output::{self, Exit, Facts, count};
use crate::size::Size;

/// How long Ctrl-C may have to wait.
const LISTEN_EVERY: Duration = Duration::from_millis(50);

/// Files of one kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
struct Files {
    count: u64,
    bytes: u64,
}

/// The files of a store, by what they hold.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Holdings {
    segments: Files,
    index: Files,
    large_values: Files,
    arrays: Files,
}

impl Holdings {
    /// Looks at the directory. Files that are not a store's do not count.
    fn of(dir: &Path) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for part in ["", "seg", "arr", "big"] {
            let path = dir.join(part);
            let cannot = || format!("cannot list {}", path.display());
            for entry in fs::read_dir(&path).with_context(cannot)? {
                let entry = entry.with_context(cannot)?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let files = match part {
                    "" if name.starts_with("index.") => &mut found.index,
                    "seg" if name.ends_with(".log") => &mut found.segments,
                    "arr" if name.ends_with(".npy") => &mut found.arrays,
                    "big" if name.ends_with(".val") => &mut found.large_values,
                    _ => continue,
                };
                // One that the store has removed meanwhile counts for nothing.
                let Ok(meta) = entry.metadata() else { continue };
                files.count += 1;
                files.bytes += meta.len();
            }
        }
        Ok(found)
    }
}

/// What a store says about itself, and its directory about it.
#[derive(Debug, Serialize)]
struct Report {
    dir: String,
    uuid: String,
    created_ms: u64,
    segment_bytes: u32,
    entries: u64,
    used_bytes: u64,
    /// None: there is no budget.
    budget_bytes: Option<u64>,
    segments: u64,
    spares: u64,
    index_slots: u64,
    /// Processes that share it, this one included; 0 if it is not shared.
    processes: u64,
    files: Holdings,
    /// How its files are got at here: mapped or buffered.
    access: &'static str,
    recovery: &'static str,
    recovered_records: u64,
    corrupt: u64,
    open_us: u64,
    /// What opening it took: records that had to be moved or written again.
    written_bytes: u64,
    syncs: u64,
    synced_records: u64,
    /// None: nothing was put, as nothing is by looking.
    write_amplification: Option<f64>,
}

impl Report {
    fn new(dir: &Path, store: &Disk) -> anyhow::Result<Self> {
        let path = dir.join("store");
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let superblock =
            Superblock::decode(&bytes).with_context(|| format!("cannot use {}", path.display()))?;
        let stats = store.stats();
        Ok(Self {
            dir: output::plain(&dir.display().to_string()).into_owned(),
            uuid: keys::hex(&superblock.uuid),
            created_ms: superblock.created_ms,
            segment_bytes: superblock.segment_len,
            entries: stats.entries,
            used_bytes: stats.used_bytes,
            budget_bytes: (stats.budget_bytes != u64::MAX).then_some(stats.budget_bytes),
            segments: stats.segments,
            spares: stats.spares,
            index_slots: stats.index_slots,
            processes: store.processes().len() as u64,
            files: Holdings::of(dir)?,
            access: if store.access() == Access::Buffered { "buffered" } else { "mapped" },
            recovery: stats.recovery.name(),
            recovered_records: stats.recovered_records,
            corrupt: stats.corrupt,
            open_us: stats.open_us,
            written_bytes: stats.written_bytes,
            syncs: stats.syncs,
            synced_records: stats.synced_records,
            write_amplification: stats.write_amplification(),
        })
    }

    fn print(self, out: &mut impl Write) -> io::Result<()> {
        let created = UNIX_EPOCH + Duration::from_millis(self.created_ms);
        let files = |files: Files| (count(files.count), Size(files.bytes).to_string());
        let mut facts = Facts::new();
        facts.row("created", humantime::format_rfc3339_seconds(created).to_string());
        facts.row("entries", count(self.entries));
        facts.row("used", Size(self.used_bytes).to_string());
        facts.row("budget", self.budget_bytes.map_or("none".to_owned(), |b| Size(b).to_string()));
        for (name, kind) in [
            ("segments", self.files.segments),
            ("index files", self.files.index),
            ("large values", self.files.large_values),
            ("large arrays", self.files.arrays),
        ] {
            let (count, size) = files(kind);
            facts.row3(name, count, size);
        }
        if self.processes > 0 {
            facts.row("processes", count(self.processes));
        }
        facts.row("index slots", count(self.index_slots));
        facts.row("files are", self.access);
        facts.row("found", self.recovery);
        facts.row("records recovered", count(self.recovered_records));
        facts.row("damaged records", count(self.corrupt));
        facts.row("opened in", format!("{} µs", count(self.open_us)));
        facts.print(out)
    }
}

pub(super) fn run(args: &Stats) -> anyhow::Result<Exit> {
    let Some(pause) = args.watch else {
        return closing(&open::existing(&args.dir, args.join)?, |store| {
            say(args, store)?;
            Ok(Exit::Fine)
        });
    };
    open::check_exists(&args.dir)?;
    if open::sharers(&args.dir)?.is_empty() {
        bail!("no process shares {}: nothing would change there", args.dir.display());
    }
    interrupt::listen()?;
    closing(&open::existing(&args.dir, Join { shared: true })?, |store| {
        loop {
            say(args, store)?;
            let next = Instant::now() + pause;
            while Instant::now() < next {
                if interrupt::requested() {
                    return Ok(Exit::Interrupted);
                }
                thread::sleep((next - Instant::now()).min(LISTEN_EVERY));
            }
        }
    })
}

fn say(args: &Stats, store: &Disk) -> anyhow::Result<()> {
    let report = Report::new(&args.dir, store)?;
    let mut stdout = output::stdout();
    if args.json {
        output::json(&mut stdout, &report)?;
    } else {
        report.print(&mut stdout)?;
        if args.watch.is_some() {
            writeln!(stdout)?;
        }
    }
    stdout.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_engine::{Maintenance, Put};

    #[test]
    fn a_directory_tells_which_files_hold_what() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("store");
        // By hand, so that no segment comes between looking at the files and at the stats.
        let builder = Disk::builder(&dir).budget(4 << 20).maintenance(Maintenance::Manual);
        let store = builder.open().unwrap();
        let _ = store.put(b"small", b"value", &Put::default()).unwrap();
        let _ = store.put(b"large", &[7; 300_000], &Put::default()).unwrap();
        fs::write(dir.join("seg").join("not ours"), b"").unwrap();
        let report = Report::new(&dir, &store).unwrap();
        assert_eq!(report.files.large_values.count, 1);
        assert!(report.files.large_values.bytes > 300_000);
        assert_eq!(report.files.segments.count, report.segments);
        assert_eq!(report.files.segments.bytes, report.segments * u64::from(report.segment_bytes));
        assert_eq!((report.files.index.count, report.entries), (1, 2));
        assert!(report.write_amplification.is_some_and(|times| times > 1.0));
    }
}
