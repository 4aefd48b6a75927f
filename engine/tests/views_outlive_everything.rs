//! Views of arrays show what was stored, or an error, while the store evicts, compacts and removes
//! under them, and somebody else cuts short or replaces files: with the feature `sigbus-guard` also
//! those that are mapped, by another process. What a view shows that was checked before is zeros
//! then, and from then on an error.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use larder_engine::{ArrayRef, ArrayView, Check, Disk, Engine, Put};

/// Rows of eight numbers, all of which follow from the array's number and their place.
fn element(number: u64, place: usize) -> u64 {
    (number << 32 ^ place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Looks at some rows; whether they could be read. Panics at a wrong element.
fn look(view: &ArrayView<u64>, number: u64, from: usize, to: usize) -> bool {
    let rows = view.rows(from..to).unwrap();
    let Ok(elements) = rows.as_slice() else { return false };
    for (place, found) in (from * 8..).zip(elements) {
        if CUTS_MAPPED && *found == 0 && rows.as_slice().is_err() {
            return false;
        }
        assert_eq!(*found, element(number, place), "array {number}, element {place}");
    }
    true
}

/// What a store says that nobody harms has to be right; otherwise it may be an error.
fn told<T>(said: larder_engine::Result<T>) {
    assert!(CUTS_MAPPED || said.is_ok(), "{:?}", said.err());
}

/// Whether files are cut short that are mapped.
const CUTS_MAPPED: bool = cfg!(all(feature = "sigbus-guard", target_os = "linux"));

/// Another process cuts short a file that may be mapped: to a multiple of a page, as what is cut off
/// within one raises no signal.
fn cut_mapped(dir: &Path, state: u64) {
    let [dir_name, end] = if state.is_multiple_of(3) { ["seg", "log"] } else { ["arr", "npy"] };
    let files = fs::read_dir(dir.join(dir_name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|it| it == end)).collect();
    files.sort();
    if files.is_empty() {
        return;
    }
    let path = &files[usize::try_from(state >> 8).unwrap_or(0) % files.len()];
    let len = fs::metadata(path).map_or(0, |found| found.len());
    let len = (len / [1, 2, 3, 5][usize::try_from(state % 4).unwrap()] / 4096).saturating_sub(1);
    // It may be gone by now, which is not to make another one.
    let len = (len * 4096).to_string();
    let cut = Command::new("truncate").args(["-c", "-s", &len]).arg(path).status().unwrap();
    assert!(cut.success());
}

/// Replaces, or cuts short, what nobody has mapped: a file that is about to get its name is not
/// ours to touch, and one that is mapped would be cut under a reader's feet.
fn meddle(dir: &Path, state: u64) {
    let files = fs::read_dir(dir.join("arr")).unwrap().map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| path.extension().is_some_and(|it| it == "npy"));
    let Some(path) = files.nth(usize::try_from(state % 3).unwrap()) else { return };
    let other = dir.join("other");
    let Ok(len) = fs::copy(&path, &other) else { return };
    let file = File::options().write(true).open(&other).unwrap();
    if state.is_multiple_of(2) {
        file.set_len(len / 2).unwrap();
    } else {
        use std::os::unix::fs::FileExt as _;
        file.write_all_at(&[0xEE; 1000], len / 3).unwrap();
    }
    let _ = fs::rename(&other, &path);
}

fn next(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
    usize::try_from(*state >> 33).unwrap() % below
}

fn storm(seed: u64, millis: u64) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    // Segments of 64 KiB: arrays of 16 KiB and more have files of their own.
    let disk = Disk::builder(&store).budget(2 << 20).segment_len(64 << 10).open().unwrap();
    let (over, seen, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for reader in 0..4 {
            let (disk, over, seen, refused) = (&disk, &over, &seen, &refused);
            scope.spawn(move || {
                let mut state = seed ^ (reader << 20);
                let mut held: Vec<(u64, ArrayView<u64>)> = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let number = next(&mut state, 24) as u64;
                    let check = [Check::Always, Check::FirstTouch][next(&mut state, 2)];
                    if let Ok(Some(view)) = disk.get_array_with::<u64>(&number.to_le_bytes(), check)
                    {
                        held.push((number, view));
                    }
                    if held.len() > 6 {
                        held.swap_remove(next(&mut state, 6));
                    }
                    for (number, view) in &held {
                        let rows = view.shape()[0];
                        let from = next(&mut state, rows);
                        let is_read = look(view, *number, from, (from + 50).min(rows));
                        let count = if is_read { seen } else { refused };
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let mut state = seed;
        let begun = std::time::Instant::now();
        while begun.elapsed().as_millis() < millis.into() {
            let number = next(&mut state, 24) as u64;
            let rows = [10, 200, 700, 2000][next(&mut state, 4)];
            let elements: Vec<u64> = (0..rows * 8).map(|place| element(number, place)).collect();
            let array = ArrayRef::new(&elements, &[rows, 8]).unwrap();
            told(disk.put_array(&number.to_le_bytes(), &array, &Put::default()));
            match next(&mut state, 16) {
                0 => told(disk.remove(&number.to_le_bytes())),
                1 => told(disk.compact()),
                2 => told(disk.sync()),
                3 | 4 => meddle(&store, state),
                5 if CUTS_MAPPED => cut_mapped(&store, state),
                _ => {}
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    told(disk.close());
    drop(disk);
    // What was changed while nobody had the store open is met at the next opening.
    for state in 0..6 {
        meddle(&store, state);
    }
    let disk = Disk::builder(&store).budget(2 << 20).segment_len(64 << 10).open().unwrap();
    for number in 0..24_u64 {
        if let Some(view) = disk.get_array::<u64>(&number.to_le_bytes()).unwrap() {
            let rows = view.shape()[0];
            for from in (0..rows).step_by(200) {
                let is_read = look(&view, number, from, (from + 200).min(rows));
                let count = if is_read { &seen } else { &refused };
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    (seen.into_inner(), refused.into_inner())
}

/// How many runs, each with a seed of its own; `LARDER_STORM_RUNS` says otherwise.
fn runs() -> u64 {
    std::env::var("LARDER_STORM_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(10)
}

#[test]
fn no_view_ever_shows_wrong_elements() {
    let mut sum = (0, 0);
    for seed in 0..runs() {
        let (seen, refused) = storm(seed, 30);
        sum = (sum.0 + seen, sum.1 + refused);
    }
    assert!(sum.0 > runs(), "{sum:?}");
    eprintln!("{} runs: {} looks at rows, {} refused", runs(), sum.0, sum.1);
}
