//! Random sequences, cut at random calls: nothing durable is lost, and nothing is wrong.
//!
//! `LARDER_CUTS` says how many cuts, `LARDER_SEED` which sequence to begin with.

use std::time::Instant;

use super::fault::Lie;
use super::machine::{EXTERNAL_MIN, Machine, Op, describe, options};
use super::random::Random;
use super::world::Mode;
use crate::disk::builder::Options;
use crate::disk::retain::Retain;

const KEYS: usize = 20;
/// A budget that is soon used up, and one that never is.
const SMALL: u64 = 640 << 10;
const AMPLE: u64 = 8 << 20;

/// What a run did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    sequences: u64,
    cuts: u64,
    calls: u64,
}

/// A number that the environment gives.
pub(super) fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// What a sequence does next.
pub(super) fn draw(random: &mut Random, keys: usize) -> Op {
    let key = u32::try_from(random.below(keys)).unwrap();
    let len = match random.below(16) {
        0 => EXTERNAL_MIN + random.below(12_000),
        1..=4 => 1_000 + random.below(7_000),
        _ => random.below(600),
    };
    match random.below(100) {
        0..=18 => Op::Put { key, len, durable: false },
        19..=24 => Op::Array { key, len, durable: false },
        25..=30 => Op::Tagged { key, len, tag: u8::from(random.once_in(2)) },
        31..=34 => Op::PutIf { key, len },
        35..=37 => Op::Touch { key, hours: 1 + random.next() % 1_000 },
        38..=45 => {
            let (three, durable) = (random.once_in(2), random.once_in(3));
            Op::Batch { key, len, three, durable }
        }
        46..=47 => Op::Invalidate { tag: u8::from(random.once_in(2)) },
        48..=54 => Op::Put { key, len, durable: true },
        55..=56 => Op::Array { key, len, durable: true },
        57..=68 => Op::Remove { key },
        69..=80 => Op::Get { key },
        81..=91 => Op::Sync,
        92 => Op::Clear,
        93 => Op::Compact,
        94..=96 => Op::Reopen,
        _ => Op::Die,
    }
}

/// What sequences are drawn.
#[derive(Debug, Default, Clone, Copy)]
struct Kind {
    lie: Option<Lie>,
    /// Whether there are batches, invalidations and changes on conditions among the operations.
    joint: bool,
}

impl Kind {
    /// What is drawn, or a put in its place.
    fn choose(self, op: Op) -> Op {
        match op {
            Op::Tagged { key, len, .. } | Op::PutIf { key, len } if !self.joint => {
                Op::Put { key, len, durable: false }
            }
            Op::Batch { key, len, durable, .. } if !self.joint => Op::Put { key, len, durable },
            Op::Touch { key, .. } if !self.joint => Op::Get { key },
            Op::Invalidate { .. } if !self.joint => Op::Sync,
            op => op,
        }
    }
}

/// Whether a sequence has a small budget: the first that is drawn.
const fn is_small(random: &mut Random) -> bool {
    random.once_in(3)
}

/// Runs one sequence and checks its cuts, and what is done after them.
fn run_sequence(seed: u64, kind: Kind, tally: &mut Tally) -> Result<(), String> {
    let mut random = Random::new(seed);
    // A small budget evicts; a larger one never does, so that every miss counts.
    let budget = if is_small(&mut random) { SMALL } else { AMPLE };
    let count = 10 + random.below(if budget == SMALL { 400 } else { 100 });
    let writers = if random.once_in(3) { 3 } else { 1 };
    let keeps_all = budget == AMPLE && random.once_in(3);
    let retain = if keeps_all { Retain::All } else { Retain::Recent };
    let options = Options { retain, ..options(budget, writers) };
    let mode = [Mode::Mapped, Mode::Mapped, Mode::Buffered, Mode::Either][random.below(4)];
    let mut machine = Machine::in_mode(mode, seed, KEYS, &options);
    machine.sim.with(|world| {
        world.lie = kind.lie;
        world.cut_odds = 4;
        world.deaths = true;
    });
    for number in 0..count {
        let op = kind.choose(draw(&mut random, KEYS));
        let context =
            |what| format!("seed {seed}, {mode:?}: operation {number} of {count}, {op:?}: {what}");
        machine.run(op).map_err(|error| context(describe(&error)))?;
        for cut in machine.take_cuts() {
            tally.cuts += 1;
            machine.check_cut(cut).map_err(context)?;
        }
        if random.once_in(8) {
            machine.keep_cut();
            for cut in machine.take_cuts() {
                tally.cuts += 1;
                let left = machine.check_cut(cut).map_err(context)?;
                if random.once_in(4) {
                    // On with what is left, as a machine would after a restart.
                    machine = left;
                }
            }
        }
    }
    machine.check_live().map_err(|what| format!("seed {seed}, at its end: {what}"))?;
    tally.sequences += 1;
    tally.calls += machine.sim.with(|world| world.calls());
    Ok(())
}

fn run(first_seed: u64, cuts: u64, kind: Kind) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let mut seed = first_seed;
    while tally.cuts < cuts {
        run_sequence(seed, kind, &mut tally)?;
        seed += 1;
    }
    Ok(tally)
}

#[test]
fn nothing_durable_is_lost_and_nothing_is_wrong() {
    let cuts = number_from("LARDER_CUTS").unwrap_or(1_000);
    let started = Instant::now();
    let tally = run(number_from("LARDER_SEED").unwrap_or(1), cuts, Kind::default()).unwrap();
    let rate = tally.cuts * 1_000 / u64::try_from(started.elapsed().as_millis().max(1)).unwrap();
    println!("{tally:?}, {rate} cuts/s");
}

/// Where nothing is evicted. What is evicted may depend on when the other threads of the process
/// let go of what is unlinked.
#[test]
fn a_seed_repeats_its_run() {
    for seed in (1..=12).filter(|seed| !is_small(&mut Random::new(*seed))) {
        let [mut first, mut second] = [Tally::default(); 2];
        run_sequence(seed, Kind::default(), &mut first).unwrap();
        run_sequence(seed, Kind::default(), &mut second).unwrap();
        assert_eq!(first, second, "seed {seed}");
    }
}

/// What a new file holds is believed only as far as checksums go, or is written first.
#[test]
fn files_need_not_be_born_as_zeros() {
    run(1, 2_000, Kind { lie: Some(Lie::StaleBytes), ..Kind::default() }).unwrap();
}

#[test]
fn catches_a_storage_that_lies() {
    for lie in [
        Lie::Sync,
        Lie::HalfSync,
        Lie::SyncBeforeRename,
        Lie::SyncDir,
        Lie::SyncOfSessions,
        Lie::SameBoot,
    ] {
        let caught = run(1, 2_000, Kind { lie: Some(lie), ..Kind::default() });
        println!("{lie:?}: {}", caught.expect_err("nothing is noticed"));
    }
}

#[test]
fn batches_and_invalidations_are_cut_whole_or_not_at_all() {
    let cuts = number_from("LARDER_CUTS").unwrap_or(1_000);
    let seed = number_from("LARDER_SEED").unwrap_or(1);
    run(seed, cuts, Kind { joint: true, ..Kind::default() }).unwrap();
}
