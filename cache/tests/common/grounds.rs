//! Where structures are tested: in memory, in a store, and beside a cache in both modes.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]

use std::path::Path;
use std::sync::Arc;

use larder::structures::Structures;
use larder::{Cache, Clock, Disk, ManualClock, Mode, Retain};
use larder_engine::memory::Memory;
use tempfile::TempDir;

/// Structures, their clock, and what has to live for as long as they do.
pub struct Ground {
    pub name: &'static str,
    pub clock: Arc<ManualClock>,
    pub structures: Structures,
    _home: Option<TempDir>,
}

pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(1_000_000))
}

/// The store in a directory, which keeps everything.
pub fn on_disk(dir: &Path, clock: &Arc<ManualClock>) -> Structures {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let disk = Disk::builder(dir).retain(Retain::All).clock(Arc::clone(&clock)).open().unwrap();
    Structures::over(Arc::new(disk), clock).unwrap()
}

pub fn grounds() -> Vec<Ground> {
    let mut all = Vec::new();
    let mut add = |name, make: &dyn Fn(&Path, &Arc<ManualClock>) -> Structures| {
        let (home, clock) = (tempfile::tempdir().unwrap(), clock());
        let structures = make(&home.path().join("store"), &clock);
        all.push(Ground { name, clock, structures, _home: Some(home) });
    };
    add("memory", &|_, clock| {
        let clock = Arc::clone(clock) as Arc<dyn Clock>;
        let memory = Memory::builder(32 << 20).retain(Retain::All).clock(Arc::clone(&clock));
        Structures::over(Arc::new(memory.build().unwrap()), clock).unwrap()
    });
    add("disk", &|dir, clock| on_disk(dir, clock));
    add("cache in memory", &|_, clock| {
        let clock = Arc::clone(clock) as Arc<dyn Clock>;
        Cache::<u32, u32>::builder().clock(clock).build().unwrap().structures().unwrap()
    });
    for (name, mode) in
        [("cache", Mode::WriteThrough), ("cache, writing on evict", Mode::WriteOnEvict)]
    {
        add(name, &|dir, clock| {
            let clock = Arc::clone(clock) as Arc<dyn Clock>;
            let builder = Cache::<u32, u32>::builder().disk(dir).retain(Retain::All).mode(mode);
            builder.clock(clock).namespace("other").build().unwrap().structures().unwrap()
        });
    }
    all
}
