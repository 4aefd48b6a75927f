//! Writing traces: oracleGeneral and csv, plain or compressed by zstd.
//!
//! A file gets its name when all of it is there.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::trace::{Access, encode};

/// Level of compression: the default of zstd, at some 5 million records a second.
const LEVEL: i32 = 3;

/// How to write a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    OracleGeneral,
    Csv,
}

/// A trace being written.
pub struct Writer {
    path: PathBuf,
    layout: Layout,
    out: Out,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Writer").field("path", &self.path).finish_non_exhaustive()
    }
}

enum Out {
    Plain(BufWriter<NamedTempFile>),
    Zstd(Box<zstd::Encoder<'static, BufWriter<NamedTempFile>>>),
}

impl Writer {
    /// Begins a trace at `path`, whose name says the format: it ends in `.oracleGeneral`,
    /// `.oracleGeneral.bin` or `.csv`, and perhaps in `.zst` after that.
    ///
    /// # Errors
    /// - [`Error::Config`]: the name says no format.
    /// - [`Error::Io`]: no file can be made there.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let plain = name.strip_suffix(".zst").unwrap_or(&name);
        let layout = if plain.ends_with(".csv") {
            Layout::Csv
        } else if plain.ends_with(".oraclegeneral") || plain.ends_with(".oraclegeneral.bin") {
            Layout::OracleGeneral
        } else {
            return Err(Error::Config {
                option: "the name of a trace",
                value: path.display().to_string(),
                accepted: "end it in .oracleGeneral or .csv, and perhaps in .zst after that",
            });
        };
        let begin = || -> io::Result<Out> {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let file = NamedTempFile::new_in(dir.unwrap_or(Path::new(".")))?;
            let file = BufWriter::with_capacity(256 << 10, file);
            Ok(if plain.len() < name.len() {
                Out::Zstd(Box::new(zstd::Encoder::new(file, LEVEL)?))
            } else {
                Out::Plain(file)
            })
        };
        let mut out = begin().map_err(Error::io("written", path))?;
        if layout == Layout::Csv {
            out.write_all(b"id,size\n").map_err(Error::io("written", path))?;
        }
        Ok(Self { path: path.to_owned(), layout, out })
    }

    /// Whether what is written says when objects are asked for again.
    #[must_use]
    pub fn has_links(&self) -> bool {
        self.layout == Layout::OracleGeneral
    }

    /// Writes accesses.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn write(&mut self, accesses: &[Access]) -> Result<()> {
        for access in accesses {
            match self.layout {
                Layout::OracleGeneral => self.out.write_all(&encode(access)),
                Layout::Csv => writeln!(self.out, "{},{}", access.id, access.size),
            }
            .map_err(Error::io("written", &self.path))?;
        }
        Ok(())
    }

    /// Gives the file its name, in place of one that has it.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn finish(self) -> Result<()> {
        let Self { path, out, .. } = self;
        let end = || -> io::Result<()> {
            let file = match out {
                Out::Plain(file) => file,
                Out::Zstd(zstd) => zstd.finish()?,
            };
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            // Temporary files are their owner's alone; a trace is like any file of the user.
            readable(file.as_file())?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        end().map_err(Error::io("written", &path))
    }
}

#[cfg(unix)]
fn readable(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &std::fs::File) -> io::Result<()> {
    Ok(())
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Zstd(zstd) => zstd.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Zstd(zstd) => zstd.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Options, Trace};

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let accesses: Vec<Access> =
            (0..20_000).map(|at| Access { next: at + 2, time: 3, ..Access::new(at, 7) }).collect();
        for name in ["t.oracleGeneral", "t.oracleGeneral.bin.zst", "t.csv", "t.csv.zst"] {
            let path = dir.path().join(name);
            let mut writer = Writer::create(&path).unwrap();
            accesses.chunks(999).for_each(|chunk| writer.write(chunk).unwrap());
            assert!(!path.exists(), "it has no name yet");
            let links = writer.has_links();
            writer.finish().unwrap();
            let mut trace = Trace::open(&path, &Options::default()).unwrap();
            for (read, written) in trace.accesses().map(Result::unwrap).zip(&accesses) {
                let text = Access::new(written.id, written.size);
                assert_eq!(read, if links { *written } else { text }, "{name}");
            }
        }
    }

    #[test]
    fn names_that_say_no_format_are_refused() {
        for name in ["t", "t.zst", "t.bin", "csv"] {
            assert!(Writer::create(Path::new(name)).is_err(), "{name}");
        }
        assert!(Writer::create(Path::new("/nowhere/at/all.csv")).is_err());
    }
}
