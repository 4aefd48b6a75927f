//! The entries of an index, one after the other.

use std::fmt;
use std::iter::FusedIterator;

use super::Index;
use super::order::Order;
use crate::codec::{Auto, Codec};
use crate::error::Result;
use crate::key::{KeyDecode, KeyEncode};

/// The entries of an [`Index`], from both ends: see [`Index::iter`].
pub struct Entries<K, V, C = Auto> {
    index: Index<K, V, C>,
    /// As it was; its bounds come closer from both ends.
    order: Order,
}

impl<K, V, C> Entries<K, V, C> {
    pub(super) const fn new(index: Index<K, V, C>, order: Order) -> Self {
        Self { index, order }
    }
}

impl<K: KeyEncode + KeyDecode, V, C: Codec<V>> Entries<K, V, C> {
    fn step(&mut self, is_back: bool) -> Result<Option<(K, V)>> {
        loop {
            let (plot, order) = (&self.index.plot, &mut self.order);
            let found = match is_back {
                false => order.next(plot, 0)?.inspect(|number| order.head = number + 1),
                true => order.previous(plot, u64::MAX)?.inspect(|number| order.tail = *number),
            };
            let Some(number) = found else {
                order.head = order.tail;
                return Ok(None);
            };
            if let Some(pair) = self.index.pair(&self.order, number)? {
                return Ok(Some(pair));
            }
        }
    }
}

impl<K: KeyEncode + KeyDecode, V, C: Codec<V>> Iterator for Entries<K, V, C> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(false).transpose()
    }
}

impl<K: KeyEncode + KeyDecode, V, C: Codec<V>> DoubleEndedIterator for Entries<K, V, C> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(true).transpose()
    }
}

impl<K: KeyEncode + KeyDecode, V, C: Codec<V>> FusedIterator for Entries<K, V, C> {}

impl<K, V, C> fmt::Debug for Entries<K, V, C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Entries").finish_non_exhaustive()
    }
}
