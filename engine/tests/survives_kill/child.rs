//! The process that is killed.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use larder_engine::{Durability, Outcome, Put, Ttl};

use crate::stores::{self, Subject};
use crate::work::{Job, Key, Note, Notes, Number, Op, script, tag_bytes};

/// What the parent waits for.
pub(crate) const READY: &str = "ready to be killed";
/// Where the job stands.
pub(crate) const JOB: &str = "LARDER_KILL_JOB";

/// Works until it is killed. Ends by itself, with an error, only if something went wrong.
pub(crate) fn run(job: &Job) -> Result<(), Box<dyn std::error::Error>> {
    let engine: Arc<dyn Subject> = Arc::from(stores::open(job, false)?.engine);
    let mut notes = Vec::new();
    for thread in job.first..job.first + job.threads {
        notes.push(Notes::create(&job.notes, thread)?);
    }
    let mut out = io::stdout();
    writeln!(out, "{READY}")?;
    out.flush()?;
    // From 1 on: 0 is what an earlier life did.
    let ticks = Arc::new(AtomicU64::new(1));
    let (engine, ticks) = (&*engine, &*ticks);
    thread::scope(|scope| {
        let threads: Vec<_> = (job.first..job.first + job.threads)
            .zip(notes)
            .map(|(thread, notes)| scope.spawn(move || work(job, engine, ticks, thread, notes)))
            .collect();
        // Whichever fails first is what the parent should hear about.
        while threads.iter().all(|thread| !thread.is_finished()) {
            thread::sleep(Duration::from_millis(1));
        }
        let failed = threads.into_iter().find(|thread| thread.is_finished());
        let said = failed.and_then(|thread| thread.join().ok());
        eprintln!("a thread ended: {said:?}");
        std::process::exit(3)
    })
}

fn work(
    job: &Job,
    engine: &dyn Subject,
    ticks: &AtomicU64,
    thread: u64,
    mut notes: Notes,
) -> Result<(), String> {
    for op in script(job, thread) {
        let called = ticks.fetch_add(1, Ordering::SeqCst);
        let version = act(engine, op).map_err(|error| format!("{op:?}: {error}"))?;
        let returned = ticks.fetch_add(1, Ordering::SeqCst);
        let note = Note { called, returned, version };
        notes.add(note).map_err(|error| format!("cannot take a note: {error}"))?;
    }
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

/// The version that a put got, the sum after an addition, else 0.
fn act(engine: &dyn Subject, op: Op) -> Result<u64, String> {
    let told = |error: larder_engine::Error| error.to_string();
    match op {
        Op::Put { key, number, ttl_ms, tag } => {
            let ttl = ttl_ms.map_or(Ttl::Never, |ms| Ttl::After(Duration::from_millis(ms)));
            let tag = tag.map(|tag| tag_bytes(key.thread, tag));
            let tags: Vec<&[u8]> = tag.iter().map(Vec::as_slice).collect();
            let options = Put { ttl, durability: Durability::None, tags: &tags, ..Put::default() };
            let (name, value) = (key.bytes(), number.value(key));
            let outcome = match number.array_way() {
                Some(way) => engine.put_array(&name, &value, way, &options),
                None => engine.put(&name, &value, &options),
            };
            match outcome.map_err(told)? {
                Outcome::Admitted { version } => return Ok(version),
                refused @ (Outcome::Rejected(_) | Outcome::Conflict { .. } | Outcome::Blocked) => {
                    return Err(format!("refused: {refused:?}"));
                }
            }
        }
        Op::Batch { keys: [first, second, third], numbers: [one, other] } => {
            let put = |key: Key, number: Number| (key.bytes(), Some(number.value(key)));
            let changes = [put(first, one), (second.bytes(), None), put(third, other)];
            engine.write(&changes).map_err(told)?;
        }
        Op::Invalidate { thread, tag } => {
            engine.invalidate_tag(&tag_bytes(thread, tag)).map_err(told)?;
        }
        Op::Add { key, by } => {
            return engine.add(&key.bytes(), by).map(i64::cast_unsigned).map_err(told);
        }
        Op::Remove(key) => drop(engine.remove(&key.bytes()).map_err(told)?),
        Op::Get(key) => drop(engine.get(&key.bytes()).map_err(told)?),
        Op::Clear => drop(engine.clear().map_err(told)?),
        Op::Sync => engine.sync().map_err(told)?,
    }
    Ok(0)
}
