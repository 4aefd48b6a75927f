//! Promise: the bytes that this crate writes stay what they are, and a dump explains them.
//! Method: small files are built, dumped and compared with dumps that are checked in.
//! `LARDER_BLESS=1 cargo test -p larder-format --test golden` writes them anew; read the diff.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
#![allow(clippy::unwrap_used, reason = "not in a #[test] function, but only for tests")]

mod common;

use common::*;
use larder_format::layout::{SEGMENT_DATA, UNIT};
use larder_format::{FileKind, dump};

fn check(name: &str, bytes: &[u8], kind: FileKind) {
    let mut text = String::new();
    dump(kind, bytes, &mut text).unwrap();
    let path = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("LARDER_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (number, (found, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, expected, "{name}.txt, line {}", number + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "{name}.txt");
}

#[test]
fn a_store_file_reads_as_ever() {
    let bytes = store_file();
    assert_eq!(FileKind::detect(&bytes), FileKind::Store);
    check("store", &bytes, FileKind::Store);
}

#[test]
fn a_sealed_segment_reads_as_ever() {
    let bytes = segment(5).seal();
    assert_eq!(FileKind::detect(&bytes), FileKind::Segment);
    check("segment-sealed", &bytes, FileKind::Segment);
}

#[test]
fn an_open_segment_with_holes_reads_as_ever() {
    let mut segment = segment(5);
    segment.hole(4 * UNIT);
    let (last, _) = segment.record(header(larder_format::Kind::Value, 12), &[], b"last", b"one");
    // One header is torn, one payload is damaged.
    let first = SEGMENT_DATA;
    segment.bytes[first + 9] ^= 1;
    segment.bytes[last + 33] ^= 1;
    check("segment-open", &segment.bytes, FileKind::Segment);
}

#[test]
fn an_index_reads_as_ever() {
    let bytes = index_file();
    assert_eq!(FileKind::detect(&bytes), FileKind::Index);
    check("index", &bytes, FileKind::Index);
}

#[test]
fn external_files_read_as_ever() {
    let data: Vec<u8> = (0..96).collect();
    let array = external_file(1, b"weights", &data, Some(&descriptor()));
    assert_eq!(FileKind::detect(&array), FileKind::External);
    check("external-array", &array, FileKind::External);
    let data: Vec<u8> = (1..=251).cycle().take(100_000).collect();
    let mut value = external_file(2, b"film", &data, None);
    check("external-value", &value, FileKind::External);
    value[70_000] ^= 1;
    check("external-damaged", &value, FileKind::External);
}

#[test]
fn an_array_descriptor_reads_as_ever() {
    let bytes = descriptor().encode();
    assert_eq!(FileKind::detect(&bytes), FileKind::Descriptor);
    check("descriptor", &bytes, FileKind::Descriptor);
}
