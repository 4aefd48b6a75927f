//! Arrays as values: views of the store where that is cheap, copies where a view would pin more
//! than it shows, and never of another type.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::path::Path;
use std::sync::Arc;

use larder::{Array, Arrays, Cache, Disk, Engine, TwoLevel};
use larder_engine::{AnyArray, ArrayRef, Put};

type Tables = Cache<String, Array<f32>, Arrays>;

/// Segments of 1 MiB: arrays of 256 KiB and more have files of their own.
fn store(dir: &Path) -> Arc<Disk> {
    Arc::new(Disk::builder(dir).budget(64 << 20).segment_len(1 << 20).open().unwrap())
}

fn over(disk: &Arc<Disk>) -> Tables {
    let engine = Arc::<Disk>::clone(disk);
    Cache::with_codec(Arrays).memory(16 << 20).engine(engine).build().unwrap()
}

fn table(len: usize) -> Vec<f32> {
    (0..=250_u8).cycle().take(len).map(f32::from).collect()
}

#[test]
fn arrays_survive_and_are_views_where_that_is_cheap() {
    let dir = tempfile::tempdir().unwrap();
    let disk = store(dir.path());
    let cache = over(&disk);
    for (name, len) in [("small", 1000), ("medium", 20_000), ("large", 500_000)] {
        let array = Array::copied(&table(len), &[len / 10, 10]).unwrap();
        assert!(cache.insert(name.to_owned(), array).is_ok());
    }
    drop(cache);
    let cache = over(&disk);
    for (name, len, is_view) in
        [("small", 1000, false), ("medium", 20_000, false), ("large", 500_000, true)]
    {
        for from_memory in [false, true] {
            let array = cache.get(&name.to_owned()).unwrap().unwrap();
            assert_eq!(array.as_slice().unwrap(), table(len));
            assert_eq!(array.shape(), [len / 10, 10]);
            // The first one comes from disk, as it lies there.
            assert_eq!(array.is_mapped(), is_view || !from_memory, "{name}");
        }
    }
    assert_eq!(cache.stats().memory_hits, 3);
    // The store has them as arrays: the large one is a file for NumPy.
    assert_eq!(std::fs::read_dir(dir.path().join("arr")).unwrap().count(), 1);
}

#[test]
fn arrays_of_other_elements_are_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    let disk = store(dir.path());
    let one = Array::copied(&[1.0], &[]).unwrap();
    assert!(over(&disk).insert("key".to_owned(), one).unwrap().is_admitted());
    let others: Cache<String, Array<u32>, Arrays> =
        Cache::with_codec(Arrays).engine(Arc::<Disk>::clone(&disk)).build().unwrap();
    assert!(others.get(&"key".to_owned()).unwrap().is_none());
    assert_eq!(others.stats().undecodable, 1);
}

#[test]
fn two_levels_hand_arrays_on() {
    let dir = tempfile::tempdir().unwrap();
    let disk = store(dir.path());
    let both = TwoLevel::builder(Arc::<Disk>::clone(&disk) as Arc<dyn Engine>).build().unwrap();
    let elements = table(300_000);
    let array = ArrayRef::new(&elements, &[300_000]).unwrap();
    let mut bytes = Vec::new();
    AnyArray::copied(&array).unwrap().encode(&mut bytes).unwrap();
    let put = Put { codec: larder::CodecId::ARRAY, ..Put::default() };
    assert!(both.put(b"key", &bytes, &put).unwrap().is_admitted());
    let view = disk.get_array::<f32>(b"key").unwrap().unwrap();
    assert_eq!(view.as_slice().unwrap(), elements);
    let value = both.get(b"key").unwrap().unwrap();
    assert_eq!(AnyArray::of_value(&value).unwrap().data().unwrap(), array.data());
}
