//! Files, explained byte by byte.
//!
//! A dump shows every structure with its offset, its bytes and their meaning. Damage is a line
//! that starts with `!!`; what follows is found again at the next record. Nothing that a file
//! holds can make a dump fail, and only its limit makes it long.
//!
//! ```text
//! record at 0x1000: value, 64 bytes
//!   00001000  3fa9c1d0                          crc 0xd0c1a93f
//!   00001004  a7                                magic 0xa7
//! ```
//!
//! The hash seed is left out: whoever reads a dump in a bug report should not be able to make
//! keys that collide. Keys and the start of values are not.

mod external;
mod printer;
mod segment;

use core::fmt;

use crate::bytes::Reader;
use crate::fields::{INDEX_HEADER, INDEX_WORDS, SESSION, SHARED, SUPERBLOCK};
use crate::index::IndexHeader;
use crate::layout::{
    ARRAY_MAGIC, BUCKET_SLOTS, EXTERNAL_MAGIC, EXTERNAL_TRAILER_LEN, INDEX_DATA, INDEX_HEADER_LEN,
    INDEX_MAGIC, PAGE_BUCKETS, SEGMENT_MAGIC, SESSION_AT, SESSION_LEN, SHARED_AT, SUPERBLOCK_LEN,
    SUPERBLOCK_MAGIC,
};
use crate::slot::{Slot, SlotState, other_bucket};
use crate::superblock::{Session, Superblock};
use printer::{Printed, Printer, Stop, is_zero};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// The file `store`.
    Store,
    /// A log file.
    Segment,
    /// A generation of the index.
    Index,
    /// A large value or array.
    External,
    /// An array descriptor by itself, cut out of a file.
    Descriptor,
    /// None of ours, or damaged beyond recognition.
    Unknown,
}

impl FileKind {
    /// What the file's name says.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let name = name.rsplit('/').next().unwrap_or(name);
        match name.rsplit_once('.') {
            None if name == "store" => Self::Store,
            Some((_, "log")) => Self::Segment,
            Some((_, "npy" | "val")) => Self::External,
            Some(("index", _)) => Self::Index,
            _ => Self::Unknown,
        }
    }

    /// What the file's bytes say.
    #[must_use]
    pub fn detect(bytes: &[u8]) -> Self {
        if bytes.starts_with(&SUPERBLOCK_MAGIC) {
            return Self::Store;
        }
        if bytes.starts_with(&ARRAY_MAGIC) {
            return Self::Descriptor;
        }
        match bytes.get(4..8) {
            Some(magic) if magic == SEGMENT_MAGIC => return Self::Segment,
            Some(magic) if magic == INDEX_MAGIC => return Self::Index,
            _ => {}
        }
        let trailer = bytes.last_chunk::<EXTERNAL_TRAILER_LEN>();
        if trailer.is_some_and(|trailer| trailer[4..8] == EXTERNAL_MAGIC) {
            return Self::External;
        }
        Self::Unknown
    }
}

/// Dumps a file, in at most a hundred thousand lines.
///
/// ```
/// use larder_format::dump::{FileKind, dump};
///
/// let mut text = String::new();
/// dump(FileKind::Unknown, &[0; 4096], &mut text)?;
/// assert!(text.contains("4096 zero bytes"));
/// # Ok::<(), std::fmt::Error>(())
/// ```
///
/// # Errors
/// Only what `out` returns.
pub fn dump(kind: FileKind, bytes: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    dump_limited(kind, bytes, out, 100_000)
}

/// Dumps a file in at most `limit` lines, and one that says that it ends there.
///
/// # Errors
/// Only what `out` returns.
pub fn dump_limited(
    kind: FileKind,
    bytes: &[u8],
    out: &mut impl fmt::Write,
    limit: usize,
) -> fmt::Result {
    let mut printer = Printer { bytes, out, lines_left: limit };
    let printed = match kind {
        FileKind::Store => printer.store(),
        FileKind::Segment => printer.segment(),
        FileKind::Index => printer.index(),
        FileKind::External => printer.external(),
        FileKind::Descriptor => printer.descriptor(0, bytes.len()),
        FileKind::Unknown => printer.unknown(),
    };
    match printed {
        Ok(()) => Ok(()),
        Err(Stop::Limit) => writeln!(printer.out, "… cut off at {limit} lines"),
        Err(Stop::Write(error)) => Err(error),
    }
}

impl<W: fmt::Write> Printer<'_, W> {
    fn unknown(&mut self) -> Printed {
        self.title(format_args!("unknown file, {} bytes", self.bytes.len()))?;
        self.raw(0, self.bytes.len())
    }

    fn store(&mut self) -> Printed {
        self.title(format_args!("store file, {} bytes", self.bytes.len()))?;
        self.title(format_args!("superblock"))?;
        self.structure(&SUPERBLOCK, 0)?;
        self.check(Superblock::decode(self.bytes))?;
        let uuid = self.uuid_at(16);
        let sessions = SESSION_AT
            .map(|at| Session::decode(self.slice(at, at.saturating_add(SESSION_LEN)), &uuid));
        let newest = sessions.iter().flatten().map(|session| session.epoch).max();
        let mut end = SUPERBLOCK_LEN;
        for (at, session) in SESSION_AT.into_iter().zip(sessions) {
            self.zeros(end, at)?;
            end = at.saturating_add(SESSION_LEN);
            if is_zero(self.slice(at, end)) {
                self.title(format_args!("session slot at {at:#x}: never written"))?;
                end = at;
                continue;
            }
            let counts = session.as_ref().is_ok_and(|session| Some(session.epoch) == newest);
            let counts = if counts { ", the one that counts" } else { "" };
            self.title(format_args!("session slot at {at:#x}{counts}"))?;
            self.structure(&SESSION, at)?;
            self.check(session)?;
        }
        self.zeros(end, SHARED_AT)?;
        self.title(format_args!("shared words"))?;
        self.structure(&SHARED, SHARED_AT)?;
        self.zeros(SHARED_AT.saturating_add(SHARED.len), self.bytes.len())
    }

    fn index(&mut self) -> Printed {
        self.title(format_args!("index file, {} bytes", self.bytes.len()))?;
        self.structure(&INDEX_HEADER, 0)?;
        let header = self.check(IndexHeader::decode_any(self.bytes))?;
        let mut at = INDEX_HEADER_LEN;
        for field in INDEX_WORDS.fields {
            self.zeros(at, field.offset)?;
            self.field(field, 0)?;
            at = field.offset.saturating_add(field.len);
        }
        self.zeros(at, INDEX_DATA)?;
        let slots_end = header.map_or(self.bytes.len(), |header| header.moved_at());
        self.slots(INDEX_DATA, slots_end)?;
        let Some(header) = header else { return Ok(()) };
        self.title(format_args!("moved pages of the generation before"))?;
        let moved_end = header.moved_at().saturating_add(header.moved_words().saturating_mul(8));
        self.words(header.moved_at(), moved_end, |printer, number, at, word| {
            let first = number.saturating_mul(64);
            let count = word.count_ones();
            printer.line(at, 8, format_args!("{count} of the 64 pages from {first} on"))
        })?;
        self.zeros(moved_end, header.sums_at())?;
        self.title(format_args!("page checksums"))?;
        self.words(header.sums_at(), header.touched_at(), |printer, number, at, word| {
            let page = number.saturating_mul(2);
            let (low, high) = (word & 0xFFFF_FFFF, word >> 32);
            printer.line(at, 8, format_args!("page {page}: {low:#010x}, next: {high:#010x}"))
        })?;
        self.title(format_args!("pages touched since their checksum"))?;
        let touched_end =
            header.touched_at().saturating_add(header.touched_words().saturating_mul(8));
        self.words(header.touched_at(), touched_end, |printer, number, at, word| {
            let first = number.saturating_mul(64);
            let count = word.count_ones();
            printer.line(at, 8, format_args!("{count} of the 64 pages from {first} on"))
        })?;
        self.zeros(touched_end, header.file_len())?;
        if self.bytes.len() != header.file_len() {
            self.bad(format_args!("the file should have {} bytes", header.file_len()))?;
        }
        Ok(())
    }

    fn slots(&mut self, from: usize, to: usize) -> Printed {
        self.title(format_args!("slots"))?;
        self.words(from, to, |printer, number, at, word| {
            let slot = Slot::from_bits(word);
            let bucket = number / BUCKET_SLOTS;
            let (page, bucket) = (bucket / PAGE_BUCKETS, bucket % PAGE_BUCKETS);
            let frozen = if slot.is_frozen() { "frozen " } else { "" };
            printer.line(
                at,
                8,
                format_args!(
                    "page {page} bucket {bucket} slot {}: {frozen}{:?}, tag {:#x}, segment {}, \
                     offset {:#x}, hits {}, other bucket {}",
                    number % BUCKET_SLOTS,
                    slot.state(),
                    slot.tag(),
                    slot.segment(),
                    slot.offset(),
                    slot.freq(),
                    other_bucket(bucket, slot),
                ),
            )?;
            if slot.state() == SlotState::Empty && !slot.is_frozen() {
                printer.bad("empty, but not zero")?;
            }
            Ok(())
        })
    }

    /// Calls `show` with number, offset and value of every word that is not zero.
    fn words(
        &mut self,
        from: usize,
        to: usize,
        mut show: impl FnMut(&mut Self, usize, usize, u64) -> Printed,
    ) -> Printed {
        let mut zeros_from = from;
        let mut at = from;
        let (words, _) = self.slice(from, to).as_chunks::<8>();
        for (number, word) in words.iter().enumerate() {
            if *word != [0; 8] {
                self.zeros(zeros_from, at)?;
                show(self, number, at, u64::from_le_bytes(*word))?;
                zeros_from = at.saturating_add(8);
            }
            at = at.saturating_add(8);
        }
        self.zeros(zeros_from, at)
    }

    fn uuid_at(&self, at: usize) -> [u8; 16] {
        let bytes = self.slice(at, at.saturating_add(16));
        Reader::new("uuid", bytes, 16).map_or([0; 16], |mut fields| fields.array())
    }
}
