//! Values that are written and read in pieces.
//!
//! The first pieces are kept until it is clear that the value gets a file of its own: a smaller
//! one is put as if it had come in one piece. From there on a chunk is kept at a time.
//!
//! # Invariants
//! 1. No lock is held, and no epoch pinned, while the caller reads or writes: it may take its
//!    time, and use the store meanwhile.
//! 2. The key has its old value until all of the new one is there.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom, Write};

use larder_format::Flags;

use super::Disk;
use super::counters::Count;
use super::incoming::Incoming;
use super::ops::Terms;
use super::store::Store;
use crate::engine::{Outcome, Put, Rejection, WhenShort};
use crate::error::{Error, Result};
use crate::value::{Meta, Value};

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;

impl Disk {
    /// Stores what `reader` yields under `key`: `len` bytes, leaving what comes after them
    /// unread, or all of it if `len` is `None`. Large values go straight to a file of their
    /// own and are never in memory as a whole; they are not compressed.
    ///
    /// A value that is refused because of its stated length leaves the reader unread. One of
    /// unknown length is refused as soon as it is too large, with the weight that it had then.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
    /// use larder_engine::Put;
    /// use std::io::{Read, Seek, SeekFrom};
    ///
    /// let mut source = std::io::repeat(7).take(1 << 20);
    /// assert!(disk.put_reader(b"key", &mut source, None, &Put::default())?.is_admitted());
    /// let mut reader = disk.get_reader(b"key")?.expect("just put");
    /// reader.seek(SeekFrom::End(-2))?;
    /// let mut end = Vec::new();
    /// reader.read_to_end(&mut end)?;
    /// assert_eq!(end, [7, 7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Engine`](crate::Engine); [`Error::Io`] with what the reader said, or
    /// `UnexpectedEof` if it ended before `len` bytes. Then the key has the value that it had.
    pub fn put_reader(
        &self,
        key: &[u8],
        reader: &mut dyn Read,
        len: Option<u64>,
        options: &Put<'_>,
    ) -> Result<Outcome> {
        let mut inflow = Inflow::begin(&self.store, key, len, options)?;
        let mut piece = vec![0; PIECE];
        let mut left = len.unwrap_or(u64::MAX);
        while left > 0 && inflow.refused.is_none() {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let read = match reader.read(&mut piece[..most]) {
                Ok(0) if len.is_some() => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) if read > most => Err(io::Error::other("a reader read more than all")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read,
            };
            let read = read.map_err(|source| self.store.stream_error(READING, source))?;
            if read == 0 {
                break;
            }
            inflow.push(&piece[..read])?;
            left -= read as u64;
        }
        inflow.commit()
    }

    /// The live value of `key`, to be read in pieces and from anywhere. Counts as a use.
    ///
    /// # Errors
    /// As of [`Engine`](crate::Engine).
    pub fn get_reader(&self, key: &[u8]) -> Result<Option<ValueReader>> {
        Ok(self.store.get(key)?.map(ValueReader::from))
    }

    /// Begins a value of at most `len` bytes, to be written in pieces. Nothing of it is seen
    /// before it is committed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
    /// use larder_engine::{Engine, Put};
    /// use std::io::Write;
    ///
    /// let mut reserved = disk.reserve(b"key", 100, &Put::default())?;
    /// write!(reserved, "{} and {}", "one", "two")?;
    /// assert!(disk.get(b"key")?.is_none());
    /// assert!(reserved.commit()?.is_admitted());
    /// assert_eq!(disk.get(b"key")?.as_deref(), Some(&b"one and two"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Engine`](crate::Engine).
    pub fn reserve(&self, key: &[u8], len: u64, options: &Put<'_>) -> Result<Reserved<'_>> {
        let inflow = Inflow::begin(&self.store, key, Some(len), options)?;
        Ok(Reserved { inflow, left: len, failed: false })
    }
}

/// What was tried when a reader failed.
const READING: &str = "read the value to be put into";

impl Store {
    /// What went wrong with a stream; a full disk of the caller's is not ours.
    pub(super) fn stream_error(&self, op: &'static str, source: io::Error) -> Error {
        Error::Io { op, path: self.storage.root().to_owned(), source }
    }
}

/// A value on its way in.
#[derive(Debug)]
struct Inflow<'a> {
    store: &'a Store,
    key: Vec<u8>,
    terms: Terms,
    /// The length that was stated: exact, or the most.
    stated: Option<u64>,
    /// The value, as long as it may do without a file.
    head: Vec<u8>,
    file: Option<Incoming<'a>>,
    len: u64,
    refused: Option<Rejection>,
    when_short: Option<WhenShort>,
}

impl<'a> Inflow<'a> {
    fn begin(store: &'a Store, key: &[u8], stated: Option<u64>, options: &Put<'_>) -> Result<Self> {
        store.check_open()?;
        let terms = store.terms(key, options)?;
        let (key, head) = (key.to_vec(), Vec::new());
        let (file, refused, when_short) = (None, None, options.when_short);
        let mut inflow =
            Self { store, key, terms, stated, head, file, len: 0, refused, when_short };
        let expected = stated.unwrap_or(0);
        if !inflow.is_too_large(expected) {
            let expected = usize::try_from(expected).unwrap_or(usize::MAX);
            inflow.refused = store.refuse(&inflow.key, expected, options.cost)?;
        }
        Ok(inflow)
    }

    /// Whether a value of this length is refused as too large.
    fn is_too_large(&mut self, len: u64) -> bool {
        let weight = len.saturating_add(self.key.len() as u64);
        let limit = self.store.largest_value();
        let is = weight > limit;
        if is {
            self.refuse(Rejection::TooLarge { weight, limit });
        }
        is
    }

    fn refuse(&mut self, why: Rejection) {
        self.store.counters.add(Count::Rejected, 1);
        self.refused = Some(why);
        (self.head, self.file) = (Vec::new(), None);
    }

    /// Refuses what a store that keeps everything has no room for.
    fn or_refuse<T>(&mut self, done: Result<T>) -> Result<Option<T>> {
        match done {
            Err(Error::Full { needed, budget }) => {
                self.refuse(Rejection::Full { needed, budget });
                Ok(None)
            }
            done => done.map(Some),
        }
    }

    /// Appends to the value; what is refused takes no bytes.
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let len = self.len.saturating_add(bytes.len() as u64);
        if self.refused.is_some() || self.is_too_large(len) {
            return Ok(());
        }
        self.len = len;
        let pushed = self.take_in(bytes);
        self.or_refuse(pushed).map(drop)
    }

    fn take_in(&mut self, bytes: &[u8]) -> Result<()> {
        let _gate = self.store.enter_gate()?;
        if let Some(file) = &mut self.file {
            return file.push(bytes);
        }
        let external_min = self.store.file.superblock().external_min as usize;
        if self.head.len() + bytes.len() < external_min {
            self.head.extend_from_slice(bytes);
            return Ok(());
        }
        let room = self.stated.unwrap_or(self.len.saturating_mul(2)).max(self.len);
        let room = room.min(self.store.largest_value());
        let mut file = Incoming::begin(self.store, self.terms.hash, &self.key, room)?;
        file.push(&std::mem::take(&mut self.head))?;
        file.push(bytes)?;
        self.file = Some(file);
        Ok(())
    }

    fn commit(mut self) -> Result<Outcome> {
        if let Some(why) = self.refused {
            return Ok(Outcome::Rejected(why));
        }
        let done = match self.put() {
            Err(Error::Blocked { .. }) => {
                self.store.refund(self.key.len(), self.stated.unwrap_or(self.len));
                return Ok(self.store.blocked(self.when_short));
            }
            done => done,
        };
        let outcome = self.or_refuse(done)?;
        Ok(match (outcome, self.refused) {
            (Some(outcome), _) => outcome,
            (None, Some(why)) => Outcome::Rejected(why),
            (None, None) => return Err(Error::Closed),
        })
    }

    fn put(&mut self) -> Result<Outcome> {
        if self.stated.is_none() {
            self.store.charge(self.len);
        }
        match self.file.take() {
            None => self.store.put_under(&self.key, &self.head, &self.terms, None),
            Some(file) => {
                let _gate = self.store.enter_gate()?;
                let named = file.finish(&self.key, self.terms.durable)?;
                self.store.put_file(&self.key, named, Flags::NONE, &self.terms)
            }
        }
    }
}

/// A value that is being written, from [`Disk::reserve`]. Dropped before it is committed, it
/// vanishes.
#[derive(Debug)]
#[must_use = "what is not committed vanishes"]
pub struct Reserved<'a> {
    inflow: Inflow<'a>,
    left: u64,
    failed: bool,
}

impl Reserved<'_> {
    /// Bytes that can still be written.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Stores what was written, which may be less than was reserved. A value that is refused
    /// is so by now, whatever was written.
    ///
    /// # Errors
    /// As of [`Engine`](crate::Engine); [`Error::Io`] if a write failed before.
    pub fn commit(self) -> Result<Outcome> {
        if self.failed {
            let source = io::Error::other("an earlier write of the value failed");
            return Err(self.inflow.store.stream_error("commit a value to", source));
        }
        self.inflow.commit()
    }
}

/// Takes as many bytes as were reserved; more are not written (`Ok(0)`, which `write_all`
/// makes a `WriteZero`).
impl Write for Reserved<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::Error::other("an earlier write of the value failed"));
        }
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        if let Err(error) = self.inflow.push(&bytes[..fits]) {
            self.failed = true;
            return Err(io::Error::other(error));
        }
        self.left -= fits as u64;
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a value, from anywhere in it. Keeps the value alive as [`Value`] does.
#[derive(Debug, Clone)]
pub struct ValueReader(Cursor<Value>);

impl ValueReader {
    /// What is known about the value.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        self.0.get_ref().meta()
    }

    /// The value.
    #[must_use]
    pub const fn value(&self) -> &Value {
        self.0.get_ref()
    }
}

impl From<Value> for ValueReader {
    fn from(value: Value) -> Self {
        Self(Cursor::new(value))
    }
}

impl Read for ValueReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl BufRead for ValueReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, len: usize) {
        self.0.consume(len);
    }
}

impl Seek for ValueReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}
