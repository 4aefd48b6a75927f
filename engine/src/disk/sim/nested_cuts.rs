//! Cuts during the recovery from a cut, three deep: what is recovered is the same.
//!
//! A recovery that runs to its end gives some contents. One that is cut, and begun again, and
//! cut again, has to give the same ones: what the first found was on the disk. So has a second
//! recovery after a first that ran to its end. `LARDER_NESTED` says how many runs.

use std::time::Instant;

use super::fault::Lie;
use super::ledger::End;
use super::machine::{Machine, describe, options};
use super::random::Random;
use super::random_cuts::{draw, number_from};
use super::world::Mode;

const KEYS: usize = 16;
const DEPTH: usize = 3;

/// Runs a sequence, cuts it, and cuts its recovery. Returns how many recoveries were cut.
fn run_sequence(seed: u64, lie: Option<Lie>) -> Result<u64, String> {
    let mut random = Random::new(seed);
    let writers = if random.once_in(4) { 3 } else { 1 };
    let mode = [Mode::Mapped, Mode::Mapped, Mode::Buffered, Mode::Either][random.below(4)];
    let mut machine = Machine::in_mode(mode, seed, KEYS, &options(8 << 20, writers));
    let context = |what| format!("seed {seed}, {mode:?}: {what}");
    for _ in 0..5 + random.below(40) {
        let op = draw(&mut random, KEYS);
        machine.run(op).map_err(|error| context(describe(&error)))?;
    }
    machine.sim.with(|world| world.lie = lie);
    machine.keep_cut();
    let Some(cut) = machine.take_cuts().pop() else { return Ok(0) };
    let mut broken = Machine::after(cut, machine.options());

    // Nothing is in memory yet, so that a cut of it is a copy.
    let mut whole = broken.after_power_cut();
    whole.open().map_err(|error| context(describe(&error)))?;
    whole.check_reopened(End::Power, None).map_err(context)?;
    let expected = whole.dump();

    let mut depth = 0;
    for _ in 0..DEPTH {
        broken.sim.with(|world| {
            world.cut_odds = 2;
            world.deaths = true;
        });
        broken.open().map_err(|error| context(describe(&error)))?;
        let mut cuts = broken.take_cuts();
        if cuts.is_empty() {
            broken.disk = None;
            break;
        }
        let cut = cuts.swap_remove(random.below(cuts.len()));
        broken = Machine::after(cut, machine.options());
        depth += 1;
    }
    broken.open().map_err(|error| context(describe(&error)))?;
    broken.check_reopened(End::Power, None).map_err(context)?;
    let mut again = broken.after_power_cut();
    again.open().map_err(|error| context(describe(&error)))?;
    for (what, found) in [("cut", broken.dump()), ("second", again.dump())] {
        if let Some(key) = (0..KEYS).find(|key| found[*key] != expected[*key]) {
            return Err(context(format!("key {key} differs after a {what} recovery")));
        }
    }
    Ok(depth)
}

fn run(runs: u64, lie: Option<Lie>) -> Result<u64, String> {
    let first = number_from("LARDER_SEED").unwrap_or(1);
    (first..first + runs).map(|seed| run_sequence(seed, lie)).sum()
}

#[test]
fn a_recovery_that_is_cut_gives_the_same() {
    let runs = number_from("LARDER_NESTED").unwrap_or(200);
    let started = Instant::now();
    let cuts = run(runs, None).unwrap();
    let rate = cuts * 1_000 / u64::try_from(started.elapsed().as_millis().max(1)).unwrap();
    println!("{runs} runs, {cuts} cuts of recoveries, {rate} cuts/s");
}

/// The lie begins with the first recovery. Lies about syncs go unnoticed here, and should: a
/// recovery relies on none of its own before it has ended.
#[test]
fn catches_a_restart_that_is_not_noticed() {
    let caught = run(100, Some(Lie::SameBoot));
    println!("{}", caught.expect_err("nothing is noticed"));
}
