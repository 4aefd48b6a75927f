//! Memory that a store takes for itself: the resident anonymous memory of a process that does
//! nothing else. What is mapped from files is the page cache's, which the system takes back.

use std::path::Path;
use std::process::{Command, Stdio};

use larder_rivals::{DiskEngine, Plan, Result};

use crate::data::{key, value};
use crate::rounds::{Setup, named};
use crate::sheet::{Column, Line, Sheet};
use crate::stores::{Sum, private, put_batches, sum_of};

const VALUE_LEN: usize = 100;
const COLUMNS: [Column; 3] = [
    Column { name: "loaded", unit: "B/record" },
    Column { name: "reopened", unit: "B/record" },
    Column { name: "all read", unit: "B/record" },
];

/// Measures so many records.
///
/// # Errors
/// Whatever an engine says, or a wrong answer of one.
pub fn run(setup: &Setup, count: u64, sheets: &mut Vec<Sheet>) -> Result<()> {
    let samples = setup.rounds("heap", |_, engine| measure(setup, count, engine))?;
    let row = |(engine, figures): (&DiskEngine, &Vec<Vec<Option<f64>>>)| {
        Line::new(engine.name, engine.settings, String::new(), figures)
    };
    let sheet = Sheet {
        workload: format!("heap/{VALUE_LEN}"),
        title: format!(
            "anonymous memory of a process with {count} records of 16 B + 100 B: after loading; \
             in another process, after opening, and after reading everything"
        ),
        regime: "resident, above what the process took before",
        columns: COLUMNS.to_vec(),
        rows: setup.engines.iter().zip(&samples).map(row).collect(),
    };
    // No ratios: a store that keeps next to nothing makes them huge and says nothing.
    sheet.print();
    sheets.push(sheet);
    Ok(())
}

fn measure(setup: &Setup, count: u64, engine: &DiskEngine) -> Result<Vec<Option<f64>>> {
    let dir = private(&setup.dir)?;
    let mut figures = Vec::new();
    for phase in ["load", "reopen"] {
        let output = Command::new(std::env::current_exe()?)
            .args(["heap-child", "--engine", engine.name, "--count", &count.to_string()])
            .args(["--phase", phase, "--dir"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
        }
        for number in String::from_utf8(output.stdout)?.split_whitespace() {
            figures.push(Some(number.parse::<f64>()? / count as f64));
        }
    }
    Ok(figures)
}

/// The child: loads a store, or opens and reads one, and prints by how many bytes its anonymous
/// memory grew, after each step.
///
/// # Errors
/// Whatever the engine says, or a wrong answer of it.
pub fn child(engine: &str, dir: &Path, count: u64, phase: &str) -> Result<()> {
    let engines = named(&[engine.to_owned()])?;
    let plan = Plan::new(count, VALUE_LEN);
    let records: Vec<u64> = (0..count).collect();
    // Makes the pool that values are cut from before the first look.
    std::hint::black_box(value(0, VALUE_LEN));
    let before = anonymous()?;
    let store = (engines[0].open)(dir, &plan)?;
    if phase == "load" {
        put_batches(&*store, &plan, 0..usize::try_from(count)?)?;
        store.settle()?;
        println!("{}", anonymous()?.saturating_sub(before));
    } else {
        // A store that opens itself on the first read has not opened yet.
        store.get(&key(0), &mut |_| ())?;
        println!("{}", anonymous()?.saturating_sub(before));
        let mut reader = store.reader()?;
        Sum::of_all(&plan).expect([sum_of(&records, 0, |key, look| reader.get(key, look))?])?;
        drop(reader);
        println!("{}", anonymous()?.saturating_sub(before));
    }
    Ok(())
}

/// Bytes of anonymous memory that this process has in memory.
pub(crate) fn anonymous() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).ok_or("no RssAnon")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}
