//! Damage to invalidations of tags: what was put under the tag before stays invalid, whether the
//! store runs on, its process died, or the power went.

use larder_format::layout::{ENTRY_LEN, RECORD_HEADER_LEN, TRAILER_LEN};

use super::Sim;
use super::damage::{after_damage, flip, has, is_counted, machine, put};
use super::machine::{Machine, Op};
use crate::disk::index::Found;
use crate::disk::lookup;
use crate::disk::segment::{Record, file_name};
use crate::disk::storage::Storage;
use crate::engine::{Engine, Put};

/// Where the invalidation of a tag is.
#[derive(Debug, Clone)]
struct Place {
    segment: u64,
    offset: usize,
    entry_at: usize,
    /// Its slot, in the file of the index.
    slot_at: usize,
}

impl Place {
    fn of(machine: &Machine, tag: u8) -> Self {
        let store = &machine.disk().store;
        let (guard, tag) = (&crossbeam_epoch::pin(), store.tag_hash(&[tag]).unwrap());
        let slots = || store.index.for_reading(tag, guard);
        let found = lookup::lookup(slots, tag, |slot| store.judge_tag(slot, tag, guard));
        let Found { at: slot_at, found: Record { segment, offset, .. }, .. } = found.unwrap();
        let is_it = |number: &usize| segment.entry(*number).unwrap().offset() == offset;
        let number = (0..segment.entry_count()).find(is_it).unwrap();
        let entry_at = segment.len() - TRAILER_LEN - (number + 1) * ENTRY_LEN;
        Self { segment: segment.id(), offset, entry_at, slot_at }
    }

    fn damage(&self, sim: &Sim, what: What) {
        let flip = |at| flip(sim, &file_name(self.segment), at);
        match what {
            What::Header => flip(self.offset + 8),
            What::Key => flip(self.offset + RECORD_HEADER_LEN),
            What::HeaderAndEntry => {
                flip(self.offset + 8);
                flip(self.entry_at + 3);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Header,
    Key,
    /// So that nobody knows what was there.
    HeaderAndEntry,
}

const ALL: [What; 3] = [What::Header, What::Key, What::HeaderAndEntry];

const fn tagged(key: u32, len: usize, tag: u8) -> Op {
    Op::Tagged { key, len, tag }
}

/// One value that was invalidated, one under another tag, and one that was put later.
fn before() -> Machine {
    machine(&[tagged(0, 100, 1), tagged(1, 10, 2), Op::Invalidate { tag: 1 }, tagged(2, 30, 1)])
}

/// What another process finds when this one has died, damaged.
fn after_death(machine: &Machine, damage: impl FnOnce(&Sim)) -> Machine {
    let left = machine.sim.with(super::world::World::death);
    let cut = super::cut::Cut {
        ledger: machine.ledger.clone().into(),
        after_call: 0,
        is_death: true,
        left,
    };
    let mut left = Machine::after(cut, machine.options());
    damage(&left.sim);
    left.open().unwrap();
    left
}

#[test]
fn what_was_invalidated_stays_so_while_the_index_is_trusted() {
    for what in ALL {
        let running = before();
        Place::of(&running, 1).damage(&running.sim, what);
        let first = before();
        let place = Place::of(&first, 1);
        let died = after_death(&first, |sim| place.damage(sim, what));
        for mut machine in [running, died] {
            assert_eq!(has(&machine, 0), None, "{what:?}");
            is_counted(&machine);
            assert_eq!(has(&machine, 1), Some(10), "{what:?}: another tag");
            // Where the number is not known either, it may have been invalidated as well.
            let known = what != What::HeaderAndEntry;
            assert_eq!(has(&machine, 2), known.then_some(30), "{what:?}");
            // Life goes on under the tag.
            machine.run(tagged(3, 40, 1)).unwrap();
            assert_eq!(has(&machine, 3), Some(40), "{what:?}");
            machine.disk().invalidate_tag(&[1]).unwrap();
            assert_eq!(has(&machine, 3), None, "{what:?}");
            let under = Put { tags: &[&[1]], ..Put::default() };
            assert!(machine.disk().put(b"after", b"all", &under).unwrap().is_admitted());
            assert!(machine.disk().get(b"after").unwrap().is_some(), "{what:?}");
        }
    }
}

/// Rewrites a segment, and seals the one that it was rewritten to.
fn rewrite(machine: &Machine, id: u64) {
    let store = &machine.disk().store;
    store.lanes.acquire_all().iter_mut().for_each(|lane| store.seal(lane));
    let segment = store.live.lock().get(&id).cloned().unwrap();
    store.rewrite(&segment).unwrap();
    assert!(!store.live.lock().contains_key(&id), "it is still there");
    store.lanes.acquire_all().iter_mut().for_each(|lane| store.seal(lane));
}

/// The value in one segment, the invalidation in another.
fn apart() -> (Machine, Place) {
    let mut machine = machine(&[tagged(0, 100, 1)]);
    (0..8).for_each(|_| machine.run(put(3, 8_000, false)).unwrap());
    machine.run(Op::Invalidate { tag: 1 }).unwrap();
    // That it was synced is on the disk with the next sync.
    (0..2).for_each(|_| machine.run(put(2, 50, true)).unwrap());
    let place = Place::of(&machine, 1);
    (machine, place)
}

#[test]
fn what_was_invalidated_stays_so_when_the_segment_that_says_it_is_gone() {
    for what in [What::Header, What::Key] {
        let (running, place) = apart();
        place.damage(&running.sim, what);
        let (first, place) = apart();
        let rebuilt = after_damage(&first, |sim| place.damage(sim, what));
        for machine in [running, rebuilt] {
            rewrite(&machine, place.segment);
            assert_eq!(has(&machine, 0), None, "{what:?}");
            let mut again = after_damage(&machine, |_| ());
            assert_eq!(has(&again, 0), None, "{what:?}, after a restart");
            // What hides it now has to stay as long as the value does.
            let youngest = *machine.disk().store.live.lock().keys().next_back().unwrap();
            rewrite(&machine, youngest);
            again = after_damage(&machine, |_| ());
            assert_eq!(has(&again, 0), None, "{what:?}, in the end");
        }
    }
}

#[test]
fn what_was_invalidated_stays_so_when_a_page_of_the_index_is_filled_again() {
    for what in [What::Header, What::Key] {
        let mut machine = before();
        let place = Place::of(&machine, 1);
        machine.disk().close().unwrap();
        machine.disk = None;
        place.damage(&machine.sim, what);
        let index = machine.sim.list("").unwrap();
        let index = index.iter().find(|name| name.starts_with("index.")).unwrap();
        flip(&machine.sim, index, place.slot_at);
        machine.open().unwrap();
        assert_eq!(has(&machine, 0), None, "{what:?}");
        assert_eq!(has(&machine, 2), Some(30), "{what:?}");
        is_counted(&machine);
    }
}

#[test]
fn a_backup_takes_nothing_that_was_invalidated() {
    let (machine, place) = apart();
    place.damage(&machine.sim, What::Header);
    let dir = tempfile::tempdir().unwrap();
    let report = machine.disk().backup(dir.path().join("copy")).unwrap();
    assert_eq!(report.entries, 2, "{report:?}");
}

#[test]
fn a_writer_with_the_same_tag_bits_leaves_alone_what_a_missing_segment_may_have_said() {
    let (first, place) = apart();
    let mut machine = after_death(&first, |sim| sim.remove(&file_name(place.segment)).unwrap());
    assert_eq!(has(&machine, 0), None, "invalidated");
    let store = &machine.disk().store;
    let hash = store.tag_hash(&[1]).unwrap();
    // As if a key had all the bits of the tag's hash that a slot and its place tell.
    let guard = &crossbeam_epoch::pin();
    let (survey, _) = store.survey(hash, b"a key", guard).unwrap();
    assert!(survey.current.is_none() && survey.has_free_place());
    assert_eq!(has(&machine, 0), None, "invalidated, though a key was written");
    // Life goes on under the tag, as one more invalidation says so itself.
    machine.disk().invalidate_tag(&[1]).unwrap();
    machine.run(tagged(3, 40, 1)).unwrap();
    assert_eq!(has(&machine, 3), Some(40));
}
