//! What an engine says about itself.

/// Counters and gauges of one engine. Counters count since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Lookups that found a live value.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Values admitted, replacements included.
    pub inserts: u64,
    /// Values refused; the caller was told.
    pub rejected: u64,
    /// Values neither stored nor refused, as no room was ready; the caller was told.
    pub blocked: u64,
    /// Values removed on request.
    pub removes: u64,
    /// Values evicted to keep within the budget.
    pub evictions: u64,
    /// Values found expired.
    pub expired: u64,
    /// Records that failed a check and were answered as a miss.
    pub corrupt: u64,
    /// Values held, expired ones included until they are noticed.
    pub entries: u64,
    /// Weight in use, in bytes; for disk everything in the directory.
    pub used_bytes: u64,
    /// The budget in bytes; `u64::MAX` without one.
    pub budget_bytes: u64,
    /// Bytes handed to `put`: keys and values.
    pub put_bytes: u64,
    /// Bytes written to disk, with headers, padding and moved records.
    pub written_bytes: u64,
    /// Live records moved to keep them, in bytes.
    pub moved_bytes: u64,
    /// Bytes of values put that compression did not have to write.
    pub compressed_saved_bytes: u64,
    /// Times that the system was asked to bring a segment or a large value to the disk.
    pub syncs: u64,
    /// Records of segments that these were the first to make durable.
    pub synced_records: u64,
    /// Bytes of unlinked files that views still hold mapped.
    pub retired_bytes: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Segments among them that are ready to be written to, and empty.
    pub spares: u64,
    /// Segments that a writer had to create itself, as no spare was ready.
    pub inline_rolls: u64,
    /// Segments that a writer had to reclaim itself, as the maintenance was off or behind.
    pub inline_reclaims: u64,
    /// Steps of the maintenance that failed; they are tried again.
    pub maintenance_errors: u64,
    /// Slots in the index.
    pub index_slots: u64,
    /// How the engine was found when it was opened.
    pub recovery: Recovery,
    /// Records that were looked at to rebuild the index.
    pub recovered_records: u64,
    /// Time that opening took, in µs.
    pub open_us: u64,
}

impl Stats {
    /// Bytes written to disk for each byte that was put: 1 and a little for headers and padding,
    /// more where records are moved; `None` before anything was put.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use larder_engine::{Disk, Engine, Put};
    /// let disk = Disk::builder(dir.path().join("store")).open()?;
    /// assert_eq!(disk.stats().write_amplification(), None);
    /// let _ = disk.put(b"key", &[0; 4000], &Put::default())?;
    /// assert!(disk.stats().write_amplification().is_some_and(|times| times > 1.0 && times < 1.1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn write_amplification(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a ratio, for people")]
        let times = self.written_bytes as f64 / self.put_bytes as f64;
        (self.put_bytes > 0).then_some(times)
    }

    /// Records that a sync made durable, on average: how well writers that wait for the disk
    /// share it. `None` before the first sync.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # use larder_engine::{Disk, Engine, Maintenance, Put};
    /// let builder = Disk::builder(dir.path().join("store")).maintenance(Maintenance::Manual);
    /// let disk = builder.writers(1).open()?;
    /// let _ = disk.put(b"one", b"value", &Put::default())?;
    /// let _ = disk.put(b"two", b"value", &Put::default())?;
    /// disk.sync()?;
    /// assert_eq!(disk.stats().records_per_sync(), Some(2.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn records_per_sync(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a ratio, for people")]
        let records = self.synced_records as f64 / self.syncs as f64;
        (self.syncs > 0).then_some(records)
    }
}

/// What an engine could trust when it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// Nothing was there.
    #[default]
    Created,
    /// It was closed; everything counts.
    Clean,
    /// The last process died; the page cache kept what it wrote.
    ProcessDied,
    /// The machine stopped, or the files were moved: the index was rebuilt.
    Rebuilt,
    /// Other processes had it open already.
    Joined,
}

impl Recovery {
    /// What it is called where programs read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Clean => "clean",
            Self::ProcessDied => "process-died",
            Self::Rebuilt => "rebuilt",
            Self::Joined => "joined",
        }
    }
}

/// Whether an engine can be relied on now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// All is well.
    #[default]
    Healthy,
    /// The last operations failed; others are still tried.
    Degraded,
    /// Nothing is tried until a pause is over.
    Offline,
}
