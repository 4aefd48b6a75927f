//! One generation of the index: slots that say where each key's record may lie.
//!
//! A key has 16 candidate slots: two buckets of one page. A lookup loads them, and asks the
//! caller about each whose tag fits; the caller reads the record there. The newest record of
//! the key counts. Slot bits and placement: `larder_format::slot`.
//!
//! # Invariants
//! 1. A record is committed before its slot is published.
//! 2. Slots change by compare-and-swap only, so that no change is lost.
//! 3. A slot of a key never moves to another place within a generation; it is overwritten,
//!    emptied or frozen. A lookup that passes over it once has seen it.
//! 4. Two slots may speak of one key for a moment, when two writers insert it at once. The
//!    newer counts, and both writers look again after inserting: the older gives up its slot,
//!    or the newer takes it over and gives up its own.
//! 5. A frozen slot never changes again; its page is being moved to the next generation.
//!
//! # Orderings
//! Publishing is Release, loading Acquire; they pair on the slot. Inserting and looking again
//! are separated by a SeqCst fence: of two writers at least one sees the other (4).
//!
//! Not here: where generations come from and go to (`growth.rs`), records (`segment.rs`).

#[cfg(not(loom))]
use larder_format::layout::{BUCKET_SLOTS, PAGE_BUCKETS};
use larder_format::layout::{INDEX_DATA, PAGE};
use larder_format::slot::buckets;
use larder_format::{Geometry, Slot, SlotState};

#[cfg(loom)]
use crate::models::{BUCKET_SLOTS, PAGE_BUCKETS};
use crate::sync::{AtomicU64, Ordering, Site, Words, fence};

/// What the record says that a slot points to.
#[derive(Debug)]
pub(crate) enum Verdict<T> {
    /// It is the key's.
    Same {
        /// Its sequence number.
        seq: u64,
        /// Whatever the caller wants to have of it.
        found: T,
    },
    /// It is another key's, or damaged.
    Other,
    /// It is gone with its segment: the slot is free.
    Gone,
}

/// The newest record of a key.
#[derive(Debug)]
pub(crate) struct Found<T> {
    /// The slot as it was loaded.
    pub(crate) slot: Slot,
    /// Where the slot is, in bytes from the start of the file.
    pub(crate) at: usize,
    /// The record's sequence number.
    pub(crate) seq: u64,
    /// What the caller made of the record.
    pub(crate) found: T,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    /// Where the slot is, in bytes from the start of the file.
    pub(crate) at: usize,
    /// `None` if the slot is in the index; else the state of the newer slot of the key that
    /// was there.
    pub(crate) winner: Option<SlotState>,
    /// The slot that it took the place of.
    pub(crate) replaced: Option<Slot>,
    /// By how much the number of value slots changed.
    pub(crate) entries: i64,
}

/// Why nothing could be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// The page has moved on to the next generation.
    Frozen,
    /// All candidate slots are taken by other keys.
    Full,
}

/// The slots of one generation.
#[derive(Debug)]
pub(crate) struct Generation<W> {
    words: W,
    geometry: Geometry,
}

/// Slots of a page.
pub(crate) const PAGE_SLOTS: usize = PAGE_BUCKETS * BUCKET_SLOTS;

/// Candidate slots of a key.
const CANDIDATES: usize = 2 * BUCKET_SLOTS;

impl<W: Words> Generation<W> {
    /// Over words that hold the pages of `geometry` from [`INDEX_DATA`] on.
    pub(crate) const fn new(words: W, geometry: Geometry) -> Self {
        Self { words, geometry }
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

    /// Where the candidate slots of a hash are.
    #[inline]
    fn candidates(&self, hash: u64) -> [usize; CANDIDATES] {
        let page = self.geometry.page(hash);
        let [first, second] =
            buckets(hash).map(|bucket| Self::slot_at(page, bucket * BUCKET_SLOTS));
        std::array::from_fn(|i| {
            if i < BUCKET_SLOTS { first + i * 8 } else { second + (i - BUCKET_SLOTS) * 8 }
        })
    }

    #[inline]
    pub(crate) fn load(&self, at: usize) -> Slot {
        // Acquire: pairs with the Release of whoever published the slot; the record that it
        // points to is complete (invariant 1).
        Slot::from_bits(self.word(at).load(Site::SlotLoad.is(Ordering::Acquire)))
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

    /// The newest record of a key. `judge` is asked about every slot whose tag fits.
    #[inline]
    pub(crate) fn find<T>(
        &self,
        hash: u64,
        mut judge: impl FnMut(Slot) -> Verdict<T>,
    ) -> Option<Found<T>> {
        let tag = Slot::from_bits(hash).tag();
        let mut newest: Option<Found<T>> = None;
        for at in self.candidates(hash) {
            let slot = self.load(at);
            if slot.tag() != tag || slot.state() == SlotState::Empty {
                continue;
            }
            if let Verdict::Same { seq, found } = judge(slot)
                && newest.as_ref().is_none_or(|newest| newest.seq < seq)
            {
                newest = Some(Found { slot, at, seq, found });
            }
        }
        newest
    }

    /// Counts a hit in a slot, unless it is saturated or has changed.
    #[inline]
    pub(crate) fn touch(&self, at: usize, slot: Slot) {
        if slot.freq() < Slot::FREQ_MAX && !slot.is_frozen() {
            let touched = slot.with_freq(slot.freq() + 1);
            // Relaxed would do for the count, but the word also carries the place, and later
            // readers must still pair with its publisher: a read-modify-write continues the
            // publisher's release sequence. A lost hit is no harm.
            let (old, new) = (slot.to_bits(), touched.to_bits());
            let _ = self.word(at).compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Puts `slot`, for the record `seq` of a key, in the place of the key's older record, or
    /// into a free place.
    pub(crate) fn publish<T>(
        &self,
        hash: u64,
        slot: Slot,
        seq: u64,
        mut judge: impl FnMut(Slot) -> Verdict<T>,
    ) -> Result<Published, Blocked> {
        let value = |slot: Slot| i64::from(slot.state() == SlotState::Value);
        'again: loop {
            let mut free: [Option<(usize, Slot)>; 2] = [None; 2];
            let mut free_count = [0; 2];
            let mut same: [Option<(usize, Slot, u64)>; CANDIDATES] = [None; CANDIDATES];
            let mut newest: Option<(usize, Slot, u64)> = None;
            for (i, at) in self.candidates(hash).into_iter().enumerate() {
                let now = self.load(at);
                if now.is_frozen() {
                    return Err(Blocked::Frozen);
                }
                let half = i / BUCKET_SLOTS;
                let mut free_here = now.state() == SlotState::Empty;
                if !free_here && now.tag() == slot.tag() {
                    match judge(now) {
                        Verdict::Same { seq: theirs, .. } => {
                            if theirs > seq {
                                return Ok(Published {
                                    at,
                                    winner: Some(now.state()),
                                    replaced: None,
                                    entries: 0,
                                });
                            }
                            same[i] = Some((at, now, theirs));
                            if newest.is_none_or(|(_, _, seen)| seen < theirs) {
                                newest = same[i];
                            }
                        }
                        Verdict::Gone => free_here = true,
                        Verdict::Other => {}
                    }
                }
                if free_here {
                    free[half].get_or_insert((at, now));
                    free_count[half] += 1;
                }
            }
            if let Some((at, old, _)) = newest {
                // Hits are kept: the key is as popular as it was.
                if !self.swap(at, old, slot.with_freq(kept_freq(old, slot))) {
                    continue 'again;
                }
                let mut entries = value(slot) - value(old);
                for (older_at, older, _) in same.into_iter().flatten() {
                    if older_at != at && self.swap(older_at, older, Slot::EMPTY) {
                        entries -= value(older);
                    }
                }
                return Ok(Published { at, winner: None, replaced: Some(old), entries });
            }
            // The emptier bucket: that is what makes two choices fill evenly.
            let half = usize::from(free_count[1] > free_count[0]);
            let Some((at, old)) = free[half] else { return Err(Blocked::Full) };
            if !self.swap(at, old, slot) {
                continue 'again;
            }
            let mut entries = value(slot) - value(old);
            // SeqCst: two writers that insert one key in two places both insert, fence and
            // look; at least one sees the other's slot.
            fence(Site::InsertFence.is(Ordering::SeqCst));
            let mut winner = None;
            let mut replaced = None;
            let mut at = at;
            for other_at in self.candidates(hash) {
                let other = self.load(other_at);
                if other_at == at || other.tag() != slot.tag() || other.state() == SlotState::Empty
                {
                    continue;
                }
                let Verdict::Same { seq: theirs, .. } = judge(other) else { continue };
                if theirs > seq {
                    winner = Some(other.state());
                    continue;
                }
                // Over to the older slot's place: a reader that passed by our first place before
                // we came still finds the key there.
                let ours = |old: Slot| slot.with_freq(kept_freq(old, slot));
                if self.swap_place(other_at, other, ours).is_some() {
                    entries += value(slot) - value(other);
                    replaced = Some(other);
                    if self.swap_place(at, slot, |_| Slot::EMPTY).is_some() {
                        entries -= value(slot);
                    }
                    at = other_at;
                }
            }
            if winner.is_some() && self.swap_place(at, slot, |_| Slot::EMPTY).is_some() {
                entries -= value(slot);
            }
            return Ok(Published { at, winner, replaced, entries });
        }
    }

    /// The candidate of a key that may best be given up for another: a tombstone, or else the
    /// value with the fewest hits.
    pub(crate) fn coldest(&self, hash: u64) -> Option<(usize, Slot)> {
        let slots = self.candidates(hash).map(|at| (at, self.load(at)));
        slots
            .into_iter()
            .filter(|(_, slot)| !slot.is_frozen() && slot.state() != SlotState::Empty)
            .min_by_key(|(_, slot)| (slot.state() == SlotState::Value, slot.freq()))
    }

    /// Thaws the candidate slots of a key. Only for a generation that nobody moves out of:
    /// there they look frozen because the file is damaged.
    pub(crate) fn thaw(&self, hash: u64) {
        for at in self.candidates(hash) {
            let slot = self.load(at);
            if slot.is_frozen() {
                self.swap(at, slot, slot.thaw());
            }
        }
    }

    /// Number of slots of a page, frozen or not, that hold a value.
    pub(crate) fn count_values(&self, page: usize) -> u64 {
        let slots = (0..PAGE_SLOTS).map(|i| self.load(Self::slot_at(page, i)));
        slots.filter(|slot| slot.state() == SlotState::Value).count() as u64
    }
}

/// The newest record of a key, in the generation that `slots` says is the one to read.
///
/// A segment goes once no slot points to it. A reader that loaded a slot before may find the
/// segment gone, although the record was only moved or replaced: it has to look again, unless
/// the slot is still the same, left behind by a process that died.
#[inline]
pub(crate) fn lookup<'g, W: Words + 'g, T>(
    slots: impl Fn() -> &'g Generation<W>,
    hash: u64,
    mut judge: impl FnMut(Slot) -> Verdict<T>,
) -> Option<Found<T>> {
    let mut gone_before: Option<Slot> = None;
    loop {
        let mut gone: Option<Slot> = None;
        let found = slots().find(hash, |slot| {
            let verdict = judge(slot);
            if matches!(verdict, Verdict::Gone) {
                gone = Some(slot);
            }
            verdict
        });
        match gone {
            Some(gone) if gone_before.is_none_or(|before| !before.same_place(gone)) => {
                gone_before = Some(gone);
            }
            _ => return found,
        }
    }
}

/// Hits that a new slot inherits: a value keeps those of the value it replaces.
const fn kept_freq(old: Slot, new: Slot) -> u8 {
    match (old.state(), new.state()) {
        (SlotState::Value, SlotState::Value) => old.freq(),
        _ => 0,
    }
}
