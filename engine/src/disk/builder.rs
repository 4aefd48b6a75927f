//! How a store is opened: options, checked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_format::Superblock;
use larder_format::layout::{PAGE, SEGMENT_LEN_MAX, SEGMENT_LEN_MIN, SHARE_LANES_MAX};

use super::Disk;
use super::access::Access;
use super::admission::Admission;
use super::compress::Packer;
use super::file::Directory;
use super::maintenance::{Maintenance, Worker};
use super::observer::{Entered, Observer};
use super::read_only::ReadOnly;
use super::retain::Retain;
use super::session::STORE;
use super::storage::Storage;
use super::store::Store;
use crate::clock::{Clock, SystemClock};
use crate::engine::WhenShort;
use crate::error::{Error, Result};

/// Smallest budget: a few of the smallest segments, and an index.
const BUDGET_MIN: u64 = 1 << 20;
const BUDGET_DEFAULT: u64 = 1 << 30;
/// Bytes of data from which an array has a file of its own, unless that is set.
const ARRAY_FILE_FROM: u64 = 16 << 20;
/// Segments that a budget is cut into, so that evicting one is a small step.
const SEGMENTS: u64 = 32;
/// Most lanes by default; each takes a segment of the budget once it is used.
const WRITERS_MAX: usize = 4;

/// How often a store is tried to be shared that somebody has alone, and how long in between.
const JOINS: usize = 10;
const JOIN_AGAIN: Duration = Duration::from_millis(5);

/// Opens a [`Disk`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # use larder_engine::{Disk, Engine, Put};
/// let disk = Disk::builder(dir.path().join("store")).budget(64 << 20).open()?;
/// let _ = disk.put(b"key", b"value", &Put::default())?;
/// assert_eq!(disk.get(b"key")?.as_deref(), Some(&b"value"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is opened before `open`"]
pub struct DiskBuilder {
    dir: PathBuf,
    allow_shared: bool,
    options: Options,
}

/// What [`Store::open`] needs to know.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) budget: u64,
    pub(super) segment_len: Option<u32>,
    pub(super) array_file_from: u64,
    /// Writers that can append at once, unless that is left to what fits.
    pub(super) writers: Option<usize>,
    pub(super) ttl: Option<Duration>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) distrust: bool,
    pub(super) maintenance: Maintenance,
    pub(super) retain: Retain,
    pub(super) admission: Admission,
    pub(super) when_short: WhenShort,
    pub(super) sync_every: Option<Duration>,
    #[cfg(feature = "zstd")]
    pub(super) compression: Option<super::zstd::Compression>,
    #[cfg(feature = "histograms")]
    pub(super) histograms: bool,
    pub(super) observers: Vec<Arc<dyn Observer>>,
    pub(super) access: Access,
    /// Why its files are not mapped although that was not asked for.
    pub(super) unmapped: Option<&'static str>,
    /// Whether other processes may have the store open as well.
    pub(super) shares: bool,
    /// Whether the store is opened to be read only.
    pub(super) read_only: bool,
    /// Whether the store is opened to be repaired.
    pub(super) repairs: bool,
    /// What a store is that is created; made up unless set.
    pub(super) superblock: Option<Superblock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            budget: BUDGET_DEFAULT,
            segment_len: None,
            array_file_from: ARRAY_FILE_FROM,
            writers: None,
            ttl: None,
            clock: Arc::new(SystemClock),
            distrust: false,
            maintenance: Maintenance::default(),
            retain: Retain::default(),
            admission: Admission::default(),
            when_short: WhenShort::default(),
            sync_every: None,
            #[cfg(feature = "zstd")]
            compression: None,
            #[cfg(feature = "histograms")]
            histograms: false,
            observers: Vec::new(),
            access: Access::default(),
            unmapped: None,
            shares: false,
            read_only: false,
            repairs: false,
            superblock: None,
        }
    }
}

impl DiskBuilder {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, allow_shared: false, options: Options::default() }
    }

    /// Bytes that the directory may hold in all: 1 GiB unless set, at least 1 MiB.
    pub const fn budget(mut self, bytes: u64) -> Self {
        self.options.budget = bytes;
        self
    }

    /// Length of a segment file, a power of two from 64 KiB to 64 MiB; a 32nd of the budget
    /// unless set. Counts when the store is created.
    pub const fn segment_len(mut self, bytes: u32) -> Self {
        self.options.segment_len = Some(bytes);
        self
    }

    /// Bytes of data from which an array that is put is a NumPy file of its own: 16 MiB unless set, at
    /// least 4 KiB, as the file's header takes as much. Never more than a quarter of a segment:
    /// what is longer has a file of its own in any case.
    pub const fn array_file_from(mut self, bytes: u64) -> Self {
        self.options.array_file_from = bytes;
        self
    }

    /// Writers that can append at once, each to a segment of its own: the number of cores, at
    /// most 4, unless set.
    pub const fn writers(mut self, count: usize) -> Self {
        self.options.writers = Some(count);
        self
    }

    /// How long a value lives that is put with [`Ttl::Default`](crate::Ttl::Default); for ever
    /// unless set.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.options.ttl = Some(ttl);
        self
    }

    /// The clock that deadlines are compared with; the system's unless set.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.options.clock = clock;
        self
    }

    /// Trusts nothing that is not known to be on disk, as after a restart of the machine, even
    /// if the store was closed: reads all segments and builds the index anew. For directories
    /// that were copied while in use or restored in part.
    pub const fn distrust(mut self) -> Self {
        self.options.distrust = true;
        self
    }

    /// Who makes segments ready, reclaims old ones and syncs by the clock: a thread of the
    /// store's own unless set.
    pub const fn maintenance(mut self, maintenance: Maintenance) -> Self {
        self.options.maintenance = maintenance;
        self
    }

    /// What becomes of values when the budget is used up: the oldest are evicted unless set.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use larder_engine::{Disk, Engine, Outcome, Put, Rejection, Retain};
    /// let disk = Disk::builder(dir.path().join("store")).budget(4 << 20).retain(Retain::All).open()?;
    /// let refused = (0..u64::MAX).find_map(|number| {
    ///     match disk.put(&number.to_le_bytes(), &[0; 4000], &Put::default()) {
    ///         Ok(Outcome::Rejected(why)) => Some(why),
    ///         _ => None,
    ///     }
    /// });
    /// assert!(matches!(refused, Some(Rejection::Full { .. })));
    /// assert_eq!(disk.stats().evictions, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn retain(mut self, retain: Retain) -> Self {
        self.options.retain = retain;
        self
    }

    /// What a cache takes in: everything unless set. A value that replaces one is always taken.
    /// Not for a store that keeps everything ([`Retain::All`]), which takes what fits.
    pub const fn admission(mut self, admission: Admission) -> Self {
        self.options.admission = admission;
        self
    }

    /// What becomes of a value for which no room is ready, unless it says so itself
    /// ([`Put::when_short`](crate::Put::when_short)): its writer makes room unless set.
    ///
    /// Room is made ahead by the maintenance, one segment at a time, so that writers that do not
    /// help find the first one when it has had a moment. Whatever is set, a writer may have to
    /// move a page of an index that grows, values that are streamed into a file of their own
    /// wait for its room, and removals and batches make theirs.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use larder_engine::{Disk, Engine, Maintenance, Outcome, Put, WhenShort};
    /// let disk = Disk::builder(dir.path().join("store"))
    ///     .when_short(WhenShort::Block)
    ///     .maintenance(Maintenance::Manual)
    ///     .open()?;
    /// assert_eq!(disk.put(b"key", b"value", &Put::default())?, Outcome::Blocked);
    /// while disk.maintain()?.more {}
    /// assert!(disk.put(b"key", b"value", &Put::default())?.is_admitted());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn when_short(mut self, when_short: WhenShort) -> Self {
        self.options.when_short = when_short;
        self
    }

    /// Makes everything durable this often, so that a loss of power loses no more than the
    /// values of that time, and what the sync takes. Done by the maintenance; nobody waits.
    /// A value can be made durable at once with [`Durability::Sync`](crate::Durability::Sync).
    pub const fn sync_every(mut self, interval: Duration) -> Self {
        self.options.sync_every = Some(interval);
        self
    }

    /// Compresses values; off unless set. Values that were compressed are read in any case.
    #[cfg(feature = "zstd")]
    pub fn compression(mut self, compression: super::zstd::Compression) -> Self {
        self.options.compression = Some(compression);
        self
    }

    /// Notes how long operations take, to be asked for by [`Disk::latencies`]. Off unless set:
    /// it takes up to a megabyte of memory, and two looks at the clock for each operation.
    #[cfg(feature = "histograms")]
    pub const fn histograms(mut self) -> Self {
        self.options.histograms = true;
        self
    }

    /// Opens the directory even if it belongs to another user or others may write to it. They
    /// can then make this process read what they like, and end it with SIGBUS (unless the feature
    /// `sigbus-guard` is on).
    pub const fn allow_shared_directory(mut self) -> Self {
        self.allow_shared = true;
        self
    }

    /// How the store gets at its files: as is found out unless set.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use larder_engine::{Access, Disk, Engine, Put};
    /// let disk = Disk::builder(dir.path().join("store")).access(Access::Buffered).open()?;
    /// let _ = disk.put(b"key", b"value", &Put::default())?;
    /// assert_eq!(disk.get(b"key")?.as_deref(), Some(&b"value"[..]));
    /// assert_eq!(disk.access(), Access::Buffered);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn access(mut self, access: Access) -> Self {
        self.options.access = access;
        self
    }

    /// Is told what goes on in the store: segments that come and go, the index that grows, and
    /// everything that fails. Costs nothing unless set; each call adds an observer.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use std::sync::Arc;
    /// use larder_engine::{Disk, Event, Observer};
    ///
    /// #[derive(Debug)]
    /// struct Complain;
    ///
    /// impl Observer for Complain {
    ///     fn event(&self, event: &Event) {
    ///         if let Event::SyncFailed | Event::Corrupt = event {
    ///             eprintln!("look at the disk: {event:?}");
    ///         }
    ///     }
    /// }
    ///
    /// let disk = Disk::builder(dir.path().join("store")).observer(Arc::new(Complain)).open()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.options.observers.push(observer);
        self
    }

    /// Lets other processes have the store open at the same time, which all of them have to say: up
    /// to 128 read and write it at once, through the same calls as one does, and any of them may be
    /// killed at any time. What one of them did is seen by all others when it has returned.
    ///
    /// All say the same budget and [`retain`](Self::retain). The budget may be exceeded by a segment
    /// for each process. Each appends to segments of its own, for one writer at a time unless
    /// [`writers`](Self::writers) says more. Values that get a file of their own are made durable at
    /// once. The file system must be a local one on which mappings can be trusted.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use larder_engine::{Disk, Engine, Put};
    /// let open = || Disk::builder(dir.path().join("store")).shared().open();
    /// // As two processes would.
    /// let (one, other) = (open()?, open()?);
    /// let _ = one.put(b"key", b"value", &Put::default())?;
    /// assert_eq!(other.get(b"key")?.as_deref(), Some(&b"value"[..]));
    /// assert_eq!(other.processes().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn shared(mut self) -> Self {
        self.options.shares = true;
        self
    }

    /// Opens a store that is there to be read: nothing is created or changed, and no leave to
    /// write is needed. Other readers can have it open as well; a process that writes and those
    /// that read exclude each other ([`Error::Locked`], whose process is the last one that wrote
    /// if readers have the store). Whatever would change the store fails with
    /// [`Error::ReadOnly`].
    ///
    /// The index is trusted as usual; one that cannot be is built anew in memory. The budget
    /// does not count. A user who does not own the directory needs
    /// [`allow_shared_directory`](Self::allow_shared_directory) as well.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use larder_engine::{Disk, Engine, Error, Put};
    /// # let disk = Disk::builder(dir.path().join("store")).open()?;
    /// # let _ = disk.put(b"key", b"value", &Put::default())?;
    /// # disk.close()?;
    /// let disk = Disk::builder(dir.path().join("store")).read_only().open()?;
    /// assert_eq!(disk.get(b"key")?.as_deref(), Some(&b"value"[..]));
    /// assert!(matches!(disk.remove(b"key"), Err(Error::ReadOnly)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn read_only(mut self) -> Self {
        self.options.read_only = true;
        self
    }

    /// Opens the store, creating the directory (mode 0700) and the store if they are absent.
    ///
    /// Takes time independent of the number of entries, unless the machine stopped or the
    /// files were moved while the store was open: then the index is built anew.
    ///
    /// # Errors
    /// - [`Error::Config`]: an option cannot be.
    /// - [`Error::Insecure`], [`Error::WrongType`]: the directory is not private, or something
    ///   else stands where a file should be.
    /// - [`Error::Locked`]: another process has the store open.
    /// - [`Error::Format`]: the superblock is damaged, foreign, or of a newer format.
    /// - [`Error::Io`], [`Error::StorageFull`]: the system refused.
    pub fn open(mut self) -> Result<Disk> {
        self.options.check()?;
        if self.options.read_only {
            self.options.budget = u64::MAX;
            self.options.maintenance = Maintenance::Manual;
            let dir = Directory::open_existing(&self.dir, self.allow_shared)?;
            // Nothing is written to be found out, and a private map changes nothing either.
            let is_buffered = self.options.access == Access::Buffered;
            let storage = ReadOnly { dir, is_buffered };
            let path = storage.path(STORE);
            let len = match storage.open(STORE)? {
                Some(file) => file.len().map_err(|error| Error::io("look at", &path, error))?,
                None => 0,
            };
            if len == 0 {
                return Err(Error::io("open", &path, std::io::ErrorKind::NotFound.into()));
            }
            return self.options.open_in(Arc::new(storage));
        }
        let dir = Directory::open(&self.dir, self.allow_shared)?;
        let (storage, unmapped) = self.options.access.storage(dir);
        self.options.unmapped = unmapped;
        if self.options.shares && storage.is_buffered() {
            let path = self.dir.clone();
            let why = unmapped.unwrap_or("its files are not to be mapped");
            return Err(Error::Unshareable { path, why });
        }
        self.options.open_in(storage)
    }
}

impl Options {
    /// Opens the store in a storage of any kind.
    pub(super) fn open_in(&self, storage: Arc<dyn Storage>) -> Result<Disk> {
        let _entered = Entered::opening(&self.observers);
        let store = Arc::new(self.open_store(storage)?);
        store.upkeep.observed.tell();
        Ok(Disk { worker: Worker::start(&store)?, store })
    }

    fn open_store(&self, storage: Arc<dyn Storage>) -> Result<Store> {
        for _ in 0..JOINS {
            match Store::open(Arc::clone(&storage), self) {
                // Those who had it open may be about to die, or to leave.
                Err(Error::Locked { .. }) if self.shares => std::thread::sleep(JOIN_AGAIN),
                opened => return opened,
            }
        }
        Store::open(storage, self)
    }

    fn check(&self) -> Result<()> {
        let config = |option, value: u64, accepted| {
            Err(Error::Config { option, value: value.to_string(), accepted })
        };
        if self.budget < BUDGET_MIN {
            return config("budget", self.budget, "at least 1 MiB (1048576) is needed");
        }
        if let Some(len) = self.segment_len
            && (!(SEGMENT_LEN_MIN..=SEGMENT_LEN_MAX).contains(&len) || !len.is_power_of_two())
        {
            let accepted = "a power of two from 64 KiB (65536) to 64 MiB (67108864) is accepted";
            return config("segment_len", len.into(), accepted);
        }
        if let Some(len) = self.segment_len
            && u64::from(len) > self.budget / 4
        {
            return config(
                "segment_len",
                len.into(),
                "at most a quarter of the budget is accepted",
            );
        }
        if self.array_file_from < PAGE as u64 {
            let accepted = "at least 4 KiB (4096) is accepted, the length of the file's header";
            return config("array_file_from", self.array_file_from, accepted);
        }
        if self.retain == Retain::All && self.admission != Admission::default() {
            let accepted = "a store that retains all takes everything that fits: leave it unset";
            let (option, value) = ("admission", format!("{:?}", self.admission));
            return Err(Error::Config { option, value, accepted });
        }
        if self.admission.write_budget == Some(0) {
            return config("write_budget", 0, "at least 1 byte a second, or none, is accepted");
        }
        let most = if self.shares { SHARE_LANES_MAX as usize - 1 } else { 64 };
        if !(1..=most).contains(&self.writers()) {
            let accepted = "1 to 64 are accepted, or to 47 if the store is shared";
            return config("writers", self.writers() as u64, accepted);
        }
        if self.shares && (self.read_only || self.distrust || self.repairs) {
            let accepted = "a store that is read only, distrusted or repaired is not shared";
            return Err(Error::Config { option: "shared", value: "true".to_owned(), accepted });
        }
        Packer::new(self).map(drop)
    }

    /// Writers that can append at once.
    pub(super) fn writers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        // Each takes a segment, in each of the processes that share the store.
        self.writers.unwrap_or_else(|| if self.shares { 1 } else { cores().min(WRITERS_MAX) })
    }

    /// Lanes, that of the maintenance included.
    pub(super) fn lane_count(&self) -> u32 {
        u32::try_from(self.writers() + 1).unwrap_or(u32::MAX)
    }

    /// The superblock of a new store.
    pub(super) fn superblock(&self, now_ms: u64) -> Result<Superblock> {
        if let Some(superblock) = self.superblock {
            return Ok(superblock);
        }
        let share = (self.budget / SEGMENTS).clamp(SEGMENT_LEN_MIN.into(), SEGMENT_LEN_MAX.into());
        let share = u32::try_from(share).unwrap_or(SEGMENT_LEN_MAX);
        let segment_len = self.segment_len.unwrap_or(1 << share.ilog2());
        // An index that begins with a slot for each 32 KiB of the budget takes little room,
        // and doubles at most 9 times until the smallest records fill the budget.
        let pages = (self.budget / (32 << 10) * 8 / PAGE as u64).clamp(1, 1 << 14);
        Ok(Superblock {
            uuid: random()?,
            hash_seed: random()?,
            compatible: 0,
            read_only_compatible: 0,
            incompatible: 0,
            segment_len,
            index_base_bits: u8::try_from(pages.ilog2()).unwrap_or(0),
            external_min: segment_len / 8,
            created_ms: now_ms,
        })
    }
}

/// Bytes that nobody can guess.
pub(super) fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::io("draw random bytes from", "the system".as_ref(), error.into())
    })?;
    Ok(bytes)
}
