//! Runs the real command.

#![allow(dead_code, reason = "each test file uses a part")]

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The command with arguments, not yet started, out of reach of the user's own cache.
pub(crate) fn larder<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(args).stdin(Stdio::null());
    command
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The one JSON document on stdout.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// A number in that document.
    #[track_caller]
    pub(crate) fn number(&self, field: &str) -> u64 {
        self.json()[field].as_u64().unwrap_or_else(|| panic!("no number {field}: {self:?}"))
    }

    /// The same, after making sure that the run ended with `code`.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// An error of one line that says `what`, and code 2.
    #[track_caller]
    pub(crate) fn refused(self, what: &str) {
        let ran = self.ended(2);
        assert!(ran.stderr.starts_with("error: "), "{ran:?}");
        assert!(ran.stderr.contains(what), "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
        assert_eq!(ran.stdout, "", "{ran:?}");
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs the command to its end.
#[track_caller]
pub(crate) fn run<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> Ran {
    larder(args).output().expect("the command starts").into()
}

/// A path as an argument.
#[track_caller]
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// A record of an `oracleGeneral` trace.
pub(crate) fn record(id: u64, size: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(id.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.extend((-1_i64).to_le_bytes());
    bytes
}

/// A stream of pseudo-random numbers, the same in every run.
pub(crate) fn random(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}
