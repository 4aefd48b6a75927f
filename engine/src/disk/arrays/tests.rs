//! Arrays over the heap: what Miri can run, with views that are held while their files go.

use std::sync::Arc;
use std::thread;

use super::super::Disk;
use super::super::builder::Options;
use super::super::heap::Heap;
use super::super::maintenance::Maintenance;
use crate::array::{AnyArray, ArrayRef, Check, Element};
use crate::engine::{Engine, Put};

/// Segments of 64 KiB: arrays of 16 KiB and more have files of their own.
fn open(heap: &Heap) -> Disk {
    let maintenance = Maintenance::Manual;
    let options = Options {
        budget: 1 << 20,
        segment_len: Some(64 << 10),
        writers: Some(1),
        maintenance,
        ..Options::default()
    };
    options.open_in(Arc::new(heap.clone())).unwrap()
}

fn round<T: Element>(disk: &Disk, elements: &[T]) {
    for array in [
        ArrayRef::new(elements, &[elements.len() / 2, 2]).unwrap(),
        ArrayRef::fortran(elements, &[2, elements.len() / 2]).unwrap(),
    ] {
        assert!(disk.put_array(b"key", &array, &Put::default()).unwrap().is_admitted());
        let view = disk.get_array::<T>(b"key").unwrap().unwrap();
        assert_eq!(view.as_slice().unwrap(), elements);
        assert_eq!(view.as_slice().unwrap().as_ptr().addr() % 64, 0);
        assert_eq!(view.clone().to_owned().unwrap().as_slice().unwrap(), elements);
        let value = disk.get(b"key").unwrap().unwrap();
        let again = AnyArray::of_value(&value).unwrap().typed::<T>().unwrap();
        assert_eq!(again.as_slice().unwrap(), elements);
    }
    let mut place = disk.reserve_array::<T>(b"key", &[elements.len()], &Put::default()).unwrap();
    place.as_mut_slice().copy_from_slice(elements);
    assert!(place.commit().unwrap().is_admitted());
    let view = disk.get_array::<T>(b"key").unwrap().unwrap();
    let part = view.rows(1..elements.len()).unwrap();
    assert_eq!(part.as_slice().unwrap(), &elements[1..]);
    assert_eq!(part.get(&[0]).unwrap(), Some(elements[1]));
}

#[test]
fn elements_of_every_size_are_seen_where_they_lie() {
    let heap = Heap::default();
    let disk = open(&heap);
    round(&disk, &[true, false, true, true]);
    round(&disk, &[1_u8, 2, 3, 4]);
    round(&disk, &[-1_i16, 2, 3, 4]);
    round(&disk, &[1.5_f32, -0.0, f32::INFINITY, 4.0]);
    round(&disk, &vec![1.5_f64; if cfg!(miri) { 4 } else { 2400 }]);
    round(&disk, &[[7_u8; 5]; 4]);
    #[cfg(feature = "complex")]
    round(&disk, &[num_complex::Complex::new(1.0_f64, 2.0); 4]);
    #[cfg(feature = "half")]
    round(&disk, &[half::f16::from_f32(0.5); 4]);
}

#[test]
fn views_outlive_what_becomes_of_their_files() {
    let heap = Heap::default();
    let disk = Arc::new(open(&heap));
    let small: Vec<u32> = (0..100).collect();
    let large: Vec<u64> = (0..2100).collect();
    let put = |key: &[u8], array: ArrayRef<'_>| {
        assert!(disk.put_array(key, &array, &Put::default()).unwrap().is_admitted());
    };
    put(b"small", ArrayRef::new(&small, &[100]).unwrap());
    put(b"large", ArrayRef::new(&large, &[21, 100]).unwrap());
    let views = [Check::Always, Check::FirstTouch].map(|check| {
        let small = disk.get_array_with::<u32>(b"small", check).unwrap().unwrap();
        (small, disk.get_array_with::<u64>(b"large", check).unwrap().unwrap())
    });
    let seen = (small.clone(), large.clone());
    let reader = thread::spawn(move || {
        for _ in 0..3 {
            for (small, large) in &views {
                assert_eq!(small.as_slice().unwrap(), seen.0);
                assert_eq!(large.rows(3..5).unwrap().as_slice().unwrap(), &seen.1[300..500]);
            }
        }
        views
    });
    disk.remove(b"small").unwrap();
    disk.remove(b"large").unwrap();
    disk.compact().unwrap();
    disk.sync().unwrap();
    let views = reader.join().unwrap();
    disk.close().unwrap();
    drop(disk);
    drop(heap);
    assert_eq!(views[0].0.as_slice().unwrap(), small);
    assert_eq!(views[1].1.as_slice().unwrap(), large);
}
