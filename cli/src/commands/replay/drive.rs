//! The loop of a replay: get, check; on a miss make and insert.

use std::fs::File;
use std::io::Write as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::Context as _;
use indicatif::ProgressBar;
use larder_lab::trace::{Access, Trace};
use parking_lot::Mutex;

use super::tiers::{Gauge, Tiers};
use crate::{interrupt, value};

/// Requests that are handed over, and between two looks at Ctrl-C and the gauges.
const BATCH: usize = 1024;

/// Batches between two samples of the gauges.
const SAMPLE_BATCHES: u64 = 16;

/// Details are kept of this many wrong values.
const WRONG_KEPT: usize = 10;

/// How to drive.
pub(super) struct Drive<'a> {
    pub(super) tiers: &'a dyn Tiers,
    /// Stop after this many requests.
    pub(super) limit: Option<u64>,
    /// Every object has this size.
    pub(super) size: Option<u32>,
    pub(super) threads: usize,
    /// Where acknowledged insertions go.
    pub(super) ack: Option<&'a Ack>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Hits on objects that had changed their size.
    pub(super) resized: u64,
    /// Insertions that were refused.
    pub(super) rejected: u64,
    /// Bytes of the objects asked for.
    pub(super) bytes: u64,
    /// Bytes of the objects missed.
    pub(super) missed_bytes: u64,
    pub(super) wrong: u64,
    /// The first of the wrong values, in words.
    pub(super) wrong_kept: Vec<String>,
    /// The most that was seen in use.
    pub(super) peak: Gauge,
    /// Stopped by Ctrl-C.
    pub(super) interrupted: bool,
}

/// A file of acknowledged insertions: a `csv` trace of its own.
///
/// Each line goes out in one unbuffered write after the insertion returned, so whatever kills
/// the process, no line tells of an insertion that was not acknowledged.
pub(super) struct Ack(Mutex<File>);

impl Ack {
    pub(super) fn append_to(file: File) -> Self {
        Self(Mutex::new(file))
    }

    fn tell(&self, access: Access) -> anyhow::Result<()> {
        let line = format!("{},{}\n", access.id, access.size);
        self.0.lock().write_all(line.as_bytes()).context("cannot write to the --ack file")
    }
}

impl Drive<'_> {
    /// Makes every request of `trace`.
    pub(super) fn run(&self, trace: &mut Trace, bar: &ProgressBar) -> anyhow::Result<Tally> {
        if self.threads <= 1 {
            let mut tally = Tally::default();
            let mut buffer = Vec::new();
            let read = self.read(trace, bar, |batch| {
                batch.iter().try_for_each(|access| self.serve(*access, &mut buffer, &mut tally))?;
                Ok(true)
            })?;
            return Ok(tally.and(read));
        }
        let (batches, from_reader) = sync_channel(2 * self.threads);
        let from_reader = Mutex::new(Some(from_reader));
        thread::scope(|scope| {
            let workers: Vec<_> =
                (0..self.threads).map(|_| scope.spawn(|| self.work(&from_reader))).collect();
            let read = self.read(trace, bar, |batch| Ok(send(&batches, batch)));
            drop(batches);
            let mut tally = Tally::default();
            for worker in workers {
                let one = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                tally = tally.and(one?);
            }
            Ok(tally.and(read?))
        })
    }

    /// Hands the trace's requests to `each` in batches until it ends, or `each` says so.
    fn read(
        &self,
        trace: &mut Trace,
        bar: &ProgressBar,
        mut each: impl FnMut(Vec<Access>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let mut left = self.limit.unwrap_or(u64::MAX);
        for number in 0_u64.. {
            if interrupt::requested() {
                tally.interrupted = true;
                break;
            }
            if number.is_multiple_of(SAMPLE_BATCHES) {
                let gauge = self.tiers.gauge();
                tally.peak = most(tally.peak, gauge);
                bar.set_message(format!("{} hits", gauge.memory_hits + gauge.disk_hits));
            }
            let mut batch = Vec::with_capacity(BATCH);
            // What was read before the trace broke off still counts.
            let wanted = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
            let broken = trace.fill(&mut batch, wanted).err();
            if let Some(size) = self.size {
                batch.iter_mut().for_each(|access| access.size = size);
            }
            left -= batch.len() as u64;
            let last = batch.len() < BATCH;
            let go_on = each(batch)?;
            if let Some(error) = broken {
                return Err(error.into());
            }
            if last || !go_on {
                break;
            }
        }
        tally.peak = most(tally.peak, self.tiers.gauge());
        Ok(tally)
    }

    /// Serves batches until there are no more, or one fails.
    fn work(&self, batches: &Mutex<Option<Receiver<Vec<Access>>>>) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let mut buffer = Vec::new();
        loop {
            let batch = batches.lock().as_ref().and_then(|batches| batches.recv().ok());
            let Some(batch) = batch else { return Ok(tally) };
            for access in batch {
                if let Err(error) = self.serve(access, &mut buffer, &mut tally) {
                    // Without a receiver, the reader and the others stop, too.
                    *batches.lock() = None;
                    return Err(error);
                }
            }
        }
    }

    fn serve(&self, access: Access, buffer: &mut Vec<u8>, tally: &mut Tally) -> anyhow::Result<()> {
        tally.requests += 1;
        tally.bytes += u64::from(access.size);
        let mut stored = None;
        let hit = self.tiers.get(access.id, &mut |found| {
            stored = value::check(found, access.id);
            if stored.is_none() {
                tally.note_wrong(access, found);
            }
        })?;
        if hit {
            tally.hits += 1;
            match stored {
                Some(size) if size != access.size => tally.resized += 1,
                _ => return Ok(()),
            }
        } else {
            tally.misses += 1;
            tally.missed_bytes += u64::from(access.size);
        }
        value::fill(buffer, access.id, access.size);
        if !self.tiers.insert(access.id, buffer)? {
            tally.rejected += 1;
        } else if let Some(ack) = self.ack {
            ack.tell(access)?;
        }
        Ok(())
    }
}

/// Whether somebody took the batch.
fn send(batches: &SyncSender<Vec<Access>>, batch: Vec<Access>) -> bool {
    batches.send(batch).is_ok()
}

/// The larger of what was in use.
fn most(a: Gauge, b: Gauge) -> Gauge {
    Gauge {
        memory_used: a.memory_used.max(b.memory_used),
        disk_used: a.disk_used.max(b.disk_used),
        ..b
    }
}

impl Tally {
    fn note_wrong(&mut self, access: Access, found: &[u8]) {
        self.wrong += 1;
        if self.wrong_kept.len() < WRONG_KEPT {
            let head = crate::keys::hex(&found[..found.len().min(value::LEN_MIN)]);
            self.wrong_kept.push(format!(
                "object {} of {} bytes came back as {} bytes that begin {head}",
                access.id,
                access.size,
                found.len(),
            ));
        }
    }

    /// Both together.
    fn and(mut self, other: Self) -> Self {
        self.requests += other.requests;
        self.hits += other.hits;
        self.misses += other.misses;
        self.resized += other.resized;
        self.rejected += other.rejected;
        self.bytes += other.bytes;
        self.missed_bytes += other.missed_bytes;
        self.wrong += other.wrong;
        self.wrong_kept.extend(other.wrong_kept);
        self.wrong_kept.truncate(WRONG_KEPT);
        self.peak = most(self.peak, other.peak);
        self.interrupted |= other.interrupted;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiers::tests::Map;
    use super::*;
    use larder_lab::trace::Options;
    use std::fs;
    use std::path::Path;

    const TRACE: &str = "1,10\n2,20\n1,10\n3,5000\n2,21\n1,10\n";

    fn drive(map: &Map, text: &str, threads: usize, limit: Option<u64>) -> anyhow::Result<Tally> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.csv");
        fs::write(&path, text).unwrap();
        let bar = ProgressBar::hidden();
        let mut trace = Trace::open(&path, &Options::default()).unwrap();
        let ack = acked(dir.path());
        let drive = Drive { tiers: map, limit, size: None, threads, ack: Some(&ack) };
        let tally = drive.run(&mut trace, &bar)?;
        let lines = fs::read_to_string(dir.path().join("acked")).unwrap().lines().count() as u64;
        assert_eq!(lines, tally.misses + tally.resized - tally.rejected);
        Ok(tally)
    }

    fn acked(dir: &Path) -> Ack {
        let file = File::options().create(true).append(true).open(dir.join("acked")).unwrap();
        Ack::append_to(file)
    }

    #[test]
    fn every_request_is_a_hit_or_a_miss() {
        let tally = drive(&Map::default(), TRACE, 1, None).unwrap();
        assert_eq!((tally.requests, tally.hits, tally.misses), (6, 3, 3));
        assert_eq!((tally.resized, tally.wrong, tally.rejected), (1, 0, 0));
        assert_eq!((tally.bytes, tally.missed_bytes), (5_071, 5_030));
    }

    #[test]
    fn a_wrong_value_is_counted_and_told() {
        let map = Map { spoiled: Some(1), ..Map::default() };
        let tally = drive(&map, TRACE, 1, None).unwrap();
        assert_eq!(tally.wrong, 2);
        assert!(tally.wrong_kept[0].starts_with("object 1 of 10 bytes"), "{:?}", tally.wrong_kept);
    }

    #[test]
    fn threads_together_make_every_request_once() {
        let text: String = (0..20_000).map(|n| format!("{},{}\n", n % 777, n % 777)).collect();
        let tally = drive(&Map::default(), &text, 3, None).unwrap();
        assert_eq!(tally.requests, 20_000);
        assert_eq!(tally.hits + tally.misses, 20_000);
        assert!(tally.misses >= 777);
        assert_eq!((tally.wrong, tally.resized), (0, 0));
    }

    #[test]
    fn the_limit_is_kept() {
        for (limit, expected) in [(0, 0), (4, 4), (99, 6)] {
            assert_eq!(drive(&Map::default(), TRACE, 1, Some(limit)).unwrap().requests, expected);
        }
    }

    #[test]
    fn a_failing_cache_ends_the_replay_and_a_refusing_one_does_not() {
        let text: String = (0..50_000).map(|n| format!("{n}\n")).collect();
        for threads in [1, 3] {
            let map = Map { failing: true, ..Map::default() };
            assert!(drive(&map, &text, threads, None).is_err());
            let map = Map { refusing: true, ..Map::default() };
            assert_eq!(drive(&map, &text, threads, None).unwrap().rejected, 50_000);
        }
    }

    #[test]
    fn a_trace_that_breaks_off_is_an_error() {
        for threads in [1, 2] {
            assert!(drive(&Map::default(), "1\n2\nthree\n", threads, None).is_err());
        }
    }
}
