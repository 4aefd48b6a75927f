//! The engines of this crate, each in the settings that differ in what may happen.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "zstd")]
use larder_engine::Compression;
use larder_engine::conformance::{self, Harness, Keeps, Liberties, Place};
use larder_engine::memory::{Memory, PolicyKind};
use larder_engine::{Access, Disk, DiskBuilder, Engine, ManualClock, Result, Retain};
use tempfile::TempDir;

const POLICIES: [PolicyKind; 3] = [PolicyKind::S3Fifo, PolicyKind::Lru, PolicyKind::Fifo];

/// The memory tier.
struct InMemory {
    policy: PolicyKind,
    budget: u64,
    ttl: Option<Duration>,
    liberties: Liberties,
}

impl Harness for InMemory {
    fn liberties(&self) -> Liberties {
        Liberties { default_ttl: self.ttl, ..self.liberties }
    }

    fn place(&self) -> Box<dyn Place> {
        let Self { policy, budget, ttl, .. } = *self;
        Box::new(move |clock: Arc<ManualClock>| {
            let mut builder = Memory::builder(budget).policy(policy).clock(clock);
            if let Some(ttl) = ttl {
                builder = builder.ttl(ttl);
            }
            Ok(Box::new(builder.build()?) as Box<dyn Engine>)
        })
    }
}

#[test]
fn memory_with_room_keeps_everything() {
    for policy in POLICIES {
        let liberties = Liberties { refuses_len: Some(64 << 20), ..Liberties::default() };
        conformance::check(&InMemory { policy, budget: 64 << 20, ttl: None, liberties });
    }
}

#[test]
fn memory_without_room_misses_and_nothing_else() {
    for policy in POLICIES {
        let liberties = Liberties {
            may_evict: true,
            admits_len: 100 << 10,
            refuses_len: Some(400 << 10),
            ..Liberties::default()
        };
        conformance::check(&InMemory { policy, budget: 400 << 10, ttl: None, liberties });
    }
}

#[test]
fn memory_with_a_default_ttl_uses_it() {
    let ttl = Some(Duration::from_millis(150));
    let liberties = Liberties::default();
    let policy = PolicyKind::default();
    conformance::check(&InMemory { policy, budget: 64 << 20, ttl, liberties });
}

/// The store on disk.
struct OnDisk {
    budget: u64,
    segment_len: u32,
    ttl: Option<Duration>,
    retain: Retain,
    compress: bool,
    access: Access,
    liberties: Liberties,
}

/// A directory that a store lives in.
struct Directory {
    dir: TempDir,
    budget: u64,
    segment_len: u32,
    ttl: Option<Duration>,
    retain: Retain,
    compress: bool,
    access: Access,
}

impl Harness for OnDisk {
    fn liberties(&self) -> Liberties {
        Liberties { keeps: Keeps::Everything, default_ttl: self.ttl, ..self.liberties }
    }

    fn place(&self) -> Box<dyn Place> {
        // In memory where that can be had: what a sync costs is no part of the contract.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a temporary directory");
        let Self { budget, segment_len, ttl, retain, compress, access, .. } = *self;
        Box::new(Directory { dir, budget, segment_len, ttl, retain, compress, access })
    }
}

impl Place for Directory {
    fn open(&self, clock: Arc<ManualClock>) -> Result<Box<dyn Engine>> {
        let mut builder = Disk::builder(self.dir.path().join("store"))
            .clock(clock)
            .budget(self.budget)
            .segment_len(self.segment_len)
            .retain(self.retain)
            .access(self.access);
        if let Some(ttl) = self.ttl {
            builder = builder.ttl(ttl);
        }
        if self.compress {
            builder = compressing(builder);
        }
        Ok(Box::new(builder.open()?))
    }
}

#[cfg(feature = "zstd")]
fn compressing(builder: DiskBuilder) -> DiskBuilder {
    builder.compression(Compression { min_len: 20, ..Compression::default() })
}

#[cfg(not(feature = "zstd"))]
fn compressing(builder: DiskBuilder) -> DiskBuilder {
    builder
}

#[test]
fn disk_with_room_keeps_everything() {
    let liberties = Liberties::default();
    conformance::check(&OnDisk {
        budget: 1 << 30,
        segment_len: 1 << 20,
        ttl: None,
        retain: Retain::Recent,
        compress: false,
        access: Access::Mapped,
        liberties,
    });
}

#[test]
fn disk_of_many_small_segments_keeps_everything() {
    let liberties = Liberties::default();
    conformance::check(&OnDisk {
        budget: 256 << 20,
        segment_len: 64 << 10,
        ttl: None,
        retain: Retain::Recent,
        compress: false,
        access: Access::Mapped,
        liberties,
    });
}

#[test]
fn disk_that_retains_all_keeps_everything() {
    let (budget, segment_len, retain) = (256 << 20, 64 << 10, Retain::All);
    let liberties = Liberties::default();
    conformance::check(&OnDisk {
        budget,
        segment_len,
        ttl: None,
        retain,
        compress: true,
        access: Access::Mapped,
        liberties,
    });
}

#[test]
fn disk_without_room_misses_and_nothing_else() {
    let liberties = Liberties {
        may_evict: true,
        admits_len: 300 << 10,
        refuses_len: Some(2 << 20),
        ..Liberties::default()
    };
    conformance::check(&OnDisk {
        budget: 2 << 20,
        segment_len: 64 << 10,
        ttl: None,
        retain: Retain::Recent,
        compress: true,
        access: Access::Mapped,
        liberties,
    });
}

#[test]
fn disk_with_a_default_ttl_uses_it() {
    let ttl = Some(Duration::from_millis(150));
    let liberties = Liberties::default();
    conformance::check(&OnDisk {
        budget: 1 << 30,
        segment_len: 1 << 20,
        ttl,
        retain: Retain::Recent,
        compress: false,
        access: Access::Mapped,
        liberties,
    });
}

#[test]
fn disk_in_the_buffered_mode_keeps_everything() {
    let liberties = Liberties::default();
    conformance::check(&OnDisk {
        budget: 256 << 20,
        segment_len: 256 << 10,
        ttl: None,
        retain: Retain::Recent,
        compress: false,
        access: Access::Buffered,
        liberties,
    });
}

#[test]
fn disk_in_the_buffered_mode_without_room_misses_and_nothing_else() {
    let liberties = Liberties {
        may_evict: true,
        admits_len: 300 << 10,
        refuses_len: Some(2 << 20),
        ..Liberties::default()
    };
    conformance::check(&OnDisk {
        budget: 2 << 20,
        segment_len: 64 << 10,
        ttl: None,
        retain: Retain::Recent,
        compress: true,
        access: Access::Buffered,
        liberties,
    });
}
