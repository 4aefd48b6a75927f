//! Lookups and removals, of plain keys and of those in namespaces.

use std::borrow::Borrow;
use std::hash::Hash;
use std::mem::needs_drop;

use super::departure::Cause;
use super::entry::Entry;
use super::readers::{self, Pin, Record};
use super::shard::{Cell, Locked};
use super::space::{Seek, Space};
use super::table::{Found, Near};
use super::tier::Tier;

impl<K, V> Tier<K, V> {
    /// Whether an entry of a shard is live.
    #[inline]
    fn is_live(&self, cell: &Cell<K, V>, entry: &Entry<K, V>) -> bool {
        entry.packed.is_plain() || cell.table().terms(entry).is_live(|| self.now_ms())
    }

    /// Whether it is, as a use of it; for one that a glance does not tell.
    #[inline(never)]
    fn is_live_for_use(&self, cell: &Cell<K, V>, entry: &Entry<K, V>) -> bool {
        cell.table().terms(entry).check_use(|| self.now_ms()).is_ok()
    }

    /// The shard of what is looked for.
    #[inline]
    pub(super) fn cell<Q: ?Sized>(&self, seek: Seek<'_, Q>) -> &Cell<K, V> {
        &self.cells[self.cell_at(seek.hash)]
    }
}

impl<K: Hash + Eq, V> Tier<K, V> {
    /// A clone of the value. A use.
    #[inline(always)]
    pub(super) fn get_at<Q>(&self, seek: Seek<'_, Q>) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
        V: Clone,
    {
        let clone = |found: Found<'_, K, V>| {
            if needs_drop::<V>() { found.settle().value.clone() } else { found.value.clone() }
        };
        self.look_up(seek, clone)
    }

    /// What `look` makes of the value. A use.
    #[inline(always)]
    pub(super) fn get_with_at<Q, R>(
        &self,
        seek: Seek<'_, Q>,
        look: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.look_up(seek, |found| look(&found.settle().value))
    }

    /// The same, but no use.
    #[inline(always)]
    pub(super) fn peek_at<Q, R>(&self, seek: Seek<'_, Q>, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let cell = self.cell(seek);
        loop {
            let mut pin = readers::enter(cell.table().fences());
            let found = find(cell, &mut pin, seek)?;
            if self.is_live(cell, &found) {
                return Some(look(&found.settle().value));
            }
            if is_still_there(cell, &found, seek) {
                return None;
            }
        }
    }

    /// The same, under the lock of the shard.
    pub(super) fn hold_at<Q, R>(&self, seek: Seek<'_, Q>, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.change_at(seek, |shard, place| Some(look(&shard.get(place)?.value)))?
    }

    /// What `change` makes of the place of a live entry, under the lock of its shard.
    pub(super) fn change_at<'a, Q, R>(
        &'a self,
        seek: Seek<'_, Q>,
        change: impl FnOnce(&mut Locked<'a, K, V>, u32) -> R,
    ) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let mut shard = self.cell(seek).lock();
        let (place, entry) = shard.find(seek)?;
        let is_live = shard.terms(entry).is_live(|| self.now_ms());
        is_live.then(|| change(&mut shard, place))
    }

    /// Removes what is live, and of which `decide` says so. Whether it did.
    pub(super) fn remove_at<Q>(&self, seek: Seek<'_, Q>, decide: impl FnOnce(&V) -> bool) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let mut departures = self.departures();
        let mut shard = self.cell(seek).lock();
        let Some((place, entry)) = shard.find(seek) else { return false };
        let state = shard.terms(entry).check(|| self.now_ms());
        if state.is_ok() && !decide(&entry.value) {
            return false;
        }
        let cause = state.map_or_else(Cause::from, |()| Cause::Invalidated);
        self.drop_entry(&mut shard, place, cause, &mut departures);
        state.is_ok()
    }

    /// The same, of whatever is live, and a clone of it.
    pub(super) fn take_at<Q>(&self, seek: Seek<'_, Q>) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
        V: Clone,
    {
        let mut taken = None;
        self.remove_at(seek, |value| {
            taken = Some(value.clone());
            true
        });
        taken
    }

    /// What `look` makes of the live entry of a key. Counts as a use.
    ///
    /// What is usual goes straight through, without a call but for what can die, and so without
    /// saving registers; what is not begins again in [`look_up_anyhow`](Self::look_up_anyhow).
    #[inline(always)]
    fn look_up<Q, R>(&self, seek: Seek<'_, Q>, look: impl FnOnce(Found<'_, K, V>) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let cell = self.cell(seek);
        if seek.space.is_none()
            && !cell.has_replay()
            && let Some(mut pin) = readers::enter_first(cell.table().fences())
        {
            let index = pin.record().index();
            match cell.table().find_near(&mut pin, seek.tag(), seek.key) {
                Near::Found(found)
                    if found.packed.is_plain() || self.is_live_for_use(cell, &found) =>
                {
                    self.lookups.hit(index);
                    self.on_hit.count(&found.hits);
                    return Some(look(found));
                }
                Near::Absent => {
                    self.lookups.miss(index);
                    return None;
                }
                Near::Found(_) | Near::Further => {}
            }
        }
        // One by one, so that they can stay in registers.
        let Seek { space, hash, key } = seek;
        self.look_up_anyhow(cell, space, hash, key, look)
    }

    /// The same, whatever it takes. What is dead, and was not replaced meanwhile, is removed, unless
    /// a writer is at work there.
    #[inline(never)]
    fn look_up_anyhow<Q, R>(
        &self,
        cell: &Cell<K, V>,
        space: Space<'_>,
        hash: u64,
        key: &Q,
        look: impl FnOnce(Found<'_, K, V>) -> R,
    ) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let seek = Seek { space, hash, key };
        loop {
            let mut pin = readers::enter(cell.table().fences());
            let record = pin.record();
            let Some(found) = find(cell, &mut pin, seek) else {
                self.lookups.miss(record.index());
                return None;
            };
            if found.packed.is_plain() || self.is_live_for_use(cell, &found) {
                self.note_use(cell, record, &found, hash);
                return Some(look(found));
            }
            if is_still_there(cell, &found, seek) {
                self.lookups.miss(record.index());
                break;
            }
        }
        let mut departures = self.departures();
        let mut shard = cell.try_lock()?;
        let (place, entry) = shard.find(seek)?;
        if let Err(dead) = shard.terms(entry).check(|| self.now_ms()) {
            self.drop_entry(&mut shard, place, dead.into(), &mut departures);
        }
        None
    }

    /// Counts a hit, and tells the policy if it wants to hear of it.
    fn note_use(&self, cell: &Cell<K, V>, record: &Record, found: &Found<'_, K, V>, hash: u64) {
        self.lookups.hit(record.index());
        self.on_hit.count(&found.hits);
        if let Some(replay) = cell.replay_of(hash)
            && !replay.push(record, found.id())
            // Locking tells the policy of all of them.
            && cell.try_lock().is_some()
        {
            replay.push(record, found.id());
        }
    }
}

#[inline]
fn find<'p, K, V, Q>(
    cell: &'p Cell<K, V>,
    pin: &'p mut Pin,
    seek: Seek<'_, Q>,
) -> Option<Found<'p, K, V>>
where
    K: Borrow<Q>,
    Q: Eq + ?Sized,
{
    cell.table().find(pin, seek.tag(), seek.space, seek.key)
}

/// Whether a key still has the entry that was found under it. A dead one was replaced by a live one
/// otherwise, maybe before it died, and then the key was never without a live value.
fn is_still_there<K, V, Q>(cell: &Cell<K, V>, found: &Found<'_, K, V>, seek: Seek<'_, Q>) -> bool
where
    K: Borrow<Q>,
    Q: Eq + ?Sized,
{
    // Its id is not used again as long as it is held.
    let mut pin = readers::enter(cell.table().fences());
    find(cell, &mut pin, seek).is_none_or(|now| now.id() == found.id())
}
