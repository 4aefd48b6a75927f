//! The file `store`: creating it, opening it, and the words that it shares.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use larder_format::layout::{
    SESSION_AT, SESSION_LEN, SHARED_DROPPED, SHARED_ENTRIES, SHARED_GENERATIONS,
    SHARED_NEXT_EXTERNAL, SHARED_NEXT_SEGMENT, SHARED_NEXT_SEQ, STORE_FILE_LEN, SUPERBLOCK_LEN,
};
use larder_format::{FormatError, Session, Superblock};
use parking_lot::Mutex;

use super::map::Map;
use super::storage::{File, Guard, Storage, give_birth};
use super::who::any_pid;
use crate::error::{Error, Result};
use crate::stats::Recovery;
use crate::sync::{AtomicU64, Ordering, Words};

/// The superblock's file.
pub(crate) const STORE: &str = "store";
/// The lock that says which process has the store open, and its note, who that is.
const PROCESS_LOCK: &str = "proc/0.lock";

/// The directories of a store.
pub(crate) const DIRS: [&str; 4] = ["seg", "arr", "big", "proc"];

/// Held by processes that share a store, in common: who has it alone, if only for a moment, knows that
/// there are none.
const SHARERS_LOCK: &str = "proc/share.lock";
/// Held by who opens or closes a store that processes share.
const DOOR_LOCK: &str = "proc/door.lock";
/// Held by who changes the session of such a store.
const SESSION_LOCK: &str = "proc/session.lock";
/// How often a lock is tried that others hold for a moment, and how long in between.
const PATIENCE: (usize, Duration) = (10_000, Duration::from_millis(1));

/// Who has a store open, as its opening found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// This process alone, and no other is let in.
    Alone,
    /// This process, the first of those who share it.
    First,
    /// Others as well.
    Joining,
}

/// The locks by which processes keep each other out of a store, or in order.
#[derive(Debug, Default)]
struct Locks {
    /// Of the store: alone, or in common.
    store: Option<Box<dyn Guard>>,
    /// Of the process, or of those who share.
    process: Option<Box<dyn Guard>>,
    /// While the store is being opened to be shared.
    door: Option<Box<dyn Guard>>,
}

/// The open file `store`, locked for this process.
#[derive(Debug)]
pub(crate) struct StoreFile {
    file: Arc<dyn File>,
    map: Map,
    superblock: Superblock,
    standing: Standing,
    /// Newest first; read anew before it is changed where others may have changed it.
    sessions: Mutex<Vec<(usize, Session)>>,
    /// Gone once the store is closed.
    locks: Mutex<Locks>,
}

impl StoreFile {
    /// Opens the store in a directory, or creates one with what `fresh` makes up. Whether it
    /// was created comes back too.
    pub(crate) fn open(
        storage: &dyn Storage,
        shares: bool,
        fresh: impl FnOnce() -> Result<Superblock>,
    ) -> Result<(Self, bool)> {
        for dir in DIRS {
            storage.make_dir(dir)?;
        }
        let door = if shares { Some(open_door(storage)?) } else { None };
        let path = storage.path(STORE);
        let created = match storage.open(STORE)? {
            Some(file) if file.len().map_err(|error| Error::io("look at", &path, error))? > 0 => {
                false
            }
            found => {
                let segments = list(storage, "seg")?;
                if segments.iter().any(|name| name.ends_with(".log")) {
                    let (needed, found) = (STORE_FILE_LEN as u64, 0);
                    let source = FormatError::Truncated { what: "superblock", needed, found };
                    return Err(Error::format(&path, source));
                }
                if found.is_some() {
                    // An empty file is as good as none: a crash while it was born leaves one.
                    storage.remove(STORE).map_err(|error| Error::io("remove", &path, error))?;
                }
                let superblock = fresh()?;
                let born = give_birth(storage, STORE, STORE_FILE_LEN as u64, true, |file| {
                    file.write_at(&superblock.encode(), 0)
                });
                match born {
                    Ok(_) => true,
                    // Another process was first: its store is as good as ours.
                    Err(Error::Io { source, .. })
                        if source.kind() == io::ErrorKind::AlreadyExists =>
                    {
                        false
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let (standing, locks) = match door {
            None => (Standing::Alone, lock_alone(storage)?),
            Some(door) => lock_to_share(storage, door)?,
        };

        let not_there = || Error::io("open", &path, io::ErrorKind::NotFound.into());
        let file = storage.open(STORE)?.ok_or_else(not_there)?;
        let len = file.len().map_err(|error| Error::io("look at", &path, error))?;
        let mut bytes = [0; SUPERBLOCK_LEN];
        let available = usize::try_from(len).unwrap_or(SUPERBLOCK_LEN).min(SUPERBLOCK_LEN);
        file.read_at(&mut bytes[..available], 0)
            .map_err(|error| Error::io("read", &path, error))?;
        let superblock = Superblock::decode(&bytes[..available])
            .map_err(|source| Error::format(&path, source))?;
        if len < STORE_FILE_LEN as u64 {
            let (needed, found) = (STORE_FILE_LEN as u64, len);
            let source = FormatError::Truncated { what: "superblock file", needed, found };
            return Err(Error::format(&path, source));
        }
        let map = file.map(STORE_FILE_LEN).map_err(|error| Error::io("map", &path, error))?;
        let sessions = Mutex::new(read_sessions(storage, &*file, &superblock)?);
        let locks = Mutex::new(locks);
        Ok((Self { file, map, superblock, standing, sessions, locks }, created))
    }

    /// Who has the store open.
    pub(crate) const fn standing(&self) -> Standing {
        self.standing
    }

    /// Ends an opening: others may come in, if they are to share the store.
    pub(crate) fn let_others_in(&self, storage: &dyn Storage) -> Result<()> {
        let mut locks = self.locks.lock();
        if self.standing == Standing::First {
            // First, so that nobody takes the store for one that is not shared.
            locks.process = Some(in_common(storage, SHARERS_LOCK)?);
            locks.store = None;
            locks.store = Some(in_common(storage, STORE)?);
        }
        locks.door = None;
        Ok(())
    }

    /// Lets others go on sharing the store without this process. Whether it was the last one that
    /// had it open, and has it alone now, until it [unlocks](Self::unlock) it.
    pub(crate) fn begin_to_leave(&self, storage: &dyn Storage) -> Result<bool> {
        let door = open_door(storage)?;
        let mut locks = self.locks.lock();
        locks.door = Some(door);
        locks.process = None;
        let others = storage.lock(SHARERS_LOCK, "")?;
        if others.is_none() {
            return Ok(false);
        }
        locks.process = others;
        locks.store = None;
        // Readers, or who would have it alone, may have been faster: they find no clean end then.
        locks.store = storage.lock(STORE, "")?;
        Ok(locks.store.is_some())
    }

    pub(crate) const fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// What can be trusted, by what the last session says about itself and the machine.
    pub(crate) fn trust(&self, storage: &dyn Storage) -> Recovery {
        match self.sessions.lock().first() {
            None => Recovery::Rebuilt,
            Some((_, last)) if last.clean => Recovery::Clean,
            Some((_, last)) if !last.suspect && last.boot == storage.identity() => {
                Recovery::ProcessDied
            }
            Some(_) => Recovery::Rebuilt,
        }
    }

    /// Whether the machine still runs that the last session ran on: what was written is in the
    /// page cache then, and need not be on the disk.
    pub(crate) fn is_same_boot(&self, storage: &dyn Storage) -> bool {
        let boot = storage.identity();
        self.session().is_some_and(|last| last.boot == boot)
    }

    /// Whether the page cache may hold what no sync will ever write: a write-back failed, and
    /// the system took the pages for clean.
    pub(crate) fn is_stranded(&self, storage: &dyn Storage) -> bool {
        self.session().is_some_and(|last| last.suspect) && self.is_same_boot(storage)
    }

    /// The sequence number from which on a record may name a file that never reached the disk.
    pub(crate) fn unsettled_from(&self) -> u64 {
        self.session().map_or(0, |last| last.settled_seq.saturating_add(1))
    }

    /// The highest epoch of any session.
    pub(crate) fn last_epoch(&self) -> u64 {
        self.sessions.lock().first().map_or(0, |(_, session)| session.epoch)
    }

    /// Makes the shared words durable.
    pub(crate) fn sync_words(&self, storage: &dyn Storage) -> Result<()> {
        self.file.sync().map_err(|error| Error::io("sync", &storage.path(STORE), error))
    }

    /// Changes the current session, durably; with no session, or if nothing changes, does nothing.
    pub(crate) fn change_session(
        &self,
        storage: &dyn Storage,
        change: impl FnOnce(Session) -> Session,
    ) -> Result<()> {
        // Held all the while, so that no two changes meet.
        let mut sessions = self.sessions.lock();
        let _alone = match self.standing {
            Standing::Alone => None,
            _ => {
                let lock = waiting(storage, || storage.lock(SESSION_LOCK, ""))?;
                *sessions = read_sessions(storage, &*self.file, &self.superblock)?;
                Some(lock)
            }
        };
        let Some(session) = sessions.first().map(|(_, session)| *session) else { return Ok(()) };
        let changed = change(session);
        if changed == session { Ok(()) } else { self.write(storage, &mut sessions, changed) }
    }

    /// Begins a session, durably.
    pub(crate) fn begin_session(&self, storage: &dyn Storage, session: Session) -> Result<()> {
        self.write(storage, &mut self.sessions.lock(), session)
    }

    /// Writes a session over the slot that is not the newest, or over its own.
    fn write(
        &self,
        storage: &dyn Storage,
        sessions: &mut Vec<(usize, Session)>,
        session: Session,
    ) -> Result<()> {
        let slot = match sessions.first() {
            Some((slot, last)) if last.epoch == session.epoch => *slot,
            Some((slot, _)) => 1 - slot,
            None => 0,
        };
        let bytes = session.encode(&self.superblock.uuid);
        self.file
            .write_at(&bytes, SESSION_AT[slot] as u64)
            .and_then(|()| self.file.sync())
            .map_err(|error| Error::io("write", &storage.path(STORE), error))?;
        sessions.retain(|(at, _)| *at != slot);
        sessions.insert(0, (slot, session));
        Ok(())
    }

    /// Lets others open the store. Nothing may be written afterwards.
    pub(crate) fn unlock(&self) {
        *self.locks.lock() = Locks::default();
    }

    /// The last sequence number that was cleared.
    pub(crate) fn cleared_seq(&self) -> u64 {
        self.session().map_or(0, |session| session.cleared_seq)
    }

    /// The current session.
    pub(crate) fn session(&self) -> Option<Session> {
        self.sessions.lock().first().map(|(_, session)| *session)
    }

    /// Checksum of the shared words as they are.
    pub(crate) fn words_crc(&self) -> u32 {
        let words = [
            self.next_seq(),
            self.next_segment(),
            self.next_external(),
            self.generations(),
            self.entries(),
            self.dropped(),
        ];
        // Relaxed: for openings and closings, which have the store to themselves.
        Session::words_crc_of(&words.map(|word| word.load(Ordering::Relaxed)))
    }

    /// Whether the shared words are what a clean end vouched for.
    pub(crate) fn words_are_right(&self) -> bool {
        self.session().is_some_and(|last| last.words_crc == self.words_crc())
    }

    /// Whether the shared words of a clean session changed, although no later session was
    /// there to change them. If there was one, its slot was torn, and the words are its.
    pub(crate) fn has_wrong_words(&self) -> bool {
        // Relaxed: for openings, which have the store to themselves.
        let epoch = self.next_seq().load(Ordering::Relaxed) >> Session::COUNTER_BITS;
        let clean = self.session().filter(|last| last.clean);
        clean.is_some_and(|last| last.epoch == epoch) && !self.words_are_right()
    }

    /// Whether the shared words are gone.
    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        self.map.is_broken()
    }

    pub(crate) fn next_seq(&self) -> &AtomicU64 {
        self.map.word(SHARED_NEXT_SEQ)
    }

    pub(crate) fn next_segment(&self) -> &AtomicU64 {
        self.map.word(SHARED_NEXT_SEGMENT)
    }

    pub(crate) fn next_external(&self) -> &AtomicU64 {
        self.map.word(SHARED_NEXT_EXTERNAL)
    }

    pub(crate) fn generations(&self) -> &AtomicU64 {
        self.map.word(SHARED_GENERATIONS)
    }

    pub(crate) fn entries(&self) -> &AtomicU64 {
        self.map.word(SHARED_ENTRIES)
    }

    pub(crate) fn dropped(&self) -> &AtomicU64 {
        self.map.word(SHARED_DROPPED)
    }
}

/// The valid sessions, newest first, each with where it stands.
fn read_sessions(
    storage: &dyn Storage,
    file: &dyn File,
    superblock: &Superblock,
) -> Result<Vec<(usize, Session)>> {
    let mut sessions = Vec::new();
    for (slot, at) in SESSION_AT.into_iter().enumerate() {
        let mut bytes = [0; SESSION_LEN];
        let io = |error| Error::io("read", &storage.path(STORE), error);
        file.read_at(&mut bytes, at as u64).map_err(io)?;
        if let Ok(session) = Session::decode(&bytes, &superblock.uuid) {
            sessions.push((slot, session));
        }
    }
    sessions.sort_by_key(|(_, session)| std::cmp::Reverse(session.epoch));
    Ok(sessions)
}

/// Takes the locks of a process that lets no other in.
fn lock_alone(storage: &dyn Storage) -> Result<Locks> {
    let store = storage.lock(STORE, "")?.ok_or_else(|| locked(storage))?;
    let process = lock_process(storage)?;
    Ok(Locks { store: Some(store), process: Some(process), door: None })
}

/// Takes the locks of a process that shares the store with others. The door is held.
fn lock_to_share(storage: &dyn Storage, door: Box<dyn Guard>) -> Result<(Standing, Locks)> {
    if let Some(store) = storage.lock(STORE, "")? {
        let locks = Locks { store: Some(store), process: None, door: Some(door) };
        return Ok((Standing::First, locks));
    }
    if storage.lock(SHARERS_LOCK, "")?.is_some() {
        // Nobody shares it: one process has it alone, or some read it.
        return Err(locked(storage));
    }
    let process = in_common(storage, SHARERS_LOCK)?;
    let store = storage.lock_in_common(STORE)?.ok_or_else(|| locked(storage))?;
    Ok((Standing::Joining, Locks { store: Some(store), process: Some(process), door: Some(door) }))
}

/// Waits for the door: whoever opens or closes the store holds it for a moment.
fn open_door(storage: &dyn Storage) -> Result<Box<dyn Guard>> {
    waiting(storage, || storage.lock(DOOR_LOCK, ""))
}

/// Takes a lock in common that somebody may have alone for a moment.
fn in_common(storage: &dyn Storage, name: &str) -> Result<Box<dyn Guard>> {
    waiting(storage, || storage.lock_in_common(name))
}

/// Waits for a lock that others hold for a moment.
pub(crate) fn waiting(
    storage: &dyn Storage,
    lock: impl Fn() -> Result<Option<Box<dyn Guard>>>,
) -> Result<Box<dyn Guard>> {
    for _ in 0..PATIENCE.0 {
        if let Some(lock) = lock()? {
            return Ok(lock);
        }
        std::thread::sleep(PATIENCE.1);
    }
    Err(locked(storage))
}

/// Takes the lock that a process has while the store is open in it.
pub(crate) fn lock_process(storage: &dyn Storage) -> Result<Box<dyn Guard>> {
    let note = format!("{}\n", std::process::id());
    let lock = storage.lock(PROCESS_LOCK, &note)?.ok_or_else(|| locked(storage))?;
    // Of those who share a store none need have this very lock.
    if storage.is_locked(SHARERS_LOCK)? {
        return Err(locked(storage));
    }
    Ok(lock)
}

/// Says who has the store open.
pub(crate) fn locked(storage: &dyn Storage) -> Error {
    Error::Locked { path: storage.root().to_owned(), pid: any_pid(storage) }
}

/// Names of the files in a directory of the store.
pub(crate) fn list(storage: &dyn Storage, dir: &str) -> Result<Vec<String>> {
    storage.list(dir).map_err(|error| Error::io("list", &storage.path(dir), error))
}
