//! What the command says: results on stdout, errors on stderr, and the exit code.
//!
//! Everything that comes from outside (keys, paths, messages of the system) goes through
//! [`plain`] before a terminal sees it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

/// How a command ended. [`EXIT_CODES`] says it to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well.
    Fine,
    /// It ran, and what it found is not well.
    Found,
    /// It could not, or would not, run.
    Refused,
    /// Stopped by Ctrl-C, with the store closed.
    Interrupted,
}

/// The last lines of `--help`.
pub(crate) const EXIT_CODES: &str = "Exit codes:
  0    fine
  1    the command ran and found something: a wrong value or a missing one (replay), results
       that could not be stored (demo, replay), damage that leaves the store usable (verify),
       damage that was repaired (repair) or left out (backup), arrays of several that could not
       be stored (array import), no such key (get, rm, array)
  2    refused: bad usage, or a file, directory, store or trace that cannot be used
  130  stopped by Ctrl-C; a store that was open was closed first";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Found => 1,
            Exit::Refused => 2,
            Exit::Interrupted => 130,
        })
    }
}

/// Stdout, locked, whose errors say that it was stdout.
pub(crate) struct Stdout(io::StdoutLock<'static>);

/// Locks stdout. Every command prints through this.
pub(crate) fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

impl Stdout {
    /// Whether people read it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

fn named(error: io::Error) -> io::Error {
    // `write_all` tries again after an interruption, and must be able to tell.
    match error.kind() {
        io::ErrorKind::Interrupted => error,
        kind => io::Error::new(kind, format!("cannot write to stdout: {error}")),
    }
}

/// Prints one JSON document and a newline.
pub(crate) fn json(out: &mut impl Write, document: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// A table of names, values flush right, and remarks on them.
#[derive(Debug)]
pub(crate) struct Facts(Table);

impl Facts {
    pub(crate) fn new() -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        Self(table)
    }

    /// Adds a line.
    pub(crate) fn row(&mut self, name: &str, value: impl Into<String>) {
        self.row3(name, value, "");
    }

    /// Adds a line with a remark.
    pub(crate) fn row3(&mut self, name: &str, value: impl Into<String>, remark: impl Into<String>) {
        self.0.add_row([name.to_owned(), value.into(), remark.into()]);
    }

    /// Prints the lines.
    pub(crate) fn print(mut self, out: &mut impl Write) -> io::Result<()> {
        if let Some(column) = self.0.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for line in self.0.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A table with a head: names at the left, values flush right.
#[derive(Debug)]
pub(crate) struct Grid(Table);

impl Grid {
    /// A table whose first column is headed by `name`.
    pub(crate) fn new(name: &str, columns: impl IntoIterator<Item = String>) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.add_row([name.to_owned()].into_iter().chain(columns));
        Self(table)
    }

    /// Adds a line.
    pub(crate) fn row(&mut self, name: String, values: impl IntoIterator<Item = String>) {
        self.0.add_row([name].into_iter().chain(values));
    }

    /// Prints the lines.
    pub(crate) fn print(mut self, out: &mut impl Write) -> io::Result<()> {
        for column in self.0.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for line in self.0.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Prints `error` and what caused it on one line of stderr.
pub(crate) fn report(error: &anyhow::Error) {
    say("error", &chain(error));
}

/// Prints something that does not stop the command.
pub(crate) fn warn(what: &str) {
    say("warning", what);
}

fn say(kind: &str, what: &str) {
    // When stderr is closed, nobody listens.
    let _ = writeln!(io::stderr().lock(), "{kind}: {}", plain(what));
}

/// The error and its causes, outermost first, leaving out what was said already.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if said.is_empty() {
            said = cause;
        } else if !said.ends_with(&cause) {
            let _ = write!(said, ": {cause}");
        }
    }
    said
}

/// Whether the reader of our stdout has gone away, as `head` does.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// `text` without control characters, which could otherwise steer a terminal.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        let escape = |c: char| {
            if c.is_control() { c.escape_default().to_string() } else { c.to_string() }
        };
        Cow::Owned(text.chars().map(escape).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// A number with its thousands set apart: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
        assert_eq!(plain("größe"), "größe");
    }

    #[test]
    fn a_chain_is_one_line_and_says_nothing_twice() {
        let error = anyhow::Error::from(io::Error::other("no space"))
            .context("cannot write: no space")
            .context("cannot put key");
        assert_eq!(chain(&error), "cannot put key: cannot write: no space");
    }

    #[test]
    fn a_closed_pipe_is_found_below_its_context() {
        let closed: anyhow::Result<()> = Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        let error = closed.context("cannot print").expect_err("it is an error");
        assert!(is_closed_pipe(&error));
        assert!(!is_closed_pipe(&anyhow::anyhow!("other")));
    }

    #[test]
    fn facts_line_up() {
        let mut facts = Facts::new();
        facts.row("files", "3");
        facts.row3("computed", "12", "all");
        let mut out = Vec::new();
        facts.print(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), " files      3\n computed  12  all\n");
    }
}
