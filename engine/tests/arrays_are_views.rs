//! Arrays come back as they were put, where they lie: every type, either order, in the log and in
//! files of their own, plain and as bytes, over reopening, compaction and backup.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use larder_engine::{
    AnyArray, ArrayError, ArrayRef, Check, CodecId, DType, Disk, Durability, Element, Engine,
    Error, Maintenance, Order, Prefetch, Put, Ttl, Value,
};

fn open(dir: &Path) -> Disk {
    // Segments of 1 MiB: arrays of 256 KiB and more have files of their own.
    let builder = Disk::builder(dir).budget(64 << 20).segment_len(1 << 20);
    builder.maintenance(Maintenance::Manual).open().unwrap()
}

fn put<T: Element>(disk: &Disk, key: &[u8], array: &[T], shape: &[usize]) {
    let array = ArrayRef::new(array, shape).unwrap();
    assert!(disk.put_array(key, &array, &Put::default()).unwrap().is_admitted());
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(dir.join("arr")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Puts an array, and looks at it in every way.
fn round<T: Element>(disk: &Disk, make: impl Fn(u8) -> T) {
    for len in [0_usize, 1, 15, 16, 63, 64, 65, 4097, 70_000] {
        let elements: Vec<T> = (0..251).cycle().take(len).map(&make).collect();
        for order in [Order::C, Order::Fortran] {
            let shape = if len % 5 == 0 { vec![len / 5, 5] } else { vec![len, 1, 1] };
            let array = match order {
                Order::C => ArrayRef::new(&elements, &shape),
                Order::Fortran => ArrayRef::fortran(&elements, &shape),
            };
            let array = array.unwrap();
            assert!(disk.put_array(b"key", &array, &Put::default()).unwrap().is_admitted());
            for check in [Check::Always, Check::FirstTouch, Check::Never] {
                let view = disk.get_array_with::<T>(b"key", check).unwrap().unwrap();
                assert_eq!((view.shape(), view.order()), (&*shape, order));
                assert_eq!(view.len(), len);
                let seen = view.as_slice().unwrap();
                assert_eq!(seen, elements);
                assert!(view.is_mapped() || len == 0);
                assert!(seen.is_empty() || seen.as_ptr().addr().is_multiple_of(64));
                let pieces: Vec<T> =
                    view.pieces().flat_map(|piece| piece.unwrap().to_vec()).collect();
                assert_eq!(pieces, elements);
                assert_eq!(view.to_owned().unwrap().as_slice().unwrap(), elements);
                if len > 0 {
                    let last: Vec<usize> = shape.iter().map(|axis| axis - 1).collect();
                    assert_eq!(view.get(&last).unwrap(), elements.last().copied());
                    assert_eq!(view.get(&shape).unwrap(), None);
                }
            }
            let value = disk.get(b"key").unwrap().unwrap();
            assert_eq!(value.meta().codec, CodecId::ARRAY);
            assert!(value.ends_with(array.data()));
        }
    }
}

#[test]
fn every_type_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir.path().join("store"));
    round(&disk, |n| n % 2 == 0);
    round(&disk, |n| n.cast_signed());
    round(&disk, i16::from);
    round(&disk, i32::from);
    round(&disk, i64::from);
    round(&disk, |n| n);
    round(&disk, u16::from);
    round(&disk, u32::from);
    round(&disk, u64::from);
    round(&disk, f32::from);
    round(&disk, f64::from);
    round(&disk, |n| [n, 1, 2]);
    round(&disk, |n| [n; 17]);
    #[cfg(feature = "half")]
    round(&disk, half::f16::from);
    #[cfg(feature = "half")]
    round(&disk, half::bf16::from);
    #[cfg(feature = "complex")]
    round(&disk, |n| num_complex::Complex::new(f32::from(n), 1.0));
    #[cfg(feature = "complex")]
    round(&disk, |n| num_complex::Complex::new(f64::from(n), 1.0));
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn what_does_not_fit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir.path().join("store"));
    put(&disk, b"key", &[1.0_f32, 2.0], &[2]);
    let message = disk.get_array::<f64>(b"key").unwrap_err().to_string();
    assert!(message.contains("f32") && message.contains("f64"), "{message}");
    let view = disk.get_array::<f32>(b"key").unwrap().unwrap();
    assert_eq!(view.shape_of::<2>(), Err(ArrayError::Axes { stored: 1, asked: 2 }));
    assert_eq!(view.rows(1..3).unwrap_err(), ArrayError::Rows { from: 1, to: 3, rows: 2 });
    let _ = disk.put(b"bytes", b"no array", &Put::default()).unwrap();
    let error = disk.get_array::<u8>(b"bytes").unwrap_err();
    assert!(matches!(error, Error::Array(ArrayError::NotAnArray)), "{error}");
    assert!(disk.get_array::<u8>(b"nothing").unwrap().is_none());

    let impossible = |shape: &[usize]| ArrayRef::new::<u64>(&[], shape).unwrap_err();
    assert!(matches!(impossible(&[1 << 60, 1 << 60]), ArrayError::Impossible(_)));
    assert!(matches!(impossible(&[usize::MAX, 0]), ArrayError::Impossible(_)));
    assert!(matches!(impossible(&[0; 33]), ArrayError::Impossible(_)));
    assert!(matches!(impossible(&[2]), ArrayError::Length { needed: 16, found: 0, .. }));
    assert!(ArrayRef::from_bytes(DType::F32, 3, Order::C, &[1], &[0; 3]).is_err());
    assert!(ArrayRef::new::<[u8; 0]>(&[], &[0]).is_err());
}

#[test]
fn a_large_array_is_a_numpy_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let disk = open(&store);
    let elements: Vec<f32> = (0_u16..50_000).chain(0..50_000).map(f32::from).collect();
    put(&disk, b"key", &elements, &[1000, 100]);
    let [file] = &*files(&store) else { panic!("one array, one file") };
    assert!(file.to_str().unwrap().ends_with(".npy"));
    let bytes = fs::read(file).unwrap();
    let header = std::str::from_utf8(&bytes[10..200]).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    assert!(header.contains("'descr': '<f4', 'fortran_order': False, 'shape': (1000, 100)"));
    let data: Vec<u8> = elements.iter().flat_map(|element| element.to_le_bytes()).collect();
    assert_eq!(&bytes[4096..4096 + data.len()], data);
    // As bytes it is what NumPy reads of the file.
    let value = disk.get(b"key").unwrap().unwrap();
    assert!(value.is_mapped() && *value == bytes[..4096 + data.len()]);

    // Replaced, it is gone once that is durable; a view of it is not.
    let view = disk.get_array::<f32>(b"key").unwrap().unwrap();
    put(&disk, b"key", &[1_u8], &[1]);
    disk.sync().unwrap();
    assert!(files(&store).is_empty());
    assert_eq!(view.rows(500..501).unwrap().as_slice().unwrap(), &elements[50_000..50_100]);
    assert!(disk.stats().retired_bytes >= data.len() as u64);
    drop(view);
}

#[test]
fn arrays_outlive_reopening_compaction_and_backup() {
    let dir = tempfile::tempdir().unwrap();
    let (store, copy) = (dir.path().join("store"), dir.path().join("copy"));
    let small: Vec<u64> = (0..1000).collect();
    let medium: Vec<f64> = (0_u16..20_000).map(f64::from).collect();
    let large: Vec<f64> = (0_u16..60_000).map(f64::from).collect();
    let check = |disk: &Disk| {
        let view = disk.get_array::<u64>(b"small").unwrap().unwrap();
        assert_eq!(view.as_slice().unwrap(), small);
        for (key, elements) in [(b"medium", &medium), (b"large_", &large)] {
            let view = disk.get_array::<f64>(key).unwrap().unwrap();
            let seen = view.as_slice().unwrap();
            assert!(seen == elements && seen.as_ptr().addr().is_multiple_of(64));
        }
        assert_eq!(disk.verify().unwrap().findings, []);
    };
    let disk = open(&store);
    put(&disk, b"small", &small, &[10, 100]);
    put(&disk, b"medium", &medium, &[20_000]);
    put(&disk, b"large_", &large, &[3, 20_000]);
    check(&disk);
    disk.close().unwrap();
    let disk = open(&store);
    check(&disk);
    let view = disk.get_array::<f64>(b"medium").unwrap().unwrap();
    for n in 0..30_u32 {
        let _ = disk.put(&n.to_le_bytes(), &vec![0; 100_000], &Put::default()).unwrap();
    }
    for n in 0..30_u32 {
        disk.remove(&n.to_le_bytes()).unwrap();
    }
    disk.compact().unwrap();
    check(&disk);
    assert_eq!(view.as_slice().unwrap(), medium);
    let report = disk.backup(&copy).unwrap();
    assert_eq!((report.entries, report.damaged), (3, 0));
    check(&open(&copy));
    disk.close().unwrap();
    let read_only = Disk::builder(&store).read_only().open().unwrap();
    check(&read_only);
}

#[test]
fn an_array_can_be_looked_at_without_knowing_its_type() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir.path().join("store"));
    put(&disk, b"key", &[[1_u8, 2, 3], [4, 5, 6]], &[2]);
    let any: AnyArray = disk.get_any_array(b"key", Check::FirstTouch).unwrap().unwrap();
    assert_eq!((any.dtype(), any.item_len(), any.shape()), (DType::Bytes, 3, &[2][..]));
    assert_eq!(any.data().unwrap(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(any.strides(), [1]);
    let typed = any.typed::<[u8; 3]>().unwrap();
    assert_eq!(typed.rows(1..2).unwrap().as_slice().unwrap(), [[4, 5, 6]]);
}

#[test]
fn the_bytes_of_an_array_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let disk = open(&store);
    let put_bytes = Put { codec: CodecId::ARRAY, ..Put::default() };
    for len in [0, 3, 100, 2000, 20_000, 90_000] {
        let elements: Vec<f32> = (0..=255_u8).cycle().take(len).map(f32::from).collect();
        put(&disk, b"key", &elements, &[len]);
        let value = disk.get(b"key").unwrap().unwrap();
        let array = AnyArray::of_value(&value).unwrap().typed::<f32>().unwrap();
        assert_eq!((array.as_slice().unwrap(), array.meta()), (&*elements, value.meta()));
        assert_eq!(array.is_mapped(), value.is_mapped());
        // As a cache stores what it has encoded: it is an array all the same.
        let mut bytes = Vec::new();
        array.as_any().encode(&mut bytes).unwrap();
        assert_eq!(bytes.len(), array.as_any().encoded_len());
        assert!(disk.put(b"copy", &bytes, &put_bytes).unwrap().is_admitted());
        let copy = disk.get_array::<f32>(b"copy").unwrap().unwrap();
        assert_eq!(copy.as_slice().unwrap(), elements);
        let copy = AnyArray::of_value(&disk.get(b"copy").unwrap().unwrap()).unwrap();
        assert_eq!(copy.data().unwrap(), array.as_any().data().unwrap());
    }
    disk.sync().unwrap();
    assert_eq!(files(&store).len(), 2);
    let _ = disk.put(b"no array", b"LARR, and nothing behind it", &put_bytes).unwrap();
    let error = disk.get_array::<f32>(b"no array").unwrap_err();
    assert!(matches!(error, Error::Array(ArrayError::NotAnArray)), "{error}");
    let moved = AnyArray::copied(&ArrayRef::fortran(&[1_u8, 2, 3, 4], &[2, 2]).unwrap()).unwrap();
    assert_eq!(moved.rows(0..1).unwrap().data().unwrap_err(), ArrayError::Gaps);
    assert_eq!(moved.typed::<u8>().unwrap().get(&[0, 1]).unwrap(), Some(3));
}

#[test]
fn advice_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir.path().join("store"));
    for len in [10, 30_000, 100_000] {
        let elements: Vec<u64> = (0..len).collect();
        put(&disk, b"key", &elements, &[elements.len()]);
        let view = disk.get_array::<u64>(b"key").unwrap().unwrap();
        for how in [Prefetch::Soon, Prefetch::Now, Prefetch::LargePages] {
            assert!(view.prefetch(how), "{how:?}");
        }
        assert_eq!(view.as_slice().unwrap(), elements);
        assert!(view.to_owned().unwrap().prefetch(Prefetch::Now));
    }
}

#[test]
fn arrays_have_namespaces_tags_and_deadlines() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(&dir.path().join("store"));
    let elements: Vec<u64> = (0..100_000).collect();
    let array = ArrayRef::new(&elements, &[100_000]).unwrap();
    let tagged = Put { tags: &[b"tag"], durability: Durability::Sync, ..Put::default() };
    assert!(disk.namespace("a").put_array(b"key", &array, &tagged).unwrap().is_admitted());
    assert!(disk.put_array(b"key", &array, &tagged).unwrap().is_admitted());
    let view = disk.namespace("a").get_array::<u64>(b"key").unwrap().unwrap();
    assert!(disk.namespace("b").get_array::<u64>(b"key").unwrap().is_none());
    disk.invalidate_tag(b"tag").unwrap();
    assert!(disk.get_array::<u64>(b"key").unwrap().is_none());
    assert!(disk.namespace("a").get_array::<u64>(b"key").unwrap().is_none());
    assert_eq!(view.as_slice().unwrap(), elements);
    let short = Put { ttl: Ttl::After(Duration::from_millis(1)), ..Put::default() };
    assert!(disk.put_array(b"key", &array, &short).unwrap().is_admitted());
    std::thread::sleep(Duration::from_millis(3));
    assert!(disk.get_array::<u64>(b"key").unwrap().is_none());
    let gone = Put { ttl: Ttl::After(Duration::ZERO), ..Put::default() };
    assert!(disk.put_array(b"key", &array, &gone).unwrap().is_admitted());
    assert!(disk.get_array::<u64>(b"key").unwrap().is_none());
}

#[test]
fn what_has_a_file_of_its_own_can_be_set() {
    let dir = tempfile::tempdir().unwrap();
    let builder = |from: u64, name: &str| {
        Disk::builder(dir.path().join(name)).budget(64 << 20).array_file_from(from)
    };
    for (from, len, expected) in
        [(4096, 4095, 0), (4096, 4096, 1), (100_000, 99_999, 0), (1 << 40, 600_000, 1)]
    {
        let name = format!("{from} {len}");
        let disk = builder(from, &name).segment_len(1 << 20).open().unwrap();
        put(&disk, b"key", &vec![7_u8; len], &[len]);
        assert_eq!(files(&dir.path().join(name)).len(), expected, "{from}, {len}");
        assert_eq!(disk.array_file(b"key").unwrap().is_some(), expected == 1);
        let view = disk.get_array::<u8>(b"key").unwrap().unwrap();
        assert!(view.as_slice().unwrap().iter().all(|byte| *byte == 7));
    }
    let error = builder(4095, "refused").open().unwrap_err().to_string();
    assert!(error.contains("array_file_from is 4095") && error.contains("4096"), "{error}");
    assert!(!dir.path().join("refused").exists());
}

#[test]
fn the_bytes_of_a_numpy_file_are_an_array_wherever_they_lie() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let elements: Vec<f32> = (0..100_000_u32).map(|n| n as f32).collect();
    put(&disk, b"key", &elements, &[500, 200]);
    let value = disk.get(b"key").unwrap().unwrap();
    assert!(value.is_mapped() && value.starts_with(b"\x93NUMPY"));
    // The same on the heap, and what others write: another length of header, and byte order.
    let heap = AnyArray::of_value(&value.to_owned()).unwrap().typed::<f32>().unwrap();
    assert_eq!((heap.as_slice().unwrap(), heap.shape()), (&*elements, &[500, 200][..]));
    let text = "{'descr': '>u2', 'fortran_order': True, 'shape': (2, 2), }\n";
    let mut foreign = b"\x93NUMPY\x01\x00".to_vec();
    foreign.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
    foreign.extend_from_slice(text.as_bytes());
    foreign.extend([0, 1, 0, 2, 1, 0, 0, 4]);
    let whole = AnyArray::of_value(&Value::from(foreign.clone())).unwrap().typed::<u16>().unwrap();
    assert_eq!((whole.as_slice().unwrap(), whole.order()), (&[1, 2, 256, 4][..], Order::Fortran));
    let _ = disk.put(b"foreign", &foreign, &Put::default()).unwrap();
    let stored = disk.get(b"foreign").unwrap().unwrap();
    assert_eq!(AnyArray::of_value(&stored).unwrap().data(), whole.as_any().data());
    foreign.pop();
    for cut in [foreign, b"\x93NUMPY".to_vec(), value[..10_000].to_vec(), Vec::new()] {
        assert_eq!(AnyArray::of_value(&Value::from(cut)).unwrap_err(), ArrayError::NotAnArray);
    }
}
