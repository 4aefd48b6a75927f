//! A writer of small files: the format crate itself only knows how to encode the parts.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, reason = "not in a #[test] function, but only for tests")]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]

use larder_format::external::encode_table;
use larder_format::hash::crc_from;
use larder_format::layout::*;
use larder_format::record::payload_crc;
use larder_format::scan::encode_chunk_table;
use larder_format::segment::entry_at;
use larder_format::*;
use proptest::test_runner::{Config, RngSeed};

pub const UUID: [u8; 16] = *b"\x10\x32\x54\x76\x98\xba\xdc\xfe\x01\x23\x45\x67\x89\xab\xcd\xef";
pub const SEED: [u8; 16] = *b"seed of the hash";
/// 2026-01-01, in ms.
pub const CREATED_MS: u64 = 1_767_225_600_000;

/// The same cases in every run; a seed of one's own is a matter for the fuzzer.
pub fn cases(count: u32) -> Config {
    Config {
        cases: count,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..Config::default()
    }
}

pub fn superblock() -> Superblock {
    Superblock {
        uuid: UUID,
        hash_seed: SEED,
        compatible: 0,
        read_only_compatible: 0,
        incompatible: 0,
        segment_len: 128 << 10,
        index_base_bits: 0,
        external_min: 32 << 10,
        created_ms: CREATED_MS,
    }
}

pub fn session(epoch: u64) -> Session {
    Session {
        epoch,
        boot: BootIdentity {
            boot_id: *b"this boot, no id",
            device: 0x1_0302,
            inode: 131_073,
            mount_id: 4_294_967_339,
        },
        clean: false,
        suspect: false,
        opened_ms: CREATED_MS + epoch * 1000,
        pid: 4321,
        words_crc: 0,
        segments_crc: 0,
        cleared_seq: 0,
        settled_seq: 0,
    }
}

pub fn store_file() -> Vec<u8> {
    let mut bytes = vec![0; STORE_FILE_LEN];
    put(&mut bytes, 0, &superblock().encode());
    put(&mut bytes, SESSION_AT[0], &Session { clean: true, ..session(1) }.encode(&UUID));
    put(&mut bytes, SESSION_AT[1], &Session { suspect: true, ..session(2) }.encode(&UUID));
    put(&mut bytes, SHARED_NEXT_SEQ, &((2 << 40) + 17_u64).to_le_bytes());
    put(&mut bytes, SHARED_NEXT_SEGMENT, &6_u64.to_le_bytes());
    put(&mut bytes, SHARED_NEXT_EXTERNAL, &2_u64.to_le_bytes());
    put(&mut bytes, SHARED_GENERATIONS, &(2_u64 | 1 << 32).to_le_bytes());
    put(&mut bytes, SHARED_ENTRIES, &11_u64.to_le_bytes());
    bytes
}

pub fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    bytes[at..at + part.len()].copy_from_slice(part);
}

/// Grows a segment in memory, as a writer does in a mapping.
pub struct SegmentWriter {
    pub bytes: Vec<u8>,
    pub header: SegmentHeader,
    pub committed: Committed,
    seqs: Vec<u64>,
}

impl SegmentWriter {
    pub fn new(id: u64, file_len: u32) -> Self {
        let header = SegmentHeader {
            uuid: UUID,
            id,
            base_seq: 1 << 40,
            created_ms: CREATED_MS,
            file_len,
            lane: 1,
        };
        let mut bytes = vec![0; file_len as usize];
        put(&mut bytes, 0, &header.encode());
        put(&mut bytes, SEGMENT_STATE, &(SegmentState::Open as u64).to_le_bytes());
        Self { bytes, header, committed: Committed::EMPTY, seqs: Vec::new() }
    }

    pub fn salt(&self) -> Salt {
        Salt::new(&self.header.uuid, self.header.id)
    }

    /// Appends a record; its lengths, tag count and checksum are filled in. Returns where it
    /// starts and the header as written.
    pub fn record(
        &mut self,
        header: RecordHeader,
        tags: &[&[u8]],
        key: &[u8],
        value: &[u8],
    ) -> (usize, RecordHeader) {
        let hasher = KeyHasher::new(SEED);
        let tags: Vec<u64> = tags.iter().map(|tag| hasher.hash(tag)).collect();
        let mut header = RecordHeader {
            tag_count: tags.len().try_into().unwrap(),
            key_len: key.len().try_into().unwrap(),
            value_len: value.len().try_into().unwrap(),
            ..header
        };
        let table = encode_chunk_table(header.seq, value);
        let offset = self.committed.tail();
        let extent = header.extent(offset);
        put(&mut self.bytes, extent.key_at, key);
        put(&mut self.bytes, extent.value_at, value);
        put(&mut self.bytes, extent.chunks_at, &table);
        let payload =
            if header.is_chunked() { key } else { &self.bytes[extent.key_at..extent.chunks_at] };
        header.payload_crc = payload_crc(header.seq, payload, &table);
        let encoded = header.encode(self.salt(), offset as u64, &tags);
        put(&mut self.bytes, offset, encoded.as_bytes());
        let entry = FooterEntry {
            key_hash: hasher.hash(key),
            offset_units: (offset / UNIT).try_into().unwrap(),
            kind: header.kind,
            replaced: header.flags.has(Flags::REPLACED),
            external: header.flags.has(Flags::EXTERNAL),
            seq_delta: header
                .seq
                .checked_sub(self.header.base_seq)
                .and_then(|delta| u32::try_from(delta).ok()),
        };
        let entry_at = entry_at(self.bytes.len(), self.committed.entries as usize);
        put(&mut self.bytes, entry_at, &entry.encode());
        self.seqs.push(header.seq);
        self.committed.entries += 1;
        self.committed.tail_units = (extent.end / UNIT).try_into().unwrap();
        self.commit();
        (offset, header)
    }

    /// Leaves a hole, as a writer that died before its header was there.
    pub fn hole(&mut self, len: usize) -> usize {
        let offset = self.committed.tail();
        self.committed.tail_units += u32::try_from(len / UNIT).unwrap();
        self.commit();
        offset
    }

    fn commit(&mut self) {
        put(&mut self.bytes, SEGMENT_COMMITTED, &self.committed.to_bits().to_le_bytes());
    }

    pub fn entries_at(&self) -> usize {
        match self.committed.entries as usize {
            0 => self.bytes.len() - TRAILER_LEN,
            count => entry_at(self.bytes.len(), count - 1),
        }
    }

    pub fn trailer(&self) -> Trailer {
        let trailer_at = self.bytes.len() - TRAILER_LEN;
        Trailer {
            id: self.header.id,
            committed: self.committed,
            entries_crc: crc_from(0, &self.bytes[self.entries_at()..trailer_at]),
            min_seq: self.seqs.iter().copied().min().unwrap_or(u64::MAX),
            max_seq: self.seqs.iter().copied().max().unwrap_or(0),
            sealed_before: self.header.id + 1,
        }
    }

    pub fn seal(mut self) -> Vec<u8> {
        let file_len = self.bytes.len();
        let trailer = self.trailer().encode(self.salt(), file_len);
        put(&mut self.bytes, file_len - TRAILER_LEN, &trailer);
        let committed = self.committed.to_bits().to_le_bytes();
        put(&mut self.bytes, SEGMENT_SYNCED, &committed);
        put(&mut self.bytes, SEGMENT_STATE, &(SegmentState::Sealed as u64).to_le_bytes());
        self.bytes
    }
}

pub fn header(kind: Kind, seq: u64) -> RecordHeader {
    RecordHeader::new(kind, (1 << 40) + seq, 0, 0)
}

/// A segment with a record of every sort.
pub fn segment(id: u64) -> SegmentWriter {
    let mut segment = SegmentWriter::new(id, 128 << 10);
    let value = RecordHeader { written_ms: 1500, ..header(Kind::Value, 1) };
    segment.record(value, &[], b"user:1", b"Ada Lovelace");
    let expiring = RecordHeader {
        expires_at_ms: CREATED_MS + 60_000,
        codec: CodecId { id: 2, version: 3 },
        flags: Flags::REPLACED,
        ..header(Kind::Value, 2)
    };
    segment.record(expiring, &[b"news", b"front"], b"page \xff\n", br#"{"n":1}"#);
    segment.record(
        RecordHeader { flags: Flags::REPLACED, ..header(Kind::Tombstone, 3) },
        &[],
        b"user:1",
        b"",
    );
    segment.record(header(Kind::TagInvalidation, 4), &[], b"news", b"");
    batch(&mut segment, 5);
    let external =
        RecordHeader { flags: Flags::EXTERNAL.with(Flags::MOVED), ..header(Kind::Value, 9) };
    let reference = ExternalRef { class: ExternalClass::Array, id: 1, data_len: 96, settled: true };
    segment.record(RecordHeader { seq: 77, ..external }, &[], b"weights", &reference.encode());
    let array = RecordHeader {
        flags: Flags::ARRAY,
        align_log2: 6,
        codec: CodecId { id: 3, version: 1 },
        ..header(Kind::Value, 10)
    };
    let mut value = descriptor().encode();
    value.extend((0..96).map(|n: u8| n));
    segment.record(array, &[], b"grid", &value);
    let long: Vec<u8> = (1..=251).cycle().take(CHUNK + 1000).collect();
    segment.record(header(Kind::Value, 11), &[], b"long", &long);
    segment
}

fn batch(segment: &mut SegmentWriter, seq: u64) {
    let batched = |seq| RecordHeader { flags: Flags::BATCHED, ..header(Kind::Value, seq) };
    let records = [(batched(seq + 1), b"a", b"1"), (batched(seq + 2), b"b", b"2")];
    let batch = Batch::of(records.iter().map(|(header, key, value)| {
        let header = RecordHeader {
            key_len: key.len().try_into().unwrap(),
            value_len: value.len().try_into().unwrap(),
            ..*header
        };
        (header.seq, header.extent(0).end)
    }))
    .unwrap();
    segment.record(header(Kind::BatchBegin, seq), &[], b"", &batch.encode());
    for (header, key, value) in records {
        segment.record(header, &[], key, value);
    }
    segment.record(header(Kind::BatchCommit, seq + 3), &[], b"", &batch.encode());
}

pub fn descriptor() -> ArrayDescriptor {
    ArrayDescriptor::new(DType::F32, 4, Order::C, &[2, 3, 4]).unwrap()
}

/// An external file; an array if there is a descriptor.
pub fn external_file(id: u64, key: &[u8], data: &[u8], array: Option<&ArrayDescriptor>) -> Vec<u8> {
    let mut bytes = array.map_or_else(Vec::new, ArrayDescriptor::npy_header);
    let descriptor = array.map_or_else(Vec::new, ArrayDescriptor::encode);
    let seq = 77;
    let mut tail = encode_table(seq, data);
    tail.extend_from_slice(key);
    tail.extend_from_slice(&descriptor);
    let footer = ExternalFooter {
        uuid: UUID,
        id,
        class: if array.is_some() { ExternalClass::Array } else { ExternalClass::Value },
        seq,
        key_hash: KeyHasher::new(SEED).hash(key),
        data_len: data.len() as u64,
        key_len: key.len().try_into().unwrap(),
        descriptor_len: descriptor.len().try_into().unwrap(),
        tail_crc: 0,
    };
    let footer = ExternalFooter { tail_crc: footer.tail_crc(&tail), ..footer };
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(&tail);
    bytes.extend_from_slice(&footer.encode());
    assert_eq!(bytes.len() as u64, footer.file_len(), "the parts add up");
    bytes
}

pub fn index_header() -> IndexHeader {
    IndexHeader { uuid: UUID, generation: 2, geometry: Geometry { page_bits: 1, base_bits: 0 } }
}

pub fn index_file() -> Vec<u8> {
    let header = index_header();
    let mut bytes = vec![0; header.file_len()];
    put(&mut bytes, 0, &header.encode());
    let hasher = KeyHasher::new(SEED);
    let mut place = |key: &[u8], other: bool, number: usize, slot: fn(Slot) -> Slot| {
        let hash = hasher.hash(key);
        let bucket = slot::buckets(hash)[usize::from(other)];
        let at = INDEX_DATA + header.geometry.page(hash) * PAGE + bucket * 64 + number * 8;
        let bits = slot(Slot::new(hash, 5, 4096 + number * 64, SlotState::Value)).to_bits();
        put(&mut bytes, at, &bits.to_le_bytes());
    };
    place(b"user:1", false, 0, |slot| slot);
    place(b"user:2", true, 1, |slot| slot.with_freq(3));
    place(b"user:3", false, 7, |slot| Slot::from_bits(slot.to_bits() ^ 3));
    place(b"user:4", false, 2, Slot::freeze);
    put(&mut bytes, header.moved_at(), &1_u64.to_le_bytes());
    put(&mut bytes, INDEX_SUMMED, &1_u64.to_le_bytes());
    for page in 0..header.geometry.pages() {
        let at = INDEX_DATA + page * PAGE;
        let slots = bytes[at..at + PAGE].as_chunks::<8>().0.iter();
        let crc =
            header.page_crc(page, slots.map(|slot| Slot::from_bits(u64::from_le_bytes(*slot))));
        put(&mut bytes, header.sums_at() + page * 4, &crc.to_le_bytes());
    }
    put(&mut bytes, header.touched_at(), &2_u64.to_le_bytes());
    bytes
}

pub const fn share_header() -> ShareHeader {
    ShareHeader { uuid: UUID, budget: 1 << 30, retains_all: false, positions: 1 << 8, lanes: 3 }
}
