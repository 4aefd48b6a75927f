//! Tags: what was inserted under one goes all at once.

use std::hash::Hash;

use super::space::{Space, is_same};
use super::tier::Tier;

/// # Tags
/// A value can be inserted under any number of tags ([`Keep::tags`](super::Keep::tags)), and is
/// invalidated with any one of them. Tags are the tier's: those of a namespace's entries are the
/// same as those of plain keys.
///
/// An invalidation takes effect at one moment between call and return, for all entries at once:
/// no lookup that begins later finds what was inserted before it began. An insert at the same
/// time comes before it or after it. What was invalidated leaves when a `get`, a write of its key,
/// an eviction, an [`iter`](Tier::iter) or [`purge`](Tier::purge) notices it, and the listener
/// hears of [`Cause::Invalidated`](super::Cause::Invalidated) then. Until then it counts in
/// [`len`](Tier::len) and [`weight`](Tier::weight); but an insert that needs room looks for it
/// before anything live is evicted.
impl<K: Hash + Eq, V> Tier<K, V> {
    /// Invalidates everything that was inserted under a tag before, at constant cost.
    ///
    /// ```
    /// use larder_engine::memory::{Capacity, Keep, Tier};
    ///
    /// let tier = Tier::builder(Capacity::items(100)).build()?;
    /// tier.insert_as("/ada", "Ada", &Keep::default().tags(&["people", "A"])).unwrap();
    /// tier.insert_as("/bob", "Bob", &Keep::default().tags(&["people", "B"])).unwrap();
    /// tier.insert_as("/about", "About", &Keep::default().tags(&["A"])).unwrap();
    /// tier.invalidate_tag("people");
    /// assert_eq!(tier.get_many(["/ada", "/bob", "/about"]), [None, None, Some("About")]);
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    pub fn invalidate_tag(&self, tag: &str) {
        if let Some(cell) = self.names.tag(tag) {
            self.names.invalidate(&cell);
        }
    }

    /// The plain keys of the live entries under a tag, in no order. Looks at every entry that has
    /// tags or belongs to a namespace, and clones keys under the lock of one shard.
    ///
    /// ```
    /// # use larder_engine::memory::{Capacity, Keep, Tier};
    /// # let tier = Tier::builder(Capacity::Unbounded).build()?;
    /// tier.insert_as("pear", 3, &Keep::default().tags(&["fruit"])).unwrap();
    /// assert_eq!(tier.keys_of("fruit"), ["pear"]);
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    #[must_use]
    pub fn keys_of(&self, tag: &str) -> Vec<K>
    where
        K: Clone,
    {
        self.keys_of_at(None, tag)
    }

    /// The same, in a namespace or not.
    pub(super) fn keys_of_at(&self, space: Space<'_>, tag: &str) -> Vec<K>
    where
        K: Clone,
    {
        let Some(tag) = self.names.tag(tag) else { return Vec::new() };
        let mut keys = Vec::new();
        for cell in &self.cells {
            let shard = cell.lock();
            let entries = shard.marked.iter().filter_map(|place| shard.get(place));
            let found = entries.filter(|entry| {
                let terms = shard.terms(entry);
                terms.marks().iter().any(|mark| is_same(Some(mark.cell()), Some(&tag)))
                    && is_same(cell.table().space_of(entry), space)
                    && terms.is_live(|| self.now_ms())
            });
            keys.extend(found.map(|entry| entry.key.clone()));
        }
        keys
    }
}
