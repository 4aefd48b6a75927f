//! The names by which a policy knows entries.
//!
//! A new value of a key is another entry, under another id; yet to the policy it is the same one
//! in the same position. So the policy has names of its own, which are dense as well: places.
//! As long as no value was replaced, the place of an entry is its id, and nothing is kept here;
//! from the first replacement on, two arrays lead from the one to the other.

use super::policy::cover;

/// No id.
const NONE: u32 = u32::MAX;

/// Places, and the ids of the entries that are there.
#[derive(Debug, Default)]
pub(super) struct Places(Option<Box<Maps>>);

#[derive(Debug)]
struct Maps {
    /// By place.
    ids: Vec<u32>,
    /// By id, for entries that are linked.
    places: Vec<u32>,
    free: Vec<u32>,
}

impl Places {
    /// Gives a new entry a place.
    #[inline]
    pub(super) fn settle(&mut self, id: u32) -> u32 {
        self.0.as_mut().map_or(id, |maps| maps.settle(id))
    }

    /// Puts another entry in a place. `linked` are the ids of all entries before that.
    #[inline(always)]
    pub(super) fn replace<I: Iterator<Item = u32>>(
        &mut self,
        place: u32,
        id: u32,
        linked: impl FnOnce() -> I,
    ) {
        let maps = match &mut self.0 {
            Some(maps) => maps,
            none => none.insert(Maps::of(linked())),
        };
        maps.put(place, id);
    }

    /// The entry that may be in a place; it is if it is linked.
    #[inline]
    pub(super) fn id(&self, place: u32) -> Option<u32> {
        match &self.0 {
            None => Some(place),
            Some(maps) => maps.ids.get(place as usize).copied().filter(|&id| id != NONE),
        }
    }

    /// The place of an entry that is linked.
    #[inline]
    pub(super) fn place(&self, id: u32) -> u32 {
        self.0.as_ref().map_or(id, |maps| maps.places[id as usize])
    }

    /// Frees a place.
    #[inline]
    pub(super) fn give_back(&mut self, place: u32) {
        if let Some(maps) = &mut self.0 {
            maps.ids[place as usize] = NONE;
            maps.free.push(place);
        }
    }

    /// Frees all places.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

impl Maps {
    /// Every linked entry in the place that is called as its id.
    #[cold]
    fn of(linked: impl Iterator<Item = u32>) -> Box<Self> {
        let mut maps = Self { ids: Vec::new(), places: Vec::new(), free: Vec::new() };
        linked.for_each(|id| maps.put(id, id));
        let free = (0..).zip(&maps.ids).filter(|&(_, &id)| id == NONE);
        maps.free = free.map(|(place, _)| place).collect();
        Box::new(maps)
    }

    #[inline]
    fn settle(&mut self, id: u32) -> u32 {
        let place = match self.free.pop() {
            Some(place) => place,
            // There are no more places than ids, and those have 32 bits.
            None => u32::try_from(self.ids.len()).unwrap_or(NONE),
        };
        self.put(place, id);
        place
    }

    #[inline(always)]
    fn put(&mut self, place: u32, id: u32) {
        cover(&mut self.ids, place, NONE);
        cover(&mut self.places, id, NONE);
        self.ids[place as usize] = id;
        self.places[id as usize] = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_outlives_the_ids_that_are_there() {
        let mut places = Places::default();
        assert_eq!((places.settle(0), places.settle(1), places.settle(2)), (0, 1, 2));
        places.give_back(1);
        // Entry 3 replaces entry 0; entry 1 has left, so its place is the one that is free.
        places.replace(0, 3, || [0, 2].into_iter());
        assert_eq!((places.id(0), places.place(3)), (Some(3), 0));
        assert_eq!((places.id(1), places.id(2), places.id(3)), (None, Some(2), None));
        assert_eq!((places.settle(0), places.settle(4)), (1, 3));
        assert_eq!((places.place(0), places.id(3), places.place(4)), (1, Some(4), 3));
    }
}
