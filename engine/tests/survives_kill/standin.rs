//! A store of one file that is right, and ways to be wrong that show only after a kill. What
//! does not find these would not find the same in a real store.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use larder_engine::clock::is_live;
use larder_engine::{Clock, Engine, Error, ManualClock, Meta, Outcome, Put, Result, Stats, Value};
use parking_lot::Mutex;

use crate::stores::Subject;

/// What is wrong with a stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    Nothing,
    /// Writes are collected: what was acknowledged is lost.
    Buffers,
    /// A removal is not written down.
    ForgetsRemoves,
    ForgetsClears,
    ForgetsDeadlines,
    /// A removed key gets its last value back.
    OldestWins,
    /// A record cut short is filled up with zeros.
    FillsTornTail,
    /// A record cut short makes the store refuse to open.
    RefusesTornTail,
    /// What follows a record cut short is out of reach.
    AppendsToTornTail,
    VersionsRestart,
    /// The value of the record before is taken for this one's.
    MixesValues,
    /// One key in a hundred is not found again.
    LosesSome,
    /// A batch is one record after the other.
    BatchesInParts,
    /// An invalidation is not written down.
    ForgetsInvalidations,
    /// An invalidation is one removal after the other.
    InvalidatesInParts,
    /// A sum is written down every other time.
    ForgetsAdditions,
    /// An addition that was made is made once more.
    AddsTwice,
}

impl Flaw {
    pub(crate) const ALL: &[Self] = &[
        Self::Buffers,
        Self::ForgetsRemoves,
        Self::ForgetsClears,
        Self::ForgetsDeadlines,
        Self::OldestWins,
        Self::FillsTornTail,
        Self::RefusesTornTail,
        Self::AppendsToTornTail,
        Self::VersionsRestart,
        Self::MixesValues,
        Self::LosesSome,
        Self::BatchesInParts,
        Self::ForgetsInvalidations,
        Self::InvalidatesInParts,
        Self::ForgetsAdditions,
        Self::AddsTwice,
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = Self::ALL.iter().chain([&Self::Nothing]);
        all.copied().find(|flaw| format!("{flaw:?}") == name)
    }

    /// A record is written in two parts, so that a kill can fall between them.
    const fn tears(self) -> bool {
        matches!(self, Self::FillsTornTail | Self::RefusesTornTail | Self::AppendsToTornTail)
    }
}

const PUT: u64 = 1;
const REMOVE: u64 = 2;
const CLEAR: u64 = 3;
/// The key has a tag from here on, which is the value.
const TAG: u64 = 4;
/// What has the tag that is the key goes.
const INVALIDATE: u64 = 5;
/// The value is records that count together.
const BATCH: u64 = 6;
/// Kind, version, deadline, length of key and of value, 8 bytes each.
const HEADER_LEN: usize = 40;
const BUFFER_LEN: usize = 16 << 10;
/// Between parts that should be one.
const PAUSE: std::time::Duration = std::time::Duration::from_micros(200);

/// The store.
#[derive(Debug)]
pub(crate) struct StandIn {
    flaw: Flaw,
    clock: Arc<ManualClock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    buffer: Vec<u8>,
    entries: BTreeMap<Vec<u8>, (Arc<[u8]>, Meta)>,
    /// Of keys that have one.
    tags: BTreeMap<Vec<u8>, Vec<u8>>,
    version: u64,
}

impl StandIn {
    pub(crate) fn open(dir: &Path, flaw: Flaw, clock: Arc<ManualClock>) -> Result<Self> {
        let path = dir.join("log");
        let failed = |op| {
            let path = path.clone();
            move |source| Error::Io { op, path, source }
        };
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(failed("open"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read"))?;
        let (entries, tags) = (BTreeMap::new(), BTreeMap::new());
        let mut state = State { file, buffer: Vec::new(), entries, tags, version: 0 };
        let used = state.replay(&bytes, flaw);
        if used < bytes.len() && flaw == Flaw::RefusesTornTail {
            return Err(failed("replay")(io::Error::other("the last record is cut short")));
        }
        if used < bytes.len() && flaw != Flaw::AppendsToTornTail {
            state.file.set_len(used as u64).map_err(failed("cut"))?;
        }
        if flaw == Flaw::VersionsRestart {
            state.version = 0;
        }
        Ok(Self { flaw, clock, state: Mutex::new(state) })
    }

    /// Writes a record: in one call, unless the flaw is about that.
    fn log(&self, state: &mut State, header: [u64; 3], key: &[u8], value: &[u8]) -> Result<()> {
        let record = encode(header, key, value);
        let mut write = |bytes: &[u8]| {
            let told = state.file.write_all(bytes);
            told.map_err(|source| Error::Io { op: "append to", path: "log".into(), source })
        };
        match self.flaw {
            Flaw::Buffers => {
                state.buffer.extend_from_slice(&record);
                if state.buffer.len() > BUFFER_LEN {
                    write(&std::mem::take(&mut state.buffer))?;
                }
                Ok(())
            }
            flaw if flaw.tears() => {
                let (front, back) = record.split_at(record.len() - value.len() / 2);
                write(front)?;
                std::thread::sleep(std::time::Duration::from_micros(200));
                write(back)
            }
            _ => write(&record),
        }
    }

    /// Writes bytes at once.
    fn write_bytes(&self, state: &mut State, bytes: &[u8]) -> Result<()> {
        let told = state.file.write_all(bytes);
        told.map_err(|source| Error::Io { op: "append to", path: "log".into(), source })
    }

    fn find(&self, key: &[u8]) -> Option<Value> {
        let state = self.state.lock();
        let (value, meta) = state.entries.get(key)?;
        is_live(meta.expires_at_ms, self.clock.now_ms()).then(|| Value::new(value.clone(), *meta))
    }
}

/// No key or value here is longer.
const LEN_MAX: usize = 16 << 20;

impl State {
    /// Takes in what was written; how many bytes of it are whole records.
    fn replay(&mut self, bytes: &[u8], flaw: Flaw) -> usize {
        let mut at = 0;
        let mut last = Arc::<[u8]>::default();
        while let Some(header) = bytes.get(at..at + HEADER_LEN) {
            let word = |n: usize| {
                u64::from_le_bytes(header[8 * n..8 * n + 8].try_into().unwrap_or_default())
            };
            let (kind, version, deadline) = (word(0), word(1), word(2));
            // A stand-in that goes on behind a torn record reads lengths from anywhere.
            let len = |n| usize::try_from(word(n)).ok().filter(|len| *len <= LEN_MAX);
            let (Some(key_len), Some(value_len)) = (len(3), len(4)) else { break };
            let start = at + HEADER_LEN;
            let Some(key) = bytes.get(start..start + key_len) else { break };
            let start = start + key_len;
            let mut value = bytes[start..bytes.len().min(start + value_len)].to_vec();
            if value.len() < value_len {
                if flaw != Flaw::FillsTornTail {
                    break;
                }
                value.resize(value_len, 0);
            }
            self.version = self.version.max(version);
            let value: Arc<[u8]> = value.into();
            let mut meta = Meta::default();
            (meta.version, meta.expires_at_ms) = (version, deadline);
            if flaw == Flaw::ForgetsDeadlines {
                meta.expires_at_ms = u64::MAX;
            }
            let lost = flaw == Flaw::LosesSome && version % 100 == 0;
            let old = flaw == Flaw::OldestWins && self.entries.contains_key(key);
            if matches!(kind, PUT | REMOVE) {
                self.tags.remove(key);
            }
            match kind {
                TAG => drop(self.tags.insert(key.to_vec(), value.to_vec())),
                INVALIDATE => drop(self.invalidate(key)),
                BATCH => drop(self.replay(&value, flaw)),
                PUT if flaw == Flaw::AddsTwice && value.len() == 8 => {
                    let again = self.entries.contains_key(key) && version % 50 == 0;
                    let sum = number(&value) + i64::from(again);
                    self.entries.insert(key.to_vec(), (sum.to_le_bytes().as_slice().into(), meta));
                }
                PUT if lost || old => {}
                PUT if flaw == Flaw::MixesValues && version % 100 == 0 => {
                    self.entries.insert(key.to_vec(), (last, meta));
                }
                PUT => drop(self.entries.insert(key.to_vec(), (value.clone(), meta))),
                REMOVE => drop(self.entries.remove(key)),
                _ => {
                    self.entries.clear();
                    self.tags.clear();
                }
            }
            last = value;
            at = start + value_len;
        }
        at
    }
}

impl State {
    /// Takes out what has a tag; the keys.
    fn invalidate(&mut self, tag: &[u8]) -> Vec<Vec<u8>> {
        let reached = self.tags.extract_if(.., |_, has| has == tag);
        let reached: Vec<_> = reached.map(|(key, _)| key).collect();
        for key in &reached {
            self.entries.remove(key);
        }
        reached
    }
}

/// A record as it is written.
fn encode(header: [u64; 3], key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_LEN + key.len() + value.len());
    for word in header.into_iter().chain([key.len() as u64, value.len() as u64]) {
        record.extend_from_slice(&word.to_le_bytes());
    }
    record.extend_from_slice(key);
    record.extend_from_slice(value);
    record
}

fn number(value: &[u8]) -> i64 {
    value.try_into().map_or(0, i64::from_le_bytes)
}

impl Subject for StandIn {
    fn write(&self, changes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<()> {
        let mut state = self.state.lock();
        let mut records = Vec::new();
        for (key, value) in changes {
            state.version += 1;
            let version = state.version;
            let kind = if value.is_some() { PUT } else { REMOVE };
            let value = value.clone().unwrap_or_default();
            records.push(encode([kind, version, u64::MAX], key, &value));
            state.tags.remove(key);
            let mut meta = Meta::default();
            (meta.version, meta.expires_at_ms) = (version, u64::MAX);
            match kind {
                PUT => drop(state.entries.insert(key.clone(), (value.into(), meta))),
                _ => drop(state.entries.remove(key)),
            }
        }
        if self.flaw == Flaw::BatchesInParts {
            for record in records {
                self.write_bytes(&mut state, &record)?;
                std::thread::sleep(PAUSE);
            }
            return Ok(());
        }
        let version = state.version;
        self.log(&mut state, [BATCH, version, 0], &[], &records.concat())
    }

    fn invalidate_tag(&self, tag: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        let reached = state.invalidate(tag);
        let version = state.version;
        match self.flaw {
            Flaw::ForgetsInvalidations => Ok(()),
            Flaw::InvalidatesInParts => reached.iter().try_for_each(|key| {
                std::thread::sleep(PAUSE);
                self.log(&mut state, [REMOVE, version, 0], key, &[])
            }),
            _ => self.log(&mut state, [INVALIDATE, version, 0], tag, &[]),
        }
    }

    fn add(&self, key: &[u8], by: i64) -> Result<i64> {
        let mut state = self.state.lock();
        let sum = by + state.entries.get(key).map_or(0, |(value, _)| number(value));
        state.version += 1;
        let version = state.version;
        let mut meta = Meta::default();
        (meta.version, meta.expires_at_ms) = (version, u64::MAX);
        let bytes = sum.to_le_bytes();
        if self.flaw != Flaw::ForgetsAdditions || sum % 2 == 0 {
            self.log(&mut state, [PUT, version, u64::MAX], key, &bytes)?;
        }
        state.entries.insert(key.to_vec(), (bytes.as_slice().into(), meta));
        Ok(sum)
    }
}

impl Engine for StandIn {
    fn name(&self) -> &'static str {
        "stand-in"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        Ok(self.find(key))
    }

    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        Ok(self.find(key).map(|value| value.meta().version))
    }

    fn put(&self, key: &[u8], value: &[u8], options: &Put) -> Result<Outcome> {
        let mut state = self.state.lock();
        state.version += 1;
        let version = state.version;
        let deadline = options.ttl.deadline_ms(self.clock.now_ms(), None);
        let mut meta = Meta::default();
        (meta.version, meta.expires_at_ms) = (version, deadline);
        if let Some(tag) = options.tags.first() {
            let put = encode([PUT, version, deadline], key, value);
            let both = [put, encode([TAG, version, 0], key, tag)].concat();
            self.log(&mut state, [BATCH, version, 0], &[], &both)?;
            state.tags.insert(key.to_vec(), tag.to_vec());
        } else {
            self.log(&mut state, [PUT, version, deadline], key, value)?;
            state.tags.remove(key);
        }
        state.entries.insert(key.to_vec(), (value.into(), meta));
        Ok(Outcome::Admitted { version })
    }

    fn remove(&self, key: &[u8]) -> Result<bool> {
        let live = self.find(key).is_some();
        let mut state = self.state.lock();
        if self.flaw != Flaw::ForgetsRemoves {
            let version = state.version;
            self.log(&mut state, [REMOVE, version, 0], key, &[])?;
        }
        state.entries.remove(key);
        state.tags.remove(key);
        Ok(live)
    }

    fn clear(&self) -> Result<u64> {
        let mut state = self.state.lock();
        if self.flaw != Flaw::ForgetsClears {
            let version = state.version;
            self.log(&mut state, [CLEAR, version, 0], &[], &[])?;
        }
        state.tags.clear();
        Ok(std::mem::take(&mut state.entries).len() as u64)
    }

    fn len(&self) -> u64 {
        self.state.lock().entries.len() as u64
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        let keys: Vec<_> = self.state.lock().entries.keys().cloned().collect();
        Box::new(keys.into_iter().filter_map(|key| {
            let value = self.find(&key)?;
            Some(Ok((key, value)))
        }))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}
