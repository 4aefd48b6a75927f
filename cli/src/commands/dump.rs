//! `dump`: the bytes of a store's file, with what they mean.

use std::fmt;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use larder_format::dump::{FileKind, dump_limited};

use crate::args::Dump;
use crate::output::{self, Exit};

pub(super) fn run(args: &Dump) -> anyhow::Result<Exit> {
    let path = args.file.display();
    // Of what is no regular file, a FIFO say, reading might never end.
    let meta = fs::metadata(&args.file).with_context(|| format!("cannot open {path}"))?;
    ensure!(meta.is_file(), "{path} is not a regular file");
    let bytes = fs::read(&args.file).with_context(|| format!("cannot read {path}"))?;
    let kind = kind(&args.file, &bytes);
    if kind == FileKind::Unknown {
        bail!("{path} is not a file of a store, by its name or its bytes");
    }
    let mut out = Adapter { out: BufWriter::new(output::stdout()), error: None };
    let dumped = dump_limited(kind, &bytes, &mut out, args.limit);
    if let Some(error) = out.error {
        return Err(error.into());
    }
    dumped.context("cannot print the dump")?;
    out.out.flush()?;
    Ok(Exit::Fine)
}

/// What the bytes say or, if they say nothing any more, the name.
fn kind(path: &Path, bytes: &[u8]) -> FileKind {
    match FileKind::detect(bytes) {
        FileKind::Unknown => path
            .file_name()
            .map_or(FileKind::Unknown, |name| FileKind::from_name(&name.to_string_lossy())),
        kind => kind,
    }
}

/// Lets text be written to bytes, and keeps the error that text has no room for.
struct Adapter<W> {
    out: W,
    error: Option<io::Error>,
}

impl<W: Write> fmt::Write for Adapter<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.write_all(text.as_bytes()).map_err(|error| {
            self.error = Some(error);
            fmt::Error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_helps_when_the_bytes_are_damaged() {
        assert_eq!(kind(Path::new("d/seg/01.log"), &[0; 99]), FileKind::Segment);
        assert_eq!(kind(Path::new("d/notes"), b"text"), FileKind::Unknown);
    }
}
