//! What a store was given and has acknowledged, and hence what it may answer.
//!
//! Of each key the values that it had are kept in order, the absence of one included, back to
//! the last that is durable. An operation that is under way, or that failed, adds what it may
//! have done, without being sure of it.

use std::collections::BTreeMap;

use larder_format::CodecId;

use crate::array::AnyArray;
use crate::disk::Disk;
use crate::engine::Engine;

/// A value, made from nothing but these: what a reader finds tells which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    version: u32,
    len: usize,
    tag: Option<u8>,
}

/// Shortest value: its key and version.
pub(super) const LEN_MIN: usize = 8;

/// The bytes of a value of a key.
pub(super) fn value_of(key: u32, stored: Stored) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(stored.len + 8);
    bytes.extend_from_slice(&key.to_le_bytes());
    bytes.extend_from_slice(&stored.version.to_le_bytes());
    let mut word = u64::from(key) << 32 | u64::from(stored.version) | 1;
    while bytes.len() < stored.len {
        word = word.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(stored.len.max(LEN_MIN));
    bytes
}

/// The bytes of a key; they are of different lengths.
pub(super) fn key_of(key: u32) -> Vec<u8> {
    let mut bytes = format!("key {key} ").into_bytes();
    bytes.resize(6 + key as usize * 7 % 40, b'k');
    bytes.extend_from_slice(&key.to_le_bytes());
    bytes
}

/// How a store ended, and thus what it may have lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It goes on, or its process died: nothing that was acknowledged is lost.
    Process,
    /// The power went: what was not durable may be lost.
    Power,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    value: Option<Stored>,
    sure: bool,
    /// What it happened together with.
    joint: Option<Joint>,
}

impl Entry {
    const fn of(value: Option<Stored>) -> Self {
        Self { value, sure: false, joint: None }
    }
}

/// Something that happens to several keys, or to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Joint {
    number: u32,
    /// An invalidation of this tag: it says nothing about values without it.
    tag: Option<u8>,
}

/// What keys tell about what happens to several of them: whether it did, by its number.
#[derive(Debug, Default)]
pub(super) struct Joints(BTreeMap<u32, [Option<u32>; 2]>);

impl Joints {
    /// Notes what a key tells. What it says must be what the others say.
    pub(super) fn note(&mut self, key: u32, told: &[(u32, bool)]) -> Result<(), String> {
        for (number, happened) in told {
            let keys = self.0.entry(*number).or_default();
            keys[usize::from(*happened)] = Some(key);
            if let [Some(not), Some(did)] = keys {
                return Err(format!("change {number} reached key {did}, and not key {not}"));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct History {
    entries: Vec<Entry>,
    /// The newest that is durable.
    floor: usize,
}

impl History {
    fn last_sure(&self) -> usize {
        self.entries.iter().rposition(|entry| entry.sure).unwrap_or(0)
    }

    fn allowed(&self, end: End) -> &[Entry] {
        match end {
            End::Process => &self.entries[self.last_sure()..],
            End::Power => &self.entries[self.floor..],
        }
    }

    fn settle(&mut self, durable: bool) {
        if let Some(last) = self.entries.last_mut() {
            last.sure = true;
        }
        if durable {
            self.raise_floor();
        }
    }

    fn raise_floor(&mut self) {
        self.floor = 0;
        let last = self.last_sure();
        self.entries.drain(..last);
    }
}

/// The histories of all keys.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    keys: Vec<History>,
    next_version: u32,
    next_joint: u32,
}

impl Ledger {
    /// Of an empty store that will hold this many keys at most.
    pub(super) fn new(keys: usize) -> Self {
        let absent = Entry { sure: true, ..Entry::of(None) };
        let history = History { entries: vec![absent], floor: 0 };
        Self { keys: vec![history; keys], next_version: 1, next_joint: 1 }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.keys.len()).unwrap()
    }

    fn history(&mut self, key: u32) -> &mut History {
        &mut self.keys[key as usize]
    }

    /// A put begins: the value to put.
    pub(super) fn begin_put(&mut self, key: u32, len: usize, tag: Option<u8>) -> Vec<u8> {
        self.begin(key, Some((len, tag)), None)
    }

    /// A removal begins.
    pub(super) fn begin_remove(&mut self, key: u32) {
        self.begin(key, None, None);
    }

    fn begin(
        &mut self,
        key: u32,
        put: Option<(usize, Option<u8>)>,
        joint: Option<Joint>,
    ) -> Vec<u8> {
        let version = self.next_version;
        self.next_version += 1;
        let stored = put.map(|(len, tag)| Stored { version, len: len.max(LEN_MIN), tag });
        self.history(key).entries.push(Entry { joint, ..Entry::of(stored) });
        stored.map(|stored| value_of(key, stored)).unwrap_or_default()
    }

    /// A batch begins: of each key the length of its value, or none to remove it. The values.
    pub(super) fn begin_batch(&mut self, changes: &[(u32, Option<usize>)]) -> Vec<Vec<u8>> {
        let joint = self.joint(None);
        let begin = |(key, len): &(u32, Option<usize>)| {
            self.begin(*key, len.map(|len| (len, None)), Some(joint))
        };
        changes.iter().map(begin).collect()
    }

    fn joint(&mut self, tag: Option<u8>) -> Joint {
        self.next_joint += 1;
        Joint { number: self.next_joint, tag }
    }

    /// The invalidation of a tag begins: a removal of all keys with it, which come back.
    pub(super) fn begin_invalidation(&mut self, tag: u8) -> Vec<u32> {
        let joint = self.joint(Some(tag));
        let has_tag = |entry: &Entry| entry.value.is_some_and(|value| value.tag == Some(tag));
        let mut reached = Vec::new();
        for key in self.keys() {
            let history = self.history(key);
            // Where what came after a value with the tag is lost, and this is not, none is left.
            // A key without a value then says nothing about what else would have removed it.
            for at in (history.floor + 1..history.entries.len()).rev() {
                let next = history.entries[at];
                let tells = next.value.is_some() || next.joint.is_some();
                if has_tag(&history.entries[at - 1]) && tells {
                    history.entries.insert(at, Entry { sure: true, ..Entry::of(None) });
                }
            }
            let is_sure = history.entries.last().is_some_and(has_tag);
            if is_sure || history.allowed(End::Process).iter().any(has_tag) {
                history.entries.push(Entry { joint: Some(joint), ..Entry::of(None) });
            }
            // What may or may not be there is not sure to be gone by this.
            if is_sure {
                reached.push(key);
            }
        }
        reached
    }

    /// A touch begins of a key that has this.
    pub(super) fn begin_touch(&mut self, key: u32, has: Stored) {
        self.history(key).entries.push(Entry::of(Some(has)));
    }

    /// What a key tells, that was found to have this, about what happened to several keys. A
    /// state from before tells that it did not happen, and the state that it left that it did;
    /// later ones tell nothing, as they may be there without it.
    pub(super) fn told(
        &self,
        key: u32,
        end: End,
        found: Option<Stored>,
        may_miss: bool,
    ) -> Vec<(u32, bool)> {
        if found.is_none() && may_miss {
            return Vec::new();
        }
        let allowed = self.keys[key as usize].allowed(end);
        let first = allowed.iter().position(|entry| entry.value == found);
        let last = allowed.iter().rposition(|entry| entry.value == found);
        let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
        let mut told = Vec::new();
        for (at, entry) in allowed.iter().enumerate() {
            let Some(joint) = entry.joint else { continue };
            if at == first && at == last {
                told.push((joint.number, true));
            } else if last < at
                && joint.tag.is_none_or(|tag| found.is_some_and(|found| found.tag == Some(tag)))
            {
                told.push((joint.number, false));
            }
        }
        told
    }

    /// A clear begins.
    pub(super) fn begin_clear(&mut self) {
        self.keys().for_each(|key| self.begin_remove(key));
    }

    /// What was begun on a key is acknowledged.
    pub(super) fn settle(&mut self, key: u32, durable: bool) {
        self.history(key).settle(durable);
    }

    /// A clear is acknowledged. It unlinks files, and syncs that.
    pub(super) fn settle_clear(&mut self) {
        self.keys.iter_mut().for_each(|history| history.settle(true));
    }

    /// What was begun on a key was refused, and did nothing.
    pub(super) fn withdraw(&mut self, key: u32) {
        self.history(key).entries.pop();
    }

    /// What was begun on a key failed: it may have been done, or the key may be gone.
    pub(super) fn fail(&mut self, key: u32) {
        self.history(key).entries.push(Entry::of(None));
    }

    /// Everything acknowledged so far is durable.
    pub(super) fn settle_sync(&mut self) {
        self.keys.iter_mut().for_each(History::raise_floor);
    }

    /// Whether a value that is durable, and that nothing came after, is what the key has.
    pub(super) fn is_settled(&self, key: u32) -> bool {
        let history = &self.keys[key as usize];
        history.floor + 1 == history.entries.len() && history.entries[history.floor].value.is_some()
    }

    /// Compares what a store answers for a key with what it may answer. `may_miss`: it may
    /// have been evicted. Returns the value that the key has.
    pub(super) fn check(
        &self,
        disk: &Disk,
        key: u32,
        end: End,
        may_miss: bool,
    ) -> Result<Option<Stored>, String> {
        let history = &self.keys[key as usize];
        let found = disk.get(&key_of(key)).map_err(|error| format!("get of key {key}: {error}"))?;
        let allowed = history.allowed(end);
        let array = found.as_ref().filter(|value| value.meta().codec == CodecId::ARRAY);
        let array = array.map(AnyArray::of_value).transpose();
        let array = array.map_err(|error| format!("key {key} has no array: {error}"))?;
        // It was found right as a whole, or it would be a miss.
        let data = array.as_ref().and_then(|array| array.data().ok());
        let answer = self.identify(key, data.or(found.as_deref()), allowed);
        match answer {
            Ok(Some(stored)) => Ok(Some(stored)),
            Ok(None) if may_miss || allowed.iter().any(|entry| entry.value.is_none()) => Ok(None),
            Ok(None) => Err(format!("key {key} is lost; it may have {allowed:?}")),
            Err(what) => Err(format!("key {key} has {what}; it may have {allowed:?}")),
        }
    }

    fn identify(
        &self,
        key: u32,
        found: Option<&[u8]>,
        allowed: &[Entry],
    ) -> Result<Option<Stored>, String> {
        let Some(found) = found else { return Ok(None) };
        let word = |at: usize| {
            let bytes = found.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(u32::MAX, u32::from_le_bytes)
        };
        let (owner, version) = (word(0), word(4));
        let known = allowed.iter().filter_map(|entry| entry.value);
        match known.into_iter().find(|stored| stored.version == version) {
            Some(stored) if value_of(key, stored) == found => Ok(Some(stored)),
            _ if owner != key => Err(format!("bytes of key {owner}")),
            Some(_) => Err(format!("torn bytes of version {version}")),
            None => Err(format!("version {version} of {}", self.next_version)),
        }
    }

    /// Takes over what a store has after it was opened again.
    pub(super) fn observe(&mut self, key: u32, end: End, found: Option<Stored>) {
        let history = self.history(key);
        let start = match end {
            End::Process => history.last_sure(),
            End::Power => history.floor,
        };
        let at = history.entries[start..].iter().rposition(|entry| entry.value == found);
        match at {
            // Gone as by an operation that failed: that is like an eviction, and what the key
            // had before may show again.
            Some(at) if found.is_none() && !history.entries[start + at].sure => {}
            Some(at) => {
                history.entries.truncate(start + at + 1);
                history.entries[start + at].sure = true;
            }
            None => history.entries.push(Entry { sure: true, ..Entry::of(found) }),
        }
    }
}
