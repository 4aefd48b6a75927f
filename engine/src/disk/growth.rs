//! Generations of the index: files that double while they are in use.
//!
//! Growth makes generation g + 1 with twice the pages and moves page after page. A page of g
//! splits into two pages of g + 1, and each slot goes to the same bucket and position in one
//! of them, as a bit of its tag says; so moving reads no record and cannot fail for want of
//! room. Every writer moves the page that it needs, and one more; readers move nothing.
//!
//! # Invariants
//! 1. A page is moved in full under the growth lock: freeze each slot, store its thawed form
//!    in g + 1, then set the page's moved bit (`moving.rs`). Every step can be done again
//!    after a crash.
//! 2. Until the moved bit is set nobody but the mover touches the page's two halves in g + 1.
//! 3. Readers of a page use g while its moved bit is unset and g + 1 from then on. A reader
//!    that saw it unset reads frozen slots: the state as of the freeze, which was current
//!    after the read began.
//! 4. Writers of a page make sure that it is moved before they touch g + 1.
//!
//! Processes that share a store grow the index together. Which generations count is said by the shared
//! word, which each of them compares with what it has mapped whenever it looks for slots; it changes by
//! compare-and-swap only, so that a growth is begun and ended once. A generation that is made then holds
//! slots that are *unborn* (`moving.rs`), so that anybody may move a page, at any time.

use std::sync::{Arc, OnceLock};

use crossbeam_epoch::Guard;
use larder_format::IndexHeader;
use larder_format::layout::{INDEX_DATA, INDEX_EPOCH, INDEX_HEADER_LEN};
use parking_lot::Mutex;

use super::ahead::Ahead;
use super::cell::EpochCell;
use super::guard::IS_ON;
use super::index::Generation;
use super::map::Map;
use super::moving::{has_moved, move_page, move_page_together};
use super::seal::{self, Seal};
use super::storage::{File, Storage, give_birth};
use super::usage::Usage;
use crate::error::{Error, Result};
use crate::sync::{AtomicU64, Ordering, Words as _};

mod together;

pub(crate) use together::Common;

/// The name of a generation's file.
pub(crate) fn file_name(generation: u32) -> String {
    format!("index.{generation:08x}")
}

/// One mapped index file.
#[derive(Debug)]
pub(crate) struct IndexFile {
    header: IndexHeader,
    slots: Generation<Map>,
    file: Arc<dyn File>,
    /// Whether its pages were compared with their checksums, if it has any (`seal.rs`).
    seal: Option<Seal>,
    /// Set once the file is unlinked: its bytes count until the last mapping goes.
    retired: OnceLock<Arc<Usage>>,
}

impl Drop for IndexFile {
    fn drop(&mut self) {
        if let Some(usage) = self.retired.get() {
            usage.release(self.len());
        }
    }
}

impl IndexFile {
    /// Creates the empty file of a generation.
    pub(crate) fn create(storage: &dyn Storage, header: IndexHeader) -> Result<Self> {
        let name = file_name(header.generation);
        let len = header.file_len();
        let file = give_birth(storage, &name, len as u64, true, |file| {
            file.write_at(&header.encode(), 0)
        })?;
        let map = file.map(len).map_err(|error| Error::io("map", &storage.path(&name), error))?;
        map.make_ready();
        let (slots, retired) = (Generation::new(map, header.geometry), OnceLock::new());
        Ok(Self { header, slots, file, seal: None, retired })
    }

    /// Meets all pages, and lets go of their checksums: several processes are about to change them.
    pub(crate) fn unseal(&mut self) {
        (0..self.header.geometry.pages()).for_each(|page| self.meet(page));
        self.seal = None;
        seal::forget_sums(&self.slots);
    }

    /// Clears whatever is not zero behind the header. In a new file nothing should be; the number
    /// of entries rests on that.
    pub(crate) fn wipe(&self) {
        let words = (self.header.file_len() - INDEX_EPOCH) / 8;
        for word in self.slots.words().words(INDEX_EPOCH, words) {
            // Relaxed: nobody else has the index yet.
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Opens the file of a generation; `None` when it is absent or cannot be used, in which
    /// case the index is built anew.
    pub(crate) fn open(
        storage: &dyn Storage,
        uuid: &[u8; 16],
        generation: u32,
    ) -> Result<Option<Self>> {
        let name = file_name(generation);
        let Some(file) = storage.open(&name)? else { return Ok(None) };
        let mut bytes = [0; INDEX_HEADER_LEN];
        if file.read_at(&mut bytes, 0).is_err() {
            return Ok(None);
        }
        let Ok(header) = IndexHeader::decode(&bytes, uuid, generation) else { return Ok(None) };
        let len = header.file_len();
        if file.len().map_err(|error| Error::io("look at", &storage.path(&name), error))?
            != len as u64
        {
            return Ok(None);
        }
        let map = file.map(len).map_err(|error| Error::io("map", &storage.path(&name), error))?;
        let (slots, retired) = (Generation::new(map, header.geometry), OnceLock::new());
        Ok(Some(Self { header, slots, file, seal: None, retired }))
    }

    pub(crate) const fn number(&self) -> u32 {
        self.header.generation
    }

    const fn len(&self) -> u64 {
        self.header.file_len() as u64
    }

    /// The epoch of the session that opened it last.
    pub(crate) fn epoch(&self) -> u64 {
        // Relaxed: read by openings, which have the store to themselves, and under the growth
        // lock.
        self.slots.word(INDEX_EPOCH).load(Ordering::Relaxed)
    }

    /// The epoch of the session at whose clean end its pages were summed; 0 if they were not.
    pub(crate) fn summed(&self) -> u64 {
        seal::summed(&self.slots)
    }

    /// Sees to it that each page is compared with its checksum when it is first met: after a
    /// `clean` end every page, and else those that were not met before.
    pub(crate) fn set_seal(&mut self, seal: Seal, clean: bool) {
        if clean {
            seal::clear_touched(&self.header, &self.slots);
        }
        self.seal = Some(seal);
    }

    /// Meets a page: from now on its slots can be believed, and changed.
    fn meet(&self, page: usize) {
        if let Some(seal) = &self.seal
            && !seal::is_touched(&self.header, &self.slots, page)
        {
            seal.meet(&self.header, &self.slots, page);
        }
    }

    /// The slots, for whoever asks for a key.
    #[inline]
    fn slots_for(&self, hash: u64) -> &Generation<Map> {
        if self.seal.is_some() {
            self.meet(self.header.geometry.page(hash));
        }
        &self.slots
    }

    fn note_in(&self, ahead: &Ahead) {
        ahead.note(self.slots.words().address(INDEX_DATA), self.header.geometry);
    }

    fn count_values(&self, page: usize) -> u64 {
        self.meet(page);
        self.slots.count_values(page)
    }

    fn set_epoch(&self, epoch: u64) {
        // Relaxed: as for `epoch`.
        self.slots.word(INDEX_EPOCH).store(epoch, Ordering::Relaxed);
    }

    /// Whether page `page` of the generation before is here.
    #[inline]
    fn has_moved(&self, page: usize) -> bool {
        has_moved(&self.slots, self.header.moved_at(), page)
    }

    /// Moves a page of the generation before here. The caller holds the growth lock.
    fn take_page(&self, old: &Self, page: usize, shares: bool) {
        old.meet(page);
        let how = if shares { move_page_together } else { move_page };
        how(&old.slots, &self.slots, self.header.moved_at(), page);
    }
}

/// The generation in use, and the one that is being moved out of.
#[derive(Debug)]
struct Pair {
    new: Arc<IndexFile>,
    old: Option<Arc<IndexFile>>,
    /// What the word of the generations says of them.
    word: u64,
}

impl Pair {
    fn of(new: Arc<IndexFile>, old: Option<Arc<IndexFile>>) -> Self {
        let word = word_of(new.number(), old.as_ref().map_or(0, |old| old.number()));
        Self { new, old, word }
    }
}

/// What is told of the generations: the new one, and the old one or 0.
fn word_of(new: u32, old: u32) -> u64 {
    u64::from(new) | u64::from(old) << 32
}

/// All generations of one store.
#[derive(Debug)]
pub(crate) struct Index {
    pair: EpochCell<Pair>,
    ahead: Ahead,
    /// The growth lock; holds the next page to move when nobody needs one.
    mover: Mutex<Mover>,
    usage: Arc<Usage>,
    /// Set if other processes may have the store open.
    common: Option<Common>,
}

#[derive(Debug)]
struct Mover {
    new: Arc<IndexFile>,
    old: Option<Arc<IndexFile>>,
    next_page: usize,
}

/// What growing needs of the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) storage: &'a dyn Storage,
    /// The word that tells later openings which generations count.
    pub(crate) generations: &'a AtomicU64,
}

impl Ground<'_> {
    /// Tells which generations count: the new one, and the old one or 0.
    fn note(&self, new: u32, old: u32) {
        // Release: who reads the word finds the files.
        self.generations.store(word_of(new, old), Ordering::Release);
    }

    /// As [`note`](Self::note), if what was told before is still so. Whether it was.
    fn change(&self, before: u64, after: u64) -> bool {
        // AcqRel: as in `note`; and who changes it has seen what was changed before.
        let (ok, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        self.generations.compare_exchange(before, after, ok, failed).is_ok()
    }
}

impl Index {
    pub(crate) fn new(
        new: IndexFile,
        old: Option<IndexFile>,
        usage: &Arc<Usage>,
        common: Option<Common>,
        guard: &Guard,
    ) -> Self {
        usage.meet(new.len() + old.as_ref().map_or(0, IndexFile::len));
        let (new, old) = (Arc::new(new), old.map(Arc::new));
        let pair = EpochCell::empty();
        pair.replace(Some(Pair::of(Arc::clone(&new), old.clone())), guard);
        let ahead = Ahead::new();
        old.as_ref().unwrap_or(&new).note_in(&ahead);
        let mover = Mutex::new(Mover { new, old, next_page: 0 });
        Self { pair, ahead, mover, usage: Arc::clone(usage), common }
    }

    /// Asks for the buckets of a key, wherever they most likely are. Whoever looks at them pins
    /// after this (`ahead.rs`).
    #[inline(always)]
    pub(crate) fn ask_ahead(&self, hash: u64) {
        self.ahead.ask(hash);
    }

    /// The generation to read a key in.
    #[inline(always)]
    pub(crate) fn for_reading<'g>(&self, hash: u64, guard: &'g Guard) -> &'g Generation<Map> {
        let pair = self.load(guard);
        match &pair.old {
            Some(old) if !pair.new.has_moved(old.slots.geometry().page(hash)) => {
                old.slots_for(hash)
            }
            _ => pair.new.slots_for(hash),
        }
    }

    /// The generation to read and change a key in, unless the index is growing.
    #[inline]
    pub(crate) fn settled<'g>(&self, hash: u64, guard: &'g Guard) -> Option<&'g Generation<Map>> {
        let pair = self.load(guard);
        pair.old.is_none().then(|| pair.new.slots_for(hash))
    }

    /// The generation to change a key in. Moves the key's page, if need be.
    pub(crate) fn for_writing<'g>(
        &self,
        ground: Ground<'_>,
        hash: u64,
        guard: &'g Guard,
    ) -> &'g Generation<Map> {
        let pair = self.load(guard);
        if let Some(old) = &pair.old {
            let page = old.slots.geometry().page(hash);
            self.advance(ground, (!pair.new.has_moved(page)).then_some(page), guard);
        }
        pair.new.slots_for(hash)
    }

    #[inline]
    fn load<'g>(&self, guard: &'g Guard) -> &'g Pair {
        let pair = self.pair.load(guard).expect("set in `new`, and replaced by a pair only");
        match &self.common {
            Some(common) if common.word() != pair.word => self.follow(common, guard),
            _ => pair,
        }
    }

    /// Sees to slots that are frozen in the newest generation, where nothing ever freezes them:
    /// they are damaged, and would stop every writer of their keys.
    pub(crate) fn thaw_strays(&self, hash: u64) {
        if self.common.is_some() {
            // Another process may just have begun to move out of it: the next look finds out.
            std::thread::yield_now();
            return;
        }
        // Under the growth lock, so that nobody begins to move out of this generation.
        self.mover.lock().new.slots.thaw(hash);
    }

    /// Starts a new generation, twice as large, unless one is being moved already or the
    /// tags are used up.
    pub(crate) fn grow(&self, ground: Ground<'_>) -> Result<bool> {
        let mut mover = self.mover.lock();
        if let Some(common) = &self.common {
            self.follow_in(&mut mover, common, &crossbeam_epoch::pin());
        }
        if mover.old.is_some() {
            return Ok(false);
        }
        let header = mover.new.header;
        let Some(geometry) = header.geometry.doubled() else { return Ok(false) };
        let generation = header.generation.wrapping_add(1).max(1);
        let next = IndexHeader { generation, geometry, ..header };
        if let Some(common) = &self.common {
            return self.grow_together(&mut mover, common, ground, next);
        }
        // Before it is there, so that it never takes what does not count.
        let len = next.file_len() as u64;
        self.usage.add(len);
        let new = IndexFile::create(ground.storage, next).inspect_err(|_| self.usage.sub(len))?;
        new.set_epoch(mover.new.epoch());
        let new = Arc::new(new);
        let old = Some(std::mem::replace(&mut mover.new, Arc::clone(&new)));
        mover.old.clone_from(&old);
        mover.next_page = 0;
        // First, so that no writer is in a generation that a later opening does not know of.
        ground.note(generation, header.generation);
        // Not pinned before: the file took its time.
        self.pair.replace(Some(Pair::of(new, old)), &crossbeam_epoch::pin());
        Ok(true)
    }

    /// Moves `page`, or the next one that is due; ends the growth after the last one.
    fn advance(&self, ground: Ground<'_>, page: Option<usize>, guard: &Guard) {
        let mut mover = match page {
            Some(_) => self.mover.lock(),
            // Nobody needs it now: whoever has the lock moves on anyway.
            None => match self.mover.try_lock() {
                Some(mover) => mover,
                None => return,
            },
        };
        let shares = self.common.is_some();
        let Some(old) = mover.old.clone() else { return };
        let pages = old.slots.geometry().pages();
        if let Some(page) = page {
            mover.new.take_page(&old, page, shares);
            return;
        }
        while mover.next_page < pages && mover.new.has_moved(mover.next_page) {
            mover.next_page += 1;
        }
        if mover.next_page < pages {
            mover.new.take_page(&old, mover.next_page, shares);
            mover.next_page += 1;
            return;
        }
        // Every page is moved: nobody looks into the old generation any more.
        if let Some(common) = &self.common {
            let new = mover.new.number();
            let is_ours = ground.change(word_of(new, old.number()), word_of(new, 0));
            self.follow_in(&mut mover, common, guard);
            if !is_ours {
                return;
            }
        } else {
            mover.old = None;
            self.pair.replace(Some(Pair::of(Arc::clone(&mover.new), None)), guard);
            mover.new.note_in(&self.ahead);
            // Before the file goes, so that no later opening looks for it.
            ground.note(mover.new.number(), 0);
        }
        // What cannot be unlinked now is swept by the next opening.
        let _ = ground.storage.remove(&file_name(old.number()));
        self.usage.retire(old.len());
        let _ = old.retired.set(Arc::clone(&self.usage));
    }

    /// Whether somebody makes the next generation, or moves a page, at the moment.
    pub(crate) fn is_locked(&self) -> bool {
        self.mover.is_locked()
    }

    /// Bytes that the next generation would take; `None` if there cannot be one, or it is
    /// there already. Waits for one that somebody is making.
    pub(crate) fn next_len(&self) -> Option<u64> {
        let mover = self.mover.lock();
        if mover.old.is_some() {
            return None;
        }
        let geometry = mover.new.header.geometry.doubled()?;
        Some(IndexHeader { geometry, ..mover.new.header }.file_len() as u64)
    }

    /// Brings a growth that is under way to its end.
    pub(crate) fn finish(&self, ground: Ground<'_>, guard: &Guard) {
        while self.is_growing(guard) {
            self.advance(ground, None, guard);
        }
    }

    /// Makes the index durable as it stands, so that it can be trusted after a clean end.
    pub(crate) fn sync(&self, storage: &dyn Storage, guard: &Guard) -> Result<()> {
        let pair = self.load(guard);
        [Some(&pair.new), pair.old.as_ref()].into_iter().flatten().try_for_each(|index| {
            let path = || storage.path(&file_name(index.number()));
            index.file.sync().map_err(|error| Error::io("sync", &path(), error))
        })
    }

    /// Writes the checksums of the pages of the one generation there is, for a session that
    /// ends. Nobody may change slots any more.
    pub(crate) fn write_sums(&self, epoch: u64) {
        // Under the growth lock, so that it is the only one for as long as this takes.
        let mover = self.mover.lock();
        let index = &mover.new;
        if mover.old.is_none() {
            seal::write_sums(&index.header, &index.slots, index.seal.is_some(), epoch);
        }
    }

    /// Meets all pages.
    pub(crate) fn meet_all(&self, guard: &Guard) {
        let pair = self.load(guard);
        for index in [Some(&pair.new), pair.old.as_ref()].into_iter().flatten() {
            (0..index.header.geometry.pages()).for_each(|page| index.meet(page));
        }
    }

    /// Marks the generations in use as those of a session.
    pub(crate) fn set_epoch(&self, epoch: u64) {
        let mover = self.mover.lock();
        mover.new.set_epoch(epoch);
        if let Some(old) = &mover.old {
            old.set_epoch(epoch);
        }
    }

    /// Number of slots of the generation in use.
    pub(crate) fn slot_count(&self, guard: &Guard) -> u64 {
        let pair = self.load(guard);
        pair.new.slots.geometry().slots() as u64
    }

    /// Whether a growth is under way.
    pub(crate) fn is_growing(&self, guard: &Guard) -> bool {
        self.load(guard).old.is_some()
    }

    /// Whether a part of it is gone (`guard.rs`).
    pub(crate) fn is_broken(&self) -> bool {
        if !IS_ON {
            return false;
        }
        let guard = &crossbeam_epoch::pin();
        let pair = self.load(guard);
        let is_broken = |file: &Arc<IndexFile>| file.slots.words().is_broken();
        is_broken(&pair.new) || pair.old.as_ref().is_some_and(is_broken)
    }

    /// Counts the value slots, one by one.
    pub(crate) fn count_values(&self, guard: &Guard) -> u64 {
        let pair = self.load(guard);
        let Some(old) = &pair.old else {
            let pages = 0..pair.new.slots.geometry().pages();
            return pages.map(|page| pair.new.count_values(page)).sum();
        };
        let pages = old.slots.geometry().pages();
        (0..pages)
            .map(|page| {
                if pair.new.has_moved(page) {
                    pair.new.count_values(page) + pair.new.count_values(page + pages)
                } else {
                    old.count_values(page)
                }
            })
            .sum()
    }
}
