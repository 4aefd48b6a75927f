//! What arrays cost beside files that a program maps and writes itself. Prints medians.
//!
//! `cargo run --release --example arrays_cost -- DIR [MIB]`: needs about three times MIB (256
//! unless said otherwise) in DIR.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use larder_engine::{ArrayRef, ArrayView, Check, Disk, Durability, Engine, Put};

/// The sum of all elements, in eight lanes so that it waits for memory and not for itself.
fn sum(elements: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 32];
    let (blocks, rest) = elements.as_chunks::<32>();
    for block in blocks {
        for (lane, element) in lanes.iter_mut().zip(block) {
            *lane += element;
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

fn sum_view(view: &ArrayView<f32>) -> f32 {
    sum(view.as_slice().unwrap())
}

fn sum_pieces(view: &ArrayView<f32>) -> f32 {
    view.pieces().map(|piece| sum(piece.unwrap())).sum()
}

/// Seconds that something takes, of several interleaved tries the median.
fn medians<const N: usize>(tries: usize, mut each: [&mut dyn FnMut() -> f64; N]) -> [f64; N] {
    let mut taken: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..tries {
        for (taken, each) in taken.iter_mut().zip(&mut each) {
            taken.push(each());
        }
    }
    taken.map(|mut taken| {
        taken.sort_by(f64::total_cmp);
        taken[taken.len() / 2]
    })
}

/// Seconds of the clock that something takes.
fn timed<R>(act: impl FnOnce() -> R) -> f64 {
    let begun = Instant::now();
    black_box(act());
    begun.elapsed().as_secs_f64()
}

/// Seconds that a processor works at something: what else runs on the machine counts less.
fn worked<R>(act: impl FnOnce() -> R) -> f64 {
    let now = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
    };
    let begun = now();
    black_box(act());
    now() - begun
}

/// Memory of this process that is no file's, in KiB: now, and all of it at most.
fn memory() -> [u64; 2] {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ["RssAnon:", "VmHWM:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    })
}

fn open(dir: &Path, len: u64) -> Disk {
    Disk::builder(dir).budget(len * 3 + (256 << 20)).open().unwrap()
}

fn reading(dir: &Path, elements: &[f32]) {
    let len = size_of_val(elements) as u64;
    let array = ArrayRef::new(elements, &[elements.len() / 1024, 1024]).unwrap();
    let store = dir.join("store");
    let disk = open(&store, len);
    assert!(disk.put_array(b"key", &array, &Put::default()).unwrap().is_admitted());
    let never = disk.get_array_with::<f32>(b"key", Check::Never).unwrap().unwrap();
    let always = disk.get_array_with::<f32>(b"key", Check::Always).unwrap().unwrap();
    let first = disk.get_array::<f32>(b"key").unwrap().unwrap();
    // A slice over a mapped file that is held: what a program would have that maps it itself.
    let raw = disk.get_array_with::<f32>(b"key", Check::Never).unwrap().unwrap();
    let mapped = raw.as_slice().unwrap();
    black_box((sum(mapped), sum_view(&never), sum_view(&first)));
    let turns = ((64 << 20) / len).clamp(1, 10_000);
    let many = |act: &dyn Fn() -> f32| worked(|| (0..turns).map(|_| black_box(act())).sum::<f32>());
    let [raw_s, never_s, later_s, always_s, pieces_s] = medians(
        9,
        [
            &mut || many(&|| sum(black_box(mapped))),
            &mut || many(&|| sum_view(&never)),
            &mut || many(&|| sum_view(&first)),
            &mut || many(&|| sum_view(&always)),
            &mut || many(&|| sum_pieces(&always)),
        ],
    );
    let gib = len as f64 * turns as f64 / f64::from(1 << 30);
    println!(
        "sum {:>8} KiB: raw {:.1} GiB/s; never {:.3}, later {:.3} of it; summed each time, whole {:.3}, in pieces {:.3}",
        len >> 10,
        gib / raw_s,
        raw_s / never_s,
        raw_s / later_s,
        raw_s / always_s,
        raw_s / pieces_s
    );
    let opens = 10_000;
    let [raw_s, open_s] = medians(
        9,
        [&mut || worked(|| (0..opens).map(|_| black_box(mapped)[0]).sum::<f32>()), &mut || {
            worked(|| {
                let open = |_| disk.get_array::<f32>(black_box(b"key")).unwrap().unwrap();
                (0..opens).map(open).map(|view| view.get(&[0, 0]).unwrap().unwrap()).sum::<f32>()
            })
        }],
    );
    let ns = |seconds: f64| seconds * 1e9 / f64::from(opens);
    println!("    open to first element: {:.0} ns, raw {:.1} ns", ns(open_s), ns(raw_s));
    fs::remove_dir_all(&store).unwrap();
}

fn first_touch(dir: &Path, elements: &[f32]) {
    let array = ArrayRef::new(elements, &[elements.len()]).unwrap();
    let store = dir.join("store");
    let len = size_of_val(elements) as u64;
    let disk = open(&store, len);
    assert!(disk.put_array(b"key", &array, &Put::default()).unwrap().is_admitted());
    disk.close().unwrap();
    drop(disk);
    // Each opening forgets what was found right; its pages are mapped by a look without checks.
    let again = |act: &dyn Fn(&ArrayView<f32>) -> f32, check| {
        let disk = open(&store, len);
        let warm = disk.get_array_with::<f32>(b"key", Check::Never).unwrap().unwrap();
        black_box(sum_view(&warm));
        let view = disk.get_array_with::<f32>(b"key", check).unwrap().unwrap();
        let taken = worked(|| act(&view));
        disk.close().unwrap();
        taken
    };
    let [raw_s, whole_s, pieces_s] = medians(
        7,
        [
            &mut || again(&sum_view, Check::Never),
            &mut || again(&sum_view, Check::FirstTouch),
            &mut || again(&sum_pieces, Check::FirstTouch),
        ],
    );
    println!(
        "first touch of {} MiB: whole {:.3}, in pieces {:.3} of an unchecked sum ({:.1} GiB/s)",
        len >> 20,
        raw_s / whole_s,
        raw_s / pieces_s,
        len as f64 / raw_s / f64::from(1 << 30)
    );
    fs::remove_dir_all(&store).unwrap();
}

fn writing(dir: &Path, elements: &[f32]) {
    let store = dir.join("store");
    let len = size_of_val(elements) as u64;
    let array = ArrayRef::new(elements, &[elements.len()]).unwrap();
    let raw = dir.join("raw");
    let before = memory();
    for durability in [Durability::None, Durability::Sync] {
        let put = Put { durability, ..Put::default() };
        let is_synced = durability == Durability::Sync;
        let stored = |reserved: bool| {
            let disk = open(&store, len);
            let _ = disk.put(b"other", b"value", &Put::default()).unwrap();
            let taken = timed(|| {
                if reserved {
                    let shape = [elements.len()];
                    let mut place = disk.reserve_array::<f32>(b"key", &shape, &put).unwrap();
                    place.as_mut_slice().copy_from_slice(elements);
                    assert!(place.commit().unwrap().is_admitted());
                } else {
                    assert!(disk.put_array(b"key", &array, &put).unwrap().is_admitted());
                }
            });
            drop(disk);
            fs::remove_dir_all(&store).unwrap();
            taken
        };
        let plain = || {
            let taken = timed(|| {
                let mut file = File::create(&raw).unwrap();
                file.write_all(array.data()).unwrap();
                if is_synced {
                    file.sync_data().unwrap();
                }
            });
            fs::remove_file(&raw).unwrap();
            taken
        };
        let [raw_s, put_s, reserved_s] =
            medians(5, [&mut || plain(), &mut || stored(false), &mut || stored(true)]);
        println!(
            "store {} MiB, synced {is_synced}: plain write {:.2} GiB/s; put {:.3}, reserve {:.3} of it",
            len >> 20,
            len as f64 / raw_s / f64::from(1 << 30),
            raw_s / put_s,
            raw_s / reserved_s
        );
    }
    let after = memory();
    println!("    memory of its own: {} KiB before, {} KiB after", before[0], after[0]);
}

fn small(dir: &Path) {
    let store = dir.join("store");
    let disk = open(&store, 1 << 30);
    let elements = [1.0_f32; 1024];
    let array = ArrayRef::new(&elements, &[1024]).unwrap();
    let taken = timed(|| {
        for number in 0..100_000_u32 {
            let _ = disk.put_array(&number.to_le_bytes(), &array, &Put::default()).unwrap();
        }
    });
    let files = ["seg", "arr", "big"].map(|dir| fs::read_dir(store.join(dir)).unwrap().count());
    let read = timed(|| {
        let get = |n: u32| disk.get_array::<f32>(&n.to_le_bytes()).unwrap().unwrap();
        (0..100_000).map(get).map(|view| view.as_slice().unwrap()[7]).sum::<f32>()
    });
    println!(
        "100,000 arrays of 4 KiB: put in {taken:.2} s, got in {read:.2} s, {} files",
        files.iter().sum::<usize>()
    );
    drop(disk);
    fs::remove_dir_all(&store).unwrap();
}

/// What the length of a chunk costs: to sum an array, and to sum what one row lies in.
fn chunks(elements: &[f32]) {
    let data = ArrayRef::new(elements, &[elements.len()]).unwrap();
    let data = data.data();
    let lens = [16, 64, 256, 1024].map(|kib: usize| kib << 10);
    let all = |len: usize| {
        let sums =
            data.chunks(len).zip(0..).map(|(it, n)| larder_format::record::chunk_crc(1, n, it));
        worked(|| sums.fold(0, |all, one| all ^ one))
    };
    let taken = medians(
        5,
        [&mut || all(lens[0]), &mut || all(lens[1]), &mut || all(lens[2]), &mut || all(lens[3])],
    );
    for (len, seconds) in lens.into_iter().zip(taken) {
        let rate = data.len() as f64 / seconds;
        println!(
            "chunks of {:>4} KiB: {:.1} GiB/s, {:.1} us for one of them",
            len >> 10,
            rate / f64::from(1 << 30),
            len as f64 / rate * 1e6
        );
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().map(std::path::PathBuf::from).unwrap();
    let mib: usize = arguments.next().map_or(256, |mib| mib.parse().unwrap());
    fs::create_dir_all(&dir).unwrap();
    let all: Vec<f32> = (0..1000_u16).cycle().take(mib << 18).map(f32::from).collect();
    for len in [4 << 10, 1 << 20, mib << 20] {
        reading(&dir, &all[..len / 4]);
    }
    chunks(&all);
    first_touch(&dir, &all);
    writing(&dir, &all);
    small(&dir);
}
