//! A process of Python that times itself.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use larder_rivals::Result;
use serde_json::{Value, json};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/arrays.py");

/// A Python with NumPy, and with joblib if it has that.
#[derive(Debug)]
pub(super) struct Python {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    pub(super) has_joblib: bool,
}

impl Python {
    /// Starts it. `None`, and a line that says so, if there is none with NumPy.
    pub(super) fn start(program: &Path) -> Option<Self> {
        match Self::try_start(program) {
            Ok(python) => Some(python),
            Err(error) => {
                println!("{} has no NumPy, which is left out: {error}", program.display());
                None
            }
        }
    }

    fn try_start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .arg(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut python = Self { child, stdin, stdout, has_joblib: false };
        let has = python.ask(&json!({"do": "has"}))?;
        python.has_joblib = has[1].is_string();
        let version = |at: usize| has[at].as_str().unwrap_or("none").to_owned();
        println!("NumPy {}, joblib {}, Python {}", version(0), version(1), version(2));
        Ok(python)
    }

    /// Has something done, and returns what it said.
    pub(super) fn ask(&mut self, what: &Value) -> Result<Value> {
        writeln!(self.stdin, "{what}")?;
        self.stdin.flush()?;
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            return Err(format!("Python died of {what}").into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// A figure that it said.
    pub(super) fn figure(&mut self, what: &Value) -> Result<f64> {
        Ok(self.ask(what)?.as_f64().ok_or("no figure")?)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Best effort: its stdin closes, which ends it as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
