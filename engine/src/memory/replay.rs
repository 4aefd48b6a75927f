//! Hits on their way to a policy that wants to hear of each.
//!
//! A hit takes no lock. So it is put into a ring, and whoever holds the shard's lock next tells
//! the policy before it asks it anything. A thread has a ring of its own in each shard, as
//! with counters (`stripes.rs`), those beyond the last but one share the last. Whoever finds its
//! ring full empties it, if the lock is to be had at once; else the hit is lost. One thread
//! alone loses none, and they come in order.
//!
//! # Orderings
//! All Relaxed. A word is a hint that stands by itself: it names an entry, and counts only if that
//! is linked when the lock is held. A word that comes late is
//! told late, and one that is overwritten is lost, which the policies allow for.

use super::readers::Record;
use crate::sync::{AtomicU64, Ordering};

/// Rings of a shard.
const RINGS: usize = if cfg!(loom) { 2 } else { 8 };
/// Hits that a ring can hold.
const LEN: usize = if cfg!(loom) { 2 } else { 64 };

#[derive(Debug)]
#[repr(align(128))]
struct Ring {
    words: [AtomicU64; LEN],
    /// Hits that were put in so far.
    end: AtomicU64,
    /// Hits that were taken out.
    begin: AtomicU64,
}

/// The rings of one shard.
#[derive(Debug)]
pub(crate) struct Replay(Box<[Ring]>);

impl Replay {
    pub(crate) fn new() -> Self {
        let word = || AtomicU64::new(0);
        let ring = || Ring { words: std::array::from_fn(|_| word()), end: word(), begin: word() };
        Self((0..RINGS).map(|_| ring()).collect())
    }

    /// Puts in a hit. Whether there was room.
    #[inline]
    pub(crate) fn push(&self, record: &Record, id: u32) -> bool {
        const SHARED: usize = RINGS - 1;
        let at = record.index().min(SHARED);
        let ring = &self.0[at];
        let end = ring.end.load(Ordering::Relaxed);
        if end.wrapping_sub(ring.begin.load(Ordering::Relaxed)) >= LEN as u64 {
            return false;
        }
        if at < SHARED {
            ring.end.store(end + 1, Ordering::Relaxed);
        } else if ring
            .end
            .compare_exchange(end, end + 1, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
        {
            return true; // Lost to another thread's.
        }
        // Never 0, which stands for nothing.
        ring.words[index(end)].store(u64::from(id) + 1, Ordering::Relaxed);
        true
    }

    /// Takes out all hits. For the holder of the shard's lock.
    #[inline]
    pub(crate) fn drain(&self, mut hit: impl FnMut(u32)) {
        for ring in &self.0 {
            let (begin, end) =
                (ring.begin.load(Ordering::Relaxed), ring.end.load(Ordering::Relaxed));
            for at in begin..end {
                let word = &ring.words[index(at)];
                let Some(id) = word.load(Ordering::Relaxed).checked_sub(1) else { continue };
                word.store(0, Ordering::Relaxed);
                #[expect(clippy::cast_possible_truncation, reason = "it was an id")]
                hit(id as u32);
            }
            if begin != end {
                ring.begin.store(end, Ordering::Relaxed);
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "less than the length of a ring")]
const fn index(at: u64) -> usize {
    (at % LEN as u64) as usize
}
