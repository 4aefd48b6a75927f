//! What only a whole pass can tell of a trace: how many objects there are, and how large.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use serde::Serialize;

use crate::error::Result;
use crate::trace::Access;

/// A trace in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Survey {
    /// Requests.
    pub requests: u64,
    /// Different objects.
    pub objects: u64,
    /// Objects that are asked for once.
    pub one_hit_objects: u64,
    /// Bytes of all objects, each at its largest: a cache of this size never evicts.
    pub footprint_bytes: u64,
    /// Bytes of all requests.
    pub requested_bytes: u64,
    /// Whether some object has a size other than 1.
    pub sized: bool,
    /// Whether every request says rightly when its object is asked for again. It may say so of
    /// what lies behind the end.
    pub linked: bool,
}

/// Counts a trace while it passes. Memory is about 40 bytes for each different object.
#[derive(Debug, Default)]
pub struct Surveyor {
    requests: u64,
    requested_bytes: u64,
    footprint_bytes: u64,
    one_hit_objects: u64,
    sized: bool,
    /// A request came at another time than the one before for its object had said.
    unlinked: bool,
    objects: HashMap<u64, Seen, foldhash::fast::FixedState>,
}

#[derive(Debug)]
struct Seen {
    /// What its last request said of the next.
    next: u64,
    largest: u32,
    again: bool,
}

impl Surveyor {
    /// Counts an access.
    pub fn note(&mut self, access: &Access) {
        let Access { id, next, size, .. } = *access;
        self.requests += 1;
        self.requested_bytes += u64::from(size);
        self.sized |= size != 1;
        match self.objects.entry(id) {
            Entry::Vacant(place) => {
                place.insert(Seen { next, largest: size, again: false });
                self.footprint_bytes += u64::from(size);
                self.one_hit_objects += 1;
            }
            Entry::Occupied(mut seen) => {
                let seen = seen.get_mut();
                self.unlinked |= seen.next != self.requests;
                self.one_hit_objects -= u64::from(!seen.again);
                self.footprint_bytes += u64::from(size.saturating_sub(seen.largest));
                *seen = Seen { next, largest: size.max(seen.largest), again: true };
            }
        }
    }

    /// What came of it.
    #[must_use]
    pub fn finish(self) -> Survey {
        // The last request for an object says that it never comes again, or only behind the end
        // of a trace that was cut.
        let kept = self.objects.values().all(|seen| seen.next > self.requests);
        Survey {
            requests: self.requests,
            objects: self.objects.len() as u64,
            one_hit_objects: self.one_hit_objects,
            footprint_bytes: self.footprint_bytes,
            requested_bytes: self.requested_bytes,
            sized: self.sized,
            linked: kept && !self.unlinked,
        }
    }
}

/// Counts all of `accesses`.
///
/// # Errors
/// The first of theirs.
pub fn survey(accesses: impl Iterator<Item = Result<Access>>) -> Result<Survey> {
    let mut surveyor = Surveyor::default();
    for access in accesses {
        surveyor.note(&access?);
    }
    Ok(surveyor.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accesses: &[(u64, u32, u64)]) -> Survey {
        let access = |&(id, size, next)| Ok(Access { next, ..Access::new(id, size) });
        survey(accesses.iter().map(access)).unwrap()
    }

    #[test]
    fn objects_count_once_and_at_their_largest() {
        let found = of(&[(1, 5, 3), (2, 7, Access::NEVER), (1, 9, 4), (1, 2, 9)]);
        assert_eq!((found.requests, found.objects, found.one_hit_objects), (4, 2, 1));
        assert_eq!((found.footprint_bytes, found.requested_bytes), (16, 23));
        assert!(found.sized && found.linked);
        assert!(!of(&[(1, 1, 0)]).sized);
    }

    #[test]
    fn a_wrong_word_about_the_next_use_is_noticed() {
        assert!(of(&[(1, 1, 2), (1, 1, Access::NEVER)]).linked);
        assert!(!of(&[(1, 1, Access::NEVER), (1, 1, Access::NEVER)]).linked);
        assert!(!of(&[(1, 1, 3), (1, 1, 3), (1, 1, Access::NEVER)]).linked);
        assert!(!of(&[(1, 1, 2), (2, 1, Access::NEVER)]).linked, "it never comes");
        assert!(!of(&[(1, 1, Access::UNKNOWN)]).linked);
    }
}
