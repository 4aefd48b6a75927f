//! How traces are named and read: the options that all commands over traces share.

use std::path::Path;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use indicatif::ProgressBar;
use larder_lab::trace::{Columns, Format, MsrAs, Options, Trace};

use crate::size::Size;

/// How a trace is written down.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Reading {
    /// How the trace is written down; auto looks at its name, then at its first bytes
    #[arg(long, default_value = "auto", ignore_case = true, value_parser = format())]
    pub(crate) format: Format,
    /// csv: what the columns are, as in time,id,-,size: id (a number), key (any text), size,
    /// cost, time, or - [default: id,size]
    #[arg(long)]
    pub(crate) columns: Option<Columns>,
    /// csv: what parts columns; a space stands for any white space [default: a comma]
    #[arg(long, value_name = "CHARACTER")]
    pub(crate) separator: Option<char>,
    /// msr: requests become requests for blocks of this size [default: 4KiB]
    #[arg(long, value_name = "SIZE", conflicts_with = "objects_at_offset")]
    pub(crate) block: Option<Size>,
    /// msr: requests become requests for one object at their offset, whatever their size
    #[arg(long)]
    pub(crate) objects_at_offset: bool,
    /// twitter: writes count as requests, too
    #[arg(long)]
    pub(crate) twitter_writes: bool,
}

impl Reading {
    fn options(&self) -> anyhow::Result<Options> {
        let mut columns = self.columns.clone().unwrap_or_default();
        if let Some(separator) = self.separator {
            columns = columns.separated_by(separator)?;
        }
        let msr = match self.block {
            _ if self.objects_at_offset => MsrAs::Objects,
            Some(Size(size)) => MsrAs::blocks(size)?,
            None => MsrAs::default(),
        };
        Ok(Options { format: self.format, columns, msr, twitter_writes: self.twitter_writes })
    }

    /// Opens the trace at `path`; reading it moves `bar`, which then spans the file's bytes.
    pub(crate) fn open(&self, path: &Path, bar: &ProgressBar) -> anyhow::Result<Trace> {
        let wrap = |file, length| {
            bar.set_length(length);
            bar.set_position(0);
            bar.wrap_read(file)
        };
        Ok(Trace::open_through(path, &self.options()?, wrap)?)
    }
}

/// The name of a trace's file, without its directory and what says its format.
pub(crate) fn title(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let mut name = name.as_ref();
    for end in [".zst", ".bin", ".oracleGeneral", ".csv", ".lis", ".trc"] {
        name = name.strip_suffix(end).unwrap_or(name);
    }
    name.to_owned()
}

/// Names of formats are read by the laboratory, but listed by `--help`.
fn format() -> impl clap::builder::TypedValueParser<Value = Format> {
    let names = Format::ALL.iter().map(|format| format.name());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Format>())
}
