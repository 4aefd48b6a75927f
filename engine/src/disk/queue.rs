//! Queues: items in order under a name, taken from either end.
//!
//! ```text
//! state   prefix 0              head and tail, u64 each, little-endian
//! item    prefix 1 number       its value; the number as u64, little-endian
//! ```
//!
//! The prefix is that of the queue (`space.rs`). The items of a queue have the numbers from
//! `head` to below `tail`. A queue without a state is empty, and begins anew in the middle of
//! the numbers.
//!
//! # Invariants
//! 1. Every operation that changes a queue is one batch that writes or removes its state, and
//!    expects the state that it has seen. So the operations of a queue are in one order, and
//!    each takes place as a whole, also over a kill or a loss of power.
//! 2. A number from `head` to below `tail` has been written since the state was begun: what
//!    an older state, that was evicted, left under a number was replaced before the number
//!    counts.
//! 3. What was seen under a number belongs to the state that was seen if that state is still
//!    there afterwards. An item may be missing, as it has expired or was evicted: then it is
//!    passed over.

use larder_format::layout::KEY_LEN_MAX;

use super::Disk;
use super::space::{Owner, prefix, with_tags};
use crate::batch::{BatchOutcome, WriteBatch};
use crate::engine::{Durability, Expected, Put, Rejection, Ttl};
use crate::error::{Error, Result};
use crate::value::Value;

/// The number of the first item of an empty queue.
const START: u64 = 500_000_000_000_000;
/// Longest name, so that a batch of a queue never exceeds a segment.
const NAME_MAX: usize = KEY_LEN_MAX / 32;
/// Missing items that are passed over in one batch.
const SKIP_MAX: u64 = 24;
const STATE_LEN: usize = 16;

/// A queue in a [`Disk`], by name. Made by [`Disk::queue`].
///
/// All operations may be called from any thread at any time and through any number of these:
/// they take place at one moment, as a whole, and each item is pulled once. An item keeps its
/// expiry: one that has expired is passed over, and removed on the way. A store that evicts may
/// evict items as well, the oldest first, and those are passed over, too; use
/// [`Retain::All`](crate::Retain::All) where nothing may be lost.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
/// use larder_engine::Put;
///
/// let jobs = disk.queue("jobs");
/// let _ = jobs.push_back(b"first", &Put::default())?;
/// let _ = jobs.push_back(b"second", &Put::default())?;
/// let (_, job) = jobs.pull_front()?.ok_or("empty")?;
/// assert_eq!(&*job, b"first");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// All methods: as of [`Disk::write`]; [`Error::KeyTooLong`] if the name is longer than 1024
/// bytes.
#[derive(Debug, Clone)]
pub struct Queue<'a> {
    disk: &'a Disk,
    prefix: Vec<u8>,
    name_len: usize,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an item may have been refused"]
pub enum Pushed {
    /// It is in the queue, under this number: higher than that of everything before it, and
    /// lower than that of everything behind. An empty queue begins at 500,000,000,000,000.
    At(u64),
    /// It is not in the queue, which is as it was.
    Rejected(Rejection),
}

/// An end of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Front,
    Back,
}

/// Which numbers a queue has, and the version of the state that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    head: u64,
    tail: u64,
    expected: Expected,
}

/// What is found at an end of a queue.
struct End {
    seen: State,
    /// The item there, and its number; `None` if those that were looked at are missing.
    item: Option<(u64, Value)>,
    /// What is left without the missing ones.
    rest: State,
}

impl Disk {
    /// The queue of a name, which may be any bytes. Costs nothing, and stores nothing.
    #[must_use]
    pub fn queue(&self, name: impl AsRef<[u8]>) -> Queue<'_> {
        let name = name.as_ref();
        Queue { disk: self, prefix: prefix(Owner::Queue, name), name_len: name.len() }
    }
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl Queue<'_> {
    /// Puts an item at the end. Its durability is that of the queue's new state, too.
    pub fn push_back(&self, item: &[u8], options: &Put<'_>) -> Result<Pushed> {
        self.push(item, options, Side::Back)
    }

    /// Puts an item at the front.
    pub fn push_front(&self, item: &[u8], options: &Put<'_>) -> Result<Pushed> {
        self.push(item, options, Side::Front)
    }

    /// Removes the first item, and returns it with its number; `None` if the queue is empty.
    pub fn pull_front(&self) -> Result<Option<(u64, Value)>> {
        self.pull(Side::Front)
    }

    /// Removes the last item, and returns it with its number.
    pub fn pull_back(&self) -> Result<Option<(u64, Value)>> {
        self.pull(Side::Back)
    }

    /// The first item and its number.
    pub fn peek_front(&self) -> Result<Option<(u64, Value)>> {
        self.peek(Side::Front)
    }

    /// The last item and its number.
    pub fn peek_back(&self) -> Result<Option<(u64, Value)>> {
        self.peek(Side::Back)
    }

    /// How many items there are, those that have expired or were evicted included until they
    /// are passed over at an end.
    pub fn len(&self) -> Result<u64> {
        let state = self.state()?;
        Ok(state.tail.saturating_sub(state.head))
    }

    /// Whether there are no items, of which those count that [`len`](Self::len) counts.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    fn push(&self, item: &[u8], options: &Put<'_>, side: Side) -> Result<Pushed> {
        loop {
            let seen = self.state()?;
            let mut next = seen;
            let number = match side {
                Side::Front => {
                    next.head -= 1;
                    next.head
                }
                Side::Back => {
                    next.tail += 1;
                    seen.tail
                }
            };
            let mut batch = self.advance(seen, next);
            with_tags(options, None, |options| {
                batch.put(&self.item_key(number), item, options);
                Ok(())
            })?;
            match self.disk.write_stored(&batch, options.durability)? {
                BatchOutcome::Committed { .. } => return Ok(Pushed::At(number)),
                BatchOutcome::Rejected(why) => return Ok(Pushed::Rejected(why)),
                BatchOutcome::Conflict { .. } => {}
            }
        }
    }

    fn pull(&self, side: Side) -> Result<Option<(u64, Value)>> {
        loop {
            let End { seen, item, mut rest } = self.look(side)?;
            match (&item, side) {
                (Some(_), Side::Front) => rest.head += 1,
                (Some(_), Side::Back) => rest.tail -= 1,
                (None, _) if seen.is_empty() => return Ok(None),
                (None, _) => {}
            }
            if self.shrink(seen, rest)? && (item.is_some() || rest.is_empty()) {
                return Ok(item);
            }
        }
    }

    fn peek(&self, side: Side) -> Result<Option<(u64, Value)>> {
        loop {
            let End { seen, item, rest } = self.look(side)?;
            let is_so = match seen == rest {
                true => self.state()? == seen,
                false => self.shrink(seen, rest)?,
            };
            if is_so && (item.is_some() || rest.is_empty()) {
                return Ok(item);
            }
        }
    }

    /// Finds the item at an end, behind a bounded number of missing ones.
    fn look(&self, side: Side) -> Result<End> {
        let seen = self.state()?;
        let mut rest = seen;
        for _ in 0..SKIP_MAX {
            if rest.is_empty() {
                break;
            }
            let number = match side {
                Side::Front => rest.head,
                Side::Back => rest.tail - 1,
            };
            if let Some(item) = self.disk.store.get(&self.item_key(number))? {
                return Ok(End { seen, item: Some((number, item)), rest });
            }
            match side {
                Side::Front => rest.head += 1,
                Side::Back => rest.tail -= 1,
            }
        }
        Ok(End { seen, item: None, rest })
    }

    /// Removes the items that are no longer in the queue. Whether it was as it was seen.
    fn shrink(&self, seen: State, rest: State) -> Result<bool> {
        let mut batch = self.advance(seen, rest);
        for number in (seen.head..rest.head).chain(rest.tail..seen.tail) {
            batch.remove(&self.item_key(number));
        }
        match self.disk.writable()?.write(&batch, Durability::None)? {
            BatchOutcome::Committed { .. } => Ok(true),
            BatchOutcome::Conflict { .. } => Ok(false),
            // Names are limited so that this has room.
            BatchOutcome::Rejected(_) => {
                let budget = self.disk.store.largest_value();
                Err(Error::Full { needed: NAME_MAX as u64 * (SKIP_MAX + 2), budget })
            }
        }
    }

    /// A batch that leads from one state to another.
    fn advance(&self, seen: State, next: State) -> WriteBatch {
        let mut batch = WriteBatch::new();
        let key = self.state_key();
        batch.expect(&key, seen.expected);
        if next.is_empty() {
            batch.remove(&key);
        } else {
            let forever = Put { ttl: Ttl::Never, ..Put::default() };
            batch.put(&key, &next.encode(), &forever);
        }
        batch
    }

    fn state(&self) -> Result<State> {
        if self.name_len > NAME_MAX {
            return Err(Error::KeyTooLong { len: self.name_len, max: NAME_MAX });
        }
        let found = self.disk.store.get(&self.state_key())?;
        let empty = State { head: START, tail: START, expected: Expected::Absent };
        Ok(found.map_or(empty, |found| State::decode(&found)))
    }

    fn state_key(&self) -> Vec<u8> {
        [&*self.prefix, &[0]].concat()
    }

    fn item_key(&self, number: u64) -> Vec<u8> {
        [&*self.prefix, &[1], &number.to_le_bytes()].concat()
    }
}

impl State {
    const fn is_empty(self) -> bool {
        self.head >= self.tail
    }

    fn encode(self) -> [u8; STATE_LEN] {
        let mut bytes = [0; STATE_LEN];
        bytes[..8].copy_from_slice(&self.head.to_le_bytes());
        bytes[8..].copy_from_slice(&self.tail.to_le_bytes());
        bytes
    }

    /// What is no state, and passed all checksums, was written by another version: as an empty
    /// one it is replaced.
    fn decode(value: &Value) -> Self {
        let expected = Expected::Version(value.meta().version);
        let word = |at: usize| {
            let bytes = value.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(START, u64::from_le_bytes)
        };
        let (head, tail) =
            if value.len() == STATE_LEN { (word(0), word(8)) } else { (START, START) };
        // Far from both ends of the numbers, where they begin: no step can overflow.
        let is_sound = head <= tail && (1..u64::MAX).contains(&head) && tail < u64::MAX;
        let (head, tail) = if is_sound { (head, tail) } else { (START, START) };
        Self { head, tail, expected }
    }
}
