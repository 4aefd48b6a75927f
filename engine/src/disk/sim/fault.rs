//! What goes wrong on purpose: calls that fail, and lies of the storage that a harness has to
//! notice.

use std::io;

/// Kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Call {
    Create,
    Open,
    Rename,
    Remove,
    ReadAt,
    WriteAt,
    Sync,
    SyncDir,
    Map,
    List,
    MakeDir,
    Lock,
}

impl Call {
    pub(super) const COUNT: usize = Self::Lock as usize + 1;

    pub(super) const ALL: [Self; Self::COUNT] = [
        Self::Create,
        Self::Open,
        Self::Rename,
        Self::Remove,
        Self::ReadAt,
        Self::WriteAt,
        Self::Sync,
        Self::SyncDir,
        Self::Map,
        Self::List,
        Self::MakeDir,
        Self::Lock,
    ];

    /// Whether the call changes what a cut would leave. Only these are numbered.
    pub(super) const fn mutates(self) -> bool {
        !matches!(self, Self::Open | Self::ReadAt | Self::Map | Self::List | Self::Lock)
    }
}

/// A call that fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) call: Call,
    /// Which of its kind, counted from when the fault is set, from 1.
    pub(super) number: u64,
    pub(super) error: io::ErrorKind,
    /// Whether all later ones fail as well.
    pub(super) sticky: bool,
}

/// How the storage lies. Each is a bug that a harness must catch: were the store to rely on
/// less than what it asks for, these would go unnoticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// `sync` does nothing.
    Sync,
    /// `sync` of a file under its temporary name does nothing: rename without fsync.
    SyncBeforeRename,
    /// `sync` writes half of the sectors.
    HalfSync,
    /// `sync` of the superblock's file does nothing: sessions are not durable.
    SyncOfSessions,
    /// `sync_dir` does nothing.
    SyncDir,
    /// A failed `sync` says that it worked.
    SyncNeverFails,
    /// A new file holds what a removed one held, not zeros.
    StaleBytes,
    /// The machine looks the same after a cut: what was in memory seems to be there still.
    SameBoot,
    /// A removed file's space never comes back.
    SpaceIsLost,
}
