//! Arrays that are computed where they are to lie.
//!
//! An array with a file of its own is computed in it: the file has its length and all its blocks
//! from the start, and is mapped for one thread alone, under a temporary name. What is summed at
//! the end is what the page cache holds; not a byte is copied.
//!
//! A smaller one goes to the log, and is computed on the heap and copied there once, at the end.
//! To compute it in the log would keep a lane, and so other writers, waiting for as long as that
//! takes, and with it every sync; to copy it costs less than to sum it.
//!
//! # Invariants
//! 1. No lock is held, and no epoch pinned, while the caller computes.
//! 2. A guard that is dropped, by a panic or without a commit, leaves nothing behind; what a death
//!    leaves is swept by the next opening.

use std::fmt;
use std::marker::PhantomData;

use larder_format::{ArrayDescriptor, ExternalClass, Flags, Order};

use super::super::Disk;
use super::super::counters::Count;
use super::super::incoming::Incoming;
use super::super::ops::Terms;
use super::super::space::{plain, with_tags};
use super::super::store::Store;
use super::super::whole::Unborn;
use super::CODEC;
use crate::array::{ArrayError, ArrayRef, Element};
use crate::engine::{Outcome, Put, Rejection, WhenShort};
use crate::error::{Error, Result};

impl Disk {
    /// Begins an array in C order that is computed where it is to lie: zeros at first. Nothing
    /// of it is seen before it is committed.
    ///
    /// An array that the store will not take is computed all the same, on the heap, and its
    /// commit says why it was refused.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
    /// use larder_engine::Put;
    ///
    /// let mut squares = disk.reserve_array::<u64>(b"key", &[2, 5], &Put::default())?;
    /// for (number, place) in (0..).zip(squares.as_mut_slice()) {
    ///     *place = number * number;
    /// }
    /// assert!(disk.get_array::<u64>(b"key")?.is_none());
    /// assert!(squares.commit()?.is_admitted());
    /// let view = disk.get_array::<u64>(b"key")?.ok_or("just committed")?;
    /// assert_eq!(view.get(&[1, 4])?, Some(81));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Engine`](crate::Engine); [`ArrayError::Impossible`] as of [`ArrayRef::new`].
    pub fn reserve_array<T: Element>(
        &self,
        key: &[u8],
        shape: &[usize],
        options: &Put<'_>,
    ) -> Result<ReservedArray<'_, T>> {
        self.writable()?;
        let shape: Vec<u64> = shape.iter().map(|axis| *axis as u64).collect();
        let item_len = u32::try_from(size_of::<T>()).unwrap_or(u32::MAX);
        let descriptor = ArrayDescriptor::new(T::DTYPE, item_len, Order::C, &shape)
            .map_err(ArrayError::Impossible)?;
        with_tags(options, None, |options| {
            let options = Put { codec: CODEC, ..*options };
            ReservedArray::begin(&self.store, plain(key).into_owned(), descriptor, &options)
        })
    }
}

/// Bytes of an array in its file that are made writable ahead: more might have to leave memory
/// again before they are written to.
const READY: usize = 256 << 20;

/// Where an array is computed.
enum Place<'a> {
    /// In its file. The map comes first, so that it goes first.
    File(Unborn, Box<Incoming<'a>>),
    Heap(Unborn),
}

/// An array that is being computed, from [`Disk::reserve_array`]. Dropped before it is committed,
/// it vanishes.
#[must_use = "what is not committed vanishes"]
pub struct ReservedArray<'a, T> {
    store: &'a Store,
    key: Vec<u8>,
    terms: Terms,
    descriptor: ArrayDescriptor,
    when_short: Option<WhenShort>,
    refused: Option<Rejection>,
    place: Place<'a>,
    elements: PhantomData<T>,
}

impl<'a, T: Element> ReservedArray<'a, T> {
    fn begin(
        store: &'a Store,
        key: Vec<u8>,
        descriptor: ArrayDescriptor,
        options: &Put<'_>,
    ) -> Result<Self> {
        store.check_open()?;
        let terms = store.terms(&key, options)?;
        let no_memory = || ArrayError::NoMemory { len: descriptor.data_len() };
        let len = usize::try_from(descriptor.data_len()).map_err(|_| no_memory())?;
        let weight = (len as u64).saturating_add(key.len() as u64);
        let limit = store.largest_value();
        let mut refused = if weight > limit {
            Some(Rejection::TooLarge { weight, limit })
        } else {
            store.refuse(&key, len, options.cost)?
        };
        let in_file = refused.is_none()
            && len as u64 >= store.array_file_from()
            && !store.storage.is_buffered();
        let mut place = None;
        if in_file {
            let _gate = store.enter_gate()?;
            let array = Some(descriptor);
            match Incoming::begin_as(store, terms.hash, &key, array, len as u64) {
                Ok(file) => {
                    let map = file.map()?;
                    map.make_ready(READY);
                    place = Some(Place::File(map, Box::new(file)));
                }
                Err(Error::Full { needed, budget }) => {
                    refused = Some(Rejection::Full { needed, budget });
                }
                Err(error) => return Err(error),
            }
        }
        let place = match place {
            Some(place) => place,
            None => Place::Heap(Unborn::on_heap(len).map_err(|_| no_memory())?),
        };
        let (when_short, elements) = (options.when_short, PhantomData);
        Ok(Self { store, key, terms, descriptor, when_short, refused, place, elements })
    }

    /// The elements, to be computed; in C order.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        let len = usize::try_from(self.descriptor.data_len()).unwrap_or(0);
        let bytes = match &mut self.place {
            Place::File(map, _) => {
                let at = usize::try_from(ExternalClass::Array.data_at()).unwrap_or(0);
                map.bytes_mut().get_mut(at..at + len).unwrap_or_default()
            }
            Place::Heap(heap) => heap.bytes_mut(),
        };
        if bytes.is_empty() { &mut [] } else { T::of_bytes_mut(bytes).unwrap_or_default() }
    }

    /// Length of each axis in elements, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        self.descriptor.shape()
    }

    /// Whether it is computed in the file that it is to lie in.
    #[must_use]
    pub const fn is_in_place(&self) -> bool {
        matches!(self.place, Place::File(..))
    }

    /// Stores what was computed.
    ///
    /// # Errors
    /// As of [`Engine`](crate::Engine).
    pub fn commit(self) -> Result<Outcome> {
        let Self { store, key, terms, descriptor, when_short, refused, place, .. } = self;
        if let Some(why) = refused {
            store.counters.add(Count::Rejected, 1);
            return Ok(Outcome::Rejected(why));
        }
        let len = descriptor.data_len();
        let done = match place {
            Place::Heap(heap) => {
                let array = ArrayRef::described(descriptor, heap.bytes())?;
                store.put_array(&key, &array, &terms)
            }
            Place::File(map, mut file) => {
                let at = usize::try_from(ExternalClass::Array.data_at()).unwrap_or(0);
                let end = at.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
                file.take(map.bytes().get(at..end).unwrap_or_default());
                if map.is_broken() {
                    return Err(file.cut_short());
                }
                drop(map);
                put_file(store, *file, &key, &terms)
            }
        };
        store.outcome_of(done, &key, len, &Put { when_short, ..Put::default() })
    }
}

/// Ends an array's file, and puts it.
pub(super) fn put_file(
    store: &Store,
    file: Incoming<'_>,
    key: &[u8],
    terms: &Terms,
) -> Result<Outcome> {
    let _gate = store.enter_gate()?;
    let named = file.finish(key, terms.durable)?;
    store.put_file(key, named, Flags::ARRAY, terms)
}

impl<T> fmt::Debug for ReservedArray<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ReservedArray")
            .field("shape", &self.descriptor.shape())
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}
