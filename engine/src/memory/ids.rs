//! Which ids of a slab are in use.

use super::bits::Bits;
use super::slab::IDS;

/// Ids that are in use, and those that are free again.
#[derive(Debug, Default)]
pub(super) struct Ids {
    free: Vec<u32>,
    /// All below were used at some time.
    end: u32,
}

impl Ids {
    /// Whether there is none left.
    #[inline]
    pub(super) const fn is_exhausted(&self) -> bool {
        self.free.is_empty() && self.end == IDS
    }

    /// Whether none was ever used.
    #[inline]
    pub(super) const fn is_untouched(&self) -> bool {
        self.end == 0
    }

    /// An id that is in use from now on.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop() {
            return Some(id);
        }
        if self.end == IDS {
            return None;
        }
        self.end += 1;
        Some(self.end - 1)
    }

    /// Frees an id that is in use.
    #[inline]
    pub(super) fn give_back(&mut self, id: u32) {
        self.free.push(id);
    }

    /// Frees ids that are in use.
    pub(super) fn give_back_all(&mut self, ids: &[u32]) {
        self.free.extend_from_slice(ids);
    }

    /// The ids in use, and nothing is in use from now on.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = u32> + use<> {
        let free = self.free_ids();
        self.free = Vec::new();
        (0..std::mem::take(&mut self.end)).filter(move |&id| !free.has(id))
    }

    /// How many are in use.
    pub(super) fn count(&self) -> usize {
        self.end as usize - self.free.len()
    }

    fn free_ids(&self) -> Bits {
        let mut free = Bits::default();
        self.free.iter().for_each(|&id| free.flip(id));
        free
    }

    /// Checks that what is free is so once, and is none of those in use.
    pub(super) fn validate(&self, mut used: impl Iterator<Item = u32>) -> Result<(), String> {
        let free = self.free_ids();
        if free.count() != self.free.len() || free.next_from(self.end).is_some() {
            return Err(format!(
                "of {} ids, {} are free more than once",
                self.end,
                self.free.len()
            ));
        }
        match used.find(|&id| id >= self.end || free.has(id)) {
            Some(id) => Err(format!("id {id} is free and in use")),
            None => Ok(()),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dense_and_used_again() {
        let mut ids = Ids::default();
        assert!(ids.is_untouched() && ids.count() == 0);
        assert_eq!([ids.take(), ids.take(), ids.take()], [Some(0), Some(1), Some(2)]);
        ids.give_back(1);
        assert_eq!(ids.validate([0, 2].into_iter()), Ok(()));
        assert!(ids.validate([1].into_iter()).is_err() && ids.validate([3].into_iter()).is_err());
        assert_eq!((ids.take(), ids.take(), ids.count()), (Some(1), Some(3), 4));
        ids.give_back_all(&[0, 3]);
        assert_eq!(ids.drain().collect::<Vec<_>>(), [1, 2]);
        assert!(ids.is_untouched());
        ids.give_back(0);
        assert!(ids.validate([].into_iter()).is_err(), "it was not in use");
    }
}
