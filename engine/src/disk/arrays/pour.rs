//! Arrays of any type whose bytes come in pieces, from files of others or from elements that are
//! packed on their way.
//!
//! # Invariants
//! 1. No lock is held, and no epoch pinned, while the source makes its pieces.
//! 2. The key has its old value until all of the new one is there, and the source has no more to
//!    say against it.
//! 3. Of an array with a file of its own, no more than a chunk is kept here.

use larder_format::ArrayDescriptor;

use super::super::Disk;
use super::super::counters::Count;
use super::super::incoming::Incoming;
use super::super::space::{plain, with_tags};
use super::super::store::Store;
use super::CODEC;
use super::reserve::put_file;
use crate::array::{ArrayError, ArrayRef};
use crate::engine::{Outcome, Put, Rejection};
use crate::error::{Error, Result};

impl Disk {
    /// Stores an array whose data `source` hands to the function that it gets, piece by piece, as
    /// many bytes in all as the descriptor says. If it fails, nothing is stored. An array that
    /// is refused leaves it uncalled.
    pub(crate) fn pour_array(
        &self,
        key: &[u8],
        descriptor: &ArrayDescriptor,
        options: &Put<'_>,
        source: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
    ) -> Result<Outcome> {
        let store = self.writable()?;
        with_tags(options, None, |options| {
            let options = Put { codec: CODEC, ..*options };
            let (key, len) = (plain(key), descriptor.data_len());
            let (weight, limit) = (len.saturating_add(key.len() as u64), store.largest_value());
            if weight > limit {
                store.counters.add(Count::Rejected, 1);
                return Ok(Outcome::Rejected(Rejection::TooLarge { weight, limit }));
            }
            let expected = usize::try_from(len).unwrap_or(usize::MAX);
            if let Some(why) = store.refuse(&key, expected, options.cost)? {
                return Ok(Outcome::Rejected(why));
            }
            let done = store.pour(&key, descriptor, &options, source);
            store.outcome_of(done, &key, len, &options)
        })
    }
}

impl Store {
    fn pour(
        &self,
        key: &[u8],
        descriptor: &ArrayDescriptor,
        options: &Put<'_>,
        source: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
    ) -> Result<Outcome> {
        let terms = self.terms(key, options)?;
        let len = descriptor.data_len();
        if len < self.array_file_from() {
            let mut data = Vec::new();
            source(&mut |piece| {
                data.extend_from_slice(piece);
                Ok(())
            })?;
            return self.put_array(key, &ArrayRef::described(*descriptor, &data)?, &terms);
        }
        let begun = self
            .enter_gate()
            .and_then(|_gate| Incoming::begin_as(self, terms.hash, key, Some(*descriptor), len));
        let mut file = begun?;
        let mut poured = 0_u64;
        source(&mut |piece| {
            poured = poured.saturating_add(piece.len() as u64);
            check_len(descriptor, poured, poured > len)?;
            let _gate = self.enter_gate()?;
            file.push(piece)
        })?;
        check_len(descriptor, poured, poured != len)?;
        put_file(self, file, key, &terms)
    }
}

fn check_len(descriptor: &ArrayDescriptor, found: u64, is_wrong: bool) -> Result<()> {
    if !is_wrong {
        return Ok(());
    }
    let (shape, needed) = (descriptor.shape().to_vec(), descriptor.data_len());
    Err(Error::Array(ArrayError::Length { shape, needed, found }))
}
