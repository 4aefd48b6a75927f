//! What a map lies in: the system's mapping of a file, or memory.

use std::ops::Range;

/// What keeps mapped memory in place.
pub(crate) trait Backing: Send + Sync {
    /// Makes the pages of a range writable now, so that no write has to wait for one. A wish
    /// only.
    fn populate(&self, _range: Range<usize>) {}

    /// Asks for large pages, which need fewer entries to be found. A wish only.
    fn prefer_large_pages(&self) {}
}

impl Backing for memmap2::MmapRaw {
    fn populate(&self, range: Range<usize>) {
        // Changes no byte, so that it may go on beside anything. A kernel that does not know
        // it leaves the pages to the writers.
        #[cfg(target_os = "linux")]
        let _ = self.advise_range(memmap2::Advice::PopulateWrite, range.start, range.len());
    }

    fn prefer_large_pages(&self) {
        // Kernels without them, or for this file system, go on with small ones.
        #[cfg(target_os = "linux")]
        let _ = self.advise(memmap2::Advice::HugePage);
    }
}
