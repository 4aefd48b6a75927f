//! Which entry has which hash: cache lines of names, and a byte of the hash for each.
//!
//! ```text
//! bucket   hints 0…7 │ hints 8…11, passed: 32 bits │ name 0 │ … │ name 11      a cache line
//! hint     8 bits of the hash, never 0; 0: nothing there
//! name     id of the entry, 32 bits, inverted; 0: none
//! ```
//!
//! A lookup compares eight hints at once (Mycroft's test for a zero byte), and looks only at entries
//! whose hint is the right one. The key decides.
//!
//! An entry belongs into the bucket of its tag, or, where that is full, into a second one of its own, or into
//! the next after that which is not. `passed` counts the entries that passed a bucket by on their way
//! (Bronson and Shi, "Open sourcing F14", 2019): where it is 0, nothing more is to be found further on. So
//! there are no tombstones, and removing leaves no trace. The buckets of a tag are a share of all, from
//! the top bits down, so that any number of buckets will do.
//!
//! An entry that had to pass a bucket stays further on when there is room again. So where entries come and
//! go, more and more lie further on, up to some balance. If all went to the next bucket, they would gather: at
//! five sixths full, a search in vain would go through 18 buckets, and at three quarters through 3.3; with a
//! second bucket of its own, and two thirds full at most, it goes through 1.4, one that finds through 1.07.
//!
//! # Invariants
//! 1. Only the holder of the shard's lock writes.
//! 2. The name of a key stays where it is from its insertion to its removal. A new value of the
//!    key is another id in the same place.
//! 3. A key is there from the moment its name is stored until that is cleared. Its hint stands
//!    before that begins, and until it has ended.
//! 4. An entry is counted as passed before its name is stored, and until that is cleared.
//! 5. Buckets that were replaced by larger ones never change again.
//!
//! # Why a lookup is right
//! Of each hint, name and count that it loads, it sees a state that the key was in between
//! its beginning and its end. While the key is there, its name is in one place (2), its hint
//! leads there (3), and every bucket before counts it (4); so a lookup can only miss it that overlaps
//! with a removal, and then the key was absent for a moment in between. What it finds was named
//! when it loaded the name, whatever hint led there: a hint that is older than the name at worst
//! leads to another key. A lookup in buckets that have been replaced
//! meanwhile sees them as they were at that moment (5), which lies between its beginning and
//! its end, too.
//!
//! # Orderings
//! Storing a name is Release, loading it Acquire: who sees the name sees the entry, its hint, and the
//! counts that lead to it. Hints and counts share words, and are stored by Release and loaded by
//! Acquire as well: who is told by one that nothing is there, or to go on, sees what was removed
//! before, and does not find it behind another key's hint later. Clearing a name is Relaxed: it
//! leads to nothing.

use crate::sync::{AtomicU32, AtomicU64, Ordering, Site, Turn};

/// Names of a bucket.
pub(crate) const NAMES: usize = if cfg!(loom) { 2 } else { 12 };
/// Hints in a word.
const HINTS: usize = 8;

#[derive(Debug, Default)]
#[cfg_attr(not(loom), repr(align(64)))]
struct Bucket {
    /// Eight hints; the others, and how many entries passed by.
    words: [AtomicU64; 2],
    names: [AtomicU32; NAMES],
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = LOW_BITS << 7;
/// The places of hints in both words, by their highest bits.
const PLACES: [u64; 2] = [high_bits(min(NAMES, HINTS)), high_bits(NAMES.saturating_sub(HINTS))];
/// One entry that passed, in the second word.
const PASSED: u64 = 1 << 32;

const fn min(one: usize, other: usize) -> usize {
    if one < other { one } else { other }
}

/// The highest bits of so many bytes.
const fn high_bits(bytes: usize) -> u64 {
    match bytes {
        0 => 0,
        bytes => HIGH_BITS >> (64 - 8 * bytes),
    }
}

/// The hints of a word that are zero, by their highest bits. Above one that is, there may be others
/// named that are not.
#[inline(always)]
const fn zeros(word: u64, part: usize) -> u64 {
    word.wrapping_sub(LOW_BITS) & !word & PLACES[part]
}

/// Where the name of the lowest of these hints is.
#[inline(always)]
const fn lowest(hints: u64, part: usize) -> usize {
    part * HINTS + hints.trailing_zeros() as usize / 8
}

/// What a hash says of where its entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(u64);

impl Tag {
    /// The upper half of a hash for the bucket, the lowest bits for the hint.
    #[inline]
    pub(crate) const fn of(hash: u64) -> Self {
        Self(hash)
    }

    #[inline(always)]
    const fn hint(self) -> u64 {
        let hint = self.0 & 0xFF;
        if hint == 0 { 1 } else { hint }
    }

    /// The hint eight times.
    #[inline(always)]
    const fn hints(self) -> u64 {
        self.hint().wrapping_mul(LOW_BITS)
    }
}

/// Where a name is, and what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    bucket: u32,
    at: u8,
    id: u32,
}

impl Spot {
    /// The entry that is named there.
    #[inline]
    pub(crate) const fn id(self) -> u32 {
        self.id
    }
}

/// What a first look tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Glance {
    /// An entry with the hint. There may be more.
    Named(u32),
    /// There may be entries with the tag in other buckets: one in twenty or so is further on.
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

    pub(crate) const fn allocated_bytes(&self) -> usize {
        self.count() * size_of::<Bucket>()
    }

    /// How many entries they are meant for: two thirds of the names.
    #[inline]
    pub(crate) const fn room(&self) -> usize {
        if cfg!(loom) { self.count() * NAMES } else { self.count() * NAMES * 2 / 3 }
    }

    #[inline]
    const fn home(&self, tag: Tag) -> usize {
        // Less than the number of buckets, which is less than 2³².
        (((tag.0 >> 32) * self.0.len() as u64) >> 32) as usize
    }

    /// The second bucket of a tag.
    #[inline]
    const fn second(&self, tag: Tag) -> usize {
        (((tag.0 & 0xFFFF_FFFF) * self.0.len() as u64) >> 32) as usize
    }

    #[inline]
    const fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.0.len() { 0 } else { bucket + 1 }
    }

    /// The buckets after the first, in the order in which an entry is looked for there.
    #[inline]
    fn further(&self, tag: Tag) -> impl Iterator<Item = usize> + use<> {
        let second = self.second(tag);
        (second..self.0.len()).chain(0..second)
    }

    /// Looks into the bucket where a tag belongs. By value, so that a lookup can stay in registers.
    #[inline(always)]
    pub(crate) fn glance(&self, tag: Tag) -> Glance {
        let bucket = &self.0[self.home(tag)];
        let (mut found, mut part) = (zeros(self.word(bucket, 0) ^ tag.hints(), 0), 0);
        if found == 0 {
            let word = self.word(bucket, 1);
            (found, part) = (zeros(word ^ tag.hints(), 1), 1);
            if found == 0 {
                return if word < PASSED { Glance::Absent } else { Glance::Further };
            }
        }
        match self.name(bucket, lowest(found, part)) {
            // It is on its way.
            0 => Glance::Further,
            name => Glance::Named(!name),
        }
    }

    /// Asks of all entries with this tag's hint, until one is it.
    #[inline]
    pub(crate) fn find(&self, tag: Tag, mut is_it: impl FnMut(u32) -> bool) -> Option<Spot> {
        let home = self.home(tag);
        match self.find_in(home, tag, &mut is_it) {
            (None, true) => self.find_further(tag, is_it),
            (found, _) => found,
        }
    }

    #[inline(never)]
    fn find_further(&self, tag: Tag, mut is_it: impl FnMut(u32) -> bool) -> Option<Spot> {
        let mut bucket = self.second(tag);
        for _ in 0..self.0.len() {
            match self.find_in(bucket, tag, &mut is_it) {
                (None, true) => bucket = self.next(bucket),
                (found, _) => return found,
            }
        }
        None
    }

    /// The same in one bucket; and whether there may be more in the next.
    #[inline(always)]
    fn find_in(
        &self,
        bucket: usize,
        tag: Tag,
        is_it: &mut impl FnMut(u32) -> bool,
    ) -> (Option<Spot>, bool) {
        let line = &self.0[bucket];
        if let Some(found) = self.find_among::<0>(bucket, self.word(line, 0), tag, is_it) {
            return (Some(found), true);
        }
        let word = self.word(line, 1);
        (self.find_among::<1>(bucket, word, tag, is_it), word >= PASSED)
    }

    /// The same by the hints of one word.
    #[inline(always)]
    fn find_among<const PART: usize>(
        &self,
        bucket: usize,
        word: u64,
        tag: Tag,
        is_it: &mut impl FnMut(u32) -> bool,
    ) -> Option<Spot> {
        let mut found = zeros(word ^ tag.hints(), PART);
        while found != 0 {
            let at = lowest(found, PART);
            found &= found - 1;
            let name = self.name(&self.0[bucket], at);
            if name != 0 && is_it(!name) {
                return Some(spot(bucket, at, !name));
            }
        }
        None
    }

    #[inline(always)]
    fn word(&self, bucket: &Bucket, at: usize) -> u64 {
        self.1.take();
        // Acquire: pairs with the Release in `set_word`.
        bucket.words[at].load(Site::NameLoad.is(Ordering::Acquire))
    }

    #[inline(always)]
    fn name(&self, bucket: &Bucket, at: usize) -> u32 {
        self.1.take();
        // Acquire: pairs with the Release in `set_name`.
        bucket.names[at].load(Site::NameLoad.is(Ordering::Acquire))
    }

    #[inline(always)]
    fn set_word(&self, bucket: usize, at: usize, word: u64) {
        self.1.take();
        // Release: pairs with the Acquire in `word`.
        self.0[bucket].words[at].store(word, Site::HintStore.is(Ordering::Release));
    }

    #[inline(always)]
    fn set_name(&self, bucket: usize, at: usize, id: u32) {
        self.1.take();
        // Release: pairs with the Acquire in `name`.
        self.0[bucket].names[at].store(!id, Site::NameStore.is(Ordering::Release));
    }

    /// For writers: a word as it is.
    #[inline]
    fn written(&self, bucket: usize, at: usize) -> u64 {
        // Relaxed: nobody else writes.
        self.0[bucket].words[at].load(Ordering::Relaxed)
    }

    /// Adds an entry. There is room.
    #[inline]
    pub(crate) fn insert(&self, tag: Tag, id: u32) {
        let home = self.home(tag);
        if !self.insert_in(home, tag, id) {
            self.pass(home, PASSED);
            self.insert_further(tag, id);
        }
    }

    #[inline(never)]
    fn insert_further(&self, tag: Tag, id: u32) {
        for bucket in self.further(tag) {
            if self.insert_in(bucket, tag, id) {
                return;
            }
            self.pass(bucket, PASSED);
        }
    }

    /// Whether there was room.
    #[inline]
    fn insert_in(&self, bucket: usize, tag: Tag, id: u32) -> bool {
        for part in 0..2 {
            let word = self.written(bucket, part);
            let vacant = zeros(word, part);
            if vacant != 0 {
                let at = lowest(vacant, part);
                self.set_word(bucket, part, word | (tag.hint() << (8 * (at % HINTS))));
                self.set_name(bucket, at, id);
                return true;
            }
        }
        false
    }

    /// Makes a key's name that of another entry.
    #[inline]
    pub(crate) fn rename(&self, spot: Spot, new: u32) {
        self.set_name(spot.bucket as usize, usize::from(spot.at), new);
    }

    /// Takes out an entry, which is there.
    #[inline]
    pub(crate) fn remove(&self, tag: Tag, spot: Spot) {
        let (bucket, at) = (spot.bucket as usize, usize::from(spot.at));
        self.1.take();
        // Relaxed: see the header.
        self.0[bucket].names[at].store(0, Ordering::Relaxed);
        let word = self.written(bucket, at / HINTS);
        self.set_word(bucket, at / HINTS, word & !(0xFF << (8 * (at % HINTS))));
        if bucket != self.home(tag) {
            self.for_passed(tag, bucket, |passed| self.pass(passed, PASSED.wrapping_neg()));
        }
    }

    /// All buckets that an entry passed which is in `bucket`, but not in the first of its tag.
    #[inline(never)]
    fn for_passed(&self, tag: Tag, bucket: usize, f: impl FnMut(usize)) {
        let further = self.further(tag).take_while(|&further| further != bucket);
        std::iter::once(self.home(tag)).chain(further).for_each(f);
    }

    /// Where an entry is named.
    #[inline]
    pub(crate) fn locate(&self, tag: Tag, id: u32) -> Option<Spot> {
        self.find(tag, |other| other == id)
    }

    #[inline]
    fn pass(&self, bucket: usize, change: u64) {
        self.set_word(bucket, 1, self.written(bucket, 1).wrapping_add(change));
    }

    /// The same entries in another number of buckets.
    pub(crate) fn resized(&self, count: usize, tag_of: impl Fn(u32) -> Tag) -> Self {
        let resized = Self::new(count);
        for id in self.ids() {
            resized.insert(tag_of(id), id);
        }
        resized
    }

    /// The ids of all entries.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        // Relaxed: for the holder of the lock.
        let names = self.0.iter().flat_map(|bucket| &bucket.names);
        names.map(|name| name.load(Ordering::Relaxed)).filter(|&name| name != 0).map(|name| !name)
    }

    /// Checks that all entries can be found, under the tags that they should have, and that what
    /// is counted as passed is what has passed.
    pub(crate) fn validate(&self, tag_of: impl Fn(u32) -> Option<Tag>) -> Result<(), String> {
        let mut passed = vec![0; self.count()];
        let mut hints: usize = 0;
        for id in self.ids() {
            let spot = tag_of(id).and_then(|tag| Some((tag, self.locate(tag, id)?)));
            let Some((tag, spot)) = spot else {
                return Err(format!("entry {id} cannot be found by the hash of its key"));
            };
            let bucket = spot.bucket as usize;
            if bucket != self.home(tag) {
                self.for_passed(tag, bucket, |bucket| passed[bucket] += 1);
            }
            hints += 1;
        }
        for (bucket, passed) in passed.into_iter().enumerate() {
            let counted = self.written(bucket, 1) / PASSED;
            if counted != passed {
                return Err(format!(
                    "{passed} entries passed bucket {bucket}, which counts {counted}"
                ));
            }
            hints += (0..2).map(|at| vacant(self.written(bucket, at), at)).sum::<usize>();
        }
        // Every place is named, or vacant.
        if hints == self.count() * NAMES {
            Ok(())
        } else {
            Err("a hint leads to no name".to_owned())
        }
    }
}

/// How many hints of a word are zero.
fn vacant(word: u64, at: usize) -> usize {
    let places = min(NAMES.saturating_sub(at * HINTS), HINTS);
    word.to_le_bytes().iter().take(places).filter(|&&hint| hint == 0).count()
}

#[expect(clippy::cast_possible_truncation, reason = "fewer than 2³² buckets of few names")]
#[inline]
const fn spot(bucket: usize, at: usize, id: u32) -> Spot {
    Spot { bucket: bucket as u32, at: at as u8, id }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn find(buckets: &Buckets, tag: Tag, id: u32) -> bool {
        buckets.locate(tag, id).is_some_and(|spot| spot.id() == id)
    }

    fn remove(buckets: &Buckets, tag: Tag, id: u32) -> bool {
        let spot = buckets.locate(tag, id);
        spot.inspect(|&spot| buckets.remove(tag, spot)).is_some()
    }

    #[test]
    fn entries_are_found_past_full_buckets_and_leave_no_trace() {
        // Thirty entries for one bucket of five; a few of them with the very same tag.
        let buckets = Buckets::new(5);
        let tag = |id: u32| Tag::of(u64::from(id / 3) * 0x80);
        for id in 0..30 {
            buckets.insert(tag(id), id);
        }
        assert!((0..30).all(|id| find(&buckets, tag(id), id)));
        assert!(!find(&buckets, tag(29), 30));
        assert_eq!(buckets.validate(|id| Some(tag(id))), Ok(()));
        buckets.rename(buckets.locate(tag(8), 8).unwrap(), 80);
        assert!(find(&buckets, tag(8), 80) && !find(&buckets, tag(8), 8));
        assert!(remove(&buckets, tag(8), 80) && !remove(&buckets, tag(8), 80));
        for id in (0..30).rev().filter(|&id| id != 8) {
            assert!(remove(&buckets, tag(id), id));
        }
        assert_eq!(buckets.validate(|_| None), Ok(()));
        for bucket in &buckets.0 {
            assert!(bucket.words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        }
    }

    #[test]
    fn a_glance_names_the_only_one_with_a_hint_and_sends_on_where_entries_passed() {
        let buckets = Buckets::new(2);
        for hint in 1..13 {
            assert_eq!(buckets.glance(Tag::of(hint)), Glance::Absent);
            buckets.insert(Tag::of(hint), u32::try_from(hint).unwrap());
        }
        for hint in 1..13 {
            let id = u32::try_from(hint).unwrap();
            assert_eq!(buckets.glance(Tag::of(hint)), Glance::Named(id));
        }
        assert_eq!(buckets.glance(Tag::of(0xFF)), Glance::Absent);
        buckets.insert(Tag::of(0xFF), 13);
        assert_eq!(buckets.glance(Tag::of(0xFF)), Glance::Further);
        assert!(find(&buckets, Tag::of(0xFF), 13));
    }

    #[test]
    fn larger_buckets_hold_the_same() {
        let tag = |id: u32| Tag::of(u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let count: u32 = if cfg!(miri) { 60 } else { 1_000 };
        let mut buckets = Buckets::new(1);
        for id in 0..count {
            while id as usize >= buckets.room() {
                buckets = buckets.resized(buckets.count() + buckets.count() / 4 + 1, tag);
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
