//! Running work on threads, and turning times into figures.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use larder_rivals::Result;
use serde::Serialize;

/// How long something took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// From the first thread that began to the last that was done.
    pub wall: Duration,
    /// Processor time of the whole process, threads of the engine's own included. Tells more
    /// than `wall` while other programs want the cores.
    pub cpu: Duration,
}

/// Runs `work` on so many threads, numbered from 0, which begin together; how long that took,
/// and what each returned.
///
/// # Errors
/// The first error of a thread.
pub fn on_threads<T: Send>(
    threads: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<(Took, Vec<T>)> {
    let cpu = cpu_time();
    let barrier = Barrier::new(threads);
    let run = |number| {
        barrier.wait();
        let start = Instant::now();
        let result = work(number);
        (start, Instant::now(), result)
    };
    let done: Vec<_> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|number| scope.spawn(move || run(number))).collect();
        handles.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let cpu = cpu_time().saturating_sub(cpu);
    let mut results = Vec::new();
    let mut span: Option<(Instant, Instant)> = None;
    for outcome in done {
        let (start, end, result) = outcome.map_err(|_| "a thread panicked")?;
        results.push(result?);
        span = Some(span.map_or((start, end), |(first, last)| (first.min(start), last.max(end))));
    }
    let (first, last) = span.ok_or("no threads were asked for")?;
    Ok((Took { wall: last - first, cpu }, results))
}

/// Processor time that this process has used.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The part of `0..count` that falls to a thread.
#[must_use]
pub fn share(count: usize, thread: usize, threads: usize) -> std::ops::Range<usize> {
    count * thread / threads..count * (thread + 1) / threads
}

/// A number of threads, in words.
#[must_use]
pub fn threads(count: usize) -> String {
    if count == 1 { "1 thread".to_owned() } else { format!("{count} threads") }
}

/// Median and extremes of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; between the middle two if there is an even number.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one figure; of none, zeros.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else {
            return Self { median: 0.0, min: 0.0, max: 0.0 };
        };
        let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
        Self { median, min: *min, max: *max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        assert_eq!((share(5, 0, 2), share(5, 1, 2)), (0..2, 2..5));
    }

    #[test]
    fn median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
    }
}
