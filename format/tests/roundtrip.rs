//! Promise: what was encoded is what is decoded.
//! Method: structures with fields drawn at random, all of their ranges included.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
#![allow(clippy::unwrap_used, reason = "not in a #[test] function, but only for tests")]

mod common;

use common::{SegmentWriter, UUID, external_file};
use larder_format::layout::*;
use larder_format::scan::payload_is_intact;
use larder_format::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn kinds() -> impl Strategy<Value = Kind> {
    (1..=6_u8).prop_map(|number| Kind::from_u8(number).unwrap())
}

fn flags() -> impl Strategy<Value = Flags> {
    let all = [
        Flags::REPLACED,
        Flags::MOVED,
        Flags::EXTERNAL,
        Flags::COMPRESSED,
        Flags::ARRAY,
        Flags::BATCHED,
    ];
    prop::sample::subsequence(all.to_vec(), 0..=6)
        .prop_map(|flags| flags.into_iter().fold(Flags::NONE, Flags::with))
}

prop_compose! {
    fn headers()(
        kind in kinds(),
        flags in flags(),
        align_log2 in 4..=12_u8,
        seq in 1..u64::MAX,
        codec: (u8, u8),
        written_ms: u32,
        expires_at_ms in prop_oneof![Just(u64::MAX), any::<u64>()],
    ) -> RecordHeader {
        let codec = CodecId { id: codec.0, version: codec.1 };
        RecordHeader {
            flags, align_log2, codec, written_ms, expires_at_ms,
            ..RecordHeader::new(kind, seq, 0, 0)
        }
    }
}

fn dtypes() -> impl Strategy<Value = (DType, u32)> {
    (prop::sample::select(DType::ALL.to_vec()), 1..=100_u32)
        .prop_map(|(dtype, len)| (dtype, dtype.item_len().unwrap_or(len)))
}

prop_compose! {
    fn arrays()(
        (dtype, item_len) in dtypes(),
        fortran: bool,
        shape in vec(0..20_u64, 0..=6),
        alignment in prop::sample::select(vec![Alignment::Line, Alignment::Wide, Alignment::Page]),
        compressed: bool,
        chunk_log2 in 16..=20_u8,
    ) -> ArrayDescriptor {
        let order = if fortran { Order::Fortran } else { Order::C };
        let compression = if compressed { Compression::ShuffledZstd } else { Compression::None };
        ArrayDescriptor::new(dtype, item_len, order, &shape).unwrap()
            .with_alignment(alignment)
            .with_compression(compression)
            .with_chunk_log2(chunk_log2).unwrap()
    }
}

proptest! {
    #![proptest_config(common::cases(256))]

    #[test]
    fn superblocks(
        hash_seed: [u8; 16], uuid: [u8; 16], compatible: u64, read_only_compatible: u64,
        segment_bits in 16..=26_u32, external in any::<prop::sample::Index>(),
        index_base_bits in 0..=PAGE_BITS_MAX, created_ms: u64,
    ) {
        let segment_len = 1 << segment_bits;
        let external_min = 1 + u32::try_from(external.index(segment_len as usize / 2)).unwrap();
        let superblock = Superblock {
            uuid, hash_seed, compatible, read_only_compatible, incompatible: 0,
            segment_len, index_base_bits, external_min, created_ms,
        };
        prop_assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
    }

    #[test]
    fn sessions(
        epoch in 1..1_u64 << 24, ids: ([u8; 16], u64, u64, u64), clean: bool, suspect: bool,
        opened_ms: u64, pid: u32, words_crc: u32, segments_crc: u32,
    ) {
        let (boot_id, device, inode, mount_id) = ids;
        let boot = BootIdentity { boot_id, device, inode, mount_id };
        let cleared_seq = opened_ms;
        let session = Session { epoch, boot, clean, suspect, opened_ms, pid, words_crc, segments_crc, cleared_seq, settled_seq: pid.into() };
        prop_assert_eq!(Session::decode(&session.encode(&UUID), &UUID), Ok(session));
    }

    #[test]
    fn segment_headers(
        uuid: [u8; 16], id: u64, base_seq: u64, created_ms: u64, bits in 16..=26_u32, lane: u32,
    ) {
        let header = SegmentHeader { uuid, id, base_seq, created_ms, file_len: 1 << bits, lane };
        prop_assert_eq!(SegmentHeader::decode(&header.encode(), &uuid, id), Ok(header));
    }

    #[test]
    fn footer_entries(
        key_hash: u64, offset_units in 0..1_u32 << 27, kind in kinds(), replaced: bool, external: bool,
        delta in 0..u32::MAX, known: bool,
    ) {
        let seq_delta = known.then_some(delta);
        let entry = FooterEntry { key_hash, offset_units, kind, replaced, external, seq_delta };
        prop_assert_eq!(FooterEntry::decode(&entry.encode()), Ok(entry));
    }

    #[test]
    fn trailers(id: u64, tail in 256..3000_u32, entries in 0..1000_u32, seqs: (u64, u64), next: u64) {
        let (salt, file_len) = (Salt::new(&UUID, id), 65536);
        let trailer = Trailer {
            id, committed: Committed { tail_units: tail, entries }, entries_crc: tail ^ entries,
            min_seq: seqs.0, max_seq: seqs.1, sealed_before: next,
        };
        prop_assert_eq!(Trailer::decode(&trailer.encode(salt, file_len), salt, file_len), Ok(trailer));
    }

    #[test]
    fn index_headers(uuid: [u8; 16], generation in 1..u32::MAX, base in 0..=10_u8, splits in 0..=14_u8) {
        let geometry = Geometry { page_bits: base + splits, base_bits: base };
        let header = IndexHeader { uuid, generation, geometry };
        prop_assert_eq!(IndexHeader::decode(&header.encode(), &uuid, generation), Ok(header));
        prop_assert_eq!(header.file_len() % PAGE, 0);
        prop_assert!(header.moved_words() * 64 * 2 >= geometry.pages(), "a bit for each old page");
    }

    #[test]
    fn records(
        header in headers(), tags in vec(vec(any::<u8>(), 0..8), 0..=15),
        key in vec(any::<u8>(), 0..300), value in vec(any::<u8>(), 0..300), before in 0..200_usize,
    ) {
        let mut segment = SegmentWriter::new(1, 64 << 10);
        segment.hole(before * 16);
        let tags: Vec<&[u8]> = tags.iter().map(Vec::as_slice).collect();
        let (offset, header) = segment.record(header, &tags, &key, &value);
        let decoded = RecordHeader::decode(&segment.bytes[offset..], segment.salt(), offset as u64).unwrap();
        let expires = header.expires_at_ms != u64::MAX;
        let flags = if expires { header.flags.with(Flags::EXPIRES) } else { header.flags };
        prop_assert_eq!(decoded, RecordHeader { flags, ..header });
        let extent = decoded.extent(offset);
        prop_assert_eq!(&segment.bytes[extent.key_at..][..key.len()], &key);
        prop_assert_eq!(&segment.bytes[extent.value_at..extent.chunks_at], &value);
        prop_assert!(value.is_empty() || extent.value_at.is_multiple_of(1 << header.align_log2));
        prop_assert!(payload_is_intact(&segment.bytes, offset, &decoded));
        // Whoever expects the record one unit further finds none.
        prop_assert!(RecordHeader::decode(&segment.bytes[offset..], segment.salt(), offset as u64 + 16).is_err());
    }

    #[test]
    fn batches(records in vec((1..u64::MAX, 2..100_usize), 1..50)) {
        let records = records.into_iter().map(|(seq, units)| (seq, units * UNIT));
        let batch = Batch::of(records).unwrap();
        prop_assert_eq!(Batch::decode(&batch.encode()), Ok(batch));
    }

    #[test]
    fn external_references(array: bool, settled: bool, id: u64, data_len in 0..=EXTERNAL_DATA_MAX) {
        let class = if array { ExternalClass::Array } else { ExternalClass::Value };
        let reference = ExternalRef { class, id, data_len, settled };
        prop_assert_eq!(ExternalRef::decode(&reference.encode()), Ok(reference));
    }

    #[test]
    fn external_trailers(
        uuid: [u8; 16], id: u64, seq in 1..u64::MAX, key_hash: u64,
        data_len in prop_oneof![0..=EXTERNAL_DATA_MAX, Just(EXTERNAL_DATA_MAX), 0..1_u64 << 20],
        key_len in 0..=32768_u32, descriptor_len in prop_oneof![Just(0), 32..=4096_u32], tail_crc: u32,
    ) {
        let class = if descriptor_len == 0 { ExternalClass::Value } else { ExternalClass::Array };
        let footer = ExternalFooter {
            uuid, id, class, seq, key_hash, data_len, key_len, descriptor_len, tail_crc,
        };
        let (bytes, file_len) = (footer.encode(), footer.file_len());
        prop_assert_eq!(ExternalFooter::decode(&bytes, footer.salt(), file_len), Ok(footer));
        prop_assert_eq!(ExternalFooter::decode_any(&bytes, file_len), Ok(footer));
        prop_assert!(ExternalFooter::decode_any(&bytes, file_len + 1).is_err());
        prop_assert!(ExternalFooter::decode_any(&bytes, file_len - 1).is_err());
        let parts = [
            footer.data_at(), footer.table_at(), footer.key_at(), footer.descriptor_at(),
            footer.trailer_at(), file_len,
        ];
        prop_assert!(parts.is_sorted());
    }

    #[test]
    fn array_descriptors(array in arrays()) {
        let bytes = array.encode();
        prop_assert_eq!(bytes.len(), array.encoded_len());
        prop_assert_eq!(bytes.len() % array.alignment().bytes(), 0);
        prop_assert_eq!(ArrayDescriptor::decode(&bytes), Ok(array));
        prop_assert_eq!(array.len(), array.shape().iter().product::<u64>());
        prop_assert_eq!(array.data_len(), array.len() * u64::from(array.item_len()));
    }

    /// The last element ends where the data ends, and no two elements share a place.
    #[test]
    fn strides_reach_every_element(array in arrays()) {
        prop_assume!(!array.is_empty());
        let strides = array.strides_bytes();
        let last: u64 = array.shape().iter().zip(&strides).map(|(axis, step)| (axis - 1) * step).sum();
        prop_assert_eq!(last + u64::from(array.item_len()), array.data_len());
    }

    #[test]
    fn numpy_headers_fill_a_page(array in arrays()) {
        let header = array.npy_header();
        prop_assert_eq!(header.len(), NPY_HEADER_LEN);
        let start = b"\x93NUMPY\x01\x00\xf6\x0f{'descr': '";
        prop_assert!(header.starts_with(start));
        prop_assert!(header.ends_with(b" \n"));
        prop_assert!(header[10..4095].iter().all(|byte| (b' '..=b'~').contains(byte)));
        let read = NpyHeader::decode(&header).unwrap();
        prop_assert_eq!(read.data_at(), NPY_HEADER_LEN);
        prop_assert!(!read.is_big_endian());
        let plain = ArrayDescriptor::new(array.dtype(), array.item_len(), array.order(), array.shape());
        prop_assert_eq!(Ok(*read.descriptor()), plain);
        prop_assert_eq!(read.descriptor().npy_header(), header);
    }

    #[test]
    fn external_files_are_as_long_as_they_say(key in vec(any::<u8>(), 0..50), data in vec(any::<u8>(), 0..3000)) {
        let bytes = external_file(4, &key, &data, None);
        let trailer = &bytes[bytes.len() - EXTERNAL_TRAILER_LEN..];
        let footer = ExternalFooter::decode_any(trailer, bytes.len() as u64).unwrap();
        let at = usize::try_from(footer.key_at()).unwrap();
        prop_assert_eq!(&bytes[at..at + key.len()], &key);
    }

    #[test]
    fn committed_words(bits: u64) {
        let committed = Committed::from_bits(bits);
        prop_assert_eq!(committed.to_bits(), bits);
        if committed.fits(1 << 20) {
            prop_assert!(committed.tail() + committed.entries as usize * ENTRY_LEN <= (1 << 20) - TRAILER_LEN);
        }
    }
}

#[test]
fn impossible_arrays_are_refused() {
    let new = |dtype, len, shape: &[u64]| ArrayDescriptor::new(dtype, len, Order::C, shape);
    assert!(new(DType::F32, 8, &[1]).is_err(), "item length");
    assert!(new(DType::Bytes, 0, &[1]).is_err(), "item length of nothing");
    assert!(new(DType::U8, 1, &[1; 33]).is_err(), "axes");
    assert!(new(DType::U8, 1, &[1; 32]).is_ok());
    assert!(new(DType::U8, 1, &[1 << 48]).is_ok());
    assert!(new(DType::U16, 2, &[1 << 48]).is_err(), "data length");
    assert!(new(DType::U8, 1, &[u64::MAX, u64::MAX]).is_err(), "overflow");
    assert!(new(DType::U8, 1, &[1 << 32, 1 << 32]).is_err(), "overflow to zero");
    assert!(new(DType::U8, 1, &[0, u64::MAX, 2]).is_err(), "strides overflow though it is empty");
    assert!(new(DType::U8, 1, &[0, 5, 0]).is_ok_and(|array| array.is_empty()));
    assert!(new(DType::F64, 8, &[]).is_ok_and(|array| array.len() == 1 && array.data_len() == 8));
}

#[test]
fn hostile_external_lengths_are_refused() {
    let base = ExternalFooter {
        uuid: UUID,
        id: 1,
        class: ExternalClass::Value,
        seq: 1,
        key_hash: 0,
        data_len: 10,
        key_len: 3,
        descriptor_len: 0,
        tail_crc: 0,
    };
    let refused = |footer: ExternalFooter| {
        let file_len = footer.file_len();
        ExternalFooter::decode_any(&footer.encode(), file_len).is_err()
    };
    assert!(!refused(base));
    assert!(refused(ExternalFooter { data_len: u64::MAX, ..base }));
    assert!(refused(ExternalFooter { data_len: EXTERNAL_DATA_MAX + 1, ..base }));
    assert!(refused(ExternalFooter { key_len: u32::MAX, ..base }));
    assert!(refused(ExternalFooter { descriptor_len: 64, ..base }));
    assert!(refused(ExternalFooter { class: ExternalClass::Array, ..base }));
    assert!(refused(ExternalFooter { seq: 0, ..base }));
}

#[test]
fn numpy_knows_the_types_by_these_names() {
    let names: Vec<String> = DType::ALL
        .into_iter()
        .map(|dtype| {
            ArrayDescriptor::new(dtype, dtype.item_len().unwrap_or(5), Order::C, &[])
                .unwrap()
                .descr()
        })
        .collect();
    let expected = [
        "|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<V2", "<f4", "<f8",
        "<c8", "<c16", "|S5",
    ];
    assert_eq!(names, expected);
}

#[test]
fn shapes_are_written_as_python_tuples() {
    let text = |order, shape: &[u64]| {
        let array = ArrayDescriptor::new(DType::I16, 2, order, shape).unwrap();
        String::from_utf8(array.npy_header().split_off(10)).unwrap().trim_end().to_owned()
    };
    let start = "{'descr': '<i2', 'fortran_order': False, 'shape': ";
    assert_eq!(text(Order::C, &[]), format!("{start}(), }}"));
    assert_eq!(text(Order::C, &[3]), format!("{start}(3,), }}"));
    assert_eq!(text(Order::C, &[3, 0, 5]), format!("{start}(3, 0, 5), }}"));
    assert!(text(Order::Fortran, &[2, 2]).contains("'fortran_order': True"));
}

#[test]
fn strides_follow_the_order() {
    let strides =
        |order| ArrayDescriptor::new(DType::F32, 4, order, &[2, 3, 4]).unwrap().strides_bytes();
    assert_eq!(strides(Order::C), [48, 16, 4]);
    assert_eq!(strides(Order::Fortran), [4, 8, 24]);
}
