//! Promise: `docs/format.md` says what the code does.
//! Method: its tables are compared with the field tables and constants; each structure is
//! encoded with one field changed after the other, and only the bytes of that field (and of
//! the checksum) may change; the worked example is built anew.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
#![allow(clippy::unwrap_used, reason = "not in a #[test] function, but only for tests")]

mod common;

use common::*;
use larder_format::fields::{ALL, Field, Show, Structure};
use larder_format::layout::*;
use larder_format::*;

const DOCUMENT: &str = include_str!("../../docs/format.md");

/// The rows of the tables under a heading, cells trimmed.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    DOCUMENT
        .lines()
        .skip_while(|line| line.trim_start_matches('#').trim() != heading || !line.starts_with('#'))
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect()
}

fn heading(structure: &Structure) -> String {
    let (first, rest) = structure.name.split_at(1);
    first.to_uppercase() + rest
}

#[test]
fn every_structure_is_in_the_document_with_all_its_fields() {
    for structure in ALL {
        let documented: Vec<(usize, usize, &str)> = rows(&heading(&structure))
            .iter()
            .filter_map(|row| Some((row[0].parse().ok()?, row.get(1)?.parse().ok()?, row[2])))
            .collect();
        let expected: Vec<_> =
            structure.fields.iter().map(|field| (field.offset, field.len, field.name)).collect();
        assert_eq!(documented, expected, "{}", structure.name);
    }
}

#[test]
fn fields_leave_no_gaps() {
    for structure in ALL {
        let words = ["shared words", "share words", "segment words", "index words"]
            .contains(&structure.name);
        let mut end = 0;
        for field in structure.fields {
            assert!(if words { field.offset >= end } else { field.offset == end }, "{field:?}");
            end = field.offset + field.len;
        }
        assert_eq!(end, structure.len, "{}", structure.name);
    }
}

#[test]
fn constants_are_as_documented() {
    let rows = rows("Constants");
    let documented: Vec<(&str, u64)> =
        rows.iter().filter_map(|row| Some((row[0], row[1].parse().ok()?))).collect();
    let number = |number: usize| u64::try_from(number).unwrap();
    let expected = [
        ("FORMAT_VERSION", FORMAT_VERSION.into()),
        ("PAGE", number(PAGE)),
        ("UNIT", number(UNIT)),
        ("CHUNK", number(CHUNK)),
        ("STORE_FILE_LEN", number(STORE_FILE_LEN)),
        ("SHARED_AT", number(SHARED_AT)),
        ("SEGMENT_DATA", number(SEGMENT_DATA)),
        ("SEGMENT_LEN_MIN", SEGMENT_LEN_MIN.into()),
        ("SEGMENT_LEN_MAX", SEGMENT_LEN_MAX.into()),
        ("KEY_LEN_MAX", number(KEY_LEN_MAX)),
        ("TAGS_MAX", number(TAGS_MAX)),
        ("RECORD_EXTENSION_MAX", number(RECORD_EXTENSION_MAX)),
        ("INDEX_DATA", number(INDEX_DATA)),
        ("BUCKET_SLOTS", number(BUCKET_SLOTS)),
        ("PAGE_BUCKETS", number(PAGE_BUCKETS)),
        ("PAGE_BITS_MAX", PAGE_BITS_MAX.into()),
        ("SPLITS_MAX", SPLITS_MAX.into()),
        ("EXTERNAL_DATA_MAX", EXTERNAL_DATA_MAX),
        ("NPY_HEADER_LEN", number(NPY_HEADER_LEN)),
        ("ARRAY_AXES_MAX", number(ARRAY_AXES_MAX)),
        ("ARRAY_DESCRIPTOR_MAX", number(ARRAY_DESCRIPTOR_MAX)),
    ];
    assert_eq!(documented, expected);
}

/// A structure as encoded, and again with one field changed.
struct Changes {
    structure: Structure,
    base: Vec<u8>,
    /// The fields that change, and the bytes. The first one is what was changed, the others
    /// follow from it.
    changed: Vec<(&'static [&'static str], Vec<u8>)>,
}

/// Lists changes as `"field", "what follows from it" => field: value` of a structure.
macro_rules! changes {
    ($structure:ident, $base:expr, $encode:expr, { $($names:expr => $field:ident: $value:expr,)* }) => {{
        let base = $base;
        let encode = $encode;
        let changed: Vec<(&'static [&'static str], Vec<u8>)> = vec![$((&$names, {
            let mut changed = base;
            changed.$field = $value;
            encode(&changed).to_vec()
        }),)*];
        Changes { structure: fields::$structure, base: encode(&base).to_vec(), changed }
    }};
}

fn stores() -> Vec<Changes> {
    let boot = |change: fn(&mut BootIdentity)| {
        let mut boot = session(1).boot;
        change(&mut boot);
        boot
    };
    vec![
        changes!(SUPERBLOCK, superblock(), Superblock::encode, {
            ["uuid"] => uuid: [9; 16],
            ["hash seed"] => hash_seed: [9; 16],
            ["compatible"] => compatible: 1,
            ["read-only compatible"] => read_only_compatible: 1,
            ["incompatible"] => incompatible: 1,
            ["segment length"] => segment_len: 1 << 16,
            ["external from"] => external_min: 7,
            ["created"] => created_ms: 7,
            ["index pages"] => index_base_bits: 7,
        }),
        changes!(SESSION, session(1), |session: &Session| session.encode(&UUID), {
            ["epoch"] => epoch: 2,
            ["boot id"] => boot: boot(|boot| boot.boot_id = [1; 16]),
            ["device"] => boot: boot(|boot| boot.device = 1),
            ["inode"] => boot: boot(|boot| boot.inode = 1),
            ["mount"] => boot: boot(|boot| boot.mount_id = 1),
            ["flags"] => clean: true,
            ["flags"] => suspect: true,
            ["opened"] => opened_ms: 1,
            ["cleared"] => cleared_seq: 7,
            ["settled"] => settled_seq: 7,
            ["pid"] => pid: 1,
            ["words crc"] => words_crc: 1,
            ["segments crc"] => segments_crc: 1,
        }),
        changes!(SHARE_HEADER, share_header(), ShareHeader::encode, {
            ["positions"] => positions: 1 << 9,
            ["uuid"] => uuid: [9; 16],
            ["budget"] => budget: 7,
            ["lanes"] => lanes: 7,
            ["retains all"] => retains_all: true,
        }),
        changes!(INDEX_HEADER, index_header(), IndexHeader::encode, {
            ["generation"] => generation: 7,
            ["page bits"] => geometry: Geometry { page_bits: 2, base_bits: 0 },
            ["base bits"] => geometry: Geometry { page_bits: 1, base_bits: 1 },
            ["uuid"] => uuid: [1; 16],
        }),
    ]
}

fn segments() -> Vec<Changes> {
    let writer = segment(5);
    let (salt, file_len) = (writer.salt(), writer.bytes.len());
    let entry = FooterEntry {
        key_hash: 1,
        offset_units: 256,
        kind: Kind::Value,
        replaced: false,
        external: false,
        seq_delta: Some(1),
    };
    let record = RecordHeader { written_ms: 5, ..header(Kind::Value, 1) };
    vec![
        changes!(SEGMENT_HEADER, writer.header, SegmentHeader::encode, {
            ["file length"] => file_len: 1 << 20,
            ["id"] => id: 6,
            ["base sequence"] => base_seq: 1,
            ["created"] => created_ms: 1,
            ["lane"] => lane: 9,
            ["uuid"] => uuid: [1; 16],
        }),
        changes!(RECORD, record, |record: &RecordHeader| {
            record.encode(salt, 4096, &vec![0; record.tag_count.into()]).as_bytes()[..32].to_vec()
        }, {
            ["kind"] => kind: Kind::Seal,
            ["flags"] => flags: Flags::REPLACED,
            ["flags"] => expires_at_ms: 1,
            ["layout"] => align_log2: 12,
            ["layout"] => tag_count: 15,
            ["sequence"] => seq: 1,
            ["value length"] => value_len: 1,
            ["payload crc"] => payload_crc: 1,
            ["key length"] => key_len: 1,
            ["codec"] => codec: CodecId { id: 1, version: 0 },
            ["codec version"] => codec: CodecId { id: 0, version: 1 },
            ["written"] => written_ms: 1,
        }),
        changes!(ENTRY, entry, FooterEntry::encode, {
            ["key hash"] => key_hash: 2,
            ["place"] => offset_units: 257,
            ["place"] => kind: Kind::Seal,
            ["place"] => replaced: true,
            ["place"] => external: true,
            ["sequence delta"] => seq_delta: None,
        }),
        changes!(TRAILER, writer.trailer(), |trailer: &Trailer| trailer.encode(salt, file_len), {
            ["id"] => id: 6,
            ["committed"] => committed: Committed::EMPTY,
            ["entries crc"] => entries_crc: 1,
            ["lowest sequence"] => min_seq: 1,
            ["highest sequence"] => max_seq: 1,
            ["sealed before"] => sealed_before: 1,
        }),
        changes!(BATCH, Batch { id: 1, count: 2, bytes: 96, seqs_crc: 4 }, Batch::encode, {
            ["id"] => id: 2,
            ["count"] => count: 1,
            ["bytes"] => bytes: 112,
            ["sequences crc"] => seqs_crc: 5,
        }),
    ]
}

fn externals() -> Vec<Changes> {
    let class = ExternalClass::Value;
    let reference = ExternalRef { class, id: 1, data_len: 2, settled: false };
    let footer = ExternalFooter {
        uuid: UUID,
        id: 1,
        class: ExternalClass::Value,
        seq: 1,
        key_hash: 1,
        data_len: 100,
        key_len: 3,
        descriptor_len: 0,
        tail_crc: 0,
    };
    let array = |dtype, item_len, order, shape: &[u64]| {
        ArrayDescriptor::new(dtype, item_len, order, shape).unwrap().encode()[..32].to_vec()
    };
    let base = ArrayDescriptor::new(DType::F32, 4, Order::C, &[6]).unwrap();
    let head = |array: ArrayDescriptor| array.encode()[..32].to_vec();
    vec![
        changes!(EXTERNAL_REF, reference, ExternalRef::encode, {
            ["class"] => class: ExternalClass::Array,
            ["settled"] => settled: true,
            ["id"] => id: 2,
            ["data length"] => data_len: 1,
        }),
        changes!(EXTERNAL_TRAILER, footer, ExternalFooter::encode, {
            ["uuid"] => uuid: [1; 16],
            ["id"] => id: 2,
            ["class"] => class: ExternalClass::Array,
            ["sequence"] => seq: 2,
            ["key hash"] => key_hash: 2,
            ["data length"] => data_len: 101,
            ["chunk count", "data length"] => data_len: 1 << 20,
            ["key length"] => key_len: 4,
            ["descriptor length"] => descriptor_len: 64,
            ["tail crc"] => tail_crc: 1,
        }),
        Changes {
            structure: fields::ARRAY_HEAD,
            base: head(base),
            changed: vec![
                (&["element type"], array(DType::I32, 4, Order::C, &[6])),
                (&["item length", "element type"], array(DType::F64, 8, Order::C, &[3])),
                (&["order"], array(DType::F32, 4, Order::Fortran, &[6])),
                (&["axes"], array(DType::F32, 4, Order::C, &[2, 3])),
                (&["data length"], array(DType::F32, 4, Order::C, &[7])),
                (&["chunk size"], head(base.with_chunk_log2(20).unwrap())),
                (&["alignment", "descriptor length"], head(base.with_alignment(Alignment::Page))),
                (&["descriptor length", "alignment"], head(base.with_alignment(Alignment::Wide))),
                (&["compression"], head(base.with_compression(Compression::ShuffledZstd))),
            ],
        },
    ]
}

#[test]
fn each_field_lies_where_the_tables_say() {
    for Changes { structure, base, changed } in
        stores().into_iter().chain(segments()).chain(externals())
    {
        assert_eq!(base.len(), structure.len, "{}", structure.name);
        for (names, bytes) in &changed {
            let moved: Vec<usize> = (0..base.len()).filter(|at| base[*at] != bytes[*at]).collect();
            let within = |field: &Field| {
                moved.iter().any(|at| (field.offset..field.offset + field.len).contains(at))
            };
            let mut found: Vec<&str> =
                structure.fields.iter().filter(|field| within(field)).map(|f| f.name).collect();
            let mut expected = names.to_vec();
            // Where there is a checksum, every change shows in it.
            expected.extend(structure.fields.iter().filter(|f| f.name == "crc").map(|f| f.name));
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{}, {}", structure.name, names[0]);
        }
        // Nothing was forgotten: what no change reaches is the same in every file.
        let fixed = ["crc", "magic", "version", "byte order", "zeros"];
        for field in structure.fields {
            let reached = changed.iter().any(|(names, _)| names[0] == field.name);
            assert!(reached || fixed.contains(&field.name), "{}: {field:?}", structure.name);
        }
    }
}

#[test]
fn fixed_fields_hold_what_the_document_says() {
    for Changes { structure, base, .. } in stores().into_iter().chain(segments()).chain(externals())
    {
        let rows = rows(&heading(&structure));
        for (field, row) in structure.fields.iter().zip(&rows[2..]) {
            let bytes = &base[field.offset..field.offset + field.len];
            let quoted = row[3].split('`').nth(1).unwrap_or_default();
            match field.name {
                "magic" if field.show == Show::Text && field.len == 4 => {
                    assert_eq!(bytes, quoted.as_bytes(), "{}", structure.name);
                }
                "magic" => {
                    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
                    assert_eq!(hex.join(" "), quoted, "{}", structure.name);
                }
                "byte order" => assert_eq!(bytes, ENDIAN_MARK.to_le_bytes()),
                "version" => assert_eq!(bytes[0], 1, "{}", structure.name),
                "zeros" => assert!(bytes.iter().all(|byte| *byte == 0), "{}", structure.name),
                _ => {}
            }
        }
    }
}

#[test]
fn kinds_and_flags_are_numbered_as_documented() {
    let rows = rows("Record header");
    let number = |name: &str| -> u8 {
        let row = rows.iter().filter(|row| row.len() == 4);
        row.clone().find(|row| row[1] == name).unwrap()[0].parse().unwrap()
    };
    for (name, kind) in [
        ("value", Kind::Value),
        ("tombstone", Kind::Tombstone),
        ("tag invalidation", Kind::TagInvalidation),
        ("batch begin", Kind::BatchBegin),
        ("batch commit", Kind::BatchCommit),
        ("seal", Kind::Seal),
    ] {
        assert_eq!(number(name), kind as u8, "{name}");
    }
    for (name, flag) in [
        ("expires", Flags::EXPIRES),
        ("replaced", Flags::REPLACED),
        ("moved", Flags::MOVED),
        ("external", Flags::EXTERNAL),
        ("compressed", Flags::COMPRESSED),
        ("array", Flags::ARRAY),
        ("batched", Flags::BATCHED),
    ] {
        assert_eq!(1 << number(name), flag.bits(), "{name}");
    }
}

#[test]
fn the_worked_example_is_real() {
    let example = DOCUMENT.split("```hex\n").nth(1).unwrap().split("```").next().unwrap();
    let mut bytes = Vec::new();
    for (number, line) in example.lines().enumerate() {
        let (at, hex) = line.split_once("  ").unwrap();
        assert_eq!(usize::from_str_radix(at, 16).unwrap(), SEGMENT_DATA + number * 16);
        bytes.extend(hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    let mut segment = SegmentWriter::new(5, 64 << 10);
    let header = RecordHeader { written_ms: 1500, ..header(Kind::Value, 1) };
    let (offset, header) = segment.record(header, &[], b"user:1", b"Ada Lovelace");
    let end = header.extent(offset).end;
    assert_eq!(bytes, segment.bytes[offset..end]);
    assert_eq!(RecordHeader::decode(&bytes, segment.salt(), 4096), Ok(header));
    let mut entry = String::new();
    for (at, byte) in segment.bytes[segment.entries_at()..][..ENTRY_LEN].iter().enumerate() {
        let space = if at == 8 || at == 12 { "  " } else { " " };
        entry += &format!("{}{byte:02x}", if at == 0 { "" } else { space });
    }
    assert!(DOCUMENT.contains(&format!("`{entry}`")), "the footer entry is {entry}");
    let uuid: String = UUID.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(DOCUMENT.contains(&uuid) && DOCUMENT.contains(std::str::from_utf8(&SEED).unwrap()));
}
