//! The slot that leads to a record, found by where the record is.

use crossbeam_epoch::Guard;
use larder_format::{Slot, SlotState};

use super::store::Store;

impl Store {
    /// The slot that points to a place.
    pub(super) fn find_place(&self, hash: u64, place: Slot, guard: &Guard) -> Option<Slot> {
        self.replace_place(hash, place, |slot| slot, guard)
    }

    /// Changes the slot that points to a place; returns it as it was before.
    pub(super) fn replace_place(
        &self,
        hash: u64,
        place: Slot,
        new: impl Fn(Slot) -> Slot,
        guard: &Guard,
    ) -> Option<Slot> {
        loop {
            let slots = self.index.for_writing(self.ground(), hash, guard);
            let (at, slot) = slots.slot_of(hash, place)?;
            if slot.state() == SlotState::Pending {
                // A batch that was committed by a process that died: it takes its place first.
                // What cannot be settled now stays as it is.
                self.settle_pending(place, guard).ok()?;
            } else if let Some(old) = slots.swap_place(at, slot, &new) {
                return Some(old);
            }
            // Its page has moved to the next generation, or it was replaced: look again.
            self.index.thaw_strays(hash);
        }
    }
}
