//! Promise: whatever is done to a store, and to its files while it is closed, it neither panics
//! nor returns a wrong value.
//! Method: the checked-in corpus of the fuzz target `store`, and random programs beside it, go
//! through the code of the target. `LARDER_PROGRAMS` says how many, `LARDER_SEED` from which
//! seed, `LARDER_BLESS=1` writes the first ones to the corpus.
#![cfg(unix)]

#[path = "../../fuzz/src/store.rs"]
#[allow(
    clippy::expect_used,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "a test here"
)]
mod target;

use std::path::PathBuf;

use larder_engine::conformance::expand;

/// Programs that stand in the corpus.
const SEEDS: u64 = 6;

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "fuzz", "corpus", "store"].iter().collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A program: random, every other one without the operation that damages.
fn program(seed: u64) -> Vec<u8> {
    let mut bytes =
        expand(seed, [60, 120, 180, 240, 300, 360, 420][usize::from(seed.to_le_bytes()[0] % 7)]);
    if seed.is_multiple_of(2) {
        bytes.iter_mut().filter(|byte| **byte % 16 == 14).for_each(|byte| *byte ^= 1);
    }
    bytes
}

#[test]
fn the_corpus_is_harmless() {
    if std::env::var_os("LARDER_BLESS").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        for seed in 0..SEEDS {
            std::fs::write(folder().join(format!("random-{seed}")), program(seed)).unwrap();
        }
    }
    let mut files: Vec<_> =
        std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() as u64 >= SEEDS, "the corpus is there");
    for file in files {
        target::store(&std::fs::read(file).unwrap());
    }
}

#[test]
fn random_programs_are_harmless() {
    let first = number("LARDER_SEED").unwrap_or(100);
    for seed in first..first + number("LARDER_PROGRAMS").unwrap_or(6) {
        let ran = std::panic::catch_unwind(|| target::store(&program(seed)));
        assert!(ran.is_ok(), "LARDER_SEED={seed}");
    }
}
