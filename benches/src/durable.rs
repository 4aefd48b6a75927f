//! Puts that survive the loss of power, and how often each waits for the disk.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use larder_rivals::{DiskEngine, Plan, Result};

use crate::report::Group;
use crate::rounds::{Setup, Title, named};
use crate::stores::{Loaded, check_three, private, put_each};
use crate::timed::{Took, on_threads, share};

const VALUE_LEN: usize = 100;
/// What makes a process wait for the disk, but for writes to descriptors opened with `O_DSYNC`.
const CALLS: [&str; 3] = ["fsync", "fdatasync", "msync"];

/// Measures so many durable puts, over all threads.
///
/// # Errors
/// Whatever an engine says, or a wrong answer of one.
pub fn run(setup: &Setup, count: u64, groups: &mut Vec<Group>) -> Result<()> {
    let mut setup = setup.clone();
    setup.engines.retain(|engine| engine.durable.is_some());
    let plan = Plan::new(count, VALUE_LEN);
    let samples = setup.rounds("durable", |_, engine| put(&setup, &plan, engine))?;
    let mut notes = Vec::new();
    for engine in &setup.engines {
        notes.push((engine.name, waits(&setup, &plan, engine)?));
    }
    let title = Title {
        workload: format!("durable/{VALUE_LEN}"),
        title: "disk, 100 B: durable put, each a write of its own".to_owned(),
        regime: "fresh store, on disk",
    };
    let note = |engine: &DiskEngine| {
        notes
            .iter()
            .find(|(name, _)| *name == engine.name)
            .map_or_else(String::new, |n| n.1.clone())
    };
    setup.speeds(title, count, &samples, note, groups);
    Ok(())
}

fn put(setup: &Setup, plan: &Plan, engine: &DiskEngine) -> Result<Took> {
    let open = engine.durable.ok_or("it has no durable puts")?;
    let loaded = Loaded::fresh(open, plan, &setup.dir)?;
    let count = usize::try_from(plan.count)?;
    let (took, _) = on_threads(setup.threads, |thread| {
        put_each(&*loaded.store, plan, share(count, thread, setup.threads))
    })?;
    check_three(&*loaded.store, plan)?;
    Ok(took)
}

/// What one durable put costs in waits for the disk, in words: the calls of a process that puts
/// all records, less those of one that only opens the store.
fn waits(setup: &Setup, plan: &Plan, engine: &DiskEngine) -> Result<String> {
    let Some(all) = traced(setup, engine, plan.count)? else {
        return Ok("waits not counted: no strace".to_owned());
    };
    let Some(open) = traced(setup, engine, 0)? else { return Ok(String::new()) };
    let shown = CALLS.iter().zip(all.iter().zip(open)).filter_map(|(call, (all, open))| {
        let calls = all.saturating_sub(open) as f64 / plan.count as f64;
        (calls > 0.0).then(|| format!("{calls:.2} {call}"))
    });
    let shown: Vec<String> = shown.collect();
    Ok(if shown.is_empty() { "no waits counted".to_owned() } else { shown.join(" + ") + " a put" })
}

/// How often a child that puts so many records calls each of [`CALLS`]; `None` if there is
/// nothing to count with.
fn traced(setup: &Setup, engine: &DiskEngine, count: u64) -> Result<Option<[u64; 3]>> {
    let dir = private(&setup.dir)?;
    let table = dir.path().join("calls");
    let store = dir.path().join("store");
    std::fs::create_dir(&store)?;
    let traced = Command::new("strace")
        .args(["-f", "-c", "-e", &format!("trace={}", CALLS.join(",")), "-o"])
        .arg(&table)
        .arg(std::env::current_exe()?)
        .args(["durable-child", "--engine", engine.name, "--count", &count.to_string()])
        .args(["--threads", &setup.threads.to_string(), "--dir"])
        .arg(&store)
        .stdin(Stdio::null())
        .output();
    let Ok(output) = traced else { return Ok(None) };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // Where tracing is forbidden, strace says so; anything else is the store's failure.
        if said.contains("ptrace") {
            return Ok(None);
        }
        return Err(format!("counting the waits of {}: {}", engine.name, said.trim()).into());
    }
    Ok(Some(calls(&std::fs::read_to_string(&table)?)))
}

/// Reads strace's summary, whose lines end in the name of a call and have its number fourth.
fn calls(table: &str) -> [u64; 3] {
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    CALLS.map(|call| {
        let line = lines.iter().find(|words| words.last() == Some(&call));
        line.and_then(|words| words.get(3)?.parse().ok()).unwrap_or(0)
    })
}

/// The child: opens a store, puts so many records, and ends without closing it.
///
/// # Errors
/// Whatever the engine says.
pub fn child(engine: &str, dir: &Path, count: u64, threads: usize) -> Result<()> {
    let engines = named(&[engine.to_owned()])?;
    let open = engines[0].durable.ok_or("it has no durable puts")?;
    let plan = Plan::new(count, VALUE_LEN);
    let store = open(dir, &plan)?;
    let records = usize::try_from(count)?;
    on_threads(threads, |thread| put_each(&*store, &plan, share(records, thread, threads)))?;
    std::io::stdout().flush()?;
    std::process::exit(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_in_the_summary() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.21    0.012345          12       500           fdatasync
  0.79    0.000098          49         2         1 fsync
------ ----------- ----------- --------- --------- ----------------
100.00    0.012443          24       502         1 total
";
        assert_eq!(calls(table), [2, 500, 0]);
        assert_eq!(calls(""), [0, 0, 0]);
    }
}
