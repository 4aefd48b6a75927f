//! One shard: a table that readers use without a lock, and what writers need, behind one.
//!
//! # Invariants
//! 1. The policy knows exactly the entries of the table, by their places, whenever the lock is
//!    free; but for those that are parked, as they are pinned (`pins.rs`).
//! 2. `weight` is the sum of their weights; `published` shows what of it is not pinned, and their
//!    number, outside the lock from when it was last free.
//! 3. The wheel knows exactly the places of entries with a deadline (`expiry.rs`).
//! 4. Table and side belong together, and only the holder of the lock has the side.

use std::borrow::Borrow;
use std::cell::LazyCell;
use std::hash::Hash;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::{Mutex, MutexGuard};

use super::buckets::Tag;
use super::budget::Budget;
use super::departure::{Cause, Departures};
use super::entry::{Entry, Terms};
use super::extra::Extra;
use super::limbo::Limits;
use super::pins::Pins;
use super::places::Places;
use super::policy::Chosen;
use super::readers;
use super::replay::Replay;
use super::shelf::Shelf;
use super::space::{Seek, hash_in};
use super::sweep::Marked;
use super::table::{Departed, Side, Table};
use super::wheel::Wheel;
use crate::clock::NEVER;
use crate::sync::{AtomicU64, Ordering, fence_ahead_of_unlock};

/// What happened in one shard.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) inserts: u64,
    pub(super) removes: u64,
    pub(super) evictions: u64,
    pub(super) expired: u64,
}

impl Counts {
    pub(super) const fn count(&mut self, cause: Cause) {
        match cause {
            Cause::Expired => self.expired += 1,
            Cause::Capacity => self.evictions += 1,
            Cause::Invalidated => self.removes += 1,
            Cause::Replaced => {}
        }
    }
}

/// What stands behind the lock.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) side: Side,
    pub(super) places: Places,
    pub(super) pins: Pins,
    pub(super) marked: Marked,
    policy: Chosen,
    pub(super) wheel: Wheel,
    pub(super) weight: u64,
    pub(super) counts: Counts,
}

/// Cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

/// A shard with its lock.
#[derive(Debug)]
pub(super) struct Cell<K, V> {
    // Apart from the lock, whose line moves with every writer.
    table: Apart<Table<K, V>>,
    replay: Option<Replay>,
    /// Hits are replayed of keys whose hash has none of these bits.
    replayed: AtomicU64,
    /// Whether `replayed` is the policy's to choose.
    samples: bool,
    /// Whether entries differ in weight; else each weighs 1.
    pub(super) is_weighed: bool,
    hasher: RandomState,
    pub(super) budget: Arc<Budget>,
    shard: Apart<Mutex<Shard>>,
    published: Published,
}

#[derive(Debug, Default)]
struct Published {
    loose: AtomicU64,
    entries: AtomicU64,
}

impl<K, V> Cell<K, V> {
    pub(super) fn new(
        policy: Chosen,
        limits: Limits,
        is_weighed: bool,
        hasher: RandomState,
        budget: Arc<Budget>,
    ) -> Self {
        let (table, side) = Table::new(limits);
        let samples = !policy.any().on_hit().replay;
        let replayed = if samples { sample_of(&policy) } else { 0 };
        let replay = (replayed != NO_KEYS).then(Replay::new);
        let samples = samples && replay.is_some();
        let shard = Shard {
            side,
            places: Places::default(),
            pins: Pins::default(),
            marked: Marked::default(),
            policy,
            wheel: Wheel::default(),
            weight: 0,
            counts: Counts::default(),
        };
        Self {
            table: Apart(table),
            replay,
            replayed: AtomicU64::new(replayed),
            samples,
            is_weighed,
            hasher,
            budget,
            shard: Apart(Mutex::new(shard)),
            published: Published::default(),
        }
    }

    /// For lookups.
    #[inline]
    pub(super) const fn table(&self) -> &Table<K, V> {
        &self.table.0
    }

    /// Whether the policy wants to hear of some hits.
    #[inline]
    pub(super) const fn has_replay(&self) -> bool {
        self.replay.is_some()
    }

    /// Where the hit of a key goes that the policy wants to hear of.
    #[inline]
    pub(super) fn replay_of(&self, hash: u64) -> Option<&Replay> {
        let replay = self.replay.as_ref()?;
        // Relaxed: a sample that has just changed makes a hit more or less, as lost ones do.
        (hash & self.replayed.load(Ordering::Relaxed) == 0).then_some(replay)
    }

    /// What those entries weighed that are not pinned, when the lock was last free.
    pub(super) fn loose(&self) -> u64 {
        // Relaxed: a hint for choosing where to evict; it guards nothing.
        self.published.loose.load(Ordering::Relaxed)
    }

    /// How many entries it had then.
    pub(super) fn entries(&self) -> u64 {
        // Relaxed: a gauge for people.
        self.published.entries.load(Ordering::Relaxed)
    }

    /// What happened so far, and the number of entries.
    pub(super) fn counts(&self) -> (Counts, u64) {
        let shard = self.shard.0.lock();
        (shard.counts, Table::<K, V>::len(&shard.side) as u64)
    }

    /// Entries that have left, and wait until no reader can see them.
    pub(super) fn waiting(&self) -> u64 {
        Table::<K, V>::waiting(&self.shard.0.lock().side) as u64
    }

    /// Lets go of entries that have left, and puts what has become free into `trash`. Whether
    /// readers should be let on.
    pub(super) fn retire(
        &self,
        departed: impl Iterator<Item = Departed>,
        trash: &mut Vec<(K, V)>,
    ) -> bool {
        let mut shard = self.shard.0.lock();
        for departed in departed {
            self.table().retire(&mut shard.side, departed);
            collect(self.table(), &mut shard.side, false, trash);
        }
        Table::<K, V>::is_crowded(&shard.side)
    }

    /// Puts everything that can become free into `trash`. Whether lookups are in the way.
    pub(super) fn collect_all(&self, trash: &mut Vec<(K, V)>) -> bool {
        let mut shard = self.shard.0.lock();
        collect(self.table(), &mut shard.side, true, trash);
        Table::<K, V>::has_batches(&shard.side)
    }
}

/// Bits of which every hash has one, as good as.
const NO_KEYS: u64 = u64::MAX;

fn sample_of(policy: &Chosen) -> u64 {
    policy.any().sample().unwrap_or(NO_KEYS)
}

/// The ids of all entries, as if `old` still stood where its replacement does.
pub(super) fn linked_before<'a, K, V>(
    table: &'a Table<K, V>,
    side: &'a Side,
    new: u32,
    old: u32,
) -> impl Iterator<Item = u32> + 'a {
    table.iter(side).map(move |(id, _)| if id == new { old } else { id })
}

#[inline]
fn collect<K, V>(table: &Table<K, V>, side: &mut Side, all: bool, trash: &mut Vec<(K, V)>) {
    if all || Table::<K, V>::wants_collect(side) {
        collect_now(table, side, all, trash);
    }
}

#[cold]
fn collect_now<K, V>(table: &Table<K, V>, side: &mut Side, all: bool, trash: &mut Vec<(K, V)>) {
    readers::all(|records| table.collect(side, records, all, trash));
}

impl<K: Hash, V> Cell<K, V> {
    /// The hash of an entry, which its namespace is a part of.
    pub(super) fn hash_of(&self, entry: &Entry<K, V>) -> u64 {
        hash_in(&self.hasher, self.table().space_of(entry), &entry.key)
    }
}

impl<K: Hash + Eq, V> Cell<K, V> {
    /// For writers.
    #[inline]
    pub(super) fn lock(&self) -> Locked<'_, K, V> {
        self.locked(self.shard.0.lock())
    }

    /// For writers that can do without.
    #[inline]
    pub(super) fn try_lock(&self) -> Option<Locked<'_, K, V>> {
        Some(self.locked(self.shard.0.try_lock()?))
    }

    #[inline]
    fn locked<'a>(&'a self, shard: MutexGuard<'a, Shard>) -> Locked<'a, K, V> {
        let mut locked = Locked { cell: self, shard };
        if let Some(replay) = &self.replay {
            self.tell_of_hits(replay, &mut locked);
        }
        locked
    }

    /// The policy hears of all hits before it is asked anything.
    #[inline(never)]
    fn tell_of_hits(&self, replay: &Replay, locked: &mut Locked<'_, K, V>) {
        let (policy, shelf) = locked.split(0);
        replay.drain(|id| {
            if self.table().get(shelf.side, id).is_none() {
                return;
            }
            let place = shelf.places.place(id);
            if !shelf.pins.is_parked(place) {
                policy.any_mut().hit(place, &shelf);
            }
        });
    }
}

impl<K, V> Drop for Cell<K, V> {
    fn drop(&mut self) {
        self.table.0.end(&mut self.shard.0.get_mut().side);
    }
}

/// A locked shard, which publishes its gauges before it is unlocked. Entries go by their places
/// here.
#[derive(Debug)]
pub(super) struct Locked<'a, K, V> {
    pub(super) cell: &'a Cell<K, V>,
    shard: MutexGuard<'a, Shard>,
}

impl<K, V> Deref for Locked<'_, K, V> {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl<K, V> DerefMut for Locked<'_, K, V> {
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

impl<'a, K, V> Locked<'a, K, V> {
    pub(super) fn len(&self) -> usize {
        Table::<K, V>::len(&self.shard.side)
    }

    pub(super) const fn table(&self) -> &'a Table<K, V> {
        self.cell.table()
    }

    /// Whether there is no id for another entry.
    pub(super) fn is_full(&self) -> bool {
        Table::<K, V>::is_full(&self.shard.side)
    }

    /// The entry in a place.
    #[inline]
    pub(super) fn get(&self, place: u32) -> Option<&Entry<K, V>> {
        self.cell.table().get(&self.shard.side, self.shard.places.id(place)?)
    }

    pub(super) fn terms<'b>(&'b self, entry: &'b Entry<K, V>) -> Terms<'b> {
        self.cell.table().terms(entry)
    }

    /// What the entry in a place weighs.
    pub(super) fn weight_of(&self, place: u32) -> u64 {
        self.get(place).map_or(0, |entry| self.terms(entry).weight())
    }

    /// All entries with their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Entry<K, V>)> {
        let entries = self.cell.table().iter(&self.shard.side);
        entries.map(|(id, entry)| (self.shard.places.place(id), entry))
    }

    /// Hands over an entry that has left: to whoever tells of it, if anybody listens, else to
    /// limbo.
    fn depart(&mut self, departed: Departed, cause: Cause, departures: &mut Departures<'a, K, V>) {
        self.shard.counts.count(cause);
        if let Some(departed) = departures.push(self.cell, departed, cause) {
            self.cell.table().retire(&mut self.shard.side, departed);
            self.let_go(departures);
        }
    }

    /// The same for one of which the weight is known.
    #[inline(always)]
    pub(super) fn depart_weighing(
        &mut self,
        departed: Departed,
        weight: u64,
        cause: Cause,
        departures: &mut Departures<'a, K, V>,
    ) {
        self.shard.counts.count(cause);
        if let Some(departed) = departures.push(self.cell, departed, cause)
            && Table::<K, V>::retire_weighing(&mut self.shard.side, departed, weight)
        {
            self.let_go(departures);
        }
    }

    /// Lets go of what has left, if enough of it has gathered.
    #[inline(never)]
    pub(super) fn let_go(&mut self, departures: &mut Departures<'a, K, V>) {
        let side = &mut self.shard.side;
        if Table::<K, V>::wants_collect(side) {
            collect_now(self.cell.table(), side, false, departures.trash());
        }
        if Table::<K, V>::is_crowded(side) {
            departures.give_way();
        }
    }
}

impl<'a, K: Hash + Eq, V> Locked<'a, K, V> {
    pub(super) fn find<Q>(&self, seek: Seek<'_, Q>) -> Option<(u32, &Entry<K, V>)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let table = self.cell.table();
        let (spot, entry) = table.search(&self.shard.side, seek.tag(), seek.space, seek.key)?;
        Some((self.shard.places.place(spot.id()), entry))
    }

    /// The policy and what it may ask, given what the shard could get beyond what it holds.
    #[inline]
    pub(super) fn split(&mut self, room: u64) -> (&mut Chosen, Shelf<'_, K, V>) {
        let Shard { side, places, pins, policy, weight, .. } = &mut *self.shard;
        let capacity = (*weight - pins.parked_weight()).saturating_add(room);
        let shelf = Shelf::new(self.cell, side, places, pins, capacity);
        (policy, shelf)
    }

    /// Links an entry that the policy will hear of next, and returns its place.
    pub(super) fn link(
        &mut self,
        hash: u64,
        pair: (K, V),
        extra: Extra,
        departures: &mut Departures<'a, K, V>,
    ) -> Option<u32> {
        let (weight, expires_at_ms) = (extra.weight, extra.expires_at_ms());
        let is_marked = !extra.marks().is_empty();
        let Shard { side, places, .. } = &mut *self.shard;
        let (cell, tag) = (self.cell, Tag::of(hash));
        let tag_of = |entry: &Entry<K, V>| Tag::of(cell.hash_of(entry));
        let id = cell.table().insert(side, tag, pair, extra, tag_of)?;
        let place = places.settle(id);
        self.shard.marked.set(place, is_marked);
        // The table may have grown.
        self.let_go(departures);
        self.shard.weight += weight;
        self.note_deadline(place, expires_at_ms);
        Some(place)
    }

    /// Links an entry in the place of another one of the same key, which leaves for `cause`.
    pub(super) fn replace(
        &mut self,
        hash: u64,
        place: u32,
        pair: (K, V),
        extra: Extra,
        cause: Cause,
        departures: &mut Departures<'a, K, V>,
    ) {
        let old_weight = self.weight_of(place);
        let (weight, expires_at_ms) = (extra.weight, extra.expires_at_ms());
        let is_marked = !extra.marks().is_empty();
        let Shard { side, places, .. } = &mut *self.shard;
        let table = self.cell.table();
        let Some(old) = places.id(place) else { return };
        let Some(spot) = table.locate(side, Tag::of(hash), old) else { return };
        let Some((id, departed)) = table.replace(side, spot, pair, extra) else { return };
        places.replace(place, id, || linked_before(table, side, id, old));
        self.shard.weight = self.shard.weight - old_weight + weight;
        self.reweigh_pin(place, old_weight, weight);
        self.shard.marked.set(place, is_marked);
        self.note_deadline(place, expires_at_ms);
        self.depart(departed, cause, departures);
    }

    /// Unlinks an entry that the policy has forgotten already, and says what it weighed.
    pub(super) fn unlink(
        &mut self,
        place: u32,
        cause: Cause,
        departures: &mut Departures<'a, K, V>,
    ) -> u64 {
        let Some(id) = self.shard.places.id(place) else { return 0 };
        let Some(entry) = self.get(place) else { return 0 };
        let (weight, tag) = (self.terms(entry).weight(), Tag::of(self.cell.hash_of(entry)));
        let Some(departed) = self.cell.table().unlink(&mut self.shard.side, tag, id) else {
            return 0;
        };
        self.forget_pin(place, weight);
        self.shard.marked.set(place, false);
        self.shard.places.give_back(place);
        self.shard.wheel.remove(place);
        self.shard.weight -= weight;
        self.depart(departed, cause, departures);
        weight
    }

    /// Makes the policy forget an entry, and unlinks it.
    pub(super) fn remove(
        &mut self,
        place: u32,
        cause: Cause,
        room: u64,
        departures: &mut Departures<'a, K, V>,
    ) -> u64 {
        if !self.pins.is_parked(place) {
            let (policy, shelf) = self.split(room);
            policy.remove(place, &shelf);
        }
        self.unlink(place, cause, departures)
    }

    /// Removes everything, and says how many entries that were and what they weighed.
    pub(super) fn clear(
        &mut self,
        now_ms: impl FnOnce() -> u64,
        departures: &mut Departures<'a, K, V>,
    ) -> (u64, u64) {
        let now_ms = LazyCell::new(now_ms);
        self.policy.any_mut().clear();
        self.forget_pins();
        self.shard.marked = Marked::default();
        self.shard.places.clear();
        self.shard.wheel.clear();
        let mut count = 0;
        let table = self.cell.table();
        for departed in table.unlink_all(&mut self.shard.side) {
            let cause = match table.terms(table.look(&departed)).check(|| *now_ms) {
                Ok(()) => Cause::Invalidated,
                Err(dead) => dead.into(),
            };
            self.depart(departed, cause, departures);
            count += 1;
        }
        (count, std::mem::take(&mut self.shard.weight))
    }

    /// Checks invariants 1 to 3 and the table's own.
    pub(super) fn validate(&mut self) -> Result<(), String> {
        let table = self.cell.table();
        table.validate(&self.shard.side, |entry| Tag::of(self.cell.hash_of(entry)))?;
        let weight: u64 = self.iter().map(|(_, entry)| self.terms(entry).weight()).sum();
        if weight != self.weight {
            return Err(format!("entries weighing {weight} are counted as {}", self.weight));
        }
        let deadlines =
            self.iter().map(|(place, entry)| (place, self.terms(entry).expires_at_ms()));
        self.wheel.validate(deadlines.filter(|&(_, expires_at_ms)| expires_at_ms != NEVER))?;
        for (id, _) in table.iter(&self.shard.side) {
            let place = self.shard.places.place(id);
            if self.shard.places.id(place) != Some(id) {
                return Err(format!("place {place} and entry {id} do not know each other"));
            }
        }
        self.validate_marked()?;
        let parked = self.validate_pins()?;
        if self.policy.any().len() + parked != self.len() {
            return Err(format!(
                "the policy knows {} entries of {}, of which {parked} are parked",
                self.policy.any().len(),
                self.len()
            ));
        }
        let (policy, shelf) = self.split(0);
        policy.any().validate(&shelf)
    }
}

impl<K, V> Drop for Locked<'_, K, V> {
    #[inline]
    fn drop(&mut self) {
        // Lookups may have no fence of their own. So a writer makes sure that what it has done is seen
        // by all before it looks up anything, or tells anybody.
        fence_ahead_of_unlock();
        // Relaxed: see `Cell::weight`.
        let show = |gauge: &AtomicU64, now| {
            if gauge.load(Ordering::Relaxed) != now {
                gauge.store(now, Ordering::Relaxed);
            }
        };
        show(&self.cell.published.loose, self.loose());
        show(&self.cell.published.entries, self.len() as u64);
        if self.cell.samples {
            show(&self.cell.replayed, sample_of(&self.shard.policy));
        }
    }
}
