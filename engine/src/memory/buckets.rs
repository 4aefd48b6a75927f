//! Which entry has which hash: cache lines of words.
//!
//! ```text
//! bucket   word 0 │ … │ word 6 │ passed          a cache line
//! word     tag, 32 bits of the hash, never 0 │ id of the entry, 32 bits          empty: 0
//! ```
//!
//! An entry belongs into the bucket of its tag, or, where that is full, into the next that is
//! not. `passed` counts the entries that passed a bucket by on their way (Bronson and Shi, "Open
//! sourcing F14", 2019): where it is 0, nothing more is to be found further on. So there are no
//! tombstones, and removing leaves no trace. The bucket of a tag is a share of all buckets, from
//! the top bits down, so that any number of buckets will do, and larger buckets are filled from
//! the words alone.
//!
//! # Invariants
//! 1. Only the holder of the shard's lock writes.
//! 2. The word of a key stays where it is from its insertion to its removal. A new value of the
//!    key is another id in the same word.
//! 3. An entry is counted as passed before its word is stored, and until that is cleared.
//! 4. The words of buckets that were replaced by larger ones never change again.
//!
//! # Why a lookup is right
//! Of each word that it loads, and of each count, it sees a state that the key was in between
//! its beginning and its end. While the key is there, its word is in one place (2), and every
//! bucket before counts it (3); so a lookup can only miss it that overlaps with a removal, and
//! then the key was absent for a moment in between. A lookup in buckets that have been replaced
//! meanwhile sees them as they were at that moment (4), which lies between its beginning and
//! its end, too.
//!
//! # Orderings
//! Storing a word is Release, loading it Acquire: who sees the word sees the entry, and the counts
//! that lead to it. The same holds for the counts: who is told by one to go on, or not to, sees
//! what was removed before. Clearing a word is Relaxed: it leads to nothing.

use crate::sync::{AtomicU64, Ordering, Site, Turn};

/// Words of a bucket.
pub(crate) const WORDS: usize = if cfg!(loom) { 2 } else { 7 };

#[derive(Debug, Default)]
#[cfg_attr(not(loom), repr(align(64)))]
struct Bucket {
    words: [AtomicU64; WORDS],
    passed: AtomicU64,
}

/// 32 bits of a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(u64);

impl Tag {
    /// The upper bits of a hash; the lowest of them is given up, so that no word is 0.
    #[inline]
    pub(crate) const fn of(hash: u64) -> Self {
        Self(hash >> 33 << 33 | 1 << 32)
    }

    const fn word(self, id: u32) -> u64 {
        self.0 | id as u64
    }

    const fn of_word(word: u64) -> Self {
        Self(word >> 32 << 32)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
const fn id_of(word: u64) -> u32 {
    word as u32
}

/// Where a word is.
type At = (usize, usize);

/// What a first look tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Glance {
    /// An entry with the tag. There may be more.
    Named(u32),
    /// There may be entries with the tag in other buckets: one in ten or so is further on.
    Further,
    /// There is none.
    Absent,
}

/// Some number of buckets; and what makes a model try more.
#[derive(Debug)]
pub(crate) struct Buckets(Box<[Bucket]>, Turn);

impl Buckets {
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count.max(1)).map(|_| Bucket::default()).collect(), Turn::default())
    }

    #[inline]
    pub(crate) const fn count(&self) -> usize {
        self.0.len()
    }

    /// How many entries they are meant for: four fifths of the words.
    #[inline]
    pub(crate) const fn room(&self) -> usize {
        if cfg!(loom) { self.count() * WORDS } else { (self.count() * WORDS * 4).div_ceil(5) }
    }

    #[inline]
    fn home(&self, tag: Tag) -> usize {
        // Less than the number of buckets, which is less than 2³².
        (((tag.0 >> 32) * self.0.len() as u64) >> 32) as usize
    }

    #[inline]
    const fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.0.len() { 0 } else { bucket + 1 }
    }

    /// Looks into the bucket where a tag belongs. By value, so that a lookup can stay in registers.
    #[inline(always)]
    pub(crate) fn glance(&self, tag: Tag) -> Glance {
        let bucket = &self.0[self.home(tag)];
        // Two at a time: all seven at once would take registers that have to be saved.
        let least = |from: usize| {
            (from..WORDS)
                .step_by(2)
                .fold(u64::MAX, |least, at| least.min(self.rest(bucket, at, tag)))
        };
        let least = least(0).min(least(1));
        if least >> 32 == 0 {
            Glance::Named(id_of(least))
        } else if self.is_passed(bucket) {
            Glance::Further
        } else {
            Glance::Absent
        }
    }

    /// Asks of all entries with this tag, until one is it.
    #[inline]
    pub(crate) fn find(&self, tag: Tag, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(tag);
        for _ in 0..self.0.len() {
            let bucket = &self.0[at];
            for at in 0..WORDS {
                let rest = self.rest(bucket, at, tag);
                if rest >> 32 == 0 && is_it(id_of(rest)) {
                    return Some(id_of(rest));
                }
            }
            if !self.is_passed(bucket) {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// What is left of a word without this tag: of a word with the tag its id, which is less than
    /// what is left of any other.
    #[inline(always)]
    fn rest(&self, bucket: &Bucket, at: usize, tag: Tag) -> u64 {
        self.1.take();
        // Acquire: pairs with `insert` and `rename`.
        bucket.words[at].load(Site::WordLoad.is(Ordering::Acquire)) ^ tag.0
    }

    #[inline(always)]
    fn is_passed(&self, bucket: &Bucket) -> bool {
        self.1.take();
        // Acquire: pairs with the Release in `pass`.
        bucket.passed.load(Site::WordLoad.is(Ordering::Acquire)) != 0
    }

    /// Adds an entry. There is room.
    #[inline]
    pub(crate) fn insert(&self, tag: Tag, id: u32) {
        let mut at = self.home(tag);
        for _ in 0..self.0.len() {
            // Relaxed: nobody else writes.
            let vacant = |word: &&AtomicU64| word.load(Ordering::Relaxed) == 0;
            if let Some(word) = self.0[at].words.iter().find(vacant) {
                self.1.take();
                // Release: pairs with the Acquire in `rest`.
                word.store(tag.word(id), Site::WordStore.is(Ordering::Release));
                return;
            }
            self.pass(at, 1);
            at = self.next(at);
        }
    }

    /// Makes a key's word name another entry.
    #[inline]
    pub(crate) fn rename(&self, tag: Tag, old: u32, new: u32) {
        if let Some((bucket, word)) = self.locate(tag, old) {
            self.1.take();
            // Release: as in `insert`.
            self.0[bucket].words[word].store(tag.word(new), Site::WordStore.is(Ordering::Release));
        }
    }

    /// Takes out an entry. Whether it was there.
    #[inline]
    pub(crate) fn remove(&self, tag: Tag, id: u32) -> bool {
        let Some((bucket, word)) = self.locate(tag, id) else { return false };
        self.1.take();
        // Relaxed: see the header.
        self.0[bucket].words[word].store(0, Ordering::Relaxed);
        let mut at = self.home(tag);
        while at != bucket {
            self.pass(at, -1);
            at = self.next(at);
        }
        true
    }

    /// The same entries in another number of buckets.
    pub(crate) fn resized(&self, count: usize) -> Self {
        let resized = Self::new(count);
        for word in self.words() {
            resized.insert(Tag::of_word(word), id_of(word));
        }
        resized
    }

    /// The ids of all entries.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.words().map(id_of)
    }

    /// Checks that all entries can be found, under the tags that they should have, and that what
    /// is counted as passed is what has passed.
    pub(crate) fn validate(&self, tag_of: impl Fn(u32) -> Option<Tag>) -> Result<(), String> {
        let mut passed = vec![0; self.count()];
        for word in self.words() {
            let (id, tag) = (id_of(word), Tag::of_word(word));
            if tag_of(id) != Some(tag) {
                return Err(format!("the key of entry {id} does not have the hash it had"));
            }
            let Some((bucket, _)) = self.locate(tag, id) else {
                return Err(format!("entry {id} cannot be found by its hash"));
            };
            let mut at = self.home(tag);
            while at != bucket {
                passed[at] += 1;
                at = self.next(at);
            }
        }
        for (at, (bucket, passed)) in self.0.iter().zip(passed).enumerate() {
            let counted = bucket.passed.load(Ordering::Relaxed);
            if counted != passed {
                return Err(format!("{passed} entries passed bucket {at}, which counts {counted}"));
            }
        }
        Ok(())
    }

    fn words(&self) -> impl Iterator<Item = u64> {
        // Relaxed, here and below: for the holder of the lock.
        let words = self.0.iter().flat_map(|bucket| &bucket.words);
        words.map(|word| word.load(Ordering::Relaxed)).filter(|&word| word != 0)
    }

    #[inline]
    fn locate(&self, tag: Tag, id: u32) -> Option<At> {
        let mut at = self.home(tag);
        for _ in 0..self.0.len() {
            let bucket = &self.0[at];
            let is_it = |word: &AtomicU64| word.load(Ordering::Relaxed) == tag.word(id);
            if let Some(word) = bucket.words.iter().position(is_it) {
                return Some((at, word));
            }
            if bucket.passed.load(Ordering::Relaxed) == 0 {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    #[inline]
    fn pass(&self, bucket: usize, change: i64) {
        let passed = &self.0[bucket].passed;
        let changed = passed.load(Ordering::Relaxed).wrapping_add_signed(change);
        self.1.take();
        // Release: pairs with the Acquire in `is_passed`.
        passed.store(changed, Site::PassedStore.is(Ordering::Release));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn find(buckets: &Buckets, tag: Tag, id: u32) -> bool {
        buckets.find(tag, |other| other == id).is_some()
    }

    #[test]
    fn entries_are_found_past_full_buckets_and_leave_no_trace() {
        // Twenty entries for one bucket of five; a few of them with the very same tag.
        let buckets = Buckets::new(5);
        let tag = |id: u32| Tag::of(u64::from(id / 3) << 33);
        for id in 0..20 {
            buckets.insert(tag(id), id);
        }
        assert!((0..20).all(|id| find(&buckets, tag(id), id)));
        assert!(!find(&buckets, tag(19), 20));
        assert_eq!(buckets.validate(|id| Some(tag(id))), Ok(()));
        buckets.rename(tag(8), 8, 80);
        assert!(find(&buckets, tag(8), 80) && !find(&buckets, tag(8), 8));
        assert!(buckets.remove(tag(8), 80) && !buckets.remove(tag(8), 80));
        for id in (0..20).rev().filter(|&id| id != 8) {
            assert!(buckets.remove(tag(id), id));
        }
        assert_eq!(buckets.validate(|_| None), Ok(()));
        assert!(buckets.0.iter().all(|bucket| bucket.passed.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn larger_buckets_hold_the_same() {
        let tag = |id: u32| Tag::of(u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let count: u32 = if cfg!(miri) { 60 } else { 1_000 };
        let mut buckets = Buckets::new(1);
        for id in 0..count {
            while id as usize >= buckets.room() {
                buckets = buckets.resized(buckets.count() + buckets.count() / 4 + 1);
            }
            buckets.insert(tag(id), id);
        }
        assert!((0..count).all(|id| find(&buckets, tag(id), id)));
        assert_eq!(buckets.ids().count(), count as usize);
        assert_eq!(buckets.validate(|id| Some(tag(id))), Ok(()));
        assert!(buckets.validate(|_| Some(Tag::of(0))).is_err());
        assert_eq!(size_of::<Bucket>(), 64);
    }
}
