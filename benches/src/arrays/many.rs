//! Many arrays of 4 KiB: stored and read, and the files that they take.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::Instant;

use larder_engine::Put;
use larder_rivals::Result;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use serde_json::json;

use super::python::Python;
use super::{Options, Subject, compare, open_store, put, sheet};
use crate::sheet::{Column, Sheet};

const COLUMNS: [Column; 3] = [
    Column { name: "store and read", unit: "µs/array" },
    Column { name: "read", unit: "µs/array" },
    Column { name: "inodes", unit: "" },
];

/// Elements of an array.
const LEN: usize = 1024;

/// Arrays are read in this order: a step that is prime, and no neighbour.
const STEP: u64 = 7919;

pub(super) fn run(
    options: &Options,
    python: Option<&mut Python>,
    sheets: &mut Vec<Sheet>,
) -> Result<()> {
    let count = options.count;
    if count == 0 || count.is_multiple_of(STEP) {
        return Ok(());
    }
    let python = RefCell::new(python);
    let place = || tempfile::Builder::new().prefix("arrays-").tempdir_in(&options.dir);
    let mut subjects = vec![
        Subject::new("larder", "put_array, get_array", || {
            let dir = place()?;
            larder(dir.path(), count)
        }),
        Subject::new("safetensors", "a file for each, Rust", || {
            let dir = place()?;
            tensors(dir.path(), count)
        }),
    ];
    if python.borrow().as_ref().is_some_and(|python| python.has_joblib) {
        subjects.push(Subject::new("joblib", "a file for each, dump and load", || {
            let dir = place()?;
            let mut python = python.borrow_mut();
            let python = python.as_mut().ok_or("no Python")?;
            let folder = dir.path();
            let dump = json!({"do": "dump", "folder": folder, "arrays": count, "length": LEN});
            let stored = python.figure(&dump)?;
            let load = json!({"do": "load", "folder": folder, "arrays": count, "step": STEP});
            let said = python.ask(&load)?;
            let read = said[0].as_f64().ok_or("no figure")?;
            check(said[1].as_f64().unwrap_or(f64::NAN), count)?;
            figures(stored + read, read, folder)
        }));
    }
    let title = format!("{count} arrays of 4 KiB, stored and then read at both ends");
    let regime = "fresh directories; page cache warm";
    let sheet = sheet(format!("arrays/many/{count}"), title, regime, &COLUMNS);
    // A round takes a while: none is thrown away, and three are enough.
    compare(sheet, "larder", 0..options.repeats.min(3), subjects, sheets)
}

fn figures(both: f64, read: f64, dir: &Path) -> Result<Vec<Option<f64>>> {
    Ok(vec![Some(both), Some(read), Some(inodes(dir)? as f64)])
}

/// The array of a number, and what its ends add up to.
fn fill(array: &mut [f32], number: u64) {
    for (at, place) in array.iter_mut().enumerate() {
        *place = at as f32;
    }
    array[0] = number as f32;
}

fn check(found: f64, count: u64) -> Result<()> {
    let expected =
        (0..count).map(|number| f64::from(number as f32) + (LEN - 1) as f64).sum::<f64>();
    if found == expected { Ok(()) } else { Err(format!("ends of {found}, not {expected}").into()) }
}

fn larder(dir: &Path, count: u64) -> Result<Vec<Option<f64>>> {
    let disk = open_store(dir)?;
    let mut array = vec![0.0; LEN];
    fill(&mut array, 0);
    let (stored, read) = timed(
        count,
        |number| {
            array[0] = number as f32;
            put(&disk, &number.to_le_bytes(), &array, &Put::default())
        },
        |number| {
            let view = disk.get_array::<f32>(&number.to_le_bytes())?.ok_or("gone")?;
            ends(view.as_slice()?)
        },
    )?;
    figures(stored + read, read, dir)
}

fn tensors(dir: &Path, count: u64) -> Result<Vec<Option<f64>>> {
    let mut array = vec![0.0; LEN];
    fill(&mut array, 0);
    let mut bytes: Vec<u8> = array.iter().flat_map(|element| element.to_le_bytes()).collect();
    let path = |number: u64| dir.join(format!("{number}.safetensors"));
    let (stored, read) = timed(
        count,
        |number| {
            bytes[..4].copy_from_slice(&(number as f32).to_le_bytes());
            let tensor = TensorView::new(Dtype::F32, vec![LEN], &bytes)?;
            Ok(serialize_to_file([("array", tensor)], None, &path(number))?)
        },
        |number| {
            let file = fs::read(path(number))?;
            let tensors = SafeTensors::deserialize(&file)?;
            let elements = tensors.tensor("array")?;
            let element = |bytes: &[u8; 4]| f64::from(f32::from_le_bytes(*bytes));
            let elements = elements.data().as_chunks::<4>().0;
            Ok(elements.first().map_or(0.0, element) + elements.last().map_or(0.0, element))
        },
    )?;
    figures(stored + read, read, dir)
}

fn ends(elements: &[f32]) -> Result<f64> {
    match elements {
        [first, .., last] => Ok(f64::from(*first) + f64::from(*last)),
        _ => Err("too short".into()),
    }
}

/// Microseconds to store and to read an array.
fn timed(
    count: u64,
    mut store: impl FnMut(u64) -> Result<()>,
    mut read: impl FnMut(u64) -> Result<f64>,
) -> Result<(f64, f64)> {
    let each = |start: Instant| start.elapsed().as_secs_f64() * 1e6 / count as f64;
    let start = Instant::now();
    (0..count).try_for_each(&mut store)?;
    let stored = each(start);
    let start = Instant::now();
    let mut total = 0.0;
    for turn in 0..count {
        total += read(turn * STEP % count)?;
    }
    let took = each(start);
    check(total, count)?;
    Ok((stored, took))
}

/// Files and directories.
fn inodes(dir: &Path) -> Result<u64> {
    let mut count = 1;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { inodes(&entry.path())? } else { 1 };
    }
    Ok(count)
}
