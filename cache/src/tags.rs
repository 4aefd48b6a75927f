//! Tags over both tiers: what was inserted under one goes all at once.
//!
//! The store invalidates by sequence number, memory by counts (`larder_engine::memory`), both in
//! constant time. What neither sees is what moves between them meanwhile: a value that is promoted, one
//! that is flushed, one that waits, one that was loaded. So those moves and invalidations exclude
//! each other (`Core::moving`), and what moves down proves under that lock that it is valid:
//!
//! | what moves | how it proves it |
//! |---|---|
//! | promoted from the store | the store still has that version |
//! | flushed, from memory or pending | its marks are as they were when it was inserted |
//! | loaded | none of its tags was invalidated since its load began (`Log`) |
//!
//! Who waits for a load and asked after an invalidation of one of its tags, which the load began
//! before, does not take its value, and asks again.
//!
//! An insert need not: if it meets an invalidation, it came after that, or is evicted.
//!
//! # Names
//! The store knows a tag by its bytes, with the namespace before it; what it reads back has numbers
//! only ([`Tagged::tag_id`](larder_engine::Tagged::tag_id)). Memory knows it by a name made of that
//! number, or of its bytes where there is no store.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Weak};

use larder_format::layout::TAGS_MAX;

use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::error::{Error, Result};
use crate::idle::MARK;
use crate::key::{Key, tag};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The tags of a value.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    /// As they were given; none of a value that came from the store.
    given: Box<[Box<[u8]>]>,
    /// As the store knows them.
    pub(crate) stored: Box<[Box<[u8]>]>,
    /// As memory knows them.
    pub(crate) names: Box<[Box<str>]>,
    /// For those that the store may not have yet.
    marks: Box<[Mark]>,
}

impl Tags {
    pub(crate) fn new(
        given: &[&[u8]],
        stored: Vec<Box<[u8]>>,
        names: Vec<Box<str>>,
        cells: &Cells,
    ) -> Self {
        let given = given.iter().map(|tag| (*tag).into()).collect();
        let marks = stored.iter().map(|tag| cells.mark(tag)).collect();
        Self { given, stored: stored.into(), names: names.into(), marks }
    }

    /// As they were given.
    pub(crate) fn given(&self) -> Vec<&[u8]> {
        self.given.iter().map(|tag| &**tag).collect()
    }

    /// Of a value that came from the store.
    pub(crate) fn of_stored(ids: &[u64]) -> Option<Arc<Self>> {
        let names = ids.iter().map(|id| name_of(*id)).collect();
        (!ids.is_empty()).then(|| Arc::new(Self { names, ..Self::default() }))
    }

    /// Whether none was invalidated since the value was inserted. Only of those with marks.
    pub(crate) fn are_valid(&self) -> bool {
        self.marks.iter().all(Mark::is_valid)
    }

    /// The names, as memory takes them.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.names.iter().map(|name| &**name).collect()
    }

    /// The tags, as the store takes them.
    pub(crate) fn stored(&self) -> Vec<&[u8]> {
        self.stored.iter().map(|tag| &**tag).collect()
    }
}

/// The name in memory of a tag that the store knows by this number.
pub(crate) fn name_of(id: u64) -> Box<str> {
    format!("{id:016x}").into()
}

/// The name in memory of a tag where there is no store.
pub(crate) fn name_of_bytes(tag: &[u8]) -> Box<str> {
    let mut name = String::with_capacity(2 * tag.len());
    for byte in tag {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name.into()
}

/// A tag as a value saw it when it was inserted.
#[derive(Debug)]
struct Mark {
    cell: Arc<AtomicU64>,
    count: u64,
}

impl Mark {
    fn is_valid(&self) -> bool {
        // Relaxed: counted up while nothing moves, and read by what does: the lock orders it.
        self.cell.load(Ordering::Relaxed) == self.count
    }
}

/// How often each tag was invalidated that a value in memory or pending refers to. What has no
/// cell has no such value.
#[derive(Debug, Default)]
pub(crate) struct Cells(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    cells: HashMap<Box<[u8]>, Weak<AtomicU64>>,
    /// Names at which those without a cell are swept out.
    limit: usize,
}

/// Names that are kept without a sweep.
const NAMES_MIN: usize = 64;

impl Cells {
    fn mark(&self, tag: &[u8]) -> Mark {
        let mut known = self.0.lock();
        let cell = known.cells.get(tag).and_then(Weak::upgrade).unwrap_or_else(|| {
            if known.cells.len() >= known.limit {
                known.cells.retain(|_, cell| cell.strong_count() > 0);
                known.limit = NAMES_MIN.max(2 * known.cells.len());
            }
            let cell = Arc::default();
            known.cells.insert(tag.into(), Arc::downgrade(&cell));
            cell
        });
        // Relaxed: see `Mark::is_valid`; an insert that meets an invalidation comes after it.
        let count = cell.load(Ordering::Relaxed);
        Mark { cell, count }
    }

    /// Invalidates what was marked before. Call while nothing moves.
    pub(crate) fn invalidate(&self, tag: &[u8]) {
        if let Some(cell) = self.0.lock().cells.get(tag).and_then(Weak::upgrade) {
            // Relaxed: see `Mark::is_valid`.
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Which tags were invalidated of late, for loads that began before.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Invalidations so far.
    count: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    by_tag: HashMap<Box<[u8]>, u64>,
    /// What began at this number or before may have missed some.
    floor: u64,
}

/// Tags that are remembered. With more, loads under way of tagged values are not stored.
const LOGGED_MAX: usize = 4096;

impl Log {
    /// What a load that begins now compares with.
    pub(crate) fn now(&self) -> u64 {
        // SeqCst: one order with the number of loads under way, which `note` reads: a load that it
        // does not see has a number from after it.
        self.count.load(Ordering::SeqCst)
    }

    /// Notes an invalidation. `is_awaited` says whether loads are under way. Call while nothing moves.
    pub(crate) fn note(&self, tag: &[u8], is_awaited: impl FnOnce() -> bool) {
        let mut last = self.last.lock();
        // SeqCst: as above.
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if !is_awaited() || last.by_tag.len() >= LOGGED_MAX {
            last.by_tag.clear();
            last.floor = number;
            return;
        }
        last.by_tag.insert(tag.into(), number);
    }

    /// Whether one of some tags may have been invalidated since then. Call while moving.
    pub(crate) fn any_since<'t>(
        &self,
        tags: impl IntoIterator<Item = &'t [u8]>,
        then: u64,
    ) -> bool {
        let mut tags = tags.into_iter().peekable();
        if tags.peek().is_none() {
            return false;
        }
        let last = self.last.lock();
        then < last.floor || tags.any(|tag| last.by_tag.get(tag).is_some_and(|at| *at > then))
    }
}

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// Invalidates everything that was put under a tag before.
    pub(crate) fn invalidate_tag(&self, tag: &[u8]) -> Result<()> {
        self.open()?;
        self.repair();
        let stored = self.stored_tag(tag);
        let names = self.tag_names(&stored)?;
        let below = {
            let _alone = self.moving.write();
            self.invalidated.note(&stored, || self.flights.len() != 0);
            let below = self.lower.as_ref().map_or(Ok(()), |lower| lower.invalidate_tag(&stored));
            self.cells.invalidate(&stored);
            for name in &names {
                self.memory.invalidate_tag(name);
            }
            below
        };
        self.events.emit();
        match below {
            Err(failure) if self.options.strict => Err(failure.into()),
            _ => Ok(()),
        }
    }

    /// The keys that are live under a tag.
    pub(crate) fn keys_by_tag(&self, tag: &[u8]) -> Result<Vec<Key>> {
        self.open()?;
        let stored = self.stored_tag(tag);
        let names = self.tag_names(&stored)?;
        let mut keys: HashSet<Key> =
            names.iter().flat_map(|name| self.memory.keys_of(name)).collect();
        let is_under = |tags: &Tags| tags.names.iter().any(|name| names.contains(name));
        let waits = |key: &Key| {
            let entry = self.waiting(key)?;
            is_under(entry.tags.as_ref()?).then(|| key.clone())
        };
        keys.extend(self.pending.keys().iter().filter_map(waits));
        if let Some(lower) = &self.lower {
            let prefix = &self.options.prefix;
            let ours = |key: &Vec<u8>| key.starts_with(prefix) && !lower.stale.hides(key);
            keys.extend(
                lower
                    .keys_by_tag(&stored)?
                    .iter()
                    .filter(|key| ours(key))
                    .map(|key| Key::from(&key[..])),
            );
        }
        // What is in memory under another tag, or past its time, hides what the store has.
        let is_fresh_below = |key: &Key| {
            let stored = self.lower.as_ref().and_then(|lower| lower.get(key).ok().flatten());
            stored.is_some_and(|stored| self.is_fresh(&stored.meta().into()))
        };
        let stays = |key: &Key| match self.above(key) {
            None => self.options.freshness.grace_ms() == 0 || is_fresh_below(key),
            Some(entry) => {
                let is_tagged = entry.tags.as_ref().is_some_and(|tags| is_under(tags));
                is_tagged && self.is_fresh(&entry.life)
            }
        };
        keys.retain(stays);
        self.events.emit();
        Ok(keys.into_iter().collect())
    }

    /// A tag as the store knows it: with the namespace before it. One without a namespace is as it
    /// is, but for those that look as if they had one; no namespace is empty.
    pub(crate) fn stored_tag(&self, tag: &[u8]) -> Box<[u8]> {
        let prefix = &*self.options.prefix;
        let escape: &[u8] = match tag.first() {
            Some(&tag::NAMESPACE) if prefix.is_empty() => &[tag::NAMESPACE, 0],
            _ => &[],
        };
        [prefix, escape, tag].concat().into()
    }

    /// The name in memory of a tag that the store knows as this.
    fn tag_name(&self, stored: &[u8]) -> Result<Box<str>> {
        match self.lower.as_ref().and_then(|lower| lower.engine.tagged()) {
            None => Ok(name_of_bytes(stored)),
            Some(tagged) => match tagged.tag_id(stored) {
                Ok(id) => Ok(name_of(id)),
                Err(source) => Err(Error::Engine { op: "take a tag", source }),
            },
        }
    }

    /// All names in memory of a tag that the store knows as this.
    fn tag_names(&self, stored: &[u8]) -> Result<Vec<Box<str>>> {
        match self.lower.as_ref().and_then(|lower| lower.engine.tagged()) {
            None => Ok(vec![name_of_bytes(stored)]),
            Some(tagged) => match tagged.tag_ids(stored) {
                Ok(ids) => Ok(ids.into_iter().map(name_of).collect()),
                Err(source) => Err(Error::Engine { op: "take a tag", source }),
            },
        }
    }

    /// Tags as both tiers take them; the store also takes the mark of a value whose end uses move.
    pub(crate) fn tags(&self, tags: &[&[u8]], is_marked: bool) -> Result<Option<Arc<Tags>>> {
        if tags.is_empty() && !is_marked {
            return Ok(None);
        }
        let max = TAGS_MAX - usize::from(is_marked);
        if tags.len() > max {
            return Err(Error::TooManyTags { count: tags.len(), max });
        }
        if self.lower.as_ref().is_some_and(|lower| lower.engine.tagged().is_none()) {
            return Err(Error::Unsupported { what: "tags" });
        }
        let stored: Vec<_> = tags.iter().map(|tag| self.stored_tag(tag)).collect();
        let names = stored.iter().map(|tag| self.tag_name(tag)).collect::<Result<_>>()?;
        let mut tags = Tags::new(tags, stored, names, &self.cells);
        if is_marked {
            tags.stored = tags.stored.into_iter().chain([MARK.into()]).collect();
        }
        Ok(Some(Arc::new(tags)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_valid_until_their_tag_is_invalidated() {
        let cells = Cells::default();
        let tags = |tag: &[u8]| Tags::new(&[], vec![tag.into()], Vec::new(), &cells);
        let (a, b) = (tags(b"a"), tags(b"b"));
        cells.invalidate(b"a");
        cells.invalidate(b"never seen");
        assert!(!a.are_valid() && b.are_valid());
        assert!(tags(b"a").are_valid());
        drop(a);
        assert!(tags(b"a").are_valid(), "a new cell, and nothing that knew the old one");
    }

    #[test]
    fn cells_without_values_are_swept_out() {
        let cells = Cells::default();
        let kept = Tags::new(&[], vec![(*b"kept").into()], Vec::new(), &cells);
        for number in 0..10_000_u32 {
            drop(cells.mark(&number.to_le_bytes()));
        }
        assert!(cells.0.lock().cells.len() <= NAMES_MIN + 1);
        cells.invalidate(b"kept");
        assert!(!kept.are_valid());
    }

    #[test]
    fn the_log_knows_what_came_after_and_doubts_what_it_forgot() {
        let log = Log::default();
        let before = log.now();
        log.note(b"a", || true);
        let after = log.now();
        let tags: [&[u8]; 2] = [b"a", b"b"];
        assert!(log.any_since(tags, before));
        assert!(!log.any_since(tags, after));
        assert!(!log.any_since([&b"b"[..]], before));
        for number in 0..=LOGGED_MAX as u64 {
            log.note(&number.to_le_bytes(), || true);
        }
        assert!(log.any_since([&b"b"[..]], before), "too many to be sure");
        assert!(!log.any_since([&b"b"[..]], log.now()));
        assert!(!log.any_since([], before));
        // No load is under way: nothing need be remembered for those that begin from now on.
        log.note(b"b", || false);
        assert!(log.last.lock().by_tag.is_empty());
        assert!(!log.any_since(tags, log.now()));
    }
}
