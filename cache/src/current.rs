//! Values in memory over a store that other processes change as well.
//!
//! What such a process replaces, removes, invalidates or clears is gone here with the next call, also if
//! memory has it. So each entry is kept with a stamp of the store ([`Watched`]), taken before the value
//! was read, and is served only while that is current: one load more for a hit, and one for each tag.
//!
//! # Invariants
//! 1. Memory serves nothing over such a store without a stamp that is current. An entry that is not is
//!    as if it were not there, and makes place for what is promoted.
//! 2. What is written goes through to the store, which decides: a change that depends on what a key has
//!    is made there, at one moment.
//!    Where the store fails, what it did not take is served from here, as over any store.
//! 3. What the caller wrote itself is kept if its own change was the only one meanwhile.

use larder_engine::{Expected, Stamp, Watched};

use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::entry::Entry;
use crate::error::Result;
use crate::key::Key;
use crate::lower::Lower;

impl Lower {
    /// What the store tells of changes that others make, if there may be others.
    pub(crate) fn watched(&self) -> Option<&dyn Watched> {
        self.engine.watched()
    }

    /// What a value of `key` under these tags is to be kept with.
    pub(crate) fn stamp(&self, key: &[u8], tags: &[u64]) -> Option<Stamp> {
        self.watched()?.stamp(key, tags)
    }

    /// As [`stamp`](Self::stamp), by the tags' bytes.
    pub(crate) fn stamp_of(&self, key: &[u8], tags: &[&[u8]]) -> Option<Stamp> {
        let watched = self.watched()?;
        let id = |tag: &&[u8]| self.engine.tagged().and_then(|tagged| tagged.tag_id(tag).ok());
        let ids = tags.iter().map(id).collect::<Option<Vec<_>>>()?;
        watched.stamp(key, &ids)
    }
}

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// The store, if others may change what is in it.
    pub(crate) fn watched(&self) -> Option<&Lower> {
        if self.is_watched { self.lower.as_ref() } else { None }
    }

    /// Whether an entry may be served, as far as other processes go.
    #[inline]
    pub(crate) fn is_current(&self, entry: &Entry<V>) -> bool {
        !self.is_watched || self.has_current_stamp(entry) || entry.is_unflushed()
    }

    fn has_current_stamp(&self, entry: &Entry<V>) -> bool {
        let watched = self.lower.as_ref().and_then(Lower::watched);
        entry.stamp().zip(watched).is_some_and(|(stamp, watched)| watched.is_current(stamp))
    }

    /// Lets go of what memory has for `key` and others have changed. Hold the key's stripe.
    pub(crate) fn drop_stale(&self, key: &[u8]) {
        if self.is_watched {
            self.memory.remove_if(key, |entry| !self.is_current(entry));
        }
    }

    /// Removes `key` from a store that others change, if it is as expected there. Whether it was.
    pub(crate) fn remove_watched(
        &self,
        lower: &Lower,
        key: &Key,
        expected: Expected,
    ) -> Result<bool> {
        drop(self.memory.take(&**key));
        lower.remove_if(key, expected)
    }
}
