//! Memory over a store: what most programs want.

use std::error::Error;

use larder::{Cache, Mode};

fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let open = |mode| {
        let builder = Cache::<String, u64>::builder().disk(home.path().join("lengths")).mode(mode);
        builder.memory(1 << 20).disk_budget(64 << 20).build()
    };
    let slow = |text: &str| text.bytes().map(u64::from).sum::<u64>();

    let sums = open(Mode::WriteThrough)?;
    let sum = sums.get_or_insert_with("larder", || slow("larder"))?;
    // A killed process loses nothing: no close, no flush.
    drop(sums);

    let sums = open(Mode::WriteOnEvict)?;
    let found = sums.get_or_insert_with("larder", || unreachable!("it is on disk"))?;
    assert_eq!(found, sum);
    assert_eq!((sums.stats().disk_hits, sums.stats().memory_hits), (1, 0));
    assert_eq!(sums.get("larder")?, Some(sum));
    assert_eq!(sums.stats().memory_hits, 1, "it came up to memory");

    // Fewer writes: a value that is replaced a thousand times is written once.
    for n in 0..1_000 {
        assert!(sums.insert("counter".to_owned(), n)?.is_admitted());
    }
    assert_eq!(sums.flush()?, 1);
    sums.close()?;
    assert_eq!(open(Mode::WriteThrough)?.get("counter")?, Some(999));
    Ok(())
}
