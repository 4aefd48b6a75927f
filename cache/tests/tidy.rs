//! Promises about the source itself: where unsafe code stands, where atomics come from, how
//! long files are, and that no assertion asserts nothing.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

/// The only files with unsafe code.
const UNSAFE: [&str; 10] = [
    "engine/src/disk/cell.rs",
    "engine/src/disk/guard.rs",
    "engine/src/disk/heap.rs",
    "engine/src/disk/map.rs",
    "engine/src/disk/view.rs",
    "engine/src/disk/whole.rs",
    "engine/src/memory/lodging.rs",
    "engine/src/memory/slab.rs",
    "engine/src/memory/table.rs",
    "engine/src/models/rig.rs",
];
/// Lines of code in a file, tests left out.
const LINES_MAX: usize = 600;

struct Source {
    name: String,
    text: String,
}

impl Source {
    /// The lines before the tests that stand beside the code.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().take_while(|line| !line.starts_with("mod tests {"));
        lines.enumerate().map(|(at, line)| (at + 1, line))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    let mut dirs: Vec<PathBuf> = ["format", "engine", "macros", "cache", "lab", "cli"]
        .map(|part| root.join(part).join("src"))
        .into();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { name, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    assert!(found.len() > 50, "the sources are not where they were");
    found
}

/// Whether a line of code, comments left out, has a word.
fn has_word(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

#[test]
fn unsafe_code_stands_in_few_files() {
    for source in sources() {
        let uses = source.code().find(|(_, line)| has_word(line, "unsafe"));
        match uses {
            Some((at, line)) => {
                assert!(UNSAFE.contains(&&*source.name), "{}:{at}: {line}", source.name);
            }
            None => assert!(!UNSAFE.contains(&&*source.name), "{} needs no list", source.name),
        }
    }
}

#[test]
fn atomics_come_from_one_place_in_each_crate() {
    for source in sources().iter().filter(|source| !source.name.ends_with("/sync.rs")) {
        for (at, line) in source.code() {
            let direct = line.contains("std::sync::atomic") || line.contains("core::sync::atomic");
            assert!(!direct, "{}:{at}: {line}", source.name);
        }
    }
}

#[test]
fn files_can_be_held_in_the_head() {
    for source in sources() {
        let lines = source.code().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines: one idea each?", source.name);
    }
}

#[test]
fn every_file_says_what_it_is() {
    for source in sources() {
        assert!(source.text.starts_with("//!"), "{} has no header", source.name);
    }
}

#[test]
fn no_assertion_asserts_nothing() {
    for source in sources() {
        for (at, line) in source.text.lines().enumerate() {
            let bare =
                line.trim_start().starts_with("matches!(") && line.trim_end().ends_with(");");
            assert!(!bare, "{}:{}: {line}", source.name, at + 1);
        }
    }
}
