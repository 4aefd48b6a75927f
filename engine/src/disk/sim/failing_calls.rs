//! Every call of a script fails in turn, once or from then on: errors are typed, nothing
//! durable is lost, and nothing is acknowledged that a failed sync gave up.
//!
//! After SQLite's I/O error tests: the k-th call fails, for every k, until the script ends
//! without having met the fault.

use std::io;

use super::fault::{Call, Fault, Lie};
use super::ledger::End;
use super::machine::{EXTERNAL_MIN, Machine, Op, describe, options};
use super::world::Mode;
use crate::error::Error;

const KEYS: usize = 8;

const fn put(key: u32, len: usize, durable: bool) -> Op {
    Op::Put { key, len, durable }
}

/// Everything that makes calls: births, syncs, large values, rolling, growing old, closing.
fn script() -> Vec<Op> {
    let mut ops = vec![
        put(0, 100, true),
        put(1, EXTERNAL_MIN + 10, true),
        put(2, EXTERNAL_MIN + 10, false),
        put(0, 300, false),
        Op::Get { key: 2 },
        Op::Sync,
        put(2, 40, true),
        Op::Remove { key: 1 },
        Op::Sync,
        Op::Die,
        put(3, EXTERNAL_MIN + 99, false),
        put(1, 20, true),
    ];
    ops.extend((0..24).map(|i| put(4 + i % 3, 7_000, i % 8 == 0)));
    ops.extend([
        Op::Sync,
        Op::Reopen,
        Op::Get { key: 3 },
        put(3, 70, true),
        put(0, EXTERNAL_MIN, false),
        Op::Sync,
        Op::Clear,
        put(1, 33, false),
        put(2, EXTERNAL_MIN + 5, true),
        Op::Sync,
        Op::Reopen,
        put(7, 10, true),
    ]);
    ops
}

/// Whether an error says what was asked of the system, and where.
fn is_typed(error: &Error) -> bool {
    match error {
        Error::Io { path, op, .. } | Error::StorageFull { path, op, .. } => {
            !op.is_empty() && path.starts_with("sim:")
        }
        Error::SyncLost { .. } | Error::Closed => true,
        _ => false,
    }
}

/// Runs the script with a fault. Returns whether the fault was met.
fn run_script(
    (mode, budget): (Mode, u64),
    fault: Fault,
    lie: Option<Lie>,
    seed: u64,
) -> Result<bool, String> {
    let mut machine = Machine::in_mode(mode, seed, KEYS, &options(budget, 1));
    machine.sim.with(|world| {
        world.lie = lie;
        world.set_fault(Some(fault));
    });
    for op in script() {
        let done = if machine.disk.is_some() { machine.run(op) } else { machine.open() };
        if let Err(error) = done
            && !is_typed(&error)
        {
            return Err(format!("{op:?}: {}", describe(&error)));
        }
        if machine.disk.is_none() && fault.sticky && machine.open().is_err() {
            break;
        }
    }
    let met = machine.sim.with(|world| world.has_struck());
    // The power goes while the disk still fails.
    machine.keep_cut();
    for cut in machine.take_cuts() {
        machine.check_cut(cut).map_err(|what| format!("with the fault, {what}"))?;
    }
    machine.sim.with(|world| world.set_fault(None));
    // The fault is over: the same store goes on, or another process opens it.
    if machine.disk.is_some() {
        machine.check_live().map_err(|what| format!("with the fault over: {what}"))?;
    }
    machine.disk = None;
    machine.open().map_err(|error| format!("opened again: {}", describe(&error)))?;
    machine.check_reopened(End::Process, None).map_err(|what| format!("opened again: {what}"))?;
    for op in [put(6, 10, true), put(5, EXTERNAL_MIN, false), Op::Sync, put(4, 9, false)] {
        machine.run(op).map_err(|error| format!("{op:?} after all: {}", describe(&error)))?;
    }
    machine.keep_cut();
    for cut in machine.take_cuts() {
        machine.check_cut(cut).map_err(|what| format!("after all, {what}"))?;
    }
    Ok(met)
}

/// Fails every call of every kind in turn. Returns how many runs that took.
fn run(lie: Option<Lie>) -> Result<u64, String> {
    let mut runs = 0;
    // With a small budget the script evicts, too. Without optimisation that is enough.
    let all = [
        (Mode::Mapped, 640 << 10),
        (Mode::Buffered, 640 << 10),
        (Mode::Mapped, 8 << 20),
        (Mode::Buffered, 8 << 20),
    ];
    let setups = if cfg!(debug_assertions) { &all[..2] } else { &all[..] };
    for &(mode, budget) in setups {
        for call in Call::ALL {
            for (error, sticky) in [
                (io::ErrorKind::Other, false),
                (io::ErrorKind::Other, true),
                (io::ErrorKind::StorageFull, false),
            ] {
                for number in 1.. {
                    let fault = Fault { call, number, error, sticky };
                    runs += 1;
                    let met = run_script((mode, budget), fault, lie, number)
                        .map_err(|what| format!("{mode:?}, budget {budget}, {fault:?}: {what}"))?;
                    if !met {
                        break;
                    }
                }
            }
        }
    }
    Ok(runs)
}

#[test]
fn every_call_may_fail() {
    println!("{} runs of the script", run(None).unwrap());
}

#[test]
fn catches_a_failed_sync_that_is_not_noticed() {
    let caught = run(Some(Lie::SyncNeverFails));
    println!("{}", caught.expect_err("nothing is noticed"));
}
