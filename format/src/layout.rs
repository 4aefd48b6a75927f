//! Every offset, size and magic of the format, in one place.
//!
//! `docs/format.md` tabulates what stands here, and a test compares the two. All integers
//! are little-endian; there is no implicit padding; zero is never a valid structure, because
//! preallocated space reads as zeros.

/// Version of every structure that this crate writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Granularity of headers that stand alone and of file sizes, in bytes.
pub const PAGE: usize = 4096;

// The superblock file `store`: four pages.

/// Magic of the superblock; the control bytes betray a transfer in text mode.
pub const SUPERBLOCK_MAGIC: [u8; 8] = *b"\x89LARDER\n";
/// Written as a `u32`: a machine of the other endianness reads it mirrored.
pub const ENDIAN_MARK: u32 = 0x0A0B_0C0D;
/// Encoded length of the superblock.
pub const SUPERBLOCK_LEN: usize = 128;
/// Where the two session slots start; the one with the higher valid epoch counts.
pub const SESSION_AT: [usize; 2] = [PAGE, 2 * PAGE];
/// Magic of a session slot.
pub const SESSION_MAGIC: [u8; 4] = *b"LSES";
/// Encoded length of a session slot.
pub const SESSION_LEN: usize = 128;
/// Where the words start that live processes share. Never trusted after a machine crash.
pub const SHARED_AT: usize = 3 * PAGE;
/// Length of the superblock file.
pub const STORE_FILE_LEN: usize = 4 * PAGE;
/// Shared word: the next sequence number to hand out.
pub const SHARED_NEXT_SEQ: usize = SHARED_AT;
/// Shared word: the next segment id to hand out.
pub const SHARED_NEXT_SEGMENT: usize = SHARED_AT + 64;
/// Shared word: the next id of an external file to hand out.
pub const SHARED_NEXT_EXTERNAL: usize = SHARED_AT + 128;
/// Shared word: the index generation in use (low 32 bits) and the one that is being moved
/// out of (high 32 bits, 0 for none).
pub const SHARED_GENERATIONS: usize = SHARED_AT + 192;
/// Shared word: the number of value slots in the index.
pub const SHARED_ENTRIES: usize = SHARED_AT + 256;
/// Shared word: not 0 once a slot was given up for want of room, so that a record may exist
/// that the index does not know; removing an unknown key then has to write a tombstone.
pub const SHARED_DROPPED: usize = SHARED_AT + 320;

// Segments.

/// Magic of a segment header.
pub const SEGMENT_MAGIC: [u8; 4] = *b"LSEG";
/// Encoded length of the fixed part of a segment header.
pub const SEGMENT_HEADER_LEN: usize = 128;
/// Mutable word: tail (low 32 bits, in [`UNIT`]s) and number of footer entries (high 32).
pub const SEGMENT_COMMITTED: usize = 256;
/// Mutable word: the segment's state, see `segment::SegmentState`.
pub const SEGMENT_STATE: usize = 320;
/// Mutable word: a committed word that is known to be on stable storage.
pub const SEGMENT_SYNCED: usize = 384;
/// Where the first record of a segment starts.
pub const SEGMENT_DATA: usize = PAGE;
/// Magic of a segment trailer, the last bytes of a sealed segment.
pub const TRAILER_MAGIC: [u8; 4] = *b"LFTR";
/// Encoded length of a segment trailer.
pub const TRAILER_LEN: usize = 64;
/// Encoded length of a footer entry. Entries grow downwards from the trailer.
pub const ENTRY_LEN: usize = 16;
/// Smallest segment.
pub const SEGMENT_LEN_MIN: u32 = 64 << 10;
/// Largest segment: what 22 bits of offset in 16-byte units can reach.
pub const SEGMENT_LEN_MAX: u32 = 64 << 20;

// Records.

/// Granularity of records in a segment, in bytes.
pub const UNIT: usize = 16;
/// Second word of a record's first 8 bytes; not zero, not ASCII.
pub const RECORD_MAGIC: u8 = 0xA7;
/// Encoded length of the fixed part of a record header.
pub const RECORD_HEADER_LEN: usize = 32;
/// Largest extension of a record header: an expiry and 15 tags.
pub const RECORD_EXTENSION_MAX: usize = 8 + 8 * TAGS_MAX;
/// Most tags a record can carry.
pub const TAGS_MAX: usize = 15;
/// Longest key, in bytes.
pub const KEY_LEN_MAX: usize = 32 << 10;
/// A value longer than this carries a checksum for each chunk of this many bytes.
pub const CHUNK: usize = 64 << 10;

// The index.

/// Magic of an index file.
pub const INDEX_MAGIC: [u8; 4] = *b"LIDX";
/// Encoded length of an index header.
pub const INDEX_HEADER_LEN: usize = 128;
/// Mutable word: the epoch of the session that last opened the index. One from before the last
/// session is an old copy.
pub const INDEX_EPOCH: usize = 256;
/// Mutable word: the epoch of the session at whose clean end the page checksums were written.
pub const INDEX_SUMMED: usize = 320;
/// Where the first page of buckets starts.
pub const INDEX_DATA: usize = PAGE;
/// Slots in a bucket: one cache line of 64-bit words.
pub const BUCKET_SLOTS: usize = 8;
/// Buckets in a page.
pub const PAGE_BUCKETS: usize = 64;
/// Most pages an index can have, as a power of two.
pub const PAGE_BITS_MAX: u8 = 24;
/// Most times that an index can double before its tags hold too little of the hash.
pub const SPLITS_MAX: u8 = 14;

// The file by which processes share a store.

/// Magic of the file `share`.
pub const SHARE_MAGIC: [u8; 4] = *b"LSHR";
/// Encoded length of its header.
pub const SHARE_HEADER_LEN: usize = 128;
/// Mutable word: bytes of all files of the store.
pub const SHARE_LIVE: usize = 256;
/// Mutable word: how often a segment was added to the table or taken out.
pub const SHARE_CHANGES: usize = 320;
/// Mutable word: records with a sequence up to this one were cleared.
pub const SHARE_CLEARED: usize = 384;
/// Mutable words: which process slots are taken, one bit each.
pub const SHARE_TAKEN: usize = 448;
/// Mutable word: the batch that is being written, by whom, and how far it is; 0 for none.
pub const SHARE_BATCH: usize = 512;
/// Where the slots of the processes start, a page each.
pub const SHARE_SLOTS: usize = PAGE;
/// Most processes that can have a store open at once.
pub const SHARE_PROCESSES: usize = 128;
/// Mutable word of a process slot: its process id.
pub const SHARE_PID: usize = 0;
/// Mutable word of a process slot: when it opened the store, in ms since 1970.
pub const SHARE_OPENED: usize = 8;
/// Mutable word of a process slot: bytes of unlinked files that its views hold.
pub const SHARE_HELD: usize = 16;
/// Mutable word of a process slot: the segment of the batch that it is writing.
pub const SHARE_BATCH_SEGMENT: usize = 24;
/// Mutable word of a process slot: the committed word that makes the batch count.
pub const SHARE_BATCH_END: usize = 32;
/// Where the words of a slot's lanes start, a cache line each.
pub const SHARE_LANES: usize = 1024;
/// Most lanes of a process.
pub const SHARE_LANES_MAX: u32 = 48;
/// Pairs of words that tell of changes, each of the keys whose hashes are the same in the low bits: how
/// many were begun, and how many have ended.
pub const SHARE_STRIPES: usize = 1 << 14;

// Batches.

/// First byte of a batch's payload.
pub const BATCH_MAGIC: u8 = 0xBA;
/// Version of a batch's payload.
pub const BATCH_VERSION: u8 = 1;
/// Encoded length of a batch's payload.
pub const BATCH_LEN: usize = 32;

// External files.

/// First byte of a reference to an external file.
pub const EXTERNAL_REF_MAGIC: u8 = 0xE7;
/// Version of a reference to an external file.
pub const EXTERNAL_REF_VERSION: u8 = 1;
/// Encoded length of a reference to an external file.
pub const EXTERNAL_REF_LEN: usize = 32;
/// Magic of an external file's trailer, its last bytes.
pub const EXTERNAL_MAGIC: [u8; 4] = *b"LEXT";
/// Encoded length of an external file's trailer.
pub const EXTERNAL_TRAILER_LEN: usize = 96;
/// Most bytes of data in an external file.
pub const EXTERNAL_DATA_MAX: u64 = 1 << 48;
/// Where the data of an external array starts, behind its NumPy header.
pub const NPY_HEADER_LEN: usize = PAGE;

// Arrays.

/// Magic of an array descriptor.
pub const ARRAY_MAGIC: [u8; 4] = *b"LARR";
/// Version of an array descriptor.
pub const ARRAY_VERSION: u8 = 1;
/// Encoded length of the fixed part of an array descriptor; the shape follows.
pub const ARRAY_HEAD_LEN: usize = 32;
/// Most axes of an array.
pub const ARRAY_AXES_MAX: usize = 32;
/// Longest array descriptor: the padding of the largest alignment.
pub const ARRAY_DESCRIPTOR_MAX: usize = PAGE;

const _: () = assert!(ARRAY_HEAD_LEN + ARRAY_AXES_MAX * 8 <= ARRAY_DESCRIPTOR_MAX);
const _: () = assert!(PAGE_BUCKETS * BUCKET_SLOTS * 8 == PAGE);
const _: () = assert!(SHARED_DROPPED + 8 <= STORE_FILE_LEN);
const _: () = assert!(SHARE_TAKEN + SHARE_PROCESSES / 8 <= SHARE_SLOTS);
const _: () = assert!(SHARE_LANES + SHARE_LANES_MAX as usize * 64 <= PAGE);
const _: () = assert!(SEGMENT_SYNCED + 8 <= SEGMENT_DATA);
const _: () = assert!(SEGMENT_LEN_MAX as usize / UNIT == 1 << 22);
