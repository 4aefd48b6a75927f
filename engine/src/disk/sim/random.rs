//! A small seeded generator: SplitMix64 (Steele, Lea and Flood 2014).

/// Every run of a harness draws from one of these, so that a seed repeats it.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `end`, which is not 0.
    #[expect(clippy::cast_possible_truncation, reason = "below a usize")]
    pub(super) const fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `odds` times; never for 0.
    pub(super) const fn once_in(&mut self, odds: usize) -> bool {
        odds > 0 && self.below(odds) == 0
    }

    /// A generator of its own for a part of the run.
    pub(super) const fn fork(&mut self) -> Self {
        Self(self.next())
    }
}
