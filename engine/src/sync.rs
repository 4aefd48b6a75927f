//! Every atomic of this crate comes from here, so that a model checker can supply its own.
//!
//! The orderings that protocols without a lock rest on are named, so that a model can weaken one of
//! them and show that it would notice (`models/`). In a normal build a name costs nothing.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, fence,
};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

/// The standard library's lock and condition, where all who wait have to be woken at once.
#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex};
pub(crate) use std::sync::PoisonError;
#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex};

#[cfg(loom)]
pub(crate) use loom::hint::spin_loop;
#[cfg(not(loom))]
pub(crate) use std::hint::spin_loop;

/// A fence right behind a read-modify-write that stored what has to be seen.
///
/// On x86-64 such an instruction is a full barrier by itself (Intel, Software Developer's Manual
/// 3A, "Loads and Stores Are Not Reordered with Locked Instructions"): only the compiler has to be
/// kept from moving what follows. A fence besides would cost as much again.
#[inline]
pub(crate) fn fence_behind_swap(ordering: Ordering) {
    #[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
    std::sync::atomic::compiler_fence(ordering);
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
    fence(ordering);
}

/// A fence right ahead of unlocking a mutex, which x86-64 does with an instruction that is a full
/// barrier by itself.
#[cfg(not(loom))]
#[inline]
pub(crate) fn fence_ahead_of_unlock() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    fence(Ordering::SeqCst);
}

/// The place of a fence that whoever needs it makes with [`fence_everywhere`]: only the compiler has
/// to keep the order here. A model checker knows no such thing, so it has the fence here.
#[inline]
pub(crate) fn fence_by_others(ordering: Ordering) {
    #[cfg(not(loom))]
    std::sync::atomic::compiler_fence(ordering);
    #[cfg(loom)]
    fence(ordering);
}

/// Whether all threads of this process can be fenced at once: with Linux's `membarrier`, from 4.14
/// on and unless a sandbox forbids it.
#[cfg(not(loom))]
pub(crate) fn can_fence_everywhere() -> bool {
    #[cfg(all(target_os = "linux", not(miri)))]
    return membarrier_now().is_ok();
    #[cfg(not(all(target_os = "linux", not(miri))))]
    false
}

/// Has every thread of this process pass a SeqCst fence between the beginning of this call and its
/// end. Whether that was done.
pub(crate) fn fence_everywhere(ordering: Ordering) -> bool {
    fence(ordering);
    #[cfg(all(target_os = "linux", not(miri), not(loom)))]
    let is_done = {
        use rustix::thread::{MembarrierCommand, membarrier};
        let done = membarrier(MembarrierCommand::PrivateExpedited).or_else(|_| membarrier_now());
        fence(ordering);
        done.is_ok()
    };
    #[cfg(not(all(target_os = "linux", not(miri), not(loom))))]
    let is_done = cfg!(loom);
    is_done
}

/// Registers the process for barriers, and makes one.
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
fn membarrier_now() -> rustix::io::Result<()> {
    use rustix::thread::{MembarrierCommand, membarrier};
    membarrier(MembarrierCommand::RegisterPrivateExpedited)?;
    membarrier(MembarrierCommand::PrivateExpedited)
}

/// Words that live somewhere: in a mapped file, or on the heap under a model checker.
pub(crate) trait Words {
    /// `count` words from `at` bytes on, a multiple of 8.
    fn words(&self, at: usize, count: usize) -> &[AtomicU64];

    /// Asks for the cache line at `at` bytes, without waiting for it. A wish only.
    fn prefetch(&self, _at: usize) {}

    /// The word at `at` bytes, a multiple of 8.
    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words(at, 1)[0]
    }
}

/// A point where another thread may be next: nothing but in a model. loom remembers only the last
/// access to an atomic, so that a thread which loads a word and then changes it hides from it that
/// another thread loaded the word before; it would not try the two the other way round. Taking a
/// turn before each access makes it try. A failed exchange is a change to loom's scheduler, but
/// stores nothing and orders nothing.
#[derive(Debug, Default)]
pub(crate) struct Turn(#[cfg(loom)] AtomicU64);

impl Turn {
    #[inline(always)]
    pub(crate) fn take(&self) {
        #[cfg(loom)]
        let _ = self.0.compare_exchange(1, 1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// An ordering that a protocol rests on: of memory, or of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// `index.rs`: loading a slot.
    SlotLoad,
    /// `index.rs`: changing a slot.
    SlotSwap,
    /// `index.rs`: between inserting a slot and looking for another of the same key.
    InsertFence,
    /// `in_flight.rs`: drawing a sequence number.
    Draw,
    /// `in_flight.rs`: being under way no more.
    Leave,
    /// `moving.rs`: looking whether a page has moved.
    MovedLoad,
    /// `moving.rs`: declaring a page moved.
    MovedSet,
    /// `gate.rs`: between saying that one is under way, or closing the gate, and looking for the other.
    GateFence,
    /// `gate.rs`: changing the gate.
    GateSwap,
    /// `gate.rs`: looking at the gate.
    GateLoad,
    /// `gate.rs`: looking whether writers are under way.
    GateIdle,
    /// `committed.rs`: looking how much of a segment counts.
    CommittedLoad,
    /// `committed.rs`: making more of a segment count.
    CommittedStore,
    /// `committed.rs`: taking the right to append.
    AppendTake,
    /// `committed.rs`: giving back the right to append.
    AppendGive,
    /// `group.rs`: what is committed is looked at before the sync.
    GroupLook,
    /// `group.rs`: who waits is told by what a sync covered.
    GroupCover,
    /// `group.rs`: a failure is remembered.
    GroupFailure,
    /// `cell.rs`: following the pointer.
    CellLoad,
    /// `cell.rs`: replacing the pointer.
    CellReplace,
    /// `readers.rs`: saying that one reads.
    ReadBegin,
    /// `readers.rs`: between saying that one reads and reading.
    ReadFence,
    /// `readers.rs`: between unlinking something and looking who reads.
    GraceFence,
    /// `readers.rs`: saying that one has read.
    ReadEnd,
    /// `readers.rs`: looking who still reads.
    ReadersLoad,
    /// `readers.rs`: asking for a barrier.
    TicketDraw,
    /// `readers.rs`: the barrier.
    BarrierFence,
    /// `readers.rs`: saying that a barrier has come.
    BarrierEnd,
    /// `readers.rs`: looking whether one has come.
    BarrierLoad,
    /// `readers.rs`: saying that one looks at an entry.
    LookBegin,
    /// `readers.rs`: saying that one no longer looks at an entry.
    LookEnd,
    /// `readers.rs`: looking what is looked at.
    LooksLoad,
    /// `buckets.rs`: storing hints, and that number.
    HintStore,
    /// `buckets.rs`: loading the name of an entry; hints, and the number of entries that passed a bucket.
    NameLoad,
    /// `buckets.rs`: naming an entry.
    NameStore,
    /// `marks.rs`: looking how often a cell was invalidated.
    TagLoad,
    /// `marks.rs`: invalidating.
    TagAdd,
    /// `marks.rs`: looking whether a mark has taken its count, and which.
    TakenLoad,
    /// `marks.rs`: taking it.
    TakenSet,
    /// `table.rs`: finding the buckets.
    BucketsLoad,
    /// `table.rs`: putting larger buckets in their place.
    BucketsSwap,
}

impl Site {
    /// The ordering to use here: the one given, unless a model has weakened it.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) const fn is(self, ordering: Ordering) -> Ordering {
        ordering
    }

    /// Whether a model has left this step out, or done it too late.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) const fn is_skipped(self) -> bool {
        let _ = self;
        false
    }

    /// Whether a model has left this step out, or done it too late.
    #[cfg(loom)]
    pub(crate) fn is_skipped(self) -> bool {
        WEAKENED.get().is_some_and(|(site, _)| site == self)
    }

    /// The ordering to use here: the one given, unless a model has weakened it.
    #[cfg(loom)]
    pub(crate) fn is(self, ordering: Ordering) -> Ordering {
        match WEAKENED.get() {
            Some((site, weakened)) if site == self => weakened,
            _ => ordering,
        }
    }
}

#[cfg(loom)]
thread_local! {
    /// What the model of this thread has weakened. The threads of a model are coroutines of
    /// the thread that runs it.
    pub(crate) static WEAKENED: std::cell::Cell<Option<(Site, Ordering)>> =
        const { std::cell::Cell::new(None) };
}
