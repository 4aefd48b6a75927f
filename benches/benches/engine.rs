//! Microbenchmarks of larder alone, to notice when it becomes slower. They run in less than a
//! minute. Comparisons with others: the binary `side-by-side`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use larder_benches::data::{ends, key, shuffled, value};
use larder_engine::memory::{Capacity, Tier};
use larder_engine::{Disk, Engine, Put};
use tempfile::TempDir;

const RECORDS: u64 = 100_000;
const VALUE_LEN: usize = 100;

fn disk(criterion: &mut Criterion) {
    let (_dir, disk) = open();
    let mut group = criterion.benchmark_group("disk");

    // Overwrites a fixed set of keys, so that neither the index nor the directory grows without
    // end: old segments are reclaimed on the way, as in a cache that is full.
    let mut record = 0;
    let mut put = || {
        record = (record + 1) % RECORDS;
        disk.put(&key(record), value(record, VALUE_LEN), &Put::default()).expect("a healthy disk")
    };
    for _ in 0..RECORDS {
        assert!(put().is_admitted());
    }
    group.bench_function("put_100", |bencher| bencher.iter(&mut put));

    for record in 0..RECORDS {
        let outcome = disk.put(&key(record), value(record, VALUE_LEN), &Put::default());
        assert!(outcome.expect("a healthy disk").is_admitted());
    }
    let order = shuffled(RECORDS);
    let mut records = order.iter().cycle();
    group.bench_function("get_100", |bencher| {
        bencher.iter(|| {
            let key = key(*records.next().expect("a cycle has no end"));
            let value = disk.get(&key).expect("a healthy disk").expect("a hit");
            black_box(ends(&value))
        });
    });
    group.bench_function("miss", |bencher| {
        bencher.iter(|| {
            let key = key(RECORDS + *records.next().expect("a cycle has no end"));
            assert!(disk.get(&key).expect("a healthy disk").is_none());
        });
    });
    group.finish();
}

fn open() -> (TempDir, Disk) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = Disk::builder(dir.path().join("larder")).budget(256 << 20).open();
    (dir, disk.expect("an empty directory"))
}

fn memory(criterion: &mut Criterion) {
    const ENTRIES: u64 = 100_000;
    let tier = Tier::builder(Capacity::items(2 * ENTRIES)).build().expect("valid options");
    let mut group = criterion.benchmark_group("memory");
    let insert = |number: u64| assert!(tier.insert(number, number, u64::MAX).is_ok());

    (0..ENTRIES).for_each(insert);
    let order = shuffled(ENTRIES);
    let mut numbers = order.iter().cycle();
    group.bench_function("hit", |bencher| {
        bencher.iter(|| {
            let number = numbers.next().expect("a cycle has no end");
            black_box(tier.get(number).expect("a hit"))
        });
    });
    // New keys for ever, into a tier that is full: every insert evicts one.
    let mut number = 3 * ENTRIES;
    (ENTRIES..=number).for_each(insert);
    group.bench_function("insert_and_evict", |bencher| {
        bencher.iter(|| {
            number += 1;
            insert(number);
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = disk, memory
}
criterion_main!(benches);
