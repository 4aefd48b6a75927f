//! The entries of one shard: found without a lock, changed by whoever holds the shard's.
//!
//! [`Table`] is what readers need: buckets (`buckets.rs`) that name entries, which lodge elsewhere
//! (`lodging.rs`). [`Side`] is what only writers need, and stands behind the lock of the shard:
//! which ids are free, and what waits until no reader can see it (`limbo.rs`).
//!
//! ```text
//!             insert                unlink              retire           collect
//! free id ────────────► named ──────────────► Departed ──────────► limbo ─────────► free id
//!                       readers find it       told of              nobody finds it
//! ```
//!
//! # Invariants
//! 1. A side is used with the table that it was made with, and with no other. (`shard.rs` keeps
//!    the two together.)
//! 2. The place of an id is full from `insert` until `collect`.
//! 3. A bucket names a full place, and nothing else does but one [`Departed`] or the limbo.
//! 4. What a reader finds under a pin stays full until the pin, or the look that it became, is
//!    gone: it was named by a bucket when its reader was marked, and only the limbo's ids are
//!    emptied (`limbo.rs`, invariant 1).
//! 5. A [`Spot`] is used by the writer who has found it, before that changes anything else.
//!
//! # Orderings
//! The pointer to the buckets is stored by Release and loaded by Acquire: who sees new buckets
//! sees them filled.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use super::bits::Bits;
use super::buckets::{Buckets, Glance, Spot, Tag};
use super::entry::{Entry, Packed, Terms};
use super::extra::Extra;
use super::limbo::{Limbo, Limits};
use super::lodging::{Ledger, Lodging};
use super::marks::Space;
use super::readers::{Fences, Pin, Record};
use crate::sync::{AtomicPtr, Ordering, Site};

/// What readers see of a shard.
pub(crate) struct Table<K, V> {
    buckets: AtomicPtr<Buckets>,
    lodging: Lodging<K, V>,
    fences: Fences,
}

/// What only writers see of it.
#[derive(Debug)]
pub(crate) struct Side {
    ledger: Ledger,
    /// Those that a word names.
    linked: Bits,
    len: usize,
    limbo: Limbo<Replaced>,
}

/// An entry that has been unlinked, and is not in limbo yet: its holder may look at it.
#[derive(Debug)]
pub(crate) struct Departed(u32);

/// Buckets that larger ones have replaced.
#[derive(Debug)]
struct Replaced(NonNull<Buckets>);

// SAFETY: buckets are words and nothing else.
unsafe impl Send for Replaced {}

impl Drop for Replaced {
    fn drop(&mut self) {
        // SAFETY: made of a box in `publish`, dropped by the limbo when no reader is left that may
        // have loaded the pointer, or with the table.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// An entry that a lookup has found under a pin, which stays where it is: moved about, it would
/// not live in registers.
pub(crate) struct Found<'p, K, V> {
    entry: &'p Entry<K, V>,
    id: u32,
    pin: &'p Pin,
}

/// What a lookup finds at a glance.
pub(crate) enum Near<'p, K, V> {
    /// The entry.
    Found(Found<'p, K, V>),
    /// That there is none.
    Absent,
    /// Not enough.
    Further,
}

impl<K, V> Found<'_, K, V> {
    #[inline]
    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    /// Holds back nothing but this entry from now on; for a closure that may take its time.
    #[inline]
    pub(crate) fn settle(self) -> Self {
        // This is all that was found under the pin: see `find`.
        self.pin.look_at(ptr::from_ref(self.entry).addr());
        self
    }
}

impl<K, V> Deref for Found<'_, K, V> {
    type Target = Entry<K, V>;

    #[inline]
    fn deref(&self) -> &Entry<K, V> {
        self.entry
    }
}

impl<K, V> Table<K, V> {
    /// An empty table, and the writers' side of it.
    pub(crate) fn new(limits: Limits) -> (Self, Side) {
        let table = Self {
            buckets: AtomicPtr::new(Box::into_raw(Box::new(Buckets::new(1)))),
            lodging: Lodging::new(),
            fences: limits.fences,
        };
        let (ledger, linked, limbo) = (Ledger::default(), Bits::default(), Limbo::new(limits));
        (table, Side { ledger, linked, len: 0, limbo })
    }

    /// The fences that lookups need.
    #[inline]
    pub(crate) const fn fences(&self) -> Fences {
        self.fences
    }

    /// Looks for a key without a lock, under a pin with the table's fences; one key at a time.
    #[inline]
    pub(crate) fn find<'p, Q>(
        &'p self,
        pin: &'p mut Pin,
        tag: Tag,
        space: Space<'_>,
        key: &Q,
    ) -> Option<Found<'p, K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        if !pin.keeps_all() {
            return None;
        }
        // SAFETY: only asked of an id that is named by a word under a pin (invariants 3 and 4).
        let entry = |id| unsafe { self.lodging.get(id) };
        let is_it = |id| entry(id).key.borrow() == key && self.lodging.is_in(entry(id), space);
        let id = self.buckets_under(pin).find(tag, is_it)?.id();
        Some(Found { entry: entry(id), id, pin })
    }

    /// The same for a plain key, as far as it goes without a call: by value, so that all stays in
    /// registers. What is found belongs to no namespace; any other entry counts as further.
    #[inline(always)]
    pub(crate) fn find_near<'p, Q>(&'p self, pin: &'p mut Pin, tag: Tag, key: &Q) -> Near<'p, K, V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        if !pin.keeps_all() {
            return Near::Further;
        }
        match self.buckets_under(pin).glance(tag) {
            Glance::Named(id) => {
                // SAFETY: named by a word under a pin that is borrowed as long as what is found
                // (invariants 3 and 4).
                let entry = unsafe { self.lodging.get(id) };
                if !entry.packed.is_spaced() && entry.key.borrow() == key {
                    Near::Found(Found { entry, id, pin })
                } else {
                    Near::Further
                }
            }
            Glance::Absent => Near::Absent,
            Glance::Further => Near::Further,
        }
    }

    /// The buckets, for as long as the pin.
    #[inline(always)]
    fn buckets_under<'p>(&'p self, _pin: &'p Pin) -> &'p Buckets {
        // Acquire: pairs with the swap in `publish`.
        let buckets = self.buckets.load(Site::BucketsLoad.is(Ordering::Acquire));
        // SAFETY: buckets that were replaced live until all pins of that time are gone.
        unsafe { &*buckets }
    }

    /// What a found entry weighs, and how long it lives.
    #[inline]
    pub(crate) fn terms<'a>(&'a self, entry: &'a Entry<K, V>) -> Terms<'a> {
        self.lodging.terms(entry)
    }

    /// The namespace that the key of an entry belongs to.
    #[inline]
    pub(crate) fn space_of<'a>(&'a self, entry: &'a Entry<K, V>) -> Space<'a> {
        self.lodging.space_of(entry)
    }

    /// For writers: the buckets as they are.
    fn buckets(&self, _side: &Side) -> &Buckets {
        // Relaxed: only writers change it, and the lock orders them.
        let buckets = self.buckets.load(Ordering::Relaxed);
        // SAFETY: never null; replaced by writers only, of which the side's holder is the one.
        unsafe { &*buckets }
    }

    /// For writers: looks for a key.
    #[inline]
    pub(crate) fn search<'a, Q>(
        &'a self,
        side: &'a Side,
        tag: Tag,
        space: Space<'_>,
        key: &Q,
    ) -> Option<(Spot, &'a Entry<K, V>)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        // SAFETY: only asked of what is named, and emptying that takes the side (invariant 3).
        let entry = |id| unsafe { self.lodging.get(id) };
        let is_it = |id| entry(id).key.borrow() == key && self.lodging.is_in(entry(id), space);
        let spot = self.buckets(side).find(tag, is_it)?;
        Some((spot, entry(spot.id())))
    }

    /// For writers: an entry that is linked.
    #[inline]
    pub(crate) fn get<'a>(&'a self, side: &'a Side, id: u32) -> Option<&'a Entry<K, V>> {
        // SAFETY: full (invariant 3), and emptying it takes the side.
        side.linked.has(id).then(|| unsafe { self.lodging.get(id) })
    }

    /// Whether another entry would find no id.
    pub(crate) const fn is_full(side: &Side) -> bool {
        side.ledger.is_exhausted()
    }

    /// Number of entries.
    pub(crate) const fn len(side: &Side) -> usize {
        side.len
    }

    /// Adds an entry whose key is not in the table. `None`: the ids are used up. `tag_of` is asked if
    /// the table has to grow; if it panics, nothing was added.
    pub(crate) fn insert(
        &self,
        side: &mut Side,
        tag: Tag,
        pair: (K, V),
        extra: Extra,
        tag_of: impl Fn(&Entry<K, V>) -> Tag,
    ) -> Option<u32> {
        let is_marked = !extra.marks().is_empty();
        self.make_room(side, tag_of);
        let packed = self.lodging.pack(&mut side.ledger, extra)?;
        let id = self.lodging.put(&mut side.ledger, pair, packed, 0)?;
        self.name(side, tag, id);
        if is_marked {
            self.settle_marks(side, id);
        }
        Some(id)
    }

    /// The same with nothing but a weight, that of a [`Packed`].
    #[inline]
    pub(crate) fn insert_packed(
        &self,
        side: &mut Side,
        tag: Tag,
        pair: (K, V),
        packed: Packed,
        tag_of: impl Fn(&Entry<K, V>) -> Tag,
    ) -> Option<u32> {
        self.make_room(side, tag_of);
        let id = self.lodging.put(&mut side.ledger, pair, packed, 0)?;
        self.name(side, tag, id);
        Some(id)
    }

    #[inline]
    fn name(&self, side: &mut Side, tag: Tag, id: u32) {
        self.buckets(side).insert(tag, id);
        side.linked.flip(id);
        side.len += 1;
    }

    /// Makes sure that the buckets have room for another entry.
    #[inline]
    fn make_room(&self, side: &mut Side, tag_of: impl Fn(&Entry<K, V>) -> Tag) {
        if side.len >= self.buckets(side).room() {
            self.grow(side, tag_of);
        }
    }

    #[cold]
    fn grow(&self, side: &mut Side, tag_of: impl Fn(&Entry<K, V>) -> Tag) {
        let buckets = self.buckets(side);
        // SAFETY: named (invariant 3), and emptying it takes the side.
        let entry = |id| unsafe { self.lodging.get(id) };
        // A quarter more, not twice as much: what is spent must stay near what is weighed.
        let count = buckets.count() + buckets.count() / 4 + 1;
        let larger = buckets.resized(count, |id| tag_of(entry(id)));
        self.publish(side, larger);
    }

    /// Gives a key another value: another entry, of which the policy does not hear.
    pub(crate) fn replace(
        &self,
        side: &mut Side,
        spot: Spot,
        pair: (K, V),
        extra: Extra,
    ) -> Option<(u32, Departed)> {
        let is_marked = !extra.marks().is_empty();
        let packed = self.lodging.pack(&mut side.ledger, extra)?;
        let (new, departed) = self.replace_packed(side, spot, pair, packed)?;
        if is_marked {
            self.settle_marks(side, new);
        }
        Some((new, departed))
    }

    /// The same with nothing but what fits into a [`Packed`].
    #[inline(always)]
    pub(crate) fn replace_packed(
        &self,
        side: &mut Side,
        spot: Spot,
        pair: (K, V),
        packed: Packed,
    ) -> Option<(u32, Departed)> {
        let old = spot.id();
        debug_assert!(side.linked.has(old), "a spot of another moment");
        // SAFETY: named (invariants 3 and 5), and emptying it takes the side.
        let entry = unsafe { self.lodging.get(old) };
        // Relaxed: see `OnHit::count`.
        let hits = entry.hits.load(Ordering::Relaxed);
        let new = self.lodging.put(&mut side.ledger, pair, packed, hits)?;
        self.buckets(side).rename(spot, new);
        side.linked.flip(old);
        side.linked.flip(new);
        Some((new, Departed(old)))
    }

    /// For an entry that was linked just now; see `marks.rs`.
    fn settle_marks(&self, side: &Side, id: u32) {
        if let Some(Terms::Extra(extra)) = self.get(side, id).map(|entry| self.terms(entry)) {
            extra.settle_marks();
        }
    }

    /// Makes an entry unfindable.
    #[inline]
    pub(crate) fn unlink(&self, side: &mut Side, tag: Tag, id: u32) -> Option<Departed> {
        let buckets = self.buckets(side);
        buckets.remove(tag, buckets.locate(tag, id)?);
        side.linked.flip(id);
        side.len -= 1;
        Some(Departed(id))
    }

    /// Makes all entries unfindable.
    pub(crate) fn unlink_all(&self, side: &mut Side) -> Vec<Departed> {
        let departed = self.buckets(side).ids().map(Departed).collect();
        self.publish(side, Buckets::new(1));
        side.linked = Bits::default();
        side.len = 0;
        departed
    }

    /// An entry that has left.
    pub(crate) fn look<'a>(&'a self, departed: &'a Departed) -> &'a Entry<K, V> {
        // SAFETY: full until it has been in limbo, where only `retire` brings it; and that takes
        // what this borrows.
        unsafe { self.lodging.get(departed.0) }
    }

    /// For writers: where an entry is named.
    pub(crate) fn locate(&self, side: &Side, tag: Tag, id: u32) -> Option<Spot> {
        self.buckets(side).locate(tag, id)
    }

    /// Whether buckets have been replaced that nobody has let go of.
    #[inline]
    pub(crate) const fn has_grown(side: &Side) -> bool {
        side.limbo.has_others()
    }

    /// [`retire`](Self::retire) for one of which the weight is known. Whether to look if anything
    /// is to be let go of.
    #[inline]
    pub(crate) fn retire_weighing(side: &mut Side, departed: Departed, weight: u64) -> bool {
        side.limbo.push(departed.0, weight)
    }

    /// Lets go of an entry that has left.
    pub(crate) fn retire(&self, side: &mut Side, departed: Departed) {
        let weight = self.terms(self.look(&departed)).weight();
        side.limbo.push(departed.0, weight);
    }

    /// Empties the places of what no reader can see any more; `trash` gets what was in them.
    /// With `all`, asks for everything that has left, however little it is.
    pub(crate) fn collect(
        &self,
        side: &mut Side,
        records: &[&'static Record],
        all: bool,
        trash: &mut Vec<(K, V)>,
    ) {
        let Side { ledger, limbo, .. } = side;
        if all || limbo.is_due() {
            limbo.seal(records);
        }
        // SAFETY: only an address is taken of it; it is full as long as it is in limbo.
        let address = |id| ptr::from_ref(unsafe { self.lodging.get(id) }).addr();
        limbo.collect(records, all, address, |free| {
            // SAFETY: full as long as they are in limbo, which they have left just now; nobody looks at
            // them (`limbo.rs`, invariant 1).
            unsafe { self.lodging.empty(ledger, free, trash) };
        });
    }

    /// Whether `collect` has something to do.
    pub(crate) fn wants_collect(side: &mut Side) -> bool {
        side.limbo.wants_collect()
    }

    /// Whether anything waits for readers.
    pub(crate) fn has_batches(side: &Side) -> bool {
        side.limbo.has_batches()
    }

    /// Whether so much waits for readers that they should be let on.
    pub(crate) fn is_crowded(side: &Side) -> bool {
        side.limbo.is_crowded()
    }

    /// Entries that have left, and wait until no reader can see them.
    pub(crate) fn waiting(side: &Side) -> usize {
        side.limbo.len()
    }

    /// All entries.
    pub(crate) fn iter<'a>(
        &'a self,
        side: &'a Side,
    ) -> impl Iterator<Item = (u32, &'a Entry<K, V>)> {
        self.buckets(side).ids().filter_map(|id| Some((id, self.get(side, id)?)))
    }

    /// Checks the buckets, and the books of ids.
    pub(crate) fn validate(
        &self,
        side: &Side,
        tag_of: impl Fn(&Entry<K, V>) -> Tag,
    ) -> Result<(), String> {
        self.buckets(side).validate(|id| Some(tag_of(self.get(side, id)?)))?;
        let linked = self.iter(side).count();
        let (full, named) = (side.ledger.count(), side.linked.count());
        let waiting = side.limbo.len();
        if linked != side.len || linked != named || full < linked + waiting {
            return Err(format!(
                "{linked} entries of {named} in {} names, {waiting} have left; {full} ids in use",
                side.len,
            ));
        }
        let linked: Vec<_> = self.iter(side).collect();
        self.lodging.validate(&side.ledger, linked.iter().copied())
    }

    /// Drops everything. The last that is done with a table, once only.
    pub(crate) fn end(&mut self, side: &mut Side) {
        self.lodging.end(&mut side.ledger);
    }

    /// Puts other buckets in the place of the present ones.
    fn publish(&self, side: &mut Side, buckets: Buckets) {
        let new = Box::into_raw(Box::new(buckets));
        // Release: pairs with the Acquire in `find`. What was there was put there by a writer,
        // and the lock orders those.
        let old = self.buckets.swap(new, Site::BucketsSwap.is(Ordering::Release));
        if let Some(old) = NonNull::new(old) {
            side.limbo.push_other(Replaced(old));
        }
    }
}

impl<K, V> Drop for Table<K, V> {
    fn drop(&mut self) {
        // Relaxed: `&mut self`.
        if let Some(buckets) = NonNull::new(self.buckets.load(Ordering::Relaxed)) {
            drop(Replaced(buckets));
        }
    }
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Table")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;
    use crate::clock::NEVER;
    use crate::memory::marks::{Mark, TagCell};
    use crate::memory::readers;

    const COUNT: u64 = if cfg!(miri) { 40 } else { 2_000 };

    fn tag(key: u64) -> Tag {
        Tag::of(key.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn retag(entry: &Entry<u64, String>) -> Tag {
        tag(entry.key)
    }

    fn table() -> (Table<u64, String>, Side) {
        Table::new(Limits { entries: 4, weight: u64::MAX, fences: readers::fences() })
    }

    fn terms(weight: u64) -> Extra {
        Extra::new(weight, NEVER)
    }

    fn collect(table: &Table<u64, String>, side: &mut Side, all: bool) -> usize {
        let mut trash = Vec::new();
        readers::all(|records| table.collect(side, records, all, &mut trash));
        trash.len()
    }

    /// Collects until so many entries are free: readers of other tests may be in the way.
    fn collect_until(table: &Table<u64, String>, side: &mut Side, count: usize) {
        let mut left = count - collect(table, side, true);
        while left > 0 {
            std::thread::yield_now();
            left -= collect(table, side, true);
        }
    }

    #[test]
    fn entries_come_change_and_go() {
        let (mut table, mut side) = table();
        let large = 1 << 55;
        let ids: Vec<u32> = (0..COUNT)
            .map(|key| {
                let terms = terms(if key % 10 == 0 { large } else { key });
                table.insert(&mut side, tag(key), (key, key.to_string()), terms, retag).unwrap()
            })
            .collect();
        assert!(ids.iter().zip(0..).all(|(&id, at)| id == at));
        for key in 0..COUNT {
            let mut pin = readers::enter(table.fences());
            let found = table.find(&mut pin, tag(key), None, &key).unwrap();
            assert_eq!((found.key, found.value.clone()), (key, key.to_string()));
            let expected = if key % 10 == 0 { large } else { key };
            assert_eq!(table.terms(&found).weight(), expected);
        }
        assert_eq!(table.validate(&side, |entry| tag(entry.key)), Ok(()));
        // The buckets that have been outgrown.
        assert_eq!(collect(&table, &mut side, true), 0);
        let pair = (0, "new".to_owned());
        let spot = table.locate(&side, tag(0), ids[0]).unwrap();
        let (new, old) = table.replace(&mut side, spot, pair, terms(1)).unwrap();
        assert_eq!(table.look(&old).value, "0");
        table.retire(&mut side, old);
        assert_eq!(table.search(&side, tag(0), None, &0).unwrap().1.value, "new");
        let departed = table.unlink(&mut side, tag(0), new).unwrap();
        assert!(table.unlink(&mut side, tag(0), new).is_none());
        assert!(table.find(&mut readers::enter(table.fences()), tag(0), None, &0).is_none());
        table.retire(&mut side, departed);
        assert_eq!(Table::<u64, String>::waiting(&side), 2);
        assert_eq!(collect(&table, &mut side, false), 0, "not worth it");
        collect_until(&table, &mut side, 2);
        assert_eq!(table.validate(&side, |entry| tag(entry.key)), Ok(()));
        assert!(table.validate(&side, |_| tag(u64::MAX)).is_err());
        for departed in table.unlink_all(&mut side) {
            table.retire(&mut side, departed);
        }
        collect_until(&table, &mut side, usize::try_from(COUNT).unwrap() - 1);
        let again = table.insert(&mut side, tag(7), (7, String::new()), terms(large), retag);
        assert!(again.unwrap() <= new, "ids are used again");
        assert_eq!(table.validate(&side, |entry| tag(entry.key)), Ok(()));
        table.end(&mut side);
    }

    #[test]
    fn what_is_looked_at_waits_alone() {
        let (mut table, mut side) = table();
        let insert = |side: &mut Side, key: u64| {
            table.insert(side, tag(key), (key, key.to_string()), terms(1), retag).unwrap()
        };
        let (first, second) = (insert(&mut side, 1), insert(&mut side, 2));
        let mut pin = readers::enter(table.fences());
        let pinned = table.find(&mut pin, tag(2), None, &2).unwrap();
        for (key, id) in [(1, first), (2, second)] {
            let departed = table.unlink(&mut side, tag(key), id).unwrap();
            table.retire(&mut side, departed);
        }
        assert_eq!(collect(&table, &mut side, true), 0, "a lookup is under way");
        let looked_at = pinned.settle();
        collect_until(&table, &mut side, 1);
        assert_eq!(Table::<u64, String>::waiting(&side), 1, "all but the one");
        assert_eq!(looked_at.value, "2");
        drop(pin);
        let third = insert(&mut side, 3);
        let departed = table.unlink(&mut side, tag(3), third).unwrap();
        table.retire(&mut side, departed);
        collect_until(&table, &mut side, 2);
        table.end(&mut side);
    }

    #[test]
    fn what_an_entry_has_beside_its_word_goes_with_it() {
        let (mut table, mut side) = table();
        let cell = Arc::<TagCell>::default();
        let marked = || {
            let mark = || Mark::new(Arc::clone(&cell));
            terms(1).with_marks(Some(Box::new([mark(), mark()])))
        };
        let pair = |key: u64| (key, key.to_string());
        let ids = [1, 2, 3]
            .map(|key| table.insert(&mut side, tag(key), pair(key), marked(), retag).unwrap());
        assert_eq!(Arc::strong_count(&cell), 1 + 3 * 2);
        // One is replaced by one that has no marks, one is removed.
        let spot = table.locate(&side, tag(1), ids[0]).unwrap();
        let (_, old) = table.replace(&mut side, spot, pair(1), terms(1)).unwrap();
        let removed = table.unlink(&mut side, tag(2), ids[1]).unwrap();
        for departed in [old, removed] {
            assert!(table.terms(table.look(&departed)).is_live(|| 0), "whoever still sees it");
            table.retire(&mut side, departed);
        }
        collect_until(&table, &mut side, 2);
        assert_eq!(Arc::strong_count(&cell), 1 + 2);
        cell.invalidate();
        let live = |key: u64| {
            let mut pin = readers::enter(table.fences());
            let found = table.find(&mut pin, tag(key), None, &key).unwrap();
            table.terms(&found).is_live(|| 0)
        };
        assert!(live(1) && !live(3));
        assert_eq!(table.validate(&side, |entry| tag(entry.key)), Ok(()));
        table.end(&mut side);
        assert_eq!(Arc::strong_count(&cell), 1);
    }

    #[test]
    fn readers_see_whole_entries_while_a_writer_turns_everything_over() {
        let (table, mut side) = table();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for reader in 0..2 {
                let (table, done) = (&table, &done);
                scope.spawn(move || {
                    let mut key = reader;
                    while !done.load(Relaxed) {
                        key = (key + 1) % 16;
                        let mut pin = readers::enter(table.fences());
                        if let Some(found) = table.find(&mut pin, tag(key), None, &key) {
                            let found = if key % 2 == 0 { found.settle() } else { found };
                            assert_eq!((found.key, found.value.as_str()), (key, &*key.to_string()));
                        }
                    }
                });
            }
            for step in 0..COUNT * 4 {
                let key = step % 16;
                let pair = (key, key.to_string());
                match table.search(&side, tag(key), None, &key).map(|(spot, _)| spot) {
                    None => {
                        table.insert(&mut side, tag(key), pair, terms(1), retag).unwrap();
                    }
                    Some(spot) if step % 3 == 0 => {
                        let (_, old) = table.replace(&mut side, spot, pair, terms(1)).unwrap();
                        table.retire(&mut side, old);
                    }
                    Some(spot) => {
                        let departed = table.unlink(&mut side, tag(key), spot.id()).unwrap();
                        table.retire(&mut side, departed);
                    }
                }
                collect(&table, &mut side, false);
            }
            done.store(true, Relaxed);
        });
        assert_eq!(table.validate(&side, |entry| tag(entry.key)), Ok(()));
        let mut table = table;
        table.end(&mut side);
    }
}
