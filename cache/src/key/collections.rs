//! Sets and maps as keys: what is in them, in an order of its own.
//!
//! Items are sorted by their bytes, so that neither hashers nor `Ord` show: a `HashMap` and a
//! `BTreeMap` with the same content are the same key. That takes a buffer for all items.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hash};
use std::ops::Range;

use super::{KeyBuf, KeyDecode, KeyEncode, KeyReader, tag};

/// Items of which each is encoded, to be put in order.
struct Items {
    bytes: KeyBuf,
    /// Where each begins, and what of it counts for the order.
    places: Vec<(Range<usize>, usize)>,
}

impl Items {
    fn new(len: usize) -> Self {
        Self { bytes: KeyBuf::new(), places: Vec::with_capacity(len) }
    }

    fn add(&mut self, key: &impl KeyEncode, value: Option<&impl KeyEncode>) {
        let start = self.bytes.as_bytes().len();
        key.encode(&mut self.bytes);
        let key_end = self.bytes.as_bytes().len();
        if let Some(value) = value {
            value.encode(&mut self.bytes);
        }
        self.places.push((start..key_end, self.bytes.as_bytes().len()));
    }

    fn write(mut self, tag: u8, out: &mut KeyBuf) {
        let bytes = self.bytes.as_bytes();
        out.tag_len(tag, self.places.len());
        self.places
            .sort_unstable_by(|(one, _), (two, _)| bytes[one.clone()].cmp(&bytes[two.clone()]));
        for (key, end) in self.places {
            out.push(&bytes[key.start..end]);
        }
    }
}

fn encode_set<'a, T: KeyEncode + 'a>(
    items: impl ExactSizeIterator<Item = &'a T>,
    out: &mut KeyBuf,
) {
    let mut sorted = Items::new(items.len());
    for item in items {
        sorted.add(item, None::<&()>);
    }
    sorted.write(tag::SET, out);
}

fn encode_map<'a, K: KeyEncode + 'a, V: KeyEncode + 'a>(
    items: impl ExactSizeIterator<Item = (&'a K, &'a V)>,
    out: &mut KeyBuf,
) {
    let mut sorted = Items::new(items.len());
    for (key, value) in items {
        sorted.add(key, Some(value));
    }
    sorted.write(tag::MAP, out);
}

/// Reads as many items as are stated, each behind the one before it.
fn decode_items<T, Out: FromIterator<T>>(
    tag: u8,
    from: &mut KeyReader<'_>,
    mut item: impl FnMut(&mut KeyReader<'_>) -> Option<(usize, T)>,
) -> Option<Out> {
    from.tag(tag)?;
    let len = from.len()?;
    let mut before: Option<&[u8]> = None;
    (0..len)
        .map(|_| {
            let start = *from;
            let (key_len, item) = item(from)?;
            let mut key = start;
            let key = key.take(key_len)?;
            // Any other order would be a second form of the same key.
            let in_order = before.is_none_or(|before| before < key);
            before = Some(key);
            in_order.then_some(item)
        })
        .collect()
}

fn decode_set<T: KeyDecode, Out: FromIterator<T>>(from: &mut KeyReader<'_>) -> Option<Out> {
    decode_items(tag::SET, from, |from| {
        let start = from.remaining();
        let item = T::decode(from)?;
        Some((start - from.remaining(), item))
    })
}

fn decode_map<K: KeyDecode, V: KeyDecode, Out: FromIterator<(K, V)>>(
    from: &mut KeyReader<'_>,
) -> Option<Out> {
    decode_items(tag::MAP, from, |from| {
        let start = from.remaining();
        let key = K::decode(from)?;
        let key_len = start - from.remaining();
        Some((key_len, (key, V::decode(from)?)))
    })
}

impl<T: KeyEncode, S> KeyEncode for HashSet<T, S> {
    fn encode(&self, out: &mut KeyBuf) {
        encode_set(self.iter(), out);
    }
}

impl<T: KeyEncode> KeyEncode for BTreeSet<T> {
    fn encode(&self, out: &mut KeyBuf) {
        encode_set(self.iter(), out);
    }
}

impl<K: KeyEncode, V: KeyEncode, S> KeyEncode for HashMap<K, V, S> {
    fn encode(&self, out: &mut KeyBuf) {
        encode_map(self.iter(), out);
    }
}

impl<K: KeyEncode, V: KeyEncode> KeyEncode for BTreeMap<K, V> {
    fn encode(&self, out: &mut KeyBuf) {
        encode_map(self.iter(), out);
    }
}

impl<T: KeyDecode + Eq + Hash, S: BuildHasher + Default> KeyDecode for HashSet<T, S> {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        decode_set(from)
    }
}

impl<T: KeyDecode + Ord> KeyDecode for BTreeSet<T> {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        decode_set(from)
    }
}

impl<K, V, S> KeyDecode for HashMap<K, V, S>
where
    K: KeyDecode + Eq + Hash,
    V: KeyDecode,
    S: BuildHasher + Default,
{
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        decode_map(from)
    }
}

impl<K: KeyDecode + Ord, V: KeyDecode> KeyDecode for BTreeMap<K, V> {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        decode_map(from)
    }
}
