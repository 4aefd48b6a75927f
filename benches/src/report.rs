//! Results: as a table for people, and as JSON.

use serde::Serialize;

use larder_rivals::disk::REFERENCE;

use crate::machine::Machine;
use crate::sheet::Sheet;
use crate::timed::{Spread, Took, threads};

/// The engine that ratios are taken of.
pub const OURS: &str = "larder";

/// Everything that a run found out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// Repeats of each measurement.
    pub repeats: usize,
    /// The measurements of speed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// The measurements of everything else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sheets: Vec<Sheet>,
    /// What reopening larder takes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reopen: Vec<crate::reopen::Row>,
}

impl Report {
    /// An empty report of a run that begins now. Says so.
    #[must_use]
    pub fn begin(repeats: usize) -> Self {
        let machine = Machine::here();
        machine.print();
        println!("medians of {repeats} interleaved repeats");
        Self { machine, repeats, groups: Vec::new(), sheets: Vec::new(), reopen: Vec::new() }
    }
}

/// One workload over all engines.
#[derive(Debug, Serialize)]
pub struct Group {
    /// The workload, for programs.
    pub workload: String,
    /// The workload with its sizes, for people.
    pub title: String,
    /// What the caches and the state of the stores were like.
    pub regime: &'static str,
    /// Threads that worked.
    pub threads: usize,
    /// Operations of each repeat, over all threads.
    pub operations: u64,
    /// What the engines did.
    pub rows: Vec<Row>,
}

/// What one engine did.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub engine: &'static str,
    /// Its settings, in a few words.
    pub settings: &'static str,
    /// What is particular here, such as another way of doing the work.
    pub note: String,
    /// Operations per second.
    pub per_second: Spread,
    /// The same of each repeat, in their order.
    pub samples: Vec<f64>,
    /// Larder's operations per second divided by this engine's: the median over the repeats,
    /// each of which compares two runs that were close in time. For larder itself: compared
    /// with the fastest peer.
    pub larder_ratio: Option<Spread>,
    /// Processor time per operation in ns, of the whole process: a median. It includes the
    /// engine's own threads, and is less disturbed than `per_second` if others use the machine.
    pub cpu_ns: f64,
    /// The share of requests that hit, if not all or none of them must.
    pub hit_ratio: Option<f64>,
}

impl Row {
    /// From what each repeat of so many operations took.
    #[must_use]
    pub fn new(
        engine: &'static str,
        settings: &'static str,
        operations: u64,
        repeats: &[Took],
    ) -> Self {
        let operations = operations as f64;
        let samples: Vec<f64> =
            repeats.iter().map(|took| operations / took.wall.as_secs_f64()).collect();
        let cpu_ns = repeats.iter().map(|took| took.cpu.as_secs_f64() * 1e9 / operations);
        Self {
            engine,
            settings,
            note: String::new(),
            per_second: Spread::of(samples.iter().copied()),
            cpu_ns: Spread::of(cpu_ns).median,
            samples,
            larder_ratio: None,
            hit_ratio: None,
        }
    }
}

impl Group {
    /// Fills in the ratios.
    pub fn compare(&mut self) {
        let Some(ours) = self.rows.iter().find(|row| row.engine == OURS) else { return };
        let ours = ours.samples.clone();
        let fastest = self
            .peers()
            .max_by(|a, b| a.per_second.median.total_cmp(&b.per_second.median))
            .map(|peer| peer.samples.clone());
        for row in &mut self.rows {
            let against = if row.engine == OURS { fastest.as_ref() } else { Some(&row.samples) };
            row.larder_ratio = against.map(|against| {
                Spread::of(ours.iter().zip(against).map(|(ours, theirs)| ours / theirs))
            });
        }
    }

    /// The rivals: all but larder, and what is no store.
    fn peers(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.engine != OURS && row.engine != REFERENCE.name)
    }

    /// Prints the table.
    pub fn print(&self) {
        let threads = threads(self.threads);
        println!("\n{}, {threads}, {} operations; {}", self.title, self.operations, self.regime);
        println!(
            "  {:<14} {:>10} {:>21} {:>9} {:>9}  larder is",
            "engine", "ops/s", "min – max", "ns/op", "CPU ns"
        );
        for row in &self.rows {
            let Spread { median, min, max } = row.per_second;
            let range = format!("{} – {}", short(min), short(max));
            let ns = self.threads as f64 * 1e9 / median;
            let of = if row.engine == OURS { " × the fastest peer" } else { " ×" };
            let ratio = row.larder_ratio.map(|ratio| format!("{:.2}{of}", ratio.median));
            let hits = row.hit_ratio.map(|hits| format!("hits {:.1} %", 100.0 * hits));
            let extra: Vec<String> = [ratio, hits].into_iter().flatten().collect();
            let note = if row.note.is_empty() { String::new() } else { format!(" ({})", row.note) };
            println!(
                "  {:<14} {:>10} {range:>21} {ns:>9.0} {:>9.0}  {}{note}",
                row.engine,
                short(median),
                row.cpu_ns,
                extra.join(", ")
            );
        }
    }
}

/// A figure with three digits.
fn short(figure: f64) -> String {
    match figure {
        1e6.. => format!("{:.2} M", figure / 1e6),
        1e3.. => format!("{:.1} k", figure / 1e3),
        _ => format!("{figure:.1}"),
    }
}
