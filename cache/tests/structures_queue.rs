//! Promise: a deque is one, whatever store it is in: the behaviours of a double-ended queue with
//! positions, against a `VecDeque`, over reopening, and with many threads at once.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod common;
#[path = "common/grounds.rs"]
mod grounds;

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::thread;

use common::Random;
use grounds::{clock, grounds, on_disk};
use larder::structures::{Deque, Structures};
use larder::{Error, Rejection};

fn letters(deque: &Deque<char>) -> String {
    deque.iter().unwrap().map(Result::unwrap).collect()
}

fn deque_of(structures: &Structures, name: &str, text: &str) -> Deque<char> {
    let deque = structures.deque(name).unwrap();
    deque.extend(text.chars()).unwrap();
    deque
}

#[test]
fn both_ends_and_all_positions() {
    for ground in grounds() {
        let deque = ground.structures.deque::<u32>("d").unwrap();
        assert_eq!((deque.pop_front().unwrap(), deque.back().unwrap()), (None, None));
        deque.extend(0..5).unwrap();
        deque.push_front(9).unwrap();
        // 9 0 1 2 3 4
        assert_eq!((deque.len().unwrap(), deque.is_empty().unwrap()), (6, false));
        assert_eq!((deque.front().unwrap(), deque.back().unwrap()), (Some(9), Some(4)));
        let at: Vec<_> = (-7..7).map(|index| deque.get(index).unwrap()).collect();
        let all = [9, 0, 1, 2, 3, 4].map(Some);
        assert_eq!(at, [&[None][..], &all, &all, &[None]].concat(), "{}", ground.name);
        assert!(deque.set(-1, 40).unwrap() && deque.set(0, 90).unwrap());
        assert!(!deque.set(6, 0).unwrap() && !deque.set(-7, 0).unwrap());
        assert_eq!(deque.remove(2).unwrap(), Some(1));
        assert_eq!(deque.remove(-2).unwrap(), Some(3));
        assert_eq!(deque.remove(4).unwrap(), None);
        assert!(deque.equals([90, 0, 2, 40]).unwrap());
        assert_eq!((deque.get(1).unwrap(), deque.get(-2).unwrap()), (Some(0), Some(2)));
        let reversed: Vec<u32> = deque.iter().unwrap().rev().map(Result::unwrap).collect();
        assert_eq!(reversed, [40, 2, 0, 90]);
        let mut both = deque.iter().unwrap();
        assert_eq!(both.next().unwrap().unwrap(), 90);
        assert_eq!(both.next_back().unwrap().unwrap(), 40);
        assert_eq!(both.map(Result::unwrap).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(deque.clear().unwrap(), 4);
        assert!(deque.is_empty().unwrap() && deque.get(0).unwrap().is_none());
        deque.push_back(1).unwrap();
        assert!(deque.equals([1]).unwrap());
        assert_eq!(deque.lost().unwrap(), 0);
    }
}

#[test]
fn rotation_goes_round_in_both_directions() {
    for ground in grounds() {
        let deque = deque_of(&ground.structures, "d", "abcde");
        deque.rotate(3).unwrap();
        assert_eq!(letters(&deque), "cdeab", "{}", ground.name);
        deque.rotate(-3).unwrap();
        assert_eq!(letters(&deque), "abcde");
        deque.rotate(-1).unwrap();
        assert_eq!(letters(&deque), "bcdea");
        for by in [0, 5, -5, 10, i64::MIN + 3, i64::MAX - 2] {
            let before = letters(&deque);
            deque.rotate(by).unwrap();
            let mut model: VecDeque<char> = before.chars().collect();
            model.rotate_right(usize::try_from(by.rem_euclid(5)).unwrap());
            assert!(deque.equals(model).unwrap(), "by {by}");
        }
        deque.reverse().unwrap();
        let turned = letters(&deque);
        deque.rotate(1).unwrap();
        assert_eq!(letters(&deque), format!("{}{}", &turned[4..], &turned[..4]));
        let empty = ground.structures.deque::<char>("empty").unwrap();
        empty.rotate(1).unwrap();
        assert!(empty.is_empty().unwrap());
        let long = ground.structures.deque::<u32>("long").unwrap();
        long.extend(0..300).unwrap();
        long.rotate(140).unwrap();
        assert!(long.equals((160..300).chain(0..160)).unwrap(), "in several steps");
    }
}

#[test]
fn a_bound_takes_out_at_the_other_end() {
    for ground in grounds() {
        let deque = deque_of(&ground.structures, "d", "abcdefghij");
        assert_eq!(deque.max_len().unwrap(), None);
        deque.set_max_len(Some(5)).unwrap();
        assert_eq!(letters(&deque), "fghij", "the newest stay");
        deque.push_back('k').unwrap();
        assert_eq!(letters(&deque), "ghijk");
        deque.push_front('x').unwrap();
        assert_eq!(letters(&deque), "xghij");
        deque.extend("lmnopqr".chars()).unwrap();
        assert_eq!(letters(&deque), "nopqr");
        deque.extend_front("xy".chars()).unwrap();
        assert_eq!(letters(&deque), "yxnop", "{}", ground.name);
        deque.reverse().unwrap();
        deque.push_back('z').unwrap();
        assert_eq!(letters(&deque), "onxyz");
        // Another handle knows the bound: it is the deque's.
        let same = ground.structures.deque::<char>("d").unwrap();
        assert_eq!(same.max_len().unwrap(), Some(5));
        same.set_max_len(None).unwrap();
        deque.push_back('q').unwrap();
        assert_eq!(deque.len().unwrap(), 6);
        deque.set_max_len(Some(0)).unwrap();
        deque.push_back('r').unwrap();
        assert_eq!(letters(&deque), "");
    }
}

#[test]
fn values_are_found_counted_and_taken_out_once() {
    for ground in grounds() {
        let deque = deque_of(&ground.structures, "d", "abracadabra");
        assert_eq!(deque.count(&'a').unwrap(), 5);
        assert_eq!(deque.count(&'z').unwrap(), 0);
        assert!(deque.contains(&'d').unwrap() && !deque.contains(&'z').unwrap());
        assert!(deque.remove_value(&'b').unwrap());
        assert_eq!(letters(&deque), "aracadabra", "the first only");
        assert!(!deque.remove_value(&'z').unwrap());
        assert_eq!(deque.get(3).unwrap(), Some('c'));
        let compare = |other: &str| deque.compare(other.chars()).unwrap().unwrap();
        assert_eq!(compare("aracadabra"), Ordering::Equal);
        assert_eq!(
            (compare("aracadabrb"), compare("aracadab")),
            (Ordering::Less, Ordering::Greater)
        );
        assert_eq!((compare("arz"), compare("aracadabraa")), (Ordering::Less, Ordering::Less));
        assert!(!deque.equals("aracadabr".chars()).unwrap());
        assert!(!deque.equals("aracadabraa".chars()).unwrap());
    }
}

#[test]
fn it_does_what_a_deque_in_memory_does() {
    for (ground, seed) in grounds().into_iter().zip(7..) {
        let mut random = Random(seed);
        let deque = ground.structures.deque::<u64>("d").unwrap();
        let mut model = VecDeque::new();
        for step in 0..1_500 {
            let value = random.below(20);
            let index = i64::try_from(random.below(40)).unwrap() - 20;
            let at = if index < 0 { index + model.len() as i64 } else { index };
            let at = usize::try_from(at).ok().filter(|at| *at < model.len());
            match random.below(15) {
                0..3 => {
                    deque.push_back(value).unwrap();
                    model.push_back(value);
                }
                3..5 => {
                    deque.push_front(value).unwrap();
                    model.push_front(value);
                }
                5 => assert_eq!(deque.pop_back().unwrap(), model.pop_back()),
                6 => assert_eq!(deque.pop_front().unwrap(), model.pop_front()),
                7 => {
                    assert_eq!(deque.set(index, value).unwrap(), at.is_some());
                    if let Some(at) = at {
                        model[at] = value;
                    }
                }
                8 => assert_eq!(deque.remove(index).unwrap(), at.and_then(|at| model.remove(at))),
                9 => {
                    let found = model.iter().position(|other| *other == value);
                    assert_eq!(deque.remove_value(&value).unwrap(), found.is_some());
                    found.map(|at| model.remove(at));
                }
                10 => {
                    deque.rotate(index).unwrap();
                    if !model.is_empty() {
                        let by = index.rem_euclid(model.len() as i64);
                        model.rotate_right(usize::try_from(by).unwrap());
                    }
                }
                11 => {
                    deque.reverse().unwrap();
                    model.make_contiguous().reverse();
                }
                12 => {
                    deque.extend([value, value + 1]).unwrap();
                    model.extend([value, value + 1]);
                }
                13 if value == 0 => {
                    let keep = random.below(30);
                    deque.set_max_len(Some(keep)).unwrap();
                    deque.set_max_len(None).unwrap();
                    let over = model.len().saturating_sub(usize::try_from(keep).unwrap());
                    model.drain(..over);
                }
                14 if value < 2 => {
                    assert_eq!(deque.clear().unwrap(), model.len() as u64);
                    model.clear();
                }
                _ => {
                    let expected = at.map(|at| model[at]);
                    assert_eq!(deque.get(index).unwrap(), expected, "{step}");
                }
            }
            assert_eq!(deque.len().unwrap(), model.len() as u64, "{}, {step}", ground.name);
        }
        assert!(deque.equals(model).unwrap(), "{}", ground.name);
    }
}

#[test]
fn many_holes_in_the_middle_are_closed() {
    for ground in grounds() {
        let deque = ground.structures.deque::<u32>("d").unwrap();
        deque.extend(0..700).unwrap();
        let mut model: Vec<u32> = (0..700).collect();
        // Every other one of the middle, which leaves more holes than are kept.
        for at in 50..350 {
            assert_eq!(deque.remove(at).unwrap(), Some(model.remove(usize::try_from(at).unwrap())));
        }
        assert!(deque.equals(model.iter().copied()).unwrap(), "{}", ground.name);
        assert_eq!(deque.get(200).unwrap(), Some(model[200]));
    }
}

#[test]
fn it_is_there_when_the_store_is_opened_again() {
    let (home, clock) = (tempfile::tempdir().unwrap(), clock());
    let open = || on_disk(&home.path().join("store"), &clock);
    let structures = open();
    let deque = structures.deque::<String>("d").unwrap();
    deque.extend((0..100).map(|n| n.to_string())).unwrap();
    deque.reverse().unwrap();
    deque.remove(50).unwrap();
    deque.set_max_len(Some(60)).unwrap();
    // Dropped without being closed, as a process that dies.
    drop((deque, structures));
    let structures = open();
    let deque = structures.deque::<String>("d").unwrap();
    assert_eq!((deque.len().unwrap(), deque.max_len().unwrap()), (60, Some(60)));
    let rest = (0..61).rev().filter(|n| *n != 49).map(|n| n.to_string());
    assert!(deque.equals(rest).unwrap());
    deque.push_back("new".to_owned()).unwrap();
    assert_eq!(deque.pop_front().unwrap().as_deref(), Some("59"));
}

#[test]
fn each_item_is_taken_once_in_the_order_in_which_its_thread_added_it() {
    const THREADS: u32 = 4;
    const EACH: u32 = 150;
    for ground in grounds() {
        let deque = ground.structures.deque::<(u32, u32)>("d").unwrap();
        let taken: Vec<Vec<(u32, u32)>> = thread::scope(|scope| {
            for thread in 0..THREADS {
                let deque = deque.clone();
                scope.spawn(move || {
                    for number in 0..EACH {
                        deque.push_back((thread, number)).unwrap();
                    }
                });
            }
            let takers: Vec<_> = (0..2)
                .map(|_| {
                    let deque = deque.clone();
                    scope.spawn(move || {
                        let mut taken = Vec::new();
                        while taken.len() < (THREADS * EACH / 2) as usize {
                            match deque.pop_front().unwrap() {
                                Some(item) => taken.push(item),
                                None => thread::yield_now(),
                            }
                        }
                        taken
                    })
                })
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).collect()
        });
        for taken in &taken {
            for thread in 0..THREADS {
                let own = taken.iter().filter(|item| item.0 == thread).map(|item| item.1);
                assert!(own.is_sorted(), "{}", ground.name);
            }
        }
        let all: BTreeSet<_> = taken.concat().into_iter().collect();
        assert_eq!(all.len(), (THREADS * EACH) as usize);
        assert_eq!((deque.len().unwrap(), deque.lost().unwrap()), (0, 0));
    }
}

#[test]
fn positions_hold_while_others_turn_the_deque_round() {
    for ground in grounds() {
        let deque = ground.structures.deque::<u32>("d").unwrap();
        deque.extend(0..20).unwrap();
        thread::scope(|scope| {
            let turner = deque.clone();
            let turning = scope.spawn(move || {
                for _ in 0..200 {
                    turner.rotate(1).unwrap();
                }
            });
            while !turning.is_finished() {
                // Whatever the rotation, these two are never missing.
                assert!(deque.get(0).unwrap().is_some());
                assert!(deque.get(-1).unwrap().is_some());
            }
        });
        assert!(deque.equals(0..20).unwrap(), "{}", ground.name);
        assert_eq!(deque.lost().unwrap(), 0, "{}", ground.name);
    }
}

#[test]
fn a_full_store_refuses_and_leaves_everything_as_it_was() {
    let structures = Structures::in_memory(20_000).unwrap();
    let deque = structures.deque::<Vec<u8>>("d").unwrap();
    let mut count = 0;
    let refused = loop {
        match deque.push_back(vec![0; 500]) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Rejected { why: Rejection::Full { .. } }), "{refused:?}");
    assert_eq!((deque.len().unwrap(), count > 10), (count, true));
    assert_eq!(deque.pop_front().unwrap().map(|item| item.len()), Some(500));
    deque.push_back(vec![1; 500]).unwrap();
    assert_eq!(deque.back().unwrap(), Some(vec![1; 500]));
}

#[test]
fn an_item_of_another_codec_is_an_error_and_stays() {
    let structures = Structures::in_memory(1 << 20).unwrap();
    structures.deque::<String>("d").unwrap().push_back("text".to_owned()).unwrap();
    let numbers = structures.deque::<u64>("d").unwrap();
    assert!(matches!(numbers.pop_front(), Err(Error::Decode { .. })));
    assert!(matches!(numbers.front(), Err(Error::Decode { .. })));
    let texts = structures.deque::<String>("d").unwrap();
    assert_eq!(texts.pop_front().unwrap().as_deref(), Some("text"));
}
