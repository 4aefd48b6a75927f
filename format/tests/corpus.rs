//! Promise: what the fuzzer started from, and what it found, stays harmless.
//! Method: the checked-in corpus goes through the code of the fuzz targets.
//! `LARDER_BLESS=1 cargo test -p larder-format --test corpus` writes the seeds anew.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
#![allow(clippy::unwrap_used, reason = "not in a #[test] function, but only for tests")]

mod common;

#[path = "../../fuzz/src/format.rs"]
#[allow(clippy::expect_used, unreachable_pub, reason = "a test here")]
mod targets;

use std::path::PathBuf;

use common::*;
use larder_format::layout::*;
use larder_format::{Alignment, ArrayDescriptor, Compression, DType, FileKind, Kind, Order};

fn folder(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "fuzz", "corpus", target].iter().collect()
}

fn run(target: &str, code: fn(&[u8]), seeds: &[(&str, Vec<u8>)]) {
    if std::env::var_os("LARDER_BLESS").is_some() {
        std::fs::create_dir_all(folder(target)).unwrap();
        for (name, bytes) in seeds {
            std::fs::write(folder(target).join(name), bytes).unwrap();
        }
    }
    let mut files: Vec<_> =
        std::fs::read_dir(folder(target)).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= seeds.len(), "{target} has its seeds");
    for file in files {
        code(&std::fs::read(file).unwrap());
    }
    for (_, bytes) in seeds {
        code(bytes);
    }
}

/// `bytes` behind a byte that a target takes for itself.
fn behind(first: u8, bytes: &[u8]) -> Vec<u8> {
    [&[first], bytes].concat()
}

#[test]
fn records() {
    let segment = segment(5);
    let seeds = [("value", 0x1000, 64), ("tagged", 0x1040, 80), ("batch", 0x10f0, 64)];
    let seeds = seeds.map(|(name, at, len)| (name, behind(1, &segment.bytes[at..at + len])));
    run("record_decode", targets::record_decode, &seeds);
}

#[test]
fn segments() {
    let bytes = segment(5).bytes[SEGMENT_DATA..0x1320].to_vec();
    let mut holed = bytes.clone();
    holed[0x90..0xC0].fill(0);
    let seeds = [("records", behind(0, &bytes)), ("holed", behind(1, &holed))];
    run("segment_scan", targets::segment_scan, &seeds);
}

#[test]
fn indexes() {
    let file = index_file();
    let slots = file[..INDEX_HEADER_LEN].iter().chain(&file[0x1C38..0x1C50]).copied().collect();
    run("index_image", targets::index_image, &[("header-and-slots", slots)]);
}

#[test]
fn superblocks() {
    let file = store_file();
    let both = [&file[..SUPERBLOCK_LEN], &file[PAGE..PAGE + SESSION_LEN]].concat();
    let seeds = [("both", both), ("session", file[PAGE..PAGE + SESSION_LEN].to_vec())];
    run("superblock", targets::superblock, &seeds);
}

#[test]
fn externals() {
    let value = external_file(2, b"key", b"data", None);
    let array = external_file(1, b"key", &[1; 96], Some(&descriptor())).split_off(NPY_HEADER_LEN);
    let seeds = [("value", value), ("array", array), ("descriptor", descriptor().encode())];
    run("external_array", targets::external_array, &seeds);
}

#[test]
fn array_descriptors() {
    let plain = descriptor();
    let paged = ArrayDescriptor::new(DType::Bytes, 5, Order::Fortran, &[7, 0, 3]).unwrap();
    let packed = descriptor().with_compression(Compression::ShuffledZstd);
    let seeds = [
        ("plain", [plain.encode(), vec![1; 96]].concat()),
        ("page", paged.with_alignment(Alignment::Page).encode()),
        ("packed", packed.with_chunk_log2(20).unwrap().encode()),
    ];
    run("array_descriptor", targets::array_descriptor, &seeds);
}

#[test]
fn npy_headers() {
    let text = |text: &str| text.as_bytes().to_vec();
    let seeds = [
        ("ours", descriptor().npy_header()),
        ("text", text("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }   \n")),
        ("python2", text("{'shape': (3L, 4L), u\"descr\":'>c16','fortran_order':True}")),
        ("records", text("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': ()}")),
        ("objects", text("{'descr': '|O', 'fortran_order': False, 'shape': (-1,)}")),
    ];
    run("npy_header", targets::npy_header, &seeds);
}

#[test]
fn dumps() {
    let mut short = SegmentWriter::new(5, 64 << 10);
    short.record(header(Kind::Value, 1), &[b"tag"], b"key", b"value");
    let seeds = [
        ("store", behind(0, &store_file()[..PAGE + SESSION_LEN])),
        ("segment", behind(1, &short.bytes[..SEGMENT_DATA + 128])),
        ("index", behind(2, &index_file()[..INDEX_DATA + 64])),
        ("external", behind(3, &external_file(2, b"key", b"data", None))),
        ("descriptor", behind(4, &descriptor().encode())),
    ];
    assert_eq!(FileKind::from_name("seg/0000000000000005.log"), FileKind::Segment);
    assert_eq!(FileKind::from_name("/a.b/store"), FileKind::Store);
    assert_eq!(FileKind::from_name("index.00000001"), FileKind::Index);
    assert_eq!(FileKind::from_name("arr/0000000000000001.npy"), FileKind::External);
    assert_eq!(FileKind::from_name("notes"), FileKind::Unknown);
    run("dump", targets::dump, &seeds);
}
