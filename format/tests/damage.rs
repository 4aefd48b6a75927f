//! Promise: damaged bytes are refused, or mean what they meant before; no bytes make us panic.
//! Method: every byte of every structure is changed in three ways, every structure is cut at
//! every length, and whole files are overwritten at random places.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
#![allow(clippy::unwrap_used, reason = "not in a #[test] function, but only for tests")]

mod common;

use common::*;
use larder_format::dump::dump_limited;
use larder_format::external::encode_table;
use larder_format::hash::crc_from;
use larder_format::layout::*;
use larder_format::scan::payload_is_intact;
use larder_format::*;
use proptest::prelude::*;

type Read = dyn Fn(&[u8]) -> Option<String>;

/// Bytes, and what a reader makes of them: a text that says everything that it believes.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    read: Box<Read>,
}

fn case<T: std::fmt::Debug>(
    name: &'static str,
    bytes: impl AsRef<[u8]>,
    read: impl Fn(&[u8]) -> Result<T, FormatError> + 'static,
) -> Case {
    let read = Box::new(move |bytes: &[u8]| read(bytes).ok().map(|value| format!("{value:?}")));
    Case { name, bytes: bytes.as_ref().to_vec(), read }
}

/// Structures that are checked by themselves.
fn structures() -> Vec<Case> {
    let segment = segment(5);
    let (salt, file_len) = (segment.salt(), segment.bytes.len());
    let external = external_file(1, b"key", b"data", Some(&descriptor()));
    let external_len = external.len() as u64;
    let external_salt = Salt::new(&UUID, 1);
    vec![
        case("superblock", superblock().encode(), Superblock::decode),
        case("session", session(7).encode(&UUID), |bytes| Session::decode(bytes, &UUID)),
        case("segment header", segment.header.encode(), |bytes| {
            SegmentHeader::decode(bytes, &UUID, 5)
        }),
        case("trailer", segment.trailer().encode(salt, file_len), move |bytes| {
            Trailer::decode(bytes, salt, file_len)
        }),
        case("index header", index_header().encode(), |bytes| IndexHeader::decode(bytes, &UUID, 2)),
        case("external trailer", &external[external.len() - 96..], move |bytes| {
            ExternalFooter::decode(bytes, external_salt, external_len)
        }),
    ]
}

/// Structures that something around them checks: a record, a segment, a file.
fn carried() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut record = |name, header, tags: &[&[u8]], value: &[u8]| {
        let mut segment = SegmentWriter::new(5, 128 << 10);
        let salt = segment.salt();
        let (offset, header) = segment.record(header, tags, b"the key", value);
        let bytes = segment.bytes[offset..header.extent(offset).end].to_vec();
        cases.push(Case { name, bytes, read: Box::new(move |bytes| read_record(bytes, salt)) });
    };
    let value = header(Kind::Value, 1);
    let expiring = RecordHeader { expires_at_ms: 5, ..value };
    let begin = header(Kind::BatchBegin, 1);
    let external = RecordHeader { flags: Flags::EXTERNAL, ..value };
    let array = RecordHeader { flags: Flags::ARRAY, align_log2: 6, ..value };
    let class = ExternalClass::Value;
    let reference = ExternalRef { class, id: 3, data_len: 1 << 40, settled: false };
    let batch = Batch::of([(9, 64), (10, 96)]).unwrap();
    record("value", expiring, &[b"a", b"b"], b"some value");
    record("tombstone", header(Kind::Tombstone, 2), &[], b"");
    record("batch", begin, &[], &batch.encode());
    record("external reference", external, &[], &reference.encode());
    let mut grid = descriptor().encode();
    grid.extend([7; 96]);
    record("array", array, &[], &grid);
    cases.push(Case {
        name: "footer",
        bytes: footer(),
        read: Box::new(|bytes| read_footer(bytes, Salt::new(&UUID, 5), 128 << 10)),
    });
    cases.push(Case {
        name: "external value",
        bytes: external_file(2, b"key", b"data", None),
        read: Box::new(|bytes| read_external(bytes, 2)),
    });
    cases.push(Case {
        name: "external array",
        bytes: external_file(2, b"key", &[7; 96], Some(&descriptor())),
        read: Box::new(|bytes| read_external(bytes, 2)),
    });
    cases
}

/// Reads a record at the start of a segment's data as a store does.
fn read_record(bytes: &[u8], salt: Salt) -> Option<String> {
    let mut file = vec![0; SEGMENT_DATA];
    file.extend_from_slice(bytes);
    let header = RecordHeader::decode(bytes, salt, SEGMENT_DATA as u64).ok()?;
    if !payload_is_intact(&file, SEGMENT_DATA, &header) {
        return None;
    }
    let extent = header.extent(SEGMENT_DATA);
    let key = &file[extent.key_at..extent.key_at + usize::from(header.key_len)];
    let value = &file[extent.value_at..extent.chunks_at];
    let meaning = match header.kind {
        Kind::BatchBegin => format!("{:?}", Batch::decode(value).ok()?),
        _ if header.flags.has(Flags::EXTERNAL) => format!("{:?}", ExternalRef::decode(value).ok()?),
        _ if header.flags.has(Flags::ARRAY) => format!("{:?}", ArrayDescriptor::split(value).ok()?),
        _ => String::new(),
    };
    Some(format!("{header:?} {key:?} {value:?} {meaning}"))
}

/// Entries and trailer of a sealed segment.
fn footer() -> Vec<u8> {
    let segment = segment(5);
    let entries_at = segment.entries_at();
    segment.seal().split_off(entries_at)
}

fn read_footer(bytes: &[u8], salt: Salt, file_len: usize) -> Option<String> {
    let (entries, trailer) = bytes.split_at_checked(bytes.len().checked_sub(TRAILER_LEN)?)?;
    let trailer = Trailer::decode(trailer, salt, file_len).ok()?;
    let whole = entries.len() == trailer.committed.entries as usize * ENTRY_LEN;
    if !whole || crc_from(0, entries) != trailer.entries_crc {
        return None;
    }
    let entries: Result<Vec<_>, _> = entries.chunks(ENTRY_LEN).map(FooterEntry::decode).collect();
    Some(format!("{trailer:?} {:?}", entries.ok()?))
}

fn read_external(bytes: &[u8], id: u64) -> Option<String> {
    let trailer = bytes.get(bytes.len().checked_sub(EXTERNAL_TRAILER_LEN)?..)?;
    let footer = ExternalFooter::decode(trailer, Salt::new(&UUID, id), bytes.len() as u64).ok()?;
    let part = |from: u64, to: u64| &bytes[from.try_into().unwrap()..to.try_into().unwrap()];
    footer.check_tail(part(footer.table_at(), footer.trailer_at())).ok()?;
    let data = part(footer.data_at(), footer.table_at());
    if encode_table(footer.seq, data) != part(footer.table_at(), footer.key_at()) {
        return None;
    }
    let descriptor = part(footer.descriptor_at(), footer.trailer_at());
    let array = match footer.class {
        ExternalClass::Value => None,
        ExternalClass::Array => Some(ArrayDescriptor::decode(descriptor).ok()?),
    };
    let key = part(footer.key_at(), footer.descriptor_at());
    Some(format!("{footer:?} {data:?} {key:?} {array:?}"))
}

#[test]
fn any_damaged_byte_is_refused_or_harmless() {
    for Case { name, bytes, read } in structures().into_iter().chain(carried()) {
        let whole = read(&bytes).unwrap_or_else(|| panic!("{name} is whole"));
        let mut harmless = 0;
        let mut damaged = bytes.clone();
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xFF] {
                damaged[at] ^= change;
                if let Some(found) = read(&damaged) {
                    assert_eq!(found, whole, "{name}, byte {at} ^ {change:#x}");
                    harmless += 1;
                }
                damaged[at] = bytes[at];
            }
        }
        // Nothing checks padding, nor the NumPy header of an external array.
        let unchecked = if name == "external array" { NPY_HEADER_LEN } else { 48 };
        assert!(harmless <= 3 * unchecked, "{name}: {harmless} changes went unnoticed");
    }
}

#[test]
fn checked_structures_have_no_unchecked_byte() {
    for Case { name, bytes, read } in structures() {
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert_eq!(read(&damaged), None, "{name}, byte {at}");
        }
    }
}

#[test]
fn a_structure_cut_short_is_refused() {
    for Case { name, bytes, read } in structures().into_iter().chain(carried()) {
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), None, "{name}, cut to {len} bytes");
        }
    }
}

#[test]
fn zeros_and_ones_are_nothing() {
    for byte in [0, 0xFF] {
        let blank = [byte; 8192];
        for Case { name, read, .. } in structures().into_iter().chain(carried()) {
            assert_eq!(read(&blank), None, "{name} of {byte:#x}");
        }
        // Those that are hints, or that something else covers, are no exception.
        assert!(FooterEntry::decode(&blank).is_err());
        assert!(Batch::decode(&blank).is_err());
        assert!(ExternalRef::decode(&blank).is_err());
        assert!(ArrayDescriptor::decode(&blank).is_err());
    }
    assert!(!Committed::from_bits(0).fits(1 << 20));
    assert!(!Committed::from_bits(u64::MAX).fits(SEGMENT_LEN_MAX as usize));
    assert_eq!(Slot::from_bits(0).state(), SlotState::Empty);
}

#[test]
fn a_structure_counts_only_where_it_belongs() {
    let [store, _, header, ..] = &structures()[..] else { panic!("six cases") };
    assert!(Superblock::decode(&store.bytes).is_ok());
    assert!(matches!(
        SegmentHeader::decode(&header.bytes, &[1; 16], 5),
        Err(FormatError::Foreign { found: UUID, .. })
    ));
    assert!(matches!(
        SegmentHeader::decode(&header.bytes, &UUID, 6),
        Err(FormatError::Field { field: "segment id", found: 5, .. })
    ));
    assert!(Session::decode(&session(1).encode(&UUID), &[1; 16]).is_err());
    assert!(IndexHeader::decode(&index_header().encode(), &UUID, 3).is_err());
    assert!(IndexHeader::decode(&index_header().encode(), &[1; 16], 2).is_err());
    let value = external_file(2, b"key", b"data", None);
    assert!(read_external(&value, 2).is_some());
    assert_eq!(read_external(&value, 3), None);
}

#[test]
fn versions_to_come_are_told_from_damage() {
    // The version is looked at before the checksum, which later versions may place elsewhere.
    let newer = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] = 2;
        bytes
    };
    let header = SegmentWriter::new(5, 65536).header;
    let errors = [
        Superblock::decode(&newer(superblock().encode().to_vec(), 8)).err(),
        SegmentHeader::decode_any(&newer(header.encode().to_vec(), 8)).err(),
        IndexHeader::decode_any(&newer(index_header().encode().to_vec(), 8)).err(),
        ArrayDescriptor::decode(&newer(descriptor().encode(), 4)).err(),
        ExternalFooter::decode_any(&newer(external_file(1, b"", b"", None), 8), 96).err(),
    ];
    for error in errors {
        assert!(matches!(error, Some(FormatError::Version { found: 2, .. })), "{error:?}");
    }
    let mirrored = Superblock { incompatible: 1 << 9, ..superblock() };
    let error = Superblock::decode(&mirrored.encode());
    assert!(matches!(error, Err(FormatError::Features { found: 0x200, .. })), "{error:?}");
}

/// Reads a file in every way that there is; only a panic is a failure.
fn read_every_way(bytes: &[u8]) {
    thread_local! {
        static CASES: Vec<Case> = structures().into_iter().chain(carried()).collect();
    }
    CASES.with(|cases| cases.iter().for_each(|case| drop((case.read)(bytes))));
    let _ = SegmentHeader::decode_any(bytes);
    let _ = IndexHeader::decode_any(bytes).map(|header| (header.file_len(), header.moved_words()));
    let _ = ExternalFooter::decode_any(bytes, bytes.len() as u64);
    for kind in [
        FileKind::detect(bytes),
        FileKind::Store,
        FileKind::Segment,
        FileKind::Index,
        FileKind::External,
        FileKind::Descriptor,
        FileKind::Unknown,
    ] {
        let mut text = String::new();
        dump_limited(kind, bytes, &mut text, 500).unwrap();
        assert!(text.lines().count() <= 501, "{kind:?} keeps to its limit");
    }
}

#[test]
fn cut_files_are_read_without_a_panic() {
    let files = [
        store_file(),
        segment(5).seal(),
        index_file(),
        external_file(1, b"key", &[3; 5000], Some(&descriptor())),
        descriptor().encode(),
    ];
    for file in files {
        for len in (0..300).chain((300..file.len()).step_by(4099)) {
            read_every_way(&file[..len.min(file.len())]);
            read_every_way(&file[file.len() - len.min(file.len())..]);
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn random_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        read_every_way(&bytes);
    }

    #[test]
    fn overwritten_files_are_read_without_a_panic(
        which in 0..4_usize,
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 8]>()), 1..20),
    ) {
        let mut file = match which {
            0 => store_file(),
            1 => segment(5).seal(),
            2 => index_file(),
            _ => external_file(1, b"key", &[3; 5000], Some(&descriptor())),
        };
        for (at, patch) in patches {
            let at = at.index(file.len() - 8);
            put(&mut file, at, &patch);
        }
        read_every_way(&file);
    }

    /// With a mended checksum, fields hold what no writer puts there.
    #[test]
    fn hostile_record_headers_are_refused_or_lie_within_the_bytes(
        mut bytes in prop::array::uniform32(any::<u8>()),
        rest in prop::collection::vec(any::<u8>(), 128..4096),
        offset in 0..4096_u64,
    ) {
        let salt = Salt::new(&UUID, 5);
        bytes[4] = RECORD_MAGIC;
        bytes[17..20].fill(0);
        let mut all = bytes.to_vec();
        all.extend_from_slice(&rest);
        let covered = 32 + if bytes[6] & 1 == 0 { 0 } else { 8 } + usize::from(bytes[7] >> 4) * 8;
        let crc = salt.crc(offset * 16, &all[4..covered]);
        put(&mut all, 0, &crc.to_le_bytes());
        if let Ok(header) = RecordHeader::decode(&all, salt, offset * 16) {
            let start = usize::try_from(offset).unwrap() * 16;
            let extent = header.extent(start);
            prop_assert!(extent.tags_at <= extent.key_at && extent.key_at <= extent.value_at);
            prop_assert!(extent.value_at <= extent.chunks_at && extent.chunks_at <= extent.end);
            prop_assert!(extent.end - start <= all.len() && extent.end % UNIT == 0);
            let tags: Vec<u64> = all[extent.tags_at - start..extent.key_at - start]
                .chunks(8)
                .map(|tag| u64::from_le_bytes(tag.try_into().unwrap()))
                .collect();
            let encoded = header.encode(salt, offset * 16, &tags);
            prop_assert_eq!(encoded.as_bytes(), &all[..covered]);
        }
    }
}
