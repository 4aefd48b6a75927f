//! What becomes of a value for which no room is ready: its writer makes room, waits for it, or
//! is told.
//!
//! Room is ready in a lane's open segment, or in the spare, if the budget holds with it: nothing
//! is created, reclaimed or compacted for one who does not help. What it lacked is left as a
//! wish, for which the maintenance wakes up even where it keeps no spare otherwise.
//!
//! # Invariants
//! 1. Who is not to wait takes locks only by trying, and the lane's first; who waits until a
//!    time holds the lane meanwhile, and no epoch.
//! 2. A wish is granted once and then forgotten, whether its owner comes back or not.
//!
//! All orderings are Relaxed: wishes are hints, and the bell's lock orders them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_format::Kind;

use super::compact::PRESSED;
use super::counters::Count;
use super::lanes::Held;
use super::segment::Segment;
use super::store::Store;
use super::writer::Writer;
use crate::engine::{Outcome, Rejection, WhenShort};
use crate::error::{Error, Result};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// How long a writer waits before it looks again whether the budget holds by now.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How long a writer waits for room that others make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It makes the room itself.
    Help,
    /// Not at all.
    None,
    /// Until then.
    Until(Instant),
}

impl Patience {
    pub(super) fn of(when_short: WhenShort) -> Self {
        match when_short {
            WhenShort::Help => Self::Help,
            WhenShort::Reject | WhenShort::Block => Self::None,
            // A time that the clock cannot show never comes.
            WhenShort::Wait(time) => {
                Instant::now().checked_add(time).map_or(Self::Help, Self::Until)
            }
        }
    }

    /// Whether the time is over.
    fn is_over(self) -> bool {
        match self {
            Self::Help => false,
            Self::None => true,
            Self::Until(end) => Instant::now() >= end,
        }
    }

    /// When to look again.
    fn next_look(self) -> Instant {
        let next = Instant::now() + LOOK_EVERY;
        match self {
            Self::Until(end) => next.min(end),
            _ => next,
        }
    }
}

/// What writers lacked that did not make it themselves.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    spare: AtomicBool,
    bytes: AtomicU64,
}

impl Wishes {
    /// Whether a spare is wished for.
    pub(super) fn wants_spare(&self) -> bool {
        self.spare.load(Ordering::Relaxed)
    }

    /// Bytes that are wished for beside the spare.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether anything is wished for.
    pub(super) fn any(&self) -> bool {
        self.wants_spare() || self.bytes() > 0
    }

    /// Forgets about the spare, which is there.
    pub(super) fn grant_spare(&self) {
        self.spare.store(false, Ordering::Relaxed);
    }

    /// Forgets about the bytes, which are there.
    pub(super) fn grant_bytes(&self) {
        self.bytes.store(0, Ordering::Relaxed);
    }
}

impl Store {
    /// What becomes of values for which no room is ready, as these options say or the builder
    /// did.
    pub(super) fn when_short(&self, wanted: Option<WhenShort>) -> WhenShort {
        wanted.unwrap_or(self.upkeep.when_short)
    }

    /// What is said to a writer that found no room ready.
    pub(super) fn blocked(&self, wanted: Option<WhenShort>) -> Outcome {
        match self.when_short(wanted) {
            WhenShort::Reject => {
                self.counters.add(Count::Rejected, 1);
                Outcome::Rejected(Rejection::NoRoom)
            }
            _ => {
                self.counters.add(Count::Blocked, 1);
                Outcome::Blocked
            }
        }
    }

    /// A lane to write to, for one who has so much patience.
    pub(super) fn acquire_lane(&self, patience: Patience, durable: bool) -> Result<Held<'_>> {
        let held = match patience {
            Patience::Help => Some(self.lanes.acquire_for(durable)),
            Patience::None => self.lanes.try_acquire(durable, None),
            Patience::Until(end) => self.lanes.try_acquire(durable, Some(end)),
        };
        held.ok_or_else(|| self.no_room())
    }

    fn no_room(&self) -> Error {
        Error::Blocked { path: self.storage.root().to_owned() }
    }

    /// Goes on to the spare, for a writer that makes no room itself. The caller is not pinned.
    pub(super) fn roll_to_spare(&self, lane: &mut Held<'_>, kind: Kind, now_ms: u64) -> Result<()> {
        loop {
            if self.is_within_budget(kind)
                && let Some(segment) = self.begin_spare(now_ms)
            {
                self.hand_over(lane);
                *lane.writer = Writer::new(segment);
                return Ok(());
            }
            if self.is_full(now_ms) {
                let needed = self.segment_len() + self.reserve();
                return Err(Error::Full { needed, budget: self.budget() });
            }
            self.upkeep.wishes.spare.store(true, Ordering::Relaxed);
            self.upkeep.bell.ring();
            if lane.patience.is_over() {
                return Err(self.no_room());
            }
            self.wait_for_spare(lane.patience.next_look());
            self.check_open()?;
        }
    }

    /// Whether the budget holds once the spare, which counts already, is written to.
    fn is_within_budget(&self, kind: Kind) -> bool {
        if self.keeps_all() {
            let reserve = if kind == Kind::Value { self.reserve() } else { self.segment_len() };
            return self.can_begin(reserve.saturating_add(self.held()));
        }
        let target = self.budget().saturating_sub(self.index_wish());
        self.usage.live().saturating_add(self.held()) <= target
    }

    /// Whether a store that keeps everything has no room and nothing that could give some: then
    /// waiting is of no use.
    fn is_full(&self, now_ms: u64) -> bool {
        self.keeps_all()
            && !self.is_within_budget(Kind::Value)
            && self.expired_segment(now_ms).is_none()
            && self.has_counted_all()
            && self.sparsest(PRESSED).is_none()
            && self.reclaiming.try_lock().is_some_and(|reclaiming| reclaiming.is_none())
    }

    /// Takes the spare, if there is one and nobody else is at it.
    fn begin_spare(&self, now_ms: u64) -> Option<Arc<Segment>> {
        let segment = self.upkeep.spare.try_lock()?.take()?;
        self.upkeep.note_spare_used(now_ms);
        self.note_begun(&segment);
        Some(segment)
    }

    fn wait_for_spare(&self, until: Instant) {
        // The maintenance holds the lock while it makes one.
        if let Some(mut spare) = self.upkeep.spare.try_lock_until(until)
            && spare.is_none()
        {
            self.upkeep.spare_made.wait_until(&mut spare, until);
        }
        if !self.is_within_budget(Kind::Value) {
            // There is one, but not the room for it.
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Waits until a file of this many bytes fits the budget, for a writer that makes no room
    /// itself.
    pub(super) fn wait_for_space(&self, bytes: u64, patience: Patience) -> Result<()> {
        let fits = || {
            let held = self.held();
            if self.keeps_all() {
                return self.can_begin(bytes.saturating_add(self.reserve()).saturating_add(held));
            }
            self.usage.live().saturating_add(held).saturating_add(bytes) <= self.budget()
        };
        while !fits() {
            if self.is_full(self.clock.now_ms()) {
                let needed = bytes.saturating_add(self.reserve());
                return Err(Error::Full { needed, budget: self.budget() });
            }
            self.upkeep.wishes.bytes.fetch_max(bytes, Ordering::Relaxed);
            self.upkeep.bell.ring();
            if patience.is_over() {
                return Err(self.no_room());
            }
            let wait = patience.next_look().saturating_duration_since(Instant::now());
            std::thread::sleep(wait);
            self.check_open()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::builder::Options;
    use super::super::heap::Heap;
    use super::*;
    use crate::disk::Maintenance;
    use crate::engine::{Engine as _, Put};

    #[test]
    fn a_lane_that_another_writer_has_is_waited_for_as_long_as_was_said() {
        let maintenance = Maintenance::Manual;
        let options =
            Options { budget: 4 << 20, writers: Some(1), maintenance, ..Options::default() };
        let disk = options.open_in(Arc::new(Heap::default())).expect("opens on the heap");
        let put = |when_short| {
            let options = Put { when_short: Some(when_short), ..Put::default() };
            disk.put(b"key", b"value", &options).expect("can be asked")
        };
        assert!(put(WhenShort::Help).is_admitted());
        let held = disk.store.lanes.acquire();
        assert_eq!(put(WhenShort::Block), Outcome::Blocked);
        assert_eq!(put(WhenShort::Reject), Outcome::Rejected(Rejection::NoRoom));
        let began = Instant::now();
        let wait = Duration::from_millis(3);
        assert_eq!(put(WhenShort::Wait(wait)), Outcome::Blocked);
        assert!(began.elapsed() >= wait);
        drop(held);
        assert!(put(WhenShort::Block).is_admitted(), "there is room in the open segment");
    }

    #[test]
    fn a_wish_is_granted_once() {
        let wishes = Wishes::default();
        wishes.bytes.fetch_max(5, Ordering::Relaxed);
        wishes.spare.store(true, Ordering::Relaxed);
        wishes.grant_spare();
        assert!(wishes.any() && !wishes.wants_spare());
        wishes.grant_bytes();
        assert!(!wishes.any());
    }
}
