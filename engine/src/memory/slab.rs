//! Places for things that never move, named by dense ids.
//!
//! Chunks double in size eight at a time, so that less than an eighth stands empty, and finding
//! a place takes a few instructions and no lock: chunk and offset are bits of the id. Chunks are
//! freed with the slab.
//!
//! ```text
//! id + 64 = 1 mmm oooo…      ids 0…63: 8 chunks of 8     64…191: 8 chunks of 16     …
//! ```
//!
//! # Invariants
//! 1. A chunk that was put in its place stays there as long as the slab.
//! 2. Who writes to a place, or takes out of it, has it alone; who reads it holds something that
//!    keeps it full. The slab cannot check this: its callers do (`table.rs`).
//!
//! # Orderings
//! All Relaxed: whoever learns of an id does so from a word that was stored after the chunk was
//! put in its place and filled, by Release (`buckets.rs`), or under the lock of the writers.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr;

use crate::sync::{AtomicPtr, Ordering};

/// Ids of the first eight chunks, as a power of two.
const FIRST_BITS: u32 = 6;
/// Chunks of one size, as a power of two.
const STEP_BITS: u32 = 3;
/// Chunks for all ids of 32 bits; a model needs few.
const CHUNKS: usize = if cfg!(loom) { 1 } else { ((32 - FIRST_BITS + 1) << STEP_BITS) as usize };

/// Number of ids: all but the last, which mean other things to lists of them: `u32::MAX` means
/// "none", some more where a list begins (`wheel.rs`).
pub(crate) const IDS: u32 = u32::MAX - 1_024;

type Place<T> = UnsafeCell<MaybeUninit<T>>;

/// Places for `T`.
pub(crate) struct Slab<T> {
    /// Where each chunk would begin if it had the ids from 0 on; null if it is not there.
    chunks: Box<[AtomicPtr<Place<T>>]>,
}

// SAFETY: it owns what it holds; moving the slab moves nothing but pointers to it.
unsafe impl<T: Send> Send for Slab<T> {}
// SAFETY: `&Slab` gives `&T` to any thread, and lets any thread put and take a `T` (invariant 2).
unsafe impl<T: Send + Sync> Sync for Slab<T> {}

/// The chunk of an id.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "less than the 33 bits of the number")]
const fn chunk_of(id: u32) -> usize {
    let number = id as u64 + (1 << FIRST_BITS);
    let shift = number.ilog2() - STEP_BITS;
    // The number without its last bits begins with a 1, which counts as one size more.
    const ONE_SIZE_LESS: usize = ((FIRST_BITS - STEP_BITS + 1) << STEP_BITS) as usize;
    ((shift as usize) << STEP_BITS) + (number >> shift) as usize - ONE_SIZE_LESS
}

/// The first id of a chunk.
const fn first_of(chunk: usize) -> usize {
    let steps = 1 << STEP_BITS;
    (((steps + chunk % steps) << (chunk / steps)) << (FIRST_BITS - STEP_BITS)) - (1 << FIRST_BITS)
}

/// How many places a chunk has.
const fn len_of(chunk: usize) -> usize {
    1 << (FIRST_BITS as usize - STEP_BITS as usize + (chunk >> STEP_BITS))
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: (0..CHUNKS).map(|_| AtomicPtr::new(ptr::null_mut())).collect() }
    }

    /// The chunk of an id, which covers it. For one thread at a time.
    #[inline]
    fn chunk(&self, id: u32) -> *mut Place<T> {
        // Relaxed, here and below: see the header.
        let chunk = self.chunks[chunk_of(id)].load(Ordering::Relaxed);
        if chunk.is_null() { self.add_chunk(chunk_of(id)) } else { chunk }
    }

    #[cold]
    fn add_chunk(&self, chunk: usize) -> *mut Place<T> {
        let places = || -> Box<[Place<T>]> {
            (0..len_of(chunk)).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect()
        };
        let begin = |places: &mut [Place<T>]| places.as_mut_ptr().wrapping_sub(first_of(chunk));
        let mut chosen = places();
        if begin(&mut chosen).is_null() {
            // It would look as if it were not there. Another one is elsewhere.
            let other = places();
            chosen = other;
        }
        let begin = begin(Box::leak(chosen));
        self.chunks[chunk].store(begin, Ordering::Relaxed);
        begin
    }

    /// # Safety
    /// The id is covered.
    #[inline(always)]
    unsafe fn place(&self, id: u32) -> *mut T {
        // SAFETY: the chunk of an id of 32 bits is less than `CHUNKS`.
        let chunk = unsafe { self.chunks.get_unchecked(chunk_of(id)) }.load(Ordering::Relaxed);
        // Back inside of the chunk, as it covers the id.
        UnsafeCell::raw_get(chunk.wrapping_add(id as usize)).cast()
    }

    /// # Safety
    /// The id is covered, its place is full, and nobody takes out of it while the reference
    /// lives (invariant 2).
    #[inline]
    pub(crate) unsafe fn get(&self, id: u32) -> &T {
        // SAFETY: the caller's.
        let place = unsafe { self.place(id) };
        // SAFETY: full, so it was written as a `T`; nobody writes to it meanwhile.
        unsafe { &*place }
    }

    /// Fills a place, and covers its id. For one thread at a time.
    ///
    /// # Safety
    /// The place of the id is empty, and nobody else reads or writes it.
    #[inline]
    pub(crate) unsafe fn put(&self, id: u32, value: T) {
        // Inside of the chunk, as it covers the id.
        let place = UnsafeCell::raw_get(self.chunk(id).wrapping_add(id as usize)).cast::<T>();
        // SAFETY: ours alone, and in a chunk of such places.
        unsafe { place.write(value) };
    }

    /// Empties a place.
    ///
    /// # Safety
    /// The id is covered, its place is full, and nobody else reads or writes it.
    pub(crate) unsafe fn take(&self, id: u32) -> T {
        // SAFETY: the caller's.
        let place = unsafe { self.place(id) };
        // SAFETY: full, and ours alone; it counts as empty from now on.
        unsafe { place.read() }
    }
}

impl<T> Drop for Slab<T> {
    fn drop(&mut self) {
        for (at, chunk) in self.chunks.iter().enumerate() {
            let chunk = chunk.load(Ordering::Relaxed);
            if !chunk.is_null() {
                let first = chunk.wrapping_add(first_of(at));
                let places = ptr::slice_from_raw_parts_mut(first, len_of(at));
                // SAFETY: `cover` made it of a box of this length; `&mut self`: nobody is left.
                // What places still hold is not dropped, but leaked.
                drop(unsafe { Box::from_raw(places) });
            }
        }
    }
}

impl<T> fmt::Debug for Slab<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Slab")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_a_place_of_its_own() {
        let (mut chunk, mut left) = (0, len_of(0));
        for id in 0..if cfg!(miri) { 1_000 } else { 100_000 } {
            if left == 0 {
                chunk += 1;
                left = len_of(chunk);
                assert_eq!(first_of(chunk), id as usize);
            }
            assert_eq!(chunk_of(id), chunk, "id {id}");
            left -= 1;
        }
        let last = chunk_of(u32::MAX);
        assert!(last < CHUNKS && u32::MAX as usize - first_of(last) < len_of(last));
    }

    #[test]
    fn little_stands_empty() {
        for last in [999, 65_535, 999_999, 123_456_788] {
            let places: usize = (0..=chunk_of(last)).map(len_of).sum();
            let needed = last as usize + 1;
            assert!(places >= needed && places < needed + needed / 8 + 16, "{needed}: {places}");
        }
    }

    #[test]
    fn what_is_put_stays_where_it_is() {
        let slab = Slab::new();
        let count = if cfg!(miri) { 100 } else { 10_000 };
        for id in 0..count {
            // SAFETY: not filled before.
            unsafe { slab.put(id, id.to_string()) };
        }
        // SAFETY: it was filled, and is emptied below.
        let first: *const String = unsafe { slab.get(0) };
        for id in 0..count {
            // SAFETY: filled above, and emptied once.
            assert_eq!(unsafe { slab.get(id) }, &id.to_string());
        }
        // SAFETY: as above.
        assert!(ptr::eq(first, unsafe { slab.get(0) }));
        for id in 0..count {
            // SAFETY: as above.
            drop(unsafe { slab.take(id) });
        }
    }
}
