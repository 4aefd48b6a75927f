//! Promise: what goes on in a store reaches a `tracing` subscriber, under the names, levels and
//! fields of `docs/observing.md`, in the span of the work that it came up in.
//! Method: a real subscriber with a layer that writes everything down.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use larder_engine::{Disk, DiskBuilder, Engine, Maintenance, Put, Retain, Tracing};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// An event or span, as it was told.
#[derive(Debug, Clone)]
struct Told {
    what: String,
    level: Level,
    fields: BTreeMap<String, String>,
    /// Spans around it, outermost first.
    spans: Vec<&'static str>,
}

#[derive(Debug, Clone, Default)]
struct Scribe(Arc<Mutex<Vec<Told>>>);

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Scribe {
    fn on_new_span(&self, span: &Attributes<'_>, _: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        span.record(&mut fields);
        self.note(
            format!("span {}", span.metadata().name()),
            *span.metadata().level(),
            fields,
            &context,
        );
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        assert_eq!(event.metadata().target(), "larder");
        let mut fields = Fields::default();
        event.record(&mut fields);
        let what = fields.0.remove("message").unwrap_or_default();
        self.note(what, *event.metadata().level(), fields, &context);
    }
}

impl Scribe {
    fn note<S: Subscriber + for<'a> LookupSpan<'a>>(
        &self,
        what: String,
        level: Level,
        fields: Fields,
        context: &Context<'_, S>,
    ) {
        let current = context.lookup_current().into_iter();
        let mut spans: Vec<_> =
            current.flat_map(|span| span.scope().map(|s| s.name()).collect::<Vec<_>>()).collect();
        spans.reverse();
        self.0.lock().unwrap().push(Told { what, level, fields: fields.0, spans });
    }

    fn all(&self, what: &str) -> Vec<Told> {
        self.0.lock().unwrap().iter().filter(|told| told.what == what).cloned().collect()
    }

    fn only(&self, what: &str) -> Told {
        let all = self.all(what);
        assert_eq!(all.len(), 1, "{what}: {all:?}");
        all[0].clone()
    }
}

fn builder(dir: &tempfile::TempDir) -> DiskBuilder {
    let builder = Disk::builder(dir.path().join("store")).budget(2 << 20).segment_len(64 << 10);
    let builder = builder.writers(1).maintenance(Maintenance::Manual);
    builder.observer(Arc::new(Tracing::new("test")))
}

/// Does something while a subscriber listens to this thread.
fn listen(f: impl FnOnce()) -> Scribe {
    let scribe = Scribe::default();
    let subscriber = Registry::default().with(scribe.clone());
    tracing::subscriber::with_default(subscriber, f);
    scribe
}

#[test]
fn openings_are_spans_and_say_how_the_store_was_found() {
    let dir = tempfile::tempdir().unwrap();
    let scribe = listen(|| {
        let disk = builder(&dir).open().unwrap();
        let _ = disk.put(b"key", b"value", &Put::default()).unwrap();
        disk.close().unwrap();
    });
    let opened = scribe.only("opened");
    assert_eq!((opened.level, &*opened.spans), (Level::INFO, &["open"][..]));
    assert_eq!((&*opened.fields["recovery"], &*opened.fields["store"]), ("created", "test"));
    assert!(scribe.all("span rebuild").is_empty());
    assert_eq!(scribe.only("span close").fields["store"], "test");

    let scribe = listen(|| drop(builder(&dir).distrust().open().unwrap()));
    let opened = scribe.only("opened");
    assert_eq!((opened.level, &*opened.fields["recovery"]), (Level::WARN, "rebuilt"));
    assert_eq!(opened.fields["records"], "1");
    assert_eq!(scribe.only("span rebuild").spans, ["open"]);
}

#[test]
fn reclaiming_growth_and_compaction_are_told_of_where_they_happen() {
    let dir = tempfile::tempdir().unwrap();
    let scribe = listen(|| {
        let disk = builder(&dir).open().unwrap();
        for number in 0..1_000_u64 {
            let _ = disk.put(&number.to_le_bytes(), &[7; 6_000], &Put::default()).unwrap();
        }
        while disk.maintain().unwrap().more {}
        for number in 0..1_000_u64 {
            disk.remove(&number.to_le_bytes()).unwrap();
        }
        disk.compact().unwrap();
    });
    assert!(scribe.all("rolled").len() > 50);
    let reclaimed = scribe.all("reclaimed");
    assert!(
        reclaimed.iter().any(|told| told.spans.is_empty() && told.fields["compacted"] == "false")
    );
    assert!(
        reclaimed
            .iter()
            .any(|told| told.spans == ["compact"] && told.fields["compacted"] == "true")
    );
    assert!(!scribe.all("span maintain").is_empty());

    let dir = tempfile::tempdir().unwrap();
    let scribe = listen(|| {
        let disk = builder(&dir).retain(Retain::All).open().unwrap();
        let slots = disk.stats().index_slots;
        for number in 0..slots {
            let _ = disk.put(&number.to_le_bytes(), b"", &Put::default()).unwrap();
        }
        let refused = (0..1_000_u64).any(|number| {
            !disk
                .put(&(number + slots).to_le_bytes(), &[7; 6_000], &Put::default())
                .unwrap()
                .is_admitted()
        });
        assert!(refused);
    });
    let grown = scribe.all("grown");
    assert!(!grown.is_empty() && grown.iter().all(|told| told.level == Level::INFO), "{grown:?}");
    assert_eq!(scribe.only("full").fields["budget"], (2 << 20).to_string());
}

#[test]
fn nothing_is_told_without_an_observer() {
    let dir = tempfile::tempdir().unwrap();
    let scribe = listen(|| {
        let disk = Disk::builder(dir.path().join("store")).open().unwrap();
        let _ = disk.put(b"key", b"value", &Put::default()).unwrap();
        disk.close().unwrap();
    });
    assert!(scribe.0.lock().unwrap().is_empty());
}
