//! The `larder` command: demonstrates the cache, replays traces through it, simulates policies
//! over them, and looks into stores and checks them.

mod args;
mod commands;
mod interrupt;
mod keys;
mod open;
mod output;
mod progress;
mod reading;
mod size;
mod troubles;
mod value;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::output::Exit;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        // Help and version come as errors, too; `exit_code` tells them apart.
        Err(error) => {
            let refused = error.exit_code() != 0;
            // Nobody is left to tell when this cannot be printed.
            let _ = error.print();
            return if refused { Exit::Refused } else { Exit::Fine }.into();
        }
    };
    match commands::run(args.command) {
        Ok(exit) => exit.into(),
        Err(error) if output::is_closed_pipe(&error) => Exit::Fine.into(),
        Err(error) => {
            output::report(&error);
            Exit::Refused.into()
        }
    }
}
