//! Who is reading, so that nothing is freed under a reader: epochs of single threads.
//!
//! Each thread has a [`Record`] of its own. A lookup marks it while it reads (a [`Pin`]), and
//! unmarks it at the end. Whoever has unlinked something looks which records are marked at
//! that moment, and waits until each of those has been unmarked once (a [`Grace`]): whoever
//! reads after that began after the unlinking, and cannot have found it. Nobody ever blocks: a
//! grace is asked from time to time whether it is over.
//!
//! A closure of the user may take its time, and must not hold back everything that leaves
//! meanwhile. So a lookup that runs one notes the address of the one entry that it looks at, a
//! hazard pointer (Michael 2004), before it unmarks its record. What is looked at
//! when its grace is over stays a while longer; the rest goes.
//!
//! ```text
//! reader   mark ─ fence ─ find ─ read ───────────────────────────── unmark
//!          mark ─ fence ─ find ─ note address ─ unmark ─ read ────── forget address
//! writer   unlink ─ fence ─ who is marked? ─ … ─ all unmarked ─ who looks? ─ free
//! ```
//!
//! This is less than a general collector: `crossbeam-epoch` would do for the marks, but a
//! reader asleep in a closure would stop it, and a deferred function per batch costs more than
//! a look at the records.
//!
//! # Invariants
//! 1. A record belongs to one thread at a time, which alone writes it. It is never freed.
//! 2. `state` is odd while its thread reads, and is never the same twice.
//! 3. An address is noted while its thread is marked, so before it can be freed.
//!
//! # Orderings
//! The two fences are SeqCst. Either the writer sees the mark, or the reader, whose loads come
//! after its fence, sees what was unlinked before the writer's. Unmarking is Release and looking
//! at marks Acquire: what was read, and noted, comes before what is freed. The same goes for
//! forgetting an address and looking who looks. Marking is an exchange, since it may hide the end of
//! what went before. So may a note; but between that and the end there was a fence, or a mark
//! that is still there.

use std::marker::PhantomData;

use crate::sync::{AtomicU64, Ordering, Site, Turn, fence, fence_behind_swap};

/// Entries that one thread can look at at once: lookups in closures of lookups. Whoever goes
/// deeper stays marked meanwhile.
const LOOKS: usize = 3;

/// What one thread reads at the moment. Alone on its cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Record {
    state: AtomicU64,
    looks: [AtomicU64; LOOKS],
    index: usize,
    turn: Turn,
}

impl Record {
    /// A record that nobody uses yet.
    pub(crate) fn new(index: usize) -> Self {
        Self {
            state: AtomicU64::new(0),
            looks: std::array::from_fn(|_| AtomicU64::new(0)),
            index,
            turn: Turn::default(),
        }
    }

    /// Its number; those in use are dense.
    pub(crate) const fn index(&self) -> usize {
        self.index
    }

    /// Marks the record, which must be that of this thread.
    #[inline]
    pub(crate) fn enter(&'static self) -> Pin {
        // Relaxed: only this thread writes it.
        let state = self.state.load(Ordering::Relaxed);
        let nested = state % 2 == 1;
        if !nested {
            self.mark(state + 1);
        }
        Pin { record: self, end: if nested { End::Stay } else { End::Leave }, thread: PhantomData }
    }

    #[inline]
    fn mark(&self, state: u64) {
        self.turn.take();
        // Relaxed: it orders nothing by itself. But it is an exchange, so that whoever sees this
        // mark, and not the unmarking before, still sees what was read before that (a release
        // sequence).
        self.state.swap(state, Ordering::Relaxed);
        fence_behind_swap(Site::ReadFence.is(Ordering::SeqCst));
    }

    #[inline]
    fn unmark(&self) {
        // Relaxed: only this thread writes it.
        let state = self.state.load(Ordering::Relaxed);
        self.turn.take();
        // Release: what was read before pairs with the Acquire in `Grace`.
        self.state.store(state + 1, Site::ReadEnd.is(Ordering::Release));
    }
}

/// What becomes of a record when a pin ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is unmarked.
    Leave,
    /// Nothing: an outer pin marks it.
    Stay,
    /// It is unmarked, and given back: the thread has none of its own any more.
    GiveBack,
    /// It no longer looks at what it notes here.
    Forget(u8),
    /// The same, and it is given back.
    ForgetAndGiveBack(u8),
}

/// While this lives, nothing that its thread finds is freed; or one thing, which it looks at.
#[derive(Debug)]
pub(crate) struct Pin {
    record: &'static Record,
    end: End,
    /// Not to be sent to another thread.
    thread: PhantomData<*const ()>,
}

impl Pin {
    /// The record of this thread.
    #[inline]
    pub(crate) const fn record(&self) -> &'static Record {
        self.record
    }

    /// Keeps nothing but what is at one address from now on, which was found under the pin. No
    /// change if the thread looks at too much already.
    #[inline]
    pub(crate) fn look_at(&mut self, address: usize) {
        let end = |at| match self.end {
            End::Leave | End::Stay => Some(End::Forget(at)),
            End::GiveBack => Some(End::ForgetAndGiveBack(at)),
            End::Forget(_) | End::ForgetAndGiveBack(_) => None,
        };
        // Relaxed: only this thread writes them.
        let vacant = |(_, look): &(u8, &AtomicU64)| look.load(Ordering::Relaxed) == 0;
        let Some((at, look)) = (0..).zip(&self.record.looks).find(vacant) else { return };
        let Some(end) = end(at) else { return };
        self.record.turn.take();
        // Relaxed: see the header.
        look.store(address as u64, Ordering::Relaxed);
        if self.end != End::Stay {
            self.record.unmark();
        }
        self.end = end;
    }

    fn forget(&self, at: u8) {
        self.record.turn.take();
        // Release: what was read comes before what is freed.
        self.record.looks[usize::from(at)].store(0, Site::LookEnd.is(Ordering::Release));
    }

    #[cold]
    fn give_back(&self) {
        #[cfg(not(loom))]
        registry::give_back(self.record);
    }
}

impl Drop for Pin {
    #[inline]
    fn drop(&mut self) {
        match self.end {
            End::Leave => self.record.unmark(),
            End::Stay => {}
            End::Forget(at) => self.forget(at),
            End::GiveBack => {
                self.record.unmark();
                self.give_back();
            }
            End::ForgetAndGiveBack(at) => {
                self.forget(at);
                self.give_back();
            }
        }
    }
}

/// The readers who may have found what was unlinked before this was made.
#[derive(Debug)]
pub(crate) struct Grace(Vec<(&'static Record, u64)>);

impl Grace {
    /// Looks who is reading, of all that have a record.
    pub(crate) fn begin(records: &[&'static Record]) -> Self {
        fence(Site::GraceFence.is(Ordering::SeqCst));
        // Acquire: whoever is seen unmarked has read before.
        let load = |record: &&'static Record| {
            record.turn.take();
            (*record, record.state.load(Site::ReadersLoad.is(Ordering::Acquire)))
        };
        Self(records.iter().map(load).filter(|(_, state)| state % 2 == 1).collect())
    }

    /// Whether all of them have come to an end.
    pub(crate) fn is_over(&mut self) -> bool {
        // Acquire: as above.
        self.0.retain(|(record, seen)| {
            record.turn.take();
            record.state.load(Site::ReadersLoad.is(Ordering::Acquire)) == *seen
        });
        self.0.is_empty()
    }
}

/// All addresses that anybody looks at, for whoever has seen a grace come to its end.
pub(crate) fn looked_at(records: &[&'static Record]) -> Vec<usize> {
    let looks = records.iter().flat_map(|record| record.looks.iter().map(|look| (*record, look)));
    let looks = looks.map(|(record, look)| {
        record.turn.take();
        // Acquire: whoever no longer looks has read before.
        look.load(Site::LooksLoad.is(Ordering::Acquire))
    });
    looks
        .filter(|&address| address != 0)
        .filter_map(|address| usize::try_from(address).ok())
        .collect()
}

#[cfg(not(loom))]
pub(crate) use registry::{all, enter};

/// The records of this process, and which thread has which.
#[cfg(not(loom))]
mod registry {
    use std::cell::Cell;

    use parking_lot::Mutex;

    use super::{End, Pin, Record};

    /// A thread that registers after somebody looked at all records has locked this after it,
    /// and so sees what was unlinked before.
    static RECORDS: Mutex<Records> = Mutex::new(Records { all: Vec::new(), free: Vec::new() });

    struct Records {
        all: Vec<&'static Record>,
        free: Vec<&'static Record>,
    }

    /// The record of a thread, until the thread ends.
    struct Lease(&'static Record);

    impl Drop for Lease {
        fn drop(&mut self) {
            OWN.set(None);
            give_back(self.0);
        }
    }

    thread_local! {
        // Needs no destructor, and so no look whether it has run.
        static OWN: Cell<Option<&'static Record>> = const { Cell::new(None) };
        static LEASE: Lease = Lease(take());
    }

    /// Marks the record of this thread.
    #[inline]
    pub(crate) fn enter() -> Pin {
        match OWN.get() {
            Some(record) => record.enter(),
            None => enter_anew(),
        }
    }

    #[cold]
    fn enter_anew() -> Pin {
        if let Ok(record) = LEASE.try_with(|lease| lease.0) {
            OWN.set(Some(record));
            return record.enter();
        }
        // The thread is ending, and has given its record back.
        let mut pin = take().enter();
        pin.end = End::GiveBack;
        pin
    }

    /// What `look` makes of all records.
    pub(crate) fn all<R>(look: impl FnOnce(&[&'static Record]) -> R) -> R {
        look(&RECORDS.lock().all)
    }

    fn take() -> &'static Record {
        let mut records = RECORDS.lock();
        if let Some(record) = records.free.pop() {
            return record;
        }
        // Never freed: as many as there ever were threads at once.
        let record: &'static Record = Box::leak(Box::new(Record::new(records.all.len())));
        records.all.push(record);
        record
    }

    pub(super) fn give_back(record: &'static Record) {
        RECORDS.lock().free.push(record);
    }
}
