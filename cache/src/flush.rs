//! From memory to the store: what was evicted, what is flushed, what is made good.

use std::sync::Arc;

use larder_engine::Put;
use larder_engine::memory::Capacity;

use crate::change::exact;
use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::key::Key;
use crate::lower::{Failure, Lower, Written};
use crate::stripe::Held;
use crate::sync::Ordering;

/// Masked keys that one write tries to make good.
const REPAIRS: usize = 4;
/// Values that may wait for a store that fails, where memory counts items.
const WAITING_ITEMS_MAX: usize = 1024;
/// Weight that may wait, where memory is small.
const WAITING_WEIGHT_MIN: u64 = 1 << 20;

/// What became of an attempt to write an unflushed entry.
enum Flush {
    /// The store has it.
    Done,
    /// Nobody needs it any more.
    Gone,
    /// The store will never take it.
    Lost(&'static str),
    Failed(Failure),
}

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// Writes what waits, one after the other, each under its own stripe. Hold none.
    pub(crate) fn drain(&self) {
        self.drain_with(|key| Some(self.stripes.lock(key)));
    }

    /// As `drain`, as far as nobody has to be waited for.
    pub(crate) fn drain_without_waiting(&self) {
        self.drain_with(|key| self.stripes.try_lock(key));
    }

    fn drain_with<'a>(&'a self, lock: impl Fn(&Key) -> Option<Held<'a>>) {
        let Some(lower) = &self.lower else { return };
        if self.pending.len() == 0 {
            return;
        }
        // No more than is there now: others drain what they evict themselves.
        for _ in 0..self.pending.queued() {
            if !lower.takes_writes() {
                break;
            }
            let Some(waiting) = self.pending.next() else { break };
            let (key, entry) = &waiting;
            match self.flush_entry(lower, key, entry, &lock) {
                Some(Flush::Done | Flush::Gone) => {}
                Some(Flush::Lost(why)) => self.lose(key, entry, why),
                Some(Flush::Failed(_)) | None => {
                    self.pending.again(&waiting);
                    break;
                }
            }
        }
        if !lower.takes_writes() {
            self.bound_pending();
        }
        self.events.emit();
    }

    /// Drops what has waited longest, until the rest may wait.
    fn bound_pending(&self) {
        let (items_max, weight_max) = match self.memory.capacity() {
            Capacity::Weight(limit) => (usize::MAX, (limit.get() / 8).max(WAITING_WEIGHT_MIN)),
            _ => (WAITING_ITEMS_MAX, u64::MAX),
        };
        while self.pending.len() > items_max || self.pending.weight() > weight_max {
            let Some((key, entry)) = self.pending.next() else { return };
            self.lose(&key, &entry, "the store has been failing for too long");
        }
    }

    fn lose(&self, key: &Key, entry: &Arc<Entry<V>>, why: &'static str) {
        if self.pending.remove(key, entry) {
            self.counters.flush_losses.add(1);
            self.events.push(|| Event::Lost { why });
        }
    }

    /// Writes one unflushed entry, wherever it is. `None`: not now, because its stripe was not
    /// to be had, or everything is being cleared.
    fn flush_entry<'a>(
        &'a self,
        lower: &Lower,
        key: &Key,
        entry: &Arc<Entry<V>>,
        lock: impl Fn(&Key) -> Option<Held<'a>>,
    ) -> Option<Flush> {
        let codec = &self.options.codec;
        let mut bytes = Vec::new();
        // Before the stripe is taken: this is the user's code.
        let bytes = match codec.as_bytes(&entry.value) {
            Some(bytes) => bytes,
            None => match codec.encode(&entry.value, &mut bytes) {
                Ok(()) => &bytes[..],
                Err(_) => return Some(Flush::Lost("it could not be encoded")),
            },
        };
        let tags = entry.tags.as_ref().map_or_else(Vec::new, |tags| tags.stored());
        let put = Put { tags: &tags, ..Put::default() };
        let put = exact(entry.life.expires_at_ms, codec.id_of(&entry.value), &put);
        let _stripe = lock(key)?;
        let is_it = |current: &Arc<Entry<V>>| Arc::ptr_eq(current, entry) && current.is_unflushed();
        // In the order in which an entry goes down, so that one that is evicted meanwhile is met.
        let is_current =
            || self.memory.peek_with(&**key, is_it) == Some(true) || self.pending.holds(key, entry);
        if self.is_clearing() {
            return None;
        }
        if !is_current() {
            return Some(Flush::Gone);
        }
        let _moving = entry.tags.is_some().then(|| self.moving.read());
        if !self.is_live(&entry.life) || !entry.has_valid_tags() {
            self.pending.remove(key, entry);
            return Some(Flush::Gone);
        }
        match lower.put(key, bytes, &put, None) {
            Ok(Written::Stored { .. }) => {
                self.flushed(key, entry);
                Some(Flush::Done)
            }
            Ok(Written::Rejected(_) | Written::Conflict { .. }) => {
                Some(Flush::Lost("the store would not take it"))
            }
            Err(failure) => Some(Flush::Failed(failure)),
        }
    }

    /// The store has `entry` now. Hold the stripe.
    fn flushed(&self, key: &Key, entry: &Arc<Entry<V>>) {
        self.counters.flushed.add(1);
        // Under the lock of its shard, so that it either stays, marked, or has moved on.
        let mark = |current: &Arc<Entry<V>>| Arc::ptr_eq(current, entry) && current.flushed();
        if self.memory.hold_with(&**key, mark) == Some(true) {
            // Relaxed: a figure.
            self.unflushed.fetch_sub(1, Ordering::Relaxed);
        }
        self.pending.remove(key, entry);
    }

    /// Writes everything that only memory holds, and says how much that was.
    pub(crate) fn flush(&self) -> Result<u64> {
        self.open()?;
        let flushed = self.flush_all();
        self.events.emit();
        flushed
    }

    fn flush_all(&self) -> Result<u64> {
        let Some(lower) = &self.lower else { return Ok(0) };
        self.repair_all(lower);
        let mut count = 0;
        let resident = if self.unflushed.load(Ordering::Relaxed) == 0 {
            Vec::new()
        } else {
            self.memory.entries()
        };
        // Evicted ones last: what leaves memory meanwhile is met again there.
        let evicted = self.pending.keys();
        let evicted = evicted.into_iter().filter_map(|key| Some((self.pending.get(&key)?, key)));
        let evicted: Vec<_> = evicted.map(|(entry, key)| (key, entry)).collect();
        for (key, entry) in resident.into_iter().chain(evicted) {
            if !entry.is_unflushed() {
                continue;
            }
            match self.flush_entry(lower, &key, &entry, |key| Some(self.stripes.lock(key))) {
                Some(Flush::Done) => count += 1,
                Some(Flush::Gone) | None => {}
                Some(Flush::Lost(why)) => self.lose(&key, &entry, why),
                Some(Flush::Failed(failure)) => return Err(failure.into()),
            }
        }
        Ok(count)
    }

    /// Returns when everything inserted before survives the loss of power.
    pub(crate) fn sync(&self) -> Result<()> {
        self.open()?;
        let synced = self.flush_and_sync();
        self.events.emit();
        synced
    }

    fn flush_and_sync(&self) -> Result<()> {
        let flushed = self.flush_all();
        let Some(lower) = &self.lower else { return Ok(()) };
        let synced = lower.direct("sync", |engine| engine.sync());
        flushed.and(synced)
    }

    /// Flushes, syncs and ends the cache.
    pub(crate) fn close(&self) -> Result<()> {
        // AcqRel: pairs with `open`.
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::Closed);
        }
        // Changes look again once they have their stripe: after this there are none.
        self.stripes.barrier();
        let mut ended = self.flush_and_sync();
        if let Some(lower) = self.lower.as_ref().filter(|_| self.options.owns_lower) {
            ended = ended.and(lower.direct("close", |engine| engine.close()));
        }
        let lost = self.unflushed_len();
        if self.lower.is_some() && lost != 0 {
            self.counters.flush_losses.add(lost);
            self.events
                .push(|| Event::Lost { why: "the cache was closed before the store took it" });
        }
        self.memory.clear();
        self.pending.clear();
        self.events.emit();
        ended
    }

    /// Makes good what the store was told while it failed, if it can be told again. Hold no
    /// stripe.
    #[inline]
    pub(crate) fn repair(&self) {
        if let Some(lower) = self.lower.as_ref().filter(|lower| lower.stale.any()) {
            self.repair_some(lower, REPAIRS);
        }
    }

    fn repair_all(&self, lower: &Lower) {
        while lower.stale.any() {
            let before = lower.stale.len();
            self.repair_some(lower, before.max(1));
            if lower.stale.len() >= before {
                return;
            }
        }
    }

    #[cold]
    fn repair_some(&self, lower: &Lower, count: usize) {
        if !lower.may_write() {
            return;
        }
        if lower.stale.bypassed() {
            if let Some(turn) = self.clear.try_lock() {
                // A failure was noted; the next change tries again.
                drop(self.while_clearing(&turn, || self.clear_lower(lower)));
            }
            return;
        }
        if !lower.settle() {
            return;
        }
        for key in lower.stale.sample(count) {
            let Some(_stripe) = self.stripes.try_lock(&key) else { continue };
            if self.is_clearing() {
                return;
            }
            if lower.stale.hides(&key) && lower.remove(&key).is_err() {
                return;
            }
        }
    }
}

impl<V: Cached, C: Codec<V>> Drop for Core<V, C> {
    fn drop(&mut self) {
        if !*self.closed.get_mut() {
            // As much as can be done: who wants to know calls `close`.
            drop(self.flush_all());
        }
    }
}
