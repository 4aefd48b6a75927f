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

    /// Puts in, or takes out.
    #[inline]
    pub(crate) fn put(&mut self, number: u32, is_in: bool) {
        let bit = 1 << (number % 64);
        match self.0.get_mut(number as usize / 64) {
            Some(bits) => *bits = if is_in { *bits | bit } else { *bits & !bit },
            None if is_in => self.flip_further(number),
            None => {}
        }
    }

    pub(crate) const fn allocated_bytes(&self) -> usize {
        self.0.capacity() * size_of::<u64>()
    }

    #[cold]
    fn flip_further(&mut self, number: u32) {
        self.0.resize(number as usize / 64 + 1, 0);
        self.flip(number);
    }

    /// The least number that is in and not less than this one.
    pub(crate) fn next_from(&self, number: u32) -> Option<u32> {
        let first = number as usize / 64;
        let mut bits = self.0.get(first)? & (u64::MAX << (number % 64));
        let mut at = first;
        while bits == 0 {
            at += 1;
            bits = *self.0.get(at)?;
        }
        u32::try_from(at).ok().map(|at| at * 64 + bits.trailing_zeros())
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
        assert!(!bits.has(1_000));
        [0, 63, 64, 1_000].into_iter().for_each(|number| bits.flip(number));
        assert_eq!(bits.count(), 4);
        assert!(bits.has(64) && !bits.has(65));
        let all = |bits: &Bits| -> Vec<u32> {
            let next = |&number: &u32| bits.next_from(number + 1);
            std::iter::successors(bits.next_from(0), next).collect()
        };
        assert_eq!(all(&bits), [0, 63, 64, 1_000]);
        assert_eq!((bits.next_from(64), bits.next_from(1_001)), (Some(64), None));
        assert_eq!(bits.next_from(5_000), None);
        bits.flip(64);
        bits.flip(0);
        assert_eq!(bits.count(), 2);
        bits.put(2_000, false);
        assert_eq!(bits.0.len(), 1_000 / 64 + 1);
        bits.put(2_000, true);
        bits.put(2_000, true);
        bits.put(63, false);
        assert_eq!(all(&bits), [1_000, 2_000]);
    }
}
