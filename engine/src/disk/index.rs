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
//! Not here: where generations come from and go to (`growth.rs`), records (`segment.rs`).

#[cfg(not(loom))]
use larder_format::layout::{BUCKET_SLOTS, PAGE_BUCKETS};
use larder_format::layout::{INDEX_DATA, PAGE};
use larder_format::slot::{TAG_SHIFT, buckets};
use larder_format::{Geometry, Slot, SlotState};

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
}

/// One bucket: a cache line of slots.
#[derive(Debug, Clone, Copy)]
struct Bucket<'a> {
    /// Where it begins, in bytes from the start of the file.
    at: usize,
    words: &'a [AtomicU64; BUCKET_SLOTS],
}

impl Bucket<'_> {
    /// Slot `i` as it is now, and where it is.
    #[inline]
    fn slot(&self, i: usize) -> (usize, Slot) {
        (self.at + i * 8, load(&self.words[i]))
    }

    /// Which slots fit, one bit each: all are looked at before any is acted upon, so that the
    /// loads overlap.
    #[inline]
    fn which(&self, mut fits: impl FnMut(u64) -> bool) -> Bits {
        // From the last to the first: shifting what is there is the least to do for each.
        let add = |bits, word| bits << 1 | u32::from(fits(load(word).to_bits()));
        Bits(self.words.iter().rev().fold(0, add))
    }

    /// Which slots have the tag of a hash.
    #[inline]
    fn with_tag(&self, hash: u64) -> Bits {
        self.which(|bits| has_tag(bits, hash))
    }

    /// Which slots have the tag of a hash, and which are free or frozen.
    #[inline]
    fn overview(&self, hash: u64) -> Overview {
        let mut states = 0;
        let with_tag = self.which(|bits| {
            states = states << 2 | low_bits(bits);
            has_tag(bits, hash)
        });
        Overview { with_tag, states }
    }
}

/// The low two bits of a slot.
#[inline]
const fn low_bits(slot: u64) -> u32 {
    (slot & 3) as u32
}

/// What a writer sees of a bucket at once.
#[derive(Debug, Clone, Copy)]
struct Overview {
    /// Which slots have the tag of a hash.
    with_tag: Bits,
    /// The low two bits of all slots, those of the first one lowest.
    states: u32,
}

impl Overview {
    /// The low bit of each pair of bits in `states`.
    const LOW: u32 = 0x5555_5555;

    /// Whether some slot is frozen: both of its bits are set.
    const fn is_any_frozen(self) -> bool {
        self.states & self.states >> 1 & Self::LOW != 0
    }

    /// Which slots are free, two bits each: none of theirs is set.
    const fn free(self) -> u32 {
        let all = (1 << (2 * BUCKET_SLOTS)) - 1;
        !(self.states | self.states >> 1) & Self::LOW & all
    }
}

/// What a first look at a key's candidate slots found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Glance {
    /// None has the key's tag.
    Nothing,
    /// One has it, and is no pending one: where, and what stood there after all were looked at.
    One(usize, Slot),
    /// More than one, or one that has to be thought about.
    Unclear,
}

/// Numbers of slots in a bucket.
#[derive(Debug, Clone, Copy)]
struct Bits(u32);

impl Iterator for Bits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let next = self.0.trailing_zeros();
        // Clears the lowest bit.
        self.0 &= self.0.wrapping_sub(1);
        (next < u32::BITS).then_some(next as usize)
    }
}

/// Slots of a page.
pub(crate) const PAGE_SLOTS: usize = PAGE_BUCKETS * BUCKET_SLOTS;

/// How often a writer looks at another's tentative slot before it takes the other for dead.
const PATIENCE: usize = if cfg!(loom) { 1 } else { 256 };

impl<W: Words> Generation<W> {
    /// Over words that hold the pages of `geometry` from [`INDEX_DATA`] on.
    pub(crate) const fn new(words: W, geometry: Geometry) -> Self {
        Self { words, geometry }
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
    fn candidates(&self, hash: u64) -> [Bucket<'_>; 2] {
        let at = Self::slot_at(self.geometry.page(hash), 0);
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

    /// Looks at a key's candidates once.
    ///
    /// A slot that is the only one with the tag is loaded after all others were: had a batch
    /// settled a pending one behind our back, this load would see what it left (invariant 5).
    #[inline]
    pub(crate) fn glance(&self, hash: u64) -> Glance {
        let [first, second] = self.candidates(hash);
        let (in_first, in_second) = (first.with_tag(hash), second.with_tag(hash));
        let (bucket, mut which) = match (in_first.0, in_second.0) {
            (0, 0) => return Glance::Nothing,
            (_, 0) => (first, in_first),
            (0, _) => (second, in_second),
            _ => return Glance::Unclear,
        };
        match (which.next(), which.0) {
            (Some(i), 0) => {
                let (at, slot) = bucket.slot(i);
                let is_plain = matches!(slot.state(), SlotState::Value | SlotState::Tombstone);
                if is_plain { Glance::One(at, slot) } else { Glance::Unclear }
            }
            _ => Glance::Unclear,
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
        let page = self.geometry.page(hash);
        for bucket in buckets(hash) {
            self.words.prefetch(Self::slot_at(page, bucket * BUCKET_SLOTS));
        }
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
            let free = emptier(&buckets, views).filter(|(_, slot)| low_bits(slot.to_bits()) == 0);
            return (Ok(Survey { current, free }), entries);
        }
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
        let Some(current) = &survey.current else {
            return self.insert(hash, slot, seq, survey, judge);
        };
        // Hits are kept: the key is as popular as it was.
        let ours = |old: Slot| slot.with_freq(kept_freq(old, slot));
        let replaced = self.swap_place(current.at, current.slot, ours).ok_or(Blocked::Changed)?;
        let entries = value(slot) - value(replaced);
        Ok(Published { at: current.at, replaced: Some(replaced), entries })
    }

    /// Inserts the slot of a key that has none (invariant 4).
    fn insert<T>(
        &self,
        hash: u64,
        slot: Slot,
        seq: u64,
        survey: &Survey<T>,
        judge: impl FnMut(Slot) -> Verdict<T>,
    ) -> Result<Published, Blocked> {
        let (at, old) = survey.free.ok_or(Blocked::Full)?;
        let tentative = slot.with_state(SlotState::Tentative);
        if !self.swap(at, old, tentative) {
            return Err(Blocked::Changed);
        }
        // SeqCst: two writers that insert one key in two places both insert, fence and look;
        // at least one sees the other's slot.
        fence_behind_swap(Site::InsertFence.is(Ordering::SeqCst));
        if !self.is_alone(hash, at, seq, judge) {
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
    fn is_alone<T>(
        &self,
        hash: u64,
        own: usize,
        seq: u64,
        mut judge: impl FnMut(Slot) -> Verdict<T>,
    ) -> bool {
        for bucket in self.candidates(hash) {
            for i in bucket.with_tag(hash) {
                let (at, slot) = bucket.slot(i);
                if at == own || slot.state() == SlotState::Empty {
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

/// A free slot of the emptier of two buckets, which is what makes two choices fill evenly.
#[inline]
fn emptier(buckets: &[Bucket<'_>; 2], views: [Overview; 2]) -> Option<(usize, Slot)> {
    let free = [views[0].free(), views[1].free()];
    let half = usize::from(free[1].count_ones() > free[0].count_ones());
    (free[half] != 0).then(|| buckets[half].slot(free[half].trailing_zeros() as usize / 2))
}

#[inline]
fn load(word: &AtomicU64) -> Slot {
    // Acquire: pairs with the Release of whoever published the slot; the record that it points
    // to is complete (invariant 1).
    Slot::from_bits(word.load(Site::SlotLoad.is(Ordering::Acquire)))
}

/// Whether a slot has the tag of a hash: the bits above the place are the same.
#[inline]
const fn has_tag(slot: u64, hash: u64) -> bool {
    (slot ^ hash) < 1 << TAG_SHIFT
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

/// The newest record of a key, in the generation that `slots` says is the one to read.
#[inline]
pub(crate) fn lookup<'g, W: Words + 'g, T>(
    slots: impl Fn() -> &'g Generation<W>,
    hash: u64,
    mut judge: impl FnMut(Slot) -> Verdict<T>,
) -> Option<Found<T>> {
    let seen = match slots().glance(hash) {
        Glance::Nothing => return None,
        Glance::One(at, slot) => judge(slot).found_at(at, slot),
        Glance::Unclear => Err(Again),
    };
    match seen {
        Ok(found) => found,
        Err(Again) => lookup_closely(slots, hash, judge),
    }
}

/// What a first look is not enough for.
#[derive(Debug)]
pub(crate) struct Again;

impl<T> Verdict<T> {
    /// What a lookup finds if this is said of the one slot with the key's tag.
    #[inline(always)]
    pub(crate) fn found_at(self, at: usize, slot: Slot) -> Result<Option<Found<T>>, Again> {
        match self {
            Self::Same { seq, state, found } => Ok(Some(Found { slot, at, seq, state, found })),
            Self::Other => Ok(None),
            Self::Gone => Err(Again),
        }
    }
}

/// As [`lookup`], whatever stands there.
///
/// A segment goes once no slot points to it. A reader that loaded a slot before may find the
/// segment gone, although the record was only moved or replaced: it has to look again, unless
/// the slot is still the same, left behind by a process that died.
#[cold]
#[inline(never)]
pub(crate) fn lookup_closely<'g, W: Words + 'g, T>(
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
