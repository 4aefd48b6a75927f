//! A cache on tokio: what may wait runs on its threads for that.

use std::error::Error;
use std::time::Duration;

use larder::{Cache, Loaded};

#[larder::cached(capacity = 1_000)]
async fn length(url: String) -> usize {
    tokio::time::sleep(Duration::from_millis(1)).await;
    url.len()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let pages =
        Cache::<String, String>::builder().disk(home.path().join("pages")).build()?.on_tokio();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let pages = pages.clone();
            tokio::spawn(async move {
                let load = || async {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    Ok::<_, std::io::Error>(Loaded::new("<h1>home</h1>".to_owned()))
                };
                pages.get_or_load("/", load).await.map_err(|error| error.to_string())
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await??, "<h1>home</h1>");
    }
    assert_eq!(pages.blocking().stats().loads, 1);

    assert_eq!((length("larder".to_owned()).await, length("larder".to_owned()).await), (6, 6));
    assert_eq!(length_cache().stats().runs, 1);
    Ok(())
}
