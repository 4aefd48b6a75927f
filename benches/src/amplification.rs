//! Write amplification of larder as a cache: bytes written to disk for each byte put, over a
//! recorded trace, once the store is full.
//!
//! Each request is a get, and on a miss a put, as a program would do that uses the cache before
//! something slower. The figures are larder's own counters, whose sum over segments, moved
//! records and index is what it wrote; no rival counts the same.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use larder_engine::{Disk, Engine, Put, Stats};
use larder_rivals::Result;

use crate::data::{VALUE_LEN_MAX, ends, key, value};
use crate::report::OURS;
use crate::sheet::{Column, Line, Sheet};
use crate::stores::private;
use crate::trace::{Request, Trace};

/// The steady state begins when this many budgets were put.
const WARM_BUDGETS: u64 = 2;
const COLUMNS: [Column; 3] = [
    Column { name: "written / put", unit: "B/B" },
    Column { name: "moved / put", unit: "B/B" },
    Column { name: "misses", unit: "share" },
];

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where stores are made.
    pub dir: PathBuf,
    /// The trace.
    pub trace: PathBuf,
    /// Requests to read of it.
    pub requests: u64,
    /// How often the trace is run through.
    pub passes: u32,
    /// Budgets, in percent of the bytes of all objects; none is below larder's least, 1 MiB.
    pub percents: Vec<u32>,
    /// Repeats of each measurement.
    pub repeats: usize,
}

/// Runs the trace at each budget.
///
/// # Errors
/// Whatever the store or the trace says, or a wrong answer; or if the trace is too short for a
/// steady state.
pub fn run(options: &Options, sheets: &mut Vec<Sheet>) -> Result<()> {
    let (objects, bytes, capped) = footprint(options)?;
    let mut rows = Vec::new();
    for &percent in &options.percents {
        let budget = (bytes * u64::from(percent) / 100).max(1 << 20);
        let repeats = (0..options.repeats).map(|_| replay(options, budget));
        let figures: Vec<_> = repeats.collect::<Result<_>>()?;
        let note =
            format!("a budget of {:.1} MiB, {percent} %", budget as f64 / f64::from(1 << 20));
        rows.push(Line::new(OURS, "defaults; a budget that evicts", note, &figures));
    }
    let name = options.trace.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let capped = if capped > 0 {
        format!(", {capped} of them cut to {} MiB", VALUE_LEN_MAX >> 20)
    } else {
        String::new()
    };
    let sheet = Sheet {
        workload: "amplification".to_owned(),
        title: format!(
            "write amplification: {name}, {objects} objects of {:.1} MiB in all{capped}",
            bytes as f64 / f64::from(1 << 20)
        ),
        regime: "get, put on a miss; counted once two budgets were put",
        columns: COLUMNS.to_vec(),
        rows,
    };
    sheet.print();
    sheets.push(sheet);
    Ok(())
}

fn requests(options: &Options) -> Result<impl Iterator<Item = Result<Request>>> {
    Ok(Trace::open(&options.trace)?.take(usize::try_from(options.requests)?))
}

fn value_len(request: Request) -> usize {
    usize::try_from(request.size).map_or(VALUE_LEN_MAX, |size| size.min(VALUE_LEN_MAX))
}

/// Objects, the bytes of all with their keys, and how many were too long.
fn footprint(options: &Options) -> Result<(usize, u64, usize)> {
    let mut sizes = HashMap::new();
    let mut capped = 0;
    for request in requests(options)? {
        let request = request?;
        let len = value_len(request);
        if sizes.insert(request.id, len as u64 + 16).is_none()
            && (len as u64) < u64::from(request.size)
        {
            capped += 1;
        }
    }
    if sizes.is_empty() {
        return Err("the trace has no requests".into());
    }
    Ok((sizes.len(), sizes.values().sum(), capped))
}

/// Runs the trace against a store with this budget, and says what the steady state was like.
fn replay(options: &Options, budget: u64) -> Result<Vec<Option<f64>>> {
    let dir = private(&options.dir)?;
    let disk = Disk::builder(dir.path().join(OURS)).budget(budget).open()?;
    let mut warm: Option<Stats> = None;
    for _ in 0..options.passes {
        for request in requests(options)? {
            step(&disk, request?)?;
            if warm.is_none() && disk.stats().put_bytes >= WARM_BUDGETS * budget {
                warm = Some(disk.stats());
            }
        }
    }
    let end = disk.stats();
    let put = end.put_bytes;
    let Some(warm) = warm.filter(|warm| end.put_bytes > warm.put_bytes) else {
        return Err(format!(
            "the trace puts {put} bytes, and the steady state begins after {}: take a smaller \
             --budget-percent or more --passes",
            WARM_BUDGETS * budget
        )
        .into());
    };
    let put = (end.put_bytes - warm.put_bytes) as f64;
    let (hits, misses) = (end.hits - warm.hits, end.misses - warm.misses);
    Ok(vec![
        Some((end.written_bytes - warm.written_bytes) as f64 / put),
        Some((end.moved_bytes - warm.moved_bytes) as f64 / put),
        Some(misses as f64 / (hits + misses) as f64),
    ])
}

/// One request: a hit must have the right value, as far as its ends tell. The size of an object
/// may change within a trace, which is a miss to the program that asks, and a put.
fn step(disk: &Disk, request: Request) -> Result<()> {
    let len = value_len(request);
    let (key, value) = (key(request.id), value(request.id, len));
    match disk.get(&key)? {
        Some(found) if found.len() == len => {
            if ends(&found) != ends(value) {
                return Err(format!("object {} has a wrong value", request.id).into());
            }
        }
        // Too large for the budget is no error: the cache refuses, and the program goes on.
        _ => drop(disk.put(&key, value, &Put::default())?),
    }
    Ok(())
}

/// Writes a trace that nobody recorded: Zipf 0.99 over so many objects of 100 B to 4 KiB. For
/// `all`, which has no file to read, and for trying things out.
///
/// # Errors
/// What the system says.
pub fn write_synthetic(path: &Path, objects: u32, count: u64) -> Result<()> {
    let mut bytes = Vec::with_capacity(usize::try_from(count)? * 24);
    for id in crate::data::Zipf::new(objects, 0.99).keys(count, 5) {
        let size = 100 + crate::data::mix(id) % 3996;
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(size)?.to_le_bytes());
        bytes.extend_from_slice(&(-1_i64).to_le_bytes());
    }
    Ok(std::fs::write(path, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_writes_at_least_what_is_put() {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("zipf.oracleGeneral");
        write_synthetic(&trace, 5_000, 60_000).unwrap();
        let options = Options {
            dir: dir.path().to_owned(),
            trace,
            requests: u64::MAX >> 1,
            passes: 1,
            percents: vec![10],
            repeats: 1,
        };
        let mut sheets = Vec::new();
        run(&options, &mut sheets).unwrap();
        let figure = |at: usize| sheets[0].rows[0].cells[at].as_ref().unwrap().spread.median;
        assert!(figure(0) >= 1.0 && figure(0) > figure(1), "{} {}", figure(0), figure(1));
        assert!((0.01..0.99).contains(&figure(2)), "{}", figure(2));

        let too_short = Options { requests: 100, ..options };
        assert!(run(&too_short, &mut sheets).is_err());
    }
}
