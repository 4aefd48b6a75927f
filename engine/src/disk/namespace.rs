//! Namespaces: keys of their own, and one moment at which all of them go.
//!
//! A namespace is an encoding of its keys (`space.rs`) and a tag that all of its records carry
//! beside those of the caller. Nothing is stored about it, so that it costs nothing to have
//! many, and invalidating one is invalidating a tag: in time independent of what it holds, and
//! exact, as neither keys nor tags of two namespaces are ever the same.

use larder_format::layout::TAGS_MAX;

use super::Disk;
use super::space::{Entries, Owner, Scope, prefix, tag_of, with_tags};
use crate::array::{AnyArray, ArrayRef, ArrayView, Check, Element};
use crate::batch::{BatchOutcome, WriteBatch};
use crate::engine::{Durability, Expected, Outcome, Put, Ttl};
use crate::error::{Error, Result};
use crate::value::{Meta, Value};

/// Tags that a value can carry beside that of its namespace.
const TAGS_HERE: usize = TAGS_MAX - 1;

/// Some of the keys of a [`Disk`], under a name. Made by [`Disk::namespace`].
///
/// Two namespaces, and a namespace and the plain keys of the store, have no key in common,
/// whatever names and keys are. A key takes as many bytes more as the name has, and 6 to 8
/// besides, which count towards the length of a key. Values can carry 14 tags here, as the
/// namespace is one, and tags are the store's: [`Disk::invalidate_tag`] takes what is in
/// namespaces, too.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
/// use larder_engine::Put;
///
/// let (users, pages) = (disk.namespace("users"), disk.namespace("pages"));
/// let _ = users.put(b"1", b"Ada", &Put::default())?;
/// let _ = pages.put(b"1", b"Hello", &Put::default())?;
/// users.invalidate()?;
/// assert!(users.get(b"1")?.is_none());
/// assert_eq!(pages.get(b"1")?.as_deref(), Some(&b"Hello"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// All methods: as of [`Engine`](crate::Engine) and [`Atomic`](crate::Atomic);
/// [`Error::KeyTooLong`] if the name and the key together are too long, with the length that
/// the store would have to take; [`Error::TooManyTags`] beyond 14.
#[derive(Debug, Clone)]
pub struct Namespace<'a> {
    disk: &'a Disk,
    prefix: Vec<u8>,
    tag: Vec<u8>,
}

impl Disk {
    /// The keys under a name, which may be any bytes. Costs nothing, and stores nothing.
    #[must_use]
    pub fn namespace(&self, name: impl AsRef<[u8]>) -> Namespace<'_> {
        let name = name.as_ref();
        Namespace { disk: self, prefix: prefix(Owner::Namespace, name), tag: tag_of(name) }
    }

    /// Removes everything that was put into a namespace before. See [`Namespace::invalidate`].
    ///
    /// # Errors
    /// As of [`Engine`](crate::Engine).
    pub fn invalidate_namespace(&self, name: impl AsRef<[u8]>) -> Result<()> {
        self.namespace(name).invalidate()
    }
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl Namespace<'_> {
    /// See [`Engine::get`](crate::Engine::get).
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.disk.store.get(&self.stored(key))
    }

    /// See [`Disk::get_array`].
    pub fn get_array<T: Element>(&self, key: &[u8]) -> Result<Option<ArrayView<T>>> {
        let array = self.disk.store.get_array(&self.stored(key), Check::default())?;
        Ok(array.map(AnyArray::typed).transpose()?)
    }

    /// See [`Disk::put_array`].
    pub fn put_array(
        &self,
        key: &[u8],
        array: &ArrayRef<'_>,
        options: &Put<'_>,
    ) -> Result<Outcome> {
        with_tags(options, Some(&self.tag), |options| {
            self.disk.put_array_stored(&self.stored(key), array, options)
        })
    }

    /// See [`Disk::get_with`].
    pub fn get_with<R>(
        &self,
        key: &[u8],
        look: impl FnOnce(&[u8], &Meta) -> R,
    ) -> Result<Option<R>> {
        self.disk.store.get_with(&self.stored(key), look)
    }

    /// See [`Engine::version`](crate::Engine::version).
    pub fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        self.disk.store.version(&self.stored(key))
    }

    /// Whether the key has a live value. Does not count as a use.
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(self.version(key)?.is_some())
    }

    /// See [`Engine::put`](crate::Engine::put).
    pub fn put(&self, key: &[u8], value: &[u8], options: &Put<'_>) -> Result<Outcome> {
        self.put_as(key, value, options, None)
    }

    /// See [`Atomic::put_if`](crate::Atomic::put_if).
    pub fn put_if(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Put<'_>,
        expected: Expected,
    ) -> Result<Outcome> {
        self.put_as(key, value, options, Some(expected))
    }

    /// See [`Atomic::add`](crate::Atomic::add).
    pub fn add(&self, key: &[u8], value: &[u8], options: &Put<'_>) -> Result<Outcome> {
        self.put_if(key, value, options, Expected::Absent)
    }

    fn put_as(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Put<'_>,
        expected: Option<Expected>,
    ) -> Result<Outcome> {
        let key = self.stored(key);
        with_tags(options, Some(&self.tag), |options| {
            self.disk.put_stored(&key, value, options, expected)
        })
    }

    /// See [`Engine::remove`](crate::Engine::remove).
    pub fn remove(&self, key: &[u8]) -> Result<bool> {
        self.disk.writable()?.remove(&self.stored(key))
    }

    /// See [`Atomic::take`](crate::Atomic::take).
    pub fn take(&self, key: &[u8]) -> Result<Option<Value>> {
        self.disk.writable()?.take(&self.stored(key))
    }

    /// See [`Atomic::touch`](crate::Atomic::touch).
    pub fn touch(&self, key: &[u8], ttl: Ttl) -> Result<bool> {
        self.disk.writable()?.touch(&self.stored(key), ttl)
    }

    /// See [`Atomic::add_to`](crate::Atomic::add_to).
    pub fn add_to(
        &self,
        key: &[u8],
        by: i64,
        initial: Option<i64>,
        options: &Put<'_>,
    ) -> Result<Option<i64>> {
        let key = self.stored(key);
        with_tags(options, Some(&self.tag), |options| {
            self.disk.writable()?.add_to(&key, by, initial, options)
        })
    }

    /// As [`Disk::write`], with the keys of the batch taken as keys of this namespace.
    pub fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<BatchOutcome> {
        let tags = batch.changes.iter().filter_map(|change| Some(change.put.as_ref()?.tags.len()));
        if let Some(count) = tags.max().filter(|count| *count > TAGS_HERE) {
            return Err(Error::TooManyTags { count, max: TAGS_HERE });
        }
        let stored = batch.stored(|key| self.stored(key), Some(&self.tag));
        Ok(self.disk.write_stored(&stored, durability)?.for_owner(&self.scope()))
    }

    /// The keys that are live, in no order. Looks at every entry of the store.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>> {
        Ok(self.entries()?.keys(|_| true))
    }

    /// All live entries, in no order. Looks at every entry of the store; for the rest see
    /// [`Engine::iter`](crate::Engine::iter).
    pub fn iter(&self) -> Result<impl Iterator<Item = Result<(Vec<u8>, Value)>> + use<'_>> {
        self.entries()
    }

    /// Removes everything that was put into the namespace before, in time independent of how
    /// much that is. Like a removal it survives a kill, and the loss of power after a
    /// [`sync`](crate::Engine::sync).
    pub fn invalidate(&self) -> Result<()> {
        self.disk.writable()?.invalidate_tag(&self.tag)
    }

    fn entries(&self) -> Result<Entries<'_>> {
        Ok(Entries::new(self.disk.store.iter()?, self.scope()))
    }

    fn scope(&self) -> Scope {
        Scope::Under(self.prefix.clone())
    }

    fn stored(&self, key: &[u8]) -> Vec<u8> {
        [&*self.prefix, key].concat()
    }
}
