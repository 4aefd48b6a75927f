//! What a map lies in: the system's mapping of a file, or memory.

use std::ops::Range;

use larder_format::layout::PAGE;

/// What keeps mapped memory in place.
pub(crate) trait Backing: Send + Sync {
    /// Makes the pages of a range writable now, so that no write has to wait for one. A wish
    /// only.
    fn populate(&self, _range: Range<usize>) {}

    /// Asks for the pages of a range, to be read. Whether all are there: they are not where a
    /// file was cut short behind our back, and whoever read them would be killed.
    fn load(&self, _range: Range<usize>) -> bool {
        true
    }

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

    fn load(&self, range: Range<usize>) -> bool {
        #[cfg(target_os = "linux")]
        {
            let (advice, from) = (memmap2::Advice::PopulateRead, range.start / PAGE * PAGE);
            let loaded = self.advise_range(advice, from, range.end - from);
            // Kernels before 5.14 do not know it.
            let refused = rustix::io::Errno::INVAL.raw_os_error();
            loaded.map_or_else(|error| error.raw_os_error() == Some(refused), |()| true)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = range;
            true
        }
    }

    fn prefer_large_pages(&self) {
        // Kernels without them, or for this file system, go on with small ones.
        #[cfg(target_os = "linux")]
        let _ = self.advise(memmap2::Advice::HugePage);
    }
}
