//! Whose keys are meant: plain ones, or those of a namespace.
//!
//! A namespace is a cell, with which all of its entries are marked (`marks.rs`), first of all marks.
//! Where the cell is goes into the hash of its keys; so what is equal in two namespaces is in
//! different shards and buckets, as good as always. Whether a key is really in the namespace is
//! decided by comparing cells. Of a plain key, the packed word of an entry says whether it is one.
//!
//! # Invariants
//! 1. Two cells that live at the same time are at two places, and a cell lives as long as an entry
//!    is marked with it. So no entry is ever taken for one of another namespace, nor of one that
//!    has been forgotten (`names.rs`).

use std::hash::{BuildHasher, Hash};
use std::ptr;

use foldhash::quality::RandomState;

use super::buckets::Tag;
pub(super) use super::marks::{Space, is_same};
use super::policy::mix;

/// The hash of a key in a namespace.
#[inline]
pub(super) fn hash_in<Q: Hash + ?Sized>(hasher: &RandomState, space: Space<'_>, key: &Q) -> u64 {
    let hash = hasher.hash_one(key);
    space.map_or(hash, |cell| mix(hash ^ ptr::from_ref(cell).addr() as u64))
}

/// What is looked for.
#[derive(Debug)]
pub(super) struct Seek<'a, Q: ?Sized> {
    pub(super) space: Space<'a>,
    pub(super) hash: u64,
    pub(super) key: &'a Q,
}

// Not derived: the key need not be copied.
impl<Q: ?Sized> Clone for Seek<'_, Q> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q: ?Sized> Copy for Seek<'_, Q> {}

impl<Q: ?Sized> Seek<'_, Q> {
    #[inline]
    pub(super) const fn tag(self) -> Tag {
        Tag::of(self.hash)
    }
}
