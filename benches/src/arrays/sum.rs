//! All elements of an array, summed by the same loop: never checked, checked for the first time,
//! and later; and of a raw mapped file.

use std::cell::RefCell;

use larder_engine::{Check, Disk, Engine as _, Put};
use larder_rivals::Result;

use super::raw::{check, sum};
use super::{CPU, Options, Subject, Watch, compare, floats, open_store, put, raw, sheet, shown};
use crate::sheet::{Column, Sheet};

const COLUMNS: [Column; 2] = [Column { name: "sum", unit: "ms" }, CPU];

/// Smaller arrays are summed in less time than a clock can tell.
const LEAST: u64 = 1 << 20;

pub(super) fn run(options: &Options, sheets: &mut Vec<Sheet>) -> Result<()> {
    for &size in options.sizes.iter().filter(|size| **size >= LEAST) {
        let dir = tempfile::Builder::new().prefix("arrays-").tempdir_in(&options.dir)?;
        let npy = dir.path().join("array.npy");
        let disk = open_store(dir.path())?;
        put(&disk, b"key", &floats(size)?, &Put::default())?;
        disk.export_npy(b"key", &npy)?;
        disk.close()?;
        drop(disk);
        let count = usize::try_from(size / 4)?;
        let held = raw::map(&npy)?;
        // Where one pass is short, as many as take a while.
        let passes = u32::try_from((64 << 20) / size)?.max(1);
        let timed = |passes: u32, each: &mut dyn FnMut() -> Result<f64>| {
            let watch = Watch::start();
            for _ in 0..passes {
                check(each()?, count)?;
            }
            Ok(watch.stop(passes.into()).to_vec())
        };
        // Nobody may have the store open twice: whoever needs it fresh, closes it before.
        let open = RefCell::new(None::<Disk>);
        let fresh = || -> Result<()> {
            *open.borrow_mut() = None;
            *open.borrow_mut() = Some(open_store(dir.path())?);
            Ok(())
        };
        let in_store = |how: Check| -> Result<f64> {
            let mut open = open.borrow_mut();
            if open.is_none() {
                *open = Some(open_store(dir.path())?);
            }
            let disk = open.as_ref().ok_or("closed")?;
            let view = disk.get_array_with::<f32>(b"key", how)?.ok_or("gone")?;
            Ok(sum(view.as_slice()?))
        };
        let in_pieces = || -> Result<f64> {
            let open = open.borrow();
            let view = open.as_ref().ok_or("closed")?.get_array::<f32>(b"key")?.ok_or("gone")?;
            view.pieces().try_fold(0.0, |total, piece| Ok(total + sum(piece?)))
        };
        let subjects = vec![
            Subject::new("mmap held", "", || {
                timed(passes, &mut || Ok(sum(raw::floats(&held[4096..])?)))
            }),
            Subject::new("mmap anew", "", || {
                timed(1, &mut || Ok(sum(raw::floats(&raw::map(&npy)?[4096..])?)))
            }),
            Subject::new("larder, never", "Check::Never", || {
                in_store(Check::Never)?;
                timed(passes, &mut || in_store(Check::Never))
            }),
            Subject::new("larder, first", "FirstTouch, as_slice, store opened anew", || {
                fresh()?;
                timed(1, &mut || in_store(Check::FirstTouch))
            }),
            Subject::new("first, pieces", "FirstTouch, pieces, store opened anew", || {
                fresh()?;
                timed(1, &mut || in_pieces())
            }),
            Subject::new("larder, later", "FirstTouch, all known", || {
                in_store(Check::FirstTouch)?;
                timed(passes, &mut || in_store(Check::FirstTouch))
            }),
        ];
        let title = format!("summing an array of {}, opening included", shown(size));
        let sheet = sheet(format!("arrays/sum/{size}"), title, "page cache warm", &COLUMNS);
        compare(sheet, "mmap held", 1..options.repeats + 1, subjects, sheets)?;
    }
    Ok(())
}
