//! Which versions of which functions have results in a cache.
//!
//! A list for each name, the newest 16. Where there is a store, it holds the list as well, under the tag
//! `53`, the namespace before it and the name behind it, so that the next process can tell a
//! miss after a change of the code from any other. That record may be evicted as any, and is
//! written again when a function is set up.

use std::collections::HashMap;

use larder_engine::{CodecId, Put};

use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::key::{KeyBuf, tag};
use crate::sync::Mutex;

/// Versions that are remembered of a function.
const VERSIONS_MAX: usize = 16;
/// How the list is written: the ids, little-endian.
const CODEC: CodecId = CodecId { id: 2, version: 1 };

/// What tells the results of one version of a function from all others.
pub(crate) type FunctionId = [u8; 8];

/// The functions of a cache.
#[derive(Debug, Default)]
pub(crate) struct Versions(Mutex<HashMap<Box<str>, Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The newest last.
    ids: Vec<FunctionId>,
    /// Whether no other version can have results.
    is_complete: bool,
    /// Which bodies were set up in this process.
    bodies: HashMap<FunctionId, Box<str>>,
}

/// What was known of a function when it was set up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Registered {
    pub(super) id: Option<FunctionId>,
    /// Whether it cannot have results yet.
    pub(super) is_new: bool,
}

impl Versions {
    /// Notes that the function `name` has results of the version `id` from now on.
    ///
    /// # Errors
    /// Another body that has this name and version in this process.
    pub(super) fn register<V: Cached, C: Codec<V>>(
        &self,
        core: &Core<V, C>,
        name: &str,
        id: FunctionId,
        body: &str,
    ) -> Result<Registered, Box<str>> {
        let mut functions = self.0.lock();
        let known = functions.entry(name.into()).or_insert_with(|| Known::of(core, name));
        if let Some(other) = known.bodies.get(&id).filter(|other| ***other != *body) {
            return Err(other.clone());
        }
        known.bodies.insert(id, body.into());
        let before = known.ids.len();
        known.ids.retain(|other| *other != id);
        // Of a list that is full, the oldest may have been dropped.
        let is_new = known.is_complete && known.ids.len() == before && before < VERSIONS_MAX;
        known.ids.push(id);
        let surplus = known.ids.len().saturating_sub(VERSIONS_MAX);
        known.ids.drain(..surplus);
        store(core, name, &known.ids);
        Ok(Registered { id: Some(id), is_new })
    }

    /// Versions of `name` other than `id`, the newest first.
    pub(super) fn others(&self, name: &str, id: FunctionId) -> Vec<FunctionId> {
        let functions = self.0.lock();
        let ids = functions.get(name).map_or(&[][..], |known| &known.ids);
        ids.iter().rev().filter(|other| **other != id).copied().collect()
    }
}

fn key<V: Cached, C: Codec<V>>(core: &Core<V, C>, name: &str) -> KeyBuf {
    let mut key = KeyBuf::storable(&core.options.prefix);
    key.tag_len(tag::VERSIONS, name.len());
    key.push(name.as_bytes());
    key
}

impl Known {
    /// What the store knows.
    fn of<V: Cached, C: Codec<V>>(core: &Core<V, C>, name: &str) -> Self {
        let bodies = HashMap::new();
        let Some(lower) = &core.lower else {
            return Self { ids: Vec::new(), is_complete: true, bodies };
        };
        match lower.get(key(core, name).stored()) {
            Ok(Some(list)) if list.meta().codec == CODEC => {
                Self { ids: list.as_chunks().0.to_vec(), is_complete: true, bodies }
            }
            // A list may have been evicted before the results that it is of.
            _ => Self { ids: Vec::new(), is_complete: lower.is_empty(), bodies },
        }
    }
}

/// A list that cannot be stored is one that the next process lacks, no more.
fn store<V: Cached, C: Codec<V>>(core: &Core<V, C>, name: &str, ids: &[FunctionId]) {
    if let Some(lower) = &core.lower {
        let put = Put { codec: CODEC, ..Put::default() };
        let _ = lower.put(key(core, name).stored(), ids.as_flattened(), &put, None);
    }
}
