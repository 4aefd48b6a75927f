//! What a store does when it has no more room: evict, or refuse.
//!
//! # Invariants of the store that keeps everything
//! 1. A value goes only by being replaced, removed, trimmed or expired. No slot is given up:
//!    the index grows, and where it cannot, the value is refused.
//! 2. Values leave two segments of the budget alone, or one if it has less than eight.
//!    Removals leave one alone, and compaction writes there, so that a full store can always
//!    be made smaller. A removal never fails for want of room: if nothing else helps, it takes
//!    what compaction needs, or exceeds the budget by a segment.

use std::time::Duration;

use crossbeam_epoch::Guard;
use larder_format::{CodecId, ExternalRef, Flags, Kind};

use super::change::Change;

use super::compact::{ANY_DEAD, PRESSED};
use super::external::FileId;
use super::lanes::Held;
use super::observer::Event;
use super::shortage::Patience;
use super::store::Store;
use super::writer::{NewRecord, Writer, room_for};
use crate::clock::NEVER;
use crate::error::{Error, Result};

/// What becomes of values when the budget is used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retain {
    /// The oldest go, except those that were read: a cache.
    #[default]
    Recent,
    /// All stay, and new ones are refused: a store. Space of values that were replaced,
    /// removed or have expired comes back by compaction.
    All,
}

/// How often lookups get the time to end that keep unlinked files mapped, and how often of
/// these without sleeping.
const PATIENCE: usize = 48;
const PATIENCE_AWAKE: usize = 16;

impl Store {
    pub(super) fn keeps_all(&self) -> bool {
        self.upkeep.retain == Retain::All
    }

    /// In a store that keeps everything: makes sure that the budget allows a segment more,
    /// compacting if need be. The caller may hold a writer's lane.
    pub(super) fn check_room(&self, kind: Kind) -> Result<()> {
        if !self.keeps_all() {
            return Ok(());
        }
        if kind != Kind::Value {
            let fits = |held| self.can_begin(self.segment_len() + held);
            let _ = self.free_up(fits, PRESSED)? || self.free_up(fits, ANY_DEAD)?;
            return Ok(());
        }
        let reserve = self.reserve();
        if self.free_up(|held| self.can_begin(reserve + held), PRESSED)? {
            return Ok(());
        }
        Err(Error::Full { needed: self.segment_len() + reserve, budget: self.budget() })
    }

    /// In a store that keeps everything: whether a value may be written to the segment that a
    /// lane has open, which a removal may have begun out of what values leave alone.
    pub(super) fn check_lane(&self, lane: &Held<'_>, kind: Kind) -> Result<()> {
        let Some(writer) = &*lane.writer else { return Ok(()) };
        let tally = &writer.segment().tally;
        if kind != Kind::Value || !tally.is_reserved() {
            return Ok(());
        }
        let reserve = self.reserve();
        let fits = |held| self.usage.live().saturating_add(reserve + held) <= self.budget();
        let is_free = match lane.patience {
            Patience::Help => self.free_up(fits, PRESSED)?,
            _ => fits(self.held()),
        };
        if !is_free {
            return Err(Error::Full { needed: reserve, budget: self.budget() });
        }
        tally.set_reserved(false);
        Ok(())
    }

    /// Whether a segment that is begun now is begun out of what values leave alone.
    pub(super) fn is_short(&self) -> bool {
        self.keeps_all() && !self.can_begin(self.reserve())
    }

    /// Bytes that values leave alone.
    pub(super) fn reserve(&self) -> u64 {
        let segments = if self.budget() / self.segment_len() >= 8 { 2 } else { 1 };
        segments * self.segment_len()
    }

    /// Compacts segments with a live share below so many percent until something `fits` beside
    /// so many bytes that views hold. Whether it does.
    pub(super) fn free_up(&self, fits: impl Fn(u64) -> bool, below: u64) -> Result<bool> {
        loop {
            if self.let_go(&fits) {
                return Ok(true);
            }
            self.seal_full();
            if !self.compact_inline(below)? {
                return Ok(false);
            }
        }
    }

    /// Bytes of unlinked files that views hold. What only waits for the last lookups to end
    /// does not count: nothing is evicted for it.
    pub(super) fn held(&self) -> u64 {
        self.held_here() + self.held_elsewhere()
    }

    /// As [`held`](Self::held), of this process.
    pub(super) fn held_here(&self) -> u64 {
        self.usage.retired().saturating_sub(self.fleeting())
    }

    /// Bytes of unlinked files that nobody has a view of.
    fn fleeting(&self) -> u64 {
        self.upkeep.fleeting() + self.externals.fleeting()
    }

    /// Gives lookups the time to end that keep unlinked files mapped, unless something `fits`
    /// beside those. Whether it fits beside what views hold. The caller must not be pinned.
    pub(super) fn let_go(&self, fits: impl Fn(u64) -> bool) -> bool {
        for round in 0..PATIENCE {
            if fits(self.usage.retired()) || self.fleeting() == 0 {
                break;
            }
            self.upkeep.sweep_graves();
            crossbeam_epoch::pin().flush();
            match round {
                0..PATIENCE_AWAKE => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(500)),
            }
        }
        fits(self.held())
    }

    /// Whether the budget allows the index to grow now. Where it does not, a cache evicts for it
    /// as it rolls (`index_wish`).
    pub(super) fn may_grow(&self) -> bool {
        let fits = |len| self.usage.live().saturating_add(len) <= self.budget();
        self.index.next_len().is_some_and(fits)
    }

    /// Whether so many entries are enough for the maintenance to make the next generation of an
    /// index of so many slots.
    pub(super) const fn grows_ahead(entries: u64, slots: u64) -> bool {
        entries * 8 > slots * 5
    }

    /// Starts the index's next generation before writers have to. Whether it did. Its pages are
    /// moved by the writers: a thread that is put to sleep over one would hold all of them up.
    pub(super) fn grow_ahead(&self) -> Result<bool> {
        let slots = self.index.slot_count(&crossbeam_epoch::pin());
        if !Self::grows_ahead(self.entries(), slots) || !self.may_grow() {
            return Ok(false);
        }
        match self.start_growth() {
            // As for writers: the index then stays as it is.
            Err(Error::StorageFull { .. }) => Ok(false),
            grown => grown,
        }
    }

    /// Starts the index's next generation. Whether it did.
    pub(super) fn start_growth(&self) -> Result<bool> {
        let grown = self.index.grow(self.ground())?;
        if grown {
            let slots = self.index.slot_count(&crossbeam_epoch::pin());
            self.upkeep.observed.note(|| Event::Grown { slots });
        }
        Ok(grown)
    }

    /// Bytes that a loaded index waits for, to grow.
    pub(super) fn index_wish(&self) -> u64 {
        let slots = self.index.slot_count(&crossbeam_epoch::pin());
        let is_loaded = self.entries() * 4 > slots * 3;
        if is_loaded { self.index.next_len().unwrap_or(0).min(self.budget() / 4) } else { 0 }
    }

    /// All candidate slots of a key are taken, and none may be given up: the index has to
    /// grow, and before that to be done with growing.
    pub(super) fn make_place_keeping(&self, guard: &Guard) -> Result<()> {
        if self.index.is_growing(guard) {
            self.index.finish(self.ground(), guard);
            return Ok(());
        }
        if (self.may_grow() && self.start_growth()?) || self.index.is_growing(guard) {
            return Ok(());
        }
        Err(Error::Full { needed: self.index.slot_count(guard) * 16, budget: self.budget() })
    }

    /// Hides a record again that was appended and could not be published, so that no later
    /// opening brings it to light. Not where its key has a record that counts, or may be about
    /// to get one: a tombstone would hide that as well, which is worse.
    pub(super) fn retract(&self, lane: &mut Held<'_>, change: &Change<'_>) -> Result<()> {
        let roomy = |writer: &Writer| writer.room() >= room_for(change.key.len(), 0);
        let (seq, in_flight) = lane.enter(self.file.next_seq());
        drop(in_flight);
        // In this order: whoever drew a lower number has published, and is met; whoever draws a
        // higher one hides the tombstone.
        let is_free = self.lanes.none_before(seq)
            && self.lookup(change.hash, change.key, &crossbeam_epoch::pin()).is_none();
        if is_free && lane.writer.as_ref().is_some_and(roomy) {
            let tombstone = NewRecord {
                kind: Kind::Tombstone,
                flags: Flags::NONE,
                seq,
                key_hash: change.hash,
                tags: &[],
                key: change.key,
                head: &[],
                value: &[],
                codec: CodecId::RAW,
                expires_at_ms: NEVER,
                written_at_ms: change.now_ms,
            };
            self.append(lane, &tombstone)?;
        }
        Ok(())
    }

    /// Dooms the external file of a value that could not be stored.
    pub(super) fn doom_orphan(&self, flags: Flags, value: &[u8]) {
        if flags.has(Flags::EXTERNAL)
            && let Ok(named) = ExternalRef::decode(value)
        {
            self.doomed.lock().push(FileId::named(&named));
        }
    }
}
