//! Arrays that come row by row, and may be larger than memory.
//!
//! The first rows are kept until it is clear that the array gets a file of its own; from there on
//! a chunk is kept at a time. How many rows there are is written at the end.
//!
//! # Invariants
//! 1. No lock is held, and no epoch pinned, between two calls.
//! 2. The key has its old value until all of the new one is there.

use std::fmt;
use std::marker::PhantomData;

use larder_format::{ArrayDescriptor, Order};

use super::super::Disk;
use super::super::counters::Count;
use super::super::incoming::Incoming;
use super::super::ops::Terms;
use super::super::space::{plain, with_tags};
use super::super::store::Store;
use super::CODEC;
use super::reserve::put_file;
use crate::array::{ArrayError, ArrayRef, Element};
use crate::engine::{Outcome, Put, Rejection, WhenShort};
use crate::error::{Error, Result};

impl Disk {
    /// Begins an array in C order whose rows are appended. `row` is the shape of a row: what
    /// follows the first axis. Nothing of it is seen before it is committed, and no more than
    /// what is smaller than a file of its own is in memory.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
    /// use larder_engine::Put;
    ///
    /// let mut table = disk.append_array::<i32>(b"key", &[2], &Put::default())?;
    /// table.push(&[1, 2, 3, 4])?;
    /// table.push(&[5, 6])?;
    /// assert!(table.push(&[7]).is_err());
    /// assert!(table.commit()?.is_admitted());
    /// let view = disk.get_array::<i32>(b"key")?.ok_or("just committed")?;
    /// assert_eq!(view.shape(), [3, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Engine`](crate::Engine); [`ArrayError::Impossible`] for more than 31 axes of a row,
    /// or 2^48 bytes.
    pub fn append_array<T: Element>(
        &self,
        key: &[u8],
        row: &[usize],
        options: &Put<'_>,
    ) -> Result<ArrayAppender<'_, T>> {
        self.writable()?;
        with_tags(options, None, |options| {
            let options = Put { codec: CODEC, ..*options };
            ArrayAppender::begin(&self.store, plain(key).into_owned(), row, &options)
        })
    }
}

/// An array whose rows are being appended, from [`Disk::append_array`]. Dropped before it is
/// committed, it vanishes.
#[must_use = "what is not committed vanishes"]
pub struct ArrayAppender<'a, T> {
    store: &'a Store,
    key: Vec<u8>,
    terms: Terms,
    when_short: Option<WhenShort>,
    /// The shape, but for the first axis.
    shape: Vec<u64>,
    row_len: usize,
    /// The rows, as long as they may do without a file.
    head: Vec<u8>,
    file: Option<Incoming<'a>>,
    len: u64,
    refused: Option<Rejection>,
    failed: bool,
    elements: PhantomData<fn(T)>,
}

impl<'a, T: Element> ArrayAppender<'a, T> {
    fn begin(store: &'a Store, key: Vec<u8>, row: &[usize], options: &Put<'_>) -> Result<Self> {
        store.check_open()?;
        let terms = store.terms(&key, options)?;
        let refused = store.refuse(&key, 0, options.cost)?;
        let mut shape = vec![1];
        shape.extend(row.iter().map(|axis| *axis as u64));
        let when_short = options.when_short;
        let (head, file, len, failed, elements) = (Vec::new(), None, 0, false, PhantomData);
        let mut appender = Self {
            store,
            key,
            terms,
            when_short,
            shape,
            row_len: 0,
            head,
            file,
            len,
            refused,
            failed,
            elements,
        };
        let one = appender.descriptor()?;
        appender.row_len = usize::try_from(one.data_len()).unwrap_or(usize::MAX);
        appender.shape[0] = 0;
        Ok(appender)
    }

    fn descriptor(&self) -> Result<ArrayDescriptor, ArrayError> {
        let item_len = u32::try_from(size_of::<T>()).unwrap_or(u32::MAX);
        ArrayDescriptor::new(T::DTYPE, item_len, Order::C, &self.shape)
            .map_err(ArrayError::Impossible)
    }

    /// Rows so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.shape.first().copied().unwrap_or(0)
    }

    /// Appends rows. What the store has refused by now takes none; its commit says why.
    ///
    /// # Errors
    /// [`ArrayError::Length`] if these are no whole rows: then nothing was appended. As of
    /// [`Engine`](crate::Engine): then nothing can be appended any more.
    pub fn push(&mut self, elements: &[T]) -> Result<()> {
        self.check_failed()?;
        let bytes = T::to_bytes(elements);
        let rows = bytes.len().checked_div(self.row_len).unwrap_or(0);
        if rows * self.row_len != bytes.len() {
            let (needed, found) = (((rows + 1) * self.row_len) as u64, bytes.len() as u64);
            let mut shape = self.shape.clone();
            shape[0] = rows as u64 + 1;
            return Err(ArrayError::Length { shape, needed, found }.into());
        }
        self.shape[0] += rows as u64;
        let len = self.len.saturating_add(bytes.len() as u64);
        let (weight, limit) = (len + self.key.len() as u64, self.store.largest_value());
        if self.refused.is_none() && weight > limit {
            self.refuse(Rejection::TooLarge { weight, limit });
        }
        if self.refused.is_some() {
            return Ok(());
        }
        self.len = len;
        match self.take_in(bytes) {
            Err(Error::Full { needed, budget }) => {
                self.refuse(Rejection::Full { needed, budget });
                Ok(())
            }
            taken => taken.inspect_err(|_| self.failed = true),
        }
    }

    fn check_failed(&self) -> Result<()> {
        if !self.failed {
            return Ok(());
        }
        let source = std::io::Error::other("an earlier write of the array failed");
        Err(self.store.stream_error("append to an array in", source))
    }

    fn refuse(&mut self, why: Rejection) {
        self.store.counters.add(Count::Rejected, 1);
        self.refused = Some(why);
        (self.head, self.file) = (Vec::new(), None);
    }

    fn take_in(&mut self, bytes: &[u8]) -> Result<()> {
        let _gate = self.store.enter_gate()?;
        if let Some(file) = &mut self.file {
            return file.push(bytes);
        }
        if self.len < self.store.array_file_from() {
            self.head.extend_from_slice(bytes);
            return Ok(());
        }
        let room = self.len.saturating_mul(2).min(self.store.largest_value()).max(self.len);
        let array = Some(self.descriptor()?);
        let mut file = Incoming::begin_as(self.store, self.terms.hash, &self.key, array, room)?;
        file.push(&std::mem::take(&mut self.head))?;
        file.push(bytes)?;
        self.file = Some(file);
        Ok(())
    }

    /// Stores the rows.
    ///
    /// # Errors
    /// As of [`Engine`](crate::Engine); [`Error::Io`] if an earlier call failed.
    pub fn commit(mut self) -> Result<Outcome> {
        self.check_failed()?;
        if let Some(why) = self.refused {
            return Ok(Outcome::Rejected(why));
        }
        let descriptor = self.descriptor()?;
        self.store.charge(self.len);
        let done = match self.file.take() {
            None => {
                let array = ArrayRef::described(descriptor, &self.head)?;
                self.store.put_array(&self.key, &array, &self.terms)
            }
            Some(mut file) => {
                file.describe(descriptor);
                put_file(self.store, file, &self.key, &self.terms)
            }
        };
        let options = Put { when_short: self.when_short, ..Put::default() };
        self.store.outcome_of(done, &self.key, self.len, &options)
    }
}

impl<T> fmt::Debug for ArrayAppender<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ArrayAppender")
            .field("shape", &self.shape)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}
