//! Shelves: keys and values of many types in one cache, each under a name.
//!
//! ```text
//! key     namespace of the cache · 55 · length of the name · name · version · key
//! tag     55 · length of the name · name · 0, of all that is on the shelf
//!         55 · length of the name · name · 1 · tag, of those that the program gives
//! ```
//!
//! A shelf is a view: the values of all of them are in one memory tier, under one budget, and in one
//! store. To clear one is to invalidate its tag.

mod held;

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use larder_engine::{Expected, Outcome, Put, Ttl};

use crate::builder::Builder;
use crate::cache::Cache;
use crate::change::until;
use crate::codec::{Auto, Codec};
use crate::conditional::Info;
use crate::core::Core;
use crate::error::{Error, LoadError, Result};
use crate::event::Event;
use crate::key::{Key, KeyBuf, KeyDecode, KeyEncode, KeyReader, tag};
use crate::load::Sharing;
use crate::loaded::Loaded;
use held::Unread;
pub use held::{PerShelf, Shelved};

/// Longest name in bytes: keys shall have room beside it.
const NAME_MAX: usize = 255;

/// A cache whose values are on [shelves](Shelf): made by [`Cache::shelves`].
pub type Shelves = Cache<(), Shelved, PerShelf>;

impl Shelves {
    /// Begins to set up a cache for keys and values of many types: [`shelf`](Self::shelf).
    ///
    /// ```
    /// use larder::Cache;
    ///
    /// # let home = tempfile::tempdir()?;
    /// let cache = Cache::shelves().memory(32 << 20).disk(home.path().join("store")).build()?;
    /// let users = cache.shelf::<u64, String>("users")?;
    /// let sizes = cache.shelf::<String, (u32, u32)>("sizes")?;
    /// assert!(users.insert(7, "Ada".to_owned())?.is_admitted());
    /// assert!(sizes.insert("cat.png".to_owned(), (640, 480))?.is_admitted());
    ///
    /// users.clear()?;
    /// assert_eq!(users.get(&7)?, None);
    /// assert_eq!(sizes.get("cat.png")?, Some((640, 480)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn shelves() -> Builder<(), Shelved, PerShelf> {
        Builder::with_codec(PerShelf::default())
    }

    /// The shelf of this name, which is one of such keys and values. Costs nothing, and stores nothing.
    ///
    /// # Errors
    /// [`Error::Config`] if the shelf has values of another type in this process, and for a name of more
    /// than 255 bytes.
    pub fn shelf<K, V>(&self, name: impl AsRef<str>) -> Result<Shelf<K, V>>
    where
        V: Clone + Send + Sync + 'static,
        Auto: Codec<V>,
    {
        self.shelf_with(name, Auto::default())
    }

    /// The same, with a codec for its values.
    ///
    /// # Errors
    /// As [`shelf`](Self::shelf).
    pub fn shelf_with<K, V, C>(&self, name: impl AsRef<str>, codec: C) -> Result<Shelf<K, V, C>>
    where
        V: Clone + Send + Sync + 'static,
        C: Codec<V>,
    {
        let name = name.as_ref();
        if name.len() > NAME_MAX {
            let value = format!("{} bytes long", name.len());
            return Err(Error::Config { option: "shelf", value, accepted: "at most 255 bytes" });
        }
        let core = Arc::clone(self.core());
        core.options.codec.register::<(V, C)>(name)?;
        let mut begin = KeyBuf::new();
        begin.tag_len(tag::SHELF, name.len());
        begin.push(name.as_bytes());
        let (begin, codec) = (begin.as_bytes().into(), Arc::new(codec));
        Ok(Shelf { core, codec, begin, version: 1, types: PhantomData })
    }
}

/// Keys and values of one type, under a name, in a cache with others.
///
/// This is a handle: clones are cheap and mean the same. What is said of [`Cache`] counts here as well:
/// both tiers, consistency, loading once, errors. Values carry one tag for the shelf, and so at most 14
/// others; tags are the shelf's own. What other versions of the program stored here under another codec
/// is a miss.
///
/// # Versions
/// A shelf has as many [versions](Self::at_version) as there are numbers, and keys of one are not keys of
/// another. Handles begin with version 1.
pub struct Shelf<K, V, C = Auto> {
    core: Arc<Core<Shelved, PerShelf>>,
    codec: Arc<C>,
    /// What keys and tags begin with.
    begin: Arc<[u8]>,
    version: u32,
    types: PhantomData<fn(K) -> V>,
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl<K, V, C> Shelf<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// The same shelf at another version.
    ///
    /// ```
    /// # use larder::Cache;
    /// let cache = Cache::shelves().build()?;
    /// let pages = cache.shelf::<String, u32>("pages")?;
    /// assert!(pages.insert("home".to_owned(), 42)?.is_admitted());
    /// let next = pages.at_version(2);
    /// assert_eq!(next.get("home")?, None);
    /// assert_eq!(pages.incr_version("home", 1)?, Some(2));
    /// assert_eq!((pages.get("home")?, next.get("home")?), (None, Some(42)));
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[must_use]
    pub fn at_version(&self, version: u32) -> Self {
        Self { version, ..self.clone() }
    }

    /// The version of this handle.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Moves the value of `key` so many versions on, or back, with its time to live, in place of what is
    /// there; says to which version. `None` if there is no value. It is put first and removed then, so
    /// that it is to be found at one of them all the while, and may be at both for a moment. Its tags,
    /// but for the shelf's, stay behind.
    ///
    /// # Errors
    /// As of [`Cache`]; [`Error::Overflow`] if there is no such version; [`Error::Rejected`] if it is
    /// refused there, and then it is where it was.
    pub fn incr_version<Q>(&self, key: &Q, by: i32) -> Result<Option<u32>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let to = self.version.checked_add_signed(by).ok_or(Error::Overflow)?;
        let Some((value, info)) = self.get_with_info(key)? else { return Ok(None) };
        if by == 0 {
            return Ok(Some(to));
        }
        let put = Put { ttl: until(info.expires_at_ms), ..Put::default() };
        match self.at_version(to).put(key, value, &put)? {
            Outcome::Rejected(why) => return Err(Error::Rejected { why }),
            _ => self.remove(key)?,
        };
        Ok(Some(to))
    }

    /// The value of `key`. See [`Cache::get`].
    pub fn get<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        match self.with_key(key, |key| self.core.get_with(key, Shelved::clone))? {
            Some(shelved) => self.read(&shelved),
            None => Ok(None),
        }
    }

    /// The value of `key`, and what is known of it. See [`Cache::get_with_info`].
    pub fn get_with_info<Q>(&self, key: &Q) -> Result<Option<(V, Info)>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        match self.with_key(key, |key| self.core.get_with_info(key))? {
            Some((entry, info)) => Ok(self.read(&entry.value)?.map(|value| (value, info))),
            None => Ok(None),
        }
    }

    /// The values of many keys, in their order. See [`Cache::get_many`].
    pub fn get_many<'q, Q>(&self, keys: impl IntoIterator<Item = &'q Q>) -> Result<Vec<Option<V>>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized + 'q,
    {
        let stored = |key: &Q| {
            let mut bytes = KeyBuf::storable(&self.prefix());
            key.encode(&mut bytes);
            Key::from(bytes.stored())
        };
        let keys: Vec<_> = keys.into_iter().map(stored).collect();
        let found = self.core.get_many(&keys)?.into_iter();
        found.map(|shelved| shelved.map_or(Ok(None), |shelved| self.read(&shelved))).collect()
    }

    /// Whether `key` has a live value. See [`Cache::contains`].
    pub fn contains<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        Ok(self.with_key(key, |key| self.core.version(key))?.is_some())
    }

    /// Stores a value, in place of any other. See [`Cache::insert`].
    pub fn insert(&self, key: K, value: V) -> Result<Outcome>
    where
        K: KeyEncode,
    {
        self.put(&key, value, &Put::default())
    }

    /// Stores a value with options of its own. See [`Cache::insert_with`].
    pub fn insert_with(&self, key: K, value: V, put: &Put<'_>) -> Result<Outcome>
    where
        K: KeyEncode,
    {
        self.put(&key, value, put)
    }

    fn put<Q: KeyEncode + ?Sized>(&self, key: &Q, value: V, put: &Put<'_>) -> Result<Outcome> {
        let shelved = Shelved::new(value, &self.codec);
        self.tagged(put, |put| self.with_key(key, |key| self.core.insert_value(key, shelved, put)))
    }

    /// Stores a value if `key` has none. See [`Cache::add`].
    pub fn add(&self, key: K, value: V, put: &Put<'_>) -> Result<Outcome>
    where
        K: KeyEncode,
    {
        self.insert_if(&key, value, put, Expected::Absent)
    }

    /// Stores a value if the key has one of this version. See [`Cache::replace_if`].
    pub fn replace_if(&self, key: K, version: u64, value: V, put: &Put<'_>) -> Result<Outcome>
    where
        K: KeyEncode,
    {
        self.insert_if(&key, value, put, Expected::Version(version))
    }

    fn insert_if<Q>(&self, key: &Q, value: V, put: &Put<'_>, expected: Expected) -> Result<Outcome>
    where
        Q: KeyEncode + ?Sized,
    {
        let shelved = Shelved::new(value, &self.codec);
        self.tagged(put, |put| {
            self.with_key(key, |key| self.core.insert_if(key, shelved, put, expected))
        })
    }

    /// Replaces the value of `key` by what `change` makes of it. See [`Cache::update`].
    pub fn update<Q>(
        &self,
        key: &Q,
        put: &Put<'_>,
        mut change: impl FnMut(Option<&V>) -> Option<V>,
    ) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let change = |shelved: Option<&Shelved>| -> Result<Option<Shelved>> {
            let old = shelved.map_or(Ok(None), |shelved| self.read(shelved))?;
            Ok(change(old.as_ref()).map(|new| Shelved::new(new, &self.codec)))
        };
        let new =
            self.tagged(put, |put| self.with_key(key, |key| self.core.update(key, put, change)))??;
        new.map_or(Ok(None), |new| self.read(&new))
    }

    /// Gives the value of `key` another time to live. See [`Cache::touch`].
    pub fn touch<Q>(&self, key: &Q, ttl: Ttl) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.with_key(key, |key| self.core.touch(key, ttl))
    }

    /// Removes `key`. Whether it had a live value.
    pub fn remove<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.with_key(key, |key| self.core.remove(key))
    }

    /// Removes `key` and hands out its value. See [`Cache::take`].
    pub fn take<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        match self.with_key(key, |key| self.core.take(key))? {
            Some(shelved) => self.read(&shelved),
            None => Ok(None),
        }
    }

    /// The value of `key`; on a miss what `load` returns. See [`Cache::get_or_insert_with`].
    pub fn get_or_insert_with<Q>(&self, key: &Q, load: impl FnOnce() -> V) -> Result<V>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let never_fails = || Ok::<_, std::convert::Infallible>(Loaded::new(load()));
        self.get_or_load(key, never_fails).map_err(|error| match error {
            LoadError::Cache(error) => error,
            LoadError::Load(never) => match never {},
        })
    }

    /// The value of `key`; on a miss what `load` returns, kept as it says. See [`Cache::get_or_load`].
    ///
    /// # Errors
    /// [`LoadError::Load`] with what `load` returned; [`LoadError::Cache`] for anything else.
    pub fn get_or_load<Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<Loaded<V>, E>,
    ) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let mut load = Some(load);
        loop {
            let mut load_once = || match load.take() {
                // A value that was loaded here can be read here, so nobody comes this way twice.
                None => Err(None),
                Some(load) => load().map(|loaded| self.shelved(loaded)).map_err(Some),
            };
            let shelved = self
                .with_key(key, |key| self.core.get_or_load(key, &Sharing::NONE, &mut load_once));
            let shelved = shelved.map_err(|error| match error {
                LoadError::Load(Some(error)) => LoadError::Load(error),
                LoadError::Load(None) => LoadError::Cache(Error::Cancelled),
                LoadError::Cache(error) => LoadError::Cache(error),
            })?;
            if let Some(value) = self.read(&shelved)? {
                return Ok(value);
            }
            // Another codec's: it makes room for one that can be read.
            let is_unread = |shelved: &Shelved| shelved.read::<V, C>(&self.codec).is_err();
            self.with_key(key, |key| self.core.discard_if(key, is_unread))?;
        }
    }

    fn shelved(&self, loaded: Loaded<V>) -> Loaded<Shelved> {
        let own = loaded.tags.iter().map(|tag| self.tag(Some(tag)));
        let tags = own.chain([self.tag(None)]).collect();
        let Loaded { value, cost, ttl, durability, is_kept, .. } = loaded;
        let value = Shelved::new(value, &self.codec);
        Loaded { value, cost, ttl, durability, tags, is_kept }
    }

    /// Removes everything on the shelf, of all versions, in time independent of how much that is: as
    /// [`Cache::invalidate_tag`] does. Nothing of any other shelf goes, whatever they are called.
    pub fn clear(&self) -> Result<()> {
        self.core.invalidate_tag(&self.tag(None))
    }

    /// Invalidates what was put on this shelf under `tag`. See [`Cache::invalidate_tag`].
    pub fn invalidate_tag(&self, tag: impl AsRef<[u8]>) -> Result<()> {
        self.core.invalidate_tag(&self.tag(Some(tag.as_ref())))
    }

    /// All live entries of this version, in no order. Looks at every entry of the cache.
    pub fn iter(&self) -> Result<impl Iterator<Item = Result<(K, V)>> + '_>
    where
        K: KeyDecode,
    {
        let prefix = self.prefix();
        Ok(self.core.iter()?.filter_map(move |entry| match entry {
            Ok((key, shelved)) => {
                let mut bytes = KeyReader::new(key.strip_prefix(&*prefix)?);
                let key = K::decode(&mut bytes).filter(|_| bytes.is_empty())?;
                Some(self.read(&shelved).transpose()?.map(|value| (key, value)))
            }
            Err(error) => Some(Err(error)),
        }))
    }

    /// The value, if this shelf's codec can read it.
    fn read(&self, shelved: &Shelved) -> Result<Option<V>> {
        match shelved.read(&self.codec) {
            Ok(value) => Ok(Some(value)),
            Err(Unread::Other) => {
                self.core.counters.codec_changed.add(1);
                Ok(None)
            }
            Err(Unread::Damaged(source)) => {
                self.core.counters.undecodable.add(1);
                self.core.events.push(|| Event::Undecodable { why: source.to_string() });
                self.core.events.emit();
                if self.core.options.strict { Err(Error::Decode { source }) } else { Ok(None) }
            }
        }
    }

    /// What all keys of this version begin with.
    fn prefix(&self) -> Vec<u8> {
        let version = self.version.to_le_bytes();
        [&*self.core.options.prefix, &*self.begin, &version].concat()
    }

    /// A tag of this shelf, or that of the shelf itself.
    fn tag(&self, tag: Option<&[u8]>) -> Vec<u8> {
        match tag {
            None => [&*self.begin, &[0]].concat(),
            Some(tag) => [&*self.begin, &[1], tag].concat(),
        }
    }

    /// Hands over options with the tags as the cache knows them.
    fn tagged<R>(&self, put: &Put<'_>, act: impl FnOnce(&Put<'_>) -> R) -> R {
        let own = self.tag(None);
        if put.tags.is_empty() {
            return act(&Put { tags: &[&own], ..*put });
        }
        let given: Vec<_> = put.tags.iter().map(|tag| self.tag(Some(tag))).collect();
        let tags: Vec<&[u8]> = given.iter().chain([&own]).map(|tag| &**tag).collect();
        act(&Put { tags: &tags, ..*put })
    }

    fn with_key<Q, R, E>(&self, key: &Q, act: impl FnOnce(&[u8]) -> Result<R, E>) -> Result<R, E>
    where
        Q: KeyEncode + ?Sized,
        E: From<Error>,
    {
        let mut bytes = KeyBuf::storable(&self.prefix());
        key.encode(&mut bytes);
        act(bytes.stored())
    }
}

impl<K, V, C> Clone for Shelf<K, V, C> {
    fn clone(&self) -> Self {
        let (core, codec) = (Arc::clone(&self.core), Arc::clone(&self.codec));
        let begin = Arc::clone(&self.begin);
        Self { core, codec, begin, version: self.version, types: PhantomData }
    }
}

impl<K, V, C> fmt::Debug for Shelf<K, V, C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Shelf").field("version", &self.version).finish_non_exhaustive()
    }
}
