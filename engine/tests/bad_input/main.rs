//! Promise: whatever the files and directories of a store are, it never panics, hangs, or
//! answers wrongly; it says what is wrong, and what is not hit is still there.
//!
//! Method: a small store is damaged in one way after the other, opened, read in full, written
//! to and opened again. `LARDER_DAMAGE=all` tries every byte and length instead of some.
#![cfg(target_os = "linux")]

mod damage;
mod sample;
