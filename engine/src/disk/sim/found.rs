//! What the harnesses found, each once more by itself.

use std::io;
use std::sync::Arc;

use larder_format::layout::SESSION_AT;
use larder_format::{Kind, SegmentState, Slot, SlotState};

use super::Sim;
use super::cut::{Cut, Survives};
use super::fault::{Call, Fault};
use super::ledger::{End, key_of};
use super::machine::{EXTERNAL_MIN, Machine, Op, options};
use super::world::{Mode, World};
use crate::clock::NEVER;
use crate::disk::builder::Options;
use crate::disk::dying::{Dying, Keep, Step};
use crate::disk::retain::Retain;
use crate::disk::segment::Segment;
use crate::disk::storage::Storage;
use crate::engine::Engine;
use crate::sync::Ordering;

/// A budget that is soon used up, and one that never is.
const SMALL: u64 = 640 << 10;
const AMPLE: u64 = 8 << 20;
/// A value with a file of its own.
const LARGE: usize = EXTERNAL_MIN + 500;

const fn put(key: u32, len: usize, durable: bool) -> Op {
    Op::Put { key, len, durable }
}

/// A machine where nothing reaches the disk by itself.
fn machine(seed: u64, budget: u64) -> Machine {
    let machine = Machine::new(seed, 4, &options(budget, 1));
    machine.sim.with(World::calm);
    machine
}

fn run(machine: &mut Machine, ops: &[Op]) {
    ops.iter().for_each(|op| machine.run(*op).unwrap());
}

/// Does something, with a few cuts before every call that changes anything and after the last,
/// and checks what each leaves.
fn run_and_cut(machine: &mut Machine, op: Op) {
    machine.sim.with(|world| (world.cut_odds, world.cut_variants) = (1, 6));
    machine.run(op).unwrap();
    machine.keep_cut();
    machine.sim.with(|world| world.cut_odds = 0);
    for cut in machine.take_cuts() {
        machine.check_cut(cut).unwrap();
    }
}

fn cut(machine: &Machine, survives: Survives) -> Machine {
    machine.sim.with(|world| world.keep_cut_of(survives));
    machine.check_cut(machine.take_cuts().remove(0)).unwrap()
}

#[test]
fn a_large_value_that_never_reached_the_disk_hides_no_durable_one() {
    let mut machine = machine(1, AMPLE);
    // The last put syncs the segment, and with it the record of the large value.
    run(&mut machine, &[put(0, 100, true), put(0, LARGE, false), put(1, 10, true)]);
    let mut machine = cut(&machine, Survives::Least);
    // Nor later, when its segment goes and others stay.
    for _ in 0..100 {
        run(&mut machine, &[put(2, 7_000, false)]);
    }
    cut(&machine, Survives::Least);
}

#[test]
fn a_clean_end_vouches_for_nothing_that_is_not_on_the_disk() {
    for seed in 1..=20 {
        let mut machine = machine(seed, AMPLE);
        // A full segment that is synced, and then sealed.
        (0..7).for_each(|_| run(&mut machine, &[put(3, 8_000, false)]));
        run(&mut machine, &[Op::Sync, put(3, 8_000, false), Op::Die, put(0, 10, false)]);
        run_and_cut(&mut machine, Op::Reopen);
    }
}

#[test]
fn a_durable_value_that_is_moved_stays_durable() {
    let mut machine = machine(1, SMALL);
    run(&mut machine, &[put(0, 100, true)]);
    for _ in 0..200 {
        run(&mut machine, &[Op::Get { key: 0 }, put(1, 8_000, false)]);
        cut(&machine, Survives::Least);
    }
}

#[test]
fn a_large_value_goes_after_the_segment_that_names_it() {
    let mut machine = machine(1, AMPLE);
    run(&mut machine, &[put(0, 100, true), put(0, LARGE, true)]);
    run_and_cut(&mut machine, Op::Clear);
}

#[test]
fn a_large_value_goes_after_its_replacement_is_durable() {
    let mut machine = machine(1, SMALL);
    run(&mut machine, &[put(0, 100, true), put(0, LARGE, true), put(0, LARGE, false)]);
    for _ in 0..8 {
        run_and_cut(&mut machine, put(1, 100_000, false));
    }
}

#[test]
fn a_sync_covers_what_another_process_wrote() {
    let mut machine = machine(1, AMPLE);
    run(&mut machine, &[put(0, LARGE, false), put(1, 10, false), Op::Die, Op::Sync]);
    cut(&machine, Survives::Least);
}

#[test]
fn what_a_failed_sync_gave_up_is_written_again() {
    for seed in 1..=10 {
        // The large value is synced first, then what says so, and then the segment.
        for number in [1, 3] {
            let mut machine = machine(seed, AMPLE);
            run(&mut machine, &[put(0, LARGE, false), put(1, 50, false)]);
            let fault =
                Fault { call: Call::Sync, number, error: io::ErrorKind::Other, sticky: false };
            machine.sim.with(|world| world.set_fault(Some(fault)));
            machine.run(Op::Sync).expect_err("the fault");
            machine.run(Op::Sync).expect_err("given up for good");
            run(&mut machine, &[Op::Die, Op::Sync]);
            cut(&machine, Survives::Least);
        }
    }
}

#[test]
fn a_name_that_a_process_gave_before_it_died_is_made_durable() {
    let mut deaths = 0;
    for seed in 1..=20 {
        let mut machine = machine(seed, AMPLE);
        machine.sim.with(|world| (world.cut_odds, world.deaths) = (1, true));
        // Begins a segment.
        run(&mut machine, &[put(0, 10, false)]);
        for dead in machine.take_cuts() {
            deaths += usize::from(dead.is_death);
            let mut next = machine.check_cut(dead).unwrap();
            next.sim.with(|world| (world.cut_odds, world.deaths) = (0, false));
            run(&mut next, &[put(1, 10, true)]);
            cut(&next, Survives::Least);
        }
    }
    assert!(deaths > 5, "{deaths} deaths");
}

#[test]
fn a_disk_that_cannot_be_read_is_no_damage() {
    for number in 1..40 {
        let mut machine = machine(1, AMPLE);
        run(&mut machine, &[put(0, 10, true), put(1, LARGE, true)]);
        let fault =
            Fault { call: Call::ReadAt, number, error: io::ErrorKind::Other, sticky: false };
        machine.sim.with(|world| world.set_fault(Some(fault)));
        if machine.run(Op::Die).is_err() {
            machine.open().unwrap();
        }
        machine.sim.with(|world| world.set_fault(None));
        machine.check_live().unwrap();
    }
}

#[test]
fn no_id_of_a_large_value_is_given_twice() {
    let ids = |sim: &Sim| sim.list("big").unwrap();
    let mut machine = machine(1, AMPLE);
    run(&mut machine, &[put(0, LARGE, false)]);
    let before = ids(&machine.sim);
    let mut machine = cut(&machine, Survives::Least);
    assert!(ids(&machine.sim).is_empty(), "it was not synced");
    run(&mut machine, &[put(1, LARGE, false)]);
    assert_ne!(ids(&machine.sim), before);
}

/// Its large value never reached the disk, while its records did.
#[test]
fn a_batch_that_was_found_cut_off_stays_so() {
    let mut machine = machine(1, AMPLE);
    let batch = Op::Batch { key: 0, len: LARGE / 2 + 1, three: true, durable: false };
    run(&mut machine, &[put(0, 100, true), put(1, 20, true), batch, put(3, 10, true)]);
    let mut machine = cut(&machine, Survives::Least);
    // This would explain why the large value is not there.
    run(&mut machine, &[put(2, 10, true)]);
    let mut machine = cut(&machine, Survives::Least);
    // And so would this, and the segment would be looked at once more.
    run(&mut machine, &[put(3, LARGE, true), put(3, 10, true), Op::Sync]);
    cut(&machine, Survives::Least);
}

#[test]
fn what_is_compacted_was_replaced_by_what_is_durable() {
    let options = Options { retain: Retain::All, ..options(AMPLE, 1) };
    let mut machine = Machine::new(1, 4, &options);
    machine.sim.with(World::calm);
    run(&mut machine, &[put(0, 100, true)]);
    // Nothing lives in the first segment by then.
    run(&mut machine, &[put(3, 8_000, true); 9]);
    run(&mut machine, &[put(0, 200, false)]);
    run_and_cut(&mut machine, Op::Compact);
}

#[test]
fn a_record_of_a_batch_is_copied_once_the_batch_is_durable() {
    for seed in 1..=20 {
        let mut machine = machine(seed, AMPLE);
        let batch = Op::Batch { key: 0, len: 100, three: true, durable: false };
        run(&mut machine, &[put(1, 50, true), Op::Reopen, put(3, 10, true), batch]);
        run_and_cut(&mut machine, Op::Compact);
    }
}

/// What moved out of a segment is not taken for gone when another process reclaims it anew, though
/// it hides something that stays.
#[test]
fn a_copy_that_a_dead_process_made_stays() {
    let mut deaths = 0;
    for seed in 1..=6 {
        let options = Options { retain: Retain::All, ..options(AMPLE, 3) };
        let mut machine = Machine::new(seed, 8, &options);
        // Versions of each key in the segments of several lanes, which overlap.
        for round in 0..3 {
            (0..7).for_each(|key| run(&mut machine, &[put(key, 50 + round, false)]));
        }
        run(&mut machine, &[put(7, 8_000, false); 12]);
        run(&mut machine, &[Op::Sync]);
        machine.sim.with(|world| (world.cut_odds, world.deaths) = (1, true));
        run(&mut machine, &[Op::Compact]);
        machine.sim.with(|world| (world.cut_odds, world.deaths) = (0, false));
        for dead in machine.take_cuts().into_iter().filter(|cut| cut.is_death) {
            deaths += 1;
            let mut next = machine.check_cut(dead).unwrap();
            next.sim.with(|world| world.deaths = false);
            run_and_cut(&mut next, Op::Compact);
        }
    }
    assert!(deaths > 20, "{deaths} deaths");
}

/// What one mode begins to write again is not believed by the other.
#[test]
fn an_opening_that_dies_leaves_nothing_behind_that_the_other_mode_trusts() {
    let batch = Op::Batch { key: 0, len: 100, three: true, durable: false };
    let mut machine = machine(1, AMPLE);
    run(&mut machine, &[put(0, 10, false), batch, put(3, 20, false), batch, put(3, 30, false)]);
    machine.sim.with(|world| {
        (world.mode, world.cut_odds, world.deaths) = (Mode::Buffered, 1, true);
    });
    run(&mut machine, &[Op::Die]);
    let mut deaths = 0;
    for mut dead in machine.take_cuts().into_iter().filter(|cut| cut.is_death) {
        dead.left.mode = Mode::Mapped;
        machine.check_cut(dead).unwrap();
        deaths += 1;
    }
    assert!(deaths > 3, "{deaths} deaths");
}

/// The mark of a clean end before is not believed, though nothing but the copies of the words told
/// that there was another session.
#[test]
fn a_session_whose_slot_is_lost_was_there_all_the_same() {
    for mode in [Mode::Mapped, Mode::Buffered] {
        let mut machine = Machine::in_mode(mode, 1, 4, &options(AMPLE, 1));
        run(&mut machine, &[put(0, 10, true), Op::Reopen, put(0, 20, true)]);
        let world = machine.sim.with(World::death);
        let ledger = machine.ledger.clone().into();
        let cut = Cut { ledger, after_call: 0, is_death: true, left: world };
        let mut left = Machine::after(cut, machine.options());
        let epoch = machine.disk().store.file.last_epoch();
        let store = left.sim.open("store").unwrap().unwrap();
        let slot = SESSION_AT.into_iter().find(|at| {
            let mut bytes = [0; 8];
            store.read_at(&mut bytes, *at as u64 + 8).unwrap();
            u64::from_le_bytes(bytes) == epoch
        });
        store.write_at(&[0; 64], slot.unwrap() as u64).unwrap();
        left.open().unwrap();
        left.check_reopened(End::Process, None).unwrap();
    }
}

/// Its slot went when it was evicted, and the process died before its segment was gone: its file was
/// swept, and an index that was built anew led to it all the same.
#[test]
fn the_file_of_an_evicted_value_stays_for_as_long_as_its_record() {
    let mut machine = machine(1, AMPLE);
    run(&mut machine, &[put(0, LARGE, true), put(1, 10, true)]);
    evict(&machine, 0);
    // Before the machine goes down, too, orphans go.
    run(&mut machine, &[Op::Die, put(2, 20, true), Op::Sync]);
    assert_eq!(machine.sim.list("big").unwrap().len(), 1);
    let left = cut_and_look(&machine);
    assert!(left.disk().verify().unwrap().is_clean(), "{:?}", left.disk().verify());
    // Those that nothing names go still: the record is one that a removal hides.
    let mut machine = left;
    run(&mut machine, &[Op::Remove { key: 0 }, Op::Die, put(3, 20, true), Op::Sync]);
    assert_eq!(machine.sim.list("big").unwrap().len(), 0);
}

/// A segment was copied from when the process died, or the slot of a copy was given up; when the
/// original was evicted, its file went, and an index that was built anew led to the copy.
#[test]
fn the_file_of_an_evicted_value_stays_for_as_long_as_a_copy_of_its_record() {
    for is_published in [true, false] {
        let mut machine = machine(1, AMPLE);
        run(&mut machine, &[put(0, LARGE, true), put(1, 10, true)]);
        seal(&machine);
        copy(&machine, 0, is_published);
        if is_published {
            evict(&machine, 0);
        } else {
            run(&mut machine, &[Op::Die]);
        }
        let store = &machine.disk().store;
        let oldest = store.sealed_by_age().remove(0);
        drop_segment(&machine, oldest);
        assert_eq!(machine.sim.list("big").unwrap().len(), 1);
        machine.disk().sync().unwrap();
        let left = cut_and_look(&machine);
        assert!(left.disk().verify().unwrap().is_clean(), "{:?}", left.disk().verify());
        assert!(left.disk().get(&key_of(0)).unwrap().is_some());
        // It goes with the copy.
        seal(&left);
        for segment in left.disk().store.sealed_by_age() {
            drop_segment(&left, segment);
        }
        assert_eq!(left.sim.list("big").unwrap().len(), 0);
    }
}

/// Copies the record of a key as a segment that is reclaimed would, and no further or a step more.
fn copy(machine: &Machine, key: u32, is_published: bool) {
    let (store, guard, key) = (&machine.disk().store, &crossbeam_epoch::pin(), key_of(key));
    let hash = store.hasher.hash(&key);
    let found = store.lookup(hash, &key, guard).unwrap();
    let mut lane = store.lanes.acquire();
    store.make_room(&mut lane, found.found.room(), (Kind::Value, NEVER), 0).unwrap();
    let at = store.move_record(&mut lane, hash, &found.found).unwrap();
    if is_published {
        let id = lane.writer.as_ref().unwrap().segment().id();
        let moved = Slot::new(hash, id, at, SlotState::Value);
        store.replace_place(hash, found.slot, |_| moved, guard).unwrap();
    }
}

fn drop_segment(machine: &Machine, segment: Arc<Segment>) {
    let store = &machine.disk().store;
    let mut dying = Dying::new(store, segment, Keep::Nothing);
    let mut lane = store.lanes.acquire_maintenance();
    while store.step(&mut dying, Some(&mut lane)).unwrap() != Step::Gone {}
}

/// Empties the slot of a key, as eviction does first.
fn evict(machine: &Machine, key: u32) {
    let (store, guard, key) = (&machine.disk().store, &crossbeam_epoch::pin(), key_of(key));
    let hash = store.hasher.hash(&key);
    let found = store.lookup(hash, &key, guard).unwrap();
    store.replace_place(hash, found.slot, |_| Slot::EMPTY, guard).unwrap();
    store.add_entries(-1);
}

/// Opens what a loss of power leaves, whatever it has.
fn cut_and_look(machine: &Machine) -> Machine {
    machine.sim.with(|world| world.keep_cut_of(Survives::Most));
    let mut left = Machine::after(machine.take_cuts().remove(0), machine.options());
    left.open().unwrap();
    left
}

/// A segment was being reclaimed when the power went, and what says so did not reach the disk. What
/// was written meanwhile lacks the mark that it hides something there. From a rebuild on everything
/// is taken for one that may hide something; without that, the old value shows.
#[test]
fn after_a_rebuild_everything_may_hide_what_a_segment_holds_that_was_being_reclaimed() {
    for is_noted in [true, false] {
        let mut machine = machine(1, AMPLE);
        run(&mut machine, &[put(0, 100, true), put(1, 10, true)]);
        seal(&machine);
        let store = &machine.disk().store;
        let old = store.sealed_by_age().pop().unwrap();
        old.set_state(SegmentState::Retiring);
        evict(&machine, 0);
        run(&mut machine, &[put(0, 200, true), Op::Sync]);
        old.set_state(SegmentState::Sealed);
        seal(&machine);
        let left = cut_and_look(&machine);
        let store = &left.disk().store;
        assert_eq!(store.file.dropped().load(Ordering::Relaxed), 1);
        if !is_noted {
            store.file.dropped().store(0, Ordering::Relaxed);
        }
        // The newer one goes first.
        let newer = store.sealed_by_age().pop().unwrap();
        assert!(newer.id() > old.id());
        drop_segment(&left, newer);
        let last = cut_and_look(&left);
        let found = last.disk().get(&key_of(0)).unwrap().map(|value| value.len());
        assert_eq!(found, (!is_noted).then_some(100));
    }
}

fn seal(machine: &Machine) {
    let store = &machine.disk().store;
    store.lanes.acquire_all().iter_mut().for_each(|lane| store.seal(lane));
}
