//! Sets of small numbers, a bit each.

/// Numbers that are in, as bits in words.
#[derive(Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    #[inline]
    pub(crate) fn has(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|bits| (bits >> (number % 64)) & 1 == 1)
    }

    /// Puts in what is not in, and takes out what is.
    #[inline]
    pub(crate) fn flip(&mut self, number: u32) {
        match self.0.get_mut(number as usize / 64) {
            Some(bits) => *bits ^= 1 << (number % 64),
            None => self.flip_further(number),
        }
    }

    #[cold]
    fn flip_further(&mut self, number: u32) {
        self.0.resize(number as usize / 64 + 1, 0);
        self.flip(number);
    }

    /// Takes out a number. Whether it was in.
    pub(crate) fn take(&mut self, number: u32) -> bool {
        let was_in = self.has(number);
        if was_in {
            self.flip(number);
        }
        was_in
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_in_and_out() {
        let mut bits = Bits::default();
        assert!(!bits.has(1_000) && !bits.take(1_000));
        [0, 63, 64, 1_000].into_iter().for_each(|number| bits.flip(number));
        assert_eq!(bits.count(), 4);
        assert!(bits.has(64) && !bits.has(65));
        assert!(bits.take(64) && !bits.take(64));
        bits.flip(0);
        assert_eq!(bits.count(), 2);
    }
}
