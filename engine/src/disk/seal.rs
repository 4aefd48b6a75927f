//! Checksums of index pages: written at a clean end, compared when a page is first met.
//!
//! ```text
//!   clean end:    sum every page that was touched, then say by which session
//!   first touch:  sum, compare ── right ──▶ touched bit ──▶ believe, change
//!                              └─ wrong ──▶ fill again from the segments ──▶ touched bit
//! ```
//!
//! # Invariants
//! 1. Nobody believes or changes a slot of a page whose touched bit is unset.
//! 2. So the records of an unset page were all written before this opening: the segments that
//!    were there then hold everything that a page is filled with. (Only a tag invalidation may
//!    have been appended since; its writer publishes it after its page was met.)
//! 3. A page is filled again under the lock `filling`, and by nobody once its bit is set.
//! 4. The bits lie in the file: an opening after the death of a process still compares pages
//!    that nobody had met.
//!
//! # Orderings
//! A touched bit is set by Release and read by Acquire: who sees it sees the slots that the
//! page was filled with. Several threads may sum a page at once. One that finds it wrong takes
//! the lock, sums again, and looks at the bit once more: a page that was right may have been
//! changed by who set its bit. The slots are loaded by Acquire, and changed by Release after
//! the bit was set, so that who has seen such a change sees the bit.
//!
//! Not here: what a page is filled with (`refill.rs`).

use std::sync::{Arc, Weak};

use larder_format::layout::INDEX_SUMMED;
use larder_format::{IndexHeader, KeyHasher, SlotState};
use parking_lot::Mutex;

use super::counters::{Count, Counters};
use super::growth::file_name;
use super::index::{Generation, PAGE_SLOTS};
use super::map::Map;
use super::refill;
use super::segment::Segment;
use super::session::StoreFile;
use crate::sync::{Ordering, Words as _};

/// Pages found wrong one by one before all others are looked at: each takes a walk over all
/// footers.
const ONE_BY_ONE: usize = 4;
/// Pages that are filled in one walk.
const TOGETHER: usize = 2048;

/// What it takes to fill a page again.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The segments that were there at the opening.
    pub(crate) segments: Vec<Weak<Segment>>,
    pub(crate) hasher: KeyHasher,
    /// Weak, as a generation may outlive the store, and must not keep its lock.
    pub(crate) file: Weak<StoreFile>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) damage: Arc<Damage>,
}

/// What was found wrong, and mended, since the opening.
#[derive(Debug, Default)]
pub(crate) struct Damage(Mutex<Vec<Damaged>>);

/// One thing that was mended.
#[derive(Debug, Clone)]
pub(crate) struct Damaged {
    /// Name of the file.
    pub(crate) file: String,
    /// Where in the file, in bytes from its start.
    pub(crate) offset: usize,
    pub(crate) what: &'static str,
}

impl Damage {
    pub(crate) fn note(&self, file: String, offset: usize, what: &'static str) {
        self.0.lock().push(Damaged { file, offset, what });
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub(crate) fn all(&self) -> Vec<Damaged> {
        self.0.lock().clone()
    }
}

/// Says of each page of a generation whether it was compared with its checksum.
#[derive(Debug)]
pub(crate) struct Seal {
    source: Source,
    filling: Mutex<()>,
}

impl Seal {
    pub(crate) const fn new(source: Source) -> Self {
        Self { source, filling: Mutex::new(()) }
    }

    /// Compares a page that nobody has met yet with its checksum.
    #[cold]
    pub(crate) fn meet(&self, header: &IndexHeader, slots: &Generation<Map>, page: usize) {
        if sum(header, slots, page) == written_sum(header, slots, page) {
            set_touched(header, slots, page);
            return;
        }
        let _filling = self.filling.lock();
        if !self.is_wrong(header, slots, page) {
            return;
        }
        let mut wrong = vec![page];
        if self.source.damage.len() >= ONE_BY_ONE {
            let others = (0..header.geometry.pages()).filter(|&other| other != page);
            wrong.extend(others.filter(|&other| self.is_wrong(header, slots, other)));
        }
        wrong.sort_unstable();
        for pages in wrong.chunks(TOGETHER) {
            self.fill(header, slots, pages);
        }
    }

    /// Whether a page is wrong; one that is right counts as met. For the holder of the lock.
    fn is_wrong(&self, header: &IndexHeader, slots: &Generation<Map>, page: usize) -> bool {
        if is_touched(header, slots, page) {
            return false;
        }
        if sum(header, slots, page) == written_sum(header, slots, page) {
            set_touched(header, slots, page);
            return false;
        }
        // Somebody may have met it while it was summed here, and changed it.
        !is_touched(header, slots, page)
    }

    /// Fills pages again. For the holder of the lock.
    fn fill(&self, header: &IndexHeader, slots: &Generation<Map>, pages: &[usize]) {
        let source = &self.source;
        let Some(file) = source.file.upgrade() else { return };
        let segments: Vec<_> = source.segments.iter().filter_map(Weak::upgrade).collect();
        let filled = refill::pages(&segments, &source.hasher, header.geometry, pages);
        source.counters.add(Count::Corrupt, pages.len() as u64 + filled.unreadable);
        if filled.left_out > 0 {
            // Relaxed, as wherever it is set: before any record can be unknown because of it,
            // since nobody has met the page.
            file.dropped().store(1, Ordering::Relaxed);
            source.counters.add(Count::Evictions, filled.left_out);
        }
        for (&page, content) in pages.iter().zip(&filled.pages) {
            let before = slots.count_values(page);
            let values = content.iter().filter(|slot| slot.state() == SlotState::Value);
            let change = (values.count() as u64).wrapping_sub(before);
            // Relaxed: a count.
            file.entries().fetch_add(change, Ordering::Relaxed);
            for (number, slot) in content.iter().enumerate() {
                // Relaxed: nobody looks before the bit is set by Release (invariant 1).
                let word = slots.word(Generation::<Map>::slot_at(page, number));
                word.store(slot.to_bits(), Ordering::Relaxed);
            }
            let what = "the page failed its checksum, and was filled again from the segments";
            let at = Generation::<Map>::slot_at(page, 0);
            source.damage.note(file_name(header.generation), at, what);
            set_touched(header, slots, page);
        }
    }
}

/// Whether somebody has met a page since its checksum was written.
#[inline]
pub(crate) fn is_touched(header: &IndexHeader, slots: &Generation<Map>, page: usize) -> bool {
    let word = slots.word(header.touched_at() + page / 64 * 8);
    // Acquire: pairs with `set_touched`; who sees the bit sees the slots.
    word.load(Ordering::Acquire) >> (page % 64) & 1 == 1
}

fn set_touched(header: &IndexHeader, slots: &Generation<Map>, page: usize) {
    let word = slots.word(header.touched_at() + page / 64 * 8);
    // Release: pairs with `is_touched`.
    word.fetch_or(1 << (page % 64), Ordering::Release);
}

/// Declares that nobody has met any page. For the opening after a clean end.
pub(crate) fn clear_touched(header: &IndexHeader, slots: &Generation<Map>) {
    for word in slots.words().words(header.touched_at(), header.touched_words()) {
        // Relaxed: nobody else has the store yet.
        word.store(0, Ordering::Relaxed);
    }
}

/// The epoch of the session at whose clean end the checksums were written; 0 if there are none.
pub(crate) fn summed(slots: &Generation<Map>) -> u64 {
    // Relaxed: for openings, which have the store to themselves.
    slots.word(INDEX_SUMMED).load(Ordering::Relaxed)
}

/// Declares that there are no checksums.
pub(crate) fn forget_sums(slots: &Generation<Map>) {
    // Relaxed: nobody else has the store yet.
    slots.word(INDEX_SUMMED).store(0, Ordering::Relaxed);
}

/// Writes the checksums of all pages, or of those that somebody has met if the others are
/// `sealed`. Nobody may change slots, but for hits.
pub(crate) fn write_sums(header: &IndexHeader, slots: &Generation<Map>, sealed: bool, epoch: u64) {
    for page in 0..header.geometry.pages() {
        if sealed && !is_touched(header, slots, page) {
            continue;
        }
        let word = slots.word(header.sums_at() + page / 2 * 8);
        let shift = page % 2 * 32;
        // Relaxed, here and below: one thread closes, and what it writes is for the next
        // opening, which the session's clean mark orders.
        let others = word.load(Ordering::Relaxed) & !(0xFFFF_FFFF << shift);
        let sum = u64::from(sum(header, slots, page));
        word.store(others | sum << shift, Ordering::Relaxed);
    }
    slots.word(INDEX_SUMMED).store(epoch, Ordering::Relaxed);
}

/// The checksum of a page as it is.
fn sum(header: &IndexHeader, slots: &Generation<Map>, page: usize) -> u32 {
    let numbers = 0..PAGE_SLOTS;
    header.page_crc(page, numbers.map(|n| slots.load(Generation::<Map>::slot_at(page, n))))
}

/// The checksum of a page as it was at the clean end.
fn written_sum(header: &IndexHeader, slots: &Generation<Map>, page: usize) -> u32 {
    let word = slots.word(header.sums_at() + page / 2 * 8);
    // Relaxed: written by openings and closings only, which are alone.
    let both = word.load(Ordering::Relaxed) >> (page % 2 * 32);
    u32::try_from(both & 0xFFFF_FFFF).unwrap_or(0)
}
