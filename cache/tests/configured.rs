//! Settings that are written down: all that is wrong is told at once, and what is right comes back.

#![cfg(feature = "config")]
#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::process::Command;
use std::time::Duration;

use larder::{Config, Error, ManualClock, MemoryLimit, Mode, PolicyKind};

const ALL: &str = r#"
enabled = true
memory = "1536KiB"
policy = "lru"
dir = "/tmp/somewhere"
disk = "1GiB"
mode = "write-on-evict"
namespace = "pages"
ttl = "15m"
serve_stale = "1m 30s"
serve_stale_on_error = "1day"
refresh_ahead = "10s"
refresh_early = 1
jitter = 0.25
strict = false
offline_after = 3
backoff_first = "250ms"
backoff_longest = "1m"
"#;

#[test]
fn every_field_is_read_and_comes_back_as_it_was() {
    let config = Config::from_toml(ALL).unwrap();
    assert_eq!(config.memory, Some(MemoryLimit::Bytes(1536 << 10)));
    assert_eq!(config.policy, Some(PolicyKind::Lru));
    assert_eq!(config.mode, Some(Mode::WriteOnEvict));
    assert_eq!(config.serve_stale, Some(Duration::from_secs(90)));
    assert_eq!(config.refresh_early, Some(1.0));
    assert_eq!(config.backoff_first, Some(Duration::from_millis(250)));
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Config::load(dir.path()).unwrap(), None);
    config.save(dir.path()).unwrap();
    assert_eq!(Config::load(dir.path()).unwrap(), Some(config));
    for memory in ["\"unlimited\"", "\"off\"", "1000", "\"1B\"", "\"0B\""] {
        let config = Config::from_toml(&format!("memory = {memory}")).unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config, "{json}");
    }
    let items = Config::from_toml("memory_items = 7").unwrap();
    assert_eq!(items.memory, Some(MemoryLimit::Items(7)));
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let text = r#"
        memory = "lots"
        policy = "best"
        mode = "sometimes"
        ttl = 15
        serve_stale = "soon"
        jitter = 1.5
        refresh_early = nan
        strict = "perhaps"
        offline_after = 0
        namespace = ""
        dir = ["a"]
        polciy = "lru"
        colour = "blue"
    "#;
    let error = Config::from_toml(text).unwrap_err();
    let fields: Vec<&str> = error.problems().iter().map(|problem| &*problem.field).collect();
    let expected = [
        "colour",
        "dir",
        "jitter",
        "memory",
        "mode",
        "namespace",
        "offline_after",
        "polciy",
        "policy",
        "refresh_early",
        "serve_stale",
        "strict",
        "ttl",
    ];
    assert_eq!(fields, expected);
    let text = error.to_string();
    assert_eq!(text.lines().count(), expected.len());
    for line in [
        "memory is \"lots\": give a size, as \"64MiB\" or a number of bytes, \"unlimited\" or \"off\"",
        "ttl is 15: give a time, as \"90s\" or \"2h 30m\"",
        "polciy: no such field: did you mean policy?",
        "dir is a list or table: give a path in quotes",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
    }
    assert!(serde_json::from_str::<Config>(r#"{"memory": "lots"}"#).is_err());
    assert!(Config::from_toml("memory = ").is_err());
    assert!(Config::from_toml("memory = \"1MiB\"\nmemory_items = 5").is_err());
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("larder.toml");
    std::fs::write(&path, "mode = 1").unwrap();
    let error = Config::from_file(&path).unwrap_err().to_string();
    assert!(error.contains("larder.toml: mode is 1"), "{error}");
    assert!(Config::from_file(home.path().join("absent")).is_err());
}

#[test]
fn the_environment_overrides_and_slips_are_told() {
    let vars = |vars: &[(&str, &str)]| -> Vec<(String, String)> {
        vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let config = Config::from_toml("ttl = \"1m\"\nstrict = false").unwrap();
    let config = config
        .with_vars(vars(&[
            ("LARDER_TTL", "2m"),
            ("LARDER_STRICT", "1"),
            ("LARDER_JITTER", "0.5"),
            ("LARDER_KILLS", "200"),
            ("PATH", "/bin"),
        ]))
        .unwrap();
    assert_eq!(config.ttl, Some(Duration::from_secs(120)));
    assert_eq!((config.strict, config.jitter), (Some(true), Some(0.5)));
    let error = config
        .with_vars(vars(&[("LARDER_MEMROY", "1MiB"), ("LARDER_TTL", "later")]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("LARDER_MEMROY: no such setting: did you mean LARDER_MEMORY?"),
        "{error}"
    );
    assert!(error.contains("LARDER_TTL is \"later\""), "{error}");
}

#[test]
fn a_cache_is_built_as_it_is_configured() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let mut config = Config::from_toml("mode = \"write-on-evict\"\nnamespace = \"n\"").unwrap();
    config.dir = Some(dir.clone());
    let cache = config.builder::<u32, u64>().unwrap().build().unwrap();
    assert!(cache.insert(1, 10).unwrap().is_admitted());
    assert_eq!(cache.stats().unflushed, 1);
    cache.close().unwrap();
    // Its settings lie beside it, and bother nobody.
    config.save(&dir).unwrap();
    let cache = config.builder::<u32, u64>().unwrap().build().unwrap();
    assert_eq!(cache.get(&1).unwrap(), Some(10));
    drop(cache);
    assert_eq!(Config::load(&dir).unwrap(), Some(config.clone()));
    config.app = Some("larder-test".to_owned());
    assert!(matches!(config.builder::<u32, u64>(), Err(Error::Config { option: "app", .. })));
    let off = Config::from_toml("memory = \"off\"").unwrap().builder::<u32, u64>().unwrap().build();
    assert!(matches!(off, Err(Error::Config { option: "memory", .. })));
}

#[test]
fn a_cache_that_is_switched_off_computes_and_keeps_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let mut config = Config::from_toml("enabled = false").unwrap();
    config.dir = Some(dir.clone());
    let cache = config.builder::<u32, u64>().unwrap().build().unwrap();
    assert_eq!(cache.get_or_insert_with(&1, || 1).unwrap(), 1);
    assert_eq!(cache.get_or_insert_with(&1, || 2).unwrap(), 2);
    assert!(!cache.insert(1, 3).unwrap().is_admitted());
    assert_eq!(cache.len(), 0);
    assert!(!dir.exists());
}

/// Run by the next test, in a process of its own; does nothing otherwise.
#[test]
fn child() {
    if std::env::var_os("LARDER_DISABLE").is_some() {
        let cache = larder::Cache::<u32, u64>::builder().build().unwrap();
        assert!(!cache.insert(1, 1).unwrap().is_admitted());
    }
}

#[test]
fn the_environment_switches_all_caches_off() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child"])
        .env("LARDER_DISABLE", "1")
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn engines_are_named_alone_or_in_a_list() {
    for (text, names) in [
        ("engine = \"memory\"", vec!["memory"]),
        ("engine = \"two-level, memory\"", vec!["two-level", "memory"]),
        ("engine = [\"two-level\", \"memory\"]", vec!["two-level", "memory"]),
    ] {
        let config = Config::from_toml(text).unwrap();
        assert_eq!(config.engine.as_deref().unwrap(), names);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    }
    let home = tempfile::tempdir().unwrap();
    let mut config = Config::from_toml("engine = [\"two-level\", \"memory\"]").unwrap();
    config.dir = Some(home.path().join("store"));
    let cache = config.builder::<u32, u64>().unwrap().build().unwrap();
    assert_eq!(cache.choice().unwrap().chain(), ["two-level", "memory"]);
    assert!(Config::from_toml("engine = []").is_err());
    assert!(Config::from_toml("engine = [1]").is_err());
    let unknown = Config::from_toml("engine = \"memroy\"").unwrap();
    let error = unknown.builder::<u32, u64>().unwrap().build().unwrap_err().to_string();
    assert!(error.contains("there are memory, disk, two-level, null"), "{error}");
}

#[test]
fn a_cache_in_use_is_told_of_other_settings() {
    let home = tempfile::tempdir().unwrap();
    let clock = std::sync::Arc::new(ManualClock::at(1_000));
    let text = "memory = \"4MiB\"\ndisk = \"64MiB\"\nttl = \"1m\"\nmode = \"write-through\"";
    let mut config = Config::from_toml(text).unwrap();
    config.dir = Some(home.path().join("store"));
    let cache = config.builder::<u32, Vec<u8>>().unwrap().clock(clock.clone()).build().unwrap();
    (0..2_000).for_each(|key| {
        assert!(cache.insert(key, vec![7; 10_000]).unwrap().is_admitted());
    });
    let given = "memory = \"256KiB\"\ndisk = \"8MiB\"\nttl = \"1h\"\nmode = \"write-on-evict\"\nstrict = true";
    let given = Config::from_toml(given).unwrap();
    let answer = cache.reconfigure(&given).unwrap();
    assert_eq!(answer.changed(), ["disk", "memory", "ttl"]);
    assert_eq!(answer.needs_reopening(), ["mode", "strict"]);
    let stats = cache.stats();
    assert_eq!((stats.memory.budget_bytes, stats.disk.budget_bytes), (256 << 10, 8 << 20));
    assert!(stats.memory.used_bytes <= 256 << 10, "{}", stats.memory.used_bytes);
    assert!(stats.disk.used_bytes <= 8 << 20, "{}", stats.disk.used_bytes);
    assert_eq!(cache.get(&1_999).unwrap().unwrap().len(), 10_000, "the newest stays");
    // Nothing is different any more but what needs a reopening.
    let again = cache.reconfigure(&given).unwrap();
    assert_eq!((again.changed().len(), again.needs_reopening().len()), (0, 2));
    // New values live by the new time, old ones by the old.
    assert!(cache.insert(5_000, vec![1]).unwrap().is_admitted());
    clock.advance(61_000);
    assert_eq!(cache.get(&1_999).unwrap(), None);
    assert!(cache.get(&5_000).unwrap().is_some());
    // And more again.
    let answer =
        cache.reconfigure(&Config::from_toml("memory = \"8MiB\"\ndisk = \"64MiB\"").unwrap());
    assert_eq!(answer.unwrap().changed(), ["disk", "memory"]);
}

#[test]
fn what_cannot_change_is_told_all_at_once_and_changes_nothing() {
    let cache = larder::Cache::<u32, u32>::builder().memory_items(100).build().unwrap();
    let given = "memory = \"1MiB\"\ndisk = \"1GiB\"\nttl = \"0s\"";
    let error = cache.reconfigure(&Config::from_toml(given).unwrap()).unwrap_err();
    let fields: Vec<&str> = error.problems().iter().map(|problem| &*problem.field).collect();
    assert_eq!(fields, ["memory", "disk", "ttl"]);
    assert_eq!(cache.stats().memory.budget_bytes, 100);
    let home = tempfile::tempdir().unwrap();
    let disk = larder::Cache::<u32, u32>::builder().disk(home.path().join("store"));
    let cache = disk.disk_budget(16 << 20).build().unwrap();
    let error = cache.reconfigure(&Config::from_toml("disk = \"1GiB\"").unwrap()).unwrap_err();
    assert!(error.to_string().contains("open it again with more"), "{error}");
}

#[test]
fn other_settings_than_the_last_time_are_told_and_count() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    let open = |text: &str| {
        let events = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let heard = events.clone();
        let mut config = Config::from_toml(text).unwrap();
        config.dir = Some(dir.clone());
        let builder = config.builder::<u32, u64>().unwrap();
        let cache =
            builder.on_event(move |event| heard.lock().unwrap().push(event.clone())).build();
        let told: Vec<_> = events.lock().unwrap().iter().filter_map(changes).collect();
        (cache.unwrap(), told.concat())
    };
    fn changes(event: &larder::Event) -> Option<Vec<String>> {
        match event {
            larder::Event::SettingsChanged { changes } => Some(changes.clone()),
            _ => None,
        }
    }
    let (cache, told) = open("ttl = \"15m\"");
    assert_eq!(told, Vec::<String>::new(), "the first time there is nothing to compare with");
    cache.close().unwrap();
    let (cache, told) = open("ttl = \"15m\"");
    assert_eq!(told, Vec::<String>::new());
    cache.close().unwrap();
    let (cache, told) = open("mode = \"write-on-evict\"\nmemory = \"1MiB\"");
    let expected = [
        "memory was \"64MiB\", is \"1MiB\"",
        "mode was \"write-through\", is \"write-on-evict\"",
        "ttl was \"15m\", is not set",
    ];
    assert_eq!(told, expected);
    assert_eq!(cache.stats().memory.budget_bytes, 1 << 20, "what is given counts");
    cache.reconfigure(&Config::from_toml("memory = \"2MiB\"").unwrap()).unwrap();
    cache.close().unwrap();
    // A note that is damaged is no trouble.
    std::fs::write(dir.join("last-settings.toml"), "mode = 7").unwrap();
    let (_cache, told) = open("mode = \"write-on-evict\"\nmemory = \"1MiB\"");
    assert_eq!(told, Vec::<String>::new());
}
