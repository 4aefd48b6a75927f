//! Storing an array: from a slice, and computed in place; beside one copy into a mapped file.

use std::fs;

use larder_engine::{Durability, Put};
use larder_rivals::Result;

use super::{
    BUDGET, CPU, Options, Subject, Watch, compare, floats, open_store, put, raw, sheet, shown,
};
use crate::sheet::{Column, Sheet};

const COLUMNS: [Column; 3] =
    [Column { name: "store", unit: "ms" }, CPU, Column { name: "peak of memory", unit: "MiB" }];

pub(super) fn run(options: &Options, sheets: &mut Vec<Sheet>) -> Result<()> {
    for &size in &options.sizes {
        for durable in [false, true] {
            measure(options, size, durable, sheets)?;
        }
    }
    Ok(())
}

fn measure(options: &Options, size: u64, durable: bool, sheets: &mut Vec<Sheet>) -> Result<()> {
    let array = floats(size)?;
    // Where one is short, as many as take a while, each under a key of its own.
    let passes = ((64 << 20) / size).clamp(1, 1000);
    let passes = if durable { passes.min(20) } else { passes };
    let durability = if durable { Durability::Sync } else { Durability::None };
    let options_of_put = Put { durability, ..Put::default() };
    let timed = |each: &mut dyn FnMut(u64) -> Result<()>| {
        let before = Memory::begin()?;
        let watch = Watch::start();
        for pass in 0..passes {
            each(pass)?;
        }
        let [wall, cpu] = watch.stop(passes);
        Ok(vec![wall, cpu, Some(before.grown()?)])
    };
    let place = || tempfile::Builder::new().prefix("arrays-").tempdir_in(&options.dir);
    let in_store = |computed: bool| -> Result<Vec<Option<f64>>> {
        let dir = place()?;
        let disk = open_store(dir.path())?;
        // Segments are made ahead, and not by whoever puts first.
        put(&disk, b"first", &array[..1024], &options_of_put)?;
        timed(&mut |pass| {
            let key = pass.to_le_bytes();
            if !computed {
                return put(&disk, &key, &array, &options_of_put);
            }
            let mut place = disk.reserve_array::<f32>(&key, &[array.len()], &options_of_put)?;
            place.as_mut_slice().copy_from_slice(&array);
            if place.commit()?.is_admitted() { Ok(()) } else { Err("refused".into()) }
        })
    };
    let in_file = || -> Result<Vec<Option<f64>>> {
        let dir = place()?;
        timed(&mut |pass| {
            let (temporary, path) = (dir.path().join("new"), dir.path().join(pass.to_string()));
            let (file, mut map) = raw::map_new(&temporary, size)?;
            // SAFETY: floats have no padding, and their bytes live as long as they.
            let (_, bytes, _) = unsafe { array.align_to::<u8>() };
            map.copy_from_slice(bytes);
            if durable {
                map.flush()?;
                file.sync_all()?;
            }
            drop(map);
            fs::rename(temporary, path)?;
            if durable {
                fs::File::open(dir.path())?.sync_all()?;
            }
            Ok(())
        })
    };
    let subjects = vec![
        Subject::new("memcpy, mapped", "new file, allocated", in_file),
        Subject::new("larder, slice", "put_array", || in_store(false)),
        Subject::new("larder, in place", "reserve_array, memcpy", || in_store(true)),
    ];
    let how = if durable { "on the disk when it returns" } else { "no sync" };
    let title = format!("storing an array of {}, {how}", shown(size));
    let name = if durable { "store-durable" } else { "store" };
    let regime = "fresh store; memory: resident, files included";
    debug_assert!(size * passes < BUDGET);
    let sheet = sheet(format!("arrays/{name}/{size}"), title, regime, &COLUMNS);
    compare(sheet, "memcpy, mapped", 1..options.repeats + 1, subjects, sheets)
}

/// Resident memory of this process, mapped files included.
struct Memory(u64);

impl Memory {
    /// Forgets the peak so far.
    fn begin() -> Result<Self> {
        fs::write("/proc/self/clear_refs", "5")?;
        Ok(Self(status("VmRSS:")?))
    }

    /// By how many MiB the peak was above what was there at the beginning.
    fn grown(&self) -> Result<f64> {
        Ok(status("VmHWM:")?.saturating_sub(self.0) as f64 / f64::from(1 << 20))
    }
}

/// A number of bytes in what the system says of this process.
pub(super) fn status(name: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).ok_or("no such figure")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}
