//! A small engine that is right, and the ways in which it can be told to be wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use larder_engine::clock::is_live;
use larder_engine::{
    Clock, CodecId, Engine, Error, ManualClock, Meta, Outcome, Put, Rejection, Result, Stats, Value,
};
use larder_format::layout::KEY_LEN_MAX;
use parking_lot::Mutex;

/// Most entries of an engine that evicts.
pub(crate) const CAPACITY: usize = 60;
/// Entries from which on it evicts behind its user's back.
const EVICTS_UNASKED: usize = 10;
/// Values of this many bytes and more are refused.
pub(crate) const REFUSES_LEN: usize = 200 << 10;

macro_rules! bugs {
    ($($bug:ident,)*) => {
        /// What can be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Bug { $($bug,)* }
        /// All of it.
        pub(crate) const ALL: &[Bug] = &[$(Bug::$bug,)*];
    };
}

bugs! {
    // Values and keys.
    ReturnsAnotherKeyOnHashClash, CutsLongKeys, IgnoresLastByteOfKey, AcceptsTooLongKeys,
    TooLongKeyEmptiesTheEngine, EmptyValueIsAMiss, LosesAByteAt64KiB, ZerosAreAMiss,
    OverwriteKeepsOldValue, OverwriteLosesTheKey, ForgetsCodec, OverwriteKeepsCodec,
    TooLargeDropsOldValue, TooLargeIsAdmittedAndDropped, PanicsOnEmptyKey, MissesOnceInAThousand,
    // Removal.
    RemoveAlwaysSaysTrue, RemoveSaysFalse, RemoveLeavesTheValue, RemoveTakesAPrefix,
    // Versions and counters.
    VersionIsConstant, VersionRestartsAfterRemove, VersionRestartsOnReopen,
    OutcomeVersionIsOneOff, ValueVersionIsOneOff, ContainsIsAHit, VersionIsAMiss,
    GetCountsTwice, InsertsNotCounted, RejectionsNotCounted, EntriesCountPuts,
    // Time.
    NeverExpires, LivesOneTickTooLong, DiesOneTickTooSoon, ZeroTtlIsForever,
    DeadPutKeepsOldValue, OverwriteKeepsDeadline, ContainsSeesTheDead, VersionSeesTheDead,
    RemoveOfDeadSaysTrue, IterYieldsTheDead, DeadlineIsNotTold, DefaultTtlIgnored,
    // The whole.
    LenCountsOverwrites, LenForgetsRemoves, IterYieldsTwice, IterSkipsOne, IterEndsOnChange,
    ClearCountsOneLess, ClearSparesOne, PutFailsAfterClear,
    ClearForgetsVersions, IsEmptyIsWrong,
    // Life.
    SyncEmpties, UseAfterClose, IterAfterCloseIsEmpty, ReopenLosesTheLast, ReopenResurrects,
    ReopenResurrectsCleared, ReopenGoesBack, ReopenForgetsDeadlines, ReopenForgetsCodec,
    ReopenRenumbers, DropLosesWhatCloseKeeps,
    // Races.
    GapInOverwrite, RemovesOneValueTwice, StaleFill, TornWhileWritten, LateWriteWins,
    ClearIsUndoneByAPut,
    // Eviction.
    KeepsNothingAtAll, EvictedComesBack, EvictsTheNewAndKeepsTheOld,
}

#[derive(Debug, Clone)]
struct Stored {
    value: Arc<[u8]>,
    meta: Meta,
}

/// What outlives an engine.
#[derive(Debug, Default, Clone)]
pub(crate) struct Kept {
    entries: BTreeMap<Vec<u8>, Stored>,
    /// What used to be there, for those who cannot let go.
    before: BTreeMap<Vec<u8>, Stored>,
    cleared: BTreeMap<Vec<u8>, Stored>,
    last_put: Vec<u8>,
    last_version: u64,
    closed: bool,
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Buggy {
    bug: Option<Bug>,
    clock: Arc<ManualClock>,
    evicts: bool,
    kept: Arc<Mutex<Kept>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stats: Stats,
    closed: bool,
    cleared: bool,
    len_off: u64,
    gets: u64,
    filled: BTreeMap<Vec<u8>, Stored>,
}

impl Buggy {
    pub(crate) fn open(
        kept: Arc<Mutex<Kept>>,
        clock: Arc<ManualClock>,
        bug: Option<Bug>,
        evicts: bool,
    ) -> Self {
        {
            let mut kept = kept.lock();
            let last = std::mem::take(&mut kept.last_put);
            if bug == Some(Bug::ReopenLosesTheLast)
                || bug == Some(Bug::DropLosesWhatCloseKeeps) && !kept.closed
            {
                kept.entries.remove(&last);
            }
            kept.closed = false;
            let (before, cleared) = (kept.before.clone(), kept.cleared.clone());
            match bug {
                Some(Bug::ReopenResurrects) => {
                    for (key, stored) in before {
                        kept.entries.entry(key).or_insert(stored);
                    }
                }
                Some(Bug::ReopenGoesBack) => {
                    for (key, stored) in &mut kept.entries {
                        before.get(key).inspect(|&old| *stored = old.clone());
                    }
                }
                Some(Bug::ReopenResurrectsCleared) => kept.entries.extend(cleared),
                Some(Bug::VersionRestartsOnReopen) => kept.last_version = 0,
                _ => {}
            }
            for (at, stored) in (1..).zip(kept.entries.values_mut()) {
                match bug {
                    Some(Bug::ReopenForgetsDeadlines) => stored.meta.expires_at_ms = u64::MAX,
                    Some(Bug::ReopenForgetsCodec) => stored.meta.codec = CodecId::RAW,
                    Some(Bug::ReopenRenumbers) => stored.meta.version = at,
                    _ => {}
                }
            }
        }
        Self { bug, clock, evicts, kept, state: Mutex::default() }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Lets others in, for bugs that leave a gap.
    fn pause(&self) {
        thread::yield_now();
        thread::sleep(std::time::Duration::from_micros(20));
    }

    fn open_or_closed(&self) -> Result<()> {
        if self.state.lock().closed && !self.has(Bug::UseAfterClose) {
            return Err(Error::Closed);
        }
        Ok(())
    }

    fn stored_key(&self, key: &[u8]) -> Vec<u8> {
        match self.bug {
            Some(Bug::CutsLongKeys) => key[..key.len().min(1_000)].to_vec(),
            Some(Bug::IgnoresLastByteOfKey) if key.len() > 3 => key[..key.len() - 1].to_vec(),
            Some(Bug::ReturnsAnotherKeyOnHashClash) => {
                let hash = key.iter().fold(7_u64, |hash, &byte| {
                    hash.wrapping_mul(31).wrapping_add(u64::from(byte)) % 1_000_003
                });
                [&hash.to_le_bytes()[..], &key[..key.len().min(1)]].concat()
            }
            _ => key.to_vec(),
        }
    }

    fn is_live(&self, stored: &Stored) -> bool {
        let (deadline, now) = (stored.meta.expires_at_ms, self.clock.now_ms());
        match self.bug {
            Some(Bug::NeverExpires) => true,
            Some(Bug::LivesOneTickTooLong) => now <= deadline,
            Some(Bug::DiesOneTickTooSoon) => deadline == u64::MAX || now + 1 < deadline,
            _ => is_live(deadline, now),
        }
    }

    fn find(&self, key: &[u8]) -> Option<Stored> {
        let kept = self.kept.lock();
        let stored = kept.entries.get(&self.stored_key(key))?;
        self.is_live(stored).then(|| stored.clone())
    }

    fn hand_out(&self, mut stored: Stored) -> Value {
        if self.has(Bug::ValueVersionIsOneOff) {
            stored.meta.version += 1;
        }
        if self.has(Bug::DeadlineIsNotTold) {
            stored.meta.expires_at_ms = u64::MAX;
        }
        Value::new(stored.value, stored.meta)
    }

    fn store(&self, key: &[u8], value: &[u8], options: &Put, next: Option<u64>) -> u64 {
        let mut kept = self.kept.lock();
        let name = self.stored_key(key);
        let version = next.unwrap_or_else(|| {
            kept.last_version += 1;
            match self.bug {
                Some(Bug::VersionIsConstant) => 1,
                Some(Bug::VersionRestartsAfterRemove) => {
                    kept.entries.get(&name).map_or(1, |old| old.meta.version + 1)
                }
                _ => kept.last_version,
            }
        });
        let default = self.has(Bug::DefaultTtlIgnored).then_some(std::time::Duration::ZERO);
        let mut deadline = options.ttl.deadline_ms(self.clock.now_ms(), default);
        if self.has(Bug::ZeroTtlIsForever) && deadline == self.clock.now_ms() {
            deadline = u64::MAX;
        }
        let mut meta = Meta::default();
        (meta.codec, meta.expires_at_ms, meta.version) = (options.codec, deadline, version);
        let mut bytes = value.to_vec();
        let old = kept.entries.get(&name).cloned();
        match (self.bug, &old) {
            (Some(Bug::ForgetsCodec), _) => meta.codec = CodecId::RAW,
            (Some(Bug::LosesAByteAt64KiB), _) if bytes.len() == 64 << 10 => drop(bytes.pop()),
            (Some(Bug::OverwriteKeepsOldValue), Some(old)) => bytes = old.value.to_vec(),
            (Some(Bug::OverwriteKeepsCodec), Some(old)) => meta.codec = old.meta.codec,
            (Some(Bug::OverwriteKeepsDeadline), Some(old)) => {
                meta.expires_at_ms = old.meta.expires_at_ms;
            }
            (Some(Bug::DeadPutKeepsOldValue), Some(_)) if deadline <= self.clock.now_ms() => {
                return version;
            }
            (Some(Bug::OverwriteLosesTheKey), Some(old)) if *old.value == *value => {
                kept.entries.remove(&name);
                return version;
            }
            (Some(Bug::KeepsNothingAtAll), _) => return version,
            _ => {}
        }
        kept.before.extend(old.map(|old| (name.clone(), old)));
        kept.last_put.clone_from(&name);
        kept.entries.insert(name.clone(), Stored { value: bytes.into(), meta });
        if self.evicts && kept.entries.len() > CAPACITY {
            let victim = kept.entries.keys().find(|key| **key != name).cloned();
            if let Some(victim) = victim {
                if self.has(Bug::EvictsTheNewAndKeepsTheOld) {
                    let older = kept.before.get(&name).cloned();
                    older.map(|older| kept.entries.insert(name, older));
                } else {
                    kept.entries.remove(&victim);
                }
            }
        }
        version
    }
}

impl Engine for Buggy {
    fn name(&self) -> &'static str {
        "buggy"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.open_or_closed()?;
        assert!(!(self.has(Bug::PanicsOnEmptyKey) && key.is_empty()), "no key");
        let filled = self.state.lock().filled.get(key).cloned();
        let mut found = filled.filter(|stored| self.is_live(stored)).or_else(|| self.find(key));
        if self.has(Bug::StaleFill)
            && let Some(found) = found.clone()
        {
            self.pause();
            self.state.lock().filled.insert(key.to_vec(), found);
        }
        let mut state = self.state.lock();
        state.gets += 1;
        found.take_if(|found| match self.bug {
            Some(Bug::EmptyValueIsAMiss) => found.value.is_empty(),
            Some(Bug::ZerosAreAMiss) => {
                found.value.len() > 1 && found.value.iter().all(|&byte| byte == 0)
            }
            Some(Bug::MissesOnceInAThousand) => state.gets.is_multiple_of(1_000),
            Some(Bug::EvictedComesBack) => state.gets.is_multiple_of(9),
            _ => false,
        });
        let times = if self.has(Bug::GetCountsTwice) { 2 } else { 1 };
        match found {
            Some(_) => state.stats.hits += times,
            None => state.stats.misses += times,
        }
        Ok(found.map(|found| self.hand_out(found)))
    }

    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        self.open_or_closed()?;
        if self.has(Bug::VersionIsAMiss) {
            self.state.lock().stats.misses += 1;
        }
        if self.has(Bug::VersionSeesTheDead) {
            return Ok(self.kept.lock().entries.get(key).map(|stored| stored.meta.version));
        }
        Ok(self.find(key).map(|stored| stored.meta.version))
    }

    fn contains(&self, key: &[u8]) -> Result<bool> {
        self.open_or_closed()?;
        if self.has(Bug::ContainsIsAHit) {
            self.state.lock().stats.hits += 1;
        }
        if self.has(Bug::ContainsSeesTheDead) {
            return Ok(self.kept.lock().entries.contains_key(key));
        }
        Ok(self.find(key).is_some())
    }

    fn put(&self, key: &[u8], value: &[u8], options: &Put) -> Result<Outcome> {
        self.open_or_closed()?;
        if key.len() > KEY_LEN_MAX && !self.has(Bug::AcceptsTooLongKeys) {
            if self.has(Bug::TooLongKeyEmptiesTheEngine) {
                self.kept.lock().entries.clear();
            }
            return Err(Error::KeyTooLong { len: key.len(), max: KEY_LEN_MAX });
        }
        if value.len() >= REFUSES_LEN {
            if self.has(Bug::TooLargeDropsOldValue) {
                self.kept.lock().entries.remove(key);
            }
            if self.has(Bug::TooLargeIsAdmittedAndDropped) {
                return Ok(Outcome::Admitted { version: 1 << 40 });
            }
            if !self.has(Bug::RejectionsNotCounted) {
                self.state.lock().stats.rejected += 1;
            }
            let (weight, limit) = (value.len() as u64, REFUSES_LEN as u64 - 1);
            return Ok(Outcome::Rejected(Rejection::TooLarge { weight, limit }));
        }
        if self.has(Bug::PutFailsAfterClear) && self.state.lock().cleared {
            return Err(Error::Closed);
        }
        let mut version = None;
        match self.bug {
            Some(Bug::GapInOverwrite) => {
                self.kept.lock().entries.remove(key);
                self.pause();
            }
            Some(Bug::TornWhileWritten) if value.len() > 64 => {
                let torn = [&value[..64], &vec![0; value.len() - 64][..]].concat();
                version = Some(self.store(key, &torn, options, None));
                self.pause();
            }
            Some(Bug::LateWriteWins) => {
                let mut kept = self.kept.lock();
                kept.last_version += 1;
                version = Some(kept.last_version);
                drop(kept);
                self.pause();
            }
            _ => {}
        }
        let version = self.store(key, value, options, version);
        let mut state = self.state.lock();
        state.filled.remove(key);
        state.len_off += u64::from(self.has(Bug::LenCountsOverwrites));
        if !self.has(Bug::InsertsNotCounted) {
            state.stats.inserts += 1;
        }
        state.stats.put_bytes += (key.len() + value.len()) as u64;
        let off = u64::from(self.has(Bug::OutcomeVersionIsOneOff));
        Ok(Outcome::Admitted { version: version + off })
    }

    fn remove(&self, key: &[u8]) -> Result<bool> {
        self.open_or_closed()?;
        let name = self.stored_key(key);
        let mut kept = self.kept.lock();
        if self.has(Bug::RemovesOneValueTwice) {
            let there = kept.entries.get(&name).is_some_and(|stored| self.is_live(stored));
            drop(kept);
            self.pause();
            self.kept.lock().entries.remove(&name);
            self.state.lock().stats.removes += u64::from(there);
            return Ok(there);
        }
        let removed = match self.bug {
            Some(Bug::RemoveLeavesTheValue) => kept.entries.get(&name).cloned(),
            _ => kept.entries.remove(&name),
        };
        if self.has(Bug::RemoveTakesAPrefix) && key.len() > 1 {
            kept.entries.retain(|other, _| !other.starts_with(key));
        }
        kept.before.extend(removed.clone().map(|removed| (name, removed)));
        let live = removed.as_ref().is_some_and(|removed| self.is_live(removed));
        let mut state = self.state.lock();
        state.filled.remove(key);
        state.stats.removes += u64::from(live);
        state.len_off += u64::from(self.has(Bug::LenForgetsRemoves) && live);
        Ok(match self.bug {
            Some(Bug::RemoveAlwaysSaysTrue) => true,
            Some(Bug::RemoveSaysFalse) => false,
            Some(Bug::RemoveOfDeadSaysTrue) => removed.is_some(),
            _ => live,
        })
    }

    fn clear(&self) -> Result<u64> {
        self.open_or_closed()?;
        let mut kept = self.kept.lock();
        let cleared = std::mem::take(&mut kept.entries);
        let count = cleared.len() as u64;
        match self.bug {
            Some(Bug::ClearSparesOne) => {
                kept.entries.extend(cleared.clone().into_iter().next_back())
            }
            Some(Bug::ClearForgetsVersions) => kept.last_version = 0,
            Some(Bug::ClearIsUndoneByAPut) => {
                let version = kept.last_version;
                drop(kept);
                self.pause();
                kept = self.kept.lock();
                if kept.last_version != version {
                    for (key, stored) in &cleared {
                        kept.entries.entry(key.clone()).or_insert_with(|| stored.clone());
                    }
                }
            }
            _ => {}
        }
        kept.cleared = cleared;
        let mut state = self.state.lock();
        state.cleared = true;
        state.filled.clear();
        Ok(count.saturating_sub(u64::from(self.has(Bug::ClearCountsOneLess))))
    }

    fn len(&self) -> u64 {
        let mut kept = self.kept.lock();
        if self.evicts && kept.entries.len() > EVICTS_UNASKED {
            // As a thread of its own might, at any time.
            kept.entries.pop_first();
        }
        kept.entries.len() as u64 + self.state.lock().len_off
    }

    fn is_empty(&self) -> bool {
        (self.len() == 0) != self.has(Bug::IsEmptyIsWrong)
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        if let Err(closed) = self.open_or_closed() {
            let said = (!self.has(Bug::IterAfterCloseIsEmpty)).then_some(Err(closed));
            return Box::new(said.into_iter());
        }
        let kept = self.kept.lock();
        let mut listed: Vec<_> = kept.entries.clone().into_iter().collect();
        let version = kept.last_version;
        drop(kept);
        if !self.has(Bug::IterYieldsTheDead) {
            listed.retain(|(_, stored)| self.is_live(stored));
        }
        match self.bug {
            Some(Bug::IterYieldsTwice) if listed.len() > 100 => listed.push(listed[7].clone()),
            Some(Bug::IterSkipsOne) if listed.len() > 100 => drop(listed.pop()),
            _ => {}
        }
        let listed = listed.into_iter().map(|(key, stored)| (key, self.hand_out(stored)));
        let listed = listed.take_while(move |_| {
            !self.has(Bug::IterEndsOnChange) || self.kept.lock().last_version == version
        });
        Box::new(listed.map(Ok))
    }

    fn sync(&self) -> Result<()> {
        if self.has(Bug::SyncEmpties) {
            self.kept.lock().entries.clear();
        }
        self.open_or_closed()
    }

    fn close(&self) -> Result<()> {
        self.open_or_closed()?;
        self.kept.lock().closed = true;
        self.state.lock().closed = true;
        Ok(())
    }

    fn stats(&self) -> Stats {
        let mut stats = self.state.lock().stats;
        stats.entries = self.len();
        if self.has(Bug::EntriesCountPuts) {
            stats.entries = stats.inserts;
        }
        stats.budget_bytes = u64::MAX;
        stats
    }
}
