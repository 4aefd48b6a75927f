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
//! # Whose the fence is
//! A fence in every lookup costs more than all else in it together. Where the system can make all
//! threads of the process pass a fence at once (`sync.rs`), lookups go without one: then whoever
//! has unlinked something has all threads fenced before it looks who is marked. That takes a
//! system call and interrupts the other processors, so one such [`Barrier`] serves whatever was
//! unlinked before it, in all shards of all tables; a [`Grace`] draws a ticket first, and looks at
//! the marks once a barrier has come that began after that.
//!
//! ```text
//! reader   mark ─ find ─ read ─ unmark
//! writer   unlink ─ fence ─ draw a ticket ─ … ─ barrier of anybody ─ who is marked? ─ …
//! ```
//!
//! A table that may keep but little waiting would need barriers too often. Its lookups have a
//! fence of their own ([`Fences::Own`]).
//!
//! # Orderings
//! The two fences are SeqCst. Either the writer sees the mark, or the reader, whose loads come
//! after its fence, sees what was unlinked before the writer's. Unmarking is Release and looking
//! at marks Acquire: what was read, and noted, comes before what is freed. The same goes for
//! forgetting an address and looking who looks. Marking and noting are Release as well, since they
//! may hide the end of what went before.
//!
//! A barrier stands in for the fence of each reader, wherever in its program the reader is at that
//! moment: what it did before, its mark among it, is seen by the writer after the barrier, and what
//! it does after that sees what was unlinked. So it is as if the reader had a fence there, and the
//! compiler only has to leave mark and loads in their order. The model checker runs it with a
//! fence behind the mark, so it cannot tell that noting an address has to be Release.
//! Drawing a ticket is Release, and a barrier begins with an exchange of the same number, and its
//! fence behind that: either the ticket asks for a later barrier, or what was unlinked before the
//! ticket is seen by everybody after this one. The end of a barrier is Release, and looking whether
//! it has come Acquire: the marks of before are seen then.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::sync::{
    AtomicU64, Ordering, Site, Turn, fence, fence_behind_swap, fence_by_others, fence_everywhere,
};

/// Entries that one thread can look at at once: lookups in closures of lookups. Whoever goes
/// deeper stays marked meanwhile.
const LOOKS: usize = 3;

/// Whose fence stands between the mark of a lookup and what it reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fences {
    /// Its own.
    Own,
    /// That of whoever makes a barrier.
    OfOthers(&'static Barriers),
}

/// Moments at which all threads of the process were fenced, counted.
#[derive(Debug)]
pub(crate) struct Barriers {
    begun: AtomicU64,
    /// The number of the latest that has come to its end.
    come: AtomicU64,
}

/// The number of a barrier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket(u64);

impl Barriers {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Self { begun: AtomicU64::new(0), come: AtomicU64::new(0) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self { begun: AtomicU64::new(0), come: AtomicU64::new(0) }
    }

    /// The next barrier that begins after this.
    fn ticket(&self) -> Ticket {
        // An exchange, so that a barrier which it does not count comes after it. Release: that
        // barrier sees what was unlinked.
        Ticket(self.begun.fetch_add(0, Site::TicketDraw.is(Ordering::Release)) + 1)
    }

    /// Whether that barrier has come, or a later one.
    fn has_come(&self, ticket: Ticket) -> bool {
        // Acquire: what was marked before the barrier is seen after this.
        self.come.load(Site::BarrierLoad.is(Ordering::Acquire)) >= ticket.0
    }

    /// Makes a barrier. Where the system refuses one, which it did not at first, nothing has come:
    /// what waits for one is kept.
    #[cold]
    pub(crate) fn make(&self) {
        // Relaxed: the fence behind it pairs with the Release in `ticket`.
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        if fence_everywhere(Site::BarrierFence.is(Ordering::SeqCst)) {
            // Release: pairs with the Acquire in `has_come`.
            self.come.fetch_max(number, Site::BarrierEnd.is(Ordering::Release));
        }
    }
}

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

    /// Marks the record, which must be that of this thread, if it is not marked yet.
    #[inline]
    pub(crate) fn enter_first(&'static self, fences: Fences) -> Option<Pin> {
        // Relaxed: only this thread writes it.
        let state = self.state.load(Ordering::Relaxed);
        if state % 2 == 1 {
            return None;
        }
        self.mark(state + 1, fences);
        Some(Pin::new(self, End::Leave))
    }

    /// Marks the record, which must be that of this thread.
    #[inline]
    pub(crate) fn enter(&'static self, fences: Fences) -> Pin {
        if let Some(pin) = self.enter_first(fences) {
            return pin;
        }
        if matches!(fences, Fences::Own) {
            // The mark may be older than any fence of this thread.
            fence(Site::ReadFence.is(Ordering::SeqCst));
        }
        Pin::new(self, End::Stay)
    }

    #[inline]
    fn mark(&self, state: u64, fences: Fences) {
        self.turn.take();
        // Release: whoever sees this mark, and not the unmarking before, still sees what was read
        // before that.
        let release = Site::ReadBegin.is(Ordering::Release);
        match fences {
            Fences::Own => {
                self.state.swap(state, release);
                fence_behind_swap(Site::ReadFence.is(Ordering::SeqCst));
            }
            Fences::OfOthers(_) => {
                self.state.store(state, release);
                fence_by_others(Site::ReadFence.is(Ordering::SeqCst));
            }
        }
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

impl Record {
    /// Where an address may be noted.
    #[inline]
    fn vacant(&self) -> Option<usize> {
        // Relaxed: only this thread writes them.
        (0..LOOKS).find(|&at| self.looks[at].load(Ordering::Relaxed) == 0)
    }

    #[inline]
    fn forget(&self, at: u8) {
        self.turn.take();
        // Release: what was read comes before what is freed.
        self.looks[usize::from(at)].store(0, Site::LookEnd.is(Ordering::Release));
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
    /// It no longer looks at what the pin noted.
    Forget,
    /// The same, and it is given back.
    ForgetAndGiveBack,
}

/// While this lives, nothing that its thread finds is freed; or one thing, which it looks at.
#[derive(Debug)]
pub(crate) struct Pin {
    record: &'static Record,
    // Apart, so that a compiler can keep a pin in registers.
    end: Cell<End>,
    /// Where it noted an address.
    look: Cell<u8>,
    /// Not to be sent to another thread.
    thread: PhantomData<*const ()>,
}

impl Pin {
    #[inline]
    const fn new(record: &'static Record, end: End) -> Self {
        Self { record, end: Cell::new(end), look: Cell::new(0), thread: PhantomData }
    }

    /// The record of this thread.
    #[inline]
    pub(crate) const fn record(&self) -> &'static Record {
        self.record
    }

    /// Whether it keeps everything that its thread finds.
    #[inline]
    pub(crate) const fn keeps_all(&self) -> bool {
        matches!(self.end.get(), End::Leave | End::Stay | End::GiveBack)
    }

    /// Keeps nothing but what is at one address from now on, which was found under the pin. No
    /// change if the thread looks at too much already.
    #[inline]
    pub(crate) fn look_at(&self, address: usize) {
        let before = self.end.get();
        let end = match before {
            End::Leave | End::Stay => End::Forget,
            End::GiveBack => End::ForgetAndGiveBack,
            End::Forget | End::ForgetAndGiveBack => return,
        };
        let Some(look) = self.record.vacant() else { return };
        self.record.turn.take();
        // Release: what was looked at before, and is hidden by this, has been read.
        let release = Site::LookBegin.is(Ordering::Release);
        self.record.looks[look].store(address as u64, release);
        if before != End::Stay {
            self.record.unmark();
        }
        #[expect(clippy::cast_possible_truncation, reason = "less than their number")]
        self.look.set(look as u8);
        self.end.set(end);
    }
}

impl Drop for Pin {
    #[inline]
    fn drop(&mut self) {
        match self.end.get() {
            End::Leave => self.record.unmark(),
            End::Stay => {}
            End::Forget => self.record.forget(self.look.get()),
            end => give_back(self.record, end, self.look.get()),
        }
    }
}

// By value, for the same reason.
#[cold]
fn give_back(record: &'static Record, end: End, look: u8) {
    if end == End::GiveBack {
        record.unmark();
    } else {
        record.forget(look);
    }
    #[cfg(not(loom))]
    registry::give_back(record);
}

/// The readers who may have found what was unlinked before this was made.
#[derive(Debug)]
pub(crate) enum Grace {
    /// Who they are is to be seen after a barrier.
    Later(&'static Barriers, Ticket),
    /// Those that have not been seen unmarked since.
    Marked(Vec<(&'static Record, u64)>),
}

impl Grace {
    /// Looks who is reading, of all that have a record; or draws a ticket for that.
    pub(crate) fn begin(fences: Fences, records: &[&'static Record]) -> Self {
        match fences {
            Fences::Own => {
                fence(Site::GraceFence.is(Ordering::SeqCst));
                Self::look(records)
            }
            Fences::OfOthers(barriers) => Self::Later(barriers, barriers.ticket()),
        }
    }

    fn look(records: &[&'static Record]) -> Self {
        // Acquire: whoever is seen unmarked has read before.
        let load = |record: &&'static Record| {
            record.turn.take();
            (*record, record.state.load(Site::ReadersLoad.is(Ordering::Acquire)))
        };
        Self::Marked(records.iter().map(load).filter(|(_, state)| state % 2 == 1).collect())
    }

    /// Makes a barrier if it waits for one.
    pub(crate) fn hurry(&self) {
        if let Self::Later(barriers, ticket) = *self
            && !barriers.has_come(ticket)
        {
            barriers.make();
        }
    }

    /// Looks who is reading, if a barrier has come meanwhile.
    pub(crate) fn go_on(&mut self, records: &[&'static Record]) {
        if let Self::Later(barriers, ticket) = *self
            && barriers.has_come(ticket)
        {
            *self = Self::look(records);
        }
    }

    /// Whether it could go on.
    pub(crate) fn is_worth_a_look(&mut self) -> bool {
        match *self {
            Self::Later(barriers, ticket) => barriers.has_come(ticket),
            Self::Marked(_) => self.is_over(),
        }
    }

    /// Whether all of them have come to an end.
    pub(crate) fn is_over(&mut self) -> bool {
        let Self::Marked(marked) = self else { return false };
        // Acquire: as above.
        marked.retain(|(record, seen)| {
            record.turn.take();
            record.state.load(Site::ReadersLoad.is(Ordering::Acquire)) == *seen
        });
        marked.is_empty()
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
pub(crate) use registry::{all, enter, enter_first, fences};

/// The records of this process, and which thread has which.
#[cfg(not(loom))]
mod registry {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use parking_lot::Mutex;

    use super::{Barriers, End, Fences, Pin, Record};
    use crate::sync::can_fence_everywhere;

    static BARRIERS: Barriers = Barriers::new();

    /// The fences for tables that may keep enough waiting for barriers to be rare.
    pub(crate) fn fences() -> Fences {
        static CAN: OnceLock<bool> = OnceLock::new();
        if *CAN.get_or_init(can_fence_everywhere) {
            Fences::OfOthers(&BARRIERS)
        } else {
            Fences::Own
        }
    }

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
    pub(crate) fn enter(fences: Fences) -> Pin {
        match OWN.get() {
            Some(record) => record.enter(fences),
            None => enter_anew(fences),
        }
    }

    /// The same, for a thread that has a record and reads nothing yet: as a rule. Whoever has code
    /// of its own for that case knows at its end what becomes of the record.
    #[inline]
    pub(crate) fn enter_first(fences: Fences) -> Option<Pin> {
        OWN.get()?.enter_first(fences)
    }

    #[cold]
    fn enter_anew(fences: Fences) -> Pin {
        if let Ok(record) = LEASE.try_with(|lease| lease.0) {
            OWN.set(Some(record));
            return record.enter(fences);
        }
        // The thread is ending, and has given its record back.
        let pin = take().enter(fences);
        pin.end.set(End::GiveBack);
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
