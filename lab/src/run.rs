//! Many simulated caches over one trace, side by side.
//!
//! One thread reads the trace in chunks; each chunk is shared by all workers, which drive the
//! caches that were dealt to them over it. Queues hold few chunks, so that a trace may be
//! larger than memory and the fastest cache is never far ahead of the slowest.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use larder_engine::memory::simulate::{Request, Tally};

use crate::error::{Error, Result};
use crate::links::Links;
use crate::policy::{Cache, Policy};
use crate::trace::{Access, CHUNK, Trace};

/// Chunks that wait for a worker.
const QUEUE: usize = 4;

/// A cache to simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// What leaves when room is needed.
    pub policy: Policy,
    /// What fits, in bytes, or in objects where each counts 1.
    pub capacity: u64,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The job.
    pub job: Job,
    /// Requests and hits.
    pub tally: Tally,
    /// Processor time spent simulating it, without reading the trace.
    pub elapsed: Duration,
}

/// How to run jobs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Workers; the thread that reads comes on top. At least 1.
    pub threads: usize,
    /// Whether each object counts 1, whatever its size.
    pub ignore_size: bool,
    /// Stop after this many requests. Where the trace is known to have fewer, policies that look
    /// ahead do best if it is their number: requests may say of others that lie behind the end.
    pub limit: Option<u64>,
}

/// A piece of a trace, as caches want it.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) requests: Vec<Request>,
    /// The place, from 0, at which each object is asked for again, or the largest number; empty
    /// if no job wants to know.
    pub(crate) nexts: Vec<u64>,
}

/// Runs `jobs` over the rest of `trace`; their outcomes come in the same order.
///
/// Policies that look ahead need to know when objects are asked for again: from `links`, if
/// there are any, or else from the trace itself. `watch` is told the number of requests after
/// each chunk, and may stop the run.
///
/// # Errors
/// - What reading the trace or the links says.
/// - [`Error::Stopped`]: `watch` said so.
///
/// # Panics
/// If a policy does.
pub fn run(
    trace: &mut Trace,
    links: Option<&mut Links>,
    jobs: &[Job],
    settings: Settings,
    watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Vec<Outcome>> {
    let workers = settings.threads.clamp(1, jobs.len().max(1));
    let mut dealt: Vec<Vec<(usize, Outcome, Cache)>> = (0..workers).map(|_| Vec::new()).collect();
    for (at, &job) in jobs.iter().enumerate() {
        let outcome = Outcome { job, tally: Tally::default(), elapsed: Duration::ZERO };
        dealt[at % workers].push((at, outcome, job.policy.cache(job.capacity)));
    }
    thread::scope(|scope| {
        let (senders, threads): (Vec<_>, Vec<_>) = dealt
            .into_iter()
            .map(|hand| {
                let (sender, receiver) = sync_channel(QUEUE);
                (sender, scope.spawn(move || drive(hand, &receiver)))
            })
            .unzip();
        let read = feed(trace, links, jobs, settings, &senders, watch);
        // Workers end when nothing can come any more.
        drop(senders);
        let mut outcomes: Vec<(usize, Outcome)> = Vec::with_capacity(jobs.len());
        for thread in threads {
            match thread.join() {
                Ok(done) => outcomes.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        read?;
        outcomes.sort_by_key(|&(at, _)| at);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    })
}

/// Reads the trace and hands it out.
fn feed(
    trace: &mut Trace,
    mut links: Option<&mut Links>,
    jobs: &[Job],
    settings: Settings,
    workers: &[SyncSender<Arc<Chunk>>],
    watch: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<()> {
    let looks_ahead = jobs.iter().any(|job| job.policy.looks_ahead());
    let (mut accesses, mut read) = (Vec::with_capacity(CHUNK), 0_u64);
    loop {
        let left = settings.limit.map_or(u64::MAX, |limit| limit - read);
        accesses.clear();
        trace.fill(&mut accesses, usize::try_from(left).unwrap_or(CHUNK).min(CHUNK))?;
        if accesses.is_empty() {
            return Ok(());
        }
        if let Some(links) = &mut links {
            links.fill(&mut accesses)?;
        }
        read += accesses.len() as u64;
        let request = |access: &Access| request(access, settings.ignore_size);
        let mut chunk =
            Chunk { requests: accesses.iter().map(request).collect(), nexts: Vec::new() };
        if looks_ahead {
            // Requests are numbered from 1, and what lies behind the end never comes.
            let end = settings.limit.unwrap_or(u64::MAX);
            let place = |access: &Access| match access.next {
                Access::UNKNOWN | Access::NEVER => Access::NEVER,
                next if next > end => Access::NEVER,
                next => next - 1,
            };
            chunk.nexts.extend(accesses.iter().map(place));
        }
        let chunk = Arc::new(chunk);
        // A worker that is gone has panicked, which joining it will tell.
        if workers.iter().any(|worker| worker.send(Arc::clone(&chunk)).is_err()) {
            return Ok(());
        }
        if watch(read).is_break() {
            return Err(Error::Stopped);
        }
    }
}

/// A request as caches want it.
pub(crate) fn request(access: &Access, ignore_size: bool) -> Request {
    let weight = if ignore_size { 1 } else { u64::from(access.size) };
    Request { key: access.id, weight, cost: u64::from(access.cost) }
}

/// Drives caches over what comes.
fn drive(
    mut hand: Vec<(usize, Outcome, Cache)>,
    chunks: &Receiver<Arc<Chunk>>,
) -> Vec<(usize, Outcome)> {
    for chunk in chunks {
        for (_, outcome, cache) in &mut hand {
            let start = processor_time();
            cache.run(&chunk, &mut outcome.tally);
            outcome.elapsed += processor_time().saturating_sub(start);
        }
    }
    hand.into_iter().map(|(at, outcome, _)| (at, outcome)).collect()
}

/// The time that the processors have spent on this thread.
#[cfg(unix)]
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The time since the first call, for want of something better.
#[cfg(not(unix))]
fn processor_time() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}
