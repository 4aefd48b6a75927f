//! What another codec, or another version of it, has written is a miss, never misread.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;

use common::{Flaky, bytes};
use larder::{
    Auto, Cache, Codec, CodecError, CodecId, Engine, Error, Event, KeyEncode, Postcard, Put, Raw,
    Value,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Page {
    title: String,
    links: Vec<u32>,
    score: Option<f64>,
}

fn page() -> Page {
    Page { title: "front".to_owned(), links: vec![1, 2, 3], score: Some(0.5) }
}

fn over<V, C>(engine: &Arc<Flaky>, codec: C) -> Cache<String, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    let engine = Arc::<Flaky>::clone(engine);
    Cache::with_codec(codec).no_memory().engine(engine).build().unwrap()
}

/// Puts through one cache, gets back through another.
fn round_trip<V, C>(codec: C, value: &V)
where
    V: Clone + Send + Sync + PartialEq + std::fmt::Debug + 'static,
    C: Codec<V> + Clone,
{
    let engine = Flaky::new();
    let id = codec.id();
    let mut encoded = Vec::new();
    codec.encode(value, &mut encoded).unwrap();
    assert_eq!(codec.encoded_len(value).unwrap(), encoded.len());
    assert!(
        over(&engine, codec.clone()).insert("key".to_owned(), value.clone()).unwrap().is_admitted()
    );
    let stored = engine.get(&bytes("key")).unwrap().unwrap();
    assert_eq!((&*stored, stored.meta().codec), (&encoded[..], id));
    assert_eq!(over(&engine, codec).get("key").unwrap().as_ref(), Some(value));
}

#[test]
fn every_codec_gives_back_what_it_took() {
    for len in [0, 1, 100, 100_000] {
        let bytes = vec![7_u8; len];
        round_trip(Raw, &bytes);
        round_trip(Raw, &bytes.clone().into_boxed_slice());
        round_trip(Raw, &Arc::<[u8]>::from(bytes.clone()));
        round_trip(Raw, &Value::from(bytes.clone()));
        round_trip(Raw, &"x".repeat(len));
        round_trip(Auto::default(), &bytes);
        round_trip(Auto::default(), &bytes.clone().into_boxed_slice());
        round_trip(Auto::default(), &"x".repeat(len));
        round_trip(Postcard::default(), &bytes);
    }
    round_trip(Auto::default(), &page());
    round_trip(Postcard::version(9), &vec![page(), page()]);
}

#[test]
fn bytes_and_strings_are_stored_as_they_are() {
    let engine = Flaky::new();
    let cache = over::<String, _>(&engine, Auto::default());
    assert!(cache.insert("key".to_owned(), "text".to_owned()).unwrap().is_admitted());
    assert_eq!(engine.peek(&bytes("key")).unwrap(), b"text");
}

#[test]
fn another_version_is_a_miss_and_is_counted() {
    let engine = Flaky::new();
    let old = over::<Page, _>(&engine, Postcard::version(1));
    assert!(old.insert("key".to_owned(), page()).unwrap().is_admitted());
    let new = over::<Page, _>(&engine, Postcard::version(2));
    assert_eq!(new.get("key").unwrap(), None);
    let stats = new.stats();
    assert_eq!((stats.codec_changed, stats.misses, stats.disk_hits), (1, 1, 0));
    // It is loaded anew, and takes the place of the old one.
    assert_eq!(new.get_or_insert_with("key", page).unwrap(), page());
    assert_eq!(new.get("key").unwrap(), Some(page()));
    assert_eq!(old.get("key").unwrap(), None);
}

#[test]
fn another_codec_is_a_miss() {
    let engine = Flaky::new();
    let text = over::<String, _>(&engine, Raw);
    assert!(text.insert("key".to_owned(), "\u{1}".to_owned()).unwrap().is_admitted());
    assert_eq!(over::<Page, _>(&engine, Auto::default()).get("key").unwrap(), None);
    assert_eq!(over::<u8, _>(&engine, Postcard::default()).get("key").unwrap(), None);
}

#[test]
fn bytes_that_cannot_be_decoded_are_a_miss_unless_asked() {
    let engine = Flaky::new();
    let planted: [(&[u8], CodecId); 3] = [
        (b"", Codec::<Page>::id(&Auto::default())),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Codec::<Page>::id(&Auto::default())),
        (b"\x01x\x00\x00too much", Codec::<Page>::id(&Auto::default())),
    ];
    for (garbage, codec) in planted {
        engine.plant(&bytes("key"), garbage, &Put { codec, ..Put::default() });
        let cache = over::<Page, _>(&engine, Auto::default());
        assert_eq!(cache.get("key").unwrap(), None);
        assert_eq!(cache.stats().undecodable, 1);
        assert_eq!(cache.take("key").unwrap(), None);
    }
    engine.plant(&bytes("key"), b"\xff", &Put::default());
    assert_eq!(over::<String, _>(&engine, Auto::default()).get("key").unwrap(), None);
    let builder = Cache::<String, String>::builder().engine(Arc::<Flaky>::clone(&engine));
    let events = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let strict = builder
        .strict(true)
        .on_event(move |event| heard.lock().unwrap().push(event.clone()))
        .build()
        .unwrap();
    assert!(matches!(strict.get("key"), Err(Error::Decode { .. })));
    assert!(matches!(&events.lock().unwrap()[..], [Event::Undecodable { .. }]));
}

/// Refuses what is odd.
#[derive(Debug, Clone)]
struct EvenOnly;

impl Codec<u64> for EvenOnly {
    fn id(&self) -> CodecId {
        CodecId { id: 200, version: 2 }
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<(), CodecError> {
        if value % 2 == 1 {
            return Err(CodecError::new("odd"));
        }
        out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn decode(&self, stored: &Value) -> Result<u64, CodecError> {
        let bytes = stored.as_ref().try_into().map_err(CodecError::new)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn accepts(&self, id: CodecId) -> bool {
        id.id == 200 && id.version <= 2
    }
}

#[test]
fn a_value_without_bytes_is_an_error_and_changes_nothing() {
    for builder in [Cache::with_codec(EvenOnly), Cache::with_codec(EvenOnly).no_memory()] {
        let cache: Cache<String, u64, EvenOnly> = builder.engine(Flaky::new()).build().unwrap();
        assert!(cache.insert("key".to_owned(), 2).unwrap().is_admitted());
        assert!(matches!(cache.insert("key".to_owned(), 3), Err(Error::Encode { .. })));
        assert_eq!(cache.get("key").unwrap(), Some(2));
        assert!(matches!(cache.get_or_insert_with("odd", || 5), Err(Error::Encode { .. })));
        assert_eq!(cache.get("odd").unwrap(), None);
    }
}

#[test]
fn a_codec_may_accept_its_older_versions() {
    let engine = Flaky::new();
    let codec = CodecId { id: 200, version: 1 };
    engine.plant(&bytes("key"), &8_u64.to_le_bytes(), &Put { codec, ..Put::default() });
    assert_eq!(over::<u64, _>(&engine, EvenOnly).get("key").unwrap(), Some(8));
}

/// A key that is not a `String`, to see that lookups need no owned form.
#[test]
fn lookups_take_borrowed_keys() {
    struct Name(String);
    impl KeyEncode for Name {
        fn encode(&self, out: &mut larder::KeyBuf) {
            self.0.encode(out);
        }
    }
    impl std::borrow::Borrow<str> for Name {
        fn borrow(&self) -> &str {
            &self.0
        }
    }
    let cache = Cache::<Name, u32>::builder().build().unwrap();
    assert!(cache.insert(Name("one".to_owned()), 1).unwrap().is_admitted());
    assert_eq!(cache.get("one").unwrap(), Some(1));
    let numbers = Cache::<Vec<u16>, u32>::builder().build().unwrap();
    assert!(numbers.insert(vec![1, 2], 3).unwrap().is_admitted());
    assert_eq!(numbers.get(&[1, 2][..]).unwrap(), Some(3));
}
