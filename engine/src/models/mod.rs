//! Models of what threads agree on without a lock, for a model checker: loom runs each through
//! its interleavings, up to a number of preemptions, and through every value that a load may
//! return under the orderings used.
//!
//! The models run the store's own code (`disk/{bucket,index,lookup,moving,in_flight,committed,gate,group,cell}.rs`)
//! over loom's atomics, on an index of one page with two slots, and the memory tier's
//! (`memory/{readers,buckets,slab,table,limbo,extra,marks}.rs`), with buckets of two names. A model is worth something
//! only if it can fail: [`WEAKENINGS`] says which model notices that an ordering is weakened,
//! and a test tries them all.
//!
//! How to run them: `docs/testing.md`.

mod append;
mod batches;
#[cfg(crossbeam_loom)]
mod cell;
mod gate;
mod group;
mod growth;
mod life;
mod memory;
mod removal;
mod rig;
mod slots;

use std::panic::catch_unwind;

use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::{Ordering, Site, WEAKENED};

/// Slots of a bucket in a model.
pub(crate) const BUCKET_SLOTS: usize = 1;
/// Buckets of a page in a model: the two candidates of every key.
pub(crate) const PAGE_BUCKETS: usize = 2;

/// Something that threads do, and what has to hold however they interleave.
#[derive(Debug, Clone, Copy)]
struct Model {
    /// How many times a thread may be interrupted where it does not wait.
    preemptions: usize,
    run: fn(),
}

impl Model {
    const fn new(preemptions: usize, run: fn()) -> Self {
        Self { preemptions, run }
    }

    /// Runs it through all interleavings.
    fn check(self) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(self.preemptions);
        builder.check(self.run);
    }

    /// What fails when one ordering is weakened; `None` if nothing does.
    fn failure_with(self, site: Site, weakened: Ordering) -> Option<String> {
        WEAKENED.set(Some((site, weakened)));
        let result = catch_unwind(|| self.check());
        WEAKENED.set(None);
        let error = result.err()?;
        let text = error.downcast_ref::<String>().cloned();
        text.or_else(|| error.downcast_ref::<&str>().map(|&text| text.to_owned()))
    }
}

/// Every ordering, weakened to the strongest that is too weak, and a model that notices.
const WEAKENINGS: &[(Site, Ordering, Model)] = &[
    (Site::SlotLoad, Relaxed, slots::PUBLISH_AND_LOOKUP),
    (Site::SlotLoad, Relaxed, slots::EVICT_AND_TOUCH),
    (Site::SlotLoad, Relaxed, removal::REMOVE_AND_LOOKUP),
    (Site::SlotSwap, Acquire, slots::PUBLISH_AND_LOOKUP),
    (Site::SlotSwap, Acquire, slots::UPDATE_AND_UPDATE),
    (Site::SlotSwap, Acquire, slots::EVICT_AND_TOUCH),
    (Site::SlotSwap, Acquire, slots::EVICT_AND_UPDATE),
    (Site::SlotSwap, Acquire, removal::REMOVE_AND_LOOKUP),
    (Site::InsertFence, AcqRel, slots::INSERT_AND_INSERT_NEWER),
    (Site::InsertFence, AcqRel, slots::INSERT_AND_INSERT_OLDER),
    (Site::InsertFence, AcqRel, slots::ADD_AND_ADD),
    (Site::Draw, Acquire, removal::REMOVE_AND_INSERT),
    (Site::Draw, Release, removal::REMOVE_AND_INSERT),
    (Site::MovedLoad, Relaxed, growth::MOVE_AND_LOOKUP),
    (Site::MovedSet, Relaxed, growth::MOVE_AND_LOOKUP),
    (Site::MovedSet, Relaxed, growth::MOVE_AND_UPDATE),
    (Site::MovedSet, Relaxed, growth::MOVE_AND_LATE_UPDATE),
    (Site::MovedSet, Relaxed, growth::RECLAIM_AND_MOVE),
    (Site::SlotSwap, Acquire, batches::WRITE_AND_LOOKUP),
    (Site::CommittedLoad, Relaxed, append::COMMIT_AND_READ),
    (Site::CommittedStore, Relaxed, append::COMMIT_AND_READ),
    (Site::AppendTake, Release, append::HAND_OVER),
    (Site::AppendGive, Relaxed, append::HAND_OVER),
    (Site::CommittedLoad, Relaxed, group::PUT_AND_PUT),
    (Site::CommittedStore, Relaxed, group::PUT_AND_PUT),
    (Site::GroupLook, Relaxed, group::PUT_AND_PUT),
    (Site::GroupCover, Relaxed, group::PUT_AND_PUT),
    (Site::GroupFailure, Relaxed, group::FAIL_AND_PUT),
    (Site::CellLoad, Relaxed, slots::RECLAIM_AND_LOOKUP),
    (Site::CellReplace, Acquire, slots::RECLAIM_AND_LOOKUP),
    (Site::CellReplace, Acquire, growth::RECLAIM_AND_MOVE),
    (Site::Leave, Relaxed, gate::WRITE_AND_BATCH),
    (Site::GateFence, AcqRel, gate::WRITE_AND_BATCH),
    (Site::GateSwap, Relaxed, gate::BATCH_AND_BATCH),
    (Site::GateLoad, Relaxed, gate::WRITE_AND_BATCH),
    (Site::GateIdle, Relaxed, gate::WRITE_AND_BATCH),
    (Site::NameLoad, Relaxed, memory::REPLACE_AND_LOOKUP),
    (Site::NameStore, Relaxed, memory::REPLACE_AND_LOOKUP),
    (Site::HintStore, Relaxed, memory::PASS_AND_LOOKUP),
    (Site::HintStore, Relaxed, memory::TAKE_OVER_AND_LOOKUP),
    (Site::BucketsLoad, Relaxed, memory::GROW_AND_LOOKUP),
    (Site::BucketsSwap, Relaxed, memory::GROW_AND_LOOKUP),
    (Site::ReadBegin, Relaxed, memory::EVICT_AND_LOOKUP),
    (Site::ReadFence, AcqRel, memory::EVICT_AND_LOOKUP),
    (Site::ReadFence, AcqRel, memory::EVICT_AND_LOOKUP_FENCED),
    (Site::GraceFence, AcqRel, memory::EVICT_AND_LOOKUP_FENCED),
    (Site::TicketDraw, Relaxed, memory::EVICT_BY_ANOTHER_BARRIER),
    (Site::BarrierFence, AcqRel, memory::EVICT_BY_ANOTHER_BARRIER),
    (Site::BarrierEnd, Relaxed, memory::EVICT_BY_ANOTHER_BARRIER),
    (Site::BarrierLoad, Relaxed, memory::EVICT_BY_ANOTHER_BARRIER),
    (Site::ReadEnd, Relaxed, memory::EVICT_AND_LOOKUP),
    (Site::ReadersLoad, Relaxed, memory::EVICT_AND_LOOKUP),
    (Site::ReadFence, AcqRel, memory::REUSE_AND_LOOKUP),
    (Site::ReadEnd, Relaxed, memory::EVICT_AND_LOOK_LONG),
    (Site::LookEnd, Relaxed, memory::EVICT_AND_LOOK_TWICE),
    (Site::LookEnd, Relaxed, memory::EVICT_AND_LOOK_LONG),
    (Site::LooksLoad, Relaxed, memory::EVICT_AND_LOOK_LONG),
    (Site::TagLoad, Relaxed, life::INVALIDATE_AND_LOOKUP),
    (Site::TagAdd, Relaxed, life::INVALIDATE_AND_LOOKUP),
    (Site::TakenLoad, Relaxed, life::INVALIDATE_INSERT_AND_LOOKUP),
    (Site::TakenSet, Relaxed, life::INVALIDATE_INSERT_AND_LOOKUP),
    #[cfg(crossbeam_loom)]
    (Site::CellLoad, Relaxed, cell::REPLACE_AND_LOAD),
    #[cfg(crossbeam_loom)]
    (Site::CellReplace, Acquire, cell::REPLACE_AND_LOAD),
];

/// Orderings that no model can miss: the checker has a fence before them, of which processors are
/// spared (`sync.rs`, `fence_by_others`).
const BEHIND_A_FENCE: &[Site] = &[Site::LookBegin];

#[test]
fn every_weakening_is_noticed() {
    let mut unnoticed = Vec::new();
    for (row, &(site, weakened, model)) in WEAKENINGS.iter().enumerate() {
        let failure = model.failure_with(site, weakened);
        let Some(text) = failure else {
            unnoticed.push((row, site, weakened));
            continue;
        };
        let own_limit =
            text.contains("maximum number of branches") || text.contains("loom internal");
        assert!(!own_limit, "{site:?} {weakened:?} ran into a limit of the checker: {text}");
    }
    assert_eq!(unnoticed, [], "nobody notices these");
}

/// The table above is complete: no ordering stands in the protocols without a name, and no
/// name without a row.
#[test]
fn every_ordering_is_weakened() {
    let sources = [
        include_str!("../disk/bucket.rs"),
        include_str!("../disk/cell.rs"),
        include_str!("../disk/committed.rs"),
        include_str!("../disk/gate.rs"),
        include_str!("../disk/group.rs"),
        include_str!("../disk/in_flight.rs"),
        include_str!("../disk/index.rs"),
        include_str!("../disk/lookup.rs"),
        include_str!("../disk/moving.rs"),
        include_str!("../memory/buckets.rs"),
        include_str!("../memory/budget.rs"),
        include_str!("../memory/extra.rs"),
        include_str!("../memory/marks.rs"),
        include_str!("../memory/readers.rs"),
        include_str!("../memory/replay.rs"),
        include_str!("../memory/slab.rs"),
        include_str!("../memory/table.rs"),
    ];
    for source in sources {
        let mut pieces = source.split("Ordering::");
        let mut before = pieces.next().unwrap_or_default();
        for piece in pieces {
            if !piece.starts_with("Relaxed") {
                let (_, site) = before.rsplit_once("Site::").unwrap_or_default();
                let name = site.strip_suffix(".is(").expect("an ordering without a name");
                let sites = WEAKENINGS.iter().map(|(site, ..)| site).chain(BEHIND_A_FENCE);
                let listed = sites.into_iter().any(|site| format!("{site:?}") == name);
                assert!(listed, "{name} is weakened nowhere");
            }
            before = piece;
        }
    }
}
