//! One order for all changes of a key.
//!
//! Every change of a key (insert, remove, promotion, flush, publication of a loaded value)
//! runs under the key's stripe, so that memory and store see the changes of one key in the
//! same order. Reads take no stripe.
//!
//! # Invariants
//! 1. A thread holds at most one stripe, or has taken all in their order.
//! 2. No code of the user runs under a stripe, except `Clone` and `Drop` of values and
//!    what the store does. So whoever holds one gets to release it.

use std::hash::{BuildHasher, RandomState};

use crate::sync::{Mutex, MutexGuard};

/// Many more than threads, so that two threads seldom meet.
const STRIPES: usize = 256;

#[derive(Debug)]
pub(crate) struct Stripes {
    hasher: RandomState,
    stripes: Box<[Stripe]>,
}

/// On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(Mutex<()>);

/// Proof that a stripe is held.
pub(crate) type Held<'a> = MutexGuard<'a, ()>;

impl Default for Stripes {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            stripes: (0..STRIPES).map(|_| Stripe::default()).collect(),
        }
    }
}

impl Stripes {
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn of(&self, key: &[u8]) -> &Mutex<()> {
        &self.stripes[self.hasher.hash_one(key) as usize % STRIPES].0
    }

    /// Waits for the stripe of `key`.
    pub(crate) fn lock(&self, key: &[u8]) -> Held<'_> {
        self.of(key).lock()
    }

    /// The stripe of `key`, if it is free.
    pub(crate) fn try_lock(&self, key: &[u8]) -> Option<Held<'_>> {
        self.of(key).try_lock()
    }

    /// All stripes, in the one order in which they may be taken together.
    pub(crate) fn lock_all(&self) -> Vec<Held<'_>> {
        self.stripes.iter().map(|stripe| stripe.0.lock()).collect()
    }

    /// Returns when every change that was under way has ended.
    pub(crate) fn barrier(&self) {
        for stripe in &self.stripes {
            drop(stripe.0.lock());
        }
    }
}
