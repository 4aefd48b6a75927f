//! `demo`: a slow computation over files, remembered from run to run.

mod files;
mod findings;
mod memo;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use etcetera::BaseStrategy as _;
use indicatif::ProgressBar;
use parking_lot::Mutex;
use serde::Serialize;

use self::findings::{Fault, Findings, Fingerprint};
use self::memo::Memoised;
use crate::args::Demo;
use crate::output::{self, Exit, Facts, count};
use crate::size::Size;
use crate::troubles::Troubles;
use crate::{interrupt, progress};

/// Times that a file may change under our eyes before it is skipped.
const TRIES: usize = 3;

/// Names are printed of this many skipped files.
const SKIPPED_SHOWN: usize = 10;

pub(super) fn run(args: &Demo) -> anyhow::Result<Exit> {
    let root = match &args.path {
        Some(path) => path.clone(),
        None => files::checkout()?,
    };
    let root = root.canonicalize().with_context(|| root.display().to_string())?;
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => default_dir()?,
    };
    interrupt::listen()?;
    let start = Instant::now();
    let troubles = Troubles::default();
    let memo = Memoised::open(&dir, args.memory.0, args.disk.0, troubles.clone())?;
    let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
    let found = files::walk(&root, &dir);
    let bar = progress::files(found.paths.len() as u64, args.json);
    let threads =
        args.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let visited = Visit { memo: &memo, root: &root, bar: &bar }.all(&found.paths, threads);
    bar.finish_and_clear();
    let closed = memo.close();
    troubles.warn();
    let mut tally = visited;
    tally.skipped.extend(found.skipped);
    tally.skipped.sort();

    let report = Report::new(&root, &dir, &tally, threads, start.elapsed());
    for line in tally.skipped.iter().take(SKIPPED_SHOWN) {
        output::warn(&format!("skipped {line}"));
    }
    if tally.skipped.len() > SKIPPED_SHOWN {
        output::warn(&format!("skipped {} more", tally.skipped.len() - SKIPPED_SHOWN));
    }
    let mut stdout = output::stdout();
    if args.json {
        output::json(&mut stdout, &report)?;
    } else {
        report.print(&mut stdout)?;
    }
    // The results are right all the same, so they come first.
    if let Err(error) = closed {
        output::report(&error.context("not all results could be stored"));
        return Ok(Exit::Found);
    }
    Ok(if tally.interrupted { Exit::Interrupted } else { Exit::Fine })
}

/// `larder/demo` in the platform's cache directory, whose upper parts are created.
fn default_dir() -> anyhow::Result<PathBuf> {
    let base = etcetera::base_strategy::choose_native_strategy()
        .context("no cache directory can be found: name one with --dir")?;
    let parent = base.cache_dir().join("larder");
    fs::create_dir_all(&parent)
        .with_context(|| format!("cannot create {}: name another with --dir", parent.display()))?;
    Ok(parent.join("demo"))
}

/// What remembers findings. A trait, so that tests need no disk.
trait Memo: Sync {
    /// The findings under `key`, computed if there are none.
    fn get_or_compute(
        &self,
        key: &Fingerprint,
        compute: impl FnOnce() -> Result<Findings, Fault>,
    ) -> Result<Findings, Fault>;

    /// How many findings came from disk so far.
    fn disk_hits(&self) -> u64;
}

/// What was done for all files.
#[derive(Debug, Default)]
struct Tally {
    files: u64,
    computed: u64,
    memory_hits: u64,
    disk_hits: u64,
    skipped: Vec<String>,
    bytes: u64,
    zstd_bytes: u64,
    lines: u64,
    /// How often each byte occurs in all files.
    histogram: Vec<u64>,
    /// What the findings that were not computed once took, in µs over all threads.
    saved_us: u64,
    interrupted: bool,
}

impl Tally {
    fn add(&mut self, findings: &Findings, computed: bool) {
        self.files += 1;
        if computed {
            self.computed += 1;
        } else {
            self.saved_us += findings.compute_us;
        }
        self.bytes += findings.bytes;
        self.zstd_bytes += findings.zstd_bytes;
        self.lines += findings.lines;
        self.histogram.resize(256, 0);
        for (sum, count) in self.histogram.iter_mut().zip(&findings.histogram) {
            *sum += count;
        }
    }
}

/// Visits files with a memo.
struct Visit<'a, M> {
    memo: &'a M,
    root: &'a Path,
    bar: &'a ProgressBar,
}

impl<M: Memo> Visit<'_, M> {
    fn all(&self, paths: &[PathBuf], threads: usize) -> Tally {
        let disk_hits_before = self.memo.disk_hits();
        let left = Mutex::new(paths.iter());
        let tally = Mutex::new(Tally::default());
        thread::scope(|scope| {
            for _ in 0..threads.clamp(1, paths.len().max(1)) {
                scope.spawn(|| {
                    loop {
                        // A statement of its own, so that the lock is not held while working.
                        let next = left.lock().next();
                        let Some(path) = next else { break };
                        let result = self.one(path);
                        let mut tally = tally.lock();
                        match result {
                            Ok((findings, computed)) => tally.add(&findings, computed),
                            Err(Fault::Interrupted) => {
                                tally.interrupted = true;
                                break;
                            }
                            Err(fault) => {
                                tally.skipped.push(format!("{}: {fault}", self.name(path)))
                            }
                        }
                        self.bar.inc(1);
                    }
                });
            }
        });
        let mut tally = tally.into_inner();
        tally.disk_hits = self.memo.disk_hits() - disk_hits_before;
        // What is neither came from memory, or from another thread that was computing it.
        tally.memory_hits = tally.files.saturating_sub(tally.computed + tally.disk_hits);
        tally
    }

    /// The findings on a file, and whether they were computed now.
    fn one(&self, path: &Path) -> Result<(Findings, bool), Fault> {
        if interrupt::requested() {
            return Err(Fault::Interrupted);
        }
        self.bar.set_message(output::plain(&self.name(path)).into_owned());
        for _ in 0..TRIES {
            let key = findings::fingerprint(path)?;
            let mut computed = false;
            let result = self.memo.get_or_compute(&key, || {
                computed = true;
                findings::compute(path, &key)
            });
            match result {
                Err(Fault::Changed) => {}
                other => return other.map(|findings| (findings, computed)),
            }
        }
        Err(Fault::Changed)
    }

    fn name(&self, path: &Path) -> String {
        path.strip_prefix(self.root).unwrap_or(path).display().to_string()
    }
}

/// What `--json` prints, and the source of the table.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    dir: String,
    files: u64,
    computed: u64,
    memory_hits: u64,
    disk_hits: u64,
    skipped: usize,
    bytes: u64,
    zstd_bytes: u64,
    lines: u64,
    histogram: Vec<u64>,
    threads: usize,
    seconds: f64,
    /// What this run would have taken without the cache, by the times that were stored.
    seconds_without: f64,
    speedup: f64,
    interrupted: bool,
}

impl Report {
    fn new(root: &Path, dir: &Path, tally: &Tally, threads: usize, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        let saved = Duration::from_micros(tally.saved_us).as_secs_f64();
        // Computing spreads over all threads, as it did when the times were taken.
        let threads_f64 = u32::try_from(threads).map_or(1.0, f64::from);
        let seconds_without = seconds + saved / threads_f64;
        Self {
            path: root.display().to_string(),
            dir: dir.display().to_string(),
            files: tally.files,
            computed: tally.computed,
            memory_hits: tally.memory_hits,
            disk_hits: tally.disk_hits,
            skipped: tally.skipped.len(),
            bytes: tally.bytes,
            zstd_bytes: tally.zstd_bytes,
            lines: tally.lines,
            histogram: tally.histogram.clone(),
            threads,
            seconds,
            seconds_without,
            speedup: if seconds > 0.0 { seconds_without / seconds } else { 1.0 },
            interrupted: tally.interrupted,
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", output::plain(&self.path))?;
        let mut facts = Facts::new();
        facts.row3("files", count(self.files), Size(self.bytes).to_string());
        facts.row("computed", count(self.computed));
        facts.row("memory hits", count(self.memory_hits));
        facts.row("disk hits", count(self.disk_hits));
        if self.skipped > 0 {
            facts.row("skipped", count(self.skipped as u64));
        }
        facts.row("lines", count(self.lines));
        facts.row3(
            "zstd 22",
            Size(self.zstd_bytes).to_string(),
            share(self.zstd_bytes, self.bytes),
        );
        if let Some((byte, number)) = commonest(&self.histogram) {
            facts.row3("commonest byte", byte, share(number, self.bytes));
        }
        facts.row("time", format!("{:.3} s", self.seconds));
        facts.row3(
            "without cache",
            format!("{:.3} s", self.seconds_without),
            "by the times stored with the results",
        );
        facts.row("speed-up", format!("{:.1} x", self.speedup));
        facts.print(out)?;
        writeln!(out, "cache: {}", output::plain(&self.dir))?;
        if self.interrupted {
            writeln!(out, "interrupted; what was computed is stored")?;
        }
        Ok(())
    }
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { String::new() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}

/// The byte that occurs most often, to look at, and how often it does.
fn commonest(histogram: &[u64]) -> Option<(String, u64)> {
    let (byte, &number) = (0..=u8::MAX).zip(histogram).max_by_key(|(_, number)| **number)?;
    (number > 0).then(|| (format!("'{}'", byte.escape_ascii()), number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Map(Mutex<HashMap<Fingerprint, Findings>>);

    impl Memo for Map {
        fn get_or_compute(
            &self,
            key: &Fingerprint,
            compute: impl FnOnce() -> Result<Findings, Fault>,
        ) -> Result<Findings, Fault> {
            if let Some(findings) = self.0.lock().get(key) {
                return Ok(findings.clone());
            }
            let findings = compute()?;
            self.0.lock().insert(*key, findings.clone());
            Ok(findings)
        }

        fn disk_hits(&self) -> u64 {
            0
        }
    }

    fn visit(memo: &Map, root: &Path) -> Tally {
        let files = files::walk(root, Path::new("/nowhere"));
        let bar = ProgressBar::hidden();
        Visit { memo, root, bar: &bar }.all(&files.paths, 1)
    }

    #[test]
    fn only_the_edited_file_is_computed_again() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("a", "one\n"), ("b", "two\n"), ("c", "two\n")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let memo = Map::default();
        let first = visit(&memo, dir.path());
        // b and c are equal: one of them is found.
        assert_eq!((first.files, first.computed, first.memory_hits), (3, 2, 1));
        let second = visit(&memo, dir.path());
        assert_eq!((second.files, second.computed), (3, 0));
        assert!(second.saved_us > first.saved_us);

        // Same length, same time: the content alone says that it changed.
        let path = dir.path().join("a");
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "eno\n").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let third = visit(&memo, dir.path());
        assert_eq!((third.files, third.computed), (3, 1));
        assert_eq!((third.lines, third.bytes), (3, 12));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_skipped_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let bar = ProgressBar::hidden();
        let visit = Visit { memo: &Map::default(), root: dir.path(), bar: &bar };
        let tally = visit.all(&[dir.path().join("gone")], 2);
        assert_eq!(tally.files, 0);
        assert!(tally.skipped[0].starts_with("gone: "), "{:?}", tally.skipped);
    }

    #[test]
    fn the_commonest_byte_is_shown_as_in_source() {
        let mut histogram = vec![0; 256];
        assert_eq!(commonest(&histogram), None);
        histogram[10] = 3;
        assert_eq!(commonest(&histogram), Some(("'\\n'".to_owned(), 3)));
    }
}
