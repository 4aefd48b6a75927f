//! Values near and past their time: loaded anew ahead of it, served a little longer, or as a last resort.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use larder::{Cache, Loaded, ManualClock};

fn main() -> Result<(), Box<dyn Error>> {
    // A clock that this program moves.
    let clock = Arc::new(ManualClock::at(0));
    let rates = Cache::<String, u32>::builder()
        .ttl(Duration::from_secs(60))
        .refresh_ahead(Duration::from_secs(5))
        .serve_stale(Duration::from_secs(30))
        .serve_stale_on_error(Duration::from_secs(3_600))
        .clock(clock.clone())
        .build()?;
    let load = |rate: u32| move || Ok::<_, std::io::Error>(Loaded::new(rate));
    let down = || Err(std::io::Error::other("no network"));

    assert_eq!(rates.get_or_load("EUR", load(100))?, 100);
    clock.advance(30_000);
    assert_eq!(rates.get_or_load("EUR", load(101))?, 100, "fresh");
    clock.advance(26_000);
    assert_eq!(rates.get_or_load("EUR", load(102))?, 102, "due: loaded ahead of its time");
    clock.advance(70_000);
    assert_eq!(rates.get("EUR")?, None, "past its time, for everyone but who would load it");
    assert_eq!(rates.get_or_load("EUR", down)?, 102, "the old one, as the new one cannot be had");
    assert_eq!(rates.get_or_load("EUR", load(103))?, 103);
    clock.advance(3_700_000);
    assert!(rates.get_or_load("EUR", down).is_err(), "gone for good");
    let stats = rates.stats();
    eprintln!(
        "{} loads, {} refreshes, {} stale hits",
        stats.loads, stats.refreshes, stats.stale_hits
    );
    assert_eq!((stats.refreshes, stats.stale_hits), (2, 1));
    Ok(())
}
