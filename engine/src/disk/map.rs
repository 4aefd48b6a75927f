//! Mapped memory: the one place that turns file bytes into references.
//!
//! A [`Map`] is raw. What makes it sound to look at is a [`Region`]: a segment's mapping
//! together with its committed word and the right to append.
//!
//! # Invariants
//! 1. Bytes below a committed word are never written again, by anyone, while they are mapped.
//! 2. Bytes above it are written only through the one [`Appender`] of the region, or by a
//!    process that died.
//! 3. The words of header pages and index pages are only ever reached as atomics.
//! 4. Files are allocated in full and never change length while they are mapped. What blocks of a
//!    segment were given back (`slim.rs`) is not written to before they are allocated again.
//!
//! 1, 2 and 4 hold for every larder; the directory is private (checked when it is opened), so
//! that only something running as the same user on purpose can break them. What it can break
//! is the meaning of bytes that are checked anyway; a file cut short behind our back raises SIGBUS,
//! unless that is guarded against (`guard.rs`).
//!
//! Not here: the orderings of the committed word and of the right to append (`committed.rs`).

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use larder_format::Committed;
use larder_format::layout::{ENTRY_LEN, PAGE, SEGMENT_COMMITTED, SEGMENT_DATA, TRAILER_LEN, UNIT};

use super::backing::{Backing, Hint};
use super::committed::{AppendRight, CommittedWord};
use super::guard::Guarded;
use super::storage::File;
use crate::sync::{AtomicBool, AtomicU64, Ordering, Words};

/// Raw mapped memory, readable and writable.
pub(crate) struct Map {
    base: NonNull<u8>,
    len: usize,
    /// Goes before what it guards.
    guarded: Guarded,
    backing: Box<dyn Backing>,
}

// SAFETY: a map is an address range that stays valid while `backing`, itself Send and Sync,
// lives; every access goes through methods that are atomic or state who may call them.
unsafe impl Send for Map {}
// SAFETY: as for Send.
unsafe impl Sync for Map {}

impl Map {
    /// Takes over a file mapping.
    pub(crate) fn of_file(map: memmap2::MmapRaw) -> Self {
        let guarded = Guarded::new(map.as_ptr(), map.len());
        Self { guarded, ..Self::over(map) }
    }

    fn over(map: memmap2::MmapRaw) -> Self {
        let (len, guarded) = (map.len(), Guarded::nothing());
        let base = NonNull::new(map.as_mut_ptr()).unwrap_or(NonNull::dangling());
        Self { base, len, guarded, backing: Box::new(map) }
    }

    /// Maps the first `len` bytes of a file privately: what is written to the map stays in it.
    pub(crate) fn of_private(file: &std::fs::File, len: usize) -> std::io::Result<Self> {
        // SAFETY: no slice over it is kept: it becomes a raw map at once, to which invariants 1
        // to 4 apply. Nobody changes the file meanwhile, as the lock excludes writers
        // (`read_only.rs`); who does on purpose breaks what the header of this file says.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map_copy(file)? };
        Ok(Self::of_file(map.into()))
    }

    /// A map over zeros, but for what it begins with, that is no file.
    pub(crate) fn of_memory(len: usize, head: &[u8]) -> std::io::Result<Self> {
        let mut map = memmap2::MmapOptions::new().len(len).map_anon()?;
        let begin = map.get_mut(..head.len()).ok_or(std::io::ErrorKind::InvalidInput)?;
        begin.copy_from_slice(head);
        Ok(Self::over(map.into()))
    }

    /// A map over zeros that is no file, and that is zeros again in a child that is forked, where the
    /// system knows how.
    pub(crate) fn of_wiped_memory(len: usize) -> std::io::Result<Self> {
        let map = Self::of_memory(len, &[])?;
        #[cfg(all(target_os = "linux", not(miri)))]
        {
            let advice = rustix::mm::Advice::LinuxWipeOnFork;
            // SAFETY: the range is that of the map, which is anonymous and private, as the advice wants,
            // and nobody else has it yet: only a child of a later fork sees it change.
            let _ = unsafe { rustix::mm::madvise(map.base.as_ptr().cast(), len, advice) };
        }
        Ok(map)
    }

    /// A map over `len` bytes at `base`, for storage that is no file.
    ///
    /// # Safety
    /// They are readable, writable, zero or written by us, aligned to 8 and stay so while
    /// `backing` lives.
    pub(crate) unsafe fn of_raw(base: NonNull<u8>, len: usize, backing: Box<dyn Backing>) -> Self {
        Self { base, len, guarded: Guarded::nothing(), backing }
    }

    /// Whether a part of its file is gone that was looked at (`guard.rs`): what is read there are
    /// zeros, and what is written there reaches no file.
    #[inline]
    pub(super) fn is_broken(&self) -> bool {
        self.guarded.is_broken()
    }

    /// Length in bytes.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// See [`Backing::advise`]; false if there is no such range.
    pub(super) fn advise(&self, range: Range<usize>, hint: Hint) -> bool {
        let fits = range.start <= range.end && range.end <= self.len;
        fits && self.backing.advise(range, hint)
    }

    /// Makes the pages of a range writable now. A wish only.
    pub(super) fn populate(&self, range: Range<usize>) {
        self.backing.populate(range);
    }

    /// Where it is at `at` bytes, for who only wants to [ask for](ask_for) it.
    pub(super) const fn address(&self, at: usize) -> *mut u8 {
        self.base.as_ptr().wrapping_add(at)
    }

    /// Asks for large pages, and makes all of them writable now: for files that are small
    /// beside the memory, used all over, and never synced while they are written to. A sync
    /// writes a large page as a whole.
    pub(crate) fn make_ready(&self) {
        self.backing.prefer_large_pages();
        self.backing.populate(0..self.len);
    }

    /// The bytes of a range.
    ///
    /// # Safety
    /// Nothing in the range is written while the slice lives.
    #[inline]
    pub(super) unsafe fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.len, "range outside the map");
        let start = self.base.as_ptr().wrapping_add(range.start);
        // SAFETY: the range lies in the map, whose memory is valid while `self` lives; the
        // caller promises that nobody writes it meanwhile. u8 has no invalid values.
        unsafe { std::slice::from_raw_parts(start, range.len()) }
    }

    /// Copies bytes into the map.
    ///
    /// # Safety
    /// Nobody else reads or writes the range meanwhile.
    #[inline]
    unsafe fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "write outside the map");
        let target = self.base.as_ptr().wrapping_add(at);
        // SAFETY: source and target are valid for the length (just checked) and do not
        // overlap: no slice over the target exists, as the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }
}

/// Asks for the cache line at an address, without waiting for it. A wish only, and none that could
/// fail: nothing need be there.
#[inline(always)]
pub(super) fn ask_for(line: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has SSE, and a prefetch reads and writes nothing that a
        // program can see, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}

impl Words for Map {
    #[inline]
    fn prefetch(&self, at: usize) {
        ask_for(self.base.as_ptr().wrapping_add(at));
    }

    #[inline]
    fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        let fits = at <= self.len && count <= (self.len - at) / 8;
        assert!(at.is_multiple_of(8) && fits, "words outside the map");
        let first = self.base.as_ptr().wrapping_add(at).cast::<AtomicU64>();
        // SAFETY: in the map and aligned: `at` is a multiple of 8 (both just checked) and the
        // base is aligned at least that much (pages, or the contract of `of_raw`). Words are
        // only reached here (invariant 3), so all accesses are atomic.
        unsafe { std::slice::from_raw_parts(first, count) }
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Map").field("len", &self.len).finish()
    }
}

/// Bytes up to which a write is copied into the mapping; above, it goes through the file, which
/// saves the page faults and was measured to cost less from about here on.
const COPY_MAX: usize = 12 << 10;

/// Fewer bytes than this are not worth giving back.
const SLIM_MIN: usize = 256 << 10;

/// Bytes that an appender makes writable at a time: at first, and at most.
const STEP: (usize, usize) = (16 << 10, 256 << 10);

/// A mapped segment: committed bytes for everyone, the rest for one appender.
#[derive(Debug)]
pub(crate) struct Region {
    map: Map,
    file: Arc<dyn File>,
    /// The length that the header states; the map is shorter if the file was cut.
    nominal: usize,
    appending: AppendRight,
    /// Whether all pages were made writable.
    is_populated: AtomicBool,
    /// Whether the map is a copy, so that every write has to go through the file.
    is_copy: bool,
    /// Whether blocks of it were given back.
    is_lean: AtomicBool,
}

impl Region {
    /// A region over a segment file whose header says `nominal` bytes.
    pub(crate) fn new(map: Map, file: Arc<dyn File>, nominal: usize) -> Self {
        let (is_copy, no) = (file.is_buffered(), || AtomicBool::new(false));
        let (is_populated, is_lean) = (no(), no());
        let appending = AppendRight::new();
        Self { map, file, nominal, appending, is_populated, is_copy, is_lean }
    }

    fn committed_word(&self) -> CommittedWord<'_> {
        CommittedWord::new(self.map.word(SEGMENT_COMMITTED))
    }

    /// How much counts. A word that cannot be is taken for nothing.
    #[inline]
    pub(crate) fn committed(&self) -> Committed {
        let committed = self.committed_word().load();
        if committed.fits(self.nominal) { committed } else { Committed::EMPTY }
    }

    /// Bytes that are mapped: fewer than the header states if the file was cut.
    pub(crate) const fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether the file has the length that its header states.
    pub(crate) const fn is_whole(&self) -> bool {
        self.map.len() == self.nominal
    }

    /// See [`Map::is_broken`].
    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        self.map.is_broken()
    }

    /// Says what will be done with a range of committed bytes.
    pub(crate) fn advise(&self, range: Range<usize>, hint: Hint) -> bool {
        self.map.advise(range, hint)
    }

    /// Makes all pages writable now, so that no write has to wait for one.
    pub(crate) fn populate(&self) {
        self.map.backing.populate(0..self.map.len());
        // Relaxed: a hint that spares asking again.
        self.is_populated.store(true, Ordering::Relaxed);
    }

    /// A mutable word of the header page.
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!((SEGMENT_COMMITTED..SEGMENT_DATA).contains(&at), "no header word at {at}");
        self.map.word(at)
    }

    /// Asks for some cache lines from `at` on, without waiting for them. A wish only.
    #[inline]
    pub(crate) fn prefetch<const LINES: usize>(&self, at: usize) {
        (0..LINES).for_each(|line| self.map.prefetch(at + line * 64));
    }

    /// Everything from `offset` to the end of what is committed; empty if that is nothing.
    #[inline]
    pub(crate) fn committed_from(&self, offset: usize) -> &[u8] {
        let end = self.committed().tail().min(self.map.len());
        if offset < SEGMENT_DATA || offset >= end {
            return &[];
        }
        // SAFETY: below the committed word, hence never written again (invariant 1).
        unsafe { self.map.bytes(offset..end) }
    }

    /// The committed footer entries as they lie in the file, newest first; `None` if the file
    /// was cut.
    pub(crate) fn entries(&self) -> Option<&[u8]> {
        if !self.is_whole() {
            return None;
        }
        let end = self.nominal - TRAILER_LEN;
        let len = self.committed().entries as usize * ENTRY_LEN;
        // SAFETY: entries that the committed word counts are never written again
        // (invariant 1); `committed` checked that they fit.
        Some(unsafe { self.map.bytes(end - len..end) })
    }

    /// Copies bytes that need not be committed, through the file.
    pub(crate) fn read_uncommitted(&self, into: &mut [u8], offset: usize) -> std::io::Result<()> {
        self.file.read_at(into, offset as u64)
    }

    /// The file, to sync it.
    pub(crate) fn file(&self) -> &dyn File {
        &*self.file
    }

    /// Declares that nothing is committed, because the word cannot be trusted after the
    /// machine stopped. For recovery, before anyone reads.
    pub(crate) fn distrust(&self) {
        self.committed_word().reset(Committed::EMPTY);
    }

    /// Declares that this much is committed. For recovery, before anyone reads.
    pub(crate) fn trust(&self, committed: Committed) {
        self.committed_word().reset(committed);
    }

    /// Declares that everything up to `tail` is committed, and so many entries, which are listed
    /// elsewhere. For recovery of a file that was cut, which nobody appends to.
    pub(crate) fn trust_up_to(&self, tail: usize, entries: usize) {
        let tail_units = u32::try_from(tail / UNIT).unwrap_or(0);
        let entries = u32::try_from(entries).unwrap_or(0);
        let committed = Committed { tail_units, entries };
        let fits = committed.fits(self.nominal);
        self.committed_word().reset(if fits {
            committed
        } else {
            Committed { entries: 0, ..committed }
        });
    }

    /// Makes the batch count that another process has written here, and which it was stopped over.
    pub(crate) fn commit_for_owner(&self, committed: u64) {
        let committed = Committed::from_bits(committed);
        if committed.fits(self.nominal) {
            self.committed_word().advance_for(committed);
        }
    }

    /// The right to append, if the file is whole and nobody has it.
    pub(crate) fn appender(self: &Arc<Self>) -> Option<Appender> {
        if !self.is_whole() || !self.appending.take() {
            return None;
        }
        let committed = self.committed();
        let tail = committed.tail().next_multiple_of(PAGE);
        let footer = self.nominal / PAGE * PAGE;
        let region = Arc::clone(self);
        let allocated = [self.nominal, 0];
        let mut appender =
            Appender { committed, region, ready: tail..footer, step: STEP.0, allocated };
        // Relaxed: the right to append orders it.
        if self.is_lean.load(Ordering::Relaxed) {
            // Which blocks are missing is not known.
            appender.allocated = [committed.tail(), appender.free_end()];
        }
        Some(appender)
    }

    /// Notes that blocks of it may have been given back by an earlier process.
    pub(crate) fn distrust_blocks(&self) {
        // Relaxed: for the opening.
        self.is_lean.store(self.file.is_sparse(), Ordering::Relaxed);
    }
}

/// The right to write above the committed word of one region. There is one at a time.
#[derive(Debug)]
pub(crate) struct Appender {
    region: Arc<Region>,
    committed: Committed,
    /// Pages below and above are writable; between, writing waits for each.
    ready: Range<usize>,
    /// Bytes that are made writable at a time.
    step: usize,
    /// Where the blocks between records and entries begin and end that were given back: what is
    /// below the one and from the other on is allocated.
    allocated: [usize; 2],
}

impl Appender {
    /// How much counts.
    pub(crate) const fn committed(&self) -> Committed {
        self.committed
    }

    /// Writes above the tail and below the footer.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) -> std::io::Result<()> {
        assert!(at >= self.committed.tail(), "write below the committed tail");
        if bytes.len() > COPY_MAX || self.region.is_copy {
            return self.region.file.write_at(bytes, at as u64);
        }
        assert!(self.is_allocated(at + bytes.len(), self.region.nominal), "no blocks to write to");
        self.get_ready(at + bytes.len());
        // SAFETY: above the committed word, where only the appender of this process writes
        // and nobody reads; `&mut self` and `appending` make it the only one.
        unsafe { self.region.map.write(at, bytes) };
        Ok(())
    }

    /// Places for a record of `len` bytes behind the committed ones and for its footer entry, to
    /// be filled before both are [committed](Self::commit). They may hold anything. `None` if
    /// there is no room for both, or what is written has to go through the file.
    #[inline]
    pub(crate) fn places(&mut self, len: usize) -> Option<(&mut [u8], &mut [u8; ENTRY_LEN])> {
        let (at, end) = (self.committed.tail(), self.free_end());
        if end > self.region.map.len || end < at || len > COPY_MAX || self.region.is_copy {
            return None;
        }
        if end - at < len + ENTRY_LEN || !self.is_allocated(at + len, end - ENTRY_LEN) {
            return None;
        }
        let entry_at = end - ENTRY_LEN;
        self.get_ready(at + len);
        if entry_at < self.ready.end && !self.is_populated() {
            self.populate_down_to(entry_at);
        }
        let base = self.region.map.base.as_ptr();
        // SAFETY: in the map, as `end` is; above the committed word and below the committed
        // entries, where only the appender of this process writes and nobody reads. `&mut self`
        // and `appending` make it the only one for as long as the slices live.
        let record = unsafe { std::slice::from_raw_parts_mut(base.wrapping_add(at), len) };
        // SAFETY: as above; it ends at `end`, and the record before it begins (just checked), so
        // that the two do not overlap. An array of bytes needs no alignment.
        let entry = unsafe { &mut *base.wrapping_add(entry_at).cast::<[u8; ENTRY_LEN]>() };
        Some((record, entry))
    }

    /// The place of a record, above the tail and below the footer, to be put together where it is to
    /// lie. It may hold anything. `None` for what goes through the file.
    #[inline]
    pub(crate) fn place(&mut self, at: usize, len: usize) -> Option<&mut [u8]> {
        if len > COPY_MAX || self.region.is_copy {
            return None;
        }
        let is_free = at >= self.committed.tail() && at + len <= self.free_end();
        assert!(is_free, "a place over what is committed");
        assert!(self.is_allocated(at + len, self.region.nominal), "a place without blocks");
        self.get_ready(at + len);
        let start = self.region.map.base.as_ptr().wrapping_add(at);
        // SAFETY: in the map, as the end of what is free is; above the committed word and below
        // the committed entries, where only the appender of this process writes and nobody
        // reads. `&mut self` and `appending` make it the only one for as long as the slice lives.
        Some(unsafe { std::slice::from_raw_parts_mut(start, len) })
    }

    /// Whether there are blocks for records up to `end` and for entries from `entry_at` on.
    #[inline]
    pub(crate) const fn is_allocated(&self, end: usize, entry_at: usize) -> bool {
        end <= self.allocated[0] && entry_at >= self.allocated[1]
    }

    /// Gives back the blocks that are not needed yet, but for some, and says so. Does nothing if
    /// that would be few, or was done.
    pub(crate) fn slim(&mut self, keep: usize) {
        let from = (self.committed.tail() + keep).next_multiple_of(PAGE);
        let to = self.free_end().saturating_sub(keep / 8) / PAGE * PAGE;
        if self.is_lean() || self.region.is_copy || to < from + keep.max(SLIM_MIN) {
            return;
        }
        if self.region.file.punch(from as u64..to as u64).is_ok() {
            self.allocated = [from, to];
            // Their pages are gone as well. Relaxed: hints, which the right to append orders.
            self.region.is_populated.store(false, Ordering::Relaxed);
            self.region.is_lean.store(true, Ordering::Relaxed);
            let tail = self.committed.tail().next_multiple_of(PAGE);
            (self.ready, self.step) = (tail..self.free_end() / PAGE * PAGE, STEP.0);
        }
    }

    /// Whether blocks of it were given back.
    pub(crate) const fn is_lean(&self) -> bool {
        self.allocated[1] > 0
    }

    /// Allocates what was given back.
    pub(crate) fn fill_out(&mut self) -> std::io::Result<()> {
        if self.is_lean() {
            self.region.file.allocate()?;
            self.allocated = [self.region.nominal, 0];
            // Relaxed: the right to append orders it.
            self.region.is_lean.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Where the committed footer entries begin.
    #[inline]
    fn free_end(&self) -> usize {
        self.region.nominal - TRAILER_LEN - self.committed.entries as usize * ENTRY_LEN
    }

    /// Makes the pages up to `end` writable, and some beyond: many at a time cost less than half
    /// of what they cost one by one, when writing first meets them. The step grows with what
    /// is written, so that whoever writes little dirties little.
    #[inline]
    fn get_ready(&mut self, end: usize) {
        if end > self.ready.start && !self.is_populated() {
            self.populate_up_to(end);
        }
    }

    #[cold]
    fn populate_up_to(&mut self, end: usize) {
        let most = self.ready.end.min(self.allocated[0]);
        let to = (end + self.step).next_multiple_of(PAGE).min(most);
        if to > self.ready.start {
            self.region.map.backing.populate(self.ready.start..to);
            self.ready.start = to;
        }
        self.step = (self.step * 2).min(STEP.1);
    }

    #[cold]
    fn populate_down_to(&mut self, at: usize) {
        let least = self.ready.start.max(self.allocated[1]);
        let start = (at / PAGE * PAGE).saturating_sub(self.step / 4).max(least);
        self.region.map.backing.populate(start..self.ready.end);
        self.ready.end = start;
    }

    #[inline]
    fn is_populated(&self) -> bool {
        // Relaxed: a hint.
        self.region.is_populated.load(Ordering::Relaxed)
    }

    /// Writes the next footer entry, or the trailer when there are no more.
    #[inline]
    pub(crate) fn write_footer(&mut self, at: usize, bytes: &[u8]) {
        let trailer = self.region.nominal - TRAILER_LEN;
        assert!(
            (at >= self.committed.tail() && at + bytes.len() <= self.free_end()) || at == trailer,
            "write over committed entries"
        );
        assert!(at >= self.allocated[1], "no blocks for an entry");
        if at < self.ready.end && !self.is_populated() {
            self.populate_down_to(at);
        }
        // SAFETY: as in `write`: above the committed records and below the committed
        // entries, or the trailer's place, which is no part of any slice over the map.
        unsafe { self.region.map.write(at, bytes) };
        if self.region.is_copy {
            self.region.file.write_behind(bytes, at as u64);
        }
    }

    /// Makes a record count that was put together in its [places](Self::places), of so many units.
    #[inline]
    pub(crate) fn commit_one(&mut self, units: u32) -> Committed {
        self.committed.tail_units += units;
        self.committed.entries += 1;
        debug_assert!(self.committed.fits(self.region.nominal));
        self.region.committed_word().advance(self.committed);
        self.committed
    }

    /// Makes everything up to `committed` count.
    #[inline]
    pub(crate) fn commit(&mut self, committed: Committed) {
        assert!(committed >= self.committed, "the committed word never goes back");
        debug_assert!(committed.fits(self.region.nominal));
        self.region.committed_word().advance(committed);
        self.committed = committed;
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.region.appending.give_back();
    }
}
