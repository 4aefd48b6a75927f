//! The format under hostile bytes: nothing panics, nothing reaches past its bytes, and what is
//! accepted encodes to what was decoded.
//!
//! Checksums are mended before decoding where that is the point: a fuzzer does not guess them,
//! and behind them lie the checks of the fields.

use larder_format::dump::dump_limited;
use larder_format::hash::crc_from;
use larder_format::layout::*;
use larder_format::scan::payload_is_intact;
use larder_format::slot::{buckets, other_bucket};
use larder_format::*;

const UUID: [u8; 16] = *b"uuid of the fuzz";
const ID: u64 = 5;

fn salt() -> Salt {
    Salt::new(&UUID, ID)
}

/// Puts the right checksum over `bytes[4..covered]` into their first four.
fn mend(bytes: &mut [u8], covered: usize, crc: impl Fn(&[u8]) -> u32) {
    if let Some(body) = bytes.get(4..covered) {
        let crc = crc(body).to_le_bytes();
        bytes[..4].copy_from_slice(&crc);
    }
}

/// Makes the header at the start of `bytes` one that belongs to `offset`.
fn mend_record(bytes: &mut [u8], offset: usize) {
    if bytes.len() < RECORD_HEADER_LEN {
        return;
    }
    let expiry = if bytes[6] & Flags::EXPIRES.bits() == 0 { 0 } else { 8 };
    let covered = RECORD_HEADER_LEN + expiry + usize::from(bytes[7] >> 4) * 8;
    mend(bytes, covered, |body| salt().crc(offset as u64, body));
}

/// What has to hold of any record that was accepted at `offset` of `file`.
fn check_record(file: &[u8], offset: usize, header: &RecordHeader) {
    let extent = header.extent(offset);
    assert!(offset + RECORD_HEADER_LEN <= extent.tags_at);
    assert!(extent.tags_at <= extent.key_at);
    assert!(extent.key_at + usize::from(header.key_len) <= extent.value_at);
    assert_eq!(extent.value_at + header.value_len as usize, extent.chunks_at);
    assert!(extent.chunks_at + header.chunk_count() * 4 <= extent.end);
    assert!(extent.end <= file.len() && extent.end.is_multiple_of(UNIT));
    let _ = payload_is_intact(file, offset, header);
    let tags: Vec<u64> = file[extent.tags_at..extent.key_at]
        .as_chunks()
        .0
        .iter()
        .map(|tag| u64::from_le_bytes(*tag))
        .collect();
    let encoded = header.encode(salt(), offset as u64, &tags);
    assert_eq!(encoded.as_bytes(), &file[offset..extent.key_at], "accepted is what is written");
    let value = &file[extent.value_at..extent.chunks_at];
    let _ = (Batch::decode(value), ExternalRef::decode(value), ArrayDescriptor::split(value));
}

/// A record with a mended checksum; the first byte says where it stands.
pub fn record_decode(data: &[u8]) {
    let Some((place, record)) = data.split_first() else { return };
    let offset = usize::from(*place) * UNIT;
    let mut file = vec![0; offset];
    file.extend_from_slice(record);
    let _ = RecordHeader::decode(&file[offset..], salt(), offset as u64);
    mend_record(&mut file[offset..], offset);
    if let Ok(header) = RecordHeader::decode(&file[offset..], salt(), offset as u64) {
        check_record(&file, offset, &header);
    }
}

/// A segment in which everything that looks like a header has a right checksum, except behind
/// an odd unit number in the first byte.
pub fn segment_scan(data: &[u8]) {
    let Some((odd, segment)) = data.split_first() else { return };
    let mut file = segment.to_vec();
    for at in (0..file.len()).step_by(UNIT) {
        let spared = odd & 1 == 1 && (at / UNIT) & 1 == 1;
        if file.get(at + 4) == Some(&RECORD_MAGIC) && !spared {
            mend_record(&mut file[at..], at);
        }
    }
    let from = usize::from(odd >> 1);
    let mut end = from.next_multiple_of(UNIT);
    let mut after_hole = false;
    for found in Scan::new(&file, salt(), from, file.len()) {
        match found {
            Scanned::Record { offset, header } => {
                assert_eq!(offset, end, "no gap");
                check_record(&file, offset, &header);
                end = header.extent(offset).end;
                after_hole = false;
            }
            Scanned::Hole { from, to } => {
                assert!(from == end && from < to, "no gap, and something in it");
                assert!(!after_hole, "holes are reported whole");
                end = to;
                after_hole = true;
            }
        }
    }
    assert!(end == file.len() || end > file.len() && file.len() <= from.next_multiple_of(UNIT));
}

/// An index file: its header, and every word as a slot.
pub fn index_image(data: &[u8]) {
    let _ = IndexHeader::decode_any(data);
    let mut file = data.to_vec();
    mend(&mut file, INDEX_HEADER_LEN, |body| crc_from(0, body));
    let header = IndexHeader::decode_any(&file);
    let geometry = header.as_ref().map_or(Geometry { page_bits: 3, base_bits: 1 }, |h| h.geometry);
    if let Ok(header) = header {
        assert_eq!(IndexHeader::decode_any(&header.encode()), Ok(header));
        assert!(header.moved_at() >= INDEX_DATA + header.geometry.pages() * PAGE);
        assert!(header.file_len() >= header.moved_at() + header.moved_words() * 8);
    }
    for word in file.as_chunks::<8>().0 {
        let bits = u64::from_le_bytes(*word);
        let slot = Slot::from_bits(bits);
        // What is tentative is given up.
        let kept = match slot.state() {
            SlotState::Tentative => SlotState::Empty,
            state => state,
        };
        assert_eq!(slot.freeze().state(), kept);
        assert_eq!(slot.freeze().thaw().state(), kept);
        assert!(slot.offset() < SEGMENT_LEN_MAX as usize);
        let [first, second] = buckets(bits);
        assert!(first != second && first < PAGE_BUCKETS && second < PAGE_BUCKETS);
        assert_eq!(other_bucket(second, slot), first);
        let page = geometry.page(bits);
        assert!(page < geometry.pages());
        if let Some(doubled) = geometry.doubled() {
            assert_eq!(doubled.page(bits), geometry.split_page(page, slot));
        }
    }
}

/// A superblock and a session slot, as they are and mended.
pub fn superblock(data: &[u8]) {
    let _ = (Superblock::decode(data), Session::decode(data, &UUID));
    let mut file = data.to_vec();
    if let Some(block) = file.first_chunk_mut::<SUPERBLOCK_LEN>() {
        let (body, crc) = block.split_at_mut(SUPERBLOCK_LEN - 4);
        crc.copy_from_slice(&crc_from(0, body).to_le_bytes());
    }
    if let Ok(superblock) = Superblock::decode(&file) {
        assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
        assert!(superblock.segment_len.is_power_of_two());
    }
    for at in [0, SUPERBLOCK_LEN] {
        let Some(slot) = file.get_mut(at..) else { continue };
        mend(slot, SESSION_LEN, |body| crc_from(crc_from(0, &UUID), body));
        if let Ok(session) = Session::decode(slot, &UUID) {
            assert_eq!(Session::decode(&session.encode(&UUID), &UUID), Ok(session));
            assert!(session.first_seq() > 0, "the first sequence number is not 0");
        }
    }
}

/// The end of an external file, and a descriptor at its start.
pub fn external_array(data: &[u8]) {
    let _ = ExternalRef::decode(data).map(|found| {
        assert_eq!(ExternalRef::decode(&found.encode()), Ok(found));
    });
    if let Ok(array) = ArrayDescriptor::decode(data) {
        assert_eq!(array.encode(), data[..array.encoded_len()]);
        let header = array.npy_header();
        assert!(header.len() == NPY_HEADER_LEN && header.ends_with(b"\n"));
        assert_eq!(array.strides_bytes().len(), array.shape().len());
        assert_eq!(array.len() * u64::from(array.item_len()), array.data_len());
        let _ = ArrayDescriptor::split(data);
    }
    let file_len = data.len() as u64;
    let Some(trailer_at) = data.len().checked_sub(EXTERNAL_TRAILER_LEN) else { return };
    let mut trailer = data[trailer_at..].to_vec();
    let _ = ExternalFooter::decode_any(&trailer, file_len);
    mend(&mut trailer, EXTERNAL_TRAILER_LEN, |body| salt().crc(trailer_at as u64, body));
    if let Ok(footer) = ExternalFooter::decode(&trailer, salt(), file_len) {
        let parts = [
            footer.data_at(),
            footer.table_at(),
            footer.key_at(),
            footer.descriptor_at(),
            footer.trailer_at(),
        ];
        assert!(parts.is_sorted() && footer.file_len() == file_len);
        let table_at = usize::try_from(footer.table_at()).expect("within the file");
        let _ = footer.check_tail(&data[table_at..trailer_at]);
        let encoded = footer.encode();
        assert_eq!(ExternalFooter::decode_any(&encoded, file_len), Ok(footer));
    }
}

/// A NumPy header as it is, and as the text of one of each version.
pub fn npy_header(data: &[u8]) {
    let _ = NpyHeader::header_len(data).map(|len| assert!(len < 12 + 65_536));
    check_npy(data);
    let Ok(len) = u16::try_from(data.len()) else { return };
    let [low, high] = len.to_le_bytes();
    check_npy(&[b"\x93NUMPY\x01\x00", &[low, high][..], data].concat());
    for version in [2, 3] {
        check_npy(&[b"\x93NUMPY", &[version, 0, low, high, 0, 0][..], data].concat());
    }
}

fn check_npy(file: &[u8]) {
    let header = match NpyHeader::decode(file) {
        Ok(header) => header,
        Err(error) => return assert!(error.to_string().len() < 300, "a message is short"),
    };
    assert_eq!(NpyHeader::header_len(file), Ok(header.data_at()));
    assert_eq!(NpyHeader::decode(&file[..header.data_at()]), Ok(header));
    assert!(NpyHeader::decode(&file[..header.data_at() - 1]).is_err());
    let array = *header.descriptor();
    assert_eq!(ArrayDescriptor::decode(&array.encode()), Ok(array));
    let ours = NpyHeader::decode(&array.npy_header()).expect("ours is read back");
    assert!(*ours.descriptor() == array && !ours.is_big_endian());
}

/// A descriptor, behind which the data of an array in a segment would stand.
pub fn array_descriptor(data: &[u8]) {
    let array = match ArrayDescriptor::decode(data) {
        Ok(array) => array,
        Err(error) => return assert!(error.to_string().len() < 300, "a message is short"),
    };
    let len = array.encoded_len();
    assert!(len.is_multiple_of(array.alignment().bytes()) && len <= ARRAY_DESCRIPTOR_MAX);
    assert_eq!(array.encode(), data[..len]);
    assert!(ArrayDescriptor::decode(&data[..len - 1]).is_err());
    assert!(array.data_len() <= EXTERNAL_DATA_MAX);
    assert_eq!(array.shape().iter().product::<u64>(), array.len());
    let strides = array.strides_bytes();
    let reach: u64 = array.shape().iter().zip(&strides).map(|(n, step)| n.max(&1) * step).sum();
    assert!(reach <= EXTERNAL_DATA_MAX * strides.len() as u64, "no stride overflows");
    if let Ok((split, stored)) = ArrayDescriptor::split(data) {
        assert!(split == array && stored == &data[len..]);
    }
    let npy = NpyHeader::decode(&array.npy_header()).expect("NumPy reads it, and so do we");
    let shown = (array.dtype(), array.item_len(), array.order(), array.shape());
    let read = npy.descriptor();
    assert_eq!((read.dtype(), read.item_len(), read.order(), read.shape()), shown);
}

/// Any file, dumped as what it looks like and as what the first byte says.
pub fn dump(data: &[u8]) {
    const LIMIT: usize = 300;
    let Some((kind, file)) = data.split_first() else { return };
    let kinds = [
        FileKind::Store,
        FileKind::Segment,
        FileKind::Index,
        FileKind::External,
        FileKind::Descriptor,
        FileKind::Unknown,
    ];
    for kind in [kinds[usize::from(*kind) % kinds.len()], FileKind::detect(file)] {
        let mut text = String::new();
        dump_limited(kind, file, &mut text, LIMIT).expect("strings take everything");
        assert!(text.lines().count() <= LIMIT + 1, "keeps to its limit");
        assert!(text.lines().all(|line| line.len() < 500), "and to short lines");
    }
}
