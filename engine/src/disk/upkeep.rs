//! What the maintenance and the writers share, each part behind a lock of its own.
//!
//! Of these locks `progress` is taken first, before any lane's; `sealing` before `full`; and
//! `spare` as `lanes.rs` says. The others are held for a moment.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::admission::Gate;
use super::builder::Options;
use super::cell;
use super::lanes::Held;
use super::maintenance::{Maintenance, Progress};
use super::observer::{Event, Observed};
use super::retain::Retain;
use super::segment::Segment;
use super::shortage::Wishes;
use super::store::Store;
use super::timing::Timings;
use super::writer::Writer;
use crate::engine::WhenShort;
use crate::error::Error;
use crate::stats::Stats;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// A spare that was used within this time was used before its pages would have been written.
const FAST_MS: u64 = 5_000;
/// Full segments that writers may leave to the maintenance to seal.
const FULL_MAX: usize = 2;
/// Unlinked segments that are left to the maintenance to unmap.
const GRAVES_MAX: usize = 1;

/// The maintenance's part of a store.
#[derive(Debug)]
pub(super) struct Upkeep {
    pub(super) mode: Maintenance,
    pub(super) retain: Retain,
    pub(super) gate: Gate,
    pub(super) sync_every_ms: Option<u64>,
    pub(super) observed: Observed,
    pub(super) timings: Timings,
    /// What becomes of values for which no room is ready, unless they say so themselves.
    pub(super) when_short: WhenShort,
    pub(super) wishes: Wishes,
    /// The store is open to be read: what it writes stays in its memory.
    pub(super) read_only: bool,
    /// The store is opened to be repaired, which looks at large values later: a key whose file
    /// is damaged goes then, and no older value shows.
    pub(super) repairs: bool,
    /// A segment that is ready to be written to.
    pub(super) spare: Mutex<Option<Arc<Segment>>>,
    /// Wakes those who wait for it.
    pub(super) spare_made: Condvar,
    /// When the spare was made, and whether the one before it was used soon.
    spare_ms: AtomicU64,
    is_fast: AtomicBool,
    /// Whether anybody began a segment: a store that is only read needs no spare.
    has_rolled: AtomicBool,
    /// Slots of the index that is soon to grow; 0 for none.
    soon_to_grow: AtomicU64,
    /// Whether the maintenance waits for a time in which nobody writes (`slim.rs`).
    awaits_lull: AtomicBool,
    /// Segments that are full, and still to be sealed.
    full: Mutex<Vec<Writer>>,
    /// Held to seal them.
    sealing: Mutex<()>,
    /// Segments that were unlinked and that readers may still have. Whoever lets go of one
    /// last unmaps it, and that is to be the maintenance.
    graves: Mutex<Vec<Arc<Segment>>>,
    /// All unlinked segments that are still mapped.
    retired: Mutex<Vec<Weak<Segment>>>,
    pub(super) bell: Arc<Bell>,
    troubles: Mutex<Troubles>,
    /// Held by who takes a step.
    pub(super) progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Troubles {
    count: u64,
    last: Option<Arc<Error>>,
}

impl Upkeep {
    pub(super) fn new(options: &Options) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            mode: options.maintenance,
            retain: options.retain,
            gate: Gate::new(options.admission, options.budget),
            sync_every_ms: options.sync_every.map(ms),
            observed: Observed::by(options.observers.clone()),
            timings: Timings::new(options),
            read_only: options.read_only,
            repairs: options.repairs,
            when_short: options.when_short,
            wishes: Wishes::default(),
            spare: Mutex::new(None),
            spare_made: Condvar::new(),
            spare_ms: AtomicU64::new(0),
            is_fast: AtomicBool::new(false),
            has_rolled: AtomicBool::new(false),
            soon_to_grow: AtomicU64::new(0),
            awaits_lull: AtomicBool::new(false),
            full: Mutex::new(Vec::new()),
            sealing: Mutex::new(()),
            graves: Mutex::new(Vec::new()),
            retired: Mutex::new(Vec::new()),
            bell: Arc::new(Bell::default()),
            troubles: Mutex::default(),
            progress: Mutex::default(),
        }
    }

    /// Notes that a segment was begun, and wakes the maintenance: it has a spare to make.
    pub(super) fn note_roll(&self) {
        // Relaxed: a hint; the bell's lock orders it.
        self.has_rolled.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    /// Notes that a spare was made. Whether its pages had better be made writable at once: it
    /// will be used before the disk gets them.
    pub(super) fn note_spare_made(&self, now_ms: u64) -> bool {
        // Relaxed, here and below: hints, under the spare's lock or just after it.
        self.spare_ms.store(now_ms, Ordering::Relaxed);
        self.is_fast.load(Ordering::Relaxed)
    }

    pub(super) fn note_spare_used(&self, now_ms: u64) {
        let waited = now_ms.saturating_sub(self.spare_ms.load(Ordering::Relaxed));
        self.is_fast.store(waited < FAST_MS, Ordering::Relaxed);
    }

    /// Wakes the maintenance, once, to make the next generation of an index of so many slots.
    pub(super) fn wish_growth(&self, slots: u64) {
        // Relaxed: a hint; the bell's lock orders it.
        if self.soon_to_grow.load(Ordering::Relaxed) != slots {
            self.soon_to_grow.store(slots, Ordering::Relaxed);
            self.bell.ring();
        }
    }

    pub(super) fn note_lull(&self, awaited: bool) {
        // Relaxed, here and below: for one thread at a time, which holds what orders it.
        self.awaits_lull.store(awaited, Ordering::Relaxed);
    }

    pub(super) fn awaits_lull(&self) -> bool {
        self.awaits_lull.load(Ordering::Relaxed)
    }

    pub(super) fn has_rolled(&self) -> bool {
        // Relaxed: a hint.
        self.has_rolled.load(Ordering::Relaxed)
    }

    /// Takes in an unlinked segment, and keeps it until its last reader is gone if a thread
    /// looks after it.
    pub(super) fn inter(&self, segment: &Arc<Segment>) {
        self.retired.lock().push(Arc::downgrade(segment));
        let mut graves = self.graves.lock();
        if self.mode == Maintenance::Thread && graves.len() < GRAVES_MAX {
            graves.push(Arc::clone(segment));
        }
    }

    /// Lets go of the unlinked segments that nobody else has. Whether any are left.
    pub(super) fn sweep_graves(&self) -> bool {
        if self.graves.lock().is_empty() {
            return false;
        }
        cell::let_go();
        let (gone, left): (Vec<_>, Vec<_>) = {
            let mut graves = self.graves.lock();
            // Nobody can get one from the table any more, so that a count of 1 stays.
            std::mem::take(&mut *graves).into_iter().partition(|s| Arc::strong_count(s) == 1)
        };
        drop(gone);
        let any = !left.is_empty();
        self.graves.lock().extend(left);
        any
    }

    /// Bytes of unlinked segments that go as soon as the last lookups that may see them have
    /// ended: nobody has a view of them.
    pub(super) fn fleeting(&self) -> u64 {
        let graves: Vec<u64> = self.graves.lock().iter().map(|segment| segment.id()).collect();
        let mut retired = self.retired.lock();
        retired.retain(|segment| segment.strong_count() > 0);
        let mut bytes = 0;
        for segment in retired.iter().filter_map(Weak::upgrade) {
            // This one, the table's, which lookups see through, and the grave's.
            let known = 2 + usize::from(graves.contains(&segment.id()));
            if Arc::strong_count(&segment) <= known {
                bytes += segment.len() as u64;
            }
        }
        bytes
    }

    pub(super) fn note_trouble(&self, error: Option<Error>) {
        let error = error.map(Arc::new);
        let mut troubles = self.troubles.lock();
        troubles.count += 1;
        if let Some(error) = &error {
            troubles.last = Some(Arc::clone(error));
        }
        drop(troubles);
        self.observed.note(|| Event::MaintenanceFailed { error });
    }

    pub(super) fn last_trouble(&self) -> Option<Arc<Error>> {
        self.troubles.lock().last.clone()
    }

    pub(super) fn fill(&self, stats: &mut Stats) {
        stats.maintenance_errors = self.troubles.lock().count;
    }
}

impl Store {
    /// Ends a lane's segment: leaves it to the thread to seal, which has to look at all of it,
    /// or seals it here if there is no thread or it is behind.
    pub(super) fn hand_over(&self, lane: &mut Held<'_>) {
        let Some(writer) = lane.writer.take() else { return };
        let mut full = self.upkeep.full.lock();
        if self.upkeep.mode == Maintenance::Thread && full.len() < FULL_MAX {
            full.push(writer);
            return;
        }
        drop(full);
        self.seal_writer(writer);
    }

    /// Seals what writers handed over; returns how many segments that were. When it returns,
    /// all that had been handed over before the call are sealed.
    pub(super) fn seal_full(&self) -> u64 {
        let _sealing = self.upkeep.sealing.lock();
        let mut sealed = 0;
        loop {
            let next = self.upkeep.full.lock().pop();
            let Some(writer) = next else { return sealed };
            self.seal_writer(writer);
            sealed += 1;
        }
    }
}

/// What wakes the maintenance.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<Rung>,
    heard: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    rung: bool,
    stopped: bool,
}

impl Bell {
    /// Wakes the thread, now or when it next would sleep.
    pub(super) fn ring(&self) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.rung, true) {
            self.heard.notify_one();
        }
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.heard.notify_all();
    }

    /// Sleeps until the bell rings or `at_most` is over. Whether to go on.
    pub(super) fn wait(&self, at_most: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        if !state.rung && !state.stopped {
            match at_most {
                Some(time) => drop(self.heard.wait_for(&mut state, time)),
                None => self.heard.wait(&mut state),
            }
        }
        state.rung = false;
        !state.stopped
    }

    /// Sleeps for a time, whoever rings. Whether to go on.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.stopped {
            let _ = self.heard.wait_while_for(&mut state, |state| !state.stopped, time);
        }
        !state.stopped
    }
}
