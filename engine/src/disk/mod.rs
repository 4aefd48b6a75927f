//! The disk store: an append-only log of segments, and a mapped index over it.
//!
//! ```text
//!   store.rs, read.rs reading · change.rs changing · durable.rs syncing
//!   ┌───────────┼─────────────┬──────────────┐
//! lanes.rs   index.rs      reclaim.rs     open.rs, rebuild.rs
//! writers    slots         rolling,       trust after a stop
//!   │        growth.rs     eviction
//! segment.rs, writer.rs external.rs, compress.rs, stream.rs
//! records    large values, packed ones, in pieces
//!   └───────────┼─────────────┐
//!            map.rs*       table.rs, cell.rs*
//!            mapped bytes  live segments, by epochs
//!               │
//!            storage.rs    files (file.rs), copies of them (buffered.rs) or heap (heap.rs*)
//! ```
//!
//! Unsafe code stands in the starred files only. What threads agree on without a lock stands
//! in files that a model checker can compile by themselves: `index.rs`, `moving.rs`,
//! `in_flight.rs`, `committed.rs`, `group.rs` and `cell.rs`.

mod access;
mod admission;
mod adopt;
mod ahead;
mod arrays;
mod backing;
mod backup;
mod batch;
mod bucket;
mod buffered;
mod builder;
mod cell;
mod change;
mod chunks;
mod collect;
mod committed;
mod compact;
mod compress;
mod contract;
mod counters;
mod crossing;
mod cut_off;
mod deadline;
mod durable;
mod dying;
mod external;
mod file;
mod gate;
mod group;
mod growth;
mod guard;
mod heap;
mod in_flight;
mod incoming;
mod index;
mod iter;
mod lanes;
mod listing;
mod lookup;
mod lost;
mod maintenance;
mod map;
mod mend;
#[cfg(feature = "metrics")]
mod metered;
mod moving;
mod named;
mod namespace;
mod newborn;
mod observer;
mod open;
mod ops;
mod orphans;
mod place;
mod plain;
mod queue;
mod quick;
mod read;
mod read_only;
mod rebuild;
mod reclaim;
mod refill;
mod repair;
mod retain;
mod salvage;
mod seal;
mod segment;
mod session;
mod share;
mod shortage;
#[cfg(test)]
mod sim;
mod slim;
mod space;
mod spare;
mod storage;
mod store;
mod stream;
mod table;
mod tags;
mod tally;
#[cfg(test)]
mod tests;
mod timing;
mod together;
#[cfg(feature = "tracing")]
mod traced;
mod trim;
mod upkeep;
mod usage;
mod verify;
mod view;
mod vital;
mod who;
mod whole;
mod worth;
mod writer;
#[cfg(feature = "zstd")]
mod zstd;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder_format::CodecId;

pub use access::Access;
pub use admission::Admission;
pub use arrays::{ArrayAppender, ReservedArray};
pub(crate) use backing::Hint;
pub use backup::BackupReport;
pub use builder::DiskBuilder;
pub(crate) use chunks::Chunks;
pub(crate) use guard::IS_ON as GUARDED;
pub use listing::{Listed, Place};
pub use maintenance::{Maintained, Maintenance};
#[cfg(feature = "metrics")]
pub use metered::Metrics;
pub use namespace::Namespace;
pub use observer::{Event, Observer, Work};
pub use queue::{Pushed, Queue};
pub use repair::RepairReport;
pub use retain::Retain;
pub use share::Process;
pub use stream::{Reserved, ValueReader};
#[cfg(feature = "histograms")]
pub(crate) use timing::Timed;
#[cfg(feature = "tracing")]
pub use traced::Tracing;
pub use trim::Limits;
pub use verify::{Finding, VerifyReport};
pub(crate) use view::View;
pub(crate) use whole::Frozen;
#[cfg(feature = "zstd")]
pub use zstd::Compression;

use crate::array::ArrayRef;
use crate::batch::{BatchOutcome, WriteBatch};
#[cfg(doc)]
use crate::engine::Engine;
use crate::engine::{Durability, Expected, Outcome, Put, Rejection};
use crate::error::{Error, Result};
#[cfg(doc)]
use crate::stats::Stats;
use crate::value::{Meta, Value};
use counters::Count;
use maintenance::Worker;
use observer::{Call, Working};
use space::{Entries, Scope, is_plain, plain, plain_all};
use store::Store;

/// A store in a directory.
///
/// What `put` was given survives the death of the process, `kill -9` included, once it has
/// returned. With [`Durability::Sync`](crate::Durability::Sync), or after
/// [`sync`](Engine::sync), it survives the loss of power as well. Dropping a `Disk` is like the
/// death of the process; [`close`](Engine::close) also makes everything durable, and lets the
/// next opening trust the index after a restart of the machine.
///
/// # Keys
/// A key is any bytes. Beside the plain keys there are those of [namespaces](Disk::namespace) and
/// [queues](Disk::queue), which are never one of them; `iter` yields plain keys only, `len`, `clear`,
/// budget and eviction are about all.
///
/// # Eviction
/// When the directory would hold more than its budget, the oldest segment goes: entries that
/// were read since they were written are kept, up to a quarter of the segment, the others are
/// evicted.
///
/// # Safety of the mapping
/// Values are read from mapped files. The directory must be private to the user, which is
/// checked, and its files must not be cut short while the store is open: reading past the end
/// of a mapped file raises SIGBUS, unless the feature `sigbus-guard` is on, which installs a handler
/// for the whole process and makes a miss or an error of it (Linux; `docs/arrays.md` says of what
/// exactly). File systems on which mappings cannot be trusted are found out,
/// and no file is mapped there ([`Access`]). Everything else that could be wrong with the files is found
/// by checksums, and answered by a miss.
#[derive(Debug)]
pub struct Disk {
    /// First, so that it is dropped first: the thread ends before the store does.
    worker: Option<Worker>,
    store: Arc<Store>,
}

impl Disk {
    /// Opens the store in `dir`, or creates one. See [`DiskBuilder`].
    pub fn builder(dir: impl Into<PathBuf>) -> DiskBuilder {
        DiskBuilder::new(dir.into())
    }

    /// Who has the store open, this process included; nobody if it was not opened to be
    /// [shared](DiskBuilder::shared).
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        self.store.processes()
    }

    /// Who has the store in `dir` open, as somebody can tell who has not: of those who
    /// [share](DiskBuilder::shared) it, all; of one that has it alone, its process id, if it says it;
    /// nobody of those who only read it. What a process says of itself may be older by a twentieth of a
    /// second. Changes nothing; reads some 100 words and one for each segment that there can be.
    ///
    /// ```
    /// # let place = tempfile::tempdir()?;
    /// # let dir = place.path().join("store");
    /// # use larder_engine::Disk;
    /// let disk = Disk::builder(&dir).shared().open()?;
    /// assert_eq!(Disk::who(&dir)?[0].pid, std::process::id());
    /// drop(disk);
    /// assert!(Disk::who(&dir)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error`](crate::Error) if the directory or a file there cannot be read.
    pub fn who(dir: impl AsRef<Path>) -> Result<Vec<Process>> {
        // Who may read what it says may know: nothing is mapped, so that nobody can do harm.
        let dir = file::Directory::open_existing(dir.as_ref(), true)?;
        who::who(&read_only::ReadOnly { dir, is_buffered: true })
    }

    /// Reads every record and compares it with its checksums, the footers and the index.
    ///
    /// # Errors
    /// [`Error`](crate::Error) if the store is closed or a file cannot be opened. Damage is no
    /// error: it stands in the report.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.verify_with(|_, _| {})
    }

    /// As [`verify`](Self::verify), telling after each segment how many are done, and of how
    /// many.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_with(&self, progress: impl FnMut(u64, u64)) -> Result<VerifyReport> {
        self.store.verify(progress)
    }
}

impl Disk {
    /// Shows the live value of `key` where it lies, without copying it. `look` should be quick:
    /// while it runs, no segment that is reclaimed meanwhile goes.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
    /// use larder_engine::{Engine, Put};
    ///
    /// let _ = disk.put(b"key", b"value", &Put::default())?;
    /// assert_eq!(disk.get_with(b"key", |bytes, _| bytes.len())?, Some(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Engine`].
    pub fn get_with<R>(
        &self,
        key: &[u8],
        look: impl FnOnce(&[u8], &Meta) -> R,
    ) -> Result<Option<R>> {
        if is_plain(key) {
            return self.store.get_with(key, look);
        }
        self.store.get_with(&plain(key), look)
    }

    /// The live values of `keys`, in their order. Quicker than one after the other, as the
    /// waits for memory overlap.
    ///
    /// # Errors
    /// As of [`Engine`].
    pub fn get_many(&self, keys: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Value>>> {
        match plain_all(keys) {
            None => self.store.get_many(keys),
            Some(stored) => self.store.get_many(&stored),
        }
    }

    /// As [`get_many`](Self::get_many), showing each value where it lies: `look` is called once
    /// for each key, with its number among `keys`, and `None` if it has no live value. Of what
    /// changes meanwhile, in `look` too, it may see the state before or after.
    ///
    /// # Errors
    /// As of [`Engine`].
    pub fn get_many_with(
        &self,
        keys: &[impl AsRef<[u8]>],
        look: impl FnMut(usize, Option<(&[u8], &Meta)>),
    ) -> Result<()> {
        match plain_all(keys) {
            None => self.store.get_many_with(keys, look),
            Some(stored) => self.store.get_many_with(&stored, look),
        }
    }

    /// Asks the processor for what reading `keys` will need, so that reading them soon is
    /// quick; it waits for nothing.
    ///
    /// # Errors
    /// As of [`Engine`].
    pub fn prefetch(&self, keys: &[impl AsRef<[u8]>]) -> Result<()> {
        match plain_all(keys) {
            None => self.store.prefetch(keys),
            Some(stored) => self.store.prefetch(&stored),
        }
    }

    /// What is known about the live value of `key`, in one look, without reading it and
    /// without counting as a use.
    ///
    /// # Errors
    /// As of [`Engine`].
    pub fn entry(&self, key: &[u8]) -> Result<Option<Meta>> {
        self.store.entry(&plain(key))
    }

    /// Makes the changes of a batch, all or none. At one moment all of them become visible; a
    /// kill or a loss of power leaves all or none.
    ///
    /// All of a batch lies in one segment, values of [`external
    /// size`](DiskBuilder::segment_len) or more apart. While it is written, other writers wait;
    /// readers do not.
    ///
    /// # Errors
    /// As of [`Engine`]; [`Error::IndexFull`](crate::Error::IndexFull) if there is no place for
    /// its keys. After an error none of it took place, unless syncing was what failed.
    pub fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<BatchOutcome> {
        match batch.as_plain() {
            None => self.write_stored(batch, durability),
            Some(stored) => Ok(self.write_stored(&stored, durability)?.for_owner(&Scope::Plain)),
        }
    }

    /// Invalidates everything that was put under `tag` before, in time independent of how much
    /// that is. Like a removal it survives a kill, and the loss of power after a
    /// [`sync`](Engine::sync).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
    /// use larder_engine::{Engine, Put};
    ///
    /// let put = Put { tags: &[b"user:7"], ..Put::default() };
    /// let _ = disk.put(b"page", b"Hello", &put)?;
    /// disk.invalidate_tag(b"user:7")?;
    /// assert!(disk.get(b"page")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Engine`].
    pub fn invalidate_tag(&self, tag: &[u8]) -> Result<()> {
        self.writable()?.invalidate_tag(&plain(tag))
    }

    /// The plain keys that are live under `tag`, in no order. Looks at every entry of the store.
    ///
    /// # Errors
    /// As of [`Engine`].
    pub fn keys_by_tag(&self, tag: &[u8]) -> Result<Vec<Vec<u8>>> {
        let tag = self.store.tag_hash(&plain(tag))?;
        let entries = Entries::new(self.store.iter()?, Scope::Plain);
        Ok(entries.keys(|record| record.tags().any(|found| found == tag)))
    }
}

impl Disk {
    /// Takes one bounded step of the work that is done ahead of the writers: sealing full
    /// segments, reclaiming old ones, making a spare, syncing by the clock. Says what it did
    /// and whether more is due. Not needed while a thread does it ([`Maintenance::Thread`]).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use larder_engine::{Disk, Engine, Maintenance, Put};
    /// let disk = Disk::builder(dir.path().join("store")).maintenance(Maintenance::Manual).open()?;
    /// let _ = disk.put(b"key", b"value", &Put::default())?;
    /// while disk.maintain()?.more {}
    /// assert_eq!(disk.stats().spares, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error`] if the store is closed or the system refused. The step can be taken again.
    pub fn maintain(&self) -> Result<Maintained> {
        self.working(Work::Maintain)?.maintain()
    }

    /// Changes what the directory may hold, at most to what the store was opened with. If it is less
    /// than is held, the oldest values are evicted before this returns (what views hold stays as long as they
    /// do); a store that
    /// [keeps everything](Retain::All) takes no more instead.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use larder_engine::{Disk, Engine, Put};
    /// let disk = Disk::builder(dir.path().join("store")).budget(64 << 20).open()?;
    /// for key in 0..10_000_u32 {
    ///     let _ = disk.put(&key.to_le_bytes(), &[7; 4000], &Put::default())?;
    /// }
    /// disk.set_budget(16 << 20)?;
    /// assert!(disk.stats().used_bytes <= 16 << 20);
    /// assert!(disk.get(&9_999_u32.to_le_bytes())?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] says what can be; [`Error`] if the store is closed or the system refused.
    pub fn set_budget(&self, bytes: u64) -> Result<()> {
        self.writable()?.set_budget(bytes)?;
        if self.store.stats().used_bytes > bytes && !self.store.keeps_all() {
            self.trim(Limits { bytes: Some(bytes), ..Limits::default() })?;
            // Files that went are mapped until the lookups that were under way have ended.
            self.store.let_go(|retired| self.store.usage.live().saturating_add(retired) <= bytes);
        }
        Ok(())
    }

    /// Rewrites every segment that holds something dead or expired, and returns by how many
    /// bytes the directory got smaller. Waits for nobody's views; what they hold mapped goes
    /// with them.
    ///
    /// Afterwards the directory holds at most 1.15 times the live bytes, and one segment that
    /// is being filled. Live bytes are the records of live values with their headers, keys,
    /// padding and footer entries, the external files that they name, the index and the file
    /// `store`. What is written meanwhile is not counted, and tombstones of entries removed
    /// after their segment was looked at may remain.
    ///
    /// # Errors
    /// [`Error`] if the store is closed or the system refused. What was done stays done.
    pub fn compact(&self) -> Result<u64> {
        self.working(Work::Compact)?.compact()
    }

    /// Removes everything that has expired, and says how many entries that were. Space comes
    /// back at once for segments of which everything has expired, which is why values that
    /// expire soon share segments; for others by eviction or [`compact`](Self::compact).
    ///
    /// # Errors
    /// [`Error`] if the store is closed or the system refused. What was done stays done.
    pub fn purge(&self) -> Result<u64> {
        self.working(Work::Purge)?.purge()
    }

    /// Removes the oldest entries until the store is within all of the limits, and says how
    /// many went. Bytes are given back by whole segments, and the index and the file `store`
    /// stay; a value that is put at the same time as an older one of its key is trimmed may go
    /// with it.
    ///
    /// # Errors
    /// [`Error`] if the store is closed or the system refused. What was done stays done.
    pub fn trim(&self, limits: Limits) -> Result<u64> {
        self.working(Work::Trim)?.trim(limits)
    }

    /// How long operations took since the store was opened; `None` unless that was asked for
    /// ([`DiskBuilder::histograms`]). Locks each recorder for a moment.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use larder_engine::{Disk, Engine, Put};
    /// let disk = Disk::builder(dir.path().join("store")).histograms().open()?;
    /// let _ = disk.put(b"key", b"value", &Put::default())?;
    /// disk.get(b"key")?;
    /// let latencies = disk.latencies().ok_or("off")?;
    /// assert_eq!((latencies.put.count(), latencies.get_hit.count()), (1, 1));
    /// assert!(latencies.put.quantile(0.99) <= latencies.put.max());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "histograms")]
    #[must_use]
    pub fn latencies(&self) -> Option<crate::Latencies> {
        self.store.upkeep.timings.latencies()
    }

    /// How the store gets at its files: mapped or buffered, as it was found out or asked for.
    #[must_use]
    pub fn access(&self) -> Access {
        if self.store.storage.is_buffered() { Access::Buffered } else { Access::Mapped }
    }

    /// What the maintenance's thread failed with last, if it ever did. How often it did stands
    /// in [`Stats::maintenance_errors`].
    #[must_use]
    pub fn maintenance_error(&self) -> Option<Arc<Error>> {
        self.store.upkeep.last_trouble()
    }
}

/// What is done under keys as they are stored (`space.rs`).
impl Disk {
    /// The store, if it may be changed.
    fn writable(&self) -> Result<Call<'_>> {
        // First: a child that was forked must wait for no lock.
        self.store.check_open()?;
        if self.store.upkeep.read_only { Err(Error::ReadOnly) } else { Ok(Call(&self.store)) }
    }

    /// As [`writable`](Self::writable), for what may take its time.
    fn working(&self, work: Work) -> Result<Working<'_>> {
        self.writable()?;
        Ok(Working::on(&self.store, work))
    }

    /// Puts a value, unless it is not to be taken in.
    fn put_stored(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Put<'_>,
        expected: Option<Expected>,
    ) -> Result<Outcome> {
        let store = self.writable()?;
        if options.codec == CodecId::ARRAY
            && expected.is_none()
            && let Some(array) = ArrayRef::of_encoded(value)
        {
            return self.put_array_stored(key, &array, options);
        }
        if let Some(why) = store.refuse(key, value.len(), options.cost)? {
            return Ok(Outcome::Rejected(why));
        }
        match self.store.put_if(key, value, options, expected) {
            Err(Error::Full { needed, budget }) => {
                self.store.counters.add(Count::Rejected, 1);
                store.upkeep.observed.note(|| Event::Full { needed, budget });
                Ok(Outcome::Rejected(Rejection::Full { needed, budget }))
            }
            Err(Error::Blocked { .. }) => {
                self.store.refund(key.len(), value.len() as u64);
                Ok(self.store.blocked(options.when_short))
            }
            done => done,
        }
    }

    fn write_stored(&self, batch: &WriteBatch, durability: Durability) -> Result<BatchOutcome> {
        let store = self.writable()?;
        match store.write(batch, durability) {
            Err(Error::Full { needed, budget }) => {
                self.store.counters.add(Count::Rejected, 1);
                store.upkeep.observed.note(|| Event::Full { needed, budget });
                Ok(BatchOutcome::Rejected(Rejection::Full { needed, budget }))
            }
            done => done,
        }
    }
}
