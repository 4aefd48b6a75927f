//! Values as they are stored: plain, or packed by zstd.
//!
//! Packed is the length of the value as a u64, and behind it one frame of zstd. Which of both a
//! value is says the flag *compressed* of its record, so that a store may hold both.
//!
//! # Invariants
//! 1. Whatever packed bytes say, unpacking them reserves no more than the length that they
//!    state, and that only if frame and store allow it and the frame is long enough for it.
//! 2. A frame that was packed with a dictionary names it and has a checksum: another dictionary
//!    that goes by the same name gives no wrong value.

use std::fmt;

#[cfg(feature = "zstd")]
use super::zstd::Zstd;
use crate::error::Result;

/// Bytes of the length before a frame.
const LENGTH: usize = 8;

/// Most bytes of value that a block of a frame can stand for.
const BLOCK_MAX: u64 = 128 << 10;
/// Fewest bytes that a block takes.
const BLOCK_LEN_MIN: u64 = 3;

/// Packs values, if that is on, and unpacks them, if it can be.
#[derive(Debug)]
pub(super) struct Packer {
    /// Values of this many bytes and more are packed; `None` if none are.
    min_len: Option<usize>,
    #[cfg(feature = "zstd")]
    zstd: Zstd,
}

/// Why packed bytes are not a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "zstd"), expect(dead_code, reason = "nothing comes that far"))]
pub(super) enum Unreadable {
    /// This build knows no zstd.
    #[cfg(not(feature = "zstd"))]
    Unsupported,
    /// There is no length, or no one frame behind it.
    NoFrame,
    /// The length stated is more than the store takes.
    TooLong { len: u64, limit: u64 },
    /// The length stated is not that of the frame, or more than the frame can hold.
    Lie { len: u64 },
    /// There is no memory for so much.
    NoMemory { len: u64 },
    /// The frame needs a dictionary that was not given.
    #[cfg(feature = "zstd")]
    Dictionary { needed: u32, given: Option<u32> },
    /// The frame is damaged, or its dictionary is another one of this id.
    Damaged,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(not(feature = "zstd"))]
            Self::Unsupported => {
                out.write_str("the value is compressed, and this build is without feature zstd")
            }
            Self::NoFrame => out.write_str("the value is no length and one frame of zstd"),
            Self::TooLong { len, limit } => {
                write!(out, "the value states {len} bytes, and the store takes at most {limit}")
            }
            Self::Lie { len } => {
                write!(out, "the value states {len} bytes, and its frame holds another number")
            }
            Self::NoMemory { len } => write!(out, "there is no memory for the {len} bytes of it"),
            #[cfg(feature = "zstd")]
            Self::Dictionary { needed, given: None } => {
                write!(out, "the value needs dictionary {needed}, and none was given")
            }
            #[cfg(feature = "zstd")]
            Self::Dictionary { needed, given: Some(given) } => {
                write!(out, "the value needs dictionary {needed}, and {given} was given")
            }
            Self::Damaged => out.write_str("the value cannot be decompressed"),
        }
    }
}

impl Packer {
    #[cfg(feature = "zstd")]
    pub(super) fn new(options: &super::builder::Options) -> Result<Self> {
        let min_len = options.compression.as_ref().map(|options| options.min_len);
        Ok(Self { min_len, zstd: Zstd::new(options.compression.as_ref())? })
    }

    #[cfg(not(feature = "zstd"))]
    #[expect(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
    pub(super) const fn new(_: &super::builder::Options) -> Result<Self> {
        Ok(Self { min_len: None })
    }

    /// Whether a value of this length would be tried.
    pub(super) fn tries(&self, len: usize) -> bool {
        cfg!(feature = "zstd") && self.min_len.is_some_and(|min_len| len >= min_len)
    }

    /// The value packed; `None` if that is off, or saves less than an eighth of it.
    pub(super) fn pack(&self, value: &[u8]) -> Option<Vec<u8>> {
        if !self.tries(value.len()) {
            return None;
        }
        let most = value.len() - value.len().div_ceil(8);
        let frame_len = most.checked_sub(LENGTH)?;
        #[cfg(feature = "zstd")]
        {
            // What has no memory to be made smaller is stored as it is.
            let mut frame = Vec::new();
            frame.try_reserve_exact(frame_len).ok()?;
            let frame = self.zstd.compress(value, frame)?;
            if frame.len() > frame_len {
                return None;
            }
            let mut packed = Vec::new();
            packed.try_reserve_exact(LENGTH + frame.len()).ok()?;
            packed.extend_from_slice(&(value.len() as u64).to_le_bytes());
            packed.extend_from_slice(&frame);
            Some(packed)
        }
        #[cfg(not(feature = "zstd"))]
        {
            let _ = frame_len;
            None
        }
    }

    /// The value of packed bytes, if it is one of at most `limit` bytes.
    pub(super) fn unpack(&self, packed: &[u8], limit: u64) -> Result<Vec<u8>, Unreadable> {
        let (len, frame) = packed.split_first_chunk::<LENGTH>().ok_or(Unreadable::NoFrame)?;
        let len = u64::from_le_bytes(*len);
        if len > limit {
            return Err(Unreadable::TooLong { len, limit });
        }
        if len.div_ceil(BLOCK_MAX) > frame.len() as u64 / BLOCK_LEN_MIN {
            return Err(Unreadable::Lie { len });
        }
        #[cfg(feature = "zstd")]
        {
            self.zstd.check(frame, len)?;
            let whole = usize::try_from(len).map_err(|_| Unreadable::NoMemory { len })?;
            let mut value = Vec::new();
            value.try_reserve_exact(whole).map_err(|_| Unreadable::NoMemory { len })?;
            let value = self.zstd.decompress(frame, value).ok_or(Unreadable::Damaged)?;
            if value.len() == whole { Ok(value) } else { Err(Unreadable::Lie { len }) }
        }
        #[cfg(not(feature = "zstd"))]
        Err(Unreadable::Unsupported)
    }
}
