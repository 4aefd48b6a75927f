//! Promise: what is stored can be opened by NumPy alone, and what NumPy writes can be stored.
//! Method: the real NumPy, in a process of its own, both ways: every element type, order of axes,
//! order of bytes and version of the format.
//!
//! The Python with NumPy is the one that `LARDER_PYTHON` names, which then has to work, or else
//! `python3`; where that has no NumPy, nothing is tested, and a line says so.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::print_stderr, reason = "what is skipped has to be seen")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use larder_engine::{
    AnyArray, ArrayDescriptor, ArrayRef, Check, DType, Disk, Engine as _, Error, Npz, Order, Put,
    Safetensors,
};

/// The Python to test with, if there is one.
fn python() -> Option<PathBuf> {
    let required = std::env::var_os("LARDER_PYTHON").map(PathBuf::from);
    let program = required.clone().unwrap_or_else(|| "python3".into());
    let found = Command::new(&program).args(["-c", "import numpy"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(program);
    }
    assert_eq!(required, None, "LARDER_PYTHON names no Python with NumPy");
    eprintln!("SKIPPED: there is no Python with NumPy; name one in LARDER_PYTHON");
    None
}

fn run(python: &Path, script: &str, arguments: &[&Path]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

/// Arrays of 16 KiB and more have files of their own.
fn open(dir: &Path) -> Disk {
    Disk::builder(dir.join("store")).budget(256 << 20).segment_len(64 << 10).open().unwrap()
}

fn array(disk: &Disk, key: &[u8]) -> AnyArray {
    disk.get_any_array(key, Check::FirstTouch).unwrap().unwrap()
}

fn put(disk: &Disk, key: &[u8], array: &ArrayRef<'_>) {
    assert!(disk.put_array(key, array, &Put::default()).unwrap().is_admitted());
}

/// Bytes of which no two neighbours are alike, and of bools what they can be.
fn filled(dtype: DType, len: usize) -> Vec<u8> {
    let byte = |n: usize| u8::try_from(n * 7 % 253 % if dtype == DType::Bool { 2 } else { 256 });
    (0..len).map(|n| byte(n).unwrap()).collect()
}

fn axes<T: ToString>(shape: &[T]) -> String {
    shape.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn numpy_opens_what_we_store() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = open(dir.path());
    let mut expected = String::new();
    let mut count = 0;
    for dtype in DType::ALL {
        for order in [Order::C, Order::Fortran] {
            let shapes: [&[usize]; 9] = [
                &[],
                &[1],
                &[0],
                &[5],
                &[0, 3],
                &[2, 0, 4],
                &[3, 4],
                &[123, 211],
                &[17, 3, 2, 401],
            ];
            let wide = (dtype == DType::Bytes).then_some((20_000, &[][..]));
            let cases = shapes.map(|shape| (dtype.item_len().unwrap_or(5), shape));
            for (item_len, shape) in cases.into_iter().chain(wide) {
                let (dir, name) = (dir.path(), format!("{count:04}"));
                count += 1;
                let len = shape.iter().product::<usize>() * item_len as usize;
                let data = filled(dtype, len);
                let ours = ArrayRef::from_bytes(dtype, item_len, order, shape, &data).unwrap();
                put(&disk, name.as_bytes(), &ours);
                fs::write(dir.join(format!("{name}.raw")), &data).unwrap();
                let exported = dir.join(format!("{name}.npy"));
                array(&disk, name.as_bytes()).export_npy(&exported).unwrap();
                let letter = if order == Order::C { 'C' } else { 'F' };
                let mut line = |path: &Path| {
                    let (descr, shape) = (ours.descriptor().descr(), axes(shape));
                    let path = path.display();
                    writeln!(expected, "{name}\t{path}\t{descr}\t{letter}\t{shape}").unwrap();
                };
                line(&exported);
                // The store's own file, where the array has one.
                let own = fs::read_dir(dir.join("store/arr")).map(|files| {
                    let newest = files.map(|file| file.unwrap().path()).max();
                    newest.filter(|_| len >= 16 << 10)
                });
                if let Ok(Some(own)) = own {
                    line(&own);
                }
            }
        }
    }
    let own = expected.lines().filter(|line| line.contains("/arr/")).count();
    // Of bytes, three shapes are long enough for a file, and of all others two.
    assert_eq!(own, 2 * (2 * DType::ALL.len() + 1), "arrays with files of their own");
    fs::write(dir.path().join("expected"), expected).unwrap();
    run(&python, "arrays.py", &[Path::new("read"), dir.path()]);
}

#[test]
fn we_store_what_numpy_writes() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    run(&python, "arrays.py", &[Path::new("write"), dir.path()]);
    let disk = open(dir.path());
    let manifest = fs::read_to_string(dir.path().join("manifest")).unwrap();
    let mut archives = ["stored.npz", "deflated.npz"].map(|name| {
        let archive = Npz::open(dir.path().join(name)).unwrap();
        (archive.names().len(), archive)
    });
    let mut members = 0;
    for line in manifest.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[name, descr, order, shape] = &fields[..] else { panic!("{line}") };
        let check = |key: &[u8]| {
            let array = array(&disk, key);
            let found = array.descriptor();
            let letter = if found.order() == Order::C { "C" } else { "F" };
            assert_eq!((found.descr().as_str(), letter), (descr, order), "{name}");
            assert_eq!(axes(found.shape()), shape, "{name}");
            let raw = fs::read(dir.path().join(format!("{name}.raw"))).unwrap();
            assert!(array.data().unwrap() == raw, "{name} has other elements");
        };
        if let Some(member) = name.strip_prefix("npz-") {
            members += 1;
            for (_, archive) in &mut archives {
                let put = archive.put(&disk, member, b"member", &Put::default()).unwrap();
                assert!(put.is_admitted());
                check(b"member");
                disk.remove(b"member").unwrap();
            }
        } else {
            let path = dir.path().join(format!("{name}.npy"));
            assert!(disk.put_npy_file(b"file", &path, &Put::default()).unwrap().is_admitted());
            check(b"file");
            let mut reader = &fs::read(&path).unwrap()[..];
            assert!(disk.put_npy(b"reader", &mut reader, &Put::default()).unwrap().is_admitted());
            check(b"reader");
        }
    }
    assert!(archives.iter().all(|(count, _)| *count == members && members > 100));
    for (name, reason) in [
        ("objects", "convert Python objects to numbers"),
        ("text", "store text encoded"),
        ("dates", "store dates and times as numbers"),
        ("records", "store each field"),
        ("longdouble", "convert long doubles"),
        ("raw", "store raw bytes as numbers"),
    ] {
        let path = dir.path().join(format!("refused-{name}.npy"));
        match disk.put_npy_file(b"refused", &path, &Put::default()) {
            Err(Error::Format { path: told, source }) => {
                assert_eq!(told, path);
                assert!(source.to_string().contains(reason), "{name}: {source}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(disk.get_any_array(b"refused", Check::Always).unwrap().is_none());
}

#[test]
fn we_store_what_safetensors_writes() {
    let Some(python) = python() else { return };
    let found = Command::new(&python).args(["-c", "import safetensors"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this Python has no safetensors");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    run(&python, "tensors.py", &[dir.path()]);
    let disk = open(dir.path());
    let mut file = Safetensors::open(dir.path().join("model.safetensors")).unwrap();
    let mut count = 0;
    for name in file.names() {
        assert!(file.put(&disk, &name, name.as_bytes(), &Put::default()).unwrap().is_admitted());
        // NumPy's own file of it says the same.
        let npy = dir.path().join(format!("{name}.npy"));
        assert!(disk.put_npy_file(b"npy", npy, &Put::default()).unwrap().is_admitted());
        let (tensor, expected) = (array(&disk, name.as_bytes()), array(&disk, b"npy"));
        let plain = |array: &AnyArray| -> ArrayDescriptor { *array.descriptor() };
        assert_eq!(plain(&tensor), plain(&expected), "{name}");
        assert!(tensor.data().unwrap() == expected.data().unwrap(), "{name}");
        count += 1;
    }
    assert!(count >= 12);
}
