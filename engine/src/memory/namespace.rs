//! Namespaces: keys of their own in the same tier, and one moment at which all of them go.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use super::insert::Rejected;
use super::iter::Iter;
use super::keep::Keep;
use super::marks::TagCell;
use super::space::Seek;
use super::tier::Tier;

/// Some of the keys of a [`Tier`], under a name. Made by [`Tier::namespace`].
///
/// Two namespaces, and a namespace and the plain keys of the tier, have no key in common, whatever
/// names and keys are. They share the capacity, the policy, the listener and the tags of the tier:
/// [`Tier::invalidate_tag`] takes what is in namespaces, too; and so do [`Tier::clear`],
/// [`Tier::len`] and all else that does not go by keys. What does, is about plain keys
/// ([`Tier::iter`], [`Tier::retain`], [`Tier::coldest`]), and has its like here.
///
/// An entry in a namespace takes about 90 bytes more than a plain one.
///
/// ```
/// use larder_engine::memory::{Capacity, Tier};
///
/// let tier = Tier::builder(Capacity::items(100)).build()?;
/// let (users, pages) = (tier.namespace("users"), tier.namespace("pages"));
/// users.insert(1, "Ada", u64::MAX).unwrap();
/// pages.insert(1, "Hello", u64::MAX).unwrap();
/// users.invalidate();
/// assert_eq!((users.get(&1), pages.get(&1), tier.get(&1)), (None, Some("Hello"), None));
/// # Ok::<(), larder_engine::Error>(())
/// ```
///
/// Methods do what the methods of the same name of [`Tier`] do.
pub struct Namespace<'a, K, V> {
    tier: &'a Tier<K, V>,
    cell: Arc<TagCell>,
}

impl<K, V> Tier<K, V> {
    /// The keys under a name. Costs a lookup of the name; nothing is stored about a namespace
    /// to which there is neither a handle nor an entry.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Namespace<'_, K, V> {
        Namespace { tier: self, cell: self.names.space(name) }
    }

    /// Invalidates everything that was inserted into a namespace before, at constant cost. See
    /// [`Namespace::invalidate`].
    pub fn invalidate_namespace(&self, name: &str) {
        if let Some(cell) = self.names.known_space(name) {
            self.names.invalidate(&cell);
        }
    }
}

#[expect(clippy::missing_errors_doc, reason = "said once, at the tier's methods")]
impl<K: Hash + Eq, V> Namespace<'_, K, V> {
    fn seek<'b, Q: Hash + ?Sized>(&'b self, key: &'b Q) -> Seek<'b, Q> {
        self.tier.seek(Some(&self.cell), key)
    }

    /// See [`Tier::get`].
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.tier.get_at(self.seek(key))
    }

    /// See [`Tier::get_with`].
    pub fn get_with<Q, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.tier.get_with_at(self.seek(key), look)
    }

    /// See [`Tier::peek`].
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.peek_with(key, V::clone)
    }

    /// See [`Tier::peek_with`].
    pub fn peek_with<Q, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.tier.peek_at(self.seek(key), look)
    }

    /// See [`Tier::hold_with`].
    pub fn hold_with<Q, R>(&self, key: &Q, look: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.tier.hold_at(self.seek(key), look)
    }

    /// See [`Tier::contains`].
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.peek_with(key, |_| ()).is_some()
    }

    /// See [`Tier::insert`].
    pub fn insert(&self, key: K, value: V, expires_at_ms: u64) -> Result<(), Rejected<K, V>> {
        self.insert_as(key, value, &Keep::until(expires_at_ms))
    }

    /// See [`Tier::insert_as`].
    pub fn insert_as(&self, key: K, value: V, keep: &Keep<'_>) -> Result<(), Rejected<K, V>> {
        self.insert_if_as(key, value, keep, |_| true).map(|_| ())
    }

    /// See [`Tier::insert_if_as`].
    pub fn insert_if_as(
        &self,
        key: K,
        value: V,
        keep: &Keep<'_>,
        decide: impl FnOnce(Option<&V>) -> bool,
    ) -> Result<bool, Rejected<K, V>> {
        self.tier.insert_at(Some(&self.cell), (key, value), keep, decide)
    }

    /// See [`Tier::add`].
    pub fn add(&self, key: K, value: V, keep: &Keep<'_>) -> Result<bool, Rejected<K, V>> {
        self.tier.add_at(Some(&self.cell), (key, value), keep)
    }

    /// See [`Tier::remove`].
    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.remove_if(key, |_| true)
    }

    /// See [`Tier::remove_if`].
    pub fn remove_if<Q>(&self, key: &Q, decide: impl FnOnce(&V) -> bool) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.tier.remove_at(self.seek(key), decide)
    }

    /// See [`Tier::take`].
    pub fn take<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.tier.take_at(self.seek(key))
    }

    /// See [`Tier::pin`].
    pub fn pin<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.tier.change_at(self.seek(key), |shard, place| shard.pin(place)).is_some()
    }

    /// See [`Tier::unpin`].
    pub fn unpin<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.tier.unpin_at(self.seek(key))
    }

    /// See [`Tier::is_pinned`].
    pub fn is_pinned<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.tier.is_pinned_at(self.seek(key))
    }

    /// The keys of the live entries here under a tag. See [`Tier::keys_of`].
    #[must_use]
    pub fn keys_of(&self, tag: &str) -> Vec<K>
    where
        K: Clone,
    {
        self.tier.keys_of_at(Some(&self.cell), tag)
    }

    /// The `count` live entries here that would leave next. See [`Tier::coldest`], which looks at as many
    /// entries.
    #[must_use]
    pub fn coldest(&self, count: usize) -> Vec<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        self.tier.coldest_at(Some(&self.cell), count)
    }

    /// The `count` live entries here that would stay for longest. See [`Tier::hottest`].
    #[must_use]
    pub fn hottest(&self, count: usize) -> Vec<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        self.tier.hottest_at(Some(&self.cell), count)
    }

    /// Removes the `count` live entries here that would leave next, and hands them out. See
    /// [`Tier::drain`].
    pub fn drain(&self, count: usize) -> Vec<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        self.tier.drain_at(Some(&self.cell), count)
    }

    /// The live entries here. See [`Tier::iter`], which looks at as many entries: at all of the
    /// tier.
    pub fn iter(&self) -> Iter<'_, K, V>
    where
        K: Clone,
        V: Clone,
    {
        self.tier.iter_at(Some(Arc::clone(&self.cell)))
    }

    /// Invalidates everything that was inserted here before, through whichever handle, at constant
    /// cost. What that means is what it means of a [tag](Tier::invalidate_tag).
    pub fn invalidate(&self) {
        self.tier.names.invalidate(&self.cell);
    }
}

impl<'b, K: Hash + Eq + Clone, V: Clone> IntoIterator for &'b Namespace<'_, K, V> {
    type Item = (K, V);
    type IntoIter = Iter<'b, K, V>;

    fn into_iter(self) -> Iter<'b, K, V> {
        self.iter()
    }
}

impl<K, V> Clone for Namespace<'_, K, V> {
    fn clone(&self) -> Self {
        Self { tier: self.tier, cell: Arc::clone(&self.cell) }
    }
}

impl<K, V> fmt::Debug for Namespace<'_, K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Namespace").field("tier", self.tier).finish_non_exhaustive()
    }
}
