//! From a key, or a path, to the first element, all pages in memory.

use std::hint::black_box;
use std::time::Instant;

use larder_engine::Put;
use larder_rivals::Result;
use serde_json::json;

use super::python::Python;
use super::{Options, Subject, compare, floats, open_store, put, raw, sheet, shown};
use crate::sheet::{Column, Sheet};

const COLUMNS: [Column; 1] = [Column { name: "open to first element", unit: "µs" }];

pub(super) fn run(
    options: &Options,
    mut python: Option<&mut Python>,
    sheets: &mut Vec<Sheet>,
) -> Result<()> {
    for &size in &options.sizes {
        let dir = tempfile::Builder::new().prefix("arrays-").tempdir_in(&options.dir)?;
        let disk = open_store(dir.path())?;
        let array = floats(size)?;
        put(&disk, b"key", &array, &Put::default())?;
        // A small one has no file of its own; as a file, it is the same.
        let npy = dir.path().join("array.npy");
        disk.export_npy(b"key", &npy)?;
        let first = array[0];
        drop(array);
        let held = raw::map(&npy)?;
        let timed = |count: u32, each: &mut dyn FnMut() -> Result<f32>| {
            let start = Instant::now();
            for _ in 0..count {
                if black_box(each()?) != first {
                    return Err("another first element".into());
                }
            }
            Ok(vec![Some(start.elapsed().as_secs_f64() * 1e6 / f64::from(count))])
        };
        let get = || -> Result<f32> {
            let view = disk.get_array::<f32>(black_box(b"key"))?.ok_or("gone")?;
            Ok(view.get(&[0])?.ok_or("empty")?)
        };
        let anew = || -> Result<f32> { Ok(raw::floats(&raw::map(&npy)?[4096..])?[0]) };
        let in_held = || -> Result<f32> { Ok(raw::floats(&black_box(&held)[4096..])?[0]) };
        let mut subjects = vec![
            Subject::new("larder", "get_array, get", || timed(20_000, &mut || get())),
            Subject::new("mmap held", "a slice", || timed(100_000, &mut || in_held())),
            Subject::new("mmap anew", "open, mmap, munmap", || timed(2_000, &mut || anew())),
        ];
        if let Some(python) = python.as_deref_mut() {
            let joblib = dir.path().join("array.joblib");
            if python.has_joblib {
                python.ask(&json!({"do": "make", "path": joblib, "count": size / 4}))?;
            }
            let has_joblib = python.has_joblib;
            let python = std::cell::RefCell::new(python);
            let ask = |how: &'static str, path: std::path::PathBuf| {
                let python = &python;
                move || {
                    let what = json!({"do": "open", "how": how, "path": path, "count": 500});
                    Ok(vec![Some(python.borrow_mut().figure(&what)?)])
                }
            };
            subjects.push(Subject::new("numpy.load", "mmap_mode='r'", ask("numpy", npy.clone())));
            if has_joblib {
                subjects.push(Subject::new("joblib.load", "mmap_mode='r'", ask("joblib", joblib)));
            }
            finish(options, size, subjects, sheets)?;
        } else {
            finish(options, size, subjects, sheets)?;
        }
    }
    Ok(())
}

fn finish(
    options: &Options,
    size: u64,
    subjects: Vec<Subject<'_>>,
    sheets: &mut Vec<Sheet>,
) -> Result<()> {
    let title = format!("opening an array of {} to its first element", shown(size));
    let sheet = sheet(format!("arrays/open/{size}"), title, "page cache warm", &COLUMNS);
    compare(sheet, "larder", 1..options.repeats + 1, subjects, sheets)
}
