//! What can go wrong in an engine, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use larder_format::FormatError;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an engine could not do what it was asked.
///
/// The message says what was tried, where, and what helps; `source()` holds what the system
/// or the decoder said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused; `op` and `path` say what was asked of it.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried, as an infinitive.
        op: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No space, quota or file length is left. What is stored stays readable, and writes work
    /// again as soon as there is space.
    #[error("no space left to {op} {}: free some, or give the cache a smaller budget", path.display())]
    StorageFull {
        /// What was tried, as an infinitive.
        op: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes of a file are not what a larder wrote.
    #[error("{} cannot be used", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// A file is damaged, and what stood in it cannot be found out.
    #[error("{} cannot be repaired: {why}; restore a backup, or begin anew", path.display())]
    Irreparable {
        /// The file.
        path: PathBuf,
        /// What would be needed.
        why: &'static str,
    },
    /// Another process has the directory open.
    #[error(
        "{} is open in process {pid}: close it there, let both share it, or use another directory",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that has it open; 0 if it does not say.
        pid: u32,
    },
    /// As many processes have the store open as can.
    #[error("{} is open in {max} processes already: close it in one of them", path.display())]
    TooManyProcesses {
        /// The directory.
        path: PathBuf,
        /// How many processes can have a store open.
        max: usize,
    },
    /// The store cannot be shared between processes where it is.
    #[error("{} cannot be shared: {why}", path.display())]
    Unshareable {
        /// The directory.
        path: PathBuf,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// The engine was opened by a process that this one was forked from.
    #[error(
        "the engine was opened before this process was forked: it is its parent's, start a program anew to have one"
    )]
    Forked,
    /// The directory is not private to this user.
    #[error("{} is not safe to use: {why}", path.display())]
    Insecure {
        /// The directory or file.
        path: PathBuf,
        /// What is unsafe about it, and what to do.
        why: String,
    },
    /// Something other than a regular file or directory stands in a file's place.
    #[error("{} is {found}, not {expected}: move it away", path.display())]
    WrongType {
        /// The path.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A key longer than the format allows.
    #[error("a key of {len} bytes is too long: at most {max} are allowed; store a hash of it")]
    KeyTooLong {
        /// Its length in bytes.
        len: usize,
        /// Most bytes allowed.
        max: usize,
    },
    /// More tags than a value can carry.
    #[error("{count} tags are too many: a value can carry {max}")]
    TooManyTags {
        /// How many were given.
        count: usize,
        /// Most that are allowed.
        max: usize,
    },
    /// A value that is to be added to is no number.
    #[error("the value is {len} bytes and no number: a number is 8, an i64 in little-endian order")]
    NotANumber {
        /// Its length in bytes.
        len: usize,
    },
    /// A sum does not fit an i64.
    #[error("{value} + {by} does not fit an i64: the value was left as it was")]
    Overflow {
        /// The value stored.
        value: i64,
        /// What was to be added.
        by: i64,
    },
    /// A key finds no place in the index, which cannot grow any more.
    #[error("the index is full: remove some keys, or give the store a larger budget")]
    IndexFull,
    /// A write-back to this file failed earlier. What was written to it since the last sync
    /// may be lost when the machine stops; it stays readable until then.
    #[error(
        "an earlier sync of {} failed: what it held is not durable; write it again", path.display()
    )]
    SyncLost {
        /// The file.
        path: PathBuf,
    },
    /// An option has a value that cannot be.
    #[error("option {option} is {value}: {accepted}")]
    Config {
        /// The option.
        option: &'static str,
        /// The value given.
        value: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// The engine keeps everything, and its budget is used up.
    #[error("{needed} bytes more do not fit the budget of {budget}: remove something, or raise it")]
    Full {
        /// Bytes that the budget would still have to allow.
        needed: u64,
        /// The budget in bytes.
        budget: u64,
    },
    /// There is no room ready, and it was asked not to wait for it, or not as long.
    #[error("no room is ready in {}: try again, or allow more time", path.display())]
    Blocked {
        /// The directory.
        path: PathBuf,
    },
    /// An array cannot be stored, or not be looked at as was asked.
    #[cfg(not(loom))]
    #[error(transparent)]
    Array(#[from] crate::array::ArrayError),
    /// The store was opened to be read only.
    #[error("the store is open to be read only: open it without `read_only` to change it")]
    ReadOnly,
    /// The engine was closed.
    #[error("the engine is closed: open it again")]
    Closed,
}

impl Error {
    /// Wraps what the system said about `op` on `path`.
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::StorageFull { op, path, source },
            _ => Self::Io { op, path, source },
        }
    }

    /// Wraps what the decoder said about the file `path`.
    pub(crate) fn format(path: &Path, source: FormatError) -> Self {
        Self::Format { path: path.to_owned(), source }
    }

    /// Whether the same call may succeed later without anything being changed by hand.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Io { .. }
                | Self::StorageFull { .. }
                | Self::Locked { .. }
                | Self::TooManyProcesses { .. }
                | Self::Blocked { .. }
        )
    }
}
