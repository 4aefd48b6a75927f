//! Arrays that are computed where they lie, or come row by row, are what they would be in one
//! piece, or leave nothing behind.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use larder_engine::{
    Access, ArrayRef, Disk, DiskBuilder, Engine, Error, Maintenance, Outcome, Put, Rejection,
    Retain,
};

/// Segments of 256 KiB: arrays of 64 KiB and more have files of their own.
fn builder(dir: &Path) -> DiskBuilder {
    let builder = Disk::builder(dir.join("store")).budget(16 << 20).segment_len(256 << 10);
    builder.maintenance(Maintenance::Manual)
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir.join("store/arr")).unwrap().count()
}

fn elements(len: usize) -> Vec<u32> {
    (0..).map(|n: u32| n.wrapping_mul(2_654_435_761)).take(len).collect()
}

#[test]
fn what_is_computed_in_place_is_what_would_be_put() {
    for access in [Access::Mapped, Access::Buffered] {
        let dir = tempfile::tempdir().unwrap();
        let disk = builder(dir.path()).access(access).open().unwrap();
        for len in [0, 1, 1000, 16_383, 16_384, 40_000, 300_000] {
            let expected = elements(len);
            let mut array = disk.reserve_array::<u32>(b"key", &[len], &Put::default()).unwrap();
            assert!(array.as_mut_slice().iter().all(|element| *element == 0));
            array.as_mut_slice().copy_from_slice(&expected);
            assert_eq!(array.is_in_place(), len >= 16_384 && access == Access::Mapped);
            let before = disk.version(b"key").unwrap();
            assert!(array.commit().unwrap().is_admitted());
            assert_ne!(disk.version(b"key").unwrap(), before);
            let view = disk.get_array::<u32>(b"key").unwrap().unwrap();
            assert_eq!(view.as_slice().unwrap(), expected);
        }
        assert!(disk.verify().unwrap().is_clean());
        disk.close().unwrap();
        let disk = builder(dir.path()).access(access).open().unwrap();
        let view = disk.get_array::<u32>(b"key").unwrap().unwrap();
        assert_eq!(view.as_slice().unwrap(), elements(300_000));
    }
}

#[test]
fn rows_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(dir.path()).open().unwrap();
    for rows in [0, 1, 7, 100, 5000] {
        let expected = elements(rows * 21);
        let mut array = disk.append_array::<u32>(b"key", &[7, 3], &Put::default()).unwrap();
        for some in expected.chunks(21 * 13) {
            array.push(some).unwrap();
            assert!(array.push(&some[..20]).is_err());
        }
        assert_eq!(array.rows(), rows as u64);
        assert!(array.commit().unwrap().is_admitted());
        let view = disk.get_array::<u32>(b"key").unwrap().unwrap();
        assert_eq!(view.shape(), [rows, 7, 3]);
        assert_eq!(view.as_slice().unwrap(), expected);
    }
    assert!(disk.verify().unwrap().is_clean());
    disk.sync().unwrap();
    assert_eq!(files(dir.path()), 1);
}

#[test]
fn what_is_not_committed_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(dir.path()).open().unwrap();
    let _ = disk.put(b"key", b"old", &Put::default()).unwrap();
    let used = disk.stats().used_bytes;
    let mut reserved = disk.reserve_array::<f64>(b"key", &[100_000], &Put::default()).unwrap();
    reserved.as_mut_slice().fill(1.0);
    assert_eq!(files(dir.path()), 1);
    assert!(disk.stats().used_bytes > used + 800_000);
    drop(reserved);
    let mut appended = disk.append_array::<f64>(b"key", &[], &Put::default()).unwrap();
    appended.push(&[1.0; 50_000]).unwrap();
    drop(appended);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut array = disk.reserve_array::<f64>(b"key", &[20_000], &Put::default()).unwrap();
        array.as_mut_slice()[20_000] = 1.0;
    }));
    assert!(panicked.is_err());
    assert_eq!(files(dir.path()), 0);
    assert_eq!(disk.stats().used_bytes, used);
    assert_eq!(disk.get(b"key").unwrap().as_deref(), Some(&b"old"[..]));
}

#[test]
fn what_a_death_leaves_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(dir.path()).open().unwrap();
    let array = disk.reserve_array::<f64>(b"key", &[100_000], &Put::default()).unwrap();
    std::mem::forget(array);
    drop(disk);
    assert_eq!(files(dir.path()), 1);
    // The lock's holder is this process: what the guard kept alive is not the store's lock.
    let disk = builder(dir.path()).open().unwrap();
    assert_eq!(files(dir.path()), 0);
    assert!(disk.get(b"key").unwrap().is_none());
}

#[test]
fn a_refused_array_is_computed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let disk = builder(dir.path()).open().unwrap();
    let mut huge = disk.reserve_array::<u8>(b"key", &[17 << 20], &Put::default()).unwrap();
    huge.as_mut_slice()[17 << 19] = 1;
    let outcome = huge.commit().unwrap();
    assert!(matches!(outcome, Outcome::Rejected(Rejection::TooLarge { .. })), "{outcome:?}");
    let mut rows = disk.append_array::<u8>(b"key", &[1 << 20], &Put::default()).unwrap();
    for _ in 0..20 {
        rows.push(&vec![1; 1 << 20]).unwrap();
    }
    let outcome = rows.commit().unwrap();
    assert!(matches!(outcome, Outcome::Rejected(Rejection::TooLarge { .. })), "{outcome:?}");
    drop(disk);

    let keeps = builder(&dir.path().join("all")).retain(Retain::All);
    let disk = keeps.open().unwrap();
    let put = |n: u8| {
        let array = vec![n; 3 << 20];
        let array = ArrayRef::new(&array, &[3 << 20]).unwrap();
        disk.put_array(&[n], &array, &Put::default()).unwrap()
    };
    let outcome = (0..8).map(put).find(|outcome| !outcome.is_admitted()).unwrap();
    assert!(matches!(outcome, Outcome::Rejected(Rejection::Full { .. })), "{outcome:?}");
    let array = disk.reserve_array::<u8>(b"key", &[6 << 20], &Put::default()).unwrap();
    assert!(matches!(array.commit().unwrap(), Outcome::Rejected(Rejection::Full { .. })));
}

#[test]
fn who_only_reads_stores_no_arrays() {
    let dir = tempfile::tempdir().unwrap();
    drop(builder(dir.path()).open().unwrap());
    let disk = builder(dir.path()).read_only().open().unwrap();
    let put = Put::default();
    let array = ArrayRef::new(&[1_u8], &[1]).unwrap();
    assert!(matches!(disk.put_array(b"key", &array, &put), Err(Error::ReadOnly)));
    assert!(matches!(disk.reserve_array::<u8>(b"key", &[1], &put), Err(Error::ReadOnly)));
    assert!(matches!(disk.append_array::<u8>(b"key", &[1], &put), Err(Error::ReadOnly)));
}
