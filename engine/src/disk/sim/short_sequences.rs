//! All short sequences of operations, cut before every call that changes something.
//!
//! After ACE (Mohan et al., OSDI 2018): most bugs of this kind show in three operations or
//! fewer, if all are tried. `LARDER_SHORT=all` runs every sequence; otherwise every 100th of
//! those of three operations.

use std::time::Instant;

use super::Sim;
use super::fault::Lie;
use super::ledger::{End, Ledger};
use super::machine::{EXTERNAL_MIN, Machine, Op, describe, options};
use super::world::Mode;

const KEYS: usize = 5;
/// Cuts at each place: what the disk holds least, most, and two at random.
const VARIANTS: usize = 4;
/// A large value.
const LARGE: usize = EXTERNAL_MIN + 3_000;

const fn put(key: u32, len: usize, durable: bool) -> Op {
    Op::Put { key, len, durable }
}

/// What is there before: one key durable, one not, one large, one removed.
const BEFORE: [Op; 7] = [
    put(0, 100, true),
    put(2, LARGE, true),
    put(3, 50, true),
    Op::Remove { key: 3 },
    Op::Sync,
    put(1, 100, false),
    put(2, LARGE + 1, false),
];

/// The kinds of operations. The last fills a segment, so that the next one is begun.
const KINDS: [&[Op]; 14] = [
    &[put(0, 200, false)],
    &[put(0, 200, true)],
    &[put(4, 30, true)],
    &[put(0, LARGE, false)],
    &[put(2, LARGE, true)],
    &[put(2, 10, false)],
    &[Op::Remove { key: 0 }],
    &[Op::Remove { key: 2 }],
    &[Op::Sync],
    &[Op::Reopen],
    &[Op::Clear],
    &[Op::Compact],
    // The last of the three is large.
    &[Op::Batch { key: 0, len: LARGE / 2, three: true, durable: false }],
    &[
        put(3, 8_000, false),
        put(3, 8_000, false),
        put(3, 8_000, false),
        put(3, 8_000, false),
        put(3, 8_000, false),
        put(3, 8_000, false),
        put(3, 8_000, false),
    ],
];

/// Runs a sequence and checks every cut in it. Returns how many there were.
fn run_sequence(
    number: usize,
    kinds: &[usize],
    mode: Mode,
    lie: Option<Lie>,
) -> Result<u64, String> {
    let mut machine = Machine::in_mode(mode, number as u64, KEYS, &options(8 << 20, 1));
    machine.sim.with(|world| world.lie = lie);
    for op in BEFORE {
        machine.run(op).map_err(|error| describe(&error))?;
    }
    machine.sim.with(|world| {
        world.cut_odds = 1;
        world.cut_variants = VARIANTS;
    });
    let mut cuts = 0;
    for op in kinds.iter().flat_map(|kind| KINDS[*kind]) {
        let context = |what| format!("sequence {number}, {mode:?}, {kinds:?}, at {op:?}: {what}");
        machine.run(*op).map_err(|error| context(describe(&error)))?;
        machine.keep_cut();
        for cut in machine.take_cuts() {
            cuts += 1;
            machine.check_cut(cut).map_err(context)?;
        }
    }
    machine.check_live()?;
    Ok(cuts)
}

/// Runs all sequences, leaving out all but one in `stride` of the longest ones.
fn run(stride: usize, mode: Mode, lie: Option<Lie>) -> Result<(u64, u64), String> {
    let count = KINDS.len();
    let (mut sequences, mut cuts) = (0, 0);
    for number in 0..count + count.pow(2) + count.pow(3) {
        let kinds = match number {
            _ if number < count => vec![number],
            _ if number < count + count.pow(2) => {
                let number = number - count;
                vec![number / count, number % count]
            }
            _ if number.is_multiple_of(stride) => {
                let number = number - count - count.pow(2);
                vec![number / count.pow(2), number / count % count, number % count]
            }
            _ => continue,
        };
        cuts += run_sequence(number, &kinds, mode, lie)?;
        sequences += 1;
    }
    Ok((sequences, cuts))
}

#[test]
fn every_cut_of_every_short_sequence_can_be_lived_with() {
    let all = std::env::var("LARDER_SHORT").is_ok_and(|value| value == "all");
    for (mode, stride) in [(Mode::Mapped, 1), (Mode::Buffered, 5)] {
        let started = Instant::now();
        let (sequences, cuts) = run(if all { stride } else { 100 }, mode, None).unwrap();
        let rate = cuts * 1_000 / u64::try_from(started.elapsed().as_millis().max(1)).unwrap();
        println!("{mode:?}: {sequences} sequences, {cuts} states, {rate} states/s");
    }
}

#[test]
fn catches_a_storage_that_lies() {
    for lie in [Lie::Sync, Lie::HalfSync, Lie::SyncBeforeRename, Lie::SyncDir, Lie::SameBoot] {
        let caught = run(100, Mode::Mapped, Some(lie));
        println!("{lie:?}: {}", caught.expect_err("nothing is noticed"));
    }
}

/// A store that is cut off while it is created can be created again, and then keeps what is
/// durable.
#[test]
fn a_creation_can_be_cut_anywhere() {
    let options = options(8 << 20, 1);
    for seed in 1..=8 {
        let sim = Sim::new(seed);
        sim.with(|world| {
            world.cut_odds = 1;
            world.cut_variants = VARIANTS;
            world.ledger = Ledger::new(KEYS).into();
        });
        let disk = options.open_in(std::sync::Arc::new(sim.clone())).unwrap();
        drop(disk);
        for cut in sim.with(|world| std::mem::take(&mut world.cuts)) {
            let what = format!("seed {seed}, after call {}", cut.after_call);
            let mut machine = Machine::after(cut, &options);
            machine.open().expect(&what);
            machine.run(put(1, 10, true)).expect(&what);
            machine.sim = {
                let left = machine.sim.cut();
                machine.disk = None;
                left
            };
            machine.open().expect(&what);
            machine.check_reopened(End::Power, None).expect(&what);
        }
    }
}
