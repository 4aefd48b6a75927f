//! The store: what it is made of, and reading a key.
//!
//! # Invariants
//! 1. What a caller gets was committed, belongs to this very key (its bytes are compared), and
//!    passed its checksums. The index only says where to look.
//! 2. Of several records of a key the newest counts; at equal sequence all are copies.
//! 3. A `put` has returned once its record is committed and its slot is published; both
//!    survive the death of the process, being in the page cache.
//!
//! Not here: reading values (`read.rs`), changing a key (`change.rs`), making room (`reclaim.rs`), syncing (`durable.rs`),
//! opening (`open.rs`), checking (`verify.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_epoch::Guard;
use larder_format::layout::KEY_LEN_MAX;
use larder_format::{ExternalRef, Flags, KeyHasher, Kind, Slot, SlotState};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::cell;
use super::compress::{Packer, Unreadable};
use super::counters::{Count, Counters};
use super::dying::Dying;
use super::external::{Externals, FileId};
use super::growth::Index;
use super::index::{Found, Verdict};
use super::lanes::Lanes;
use super::lookup::{self, Again, Glance};
use super::seal::Damage;
use super::segment::{Record, Segment};
use super::session::StoreFile;
use super::storage::Storage;
use super::table::Table;
use super::tags::LostTags;
use super::together::Together;
use super::upkeep::Upkeep;
use super::usage::Usage;
use super::view::View;
use super::vital::Vital;
use crate::clock::{Clock, NEVER, is_live};
use crate::error::{Error, Result};
use crate::stats::{Recovery, Stats};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::value::{Meta, Value};

/// A value up to this many bytes is copied out; a larger one is a view of the mapping. Many
/// small views would keep whole segments mapped that have long been reclaimed.
pub(super) const COPY_OUT_MAX: usize = 1 << 10;

/// A record from a segment whose clock was this far ahead of ours is taken for expired, if it
/// can expire at all.
const CLOCK_SLACK_MS: u64 = 60_000;

/// An open store.
#[derive(Debug)]
pub(crate) struct Store {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) file: Arc<StoreFile>,
    pub(super) hasher: KeyHasher,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ttl: Option<Duration>,
    /// Bytes that the directory may hold; changed by `set_budget` only.
    pub(super) budget: AtomicU64,
    /// What they were when it was opened: tables were made for so much.
    pub(super) budget_max: u64,
    pub(super) index: Index,
    pub(super) table: Table,
    /// Every live segment by id. Locked last, and never for long.
    pub(super) live: Mutex<BTreeMap<u64, Arc<Segment>>>,
    pub(super) lanes: Lanes,
    /// Writers under way that will wait for the disk once they have appended.
    pub(super) coming: AtomicU64,
    /// Whether a batch is being written. Changed by whoever holds all lanes.
    pub(super) batching: AtomicBool,
    /// Held to reclaim; holds the segment that is being reclaimed, and how far that is.
    pub(super) reclaiming: Mutex<Option<Dying>>,
    pub(super) upkeep: Upkeep,
    pub(super) externals: Externals,
    pub(super) packer: Packer,
    /// Fewer bytes than this of key and value make a usual put (`quick.rs`).
    pub(super) usual_below: usize,
    /// Bytes of data from which an array has a file of its own, as set.
    pub(super) array_file_from: u64,
    /// External files of replaced values, to be unlinked once their replacement is durable.
    pub(super) doomed: Mutex<Vec<FileId>>,
    pub(super) usage: Arc<Usage>,
    pub(super) counters: Arc<Counters>,
    /// What was found wrong, and mended.
    pub(super) damage: Arc<Damage>,
    pub(super) recovery: Recovery,
    pub(super) recovered_records: u64,
    pub(super) open_us: u64,
    /// Invalidations of tags that cannot be read.
    pub(super) lost_tags: LostTags,
    /// Whether the shared count of entries is exact; it is not after a process died.
    pub(super) entries_exact: bool,
    pub(super) vital: Vital,
    /// Records up to this number were cleared; where processes share the store, they share this too.
    pub(super) cleared: AtomicU64,
    /// Set if other processes may have the store open as well.
    pub(super) together: Option<Together>,
    /// Held to create files of large values until their records are written; by `close` alone.
    pub(super) gate: RwLock<()>,
}

impl Store {
    /// Bytes that the directory may hold now.
    pub(super) fn budget(&self) -> u64 {
        // Relaxed: a bound, by itself; who reads the old one a moment longer keeps to that.
        self.budget.load(Ordering::Relaxed)
    }

    /// Changes the budget, and evicts what exceeds it.
    pub(super) fn set_budget(&self, bytes: u64) -> Result<()> {
        if self.together.is_some() {
            return Err(Error::Config {
                option: "budget",
                value: bytes.to_string(),
                accepted: "a store that processes share keeps the budget that they agreed upon",
            });
        }
        let least = (self.segment_len() * 4).max(1 << 20);
        if !(least..=self.budget_max).contains(&bytes) {
            return Err(Error::Config {
                option: "budget",
                value: bytes.to_string(),
                accepted: "while the store is open: from four times the length of its segments (and 1 \
                           MiB) to what it was opened with; open it again with more",
            });
        }
        // Relaxed: as above.
        self.budget.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    #[inline]
    pub(super) fn check_open(&self) -> Result<()> {
        self.vital.check()?;
        if self.file.is_broken() { Err(self.cut_short()) } else { Ok(()) }
    }

    #[cold]
    fn cut_short(&self) -> Error {
        let cut = std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            "it was cut short while it was in use: open the store anew",
        );
        Error::io("go on with", &self.storage.path(super::session::STORE), cut)
    }

    /// Why a record cannot be copied that was there before.
    #[cold]
    pub(super) fn cut_under(&self, record: &Record<'_>) -> Error {
        let path = self.storage.path(&super::segment::file_name(record.segment.id()));
        Error::io("read", &path, std::io::ErrorKind::UnexpectedEof.into())
    }

    /// Whether keys may lack slots that the log has records of: slots were given up, the index was
    /// built anew, or a part of it is gone.
    #[inline]
    pub(super) fn may_lack_slots(&self) -> bool {
        // Relaxed: set before any record can be unknown, or lack its flag, because of it; for the
        // latter under a lock that the record's writer held when its segment was sealed.
        self.file.dropped().load(Ordering::Relaxed) != 0 || self.index.is_broken()
    }

    /// Keeps the store from being closed.
    pub(super) fn enter_gate(&self) -> Result<RwLockReadGuard<'_, ()>> {
        let gate = self.gate.read();
        self.check_open()?;
        Ok(gate)
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> Result<u64> {
        if key.len() > KEY_LEN_MAX {
            return Err(Error::KeyTooLong { len: key.len(), max: KEY_LEN_MAX });
        }
        Ok(self.hasher.hash(key))
    }

    /// What the record that a slot points to says about a key.
    #[inline(always)]
    pub(super) fn judge<'g>(
        &self,
        slot: Slot,
        key: &[u8],
        guard: &'g Guard,
    ) -> Verdict<Record<'g>> {
        let Some(segment) = self.segment_at(slot.segment(), guard) else { return Verdict::Gone };
        let Ok(record) = segment.record(slot.offset()) else { return Verdict::Other };
        let state = match record.header.kind {
            Kind::Value => SlotState::Value,
            Kind::Tombstone => SlotState::Tombstone,
            _ => return Verdict::Other,
        };
        let fits = match slot.state() {
            SlotState::Tentative | SlotState::Pending => true,
            said => said == state,
        };
        if fits && record.key() == key {
            Verdict::Same { seq: record.header.seq, state, found: record }
        } else {
            Verdict::Other
        }
    }

    /// The newest record of a key.
    #[inline]
    pub(super) fn lookup<'g>(
        &self,
        hash: u64,
        key: &[u8],
        guard: &'g Guard,
    ) -> Option<Found<Record<'g>>> {
        let slots = || self.index.for_reading(hash, guard);
        lookup::lookup(slots, hash, |slot| self.judge(slot, key, guard))
    }

    /// As [`lookup`](Self::lookup), where a first look is not enough.
    #[cold]
    fn lookup_closely<'g>(
        &self,
        hash: u64,
        key: &[u8],
        guard: &'g Guard,
    ) -> Option<Found<Record<'g>>> {
        let slots = || self.index.for_reading(hash, guard);
        lookup::lookup_closely(slots, hash, |slot| self.judge(slot, key, guard))
    }

    /// Whether a record's value may be served at this time: not expired, and no tag of it
    /// invalidated since.
    #[inline]
    pub(super) fn is_live_at(
        &self,
        record: &Record<'_>,
        now_ms: impl FnOnce() -> u64,
        guard: &Guard,
    ) -> bool {
        if record.header.seq <= self.cleared() {
            return false;
        }
        if record.header.tag_count > 0 && !self.has_valid_tags(record, guard) {
            return false;
        }
        let deadline = record.header.expires_at_ms;
        if deadline == NEVER {
            return true;
        }
        let now_ms = now_ms();
        is_live(deadline, now_ms) && record.written_at_ms() <= now_ms.saturating_add(CLOCK_SLACK_MS)
    }

    /// The live value of a key, its slot and record.
    #[inline]
    pub(super) fn live<'g>(
        &self,
        hash: u64,
        key: &[u8],
        guard: &'g Guard,
    ) -> Option<Found<Record<'g>>> {
        let seen = self.index.for_reading(hash, guard).glance(hash);
        self.live_from(seen, hash, key, guard)
    }

    /// As [`live`](Self::live), after a first look under the same guard.
    #[inline(always)]
    pub(super) fn live_from<'g>(
        &self,
        seen: Glance,
        hash: u64,
        key: &[u8],
        guard: &'g Guard,
    ) -> Option<Found<Record<'g>>> {
        let first = match seen {
            Glance::Nothing => return None,
            Glance::One(at, slot) => self.judge(slot, key, guard).found_at(at, slot),
            Glance::Unclear => Err(Again),
        };
        let found = match first {
            Ok(found) => found?,
            Err(Again) => self.lookup_closely(hash, key, guard)?,
        };
        if found.state != SlotState::Value {
            return None;
        }
        if self.is_live_at(&found.found, || self.clock.now_ms(), guard) {
            return Some(found);
        }
        self.let_expire(&found, hash, guard);
        None
    }

    /// Empties the slot of a value that may not be served any more.
    #[cold]
    fn let_expire(&self, found: &Found<Record<'_>>, hash: u64, guard: &Guard) {
        // The deadline stands in the record, and the invalidation in the log: whoever rebuilds
        // the index sees them as well, so the slot can go without a tombstone. One that is
        // pending stays: it hides another.
        let slots = self.index.for_reading(hash, guard);
        // Not while the store is closed, which takes all lanes: what can wait is left.
        if found.slot.state() == SlotState::Value
            && let Some(_lane) = self.lanes.try_acquire(false, None)
            && self.check_open().is_ok()
            && slots.swap_place(found.at, found.slot, |_| Slot::EMPTY).is_some()
        {
            self.add_entries(-1);
            self.note_dead(found.slot, guard);
            self.counters.add(Count::Expired, 1);
        }
    }

    /// What is known about a record's value.
    #[inline]
    pub(super) fn meta(record: &Record<'_>) -> Meta {
        Meta {
            codec: record.header.codec,
            expires_at_ms: record.header.expires_at_ms,
            written_at_ms: record.written_at_ms(),
            version: record.header.seq,
        }
    }

    /// The value of a record, if all of it passes its checksums.
    pub(super) fn value(&self, record: &Record<'_>, guard: &Guard) -> Result<Option<Value>> {
        if !record.can_be_served() {
            return Ok(None);
        }
        let meta = Self::meta(record);
        if Self::is_packed_array(record) {
            return self.array_value(record, guard);
        }
        if record.header.flags.has(Flags::COMPRESSED) {
            let unpacked = self.unpack(record, guard)?;
            return Ok(unpacked.ok().map(|bytes| Value::owned(bytes, meta)));
        }
        if record.header.flags.has(Flags::EXTERNAL) {
            return Ok(self.external(record, guard)?.map(|view| Value::mapped(view, meta)));
        }
        let bytes = record.value();
        if bytes.len() <= COPY_OUT_MAX {
            let mut copy = Vec::new();
            let steady = record.steady(&mut copy);
            return Ok(steady.map(|record| Value::new(record.value(), meta)));
        }
        let place = Slot::new(0, record.segment.id(), 0, SlotState::Value);
        Ok(Some(match self.segment_at(place.segment(), guard) {
            Some(segment) => Value::mapped(segment.view(record.value_range()), meta),
            // Reclaimed since it was looked up: the record stays while the guard is pinned.
            None => {
                let mut copy = Vec::new();
                let Some(steady) = record.steady(&mut copy) else { return Ok(None) };
                Value::new(steady.value(), meta)
            }
        }))
    }

    /// The bytes of a record's external file, if it is whole.
    pub(super) fn external(&self, record: &Record<'_>, guard: &Guard) -> Result<Option<View>> {
        let Ok(named) = ExternalRef::decode(record.value()) else { return Ok(None) };
        let external = self.externals.get(&*self.storage, &named, guard)?;
        Ok(external.and_then(|file| file.value()))
    }

    /// The value of an intact record that is packed.
    pub(super) fn unpack(
        &self,
        record: &Record<'_>,
        guard: &Guard,
    ) -> Result<Result<Vec<u8>, Unreadable>> {
        let limit = self.largest_value();
        if !record.header.flags.has(Flags::EXTERNAL) {
            let mut copy = Vec::new();
            let steady = record.steady(&mut copy);
            let unpacked = steady.map(|record| self.packer.unpack(record.value(), limit));
            return Ok(unpacked.unwrap_or(Err(Unreadable::NoFrame)));
        }
        let packed = self.external(record, guard)?;
        Ok(packed.map_or(Err(Unreadable::NoFrame), |view| self.packer.unpack(view.bytes(), limit)))
    }

    pub(super) fn add_entries(&self, by: i64) {
        if by != 0 {
            // Relaxed: a count. Wrapping: adding a negative number.
            self.file.entries().fetch_add(by.cast_unsigned(), Ordering::Relaxed);
        }
    }

    /// Number of value slots, as counted; may be off after a process died.
    pub(super) fn entries(&self) -> u64 {
        // Relaxed: a count. A dead process can leave it slightly off, even below zero.
        let entries = self.file.entries().load(Ordering::Relaxed);
        let entries = entries.wrapping_add(self.lanes.entries());
        if entries.cast_signed() < 0 { 0 } else { entries }
    }

    pub(crate) fn len(&self) -> u64 {
        let guard = &crossbeam_epoch::pin();
        if self.entries_exact && self.damage.len() == 0 {
            return self.entries();
        }
        self.index.count_values(guard)
    }

    pub(crate) fn clear(&self) -> Result<u64> {
        self.check_open()?;
        if let Some(together) = &self.together {
            return self.clear_together(together);
        }
        let mut lanes = self.lanes.acquire_all();
        self.check_open()?;
        lanes.iter_mut().for_each(|lane| self.seal(lane));
        self.seal_full();
        // First of all: segments go one by one, and one with a newer record may go before one with
        // an older record of the same key.
        // Relaxed: all lanes are held, so that nobody draws a number.
        let cleared_seq = self.file.next_seq().load(Ordering::Relaxed).saturating_sub(1);
        let cleared = |session| larder_format::Session { cleared_seq, ..session };
        self.file.change_session(&*self.storage, cleared)?;
        // Release: pairs with `cleared`.
        self.cleared.store(cleared_seq, Ordering::Release);
        // Relaxed: all lanes are held, so that nobody begins a segment meanwhile.
        let gone = self.drop_before(self.file.next_segment().load(Ordering::Relaxed))?;
        drop(lanes);
        Ok(gone)
    }

    pub(crate) fn stats(&self) -> Stats {
        let guard = &crossbeam_epoch::pin();
        let mut stats = Stats {
            entries: self.entries(),
            used_bytes: self.usage.live() + self.usage.retired(),
            retired_bytes: self.usage.retired(),
            budget_bytes: self.budget(),
            segments: self.all_live().len() as u64,
            index_slots: self.index.slot_count(guard),
            recovery: self.recovery,
            recovered_records: self.recovered_records,
            open_us: self.open_us,
            ..Stats::default()
        };
        self.counters.fill(&mut stats);
        self.upkeep.fill(&mut stats);
        stats.spares = u64::from(self.has_spare());
        stats
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Else files that are unlinked would stay mapped, and the file system in use, until another
        // store happens to come by.
        cell::let_go();
    }
}
