//! An engine of one's own: a plain map, registered under a name and used below memory.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use larder::{
    Cache, Clock, Engine, EngineSettings, Engines, Meta, Outcome, Put, Sharing, Stats, SystemClock,
    Value,
};
use larder_engine::Result;

/// Values in a map; of the contract it needs keys, values, versions and expiry.
#[derive(Debug, Default)]
struct Shelf {
    map: RwLock<BTreeMap<Vec<u8>, Value>>,
    version: AtomicU64,
}

impl Shelf {
    fn live(&self, key: &[u8]) -> Option<Value> {
        let map = self.map.read().expect("no panic under the lock");
        map.get(key).filter(|value| SystemClock.now_ms() < value.meta().expires_at_ms).cloned()
    }
}

impl Engine for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        Ok(self.live(key))
    }

    fn version(&self, key: &[u8]) -> Result<Option<u64>> {
        Ok(self.live(key).map(|value| value.meta().version))
    }

    fn put(&self, key: &[u8], value: &[u8], options: &Put<'_>) -> Result<Outcome> {
        let mut map = self.map.write().expect("no panic under the lock");
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let now_ms = SystemClock.now_ms();
        let mut meta = Meta::default();
        meta.codec = options.codec;
        meta.written_at_ms = now_ms;
        meta.expires_at_ms = options.ttl.deadline_ms(now_ms, None);
        meta.version = version;
        map.insert(key.to_vec(), Value::new(value, meta));
        Ok(Outcome::Admitted { version })
    }

    fn remove(&self, key: &[u8]) -> Result<bool> {
        let was_live = self.live(key).is_some();
        self.map.write().expect("no panic under the lock").remove(key);
        Ok(was_live)
    }

    fn clear(&self) -> Result<u64> {
        Ok(std::mem::take(&mut *self.map.write().expect("no panic under the lock")).len() as u64)
    }

    fn len(&self) -> u64 {
        self.map.read().expect("no panic under the lock").len() as u64
    }

    fn iter(&self) -> Box<dyn Iterator<Item = Result<(Vec<u8>, Value)>> + '_> {
        let keys: Vec<_> =
            self.map.read().expect("no panic under the lock").keys().cloned().collect();
        Box::new(keys.into_iter().filter_map(|key| self.live(&key).map(|value| Ok((key, value)))))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let shelf = Arc::new(Shelf::default());
    let mut engines = Engines::default();
    let opened = Arc::clone(&shelf);
    engines.register("shelf", Sharing::Threads, move |_: &EngineSettings| Ok(opened.clone()))?;
    for engine in engines.available(&EngineSettings::new()) {
        eprintln!("{engine}");
    }

    let cache =
        Cache::<String, f64>::builder().registry(engines).engines(["shelf", "memory"]).build()?;
    assert_eq!(cache.get_or_insert_with("half", || 0.5)?, 0.5);
    assert_eq!(shelf.len(), 1, "it is below memory, too");
    assert!(cache.links()[0].serves());
    cache.remove("half")?;
    assert_eq!((cache.get("half")?, shelf.len()), (None, 0));
    Ok(())
}
