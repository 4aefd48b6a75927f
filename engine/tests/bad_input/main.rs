//! Promise: whatever the files and directories of a store are, it never panics, hangs, or
//! answers wrongly; it says what is wrong, and what is not hit is still there.
//!
//! Method: a small store is damaged in one way after the other, opened, read in full, written
//! to and opened again. `LARDER_DAMAGE=all` tries every byte and length instead of some. What
//! needs root, or a file system of its own, is left out without, and says so.
#![cfg(target_os = "linux")]

mod damage;
mod full;
mod growth;
mod pages;
mod places;
mod sample;

/// Says loudly that a test could not be run.
#[expect(clippy::print_stderr, reason = "a test that does nothing has to say so")]
fn skip(what: &str, why: &str) {
    eprintln!("SKIPPED: {what}: {why}");
}
