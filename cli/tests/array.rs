//! Promise: arrays of NumPy and safetensors can be stored, listed, looked at and written out from
//! the command line, and what cannot be is said in one line.
//! Method: the commands on files made here; the real NumPy is asked by the engine's tests.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use common::{arg, run};
use zip::write::SimpleFileOptions;

/// A NumPy file of version 1.0.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let len = u16::try_from(text.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &len[..], text.as_bytes(), data].concat()
}

fn written(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn archive(dir: &Path, members: &[(&str, &[u8])]) -> PathBuf {
    let path = dir.join("some.npz");
    let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, bytes) in members {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
    path
}

#[test]
fn an_array_comes_in_is_shown_and_goes_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let file =
        written(dir.path(), "a.npy", &npy(">i2", "2, 3", &[0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6]));
    let imported = run(["array", "import", arg(&store), "key", arg(&file)]).ended(0);
    assert!(
        imported.stdout.contains("(2, 3)") && imported.stdout.contains("1 array, 12 B"),
        "{imported:?}"
    );

    let info = run(["array", "info", arg(&store), "key", "--json"]).ended(0).json();
    assert_eq!((&info["element"], &info["descr"]), (&"i16".into(), &"<i2".into()));
    assert_eq!(info["shape"], serde_json::json!([2, 3]));
    assert_eq!(info["strides"], serde_json::json!([3, 1]));
    assert_eq!((&info["file"], &info["bytes"]), (&serde_json::Value::Null, &12.into()));
    let shown = run(["array", "info", arg(&store), "key"]).ended(0).stdout;
    assert!(shown.contains("NumPy: <i2") && shown.contains("C order"), "{shown}");

    let out = dir.path().join("out.npy");
    run(["array", "export", arg(&store), "key", arg(&out)]).ended(0);
    let bytes = fs::read(&out).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    assert_eq!(&bytes[4096..], [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
    run(["array", "import", arg(&store), "again", arg(&out), "--json"]).ended(0);
    run(["put", arg(&store), "text", "no array"]).ended(0);
    let listed = run(["array", "ls", arg(&store), "--json"]).ended(0).stdout;
    let mut keys: Vec<_> = listed
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["key"].to_string())
        .collect();
    keys.sort();
    assert_eq!(keys, ["\"again\"", "\"key\""]);

    let none = run(["array", "info", arg(&store), "none"]).ended(1);
    assert!(none.stderr.contains("no such key: none"), "{none:?}");
    run(["array", "export", arg(&store), "none", arg(&out)]).ended(1);
    run(["array", "info", arg(&store), "text"]).refused("no array");
}

#[test]
fn a_large_array_lies_in_a_file_that_info_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let data: Vec<u8> = (0..20_u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
    let file = written(dir.path(), "a.npy", &npy("<f4", "5, 1048576", &data));
    run(["array", "import", arg(&store), "key", arg(&file), "--sync", "--disk", "200MiB"]).ended(0);
    let info = run(["array", "info", arg(&store), "key", "--json"]).ended(0).json();
    let own = PathBuf::from(info["file"].as_str().unwrap());
    assert!(own.is_absolute() && own.starts_with(store.canonicalize().unwrap()), "{own:?}");
    let bytes = fs::read(&own).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00") && bytes[4096..].starts_with(&data));
    let shown = run(["array", "info", arg(&store), "key"]).ended(0).stdout;
    assert!(shown.contains("numpy.load(") && shown.contains("mmap_mode=\"r\""), "{shown}");
    // One that no store of this budget takes.
    run(["array", "import", arg(&dir.path().join("small")), "key", arg(&file), "--disk", "16MiB"])
        .refused("raise --disk");
}

#[test]
fn what_fails_of_several_is_said_and_the_others_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let (one, two) = (npy("<f8", "1,", &[0; 8]), npy("|u1", "2,", &[1, 2]));
    let objects = npy("|O", "2,", &[0; 16]);
    let file =
        archive(dir.path(), &[("one.npy", &one), ("objects.npy", &objects), ("two.npy", &two)]);
    let imported = run(["array", "import", arg(&store), "all", arg(&file), "--json"]).ended(1);
    assert_eq!((imported.number("arrays"), imported.number("failed")), (2, 1));
    let listed = imported.json()["imported"].clone();
    assert_eq!((&listed[0]["key"], &listed[2]["key"]), (&"all/one".into(), &"all/two".into()));
    let error = listed[1]["error"].as_str().unwrap();
    assert!(error.contains("some.npz/objects") && error.contains("Python objects"), "{error}");
    let imported = run(["array", "import", arg(&store), "", arg(&file)]).ended(1);
    assert!(imported.stderr.contains("Python objects"), "{imported:?}");
    assert!(imported.stdout.contains("  two\n") && imported.stdout.contains("2 arrays"));
    run(["array", "import", arg(&store), "k", arg(&file), "--only", "two"]).ended(0);
    assert_eq!(run(["array", "info", arg(&store), "k/two", "--json"]).ended(0).number("bytes"), 2);
    run(["array", "import", arg(&store), "k", arg(&file), "--only", "three"]).refused("three");
}

#[test]
fn tensors_come_in_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let header = r#"{"w.0":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]},
        "w.1":{"dtype":"F8_E5M2","shape":[4],"data_offsets":[4,8]}}"#;
    let len = (header.len() as u64).to_le_bytes();
    let bytes = [&len[..], header.as_bytes(), &[0; 8]].concat();
    let file = written(dir.path(), "some.safetensors", &bytes);
    let imported = run(["array", "import", arg(&store), "model", arg(&file)]).ended(1);
    assert!(imported.stderr.contains("F8_E5M2"), "{imported:?}");
    let info = run(["array", "info", arg(&store), "model/w.0", "--json"]).ended(0).json();
    assert_eq!((&info["element"], &info["shape"]), (&"bf16".into(), &serde_json::json!([2, 1])));
}

#[test]
fn what_is_no_array_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let import = |file: &Path| run(["array", "import", arg(&store), "key", arg(file)]);
    import(&written(dir.path(), "text.npy", b"some text, which is no array"))
        .refused("NumPy header");
    import(&written(dir.path(), "short.npy", &npy("<f8", "9,", &[0; 71]))).refused("cut short");
    import(&written(dir.path(), "dates.npy", &npy("<M8[s]", "1,", &[0; 8])))
        .refused("dates and times");
    import(&written(dir.path(), "bad.npz", b"PK\x03\x04 and nothing else")).refused("bad.npz");
    import(&written(dir.path(), "bad.safetensors", b"{}")).refused("bad.safetensors");
    import(&dir.path().join("nowhere.npy")).refused("nowhere.npy");
    run(["array", "ls", arg(&dir.path().join("nowhere"))]).refused("nowhere");
}
