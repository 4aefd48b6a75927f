//! Whether an engine can be used, and why not.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use larder_engine::{Access, Disk, Engine as _, Error as EngineError};

/// What [`Engines::available`](crate::Engines::available) says of one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Availability {
    /// The name that it is asked for by.
    pub engine: Arc<str>,
    /// Why it cannot be used, if so.
    pub unavailable: Option<Unavailable>,
    /// What to know of it if it can, in a sentence.
    pub note: Option<&'static str>,
}

impl Availability {
    /// Whether it can be used.
    #[must_use]
    pub const fn is_available(&self) -> bool {
        self.unavailable.is_none()
    }
}

impl fmt::Display for Availability {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.unavailable, self.note) {
            (Some(why), _) => write!(out, "{}: {why}", self.engine),
            (None, Some(note)) => write!(out, "{}: can be used; {note}", self.engine),
            (None, None) => write!(out, "{}: can be used", self.engine),
        }
    }
}

/// Why an engine cannot be used. Each says what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// It is compiled only with a feature that is off.
    #[error("it needs the feature `{feature}`: switch that on in Cargo.toml")]
    Feature {
        /// The feature.
        feature: Arc<str>,
    },
    /// There is no engine of that name.
    #[error("there is no engine of that name: there are {known}")]
    Unknown {
        /// The names that there are.
        known: String,
    },
    /// It keeps values in a directory, and none was given.
    #[error("it needs a directory, and none was given: give one with `.disk(dir)`, or `dir = …`")]
    NoDirectory,
    /// Another process, or another cache of this one, has the directory open.
    #[error("its directory is open in process {pid}: close it there, or use another directory")]
    Locked {
        /// The process; 0 if it does not say.
        pid: u32,
    },
    /// Others could change the files.
    #[error("its directory is not safe to use: {why}")]
    NotPrivate {
        /// What is unsafe, and what to do.
        why: String,
    },
    /// Nothing can be written where it would keep values.
    #[error("nothing can be written there: {why}")]
    NotWritable {
        /// What the system said.
        why: String,
    },
    /// What lies there cannot be used.
    #[error("what lies there cannot be used: {why}; repair it, or use another directory")]
    Damaged {
        /// What is wrong.
        why: String,
    },
    /// It cannot do what was asked for.
    #[error("{why}")]
    Unfit {
        /// What it lacks.
        why: &'static str,
    },
    /// Anything else that the engine says.
    #[error("{why}")]
    Other {
        /// What it said, with all causes.
        why: String,
    },
}

impl Unavailable {
    /// Whether it may be different later without anything being changed by hand.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::NotWritable { .. } | Self::Other { .. })
    }
}

impl From<&EngineError> for Unavailable {
    fn from(error: &EngineError) -> Self {
        let why = || crate::error::chain(error);
        match error {
            EngineError::Locked { pid, .. } => Self::Locked { pid: *pid },
            EngineError::Insecure { why, .. } => Self::NotPrivate { why: why.clone() },
            EngineError::Io { .. } | EngineError::StorageFull { .. } => {
                Self::NotWritable { why: why() }
            }
            EngineError::Format { .. }
            | EngineError::Irreparable { .. }
            | EngineError::WrongType { .. } => Self::Damaged { why: why() },
            _ => Self::Other { why: why() },
        }
    }
}

/// What to know of a store that is not mapped.
const BUFFERED: &str = "its file system cannot be trusted with mappings, so that it keeps a copy of \
                        its files in memory: give it a budget that fits";

/// Tries a directory out: opens and closes the store in it, or a small one in its place. What is made
/// for that goes again.
pub(super) fn try_dir(dir: &Path) -> Result<Option<&'static str>, Unavailable> {
    let opened = if dir.join("store").exists() {
        Disk::builder(dir).open()
    } else {
        // The directory itself, if there is one: whether it is one, and private.
        match Disk::builder(dir).read_only().open() {
            Err(EngineError::Io { .. }) | Ok(_) => {}
            Err(error) => return Err((&error).into()),
        }
        let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or_else(|| Path::new("."));
        let made = there.join(format!(".larder-probe.{}", std::process::id()));
        let opened = Disk::builder(&made).budget(1 << 20).open();
        let access = opened.as_ref().ok().map(Disk::access);
        let closed = opened.and_then(|disk| disk.close());
        // Best effort: what went wrong is told already.
        let _ = std::fs::remove_dir_all(&made);
        return match (closed, access) {
            (Err(error), _) => Err((&error).into()),
            (Ok(()), access) => Ok(note(access)),
        };
    };
    let access = opened.as_ref().ok().map(Disk::access);
    match opened.and_then(|disk| disk.close()) {
        Ok(()) => Ok(note(access)),
        Err(error) => Err((&error).into()),
    }
}

fn note(access: Option<Access>) -> Option<&'static str> {
    access.filter(|access| *access == Access::Buffered).map(|_| BUFFERED)
}
