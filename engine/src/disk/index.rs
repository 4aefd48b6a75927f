//! One generation of the index: slots that say where each key's record lies.
//!
//! A key has 16 candidate slots: two buckets of one page. A lookup loads them, and asks the
//! caller about each whose tag fits; the caller reads the record there. Slot bits and
//! placement: `larder_format::slot`.
//!
//! A writer first makes a [`Survey`] of the key's candidates, then appends its record, and
//! publishes the slot on the strength of the survey: over the key's slot, or in a free place.
//! What has changed since the survey makes the publication fail, and the writer looks again.
//!
//! # Invariants
//! 1. A record is committed before its slot is published; a pending slot counts only once its
//!    record is.
//! 2. Slots change by compare-and-swap only, so that no change is lost.
//! 3. A slot of a key never moves to another place within a generation; it is overwritten,
//!    emptied or frozen. A lookup that passes over it once has seen it.
//! 4. A key has at most one slot that is a value or a tombstone. A new one is tentative while
//!    its writer looks whether another is inserting the same key: of two, one gives up.
//! 5. Beside that, a key may have a pending slot, newer than the other once it counts. Whoever
//!    changes the key settles it first: it takes the place of the other.
//! 6. A frozen slot never changes again; its page is being moved to the next generation.
//!
//! # Orderings
//! Publishing is Release, loading Acquire; they pair on the slot. Inserting a tentative slot
//! and looking for others are separated by a SeqCst fence: of two writers that insert one key
//! at least one sees the other (4).
//!
//! Not here: looking up (`lookup.rs`), single buckets (`bucket.rs`), where generations come from and
//! go to (`growth.rs`), records (`segment.rs`).

#[cfg(not(loom))]
use larder_format::layout::{BUCKET_SLOTS, PAGE_BUCKETS};
use larder_format::layout::{INDEX_DATA, PAGE};
use larder_format::slot::{TAG_SHIFT, buckets};
use larder_format::{Geometry, Slot, SlotState};

use super::bucket::{Bucket, Overview, emptier, load};
#[cfg(loom)]
use crate::models::{BUCKET_SLOTS, PAGE_BUCKETS};
use crate::sync::{AtomicU64, Ordering, Site, Words, fence_behind_swap, spin_loop};

/// What the record says that a slot points to.
#[derive(Debug)]
pub(crate) enum Verdict<T> {
    /// It is the key's.
    Same {
        /// Its sequence number.
        seq: u64,
        /// Whether it is a value or a tombstone.
        state: SlotState,
        /// Whatever the caller wants to have of it.
        found: T,
    },
    /// It is another key's, not committed, or damaged.
    Other,
    /// It is gone with its segment: the slot is free.
    Gone,
}

/// The record of a key that counts.
#[derive(Debug)]
pub(crate) struct Found<T> {
    /// The slot as it was loaded.
    pub(crate) slot: Slot,
    /// Where the slot is, in bytes from the start of the file.
    pub(crate) at: usize,
    /// The record's sequence number.
    pub(crate) seq: u64,
    /// Whether it is a value or a tombstone.
    pub(crate) state: SlotState,
    /// What the caller made of the record.
    pub(crate) found: T,
}

/// What a writer knows of a key's candidate slots.
#[derive(Debug)]
pub(crate) struct Survey<T> {
    /// The record that counts.
    pub(crate) current: Option<Found<T>>,
    /// Where a slot could be inserted, and what stands there.
    free: Option<(usize, Slot)>,
}

impl<T> Survey<T> {
    /// Whether a slot of the key can be published.
    pub(crate) const fn has_place(&self) -> bool {
        self.current.is_some() || self.free.is_some()
    }

    /// Whether a slot can be published beside the one that the key has.
    pub(crate) const fn has_free_place(&self) -> bool {
        self.free.is_some()
    }
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    /// Where the slot is, in bytes from the start of the file.
    pub(crate) at: usize,
    /// The slot that it took the place of, if the key had one.
    pub(crate) replaced: Option<Slot>,
    /// By how much the number of value slots changed.
    pub(crate) entries: i64,
}

/// Why nothing could be surveyed or published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// The page has moved on to the next generation.
    Frozen,
    /// All candidate slots are taken by other keys.
    Full,
    /// The survey is no longer true.
    Changed,
}

/// The slots of one generation.
#[derive(Debug)]
pub(crate) struct Generation<W> {
    words: W,
    geometry: Geometry,
    placing: Placing,
}

/// How a geometry chooses a page, worked out once ([`Geometry::page`]).
#[derive(Debug, Clone, Copy)]
pub(super) struct Placing {
    base_mask: u64,
    base_bits: u32,
    split_mask: u64,
}

impl Placing {
    #[inline]
    pub(super) const fn of(geometry: Geometry) -> Self {
        Self {
            base_mask: (1 << (geometry.base_bits & 31)) - 1,
            base_bits: (geometry.base_bits & 31) as u32,
            split_mask: (1 << (geometry.splits() & 31)) - 1,
        }
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "masked to at most 24 bits")]
    pub(super) const fn page(self, hash: u64) -> usize {
        let split = hash >> TAG_SHIFT & self.split_mask;
        (hash & self.base_mask | split << self.base_bits) as usize
    }
}

/// Slots of a page.
pub(crate) const PAGE_SLOTS: usize = PAGE_BUCKETS * BUCKET_SLOTS;

/// How often a writer looks at another's tentative slot before it takes the other for dead.
const PATIENCE: usize = if cfg!(loom) { 1 } else { 256 };

impl<W: Words> Generation<W> {
    /// Over words that hold the pages of `geometry` from [`INDEX_DATA`] on.
    pub(crate) const fn new(words: W, geometry: Geometry) -> Self {
        Self { words, geometry, placing: Placing::of(geometry) }
    }

    /// All words of the file.
    pub(crate) const fn words(&self) -> &W {
        &self.words
    }

    pub(crate) const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The word at `at` bytes from the start of the file.
    #[inline]
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        self.words.word(at)
    }

    /// Where slot `number` of a page is.
    pub(crate) const fn slot_at(page: usize, number: usize) -> usize {
        INDEX_DATA + page * PAGE + number * 8
    }

    /// The two candidate buckets of a hash.
    #[inline]
    pub(super) fn candidates(&self, hash: u64) -> [Bucket<'_>; 2] {
        let at = Self::slot_at(self.placing.page(hash), 0);
        let (page, _) = self.words.words(at, PAGE_SLOTS).as_chunks::<BUCKET_SLOTS>();
        let [first, second] = buckets(hash);
        let bucket = |number: usize| {
            let number = number % PAGE_BUCKETS;
            Bucket { at: at + number * BUCKET_SLOTS * 8, words: &page[number] }
        };
        [bucket(first), bucket(second)]
    }

    /// The candidate slots of a hash as they are now, each with where it is.
    fn slots(&self, hash: u64) -> impl Iterator<Item = (usize, Slot)> {
        let both = self.candidates(hash).into_iter();
        both.flat_map(|bucket| (0..BUCKET_SLOTS).map(move |i| bucket.slot(i)))
    }

    #[inline]
    pub(crate) fn load(&self, at: usize) -> Slot {
        load(self.word(at))
    }

    /// Changes a slot, unless it changed meanwhile.
    #[inline]
    pub(crate) fn swap(&self, at: usize, old: Slot, new: Slot) -> bool {
        // AcqRel: Release publishes the record behind `new`; Acquire orders this writer after
        // the one whose slot it replaces. On failure nothing is read from the word.
        let success = Site::SlotSwap.is(Ordering::AcqRel);
        let word = self.word(at);
        word.compare_exchange(old.to_bits(), new.to_bits(), success, Ordering::Relaxed).is_ok()
    }

    /// Changes a slot that points to the place of `old`, whatever its hits are by now. Returns
    /// the slot that was replaced.
    pub(crate) fn swap_place(
        &self,
        at: usize,
        old: Slot,
        new: impl Fn(Slot) -> Slot,
    ) -> Option<Slot> {
        loop {
            let now = self.load(at);
            if !now.same_place(old) || now.is_frozen() || now.state() != old.state() {
                return None;
            }
            if self.swap(at, now, new(now)) {
                return Some(now);
            }
        }
    }

    /// The record of a key that counts. `judge` is asked about every slot whose tag fits.
    pub(crate) fn find<T>(
        &self,
        hash: u64,
        mut judge: impl FnMut(Slot) -> Verdict<T>,
    ) -> Option<Found<T>> {
        loop {
            let mut newest: Option<Found<T>> = None;
            for bucket in self.candidates(hash) {
                for i in bucket.with_tag(hash) {
                    let (at, slot) = bucket.slot(i);
                    if !may_count(slot) {
                        continue;
                    }
                    if let Verdict::Same { seq, state, found } = judge(slot)
                        && newest.as_ref().is_none_or(|newest| newest.seq < seq)
                    {
                        newest = Some(Found { slot, at, seq, state, found });
                    }
                }
            }
            // A batch that was settled behind our back has changed the slot that we passed
            // first, and emptied the one that would have told us (invariant 5).
            match &newest {
                Some(found) if !is_same(self.load(found.at), found.slot) => {}
                _ => return newest,
            }
        }
    }

    /// The slot that points to a place, whatever stands there.
    pub(crate) fn slot_of(&self, hash: u64, place: Slot) -> Option<(usize, Slot)> {
        self.slots(hash).find(|(_, slot)| slot.same_place(place) && may_count(*slot))
    }

    /// Asks for the candidate buckets of a key, so that they are near when they are looked at.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.prefetch_in(&self.candidates(hash));
    }

    /// As [`prefetch`](Self::prefetch).
    #[inline]
    pub(super) fn prefetch_in(&self, candidates: &[Bucket<'_>; 2]) {
        candidates.iter().for_each(|bucket| self.words.prefetch(bucket.at));
    }

    /// Counts a hit in a slot, unless it is saturated or has changed.
    #[inline]
    pub(crate) fn touch(&self, at: usize, slot: Slot) {
        let touched = slot.with_freq(slot.freq().saturating_add(1));
        if touched != slot {
            // Relaxed would do for the count, but the word also carries the place, and later
            // readers must still pair with its publisher: a read-modify-write continues the
            // publisher's release sequence. A lost hit is no harm.
            let (old, new) = (slot.to_bits(), touched.to_bits());
            let _ = self.word(at).compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Looks at a key's candidates as a writer does: settles what is pending, and clears what
    /// is left of writers that died. The second is by how much the number of value slots
    /// changed.
    #[inline]
    pub(crate) fn survey<T>(
        &self,
        hash: u64,
        mut judge: impl FnMut(Slot) -> Verdict<T>,
    ) -> (Result<Survey<T>, Blocked>, i64) {
        let mut entries = 0;
        'again: loop {
            let mut current: Option<Found<T>> = None;
            let mut pending: Option<Found<T>> = None;
            let buckets = self.candidates(hash);
            let [first, second] = &buckets;
            let views = [first.overview(hash), second.overview(hash)];
            for (bucket, view) in buckets.iter().zip(views) {
                if view.is_any_frozen() {
                    return (Err(Blocked::Frozen), entries);
                }
                for i in view.with_tag {
                    let (at, slot) = bucket.slot(i);
                    if slot.is_frozen() {
                        return (Err(Blocked::Frozen), entries);
                    }
                    if slot.state() == SlotState::Empty {
                        continue;
                    }
                    match judge(slot) {
                        Verdict::Same { seq, state, found } => {
                            let found = Found { slot, at, seq, state, found };
                            match slot.state() {
                                SlotState::Tentative => {
                                    self.await_or_clear(at, slot);
                                    continue 'again;
                                }
                                SlotState::Pending => pending = Some(found),
                                _ => current = Some(found),
                            }
                        }
                        // Its segment is missing, if the slot still says so: it may be that of an
                        // invalidation, which nobody can read any more (`tags.rs`).
                        Verdict::Gone
                            if slot.state() == SlotState::Tombstone && self.load(at) == slot => {}
                        Verdict::Gone => {
                            if self.swap(at, slot, Slot::EMPTY) {
                                entries -= value(slot);
                            }
                            continue 'again;
                        }
                        Verdict::Other => {}
                    }
                }
            }
            if let Some(pending) = pending {
                entries += self.settle(&pending, current.as_ref());
                continue;
            }
            let free = emptier(&buckets, views);
            return (Ok(Survey { current, free }), entries);
        }
    }

    /// A free place among a key's candidates; `None` if there is none, or some are frozen.
    #[inline]
    pub(super) fn free_place(&self, candidates: &[Bucket<'_>; 2]) -> Option<(usize, Slot)> {
        let [first, second] = candidates;
        let views = [first.states(), second.states()];
        if views[0].is_any_frozen() || views[1].is_any_frozen() {
            return None;
        }
        emptier(candidates, views)
    }

    /// Inserts the slot of a key if that is all there is to it: no candidate has its tag, and one
    /// is free. For who has the index to itself, as a rebuild has.
    #[inline]
    pub(crate) fn insert_alone(&self, hash: u64, slot: Slot) -> bool {
        let buckets = self.candidates(hash);
        let views = [buckets[0].overview(hash), buckets[1].overview(hash)];
        let is_simple = |view: &Overview| view.with_tag.0 == 0 && !view.is_any_frozen();
        let Some((at, _)) = emptier(&buckets, views).filter(|_| views.iter().all(is_simple)) else {
            return false;
        };
        // Relaxed: nobody else looks.
        self.word(at).store(slot.to_bits(), Ordering::Relaxed);
        true
    }

    /// Gives a tentative slot a little time, and then empties it: its writer may be dead. One
    /// that is alive finds it gone, and begins again.
    fn await_or_clear(&self, at: usize, slot: Slot) {
        for _ in 0..PATIENCE {
            if self.load(at) != slot {
                return;
            }
            spin_loop();
        }
        self.swap(at, slot, Slot::EMPTY);
    }

    /// Makes a pending slot whose record is committed the one slot of its key. Returns by how
    /// much the number of value slots changed.
    fn settle<T>(&self, pending: &Found<T>, current: Option<&Found<T>>) -> i64 {
        let new = pending.slot.with_state(pending.state);
        match current {
            Some(newer) if newer.seq > pending.seq => {
                self.swap(pending.at, pending.slot, Slot::EMPTY);
                0
            }
            Some(older) => {
                let ours = |old: Slot| new.with_freq(kept_freq(old, new));
                // First the older: a reader may pass the pending slot when it is empty, and
                // sees by the older one's change that it has to look again.
                let Some(old) = self.swap_place(older.at, older.slot, ours) else { return 0 };
                self.swap(pending.at, pending.slot, Slot::EMPTY);
                value(new) - value(old)
            }
            None if self.swap(pending.at, pending.slot, new) => value(new),
            None => 0,
        }
    }

    /// Publishes `slot`, for a record that is newer than the survey's current one: over that
    /// one's slot, or else in a free place.
    pub(crate) fn publish<T>(
        &self,
        hash: u64,
        slot: Slot,
        seq: u64,
        survey: &Survey<T>,
        judge: impl FnMut(Slot) -> Verdict<T>,
    ) -> Result<Published, Blocked> {
        match (&survey.current, survey.free) {
            (Some(current), _) => self.replace(current.at, current.slot, slot),
            (None, Some(free)) => self.insert(&self.candidates(hash), hash, slot, seq, free, judge),
            (None, None) => Err(Blocked::Full),
        }
    }

    /// Publishes a slot over one of its key.
    #[inline]
    pub(crate) fn replace(&self, at: usize, old: Slot, slot: Slot) -> Result<Published, Blocked> {
        // Hits are kept: the key is as popular as it was.
        let ours = |old: Slot| slot.with_freq(kept_freq(old, slot));
        let replaced = if self.swap(at, old, ours(old)) {
            old
        } else {
            self.swap_place(at, old, ours).ok_or(Blocked::Changed)?
        };
        let entries = value(slot) - value(replaced);
        Ok(Published { at, replaced: Some(replaced), entries })
    }

    /// Inserts the slot of a key that has none, in a free place (invariant 4).
    #[inline]
    pub(super) fn insert<T>(
        &self,
        candidates: &[Bucket<'_>; 2],
        hash: u64,
        slot: Slot,
        seq: u64,
        (at, old): (usize, Slot),
        judge: impl FnMut(Slot) -> Verdict<T>,
    ) -> Result<Published, Blocked> {
        let tentative = slot.with_state(SlotState::Tentative);
        if !self.swap(at, old, tentative) {
            return Err(Blocked::Changed);
        }
        // SeqCst: two writers that insert one key in two places both insert, fence and look;
        // at least one sees the other's slot.
        fence_behind_swap(Site::InsertFence.is(Ordering::SeqCst));
        if !self.is_alone(candidates, hash, at, seq, judge) {
            // It may be gone already: the other one took us for dead, or the page moves.
            self.swap(at, tentative, Slot::EMPTY);
            return Err(Blocked::Changed);
        }
        if !self.swap(at, tentative, slot) {
            return Err(Blocked::Changed);
        }
        Ok(Published { at, replaced: None, entries: value(slot) })
    }

    /// Whether no other slot speaks of the key for which a tentative one stands at `own`. Of
    /// two tentative slots the one with the lower sequence stays.
    #[inline]
    fn is_alone<T>(
        &self,
        candidates: &[Bucket<'_>; 2],
        hash: u64,
        own: usize,
        seq: u64,
        mut judge: impl FnMut(Slot) -> Verdict<T>,
    ) -> bool {
        for bucket in candidates {
            for i in bucket.with_tag(hash) {
                if bucket.at + i * 8 == own {
                    continue;
                }
                let (at, slot) = bucket.slot(i);
                if slot.state() == SlotState::Empty {
                    continue;
                }
                let Verdict::Same { seq: theirs, .. } = judge(slot) else { continue };
                let gives_way = slot.state() == SlotState::Tentative && seq < theirs;
                if !gives_way || !self.swap(at, slot, Slot::EMPTY) {
                    return false;
                }
            }
        }
        true
    }

    /// Inserts a pending slot in a free place.
    pub(crate) fn insert_pending<T>(&self, slot: Slot, survey: &Survey<T>) -> Result<(), Blocked> {
        let (at, old) = survey.free.ok_or(Blocked::Full)?;
        let pending = slot.with_state(SlotState::Pending);
        if self.swap(at, old, pending) { Ok(()) } else { Err(Blocked::Changed) }
    }

    /// Whether all candidates of a key are taken.
    pub(crate) fn is_full(&self, hash: u64) -> bool {
        self.slots(hash).all(|(_, slot)| slot.is_frozen() || slot.state() != SlotState::Empty)
    }

    /// The candidate of a key that may best be given up for another: a tombstone, or else the
    /// value with the fewest hits. `None` if none of them `may_go`.
    pub(crate) fn coldest(
        &self,
        hash: u64,
        may_go: impl Fn(Slot) -> bool,
    ) -> Option<(usize, Slot)> {
        self.slots(hash)
            .filter(|(_, slot)| {
                !slot.is_frozen() && slot.state() != SlotState::Empty && may_go(*slot)
            })
            .min_by_key(|(_, slot)| (slot.state() == SlotState::Value, slot.freq()))
    }

    /// Thaws the candidate slots of a key. Only for a generation that nobody moves out of:
    /// there they look frozen because the file is damaged.
    pub(crate) fn thaw(&self, hash: u64) {
        for (at, slot) in self.slots(hash) {
            if slot.is_frozen() {
                self.swap(at, slot, slot.thaw());
            }
        }
    }

    /// Number of slots of a page, frozen or not, that hold a value.
    pub(crate) fn count_values(&self, page: usize) -> u64 {
        let words = self.words.words(Self::slot_at(page, 0), PAGE_SLOTS);
        words.iter().filter(|word| load(word).state() == SlotState::Value).count() as u64
    }
}

/// Whether a slot may say something to a reader.
#[inline]
const fn may_count(slot: Slot) -> bool {
    !matches!(slot.state(), SlotState::Empty | SlotState::Tentative)
}

/// Whether two loads of a slot saw the same, but for hits and freezing.
#[inline]
fn is_same(now: Slot, before: Slot) -> bool {
    now.same_place(before) && now.state() == before.state()
}

/// 1 for a slot that holds a value.
const fn value(slot: Slot) -> i64 {
    matches!(slot.state(), SlotState::Value) as i64
}

/// Hits that a new slot inherits: a value keeps those of the value it replaces.
const fn kept_freq(old: Slot, new: Slot) -> u8 {
    match (old.state(), new.state()) {
        (SlotState::Value, SlotState::Value) => old.freq(),
        _ => 0,
    }
}
