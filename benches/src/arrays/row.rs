//! One row of the largest array, with nothing of it in memory: what it takes, and how much is read
//! for it.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use larder_engine::{ArrayRef, Check, Durability, Engine as _, Put};
use larder_rivals::Result;

use super::raw::{check, sum};
use super::store::status;
use super::{Options, Subject, compare, floats, open_store, raw, sheet, shown};
use crate::sheet::{Column, Sheet};

const COLUMNS: [Column; 3] = [
    Column { name: "row", unit: "µs" },
    Column { name: "resident", unit: "KiB" },
    Column { name: "in page cache", unit: "KiB" },
];

/// Elements of a row.
const ROW: usize = 1024;

pub(super) fn run(options: &Options, sheets: &mut Vec<Sheet>) -> Result<()> {
    let Some(&size) = options.sizes.iter().max().filter(|size| **size >= 64 << 20) else {
        return Ok(());
    };
    let dir = tempfile::Builder::new().prefix("arrays-").tempdir_in(&options.dir)?;
    let array = floats(size)?;
    let rows = array.len() / ROW;
    let disk = open_store(dir.path())?;
    let durable = Put { durability: Durability::Sync, ..Put::default() };
    let outcome = disk.put_array(b"key", &ArrayRef::new(&array, &[rows, ROW])?, &durable)?;
    if !outcome.is_admitted() {
        return Err(format!("refused: {outcome:?}").into());
    }
    drop(array);
    let npy = disk.array_file(b"key")?.ok_or("no file of its own")?;
    disk.close()?;
    drop(disk);
    let at = rows / 2;
    let in_store = |how: Check| -> Result<Vec<Option<f64>>> {
        let disk = open_store(dir.path())?;
        forget(&npy)?;
        measured(&npy, || {
            let view = disk.get_array_with::<f32>(b"key", how)?.ok_or("gone")?;
            let row = view.rows(at..at + 1)?;
            Ok((sum(row.as_slice()?), view))
        })
    };
    let in_file = || -> Result<Vec<Option<f64>>> {
        forget(&npy)?;
        measured(&npy, || {
            let map = raw::map(&npy)?;
            let from = 4096 + at * ROW * 4;
            Ok((sum(raw::floats(&map[from..from + ROW * 4])?), map))
        })
    };
    let subjects = vec![
        Subject::new("mmap anew", "", in_file),
        Subject::new("larder, never", "Check::Never", || in_store(Check::Never)),
        Subject::new("larder", "Check::FirstTouch", || in_store(Check::FirstTouch)),
    ];
    let title = format!("one row of {} KiB of an array of {}", (ROW * 4) >> 10, shown(size));
    let regime = "nothing of the file in memory; its tail was read when it was opened";
    let sheet = sheet(format!("arrays/row/{size}"), title, regime, &COLUMNS);
    compare(sheet, "mmap anew", 1..options.repeats + 1, subjects, sheets)
}

/// Has the system drop what it has of a file in memory.
fn forget(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// Time, growth of what is resident of mapped files, and what the page cache has of the file
/// afterwards. `T` keeps the file mapped until that was looked at.
fn measured<T>(path: &Path, look: impl FnOnce() -> Result<(f64, T)>) -> Result<Vec<Option<f64>>> {
    let before = status("RssFile:")?;
    let start = Instant::now();
    let (found, kept) = look()?;
    let took = start.elapsed();
    check(found, ROW)?;
    let resident = status("RssFile:")?.saturating_sub(before);
    let cached = cached(path);
    drop(kept);
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    Ok(vec![Some(took.as_secs_f64() * 1e6), Some(kib(resident)), cached.map(kib)])
}

/// Bytes of a file in the page cache, as `fincore` of util-linux says; `None` without it.
fn cached(path: &Path) -> Option<u64> {
    let arguments = ["--bytes", "--noheadings", "--output", "RES"];
    let output = Command::new("fincore").args(arguments).arg(path).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
