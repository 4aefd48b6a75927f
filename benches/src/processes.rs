//! Stores that several processes have open at once: gets and overwrites of records that are in the page
//! cache, by children that work for a fixed time.
//!
//! Each child draws records alike, and times every overwrite. The rate is that of all children together.
//! larder opened by one process alone, as it is by default, stands beside it where there is one process.
//! SQLite has the schema and the statements of diskcache, and diskcache itself runs where a Python has it;
//! its children take their time from Python's clock.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use larder_rivals::disk::shared_engines;
use larder_rivals::{DiskEngine, Plan, Result};

use crate::data::{ends, key, mix, stamped, value};
use crate::sheet::{Column, Line, Sheet};
use crate::stores::private;
use crate::timed::Spread;

/// What all others are compared with.
const OURS: &str = "larder-shared";
/// Opened by one process alone.
const ALONE: &str = "larder";
/// Programs that are no rivals of ours in Rust: what they are called, and the class.
const SCRIPTED: [(&str, &str); 2] = [("diskcache", "Cache"), ("fanoutcache", "FanoutCache")];
const SCRIPT: &str = include_str!("processes.py");

const COLUMNS: [Column; 4] = [
    Column { name: "rate", unit: "1000/s" },
    Column { name: "put p50", unit: "us" },
    Column { name: "put p99.9", unit: "us" },
    Column { name: "longest put", unit: "us" },
];

/// What to measure.
#[derive(Debug)]
pub struct Options {
    /// Where stores are made.
    pub dir: PathBuf,
    /// Numbers of processes.
    pub processes: Vec<u64>,
    /// Lengths of values.
    pub sizes: Vec<usize>,
    /// Gets among a hundred requests.
    pub gets: Vec<u64>,
    /// Records in a store.
    pub records: u64,
    /// How long children work.
    pub ms: u64,
    /// Repeats of each measurement.
    pub repeats: usize,
    /// A Python.
    pub python: PathBuf,
}

/// What a child does.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Records in the store.
    pub records: u64,
    /// Bytes of each value.
    pub value_len: usize,
    /// Gets among a hundred requests.
    pub gets: u64,
    /// For how long.
    pub ms: u64,
}

/// Who is measured.
#[derive(Debug, Clone, Copy)]
enum Runner {
    Engine(DiskEngine),
    Script { name: &'static str, class: &'static str },
}

impl Runner {
    const fn name(&self) -> &'static str {
        match self {
            Self::Engine(engine) => engine.name,
            Self::Script { name, .. } => name,
        }
    }

    const fn settings(&self) -> &'static str {
        match self {
            Self::Engine(engine) => engine.settings,
            Self::Script { .. } => "defaults, but nothing is evicted",
        }
    }
}

/// Measures every store under every load.
///
/// # Errors
/// Whatever a store or a child says.
pub fn run(options: &Options, sheets: &mut Vec<Sheet>) -> Result<()> {
    let mut runners: Vec<Runner> = shared_engines().into_iter().map(Runner::Engine).collect();
    let has_script = Command::new(&options.python)
        .args(["-c", "import diskcache"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if has_script {
        runners.extend(SCRIPTED.map(|(name, class)| Runner::Script { name, class }));
    }
    for &value_len in &options.sizes {
        for &gets in &options.gets {
            for &processes in &options.processes {
                let load = Load { records: options.records, value_len, gets, ms: options.ms };
                let sheet = measure(options, &runners, load, processes)?;
                sheet.print();
                sheets.push(sheet);
            }
        }
    }
    Ok(())
}

fn measure(options: &Options, runners: &[Runner], load: Load, processes: u64) -> Result<Sheet> {
    let runners: Vec<_> =
        runners.iter().filter(|runner| processes == 1 || runner.name() != ALONE).collect();
    let mut samples: Vec<Vec<Vec<Option<f64>>>> = runners.iter().map(|_| Vec::new()).collect();
    for round in 0..options.repeats {
        for turn in 0..runners.len() {
            let at = (round + turn) % runners.len();
            let figures = one(options, runners[at], load, processes)
                .map_err(|error| format!("{}: {error}", runners[at].name()))?;
            samples[at].push(figures);
        }
    }
    let Load { records, value_len, gets, ms } = load;
    let ours = runners.iter().position(|runner| runner.name() == OURS);
    let rates = |at: usize| samples[at].iter().filter_map(|figures| figures[0]);
    let rows = runners.iter().enumerate().map(|(at, runner)| {
        // The rate is better the higher it is, unlike all other figures of a sheet.
        let ratios = ours.map(|ours| rates(at).zip(rates(ours)).map(|(it, ours)| it / ours));
        let note = ratios.map_or_else(String::new, |ratios| {
            format!("{:.2} of the rate of {OURS}", Spread::of(ratios).median)
        });
        Line::new(runner.name(), runner.settings(), note, &samples[at])
    });
    Ok(Sheet {
        workload: format!("processes/{value_len}/{gets}/{processes}"),
        title: format!(
            "{processes} processes, {value_len} B: {gets} % gets and {} % overwrites of {records} \
             records, {ms} ms",
            100 - gets
        ),
        regime: "page cache warm",
        columns: COLUMNS.to_vec(),
        rows: rows.collect(),
    })
}

/// One measurement: children fill a store, and then work on it together.
fn one(options: &Options, runner: &Runner, load: Load, count: u64) -> Result<Vec<Option<f64>>> {
    let dir = private(&options.dir)?;
    let mut children: Vec<Worker> = Vec::new();
    for number in 0..count {
        // The first one fills the store before it says that it is ready.
        let mut child = Worker::start(options, runner, load, dir.path(), number)?;
        child.hear()?;
        children.push(child);
    }
    for child in &mut children {
        child.go()?;
    }
    let mut puts = Histogram::<u64>::new(3)?;
    let mut rate = 0.0;
    for child in &mut children {
        let said = child.hear()?;
        let mut words = said.split(' ');
        let (done, seconds) = (words.next().ok_or("no count")?, words.next().ok_or("no time")?);
        rate += done.parse::<f64>()? / seconds.parse::<f64>()? / 1e3;
        for word in words {
            let (ns, times) = word.split_once(':').ok_or("no histogram")?;
            puts.record_n(ns.parse()?, times.parse()?)?;
        }
    }
    for child in &mut children {
        child.process.wait()?;
    }
    let of = |figure: u64| (!puts.is_empty()).then_some(figure as f64 / 1e3);
    let [half, most] = [0.5, 0.999].map(|part| puts.value_at_quantile(part));
    Ok(vec![Some(rate), of(half), of(most), of(puts.max())])
}

/// A child that works on a store.
struct Worker {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Worker {
    fn start(
        options: &Options,
        runner: &Runner,
        load: Load,
        dir: &Path,
        number: u64,
    ) -> Result<Self> {
        let Load { records, value_len, gets, ms } = load;
        let mut command = match runner {
            Runner::Engine(engine) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["processes-child", "--engine", engine.name, "--dir"]).arg(dir);
                for (option, number) in [
                    ("--records", records),
                    ("--value-len", value_len as u64),
                    ("--gets", gets),
                    ("--number", number),
                    ("--ms", ms),
                ] {
                    command.args([option, &number.to_string()]);
                }
                command
            }
            Runner::Script { class, .. } => {
                let mut command = Command::new(&options.python);
                command.args(["-c", SCRIPT, class]).arg(dir);
                for number in [records, value_len as u64, gets, number, ms] {
                    command.arg(number.to_string());
                }
                command
            }
        };
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let out = process.stdout.take().ok_or("a child has no output")?;
        Ok(Self { process, lines: BufReader::new(out).lines() })
    }

    fn hear(&mut self) -> Result<String> {
        Ok(self.lines.next().ok_or("a child ended before its time")??)
    }

    /// Lets the child begin.
    fn go(&mut self) -> Result<()> {
        let mut into = self.process.stdin.take().ok_or("a child has no input")?;
        Ok(into.write_all(b"go\n")?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// The child: opens a store, the first one fills it, and all work when they are told to.
///
/// # Errors
/// Whatever the engine says, or a record that is missing.
pub fn child(engine: &str, dir: &Path, load: &Load, number: u64) -> Result<()> {
    let engines = shared_engines();
    let engine = engines.iter().find(|known| known.name == engine).ok_or("no such engine")?;
    let Load { records, value_len, gets, ms } = *load;
    // More overwrites than a machine makes in the time, so that nothing is evicted.
    let plan = Plan { writes: 20 * records + ms * 2_000, ..Plan::new(records, value_len) };
    let store = (engine.open)(dir, &plan)?;
    if number == 0 {
        for record in 0..records {
            store.put(&key(record), value(record, value_len))?;
        }
    }
    for record in 0..records {
        store.get(&key(record), &mut |bytes| _ = black_box(ends(bytes)))?;
    }
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    let mut puts = Histogram::<u64>::new(3)?;
    let mut buffer = Vec::with_capacity(value_len);
    let (begun, until) = (Instant::now(), Duration::from_millis(ms));
    let mut done = 0_u64;
    while !done.is_multiple_of(64) || begun.elapsed() < until {
        let draw = mix(done ^ mix(number));
        let (record, writes) = (draw / 100 % records, draw % 100 >= gets);
        if writes {
            stamped(record, value_len, draw, &mut buffer);
            let put = Instant::now();
            store.put(&key(record), &buffer)?;
            puts.record(u64::try_from(put.elapsed().as_nanos())?)?;
        } else if !store.get(&key(record), &mut |bytes| _ = black_box(ends(bytes)))? {
            return Err(format!("record {record} is missing").into());
        }
        done += 1;
    }
    let mut line = format!("{done} {}", begun.elapsed().as_secs_f64());
    for step in puts.iter_recorded() {
        line += &format!(" {}:{}", step.value_iterated_to(), step.count_at_value());
    }
    println!("{line}");
    Ok(())
}
