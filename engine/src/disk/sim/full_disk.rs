//! A disk that is full over and over: reads go on, writes are refused or evict, and all works
//! again, without opening the store again, once there is space.
//!
//! `LARDER_ROUNDS` says how many rounds of filling and freeing.

use super::fault::Lie;
use super::machine::{EXTERNAL_MIN, Machine, Op, describe, options};
use super::random::Random;
use super::random_cuts::number_from;
use crate::disk::builder::Options;
use crate::engine::{Engine, Put, WhenShort};
use crate::error::Error;

const KEYS: usize = 60;
const BUDGET: u64 = 4 << 20;
/// What the smallest file takes on a disk.
const BLOCK: u64 = 4096;

fn run(rounds: u64, lie: Option<Lie>) -> Result<u64, String> {
    let mut random = Random::new(7);
    let mut machine = Machine::new(7, KEYS, &options(BUDGET, 1));
    machine.sim.with(|world| world.lie = lie);
    let mut refused = 0;
    for round in 0..rounds {
        let context = |what: String| format!("round {round}: {what}");
        // Others fill the disk, too: some space is left, or none.
        let room = [0, 40 << 10, 150 << 10, 700 << 10][random.below(4)];
        machine.sim.with(|world| world.quota = world.used() + room);
        for _ in 0..120 {
            let key = u32::try_from(random.below(KEYS)).unwrap();
            let len = if random.once_in(4) { EXTERNAL_MIN + random.below(20_000) } else { 3_000 };
            let op = match random.below(12) {
                0 => Op::Sync,
                1 => Op::Remove { key },
                2 | 3 => Op::Get { key },
                _ => Op::Put { key, len, durable: random.once_in(4) },
            };
            match machine.run(op) {
                Ok(()) => {}
                Err(Error::StorageFull { .. }) => refused += 1,
                Err(error) => return Err(context(format!("{op:?}: {}", describe(&error)))),
            }
        }
        machine.check_live().map_err(context)?;
        // Space comes back: the same store takes everything again.
        machine.sim.with(|world| world.quota = 2 * BUDGET);
        for key in 0..4 {
            let op = Op::Put { key, len: EXTERNAL_MIN + 100, durable: key % 2 == 0 };
            let done = machine.run(op);
            done.map_err(|error| context(format!("with space, {op:?}: {}", describe(&error))))?;
        }
        machine.run(Op::Sync).map_err(|error| context(describe(&error)))?;
        machine.check_live().map_err(context)?;
        // The store's account of what it holds is right, to a block for each file.
        let stats = machine.disk().stats();
        let counted = stats.used_bytes - stats.retired_bytes;
        let (held, files) = machine.sim.with(|world| world.named());
        if counted < held || counted > held + (files + 1) * BLOCK {
            return Err(context(format!("{counted} bytes are counted, and {held} are there")));
        }
        if round % 8 == 7 {
            machine.keep_cut();
            for cut in machine.take_cuts() {
                machine = machine.check_cut(cut).map_err(context)?;
            }
        }
    }
    Ok(refused)
}

#[test]
fn a_full_disk_is_lived_with() {
    let rounds = number_from("LARDER_ROUNDS").unwrap_or(40);
    let refused = run(rounds, None).unwrap();
    assert!(refused > 0, "the disk was never full");
    println!("{rounds} rounds, {refused} writes refused");
}

/// A writer that makes no room itself gets it from the maintenance, as others do by themselves.
#[test]
fn room_is_made_on_a_full_disk_for_who_does_not_make_it() {
    let options = Options { when_short: WhenShort::Block, ..options(BUDGET, 1) };
    let mut machine = Machine::new(7, KEYS, &options);
    let maintain = |machine: &Machine| while machine.disk().maintain().unwrap().more {};
    for key in 0..40 {
        maintain(&machine);
        machine.run(Op::Put { key, len: 7_000, durable: false }).unwrap();
    }
    maintain(&machine);
    // From here on nothing more fits the disk, though the budget is not used up.
    machine.sim.with(|world| world.quota = world.used());
    let before = machine.disk().stats();
    assert!(before.used_bytes < BUDGET / 2);
    let put = |number: u32| {
        machine.disk().put(&number.to_le_bytes(), &[7; 7_000], &Put::default()).unwrap()
    };
    for number in 0..60 {
        if !put(number).is_admitted() {
            maintain(&machine);
            assert!(put(number).is_admitted(), "put {number}: no room was made");
        }
    }
    let after = machine.disk().stats();
    assert!(after.blocked > 0 && after.evictions > before.evictions, "{after:?}");
}

#[test]
fn catches_space_that_never_comes_back() {
    let caught = run(40, Some(Lie::SpaceIsLost));
    println!("{}", caught.expect_err("nothing is noticed"));
}
