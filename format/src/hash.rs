//! Key hash and checksums, frozen by the format.
//!
//! Keys are hashed with SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input
//! PRF", 2012) under a 128-bit seed that each store draws at random, so that hostile keys
//! cannot be made to collide. Checksums are CRC-32 (IEEE 802.3), seeded with what the bytes
//! belong to: the same bytes in another store, segment or place fail.

use siphasher::sip::SipHasher13;

/// Hashes keys of one store.
#[derive(Debug, Clone, Copy)]
pub struct KeyHasher {
    /// As it is before the first byte, so that the seed is taken in only once.
    sip: SipHasher13,
}

impl KeyHasher {
    /// The hash function of the store whose superblock holds `seed`.
    #[must_use]
    pub fn new(seed: [u8; 16]) -> Self {
        Self { sip: SipHasher13::new_with_key(&seed) }
    }

    /// SipHash-1-3 of the key's bytes.
    ///
    /// ```
    /// let hasher = larder_format::KeyHasher::new([0; 16]);
    /// assert_ne!(hasher.hash(b"a"), hasher.hash(b"b"));
    /// ```
    #[must_use]
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.sip.hash(key)
    }
}

/// CRC-32 of `bytes`, continuing from `state`.
#[must_use]
#[inline]
pub fn crc_from(state: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(state);
    hasher.update(bytes);
    hasher.finalize()
}

/// 32 bits of a number: different ones for numbers that differ in the low 32 bits only, and
/// for small numbers not just a few bits apart.
#[must_use]
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the high half is folded in")]
pub const fn spread(number: u64) -> u32 {
    // The multiplier is 2^32 divided by the golden ratio, made odd (Knuth, The Art of
    // Computer Programming 3, 6.4).
    ((number ^ number >> 32) as u32).wrapping_mul(0x9E37_79B1)
}

/// What the checksums of one file are seeded with: the store's uuid and the file's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(u32);

impl Salt {
    /// The salt of file `id` (of a segment, an external file, a generation) in store `uuid`.
    #[must_use]
    pub fn new(uuid: &[u8; 16], id: u64) -> Self {
        Self(crc_from(crc_from(0, uuid), &id.to_le_bytes()))
    }

    /// Checksum of a structure's bytes behind its checksum field, at `offset` of the file.
    ///
    /// The place goes into the state that the checksum starts from: for bytes of one length,
    /// different states give different checksums.
    #[must_use]
    #[inline]
    pub fn crc(self, offset: u64, bytes: &[u8]) -> u32 {
        crc_from(self.0 ^ spread(offset), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_matches_the_reference_vectors() {
        // Key 00..0f, from the SipHash reference code run with 1 and 3 rounds.
        let seed = core::array::from_fn(|i| u8::try_from(i).unwrap());
        let hasher = KeyHasher::new(seed);
        assert_eq!(hasher.hash(b""), 0xabac_0158_050f_c4dc);
        assert_eq!(hasher.hash(&[0]), 0xc9f4_9bf3_7d57_ca93);
    }

    #[test]
    fn a_salt_depends_on_store_file_and_place() {
        let salt = Salt::new(&[1; 16], 7);
        let crc = salt.crc(4096, b"bytes");
        assert_ne!(crc, salt.crc(4112, b"bytes"));
        assert_ne!(crc, Salt::new(&[1; 16], 8).crc(4096, b"bytes"));
        assert_ne!(crc, Salt::new(&[2; 16], 7).crc(4096, b"bytes"));
    }
}
