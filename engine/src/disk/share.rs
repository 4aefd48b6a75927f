//! What the processes that have a store open tell each other: the words of the file `share`.
//!
//! Each process has a slot, which it has as long as it holds the lock of its file `proc/<n>.lock`;
//! the kernel lets go of that when the process ends, however it ends. Each live segment has a word
//! in the table, at the position that its id decides, with its id, and with whose it is.
//!
//! # Invariants
//! 1. A segment has its word from before its file is there until after it is gone. Two segments
//!    never have a word at a time, and no id comes twice: who finds an id in the table after it
//!    found a slot that leads there has the segment that the slot meant, or a later one.
//! 2. A segment that is open is written to by its owner alone; one that is claimed is reclaimed by
//!    its owner alone. What a dead process owned is somebody's who holds the lock of its slot.
//! 3. The count of changes goes up after a word was changed, so that who finds the same count
//!    before and after it looked at all words has seen all of one moment.
//! 4. A slot is taken after its words say that nobody is under way, and given up after.
//!
//! # Orderings
//! Words of the table change by AcqRel and are loaded by Acquire: who sees an id sees the file that
//! was made before, and who sees a segment gone sees what was done to be rid of it. The in-flight
//! words are ordered by the draws (`in_flight.rs`), the word of the batch as written there
//! (`together.rs`); the others are sums and hints, and Relaxed.

use std::sync::Arc;

use larder_format::layout::{
    PAGE, SHARE_BATCH, SHARE_BATCH_END, SHARE_BATCH_SEGMENT, SHARE_CHANGES, SHARE_CLEARED,
    SHARE_HEADER_LEN, SHARE_HELD, SHARE_LANES, SHARE_LIVE, SHARE_OPENED, SHARE_PID,
    SHARE_PROCESSES, SHARE_SLOTS, SHARE_STRIPES, SHARE_TAKEN,
};
use larder_format::{FormatError, ShareHeader};
use parking_lot::Mutex;

use super::in_flight::IDLE;
use super::map::Map;
use super::session::locked;
use super::storage::{File, Guard, Storage, give_birth};
use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Ordering, Words};

/// What the file is called.
pub(crate) const SHARE: &str = "share";

/// The lock of a process.
pub(crate) fn process_lock(number: usize) -> String {
    format!("proc/{number}.lock")
}

/// A word of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(u64);

impl Entry {
    const NONE: Self = Self(0);
    const ID: u64 = (1 << 48) - 1;
    const OWNER_SHIFT: u32 = 48;
    const CLAIMED: u64 = 1 << 56;

    const fn new(id: u64, owner: Option<usize>, claimed: bool) -> Self {
        let owner = match owner {
            Some(number) => number as u64 + 1,
            None => 0,
        };
        let claimed = if claimed { Self::CLAIMED } else { 0 };
        Self(id & Self::ID | owner << Self::OWNER_SHIFT | claimed)
    }

    /// What a word of the table says.
    pub(super) const fn of(word: u64) -> Self {
        Self(word)
    }

    /// The segment's id; 0 if there is none.
    #[inline]
    pub(crate) const fn id(self) -> u64 {
        self.0 & Self::ID
    }

    /// Whose it is.
    pub(crate) fn owner(self) -> Option<usize> {
        let owner = usize::try_from(self.0 >> Self::OWNER_SHIFT & 0xFF).unwrap_or(0);
        owner.checked_sub(1)
    }

    /// Whether its owner reclaims it.
    pub(crate) const fn is_claimed(self) -> bool {
        self.0 & Self::CLAIMED != 0
    }
}

/// A process that has the store open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// Its process id, as it knows it itself.
    pub pid: u32,
    /// When it opened the store, in ms since 1970; 0 if it has it alone, and does not say.
    pub opened_ms: u64,
    /// Segments that are its own: open ones, and the one that it reclaims.
    pub segments: u64,
    /// Bytes of files that are gone, and that its views hold.
    pub held_bytes: u64,
    /// Whether it is this one.
    pub is_self: bool,
}

/// The mapped file, and the place of this process in it.
#[derive(Debug)]
pub(crate) struct Share {
    map: Map,
    header: ShareHeader,
    me: usize,
    /// The lock of the slot; gone once it was given up.
    lock: Mutex<Option<Box<dyn Guard>>>,
    /// The count of changes that this process has seen.
    seen: AtomicU64,
}

impl Share {
    /// Makes the file anew, and takes a slot. For who has the store to itself.
    pub(crate) fn create(
        storage: &dyn Storage,
        header: ShareHeader,
        now_ms: u64,
    ) -> Result<Arc<Self>> {
        remove(storage)?;
        let len = header.file_len() as u64;
        let file =
            give_birth(storage, SHARE, len, false, |file| file.write_at(&header.encode(), 0))?;
        Self::over(storage, &*file, header, now_ms, false)
    }

    /// Joins those who have the store open, and takes a slot. The caller holds the door.
    pub(crate) fn join(
        storage: &dyn Storage,
        uuid: &[u8; 16],
        now_ms: u64,
        agrees: impl FnOnce(&ShareHeader) -> Result<()>,
    ) -> Result<Arc<Self>> {
        let path = storage.path(SHARE);
        let io = |op| move |error| Error::io(op, &storage.path(SHARE), error);
        let not_there = || Error::io("open", &path, std::io::ErrorKind::NotFound.into());
        let file = storage.open(SHARE)?.ok_or_else(not_there)?;
        let mut bytes = [0; SHARE_HEADER_LEN];
        file.read_at(&mut bytes, 0).map_err(io("read"))?;
        let header =
            ShareHeader::decode(&bytes, uuid).map_err(|source| Error::format(&path, source))?;
        let (needed, found) = (header.file_len() as u64, file.len().map_err(io("look at"))?);
        if found < needed {
            let source = FormatError::Truncated { what: "share file", needed, found };
            return Err(Error::format(&path, source));
        }
        agrees(&header)?;
        Self::over(storage, &*file, header, now_ms, true)
    }

    fn over(
        storage: &dyn Storage,
        file: &dyn File,
        header: ShareHeader,
        now_ms: u64,
        joins: bool,
    ) -> Result<Arc<Self>> {
        let map = file
            .map(header.file_len())
            .map_err(|error| Error::io("map", &storage.path(SHARE), error))?;
        let seen = AtomicU64::new(u64::MAX);
        let mut share = Self { map, header, me: 0, lock: Mutex::new(None), seen };
        if joins && !share.any_alive(storage)? {
            // The last of them has just died, or those who have it open only read it.
            return Err(locked(storage));
        }
        for number in 0..SHARE_PROCESSES {
            // One that is taken and whose lock is free was a dead process's: its heir comes first.
            if share.is_taken(number) {
                continue;
            }
            let note = format!("{}\n", std::process::id());
            let Some(lock) = storage.lock(&process_lock(number), &note)? else { continue };
            if share.is_taken(number) {
                continue;
            }
            share.me = number;
            *share.lock.get_mut() = Some(lock);
            share.take(now_ms);
            return Ok(Arc::new(share));
        }
        Err(Error::TooManyProcesses { path: storage.root().to_owned(), max: SHARE_PROCESSES })
    }

    /// Whether a process that has a slot lives.
    fn any_alive(&self, storage: &dyn Storage) -> Result<bool> {
        for number in self.taken() {
            if storage.is_locked(&process_lock(number))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the slot.
    fn take(&self, now_ms: u64) {
        // Relaxed, but for the last: it publishes the others (invariant 4).
        for lane in 0..self.header.lanes as usize {
            self.in_flight(lane).store(IDLE, Ordering::Relaxed);
        }
        self.slot_word(self.me, SHARE_PID).store(std::process::id().into(), Ordering::Relaxed);
        self.slot_word(self.me, SHARE_OPENED).store(now_ms, Ordering::Relaxed);
        self.slot_word(self.me, SHARE_HELD).store(0, Ordering::Relaxed);
        self.taken_word(self.me).fetch_or(1 << (self.me % 64), Ordering::AcqRel);
    }

    /// Gives up a slot that nobody uses: this process's own, or one whose lock it holds.
    pub(crate) fn vacate(&self, number: usize) {
        for lane in 0..self.header.lanes as usize {
            let at = SHARE_LANES + lane * 64;
            // Relaxed: published by what follows.
            self.slot_word(number, at).store(IDLE, Ordering::Relaxed);
        }
        self.slot_word(number, SHARE_HELD).store(0, Ordering::Relaxed);
        // AcqRel: whoever takes it next sees the words (invariant 4).
        self.taken_word(number).fetch_and(!(1 << (number % 64)), Ordering::AcqRel);
    }

    /// Gives up this process's own slot.
    pub(crate) fn leave(&self) {
        self.vacate(self.me);
        *self.lock.lock() = None;
    }

    pub(crate) const fn header(&self) -> &ShareHeader {
        &self.header
    }

    pub(crate) const fn me(&self) -> usize {
        self.me
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        self.map.word(at)
    }

    fn slot_word(&self, number: usize, at: usize) -> &AtomicU64 {
        self.word(SHARE_SLOTS + number * PAGE + at)
    }

    fn taken_word(&self, number: usize) -> &AtomicU64 {
        self.word(SHARE_TAKEN + number / 64 * 8)
    }

    fn is_taken(&self, number: usize) -> bool {
        // Acquire: see invariant 4.
        self.taken_word(number).load(Ordering::Acquire) >> (number % 64) & 1 == 1
    }

    /// Numbers of the slots that are taken.
    pub(crate) fn taken(&self) -> impl Iterator<Item = usize> + '_ {
        (0..SHARE_PROCESSES / 64).flat_map(|group| {
            // Acquire: see invariant 4.
            let mut bits = self.taken_word(group * 64).load(Ordering::Acquire);
            std::iter::from_fn(move || {
                let next = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (next < u64::BITS).then_some(group * 64 + next as usize)
            })
        })
    }

    /// The process id of a slot.
    pub(crate) fn pid(&self, number: usize) -> u32 {
        // Relaxed: a figure.
        u32::try_from(self.slot_word(number, SHARE_PID).load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The in-flight word of one of this process's lanes.
    #[inline]
    pub(crate) fn in_flight(&self, lane: usize) -> &AtomicU64 {
        self.slot_word(self.me, SHARE_LANES + lane * 64)
    }

    /// The in-flight words of all processes.
    pub(crate) fn all_in_flight(&self) -> impl Iterator<Item = &AtomicU64> + '_ {
        self.taken().flat_map(|number| self.in_flight_of(number))
    }

    /// The in-flight words of one process.
    pub(crate) fn in_flight_of(&self, number: usize) -> impl Iterator<Item = &AtomicU64> + '_ {
        let lanes = self.header.lanes as usize;
        (0..lanes).map(move |lane| self.slot_word(number, SHARE_LANES + lane * 64))
    }

    /// Bytes of all files.
    pub(crate) fn live(&self) -> &AtomicU64 {
        self.word(SHARE_LIVE)
    }

    /// Up to which number records were cleared.
    #[inline]
    pub(crate) fn cleared(&self) -> &AtomicU64 {
        self.word(SHARE_CLEARED)
    }

    /// The batch that is being written.
    #[inline]
    pub(crate) fn batch(&self) -> &AtomicU64 {
        self.word(SHARE_BATCH)
    }

    /// What makes the batch of a process count: the id of its segment, and the committed word.
    pub(crate) fn batch_end(&self, number: usize) -> [&AtomicU64; 2] {
        [SHARE_BATCH_SEGMENT, SHARE_BATCH_END].map(|at| self.slot_word(number, at))
    }

    /// Tells the others how many bytes of files that are gone the views of this process hold.
    pub(crate) fn note_held(&self, bytes: u64) {
        // Relaxed: a figure.
        self.slot_word(self.me, SHARE_HELD).store(bytes, Ordering::Relaxed);
    }

    /// How many bytes those of the others hold.
    pub(crate) fn held_by_others(&self) -> u64 {
        let others = self.taken().filter(|number| *number != self.me);
        // Relaxed: figures.
        others.map(|number| self.slot_word(number, SHARE_HELD).load(Ordering::Relaxed)).sum()
    }

    fn table_word(&self, id: u64) -> &AtomicU64 {
        let position = id & (u64::from(self.header.positions) - 1);
        self.word(ShareHeader::TABLE_AT + usize::try_from(position).unwrap_or(0) * 8)
    }

    /// What stands at the position of an id, or of the low bits of one.
    #[inline]
    pub(crate) fn entry(&self, id: u64) -> Entry {
        // Acquire: see the orderings.
        Entry(self.table_word(id).load(Ordering::Acquire))
    }

    /// All entries, one after the other.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let words = self.map.words(ShareHeader::TABLE_AT, self.header.positions as usize);
        let all = words.iter().map(|word| Entry(word.load(Ordering::Acquire)));
        all.filter(|entry| *entry != Entry::NONE)
    }

    fn change(&self, old: Entry, new: Entry, id: u64) -> bool {
        let word = self.table_word(id);
        let (ok, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        word.compare_exchange(old.0, new.0, ok, failed).is_ok()
    }

    /// Takes the position of a segment that is about to be made. Whether it was free.
    pub(crate) fn reserve(&self, id: u64) -> bool {
        self.change(Entry::NONE, Entry::new(id, Some(self.me), false), id)
    }

    /// Notes a segment that is there and is nobody's. For who has the store to itself.
    pub(crate) fn note_found(&self, id: u64) -> bool {
        self.change(Entry::NONE, Entry::new(id, None, false), id)
    }

    /// Notes that a segment is this process's own. For who has the store to itself.
    pub(crate) fn note_own(&self, id: u64) {
        let entry = self.entry(id);
        self.change(entry, Entry::new(id, Some(self.me), false), id);
    }

    /// Tells everybody that a segment was added or taken out.
    pub(crate) fn note_change(&self) {
        // AcqRel: see invariant 3.
        self.word(SHARE_CHANGES).fetch_add(1, Ordering::AcqRel);
    }

    /// The count of changes.
    pub(crate) fn changes(&self) -> u64 {
        // Acquire: see invariant 3.
        self.word(SHARE_CHANGES).load(Ordering::Acquire)
    }

    /// The count of changes that this process has seen all of.
    pub(crate) const fn seen(&self) -> &AtomicU64 {
        &self.seen
    }

    /// Whether segments were added or taken out that this process has not looked at.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        // Relaxed: hints.
        let changes = self.word(SHARE_CHANGES).load(Ordering::Relaxed);
        changes != self.seen.load(Ordering::Relaxed)
    }

    /// Takes a segment out whose file is gone, whoever's it is.
    pub(crate) fn forget(&self, id: u64) {
        let entry = self.entry(id);
        if entry.id() == id && self.change(entry, Entry::NONE, id) {
            self.note_change();
        }
    }

    /// Makes a segment this process's own, to reclaim it. Whether it is now.
    pub(crate) fn claim(&self, id: u64) -> bool {
        let entry = self.entry(id);
        let ours = Entry::new(id, Some(self.me), true);
        entry == ours || entry.id() == id && !entry.is_claimed() && self.change(entry, ours, id)
    }

    /// Whether a segment is there and nobody else reclaims it.
    pub(crate) fn is_free_to_go(&self, id: u64) -> bool {
        let entry = self.entry(id);
        entry.id() == id && (!entry.is_claimed() || entry.owner() == Some(self.me))
    }

    /// Lets go of what a dead process owned, for everybody to take. Its lock is held.
    pub(crate) fn disown(&self, entry: Entry) {
        self.change(entry, Entry::new(entry.id(), None, false), entry.id());
    }

    /// The words of the changes of a key: how many were begun and how many have ended.
    #[inline]
    fn stripe(&self, hash: u64) -> [&AtomicU64; 2] {
        let number = usize::try_from(hash % SHARE_STRIPES as u64).unwrap_or(0);
        let at = self.header.stripes_at() + number * 16;
        [self.word(at), self.word(at + 8)]
    }

    /// Tells everybody that a change of a key begins. It is over when the guard is dropped; if this
    /// process dies before, values of the key's stripe are never kept in memory any more.
    #[inline]
    pub(crate) fn begin_change(&self, hash: u64) -> Changing<'_> {
        let [begun, ended] = self.stripe(hash);
        // SeqCst: before the change can be seen. Who finds the same count as before it looked at a
        // value has seen no change that was visible to anybody when it looked at the count.
        begun.fetch_add(1, Ordering::SeqCst);
        Changing(ended)
    }

    /// How many changes of a key's stripe there were; `None` if one is under way. To be asked for before
    /// the value is looked for that is to be kept by it.
    #[inline]
    pub(crate) fn stamp(&self, hash: u64) -> Option<u64> {
        let [begun, ended] = self.stripe(hash);
        // SeqCst, and in this order: all that had begun have ended, and can be seen.
        let count = begun.load(Ordering::SeqCst);
        (ended.load(Ordering::SeqCst) == count).then_some(count)
    }

    /// Whether no change of a key's stripe has begun since there were so many.
    #[inline]
    pub(crate) fn is_unchanged(&self, hash: u64, stamp: u64) -> bool {
        // SeqCst: see `begin_change`.
        self.stripe(hash)[0].load(Ordering::SeqCst) == stamp
    }

    /// Who has the store open.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let of = |number: usize| {
            // Relaxed: figures.
            let word = |at| self.slot_word(number, at).load(Ordering::Relaxed);
            let owned = self.entries().filter(|entry| entry.owner() == Some(number));
            Process {
                pid: u32::try_from(word(SHARE_PID)).unwrap_or(0),
                opened_ms: word(SHARE_OPENED),
                segments: owned.count() as u64,
                held_bytes: word(SHARE_HELD),
                is_self: number == self.me,
            }
        };
        self.taken().map(of).collect()
    }
}

/// A change that has begun.
#[derive(Debug)]
pub(crate) struct Changing<'a>(&'a AtomicU64);

impl Drop for Changing<'_> {
    #[inline]
    fn drop(&mut self) {
        // SeqCst: after the change can be seen.
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Removes the file that an earlier session left behind. For who has the store to itself.
pub(crate) fn remove(storage: &dyn Storage) -> Result<()> {
    match storage.remove(SHARE) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", &storage.path(SHARE), error))
        }
        _ => Ok(()),
    }
}
