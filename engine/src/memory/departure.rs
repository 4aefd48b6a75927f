//! What left the tier, and telling so.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{ptr, thread};

use super::extra::Dead;
use super::shard::Cell;
use super::table::Departed;

/// Why an entry left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Its deadline had passed when something noticed it.
    Expired,
    /// Something else needed the room.
    Capacity,
    /// Its key got another value.
    Replaced,
    /// It was removed on request.
    Invalidated,
}

impl From<Dead> for Cause {
    fn from(dead: Dead) -> Self {
        match dead {
            Dead::Expired => Self::Expired,
            Dead::Invalidated => Self::Invalidated,
        }
    }
}

pub(super) type Listener<K, V> = Box<dyn Fn(&K, &V, Cause) + Send + Sync>;

/// What left, and can still be looked at.
enum Gone<'a, K, V> {
    /// An entry that was unlinked from this shard.
    Unlinked(&'a Cell<K, V>, Departed),
    /// What was never linked.
    Owned(K, V),
}

/// Entries that have been unlinked under a lock, for whoever is to hear of them outside of it.
///
/// Dropping this tells the listener of each, exactly once, and drops what no reader can see any
/// more, so declare it before the guard of the lock: then it goes after that, also when a
/// closure of the user panics in between. What a listener panics with is passed on when all have
/// been told.
pub(super) struct Departures<'a, K, V> {
    listener: Option<&'a Listener<K, V>>,
    // Most calls see one departure at most, which needs no allocation.
    first: Option<(Gone<'a, K, V>, Cause)>,
    // And few see anything of this.
    rest: Option<Box<Rest<'a, K, V>>>,
}

struct Rest<'a, K, V> {
    more: Vec<(Gone<'a, K, V>, Cause)>,
    trash: Vec<(K, V)>,
    gives_way: bool,
    panic: Option<Box<dyn Any + Send>>,
}

impl<K, V> Default for Rest<'_, K, V> {
    fn default() -> Self {
        Self { more: Vec::new(), trash: Vec::new(), gives_way: false, panic: None }
    }
}

impl<'a, K, V> Departures<'a, K, V> {
    pub(super) const fn new(listener: Option<&'a Listener<K, V>>) -> Self {
        Self { listener, first: None, rest: None }
    }

    #[cold]
    fn rest(&mut self) -> &mut Rest<'a, K, V> {
        self.rest.get_or_insert_default()
    }

    /// Notes that an entry has left a shard; gives it back if there is nobody to tell.
    #[inline]
    pub(super) fn push(
        &mut self,
        cell: &'a Cell<K, V>,
        departed: Departed,
        cause: Cause,
    ) -> Option<Departed> {
        if self.listener.is_none() {
            return Some(departed);
        }
        self.note(Gone::Unlinked(cell, departed), cause);
        None
    }

    /// Notes that something has left before it came.
    pub(super) fn push_owned(&mut self, key: K, value: V, cause: Cause) {
        self.note(Gone::Owned(key, value), cause);
    }

    fn note(&mut self, gone: Gone<'a, K, V>, cause: Cause) {
        if self.first.is_none() {
            self.first = Some((gone, cause));
        } else {
            self.rest().more.push((gone, cause));
        }
    }

    /// For what no reader can see any more, to be dropped outside of all locks.
    pub(super) fn trash(&mut self) -> &mut Vec<(K, V)> {
        &mut self.rest().trash
    }

    /// Ends this, which mostly has nothing to do. After the locks.
    #[inline]
    pub(super) fn end(self) {
        if self.is_idle() {
            // Nothing in it has to be dropped.
            std::mem::forget(self);
        }
    }

    #[inline]
    fn is_idle(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    /// Lets other threads on when this is done.
    pub(super) fn give_way(&mut self) {
        self.rest().gives_way = true;
    }

    /// Calls a closure of the user in the middle of a change that has to be completed; what it
    /// panics with is passed on later.
    pub(super) fn defer_panic(&mut self, call: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            self.rest().panic.get_or_insert(panic);
        }
    }

    /// Tells of all departures, and lets them go.
    #[cold]
    fn finish(&mut self) {
        let mut unlinked: Option<(&'a Cell<K, V>, Vec<Departed>)> = None;
        let more = self.rest.as_mut().map(|rest| std::mem::take(&mut rest.more));
        for (gone, cause) in self.first.take().into_iter().chain(more.unwrap_or_default()) {
            match gone {
                Gone::Owned(key, value) => {
                    self.tell(&key, &value, cause);
                    self.trash().push((key, value));
                }
                Gone::Unlinked(cell, departed) => {
                    let entry = cell.table().look(&departed);
                    self.tell(&entry.key, &entry.value, cause);
                    // One lock for all that left one shard in a row.
                    match &mut unlinked {
                        Some((of, list)) if ptr::eq(*of, cell) => list.push(departed),
                        _ => {
                            self.retire(unlinked.take());
                            unlinked = Some((cell, vec![departed]));
                        }
                    }
                }
            }
        }
        self.retire(unlinked);
        for pair in std::mem::take(self.trash()) {
            // The destructors of keys and values are the user's, too.
            self.defer_panic(|| drop(pair));
        }
        let Some(rest) = self.rest.take() else { return };
        if rest.gives_way {
            thread::yield_now();
        }
        // A second panic while the first unwinds would end the process.
        if let Some(panic) = rest.panic
            && !thread::panicking()
        {
            resume_unwind(panic);
        }
    }

    fn retire(&mut self, unlinked: Option<(&'a Cell<K, V>, Vec<Departed>)>) {
        if let Some((cell, departed)) = unlinked
            && cell.retire(departed.into_iter(), self.trash())
        {
            self.give_way();
        }
    }

    fn tell(&mut self, key: &K, value: &V, cause: Cause) {
        if let Some(listener) = self.listener {
            self.defer_panic(|| listener(key, value, cause));
        }
    }
}

impl<K, V> Drop for Departures<'_, K, V> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_idle() {
            self.finish();
        }
    }
}

impl<K, V> fmt::Debug for Departures<'_, K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = self.rest.as_ref().map_or(0, |rest| rest.more.len());
        let count = usize::from(self.first.is_some()) + more;
        out.debug_struct("Departures").field("count", &count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_listener_that_panics_still_hears_of_the_rest() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener: Listener<u32, ()> = Box::new({
            let heard = Arc::clone(&heard);
            move |&key, (), cause| {
                heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((key, cause));
                assert_ne!(key, 1, "the listener's own bug");
            }
        });
        let told = catch_unwind(AssertUnwindSafe(|| {
            let mut departures = Departures::new(Some(&listener));
            (1..4).for_each(|key| departures.push_owned(key, (), Cause::Capacity));
        }));
        assert!(told.is_err(), "the panic is passed on");
        let keys: Vec<u32> = heard.lock().unwrap().iter().map(|&(key, _)| key).collect();
        assert_eq!(keys, [1, 2, 3]);
    }
}
