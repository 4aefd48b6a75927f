//! Keys, values and orders: the same for every engine and in every run.

use std::sync::LazyLock;

/// Bytes that values are cut from. They fit the second-level cache, so that making a value
/// costs a store no more than reading it.
const POOL_LEN: usize = 256 << 10;

static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words = (0..POOL_LEN as u64 / 8).map(|at| mix(at ^ 0x5eed));
    words.flat_map(u64::to_le_bytes).collect()
});

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

/// The value of a record: bytes that no compression makes shorter.
#[must_use]
#[inline]
pub fn value(record: u64, len: usize) -> &'static [u8] {
    let pool = &*POOL;
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
        let draw = |at: u64| {
            let chance = (mix(mix(seed) ^ at) >> 11) as f64 / (1_u64 << 53) as f64;
            let rank = self.cumulated.partition_point(|cumulated| *cumulated <= chance);
            mix(rank as u64)
        };
        (0..count).map(draw).collect()
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
    fn the_first_rank_of_zipf_comes_as_often_as_it_should() {
        let keys = Zipf::new(1000, 0.99).keys(100_000, 1);
        let first = keys.iter().filter(|key| **key == mix(0)).count();
        // 1 / sum of r^-0.99 over 1000 ranks is 0.129.
        assert!((12_400..13_400).contains(&first), "{first}");
    }
}
