//! Which cells the names of tags and namespaces stand for.
//!
//! A name is known as long as something refers to its cell: an entry that is marked with it, an
//! insert that is under way, the handle of a namespace. The registry itself holds cells weakly, so
//! that a cell goes with the last of those. What is left of it here is swept out whenever as many
//! names have been added as there were cells alive at the last time: at constant cost for each name
//! that is added, and never more than about twice as many names as there are cells alive.
//!
//! # Why a cell that has gone revives nothing
//! A mark holds its cell. So when a cell is gone there is no entry that was marked with it, valid
//! or not; and none will come, since marks are made of cells that are got from here. If the
//! name comes again, it gets another cell, and all that is marked with that is newer. An
//! invalidation that finds no cell has nothing to invalidate: an insert that is under way got its
//! cell before it links its entry, so one that is not found here gets it, and links, later.
//!
//! # Invariants
//! 1. At most one cell is alive for a name, and the name leads to it. All changes of that are made
//!    under the lock of the name's stripe.
//!
//! # Orderings
//! `count` is raised by Release after the cell was invalidated, and loaded by Acquire: see
//! `sweep.rs`.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use foldhash::quality::RandomState;
use parking_lot::Mutex;

use super::marks::{Mark, Marks, TagCell};
use crate::sync::{AtomicU64, Ordering};

/// Names that can be looked up at once.
const STRIPES: usize = 16;
/// So few names of a stripe are not worth sweeping.
const NAMES_MIN: usize = 16;

/// Names of one sort.
#[derive(Debug, Default)]
struct Registry {
    stripes: [Mutex<Stripe>; STRIPES],
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Stripe {
    cells: HashMap<Box<str>, Weak<TagCell>, RandomState>,
    /// How many names there may be before those without a cell go.
    names_max: usize,
}

impl Registry {
    fn stripe(&self, name: &str) -> &Mutex<Stripe> {
        let hash = self.hasher.hash_one(name);
        &self.stripes[usize::try_from(hash % STRIPES as u64).unwrap_or(0)]
    }

    /// The cell of a name, if anything refers to it.
    fn known(&self, name: &str) -> Option<Arc<TagCell>> {
        self.stripe(name).lock().cells.get(name)?.upgrade()
    }

    /// The cell of a name; a new one, if nothing refers to it.
    fn cell(&self, name: &str, make: impl FnOnce() -> TagCell) -> Arc<TagCell> {
        let mut stripe = self.stripe(name).lock();
        if let Some(cell) = stripe.cells.get(name).and_then(Weak::upgrade) {
            return cell;
        }
        if stripe.cells.len() >= stripe.names_max {
            stripe.cells.retain(|_, cell| cell.strong_count() > 0);
            stripe.names_max = NAMES_MIN.max(2 * stripe.cells.len());
        }
        let cell = Arc::new(make());
        stripe.cells.insert(name.into(), Arc::downgrade(&cell));
        cell
    }

    /// Where all cells are that names lead to.
    fn addresses(&self) -> HashSet<usize> {
        let all = |stripe: &Mutex<Stripe>| -> Vec<usize> {
            stripe.lock().cells.values().map(|cell| cell.as_ptr().addr()).collect()
        };
        self.stripes.iter().flat_map(all).collect()
    }
}

/// The names of tags and namespaces of a tier.
#[derive(Debug, Default)]
pub(super) struct Names {
    tags: Registry,
    spaces: Registry,
    count: AtomicU64,
}

impl Names {
    /// The cell of a tag, if anything may be marked with it.
    pub(super) fn tag(&self, tag: &str) -> Option<Arc<TagCell>> {
        self.tags.known(tag)
    }

    /// The cell of a namespace.
    pub(super) fn space(&self, name: &str) -> Arc<TagCell> {
        self.spaces.cell(name, TagCell::of_space)
    }

    /// The cell of a namespace, if there is a handle or an entry of it.
    pub(super) fn known_space(&self, name: &str) -> Option<Arc<TagCell>> {
        self.spaces.known(name)
    }

    /// The marks of an entry.
    pub(super) fn marks(&self, space: Option<&Arc<TagCell>>, tags: &[&str]) -> Marks {
        if space.is_none() && tags.is_empty() {
            return None;
        }
        let tags = tags.iter().map(|tag| self.tags.cell(tag, TagCell::default));
        Some(space.map(Arc::clone).into_iter().chain(tags).map(Mark::new).collect())
    }

    /// Invalidates what is marked with a cell.
    pub(super) fn invalidate(&self, cell: &TagCell) {
        cell.invalidate();
        // Release: see the header.
        self.count.fetch_add(1, Ordering::Release);
    }

    /// How often anything was invalidated.
    pub(super) fn invalidations(&self) -> u64 {
        // Acquire: see the header.
        self.count.load(Ordering::Acquire)
    }

    /// All cells that have a name.
    pub(super) fn known(&self) -> Known {
        Known { tags: self.tags.addresses(), spaces: self.spaces.addresses() }
    }
}

/// Where the cells are that have a name.
pub(super) struct Known {
    tags: HashSet<usize>,
    spaces: HashSet<usize>,
}

impl Known {
    /// Checks that the cells of the marks of an entry can be reached by names, and that only the
    /// first is a namespace's.
    pub(super) fn validate(&self, marks: &[Mark]) -> Result<(), String> {
        for (at, mark) in marks.iter().enumerate() {
            let is_space = mark.cell().is_space();
            let known = if is_space { &self.spaces } else { &self.tags };
            if !known.contains(&Arc::as_ptr(mark.cell()).addr()) || (is_space && at > 0) {
                return Err(format!("mark {at} of an entry is of a cell that has no name"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_one_cell_as_long_as_that_is_referred_to() {
        let names = Names::default();
        assert!(names.tag("a").is_none() && names.known_space("a").is_none());
        let marks = names.marks(None, &["a", "b"]).unwrap();
        let a = names.tag("a").unwrap();
        assert!(Arc::ptr_eq(&a, marks[0].cell()) && !Arc::ptr_eq(&a, marks[1].cell()));
        let space = names.space("a");
        assert!(!Arc::ptr_eq(&a, &space) && space.is_space() && !a.is_space());
        let others = names.marks(Some(&space), &["a"]).unwrap();
        assert!(Arc::ptr_eq(others[0].cell(), &space) && Arc::ptr_eq(others[1].cell(), &a));
        assert_eq!(names.known().validate(&others), Ok(()));
        assert!(Names::default().known().validate(&others).is_err());
        assert!(names.marks(None, &[]).is_none());
        assert!(others.iter().chain(&marks).all(Mark::is_valid));
        assert_eq!(names.invalidations(), 0);
        names.invalidate(&a);
        assert_eq!(names.invalidations(), 1);
        let valid: Vec<bool> = marks.iter().chain(&others).map(Mark::is_valid).collect();
        assert_eq!(valid, [false, true, true, false]);
        drop((a, marks, others));
        assert!(names.tag("a").is_none() && names.known_space("a").is_some());
        drop(space);
        assert!(names.known_space("a").is_none());
    }

    #[test]
    fn names_that_nothing_refers_to_go() {
        let names = Names::default();
        let kept: Vec<Marks> =
            (0..100).map(|at| names.marks(None, &[&format!("kept {at}")])).collect();
        for at in 0..20_000 {
            let marks = names.marks(Some(&names.space(&at.to_string())), &[&at.to_string()]);
            assert!(marks.is_some());
        }
        let count = |registry: &Registry| -> usize {
            registry.stripes.iter().map(|stripe| stripe.lock().cells.len()).sum()
        };
        assert!(count(&names.spaces) <= STRIPES * NAMES_MIN);
        assert!(count(&names.tags) <= 2 * 100 + STRIPES * NAMES_MIN);
        assert!((0..100).all(|at| names.tag(&format!("kept {at}")).is_some()));
        drop(kept);
    }
}
