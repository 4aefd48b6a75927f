//! Segments whose file was unlinked, here or by another process: their bytes count until the last
//! mapping goes.

use std::io;

use super::{Segment, file_name};
use crate::disk::storage::Storage;
use crate::error::{Error, Result};
use crate::sync::Ordering;

impl Segment {
    /// Whether the file was unlinked.
    pub(crate) fn is_retired(&self) -> bool {
        // Relaxed: a hint; slots that lead here are found to lead nowhere.
        self.retired.load(Ordering::Relaxed)
    }

    /// Unlinks the file. Its bytes count as retired until the last mapping goes.
    pub(crate) fn retire(&self, storage: &dyn Storage) -> Result<()> {
        let name = file_name(self.id());
        match storage.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &storage.path(&name), error));
            }
            _ => {}
        }
        // Relaxed: read by `drop` only, which is ordered by the Arc.
        if !self.retired.swap(true, Ordering::Relaxed) {
            self.usage.retire(self.len() as u64);
        }
        Ok(())
    }

    /// Notes that another process has unlinked the file.
    pub(crate) fn note_retired(&self) {
        // Relaxed, as above.
        if !self.retired.swap(true, Ordering::Relaxed) {
            self.usage.retire_elsewhere(self.len() as u64);
        }
    }
}
