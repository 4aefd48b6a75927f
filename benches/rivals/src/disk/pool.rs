//! Handles that one thread may use at a time, for stores that want one for each thread.
//!
//! Taking one and giving it back costs some 20 ns, which a program does not pay that keeps its
//! handle in the thread. [`DiskRival::reader`](super::DiskRival::reader) keeps it, too.

use std::sync::{Mutex, PoisonError};

use crate::Result;

/// Handles that nobody uses now.
pub(super) struct Pool<T> {
    idle: Mutex<Vec<T>>,
}

impl<T> Pool<T> {
    pub(super) fn new(first: T) -> Self {
        Self { idle: Mutex::new(vec![first]) }
    }

    /// Takes a handle, which is made if all others are in use.
    pub(super) fn take(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(make, Ok)
    }

    /// Gives a handle back.
    pub(super) fn leave(&self, handle: T) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
    }
}
