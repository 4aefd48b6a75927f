//! `array import`, `export`, `info` and `ls`: arrays of other programs, in and out.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use larder_engine::{
    AnyArray, Check, CodecId, Disk, Durability, ElementName, Listed, Npz, Order, Outcome, Place,
    Put, Rejection, Result, Safetensors, Ttl,
};
use serde::Serialize;

use crate::args::{ArrayExport, ArrayImport, ArrayInfo, ArrayLs};
use crate::keys::{self, Key};
use crate::open::{self, closing};
use crate::output::{self, Exit, Facts, count};
use crate::progress;
use crate::size::Size;

/// What an array is, as all of the commands say it.
#[derive(Debug, Serialize)]
struct Described {
    /// As it can be typed.
    key: String,
    /// As Rust would call it.
    element: String,
    /// As NumPy calls it.
    descr: String,
    shape: Vec<usize>,
    order: &'static str,
    elements: u64,
    bytes: u64,
    /// The file of its own, which NumPy opens. None: it stands in a segment, or compressed.
    file: Option<String>,
}

impl Described {
    fn new(store: &Disk, key: &[u8], array: &AnyArray) -> Result<Self> {
        let descriptor = array.descriptor();
        let (dtype, item_len) = (array.dtype(), array.item_len());
        Ok(Self {
            key: keys::show(key),
            element: ElementName { dtype, item_len }.to_string(),
            descr: descriptor.descr(),
            shape: array.shape().to_vec(),
            order: match array.order() {
                Order::C => "C",
                Order::Fortran => "Fortran",
            },
            elements: descriptor.len(),
            bytes: descriptor.data_len(),
            file: store.array_file(key)?.map(|path| path.display().to_string()),
        })
    }

    /// `(3, 4)`
    fn shape(&self) -> String {
        let axes: Vec<_> = self.shape.iter().map(usize::to_string).collect();
        format!("({})", axes.join(", "))
    }

    /// `element  shape  order  bytes  key  file`
    fn line(&self) -> String {
        let size = Size(self.bytes).to_string();
        let Self { element, order, key, .. } = self;
        let mut line =
            format!("{element:>10}  {:>20}  {order:>7}  {size:>10}  {key}", self.shape());
        if let Some(file) = &self.file {
            line.push_str("  ");
            line.push_str(file);
        }
        line
    }
}

/// What came of an array that was to be stored.
#[derive(Debug, Serialize)]
struct Imported {
    /// What the file calls it; none for the one array of a `.npy` file.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(flatten)]
    array: Option<Described>,
    /// Why it was not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What `import --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    arrays: u64,
    bytes: u64,
    failed: u64,
    imported: Vec<Imported>,
}

/// The files that arrays come from.
enum Source {
    Npy,
    Npz(Npz),
    Safetensors(Safetensors),
}

impl Source {
    /// Finds out what a file is.
    fn open(path: &Path) -> anyhow::Result<Self> {
        let mut file =
            File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut start = [0; 4];
        let read = file.read(&mut start);
        let read = read.with_context(|| format!("cannot read {}", path.display()))?;
        Ok(match &start[..read] {
            b"PK\x03\x04" | b"PK\x05\x06" => Self::Npz(Npz::open(path)?),
            _ if path.extension().is_some_and(|end| end == "safetensors") => {
                Self::Safetensors(Safetensors::open(path)?)
            }
            // Others are refused as no NumPy file.
            _ => Self::Npy,
        })
    }

    /// What the arrays are called; one without a name for a single array.
    fn names(&self) -> Vec<Option<String>> {
        let names = match self {
            Self::Npy => return vec![None],
            Self::Npz(archive) => archive.names(),
            Self::Safetensors(file) => file.names(),
        };
        names.into_iter().map(Some).collect()
    }
}

pub(super) fn import(args: &ArrayImport) -> anyhow::Result<Exit> {
    let mut source = Source::open(&args.file)?;
    let mut names = source.names();
    if !args.only.is_empty() {
        let known = |name: &String| names.iter().flatten().any(|known| known == name);
        if let Some(unknown) = args.only.iter().find(|name| !known(name)) {
            bail!("{} has no array {unknown}", args.file.display());
        }
        names.retain(|name| name.as_ref().is_some_and(|name| args.only.contains(name)));
    }
    let options = Put {
        ttl: args.ttl.map_or(Ttl::Default, Ttl::After),
        durability: if args.sync { Durability::Sync } else { Durability::None },
        ..Put::default()
    };
    let bar = progress::bytes(0, args.json);
    let store = open::create(&args.dir, args.join, args.disk.map(|size| size.0))?;
    let imported = closing(&store, |store| {
        let mut imported = Vec::new();
        for name in names {
            bar.set_message(name.clone().unwrap_or_default());
            let key = key(&args.key, name.as_deref());
            let done = put(store, &mut source, args, name.as_deref(), &key, &options, &bar);
            imported.push(match done {
                Ok(array) => Imported { name, array: Some(array), error: None },
                // The only one: nothing else is worth saying.
                Err(error) if name.is_none() => return Err(error),
                Err(error) => {
                    let error = output::chain(&error);
                    Imported { name, array: None, error: Some(error) }
                }
            });
        }
        Ok(imported)
    })?;
    bar.finish_and_clear();
    print(imported, args.json)
}

/// Under which key an array is stored.
fn key(asked: &Key, name: Option<&str>) -> Vec<u8> {
    match name {
        None => asked.0.clone(),
        Some(name) if asked.0.is_empty() => name.as_bytes().to_vec(),
        Some(name) => [&asked.0, &b"/"[..], name.as_bytes()].concat(),
    }
}

fn put(
    store: &Disk,
    source: &mut Source,
    args: &ArrayImport,
    name: Option<&str>,
    key: &[u8],
    options: &Put<'_>,
    bar: &ProgressBar,
) -> anyhow::Result<Described> {
    let progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let name = name.unwrap_or_default();
    let outcome: Result<Outcome> = match source {
        Source::Npy => store.put_npy_file_with(key, &args.file, options, progress),
        Source::Npz(archive) => archive.put_with(store, name, key, options, progress),
        Source::Safetensors(file) => file.put_with(store, name, key, options, progress),
    };
    match outcome? {
        Outcome::Admitted { .. } => {}
        Outcome::Rejected(Rejection::TooLarge { weight, limit }) => bail!(
            "the array takes {weight} bytes, and a store of this budget takes {limit} at most: \
             raise --disk"
        ),
        refused => bail!("the store refused the array: {refused:?}"),
    }
    let stored = store.get_any_array(key, Check::FirstTouch)?;
    // Only the next ones in the same call could evict it.
    let stored = stored.context("the array is gone again: raise --disk")?;
    Ok(Described::new(store, key, &stored)?)
}

fn print(imported: Vec<Imported>, json: bool) -> anyhow::Result<Exit> {
    let arrays = imported.iter().filter_map(|one| one.array.as_ref());
    let (stored, bytes) = (arrays.clone().count() as u64, arrays.map(|array| array.bytes).sum());
    let failed = imported.len() as u64 - stored;
    let mut stdout = io::BufWriter::new(output::stdout());
    if json {
        output::json(&mut stdout, &Report { arrays: stored, bytes, failed, imported })?;
    } else {
        for Imported { name, array, error } in &imported {
            match (array, error) {
                (Some(array), _) => writeln!(stdout, "{}", output::plain(&array.line()))?,
                (None, error) => {
                    let (name, error) = (name.as_deref(), error.as_deref());
                    let what =
                        format!("{}: {}", name.unwrap_or("?"), error.unwrap_or("not stored"));
                    output::warn(&what);
                }
            }
        }
        let arrays = if stored == 1 { "array" } else { "arrays" };
        writeln!(stdout, "{} {arrays}, {}", count(stored), Size(bytes))?;
    }
    stdout.flush()?;
    Ok(if failed == 0 { Exit::Fine } else { Exit::Found })
}

/// The array of a key; an exit if there is none.
fn find(store: &Disk, key: &Key) -> anyhow::Result<Option<AnyArray>> {
    let found = store.get_any_array(&key.0, Check::FirstTouch)?;
    if found.is_none() {
        output::warn(&format!("no such key: {}", keys::show(&key.0)));
    }
    Ok(found)
}

pub(super) fn export(args: &ArrayExport) -> anyhow::Result<Exit> {
    let bar = progress::waiting("writing", args.json);
    let described = closing(&open::to_read(&args.dir, args.join)?, |store| {
        let Some(array) = find(store, &args.key)? else { return Ok(None) };
        store.export_npy(&args.key.0, &args.file)?;
        Ok(Some(Described::new(store, &args.key.0, &array)?))
    })?;
    bar.finish_and_clear();
    let Some(described) = described else { return Ok(Exit::Found) };
    if args.json {
        output::json(&mut output::stdout(), &described)?;
    }
    Ok(Exit::Fine)
}

/// What `info --json` prints.
#[derive(Debug, Serialize)]
struct Info {
    #[serde(flatten)]
    array: Described,
    /// Elements from one to the next along each axis.
    strides: Vec<usize>,
    alignment: usize,
    compressed: bool,
    version: u64,
    written_at_ms: u64,
    /// None: it never expires.
    expires_at_ms: Option<u64>,
}

impl Info {
    fn new(store: &Disk, key: &[u8], array: &AnyArray) -> Result<Self> {
        let meta = array.meta();
        Ok(Self {
            array: Described::new(store, key, array)?,
            strides: array.strides(),
            alignment: array.descriptor().alignment().bytes(),
            compressed: array.is_compressed(),
            version: meta.version,
            written_at_ms: meta.written_at_ms,
            expires_at_ms: (meta.expires_at_ms != larder_engine::clock::NEVER)
                .then_some(meta.expires_at_ms),
        })
    }
}

pub(super) fn info(args: &ArrayInfo) -> anyhow::Result<Exit> {
    let info = closing(&open::to_read(&args.dir, args.join)?, |store| {
        let array = find(store, &args.key)?;
        Ok(array.map(|array| Info::new(store, &args.key.0, &array)).transpose()?)
    })?;
    let Some(info) = info else { return Ok(Exit::Found) };
    let mut stdout = output::stdout();
    if args.json {
        output::json(&mut stdout, &info)?;
        return Ok(Exit::Fine);
    }
    let array = &info.array;
    let mut facts = Facts::new();
    facts.row3("element", array.element.clone(), format!("NumPy: {}", array.descr));
    facts.row3("shape", array.shape(), format!("{} order", array.order));
    facts.row("elements", count(array.elements));
    facts.row("bytes", count(array.bytes));
    facts.row("alignment", count(info.alignment as u64));
    facts.row("compressed", if info.compressed { "yes" } else { "no" });
    facts.print(&mut stdout)?;
    let place = match &array.file {
        Some(file) => format!("numpy.load({file:?}, mmap_mode=\"r\") opens it"),
        None => "in a segment: `larder array export` writes it to a file".to_owned(),
    };
    writeln!(stdout, "{}", output::plain(&place))?;
    Ok(Exit::Fine)
}

pub(super) fn ls(args: &ArrayLs) -> anyhow::Result<Exit> {
    closing(&open::to_read(&args.dir, args.join)?, |store| {
        let mut stdout = io::BufWriter::new(output::stdout());
        let mut print = |entry: &Listed| -> anyhow::Result<()> {
            let Place::Plain { key } = &entry.place else { return Ok(()) };
            if entry.meta.codec.id != CodecId::ARRAY.id {
                return Ok(());
            }
            // One that is damaged, or gone meanwhile, is `verify`'s matter.
            let Ok(Some(array)) = store.get_any_array(key, Check::Never) else { return Ok(()) };
            let array = Described::new(store, key, &array)?;
            if args.json {
                writeln!(stdout, "{}", serde_json::to_string(&array)?)?;
            } else {
                writeln!(stdout, "{}", output::plain(&array.line()))?;
            }
            Ok(())
        };
        let mut result = Ok(());
        store.list(|entry| {
            result = print(&entry);
            if result.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        result?;
        stdout.flush()?;
        Ok(Exit::Fine)
    })
}
