//! Promise: arrays come in from files of NumPy and safetensors as what they are, or not at all, and
//! go out as files that come in again.
//! Method: files that are whole, cut short, damaged, or lie about themselves. The real NumPy is
//! asked in `numpy.rs`.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::io::{self, Read, Write as _};
use std::path::Path;

use larder_engine::{
    AnyArray, ArrayDescriptor, ArrayError, ArrayRef, Check, DType, Disk, Error, Npz, Order,
    Outcome, Put, Rejection, Safetensors, Strided,
};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Arrays of 64 KiB and more have files of their own.
fn open(dir: &Path) -> Disk {
    Disk::builder(dir.join("store")).budget(64 << 20).segment_len(256 << 10).open().unwrap()
}

fn array(disk: &Disk, key: &[u8]) -> AnyArray {
    disk.get_any_array(key, Check::FirstTouch).unwrap().unwrap()
}

fn put(disk: &Disk, key: &[u8], array: &ArrayRef<'_>) {
    assert!(disk.put_array(key, array, &Put::default()).unwrap().is_admitted());
}

fn i32s(count: u32) -> Vec<u8> {
    (0..count).flat_map(u32::to_le_bytes).collect()
}

/// A NumPy file with this text in its header.
fn npy(descr: &str, order: Order, shape: &str, data: &[u8]) -> Vec<u8> {
    let fortran = if order == Order::C { "False" } else { "True" };
    let text =
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({shape}), }}\n");
    let len = u16::try_from(text.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &len[..], text.as_bytes(), data].concat()
}

#[test]
fn numbers_of_the_other_byte_order_are_turned_around() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    // More than is read at a time.
    let (big, little): (Vec<u8>, Vec<u8>) =
        ((0..700_000_u32).flat_map(u32::to_be_bytes).collect(), i32s(700_000));
    let file = npy(">i4", Order::Fortran, "700, 1000", &big);
    // What comes behind the array is not looked at.
    let reader = &mut &[file, vec![7; 99]].concat()[..];
    assert!(disk.put_npy(b"key", reader, &Put::default()).unwrap().is_admitted());
    assert_eq!(reader.len(), 99);
    let found = array(&disk, b"key");
    assert_eq!((found.shape(), found.order()), (&[700, 1000][..], Order::Fortran));
    assert!(found.is_mapped() && found.data().unwrap() == little);
}

#[test]
fn what_lies_anyhow_is_packed_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let data = i32s(600 * 500);
    for order in [Order::C, Order::Fortran] {
        let wanted = ArrayDescriptor::new(DType::I32, 4, order, &[500, 600]).unwrap();
        // The transpose of a matrix in C order, as it is, backwards, and turned around.
        let lies = Strided::new(wanted, &data, 0, &[4, 2000]).unwrap();
        let backwards = Strided::new(wanted, &data, data.len() - 4, &[-4, -2000]).unwrap();
        for array_in in [lies, backwards, lies.big_endian()] {
            assert!(disk.put_strided(b"key", &array_in, &Put::default()).unwrap().is_admitted());
            assert!(array(&disk, b"key").data().unwrap() == array_in.to_vec());
        }
        assert_eq!(array(&disk, b"key").descriptor().order(), order);
    }
    let fortran = ArrayDescriptor::new(DType::I32, 4, Order::Fortran, &[2, 3]).unwrap();
    let small = Strided::packed(fortran, Order::C, &data[..24]).unwrap();
    assert!(disk.put_strided(b"key", &small, &Put::default()).unwrap().is_admitted());
    let view = disk.get_array::<i32>(b"key").unwrap().unwrap();
    assert_eq!(view.as_slice().unwrap(), [0, 3, 1, 4, 2, 5]);
    assert_eq!(view.get(&[1, 0]).unwrap(), Some(3));
}

#[test]
fn files_that_end_too_early_leave_the_key_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let before = [1_u8, 2, 3];
    put(&disk, b"key", &ArrayRef::new(&before, &[3]).unwrap());
    let path = dir.path().join("short.npy");
    for (count, lens) in [(100_u32, [11, 40, 80]), (100_000, [100, 4_000, 70_000])] {
        let whole = npy("<i4", Order::C, &format!("{count},"), &i32s(count));
        for len in lens.into_iter().chain([whole.len() - 1]) {
            let short = &whole[..len];
            match disk.put_npy(b"key", &mut &short[..], &Put::default()) {
                Err(Error::Io { source, .. }) => {
                    assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
                }
                other => panic!("{len} bytes: {other:?}"),
            }
            fs::write(&path, short).unwrap();
            let refused = disk.put_npy_file(b"key", &path, &Put::default()).unwrap_err();
            assert!(refused.to_string().contains("short.npy"), "{refused}");
            assert_eq!(array(&disk, b"key").data().unwrap(), before);
        }
        fs::write(&path, &whole).unwrap();
        assert!(disk.put_npy_file(b"whole", &path, &Put::default()).unwrap().is_admitted());
    }
    let gone = disk.put_npy_file(b"key", dir.path().join("gone.npy"), &Put::default());
    assert!(matches!(gone, Err(Error::Io { op: "open", .. })));
}

/// Fails the test if anything is read.
struct Unread;

impl Read for Unread {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("the data is read, though there is no room for it");
    }
}

#[test]
fn a_header_that_promises_too_much_reserves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let huge = npy("<f8", Order::C, "35184372088832,", &[]);
    let outcome = disk.put_npy(b"key", &mut (&huge[..]).chain(Unread), &Put::default()).unwrap();
    assert!(matches!(outcome, Outcome::Rejected(Rejection::TooLarge { .. })), "{outcome:?}");
    let path = dir.path().join("huge.npy");
    fs::write(&path, &huge).unwrap();
    let refused = disk.put_npy_file(b"key", &path, &Put::default()).unwrap_err();
    let Error::Format { source, .. } = refused else { panic!("{refused:?}") };
    assert!(source.to_string().starts_with("NumPy file is cut short: 2814749767107"), "{source}");
    for (descr, shape) in
        [("<f8", "35184372088833,"), ("<f8", "99999999999999999999,"), ("|O", "2,")]
    {
        let refused =
            disk.put_npy(b"key", &mut &npy(descr, Order::C, shape, &[0; 64])[..], &Put::default());
        assert!(matches!(refused, Err(Error::Format { .. })), "{refused:?}");
    }
    assert!(disk.get_any_array(b"key", Check::Always).unwrap().is_none());
}

#[test]
fn what_is_exported_comes_in_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let data = i32s(50_000);
    for (count, order) in
        [(0, Order::C), (1, Order::C), (6_000, Order::Fortran), (50_000, Order::C)]
    {
        let data = &data[..count * 4];
        let shape = [count / 2, if count == 1 { 0 } else { 2 }];
        let shape = if count == 1 { &[][..] } else { &shape };
        put(&disk, b"key", &ArrayRef::from_bytes(DType::I32, 4, order, shape, data).unwrap());
        let stored = array(&disk, b"key");
        let path = dir.path().join("out.npy");
        stored.export_npy(&path).unwrap();
        let mut written = Vec::new();
        stored.write_npy(&mut written).unwrap();
        assert!(fs::read(&path).unwrap() == written);
        // Through the store, which has a file of it or not.
        let own = disk.array_file(b"key").unwrap();
        assert_eq!(own.is_some(), data.len() >= 64 << 10);
        assert!(disk.export_npy(b"key", &path).unwrap());
        assert!(fs::read(&path).unwrap() == written);
        if let Some(own) = own {
            assert!(fs::read(&own).unwrap().starts_with(&written));
        }
        assert_eq!(written.len(), 4096 + data.len());
        assert!(disk.put_npy_file(b"again", &path, &Put::default()).unwrap().is_admitted());
        let again = array(&disk, b"again");
        assert_eq!(again.descriptor(), stored.descriptor());
        assert_eq!(again.data().unwrap(), data);
    }
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 2, "the store and the export, nothing temporary");
    assert_eq!(disk.array_file(b"none").unwrap(), None);
    assert!(!disk.export_npy(b"none", dir.path().join("none.npy")).unwrap());
    let nowhere = array(&disk, b"key").export_npy(dir.path().join("no/such/place.npy"));
    assert!(matches!(nowhere, Err(Error::Io { .. })));
}

#[test]
fn damage_is_not_exported() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let data = i32s(100_000);
    let array_in = ArrayRef::from_bytes(DType::I32, 4, Order::C, &[100_000], &data).unwrap();
    put(&disk, b"key", &array_in);
    let file = fs::read_dir(dir.path().join("store/arr")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&file).unwrap();
    bytes[300_000] ^= 1;
    fs::OpenOptions::new().write(true).open(&file).unwrap().write_all(&bytes).unwrap();
    let path = dir.path().join("out.npy");
    let refused = array(&disk, b"key").export_npy(&path).unwrap_err();
    assert!(matches!(refused, Error::Array(ArrayError::Damaged { chunk: 4, .. })), "{refused:?}");
    let refused = disk.export_npy(b"key", &path).unwrap_err();
    assert!(matches!(refused, Error::Array(ArrayError::Damaged { chunk: 4, .. })), "{refused:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no file is left");
}

fn archive(path: &Path, members: &[(&str, &[u8])], how: CompressionMethod) {
    let mut archive = ZipWriter::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        archive.start_file(*name, SimpleFileOptions::default().compression_method(how)).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn every_member_of_an_archive_can_be_put_under_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let path = dir.path().join("some.npz");
    let large = npy("<i4", Order::C, "200, 300", &i32s(60_000));
    let small = npy(">u2", Order::C, "2,", &[1, 2, 3, 4]);
    let members: [(&str, &[u8]); 4] = [
        ("large.npy", &large),
        ("deep/small.npy", &small),
        ("notes.txt", b"no array, but some text that is long enough"),
        ("empty.npy", b""),
    ];
    for how in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        archive(&path, &members, how);
        let mut archive = Npz::open(&path).unwrap();
        assert_eq!(archive.names(), ["large", "deep/small", "notes.txt", "empty"]);
        let mut put = |name: &str| archive.put(&disk, name, name.as_bytes(), &Put::default());
        assert!(put("deep/small").unwrap().is_admitted());
        assert!(put("large").unwrap().is_admitted());
        let refused = put("notes.txt").unwrap_err();
        assert!(matches!(refused, Error::Format { .. }), "{refused:?}");
        assert!(refused.to_string().contains("some.npz/notes.txt"), "{refused}");
        assert!(matches!(put("empty"), Err(Error::Io { .. })));
        assert!(matches!(put("other"), Err(Error::Io { .. })));
        assert_eq!(array(&disk, b"large").data().unwrap(), i32s(60_000));
        assert_eq!(array(&disk, b"deep/small").data().unwrap(), [2, 1, 4, 3]);
    }
}

#[test]
fn a_member_that_fails_its_checksum_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let path = dir.path().join("some.npz");
    for count in [100, 60_000] {
        let member = npy("<i4", Order::C, &format!("{count},"), &i32s(count));
        archive(&path, &[("a.npy", &member)], CompressionMethod::Stored);
        let mut bytes = fs::read(&path).unwrap();
        bytes[200] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let refused = Npz::open(&path).unwrap().put(&disk, "a", b"key", &Put::default());
        assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
        assert!(disk.get_any_array(b"key", Check::Always).unwrap().is_none());
    }
    fs::write(&path, b"PK, but no archive").unwrap();
    assert!(matches!(Npz::open(&path), Err(Error::Io { .. })));
}

/// A file of safetensors with this header.
fn tensors(path: &Path, header: &str, data: &[u8]) {
    let len = (header.len() as u64).to_le_bytes();
    fs::write(path, [&len, header.as_bytes(), data].concat()).unwrap();
}

#[test]
fn every_tensor_can_be_put_under_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let path = dir.path().join("some.safetensors");
    let header = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"F32","shape":[2,2],"data_offsets":[4,20]},
        "a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},
        "none":{"dtype":"I64","shape":[0,3],"data_offsets":[20,20]},
        "f8":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[20,24]},
        "big":{"dtype":"C64","shape":[100,100],"data_offsets":[24,80024]}}"#;
    let data: Vec<u8> = (0..80_024_u32).map(|n| n.to_le_bytes()[0]).collect();
    tensors(&path, header, &data);
    let mut file = Safetensors::open(&path).unwrap();
    assert_eq!(file.names(), ["a", "b", "none", "f8", "big"]);
    let mut put = |name: &str| file.put(&disk, name, name.as_bytes(), &Put::default());
    for (name, dtype, shape, bytes) in [
        ("a", DType::Bf16, &[2][..], 0..4),
        ("big", DType::Complex64, &[100, 100], 24..80_024),
        ("b", DType::F32, &[2, 2], 4..20),
        ("none", DType::I64, &[0, 3], 0..0),
    ] {
        assert!(put(name).unwrap().is_admitted());
        let found = array(&disk, name.as_bytes());
        assert_eq!((found.dtype(), found.shape()), (dtype, shape));
        assert_eq!(found.data().unwrap(), &data[bytes]);
    }
    let Err(Error::Format { source, .. }) = put("f8") else { panic!("no store has F8") };
    let message = source.to_string();
    assert!(message.contains("`F8_E4M3`") && message.contains("convert it"), "{message}");
    assert!(matches!(put("other"), Err(Error::Io { .. })));
}

#[test]
fn headers_of_tensors_that_lie_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("some.safetensors");
    let entry = |shape: &str, from: u64, to: u64| {
        format!(r#"{{"a":{{"dtype":"F32","shape":[{shape}],"data_offsets":[{from},{to}]}}}}"#)
    };
    for (header, data) in [
        (entry("4", 0, 16), 15),
        (entry("4", 0, 16), 17),
        (entry("4", 8, 24), 24),
        (entry("5", 0, 16), 16),
        (entry("18446744073709551615, 2", 0, 16), 16),
        (entry("-4", 0, 16), 16),
        (entry("4", 16, 0), 16),
        ("{".to_owned(), 0),
        (format!("{}1", "[".repeat(100_000)), 0),
        (r#"{"a":{"dtype":"F99","shape":[],"data_offsets":[0,0]}}"#.to_owned(), 0),
    ] {
        tensors(&path, &header, &vec![0; data]);
        let refused = Safetensors::open(&path);
        let shown = header.get(..80).unwrap_or(&header);
        assert!(matches!(refused, Err(Error::Io { .. } | Error::Format { .. })), "{shown}");
    }
    for bytes in [&b""[..], b"1234567", &u64::MAX.to_le_bytes(), &100_000_001_u64.to_le_bytes()] {
        fs::write(&path, bytes).unwrap();
        assert!(Safetensors::open(&path).is_err());
    }
}
