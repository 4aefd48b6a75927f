//! Keys of the standard library's types, derived ones, rounded ones, and long ones: canonical,
//! injective, frozen, as `keys_are_frozen.rs` has it for the basic ones.

mod common;

use std::cmp::Ordering;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU32, Wrapping};
use std::ops::{Range, RangeFull, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Flaky, bytes};
use larder::{Cache, Engine, KeyDecode, KeyEncode, KeyReader, Rounded};
use proptest::prelude::*;

fn back<K: KeyDecode>(bytes: &[u8]) -> Option<K> {
    let mut from = KeyReader::new(bytes);
    K::decode(&mut from).filter(|_| from.is_empty())
}

#[derive(Debug, Clone, PartialEq, KeyEncode, KeyDecode)]
struct Size {
    width: u8,
    height: u8,
    #[key(skip)]
    note: String,
}

#[derive(Debug, Clone, PartialEq, KeyEncode, KeyDecode)]
enum Shape<T> {
    Empty,
    Circle(T),
    #[key(name = "Box")]
    Cuboid {
        size: Size,
        #[key(name = "depth")]
        third: T,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, KeyEncode, KeyDecode)]
#[key(transparent)]
struct UserId(u32);

#[derive(KeyEncode)]
enum Never {}

#[test]
fn golden_bytes() {
    let size = Size { width: 1, height: 2, note: "no part of it".to_owned() };
    let golden: &[(&[u8], Vec<u8>)] = &[
        (b"\x05\xff", bytes(Ordering::Less)),
        (b"\x05\x01", bytes(Ordering::Greater)),
        (b"\x06\x02\0\0\0\0\0\0\0\x03\0\0\0", bytes(Duration::new(2, 3))),
        (
            b"\x07\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            bytes(UNIX_EPOCH - Duration::from_nanos(1)),
        ),
        (b"\x08\x7f\0\0\x01", bytes(Ipv4Addr::LOCALHOST)),
        (b"\x08\x7f\0\0\x01", bytes(IpAddr::V4(Ipv4Addr::LOCALHOST))),
        (b"\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", bytes(Ipv6Addr::LOCALHOST)),
        (b"\x0a\x7f\0\0\x01\x50\0", bytes("127.0.0.1:80".parse::<SocketAddr>().unwrap())),
        (
            b"\x0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x50\0\0\0\0\0\x07\0\0\0",
            bytes("[::1%7]:80".parse::<SocketAddr>().unwrap()),
        ),
        (
            b"\x22\0\0\0\0\0\0\xe0\x3f\0\0\0\0\0\0\x08\x40",
            // Three times one half.
            bytes(Rounded::new(1.6_f32, 0.5)),
        ),
        (b"\x34\x02\x30\x01a\x30\x02aa", bytes(BTreeSet::from(["aa", "a"]))),
        (
            b"\x35\x02\x12\0\x01\0\0\x02\x12\x01\0\0\0\x03",
            // In the order of the bytes, which is not that of the numbers.
            bytes(BTreeMap::from([(1_u32, true), (256, false)])),
        ),
        (b"\x36\x01a", bytes(OsStr::new("a"))),
        (b"\x38\x03\x01\x04\x36\x01a\x03", bytes(Path::new("/a//.").join(".."))),
        (b"\x12\x07\0\0\0", bytes(NonZeroU32::new(7).unwrap())),
        (b"\x12\x07\0\0\0", bytes(Wrapping(7_u32))),
        (b"\x12\x07\0\0\0", bytes(UserId(7))),
        (b"\x43\x10\x01\x10\x03", bytes(1_u8..3)),
        (b"\x44\x10\x01\x10\x03\x02", bytes(1_u8..=3)),
        (b"\x45\x10\x01", bytes(1_u8..)),
        (b"\x46\x10\x01", bytes(..1_u8)),
        (b"\x47\x10\x01", bytes(..=1_u8)),
        (b"\x48", bytes(..)),
        (b"\x4a\x10\x01", bytes(Ok::<u8, ()>(1))),
        (b"\x4b\x01", bytes(Err::<u8, ()>(()))),
        (b"\x4c\x12Size{height,width}\x10\x02\x10\x01", bytes(size.clone())),
        (b"\x4c\x0cShape::Empty", bytes(Shape::<u8>::Empty)),
        (b"\x4c\x10Shape::Circle(1)\x10\x09", bytes(Shape::Circle(9_u8))),
        (
            b"\x4c\x16Shape::Box{depth,size}\x10\x09\x4c\x12Size{height,width}\x10\x02\x10\x01",
            bytes(Shape::Cuboid { size, third: 9_u8 }),
        ),
    ];
    for (golden, encoded) in golden {
        assert_eq!(golden, encoded, "{}", String::from_utf8_lossy(golden));
    }
    assert_eq!(bytes(Vec::<Never>::new()), b"\x33\0");
    let twelve = (1_u8, 2_u8, 3_u8, 4_u8, 5_u8, 6_u8, 7_u8, 8_u8, 9_u8, 10_u8, 11_u8, 12_u8);
    assert_eq!(bytes(twelve).len(), 26);
    assert_eq!(back(&bytes(twelve)), Some(twelve));
}

#[test]
fn maps_and_sets_have_no_order_and_no_hasher() {
    let pairs: Vec<(String, u32)> = (0..100).map(|n| (n.to_string(), n)).collect();
    let sorted: BTreeMap<_, _> = pairs.iter().cloned().collect();
    for _ in 0..3 {
        // Each has a hasher, and so an order, of its own.
        let hashed: HashMap<_, _, RandomState> = pairs.iter().rev().cloned().collect();
        assert_eq!(bytes(hashed), bytes(&sorted));
    }
    let set: HashSet<u32> = (0..100).collect();
    assert_eq!(bytes(&set), bytes((0..100).rev().collect::<BTreeSet<u32>>()));
    assert_eq!(
        back::<HashMap<String, u32>>(&bytes(&sorted)).unwrap(),
        sorted.into_iter().collect()
    );
    assert_eq!(back::<BTreeSet<u32>>(&bytes(&set)).unwrap().len(), 100);
    assert_ne!(bytes(BTreeSet::from([1_u8])), bytes([1_u8]));
    assert_ne!(bytes(BTreeMap::from([(1_u8, 2_u8)])), bytes(BTreeSet::from([(1_u8, 2_u8)])));
    // Out of order, or twice the same: no bytes of any set.
    assert_eq!(back::<BTreeSet<u8>>(b"\x34\x02\x10\x02\x10\x01"), None);
    assert_eq!(back::<BTreeSet<u8>>(b"\x34\x02\x10\x01\x10\x01"), None);
}

#[test]
fn paths_that_are_equal_are_one_key() {
    for same in ["/a/b", "/a//b", "/a/./b", "/a/b/"] {
        assert_eq!(Path::new(same), Path::new("/a/b"));
        assert_eq!(bytes(Path::new(same)), bytes(PathBuf::from("/a/b")), "{same}");
    }
    for other in ["a/b", "/a", "/a/b/..", "/a/B", "./a/b", ""] {
        assert_ne!(bytes(Path::new(other)), bytes(Path::new("/a/b")), "{other}");
        assert_eq!(back::<PathBuf>(&bytes(Path::new(other))), Some(other.into()));
    }
    assert_ne!(bytes(OsStr::new("a")), bytes("a"));
    assert_ne!(bytes(Path::new("a")), bytes(OsStr::new("a")));
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt as _;
        let strange = OsString::from_vec(b"\xff\xfe".to_vec());
        assert_eq!(back(&bytes(&strange)), Some(strange));
    }
}

#[test]
fn what_was_iterated_is_not_what_it_was() {
    let fresh = 1_u8..=1;
    let mut spent = fresh.clone();
    assert_eq!(spent.next(), Some(1));
    assert_ne!(fresh, spent);
    assert_ne!(bytes(&fresh), bytes(&spent));
    assert_eq!(back::<RangeInclusive<u8>>(&bytes(fresh)), Some(1..=1));
    assert_eq!(back::<RangeInclusive<u8>>(&bytes(spent)), None);
    assert_eq!(back::<RangeFull>(&bytes(..)), Some(..));
    let none = Range { start: 3, end: 1 };
    assert_eq!(back(&bytes(none.clone())), Some(none));
}

#[test]
fn rounding_makes_neighbours_equal_and_nothing_else() {
    let rounded = |value: f64, tolerance: f64| bytes(Rounded::new(value, tolerance));
    assert_eq!(rounded(1.04, 0.1), rounded(0.96, 0.1));
    assert_ne!(rounded(1.04, 0.1), rounded(1.06, 0.1));
    assert_eq!(rounded(-0.01, 0.1), rounded(0.01, 0.1), "there is one zero");
    assert_eq!(rounded(f64::NAN, 0.1), rounded(-f64::NAN, 0.1));
    assert_ne!(rounded(f64::INFINITY, 0.1), rounded(f64::NEG_INFINITY, 0.1));
    assert_ne!(rounded(1.0, 0.1), rounded(1.0, 0.2), "other tolerances are other keys");
    for none in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(rounded(1.04, none), bytes(1.04_f64), "nothing is rounded by {none}");
    }
    let deep = |x: f64| bytes(Rounded::new((vec![Some([x])], x), 0.5));
    assert_eq!(deep(1.1), deep(0.9));
    assert_ne!(deep(1.1), deep(1.4));
}

#[test]
fn derived_keys_differ_where_their_values_do() {
    let size = |width, height| Size { width, height, note: String::new() };
    let keys = [
        bytes(size(1, 2)),
        bytes(size(2, 1)),
        bytes((1_u8, 2_u8)),
        bytes(Shape::<u8>::Empty),
        bytes(Shape::Circle(1_u8)),
        bytes(Shape::Circle(1_u16)),
        bytes(Shape::Cuboid { size: size(1, 2), third: 1_u8 }),
    ];
    for (at, key) in keys.iter().enumerate() {
        assert!(keys[..at].iter().all(|other| !key.starts_with(other) && !other.starts_with(key)));
    }
    // As what it is borrowed as.
    let users = Cache::<UserId, u8>::builder().build().unwrap();
    assert!(users.insert(UserId(7), 1).unwrap().is_admitted());
    assert_eq!(users.iter().unwrap().next().unwrap().unwrap(), (UserId(7), 1));
    assert_eq!(back::<UserId>(&bytes(7_u32)), Some(UserId(7)));
    // A shape that there was once, or of another type.
    assert_eq!(back::<Size>(b"\x4c\x0bSize{width}\x10\x01"), None);
    assert_eq!(back::<Shape<u8>>(&bytes(size(1, 2))), None);
}

#[test]
fn long_keys_are_stored_as_digests() {
    let engine = Flaky::new();
    let shared: Arc<dyn Engine> = engine.clone();
    let cache = Cache::<String, u32>::builder().namespace("name").engine(shared);
    let cache = cache.build().unwrap();
    // The tag and length of a namespace and of a string of that length.
    let longest = "k".repeat((32 << 10) - 6 - 4);
    let (too_long, other) = (longest.clone() + "k", longest.clone() + "l");
    for (value, key) in [&longest, &too_long, &other].into_iter().enumerate() {
        let value = u32::try_from(value).unwrap();
        assert!(cache.insert(key.clone(), value).unwrap().is_admitted());
        assert_eq!(cache.get(key).unwrap(), Some(value));
    }
    assert_eq!(cache.len(), 3);
    // Frozen: namespace, tag, BLAKE3 of the key itself.
    let digest = blake3::hash(&bytes(&too_long));
    let stored = [&b"\x50\x04name\x52"[..], digest.as_bytes()].concat();
    assert!(engine.peek(&stored).is_some());
    // Only what is stored in full comes back.
    assert_eq!(cache.iter().unwrap().map(|entry| entry.unwrap().1).collect::<Vec<_>>(), [0]);
    assert!(cache.remove(&too_long).unwrap());
    assert_eq!(cache.take(&other).unwrap(), Some(2));
    assert_eq!(cache.clear().unwrap(), 1);
}

#[test]
fn a_digest_is_the_same_in_whatever_pieces_a_key_is_encoded() {
    let engine = Flaky::new();
    let shared: Arc<dyn Engine> = engine.clone();
    let cache = Cache::<Vec<Vec<u32>>, u32>::builder().engine(shared).build().unwrap();
    for (pieces, len) in [(1, 100_000), (7, 20_000), (3_000, 10), (40, 1_000)] {
        let key: Vec<Vec<u32>> = (0..pieces).map(|n| (n..n + len).collect()).collect();
        let digest = blake3::hash(&bytes(&key));
        assert!(cache.insert(key.clone(), pieces).unwrap().is_admitted());
        assert!(engine.peek(&[&[0x52], &digest.as_bytes()[..]].concat()).is_some());
        assert_eq!(cache.get(&key).unwrap(), Some(pieces));
    }
}

#[test]
fn floats_that_are_not_canonical_are_made_so_in_long_slices_too() {
    let plain = vec![0.0_f64; 20_000];
    let mut odd = plain.clone();
    (odd[0], odd[9_000], odd[19_999]) = (-0.0, -0.0, -0.0);
    assert_eq!(bytes(&plain), bytes(&odd));
    odd[10_000] = f64::NAN;
    let mut other = odd.clone();
    other[10_000] = f64::from_bits(0xfff8_0000_0000_0001);
    assert_eq!(bytes(&odd), bytes(&other));
    assert_ne!(bytes(&plain), bytes(&odd));
}

type Key = (
    HashMap<String, Option<u8>>,
    BTreeSet<(i16, bool)>,
    Duration,
    SystemTime,
    (Ipv4Addr, Ipv6Addr),
    PathBuf,
    Range<u32>,
    Result<Arc<str>, Box<[u16]>>,
);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_key_comes_back(key: Key, other: Key) {
        let (one, two) = (bytes(key.clone()), bytes(other.clone()));
        let decoded: Key = back(&one).unwrap();
        prop_assert_eq!(&decoded, &key);
        prop_assert_eq!(one == two, key == other);
    }

    #[test]
    fn hostile_bytes_are_no_key_or_one_that_gives_them_back(garbage: Vec<u8>, tag in 0x05_u8..0x50) {
        let mut hostile = vec![tag];
        hostile.extend(garbage);
        macro_rules! gives_back {
            ($($key:ty)*) => {$(
                if let Some(key) = back::<$key>(&hostile) {
                    prop_assert_eq!(bytes(key), hostile.clone());
                }
            )*};
        }
        gives_back! {
            Ordering Duration SystemTime IpAddr SocketAddr OsString PathBuf HashSet<u8>
            BTreeMap<u8, bool> Range<u8> RangeInclusive<u8> Result<u8, bool> Shape<u8>
        }
    }
}
