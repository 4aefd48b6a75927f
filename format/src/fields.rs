//! What every structure is made of, as data: for the dump, and to compare with the document.
//!
//! The encoders do not use these tables. A test encodes each structure with one field
//! changed after the other and looks at which bytes change.

use crate::layout::{
    ARRAY_HEAD_LEN, BATCH_LEN, ENTRY_LEN, EXTERNAL_REF_LEN, EXTERNAL_TRAILER_LEN, INDEX_EPOCH,
    INDEX_HEADER_LEN, INDEX_SUMMED, RECORD_HEADER_LEN, SEGMENT_COMMITTED, SEGMENT_HEADER_LEN,
    SEGMENT_STATE, SEGMENT_SYNCED, SESSION_LEN, SHARE_BATCH, SHARE_CHANGES, SHARE_CLEARED,
    SHARE_HEADER_LEN, SHARE_LIVE, SHARE_TAKEN, SHARED_AT, SHARED_DROPPED, SHARED_ENTRIES,
    SHARED_GENERATIONS, SHARED_NEXT_EXTERNAL, SHARED_NEXT_SEGMENT, SHARED_NEXT_SEQ, SUPERBLOCK_LEN,
    TRAILER_LEN,
};

/// How a field is shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// A number, in decimal.
    Number,
    /// A number, in hex.
    Hex,
    /// Bytes, as they are: a uuid.
    Bytes,
    /// Bytes, as text.
    Text,
    /// Bytes that a dump must not give away: with the hash seed, keys that collide can be made.
    Secret,
    /// Zeros, for later versions.
    Zeros,
    /// A record's kind.
    Kind,
    /// A record's flags.
    Flags,
    /// Low half: alignment as a power of two. High half: number of tags.
    Layout,
    /// A session's flags.
    SessionFlags,
    /// Two index generations.
    Generations,
    /// A [`Committed`](crate::Committed) word.
    Committed,
    /// A [`SegmentState`](crate::SegmentState) word.
    State,
    /// A footer entry's offset, kind and mark of replacement.
    Place,
    /// A footer entry's sequence number.
    Delta,
    /// An [`ExternalClass`](crate::ExternalClass).
    Class,
    /// A [`DType`](crate::DType).
    DType,
}

/// A field of a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the start of the structure.
    pub offset: usize,
    /// Bytes that it takes.
    pub len: usize,
    /// What it is called, here and in the document.
    pub name: &'static str,
    /// How it is shown.
    pub show: Show,
}

/// A structure of fixed length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Structure {
    /// What it is called, here and in the document.
    pub name: &'static str,
    /// Bytes that it takes.
    pub len: usize,
    /// Its fields, in order. Words that processes share lie on cache lines of their own, with
    /// nothing in between; the fields of all other structures leave no gaps.
    pub fields: &'static [Field],
}

const fn f(offset: usize, len: usize, name: &'static str, show: Show) -> Field {
    Field { offset, len, name, show }
}

/// See [`Superblock`](crate::Superblock).
pub const SUPERBLOCK: Structure = Structure {
    name: "superblock",
    len: SUPERBLOCK_LEN,
    fields: &[
        f(0, 8, "magic", Show::Text),
        f(8, 4, "version", Show::Number),
        f(12, 4, "byte order", Show::Hex),
        f(16, 16, "uuid", Show::Bytes),
        f(32, 16, "hash seed", Show::Secret),
        f(48, 8, "compatible", Show::Hex),
        f(56, 8, "read-only compatible", Show::Hex),
        f(64, 8, "incompatible", Show::Hex),
        f(72, 4, "segment length", Show::Number),
        f(76, 4, "external from", Show::Number),
        f(80, 8, "created", Show::Number),
        f(88, 1, "index pages", Show::Number),
        f(89, 35, "zeros", Show::Zeros),
        f(124, 4, "crc", Show::Hex),
    ],
};

/// See [`Session`](crate::Session).
pub const SESSION: Structure = Structure {
    name: "session slot",
    len: SESSION_LEN,
    fields: &[
        f(0, 4, "crc", Show::Hex),
        f(4, 4, "magic", Show::Text),
        f(8, 8, "epoch", Show::Number),
        f(16, 16, "boot id", Show::Bytes),
        f(32, 8, "device", Show::Number),
        f(40, 8, "inode", Show::Number),
        f(48, 8, "mount", Show::Number),
        f(56, 8, "flags", Show::SessionFlags),
        f(64, 8, "opened", Show::Number),
        f(72, 4, "pid", Show::Number),
        f(76, 4, "words crc", Show::Hex),
        f(80, 4, "segments crc", Show::Hex),
        f(84, 4, "zeros", Show::Zeros),
        f(88, 8, "cleared", Show::Hex),
        f(96, 8, "settled", Show::Hex),
        f(104, 24, "zeros", Show::Zeros),
    ],
};

/// The words that live processes share, from [`SHARED_AT`].
pub const SHARED: Structure = Structure {
    name: "shared words",
    len: SHARED_DROPPED + 8 - SHARED_AT,
    fields: &[
        f(SHARED_NEXT_SEQ - SHARED_AT, 8, "next sequence", Show::Hex),
        f(SHARED_NEXT_SEGMENT - SHARED_AT, 8, "next segment", Show::Number),
        f(SHARED_NEXT_EXTERNAL - SHARED_AT, 8, "next external", Show::Number),
        f(SHARED_GENERATIONS - SHARED_AT, 8, "generations", Show::Generations),
        f(SHARED_ENTRIES - SHARED_AT, 8, "entries", Show::Number),
        f(SHARED_DROPPED - SHARED_AT, 8, "dropped", Show::Number),
    ],
};

/// See [`ShareHeader`](crate::ShareHeader).
pub const SHARE_HEADER: Structure = Structure {
    name: "share header",
    len: SHARE_HEADER_LEN,
    fields: &[
        f(0, 4, "crc", Show::Hex),
        f(4, 4, "magic", Show::Text),
        f(8, 4, "version", Show::Number),
        f(12, 4, "positions", Show::Number),
        f(16, 16, "uuid", Show::Bytes),
        f(32, 8, "budget", Show::Number),
        f(40, 4, "lanes", Show::Number),
        f(44, 4, "retains all", Show::Number),
        f(48, 80, "zeros", Show::Zeros),
    ],
};

/// Words behind the header of the file `share`.
pub const SHARE_WORDS: Structure = Structure {
    name: "share words",
    len: SHARE_BATCH + 8,
    fields: &[
        f(SHARE_LIVE, 8, "live", Show::Number),
        f(SHARE_CHANGES, 8, "changes", Show::Number),
        f(SHARE_CLEARED, 8, "cleared", Show::Hex),
        f(SHARE_TAKEN, 16, "taken", Show::Hex),
        f(SHARE_BATCH, 8, "batch", Show::Hex),
    ],
};

/// See [`SegmentHeader`](crate::SegmentHeader).
pub const SEGMENT_HEADER: Structure = Structure {
    name: "segment header",
    len: SEGMENT_HEADER_LEN,
    fields: &[
        f(0, 4, "crc", Show::Hex),
        f(4, 4, "magic", Show::Text),
        f(8, 4, "version", Show::Number),
        f(12, 4, "file length", Show::Number),
        f(16, 8, "id", Show::Number),
        f(24, 8, "base sequence", Show::Hex),
        f(32, 8, "created", Show::Number),
        f(40, 4, "lane", Show::Number),
        f(44, 4, "zeros", Show::Zeros),
        f(48, 16, "uuid", Show::Bytes),
        f(64, 64, "zeros", Show::Zeros),
    ],
};

/// The words of a segment's header page that change, from the start of the file.
pub const SEGMENT_WORDS: Structure = Structure {
    name: "segment words",
    len: SEGMENT_SYNCED + 8,
    fields: &[
        f(SEGMENT_COMMITTED, 8, "committed", Show::Committed),
        f(SEGMENT_STATE, 8, "state", Show::State),
        f(SEGMENT_SYNCED, 8, "synced", Show::Committed),
    ],
};

/// The words of an index's header page that change, from the start of the file.
pub const INDEX_WORDS: Structure = Structure {
    name: "index words",
    len: INDEX_SUMMED + 8,
    fields: &[f(INDEX_EPOCH, 8, "epoch", Show::Number), f(INDEX_SUMMED, 8, "summed", Show::Number)],
};

/// See [`RecordHeader`](crate::RecordHeader).
pub const RECORD: Structure = Structure {
    name: "record header",
    len: RECORD_HEADER_LEN,
    fields: &[
        f(0, 4, "crc", Show::Hex),
        f(4, 1, "magic", Show::Hex),
        f(5, 1, "kind", Show::Kind),
        f(6, 1, "flags", Show::Flags),
        f(7, 1, "layout", Show::Layout),
        f(8, 8, "sequence", Show::Hex),
        f(16, 4, "value length", Show::Number),
        f(20, 4, "payload crc", Show::Hex),
        f(24, 2, "key length", Show::Number),
        f(26, 1, "codec", Show::Number),
        f(27, 1, "codec version", Show::Number),
        f(28, 4, "written", Show::Number),
    ],
};

/// See [`FooterEntry`](crate::FooterEntry).
pub const ENTRY: Structure = Structure {
    name: "footer entry",
    len: ENTRY_LEN,
    fields: &[
        f(0, 8, "key hash", Show::Hex),
        f(8, 4, "place", Show::Place),
        f(12, 4, "sequence delta", Show::Delta),
    ],
};

/// See [`Trailer`](crate::Trailer).
pub const TRAILER: Structure = Structure {
    name: "segment trailer",
    len: TRAILER_LEN,
    fields: &[
        f(0, 4, "crc", Show::Hex),
        f(4, 4, "magic", Show::Text),
        f(8, 8, "id", Show::Number),
        f(16, 8, "committed", Show::Committed),
        f(24, 4, "entries crc", Show::Hex),
        f(28, 4, "version", Show::Number),
        f(32, 8, "lowest sequence", Show::Hex),
        f(40, 8, "highest sequence", Show::Hex),
        f(48, 8, "sealed before", Show::Number),
        f(56, 8, "zeros", Show::Zeros),
    ],
};

/// See [`IndexHeader`](crate::IndexHeader).
pub const INDEX_HEADER: Structure = Structure {
    name: "index header",
    len: INDEX_HEADER_LEN,
    fields: &[
        f(0, 4, "crc", Show::Hex),
        f(4, 4, "magic", Show::Text),
        f(8, 4, "version", Show::Number),
        f(12, 4, "generation", Show::Number),
        f(16, 1, "page bits", Show::Number),
        f(17, 1, "base bits", Show::Number),
        f(18, 6, "zeros", Show::Zeros),
        f(24, 16, "uuid", Show::Bytes),
        f(40, 88, "zeros", Show::Zeros),
    ],
};

/// See [`Batch`](crate::Batch).
pub const BATCH: Structure = Structure {
    name: "batch",
    len: BATCH_LEN,
    fields: &[
        f(0, 1, "magic", Show::Hex),
        f(1, 1, "version", Show::Number),
        f(2, 2, "zeros", Show::Zeros),
        f(4, 4, "count", Show::Number),
        f(8, 8, "id", Show::Hex),
        f(16, 8, "bytes", Show::Number),
        f(24, 4, "sequences crc", Show::Hex),
        f(28, 4, "zeros", Show::Zeros),
    ],
};

/// See [`ExternalRef`](crate::ExternalRef).
pub const EXTERNAL_REF: Structure = Structure {
    name: "external reference",
    len: EXTERNAL_REF_LEN,
    fields: &[
        f(0, 1, "magic", Show::Hex),
        f(1, 1, "version", Show::Number),
        f(2, 1, "class", Show::Class),
        f(3, 1, "settled", Show::Number),
        f(4, 4, "zeros", Show::Zeros),
        f(8, 8, "id", Show::Number),
        f(16, 8, "data length", Show::Number),
        f(24, 8, "zeros", Show::Zeros),
    ],
};

/// See [`ExternalFooter`](crate::ExternalFooter).
pub const EXTERNAL_TRAILER: Structure = Structure {
    name: "external trailer",
    len: EXTERNAL_TRAILER_LEN,
    fields: &[
        f(0, 4, "crc", Show::Hex),
        f(4, 4, "magic", Show::Text),
        f(8, 4, "version", Show::Number),
        f(12, 1, "class", Show::Class),
        f(13, 3, "zeros", Show::Zeros),
        f(16, 8, "id", Show::Number),
        f(24, 8, "sequence", Show::Hex),
        f(32, 8, "key hash", Show::Hex),
        f(40, 8, "data length", Show::Number),
        f(48, 8, "chunk count", Show::Number),
        f(56, 4, "key length", Show::Number),
        f(60, 4, "descriptor length", Show::Number),
        f(64, 4, "tail crc", Show::Hex),
        f(68, 12, "zeros", Show::Zeros),
        f(80, 16, "uuid", Show::Bytes),
    ],
};

/// The fixed part of an [`ArrayDescriptor`](crate::ArrayDescriptor).
pub const ARRAY_HEAD: Structure = Structure {
    name: "array descriptor",
    len: ARRAY_HEAD_LEN,
    fields: &[
        f(0, 4, "magic", Show::Text),
        f(4, 1, "version", Show::Number),
        f(5, 1, "element type", Show::DType),
        f(6, 1, "order", Show::Number),
        f(7, 1, "axes", Show::Number),
        f(8, 4, "item length", Show::Number),
        f(12, 1, "chunk size", Show::Number),
        f(13, 1, "alignment", Show::Number),
        f(14, 1, "compression", Show::Number),
        f(15, 1, "zeros", Show::Zeros),
        f(16, 4, "descriptor length", Show::Number),
        f(20, 4, "zeros", Show::Zeros),
        f(24, 8, "data length", Show::Number),
    ],
};

/// Every structure, in the order of the document.
pub const ALL: [Structure; 16] = [
    SUPERBLOCK,
    SESSION,
    SHARED,
    SHARE_HEADER,
    SHARE_WORDS,
    SEGMENT_HEADER,
    SEGMENT_WORDS,
    RECORD,
    ENTRY,
    TRAILER,
    BATCH,
    INDEX_HEADER,
    INDEX_WORDS,
    EXTERNAL_REF,
    EXTERNAL_TRAILER,
    ARRAY_HEAD,
];
