//! One store that is open several times at once, as processes have it: each operation goes to another
//! opening, and none may see that there is more than one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder_engine::conformance::{self, Harness, Keeps, Liberties, Place};
use larder_engine::{
    Atomic, Disk, Engine, Expected, ManualClock, Outcome, Put, Result, Retain, Stats, Tagged, Ttl,
    Value,
};
use tempfile::TempDir;

/// How often the store is open.
const OPENINGS: usize = 3;

#[derive(Debug)]
struct Crowd {
    disks: Vec<Disk>,
    next: AtomicUsize,
}

impl Crowd {
    fn any(&self) -> &Disk {
        &self.disks[self.next.fetch_add(1, Ordering::Relaxed) % self.disks.len()]
    }
}

impl Engine for Crowd {
    fn name(&self) -> &'static str {
        "crowd"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.any().get(key)
    }

    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        self.any().version(key)
    }

    fn put(&self, key: &[u8], value: &[u8], options: &Put<'_>) -> Result<Outcome> {
        self.any().put(key, value, options)
    }

    fn remove(&self, key: &[u8]) -> Result<bool> {
        self.any().remove(key)
    }

    fn clear(&self) -> Result<u64> {
        self.any().clear()
    }

    fn len(&self) -> u64 {
        self.any().len()
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        self.any().iter()
    }

    fn sync(&self) -> Result<()> {
        self.any().sync()
    }

    fn close(&self) -> Result<()> {
        self.disks.iter().try_for_each(Disk::close)
    }

    fn stats(&self) -> Stats {
        let mut sum = self.disks[0].stats();
        for other in self.disks[1..].iter().map(Disk::stats) {
            sum.hits += other.hits;
            sum.misses += other.misses;
            sum.inserts += other.inserts;
            sum.removes += other.removes;
            sum.evictions += other.evictions;
            sum.expired += other.expired;
            sum.rejected += other.rejected;
            sum.put_bytes += other.put_bytes;
            sum.written_bytes += other.written_bytes;
        }
        sum
    }

    fn atomic(&self) -> Option<&dyn Atomic> {
        Some(self)
    }

    fn tagged(&self) -> Option<&dyn Tagged> {
        Some(self)
    }
}

impl Tagged for Crowd {
    fn invalidate_tag(&self, tag: &[u8]) -> Result<()> {
        Tagged::invalidate_tag(self.any(), tag)
    }

    fn keys_by_tag(&self, tag: &[u8]) -> Result<Vec<Vec<u8>>> {
        Tagged::keys_by_tag(self.any(), tag)
    }

    fn tag_id(&self, tag: &[u8]) -> Result<u64> {
        Tagged::tag_id(self.any(), tag)
    }

    fn get_tagged(&self, key: &[u8]) -> Result<Option<(Value, Vec<u64>)>> {
        Tagged::get_tagged(self.any(), key)
    }
}

impl Atomic for Crowd {
    fn put_if(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Put<'_>,
        expected: Expected,
    ) -> Result<Outcome> {
        self.any().put_if(key, value, options, expected)
    }

    fn take(&self, key: &[u8]) -> Result<Option<Value>> {
        self.any().take(key)
    }

    fn touch(&self, key: &[u8], ttl: Ttl) -> Result<bool> {
        self.any().touch(key, ttl)
    }

    fn add_to(
        &self,
        key: &[u8],
        by: i64,
        initial: Option<i64>,
        options: &Put<'_>,
    ) -> Result<Option<i64>> {
        self.any().add_to(key, by, initial, options)
    }
}

/// A crowd in settings of its own.
struct Shared {
    budget: u64,
    segment_len: u32,
    retain: Retain,
    liberties: Liberties,
}

struct Directory {
    dir: TempDir,
    budget: u64,
    segment_len: u32,
    retain: Retain,
}

impl Harness for Shared {
    fn liberties(&self) -> Liberties {
        Liberties { keeps: Keeps::Everything, ..self.liberties }
    }

    fn place(&self) -> Box<dyn Place> {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a temporary directory");
        let Self { budget, segment_len, retain, .. } = *self;
        Box::new(Directory { dir, budget, segment_len, retain })
    }
}

impl Place for Directory {
    fn open(&self, clock: Arc<ManualClock>) -> Result<Box<dyn Engine>> {
        let open = |_| {
            Disk::builder(self.dir.path().join("store"))
                .clock(Arc::<ManualClock>::clone(&clock))
                .budget(self.budget)
                .segment_len(self.segment_len)
                .retain(self.retain)
                .shared()
                .open()
        };
        let disks = (0..OPENINGS).map(open).collect::<Result<_>>()?;
        Ok(Box::new(Crowd { disks, next: AtomicUsize::new(0) }))
    }
}

#[test]
fn a_shared_store_with_room_keeps_everything() {
    let (budget, segment_len, retain) = (256 << 20, 64 << 10, Retain::Recent);
    let liberties = Liberties::default();
    conformance::check(&Shared { budget, segment_len, retain, liberties });
}

#[test]
fn a_shared_store_that_retains_all_keeps_everything() {
    let (budget, segment_len, retain) = (256 << 20, 64 << 10, Retain::All);
    let liberties = Liberties::default();
    conformance::check(&Shared { budget, segment_len, retain, liberties });
}

#[test]
fn a_shared_store_without_room_misses_and_nothing_else() {
    let liberties = Liberties {
        may_evict: true,
        admits_len: 300 << 10,
        refuses_len: Some(2 << 20),
        ..Liberties::default()
    };
    let (budget, segment_len, retain) = (2 << 20, 64 << 10, Retain::Recent);
    conformance::check(&Shared { budget, segment_len, retain, liberties });
}
