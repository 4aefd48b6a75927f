//! Traces: the requests that a real program made of its cache, read as a stream.
//!
//! | format | file | what |
//! |---|---|---|
//! | oracleGeneral | `oracle.rs` | libCacheSim's packed records |
//! | csv | `csv.rs` | lines of `id[,size]`, or of any columns |
//! | arc | `arc.rs` | runs of blocks: `start count ignored number` |
//! | lirs | `lirs.rs` | a block number a line |
//! | twitter | `twitter.rs` | the clusters of Twitter's caches |
//! | msr | `msr.rs` | the block devices of MSR Cambridge |
//!
//! Each may be compressed with zstd, which its first bytes tell. Whatever the length of the
//! file, only buffers of it are in memory; whatever its bytes, they are read or refused with an
//! [`Error::Malformed`] that names the place.
//!
//! # Invariants
//! 1. A format yields an access or an error for every line or record that counts, in order.
//! 2. One line or record expands to at most [`RUN_MAX`] accesses, one at a time.
//!
//! Not here: writing (`write.rs`), what is known only after a whole pass (`survey.rs`).

mod arc;
mod csv;
mod lines;
mod lirs;
mod msr;
mod oracle;
mod sniff;
mod twitter;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

pub use self::csv::{Column, Columns};
pub use self::msr::MsrAs;
pub use self::oracle::RECORD_LEN;
pub(crate) use self::oracle::encode;
pub use self::sniff::Format;
use crate::error::{Error, Place, Result};

/// Largest object that is believed, in bytes.
pub const SIZE_MAX: u32 = 1 << 30;

/// Most accesses that one line may stand for.
pub const RUN_MAX: u64 = 1 << 20;

/// How many accesses are read at a time where nothing else is said.
pub const CHUNK: usize = 8 << 10;

/// One request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The object asked for. Formats with text for keys yield a hash of it.
    pub id: u64,
    /// Number of the next request for the same object, counted from 1 over the whole trace;
    /// [`NEVER`](Self::NEVER) if there is none, [`UNKNOWN`](Self::UNKNOWN) if the format does
    /// not say.
    pub next: u64,
    /// Seconds since any moment; 0 where the trace knows none, the largest number if it is more.
    pub time: u32,
    /// Size in bytes; 1 where the trace knows none. At most [`SIZE_MAX`].
    pub size: u32,
    /// What a miss costs, in any unit; 1 where the trace knows none.
    pub cost: u32,
}

impl Access {
    /// The object is not asked for again.
    pub const NEVER: u64 = u64::MAX;
    /// The format does not say when the object is asked for again.
    pub const UNKNOWN: u64 = 0;

    /// A request for `id`, of which only the size is known.
    #[must_use]
    pub const fn new(id: u64, size: u32) -> Self {
        Self { id, next: Self::UNKNOWN, time: 0, size, cost: 1 }
    }
}

/// How to read a trace.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The format; `Auto` looks at the name, then at the first bytes.
    pub format: Format,
    /// What the columns of csv are.
    pub columns: Columns,
    /// What an access to a disk becomes, for MSR Cambridge.
    pub msr: MsrAs,
    /// Whether writes of a Twitter trace (`set`, `add`, …) count as requests, too.
    pub twitter_writes: bool,
}

/// A trace being read.
///
/// ```
/// use larder_lab::trace::{Options, Trace};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("small.csv");
/// std::fs::write(&path, "id,size\n7,100\n8,50\n7,100\n").unwrap();
/// let mut trace = Trace::open(&path, &Options::default()).unwrap();
/// let ids: Vec<u64> = trace.accesses().map(|access| access.unwrap().id).collect();
/// assert_eq!(ids, [7, 8, 7]);
/// ```
pub struct Trace {
    path: PathBuf,
    format: Format,
    parser: Parser,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Trace").field("path", &self.path).field("format", &self.format).finish()
    }
}

type Bytes = Box<dyn BufRead + Send>;

enum Parser {
    Oracle(oracle::Oracle<Bytes>),
    Csv(csv::Csv<Bytes>),
    Arc(arc::Arc<Bytes>),
    Lirs(lirs::Lirs<Bytes>),
    Twitter(twitter::Twitter<Bytes>),
    Msr(msr::Msr<Bytes>),
}

impl Trace {
    /// Opens the trace at `path`.
    ///
    /// # Errors
    /// - [`Error::Io`]: it cannot be read.
    /// - [`Error::Malformed`]: it is a directory, empty, or its length is no number of records.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        Self::open_through(path, options, |file, _| file)
    }

    /// Opens the trace at `path` and reads it through what `wrap` makes of the file and its
    /// length in bytes, such as a progress bar.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_through<R: Read + Send + 'static>(
        path: &Path,
        options: &Options,
        wrap: impl FnOnce(File, u64) -> R,
    ) -> Result<Self> {
        let refuse = |found: &str, expected| Error::Malformed {
            path: path.to_owned(),
            place: Place::File,
            found: found.to_owned(),
            expected,
        };
        let cannot = |op| move |source| Error::Io { op, path: path.to_owned(), source };
        let file = File::open(path).map_err(cannot("opened"))?;
        let meta = file.metadata().map_err(cannot("opened"))?;
        if meta.is_dir() {
            return Err(refuse("is a directory", "a file with a trace"));
        }
        let mut file = BufReader::with_capacity(256 << 10, wrap(file, meta.len()));
        let compressed = file
            .fill_buf()
            .map_err(cannot("read"))?
            .starts_with(&zstd::zstd_safe::MAGICNUMBER.to_le_bytes());
        let mut bytes: Bytes = if compressed {
            let mut zstd = zstd::Decoder::with_buffer(file).map_err(cannot("decompressed"))?;
            // What `zstd --long=31` writes; the default refuses it.
            zstd.window_log_max(31).map_err(cannot("decompressed"))?;
            Box::new(BufReader::with_capacity(256 << 10, zstd))
        } else {
            Box::new(file)
        };
        let head = bytes.fill_buf().map_err(cannot("read"))?;
        if head.is_empty() {
            return Err(refuse("is empty", "a trace"));
        }
        let format = sniff::resolve(options.format, path, head);
        let parser = match format {
            Format::Csv => Parser::Csv(csv::Csv::new(bytes, &options.columns)),
            Format::Arc => Parser::Arc(arc::Arc::new(bytes)),
            Format::Lirs => Parser::Lirs(lirs::Lirs::new(bytes)),
            Format::Twitter => {
                Parser::Twitter(twitter::Twitter::new(bytes, options.twitter_writes))
            }
            Format::Msr => Parser::Msr(msr::Msr::new(bytes, options.msr)),
            Format::Auto | Format::OracleGeneral => {
                if meta.is_file() && !compressed && !meta.len().is_multiple_of(RECORD_LEN as u64) {
                    let found = format!("has {} bytes", meta.len());
                    return Err(refuse(&found, "a multiple of 24, the length of a record"));
                }
                Parser::Oracle(oracle::Oracle::new(bytes))
            }
        };
        Ok(Self { path: path.to_owned(), format, parser })
    }

    /// The format that it is read as, never `Auto`.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends up to `most` accesses to `chunk`; how many. 0 only at the end, or if `most` is 0.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Malformed`]. What came before the place is in `chunk`; what
    /// comes after it cannot be relied on.
    pub fn fill(&mut self, chunk: &mut Vec<Access>, most: usize) -> Result<usize> {
        let before = chunk.len();
        let filled = match &mut self.parser {
            Parser::Oracle(oracle) => oracle.fill(chunk, most),
            Parser::Csv(csv) => fill(chunk, most, || csv.next()),
            Parser::Arc(arc) => fill(chunk, most, || arc.next()),
            Parser::Lirs(lirs) => fill(chunk, most, || lirs.next()),
            Parser::Twitter(twitter) => fill(chunk, most, || twitter.next()),
            Parser::Msr(msr) => fill(chunk, most, || msr.next()),
        };
        match filled {
            Ok(()) => Ok(chunk.len() - before),
            Err(broken) => Err(broken.in_file(&self.path)),
        }
    }

    /// The accesses that are left in chunks of `length`, the last of which may be shorter. Ends
    /// with the first error.
    pub fn chunks(&mut self, length: usize) -> impl Iterator<Item = Result<Vec<Access>>> + '_ {
        let mut ended = length == 0;
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let mut chunk = Vec::with_capacity(length.min(CHUNK));
            let filled = self.fill(&mut chunk, length);
            ended = !matches!(filled, Ok(1..));
            match filled {
                Ok(0) => None,
                Ok(_) => Some(Ok(chunk)),
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// The accesses that are left, one by one. Ends with the first error.
    pub fn accesses(&mut self) -> impl Iterator<Item = Result<Access>> + '_ {
        let (mut chunk, mut at, mut failed) = (Vec::with_capacity(CHUNK), 0, None);
        std::iter::from_fn(move || {
            if at == chunk.len() && failed.is_none() {
                chunk.clear();
                at = 0;
                failed = self.fill(&mut chunk, CHUNK).err().map(Some);
            }
            match chunk.get(at) {
                Some(&access) => {
                    at += 1;
                    Some(Ok(access))
                }
                // What came before the error has been handed out by now.
                None => failed.as_mut().and_then(Option::take).map(Err),
            }
        })
    }
}

fn fill(
    chunk: &mut Vec<Access>,
    most: usize,
    mut next: impl FnMut() -> Result<Option<Access>, Broken>,
) -> Result<(), Broken> {
    for _ in 0..most {
        match next()? {
            Some(access) => chunk.push(access),
            None => break,
        }
    }
    Ok(())
}

/// Why accesses cannot be read on; the file's name comes later.
#[derive(Debug)]
enum Broken {
    Io(io::Error),
    Malformed { place: Place, found: String, expected: &'static str },
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Broken {
    fn in_file(self, path: &Path) -> Error {
        match self {
            Self::Io(source) => Error::Io { op: "read", path: path.to_owned(), source },
            Self::Malformed { place, found, expected } => {
                Error::Malformed { path: path.to_owned(), place, found, expected }
            }
        }
    }
}

/// What stands in a file, shortened, for people.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// A hash of text that stands for an object, the same in every run of one build.
fn text_id(parts: &[&[u8]]) -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let mut hasher = foldhash::quality::FixedState::with_seed(0x1A4D_E417).build_hasher();
    for part in parts {
        hasher.write_u64(part.len() as u64);
        hasher.write(part);
    }
    hasher.finish()
}

/// A run of blocks that one line stands for, handed out one by one.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    id: u64,
    left: u64,
    time: u32,
}

impl Run {
    fn next(&mut self, size: u32) -> Option<Access> {
        self.left = self.left.checked_sub(1)?;
        let id = self.id;
        self.id = self.id.wrapping_add(1);
        Some(Access { time: self.time, ..Access::new(id, size) })
    }
}

#[cfg(test)]
mod tests;
