//! Children, and what parent and child say to each other: lines.

use std::env;
use std::io::{BufRead, BufReader, Lines, StdinLock, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Where a child finds its role, its number and its directory.
const JOB: &str = "LARDER_SHARES";
/// What a line begins with that is meant for the parent: the test harness prints as well.
const MARK: char = '@';

/// A child process, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    process: Child,
    into: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts a child that begins to play its role.
    pub(crate) fn start(role: &str, number: usize, dir: &Path) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(JOB, format!("{role}|{number}|{}", dir.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (into, from) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, into, from: BufReader::new(from).lines() }
    }

    /// Starts as many of one role, numbered from 0.
    pub(crate) fn start_all(role: &str, count: usize, dir: &Path) -> Vec<Self> {
        (0..count).map(|number| Self::start(role, number, dir)).collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Says a line to the child.
    pub(crate) fn tell(&mut self, line: &str) {
        self.into.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line that the child says.
    pub(crate) fn hear(&mut self) -> String {
        for line in &mut self.from {
            if let Some((_, said)) = line.unwrap().split_once(MARK) {
                assert!(!said.starts_with("failed"), "a child {said}");
                return said.to_owned();
            }
        }
        panic!("process {} ended: {:?}", self.pid(), self.process.wait());
    }

    /// What the child answers.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.hear()
    }

    /// Stops the child where it is, and lets it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Kills the child.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// What a child was told, and how it answers.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) role: String,
    pub(crate) number: usize,
    pub(crate) dir: PathBuf,
    lines: Lines<StdinLock<'static>>,
}

impl Told {
    /// In a child.
    pub(crate) fn from_parent() -> Option<Self> {
        let job = env::var(JOB).ok()?;
        let mut parts = job.splitn(3, '|');
        let (role, number) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
        let dir = parts.next()?.into();
        Some(Self { role, number, dir, lines: std::io::stdin().lock().lines() })
    }

    /// The next line that the parent says; `None` once it is gone.
    pub(crate) fn hear(&mut self) -> Option<String> {
        self.lines.next()?.ok()
    }

    /// Says a line to the parent.
    pub(crate) fn say(&self, line: &str) {
        say(line);
    }
}

/// Says a line to the parent.
pub(crate) fn say(line: &str) {
    // A parent that is gone ends its children by closing their input.
    let _ = writeln!(std::io::stdout(), "{MARK}{line}");
}
