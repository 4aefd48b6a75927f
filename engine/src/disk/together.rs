//! One store in several processes: joining those who have it open, seeing what they do, and leaving.
//!
//! The files are the store, and what is in them is read and changed by the same code whoever has it
//! open. What a process keeps in memory of its own follows the words that all share (`share.rs`): which
//! segments there are, which generations of the index count (`growth.rs`), what was cleared.
//!
//! # Invariants
//! 1. A segment that a slot leads to is mapped when it is met. One that cannot be mapped although it is
//!    there is a miss for readers; a writer fails, as it must not take the slot for free.
//! 2. The list of live segments is of one moment, after the call for it began ([`Store::all_live`]): who
//!    reclaims compares with all of them, or fails.
//! 3. One process at a time looks after the others: it holds the lock of the upkeep, adopts what dead
//!    processes left (`adopt.rs`), and makes room ahead. Nobody waits for it: who needs room makes it.
//!
//! Not here: batches (`gate.rs`).

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_epoch::Guard;
use larder_format::{Flags, SegmentState, ShareHeader, Slot};
use parking_lot::{Mutex, MutexGuard};

use super::builder::Options;
use super::counters::{Count, Counters};
use super::growth::{Common, Index, IndexFile};
use super::open::Parts;
use super::retain::Retain;
use super::seal::Damage;
use super::segment::{Segment, file_name};
use super::session::StoreFile;
use super::share::{Changing, Process, Share};
use super::storage::{Guard as Lock, Storage};
use super::store::Store;
use super::table::Table;
use super::usage::Usage;
use crate::engine::Stamp;
use crate::error::{Error, Result};
use crate::stats::Recovery;
use crate::sync::{AtomicU64, Ordering};

/// Held by who looks after the others.
const UPKEEP_LOCK: &str = "proc/upkeep.lock";
/// How often a process looks what the others did, if it does nothing itself.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// What a process needs to have a store together with others.
#[derive(Debug)]
pub(crate) struct Together {
    pub(super) share: Arc<Share>,
    /// Held while this process looks after the others.
    upkeep: Mutex<Option<Box<dyn Lock>>>,
    /// How often a segment could not be mapped that is there, and which was the last one.
    unmapped: AtomicU64,
    last_unmapped: Mutex<Option<(PathBuf, io::ErrorKind)>>,
}

impl Together {
    pub(super) fn new(share: Arc<Share>) -> Self {
        let (upkeep, unmapped) = (Mutex::new(None), AtomicU64::new(0));
        Self { share, upkeep, unmapped, last_unmapped: Mutex::new(None) }
    }

    /// A count that goes up with each segment that could not be mapped.
    pub(super) fn unmapped(&self) -> u64 {
        // Relaxed: compared by the thread that counted.
        self.unmapped.load(Ordering::Relaxed)
    }

    /// The error of the last one.
    fn unmapped_error(&self) -> Error {
        let last = self.last_unmapped.lock().clone();
        let (path, kind) = last.unwrap_or_else(|| (PathBuf::new(), io::ErrorKind::Other));
        Error::io("map", &path, kind.into())
    }
}

impl Store {
    /// Opens a store that other processes have open.
    pub(super) fn join(
        storage: Arc<dyn Storage>,
        options: &Options,
        file: Arc<StoreFile>,
        started: Instant,
    ) -> Result<Self> {
        let superblock = *file.superblock();
        let agrees = |header: &ShareHeader| agree(header, options);
        let now_ms = options.clock.now_ms();
        let share = Share::join(&*storage, &superblock.uuid, now_ms, agrees)?;
        let opened = Self::join_as(Arc::clone(&storage), options, file, Arc::clone(&share));
        match opened {
            Ok(mut store) => {
                store.open_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                Ok(store)
            }
            Err(error) => {
                share.leave();
                Err(error)
            }
        }
    }

    fn join_as(
        storage: Arc<dyn Storage>,
        options: &Options,
        file: Arc<StoreFile>,
        share: Arc<Share>,
    ) -> Result<Self> {
        let (counters, damage) = (Arc::new(Counters::default()), Arc::new(Damage::default()));
        let usage = Arc::new(Usage::default());
        usage.share_with(&share);
        let (new, old) = open_generations(&*storage, &file)?;
        let common = Common { storage: Arc::clone(&storage), file: Arc::clone(&file) };
        let index = Index::new(new, old, &usage, Some(common), &crossbeam_epoch::pin());
        let parts = Parts {
            table: Table::with_len(share.header().positions as usize),
            storage,
            file,
            share: Some(share),
            index,
            live: BTreeMap::new(),
            usage,
            counters,
            damage,
            recovery: Recovery::Joined,
            entries_exact: false,
        };
        let store = Self::assemble(parts, options)?;
        store.file.let_others_in(&*store.storage)?;
        Ok(store)
    }

    /// Ends an opening: what was found is everybody's from here on.
    pub(super) fn let_others_in(&self) -> Result<()> {
        if let Some(together) = &self.together {
            let share = &together.share;
            for segment in self.live.lock().values() {
                if segment.state() == SegmentState::Open {
                    // In a lane of this process, or its spare.
                    share.note_own(segment.id());
                }
            }
            // Pages of which half was moved by one process alone are finished by it.
            self.index.finish(self.ground(), &crossbeam_epoch::pin());
            // Relaxed: the locks order it.
            share.cleared().store(self.file.cleared_seq(), Ordering::Relaxed);
            self.usage.share_with(share);
        }
        self.file.let_others_in(&*self.storage)
    }

    /// The live segment whose id ends in these bits.
    #[inline(always)]
    pub(super) fn segment_at<'g>(
        &self,
        low_bits: u16,
        guard: &'g Guard,
    ) -> Option<&'g Arc<Segment>> {
        let found = self.table.get(low_bits, guard);
        match &self.together {
            None => found,
            Some(together) => self.confirm(together, found, low_bits, guard),
        }
    }

    #[inline]
    fn confirm<'g>(
        &self,
        together: &Together,
        found: Option<&'g Arc<Segment>>,
        low_bits: u16,
        guard: &'g Guard,
    ) -> Option<&'g Arc<Segment>> {
        let there = together.share.entry(low_bits.into()).id();
        match found {
            Some(segment) if segment.id() == there => found,
            _ if there == 0 || there & 0xFFFF != u64::from(low_bits) => None,
            _ => {
                let mut live = self.live.lock();
                // Mapped by another thread meanwhile, or not yet.
                let known = live.get(&there).is_some() || self.map_in(together, &mut live, there);
                drop(live);
                known.then(|| self.table.get(low_bits, guard)).flatten()
            }
        }
    }

    /// Maps a segment that another process made. Whether it is there.
    fn map_in(&self, together: &Together, live: &mut BTreeMap<u64, Arc<Segment>>, id: u64) -> bool {
        let superblock = self.file.superblock();
        let (uuid, len) = (&superblock.uuid, superblock.segment_len);
        match Segment::open(&*self.storage, id, uuid, len, &self.usage) {
            Ok((segment, damage)) => {
                self.counters.add(Count::Corrupt, damage.is_some().into());
                let segment = Arc::new(segment);
                live.insert(id, Arc::clone(&segment));
                self.table.replace(segment, &crossbeam_epoch::pin());
                true
            }
            // Just reserved, or just unlinked.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                let kind = match &error {
                    Error::Io { source, .. } => source.kind(),
                    _ => io::ErrorKind::InvalidData,
                };
                let path = self.storage.path(&file_name(id));
                *together.last_unmapped.lock() = Some((path, kind));
                // Relaxed: see `unmapped`.
                together.unmapped.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// All live segments, as of a moment after this call began (invariant 2). Locked last, and never for
    /// long.
    pub(super) fn all_live(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        let mut live = self.live.lock();
        if let Some(together) = &self.together {
            self.look_around(together, &mut live);
        }
        live
    }

    /// Brings the list of segments up to date.
    fn look_around(&self, together: &Together, live: &mut BTreeMap<u64, Arc<Segment>>) {
        let share = &together.share;
        // Relaxed: under the lock of `live`.
        let seen = |changes| share.seen().store(changes, Ordering::Relaxed);
        loop {
            let changes = share.changes();
            if changes == share.seen().load(Ordering::Relaxed) {
                return;
            }
            let unmapped = together.unmapped();
            let there: HashSet<u64> = share.entries().map(|entry| entry.id()).collect();
            let gone: Vec<u64> = live.keys().filter(|id| !there.contains(id)).copied().collect();
            for id in gone {
                if let Some(segment) = live.remove(&id) {
                    segment.note_retired();
                    let guard = crossbeam_epoch::pin();
                    if self.table.holds(id, &guard) {
                        self.table.remove(id, &guard);
                    }
                    self.upkeep.inter(&segment);
                }
            }
            for id in there {
                if !live.contains_key(&id) {
                    self.map_in(together, live, id);
                }
            }
            if together.unmapped() != unmapped {
                // Not all of them: the next call looks again.
                return;
            }
            seen(changes);
        }
    }

    /// Fails if a segment could not be mapped since `unmapped` was what
    /// [`Together::unmapped`] said.
    pub(super) fn check_mapped(&self, unmapped: Option<u64>) -> Result<()> {
        match (&self.together, unmapped) {
            (Some(together), Some(before)) if together.unmapped() != before => {
                Err(together.unmapped_error())
            }
            _ => Ok(()),
        }
    }

    /// What [`check_mapped`](Self::check_mapped) is to be told afterwards.
    #[inline]
    pub(super) fn unmapped(&self) -> Option<u64> {
        self.together.as_ref().map(Together::unmapped)
    }

    /// Makes a segment this process's own to reclaim. Whether it is.
    pub(super) fn claim_segment(&self, segment: &Segment) -> bool {
        self.together.as_ref().is_none_or(|together| together.share.claim(segment.id()))
    }

    /// Whether nobody else reclaims a segment.
    pub(super) fn is_free_to_go(&self, segment: &Segment) -> bool {
        self.together.as_ref().is_none_or(|together| together.share.is_free_to_go(segment.id()))
    }

    /// Tells other processes that a change of a key begins, and, when the guard goes, that it is over.
    #[inline]
    pub(super) fn begin_change(&self, hash: u64) -> Option<Changing<'_>> {
        self.together.as_ref().map(|together| together.share.begin_change(hash))
    }

    /// See [`Watched::stamp`](crate::Watched::stamp).
    pub(super) fn stamp(&self, key: &[u8], tags: &[u64]) -> Option<Stamp> {
        let share = &self.together.as_ref()?.share;
        let cleared = self.cleared();
        let of = |hash| share.stamp(hash).map(|count| (hash, count));
        let key = of(self.hash(key).ok()?)?;
        let tags = tags.iter().map(|tag| of(*tag)).collect::<Option<_>>()?;
        Some(Stamp { key, tags, cleared })
    }

    /// See [`Watched::is_current`](crate::Watched::is_current).
    #[inline]
    pub(super) fn is_current(&self, stamp: &Stamp) -> bool {
        self.together.as_ref().is_none_or(|together| {
            let is_unchanged =
                |(hash, count): &(u64, u64)| together.share.is_unchanged(*hash, *count);
            is_unchanged(&stamp.key)
                && stamp.tags.iter().all(is_unchanged)
                && stamp.cleared == self.cleared()
        })
    }

    /// Up to which number records were cleared.
    #[inline]
    pub(super) fn cleared(&self) -> u64 {
        // Acquire: who sees that a store was cleared sees what was written before.
        match &self.together {
            None => self.cleared.load(Ordering::Acquire),
            Some(together) => together.share.cleared().load(Ordering::Acquire),
        }
    }

    /// Bytes of unlinked files that views of other processes hold.
    pub(super) fn held_elsewhere(&self) -> u64 {
        self.together.as_ref().map_or(0, |together| together.share.held_by_others())
    }

    /// Whether it is this process that makes room ahead.
    pub(super) fn looks_after_all(&self) -> bool {
        self.together.as_ref().is_none_or(|together| together.upkeep.lock().is_some())
    }

    /// How many processes have the store open.
    pub(super) fn process_count(&self) -> u64 {
        self.together.as_ref().map_or(1, |together| together.share.taken().count() as u64)
    }

    /// Who has the store open.
    pub(super) fn processes(&self) -> Vec<Process> {
        self.together.as_ref().map_or_else(Vec::new, |together| together.share.processes())
    }

    /// Sees what the others did, and looks after those who died. Returns whether there were any.
    pub(super) fn tick(&self) -> Result<bool> {
        let Some(together) = &self.together else { return Ok(false) };
        // Lets go of what is gone.
        drop(self.all_live());
        self.index.slot_count(&crossbeam_epoch::pin());
        self.externals.forget_unlinked();
        self.upkeep.sweep_graves();
        together.share.note_held(self.held_here());
        {
            let mut upkeep = together.upkeep.lock();
            if upkeep.is_none() {
                *upkeep = self.storage.lock(UPKEEP_LOCK, "")?;
            }
            if upkeep.is_none() {
                return Ok(false);
            }
        }
        self.adopt_dead()
    }

    /// Empties the store for all who have it open: everything takes place at one moment, and what was
    /// written before it and is published later is gone as well.
    pub(super) fn clear_together(&self, together: &Together) -> Result<u64> {
        // AcqRel: a draw like any other.
        let cleared_seq = self.file.next_seq().fetch_add(1, Ordering::AcqRel);
        let cleared = |session: larder_format::Session| larder_format::Session {
            cleared_seq: session.cleared_seq.max(cleared_seq),
            ..session
        };
        self.file.change_session(&*self.storage, cleared)?;
        // Before: others may empty slots, too, as soon as what they lead to is dead.
        let gone = self.len();
        // AcqRel: from here on nobody finds it; pairs with `cleared`.
        together.share.cleared().fetch_max(cleared_seq, Ordering::AcqRel);
        let segments: Vec<_> = self.all_live().values().cloned().collect();
        for segment in segments {
            self.clear_before(&segment, cleared_seq);
        }
        Ok(gone)
    }

    /// Empties the slots of a segment's records up to a number.
    pub(super) fn clear_before(&self, segment: &Arc<Segment>, cleared_seq: u64) {
        use larder_format::{Kind, SlotState};
        let has_gone = |entry: &larder_format::FooterEntry| {
            segment.entry_seq(entry).is_none_or(|seq| seq <= cleared_seq)
        };
        for entry in segment.entries().filter(has_gone) {
            // What hides others stays where it is: it costs little, and some are newer.
            if entry.kind != Kind::Value {
                continue;
            }
            let guard = &crossbeam_epoch::pin();
            let hash = entry.key_hash;
            let place = Slot::new(hash, segment.id(), entry.offset(), SlotState::Value);
            let record = segment.record(entry.offset()).ok();
            if let Some(old) = self.replace_place(hash, place, |_| Slot::EMPTY, guard) {
                self.add_entries(-1);
                self.note_dead(old, guard);
                if let Some(record) = record
                    && record.header.flags.has(Flags::EXTERNAL)
                {
                    self.doom_external(&record);
                }
            }
        }
    }
}

/// Whether a store that is open as `header` says is what the options want.
fn agree(header: &ShareHeader, options: &Options) -> Result<()> {
    let config = |option, value, accepted| Err(Error::Config { option, value, accepted });
    if header.budget != options.budget {
        let accepted =
            "the processes that share the store have another one: all have to say the same";
        return config("budget", options.budget.to_string(), accepted);
    }
    if header.retains_all != (options.retain == Retain::All) {
        let accepted = "the processes that share the store say otherwise: all have to say the same";
        return config("retain", format!("{:?}", options.retain), accepted);
    }
    if options.lane_count() > header.lanes {
        let accepted = "the first of the processes that share the store allowed for fewer";
        return config("writers", options.writers().to_string(), accepted);
    }
    Ok(())
}

/// The generations in use, while other processes may change which these are.
fn open_generations(
    storage: &dyn Storage,
    file: &StoreFile,
) -> Result<(IndexFile, Option<IndexFile>)> {
    let uuid = &file.superblock().uuid;
    // Acquire: pairs with the Release in `growth.rs`.
    let word = || file.generations().load(Ordering::Acquire);
    let mut before = word();
    loop {
        let [new, old] =
            [before & 0xFFFF_FFFF, before >> 32].map(|n| u32::try_from(n).unwrap_or(0));
        let opened = IndexFile::open(storage, uuid, new)?;
        let older = if old == 0 { None } else { IndexFile::open(storage, uuid, old)? };
        if let Some(opened) = opened
            && (old == 0 || older.is_some())
        {
            return Ok((opened, older));
        }
        let after = word();
        if after == before {
            let path = storage.path(&super::growth::file_name(new));
            return Err(Error::io("open", &path, io::ErrorKind::NotFound.into()));
        }
        before = after;
    }
}
