//! The items of a deque, one after the other.

use std::fmt;
use std::iter::FusedIterator;

use super::Deque;
use super::shape::Shape;
use crate::codec::{Auto, Codec};
use crate::error::Result;

/// The items of a [`Deque`], from both ends: see [`Deque::iter`].
pub struct Items<T, C = Auto> {
    deque: Deque<T, C>,
    shape: Shape,
    front: u64,
    back: u64,
}

impl<T, C> Items<T, C> {
    pub(super) const fn new(deque: Deque<T, C>, shape: Shape) -> Self {
        let back = shape.len();
        Self { deque, shape, front: 0, back }
    }
}

impl<T, C: Codec<T>> Items<T, C> {
    fn at(&self, index: u64) -> Option<Result<T>> {
        let number = self.shape.at(index)?;
        self.deque.item(self.shape.era, number).transpose()
    }
}

impl<T, C: Codec<T>> Iterator for Items<T, C> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        while self.front < self.back {
            let index = self.front;
            self.front += 1;
            if let Some(item) = self.at(index) {
                return Some(item);
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.back - self.front).ok())
    }
}

impl<T, C: Codec<T>> DoubleEndedIterator for Items<T, C> {
    fn next_back(&mut self) -> Option<Result<T>> {
        while self.front < self.back {
            self.back -= 1;
            if let Some(item) = self.at(self.back) {
                return Some(item);
            }
        }
        None
    }
}

impl<T, C: Codec<T>> FusedIterator for Items<T, C> {}

impl<T, C> fmt::Debug for Items<T, C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Items").field("left", &(self.back - self.front)).finish_non_exhaustive()
    }
}
