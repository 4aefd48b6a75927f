//! Several engines: memory serves while the disk cannot, and the disk again once it can.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::{Cache, Disk, Engine, EngineSettings, Engines, Event, Health, Needs, Survives};

fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let dir = home.path().join("store");
    // Another program has the directory.
    let other = Disk::builder(&dir).open()?;
    for engine in Engines::default().available(&EngineSettings::new().dir(&dir)) {
        eprintln!("{engine}");
    }

    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    let cache = Cache::<u32, String>::builder()
        .disk(&dir)
        .needs(Needs::new().survives(Survives::Process))
        .backoff(Duration::from_millis(10), Duration::from_millis(100))
        .on_event(move |event| hears.lock().expect("no panic").push(event.clone()))
        .build()?;
    eprintln!("{}", cache.choice().expect("needs were given"));
    assert_eq!(cache.health(), Health::Degraded);
    assert!(cache.insert(7, "seven".to_owned())?.is_admitted());
    assert_eq!(cache.get(&7)?.as_deref(), Some("seven"));

    other.close()?;
    let mut key = 100;
    while cache.health() != Health::Healthy {
        std::thread::sleep(Duration::from_millis(5));
        key += 1;
        assert!(cache.insert(key, "anything".to_owned())?.is_admitted());
    }
    for link in cache.links() {
        eprintln!("{}: {:?}, {} failures", link.name(), link.circuit(), link.failures());
    }
    assert!(cache.insert(8, "eight".to_owned())?.is_admitted());
    cache.close()?;
    assert!(
        told.lock().expect("no panic").iter().any(|event| matches!(event, Event::Switched { .. }))
    );

    // What was put since is there for the next run.
    let cache = Cache::<u32, String>::builder().disk(&dir).build()?;
    assert_eq!(cache.get(&8)?.as_deref(), Some("eight"));
    Ok(())
}
