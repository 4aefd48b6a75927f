//! How often hashes were seen lately, in 8 to 16 bytes per entry of the cache.
//!
//! A count-min sketch: four counters of 4 bits for each hash, the smallest of which is the
//! estimate. All four are in one block, which is one cache line: row r of a block is its
//! words 2r and 2r + 1, sixteen counters each. When ten times as many hashes have been counted
//! as there are words, all counters are halved, so that what was popular long ago fades.
//!
//! Sources: Cormode, Muthukrishnan, "An improved data stream summary: the count-min sketch and
//! its applications", 2005; Einziger, Friedman, Manes, "TinyLFU: a highly efficient cache
//! admission policy", ACM Transactions on Storage 13(4), 2017, section 3 (ageing: 3.3).
//!
//! # Growing
//! A sketch that is too small for its cache becomes twice as large by writing it down twice:
//! the block of a hash is chosen by its low bits, so every estimate stays what it was.

/// What a counter of 4 bits can hold.
const COUNT_MAX: u64 = 15;
/// The lowest bit of every counter in a word.
const ONES: u64 = 0x1111_1111_1111_1111;
/// All but the highest bit of every counter in a word.
const LOW_BITS: u64 = 0x7777_7777_7777_7777;
/// Counted hashes per word between halvings.
const PERIOD: usize = 10;

/// Counters, aged.
#[derive(Debug)]
pub(super) struct Sketch {
    blocks: Vec<Block>,
    counted: usize,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Block([u64; 8]);

impl Default for Sketch {
    fn default() -> Self {
        Self { blocks: vec![Block::default()], counted: 0 }
    }
}

/// Of each row, the word in the block and the place of the counter in the word.
fn counters(hash: u64) -> impl Iterator<Item = (usize, u32)> {
    // The bits that choose the block are others: the low ones.
    let bits = hash.rotate_left(27).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    (0..4).map(move |row| {
        let own = (bits >> (8 * row)) & 31;
        (2 * row + usize::from(own & 1 == 1), u32::try_from(own >> 1).unwrap_or(0) * 4)
    })
}

/// Of each two counters at the same place of two words, the larger.
fn larger_counters(one: u64, other: u64) -> u64 {
    let counter =
        |shift: u32| ((one >> shift) & COUNT_MAX).max((other >> shift) & COUNT_MAX) << shift;
    (0..16).map(|at| counter(4 * at)).sum()
}

impl Sketch {
    /// Grows until there is a word for each of so many entries.
    pub(super) fn cover(&mut self, entries: usize) {
        while self.words() < entries {
            self.blocks.extend_from_within(..);
            self.counted *= 2;
        }
    }

    /// Shrinks to as little as [`cover`](Self::cover) would have grown to: halves that are laid
    /// over each other keep the larger of two counters, so no estimate becomes lower.
    pub(super) fn shrink(&mut self, entries: usize) {
        while self.blocks.len() > 1 && self.words() / 2 >= entries {
            let upper = self.blocks.split_off(self.blocks.len() / 2);
            let pairs = self.blocks.iter_mut().zip(upper);
            for (low, high) in pairs.flat_map(|(low, high)| low.0.iter_mut().zip(high.0)) {
                *low = larger_counters(*low, high);
            }
            self.counted /= 2;
        }
        self.blocks.shrink_to_fit();
    }

    /// How many hashes are counted between halvings.
    pub(super) const fn period(&self) -> usize {
        self.words() * PERIOD
    }

    /// Counts a hash once.
    pub(super) fn count(&mut self, hash: u64) {
        let at = self.block(hash);
        let mut counted = false;
        for (word, shift) in counters(hash) {
            let word = &mut self.blocks[at].0[word];
            if (*word >> shift) & COUNT_MAX < COUNT_MAX {
                *word += 1 << shift;
                counted = true;
            }
        }
        self.counted += usize::from(counted);
        if self.counted >= self.period() {
            self.halve();
        }
    }

    /// Counts a hash several times, but raises no counter beyond what that takes: counters
    /// shared with others stay as they are, so that strangers are taken for popular less often.
    ///
    /// Source: Estan, Varghese, "New directions in traffic measurement and accounting",
    /// SIGCOMM 2002, section 3.3.2 (conservative update).
    pub(super) fn raise(&mut self, hash: u64, times: u8) {
        let target = (self.estimate(hash) + u64::from(times)).min(COUNT_MAX);
        let at = self.block(hash);
        for (word, shift) in counters(hash) {
            let word = &mut self.blocks[at].0[word];
            let count = (*word >> shift) & COUNT_MAX;
            *word += target.saturating_sub(count) << shift;
        }
        self.counted += usize::from(times);
        if self.counted >= self.period() {
            self.halve();
        }
    }

    /// About how often a hash was counted lately, up to 15: never too low, but for halvings.
    pub(super) fn estimate(&self, hash: u64) -> u64 {
        let words = &self.blocks[self.block(hash)].0;
        let counts = counters(hash).map(|(word, shift)| (words[word] >> shift) & COUNT_MAX);
        counts.min().unwrap_or(0)
    }

    pub(super) const fn allocated_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>()
    }

    const fn words(&self) -> usize {
        self.blocks.len() * 8
    }

    fn block(&self, hash: u64) -> usize {
        // The number of blocks is a power of two.
        usize::try_from(hash & (self.blocks.len() as u64 - 1)).unwrap_or(0)
    }

    #[cold]
    fn halve(&mut self) {
        let mut odd = 0;
        for word in self.blocks.iter_mut().flat_map(|block| &mut block.0) {
            odd += (*word & ONES).count_ones() as usize;
            *word = (*word >> 1) & LOW_BITS;
        }
        // Each hash is in four counters.
        self.counted = self.counted.saturating_sub(odd / 4) / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::super::mix;
    use super::*;

    #[test]
    fn an_estimate_is_seldom_too_high_and_never_too_low() {
        let mut sketch = Sketch::default();
        sketch.cover(1_000);
        (0..1_000).for_each(|key| (0..key % 5).for_each(|_| sketch.count(mix(key))));
        let estimates = (0..1_000).map(|key| (sketch.estimate(mix(key)), key % 5));
        let (mut right, mut far) = (0, 0);
        for (estimate, truth) in estimates {
            assert!(estimate >= truth);
            right += u32::from(estimate == truth);
            far += u32::from(estimate > truth + 1);
        }
        assert!(right > 900 && far < 30, "{right} right, {far} far too high");
    }

    #[test]
    fn shrinking_lowers_no_estimate() {
        let mut sketch = Sketch::default();
        sketch.cover(512);
        (0..50).for_each(|key| (0..key % 7).for_each(|_| sketch.count(mix(key))));
        let before: Vec<u64> = (0..50).map(|key| sketch.estimate(mix(key))).collect();
        sketch.shrink(100);
        assert_eq!(sketch.words(), 128);
        let mut pairs = (0..50).zip(before);
        assert!(pairs.all(|(key, before)| sketch.estimate(mix(key)) >= before));
    }

    #[test]
    fn raising_takes_fewer_strangers_for_popular() {
        let (mut counted, mut raised) = (Sketch::default(), Sketch::default());
        counted.cover(128);
        raised.cover(128);
        for key in 0..300 {
            (0..3).for_each(|_| counted.count(mix(key)));
            raised.raise(mix(key), 1);
            raised.raise(mix(key), 2);
            assert!(raised.estimate(mix(key)) >= 3);
        }
        let strangers =
            |sketch: &Sketch| -> u64 { (1_000..2_000).map(|key| sketch.estimate(mix(key))).sum() };
        assert!(strangers(&raised) < strangers(&counted));
    }

    #[test]
    fn counters_fade_by_half() {
        let mut sketch = Sketch::default();
        let (popular, period) = (mix(1), sketch.period() as u64);
        (0..40).for_each(|_| sketch.count(popular));
        assert_eq!(sketch.estimate(popular), 15);
        // Saturated counters do not count: 15 so far.
        (0..period - 16).for_each(|key| sketch.count(mix(1_000 + key)));
        let before = sketch.estimate(popular);
        sketch.count(mix(2_000));
        sketch.count(mix(2_001));
        assert_eq!((before, sketch.estimate(popular)), (15, 7));
    }

    #[test]
    fn growing_changes_no_estimate() {
        let mut sketch = Sketch::default();
        (0..50).for_each(|key| (0..key % 7).for_each(|_| sketch.count(mix(key))));
        let before: Vec<u64> = (0..200).map(|key| sketch.estimate(mix(key))).collect();
        sketch.cover(100);
        assert_eq!(sketch.words(), 128);
        let after: Vec<u64> = (0..200).map(|key| sketch.estimate(mix(key))).collect();
        assert_eq!(before, after);
    }
}
