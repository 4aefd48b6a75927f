//! Promise: conditional puts, additions, takings and reads of a key from many threads have an
//! order that explains what each returned, and that keeps to the order of calls.
//!
//! Method: threads at few keys, whose values never come twice, so that each change says which
//! value it led from and to. The changes of a key then form chains, from nothing through
//! values to nothing. A history has such an order if no value is made or left twice, if each
//! chain can keep to the order of calls, and if no two chains have to come before each other
//! (after Gibbons and Korach, Testing Shared Memories, 1997).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use larder_engine::conformance::Random;
use larder_engine::{Atomic, Disk, Engine, Expected, Outcome, Put};

/// What an operation did to a key: led from a value to another, or looked. `None` is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Event {
    called: u64,
    returned: u64,
    from: Option<i64>,
    to: Option<i64>,
}

/// Events in the order that they must have had, where those that only looked at one value have
/// any order among themselves.
type Chain = Vec<Event>;

/// Puts the changes of a key in chains.
fn chains(events: &[Event]) -> Result<Vec<Chain>, String> {
    let (mut makers, mut leavers, mut looks) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut chains = Vec::new();
    for event in events {
        match (event.from, event.to) {
            (None, None) => chains.push(vec![*event]),
            (from, to) if from == to => looks.entry(from).or_insert_with(Vec::new).push(*event),
            (from, to) => {
                if let Some(to) = to
                    && let Some(other) = makers.insert(to, *event)
                {
                    return Err(format!("{to} is made twice: {other:?}, {event:?}"));
                }
                if let Some(from) = from
                    && let Some(other) = leavers.insert(from, *event)
                {
                    return Err(format!("{from} is left twice: {other:?}, {event:?}"));
                }
            }
        }
    }
    let begins: Vec<_> = makers.values().filter(|event| event.from.is_none()).copied().collect();
    for begin in begins {
        let (mut chain, mut value) = (vec![begin], begin.to);
        while let Some(now) = value {
            let seen = looks.remove(&Some(now)).unwrap_or_default();
            let next = leavers.remove(&now);
            let (made, left) = (chain.last().unwrap(), next.map(|next: Event| next.returned));
            if let Some(early) = seen.iter().find(|look| look.returned < made.called) {
                return Err(format!("{early:?} before {made:?}"));
            }
            if let Some(late) = seen.iter().find(|look| left.is_some_and(|at| at < look.called)) {
                return Err(format!("{late:?} after {now} was left"));
            }
            chain.extend(seen);
            chain.extend(next);
            value = next.and_then(|next| next.to);
        }
        chains.push(chain);
    }
    if let Some(stray) = leavers.values().next().or_else(|| looks.values().flatten().next()) {
        return Err(format!("{stray:?} leads from a value that nobody made"));
    }
    Ok(chains)
}

/// Whether the events of a key have an order.
fn check(events: &[Event]) -> Result<(), String> {
    let chains = chains(events)?;
    for chain in &chains {
        // Looks at one value may have any order among themselves.
        let (mut latest, mut latest_look) = (0, 0);
        for event in chain {
            let is_change = event.from != event.to;
            if is_change {
                latest = latest.max(latest_look);
            }
            if event.returned < latest {
                return Err(format!("{event:?} had returned before what it follows was called"));
            }
            if is_change {
                latest = latest.max(event.called);
            } else {
                latest_look = latest_look.max(event.called);
            }
        }
    }
    // A chain has to come before another if one of its events returned before one of the
    // other's was called.
    let ends: Vec<_> = chains
        .iter()
        .map(|chain| {
            let first = chain.iter().map(|event| event.returned).min().unwrap();
            (first, chain.iter().map(|event| event.called).max().unwrap(), chain)
        })
        .collect();
    for (number, (first, last, chain)) in ends.iter().enumerate() {
        for (other_first, other_last, other) in &ends[number + 1..] {
            if first < other_last && other_first < last {
                return Err(format!("{chain:?} and {other:?} are both before the other"));
            }
        }
    }
    Ok(())
}

/// What a thread does to some keys, one operation after the other.
fn work(disk: &Disk, ticks: &AtomicU64, id: u64, keys: u8) -> Vec<(u8, Event)> {
    let mut random = Random::new(id);
    let mut events = Vec::new();
    let number = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().unwrap());
    let put = Put::default();
    for step in 0..600 {
        let key = u8::try_from(random.below(usize::from(keys))).unwrap();
        let name = [key];
        // Far apart, as additions count up from them.
        let fresh = (i64::try_from(id).unwrap() << 40) | (step << 16);
        let called = ticks.fetch_add(1, Ordering::SeqCst);
        let (from, to) = match random.below(10) {
            0..3 => match disk.put_if(&name, &fresh.to_le_bytes(), &put, Expected::Absent).unwrap()
            {
                Outcome::Admitted { .. } => (None, Some(fresh)),
                _ => continue,
            },
            3..5 => {
                // A look and a change: two events, of which only the second is noted if it
                // takes place.
                let Some(old) = disk.get(&name).unwrap() else { continue };
                let expected = Expected::Version(old.meta().version);
                match disk.put_if(&name, &fresh.to_le_bytes(), &put, expected).unwrap() {
                    Outcome::Admitted { .. } => (Some(number(&old)), Some(fresh)),
                    Outcome::Conflict { version } => {
                        assert_ne!(version, Some(old.meta().version));
                        continue;
                    }
                    refused @ (Outcome::Rejected(_) | Outcome::Blocked) => panic!("{refused:?}"),
                }
            }
            5..8 => match disk.add_to(&name, 1, None, &put).unwrap() {
                Some(sum) => (Some(sum - 1), Some(sum)),
                None => (None, None),
            },
            8 => (disk.take(&name).unwrap().map(|taken| number(&taken)), None),
            _ => {
                let seen = disk.get(&name).unwrap().map(|seen| number(&seen));
                (seen, seen)
            }
        };
        let returned = ticks.fetch_add(1, Ordering::SeqCst);
        events.push((key, Event { called, returned, from, to }));
    }
    events
}

#[test]
fn changes_from_many_threads_have_an_order() {
    const KEYS: u8 = 3;
    for round in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let disk =
            Disk::builder(dir.path().join("store")).budget(32 << 20).writers(3).open().unwrap();
        let ticks = AtomicU64::new(0);
        let events: Vec<_> = thread::scope(|scope| {
            let (disk, ticks) = (&disk, &ticks);
            let threads: Vec<_> = (1..=4)
                .map(|id| scope.spawn(move || work(disk, ticks, round * 4 + id, KEYS)))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert!(events.len() > 500, "{} events", events.len());
        for key in 0..KEYS {
            let of_key: Vec<_> =
                events.iter().filter(|(of, _)| *of == key).map(|(_, event)| *event).collect();
            check(&of_key).unwrap_or_else(|what| panic!("round {round}, key {key}: {what}"));
        }
    }
}

#[test]
fn what_has_no_order_is_noticed() {
    let event = |called, returned, from, to| Event { called, returned, from, to };
    let good = [
        event(0, 1, None, Some(1)),
        event(2, 9, Some(1), Some(2)),
        event(3, 4, Some(2), Some(2)),
        event(5, 6, Some(2), None),
        event(7, 8, None, None),
        event(10, 11, None, Some(3)),
    ];
    assert_eq!(check(&good), Ok(()));
    let bad = [
        // Two changes of one value; two takings of it; one value made twice.
        vec![
            event(0, 1, None, Some(1)),
            event(2, 9, Some(1), Some(2)),
            event(3, 8, Some(1), Some(3)),
        ],
        vec![event(0, 1, None, Some(1)), event(2, 9, Some(1), None), event(3, 8, Some(1), None)],
        vec![event(0, 9, None, Some(1)), event(1, 8, None, Some(1))],
        // A value before it was made, after it was left, and one that nobody made.
        vec![event(0, 1, Some(1), Some(1)), event(2, 3, None, Some(1))],
        vec![event(0, 1, None, Some(1)), event(2, 3, Some(1), None), event(4, 5, Some(1), Some(1))],
        vec![event(0, 1, Some(7), None)],
        // Nothing there while something was; two that were added while one was there.
        vec![event(0, 1, None, Some(1)), event(2, 3, None, None), event(4, 5, Some(1), None)],
        vec![event(0, 1, None, Some(1)), event(2, 3, None, Some(2)), event(4, 5, Some(1), None)],
    ];
    for history in bad {
        assert!(check(&history).is_err(), "{history:?}");
    }
}
