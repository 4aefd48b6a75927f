//! A queue of work that survives being killed, with one worker at a time, a limit and a tally.
//!
//! Run it a few times, and interrupt it: what was queued is done once, by whoever comes next.
//!
//! ```sh
//! cargo run --example structures -- /tmp/larder-structures
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use larder::structures::Structures;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| std::env::temp_dir().join("larder-structures"));
    let structures = Structures::open(dir)?;

    let run = structures.counter("runs")?.add(1)?;
    let jobs = structures.deque::<(i64, u32)>("jobs")?;
    jobs.extend((0..20).map(|job| (run, job)))?;
    eprintln!("run {run}: {} jobs are waiting", jobs.len()?);

    let done = structures.index::<String, u32>("done by run")?;
    let took = structures.running_mean("milliseconds per job")?;
    let limiter = structures.rate_limiter("jobs", 10, Duration::from_secs(1))?;
    let worker = structures.lock("worker", Duration::from_secs(5))?;

    let mut held = worker.lock()?;
    held.keep_alive()?;
    while let Some((of_run, job)) = jobs.front()? {
        // Ten at once, and then ten a second.
        limiter.acquire(1)?;
        let begun = Instant::now();
        std::thread::sleep(Duration::from_millis(u64::from(job)));
        took.add(begun.elapsed().as_secs_f64() * 1e3)?;
        let key = format!("run {of_run}");
        done.insert(&key[..], done.get(&key[..])?.unwrap_or(0) + 1)?;
        // Last: a job that was cut off is begun again.
        jobs.pop_front()?;
    }
    held.release()?;

    for entry in done.iter()? {
        let (run, count) = entry?;
        eprintln!("{run}: {count} jobs done");
    }
    eprintln!("{:.1} ms each", took.get()?.unwrap_or_default());
    structures.sync()?;
    Ok(())
}
