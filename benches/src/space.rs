//! Storage per record: after loading, after overwriting everything three times, and after the
//! store's own compaction.

use larder_rivals::{DiskEngine, Plan, Result};

use crate::data::{key, shuffled, stamped};
use crate::rounds::Setup;
use crate::sheet::{Column, Line, Sheet};
use crate::stores::{BATCH, Loaded, check, check_three};

const VALUE_LEN: usize = 100;
const OVERWRITES: u64 = 3;
const COLUMNS: [Column; 3] = [
    Column { name: "loaded", unit: "B/record" },
    Column { name: "overwritten", unit: "B/record" },
    Column { name: "compacted", unit: "B/record" },
];

/// Measures so many records.
///
/// # Errors
/// Whatever an engine says, or a wrong answer of one.
pub fn run(setup: &Setup, count: u64, sheets: &mut Vec<Sheet>) -> Result<()> {
    let plan = Plan { writes: count * (1 + OVERWRITES), ..Plan::new(count, VALUE_LEN) };
    let order = shuffled(count);
    let samples = setup.rounds("space", |_, engine| measure(setup, &plan, &order, engine))?;
    let rows = setup.engines.iter().zip(&samples);
    let row = |(engine, figures): (&DiskEngine, &Vec<Vec<Option<f64>>>)| {
        let note = if engine.evicts { "keeps what is dead until its budget is full" } else { "" };
        Line::new(engine.name, engine.settings, note.to_owned(), figures)
    };
    let mut sheet = Sheet {
        workload: format!("space/{VALUE_LEN}"),
        title: format!(
            "storage of {count} records of 16 B + 100 B, allocated blocks: after loading, after \
             {OVERWRITES} overwrites of each, after its own compaction"
        ),
        regime: "open, settled",
        columns: COLUMNS.to_vec(),
        rows: rows.map(row).collect(),
    };
    sheet.compare();
    sheet.print();
    sheets.push(sheet);
    Ok(())
}

fn measure(
    setup: &Setup,
    plan: &Plan,
    order: &[u64],
    engine: &DiskEngine,
) -> Result<Vec<Option<f64>>> {
    let mut loaded = Loaded::full(engine.open, plan, &setup.dir)?;
    check_three(&*loaded.store, plan)?;
    let per_record = |bytes: u64| Some(bytes as f64 / plan.count as f64);
    let fresh = per_record(loaded.allocated()?);

    let mut buffers = vec![Vec::new(); BATCH];
    for round in 1..=OVERWRITES {
        // The last overwrite puts the values without a stamp, to be compared whole.
        let stamp = |record, buffer: &mut Vec<u8>| {
            stamped(record, VALUE_LEN, round, buffer);
            if round == OVERWRITES {
                buffer.copy_from_slice(crate::data::value(record, VALUE_LEN));
            }
        };
        for records in order.chunks(BATCH) {
            records.iter().zip(&mut buffers).for_each(|(record, buffer)| stamp(*record, buffer));
            let batch = records.iter().zip(&buffers);
            loaded.store.put_batch(&mut batch.map(|(record, value)| (key(*record), &value[..])))?;
        }
        loaded.store.drain()?;
    }
    loaded.store.settle()?;
    let overwritten = per_record(loaded.allocated()?);
    let compacts = loaded.store.compact()?;
    let compacted = if compacts { per_record(loaded.allocated()?) } else { None };
    for &record in order {
        check(plan, record, |look| loaded.store.get(&key(record), look))?;
    }
    Ok(vec![fresh, overwritten, compacted])
}
