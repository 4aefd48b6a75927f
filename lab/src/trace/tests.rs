//! Readers against handwritten samples, and against whatever bytes there are.

use super::*;
use proptest::prelude::*;
use std::fs;

fn read_as(name: &str, bytes: &[u8], format: Format) -> Result<Vec<Access>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    let mut trace = Trace::open(&path, &Options { format, ..Options::default() })?;
    trace.accesses().collect()
}

fn refusal(name: &str, bytes: &[u8]) -> String {
    let error = read_as(name, bytes, Format::Auto).expect_err(name);
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

fn records(ids: &[u64]) -> Vec<u8> {
    ids.iter().flat_map(|&id| oracle::encode(&Access::new(id, 7))).collect()
}

fn ids(accesses: &[Access]) -> Vec<u64> {
    accesses.iter().map(|access| access.id).collect()
}

#[test]
fn the_format_is_told_by_name_and_then_by_content() {
    let packed = records(&[5, 6]);
    for name in ["t.oracleGeneral", "t.oracleGeneral.bin", "unnamed"] {
        assert_eq!(ids(&read_as(name, &packed, Format::Auto).unwrap()), [5, 6]);
    }
    for name in ["t.csv", "unnamed"] {
        assert_eq!(ids(&read_as(name, b"5,7\n6,7\n", Format::Auto).unwrap()), [5, 6]);
    }
    assert_eq!(ids(&read_as("t.csv", &packed, Format::OracleGeneral).unwrap()), [5, 6]);
}

#[test]
fn compressed_traces_are_told_by_their_magic() {
    let packed = zstd::encode_all(&records(&[5, 6])[..], 1).unwrap();
    for name in ["t.oracleGeneral.zst", "t.oracleGeneral", "unnamed"] {
        assert_eq!(read_as(name, &packed, Format::Auto).unwrap().len(), 2);
    }
    let text = zstd::encode_all(&b"4 3 0 0\n"[..], 1).unwrap();
    assert_eq!(ids(&read_as("t.lis.zst", &text, Format::Auto).unwrap()), [4, 5, 6]);
}

#[test]
fn what_is_no_trace_is_refused_with_its_path_and_place() {
    assert!(refusal("empty", b"").contains("empty: it is empty"));
    assert!(refusal("cut.oracleGeneral", &records(&[1])[..20]).contains("20 bytes"));
    assert!(refusal("notes.txt", b"Hello\nworld\n").contains("line 2"));
    let png = [b"\x89PNG\r\n\x1a\n".as_slice(), &[0xC3; 88]].concat();
    assert!(refusal("picture.png", &png).contains("record 1"));
    let cut = zstd::encode_all(&records(&[1, 2])[..40], 1).unwrap();
    assert!(refusal("cut.oracleGeneral.zst", &cut).contains("record 2"));
    let torn = zstd::encode_all(&records(&(0..500).collect::<Vec<_>>())[..], 1).unwrap();
    assert!(refusal("torn.zst", &torn[..torn.len() / 2]).contains("cannot be read"));
}

#[test]
fn missing_files_and_directories_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        |path: &Path| Trace::open(path, &Options::default()).expect_err("refused").to_string();
    assert!(open(&dir.path().join("nowhere")).contains("nowhere: cannot be opened"));
    assert!(open(dir.path()).contains("is a directory"));
}

#[test]
fn chunks_and_accesses_are_the_same_requests() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.lis");
    fs::write(&path, "0 1000 0 0\n5 7 0 1\n").unwrap();
    let open = || Trace::open(&path, &Options::default()).unwrap();
    let one_by_one: Vec<Access> = open().accesses().map(Result::unwrap).collect();
    assert_eq!(one_by_one.len(), 1007);
    for length in [1, 3, 1007, 5000] {
        let mut trace = open();
        let chunks: Vec<_> = trace.chunks(length).map(Result::unwrap).collect();
        assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() == length));
        assert_eq!(chunks.concat(), one_by_one);
    }
    assert_eq!(open().chunks(0).count(), 0);
}

#[test]
fn what_came_before_a_bad_line_is_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    fs::write(&path, "1\n2\nthree\n4\n").unwrap();
    let mut trace = Trace::open(&path, &Options::default()).unwrap();
    let read: Vec<_> = trace.accesses().collect();
    assert_eq!(read.len(), 3, "two requests and the error: {read:?}");
    let error = read[2].as_ref().expect_err("the third").to_string();
    assert!(error.contains("line 3 has \"three\": expected a number"), "{error}");
}

#[test]
fn a_line_is_quoted_only_in_part() {
    let error = refusal("t.csv", &[b"1\n".as_slice(), &[b'x'; 3000]].concat());
    assert!(error.len() < 300 && error.contains('…'), "{error}");
}

/// Lines that look like those of some format, more or less.
fn lines() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        4 => "[0-9]{1,4}",
        1 => "[0-9]{18,22}",
        1 => "-[0-9]{1,3}",
        1 => Just("Read".to_owned()),
        1 => Just("get".to_owned()),
        1 => "[ -~é\t]{0,6}",
        1 => Just("*".to_owned()),
    ];
    let separator = prop_oneof![Just(","), Just(" "), Just("\t"), Just(";")];
    let line = (proptest::collection::vec(field, 0..9), separator)
        .prop_map(|(fields, separator)| fields.join(separator));
    proptest::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
        for &format in Format::ALL {
            if let Ok(read) = read_as("any", &bytes, format) {
                prop_assert!(read.iter().all(|access| access.size <= SIZE_MAX));
            }
        }
    }

    #[test]
    fn any_lines_are_read_or_refused_at_a_line_that_is_there(text in lines()) {
        for &format in Format::ALL {
            match read_as("any.txt", text.as_bytes(), format) {
                Ok(read) => prop_assert!(read.len() as u64 <= 8 * RUN_MAX),
                Err(Error::Malformed { place: Place::Line(number), .. }) => {
                    prop_assert!(number >= 1 && number <= text.lines().count() as u64 + 1);
                }
                Err(Error::Malformed { .. }) => {}
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }

    #[test]
    fn packed_records_come_back(
        ids in proptest::collection::vec(any::<u64>(), 1..50),
        size in 0..=SIZE_MAX,
    ) {
        let bytes: Vec<u8> =
            ids.iter().flat_map(|&id| oracle::encode(&Access::new(id, size))).collect();
        let read = read_as("t.oracleGeneral", &bytes, Format::Auto).unwrap();
        prop_assert!(read.iter().all(|access| access.size == size && access.next == Access::NEVER));
        prop_assert_eq!(read.iter().map(|access| access.id).collect::<Vec<_>>(), ids);
    }
}
