//! What there is without a store: a mapped file, and the loop over its elements. Nothing that
//! checks or names arrays can be faster.

use std::fs::File;
use std::path::Path;

use larder_rivals::Result;
use memmap2::{Mmap, MmapMut};

/// Maps a file to be read.
pub(super) fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: a file of this measurement's own directory, which nobody writes to while it is
    // mapped.
    Ok(unsafe { Mmap::map(&file)? })
}

/// Makes a file with blocks for `len` bytes, and maps it to be written.
pub(super) fn map_new(path: &Path, len: u64) -> Result<(File, MmapMut)> {
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len)?;
    // SAFETY: the file was made here, and nobody else knows it.
    let map = unsafe { MmapMut::map_mut(&file)? };
    Ok((file, map))
}

/// The floats that bytes are, which have to be aligned.
pub(super) fn floats(bytes: &[u8]) -> Result<&[f32]> {
    // SAFETY: every bit pattern is a float.
    let (head, floats, tail) = unsafe { bytes.align_to::<f32>() };
    if !head.is_empty() || !tail.is_empty() {
        return Err("the floats are not aligned".into());
    }
    Ok(floats)
}

/// Sums in 32 lanes, as an optimized loop does: bound by memory, not by the additions.
#[inline(never)]
pub(super) fn sum(elements: &[f32]) -> f64 {
    let mut total = 0.0;
    // Of small whole numbers, so few that every partial sum is exact.
    for block in elements.chunks(1 << 16) {
        let mut lanes = [0.0_f32; 32];
        let (whole, rest) = block.as_chunks::<32>();
        for some in whole {
            for (lane, element) in lanes.iter_mut().zip(some) {
                *lane += element;
            }
        }
        total += f64::from(lanes.iter().chain(rest).sum::<f32>());
    }
    total
}

/// What [`sum`] gives of so many elements as `super::floats` makes.
pub(super) fn expected_sum(count: usize) -> f64 {
    let rest: usize = (0..count % 8).sum();
    (count / 8 * 28 + rest) as f64
}

/// Makes sure that a sum came out right.
pub(super) fn check(found: f64, count: usize) -> Result<()> {
    let expected = expected_sum(count);
    if found == expected { Ok(()) } else { Err(format!("a sum of {found}, not {expected}").into()) }
}
