//! The file `store`: what the store is, and who had it open.
//!
//! ```text
//! | superblock page | session slot page | session slot page | shared words page |
//! ```
//!
//! The superblock is written once. Each opening of the store writes the session slot that is
//! not the newest and syncs it before the first record, so that sequence numbers, which start
//! with the session's epoch, never come again, whatever was lost.

use crate::bytes::{Reader, Writer, check_crc, check_magic, check_version};
use crate::error::FormatError;
use crate::hash::crc_from;
use crate::layout::{
    ENDIAN_MARK, FORMAT_VERSION, PAGE_BITS_MAX, SEGMENT_LEN_MAX, SEGMENT_LEN_MIN, SESSION_LEN,
    SESSION_MAGIC, SUPERBLOCK_LEN, SUPERBLOCK_MAGIC,
};

const WHAT: &str = "superblock";

/// What never changes about a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// Drawn at random when the store is created; part of every checksum.
    pub uuid: [u8; 16],
    /// Seed of the key hash, drawn at random and kept to the store's own files.
    pub hash_seed: [u8; 16],
    /// Features that a reader or writer may ignore.
    pub compatible: u64,
    /// Features that a reader may ignore; a writer that does not know them must not write.
    pub read_only_compatible: u64,
    /// Features without which the store cannot be read.
    pub incompatible: u64,
    /// Length of a segment file in bytes, a power of two.
    pub segment_len: u32,
    /// Pages of the first index generation, as a power of two.
    pub index_base_bits: u8,
    /// A value of this many bytes or more gets a file of its own.
    pub external_min: u32,
    /// When the store was created, in ms since 1970.
    pub created_ms: u64,
}

impl Superblock {
    /// Features that this build knows, of each of the three sorts: none so far.
    pub const KNOWN: u64 = 0;

    /// Where the uuid stands, for who has to find it in a damaged superblock.
    pub const UUID_AT: usize = 16;
    /// Where the seed of the key hash stands.
    pub const HASH_SEED_AT: usize = 32;

    /// Encodes the superblock.
    #[must_use]
    pub fn encode(&self) -> [u8; SUPERBLOCK_LEN] {
        let mut out = Writer::<SUPERBLOCK_LEN>::new();
        out.put(&SUPERBLOCK_MAGIC).put(&FORMAT_VERSION.to_le_bytes());
        out.put(&ENDIAN_MARK.to_le_bytes()).put(&self.uuid).put(&self.hash_seed);
        out.put(&self.compatible.to_le_bytes()).put(&self.read_only_compatible.to_le_bytes());
        out.put(&self.incompatible.to_le_bytes()).put(&self.segment_len.to_le_bytes());
        out.put(&self.external_min.to_le_bytes()).put(&self.created_ms.to_le_bytes());
        out.put(&[self.index_base_bits]);
        let mut bytes = out.into_bytes();
        if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
            *crc = crc_from(0, body).to_le_bytes();
        }
        bytes
    }

    /// Decodes and checks a superblock.
    ///
    /// The order of the checks decides what a person is told: no store at all, a newer
    /// format, damage, unknown features, impossible geometry.
    ///
    /// # Errors
    /// [`FormatError`] naming the first check that failed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Reader::new(WHAT, bytes, SUPERBLOCK_LEN)?;
        let magic: [u8; 8] = fields.array();
        if magic != SUPERBLOCK_MAGIC {
            return Err(FormatError::Magic {
                what: WHAT,
                expected: u64::from_le_bytes(SUPERBLOCK_MAGIC),
                found: u64::from_le_bytes(magic),
            });
        }
        let version = fields.u32();
        let endian = fields.u32();
        if endian == ENDIAN_MARK.swap_bytes() {
            let allowed = "a store written by a little-endian larder";
            let found = endian.into();
            return Err(FormatError::Field { what: WHAT, field: "byte order", found, allowed });
        }
        check_version(WHAT, FORMAT_VERSION, version)?;
        if let Some((body, crc)) = bytes.get(..SUPERBLOCK_LEN).and_then(<[u8]>::split_last_chunk) {
            check_crc(WHAT, u32::from_le_bytes(*crc), crc_from(0, body))?;
        }
        let uuid = fields.array();
        let hash_seed = fields.array();
        let [compatible, read_only_compatible, incompatible] =
            [fields.u64(), fields.u64(), fields.u64()];
        let segment_len = fields.u32();
        let external_min = fields.u32();
        let created_ms = fields.u64();
        let index_base_bits = fields.u8();
        if incompatible & !Self::KNOWN != 0 {
            return Err(FormatError::Features { what: WHAT, found: incompatible & !Self::KNOWN });
        }
        if !(SEGMENT_LEN_MIN..=SEGMENT_LEN_MAX).contains(&segment_len)
            || !segment_len.is_power_of_two()
        {
            let allowed = "a power of two from 64 KiB to 64 MiB";
            let found = segment_len.into();
            return Err(FormatError::Field { what: WHAT, field: "segment length", found, allowed });
        }
        if external_min == 0 || external_min > segment_len / 2 {
            let allowed = "1 to half a segment";
            let found = external_min.into();
            return Err(FormatError::Field { what: WHAT, field: "external from", found, allowed });
        }
        if index_base_bits > PAGE_BITS_MAX {
            let allowed = "at most 24";
            let found = index_base_bits.into();
            return Err(FormatError::Field { what: WHAT, field: "index pages", found, allowed });
        }
        Ok(Self {
            uuid,
            hash_seed,
            compatible,
            read_only_compatible,
            incompatible,
            segment_len,
            index_base_bits,
            external_min,
            created_ms,
        })
    }
}

/// What tells one start of the machine, one mount and one directory from another.
///
/// Equal identities mean that the page cache may have survived. They prove nothing: a forced
/// unmount loses pages and keeps all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootIdentity {
    /// The kernel's boot id; zeros where there is none.
    pub boot_id: [u8; 16],
    /// Device of the directory.
    pub device: u64,
    /// Inode of the directory.
    pub inode: u64,
    /// The mount's unique id.
    pub mount_id: u64,
}

/// One opening of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Counts openings; the top bits of every sequence number of the session.
    pub epoch: u64,
    /// The machine at the time.
    pub boot: BootIdentity,
    /// Everything was synced and nothing was written since.
    pub clean: bool,
    /// A write-back failed: what is in the page cache is not what is on disk.
    pub suspect: bool,
    /// When it was opened, in ms since 1970.
    pub opened_ms: u64,
    /// The process that opened it.
    pub pid: u32,
    /// Of a clean session: checksum of the shared words, [`words_crc`](Self::words_crc_of).
    pub words_crc: u32,
    /// Of a clean session: checksum of the words of all segments,
    /// [`segments_crc`](Self::segments_crc_of).
    pub segments_crc: u32,
    /// Records with a sequence number up to this one were cleared, and count no more.
    pub cleared_seq: u64,
    /// Records with a sequence number up to this one name files that were whole on the disk: one
    /// that is missing or damaged is so by damage, or was removed for what is newer.
    pub settled_seq: u64,
}

impl Session {
    const CLEAN: u64 = 1;
    const SUSPECT: u64 = 2;
    /// Bits of a sequence number below the epoch.
    pub const COUNTER_BITS: u32 = 40;

    /// The first sequence number of the session.
    #[must_use]
    pub const fn first_seq(&self) -> u64 {
        self.epoch << Self::COUNTER_BITS
    }

    /// Encodes the session slot of store `uuid`.
    #[must_use]
    pub fn encode(&self, uuid: &[u8; 16]) -> [u8; SESSION_LEN] {
        let flags =
            if self.clean { Self::CLEAN } else { 0 } | if self.suspect { Self::SUSPECT } else { 0 };
        let mut out = Writer::<SESSION_LEN>::new();
        out.skip_to(4).put(&SESSION_MAGIC).put(&self.epoch.to_le_bytes());
        out.put(&self.boot.boot_id).put(&self.boot.device.to_le_bytes());
        out.put(&self.boot.inode.to_le_bytes()).put(&self.boot.mount_id.to_le_bytes());
        out.put(&flags.to_le_bytes()).put(&self.opened_ms.to_le_bytes());
        out.put(&self.pid.to_le_bytes());
        out.put(&self.words_crc.to_le_bytes()).put(&self.segments_crc.to_le_bytes());
        out.skip_to(88).put(&self.cleared_seq.to_le_bytes());
        out.put(&self.settled_seq.to_le_bytes());
        out.seal(|body| crc_from(crc_from(0, uuid), body))
    }

    /// Checksum of the six shared words, in the order of their places.
    #[must_use]
    pub fn words_crc_of(words: &[u64; 6]) -> u32 {
        words.iter().fold(0, |crc, word| crc_from(crc, &word.to_le_bytes()))
    }

    /// Checksum of all segments' ids, committed words and states, by rising id.
    #[must_use]
    pub fn segments_crc_of(segments: impl IntoIterator<Item = [u64; 3]>) -> u32 {
        let words = segments.into_iter().flatten();
        words.fold(0, |crc, word| crc_from(crc, &word.to_le_bytes()))
    }

    /// Decodes and checks a session slot of store `uuid`.
    ///
    /// # Errors
    /// [`FormatError`] when the slot was never written, torn, damaged, or of another store.
    pub fn decode(bytes: &[u8], uuid: &[u8; 16]) -> Result<Self, FormatError> {
        const WHAT: &str = "session slot";
        let mut fields = Reader::new(WHAT, bytes, SESSION_LEN)?;
        let crc = fields.u32();
        check_magic(WHAT, SESSION_MAGIC, fields.array())?;
        let body = bytes.get(4..SESSION_LEN).unwrap_or_default();
        check_crc(WHAT, crc, crc_from(crc_from(0, uuid), body))?;
        let epoch = fields.u64();
        let boot = BootIdentity {
            boot_id: fields.array(),
            device: fields.u64(),
            inode: fields.u64(),
            mount_id: fields.u64(),
        };
        let flags = fields.u64();
        let opened_ms = fields.u64();
        let pid = fields.u32();
        let (words_crc, segments_crc) = (fields.u32(), fields.u32());
        let _: [u8; 4] = fields.array();
        let cleared_seq = fields.u64();
        let settled_seq = fields.u64();
        if epoch == 0 || epoch >> 24 != 0 {
            let allowed = "1 to 2^24 - 1";
            return Err(FormatError::Field { what: WHAT, field: "epoch", found: epoch, allowed });
        }
        let clean = flags & Self::CLEAN != 0;
        let suspect = flags & Self::SUSPECT != 0;
        Ok(Self {
            epoch,
            boot,
            clean,
            suspect,
            opened_ms,
            pid,
            words_crc,
            segments_crc,
            cleared_seq,
            settled_seq,
        })
    }
}
