//! `simulate`, `mrc` and `generate`: choosing a policy and a capacity.

pub(super) mod generate;
pub(super) mod mrc;
pub(super) mod simulate;

use std::ops::ControlFlow;

use anyhow::bail;

use crate::args::Asked;
use crate::interrupt;
use crate::size::Size;

/// Stops a pass when Ctrl-C was pressed.
fn go_on() -> ControlFlow<()> {
    if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Bytes mean nothing where objects are counted.
fn check_units(capacities: &[Asked], ignore_size: bool) -> anyhow::Result<()> {
    if ignore_size && capacities.iter().any(|asked| matches!(asked, Asked::Bytes(_))) {
        bail!("a capacity in bytes makes no sense with --ignore-size: give a number or a share");
    }
    Ok(())
}

/// Capacities in their order, each once.
fn resolve(capacities: &[Asked], whole: u64) -> Vec<u64> {
    let mut resolved: Vec<u64> = capacities.iter().map(|asked| asked.of(whole)).collect();
    resolved.sort_unstable();
    resolved.dedup();
    resolved
}

/// A capacity for people.
fn shown(capacity: u64, bytes: bool) -> String {
    if bytes { Size(capacity).to_string() } else { crate::output::count(capacity) }
}

/// A ratio for people.
fn percent(ratio: f64) -> String {
    format!("{:.2}", 100.0 * ratio)
}
