//! Compressed arrays: chunks that are decoded one by one, to the heap.
//!
//! ```text
//! | length of each chunk as stored, u32 | chunk | chunk | …
//! ```
//!
//! A chunk is a frame of zstd of its regrouped bytes (`shuffle.rs`), or the bytes themselves if
//! it is as long as they are.
//!
//! # Invariants
//! 1. The lengths add up to what is stored, exactly, and none is longer than the chunk's bytes.
//! 2. Decoding reserves what the shape says, which the checked descriptor bounds, and no chunk
//!    gives more or fewer bytes than its share of that.

use std::ops::Range;

use larder_format::{ArrayDescriptor, Compression};

use super::error::ArrayError;
use super::plain::Plain;
use crate::disk::Frozen;

/// The stored bytes of a compressed array, and where its chunks are.
#[derive(Debug)]
pub(super) struct Packed {
    descriptor: ArrayDescriptor,
    stored: Plain,
    /// Where each chunk begins in what is stored, and where the last one ends.
    starts: Vec<usize>,
}

impl Packed {
    /// Over what stands behind the descriptor.
    pub(super) fn open(descriptor: ArrayDescriptor, stored: Plain) -> Result<Self, ArrayError> {
        let count = chunk_count(&descriptor).ok_or(ArrayError::Unpackable)?;
        let table_len = count.checked_mul(4).filter(|len| *len <= stored.len());
        let table = stored.bytes(0..table_len.ok_or(ArrayError::Unpackable)?)?;
        let mut starts = vec![table.len()];
        let mut end = table.len();
        for (number, len) in table.as_chunks::<4>().0.iter().enumerate() {
            let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
            if len > raw_range(&descriptor, number).len() {
                return Err(ArrayError::Unpackable);
            }
            end = end.checked_add(len).ok_or(ArrayError::Unpackable)?;
            starts.push(end);
        }
        if end != stored.len() {
            return Err(ArrayError::Unpackable);
        }
        Ok(Self { descriptor, stored, starts })
    }

    /// Decodes some bytes of the array: all chunks that they lie in.
    pub(super) fn decode(&self, bytes: Range<usize>) -> Result<Plain, ArrayError> {
        let chunk_len = 1_usize << self.descriptor.chunk_log2();
        let first = bytes.start / chunk_len;
        let end = if bytes.is_empty() { first } else { bytes.end.div_ceil(chunk_len) };
        let from = first * chunk_len;
        let to = if end == first { from } else { raw_range(&self.descriptor, end - 1).end };
        let decoded = Frozen::on_heap(to - from, |out| {
            for number in first..end {
                let range = raw_range(&self.descriptor, number);
                self.decode_chunk(number, &mut out[range.start - from..range.end - from])?;
            }
            Ok(())
        });
        let decoded = decoded.map_err(|_| ArrayError::NoMemory { len: (to - from) as u64 })??;
        self.stored.still()?;
        Ok(Plain::on_heap(decoded).part(bytes.start - from..bytes.end - from))
    }

    fn decode_chunk(&self, number: usize, out: &mut [u8]) -> Result<(), ArrayError> {
        let range = match self.starts.get(number..number + 2) {
            Some(&[from, to]) => from..to,
            _ => return Err(ArrayError::Unpackable),
        };
        let stored = self.stored.bytes(range)?;
        if stored.len() == out.len() {
            out.copy_from_slice(stored);
            return Ok(());
        }
        unpack(stored, self.item_len(), out)
    }

    fn item_len(&self) -> usize {
        usize::try_from(self.descriptor.item_len()).unwrap_or(1)
    }

    /// Bytes of disk that stay taken while it is held.
    pub(super) fn pinned_len(&self) -> u64 {
        self.stored.pinned_len()
    }
}

/// What is said of the same array when it is not compressed.
pub(crate) fn uncompressed(descriptor: &ArrayDescriptor) -> ArrayDescriptor {
    let plain = descriptor.with_compression(Compression::None);
    plain.with_chunk_log2(ArrayDescriptor::CHUNK_LOG2).unwrap_or(plain)
}

/// How many chunks there are.
fn chunk_count(descriptor: &ArrayDescriptor) -> Option<usize> {
    usize::try_from(descriptor.data_len().div_ceil(1 << descriptor.chunk_log2())).ok()
}

/// Which bytes of the array a chunk holds.
fn raw_range(descriptor: &ArrayDescriptor, number: usize) -> Range<usize> {
    let len = usize::try_from(descriptor.data_len()).unwrap_or(usize::MAX);
    let from = number.saturating_mul(1 << descriptor.chunk_log2()).min(len);
    from..from.saturating_add(1 << descriptor.chunk_log2()).min(len)
}

#[cfg(feature = "zstd")]
fn unpack(frame: &[u8], item_len: usize, out: &mut [u8]) -> Result<(), ArrayError> {
    let mut shuffled = vec![0; out.len()];
    match zstd::bulk::decompress_to_buffer(frame, &mut shuffled) {
        Ok(len) if len == out.len() => {}
        _ => return Err(ArrayError::Unpackable),
    }
    super::shuffle::unshuffle(&shuffled, item_len, out);
    Ok(())
}

#[cfg(not(feature = "zstd"))]
fn unpack(_: &[u8], _: usize, _: &mut [u8]) -> Result<(), ArrayError> {
    Err(ArrayError::Unsupported)
}

/// The level that arrays are compressed at: regrouped bytes gain little from higher ones.
#[cfg(feature = "zstd")]
const LEVEL: i32 = 1;

/// What is stored of a compressed array, its descriptor first; `None` if that saves less than an
/// eighth of the data.
#[cfg(feature = "zstd")]
pub(crate) fn pack(descriptor: &ArrayDescriptor, data: &[u8]) -> Option<Vec<u8>> {
    let item_len = usize::try_from(descriptor.item_len()).ok()?;
    let most = data.len() - data.len().div_ceil(8);
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).ok()?;
    let (mut table, mut frames, mut shuffled) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in data.chunks(1 << descriptor.chunk_log2()) {
        shuffled.clear();
        super::shuffle::shuffle(chunk, item_len, &mut shuffled);
        let frame = compressor.compress(&shuffled).ok()?;
        let stored = if frame.len() < chunk.len() { &*frame } else { chunk };
        table.extend(u32::try_from(stored.len()).ok()?.to_le_bytes());
        frames.extend_from_slice(stored);
        if table.len() + frames.len() > most {
            return None;
        }
    }
    Some([descriptor.encode(), table, frames].concat())
}
