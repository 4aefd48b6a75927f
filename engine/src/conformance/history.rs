//! Whether what several threads saw of one key can be explained by one order.
//!
//! Each operation took effect at some moment between its call and its return. [`check`]
//! looks for an order of all operations that fits these intervals and in which every single
//! one saw what it should. If there is none, the engine is not linearizable.
//!
//! # Method
//! All orders are tried, operation by operation: next may be any thread's next operation,
//! unless another one that is still to come had returned before it was called. Two things
//! keep that short:
//! - What follows depends only on how far each thread has come and on whether the key is
//!   live; a situation that led nowhere is not tried twice.
//! - One that only looked, and fits now, is taken at once. Were it taken later in some right
//!   order, that order would stay right with it moved here.
//!
//! Versions do the rest: they grow with every write, so they fix the order of the writes.
//!
//! # Liberties
//! Where eviction is allowed, the key may turn absent at any moment; it never comes back
//! from that without a write.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;

/// An operation that has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// A tick taken before the call; ticks are one count for all threads.
    pub called: u64,
    /// A tick taken after the return.
    pub returned: u64,
    /// What it did or saw.
    pub what: What,
}

/// What an operation on a key did or saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Wrote a value that got this version.
    Put(u64),
    /// Saw the value with this version, or none.
    Saw(Option<u64>),
    /// Saw that there is a value.
    SawSome,
    /// Removed, and said whether there was something.
    Removed(bool),
    /// Removed whatever there was.
    Cleared,
}

/// No order explains the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexplained {
    /// How many operations can be put in order, at most.
    pub explained: usize,
    /// What comes next in each thread then, by thread; none of it fits.
    pub pending: Vec<(usize, Event)>,
    /// The highest version written until then.
    pub version: u64,
    /// Whether it is still there.
    pub live: bool,
}

/// The state of the key between two operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    version: u64,
    live: bool,
}

impl State {
    /// The state after an operation, if it fits here.
    fn after(self, what: What, may_evict: bool) -> Option<Self> {
        let absent = Self { live: false, ..self };
        let fits = match what {
            What::Put(version) => {
                return (version > self.version).then_some(Self { version, live: true });
            }
            What::Saw(Some(version)) => self.live && self.version == version,
            What::SawSome => self.live,
            What::Saw(None) | What::Removed(false) => {
                return (!self.live || may_evict).then_some(absent);
            }
            What::Removed(true) => return self.live.then_some(absent),
            What::Cleared => return Some(absent),
        };
        fits.then_some(self)
    }
}

/// A situation: how far each thread has come, and the key's state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Situation {
    next: Vec<usize>,
    state: State,
}

impl Situation {
    fn explained(&self) -> usize {
        self.next.iter().sum()
    }
}

/// Finds an order that explains what the threads did to one key that was absent at first.
///
/// `threads` holds each thread's operations in the order it did them.
///
/// # Errors
/// [`Unexplained`], if there is none.
pub fn check(threads: &[Vec<Event>], may_evict: bool) -> Result<(), Unexplained> {
    let total: usize = threads.iter().map(Vec::len).sum();
    let start =
        Situation { next: vec![0; threads.len()], state: State { version: 0, live: false } };
    let mut tried = HashSet::new();
    let mut to_try = vec![start.clone()];
    let mut furthest = start;
    while let Some(mut situation) = to_try.pop() {
        take_what_only_looked(threads, &mut situation, may_evict);
        if situation.explained() == total {
            return Ok(());
        }
        if !tried.insert(situation.clone()) {
            continue;
        }
        for (thread, event) in possible(threads, &situation.next) {
            if let Some(state) = situation.state.after(event.what, may_evict) {
                let mut next = situation.next.clone();
                next[thread] += 1;
                to_try.push(Situation { next, state });
            }
        }
        if situation.explained() > furthest.explained() {
            furthest = situation;
        }
    }
    let pending = pending(threads, &furthest.next).collect();
    let State { version, live } = furthest.state;
    Err(Unexplained { explained: furthest.explained(), pending, version, live })
}

/// Each thread's next operation.
fn pending<'a>(
    threads: &'a [Vec<Event>],
    next: &'a [usize],
) -> impl Iterator<Item = (usize, Event)> + 'a {
    let at = threads.iter().zip(next).enumerate();
    at.filter_map(|(thread, (events, &next))| Some((thread, *events.get(next)?)))
}

/// Those of them that may come next: none of the others had returned before they were called.
fn possible<'a>(
    threads: &'a [Vec<Event>],
    next: &'a [usize],
) -> impl Iterator<Item = (usize, Event)> + 'a {
    let first_return = pending(threads, next).map(|(_, event)| event.returned).min();
    pending(threads, next).filter(move |(_, event)| Some(event.called) <= first_return)
}

/// A clear that finds nothing changes nothing either, but later it might: it did not only look.
/// A miss by eviction might, too, but what follows fits as well if nothing was evicted.
fn take_what_only_looked(threads: &[Vec<Event>], situation: &mut Situation, may_evict: bool) {
    loop {
        let state = situation.state;
        let mut idle = possible(threads, &situation.next)
            .filter(|(_, event)| event.what != What::Cleared)
            .filter(|(_, event)| state.after(event.what, may_evict) == Some(state));
        let Some((thread, _)) = idle.next() else { return };
        drop(idle);
        situation.next[thread] += 1;
    }
}

impl fmt::Display for Unexplained {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.live { "live" } else { "absent" };
        let (explained, version) = (self.explained, self.version);
        write!(out, "after {explained} operations (version {version}, {state}) none fits of")?;
        for (thread, Event { called, returned, what }) in &self.pending {
            write!(out, " thread {thread} [{called}, {returned}] {what:?};")?;
        }
        Ok(())
    }
}

impl Error for Unexplained {}

#[cfg(test)]
mod tests {
    use super::What::{Cleared, Put, Removed, Saw, SawSome};
    use super::*;

    /// A thread's operations, as (called, returned, what).
    fn thread(events: &[(u64, u64, What)]) -> Vec<Event> {
        let event = |&(called, returned, what)| Event { called, returned, what };
        events.iter().map(event).collect()
    }

    fn explained(threads: &[&[(u64, u64, What)]]) -> bool {
        let threads: Vec<_> = threads.iter().map(|events| thread(events)).collect();
        let strict = check(&threads, false).is_ok();
        assert!(!strict || check(&threads, true).is_ok(), "eviction forbids nothing");
        strict
    }

    fn explained_by_eviction(threads: &[&[(u64, u64, What)]]) -> bool {
        let threads: Vec<_> = threads.iter().map(|events| thread(events)).collect();
        check(&threads, true).is_ok()
    }

    #[test]
    fn one_after_the_other_is_explained() {
        assert!(explained(&[]));
        assert!(explained(&[&[
            (0, 1, Saw(None)),
            (2, 3, Put(1)),
            (4, 5, Saw(Some(1))),
            (6, 7, Put(2)),
            (8, 9, SawSome),
            (10, 11, Removed(true)),
            (12, 13, Removed(false)),
            (14, 15, Put(5)),
            (16, 17, Cleared),
            (18, 19, Saw(None)),
        ]]));
    }

    #[test]
    fn what_overlaps_may_take_either_order() {
        for saw in [Saw(Some(1)), Saw(Some(2))] {
            assert!(explained(&[&[(0, 1, Put(1)), (2, 9, Put(2))], &[(3, 8, saw)]]));
        }
        // The removal saw the first value and the second was put after, or it saw neither
        // before both.
        assert!(explained(&[&[(0, 9, Put(1))], &[(1, 8, Removed(true))], &[(10, 11, Saw(None))]]));
        assert!(explained(&[
            &[(0, 9, Put(1))],
            &[(1, 8, Removed(false))],
            &[(10, 11, Saw(Some(1)))]
        ]));
    }

    #[test]
    fn an_order_is_found_that_only_the_end_gives_away() {
        // Taking the first thread's put first looks right until its version is seen last.
        assert!(explained(&[
            &[(0, 20, Put(2))],
            &[(1, 21, Put(1))],
            &[(2, 3, Saw(None)), (4, 5, Saw(Some(1))), (22, 23, Saw(Some(2)))],
        ]));
    }

    #[test]
    fn a_clear_that_finds_nothing_may_still_come_later() {
        assert!(explained(&[
            &[(0, 5, Cleared)],
            &[(1, 2, Saw(None)), (3, 4, Put(1)), (6, 7, Saw(None))],
        ]));
    }

    #[test]
    fn a_value_older_than_an_acknowledged_one_is_rejected() {
        let history: &[&[(u64, u64, What)]] =
            &[&[(0, 1, Put(1)), (2, 3, Put(2))], &[(4, 5, Saw(Some(1)))]];
        assert!(!explained(history) && !explained_by_eviction(history));
    }

    #[test]
    fn a_value_after_an_acknowledged_remove_is_rejected() {
        let history: &[&[(u64, u64, What)]] =
            &[&[(0, 1, Put(1)), (2, 3, Removed(true))], &[(4, 5, Saw(Some(1)))]];
        assert!(!explained(history) && !explained_by_eviction(history));
        let history: &[&[(u64, u64, What)]] =
            &[&[(0, 1, Put(1)), (2, 3, Cleared)], &[(4, 5, SawSome)]];
        assert!(!explained(history) && !explained_by_eviction(history));
    }

    #[test]
    fn going_back_is_rejected() {
        // Both reads overlap the second write; the second one may not undo the first.
        let history: &[&[(u64, u64, What)]] =
            &[&[(0, 1, Put(1)), (2, 99, Put(2))], &[(3, 4, Saw(Some(2))), (5, 6, Saw(Some(1)))]];
        assert!(!explained(history) && !explained_by_eviction(history));
        // Two readers, one after the other.
        let history: &[&[(u64, u64, What)]] =
            &[&[(0, 1, Put(1)), (2, 99, Put(2))], &[(3, 4, Saw(Some(2)))], &[(5, 6, Saw(Some(1)))]];
        assert!(!explained(history) && !explained_by_eviction(history));
    }

    #[test]
    fn a_value_before_it_was_put_is_rejected() {
        let history: &[&[(u64, u64, What)]] = &[&[(2, 3, Put(1))], &[(0, 1, Saw(Some(1)))]];
        assert!(!explained(history) && !explained_by_eviction(history));
    }

    #[test]
    fn a_value_that_nobody_put_is_rejected() {
        let history: &[&[(u64, u64, What)]] = &[&[(0, 9, Put(1))], &[(1, 8, Saw(Some(7)))]];
        assert!(!explained(history) && !explained_by_eviction(history));
    }

    #[test]
    fn one_value_removed_twice_is_rejected() {
        let history: &[&[(u64, u64, What)]] =
            &[&[(0, 1, Put(1)), (2, 9, Removed(true))], &[(3, 8, Removed(true))]];
        assert!(!explained(history) && !explained_by_eviction(history));
    }

    #[test]
    fn versions_against_the_order_of_writes_are_rejected() {
        let history: &[&[(u64, u64, What)]] = &[&[(0, 1, Put(2)), (2, 3, Put(1))]];
        assert!(!explained(history) && !explained_by_eviction(history));
        let history: &[&[(u64, u64, What)]] = &[&[(0, 1, Put(1))], &[(2, 3, Put(1))]];
        assert!(!explained(history) && !explained_by_eviction(history));
    }

    #[test]
    fn a_miss_is_explained_by_eviction_only() {
        let history: &[&[(u64, u64, What)]] =
            &[&[(0, 1, Put(1)), (2, 3, Saw(None)), (4, 5, Removed(false))]];
        assert!(!explained(history) && explained_by_eviction(history));
    }

    #[test]
    fn what_was_evicted_does_not_come_back() {
        let history: &[&[(u64, u64, What)]] =
            &[&[(0, 1, Put(1)), (2, 3, Saw(None)), (4, 5, Saw(Some(1)))]];
        assert!(!explained(history) && !explained_by_eviction(history));
    }

    #[test]
    fn a_gap_in_an_overwrite_is_rejected() {
        let history: &[&[(u64, u64, What)]] =
            &[&[(0, 1, Put(1)), (2, 9, Put(2))], &[(3, 8, Saw(None))]];
        assert!(!explained(history));
    }

    #[test]
    fn the_report_names_what_does_not_fit() {
        let threads = [thread(&[(0, 1, Put(1)), (2, 3, Put(2))]), thread(&[(4, 5, Saw(Some(1)))])];
        let found = check(&threads, false).expect_err("it went back");
        assert_eq!((found.explained, found.version, found.live), (2, 2, true));
        assert_eq!(found.pending, [(1, threads[1][0])]);
        assert!(found.to_string().contains("thread 1 [4, 5] Saw(Some(1))"), "{found}");
    }

    #[test]
    fn a_long_history_of_many_threads_takes_no_time() {
        // Six threads that overlap all the time, and reads that fit one order only.
        let mut threads = vec![Vec::new(); 6];
        for n in 0..2_000_u64 {
            for (at, events) in (0..).zip(&mut threads) {
                let (called, returned) = (n * 100 + at, n * 100 + 90 + at);
                let what = if at < 3 { Put(n * 3 + at + 1) } else { Saw(Some(n * 3 + at - 2)) };
                events.push(Event { called, returned, what });
            }
        }
        assert_eq!(check(&threads, false), Ok(()));
        threads[4][1_500].what = Saw(Some(1));
        assert!(check(&threads, true).is_err());
    }
}
