//! Values too large for a segment: a file each, named by a record in the log.
//!
//! # Invariants
//! 1. A file gets its name when it is complete, and never changes afterwards.
//! 2. A file without a record that names it is an orphan; an opening after a crash sweeps it.
//! 3. The record is written after the file has its name, so that a record never names a file
//!    that is still to come.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock, Weak};

use crossbeam_epoch::Guard;
use larder_format::layout::{CHUNK, EXTERNAL_TRAILER_LEN};
use larder_format::record::chunk_crc;
use larder_format::{
    ArrayDescriptor, Compression, ExternalClass, ExternalFooter, ExternalRef, Salt,
};
use parking_lot::Mutex;

use super::cell::EpochCell;
use super::chunks::{Chunks as _, Verified};
use super::guard::IS_ON;
use super::storage::{File, Storage, give_birth};
use super::usage::{Usage, blocks};
use super::view::{Owner, View};
use super::whole::Frozen;
use crate::error::{Error, Result};
use crate::sync::{AtomicBool, Ordering};

mod unlinked;

/// The directories of external files, and what their names end in.
pub(crate) const PLACES: [(ExternalClass, &str, &str); 2] =
    [(ExternalClass::Value, "big", ".val"), (ExternalClass::Array, "arr", ".npy")];

/// Which external file: no two have one id, and the class decides the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) class: ExternalClass,
    pub(crate) id: u64,
}

impl FileId {
    /// The file that a record names.
    pub(crate) const fn named(named: &ExternalRef) -> Self {
        Self { class: named.class, id: named.id }
    }

    /// The file that a footer belongs to.
    pub(crate) const fn of(footer: &ExternalFooter) -> Self {
        Self { class: footer.class, id: footer.id }
    }

    /// What it is called.
    pub(crate) fn name(self) -> String {
        let Self { class, id } = self;
        match class {
            ExternalClass::Value => format!("big/{id:016x}.val"),
            ExternalClass::Array => format!("arr/{id:016x}.npy"),
        }
    }
}

/// Bytes that are summed, and then written, at a time.
const PIECE: usize = 1 << 20;

/// What goes into an external file.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// What the value is, if the file is an array's.
    pub(crate) array: Option<&'a ArrayDescriptor>,
}

/// A mapped external file, its trailer and tail checked.
#[derive(Debug)]
pub(crate) struct External {
    frozen: Frozen,
    file: Arc<dyn File>,
    footer: ExternalFooter,
    verified: Verified,
    /// A copy of what stands between data and trailer, where it may be cut off ([`IS_ON`]).
    tail: OnceLock<Option<Box<[u8]>>>,
    /// What the array is, if it is one and its tail is right; once that was looked at.
    array: OnceLock<Option<ArrayDescriptor>>,
    sync_failed: AtomicBool,
    retired: AtomicBool,
    len: u64,
    usage: Arc<Usage>,
}

impl External {
    /// Writes a value to a file of its own.
    fn create(
        storage: &dyn Storage,
        mut footer: ExternalFooter,
        what: &Contents<'_>,
        durable: bool,
        usage: &Arc<Usage>,
    ) -> Result<Self> {
        let name = FileId::of(&footer).name();
        let file = give_birth(storage, &name, footer.file_len(), durable, |file| {
            if let Some(array) = what.array {
                file.write_at(&array.npy_header(), 0)?;
            }
            let mut tail = Vec::new();
            // Summed piece by piece, just before it is written: then it is near.
            for (piece, at) in what.value.chunks(PIECE).zip((footer.data_at()..).step_by(PIECE)) {
                for chunk in piece.chunks(CHUNK) {
                    let number = tail.len() as u64 / 4;
                    tail.extend(chunk_crc(footer.seq, number, chunk).to_le_bytes());
                }
                file.write_at(piece, at)?;
            }
            tail.extend_from_slice(what.key);
            tail.extend(what.array.map(ArrayDescriptor::encode).unwrap_or_default());
            footer.tail_crc = footer.tail_crc(&tail);
            file.write_at(&tail, footer.table_at())?;
            file.write_at(&footer.encode(), footer.trailer_at())
        })?;
        Self::over(storage, footer, file, usage)
    }

    /// Opens and checks the file that a record names; `None` if it is absent or not what the
    /// record says.
    fn open(
        storage: &dyn Storage,
        uuid: &[u8; 16],
        named: &ExternalRef,
        usage: &Arc<Usage>,
    ) -> Result<Option<Self>> {
        let name = FileId::named(named).name();
        let Some(file) = storage.open(&name)? else { return Ok(None) };
        let footer = read_footer(&*file, uuid, named.id)
            .map_err(|error| Error::io("read", &storage.path(&name), error))?;
        let Some(footer) = footer else { return Ok(None) };
        if footer.data_len != named.data_len || footer.class != named.class {
            return Ok(None);
        }
        Ok(Some(Self::over(storage, footer, file, usage)?))
    }

    fn over(
        storage: &dyn Storage,
        footer: ExternalFooter,
        file: Arc<dyn File>,
        usage: &Arc<Usage>,
    ) -> Result<Self> {
        let len = blocks(footer.file_len());
        let map_len = usize::try_from(footer.file_len()).unwrap_or(usize::MAX);
        let map = file
            .map(map_len)
            .map_err(|error| Error::io("map", &storage.path(&FileId::of(&footer).name()), error))?;
        Ok(Self {
            frozen: Frozen::new(map),
            file,
            footer,
            verified: Verified::new(footer.chunk_count()),
            tail: OnceLock::new(),
            array: OnceLock::new(),
            sync_failed: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            len,
            usage: Arc::clone(usage),
        })
    }

    pub(super) const fn footer(&self) -> &ExternalFooter {
        &self.footer
    }

    pub(super) const fn frozen(&self) -> &Frozen {
        &self.frozen
    }

    pub(super) const fn verified(&self) -> &Verified {
        &self.verified
    }

    /// Data, and what stands between it and the trailer.
    pub(super) fn parts(&self) -> Option<(&[u8], &[u8])> {
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        let [from, to] = [self.footer.data_at(), self.footer.table_at()].map(at);
        let bytes = self.frozen.bytes();
        Some((bytes.get(from..to)?, bytes.get(to..at(self.footer.trailer_at()))?))
    }

    /// What stands between data and trailer. If it may be cut off: as it was when it was first
    /// looked at, so that what is left of the data can still be compared with its checksums.
    pub(super) fn tail(&self) -> Option<&[u8]> {
        let (_, tail) = self.parts()?;
        if !IS_ON {
            return Some(tail);
        }
        let copied = || {
            let copy = Box::from(tail);
            self.footer.check_tail(&copy).ok().map(|_| copy)
        };
        self.tail.get_or_init(copied).as_deref()
    }

    /// What the array is, if the file is one's and its tail is right: looked at once.
    pub(crate) fn array(&self) -> Option<&ArrayDescriptor> {
        let look = || {
            let tail = self.tail()?;
            self.footer.check_tail(tail).ok()?;
            let at = self.footer.descriptor_at().saturating_sub(self.footer.table_at());
            let found = ArrayDescriptor::decode(tail.get(usize::try_from(at).ok()?..)?).ok()?;
            let fits = self.footer.class == ExternalClass::Array
                && found.data_len() == self.footer.data_len
                && found.encoded_len() as u64 == u64::from(self.footer.descriptor_len)
                && found.compression() == Compression::None;
            fits.then_some(found)
        };
        self.array.get_or_init(look).as_ref()
    }

    /// Whether the file has the length that it had; what cannot be found out counts as right.
    pub(super) fn has_length(&self) -> bool {
        self.file.len().map_or(true, |len| len >= self.footer.file_len())
    }

    /// Whether what stands between data and trailer is as it was written.
    pub(super) fn has_right_tail(&self) -> bool {
        self.tail().is_some_and(|tail| self.footer.check_tail(tail).is_ok())
    }

    /// A view of a part of the data, unchecked.
    pub(crate) fn view(self: &Arc<Self>, part: Range<usize>) -> View {
        let at = usize::try_from(self.footer.data_at()).unwrap_or(usize::MAX);
        View::new(Arc::clone(self) as Arc<dyn Owner>, at + part.start..at + part.end)
    }

    /// The value, if all of it is as it was written: of an array, the file as far as NumPy reads
    /// it. Chunks are checked once.
    pub(crate) fn value(self: &Arc<Self>) -> Option<View> {
        self.footer.check_tail(self.tail()?).ok()?;
        let from = match self.footer.class {
            ExternalClass::Value => self.footer.data_at(),
            ExternalClass::Array => {
                let header = self.array()?.npy_header();
                self.frozen.bytes().starts_with(&header).then_some(0)?
            }
        };
        let from = usize::try_from(from).ok()?;
        let to = usize::try_from(self.footer.table_at()).ok()?;
        let intact =
            (0..self.footer.chunk_count()).all(|number| self.is_known(number) || self.sum(number));
        intact.then(|| View::new(Arc::clone(self) as Arc<dyn Owner>, from..to))
    }
}

impl Owner for External {
    fn committed_bytes(&self, range: Range<usize>) -> &[u8] {
        self.frozen.bytes().get(range).unwrap_or_default()
    }

    fn pinned_len(&self) -> u64 {
        self.len
    }

    fn array(&self) -> Option<&ArrayDescriptor> {
        self.array()
    }
}

impl Drop for External {
    fn drop(&mut self) {
        if *self.retired.get_mut() {
            self.usage.release(self.len);
        }
    }
}

/// The footer of an external file, if its end is whole and belongs to this store.
pub(crate) fn read_footer(
    file: &dyn File,
    uuid: &[u8; 16],
    id: u64,
) -> io::Result<Option<ExternalFooter>> {
    let len = file.len()?;
    let mut bytes = [0; EXTERNAL_TRAILER_LEN];
    let Some(at) = len.checked_sub(EXTERNAL_TRAILER_LEN as u64) else { return Ok(None) };
    file.read_at(&mut bytes, at)?;
    Ok(ExternalFooter::decode(&bytes, Salt::new(uuid, id), len).ok())
}

/// What the maps of files share: one count for all of them, also those of old epochs, so that the
/// count of the file itself says who else has it.
#[derive(Debug)]
struct Listed(Arc<External>);

/// Files that are still to be synced.
#[derive(Debug, Default)]
struct Unsynced {
    /// Those of this process.
    own: Vec<Arc<External>>,
    /// Those that another process left, which need not have synced them.
    inherited: Vec<FileId>,
    /// The directory, or a file that another process left, could not be synced: what is on the
    /// disk is not known before the next opening.
    failed: bool,
    /// Files were synced, and no session says so yet.
    unsaid: bool,
    /// Backups under way, and what was removed meanwhile.
    keepers: usize,
    kept: HashMap<u64, Arc<External>>,
}

/// Keeps removed files readable until it is dropped.
#[derive(Debug)]
pub(crate) struct Keeping<'a>(&'a Externals);

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        let mut unsynced = self.0.unsynced.lock();
        unsynced.keepers -= 1;
        if unsynced.keepers == 0 {
            unsynced.kept.clear();
        }
    }
}

/// The external files of a store.
#[derive(Debug)]
pub(crate) struct Externals {
    /// Those that are mapped. Copied when it changes: external files are few and large.
    mapped: EpochCell<HashMap<u64, Arc<Listed>>>,
    /// Held to change `mapped`; holds those that are still to be synced.
    unsynced: Mutex<Unsynced>,
    /// Those that were unlinked while they were mapped, until they are gone.
    retired: Mutex<Vec<Weak<External>>>,
    uuid: [u8; 16],
    usage: Arc<Usage>,
    /// Whether files are synced before records name them: other processes, which may make such a record
    /// durable, know of no file that is still to be synced.
    syncs_first: bool,
}

impl Externals {
    pub(crate) fn new(uuid: [u8; 16], usage: &Arc<Usage>, syncs_first: bool) -> Self {
        let (mapped, unsynced) = (EpochCell::empty(), Mutex::new(Unsynced::default()));
        let retired = Mutex::default();
        Self { mapped, unsynced, retired, uuid, usage: Arc::clone(usage), syncs_first }
    }

    /// Whether files are synced before records name them.
    pub(super) const fn syncs_first(&self) -> bool {
        self.syncs_first
    }

    /// The file that a record names; `None` if it is absent or damaged.
    pub(crate) fn get(
        &self,
        storage: &dyn Storage,
        named: &ExternalRef,
        guard: &Guard,
    ) -> Result<Option<Arc<External>>> {
        let mapped = |guard| self.mapped(named.id, guard);
        if let Some(external) = mapped(guard) {
            return Ok((external.footer.data_len == named.data_len).then_some(external));
        }
        let _changing = self.unsynced.lock();
        if let Some(external) = mapped(guard) {
            return Ok(Some(external));
        }
        let Some(external) = External::open(storage, &self.uuid, named, &self.usage)? else {
            return Ok(None);
        };
        let external = Arc::new(external);
        self.change(guard, |map| map.insert(named.id, Arc::new(Listed(Arc::clone(&external)))));
        Ok(Some(external))
    }

    fn mapped(&self, id: u64, guard: &Guard) -> Option<Arc<External>> {
        let listed = self.mapped.load(guard)?.get(&id)?;
        Some(Arc::clone(&listed.0))
    }

    /// Bytes of unlinked files that nobody has a view of: they go as soon as the last lookups that
    /// may see them have ended.
    pub(super) fn fleeting(&self) -> u64 {
        let mut retired = self.retired.lock();
        retired.retain(|external| external.strong_count() > 0);
        // One is the maps'.
        let of_maps = retired.iter().filter(|external| external.strong_count() <= 1);
        of_maps.filter_map(Weak::upgrade).map(|external| external.len).sum()
    }

    /// Keeps every file that is removed from now on readable by [`get_kept`](Self::get_kept), for
    /// as long as the guard lives.
    pub(crate) fn keep(&self) -> Keeping<'_> {
        self.unsynced.lock().keepers += 1;
        Keeping(self)
    }

    /// As [`get`](Self::get), of files that were removed while they were kept as well.
    pub(crate) fn get_kept(
        &self,
        storage: &dyn Storage,
        named: &ExternalRef,
        guard: &Guard,
    ) -> Result<Option<Arc<External>>> {
        if let Some(external) = self.get(storage, named, guard)? {
            return Ok(Some(external));
        }
        let kept = self.unsynced.lock().kept.get(&named.id).cloned();
        Ok(kept.filter(|external| external.footer.data_len == named.data_len))
    }

    /// Writes a value to a file of its own. The caller then writes the record that names it.
    pub(crate) fn put(
        &self,
        storage: &dyn Storage,
        (id, seq, key_hash): (u64, u64, u64),
        what: &Contents<'_>,
        durable: bool,
    ) -> Result<ExternalRef> {
        let durable = durable || self.syncs_first;
        let descriptor_len = what.array.map_or(0, ArrayDescriptor::encoded_len);
        let template = ExternalFooter {
            uuid: self.uuid,
            id,
            class: if what.array.is_some() { ExternalClass::Array } else { ExternalClass::Value },
            seq,
            key_hash,
            data_len: what.value.len() as u64,
            key_len: u32::try_from(what.key.len()).unwrap_or(u32::MAX),
            descriptor_len: u32::try_from(descriptor_len).unwrap_or(u32::MAX),
            tail_crc: 0,
        };
        // Before it is there, so that it never takes what does not count.
        let len = blocks(template.file_len());
        self.usage.add(len);
        let external = External::create(storage, template, what, durable, &self.usage)
            .inspect_err(|_| self.usage.sub(len))?;
        Ok(self.take_in(external, durable))
    }

    /// Takes in a file that was written elsewhere, is complete and counts already. If it cannot
    /// be mapped it is removed.
    pub(super) fn adopt(
        &self,
        storage: &dyn Storage,
        footer: ExternalFooter,
        file: Arc<dyn File>,
        durable: bool,
    ) -> Result<ExternalRef> {
        let external = External::over(storage, footer, file, &self.usage).inspect_err(|_| {
            // Best effort: the next opening sweeps it.
            let _ = storage.remove(&FileId::of(&footer).name());
        })?;
        Ok(self.take_in(external, durable))
    }

    fn take_in(&self, external: External, durable: bool) -> ExternalRef {
        let ExternalFooter { class, id, data_len, .. } = external.footer;
        let external = Arc::new(external);
        let mut unsynced = self.unsynced.lock();
        if !durable {
            unsynced.own.push(Arc::clone(&external));
        }
        // Not pinned before: the file took its time.
        self.change(&crossbeam_epoch::pin(), |map| map.insert(id, Arc::new(Listed(external))));
        ExternalRef { class, id, data_len, settled: durable }
    }

    /// Unlinks a file. Views of it go on; its bytes count as retired until the last one goes.
    pub(crate) fn remove(&self, storage: &dyn Storage, file: FileId, guard: &Guard) -> Result<()> {
        let (name, id) = (file.name(), file.id);
        let mut unsynced = self.unsynced.lock();
        let Some(file) = storage.open(&name)? else { return Ok(()) };
        let len = blocks(file.len().unwrap_or(0));
        let mut mapped = self.mapped(id, guard);
        if unsynced.keepers > 0 {
            if mapped.is_none() {
                let footer = read_footer(&*file, &self.uuid, id)
                    .map_err(|error| Error::io("read", &storage.path(&name), error))?;
                let over = |footer| External::over(storage, footer, file, &self.usage);
                mapped = footer.map(over).transpose()?.map(Arc::new);
            }
            unsynced.kept.extend(mapped.iter().map(|external| (id, Arc::clone(external))));
        }
        let failed = |op, error| Error::io(op, &storage.path(&name), error);
        match storage.remove(&name) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed.map_err(|error| failed("remove", error))?,
        }
        unsynced.own.retain(|external| external.footer.id != id);
        unsynced.inherited.retain(|inherited| inherited.id != id);
        match mapped {
            Some(external) => {
                // Relaxed: read by `drop` only, which is ordered by the Arc.
                external.retired.store(true, Ordering::Relaxed);
                self.usage.retire(external.len);
                self.retired.lock().push(Arc::downgrade(&external));
                self.change(guard, |map| map.remove(&id));
            }
            None => self.usage.sub(len),
        }
        Ok(())
    }

    /// Whether the file that a record names is there, belongs to it, and is as it was written.
    /// `(key_hash, seq)` are the record's: the file is older, and for the same key.
    pub(crate) fn is_whole(
        &self,
        storage: &dyn Storage,
        named: &ExternalRef,
        (key_hash, seq): (u64, u64),
    ) -> Result<bool> {
        let opened = External::open(storage, &self.uuid, named, &self.usage)?.map(Arc::new);
        Ok(opened.is_some_and(|external| {
            let footer = &external.footer;
            footer.key_hash == key_hash && footer.seq <= seq && external.value().is_some()
        }))
    }

    /// Takes over files that another process left: the next sync has to see to them.
    pub(crate) fn inherit(&self, files: Vec<FileId>) {
        self.unsynced.lock().inherited = files;
    }

    /// Whether no session says yet of some files that were synced that they are durable.
    pub(crate) fn is_unsaid(&self) -> bool {
        self.unsynced.lock().unsaid
    }

    /// Notes that a session is about to say of all files that were synced that they are durable.
    pub(crate) fn note_said(&self) {
        self.unsynced.lock().unsaid = false;
    }

    /// Notes that it could not.
    pub(crate) fn note_unsaid(&self) {
        self.unsynced.lock().unsaid = true;
    }

    /// Makes every file written so far durable. One that cannot be synced stays on the list:
    /// no later call says that it is durable. Says how many there were.
    pub(crate) fn sync(&self, storage: &dyn Storage) -> Result<u64> {
        let mut unsynced = self.unsynced.lock();
        let count = unsynced.own.len() + unsynced.inherited.len();
        if count == 0 {
            return Ok(0);
        }
        if unsynced.failed {
            return Err(Error::SyncLost { path: storage.path("big") });
        }
        for file in &unsynced.inherited {
            let name = file.name();
            if let Some(file) = storage.open(&name)?
                && let Err(error) = file.sync()
            {
                unsynced.failed = true;
                return Err(Error::io("sync", &storage.path(&name), error));
            }
        }
        for external in &unsynced.own {
            let path = || storage.path(&FileId::of(&external.footer).name());
            // Relaxed: only looked at under the lock.
            if external.sync_failed.load(Ordering::Relaxed) {
                return Err(Error::SyncLost { path: path() });
            }
            let is_cut =
                || external.frozen.is_broken().then(|| io::ErrorKind::UnexpectedEof.into());
            if let Some(error) = external.file.sync().err().or_else(is_cut) {
                external.sync_failed.store(true, Ordering::Relaxed);
                return Err(Error::io("sync", &path(), error));
            }
        }
        for (class, dir, _) in PLACES {
            let own = unsynced.own.iter().map(|external| external.footer.class);
            let mut written = own.chain(unsynced.inherited.iter().map(|file| file.class));
            if written.any(|written| written == class)
                && let Err(error) = storage.sync_dir(dir)
            {
                unsynced.failed = true;
                return Err(Error::io("sync", &storage.path(dir), error));
            }
        }
        unsynced.own.clear();
        unsynced.inherited.clear();
        unsynced.unsaid = true;
        Ok(count as u64)
    }

    fn change<T>(&self, guard: &Guard, f: impl FnOnce(&mut HashMap<u64, Arc<Listed>>) -> T) {
        let mut map = self.mapped.load(guard).cloned().unwrap_or_default();
        f(&mut map);
        self.mapped.replace(Some(map), guard);
        // The map before keeps files that go later: nobody else could let go of it while it is in
        // what this thread has to collect.
        guard.flush();
    }
}
