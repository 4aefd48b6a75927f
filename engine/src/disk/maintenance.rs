//! Work ahead of the writers, so that they need not do it: in a thread, or step by step by
//! hand.
//!
//! A step seals what writers left full, reclaims, makes a spare segment, syncs by the clock,
//! or frees what replaced values left, whichever is due first in this order. It takes the
//! maintenance's own lane and never a writer's, so that a writer waits for it only where both
//! need the same thing: the spare that is being made, or the segment that is being reclaimed,
//! and then for one step.
//!
//! The thread holds no store while it sleeps: it ends when the store is closed or dropped,
//! which waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::compact::Count;
use super::deadline::Look;
use super::dying::Step;
use super::observer::Work;
use super::retain::Retain;
use super::slim::Lull;
use super::store::Store;
use super::timing::Timed;
use super::together::TICK;
use super::upkeep::Bell;
use crate::error::{Error, Result};

/// Who does the work that writers should not wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Maintenance {
    /// A thread of the store's own, which sleeps unless there is something to do.
    #[default]
    Thread,
    /// The program, by calling [`Disk::maintain`](crate::Disk::maintain); and the writers, as
    /// far as it does not.
    Manual,
}

/// What one step of the maintenance did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintained {
    /// Full segments that were sealed.
    pub sealed: u64,
    /// Segments that were reclaimed.
    pub reclaimed: u64,
    /// Whether a spare segment was made.
    pub made_spare: bool,
    /// Whether everything was made durable because it was time to.
    pub synced: bool,
    /// External files of replaced values that were removed.
    pub freed: u64,
    /// Whether something else is due now.
    pub more: bool,
}

/// How far the maintenance is. Held by who takes a step.
#[derive(Debug, Default)]
pub(super) struct Progress {
    last_sync_ms: Option<u64>,
    last_free_ms: Option<u64>,
    count: Option<Count>,
    look: Option<Look>,
    lull: Lull,
}

impl Progress {
    /// Lets go of a count that is under way: it is begun anew.
    pub(super) fn forget_count(&mut self) {
        self.count = None;
    }

    /// The look at deadlines that is under way.
    pub(super) fn look(&mut self) -> &mut Option<Look> {
        &mut self.look
    }
}

/// How long the files of replaced values may stay.
const FREE_EVERY_MS: u64 = 1_000;
/// How often the thread looks whether the last readers of a segment are gone.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often it looks for segments in which everything has expired, at most.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// How long nobody has to have written before blocks are given back, at least.
const LULL: Duration = Duration::from_secs(1);
/// How long the thread rests after a failure.
const REST: Duration = Duration::from_millis(500);

impl Store {
    /// Segments that the maintenance keeps free for writers, the spare included: two, unless
    /// the budget is a matter of a few segments.
    pub(super) fn ahead(&self) -> u64 {
        // Those who share it have segments of their own.
        match self.budget() / self.segment_len() / (4 * self.process_count() - 3) {
            0..8 => 0,
            8..16 => 1,
            _ => 2,
        }
    }

    pub(super) fn segment_len(&self) -> u64 {
        self.file.superblock().segment_len.into()
    }

    /// Whether a segment more fits the budget, with `reserve` bytes to spare.
    pub(super) fn can_begin(&self, reserve: u64) -> bool {
        // What is still mapped may exceed it by no more than a segment.
        let most = self.budget().saturating_add(self.segment_len());
        let retired = self.usage.retired() + self.held_elsewhere();
        self.can_begin_within(self.budget(), reserve) && self.can_begin_within(most, retired)
    }

    /// As `can_begin`, with another budget.
    pub(super) fn can_begin_within(&self, budget: u64, reserve: u64) -> bool {
        let new = if self.has_spare() { 0 } else { self.segment_len() };
        self.usage.live().saturating_add(new).saturating_add(reserve) <= budget
    }

    /// Takes one bounded step.
    pub(super) fn maintain(&self) -> Result<Maintained> {
        self.upkeep.timings.time(Timed::Step, || self.take_step())
    }

    fn take_step(&self) -> Result<Maintained> {
        self.check_open()?;
        let mut progress = self.upkeep.progress.lock();
        self.check_open()?;
        let mut done = Maintained::default();
        self.upkeep.sweep_graves();
        self.tick()?;
        let now_ms = self.clock.now_ms();
        done.sealed = self.seal_full() + self.seal_expired(now_ms);
        let step = match self.upkeep.retain {
            Retain::Recent => self.reclaim_ahead(now_ms)?,
            Retain::All if self.step_count(&mut progress.count) => Some(Step::More),
            Retain::All => self.compact_ahead()?,
        };
        let stuck = match step {
            Some(Step::More) => {
                done.more = true;
                return Ok(done);
            }
            Some(Step::Gone) => {
                (done.reclaimed, done.more) = (1, true);
                return Ok(done);
            }
            Some(Step::Stuck) => true,
            None => false,
        };
        if self.upkeep.wishes.wants_spare() {
            // A writer that does not help has nobody else to give lookups the time to end that
            // keep unlinked files mapped.
            let most = self.budget().saturating_add(self.segment_len());
            self.let_go(|retired| self.can_begin_within(most, retired));
        }
        if !stuck && self.wants_spare() {
            done.made_spare = match self.create_spare(now_ms) {
                // A writer that makes no room itself waits for it, and has nobody else.
                Err(Error::StorageFull { .. }) if self.upkeep.wishes.wants_spare() => {
                    self.make_on_full(|| self.create_spare(now_ms))?
                }
                made => made?,
            };
            done.more = true;
            return Ok(done);
        }
        if self.upkeep.has_rolled() && self.grow_ahead()? {
            done.more = true;
            return Ok(done);
        }
        if self.upkeep.has_rolled() && self.step_look(&mut progress.look) {
            done.more = true;
            return Ok(done);
        }
        if let Some(every_ms) = self.upkeep.sync_every_ms {
            let last = *progress.last_sync_ms.get_or_insert(now_ms);
            if now_ms.saturating_sub(last) >= every_ms {
                // First, so that a sync that fails is not tried again at once.
                progress.last_sync_ms = Some(now_ms);
                self.sync()?;
                done.synced = true;
            }
        }
        let doomed = self.doomed.lock().len();
        let freed_ago = progress.last_free_ms.map(|last| now_ms.saturating_sub(last));
        if doomed > 0 && freed_ago.is_none_or(|ago| ago >= FREE_EVERY_MS) {
            progress.last_free_ms = Some(now_ms);
            self.free_doomed()?;
            done.freed = doomed as u64;
        }
        if self.upkeep.has_rolled() {
            self.upkeep.note_lull(self.slim_in_lull(&mut progress.lull));
        }
        Ok(done)
    }

    /// Takes a step towards room for the spare and one more segment, or with a segment in which
    /// everything has expired; `None` if there is, or if
    /// nothing can go.
    fn reclaim_ahead(&self, now_ms: u64) -> Result<Option<Step>> {
        let wishes = &self.upkeep.wishes;
        let ahead = self.ahead().max(wishes.wants_spare().into());
        let missing = ahead.saturating_sub(u64::from(self.has_spare()));
        let wanted = missing * self.segment_len() + self.index_wish();
        let target = self.budget().saturating_sub(wanted.saturating_add(wishes.bytes()));
        let is_wanted =
            ahead > 0 && self.upkeep.has_rolled() && self.looks_after_all() || wishes.any();
        let is_over = self.usage.live().saturating_add(self.held()) > target;
        if !is_over {
            wishes.grant_bytes();
        }
        let over = is_wanted && is_over || self.expired_segment(now_ms).is_some();
        // What was begun is brought to an end.
        if !over && self.reclaiming.lock().is_none() {
            return Ok(None);
        }
        let mut lane = self.lanes.acquire_maintenance();
        let mut reclaiming = self.reclaiming.lock();
        self.step_oldest(&mut reclaiming, Some(&mut lane))
    }

    fn wants_spare(&self) -> bool {
        let is_wanted = self.ahead() > 0 && self.upkeep.has_rolled();
        (is_wanted || self.upkeep.wishes.wants_spare()) && !self.has_spare() && {
            // A store that keeps everything needs a segment to compact to as well.
            self.can_begin(if self.keeps_all() { self.reserve() } else { 0 })
        }
    }

    /// How long the thread may sleep, if nobody wakes it.
    fn nap(&self) -> Option<Duration> {
        let sync = self.upkeep.sync_every_ms.map(|ms| Duration::from_millis(ms.max(1)));
        let free = (!self.doomed.lock().is_empty()).then(|| Duration::from_millis(FREE_EVERY_MS));
        let graves = self.upkeep.sweep_graves().then_some(LOOK_EVERY);
        let left = |deadline: u64| deadline.saturating_sub(self.clock.now_ms());
        let expiry = self
            .next_deadline()
            .map(|deadline| Duration::from_millis(left(deadline)).max(EXPIRE_EVERY));
        let lull = self.upkeep.awaits_lull().then_some(LULL);
        let tick = self.together.is_some().then_some(TICK);
        [sync, free, graves, expiry, lull, tick].into_iter().flatten().min()
    }
}

/// The thread of a store.
#[derive(Debug)]
pub(super) struct Worker {
    bell: Arc<Bell>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process that the thread is in: a child that was forked has none to wait for.
    pid: u32,
}

impl Worker {
    /// Starts the thread of a store that wants one.
    pub(super) fn start(store: &Arc<Store>) -> Result<Option<Self>> {
        if store.upkeep.mode != Maintenance::Thread {
            return Ok(None);
        }
        let (weak, bell) = (Arc::downgrade(store), Arc::clone(&store.upkeep.bell));
        let thread = std::thread::Builder::new()
            .name("larder".to_owned())
            .spawn(move || run(&weak, &bell))
            .map_err(|error| Error::io("start a thread for", store.storage.root(), error))?;
        let bell = Arc::clone(&store.upkeep.bell);
        Ok(Some(Self { bell, thread: Mutex::new(Some(thread)), pid: std::process::id() }))
    }

    /// Ends the thread and waits for the step that it is in.
    pub(super) fn stop(&self) {
        if self.pid != std::process::id() {
            return;
        }
        self.bell.stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // Its panics were caught in it, and counted.
            let _ = thread.join();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(store: &Weak<Store>, bell: &Bell) {
    loop {
        let Some(store) = store.upgrade() else { return };
        let entered = store.upkeep.observed.enter(Work::Maintain);
        let step = catch_unwind(AssertUnwindSafe(|| store.maintain()));
        store.upkeep.observed.tell();
        drop(entered);
        let error = match step {
            Ok(Ok(done)) => {
                let nap = if done.more { Some(Duration::ZERO) } else { store.nap() };
                drop(store);
                if !bell.wait(nap) {
                    return;
                }
                continue;
            }
            Ok(Err(Error::Closed)) => return,
            Ok(Err(error)) => Some(error),
            // A bug: whoever has its own hook has heard of it already.
            Err(_) => None,
        };
        store.upkeep.note_trouble(error);
        store.upkeep.observed.tell();
        drop(store);
        if !bell.rest(REST) {
            return;
        }
    }
}
