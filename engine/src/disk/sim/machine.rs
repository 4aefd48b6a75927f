//! A store on a simulated machine, with the ledger of what it was given.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use larder_format::Superblock;
use larder_format::layout::STORE_FILE_LEN;
use parking_lot::Mutex;

use super::Sim;
use super::cut::Cut;
use super::ledger::{End, Joints, Ledger, key_of};
use super::random::Random;
use super::world::{Mode, World};
use crate::array::ArrayRef;
use crate::batch::{BatchOutcome, WriteBatch};
use crate::clock::ManualClock;
use crate::disk::Disk;
use crate::disk::buffered::Buffered;
use crate::disk::builder::Options;
use crate::disk::lanes::thread_number;
use crate::disk::retain::Retain;
use crate::disk::storage::{Storage, give_birth};
use crate::disk::tests::Workers;
use crate::engine::{Atomic, Durability, Engine, Expected, Outcome, Put, Ttl};
use crate::error::Error;

/// Length of segments here: the least there is.
pub(super) const SEGMENT_LEN: u32 = 64 << 10;
/// A value of this length gets a file of its own.
pub(super) const EXTERNAL_MIN: usize = SEGMENT_LEN as usize / 8;

/// Something that is done to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Put {
        key: u32,
        len: usize,
        durable: bool,
    },
    /// A put of an array: from memory, computed in place, or row by row.
    Array {
        key: u32,
        len: usize,
        durable: bool,
    },
    Get {
        key: u32,
    },
    Remove {
        key: u32,
    },
    /// A put with one of two tags.
    Tagged {
        key: u32,
        len: usize,
        tag: u8,
    },
    /// A put on condition that the key is as it is.
    PutIf {
        key: u32,
        len: usize,
    },
    /// Another deadline, which never comes.
    Touch {
        key: u32,
        hours: u64,
    },
    /// A put, a removal, and perhaps another put, as one.
    Batch {
        key: u32,
        len: usize,
        three: bool,
        durable: bool,
    },
    Invalidate {
        tag: u8,
    },
    Sync,
    Clear,
    /// Rewrite what holds something dead.
    Compact,
    /// Close and open again.
    Reopen,
    /// Let the process die, and open again in another.
    Die,
}

/// Puts bytes as an array, in one of the ways that there are.
fn put_array(disk: &Disk, key: &[u8], bytes: &[u8], put: &Put<'_>) -> Result<Outcome, Error> {
    match bytes.len() % 3 {
        0 => disk.put_array(key, &ArrayRef::new(bytes, &[bytes.len()])?, put),
        1 => {
            let mut place = disk.reserve_array::<u8>(key, &[bytes.len()], put)?;
            place.as_mut_slice().copy_from_slice(bytes);
            place.commit()
        }
        _ => {
            let mut rows = disk.append_array::<u8>(key, &[], put)?;
            bytes.chunks(1000).try_for_each(|some| rows.push(some))?;
            rows.commit()
        }
    }
}

/// A store under test.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) sim: Sim,
    pub(super) disk: Option<Arc<Disk>>,
    pub(super) ledger: Ledger,
    options: Options,
    /// Threads that write in lanes of their own; without them all is done by this one.
    writers: Option<Rc<Writers>>,
    /// Whether anything was ever evicted: from then on a miss proves nothing by itself.
    evicted: bool,
}

/// Threads that take turns, each with a lane of its own.
#[derive(Debug)]
struct Writers {
    /// By the lane that each takes.
    lanes: Vec<Workers>,
    random: Mutex<Random>,
}

impl Writers {
    fn new(seed: u64, count: usize) -> Self {
        let mut lanes: Vec<Option<Workers>> = (0..count).map(|_| None).collect();
        // A thread's lane depends on how many there were before it, in all of the process.
        while lanes.iter().any(Option::is_none) {
            let workers = Workers::new(1);
            let number = run_in(&workers, thread_number);
            match &mut lanes[number % count] {
                lane @ None => *lane = Some(workers),
                Some(_) => workers.join(),
            }
        }
        let lanes = lanes.into_iter().flatten().collect();
        Self { lanes, random: Mutex::new(Random::new(seed)) }
    }

    /// Runs a job in one of them; the later ones write rarely, so that their segments stay
    /// open for long.
    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let lane = [0, 0, 0, 0, 0, 1, 1, 2][self.random.lock().below(8)];
        run_in(&self.lanes[lane], job)
    }
}

fn run_in<T: Send + 'static>(workers: &Workers, job: impl FnOnce() -> T + Send + 'static) -> T {
    let done = Arc::new(Mutex::new(None));
    let result = Arc::clone(&done);
    workers.run(0, move || *result.lock() = Some(job()));
    let result = done.lock().take();
    result.expect("the job ran")
}

/// Options of a store with small segments.
pub(super) fn options(budget: u64, writers: usize) -> Options {
    Options {
        budget,
        segment_len: Some(SEGMENT_LEN),
        writers: Some(writers),
        clock: Arc::new(ManualClock::at(1_700_000_000_000)),
        maintenance: super::super::maintenance::Maintenance::Manual,
        ..Options::default()
    }
}

impl Machine {
    /// A machine with an empty store that is the same for the same seed.
    pub(super) fn new(seed: u64, keys: usize, options: &Options) -> Self {
        Self::in_mode(Mode::Mapped, seed, keys, options)
    }

    /// As [`new`](Self::new), in a mode.
    pub(super) fn in_mode(mode: Mode, seed: u64, keys: usize, options: &Options) -> Self {
        let sim = Sim::new(seed);
        sim.with(|world| world.mode = mode);
        let mut random = Random::new(!seed);
        let mut bytes = || {
            let mut bytes = [0; 16];
            bytes.fill_with(|| random.below(256).try_into().unwrap());
            bytes
        };
        let superblock =
            Superblock { uuid: bytes(), hash_seed: bytes(), ..options.superblock(1).unwrap() };
        for dir in ["seg", "arr", "big", "proc"] {
            sim.make_dir(dir).unwrap();
        }
        let born = give_birth(&sim, "store", STORE_FILE_LEN as u64, true, |file| {
            file.write_at(&superblock.encode(), 0)
        });
        born.unwrap();
        let writers =
            (options.writers() > 1).then(|| Rc::new(Writers::new(seed, options.writers())));
        let mut machine = Self {
            sim,
            disk: None,
            ledger: Ledger::new(keys),
            options: options.clone(),
            writers,
            evicted: false,
        };
        machine.tell();
        machine.open().unwrap();
        machine
    }

    /// What a cut left, not opened yet.
    pub(super) fn after(cut: Cut, options: &Options) -> Self {
        Self {
            sim: Sim::of(cut.left),
            disk: None,
            ledger: Ledger::clone(&cut.ledger),
            options: options.clone(),
            writers: None,
            evicted: false,
        }
    }

    /// What a loss of power would leave now.
    pub(super) fn after_power_cut(&self) -> Self {
        let (ledger, options) = (self.ledger.clone(), self.options.clone());
        let (writers, evicted) = (self.writers.clone(), self.evicted);
        Self { sim: self.sim.cut(), disk: None, ledger, options, writers, evicted }
    }

    pub(super) const fn options(&self) -> &Options {
        &self.options
    }

    /// Opens the store.
    pub(super) fn open(&mut self) -> Result<(), Error> {
        let storage: Arc<dyn Storage> = if self.sim.with(World::draw_buffered) {
            Arc::new(Buffered(self.sim.clone()))
        } else {
            Arc::new(self.sim.clone())
        };
        self.disk = Some(Arc::new(self.options.open_in(storage)?));
        Ok(())
    }

    pub(super) fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("open")
    }

    /// Does something to the store in one of the threads that write.
    fn write<T: Send + 'static>(&self, job: impl FnOnce(&Disk) -> T + Send + 'static) -> T {
        match (&self.writers, &self.disk) {
            (Some(writers), Some(disk)) => {
                let disk = Arc::clone(disk);
                writers.run(move || job(&disk))
            }
            _ => job(self.disk()),
        }
    }

    /// Does something, and notes what may come of it. An error comes back, and is noted too.
    pub(super) fn run(&mut self, op: Op) -> Result<(), Error> {
        let removed = |machine: &Self| machine.sim.with(|world| world.segments_removed);
        let before = removed(self);
        let done = self.run_on_disk(op);
        // A segment that a cache evicts may take a durable value with it that was replaced by one
        // that is not durable: that is an eviction, too.
        let evicts = self.options.retain == Retain::Recent && op != Op::Clear && op != Op::Compact;
        self.evicted |= evicts && removed(self) != before;
        self.note_evictions();
        self.tell();
        done
    }

    /// Tells the machine what is acknowledged by now, for the cuts that it keeps.
    fn tell(&self) {
        let ledger = Arc::new(self.ledger.clone());
        self.sim.with(|world| world.ledger = ledger);
    }

    fn note_evictions(&mut self) {
        self.evicted |= self.disk.as_ref().is_some_and(|disk| disk.stats().evictions > 0);
    }

    fn run_on_disk(&mut self, op: Op) -> Result<(), Error> {
        match op {
            Op::Put { key, len, durable } => {
                let value = self.ledger.begin_put(key, len, None);
                let durability = if durable { Durability::Sync } else { Durability::None };
                let put = Put { durability, ..Put::default() };
                // In one piece, or as a stream of unknown length.
                let whole = value.len().is_multiple_of(2);
                self.put(key, durable, move |disk| match whole {
                    true => disk.put(&key_of(key), &value, &put),
                    false => disk.put_reader(&key_of(key), &mut &value[..], None, &put),
                })?;
            }
            Op::Array { key, len, durable } => {
                let value = self.ledger.begin_put(key, len, None);
                let durability = if durable { Durability::Sync } else { Durability::None };
                let put = Put { durability, ..Put::default() };
                self.put(key, durable, move |disk| put_array(disk, &key_of(key), &value, &put))?;
            }
            Op::Tagged { key, len, tag } => {
                let value = self.ledger.begin_put(key, len, Some(tag));
                self.put(key, false, move |disk| {
                    let put = Put { tags: &[&[tag]], ..Put::default() };
                    disk.put(&key_of(key), &value, &put)
                })?;
            }
            Op::PutIf { key, len } => {
                let value = self.ledger.begin_put(key, len, None);
                self.put(key, false, move |disk| {
                    let version = disk.version(&key_of(key))?;
                    let expected = version.map_or(Expected::Absent, Expected::Version);
                    disk.put_if(&key_of(key), &value, &Put::default(), expected)
                })?;
            }
            Op::Touch { key, hours } => self.touch(key, hours)?,
            Op::Batch { key, len, three, durable } => self.batch(key, len, three, durable)?,
            Op::Invalidate { tag } => {
                let reached = self.ledger.begin_invalidation(tag);
                self.tell();
                self.write(move |disk| disk.invalidate_tag(&[tag]))?;
                reached.into_iter().for_each(|key| self.ledger.settle(key, false));
            }
            Op::Get { key } => {
                self.disk().get(&key_of(key))?;
            }
            Op::Remove { key } => {
                self.ledger.begin_remove(key);
                self.tell();
                match self.write(move |disk| disk.remove(&key_of(key))) {
                    Ok(_) => self.ledger.settle(key, false),
                    Err(error) => {
                        self.ledger.fail(key);
                        return Err(error);
                    }
                }
            }
            Op::Sync => {
                self.disk().sync()?;
                self.ledger.settle_sync();
            }
            Op::Clear => {
                self.ledger.begin_clear();
                self.tell();
                // If it fails some are gone and some are not, which is what is noted.
                self.disk().clear()?;
                self.ledger.settle_clear();
            }
            Op::Compact => {
                self.disk().compact()?;
            }
            Op::Reopen => {
                let closed = self.disk().close();
                self.note_evictions();
                self.disk = None;
                closed?;
                self.ledger.settle_sync();
                self.tell();
                self.open()?;
            }
            Op::Die => {
                self.note_evictions();
                self.disk = None;
                self.open()?;
            }
        }
        Ok(())
    }

    /// Puts a value that was begun.
    fn put(
        &mut self,
        key: u32,
        durable: bool,
        put: impl FnOnce(&Disk) -> Result<Outcome, Error> + Send + 'static,
    ) -> Result<(), Error> {
        self.tell();
        match self.write(put) {
            Ok(Outcome::Admitted { .. }) => self.ledger.settle(key, durable),
            Ok(Outcome::Rejected(_) | Outcome::Blocked) => self.ledger.withdraw(key),
            Ok(conflict @ Outcome::Conflict { .. }) => panic!("key {key}: {conflict:?}"),
            Err(error) => {
                self.ledger.fail(key);
                return Err(error);
            }
        }
        Ok(())
    }

    fn touch(&mut self, key: u32, hours: u64) -> Result<(), Error> {
        let found = self.ledger.check(self.disk(), key, End::Process, self.evicted);
        let found = found.unwrap_or_else(|what| panic!("before a touch: {what}"));
        if let Some(found) = found {
            self.ledger.begin_touch(key, found);
        }
        self.tell();
        let ttl = Ttl::After(Duration::from_secs(hours * 3_600));
        match self.write(move |disk| disk.touch(&key_of(key), ttl)) {
            Ok(touched) => assert_eq!(touched, found.is_some(), "touch of key {key}"),
            Err(error) => {
                self.ledger.fail(key);
                return Err(error);
            }
        }
        if found.is_some() {
            self.ledger.settle(key, false);
        }
        Ok(())
    }

    fn batch(&mut self, key: u32, len: usize, three: bool, durable: bool) -> Result<(), Error> {
        let count = u32::try_from(self.ledger.keys().count()).unwrap();
        let (removed, other) = ((key + 1) % count, (key + 2) % count);
        let mut changes = vec![(key, Some(len)), (removed, None)];
        changes.extend(three.then_some((other, Some(len * 2))));
        let values = self.ledger.begin_batch(&changes);
        self.tell();
        let mut batch = WriteBatch::new();
        for ((key, len), value) in changes.iter().zip(values) {
            match len {
                Some(_) => batch.put(&key_of(*key), &value, &Put::default()),
                None => batch.remove(&key_of(*key)),
            };
        }
        let durability = if durable { Durability::Sync } else { Durability::None };
        let keys = changes.into_iter().map(|(key, _)| key);
        match self.write(move |disk| disk.write(&batch, durability)) {
            Ok(BatchOutcome::Committed { .. }) => {
                keys.for_each(|key| self.ledger.settle(key, durable));
            }
            Ok(_) => keys.for_each(|key| self.ledger.withdraw(key)),
            Err(error) => {
                keys.for_each(|key| self.ledger.fail(key));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Compares everything that the running store holds with the ledger.
    pub(super) fn check_live(&self) -> Result<(), String> {
        self.ledger.keys().try_for_each(|key| {
            self.ledger.check(self.disk(), key, End::Process, self.evicted).map(drop)
        })
    }

    /// The cuts that were made since the last time.
    pub(super) fn take_cuts(&self) -> Vec<Cut> {
        self.sim.with(|world| std::mem::take(&mut world.cuts))
    }

    /// Makes a cut here, or lets the process die here, as the run will have it.
    pub(super) fn keep_cut(&self) {
        self.sim.with(World::keep_cut);
    }

    /// Opens what a cut left and compares it with the ledger as it was then.
    pub(super) fn check_cut(&self, cut: Cut) -> Result<Self, String> {
        let end = if cut.is_death { End::Process } else { End::Power };
        let what = if cut.is_death { "death" } else { "power cut" };
        let after_call = cut.after_call;
        let mut left = Self::after(cut, &self.options);
        left.writers.clone_from(&self.writers);
        left.evicted = self.evicted;
        // What a cut during the recovery leaves, this ledger cannot tell.
        let cut_odds = left.sim.with(|world| std::mem::take(&mut world.cut_odds));
        let opened = left.open().map_err(|error| describe(&error));
        opened
            .and_then(|()| left.check_reopened(end, self.disk.as_deref()))
            .map_err(|error| format!("{what} after call {after_call}: {error}"))?;
        left.sim.with(|world| world.cut_odds = cut_odds);
        left.tell();
        Ok(left)
    }

    /// Compares a store that was opened again with the ledger. What `before`, the store as it
    /// was, still holds was not evicted.
    pub(super) fn check_reopened(&mut self, end: End, before: Option<&Disk>) -> Result<(), String> {
        self.note_evictions();
        let disk = Arc::clone(self.disk.as_ref().expect("open"));
        let mut present = 0;
        let mut joints = Joints::default();
        for key in self.ledger.keys() {
            let was_there = || {
                let held = before.map(|disk| disk.contains(&key_of(key)));
                held.is_some_and(|held| held.is_ok_and(|held| held))
            };
            let may_miss = self.evicted && !(self.ledger.is_settled(key) && was_there());
            let found = self.ledger.check(&disk, key, end, may_miss)?;
            present += usize::from(found.is_some());
            joints.note(key, &self.ledger.told(key, end, found, may_miss))?;
            self.ledger.observe(key, end, found);
        }
        let report = disk.verify().map_err(|error| describe(&error))?;
        if let Some(finding) = report.findings.first() {
            return Err(format!("verify finds {finding:?}"));
        }
        let mut keys: Vec<_> = disk.iter().filter_map(Result::ok).map(|(key, _)| key).collect();
        let walked = keys.len();
        if walked != present || disk.len() != present as u64 {
            let len = disk.len();
            let found = disk.stats().recovery;
            keys.sort();
            let twice: Vec<_> =
                keys.chunk_by(|a, b| a == b).filter(|same| same.len() > 1).collect();
            return Err(format!(
                "{present} keys are there, len() is {len}, iter() has {walked}, {found:?}; twice: \
                 {twice:?}"
            ));
        }
        Ok(())
    }

    /// What the store holds, key by key.
    pub(super) fn dump(&self) -> Vec<Option<Vec<u8>>> {
        let disk = self.disk();
        let keys = self.ledger.keys();
        keys.map(|key| disk.get(&key_of(key)).unwrap().map(|value| value.to_vec())).collect()
    }
}

/// An error with what is behind it.
pub(super) fn describe(error: &Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
