//! What can go wrong with traces, loads and pictures, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the laboratory could not do what it was asked.
///
/// The message names the file and the place in it; `source()` holds what the system said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused, or the decompressor did.
    #[error("{}: cannot be {op}", path.display())]
    Io {
        /// What was tried, as a participle.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no trace of the format that it was read as.
    #[error("{}: {place} {found}: expected {expected}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        place: Place,
        /// What is there, as the rest of a sentence that begins with the place.
        found: String,
        /// What should be there.
        expected: &'static str,
    },
    /// Something that was asked for makes no sense.
    #[error("{option} cannot be {value}: {accepted}")]
    Config {
        /// What was set.
        option: &'static str,
        /// To what.
        value: String,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// A picture could not be drawn.
    #[error("{}: cannot be drawn: {why}", path.display())]
    Plot {
        /// The file that it was to become.
        path: PathBuf,
        /// What the drawing library said.
        why: String,
    },
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] larder_engine::Error),
    /// Whoever watched the run asked it to stop.
    #[error("stopped on request")]
    Stopped,
}

impl Error {
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { op, path: path.to_owned(), source }
    }
}

/// Where in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The file as a whole.
    File,
    /// A line of text, counted from 1.
    Line(u64),
    /// A packed record, counted from 1.
    Record(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => out.write_str("it"),
            Self::Line(number) => write!(out, "line {number}"),
            Self::Record(number) => write!(out, "record {number}"),
        }
    }
}
