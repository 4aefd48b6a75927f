//! Coming back: what is owed to an engine that was away, and when those that stood in for it go.

use std::sync::Arc;
use std::thread::JoinHandle;

use larder_engine::Health;

use super::Inner;
use super::link::Link;
use crate::event::Event;
use crate::sync::{AtomicBool, Mutex, Ordering};

impl Inner {
    /// Whether there is anything to be done that was not tried of late.
    pub(super) fn is_due(&self) -> bool {
        let is_owed = self.reached().any(|(_, link)| link.is_due());
        is_owed || self.first_settled().is_some_and(|at| at < self.reach())
    }

    /// The first engine that is as it should be: the last that was tried of it went well, too, so that
    /// those beyond do not come and go with every failure.
    fn first_settled(&self) -> Option<usize> {
        self.links.iter().position(|link| link.health() == Health::Healthy && !link.stale.any())
    }

    /// Opens what could not be opened, makes good what is owed, and lets go of what is not needed
    /// any more. One thread at a time.
    pub(super) fn bring_back(&self) {
        for (_, link) in self.reached() {
            if self.open().is_err() {
                return;
            }
            if link.open().is_ok() && link.stale.any() {
                link.settle(|key| self.stripe(key));
            }
        }
        if let Some(at) = self.first_settled().filter(|at| *at < self.reach()) {
            self.withdraw_to(at);
        }
        self.look();
    }

    /// Lets go of all engines after this one.
    fn withdraw_to(&self, at: usize) {
        let _all = self.stripes.lock_all();
        // Again: now nobody changes anything.
        if self.open().is_err() || self.first_settled() != Some(at) {
            return;
        }
        for link in self.links.iter().take(self.reach() + 1).skip(at + 1) {
            match link.engine().map(|engine| engine.clear()) {
                None => {}
                Some(Ok(_)) => drop(link.stale.cleared()),
                Some(Err(_)) => link.bypass(),
            }
        }
        // Release: whoever sees it sees those beyond empty, or bypassed.
        self.reach.store(at, Ordering::Release);
    }

    /// Notes who serves now, and whether there is still anything to look at.
    pub(super) fn look(&self) {
        // SeqCst: one order with `in_trouble`. First this, then a look, so that trouble which is not
        // seen says so afterwards.
        self.troubled.store(false, Ordering::SeqCst);
        let is_well = |link: &Link| link.is_well() && !link.stale.any();
        if self.reach() != 0 || !self.links.first().is_some_and(is_well) {
            self.in_trouble();
        }
        let mut known = self.serves.lock();
        let now = self.serving().unwrap_or(usize::MAX);
        if *known != now {
            let name = |at: usize| self.links.get(at).map(|link| Arc::clone(&link.name));
            let (from, to) = (name(*known), name(now));
            *known = now;
            self.events.push(|| Event::Switched { from, to });
        }
    }
}

/// Whoever brings engines back, even if that panics.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `begin`.
        self.0.store(false, Ordering::Release);
    }
}

/// The thread that brings engines back, if there is one.
#[derive(Debug)]
pub(super) struct Returning {
    in_background: bool,
    busy: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Returning {
    pub(super) fn new(in_background: bool) -> Self {
        Self { in_background, busy: Arc::default(), thread: Mutex::default() }
    }

    /// Brings back what can be, unless somebody does already.
    pub(super) fn begin(&self, inner: &Arc<Inner>) {
        // Acquire: what the last one did comes before.
        if self.busy.swap(true, Ordering::Acquire) {
            return;
        }
        let (inner, busy) = (Arc::clone(inner), Busy(Arc::clone(&self.busy)));
        if !self.in_background {
            inner.bring_back();
            drop(busy);
            return;
        }
        let mut thread = self.thread.lock();
        let name = "larder-return".to_owned();
        let spawned = std::thread::Builder::new().name(name);
        // If there is none to be had, the next one to come by tries again.
        let work = move || {
            inner.bring_back();
            // While it is busy still: what an observer does begins no other, which would wait for
            // this one under the lock.
            inner.events.emit();
            drop(busy);
        };
        if let Ok(spawned) = spawned.spawn(work) {
            // The last one has ended but for letting go of what it held.
            let ended = thread.replace(spawned).map(JoinHandle::join);
            drop(ended);
        }
    }

    /// Waits for the thread.
    pub(super) fn end(&self) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread.filter(|it| it.thread().id() != std::thread::current().id()) {
            // It panics only if an engine does, and that was told.
            let _ = thread.join();
        }
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        self.end();
    }
}
