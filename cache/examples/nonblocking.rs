//! A cache for futures, on any executor: loads run once over all tasks, nothing waits on their threads.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::join_all;
use larder::{Cache, Work};

fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let cache = Cache::<u32, String>::builder().disk(home.path().join("pages")).build()?;
    // However your executor runs what may wait for a disk.
    let pages = cache.nonblocking(|work: Work| drop(std::thread::spawn(work)));
    let runs = AtomicU32::new(0);
    let fetch = || async {
        runs.fetch_add(1, Ordering::Relaxed);
        "<h1>home</h1>".to_owned()
    };
    let all =
        futures_executor::block_on(join_all((0..100).map(|_| pages.get_or_insert_with(&1, fetch))));
    for page in all {
        assert_eq!(page?, "<h1>home</h1>");
    }
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    // The same cache, without futures.
    assert_eq!(cache.get(&1)?.as_deref(), Some("<h1>home</h1>"));
    Ok(())
}
