//! Values for replays: a pure function of key and size, so that every hit can be checked.
//!
//! ```text
//! | key 8 | size 4 | check 4 | pseudo-random words, seeded by key and size ... |
//! ```
//! All little-endian. A value is as long as its size says, but at least [`LEN_MIN`] bytes, so
//! that each carries its key and size and no value can pass for another.

/// Shortest value, in bytes.
pub(crate) const LEN_MIN: usize = 16;

/// Writes the value of object `id` with `size` over `buffer`.
pub(crate) fn fill(buffer: &mut Vec<u8>, id: u64, size: u32) {
    let mut random = SplitMix::seeded(id, size);
    // What was in it is overwritten, not cleared first: large values are written once.
    buffer.resize(len(size), 0);
    let (words, rest) = buffer.as_chunks_mut::<8>();
    let [head_id, head_size, words @ ..] = words else { unreachable!("LEN_MIN is two words") };
    *head_id = id.to_le_bytes();
    *head_size = random.size_word(size);
    for word in words {
        *word = random.word().to_le_bytes();
    }
    rest.copy_from_slice(&random.word().to_le_bytes()[..rest.len()]);
}

/// The size in `value` if it is, byte for byte, the value of object `id` with that size.
pub(crate) fn check(value: &[u8], id: u64) -> Option<u32> {
    let (words, rest) = value.as_chunks::<8>();
    let [head_id, head_size, words @ ..] = words else { return None };
    let [size @ .., _, _, _, _] = *head_size;
    let size = u32::from_le_bytes(size);
    let mut random = SplitMix::seeded(id, size);
    let head_is_right = value.len() == len(size)
        && *head_id == id.to_le_bytes()
        && *head_size == random.size_word(size);
    let is_right = head_is_right
        && words.iter().all(|word| *word == random.word().to_le_bytes())
        && *rest == random.word().to_le_bytes()[..rest.len()];
    is_right.then_some(size)
}

/// Length of a value of this size.
fn len(size: u32) -> usize {
    LEN_MIN.max(usize::try_from(size).unwrap_or(usize::MAX))
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): a
/// few operations a word, so that replays measure the cache and not this.
struct SplitMix(u64);

impl SplitMix {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

    fn seeded(id: u64, size: u32) -> Self {
        // One step between the two, so that no sum of id and size is a seed twice.
        let mut of_id = Self(id);
        Self(of_id.word() ^ u64::from(size).wrapping_mul(Self::GOLDEN))
    }

    #[inline]
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::GOLDEN);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// The size and four bytes of check.
    fn size_word(&mut self, size: u32) -> [u8; 8] {
        (u64::from(size) | self.word() << 32).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(id: u64, size: u32) -> Vec<u8> {
        let mut buffer = vec![7; 99];
        fill(&mut buffer, id, size);
        buffer
    }

    #[test]
    fn every_size_from_zero_gives_a_value_that_checks() {
        for size in (0..100).chain([4_095, 4_096, 70_001]) {
            let value = value(42, size);
            assert_eq!(value.len(), LEN_MIN.max(size as usize));
            assert_eq!(check(&value, 42), Some(size));
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let whole = value(3, 61);
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 0x10;
            assert_eq!(check(&torn, 3), None, "byte {at}");
        }
    }

    #[test]
    fn another_key_a_cut_and_a_longer_value_are_noticed() {
        let whole = value(3, 61);
        assert_eq!(check(&whole, 4), None);
        assert_eq!(check(&whole[..60], 3), None);
        assert_eq!(check(&[], 3), None);
        assert_eq!(check(&[whole, vec![0]].concat(), 3), None);
    }

    #[test]
    fn values_of_small_keys_and_sizes_all_differ() {
        let mut seen: Vec<_> = (0..50)
            .flat_map(|id| (0..50).map(move |size| value(id, size)[12..].to_vec()))
            .collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 2_500);
    }

    #[test]
    fn the_stream_is_splitmix64() {
        // The reference implementation's first words from seed 1234567.
        let mut random = SplitMix(1_234_567);
        assert_eq!(random.word(), 6_457_827_717_110_365_317);
        assert_eq!(random.word(), 3_203_168_211_198_807_973);
    }
}
