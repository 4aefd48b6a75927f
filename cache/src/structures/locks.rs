//! Locks and semaphores: who may be inside at once.

use std::time::Duration;

use super::ground::Plot;
use super::leases::{Entry, Lease, Leases};
use crate::error::{Error, Result};

/// Held by one at a time, in whatever thread.
///
/// ```
/// use larder::structures::Structures;
/// use std::time::Duration;
///
/// let lock = Structures::in_memory(1 << 20)?.lock("report", Duration::from_secs(30))?;
/// let held = lock.lock()?;
/// assert!(lock.try_lock()?.is_none());
/// let fence = held.fence();
/// drop(held);
/// assert!(lock.try_lock()?.is_some_and(|held| held.fence() > fence));
/// # Ok::<(), larder::Error>(())
/// ```
///
/// It is not re-entrant: a thread that holds it and locks again waits until its own lease is over.
/// Who waits has no place in a line. Within one [`Structures`](super::Structures) and its clones
/// who waits is woken when it is given back; others look again every 20 ms.
///
/// # Errors
/// All methods: what the store said; [`Error::Rejected`] if it is full.
#[derive(Debug, Clone)]
pub struct Lock {
    leases: Leases,
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl Lock {
    pub(super) fn new(plot: Plot, lease: Duration) -> Result<Self> {
        Ok(Self { leases: Leases::new(plot, lease)? })
    }

    /// Waits for it.
    pub fn lock(&self) -> Result<Lease> {
        loop {
            if let Some(lease) = self.leases.enter(Entry::OneOf(1), None)? {
                return Ok(lease);
            }
        }
    }

    /// Waits for it, for so long at most.
    pub fn lock_within(&self, longest: Duration) -> Result<Option<Lease>> {
        self.leases.enter(Entry::OneOf(1), Some(longest))
    }

    /// Takes it if it is free.
    pub fn try_lock(&self) -> Result<Option<Lease>> {
        self.leases.try_enter(Entry::OneOf(1))
    }

    /// Whether somebody holds it.
    pub fn is_locked(&self) -> Result<bool> {
        Ok(self.leases.len()? != 0)
    }

    /// Runs something while holding it: of all who do, one at a time. The lease is kept alive
    /// meanwhile.
    ///
    /// # Errors
    /// As of [`Lock`], and [`Error::LeaseOver`] if it was over nevertheless before `run` returned, as
    /// the process was suspended, say: then another may have run at the same time.
    pub fn run<R>(&self, run: impl FnOnce() -> R) -> Result<R> {
        let mut held = self.lock()?;
        held.keep_alive()?;
        let done = run();
        held.release()?;
        Ok(done)
    }
}

/// Held by many who share it, or by one alone.
///
/// One who waits to be alone keeps out those who come after it to share, so that it gets its turn.
///
/// ```
/// use larder::structures::Structures;
/// use std::time::Duration;
///
/// let lock = Structures::in_memory(1 << 20)?.rw_lock("table", Duration::from_secs(30))?;
/// let (one, two) = (lock.read()?, lock.read()?);
/// assert!(lock.try_write()?.is_none());
/// drop((one, two));
/// let alone = lock.write()?;
/// assert!(lock.try_read()?.is_none());
/// # drop(alone);
/// # Ok::<(), larder::Error>(())
/// ```
///
/// # Errors
/// As of [`Lock`].
#[derive(Debug, Clone)]
pub struct RwLock {
    leases: Leases,
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl RwLock {
    pub(super) fn new(plot: Plot, lease: Duration) -> Result<Self> {
        Ok(Self { leases: Leases::new(plot, lease)? })
    }

    /// Waits to share it.
    pub fn read(&self) -> Result<Lease> {
        loop {
            if let Some(lease) = self.leases.enter(Entry::Shared, None)? {
                return Ok(lease);
            }
        }
    }

    /// Waits to share it, for so long at most.
    pub fn read_within(&self, longest: Duration) -> Result<Option<Lease>> {
        self.leases.enter(Entry::Shared, Some(longest))
    }

    /// Shares it if nobody is alone, or waits to be.
    pub fn try_read(&self) -> Result<Option<Lease>> {
        self.leases.try_enter(Entry::Shared)
    }

    /// Waits to have it alone.
    pub fn write(&self) -> Result<Lease> {
        loop {
            if let Some(lease) = self.leases.enter(Entry::Alone, None)? {
                return Ok(lease);
            }
        }
    }

    /// Waits to have it alone, for so long at most.
    pub fn write_within(&self, longest: Duration) -> Result<Option<Lease>> {
        self.leases.enter(Entry::Alone, Some(longest))
    }

    /// Takes it alone if nobody has it.
    pub fn try_write(&self) -> Result<Option<Lease>> {
        self.leases.try_enter(Entry::Alone)
    }
}

/// Held by so many at a time.
///
/// ```
/// use larder::structures::Structures;
/// use std::time::Duration;
///
/// let permits = Structures::in_memory(1 << 20)?.semaphore("gpu", 2, Duration::from_secs(30))?;
/// let (one, two) = (permits.acquire()?, permits.acquire()?);
/// assert!(permits.try_acquire()?.is_none());
/// drop(one);
/// assert_eq!(permits.available()?, 1);
/// # drop(two);
/// # Ok::<(), larder::Error>(())
/// ```
///
/// # Errors
/// As of [`Lock`], and [`Error::Config`] where the semaphore of this name was made with another
/// number of permits.
#[derive(Debug, Clone)]
pub struct Semaphore {
    leases: Leases,
    permits: u32,
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl Semaphore {
    pub(super) fn new(plot: Plot, permits: u32, lease: Duration) -> Result<Self> {
        if permits == 0 {
            let accepted = "at least 1";
            return Err(Error::Config { option: "permits", value: "0".to_owned(), accepted });
        }
        Ok(Self { leases: Leases::new(plot, lease)?, permits })
    }

    /// Waits for a permit.
    pub fn acquire(&self) -> Result<Lease> {
        loop {
            if let Some(lease) = self.leases.enter(Entry::OneOf(self.permits), None)? {
                return Ok(lease);
            }
        }
    }

    /// Waits for a permit, for so long at most.
    pub fn acquire_within(&self, longest: Duration) -> Result<Option<Lease>> {
        self.leases.enter(Entry::OneOf(self.permits), Some(longest))
    }

    /// Takes a permit if there is one.
    pub fn try_acquire(&self) -> Result<Option<Lease>> {
        self.leases.try_enter(Entry::OneOf(self.permits))
    }

    /// Permits that nobody holds.
    pub fn available(&self) -> Result<u32> {
        let held = u32::try_from(self.leases.len()?).unwrap_or(u32::MAX);
        Ok(self.permits.saturating_sub(held))
    }
}
