//! The command line of `side-by-side`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, value_parser};
use larder_benches::rounds::{Setup, named};
use larder_benches::{arrays, disk, memory};
use larder_rivals::Result;

/// Measures larder and its rivals in one run, in interleaved repeats.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Disk stores: put, load, get, get-many, get-alone, miss, delete, with values of 100 B and
    /// 16 KiB.
    Disk(DiskArgs),
    /// Disk stores: 95 % gets and 5 % overwrites of 1 KiB, Zipf 0.99.
    Mix(Mix),
    /// Disk stores: values of 1 MiB, beside a plain file.
    Large(Large),
    /// Disk stores: puts that survive the loss of power.
    Durable(Durable),
    /// Disk stores: how long single puts take at worst.
    Stall(Stall),
    /// Disk stores that several processes have open at once.
    Processes(ProcessesArgs),
    /// Disk stores: storage per record.
    Space(Space),
    /// Disk stores: memory that a store takes for itself.
    Heap(Heap),
    /// Caches in memory: hits, overwrites, inserts on a miss, the times of gets, bytes.
    Memory(MemoryArgs),
    /// Functions whose results are kept: hits, and arguments becoming keys.
    Memo(MemoArgs),
    /// Opening larder again after a clean close, SIGKILL, and with nothing trusted; opening its
    /// rivals after a clean close.
    Reopen(ReopenArgs),
    /// Bytes that larder writes for each byte put, over a recorded trace.
    Amplification(AmplificationArgs),
    /// Arrays: opening, summing, storing, one row, many small ones; beside mapped files, NumPy,
    /// joblib and safetensors.
    Arrays(ArraysArgs),
    /// Everything, in some 12 minutes.
    All(AllArgs),
    /// Draws the ratios of a run.
    Plot {
        /// What `--json` wrote.
        from: PathBuf,
        /// The picture, an SVG file.
        to: PathBuf,
    },
    /// Fills a store and waits to be killed; `reopen` starts this.
    #[command(hide = true)]
    Fill {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        count: u64,
    },
    /// Puts records durably; `durable` counts what this waits for.
    #[command(hide = true)]
    DurableChild {
        #[arg(long)]
        engine: String,
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        count: u64,
        #[arg(long)]
        threads: usize,
    },
    /// Works on a store beside others; `processes` starts this.
    #[command(hide = true)]
    ProcessesChild {
        #[arg(long)]
        engine: String,
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        records: u64,
        #[arg(long)]
        value_len: usize,
        #[arg(long)]
        gets: u64,
        #[arg(long)]
        number: u64,
        #[arg(long)]
        ms: u64,
    },
    /// Fills a cache and says what memory that took; `memory` starts this.
    #[command(hide = true)]
    FillMemory {
        #[arg(long)]
        engine: String,
    },
    /// Loads or reads a store and says what memory that took; `heap` starts this.
    #[command(hide = true)]
    HeapChild {
        #[arg(long)]
        engine: String,
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        count: u64,
        #[arg(long)]
        phase: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Engines to run; all unless given.
    #[arg(long, value_delimiter = ',')]
    pub(crate) engines: Vec<String>,
    /// Repeats of each measurement.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u16).range(1..))]
    pub(crate) repeats: u16,
    /// Threads that work at once; several numbers are run one after the other.
    #[arg(long, default_value = "1", value_delimiter = ',', value_parser = value_parser!(u16).range(1..))]
    pub(crate) threads: Vec<u16>,
    /// Writes all figures to this file, `-` for the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Where to make stores: a directory on the disk to be measured.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub(crate) dir: PathBuf,
}

impl Common {
    pub(crate) fn setup(&self, place: &Place, threads: usize) -> Result<Setup> {
        let engines = named(&self.engines)?;
        Ok(Setup { dir: place.dir.clone(), engines, repeats: self.repeats.into(), threads })
    }
}

#[derive(Debug, Args)]
pub(crate) struct DiskArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Workloads to run; all unless given.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(disk::workloads()))]
    pub(crate) only: Vec<String>,
    /// Records with a value of 100 B; 0 leaves the size out.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) count: u64,
    /// Records with a value of 16 KiB; 0 leaves the size out.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) count_16k: u64,
}

/// A measurement of stores with one count.
macro_rules! counted {
    ($($name:ident: $count:expr, $help:literal;)+) => {$(
        #[derive(Debug, Args)]
        pub(crate) struct $name {
            #[command(flatten)]
            pub(crate) common: Common,
            #[command(flatten)]
            pub(crate) place: Place,
            #[doc = $help]
            #[arg(long, default_value_t = $count, value_parser = value_parser!(u64).range(1..))]
            pub(crate) count: u64,
        }
    )+};
}

counted! {
    Mix: 1_000_000, "Requests of each repeat; there are a fifth as many records.";
    Large: 500, "Records.";
    Durable: 1000, "Puts of each repeat, over all threads.";
    Stall: 2_000_000, "Puts of each repeat.";
    Space: 1_000_000, "Records.";
    Heap: 1_000_000, "Records.";
}

#[derive(Debug, Args)]
pub(crate) struct ProcessesArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Processes that work at once; several numbers are run one after the other.
    #[arg(long, default_value = "1,2,4,8", value_delimiter = ',', value_parser = value_parser!(u16).range(1..))]
    pub(crate) processes: Vec<u16>,
    /// Lengths of values, in bytes.
    #[arg(long, default_value = "100,1024", value_delimiter = ',')]
    pub(crate) sizes: Vec<usize>,
    /// Of a hundred requests so many are gets, the others overwrites.
    #[arg(long, default_value = "100,90,50", value_delimiter = ',', value_parser = value_parser!(u64).range(0..=100))]
    pub(crate) gets: Vec<u64>,
    /// Records.
    #[arg(long, default_value_t = 20_000, value_parser = value_parser!(u64).range(1..))]
    pub(crate) records: u64,
    /// How long they work, in ms.
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u64).range(1..))]
    pub(crate) ms: u64,
    /// Repeats of each measurement.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u16).range(1..))]
    pub(crate) repeats: u16,
    /// A Python that has diskcache; without it, that is left out.
    #[arg(long, env = "LARDER_PYTHON", default_value = "python3")]
    pub(crate) python: PathBuf,
    /// Writes all figures to this file, `-` for the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Workloads to run; all unless given.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(memory::workloads()))]
    pub(crate) only: Vec<String>,
    /// Requests of each repeat.
    #[arg(long, default_value_t = 8_000_000)]
    pub(crate) count: u64,
    /// All of it in about a minute: 300,000 requests, 3 repeats, 1, 2 and 8 threads.
    #[arg(long)]
    pub(crate) short: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MemoArgs {
    /// Repeats of each measurement.
    #[arg(long, default_value_t = 15, value_parser = value_parser!(u16).range(1..))]
    pub(crate) repeats: u16,
    /// Threads that call at once; several numbers are run one after the other.
    #[arg(long, default_value = "1,8", value_delimiter = ',', value_parser = value_parser!(u16).range(1..))]
    pub(crate) threads: Vec<u16>,
    /// Calls of each repeat, over all threads.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) calls: u64,
    /// Writes all figures to this file, `-` for the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReopenArgs {
    /// Engines to open beside each other; all unless given.
    #[arg(long, value_delimiter = ',')]
    pub(crate) engines: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Numbers of entries.
    #[arg(long, default_value = "10000,100000,1000000", value_delimiter = ',', value_parser = value_parser!(u64).range(1..))]
    pub(crate) count: Vec<u64>,
    /// Repeats of each measurement.
    #[arg(long, default_value_t = 7, value_parser = value_parser!(u16).range(1..))]
    pub(crate) repeats: u16,
    /// Writes all figures to this file, `-` for the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AmplificationArgs {
    /// The trace: an oracleGeneral file, plain or compressed with zstd.
    pub(crate) trace: PathBuf,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Requests to read of it.
    #[arg(long, default_value_t = u64::from(u32::MAX))]
    pub(crate) count: u64,
    /// How often to run through it.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    pub(crate) passes: u32,
    /// Budgets, in percent of the bytes of all objects.
    #[arg(long, default_value = "1,10", value_delimiter = ',', value_parser = value_parser!(u32).range(1..))]
    pub(crate) budget_percent: Vec<u32>,
    /// Repeats of each measurement.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..))]
    pub(crate) repeats: u16,
    /// Writes all figures to this file, `-` for the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ArraysArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Measurements to make; all unless given.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(arrays::MEASUREMENTS))]
    pub(crate) only: Vec<String>,
    /// Lengths of arrays of f32, in bytes; with KiB, MiB or GiB as well.
    #[arg(long, default_value = "4KiB,1MiB,256MiB,1GiB", value_delimiter = ',', value_parser = size)]
    pub(crate) sizes: Vec<u64>,
    /// Small arrays, of 4 KiB.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) count: u64,
    /// Repeats of each measurement.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u16).range(1..))]
    pub(crate) repeats: u16,
    /// A Python with NumPy and joblib.
    #[arg(long, env = "LARDER_PYTHON", default_value = "python3")]
    pub(crate) python: PathBuf,
    /// Writes all figures to this file, `-` for the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Bytes, with a unit or without; whole pages.
fn size(text: &str) -> std::result::Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let unit = units.iter().find_map(|(unit, log2)| Some((text.strip_suffix(unit)?, log2)));
    let (number, log2) = unit.unwrap_or((text, &0));
    let number = number.trim().parse::<u64>().ok();
    let size = number.and_then(|number| number.checked_mul(1 << log2));
    size.filter(|size| (4096..1 << 36).contains(size) && size.is_multiple_of(4096))
        .ok_or_else(|| "must be a multiple of 4KiB, up to 32GiB".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct AllArgs {
    /// Engines to run; all unless given.
    #[arg(long, value_delimiter = ',')]
    pub(crate) engines: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Repeats of each measurement; waits, storage and memory are measured once.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u16).range(1..))]
    pub(crate) repeats: u16,
    /// Counts, in percent of those that take some 12 minutes.
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    pub(crate) percent: u32,
    /// A recorded trace for the write amplification; without one, Zipf 0.99 stands in.
    #[arg(long)]
    pub(crate) trace: Option<PathBuf>,
    /// Where to write all figures.
    #[arg(long, value_name = "FILE", default_value = "side-by-side.json")]
    pub(crate) json: PathBuf,
    /// Draws the ratios to this SVG file as well.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
}
