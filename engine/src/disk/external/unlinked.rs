//! Large values whose files other processes have unlinked.

use std::sync::Arc;

use super::{Externals, Listed};
use crate::sync::Ordering;

impl Externals {
    /// Lets go of files that other processes have unlinked.
    pub(crate) fn forget_unlinked(&self) {
        let guard = &crossbeam_epoch::pin();
        let is_gone = |listed: &&Arc<Listed>| !listed.0.file.is_linked();
        let Some(mapped) = self.mapped.load(guard) else { return };
        let gone: Vec<_> = mapped.values().filter(is_gone).map(|s| Arc::clone(&s.0)).collect();
        if gone.is_empty() {
            return;
        }
        let _changing = self.unsynced.lock();
        for external in gone {
            // Relaxed: as in `remove`.
            if !external.retired.swap(true, Ordering::Relaxed) {
                self.usage.retire_elsewhere(external.len);
                self.retired.lock().push(Arc::downgrade(&external));
                self.change(guard, |map| map.remove(&external.footer.id));
            }
        }
    }
}
