//! What each command does.

mod array;
mod demo;
mod dump;
mod laboratory;
mod ls;
mod ps;
mod replay;
mod stats;
mod store;
mod upkeep;
mod verify;

use crate::args::{ArrayCommand, Command};
use crate::output::Exit;

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Simulate(args) => laboratory::simulate::run(&args),
        Command::Mrc(args) => laboratory::mrc::run(&args),
        Command::Generate(args) => laboratory::generate::run(&args),
        Command::Put(args) => store::put(&args),
        Command::Get(args) => store::get(&args),
        Command::Rm(args) => store::rm(&args),
        Command::Ls(args) => ls::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Ps(args) => ps::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Compact(args) => upkeep::compact(&args),
        Command::Purge(args) => upkeep::purge(&args),
        Command::Trim(args) => upkeep::trim(&args),
        Command::Backup(args) => upkeep::backup(&args),
        Command::Repair(args) => upkeep::repair(&args),
        Command::Tags(args) => upkeep::tags(&args),
        Command::Invalidate(args) => upkeep::invalidate(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Array(args) => match args.command {
            ArrayCommand::Import(args) => array::import(&args),
            ArrayCommand::Export(args) => array::export(&args),
            ArrayCommand::Info(args) => array::info(&args),
            ArrayCommand::Ls(args) => array::ls(&args),
        },
    }
}
