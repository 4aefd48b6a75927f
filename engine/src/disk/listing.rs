//! What a store holds, entry by entry, without reading values: whose each is, how large, under
//! which tags, and until when.

use std::ops::ControlFlow;

use larder_format::{ExternalRef, Flags};

use super::Disk;
use super::segment::Record;
use super::space::{Owner, Parts, plain, split, tag_of};
use super::store::Store;
use crate::error::Result;
use crate::value::Meta;

/// A live entry of a [`Disk`], from [`Disk::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Where it belongs.
    pub place: Place,
    /// Bytes of its value; `None` for a large one that is compressed, which only reading tells.
    pub len: Option<u64>,
    /// Bytes that the value takes as it is stored.
    pub stored_len: u64,
    /// Whether the value has a file of its own.
    pub is_large: bool,
    /// Whether the value is compressed.
    pub is_compressed: bool,
    /// Whether the value is an array, and stored as one. Its description counts as a part of it
    /// where that stands with it.
    pub is_array: bool,
    /// What its tags are known by ([`Disk::tag_id`]); that of its namespace is left out.
    pub tags: Vec<u64>,
    /// What is known about the value.
    pub meta: Meta,
}

/// Where an entry belongs, and what it is called there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Place {
    /// A plain key.
    Plain {
        /// The key.
        key: Vec<u8>,
    },
    /// A key of a namespace.
    Namespace {
        /// The name of the namespace.
        name: Vec<u8>,
        /// The key.
        key: Vec<u8>,
    },
    /// A part of a queue.
    Queue {
        /// The name of the queue.
        name: Vec<u8>,
        /// The number of an item; `None` for what the store notes about the queue itself.
        item: Option<u64>,
    },
}

impl Place {
    /// Of a key as it is stored; `None` if no larder stores it so.
    fn of(stored: &[u8]) -> Option<Self> {
        let Parts { owner, name, key } = split(stored)?;
        Some(match owner {
            Owner::Plain => Self::Plain { key: key.into_owned() },
            Owner::Namespace => Self::Namespace { name: name.to_vec(), key: key.into_owned() },
            Owner::Queue => {
                let number = key.strip_prefix(&[1]).and_then(|number| number.try_into().ok());
                Self::Queue { name: name.to_vec(), item: number.map(u64::from_le_bytes) }
            }
        })
    }
}

impl Disk {
    /// Shows every live entry of the store, those of namespaces and queues as well, in no order,
    /// until `look` breaks off. Values are not read, and nothing counts as a use. `look` should be
    /// quick: while it runs, no segment that is reclaimed meanwhile goes.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
    /// use larder_engine::{Engine, Place, Put};
    /// use std::ops::ControlFlow;
    ///
    /// let put = Put { tags: &[b"user:7"], ..Put::default() };
    /// let _ = disk.namespace("pages").put(b"start", b"Hello", &put)?;
    /// let mut listed = Vec::new();
    /// disk.list(|entry| {
    ///     listed.push(entry);
    ///     ControlFlow::Continue(())
    /// })?;
    /// let place = Place::Namespace { name: b"pages".to_vec(), key: b"start".to_vec() };
    /// assert_eq!((&listed[0].place, listed[0].len), (&place, Some(5)));
    /// assert_eq!(listed[0].tags, [disk.tag_id(b"user:7")?]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Engine`](crate::Engine).
    pub fn list(&self, mut look: impl FnMut(Listed) -> ControlFlow<()>) -> Result<()> {
        let store = &*self.store;
        store.iter()?.try_for_each_live(|record| match Place::of(record.key()) {
            Some(place) => look(store.listed(place, record)),
            None => ControlFlow::Continue(()),
        });
        Ok(())
    }

    /// What a tag is known by in [`Listed::tags`]: its name is not stored with each value.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`](crate::Error::KeyTooLong).
    pub fn tag_id(&self, tag: &[u8]) -> Result<u64> {
        self.store.tag_hash(&plain(tag))
    }
}

impl Store {
    fn listed(&self, place: Place, record: &Record<'_>) -> Listed {
        let flags = record.header.flags;
        let (is_large, is_array) = (flags.has(Flags::EXTERNAL), flags.has(Flags::ARRAY));
        let is_compressed = flags.has(Flags::COMPRESSED);
        let stored = record.value();
        let stored_len = match is_large {
            true => ExternalRef::decode(stored).map_or(0, |named| named.data_len),
            false => stored.len() as u64,
        };
        let len = match (is_compressed, is_large) {
            (false, _) => Some(stored_len),
            (true, false) => stored.first_chunk().map(|len| u64::from_le_bytes(*len)),
            (true, true) => None,
        };
        let own = match &place {
            Place::Namespace { name, .. } => self.tag_hash(&tag_of(name)).ok(),
            _ => None,
        };
        let tags = record.tags().filter(|tag| Some(*tag) != own).collect();
        let meta = Self::meta(record);
        Listed { place, len, stored_len, is_large, is_compressed, is_array, tags, meta }
    }
}
