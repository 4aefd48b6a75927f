//! What is damaged fails the view that needs it, by name, and nothing else; checked once, always
//! or never, as asked.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use larder_engine::{ArrayError, ArrayRef, Check, Disk, Engine, Maintenance, Put};

const CHUNK: usize = 64 << 10;

/// Segments of 4 MiB: arrays of 1 MiB and more have files of their own.
fn open(dir: &Path) -> Disk {
    let builder = Disk::builder(dir.join("store")).budget(64 << 20).segment_len(4 << 20);
    builder.maintenance(Maintenance::Manual).writers(1).open().unwrap()
}

/// A store with one array of 16-byte rows, and where its data lies: in a segment, or a file.
fn store(dir: &Path, rows: usize) -> (Vec<u32>, PathBuf, u64) {
    let elements: Vec<u32> = (0..).take(rows * 4).map(|n: u32| n.wrapping_mul(77_777)).collect();
    let disk = open(dir);
    let array = ArrayRef::new(&elements, &[rows, 4]).unwrap();
    assert!(disk.put_array(b"key", &array, &Put::default()).unwrap().is_admitted());
    disk.close().unwrap();
    let part = if rows * 16 < 1 << 20 { "store/seg" } else { "store/arr" };
    let needle = &array.data()[..64];
    for entry in fs::read_dir(dir.join(part)).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        if let Some(at) =
            (0..bytes.len() - 64).step_by(64).find(|at| bytes[*at..].starts_with(needle))
        {
            return (elements, path, at as u64);
        }
    }
    panic!("the data is nowhere")
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Rows of which some bytes lie in chunk `number`, of an array whose data begins `head` bytes
/// into the first one.
fn rows_of(number: usize, head: usize) -> std::ops::Range<usize> {
    (number * CHUNK).saturating_sub(head) / 16..((number + 1) * CHUNK - head).div_ceil(16)
}

#[test]
fn a_damaged_chunk_fails_what_needs_it() {
    for (rows, head) in [(40_000, 64), (100_000, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let (elements, path, at) = store(dir.path(), rows);
        let file_at = at;
        let bad = rows_of(5, head);
        flip(&path, file_at + 16 * bad.start as u64 + 40);
        let disk = open(dir.path());
        let view = disk.get_array::<u32>(b"key").unwrap().unwrap();
        let error = view.as_slice().unwrap_err();
        let ArrayError::Damaged { chunk: 5, chunks, place } = &error else { panic!("{error}") };
        assert_eq!(*chunks, (rows as u64 * 16 + head as u64).div_ceil(CHUNK as u64));
        assert!(place.contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
        assert_eq!(view.rows(bad.clone()).unwrap().as_slice().unwrap_err(), error);
        assert_eq!(view.get(&[bad.start + 3, 0]).unwrap_err(), error);
        for good in [0..bad.start, bad.end..rows] {
            let seen = view.rows(good.clone()).unwrap();
            assert_eq!(seen.as_slice().unwrap(), &elements[good.start * 4..good.end * 4]);
        }
        assert_eq!(view.pieces().filter(Result::is_err).count(), 1);
        // As bytes it is a miss, and whoever looks at everything names the chunk.
        assert!(disk.get(b"key").unwrap().is_none());
        let report = disk.verify().unwrap();
        let [finding] = &*report.findings else { panic!("{report:?}") };
        assert!(finding.what.contains("chunk 5 of"), "{finding:?}");
        let unchecked = disk.get_array_with::<u32>(b"key", Check::Never).unwrap().unwrap();
        let wrong = unchecked.as_slice().unwrap().iter().zip(&elements).filter(|(a, b)| a != b);
        assert_eq!(wrong.count(), 1);
    }
}

#[test]
fn what_was_found_right_is_not_summed_again_unless_always() {
    for rows in [40_000, 100_000] {
        let dir = tempfile::tempdir().unwrap();
        let (elements, path, at) = store(dir.path(), rows);
        let disk = open(dir.path());
        let view = disk.get_array::<u32>(b"key").unwrap().unwrap();
        assert_eq!(view.rows(0..10).unwrap().as_slice().unwrap(), &elements[..40]);
        // What changes a file that is mapped changes what is seen: only who sums anew notices.
        flip(&path, at);
        let again = disk.get_array::<u32>(b"key").unwrap().unwrap();
        assert_ne!(again.rows(0..10).unwrap().as_slice().unwrap(), &elements[..40]);
        assert!(disk.get_array_with::<u32>(b"key", Check::Always).is_ok_and(|array| {
            array.is_none_or(|view| view.rows(0..10).unwrap().as_slice().is_err())
        }));
        // The second chunk was never looked at.
        flip(&path, at + 16 * rows_of(2, 0).start as u64);
        let later = rows_of(2, 0).start..rows_of(2, 0).end - 10;
        assert!(view.rows(later).unwrap().as_slice().is_err());
    }
}

#[test]
fn a_damaged_description_is_a_miss() {
    for rows in [40_000, 100_000] {
        for part in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let (elements, path, at) = store(dir.path(), rows);
            let table = match (rows, part) {
                // The descriptor, and the checksums of the chunks.
                (40_000, 0) => at - 60,
                (40_000, _) => at + elements.len() as u64 * 4 + 8,
                (_, 0) => fs::metadata(&path).unwrap().len() - 96 - 60,
                (_, _) => at + elements.len() as u64 * 4 + 8,
            };
            flip(&path, table);
            let disk = open(dir.path());
            assert!(disk.get_array::<u32>(b"key").unwrap().is_none());
            assert!(disk.get(b"key").unwrap().is_none());
            assert_eq!(disk.stats().corrupt, 2);
            assert!(!disk.verify().unwrap().is_clean());
        }
    }
}

#[test]
fn a_file_that_is_cut_short_behind_our_back_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (elements, path, _) = store(dir.path(), 100_000);
    let disk = open(dir.path());
    let view = disk.get_array::<u32>(b"key").unwrap().unwrap();
    assert_eq!(view.get(&[1, 1]).unwrap(), Some(elements[5]));
    File::options().write(true).open(&path).unwrap().set_len(200_000).unwrap();
    assert!(matches!(view.as_slice(), Err(ArrayError::Damaged { .. })));
    assert_eq!(view.rows(0..100).unwrap().as_slice().unwrap(), &elements[..400]);
}

#[test]
fn rows_of_an_array_in_fortran_order_need_the_chunks_of_their_columns_only() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    // Each column takes two chunks.
    let (rows, columns) = (32_768, 10);
    let elements: Vec<u32> = (0..rows * columns).collect();
    let shape = [rows as usize, columns as usize];
    let array = ArrayRef::fortran(&elements, &shape).unwrap();
    assert!(disk.put_array(b"key", &array, &Put::default()).unwrap().is_admitted());
    let path = disk.array_file(b"key").unwrap().unwrap();
    disk.close().unwrap();
    drop(disk);
    // The second half of the third column.
    flip(&path, 4096 + 5 * (64 << 10) + 100);
    let disk = open(dir.path());
    let view = disk.get_array::<u32>(b"key").unwrap().unwrap();
    let upper = view.rows(1000..1003).unwrap();
    assert_eq!((upper.shape(), upper.len()), (&[3, 10][..], 30));
    assert_eq!(upper.strides(), [1, 32_768]);
    assert_eq!(upper.get(&[2, 4]).unwrap(), Some(4 * rows + 1002));
    assert_eq!(upper.get(&[3, 0]).unwrap(), None);
    let pieces: Vec<u32> = upper.pieces().flat_map(|piece| piece.unwrap().to_vec()).collect();
    let expected: Vec<u32> =
        (0..columns).flat_map(|c| (1000..1003).map(move |r| c * rows + r)).collect();
    assert_eq!(pieces, expected);
    assert_eq!(upper.to_owned().unwrap().as_slice().unwrap(), expected);
    assert_eq!(upper.as_slice().unwrap_err(), ArrayError::Gaps);
    #[cfg(feature = "ndarray")]
    {
        let seen = upper.ndarray_of::<ndarray::Ix2>().unwrap();
        assert_eq!(seen[[1, 2]], 2 * rows + 1001);
        assert!(seen.t().iter().eq(&expected));
    }
    let lower = view.rows(20_000..20_002).unwrap();
    assert!(matches!(lower.to_owned(), Err(ArrayError::Damaged { chunk: 5, .. })));
    assert_eq!(lower.get(&[0, 4]).unwrap(), Some(4 * rows + 20_000));
    assert!(lower.pieces().nth(2).unwrap().is_err() && lower.pieces().nth(3).unwrap().is_ok());
    // All rows lie in a row.
    assert!(view.rows(0..rows as usize).unwrap().is_contiguous());
}

#[test]
fn a_numpy_header_that_was_changed_does_not_come_back_as_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (elements, path, _) = store(dir.path(), 100_000);
    flip(&path, 20);
    let disk = open(dir.path());
    assert!(disk.get(b"key").unwrap().is_none());
    // Nobody here needs it.
    let view = disk.get_array::<u32>(b"key").unwrap().unwrap();
    assert_eq!(view.as_slice().unwrap(), elements);
}

#[test]
fn a_repair_drops_what_is_damaged_and_keeps_the_rest() {
    for rows in [40_000, 100_000] {
        let dir = tempfile::tempdir().unwrap();
        let (elements, path, at) = store(dir.path(), rows);
        let disk = open(dir.path());
        let array = ArrayRef::new(&elements, &[rows, 4]).unwrap();
        assert!(disk.put_array(b"whole", &array, &Put::default()).unwrap().is_admitted());
        disk.close().unwrap();
        drop(disk);
        flip(&path, at + 70_000);
        let report = Disk::repair(dir.path().join("store")).unwrap();
        let disk = open(dir.path());
        assert!(!report.dropped.is_empty(), "{report:?}");
        assert!(disk.get_array::<u32>(b"key").unwrap().is_none());
        let view = disk.get_array::<u32>(b"whole").unwrap().unwrap();
        assert_eq!(view.as_slice().unwrap(), elements);
        assert!(disk.verify().unwrap().is_clean());
        let lost = dir.path().join("store/lost+found");
        assert_eq!(lost.join(path.file_name().unwrap()).exists(), rows == 100_000);
    }
}
