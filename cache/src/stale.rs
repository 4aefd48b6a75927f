//! Keys of which the store may still hold what was replaced or removed.
//!
//! When a write to the store fails, it may hold the key's old value, its new one, or none. The
//! key is masked: reads of the store skip it, until a later write or removal of that key went
//! through. Too many masked keys cannot be remembered; then the store as a whole is bypassed,
//! until it could be cleared.
//!
//! When the store fails to invalidate a tag, it may hold any number of values that are gone. The
//! invalidation is **owed**, and all of the store is skipped until it could be made good; what is
//! put meanwhile under the tag goes with it.

use std::collections::HashSet;

use crate::key::Key;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};

/// Bounds of what is remembered.
const KEYS_MAX: usize = 16 << 10;
const BYTES_MAX: usize = 4 << 20;
const TAGS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Stale {
    keys: Mutex<Keys>,
    /// Mirrors `keys`, so that the usual case takes no lock. Written under it.
    len: AtomicUsize,
    bypassed: AtomicBool,
    /// Tags that are still to be invalidated.
    tags: Mutex<Vec<Box<[u8]>>>,
    /// How many. Written under their lock.
    owed: AtomicUsize,
}

#[derive(Debug, Default)]
struct Keys {
    masked: HashSet<Key>,
    bytes: usize,
}

impl Stale {
    /// Whether the store must not be asked for `key`.
    #[inline]
    pub(crate) fn hides(&self, key: &[u8]) -> bool {
        // Acquire: pairs with the Release in `mask`. A key is masked before the value that
        // the store lacks can be seen, so whoever has seen that value sees the mask. The
        // bypass comes second: it is switched on before the masks that it replaces go.
        self.len.load(Ordering::Acquire) != 0 && self.hides_now(key)
            || self.owes()
            || self.bypassed()
    }

    /// Whether `key` itself is masked.
    pub(crate) fn masks(&self, key: &[u8]) -> bool {
        // Acquire: as in `hides`.
        self.len.load(Ordering::Acquire) != 0 && self.hides_now(key)
    }

    /// Whether an invalidation is owed.
    #[inline]
    pub(crate) fn owes(&self) -> bool {
        // Acquire: pairs with the Release in `owe`, which comes before `invalidate_tag` returns.
        self.owed.load(Ordering::Acquire) != 0
    }

    /// Notes that a tag is still to be invalidated. True if that was one too many and the store is
    /// now bypassed.
    pub(crate) fn owe(&self, tag: &[u8]) -> bool {
        let mut tags = self.tags.lock();
        if tags.iter().any(|owed| **owed == *tag) {
            return false;
        }
        if tags.len() == TAGS_MAX {
            drop(tags);
            return self.bypass();
        }
        tags.push(tag.into());
        // Release: see `owes`.
        self.owed.store(tags.len(), Ordering::Release);
        false
    }

    /// One of the tags that are still to be invalidated.
    pub(crate) fn owed(&self) -> Option<Box<[u8]>> {
        if self.owes() { self.tags.lock().first().cloned() } else { None }
    }

    /// A tag was invalidated.
    pub(crate) fn settled(&self, tag: &[u8]) {
        let mut tags = self.tags.lock();
        tags.retain(|owed| **owed != *tag);
        // Release: whoever reads the store now reads it as it is after the invalidation.
        self.owed.store(tags.len(), Ordering::Release);
    }

    #[cold]
    fn hides_now(&self, key: &[u8]) -> bool {
        self.keys.lock().masked.contains(key)
    }

    /// Whether the store as a whole must not be asked.
    #[inline]
    pub(crate) fn bypassed(&self) -> bool {
        // Acquire: as in `hides`.
        self.bypassed.load(Ordering::Acquire)
    }

    /// Whether there is anything to repair.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.len() != 0 || self.owes() || self.bypassed()
    }

    pub(crate) fn len(&self) -> usize {
        // Relaxed: a figure.
        self.len.load(Ordering::Relaxed)
    }

    /// Masks `key`. True if that was one too many and the store is now bypassed.
    pub(crate) fn mask(&self, key: &[u8]) -> bool {
        let mut keys = self.keys.lock();
        if self.bypassed() || keys.masked.contains(key) {
            return false;
        }
        if keys.masked.len() == KEYS_MAX || keys.bytes + key.len() > BYTES_MAX {
            self.bypass_under(&mut keys);
            return true;
        }
        keys.bytes += key.len();
        keys.masked.insert(key.into());
        // Release: pairs with `hides`.
        self.len.store(keys.masked.len(), Ordering::Release);
        false
    }

    /// Bypasses the store. Whether it was not before.
    pub(crate) fn bypass(&self) -> bool {
        let mut keys = self.keys.lock();
        let before = self.bypassed();
        self.bypass_under(&mut keys);
        !before
    }

    fn bypass_under(&self, keys: &mut Keys) {
        // Release: pairs with `bypassed`. The masks go after it, so that no key is unmasked
        // in between.
        self.bypassed.store(true, Ordering::Release);
        *keys = Keys::default();
        self.len.store(0, Ordering::Release);
    }

    /// The store holds the newest value of `key`, or none.
    #[inline]
    pub(crate) fn unmask(&self, key: &[u8]) {
        if self.len.load(Ordering::Acquire) != 0 {
            let mut keys = self.keys.lock();
            if keys.masked.remove(key) {
                keys.bytes -= key.len();
            }
            self.len.store(keys.masked.len(), Ordering::Release);
        }
    }

    /// Some masked keys, at most `count`.
    pub(crate) fn sample(&self, count: usize) -> Vec<Key> {
        if self.len() == 0 {
            return Vec::new();
        }
        self.keys.lock().masked.iter().take(count).cloned().collect()
    }

    /// The store is empty: nothing is masked or bypassed any more. Whether it was bypassed.
    pub(crate) fn cleared(&self) -> bool {
        let mut keys = self.keys.lock();
        *keys = Keys::default();
        let mut tags = self.tags.lock();
        tags.clear();
        self.owed.store(0, Ordering::Release);
        drop(tags);
        // Release: the store was cleared before.
        self.len.store(0, Ordering::Release);
        self.bypassed.swap(false, Ordering::Release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_come_and_go() {
        let stale = Stale::default();
        assert!(!stale.mask(b"a"));
        assert!(!stale.mask(b"b"));
        assert!(stale.hides(b"a"));
        assert!(!stale.hides(b"c"));
        stale.unmask(b"a");
        assert!(!stale.hides(b"a"));
        assert!(stale.hides(b"b"));
        assert_eq!(stale.sample(10).len(), 1);
    }

    #[test]
    fn one_key_too_many_bypasses_everything_until_cleared() {
        let stale = Stale::default();
        for n in 0..KEYS_MAX as u64 {
            assert!(!stale.mask(&n.to_le_bytes()));
        }
        assert!(stale.mask(b"one more"));
        assert!(stale.hides(b"never seen"));
        assert!(!stale.mask(b"yet another"));
        assert!(stale.cleared());
        assert!(!stale.hides(b"never seen"));
        assert!(!stale.any());
    }

    #[test]
    fn what_is_owed_hides_everything_until_it_is_settled() {
        let stale = Stale::default();
        assert!(!stale.owe(b"a") && !stale.owe(b"b") && !stale.owe(b"a"));
        assert!(stale.hides(b"any") && stale.any());
        assert_eq!(stale.owed().as_deref(), Some(&b"a"[..]));
        stale.settled(b"a");
        assert!(stale.hides(b"any"));
        stale.settled(b"b");
        assert!(!stale.hides(b"any") && !stale.any());
        assert!((0..TAGS_MAX as u64).all(|n| !stale.owe(&n.to_le_bytes())));
        assert!(stale.owe(b"one more") && stale.bypassed());
        assert!(stale.cleared());
        assert!(!stale.any());
    }

    #[test]
    fn long_keys_are_bounded_by_their_bytes() {
        let stale = Stale::default();
        let long = |n: usize| n.to_string().repeat(20_000);
        let masked = (100..).take_while(|n| !stale.mask(long(*n).as_bytes())).count();
        assert_eq!(masked, BYTES_MAX / 60_000);
        assert!(stale.bypassed());
    }
}
