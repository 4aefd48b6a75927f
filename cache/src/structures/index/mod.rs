//! A map in the order of insertion.
//!
//! ```text
//! root            how many entries there are, and which numbers they have (`order.rs`)
//! k era key       an entry: its number as u64, little-endian; what codec made the value; the value
//! n era number    the key that has this number
//! p era page      which of 64 numbers are taken, as u64
//! ```
//!
//! To come and to go changes the root; to replace a value changes its entry alone, as long as
//! that is as it was seen. An entry is one as long as its number is taken by its key.

mod iter;
mod order;

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use larder_engine::{Expected, Value};

use super::ground::{Edits, Plot, Seen, Step, pack, unpack};
use crate::codec::{Auto, Codec};
use crate::error::Result;
use crate::key::{KeyBuf, KeyDecode, KeyEncode, KeyReader};
pub use iter::Entries;
use order::{Order, entry_part, key_part, page_part};

/// Records that are removed beside another change, and where that is all that is to be done.
const SWEEP: u64 = 8;
const SWEEP_ALL: u64 = 128;
/// Bytes of an entry before what codec made the value.
const HEAD: usize = 8;

/// A map that survives restarts and remembers the order in which its keys came: a value that replaces
/// another has its position.
///
/// ```
/// use larder::structures::Structures;
///
/// let index = Structures::in_memory(1 << 20)?.index::<String, u32>("ages")?;
/// index.insert("Ada", 36)?;
/// index.insert("Alan", 41)?;
/// assert_eq!(index.insert("Ada", 37)?, Some(36));
/// assert_eq!(index.pop_first()?, Some(("Ada".to_owned(), 37)));
/// assert_eq!(index.iter()?.rev().next().transpose()?, Some(("Alan".to_owned(), 41)));
/// # Ok::<(), larder::Error>(())
/// ```
///
/// Finding, inserting, removing, and taking at either end take time independent of the number of
/// entries, but for passing over what was removed: one look for each 64.
///
/// # Errors
/// All methods: what the store said; [`Error::Rejected`](crate::Error::Rejected) if it is full;
/// [`Error::Decode`](crate::Error::Decode) where a value was written by another codec. An entry
/// that cannot be read for any other reason is passed over and counted: [`lost`](Self::lost).
pub struct Index<K, V, C = Auto> {
    plot: Plot,
    codec: Arc<C>,
    types: PhantomData<fn(K) -> V>,
}

/// What is stored under a key.
struct Entry {
    number: u64,
    expected: Expected,
    stored: Value,
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl<K, V, C> Index<K, V, C>
where
    K: KeyEncode + KeyDecode,
    C: Codec<V>,
{
    pub(super) fn new(plot: Plot, codec: C) -> Self {
        Self { plot, codec: Arc::new(codec), types: PhantomData }
    }

    /// Number of entries.
    pub fn len(&self) -> Result<u64> {
        Ok(self.order()?.root.len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Entries that could not be read, and were taken out.
    pub fn lost(&self) -> Result<u64> {
        Ok(self.order()?.root.lost)
    }

    /// The value of a key.
    pub fn get<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let key = encoded(key);
        loop {
            let Seen { root: order, expected } = self.order()?;
            match self.entry(&order, &key)? {
                Some(entry) => return unpack(&*self.codec, HEAD, &entry.stored),
                // It may have been cleared, and have come again since the root was read.
                None if !self.plot.is_still(expected)? => {}
                None => return Ok(None),
            }
        }
    }

    /// Whether a key has a value.
    pub fn contains<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        Ok(self.get(key)?.is_some())
    }

    /// Gives a key a value, and returns the one that it had. A new key comes last; one that had a
    /// value stays where it is.
    pub fn insert<Q>(&self, key: &Q, value: V) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let key = encoded(key);
        loop {
            let Seen { root: order, expected } = self.order()?;
            if let Some(entry) = self.linked(&order, &key)? {
                let bytes = pack(&*self.codec, &entry.number.to_le_bytes(), &value)?;
                if self.plot.swap(&self.part_of(&order, &key), entry.expected, &bytes)? {
                    return unpack(&*self.codec, HEAD, &entry.stored);
                }
            } else if self.add(&order, expected, &key, &value)? {
                return Ok(None);
            }
        }
    }

    /// Gives keys values, one after the other.
    pub fn extend(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<()> {
        entries.into_iter().try_for_each(|(key, value)| self.insert(&key, value).map(|_| ()))
    }

    /// The value of a key, or else what `make` returns, which it has from then on. If others were
    /// quicker meanwhile, theirs is returned.
    pub fn get_or_insert_with<Q>(&self, key: &Q, make: impl FnOnce() -> V) -> Result<V>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let key = encoded(key);
        let (mut make, mut made) = (Some(make), None);
        loop {
            let Seen { root: order, expected } = self.order()?;
            if let Some(entry) = self.linked(&order, &key)?
                && let Some(value) = unpack(&*self.codec, HEAD, &entry.stored)?
            {
                return Ok(value);
            }
            if made.is_none() {
                made = make.take().map(|make| make());
            }
            if let Some(value) = made.take() {
                if self.add(&order, expected, &key, &value)? {
                    return Ok(value);
                }
                made = Some(value);
            }
        }
    }

    /// Removes a key and returns its value.
    pub fn remove<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let key = encoded(key);
        self.change(|order, edits| {
            let Some(entry) = self.entry(order, &key)? else { return Ok(Step::Done(None)) };
            let value = unpack(&*self.codec, HEAD, &entry.stored)?;
            order.lost += u64::from(value.is_none());
            edits.remove(self.part_of(order, &key));
            if order.has(&self.plot, entry.number)? {
                order.remove(&self.plot, entry.number, edits)?;
            }
            Ok(Step::Done(value))
        })
    }

    /// Takes out the entry that came first.
    pub fn pop_first(&self) -> Result<Option<(K, V)>> {
        self.pop(|order| order.next(&self.plot, 0))
    }

    /// Takes out the entry that came last.
    pub fn pop_last(&self) -> Result<Option<(K, V)>> {
        self.pop(|order| order.previous(&self.plot, u64::MAX))
    }

    fn pop(&self, find: impl Fn(&Order) -> Result<Option<u64>>) -> Result<Option<(K, V)>> {
        self.change(|order, edits| {
            let Some(number) = find(order)? else {
                // What is left of the count was lost with its places.
                order.lost += std::mem::take(&mut order.len);
                return Ok(Step::Done(None));
            };
            let mut pair = None;
            if let Some((key, entry)) = self.numbered(order, number)? {
                edits.remove(self.part_of(order, &key));
                pair = decoded(&key).zip(unpack(&*self.codec, HEAD, &entry.stored)?);
            }
            order.lost += u64::from(pair.is_none());
            order.remove(&self.plot, number, edits)?;
            // A page says what is taken only once this has taken place.
            Ok(pair.map_or(Step::Again, |pair| Step::Done(Some(pair))))
        })
    }

    /// The entry that came first.
    pub fn first(&self) -> Result<Option<(K, V)>> {
        self.iter()?.next().transpose()
    }

    /// The entry that came last.
    pub fn last(&self) -> Result<Option<(K, V)>> {
        self.iter()?.next_back().transpose()
    }

    /// Removes all entries, at one moment, and says how many that were. Their records are removed
    /// afterwards; should the process die meanwhile, then by whoever changes the index next.
    pub fn clear(&self) -> Result<u64> {
        let len = self.change(|order, _| Ok(Step::Done(order.clear())))?;
        while self.order()?.root.has_trash() {
            self.change(|order, edits| {
                self.sweep(order, SWEEP_ALL, edits)?;
                Ok(Step::Done(()))
            })?;
        }
        Ok(len)
    }

    /// The entries in the order in which they came, from both ends. They are read as they are asked for:
    /// what was there when this was called and goes meanwhile may come or not, and what comes meanwhile
    /// does not.
    pub fn iter(&self) -> Result<Entries<K, V, C>> {
        Ok(Entries::new(self.clone(), self.order()?.root))
    }

    /// Whether it has these entries, in this order.
    pub fn equals(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<bool>
    where
        K: PartialEq,
        V: PartialEq,
    {
        let mut entries = entries.into_iter();
        for own in self.iter()? {
            if entries.next() != Some(own?) {
                return Ok(false);
            }
        }
        Ok(entries.next().is_none())
    }

    fn order(&self) -> Result<Seen<Order>> {
        self.plot.root()
    }

    /// What the entry of a key is stored under.
    fn part_of(&self, order: &Order, key: &[u8]) -> Vec<u8> {
        self.plot.part_of(&entry_part(order.era), key)
    }

    fn entry(&self, order: &Order, key: &[u8]) -> Result<Option<Entry>> {
        let Some(stored) = self.plot.part(&self.part_of(order, key))? else { return Ok(None) };
        let Some(number) = stored.first_chunk() else { return Ok(None) };
        let expected = Expected::Version(stored.meta().version);
        Ok(Some(Entry { number: u64::from_le_bytes(*number), expected, stored }))
    }

    /// The entry of a key, if it has its place in the order.
    fn linked(&self, order: &Order, key: &[u8]) -> Result<Option<Entry>> {
        let Some(entry) = self.entry(order, key)? else { return Ok(None) };
        let owner = self.plot.part(&key_part(order.era, entry.number))?;
        Ok(owner.is_some_and(|owner| *owner == *key).then_some(entry))
    }

    /// The key of a number, and its entry.
    fn numbered(&self, order: &Order, number: u64) -> Result<Option<(Vec<u8>, Entry)>> {
        let Some(key) = self.plot.part(&key_part(order.era, number))? else { return Ok(None) };
        let entry = self.entry(order, &key)?.filter(|entry| entry.number == number);
        Ok(entry.map(|entry| (key.to_vec(), entry)))
    }

    fn pair(&self, order: &Order, number: u64) -> Result<Option<(K, V)>> {
        let Some((key, entry)) = self.numbered(order, number)? else { return Ok(None) };
        Ok(decoded(&key).zip(unpack(&*self.codec, HEAD, &entry.stored)?))
    }

    /// Adds a key that is not there. Whether the index was as it was seen.
    fn add(&self, order: &Order, expected: Expected, key: &[u8], value: &V) -> Result<bool> {
        let (mut next, mut edits) = (order.clone(), Edits::default());
        self.sweep(&mut next, SWEEP, &mut edits)?;
        let number = next.add(&self.plot, key, &mut edits)?;
        let bytes = pack(&*self.codec, &number.to_le_bytes(), value)?;
        edits.put(self.part_of(&next, key), bytes);
        self.plot.commit(expected, &next, &edits)
    }

    /// Removes the records of what was thrown away.
    fn sweep(&self, order: &mut Order, most: u64, edits: &mut Edits) -> Result<()> {
        for (era, number) in order.sweep(most) {
            if let Some(key) = self.plot.part(&key_part(era, number))? {
                edits.remove(self.plot.part_of(&entry_part(era), &key));
                edits.remove(key_part(era, number));
            }
            edits.remove(page_part(era, number));
        }
        Ok(())
    }

    /// Changes the index until nobody was quicker.
    fn change<R>(
        &self,
        mut step: impl FnMut(&mut Order, &mut Edits) -> Result<Step<R>>,
    ) -> Result<R> {
        loop {
            let Seen { root: before, expected } = self.order()?;
            let (mut order, mut edits) = (before.clone(), Edits::default());
            let outcome = step(&mut order, &mut edits)?;
            let is_changed = order != before || !edits.is_empty();
            if is_changed {
                self.sweep(&mut order, SWEEP, &mut edits)?;
            }
            let took_place = !is_changed || self.plot.commit(expected, &order, &edits)?;
            if let (true, Step::Done(done)) = (took_place, outcome) {
                return Ok(done);
            }
        }
    }
}

fn encoded<Q: KeyEncode + ?Sized>(key: &Q) -> Vec<u8> {
    let mut bytes = KeyBuf::new();
    key.encode(&mut bytes);
    bytes.as_bytes().to_vec()
}

fn decoded<K: KeyDecode>(bytes: &[u8]) -> Option<K> {
    let mut reader = KeyReader::new(bytes);
    K::decode(&mut reader).filter(|_| reader.is_empty())
}

impl<K, V, C> Clone for Index<K, V, C> {
    fn clone(&self) -> Self {
        Self { plot: self.plot.clone(), codec: Arc::clone(&self.codec), types: PhantomData }
    }
}

impl<K, V, C> fmt::Debug for Index<K, V, C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Index").field("name", &self.plot.name).finish_non_exhaustive()
    }
}
