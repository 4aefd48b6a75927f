//! What [`Adaptive`] promises: to follow the best of what it can be, cheaply.

use std::collections::VecDeque;

use super::super::model::{Model, Order, check_against_model};
use super::super::{Lirs, Lru, S3Fifo, WTinyLfu, mix};
use super::ghosts::Ghosts;
use super::*;
use crate::memory::policy::sketch::Sketch;
use crate::memory::simulate::{Request, Simulate, Simulator, Tally};

/// One setting for ever.
#[derive(Debug)]
struct Fixed(Queues);

impl Fixed {
    fn new(setting: Setting) -> Self {
        let mut queues = Queues::fixed(setting);
        queues.cover_history(128);
        Self(queues)
    }
}

impl Policy for Fixed {
    fn on_hit(&self) -> OnHit {
        self.0.on_hit()
    }
    fn arrive(&mut self, hash: u64, weight: u64, entries: &dyn Entries) -> Arrival {
        self.0.arrive(hash, weight, entries)
    }
    fn insert(&mut self, id: u32, arrival: Arrival, entries: &dyn Entries) {
        self.0.insert(id, arrival, entries);
    }
    fn overwrite(&mut self, id: u32, old_weight: u64, entries: &dyn Entries) {
        self.0.overwrite(id, old_weight, entries);
    }
    fn remove(&mut self, id: u32, entries: &dyn Entries) {
        self.0.remove(id, entries);
    }
    fn victim(&mut self, arrival: Arrival, entries: &dyn Entries) -> Option<u32> {
        self.0.victim(arrival, entries)
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn clear(&mut self) {
        self.0.clear();
    }
    fn spare(&mut self, id: u32, entries: &dyn Entries) {
        self.0.spare(id, entries);
    }
    fn order(&self, entries: &dyn Entries, f: &mut dyn FnMut(u32) -> bool) {
        self.0.order(entries, f);
    }
    fn validate(&self, entries: &dyn Entries) -> Result<(), String> {
        self.0.validate(entries)
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    weight: u64,
    hits: u8,
}

/// The structure on plain queues with the oldest in front. Sketch and ghosts are the same:
/// they are inexact, and tested on their own.
#[derive(Debug)]
struct Plain {
    setting: Setting,
    window: VecDeque<Entry>,
    main: VecDeque<Entry>,
    full: bool,
    sketch: Sketch,
    ghosts: Ghosts,
}

fn weight(queue: &VecDeque<Entry>) -> u64 {
    queue.iter().map(|entry| entry.weight).sum()
}

impl Plain {
    fn new(setting: Setting) -> Self {
        let (mut sketch, ghosts) = (Sketch::default(), Ghosts::default());
        sketch.cover(128);
        let (window, main) = (VecDeque::new(), VecDeque::new());
        Self { setting, window, main, full: false, sketch, ghosts }
    }

    fn entry(&mut self, key: u64) -> Option<&mut Entry> {
        self.window.iter_mut().chain(&mut self.main).find(|entry| entry.key == key)
    }

    fn window_max(&self, capacity: u64) -> u64 {
        if self.setting.clock { u64::MAX } else { (capacity * self.setting.window / 100).max(1) }
    }

    fn known(&mut self, key: u64, capacity: u64) -> u8 {
        let limit = capacity * self.setting.ghosts / 100;
        u8::from(self.setting.ghosts > 0 && self.ghosts.take(mix(key), limit))
    }

    fn leave(&mut self, entry: Entry, capacity: u64) -> Option<u64> {
        if self.setting.ghosts > 0 {
            self.ghosts.push(mix(entry.key), entry.weight, capacity);
        }
        Some(entry.key)
    }

    /// Brings an entry without hits to the front of main.
    fn turn_main(&mut self) -> Option<Entry> {
        while self.main.front()?.hits > 0 {
            let mut entry = self.main.pop_front()?;
            let taken = if self.setting.clock { entry.hits } else { 1 };
            entry.hits -= taken;
            self.sketch.raise(mix(entry.key), taken);
            self.main.push_back(entry);
        }
        self.main.front().copied()
    }
}

impl Model for Plain {
    fn hit(&mut self, key: u64) {
        self.entry(key).into_iter().for_each(|entry| entry.hits = (entry.hits + 1).min(3));
    }

    fn arrive(&mut self, key: u64, _weight: u64, capacity: u64) -> u8 {
        self.sketch.raise(mix(key), 1);
        self.known(key, capacity)
    }

    fn evict(&mut self, capacity: u64, _arrival: u8) -> Option<u64> {
        self.full = true;
        let window_max = self.window_max(capacity);
        let mut moves = 4;
        while weight(&self.window) > window_max || self.main.is_empty() {
            let mut entry = self.window.pop_front()?;
            let room = weight(&self.main).saturating_add(window_max) < capacity;
            if moves > 0 && room && weight(&self.window) > window_max {
                moves -= 1;
                self.main.push_back(entry);
                continue;
            }
            let hits = std::mem::take(&mut entry.hits);
            if hits > 0 {
                self.sketch.raise(mix(entry.key), hits);
            }
            if self.setting.clock && hits > 0 {
                self.window.push_back(entry);
                continue;
            }
            if hits >= self.setting.promote_at {
                self.main.push_back(entry);
                continue;
            }
            if !self.setting.by_frequency {
                return self.leave(entry, capacity);
            }
            let Some(rival) = self.turn_main() else {
                self.main.push_back(entry);
                continue;
            };
            if self.sketch.estimate(mix(entry.key)) <= self.sketch.estimate(mix(rival.key)) {
                return self.leave(entry, capacity);
            }
            self.main.pop_front();
            self.main.push_back(entry);
            return self.leave(rival, capacity);
        }
        let entry = self.turn_main()?;
        self.main.pop_front();
        self.leave(entry, capacity)
    }

    fn insert(&mut self, key: u64, weight: u64, capacity: u64, arrival: u8) {
        let queue = if arrival > 0 { &mut self.main } else { &mut self.window };
        queue.push_back(Entry { key, weight, hits: 0 });
        if self.setting.ghosts > 0 {
            self.ghosts.cover(self.window.len() + self.main.len());
        }
        if !self.full && self::weight(&self.window) > self.window_max(capacity) {
            self.main.extend(self.window.pop_front());
        }
    }

    fn overwrite(&mut self, key: u64, weight: u64) {
        self.entry(key).into_iter().for_each(|entry| entry.weight = weight);
    }

    fn remove(&mut self, key: u64) {
        self.window.retain(|entry| entry.key != key);
        self.main.retain(|entry| entry.key != key);
    }

    fn spare(&mut self, key: u64, weight: u64, capacity: u64) {
        let arrival = self.known(key, capacity);
        self.insert(key, weight, capacity, arrival);
    }
}

#[test]
fn every_setting_does_what_the_plain_queues_do() {
    for setting in SETTINGS {
        check_against_model(|| Fixed::new(setting), || Plain::new(setting), Order::Complete);
    }
}

/// Numbers that are always the same.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A rank below 2^`bits`: each power of two has as many draws, as in Zipf's law.
    fn rank(&mut self, bits: u64) -> u64 {
        let octave = self.below(bits);
        (1 << octave) + self.below(1 << octave)
    }
}

const LEN: u64 = 40_000;

fn skewed() -> Vec<u64> {
    let mut draws = Draws(1);
    (0..LEN).map(|_| draws.rank(14)).collect()
}

fn loops() -> Vec<u64> {
    (0..LEN).map(|at| at % 3_000).collect()
}

fn one_hit_wonders() -> Vec<u64> {
    let mut draws = Draws(2);
    (0..LEN).map(|at| if at % 2 == 0 { draws.rank(14) } else { (1 << 32) | at }).collect()
}

/// Every key is used for some time after it appears, and then never again.
fn moving() -> Vec<u64> {
    let mut draws = Draws(3);
    (0..LEN).map(|at| at / 8 + draws.rank(9)).collect()
}

/// Every key is used once more soon, or never; among it, some that stay popular.
fn bursts() -> Vec<u64> {
    let mut draws = Draws(4);
    let one = |at: u64| match at % 4 {
        0 => draws.rank(12),
        _ => (1 << 32) | (at / 3 * 2).saturating_sub(draws.below(300)),
    };
    (0..LEN).map(one).collect()
}

fn scans() -> Vec<u64> {
    let mut draws = Draws(5);
    let one = |at: u64| if at % 12_000 < 8_000 { draws.rank(13) } else { (1 << 32) | at };
    (0..LEN).map(one).collect()
}

/// All of them, one after the other.
fn phases() -> Vec<u64> {
    let parts = [skewed(), loops(), moving(), one_hit_wonders()].into_iter().enumerate();
    let part =
        |(at, keys): (usize, Vec<u64>)| keys.into_iter().map(move |key| key + ((at as u64) << 40));
    parts.flat_map(part).collect()
}

fn misses<P: Policy>(policy: P, capacity: u64, keys: &[u64]) -> f64 {
    let requests: Vec<Request> = keys.iter().copied().map(Request::new).collect();
    let (mut cache, mut tally) = (Simulator::new(policy, capacity), Tally::default());
    cache.run(&requests, &mut tally);
    100.0 * (1.0 - tally.hit_ratio())
}

#[test]
fn it_is_near_the_best_on_every_kind_of_load() {
    let loads: [(&str, Vec<u64>); 6] = [
        ("skewed", skewed()),
        ("loops", loops()),
        ("one-hit wonders", one_hit_wonders()),
        ("moving", moving()),
        ("bursts", bursts()),
        ("scans", scans()),
    ];
    for (name, keys) in loads {
        for capacity in [100, 1_000] {
            let best = [
                misses(Lru::default(), capacity, &keys),
                misses(S3Fifo::default(), capacity, &keys),
                misses(Lirs::default(), capacity, &keys),
                misses(WTinyLfu::default(), capacity, &keys),
            ];
            let own = misses(Adaptive::default(), capacity, &keys);
            let best = best.into_iter().fold(f64::INFINITY, f64::min);
            assert!(own < best + 3.0, "{name}, {capacity} entries: {own:.2} % against {best:.2} %");
        }
    }
}

#[test]
fn it_beats_every_single_policy_when_the_load_changes() {
    let (keys, capacity) = (phases(), 1_000);
    let own = misses(Adaptive::default(), capacity, &keys);
    let others = [
        misses(Lru::default(), capacity, &keys),
        misses(S3Fifo::default(), capacity, &keys),
        misses(Lirs::default(), capacity, &keys),
        misses(WTinyLfu::default(), capacity, &keys),
    ];
    assert!(others.into_iter().all(|other| own < other), "{own:.2} % against {others:.2?}");
}

#[test]
fn the_same_requests_give_the_same_misses() {
    let keys = phases();
    let one = misses(Adaptive::default(), 300, &keys);
    assert_eq!(one.to_bits(), misses(Adaptive::default(), 300, &keys).to_bits());
}

#[test]
fn advice_is_cheap() {
    /// An entry of 100 bytes and what a tier adds to it.
    const ENTRY_BYTES: usize = 160;
    for (entries, limit) in [(100, 2_500), (1_000, 200), (12_500, 20), (100_000, 3)] {
        let mut draws = Draws(6);
        let mut cache = Simulator::new(Adaptive::default(), entries);
        for _ in 0..5 * entries {
            cache.request(&Request::new(draws.below(3 * entries)));
        }
        let entries = cache.len();
        let (advice, all) = (cache.policy().advice_bytes(), cache.policy().allocated_bytes());
        assert!(advice < 40_000, "{advice} bytes for {entries} entries");
        assert!(
            1_000 * advice < limit * ENTRY_BYTES * entries,
            "{advice} bytes are more than {limit} in a thousand of {entries} entries",
        );
        assert!(all < advice + 45 * entries + 20_000, "{all} bytes for {entries} entries");
    }
}

#[test]
fn few_hits_are_replayed_in_a_large_cache_and_not_always_in_a_small_one() {
    let mut large = Simulator::new(Adaptive::default(), 100_000);
    (0..300_000).for_each(|key| {
        large.request(&Request::new(key));
    });
    let sample = large.policy().sample();
    assert_eq!(sample.map(u64::count_ones), Some(10), "one in 1,024");

    let mut small = Simulator::new(Adaptive::default(), 100);
    let mut draws = Draws(7);
    let (mut awake, requests) = (0, 150_000);
    for _ in 0..requests {
        small.request(&Request::new(draws.rank(14)));
        awake += u64::from(small.policy().sample().is_some());
    }
    assert!(awake < requests / 10 * 7, "awake for {awake} of {requests} requests");
}

#[test]
fn weights_removals_and_a_fresh_start() {
    let mut draws = Draws(8);
    let mut cache = Simulator::new(Adaptive::default(), 20_000);
    for step in 0..60_000_u64 {
        let key = draws.rank(13);
        match draws.below(20) {
            0 => drop(cache.remove(key)),
            1 => cache.overwrite(&Request::new(key).weighing(draws.below(90)), |_| ()),
            _ => drop(cache.request(&Request::new(key).weighing(key % 90))),
        }
        if step % 5_000 == 0 {
            assert_eq!(cache.validate(), Ok(()));
            assert!(cache.weight() <= 20_000);
        }
    }
    let mut policy = Adaptive::default();
    policy.clear();
    assert_eq!((policy.len(), policy.sample()), (0, Some(0)));
}
