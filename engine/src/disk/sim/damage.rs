//! Damage to what was durable, met by a rebuild: a miss, and never an older value.

use super::Sim;
use super::cut::Survives;
use super::ledger::key_of;
use super::machine::{EXTERNAL_MIN, Machine, Op, options};
use crate::disk::Disk;
use crate::disk::lookup;
use crate::disk::segment::{Record, file_name};
use crate::disk::storage::Storage;
use crate::engine::Engine;

/// A value with a file of its own.
const LARGE: usize = EXTERNAL_MIN + 500;

pub(super) const fn put(key: u32, len: usize, durable: bool) -> Op {
    Op::Put { key, len, durable }
}

/// A machine with one session, where nothing reaches the disk by itself.
pub(super) fn machine(ops: &[Op]) -> Machine {
    let mut machine = Machine::new(1, 4, &options(8 << 20, 1));
    machine.sim.with(super::world::World::calm);
    ops.iter().for_each(|op| machine.run(*op).unwrap());
    machine
}

/// What a loss of power leaves of it, damaged before it is opened.
pub(super) fn after_damage(machine: &Machine, damage: impl FnOnce(&Sim)) -> Machine {
    machine.sim.with(|world| world.keep_cut_of(Survives::Least));
    let mut left = Machine::after(machine.take_cuts().remove(0), machine.options());
    damage(&left.sim);
    left.open().unwrap();
    left
}

pub(super) fn flip(sim: &Sim, name: &str, at: usize) {
    let file = sim.open(name).unwrap().unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at as u64).unwrap();
    file.write_at(&[byte[0] ^ 0x5A], at as u64).unwrap();
    file.sync().unwrap();
}

/// Where a key's record is: its file and offset, and how far behind that its key is.
fn place_of(disk: &Disk, key: u32) -> (String, usize, usize) {
    let (guard, key) = (&crossbeam_epoch::pin(), key_of(key));
    let found = disk.store.lookup(disk.store.hasher.hash(&key), &key, guard).unwrap();
    place(&found.found)
}

fn place(record: &Record<'_>) -> (String, usize, usize) {
    let key_at = record.header.extent(record.offset).key_at - record.offset;
    (file_name(record.segment.id()), record.offset, key_at)
}

pub(super) fn has(machine: &Machine, key: u32) -> Option<usize> {
    machine.disk().get(&key_of(key)).unwrap().map(|value| value.len())
}

pub(super) fn is_counted(machine: &Machine) {
    assert!(machine.disk().stats().corrupt > 0, "nothing is counted");
}

#[test]
fn a_large_value_that_was_durable_hides_older_ones_whatever_becomes_of_its_file() {
    let at_once: &[Op] = &[put(0, 100, true), put(0, LARGE, true)];
    let later: &[Op] = &[put(0, 100, true), put(0, LARGE, false), Op::Sync];
    let moved: &[Op] = &[put(0, 100, true), put(0, LARGE, true), Op::Compact];
    for ops in [at_once, later, moved] {
        let machine = machine(ops);
        let name = format!("big/{}", machine.sim.list("big").unwrap()[0]);
        let missing = after_damage(&machine, |sim| sim.remove(&name).unwrap());
        assert_eq!(has(&missing, 0), None, "{ops:?}");
        is_counted(&missing);
        let len = machine.sim.open(&name).unwrap().unwrap().len().unwrap();
        for at in [0, 5_000, usize::try_from(len).unwrap() - 50] {
            let damaged = after_damage(&machine, |sim| flip(sim, &name, at));
            assert_eq!(has(&damaged, 0), None, "{ops:?}, byte {at}");
            is_counted(&damaged);
        }
    }
}

/// With what is looked at in a segment that is open, of which more was synced since, and in one
/// that was sealed and synced.
fn machines() -> [Machine; 2] {
    let before = [put(0, 100, true), put(1, 10, true), put(0, 200, true), put(1, 20, true)];
    let mut sealed = machine(&before);
    for _ in 0..9 {
        sealed.run(put(3, 8_000, true)).unwrap();
    }
    sealed.run(Op::Sync).unwrap();
    [machine(&before), sealed]
}

#[test]
fn a_record_that_cannot_be_read_hides_older_ones() {
    for machine in machines() {
        let (name, offset, key_at) = place_of(machine.disk(), 0);
        // Checksum, magic, kind, sequence, lengths; and the key.
        for at in [0, 4, 5, 8, 16, 24, key_at + 2] {
            let mut damaged = after_damage(&machine, |sim| flip(sim, &name, offset + at));
            assert_eq!(has(&damaged, 0), None, "{name}, byte {at}");
            assert_eq!(has(&damaged, 1), Some(20));
            is_counted(&damaged);
            assert_eq!(damaged.disk().len(), damaged.disk().iter().count() as u64);
            // Nor when the footer was written again, or the segment has gone.
            damaged.run(put(1, 30, true)).unwrap();
            let again = after_damage(&damaged, |_| ());
            assert_eq!(has(&again, 0), None, "{name}, byte {at}, later");
            again.disk().compact().unwrap();
            assert!(!again.sim.list("seg").unwrap().contains(&name[4..].to_owned()));
            let last = after_damage(&again, |_| ());
            assert_eq!(has(&last, 0), None, "{name}, byte {at}, after all");
            assert_eq!(has(&last, 1), Some(30));
            assert!(last.disk().verify().unwrap().is_clean());
        }
    }
}

#[test]
fn an_invalidation_that_cannot_be_read_still_counts() {
    let machine = machine(&[
        Op::Tagged { key: 0, len: 100, tag: 1 },
        Op::Invalidate { tag: 1 },
        Op::Sync,
        put(1, 10, true),
        Op::Tagged { key: 2, len: 30, tag: 1 },
        Op::Sync,
    ]);
    let store = &machine.disk().store;
    let (guard, tag) = (&crossbeam_epoch::pin(), store.tag_hash(&[1]).unwrap());
    let slots = || store.index.for_reading(tag, guard);
    let found = lookup::lookup(slots, tag, |slot| store.judge_tag(slot, tag, guard)).unwrap();
    let (name, offset, _) = place(&found.found);
    let damaged = after_damage(&machine, |sim| flip(sim, &name, offset + 8));
    assert_eq!(has(&damaged, 0), None);
    assert_eq!(has(&damaged, 2), Some(30));
    is_counted(&damaged);
}

#[test]
fn a_batch_without_its_ends_counts_where_it_was_durable() {
    let batch = Op::Batch { key: 0, len: 100, three: true, durable: true };
    let machine = machine(&[put(1, 10, true), batch, put(3, 10, true)]);
    let (name, first, _) = place_of(machine.disk(), 0);
    // The begin takes 64 bytes.
    let damaged = after_damage(&machine, |sim| flip(sim, &name, first - 60));
    assert_eq!([0, 1, 2].map(|key| has(&damaged, key)), [Some(100), None, Some(200)]);
}

#[test]
fn what_is_left_of_a_file_that_was_cut_short_is_walked() {
    let machine = machine(&[put(0, 100, true), put(1, 200, true), put(2, 300, true)]);
    let (name, offset, _) = place_of(machine.disk(), 2);
    let rebuilt = after_damage(&machine, |sim| drop(sim.resize(&name, offset as u64).unwrap()));
    // Or the process dies, and the index is believed.
    machine.sim.with(|world| world.deaths = true);
    let died = loop {
        machine.sim.with(|world| world.keep_cut_of(Survives::Least));
        let cut = machine.take_cuts().remove(0);
        if cut.is_death {
            break cut;
        }
    };
    let mut died = Machine::after(died, machine.options());
    drop(died.sim.resize(&name, offset as u64).unwrap());
    died.open().unwrap();
    for left in [rebuilt, died] {
        let mut lens: Vec<_> = left.disk().iter().map(|entry| entry.unwrap().1.len()).collect();
        lens.sort_unstable();
        assert_eq!(lens, [100, 200]);
        // What is there is moved when the segment goes.
        left.disk().compact().unwrap();
        assert_eq!([0, 1, 2].map(|key| has(&left, key)), [Some(100), Some(200), None]);
        assert!(left.disk().verify().unwrap().is_clean());
    }
}

/// Found when a page of the index is filled again from the footers, after a clean end.
#[test]
fn a_record_whose_key_is_damaged_hides_older_ones_in_a_page_that_is_filled_again() {
    let mut machine = machine(&[put(0, 100, true), put(1, 10, true), put(0, 200, true)]);
    let (name, offset, key_at) = place_of(machine.disk(), 0);
    let slot_at = {
        let (guard, key) = (&crossbeam_epoch::pin(), key_of(0));
        let store = &machine.disk().store;
        store.lookup(store.hasher.hash(&key), &key, guard).unwrap().at
    };
    machine.disk().close().unwrap();
    machine.disk = None;
    flip(&machine.sim, &name, offset + key_at + 2);
    let names = machine.sim.list("").unwrap();
    let index = names.iter().find(|name| name.starts_with("index.")).unwrap();
    flip(&machine.sim, index, slot_at);
    machine.open().unwrap();
    assert_eq!([has(&machine, 0), has(&machine, 1)], [None, Some(10)]);
    is_counted(&machine);
}
