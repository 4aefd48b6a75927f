//! Settings from a file and the environment, all mistakes at once, and changes while the cache is in use.

use std::error::Error;
use std::fs;

use larder::Config;

fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let file = home.path().join("larder.toml");
    fs::write(
        &file,
        format!(
            "engine = [\"two-level\", \"memory\"]\n\
             memory = \"4MiB\"\n\
             dir = {:?}\n\
             disk = \"64MiB\"\n\
             ttl = \"15m\"\n",
            home.path().join("pages")
        ),
    )?;
    // The environment has the last word: LARDER_MEMORY=1GiB.
    let config = Config::from_file(&file)?.with_vars([("LARDER_TTL".into(), "1h".into())])?;
    let cache = config.builder::<u32, String>()?.build()?;
    assert_eq!(cache.choice().expect("it was named").chain(), ["two-level", "memory"]);
    assert!(cache.insert(1, "one".to_owned())?.is_admitted());

    // While it is in use.
    let more = Config::from_toml("memory = \"8MiB\"\ndisk = \"32MiB\"\nmode = \"write-on-evict\"")?;
    let changed = cache.reconfigure(&more)?;
    assert_eq!(changed.changed(), ["disk", "memory"]);
    assert_eq!(changed.needs_reopening(), ["mode"]);
    assert_eq!(cache.stats().memory.budget_bytes, 8 << 20);

    // Everything that is wrong is told at once.
    let wrong = Config::from_toml("memory = \"lots\"\nttll = \"15m\"\njitter = 2");
    let wrong = wrong.expect_err("three things are wrong");
    eprintln!("{wrong}");
    assert_eq!(wrong.problems().len(), 3);
    Ok(())
}
