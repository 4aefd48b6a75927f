//! Compressed arrays come back as they were, whole and by rows, from the log and from files of
//! their own, beside plain ones; what cannot be decoded is an error by name.

#![cfg_attr(feature = "zstd", expect(clippy::unwrap_used, reason = "a test"))]
#![cfg(feature = "zstd")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use larder_engine::{
    ArrayError, ArrayRef, Check, Compression, Disk, DiskBuilder, Element, Engine, Maintenance, Put,
};

/// Segments of 1 MiB: what takes 256 KiB and more has a file of its own.
fn builder(dir: &Path) -> DiskBuilder {
    let builder = Disk::builder(dir).budget(64 << 20).segment_len(1 << 20);
    builder.maintenance(Maintenance::Manual).writers(1)
}

fn put<T: Element>(disk: &Disk, key: &[u8], array: &[T], shape: &[usize]) {
    let array = ArrayRef::new(array, shape).unwrap().compressed();
    assert!(disk.put_array(key, &array, &Put::default()).unwrap().is_admitted());
}

fn files(dir: &Path, part: &str) -> usize {
    fs::read_dir(dir.join(part)).unwrap().count()
}

/// Numbers near each other, as measurements are.
fn walk(len: usize) -> Vec<f64> {
    let step = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Some(f64::from(u16::try_from(*state >> 54).unwrap()) / 1024.0 + 20.0)
    };
    (0..len).scan(7, |state, _| step(state)).collect()
}

#[test]
fn compressed_arrays_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(dir.path()).open().unwrap();
    for len in [0, 1, 100, 16_384, 16_385, 50_000, 300_000] {
        let elements = walk(len);
        put(&disk, b"key", &elements, &[len]);
        let _ = disk.put(b"other", b"value", &Put::default()).unwrap();
        for check in [Check::Always, Check::FirstTouch, Check::Never] {
            let view = disk.get_array_with::<f64>(b"key", check).unwrap().unwrap();
            assert_eq!(view.as_slice().unwrap(), elements);
            assert_eq!((view.shape(), view.pinned_len() > 0), (&[len][..], true));
            if len > 2 {
                let rows = disk.get_array::<f64>(b"key").unwrap().unwrap();
                let rows = rows.rows(len / 3..len - 1).unwrap();
                assert_eq!(rows.as_slice().unwrap(), &elements[len / 3..len - 1]);
                assert_eq!(
                    rows.rows(1..2).unwrap().get(&[0]).unwrap(),
                    Some(elements[len / 3 + 1])
                );
            }
        }
        let array = ArrayRef::new(&elements, &[len]).unwrap();
        let value = disk.get(b"key").unwrap().unwrap();
        let head = array.descriptor().encode();
        assert!(value.starts_with(&head) && value.ends_with(array.data()));
        assert_eq!(value.len(), head.len() + array.data().len());
        assert_eq!(disk.get_with(b"key", |bytes, _| bytes.to_vec()).unwrap().unwrap(), *value);
    }
    // The last one takes less than a third, and is still large: no NumPy file.
    disk.sync().unwrap();
    assert_eq!((files(dir.path(), "arr"), files(dir.path(), "big")), (0, 1));
    assert!(disk.stats().compressed_saved_bytes > 1_000_000);
    assert!(disk.verify().unwrap().is_clean());
    disk.close().unwrap();
    let disk = builder(dir.path()).open().unwrap();
    let view = disk.get_array::<f64>(b"key").unwrap().unwrap();
    assert_eq!(view.as_slice().unwrap(), walk(300_000));
}

#[test]
fn what_does_not_get_smaller_is_stored_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(dir.path()).open().unwrap();
    let noise: Vec<u64> = (0..50_000_u64)
        .map(|n| (n ^ n << 31).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(7))
        .map(|n| (n ^ n >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9))
        .collect();
    put(&disk, b"key", &noise, &[50_000]);
    let view = disk.get_array::<u64>(b"key").unwrap().unwrap();
    assert!(view.is_mapped() && view.as_slice().unwrap() == noise);
    assert_eq!(files(dir.path(), "arr"), 1);
}

#[test]
fn a_store_holds_plain_and_compressed_arrays_over_compaction_and_backup() {
    let dir = tempfile::tempdir().unwrap();
    let (store, copy) = (dir.path().join("store"), dir.path().join("copy"));
    let compression = Compression { min_len: 1000, ..Compression::default() };
    let disk = builder(&store).compression(compression).open().unwrap();
    let elements = walk(30_000);
    let plain = ArrayRef::new(&elements[..1000], &[1000]).unwrap();
    assert!(disk.put_array(b"plain", &plain, &Put::default()).unwrap().is_admitted());
    put(&disk, b"packed", &elements, &[30, 1000]);
    let text = "a value of no array, again and again ".repeat(1000);
    let _ = disk.put(b"text", text.as_bytes(), &Put::default()).unwrap();
    for n in 0..30_u32 {
        let _ = disk.put(&n.to_le_bytes(), elements_of(&elements), &Put::default()).unwrap();
    }
    for n in 0..30_u32 {
        disk.remove(&n.to_le_bytes()).unwrap();
    }
    disk.compact().unwrap();
    disk.backup(&copy).unwrap();
    for disk in [disk, builder(&copy).open().unwrap()] {
        let view = disk.get_array::<f64>(b"plain").unwrap().unwrap();
        assert!(view.is_mapped() && view.as_slice().unwrap() == &elements[..1000]);
        let view = disk.get_array::<f64>(b"packed").unwrap().unwrap();
        assert!(!view.is_mapped() && view.as_slice().unwrap() == elements);
        assert_eq!(disk.get(b"text").unwrap().as_deref(), Some(text.as_bytes()));
        assert!(disk.verify().unwrap().is_clean());
    }
}

fn elements_of(elements: &[f64]) -> &[u8] {
    ArrayRef::new(elements, &[elements.len()]).unwrap().data()
}

#[test]
fn damage_fails_the_rows_whose_chunk_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let elements = walk(300_000);
    let disk = builder(dir.path()).open().unwrap();
    put(&disk, b"key", &elements, &[300_000]);
    disk.close().unwrap();
    let path = fs::read_dir(dir.path().join("big")).unwrap().next().unwrap().unwrap().path();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    file.write_all_at(&[0xA5; 8], middle).unwrap();
    let disk = builder(dir.path()).open().unwrap();
    assert!(disk.get(b"key").unwrap().is_none());
    let view = disk.get_array::<f64>(b"key").unwrap().unwrap();
    assert_eq!(view.rows(0..1000).unwrap().as_slice().unwrap(), &elements[..1000]);
    assert_eq!(view.rows(290_000..300_000).unwrap().as_slice().unwrap(), &elements[290_000..]);
    assert!(matches!(view.as_slice(), Err(ArrayError::Damaged { .. })));
    let unchecked = disk.get_array_with::<f64>(b"key", Check::Never).unwrap().unwrap();
    let decoded = unchecked.as_slice();
    assert!(decoded.is_err() || decoded.is_ok_and(|decoded| decoded.len() == 300_000));
    assert_eq!(disk.verify().unwrap().findings.len(), 1);
}
