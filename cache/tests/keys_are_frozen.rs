//! Keys are canonical, injective, and the same for ever.
//!
//! Golden bytes, borrowed forms, and a crowd of keys that are easy to confuse.

#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

mod common;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use common::bytes;
use larder::{KeyDecode, KeyEncode, KeyReader};
use proptest::prelude::*;

#[test]
fn golden_bytes() {
    let golden: &[(&[u8], Vec<u8>)] = &[
        (b"\x01", bytes(())),
        (b"\x02", bytes(false)),
        (b"\x03", bytes(true)),
        (b"\x04\xac\x20\0\0", bytes('€')),
        (b"\x10\x07", bytes(7_u8)),
        (b"\x11\x07\0", bytes(7_u16)),
        (b"\x12\x07\0\0\0", bytes(7_u32)),
        (b"\x13\x07\0\0\0\0\0\0\0", bytes(7_u64)),
        (b"\x14\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", bytes(7_u128)),
        (b"\x15\x07\0\0\0\0\0\0\0", bytes(7_usize)),
        (b"\x18\xff", bytes(-1_i8)),
        (b"\x19\xfe\xff", bytes(-2_i16)),
        (b"\x1a\xfe\xff\xff\xff", bytes(-2_i32)),
        (b"\x1b\xfe\xff\xff\xff\xff\xff\xff\xff", bytes(-2_i64)),
        (b"\x1c\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", bytes(1_i128)),
        (b"\x1d\xff\xff\xff\xff\xff\xff\xff\xff", bytes(-1_isize)),
        (b"\x20\0\0\xc0\x3f", bytes(1.5_f32)),
        (b"\x20\0\0\xc0\x7f", bytes(f32::NAN)),
        (b"\x21\0\0\0\0\0\0\xf8\x3f", bytes(1.5_f64)),
        (b"\x21\0\0\0\0\0\0\xf8\x7f", bytes(-f64::NAN)),
        (b"\x21\0\0\0\0\0\0\0\0", bytes(-0.0_f64)),
        (b"\x30\x03key", bytes("key")),
        (b"\x31\x03\x01\x02\x03", bytes([1_u8, 2, 3])),
        (b"\x32\x11\x02\x01\0\x02\0", bytes([1_u16, 2])),
        (b"\x32\x21\x01\0\0\0\0\0\0\0\0", bytes([-0.0_f64])),
        (b"\x33\x02\x30\x01a\x30\x01b", bytes(["a", "b"])),
        (b"\x33\0", bytes(Vec::<String>::new())),
        (b"\x40", bytes(None::<u8>)),
        (b"\x41\x10\x07", bytes(Some(7_u8))),
        (b"\x42\x01\x10\x07", bytes((7_u8,))),
        (b"\x42\x03\x30\x01a\x03\x40", bytes(("a", true, None::<u8>))),
    ];
    for (golden, encoded) in golden {
        assert_eq!(golden, encoded);
    }
    let long = bytes("x".repeat(300));
    assert_eq!(&long[..4], b"\x30\xac\x02x");
    assert_eq!(long.len(), 303);
}

#[test]
#[expect(clippy::needless_borrows_for_generic_args, reason = "borrowing is what is tested")]
fn borrowed_forms_have_the_same_bytes() {
    assert_eq!(bytes("key"), bytes("key".to_owned()));
    assert_eq!(bytes("key"), bytes(Cow::Borrowed("key")));
    assert_eq!(bytes("key"), bytes(Box::<str>::from("key")));
    assert_eq!(bytes("key"), bytes(Arc::<str>::from("key")));
    assert_eq!(bytes(&b"key"[..]), bytes(b"key".to_vec()));
    assert_eq!(bytes(&b"key"[..]), bytes(*b"key"));
    assert_eq!(bytes(&[1_u64, 2][..]), bytes(vec![1_u64, 2]));
    let number = &&7_u32;
    assert_eq!(bytes(number), bytes(7_u32));
    assert_eq!(bytes(("a", 1_u8)), bytes(("a".to_owned(), &1_u8)));
}

#[test]
fn keys_that_look_alike_differ() {
    let keys = [
        bytes(()),
        bytes(((),)),
        bytes(((), ())),
        bytes(1_u8),
        bytes(1_u16),
        bytes(1_i8),
        bytes(1_u64),
        bytes(1_usize),
        bytes(1.0_f32),
        bytes(1.0_f64),
        bytes(true),
        bytes('\u{1}'),
        bytes("\u{1}"),
        bytes([1_u8]),
        bytes([1_u16]),
        bytes([1_i8]),
        bytes([true]),
        bytes((1_u8,)),
        bytes(Some(1_u8)),
        bytes(Some(Some(1_u8))),
        bytes(None::<u8>),
        bytes(Some(None::<u8>)),
        bytes(""),
        bytes(Vec::<u8>::new()),
        bytes(Vec::<u16>::new()),
        bytes(Vec::<u32>::new()),
        bytes(Vec::<bool>::new()),
        bytes(("ab", "c")),
        bytes(("a", "bc")),
        bytes(["ab", "c"]),
        bytes(["a", "bc"]),
        bytes("abc"),
        bytes(b"abc"),
        bytes((("a", "b"), "c")),
        bytes(("a", ("b", "c"))),
        bytes(("a", "b", "c")),
        bytes((1_u8, None::<u8>, "a")),
        bytes((1_u8, "a", None::<u8>)),
        bytes(vec![vec![1_u8], vec![2_u8]]),
        bytes(vec![vec![1_u8, 2], vec![]]),
        bytes(vec![vec![], vec![1_u8, 2]]),
        bytes(-1_i64),
        bytes(-2_i64),
    ];
    let mut seen = HashMap::new();
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(seen.insert(key, at), None, "{key:02x?}");
        // Neither is a prefix of another, so none can be confused inside a tuple.
        for (other_at, other) in keys.iter().enumerate() {
            assert!(at == other_at || !other.starts_with(key), "{key:02x?} starts {other:02x?}");
        }
    }
}

#[test]
fn signed_zero_is_zero_and_there_is_one_nan() {
    assert_eq!(bytes(-0.0_f32), bytes(0.0_f32));
    assert_eq!(bytes(f64::from_bits(0x7ff0_0000_0000_0001)), bytes(f64::NAN));
    assert_eq!(bytes(vec![-0.0_f64, f64::NAN]), bytes(vec![0.0_f64, -f64::NAN]));
    assert_ne!(bytes(f64::INFINITY), bytes(f64::NAN));
}

#[test]
fn large_packed_slices_are_written_in_full() {
    for len in [0, 1, 63, 64, 65, 1000] {
        let numbers: Vec<u32> = (0..len).collect();
        assert_eq!(back::<Vec<u32>>(&bytes(&numbers)), Some(numbers));
    }
}

fn back<K: KeyDecode>(bytes: &[u8]) -> Option<K> {
    let mut from = KeyReader::new(bytes);
    K::decode(&mut from).filter(|_| from.is_empty())
}

/// A shape with a bit of everything.
type Key = (String, Option<Vec<u8>>, Vec<(i64, bool)>, [char; 2], Vec<f64>, u128, Vec<i16>);

proptest! {
    #[test]
    fn any_key_comes_back(key: Key, other: Key) {
        prop_assume!(!key.4.iter().chain(&other.4).any(|number| number.is_nan()));
        let (one, two) = (bytes(key.clone()), bytes(other.clone()));
        let decoded: Key = back(&one).unwrap();
        prop_assert_eq!(&decoded, &key);
        prop_assert_eq!(one == two, key == other);
    }

    #[test]
    fn hostile_bytes_are_no_key_or_one_that_gives_them_back(garbage: Vec<u8>) {
        if let Some(key) = back::<Key>(&garbage) {
            prop_assert_eq!(back::<Key>(&bytes(key.clone())), Some(key));
        }
        let _ = back::<Vec<Option<String>>>(&garbage);
    }

    #[test]
    fn cut_bytes_are_no_key(key: Key, cut: prop::sample::Index) {
        let whole = bytes(key);
        prop_assert_eq!(back::<Key>(&whole[..cut.index(whole.len())]), None);
    }
}

/// Encodes with nothing but `push`, to see that the trait can be implemented outside.
struct Custom;

impl KeyEncode for Custom {
    fn encode(&self, out: &mut larder::KeyBuf) {
        ("custom", 1_u8).encode(out);
    }
}

#[test]
fn a_type_of_ones_own_can_be_a_key() {
    assert_eq!(bytes(Custom), bytes(("custom", 1_u8)));
    assert_eq!(bytes(vec![Custom, Custom]), bytes(vec![("custom", 1_u8), ("custom", 1_u8)]));
}
