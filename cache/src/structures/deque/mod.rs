//! A queue with two ends.
//!
//! ```text
//! root            which numbers the items have (`shape.rs`)
//! i era number    an item, behind what codec made it; both as u64, little-endian
//! ```
//!
//! Whoever reads an item looks afterwards whether the root is as it was: so a number that was given to
//! another item meanwhile is not taken for the old one. An item that is missing under a root that has
//! not changed is damaged, and taken out.

mod iter;
mod shape;

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use larder_engine::Value;

use super::ground::{Edits, Plot, Seen, Step, pack, unpack};
use crate::codec::{Auto, Codec};
use crate::error::Result;
pub use iter::Items;
use shape::{Shape, Side};

/// Damaged items that are taken out in one batch.
const SKIP_MAX: usize = 32;
/// Items that are added or moved in one batch, and their bytes.
const BATCH_MAX: usize = 64;
const BATCH_BYTES: usize = 256 << 10;
/// Records that are removed beside another change, and where that is all that is to be done.
const SWEEP: u64 = 16;
const SWEEP_ALL: u64 = 256;
/// Places in the middle that may be empty before they are closed.
const GAPS_MAX: usize = 256;

/// A queue with two ends that survives restarts: items are added and taken at either, and looked at in
/// any position.
///
/// ```
/// use larder::structures::Structures;
///
/// let deque = Structures::in_memory(1 << 20)?.deque::<char>("letters")?;
/// deque.extend("abcde".chars())?;
/// assert_eq!((deque.front()?, deque.get(-2)?), (Some('a'), Some('d')));
/// deque.rotate(2)?;
/// assert_eq!(deque.iter()?.collect::<Result<String, _>>()?, "deabc");
/// assert_eq!(deque.pop_back()?, Some('c'));
/// # Ok::<(), larder::Error>(())
/// ```
///
/// Adding and taking at an end, looking at a position, reversing and clearing take time independent of
/// the number of items; other operations say what they take.
///
/// # Errors
/// All methods: what the store said; [`Error::Rejected`](crate::Error::Rejected) if it is full;
/// [`Error::Decode`](crate::Error::Decode) where an item was written by another codec. An item
/// that cannot be read for any other reason is passed over and counted: [`lost`](Self::lost).
pub struct Deque<T, C = Auto> {
    plot: Plot,
    codec: Arc<C>,
    types: PhantomData<fn() -> T>,
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl<T, C: Codec<T>> Deque<T, C> {
    pub(super) fn new(plot: Plot, codec: C) -> Self {
        Self { plot, codec: Arc::new(codec), types: PhantomData }
    }

    /// Number of items.
    pub fn len(&self) -> Result<u64> {
        Ok(self.shape()?.root.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Items that could not be read, and were taken out.
    pub fn lost(&self) -> Result<u64> {
        Ok(self.shape()?.root.lost)
    }

    /// Most items that it holds, if there is a bound.
    pub fn max_len(&self) -> Result<Option<u64>> {
        Ok(self.shape()?.root.max_len)
    }

    /// Sets the most items that it holds, for all handles and for good: more are taken out from the
    /// front, now, and later at the end opposite to the one where an item is added.
    pub fn set_max_len(&self, max_len: Option<u64>) -> Result<()> {
        self.change(|shape, _| {
            shape.max_len = max_len;
            shape.keep_last(max_len.unwrap_or(u64::MAX));
            Ok(Step::Done(()))
        })?;
        self.sweep()
    }

    /// Adds an item at the back.
    pub fn push_back(&self, item: T) -> Result<()> {
        self.push(&item, Side::Back)
    }

    /// Adds an item at the front.
    pub fn push_front(&self, item: T) -> Result<()> {
        self.push(&item, Side::Front)
    }

    fn push(&self, item: &T, side: Side) -> Result<()> {
        self.add(&[pack(&*self.codec, &[], item)?], side)
    }

    /// Adds items at the back, one after the other. Some of them are added at one moment: up to 64, or
    /// 256 KiB.
    pub fn extend(&self, items: impl IntoIterator<Item = T>) -> Result<()> {
        self.extend_at(items, Side::Back)
    }

    /// Adds items at the front, one before the other: the last comes to be the first.
    pub fn extend_front(&self, items: impl IntoIterator<Item = T>) -> Result<()> {
        self.extend_at(items, Side::Front)
    }

    fn extend_at(&self, items: impl IntoIterator<Item = T>, side: Side) -> Result<()> {
        let (mut packed, mut bytes) = (Vec::new(), 0);
        for item in items {
            let item = pack(&*self.codec, &[], &item)?;
            bytes += item.len();
            packed.push(item);
            if packed.len() == BATCH_MAX || bytes >= BATCH_BYTES {
                self.add(&packed, side)?;
                packed.clear();
                bytes = 0;
            }
        }
        if packed.is_empty() { Ok(()) } else { self.add(&packed, side) }
    }

    fn add(&self, items: &[Vec<u8>], side: Side) -> Result<()> {
        self.change(|shape, edits| {
            if shape.max_len == Some(0) {
                return Ok(Step::Done(()));
            }
            for item in items {
                let number = shape.add(side);
                edits.put(part(shape.era, number), item.clone());
                while shape.max_len.is_some_and(|max_len| shape.len() > max_len)
                    && let Some(over) = shape.end(side.other())
                {
                    shape.remove(over);
                    edits.remove(part(shape.era, over));
                }
            }
            Ok(Step::Done(()))
        })
    }

    /// Takes the last item out.
    pub fn pop_back(&self) -> Result<Option<T>> {
        self.pop(Side::Back)
    }

    /// Takes the first item out.
    pub fn pop_front(&self) -> Result<Option<T>> {
        self.pop(Side::Front)
    }

    fn pop(&self, side: Side) -> Result<Option<T>> {
        self.change(|shape, edits| {
            for _ in 0..SKIP_MAX {
                let Some(number) = shape.end(side) else { return Ok(Step::Done(None)) };
                let found = self.item(shape.era, number)?;
                shape.remove(number);
                edits.remove(part(shape.era, number));
                if found.is_some() {
                    return Ok(Step::Done(found));
                }
                shape.lost += 1;
            }
            Ok(Step::Again)
        })
    }

    /// The first item.
    pub fn front(&self) -> Result<Option<T>> {
        self.get(0)
    }

    /// The last item.
    pub fn back(&self) -> Result<Option<T>> {
        self.get(-1)
    }

    /// The item in a position; negative ones count from the back, so that -1 is the last.
    pub fn get(&self, index: i64) -> Result<Option<T>> {
        loop {
            let Seen { root: shape, expected } = self.shape()?;
            let Some(number) = position(&shape, index) else { return Ok(None) };
            let found = self.item(shape.era, number)?;
            if !self.plot.is_still(expected)? {
                continue;
            }
            if found.is_some() {
                return Ok(found);
            }
            self.mend(shape.era, number)?;
        }
    }

    /// Puts another item in a position. Whether there is one.
    pub fn set(&self, index: i64, item: T) -> Result<bool> {
        let item = pack(&*self.codec, &[], &item)?;
        self.change(|shape, edits| {
            let number = position(shape, index);
            if let Some(number) = number {
                edits.put(part(shape.era, number), item.clone());
            }
            Ok(Step::Done(number.is_some()))
        })
    }

    /// Takes the item in a position out; those behind it move up. What that leaves empty in the middle is
    /// closed when there are many of it, by moving the items of the shorter side, one by one.
    pub fn remove(&self, index: i64) -> Result<Option<T>> {
        let removed = self.change(|shape, edits| {
            for _ in 0..SKIP_MAX {
                let Some(number) = position(shape, index) else { return Ok(Step::Done(None)) };
                let found = self.item(shape.era, number)?;
                shape.remove(number);
                edits.remove(part(shape.era, number));
                if found.is_some() {
                    return Ok(Step::Done(found));
                }
                shape.lost += 1;
            }
            Ok(Step::Again)
        })?;
        self.close_gaps()?;
        Ok(removed)
    }

    /// Takes the first item out that equals this one. Whether there was one. Reads all before it.
    pub fn remove_value(&self, item: &T) -> Result<bool>
    where
        T: PartialEq,
    {
        let removed = self.change(|shape, edits| {
            let numbers: Vec<u64> = (0..shape.len()).map_while(|index| shape.at(index)).collect();
            for number in numbers {
                if self.item(shape.era, number)?.is_some_and(|found| found == *item) {
                    shape.remove(number);
                    edits.remove(part(shape.era, number));
                    return Ok(Step::Done(true));
                }
            }
            Ok(Step::Done(false))
        })?;
        self.close_gaps()?;
        Ok(removed)
    }

    /// Moves so many items, one by one, from the back to the front; from the front to the back if it is
    /// negative. Takes as many steps as the shorter way round. Up to 64 items, or 256 KiB, move
    /// at one moment.
    pub fn rotate(&self, by: i64) -> Result<()> {
        let len = i64::try_from(self.len()?).unwrap_or(i64::MAX);
        if len < 2 {
            return Ok(());
        }
        let right = by.rem_euclid(len);
        let (mut left, side) =
            if 2 * right <= len { (right, Side::Back) } else { (len - right, Side::Front) };
        while left > 0 {
            left -= self.change(|shape, edits| {
                let (mut moved, mut bytes) = (0, 0);
                while moved < left.min(BATCH_MAX as i64) && bytes < BATCH_BYTES {
                    let Some(from) = shape.end(side) else { break };
                    let item = self.plot.part(&part(shape.era, from))?;
                    shape.remove(from);
                    edits.remove(part(shape.era, from));
                    match item {
                        Some(item) => {
                            bytes += item.len();
                            let to = shape.add(side.other());
                            edits.put(part(shape.era, to), item.to_vec());
                        }
                        None => shape.lost += 1,
                    }
                    moved += 1;
                }
                Ok(Step::Done(moved.max(1)))
            })?;
        }
        Ok(())
    }

    /// Turns the order round.
    pub fn reverse(&self) -> Result<()> {
        self.change(|shape, _| {
            shape.reverse();
            Ok(Step::Done(()))
        })
    }

    /// Takes all items out, at one moment, and says how many that were. Their records are removed
    /// afterwards; should the process die meanwhile, then by whoever changes the deque next.
    pub fn clear(&self) -> Result<u64> {
        let len = self.change(|shape, _| Ok(Step::Done(shape.clear())))?;
        self.sweep()?;
        Ok(len)
    }

    /// The items in their order, from both ends. They are read as they are asked for: what was there
    /// when this was called and is taken out meanwhile may come or not, and what is added does not.
    pub fn iter(&self) -> Result<Items<T, C>> {
        Ok(Items::new(self.clone(), self.shape()?.root))
    }

    /// How many items equal this one.
    pub fn count(&self, item: &T) -> Result<u64>
    where
        T: PartialEq,
    {
        self.iter()?.try_fold(0, |count, found| Ok(count + u64::from(found? == *item)))
    }

    /// Whether an item equals this one.
    pub fn contains(&self, item: &T) -> Result<bool>
    where
        T: PartialEq,
    {
        for found in self.iter()? {
            if found? == *item {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether it has these items, in this order.
    pub fn equals(&self, items: impl IntoIterator<Item = T>) -> Result<bool>
    where
        T: PartialEq,
    {
        let mut items = items.into_iter();
        for own in self.iter()? {
            if items.next() != Some(own?) {
                return Ok(false);
            }
        }
        Ok(items.next().is_none())
    }

    /// How it compares with other items: as the first does that differs, or as its length does.
    /// `None` where two items do not compare.
    pub fn compare(&self, items: impl IntoIterator<Item = T>) -> Result<Option<Ordering>>
    where
        T: PartialOrd,
    {
        let mut items = items.into_iter();
        for own in self.iter()? {
            let own = own?;
            let Some(other) = items.next() else { return Ok(Some(Ordering::Greater)) };
            match own.partial_cmp(&other) {
                Some(Ordering::Equal) => {}
                decided => return Ok(decided),
            }
        }
        Ok(Some(items.next().map_or(Ordering::Equal, |_| Ordering::Less)))
    }

    fn shape(&self) -> Result<Seen<Shape>> {
        self.plot.root()
    }

    /// The item of a number; `None` if it is missing or damaged.
    fn item(&self, era: u64, number: u64) -> Result<Option<T>> {
        let found: Option<Value> = self.plot.part(&part(era, number))?;
        found.map_or(Ok(None), |found| unpack(&*self.codec, 0, &found))
    }

    /// Takes out an item that is damaged, if it still is.
    fn mend(&self, era: u64, number: u64) -> Result<()> {
        self.change(|shape, edits| {
            if shape.era == era && shape.has(number) && self.item(era, number)?.is_none() {
                shape.remove(number);
                shape.lost += 1;
                edits.remove(part(era, number));
            }
            Ok(Step::Done(()))
        })
    }

    /// Closes what has become empty in the middle, if that is too much. Each step moves one item, and
    /// none changes what anybody sees.
    fn close_gaps(&self) -> Result<()> {
        while self.shape()?.root.gap_count() > GAPS_MAX {
            self.change(|shape, edits| {
                let Some((gap, from)) = shape.closing() else { return Ok(Step::Done(())) };
                let item = self.plot.part(&part(shape.era, from))?;
                edits.remove(part(shape.era, from));
                match item {
                    Some(item) => {
                        edits.put(part(shape.era, gap), item.to_vec());
                        shape.moved(gap, from);
                    }
                    None => {
                        shape.remove(from);
                        shape.lost += 1;
                    }
                }
                Ok(Step::Done(()))
            })?;
        }
        Ok(())
    }

    /// Removes the records of all that was thrown away.
    fn sweep(&self) -> Result<()> {
        while self.shape()?.root.has_trash() {
            self.change(|shape, edits| {
                for (era, number) in shape.sweep(SWEEP_ALL) {
                    edits.remove(part(era, number));
                }
                Ok(Step::Done(()))
            })?;
        }
        Ok(())
    }

    /// Changes the deque until nobody was quicker.
    fn change<R>(
        &self,
        mut step: impl FnMut(&mut Shape, &mut Edits) -> Result<Step<R>>,
    ) -> Result<R> {
        loop {
            let Seen { root: before, expected } = self.shape()?;
            let (mut shape, mut edits) = (before.clone(), Edits::default());
            let outcome = step(&mut shape, &mut edits)?;
            let is_changed = shape != before || !edits.is_empty();
            if is_changed {
                for (era, number) in shape.sweep(SWEEP) {
                    edits.remove(part(era, number));
                }
            }
            let took_place = !is_changed || self.plot.commit(expected, &shape, &edits)?;
            if let (true, Step::Done(done)) = (took_place, outcome) {
                return Ok(done);
            }
        }
    }
}

/// What an item is stored under.
fn part(era: u64, number: u64) -> Vec<u8> {
    [b"i", &era.to_le_bytes()[..], &number.to_le_bytes()].concat()
}

/// The number of the item in a position, from the front or, if negative, from the back.
fn position(shape: &Shape, index: i64) -> Option<u64> {
    match u64::try_from(index) {
        Ok(index) => shape.at(index),
        Err(_) => shape.at(shape.len().checked_sub(index.unsigned_abs())?),
    }
}

impl<T, C> Clone for Deque<T, C> {
    fn clone(&self) -> Self {
        Self { plot: self.plot.clone(), codec: Arc::clone(&self.codec), types: PhantomData }
    }
}

impl<T, C> fmt::Debug for Deque<T, C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Deque").field("name", &self.plot.name).finish_non_exhaustive()
    }
}
