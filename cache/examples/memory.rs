//! A cache in memory alone: budgets, policies, and what they do.
//!
//! ```sh
//! cargo run -p larder --example memory
//! ```

use larder::{Cache, PolicyKind};

fn main() -> Result<(), larder::Error> {
    let squares = Cache::<u64, u64>::builder()
        .engines(["memory"])
        .memory_items(100)
        .policy(PolicyKind::Lru)
        .build()?;
    for n in 0..1_000 {
        assert_eq!(squares.get_or_insert_with(&n, || n * n)?, n * n);
    }
    // A hundred of them are there, and the last one used is among them.
    assert_eq!(squares.len(), 100);
    assert_eq!(squares.get(&999)?, Some(998_001));
    assert_eq!(squares.get(&0)?, None);

    // By bytes, and with a word on what a value refers to.
    let texts =
        Cache::<u32, String>::builder().memory(64 << 10).weigher(|text| text.capacity() as u64);
    let texts = texts.build()?;
    for n in 0..1_000 {
        assert!(texts.insert(n, "x".repeat(1_000))?.is_admitted());
    }
    let stats = texts.stats();
    assert!(stats.memory.used_bytes <= 64 << 10 && stats.memory.evictions > 900);
    // What would never fit is refused, and says so.
    assert!(!texts.insert(0, "x".repeat(1 << 20))?.is_admitted());
    eprintln!("{} texts in {} bytes", stats.memory.entries, stats.memory.used_bytes);
    Ok(())
}
