//! Files that are cut short behind our back: a failed check, and not the end of the process.
//!
//! Who reads mapped memory that its file does not reach any more gets SIGBUS, which ends a process.
//! With the feature `sigbus-guard`, on Linux, the first file that is mapped installs a handler for
//! the whole process. It looks the address up among the maps of this crate. One that is ours gets a
//! page of zeros in the place of the one that is gone, and its map counts as broken from then on:
//! nothing that was found right in it before is taken for right, its file is not written to and not
//! said to be durable. Any other signal goes to the handler that was there before, or does what it
//! did without one.
//!
//! Whatever is copied out of a map is compared with its checksum after that, where this guard is
//! on: a cut may come between a look and the next, and within a page it raises no signal.
//!
//! # Invariants
//! 1. The handler calls nothing but what POSIX or the kernel allow in one (`sigaction`, `raise`,
//!    `mmap`, which is a bare system call), takes no lock, and leaves `errno` as it was.
//! 2. An entry of the table is taken from before the first access to its map until
//!    after the last; so whoever faults in a map finds its entry, and finds it unchanged.
//! 3. What the handler reads of an entry counts only if its turn is the same before and after: an
//!    entry may be given to another map meanwhile.
//! 4. A map is marked as broken before its page is replaced, so that whoever has read zeros out of
//!    a replaced page, and then looks, finds the mark.

/// Whether the guard is there.
pub(crate) const IS_ON: bool =
    cfg!(all(feature = "sigbus-guard", target_os = "linux", not(miri), not(loom)));

#[cfg(not(all(feature = "sigbus-guard", target_os = "linux", not(miri), not(loom))))]
pub(super) use off::Guarded;
#[cfg(all(feature = "sigbus-guard", target_os = "linux", not(miri), not(loom)))]
pub(super) use on::Guarded;

#[cfg(not(all(feature = "sigbus-guard", target_os = "linux", not(miri), not(loom))))]
mod off {
    /// A map that nobody guards.
    #[derive(Debug)]
    pub(in super::super) struct Guarded;

    impl Guarded {
        pub(in super::super) const fn new(_: *const u8, _: usize) -> Self {
            Self
        }

        pub(in super::super) const fn nothing() -> Self {
            Self
        }

        pub(in super::super) const fn is_broken(&self) -> bool {
            false
        }
    }
}

#[cfg(all(feature = "sigbus-guard", target_os = "linux", not(miri), not(loom)))]
mod on {
    use std::ffi::{c_int, c_void};
    use std::mem::MaybeUninit;
    use std::ptr;
    use std::sync::OnceLock;

    use crate::sync::{AtomicBool, AtomicUsize, Ordering, fence};

    /// Maps that can be guarded at a time: a process has at most about as many, unless the system
    /// was told otherwise (`vm.max_map_count`). What is mapped beyond is not guarded.
    const ENTRIES: usize = 1 << 16;

    /// A mapped range.
    struct Entry {
        /// Counts on as it is taken and given back: a multiple of 4 while it is free, 2 more while it
        /// is filled, and 3 more while it is taken.
        turn: AtomicUsize,
        from: AtomicUsize,
        len: AtomicUsize,
        is_broken: AtomicBool,
    }

    static TABLE: [Entry; ENTRIES] = [const {
        Entry {
            turn: AtomicUsize::new(0),
            from: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            is_broken: AtomicBool::new(false),
        }
    }; ENTRIES];
    /// Entries from this one on were never taken.
    static USED: AtomicUsize = AtomicUsize::new(0);
    /// Where to look for a free one first.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    /// Whether the handler could be installed.
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    /// What the handler needs to know; there before the handler is.
    static BEFORE: OnceLock<Before> = OnceLock::new();

    struct Before {
        action: libc::sigaction,
        page: usize,
    }

    /// A map that is guarded for as long as this is there.
    #[derive(Debug)]
    pub(in super::super) struct Guarded(Option<usize>);

    impl Guarded {
        /// Guards a mapped range, which must stay mapped until this is dropped.
        pub(in super::super) fn new(base: *const u8, len: usize) -> Self {
            if !INSTALLED.get_or_init(|| install().is_some()) {
                return Self(None);
            }
            let from = base.expose_provenance();
            // Relaxed, here and below: a hint, which keeps what is used of the table short.
            let first = NEXT.load(Ordering::Relaxed).min(ENTRIES);
            let at = (first..ENTRIES).chain(0..first).find(|at| take(*at, from, len));
            if let Some(at) = at {
                NEXT.store(at + 1, Ordering::Relaxed);
            }
            Self(at)
        }

        /// Of what is no file.
        pub(in super::super) const fn nothing() -> Self {
            Self(None)
        }

        /// Whether something of the map is gone. Who has read something of it and then finds it
        /// whole has read what is in the file.
        #[inline]
        pub(in super::super) fn is_broken(&self) -> bool {
            let Some(entry) = self.0.map(|at| &TABLE[at]) else { return false };
            // Acquire: what was read of the map before is not read after the mark. The mark was
            // stored before the page was replaced, which the kernel orders before any read of the
            // new page.
            fence(Ordering::Acquire);
            entry.is_broken.load(Ordering::Relaxed)
        }
    }

    impl Drop for Guarded {
        fn drop(&mut self) {
            if let Some(at) = self.0 {
                // Release: whoever takes it next comes after all that was done with it here.
                TABLE[at].turn.fetch_add(1, Ordering::Release);
                NEXT.fetch_min(at, Ordering::Relaxed);
            }
        }
    }

    /// Takes an entry, if it is free.
    fn take(at: usize, from: usize, len: usize) -> bool {
        let entry = &TABLE[at];
        // Relaxed: the exchange below orders it.
        let turn = entry.turn.load(Ordering::Relaxed);
        // Acquire: pairs with the giving back.
        if !turn.is_multiple_of(4)
            || entry
                .turn
                .compare_exchange(turn, turn + 2, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return false;
        }
        // Release: a handler that sees any of what follows sees the changed turn as well.
        fence(Ordering::Release);
        entry.from.store(from, Ordering::Relaxed);
        entry.len.store(len, Ordering::Relaxed);
        entry.is_broken.store(false, Ordering::Relaxed);
        USED.fetch_max(at + 1, Ordering::Relaxed);
        // Release: who sees the odd turn sees the range. The thread that maps hands the map on
        // by something that orders this and `USED` before.
        entry.turn.store(turn + 3, Ordering::Release);
        true
    }

    /// The entry that an address lies in. For the handler.
    fn find(address: usize) -> Option<&'static Entry> {
        // Relaxed: the entry that is looked for was counted before its map was used.
        let used = USED.load(Ordering::Relaxed).min(ENTRIES);
        TABLE.iter().take(used).find(|entry| {
            // Acquire: pairs with the last store of `take`.
            let turn = entry.turn.load(Ordering::Acquire);
            let from = entry.from.load(Ordering::Relaxed);
            let len = entry.len.load(Ordering::Relaxed);
            // Acquire: pairs with the fence of `take`.
            fence(Ordering::Acquire);
            let is_steady = turn % 4 == 3 && entry.turn.load(Ordering::Relaxed) == turn;
            is_steady && address.checked_sub(from).is_some_and(|at| at < len)
        })
    }

    /// Installs the handler.
    fn install() -> Option<()> {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: the pointer is valid for writing the old action, and none is set.
        let asked = unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), action.as_mut_ptr()) };
        // SAFETY: has no pointer argument, and changes nothing.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).ok().filter(|page| page.is_power_of_two())?;
        if asked != 0 {
            return None;
        }
        // SAFETY: zeroed, which is a valid `sigaction`, and then filled by the call.
        let before = Before { action: unsafe { action.assume_init() }, page };
        BEFORE.set(before).ok()?;
        let mut ours = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: zeroed memory is a valid `sigaction` without a handler, flags and masked signals.
        let new = unsafe { ours.assume_init_mut() };
        new.sa_sigaction = on_signal as *const () as usize;
        // On the thread's other stack, if it has one, as the standard library's handlers are.
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `new` is a whole `sigaction`, whose handler has the signature of SA_SIGINFO.
        let set = unsafe { libc::sigaction(libc::SIGBUS, new, ptr::null_mut()) };
        (set == 0).then_some(())
    }

    extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: always valid for the current thread.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above.
        let saved = unsafe { *errno };
        // SAFETY: with SA_SIGINFO the kernel hands over a valid one.
        let told = unsafe { &*info };
        // SAFETY: of a SIGBUS by the kernel the address is set, and of any other it is not used.
        let address = unsafe { told.si_addr() }.addr();
        let before = BEFORE.get();
        let is_mended = told.si_code == libc::BUS_ADRERR
            && before.is_some_and(|before| mend(address, before.page));
        // SAFETY: as above.
        unsafe { *errno = saved };
        if !is_mended {
            pass_on(before, signal, info, context);
        }
    }

    /// Puts zeros where a page is gone, if it is one of a map of ours.
    fn mend(address: usize, page: usize) -> bool {
        let Some(entry) = find(address) else { return false };
        // SeqCst: before the page is replaced, whatever orders the system call has (invariant 4).
        entry.is_broken.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let start = ptr::with_exposed_provenance_mut(address & !(page - 1));
        // SAFETY: the page lies in a range that is mapped, and stays so while the faulting
        // access is under way (invariant 2): nothing but that map is replaced. Its old contents
        // cannot be read by anybody; what refers to it is either raw memory that is checked, or a
        // slice of `u8`, for which zeros are as valid as what the file held.
        let mapped = unsafe {
            libc::mmap(
                start,
                page,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        mapped != libc::MAP_FAILED
    }

    /// Does what would have been done without this handler.
    fn pass_on(
        before: Option<&Before>,
        signal: c_int,
        info: *mut libc::siginfo_t,
        context: *mut c_void,
    ) {
        let (handler, flags) =
            before.map_or((libc::SIG_DFL, 0), |it| (it.action.sa_sigaction, it.action.sa_flags));
        // SAFETY: with SA_SIGINFO the kernel hands over a valid one.
        let is_fault = unsafe { (*info).si_code } > 0;
        match handler {
            libc::SIG_IGN if !is_fault => {}
            // A fault that is ignored ends the process as well.
            libc::SIG_DFL | libc::SIG_IGN => {
                let mut default = MaybeUninit::<libc::sigaction>::zeroed();
                // SAFETY: zeroed memory is a valid `sigaction`: SIG_DFL is 0.
                let default = unsafe { default.assume_init_mut() };
                // SAFETY: a whole `sigaction`, without a handler.
                unsafe { libc::sigaction(signal, default, ptr::null_mut()) };
                // A fault comes again as soon as this returns, where it came from.
                if !is_fault {
                    // SAFETY: takes no pointer.
                    unsafe { libc::raise(signal) };
                }
            }
            handler if flags & libc::SA_SIGINFO != 0 => {
                type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                // SAFETY: whoever installed it said by SA_SIGINFO that it is such a function.
                let handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
                handler(signal, info, context);
            }
            handler => {
                // SAFETY: whoever installed it said by the absence of SA_SIGINFO that it is such
                // a function.
                let handler =
                    unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
                handler(signal);
            }
        }
    }
}
