//! Arrays: opening, summing, storing, a row of a large one, many small ones; beside a raw mapped
//! file, NumPy, joblib and safetensors.
//!
//! | module | what |
//! |---|---|
//! | `open.rs` | from a key to the first element |
//! | `sum.rs` | all elements, checked never, for the first time, and later |
//! | `store.rs` | from a slice, and computed in place |
//! | `row.rs` | one row of a large array: what is read for it |
//! | `many.rs` | many small arrays, and the files that they take |
//! | `raw.rs`, `python.rs` | mapped files and the sum; the process that runs Python |

mod many;
mod open;
mod python;
mod raw;
mod row;
mod store;
mod sum;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use larder_engine::{ArrayRef, Disk, Put};
use larder_rivals::Result;

use crate::sheet::{Column, Line, Sheet};
use crate::timed::Spread;

use python::Python;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where stores and files are made.
    pub dir: PathBuf,
    /// Lengths of arrays in bytes.
    pub sizes: Vec<u64>,
    /// How many small arrays.
    pub count: u64,
    /// Measurements to make; all if there are none.
    pub only: Vec<String>,
    /// Repeats of each measurement.
    pub repeats: usize,
    /// The Python with NumPy and joblib.
    pub python: PathBuf,
}

/// The names of all measurements.
pub const MEASUREMENTS: [&str; 5] = ["open", "sum", "store", "row", "many"];

/// Budget of the stores: nothing is evicted.
const BUDGET: u64 = 16 << 30;

/// Makes the measurements.
///
/// # Errors
/// Whatever the store, the system or Python says, or a wrong answer.
pub fn run(options: &Options, sheets: &mut Vec<Sheet>) -> Result<()> {
    let mut python = Python::start(&options.python);
    for name in MEASUREMENTS {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        match name {
            "open" => open::run(options, python.as_mut(), sheets)?,
            "sum" => sum::run(options, sheets)?,
            "store" => store::run(options, sheets)?,
            "row" => row::run(options, sheets)?,
            _ => many::run(options, python.as_mut(), sheets)?,
        }
    }
    Ok(())
}

/// One of those who are compared, and what measures it once.
struct Subject<'a> {
    name: &'static str,
    settings: &'static str,
    measure: Box<dyn FnMut() -> Result<Vec<Option<f64>>> + 'a>,
}

impl<'a> Subject<'a> {
    fn new(
        name: &'static str,
        settings: &'static str,
        measure: impl FnMut() -> Result<Vec<Option<f64>>> + 'a,
    ) -> Self {
        Self { name, settings, measure: Box::new(measure) }
    }
}

/// Measures all once in each round, beginning with another one each time. Rounds before `counted`
/// begins only warm up. The note of each says how its first two figures compare with those
/// of the one called `base`: the medians over the repeats of that one's divided by its own.
fn compare(
    mut sheet: Sheet,
    base: &str,
    counted: Range<usize>,
    mut subjects: Vec<Subject<'_>>,
    sheets: &mut Vec<Sheet>,
) -> Result<()> {
    let mut samples = vec![Vec::new(); subjects.len()];
    for round in 0..counted.end {
        for turn in 0..subjects.len() {
            let at = (round + turn) % subjects.len();
            let subject = &mut subjects[at];
            let figures = (subject.measure)()
                .map_err(|error| format!("{} of {}: {error}", sheet.workload, subject.name))?;
            if counted.contains(&round) {
                samples[at].push(figures);
            }
        }
    }
    let base_at = subjects.iter().position(|subject| subject.name == base);
    for (subject, figures) in subjects.iter().zip(&samples) {
        let ratio = |column: usize| {
            let ratios = base_at.into_iter().flat_map(|base| {
                let pairs = samples[base].iter().zip(figures);
                pairs.filter_map(|(base, own)| Some(base[column]? / own[column]?))
            });
            Spread::of(ratios).median
        };
        let note = match sheet.columns.get(1) {
            _ if subject.name == base => String::new(),
            Some(column) if column.name == CPU.name => {
                format!("{:.3} × the speed of {base}, {:.3} in processor time", ratio(0), ratio(1))
            }
            _ => format!("{:.3} × the speed of {base}", ratio(0)),
        };
        sheet.rows.push(Line::new(subject.name, subject.settings, note, figures));
    }
    sheet.print();
    sheets.push(sheet);
    Ok(())
}

/// Time on the clock, and of this thread on a processor: that says more where other programs want
/// the processors, too.
struct Watch(Instant, Duration);

/// The second figure of a [`Watch`].
const CPU: Column = Column { name: "processor", unit: "ms" };

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), thread_time())
    }

    /// Both, in milliseconds for each of so many passes.
    fn stop(&self, passes: u64) -> [Option<f64>; 2] {
        let (wall, cpu) = (self.0.elapsed(), thread_time().saturating_sub(self.1));
        [wall, cpu].map(|time| Some(time.as_secs_f64() * 1e3 / passes as f64))
    }
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// An empty sheet.
fn sheet(workload: String, title: String, regime: &'static str, columns: &[Column]) -> Sheet {
    Sheet { workload, title, regime, columns: columns.to_vec(), rows: Vec::new() }
}

fn open_store(dir: &Path) -> Result<Disk> {
    Ok(Disk::builder(dir.join("store")).budget(BUDGET).open()?)
}

/// As many floats as take `bytes`; their sum is exact.
fn floats(bytes: u64) -> Result<Vec<f32>> {
    Ok((0..usize::try_from(bytes / 4)?).map(element).collect())
}

/// A small whole number.
const fn element(at: usize) -> f32 {
    (at % 8) as f32
}

fn put(disk: &Disk, key: &[u8], array: &[f32], options: &Put<'_>) -> Result<()> {
    let outcome = disk.put_array(key, &ArrayRef::new(array, &[array.len()])?, options)?;
    if outcome.is_admitted() { Ok(()) } else { Err(format!("refused: {outcome:?}").into()) }
}

/// `4 KiB`
fn shown(bytes: u64) -> String {
    match bytes {
        0x4000_0000.. => format!("{} GiB", bytes >> 30),
        0x10_0000.. => format!("{} MiB", bytes >> 20),
        _ => format!("{} KiB", bytes >> 10),
    }
}
