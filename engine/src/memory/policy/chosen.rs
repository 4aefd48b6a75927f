//! The policy of a shard: the default one is called directly, any other through a table of
//! functions.
//!
//! Every change of a key calls the policy a few times, and every call asks it about entries. Where
//! both are known to the compiler, most of these calls are a few instructions in a row.

use super::{Arrival, Entries, Policy, PolicyKind, S3Fifo};

/// A policy, chosen when the tier was set up.
#[derive(Debug)]
pub(in crate::memory) enum Chosen {
    S3Fifo(Box<S3Fifo>),
    Other(Box<dyn Policy>),
}

impl Chosen {
    /// A new policy of a kind.
    pub(in crate::memory) fn of(kind: PolicyKind) -> Self {
        match kind {
            PolicyKind::S3Fifo => Self::S3Fifo(Box::default()),
            other => Self::Other(other.build()),
        }
    }

    /// For what is called seldom.
    pub(in crate::memory) fn any(&self) -> &dyn Policy {
        match self {
            Self::S3Fifo(policy) => &**policy,
            Self::Other(policy) => &**policy,
        }
    }

    /// The same.
    pub(in crate::memory) fn any_mut(&mut self) -> &mut dyn Policy {
        match self {
            Self::S3Fifo(policy) => &mut **policy,
            Self::Other(policy) => &mut **policy,
        }
    }

    /// See [`Policy::arrive`].
    #[inline]
    pub(in crate::memory) fn arrive(
        &mut self,
        hash: u64,
        weight: u64,
        entries: &impl Entries,
    ) -> Arrival {
        match self {
            Self::S3Fifo(policy) => policy.arrived(hash),
            Self::Other(policy) => policy.arrive(hash, weight, entries),
        }
    }

    /// See [`Policy::insert`].
    #[inline]
    pub(in crate::memory) fn insert(&mut self, id: u32, arrival: Arrival, entries: &impl Entries) {
        match self {
            Self::S3Fifo(policy) => policy.enter(id, arrival, entries),
            Self::Other(policy) => policy.insert(id, arrival, entries),
        }
    }

    /// [`overwrite`](Self::overwrite) by what has the same weight.
    #[inline]
    pub(in crate::memory) fn overwrite_alike(
        &mut self,
        id: u32,
        weight: u64,
        entries: &impl Entries,
    ) {
        match self {
            // No use, and no other weight.
            Self::S3Fifo(_) => {}
            Self::Other(policy) => policy.overwrite(id, weight, entries),
        }
    }

    /// See [`Policy::overwrite`].
    #[inline]
    pub(in crate::memory) fn overwrite(
        &mut self,
        id: u32,
        old_weight: u64,
        entries: &impl Entries,
    ) {
        match self {
            Self::S3Fifo(policy) => policy.reweigh(id, old_weight, entries),
            Self::Other(policy) => policy.overwrite(id, old_weight, entries),
        }
    }

    /// See [`Policy::remove`].
    #[inline]
    pub(in crate::memory) fn remove(&mut self, id: u32, entries: &impl Entries) {
        match self {
            Self::S3Fifo(policy) => policy.leave(id, entries),
            Self::Other(policy) => policy.remove(id, entries),
        }
    }

    /// See [`Policy::victim`].
    #[inline]
    pub(in crate::memory) fn victim(
        &mut self,
        arrival: Arrival,
        entries: &impl Entries,
    ) -> Option<u32> {
        match self {
            Self::S3Fifo(policy) => policy.evict(entries),
            Self::Other(policy) => policy.victim(arrival, entries),
        }
    }
}
