//! Leases: being let in, being out again, and what happens to who never comes out.
//!
//! The root of a lock, a lock of many, or a semaphore lists who is inside and until when. Whoever
//! looks leaves out those whose time is over, so that a holder that died holds up the others for no
//! longer than its lease. Time is the clock's, and nothing but a compare-and-swap lets anybody in.
//!
//! # Invariants
//! 1. A fence is drawn with each entry, by the swap that lets in, and never again: it grows from one
//!    holder to the next, and with the nonce it is the token that alone gives back or renews.
//! 2. The root stays when nobody is inside, as it has the next fence.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use larder_engine::clock::is_live;
use serde::{Deserialize, Serialize};

use super::ground::{Plot, nonce};
use crate::error::{Error, Result};
use crate::sync::{Condvar, Mutex};

/// Longest time between two looks of who waits, and the shortest.
const LOOK_MAX: Duration = Duration::from_millis(20);
const LOOK_MIN: Duration = Duration::from_millis(1);
/// For how long a writer that waits keeps readers out that come after it, unless it looks again.
const WANTED_MS: u64 = 100;

/// How somebody wants to be inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// As one of so many.
    OneOf(u32),
    /// With others who share.
    Shared,
    /// Alone.
    Alone,
}

/// Who is inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Inside {
    /// The last fence that was drawn.
    fence: u64,
    /// Of how many permits this is; 0 where there are none.
    permits: u32,
    /// Until when who shares is kept out for one who waits to be alone.
    wanted_until_ms: u64,
    holders: Vec<Holder>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    token: Token,
    until_ms: u64,
    is_alone: bool,
}

/// What proves that a lease is one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    fence: u64,
    nonce: u64,
}

impl Inside {
    /// Leaves out those whose time is over.
    fn look(&mut self, now_ms: u64) {
        self.holders.retain(|holder| is_live(holder.until_ms, now_ms));
    }

    /// Lets somebody in, if that can be.
    fn enter(&mut self, entry: Entry, now_ms: u64, until_ms: u64) -> Option<Token> {
        let is_free = match entry {
            Entry::OneOf(permits) => self.holders.len() < permits as usize,
            Entry::Alone => self.holders.is_empty(),
            Entry::Shared => {
                let is_wanted = is_live(self.wanted_until_ms, now_ms);
                !is_wanted && self.holders.iter().all(|holder| !holder.is_alone)
            }
        };
        if !is_free {
            return None;
        }
        let is_alone = entry == Entry::Alone;
        if is_alone {
            self.wanted_until_ms = 0;
        }
        self.fence += 1;
        let token = Token { fence: self.fence, nonce: nonce() };
        self.holders.push(Holder { token, until_ms, is_alone });
        Some(token)
    }
}

/// The place that leases are of.
#[derive(Debug, Clone)]
pub(super) struct Leases {
    plot: Plot,
    lease_ms: u64,
}

impl Leases {
    pub(super) fn new(plot: Plot, lease: Duration) -> Result<Self> {
        match u64::try_from(lease.as_millis()).unwrap_or(u64::MAX) {
            0 => Err(Error::Config {
                option: "lease",
                value: format!("{lease:?}"),
                accepted: "at least 1 ms",
            }),
            lease_ms => Ok(Self { plot, lease_ms }),
        }
    }

    /// When a lease ends that begins now.
    fn until_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add(self.lease_ms)
    }

    /// Lets in, or not.
    pub(super) fn try_enter(&self, entry: Entry) -> Result<Option<Lease>> {
        let token = self.plot.update(|inside: &mut Inside| {
            let now_ms = self.plot.now_ms();
            if let Entry::OneOf(permits) = entry
                && inside.permits != permits
            {
                if inside.permits != 0 {
                    return Err(Error::Config {
                        option: "permits",
                        value: permits.to_string(),
                        accepted: "as many as the semaphore was made with",
                    });
                }
                inside.permits = permits;
            }
            inside.look(now_ms);
            let token = inside.enter(entry, now_ms, self.until_ms(now_ms));
            Ok((token, token.is_some()))
        })?;
        Ok(token.map(|token| Lease { leases: self.clone(), token, keeper: None, is_over: false }))
    }

    /// Waits to be let in, for so long at most; for ever if nothing is said.
    pub(super) fn enter(&self, entry: Entry, longest: Option<Duration>) -> Result<Option<Lease>> {
        let deadline_ms = longest.map_or(u64::MAX, |longest| {
            let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
            self.plot.now_ms().saturating_add(longest_ms)
        });
        let bell = &self.plot.ground.bell;
        let mut pause = LOOK_MIN;
        loop {
            let count = bell.count();
            if let Some(lease) = self.try_enter(entry)? {
                return Ok(Some(lease));
            }
            if !is_live(deadline_ms, self.plot.now_ms()) {
                if entry == Entry::Alone {
                    self.want(false)?;
                }
                return Ok(None);
            }
            if entry == Entry::Alone {
                self.want(true)?;
            }
            bell.wait(count, pause);
            pause = (2 * pause).min(LOOK_MAX);
        }
    }

    /// Keeps those who share out for a moment, or no longer: others who wait to be alone say so again.
    fn want(&self, is_wanted: bool) -> Result<()> {
        self.plot.update(|inside: &mut Inside| {
            let now_ms = self.plot.now_ms();
            if !is_wanted {
                let was_wanted = std::mem::take(&mut inside.wanted_until_ms) != 0;
                return Ok(((), was_wanted));
            }
            // Not for who waits for another one that is alone: that one keeps them out anyway.
            let is_shared = inside.holders.iter().any(|holder| !holder.is_alone);
            let is_due = inside.wanted_until_ms < now_ms.saturating_add(WANTED_MS / 2);
            if is_shared && is_due {
                inside.wanted_until_ms = now_ms.saturating_add(WANTED_MS);
            }
            Ok(((), is_shared && is_due))
        })
    }

    /// How many are inside.
    pub(super) fn len(&self) -> Result<usize> {
        let mut inside: Inside = self.plot.root()?.root;
        inside.look(self.plot.now_ms());
        Ok(inside.holders.len())
    }

    /// Ends a lease. Whether it was still one.
    fn leave(&self, token: Token) -> Result<bool> {
        let left = self.plot.update(|inside: &mut Inside| {
            inside.look(self.plot.now_ms());
            let count = inside.holders.len();
            inside.holders.retain(|holder| holder.token != token);
            let left = inside.holders.len() != count;
            Ok((left, left))
        });
        self.plot.ground.bell.ring();
        left
    }

    /// Begins a lease anew. Whether it was still one.
    fn renew(&self, token: Token) -> Result<bool> {
        self.plot.update(|inside: &mut Inside| {
            let now_ms = self.plot.now_ms();
            inside.look(now_ms);
            let until_ms = self.until_ms(now_ms);
            let own = inside.holders.iter_mut().find(|holder| holder.token == token);
            let is_held = own.map(|holder| holder.until_ms = until_ms).is_some();
            Ok((is_held, is_held))
        })
    }

    fn is_held(&self, token: Token) -> Result<bool> {
        let mut inside: Inside = self.plot.root()?.root;
        inside.look(self.plot.now_ms());
        Ok(inside.holders.iter().any(|holder| holder.token == token))
    }
}

/// What is held of a [`Lock`](super::Lock), an [`RwLock`](super::RwLock) or a
/// [`Semaphore`](super::Semaphore), until it is dropped or its time is over.
///
/// A lease is not a lock: who holds one for longer than its time, as it computes or is suspended, holds
/// nothing any more, and another may. So [`renew`](Self::renew) it in time or have it
/// [kept alive](Self::keep_alive), and let what you change compare the [`fence`](Self::fence), where it
/// can.
pub struct Lease {
    leases: Leases,
    token: Token,
    keeper: Option<(Arc<Keeper>, JoinHandle<()>)>,
    is_over: bool,
}

/// Tells a thread to end.
#[derive(Debug, Default)]
struct Keeper {
    is_over: Mutex<bool>,
    told: Condvar,
}

impl Lease {
    /// A number that is larger than those of all who held this before. Whatever remembers the
    /// largest that it has seen can refuse who comes too late.
    #[must_use]
    pub const fn fence(&self) -> u64 {
        self.token.fence
    }

    /// Begins the time anew.
    ///
    /// # Errors
    /// [`Error::LeaseOver`] if it was over: another may hold it. Else what the store said.
    pub fn renew(&self) -> Result<()> {
        if self.leases.renew(self.token)? { Ok(()) } else { Err(self.over()) }
    }

    /// Whether the time is not over yet.
    ///
    /// # Errors
    /// What the store said.
    pub fn is_held(&self) -> Result<bool> {
        self.leases.is_held(self.token)
    }

    /// Gives it back, as dropping it does, and says whether that went well.
    ///
    /// # Errors
    /// [`Error::LeaseOver`] if the time was over. Else what the store said: others then wait until the
    /// time is over.
    pub fn release(mut self) -> Result<()> {
        self.is_over = true;
        self.end_keeper();
        if self.leases.leave(self.token)? { Ok(()) } else { Err(self.over()) }
    }

    /// Has a thread renew it three times in its time, by the machine's clock, until it is dropped or
    /// was over.
    ///
    /// # Errors
    /// [`Error::Settings`] if there is no thread to be had.
    pub fn keep_alive(&mut self) -> Result<()> {
        if self.keeper.is_some() {
            return Ok(());
        }
        let keeper = Arc::new(Keeper::default());
        let (leases, token, told) = (self.leases.clone(), self.token, Arc::clone(&keeper));
        let pause = Duration::from_millis((leases.lease_ms / 3).max(1));
        let keep = move || {
            let mut is_over = told.is_over.lock();
            while !*is_over {
                told.told.wait_for(&mut is_over, pause);
                // A store that fails now may not fail at the next try.
                if !*is_over && matches!(leases.renew(token), Ok(false)) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("larder-lease".to_owned()).spawn(keep);
        let thread = thread.map_err(|source| Error::Settings {
            op: "start a thread for",
            path: (&*self.leases.plot.name).into(),
            source,
        })?;
        self.keeper = Some((keeper, thread));
        Ok(())
    }

    fn over(&self) -> Error {
        Error::LeaseOver { name: self.leases.plot.name.clone().into() }
    }

    fn end_keeper(&mut self) {
        if let Some((keeper, thread)) = self.keeper.take() {
            *keeper.is_over.lock() = true;
            keeper.told.notify_all();
            // It has the store open, and is at most in the middle of a renewal.
            drop(thread.join());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_over {
            self.end_keeper();
            // If the store fails, the time will be over some day.
            drop(self.leases.leave(self.token));
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Lease")
            .field("name", &self.leases.plot.name)
            .field("fence", &self.token.fence)
            .finish_non_exhaustive()
    }
}
