//! A cache that is switched off: everything works, and nothing is kept.
//!
//! `LARDER_DISABLE=1` does the same to every cache of a program.

use std::cell::Cell;

use larder::{Cache, Engine, Null, Put};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::<u32, String>::builder().engines(["null"]).build()?;
    let runs = Cell::new(0);
    for _ in 0..3 {
        let text = cache.get_or_insert_with(&7, || {
            runs.set(runs.get() + 1);
            "seven".to_owned()
        })?;
        assert_eq!(text, "seven");
    }
    assert_eq!(runs.get(), 3, "computed each time");
    assert!(!cache.insert(7, "seven".to_owned())?.is_admitted());
    assert!(cache.is_empty());

    // For whoever wants an engine.
    let null = Null::default();
    assert!(!null.put(b"key", b"value", &Put::default())?.is_admitted());
    assert_eq!(null.get(b"key")?, None);
    Ok(())
}
