//! Whether a store can be used: it is open, and by this very process.
//!
//! A child that was forked has its parent's store in its memory, with locks that threads hold which it
//! does not have, and with segments and in-flight words that its parent goes on using. So it must not use
//! any of it. The word that every operation looks at first lies in a page that the kernel fills with zeros
//! in the child (`MADV_WIPEONFORK`, Linux 4.14): noticing it costs nothing beside what looking whether the
//! store is open does anyway. Where the system does not know that, a child is not noticed.
//!
//! # Orderings
//! Closing is AcqRel, looking Acquire: who finds the store closed sees what was done before.

use super::map::Map;
use crate::error::{Error, Result};
use crate::sync::{Ordering, Words as _};

const OPEN: u64 = 1;
const CLOSED: u64 = 2;

/// The state of an open store.
#[derive(Debug)]
pub(crate) struct Vital(Map);

impl Vital {
    /// Of a store that is open.
    pub(crate) fn open() -> Result<Self> {
        let no_memory = |error| Error::io("map memory for", "the store".as_ref(), error);
        let map = Map::of_wiped_memory(8).map_err(no_memory)?;
        // Relaxed: nobody else has it yet.
        map.word(0).store(OPEN, Ordering::Relaxed);
        Ok(Self(map))
    }

    /// Fails if the store is closed, or another process's.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.word(0).load(Ordering::Acquire) {
            OPEN => Ok(()),
            CLOSED => Err(Error::Closed),
            _ => Err(Error::Forked),
        }
    }

    /// Closes the store; fails if it was closed, or is another process's.
    pub(crate) fn close(&self) -> Result<()> {
        let word = self.0.word(0);
        match word.compare_exchange(OPEN, CLOSED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(CLOSED) => Err(Error::Closed),
            Err(_) => Err(Error::Forked),
        }
    }
}
