//! The state of a simulated machine.
//!
//! | | the process sees | the disk holds |
//! |---|---|---|
//! | contents | `Inode::cache` | `Inode::disk`, in whole sectors |
//! | names | `Inode::name` | `Inode::disk_name`, and `pending` on the way there |
//!
//! A file's names follow one another (temporary, final, none), and the disk has one of those
//! that it had since its directory was synced: so a rename is atomic, and names of different
//! files are independent, or, where the run says so, in the order of a journal.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::cut::Cut;
use super::fault::{Call, Fault, Lie};
use super::inode::Inode;
use super::ledger::Ledger;
use super::random::Random;
use crate::disk::heap::HeapFile;
use crate::disk::storage::File as _;

/// A change to the names of a directory that is not known to be on the disk.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    dir: String,
    pub(super) what: Entry,
}

#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// The file has this name from now on, or none.
    Name {
        inode: u64,
        name: Option<String>,
    },
    Dir(String),
}

/// How a run's stores get at their files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Mapped,
    /// With copies (`buffered.rs`).
    Buffered,
    /// Each opening in one or the other.
    Either,
}

/// How a run's disk behaves: drawn once from the seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habits {
    /// Bytes that are written as a whole.
    pub(super) sector: usize,
    /// Whether names reach the disk in the order of the changes.
    journal: bool,
    /// A call in how many is preceded by some write-back; 0 for never.
    write_back: usize,
}

/// One machine.
#[derive(Debug)]
pub(super) struct World {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<String, u64>,
    pub(super) dirs: BTreeSet<String>,
    pub(super) disk_dirs: BTreeSet<String>,
    pub(super) pending: Vec<Pending>,
    pub(super) next_inode: u64,
    pub(super) locked: BTreeSet<String>,
    pub(super) boot: u8,
    pub(super) random: Random,
    pub(super) habits: Habits,
    /// Changing calls so far.
    pub(super) calls: u64,
    /// Calls of each kind so far.
    pub(super) counts: [u64; Call::COUNT],
    pub(super) fault: Option<(Fault, u64)>,
    pub(super) lie: Option<Lie>,
    pub(super) mode: Mode,
    /// Bytes that all files may take.
    pub(super) quota: u64,
    pub(super) stale: BTreeMap<usize, Vec<u8>>,
    /// Segments that the store removed.
    pub(super) segments_removed: u64,
    /// Bytes that the lie `SpaceIsLost` keeps.
    pub(super) lost_space: u64,
    /// A changing call in how many is preceded by cuts that are kept; 0 for none.
    pub(super) cut_odds: usize,
    /// How many cuts are kept at one place: what the disk holds least, most, and at random.
    pub(super) cut_variants: usize,
    /// Whether cuts are deaths of the process instead, once in four.
    pub(super) deaths: bool,
    pub(super) cuts: Vec<Cut>,
    /// What is acknowledged by now, for the harness.
    pub(super) ledger: Arc<Ledger>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let habits = Habits {
            sector: [512, 512, 4096][random.below(3)],
            journal: random.once_in(2),
            write_back: [0, 4, 16][random.below(3)],
        };
        Self {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            dirs: BTreeSet::from([String::new()]),
            disk_dirs: BTreeSet::from([String::new()]),
            pending: Vec::new(),
            next_inode: 1,
            locked: BTreeSet::new(),
            boot: 1,
            random,
            habits,
            calls: 0,
            counts: [0; Call::COUNT],
            fault: None,
            lie: None,
            mode: Mode::Mapped,
            quota: u64::MAX,
            stale: BTreeMap::new(),
            segments_removed: 0,
            lost_space: 0,
            cut_odds: 0,
            cut_variants: 1,
            deaths: false,
            cuts: Vec::new(),
            ledger: Arc::new(Ledger::new(0)),
        }
    }

    /// Nothing reaches the disk by itself from now on.
    pub(super) const fn calm(&mut self) {
        self.habits.write_back = 0;
    }

    /// Whether the next opening is in the buffered mode.
    pub(super) fn draw_buffered(&mut self) -> bool {
        match self.mode {
            Mode::Mapped => false,
            Mode::Buffered => true,
            Mode::Either => self.random.once_in(2),
        }
    }

    pub(super) const fn boot(&self) -> u8 {
        self.boot
    }

    /// Changing calls so far.
    pub(super) const fn calls(&self) -> u64 {
        self.calls
    }

    /// Calls of a kind so far.
    pub(super) const fn count(&self, call: Call) -> u64 {
        self.counts[call as usize]
    }

    /// Lets a call fail from now on; `None` ends it.
    pub(super) fn set_fault(&mut self, fault: Option<Fault>) {
        self.fault = fault.map(|fault| (fault, self.count(fault.call)));
    }

    /// Whether the fault that is set has struck.
    pub(super) fn has_struck(&self) -> bool {
        self.fault.is_some_and(|(fault, from)| self.count(fault.call) >= from + fault.number)
    }

    /// Before every call: write-back, a cut, and whether the call fails.
    pub(super) fn begin(&mut self, call: Call) -> io::Result<()> {
        if call.mutates() {
            if self.random.once_in(self.habits.write_back) {
                self.write_back();
            }
            if self.random.once_in(self.cut_odds) {
                self.keep_cut();
            }
            self.calls += 1;
        }
        self.counts[call as usize] += 1;
        let count = self.count(call);
        match self.fault {
            Some((fault, from)) if fault.call == call => {
                let number = count - from;
                if number == fault.number || (fault.sticky && number > fault.number) {
                    return Err(fault.error.into());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What the system does by itself at any time.
    fn write_back(&mut self) {
        let sector = self.habits.sector;
        let ids: Vec<u64> = self.names.values().copied().collect();
        if let Some(at) = ids.len().checked_sub(1).map(|last| self.random.below(last + 1)) {
            let mut random = self.random.fork();
            let inode = self.inodes.get_mut(&ids[at]).unwrap();
            if let Some(bytes) = inode.contents() {
                inode.write_back(&bytes, sector, |_| random.once_in(2));
            }
            inode.born |= random.once_in(2);
        }
        if self.random.once_in(2) {
            let written = self.chosen();
            self.write_entries(|number, _| written.contains(&number));
        }
    }

    /// Numbers of pending entries that the disk might have by now.
    pub(super) fn chosen(&mut self) -> BTreeSet<usize> {
        let all = self.pending.len();
        if self.habits.journal {
            return (0..self.random.below(all + 1)).collect();
        }
        let keep = self.random.below(5);
        let mut stopped = BTreeSet::new();
        let mut chosen = BTreeSet::new();
        for (number, pending) in self.pending.iter().enumerate() {
            let taken = self.random.below(4) < keep;
            match &pending.what {
                Entry::Name { inode, .. } if stopped.contains(inode) => {}
                Entry::Name { inode, .. } if !taken => {
                    stopped.insert(*inode);
                }
                _ if taken => {
                    chosen.insert(number);
                }
                _ => {}
            }
        }
        chosen
    }

    /// Makes those pending entries durable that `is_chosen` picks.
    fn write_entries(&mut self, is_chosen: impl Fn(usize, &Pending) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        let mut named: BTreeSet<u64> = BTreeSet::new();
        let mut kept = Vec::new();
        // Newest first: an older name that is still on its way is overtaken.
        for (number, entry) in pending.into_iter().enumerate().rev() {
            let chosen = is_chosen(number, &entry);
            match &entry.what {
                Entry::Name { inode, .. } if named.contains(inode) => {}
                Entry::Name { inode, name } if chosen => {
                    named.insert(*inode);
                    let known = self.inodes.get_mut(inode).unwrap();
                    known.disk_name.clone_from(name);
                }
                Entry::Dir(dir) if chosen => {
                    self.disk_dirs.insert(dir.clone());
                }
                _ => kept.push(entry),
            }
        }
        kept.reverse();
        self.pending = kept;
        for inode in named {
            self.forget(inode);
        }
    }

    /// Drops a file that nobody can ever reach again.
    fn forget(&mut self, id: u64) {
        let is_pending =
            |entry: &Pending| matches!(entry.what, Entry::Name { inode, .. } if inode == id);
        let Some(inode) = self.inodes.get(&id) else { return };
        if inode.name.is_none()
            && inode.disk_name.is_none()
            && !inode.is_held()
            && !self.pending.iter().any(is_pending)
        {
            self.inodes.remove(&id);
        }
    }

    /// Bytes that files take, those without a name that are still open or mapped included.
    pub(super) fn used(&self) -> u64 {
        let taken = self.inodes.values().filter(|inode| inode.name.is_some() || inode.is_held());
        taken.map(|inode| inode.len as u64).sum::<u64>() + self.lost_space
    }

    /// Bytes that files with a name take, and how many there are.
    pub(super) fn named(&self) -> (u64, u64) {
        let lens = self.names.values().map(|id| self.inodes[id].len as u64);
        (lens.sum(), self.names.len() as u64)
    }

    fn note_name(&mut self, inode: u64, name: Option<&str>, dir: &str) {
        let (dir, name) = (dir.to_owned(), name.map(str::to_owned));
        self.inodes.get_mut(&inode).unwrap().name.clone_from(&name);
        self.pending.push(Pending { dir, what: Entry::Name { inode, name } });
    }

    pub(super) fn create(&mut self, name: &str, len: u64) -> io::Result<(u64, HeapFile)> {
        if !self.dirs.contains(parent(name)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.used().saturating_add(len) > self.quota {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = usize::try_from(len).unwrap();
        let cache = HeapFile::new(len);
        if let Some(stale) = self.stale.get(&len) {
            cache.write_at(stale, 0)?;
        }
        let inode = Inode {
            len,
            cache: Some(cache.clone()),
            disk: None,
            born: false,
            clean: BTreeMap::new(),
            name: None,
            disk_name: None,
        };
        let id = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(id, inode);
        self.names.insert(name.to_owned(), id);
        self.note_name(id, Some(name), parent(name));
        Ok((id, cache))
    }

    /// Gives a file that nobody has mapped another length.
    pub(super) fn resize(&mut self, name: &str, len: u64) -> io::Result<(u64, HeapFile)> {
        let (id, cache) = self.open(name).ok_or(io::ErrorKind::NotFound)?;
        let used = self.used();
        let inode = self.inodes.get_mut(&id).unwrap();
        if (used - inode.len as u64).saturating_add(len) > self.quota {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inode.len = usize::try_from(len).unwrap();
        let cache = cache.resized(inode.len)?;
        inode.cache = Some(cache.clone());
        if let Some(disk) = &inode.disk {
            let mut bytes = disk.to_vec();
            bytes.resize(inode.len, 0);
            inode.disk = Some(bytes.into());
        }
        inode.clean.clear();
        // The disk learns of the new length with the next sync, or by itself.
        inode.born = false;
        Ok((id, cache))
    }

    pub(super) fn open(&mut self, name: &str) -> Option<(u64, HeapFile)> {
        let id = *self.names.get(name)?;
        let inode = self.inodes.get_mut(&id)?;
        if inode.cache.is_none() {
            let cache = HeapFile::new(inode.len);
            if let Some(disk) = &inode.disk {
                cache.write_at(disk, 0).unwrap();
            }
            inode.cache = Some(cache);
        }
        inode.cache.clone().map(|cache| (id, cache))
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        if self.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = self.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.names.insert(to.to_owned(), id);
        self.note_name(id, Some(to), parent(to));
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        let id = self.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        let inode = &self.inodes[&id];
        if self.lie == Some(Lie::StaleBytes) {
            self.stale.insert(inode.len, inode.contents().unwrap_or_default());
        }
        if self.lie == Some(Lie::SpaceIsLost) {
            self.lost_space += inode.len as u64;
        }
        self.segments_removed += u64::from(name.ends_with(".log"));
        self.note_name(id, None, parent(name));
        Ok(())
    }

    pub(super) fn list(&self, dir: &str) -> Vec<String> {
        let names = self.names.keys().filter(|name| parent(name) == dir);
        names.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()).collect()
    }

    pub(super) fn make_dir(&mut self, dir: &str) -> bool {
        let is_new = self.dirs.insert(dir.to_owned());
        if is_new {
            let (what, dir) = (Entry::Dir(dir.to_owned()), parent(dir).to_owned());
            self.pending.push(Pending { dir, what });
        }
        is_new
    }

    /// Makes the names in a directory durable, unless the call was to fail.
    pub(super) fn sync_dir(&mut self, dir: &str, begun: io::Result<()>) -> io::Result<()> {
        if self.lie == Some(Lie::SyncDir) {
            return Ok(());
        }
        if begun.is_err() {
            return if self.lie == Some(Lie::SyncNeverFails) { Ok(()) } else { begun };
        }
        self.write_entries(|_, entry| entry.dir == dir);
        Ok(())
    }

    /// Writes; half of it if the call was to fail.
    pub(super) fn write_at(
        &mut self,
        inode: u64,
        cache: &HeapFile,
        bytes: &[u8],
        offset: u64,
        begun: io::Result<()>,
    ) -> io::Result<()> {
        let written = if begun.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        cache.write_at(written, offset)?;
        if let Some(inode) = self.inodes.get_mut(&inode)
            && !written.is_empty()
        {
            // Written anew, hence dirty again, even if nothing changed.
            let first = usize::try_from(offset).unwrap();
            let last = first + written.len() - 1;
            let sectors = first / self.habits.sector..=last / self.habits.sector;
            inode.clean.retain(|number, _| !sectors.contains(number));
        }
        begun
    }

    /// Makes a file's contents durable, unless the call was to fail.
    pub(super) fn sync(&mut self, id: u64, begun: io::Result<()>) -> io::Result<()> {
        let sector = self.habits.sector;
        let mut random = self.random.fork();
        let lie = self.lie;
        // A file without a name on any disk may be forgotten while it is open.
        let Some(inode) = self.inodes.get_mut(&id) else { return begun };
        let name = inode.name.as_deref().unwrap_or_default();
        match lie {
            Some(Lie::Sync) => return Ok(()),
            Some(Lie::SyncBeforeRename) if name.ends_with(".tmp") => return Ok(()),
            Some(Lie::SyncOfSessions) if name == "store" => return Ok(()),
            _ => {}
        }
        let bytes = inode.contents().unwrap_or_default();
        if begun.is_err() {
            // Some of it was written before the error, and the rest is given up.
            inode.write_back(&bytes, sector, |_| random.once_in(2));
            for number in inode.dirty(&bytes, sector) {
                let at = number * sector..((number + 1) * sector).min(bytes.len());
                inode.clean.insert(number, bytes[at].into());
            }
            return if lie == Some(Lie::SyncNeverFails) { Ok(()) } else { begun };
        }
        let all = lie != Some(Lie::HalfSync);
        inode.write_back(&bytes, sector, |_| all || random.once_in(2));
        inode.born = true;
        Ok(())
    }

    pub(super) fn lock(&mut self, name: &str) -> bool {
        self.locked.insert(name.to_owned())
    }

    pub(super) fn unlock(&mut self, name: &str) {
        self.locked.remove(name);
    }
}

/// The directory of a name.
pub(super) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(dir, _)| dir)
}
