//! Reads with some overwrites among them, under a Zipf load: what a cache that fits sees.

use std::hint::black_box;

use larder_rivals::{DiskRival, Plan, Result};

use crate::data::{Zipf, ends, is_value, key, mix, shuffled, stamped};
use crate::report::Group;
use crate::rounds::{Setup, Title};
use crate::stores::{Loaded, Sum};
use crate::timed::{Took, on_threads, share};

const VALUE_LEN: usize = 1 << 10;
const EXPONENT: f64 = 0.99;
/// One request in so many overwrites.
const WRITE_EVERY: u64 = 20;

/// A request: the record, and whether it is overwritten.
type Request = (u64, bool);

/// Runs so many requests over a fifth as many records.
///
/// # Errors
/// Whatever an engine says, or a wrong answer of one.
pub fn run(setup: &Setup, requests: u64, groups: &mut Vec<Group>) -> Result<()> {
    let records = (requests / 5).max(1000);
    let order = shuffled(records);
    let zipf = Zipf::new(u32::try_from(records)?, EXPONENT);
    let draw = |(at, rank): (usize, usize)| {
        (order[rank], mix(at as u64 ^ 0x0072_e571).is_multiple_of(WRITE_EVERY))
    };
    let drawn: Vec<Request> = zipf.ranks(requests, 3).enumerate().map(draw).collect();
    let overwrites = drawn.iter().filter(|(_, writes)| *writes).count() as u64;
    let writes = records + overwrites * setup.repeats as u64;
    let plan = Plan { writes, ..Plan::new(records, VALUE_LEN) };

    let mut expected = Sum::default();
    drawn
        .iter()
        .filter(|(_, writes)| !writes)
        .for_each(|(record, _)| expected.add(*record, VALUE_LEN));
    let stores = setup.engines.iter().map(|engine| {
        Loaded::checked(engine.open, &plan, &setup.dir, &order)
            .map_err(|error| format!("{}: {error}", engine.name).into())
    });
    let stores: Vec<Loaded> = stores.collect::<Result<_>>()?;
    let mut round = 0;
    let samples = setup.rounds("mix", |at, _| {
        round += 1;
        measure(&*stores[at].store, &drawn, setup.threads, round, expected)
    })?;
    for (loaded, engine) in stores.iter().zip(&setup.engines) {
        check_all(&*loaded.store, records).map_err(|error| format!("{}: {error}", engine.name))?;
    }
    let title = Title {
        workload: format!("mix/{VALUE_LEN}"),
        title: format!(
            "disk, 1 KiB: mix of 95 % gets and 5 % overwrites, Zipf 0.99 over {records} records"
        ),
        regime: "settled store, page cache warm",
    };
    setup.speeds(title, requests, &samples, |_| String::new(), groups);
    Ok(())
}

fn measure(
    store: &dyn DiskRival,
    requests: &[Request],
    threads: usize,
    round: u64,
    expected: Sum,
) -> Result<Took> {
    let (took, sums) = on_threads(threads, |thread| {
        let mut sum = Sum::default();
        let mut buffer = Vec::with_capacity(VALUE_LEN);
        for at in share(requests.len(), thread, threads) {
            let (record, writes) = requests[at];
            if writes {
                stamped(record, VALUE_LEN, round << 32 | at as u64, &mut buffer);
                store.put(&key(record), &buffer)?;
            } else {
                let mut seen = 0;
                let hit = store.get(&key(record), &mut |value| seen = ends(value))?;
                sum.hits += u64::from(hit);
                sum.ends = sum.ends.wrapping_add(black_box(seen));
            }
        }
        store.drain()?;
        Ok(sum)
    })?;
    expected.expect(sums)?;
    Ok(took)
}

/// Checks that each record is there, with its value and some stamp.
fn check_all(store: &dyn DiskRival, records: u64) -> Result<()> {
    for record in 0..records {
        let mut right = false;
        let mut look = |bytes: &[u8]| right = is_value(bytes, record, VALUE_LEN);
        if !store.get(&key(record), &mut look)? || !right {
            return Err(format!("record {record} is missing or wrong after the mix").into());
        }
    }
    Ok(())
}
