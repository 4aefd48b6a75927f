//! Engines by name: which is chosen and why, what can be used and why not, and what a cache makes of it.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{Flaky, Trouble};
use larder::{
    Cache, Choice, Disk, Engine, EngineSettings, Engines, Error, Health, Kind, Mode, Needs, Null,
    Put, Sharing, Survives, Unavailable,
};

fn choose(needs: Needs, settings: &EngineSettings) -> Choice {
    Engines::default().choose(&needs, settings).unwrap()
}

#[test]
fn every_row_of_the_table_decides_what_it_says() {
    let bare = EngineSettings::new();
    let with_dir = EngineSettings::new().dir("/somewhere").memory(1 << 20);
    let kept = Needs::new().survives(Survives::Process);
    let large = 256 << 10;
    let rows: &[(Needs, &EngineSettings, usize, &[&str], &str)] = &[
        (kept.total_bytes(0), &with_dir, 1, &["null"], "nothing is to be kept"),
        (
            Needs::new().kind(Kind::Opaque).total_bytes(1 << 40),
            &with_dir,
            3,
            &["memory"],
            "nothing outside",
        ),
        (
            Needs::new().sharing(Sharing::Processes),
            &with_dir,
            4,
            &["disk", "memory"],
            "does not hear",
        ),
        (kept.sharing(Sharing::Processes), &with_dir, 4, &["disk", "memory"], "several processes"),
        (kept.kind(Kind::InPlace).value_bytes(8), &with_dir, 5, &["disk", "memory"], "mapped file"),
        (kept.value_bytes(large), &with_dir, 6, &["disk", "memory"], "second copy"),
        (kept.value_bytes(large - 1), &with_dir, 7, &["two-level", "memory"], "outlive"),
        (Needs::new().survives(Survives::Power), &with_dir, 7, &["two-level", "memory"], "outlive"),
        (
            Needs::new().total_bytes((1 << 20) + 1),
            &with_dir,
            8,
            &["two-level", "memory"],
            "more than",
        ),
        (Needs::new().total_bytes(1 << 20), &with_dir, 9, &["memory"], "nothing is faster"),
        (Needs::new().total_bytes(1 << 40), &bare, 9, &["memory"], "nothing asks for more"),
        (
            Needs::new().kind(Kind::InPlace).value_bytes(1 << 30),
            &with_dir,
            9,
            &["memory"],
            "nothing",
        ),
        (Needs::new(), &bare, 9, &["memory"], "nothing"),
    ];
    for (needs, settings, row, chain, why) in rows {
        let choice = choose(*needs, settings);
        assert_eq!((choice.row(), choice.chain()), (Some(*row), chain.to_vec()), "{needs:?}");
        assert!(choice.why().contains(why), "{needs:?}: {choice}");
        assert!(choice.passed_over().is_empty());
    }
    // The second row: an engine of one's own, if there is one that reaches so far.
    let machines = kept.sharing(Sharing::Machines);
    let refused = Engines::default().choose(&machines, &with_dir);
    assert!(matches!(refused, Err(Error::Config { option: "needs", .. })));
    let mut engines = Engines::default();
    let null = |_: &EngineSettings| Ok(Arc::new(Null::default()) as Arc<dyn Engine>);
    engines.register("near", Sharing::Processes, null).unwrap();
    engines.register("far", Sharing::Machines, null).unwrap();
    let choice = engines.choose(&machines, &with_dir).unwrap();
    assert_eq!((choice.row(), choice.chain()), (Some(2), vec!["far", "memory"]));
    // What cannot be at all.
    let opaque = kept.kind(Kind::Opaque);
    assert!(matches!(engines.choose(&opaque, &with_dir), Err(Error::Config { .. })));
}

#[test]
fn what_would_have_been_better_is_told_with_its_reason() {
    let choice = choose(Needs::new().survives(Survives::Process), &EngineSettings::new());
    assert_eq!(choice.chain(), ["memory"]);
    let [(engine, why)] = choice.passed_over() else { panic!("{choice}") };
    assert_eq!((&**engine, why), ("two-level", &Unavailable::NoDirectory));
    assert!(choice.to_string().contains("not two-level: it needs a directory"), "{choice}");
}

#[test]
fn the_guide_has_the_same_table() {
    let guide = include_str!("../../docs/guide/choosing-an-engine.md");
    let source = include_str!("../src/engines/choose.rs");
    let rows = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.trim_start().trim_start_matches("/// "));
        lines
            .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(rows(guide), rows(source));
    assert_eq!(rows(source).len(), 9);
}

/// What is said of an engine.
fn said(engines: &Engines, settings: &EngineSettings, name: &str) -> Option<Unavailable> {
    let mut all = engines.available(settings).into_iter();
    all.find(|it| &*it.engine == name).unwrap().unavailable
}

#[test]
fn each_engine_says_whether_it_can_be_used_and_why_not() {
    let home = tempfile::tempdir().unwrap();
    let mut engines = Engines::default();
    engines.register_missing("far", "remote").unwrap();
    engines.register("broken", Sharing::Threads, |_| Err(larder_engine::Error::Closed)).unwrap();
    let none = EngineSettings::new();
    assert_eq!(said(&engines, &none, "memory"), None);
    assert_eq!(said(&engines, &none, "null"), None);
    assert_eq!(said(&engines, &none, "disk"), Some(Unavailable::NoDirectory));
    let feature = Unavailable::Feature { feature: "remote".into() };
    assert_eq!(said(&engines, &none, "far"), Some(feature));
    assert!(matches!(said(&engines, &none, "broken"), Some(Unavailable::Other { .. })));

    // A directory that could be made: it is not.
    let dir = home.path().join("a/b");
    let settings = EngineSettings::new().dir(&dir);
    assert_eq!(said(&engines, &settings, "disk"), None);
    assert!(
        !home.path().join("a").exists() && std::fs::read_dir(home.path()).unwrap().count() == 0
    );
    // One that is there and empty stays so.
    let disk = Disk::builder(&dir).open().unwrap();
    let locked = said(&engines, &settings, "two-level");
    assert_eq!(locked, Some(Unavailable::Locked { pid: std::process::id() }));
    assert!(disk.put(b"key", b"value", &Put::default()).unwrap().is_admitted());
    disk.close().unwrap();
    assert_eq!(said(&engines, &settings, "two-level"), None);
    assert_eq!(
        Disk::builder(&dir).open().unwrap().get(b"key").unwrap().as_deref(),
        Some(&b"value"[..])
    );

    // A file in its place, a directory that others may write to, a store that is damaged.
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let settings = EngineSettings::new().dir(&file);
    assert!(matches!(said(&engines, &settings, "disk"), Some(Unavailable::Damaged { .. })));
    let settings = EngineSettings::new().dir(file.join("below"));
    assert!(matches!(said(&engines, &settings, "disk"), Some(Unavailable::NotWritable { .. })));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let open = home.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let settings = EngineSettings::new().dir(&open);
        assert!(matches!(said(&engines, &settings, "disk"), Some(Unavailable::NotPrivate { .. })));
    }
    std::fs::write(dir.join("store"), vec![7; 8192]).unwrap();
    let settings = EngineSettings::new().dir(&dir);
    assert!(matches!(said(&engines, &settings, "disk"), Some(Unavailable::Damaged { .. })));
}

#[test]
fn names_are_taken_once() {
    let mut engines = Engines::default();
    let null = |_: &EngineSettings| Ok(Arc::new(Null::default()) as Arc<dyn Engine>);
    for name in ["memory", "auto", ""] {
        assert!(engines.register(name, Sharing::Threads, null).is_err(), "{name}");
    }
    engines.register("mine", Sharing::Threads, null).unwrap();
    assert!(engines.register_missing("mine", "feature").is_err());
    let settings = EngineSettings::new();
    let names: Vec<_> = engines.names().collect();
    assert_eq!(names, ["memory", "disk", "two-level", "null", "mine"]);
    let unknown = engines.open("yours", &settings).unwrap_err();
    assert!(
        unknown.to_string().contains("there are memory, disk, two-level, null, mine"),
        "{unknown}"
    );
    assert_eq!(engines.open("mine", &settings).unwrap().name(), "null");
}

#[test]
fn engines_opened_by_name_are_what_they_are_called() {
    let home = tempfile::tempdir().unwrap();
    let settings =
        EngineSettings::new().dir(home.path().join("store")).ttl(Duration::from_secs(60));
    for name in ["memory", "disk", "two-level", "null"] {
        let engine = Engines::default().open(name, &settings).unwrap();
        assert_eq!(engine.name(), name);
        let admitted = engine.put(b"key", b"value", &Put::default()).unwrap().is_admitted();
        assert_eq!(admitted, name != "null");
        if let Some(value) = engine.get(b"key").unwrap() {
            assert!(value.meta().expires_at_ms < u64::MAX, "{name} was told of the time to live");
        }
        engine.close().unwrap();
    }
}

/// A cache of named engines, and what it holds when it is opened again.
#[test]
fn a_cache_is_made_of_what_is_named() {
    let home = tempfile::tempdir().unwrap();
    let cache = |names: &[&str], dir: &str| {
        let dir = home.path().join(dir);
        Cache::<u32, u32>::builder().disk(dir).engines(names.to_vec()).build().unwrap()
    };
    for (name, in_memory, kept) in [
        ("memory", true, false),
        ("disk", false, true),
        ("two-level", true, true),
        ("null", false, false),
    ] {
        let first = cache(&[name], name);
        assert_eq!(first.choice().unwrap().chain(), [name]);
        let _ = first.insert(1, 10).unwrap();
        first.get(&1).unwrap();
        assert_eq!(first.stats().memory_hits, u64::from(in_memory), "{name}");
        assert_eq!(first.stats().memory.entries, u64::from(in_memory), "{name}");
        first.close().unwrap();
        let second = cache(&[name], name);
        assert_eq!(second.get(&1).unwrap(), kept.then_some(10), "{name}");
        assert!(second.links().is_empty());
    }
    assert!(!home.path().join("memory").exists(), "nothing was made that is not used");
}

#[test]
fn auto_is_what_the_needs_say() {
    let home = tempfile::tempdir().unwrap();
    let build = |needs| {
        let builder = Cache::<u32, u32>::builder().disk(home.path().join("store"));
        builder.engines(["auto"]).needs(needs).build().unwrap()
    };
    let cache = build(Needs::new());
    assert_eq!(cache.choice().unwrap().engine(), "memory");
    assert!(!home.path().join("store").exists());
    let cache = build(Needs::new().survives(Survives::Process));
    assert_eq!(cache.choice().unwrap().engine(), "two-level");
    assert_eq!(cache.links().len(), 2);
    assert!(home.path().join("store").exists());
}

#[test]
fn what_is_named_wrongly_is_refused() {
    let build = |names: &[&str]| Cache::<u32, u32>::builder().engines(names.to_vec()).build();
    let error = build(&["memroy"]).unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { .. }) && error.to_string().contains("two-level"),
        "{error}"
    );
    assert!(matches!(
        build(&["disk"]),
        Err(Error::Unavailable { why: Unavailable::NoDirectory, .. })
    ));
    let both = Cache::<u32, u32>::builder().engine(Flaky::new()).engines(["memory"]).build();
    assert!(matches!(both, Err(Error::Config { option: "engines", .. })));
    let no_store =
        Cache::<u32, u32>::builder().mode(Mode::WriteOnEvict).engines(["memory"]).build();
    assert!(matches!(no_store, Err(Error::Config { option: "mode", .. })));
}

/// Waits for what a thread does.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn memory_serves_while_the_directory_is_taken_and_the_disk_once_it_is_free() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    {
        let cache = Cache::<u32, u32>::builder().disk(&dir).build().unwrap();
        (0..10).for_each(|key| assert!(cache.insert(key, key).unwrap().is_admitted()));
    }
    let holder = Disk::builder(&dir).open().unwrap();
    let switched = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&switched);
    let cache = Cache::<u32, u32>::builder()
        .disk(&dir)
        .engines(["two-level", "memory"])
        .backoff(Duration::from_millis(5), Duration::from_millis(10))
        .on_event(move |event| {
            let is_back = |to: &Option<Arc<str>>| to.as_deref() == Some("disk");
            if let larder::Event::Switched { to, .. } = event {
                heard.fetch_or(is_back(to), SeqCst);
            }
        })
        .build()
        .unwrap();
    assert_eq!(cache.health(), Health::Degraded);
    assert_eq!(cache.get(&3).unwrap(), None, "it cannot be read now");
    assert!(cache.insert(3, 30).unwrap().is_admitted());
    cache.remove(&4).unwrap();
    assert_eq!(cache.get_or_insert_with(&5, || 50).unwrap(), 50);
    assert_eq!((cache.get(&3).unwrap(), cache.get(&4).unwrap()), (Some(30), None));
    holder.close().unwrap();
    eventually("the disk comes back", || {
        cache.get(&99).unwrap();
        cache.health() == Health::Healthy
    });
    assert_eq!(cache.get(&6).unwrap(), Some(6), "from the disk");
    assert_eq!(cache.get(&4).unwrap(), None, "removed meanwhile");
    assert_eq!((cache.get(&3).unwrap(), cache.get(&5).unwrap()), (Some(30), Some(50)));
    eventually("the observer is told", || {
        cache.get(&99).unwrap();
        switched.load(SeqCst)
    });
    cache.close().unwrap();
    // What the directory holds now is nothing that was replaced or removed.
    let cache = Cache::<u32, u32>::builder().disk(&dir).build().unwrap();
    for key in [3, 4, 5] {
        assert_eq!(cache.get(&key).unwrap(), None, "{key}");
    }
    assert_eq!(cache.get(&6).unwrap(), Some(6));
}

#[test]
fn an_engine_of_ones_own_can_be_the_first_of_several() {
    let mine = Flaky::new();
    let mut engines = Engines::default();
    let open = Arc::clone(&mine);
    let open = move |_: &EngineSettings| Ok(Arc::<Flaky>::clone(&open) as Arc<dyn Engine>);
    engines.register("mine", Sharing::Machines, open).unwrap();
    let cache = Cache::<u32, u32>::builder()
        .registry(engines)
        .engines(["mine", "memory"])
        .memory_items(2)
        .offline_after(2)
        .build()
        .unwrap();
    (0..10).for_each(|key| assert!(cache.insert(key, key).unwrap().is_admitted()));
    assert_eq!(mine.entries(), 10);
    mine.fail(Trouble::Before);
    (0..10).for_each(|key| assert!(cache.insert(key, key + 1).unwrap().is_admitted()));
    assert!((0..10).all(|key| [None, Some(key + 1)].contains(&cache.get(&key).unwrap())));
    let [first, second] = &cache.links()[..] else { panic!() };
    assert_eq!((first.name(), second.name(), second.serves()), ("mine", "memory", true));
}
