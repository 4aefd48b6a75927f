//! Settings that are written down: all that is wrong is told at once, and what is right comes back.

#![cfg(feature = "config")]
#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::process::Command;
use std::time::Duration;

use larder::{Config, Error, MemoryLimit, Mode, PolicyKind};

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
