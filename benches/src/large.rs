//! Values of 1 MiB: what moving bytes costs, beside a plain file that gets the same bytes.

use std::hint::black_box;

use larder_rivals::disk::REFERENCE;
use larder_rivals::{DiskEngine, DiskRival, Plan, Result};

use crate::data::{key, shuffled, value};
use crate::report::Group;
use crate::rounds::{Setup, Title};
use crate::stores::{Loaded, Sum, check_three, put_each, sum_of};
use crate::timed::{Took, on_threads, share};

const VALUE_LEN: usize = 1 << 20;

/// Runs puts, first gets, gets, and gets that look at each byte, over so many records.
///
/// # Errors
/// Whatever an engine says, or a wrong answer of one.
pub fn run(setup: &Setup, count: u64, groups: &mut Vec<Group>) -> Result<()> {
    let mut setup = setup.clone();
    setup.engines.push(REFERENCE);
    let plan = Plan::new(count, VALUE_LEN);
    let order = shuffled(count);
    let title = |name: &str, title, regime| Title {
        workload: format!("large/{name}/{VALUE_LEN}"),
        title: format!("disk, 1 MiB: {title}"),
        regime,
    };
    let note = |engine: &DiskEngine| {
        if engine.name == REFERENCE.name { "reference: no store" } else { "" }.to_owned()
    };

    let ends = Sum::of_all(&plan);
    let samples =
        setup.rounds("large put", |_, engine| put(&setup, &plan, &order, ends, engine))?;
    let (puts, firsts): (Vec<Vec<_>>, Vec<Vec<_>>) =
        samples.into_iter().map(|samples| samples.into_iter().unzip()).unzip();
    let titled =
        title("put", "put, each a write of its own, no sync", "fresh store, in page cache");
    setup.speeds(titled, count, &puts, note, groups);
    let regime = "after the puts, in page cache; checksums that are verified only once count";
    let titled =
        title("get-first", "first get of each value, of which both ends are looked at", regime);
    setup.speeds(titled, count, &firsts, note, groups);

    let stores = setup.engines.iter().map(|engine| {
        Loaded::checked(engine.open, &plan, &setup.dir, &order)
            .map_err(|error| format!("{}: {error}", engine.name).into())
    });
    let stores: Vec<Loaded> = stores.collect::<Result<_>>()?;
    let regime = "settled store, page cache warm";
    let samples =
        setup.rounds("large get", |at, _| get(&*stores[at].store, &order, setup.threads, ends))?;
    let titled = title("get", "get, random hits, of which both ends are looked at", regime);
    setup.speeds(titled, count, &samples, note, groups);

    let words = (0..count)
        .fold(0, |sum: u64, record| sum.wrapping_add(sum_words(value(record, VALUE_LEN))));
    let samples = setup.rounds("large get-whole", |at, _| {
        get_whole(&*stores[at].store, &order, setup.threads, words)
    })?;
    let titled = title("get-whole", "get, random hits, of which every byte is looked at", regime);
    setup.speeds(titled, count, &samples, note, groups);
    Ok(())
}

/// Fills a fresh store and reads it for the first time.
fn put(
    setup: &Setup,
    plan: &Plan,
    order: &[u64],
    ends: Sum,
    engine: &DiskEngine,
) -> Result<(Took, Took)> {
    let loaded = Loaded::fresh(engine.open, plan, &setup.dir)?;
    let count = usize::try_from(plan.count)?;
    let (took, _) = on_threads(setup.threads, |thread| {
        put_each(&*loaded.store, plan, share(count, thread, setup.threads))
    })?;
    let first = get(&*loaded.store, order, setup.threads, ends)?;
    check_three(&*loaded.store, plan)?;
    Ok((took, first))
}

fn get(store: &dyn DiskRival, order: &[u64], threads: usize, expected: Sum) -> Result<Took> {
    let (took, sums) = on_threads(threads, |thread| {
        let order = &order[share(order.len(), thread, threads)];
        sum_of(order, 0, |key, look| store.get(key, look))
    })?;
    expected.expect(sums)?;
    Ok(took)
}

fn get_whole(store: &dyn DiskRival, order: &[u64], threads: usize, expected: u64) -> Result<Took> {
    let (took, sums) = on_threads(threads, |thread| {
        let mut sum = 0_u64;
        for record in &order[share(order.len(), thread, threads)] {
            let mut seen = 0;
            store.get(&key(*record), &mut |value| seen = sum_words(value))?;
            sum = sum.wrapping_add(black_box(seen));
        }
        Ok(sum)
    })?;
    let sum = sums.into_iter().fold(0, u64::wrapping_add);
    if sum != expected {
        return Err("a value of 1 MiB is missing or wrong".into());
    }
    Ok(took)
}

/// The sum of a value's words: a use of each byte that costs little more than reading it.
fn sum_words(value: &[u8]) -> u64 {
    let (words, rest) = value.as_chunks::<8>();
    let sum = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| sum.wrapping_add((*byte).into()))
}
