//! Keys, values and orders: the same for every engine and in every run.

use std::sync::LazyLock;

/// Bytes that values are cut from. They fit the second-level cache, so that making a value
/// costs a store no more than reading it.
const POOL_LEN: usize = 256 << 10;

/// Values that are longer than this are cut from a pool of their own.
const SMALL_LEN_MAX: usize = POOL_LEN / 2;
/// Longest value.
pub const VALUE_LEN_MAX: usize = LARGE_POOL_LEN / 2;
const LARGE_POOL_LEN: usize = 4 << 20;

/// Bytes that a stamp takes, and where.
const STAMP: std::ops::Range<usize> = 8..16;

static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| random(POOL_LEN, 0x5eed));
static LARGE_POOL: LazyLock<Vec<u8>> = LazyLock::new(|| random(LARGE_POOL_LEN, 0x1_a59e));

fn random(len: usize, seed: u64) -> Vec<u8> {
    let words = (0..len as u64 / 8).map(|at| mix(at ^ seed));
    words.flat_map(u64::to_le_bytes).collect()
}

/// Scatters a number over all 64 bits, one to one (the finalizer of SplitMix64).
#[must_use]
#[inline]
pub const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The key of a record: 16 bytes in no order.
#[must_use]
#[inline]
pub fn key(record: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(record).to_le_bytes());
    key[8..].copy_from_slice(&mix(!record).to_le_bytes());
    key
}

/// The value of a record: bytes that no compression makes shorter, at most [`VALUE_LEN_MAX`].
#[must_use]
#[inline]
pub fn value(record: u64, len: usize) -> &'static [u8] {
    let pool = if len > SMALL_LEN_MAX { &*LARGE_POOL } else { &*POOL };
    let room = (pool.len() - len) as u64;
    // The high bits of a product: a number below `room` without a division.
    let at = (u128::from(mix(record ^ 0x00da_7a00)) * u128::from(room)) >> 64;
    let at = usize::try_from(at).unwrap_or_default();
    &pool[at..at + len]
}

/// What a reader takes in of a value: its ends and its length.
#[must_use]
#[inline]
pub fn ends(value: &[u8]) -> u64 {
    let first = value.first().copied().unwrap_or_default();
    let last = value.last().copied().unwrap_or_default();
    u64::from(first) + u64::from(last) * 0x100 + value.len() as u64 * 0x1_0000
}

/// Writes the value of a record to `buffer`, with eight bytes replaced: a new value each time,
/// of which [`ends`] makes the same. Values of up to 16 B have no room for that.
#[inline]
pub fn stamped(record: u64, len: usize, stamp: u64, buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.extend_from_slice(value(record, len));
    if len > STAMP.end {
        buffer[STAMP].copy_from_slice(&stamp.to_le_bytes());
    }
}

/// Whether these bytes are the value of a record, whatever its stamp.
#[must_use]
pub fn is_value(bytes: &[u8], record: u64, len: usize) -> bool {
    let expected = value(record, len);
    bytes.len() == len
        && bytes[..STAMP.start.min(len)] == expected[..STAMP.start.min(len)]
        && bytes[STAMP.end.min(len)..] == expected[STAMP.end.min(len)..]
}

/// The numbers below `count`, each once, in a random order.
#[must_use]
pub fn shuffled(count: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..count).collect();
    order.sort_unstable_by_key(|number| mix(number ^ 0x0005_4aff_1e00));
    order
}

/// Draws from a Zipf distribution, as ranks from 0.
#[derive(Debug)]
pub struct Zipf {
    /// The chance of a rank up to each one.
    cumulated: Vec<f64>,
}

impl Zipf {
    /// Over so many ranks, the chance of rank `r` falling with `(r + 1)^-exponent`.
    #[must_use]
    pub fn new(ranks: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=ranks).map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        });
        let mut cumulated: Vec<f64> = weights.collect();
        for chance in &mut cumulated {
            *chance /= sum;
        }
        Self { cumulated }
    }

    /// The keys of so many requests: scattered, so that a key does not tell its rank.
    #[must_use]
    pub fn keys(&self, count: u64, seed: u64) -> Vec<u64> {
        self.ranks(count, seed).map(|rank| mix(rank as u64)).collect()
    }

    /// The ranks of so many requests.
    pub fn ranks(&self, count: u64, seed: u64) -> impl Iterator<Item = usize> {
        (0..count).map(move |at| {
            let chance = (mix(mix(seed) ^ at) >> 11) as f64 / (1_u64 << 53) as f64;
            self.cumulated.partition_point(|cumulated| *cumulated <= chance)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffled_numbers_come_once() {
        let mut order = shuffled(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn values_differ_and_have_their_length() {
        assert_eq!(value(3, 16 << 10).len(), 16 << 10);
        assert_ne!(value(3, 100), value(4, 100));
    }

    #[test]
    fn a_stamp_changes_the_value_but_not_what_readers_check() {
        let mut buffer = Vec::new();
        for len in [10, 17, 100, 1 << 20] {
            stamped(5, len, 7, &mut buffer);
            assert!(is_value(&buffer, 5, len) && !is_value(&buffer, 6, len), "{len}");
            assert_eq!(ends(&buffer), ends(value(5, len)), "{len}");
            assert_eq!(buffer == value(5, len), len < 17, "{len}");
        }
    }

    #[test]
    fn the_first_rank_of_zipf_comes_as_often_as_it_should() {
        let keys = Zipf::new(1000, 0.99).keys(100_000, 1);
        let first = keys.iter().filter(|key| **key == mix(0)).count();
        // 1 / sum of r^-0.99 over 1000 ranks is 0.129.
        assert!((12_400..13_400).contains(&first), "{first}");
    }
}
