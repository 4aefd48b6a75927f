//! What left the tier, and telling so.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

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

pub(super) type Listener<K, V> = Box<dyn Fn(&K, &V, Cause) + Send + Sync>;

struct Departure<K, V> {
    key: K,
    value: V,
    cause: Cause,
}

/// Entries that have been unlinked under a lock, for whoever is to hear of them outside of it.
///
/// Dropping this tells the listener of each, exactly once, and drops keys and values, so
/// declare it before the guard of the lock: then it goes after that, also when a closure of
/// the user panics in between. What a listener panics with is passed on when all have been
/// told.
pub(super) struct Departures<'a, K, V> {
    listener: Option<&'a Listener<K, V>>,
    // Most calls see one departure at most, which needs no allocation.
    first: Option<Departure<K, V>>,
    more: Vec<Departure<K, V>>,
    panic: Option<Box<dyn Any + Send>>,
}

impl<'a, K, V> Departures<'a, K, V> {
    pub(super) const fn new(listener: Option<&'a Listener<K, V>>) -> Self {
        Self { listener, first: None, more: Vec::new(), panic: None }
    }

    pub(super) fn push(&mut self, key: K, value: V, cause: Cause) {
        let departure = Departure { key, value, cause };
        if self.first.is_none() {
            self.first = Some(departure);
        } else {
            self.more.push(departure);
        }
    }

    /// Calls a closure of the user in the middle of a change that has to be completed; what it
    /// panics with is passed on later.
    pub(super) fn defer_panic(&mut self, call: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            self.panic.get_or_insert(panic);
        }
    }

    /// Tells of all departures, and gives back the first value.
    pub(super) fn tell_and_take(mut self) -> Option<V> {
        let first = self.first.take()?;
        self.tell(&first);
        Some(first.value)
    }

    fn tell(&mut self, departure: &Departure<K, V>) {
        if let Some(listener) = self.listener {
            self.defer_panic(|| listener(&departure.key, &departure.value, departure.cause));
        }
    }
}

impl<K, V> Drop for Departures<'_, K, V> {
    fn drop(&mut self) {
        for departure in self.first.take().into_iter().chain(std::mem::take(&mut self.more)) {
            self.tell(&departure);
            // The destructors of keys and values are the user's, too.
            self.defer_panic(|| drop(departure));
        }
        // A second panic while the first unwinds would end the process.
        if let Some(panic) = self.panic.take()
            && !thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}

impl<K, V> fmt::Debug for Departures<'_, K, V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = usize::from(self.first.is_some()) + self.more.len();
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
            (1..4).for_each(|key| departures.push(key, (), Cause::Capacity));
        }));
        assert!(told.is_err(), "the panic is passed on");
        let keys: Vec<u32> = heard.lock().unwrap().iter().map(|&(key, _)| key).collect();
        assert_eq!(keys, [1, 2, 3]);
    }
}
