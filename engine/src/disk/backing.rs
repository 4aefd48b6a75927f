//! What a map lies in: the system's mapping of a file, or memory.

use std::ops::Range;

use larder_format::layout::PAGE;

/// What will be done with mapped pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Read at once: they are wanted in memory, and in the map, before this returns.
    Now,
    /// Read soon: nothing waits for them.
    Soon,
    /// Read all over: large pages need fewer entries to be found, where the file system has them.
    Large,
}

/// What keeps mapped memory in place.
pub(crate) trait Backing: Send + Sync {
    /// Makes the pages of a range writable now, so that no write has to wait for one. A wish
    /// only.
    fn populate(&self, _range: Range<usize>) {}

    /// Says what will be done with a range. Whether all of its pages are there, as far as that
    /// was asked: they are not where a file was cut short behind our back, and whoever read them
    /// would be killed.
    fn advise(&self, _range: Range<usize>, _hint: Hint) -> bool {
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

    fn advise(&self, range: Range<usize>, hint: Hint) -> bool {
        #[cfg(target_os = "linux")]
        {
            use memmap2::Advice;
            let advice = match hint {
                Hint::Now => Advice::PopulateRead,
                Hint::Soon => Advice::WillNeed,
                Hint::Large => Advice::HugePage,
            };
            let from = range.start / PAGE * PAGE;
            let done = self.advise_range(advice, from, range.end - from);
            // Kernels before 5.14 do not know the first.
            let refused = rustix::io::Errno::INVAL.raw_os_error();
            done.map_or_else(|error| error.raw_os_error() == Some(refused), |()| true)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (range, hint);
            true
        }
    }

    fn prefer_large_pages(&self) {
        // Kernels without them, or for this file system, go on with small ones.
        #[cfg(target_os = "linux")]
        let _ = self.advise(memmap2::Advice::HugePage);
    }
}
