//! Promise: the key hash is SipHash-1-3, for ever.
//! Method: the algorithm written out from the paper, which first has to give the paper's own
//! result with its 2 and 4 rounds.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may panic")]

mod common;

use larder_format::KeyHasher;
use proptest::prelude::*;

/// SipHash with `c` rounds a word and `d` at the end.
fn siphash(c: usize, d: usize, key: [u8; 16], message: &[u8]) -> u64 {
    let [k0, k1] = [&key[..8], &key[8..]].map(|half| u64::from_le_bytes(half.try_into().unwrap()));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = message.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = u8::try_from(message.len() & 0xFF).unwrap();
    for word in words.iter().chain([&last]).map(|word| u64::from_le_bytes(*word)) {
        v[3] ^= word;
        (0..c).for_each(|_| round(&mut v));
        v[0] ^= word;
    }
    v[2] ^= 0xFF;
    (0..d).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

fn counting<const N: usize>() -> [u8; N] {
    std::array::from_fn(|at| u8::try_from(at).unwrap())
}

#[test]
fn the_reference_gives_the_papers_result() {
    // Appendix A of the paper.
    assert_eq!(siphash(2, 4, counting(), &counting::<15>()), 0xa129_ca61_49be_45e5);
}

#[test]
fn the_key_hash_gives_the_references_result_for_every_short_message() {
    let message = counting::<64>();
    for len in 0..64 {
        let expected = siphash(1, 3, counting(), &message[..len]);
        assert_eq!(KeyHasher::new(counting()).hash(&message[..len]), expected, "{len} bytes");
    }
}

proptest! {
    #![proptest_config(common::cases(256))]

    #[test]
    fn the_key_hash_gives_the_references_result(seed: [u8; 16], message: Vec<u8>) {
        prop_assert_eq!(KeyHasher::new(seed).hash(&message), siphash(1, 3, seed, &message));
    }
}
