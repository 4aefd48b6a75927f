//! Storing an array that is in memory: its bytes go from there to where they stay, once.

use std::borrow::Cow;

use larder_format::{ExternalClass, Flags};

use super::super::Disk;
use super::super::counters::Count;
use super::super::observer::Event;
use super::super::ops::{Offer, Terms};
use super::super::space::{plain, with_tags};
use super::super::store::Store;
use super::super::timing::Timed;
use super::CODEC;
use crate::array::{ArrayRef, uncompressed};
use crate::clock::is_live;
use crate::engine::{Outcome, Put, Rejection};
use crate::error::{Error, Result};

impl Disk {
    /// Stores an array under `key`. Its bytes are copied once, to where they stay: into the log,
    /// aligned; or, from 16 MiB on ([unless set](crate::DiskBuilder::array_file_from), or a quarter
    /// of a [segment](crate::DiskBuilder::segment_len), if that is less), into a file of its own
    /// that NumPy opens.
    ///
    /// Expiry, tags, durability and cost are as of every put; the codec is
    /// [`CodecId::ARRAY`](crate::CodecId::ARRAY), whatever `options` say.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
    /// use larder_engine::{ArrayRef, Put};
    ///
    /// let flags = [true, false, true];
    /// assert!(disk.put_array(b"key", &ArrayRef::new(&flags, &[3])?, &Put::default())?.is_admitted());
    /// let view = disk.get_array::<bool>(b"key")?.ok_or("just put")?;
    /// assert_eq!(view.as_slice()?, flags);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Engine::put`](crate::Engine::put).
    pub fn put_array(
        &self,
        key: &[u8],
        array: &ArrayRef<'_>,
        options: &Put<'_>,
    ) -> Result<Outcome> {
        with_tags(options, None, |options| self.put_array_stored(&plain(key), array, options))
    }

    /// As [`put_array`](Self::put_array), under a key as it is stored.
    pub(in super::super) fn put_array_stored(
        &self,
        key: &[u8],
        array: &ArrayRef<'_>,
        options: &Put<'_>,
    ) -> Result<Outcome> {
        let store = self.writable()?;
        let len = array.data().len();
        if let Some(why) = store.refuse(key, len, options.cost)? {
            return Ok(Outcome::Rejected(why));
        }
        let options = Put { codec: CODEC, ..*options };
        let terms = self.store.terms(key, &options)?;
        let put = || self.store.put_array(key, array, &terms);
        let done = self.store.upkeep.timings.time(Timed::Put, put);
        self.store.outcome_of(done, key, len as u64, &options)
    }
}

impl Store {
    /// Bytes of data from which an array has a file of its own.
    pub(super) fn array_file_from(&self) -> u64 {
        self.array_file_from.min(u64::from(self.file.superblock().segment_len) / 4)
    }

    /// What becomes of a put that there was no room for.
    pub(super) fn outcome_of(
        &self,
        done: Result<Outcome>,
        key: &[u8],
        len: u64,
        options: &Put<'_>,
    ) -> Result<Outcome> {
        match done {
            Err(Error::Full { needed, budget }) => {
                self.counters.add(Count::Rejected, 1);
                self.upkeep.observed.note(|| Event::Full { needed, budget });
                Ok(Outcome::Rejected(Rejection::Full { needed, budget }))
            }
            Err(Error::Blocked { .. }) => {
                self.refund(key.len(), len);
                Ok(self.blocked(options.when_short))
            }
            done => done,
        }
    }

    /// Puts an array under terms.
    pub(super) fn put_array(
        &self,
        key: &[u8],
        array: &ArrayRef<'_>,
        terms: &Terms,
    ) -> Result<Outcome> {
        self.check_open()?;
        let weight = (key.len() as u64).saturating_add(array.data().len() as u64);
        let limit = self.largest_value();
        if weight > limit {
            self.counters.add(Count::Rejected, 1);
            return Ok(Outcome::Rejected(Rejection::TooLarge { weight, limit }));
        }
        let now_ms = self.clock.now_ms();
        let expires_at_ms = terms.ttl.deadline_ms(now_ms, self.ttl);
        if !is_live(expires_at_ms, now_ms) {
            // Dead on arrival: what counts is that the old value goes.
            return self.put_under(key, &[], terms, None);
        }
        let descriptor = uncompressed(array.descriptor());
        let (stored, class) = match packed(array) {
            Some(packed) => (Cow::Owned(packed), ExternalClass::Value),
            None => (Cow::Borrowed(array.data()), ExternalClass::Array),
        };
        let saved = array.data().len().saturating_sub(stored.len());
        let encoded = descriptor.encode();
        // What is compressed has its descriptor in front already.
        let (head, value) = match class {
            ExternalClass::Value => stored.split_at(encoded.len().min(stored.len())),
            ExternalClass::Array => (&*encoded, &*stored),
        };
        let (mut change, mut draft) = terms.change(key, value, expires_at_ms, now_ms);
        change.head = head;
        draft.flags = Flags::ARRAY;
        let mut named = None;
        let (reference, _gate);
        if stored.len() as u64 >= self.array_file_from() {
            _gate = self.enter_gate()?;
            (change.head, change.value) = (&[], &stored);
            let array = Some(&descriptor).filter(|_| class == ExternalClass::Array);
            let external = self.put_external(&change, array, terms.durable)?;
            reference = external.encode();
            change.value = &reference;
            draft.flags = draft.flags.with(Flags::EXTERNAL);
            named = Some(external);
        }
        let offer = Offer { named, saved, weight, durable: terms.durable };
        self.publish(&change, draft, &offer, None, None)
    }
}

/// What is stored of an array that is to be compressed, if that saves enough.
#[cfg(feature = "zstd")]
fn packed(array: &ArrayRef<'_>) -> Option<Vec<u8>> {
    array.is_compressed().then(|| crate::array::pack(array.descriptor(), array.data()))?
}

#[cfg(not(feature = "zstd"))]
const fn packed(_: &ArrayRef<'_>) -> Option<Vec<u8>> {
    None
}
