//! An entry, packed: 24 bytes with a key and a value of 8.
//!
//! ```text
//! 56 bits   00 │ weight: 54                                            never expires
//!           01 │ deadline in ms since 1970: 42 │ weight: 12
//!           10 │ id of its extra (`extra.rs`): 32                       everything else
//!           11 │ the same, of a key in a namespace (`space.rs`)
//! ```
//!
//! An entry never changes once it can be found, but for its hit counter, and what its extra says
//! of uses and marks; a new value is a new entry.

use super::extra::{Dead, Extra};
use super::marks::Mark;
use crate::clock::{NEVER, is_live};
use crate::sync::AtomicU8;

const KIND_BITS: u32 = 2;
const KIND_AT: u32 = 56 - KIND_BITS;
const PLAIN: u64 = 0;
const TIMED: u64 = 1;
const EXTRA: u64 = 2;
const SPACED: u64 = 3;
const WEIGHT_BITS: u32 = 12;
const DEADLINE_BITS: u32 = KIND_AT - WEIGHT_BITS;

/// What an entry weighs and how long it lives, wherever that stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Terms<'a> {
    /// In its word.
    Packed { weight: u64, expires_at_ms: u64 },
    /// Elsewhere, and more.
    Extra(&'a Extra),
}

impl<'a> Terms<'a> {
    pub(crate) const fn weight(self) -> u64 {
        match self {
            Self::Packed { weight, .. } => weight,
            Self::Extra(extra) => extra.weight,
        }
    }

    /// What it costs to get it again.
    pub(crate) const fn cost(self) -> u64 {
        match self {
            Self::Packed { .. } => 1,
            Self::Extra(extra) => extra.cost,
        }
    }

    /// What it dies with.
    pub(crate) fn marks(self) -> &'a [Mark] {
        match self {
            Self::Packed { .. } => &[],
            Self::Extra(extra) => extra.marks(),
        }
    }

    /// The deadline as it is now; 0, if it is known to have passed.
    pub(crate) fn expires_at_ms(self) -> u64 {
        match self {
            Self::Packed { expires_at_ms, .. } => expires_at_ms,
            Self::Extra(extra) => extra.expires_at_ms(),
        }
    }

    /// The one predicate: whether the entry is live, at a time that is only asked for if it
    /// matters; and why not.
    #[inline]
    pub(crate) fn check(self, now_ms: impl FnOnce() -> u64) -> Result<(), Dead> {
        self.look(now_ms, false)
    }

    /// The same, as a use of the entry.
    #[inline]
    pub(crate) fn check_use(self, now_ms: impl FnOnce() -> u64) -> Result<(), Dead> {
        self.look(now_ms, true)
    }

    /// Whether it is live.
    #[inline]
    pub(crate) fn is_live(self, now_ms: impl FnOnce() -> u64) -> bool {
        self.check(now_ms).is_ok()
    }

    #[inline]
    fn look(self, now_ms: impl FnOnce() -> u64, is_use: bool) -> Result<(), Dead> {
        match self {
            Self::Packed { expires_at_ms: NEVER, .. } => Ok(()),
            Self::Packed { expires_at_ms, .. } => {
                if is_live(expires_at_ms, now_ms()) {
                    Ok(())
                } else {
                    Err(Dead::Expired)
                }
            }
            Self::Extra(extra) => extra.look(now_ms, is_use),
        }
    }
}

/// Terms in 56 bits, or where they are. The lowest bits come first; in bytes, so that the hit
/// counter fits beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed([u8; 7]);

/// What a word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpacked {
    /// All of it.
    Terms { weight: u64, expires_at_ms: u64 },
    /// That it is elsewhere, under this id.
    Extra(u32),
}

impl Packed {
    /// `None` for what does not fit.
    #[inline]
    pub(crate) const fn new(weight: u64, expires_at_ms: u64) -> Option<Self> {
        if expires_at_ms == NEVER {
            let fits = weight >> KIND_AT == 0;
            return if fits { Some(Self::of(PLAIN, weight)) } else { None };
        }
        if weight >> WEIGHT_BITS != 0 || expires_at_ms >> DEADLINE_BITS != 0 {
            return None;
        }
        Some(Self::of(TIMED, (expires_at_ms << WEIGHT_BITS) | weight))
    }

    /// The weight of what is [plain](Self::is_plain).
    #[inline]
    pub(crate) const fn plain_weight(self) -> Option<u64> {
        let [a, b, c, d, e, f, g] = self.0;
        // Of a plain one the kind is 0.
        if self.is_plain() { Some(u64::from_le_bytes([a, b, c, d, e, f, g, 0])) } else { None }
    }

    /// The rest is elsewhere; and whether the key belongs to a namespace.
    pub(crate) const fn extra(id: u32, is_spaced: bool) -> Self {
        Self::of(if is_spaced { SPACED } else { EXTRA }, id as u64)
    }

    #[inline]
    const fn of(kind: u64, rest: u64) -> Self {
        let [a, b, c, d, e, f, g, _] = ((kind << KIND_AT) | rest).to_le_bytes();
        Self([a, b, c, d, e, f, g])
    }

    /// Whether it is live for ever, as far as a glance can tell.
    #[inline]
    pub(crate) const fn is_plain(self) -> bool {
        self.0[6] as u64 >> (KIND_AT - 48) == PLAIN
    }

    /// Whether the key belongs to a namespace.
    #[inline]
    pub(crate) const fn is_spaced(self) -> bool {
        self.0[6] as u64 >> (KIND_AT - 48) == SPACED
    }

    #[inline]
    pub(crate) const fn unpack(self) -> Unpacked {
        let [a, b, c, d, e, f, g] = self.0;
        let bits = u64::from_le_bytes([a, b, c, d, e, f, g, 0]);
        let rest = bits & ((1 << KIND_AT) - 1);
        match bits >> KIND_AT {
            PLAIN => Unpacked::Terms { weight: rest, expires_at_ms: NEVER },
            TIMED => Unpacked::Terms {
                weight: rest & ((1 << WEIGHT_BITS) - 1),
                expires_at_ms: rest >> WEIGHT_BITS,
            },
            _ => Unpacked::Extra(u32::from_le_bytes([a, b, c, d])),
        }
    }
}

/// A key, its value and what else is known about them.
#[derive(Debug)]
pub(crate) struct Entry<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) packed: Packed,
    pub(crate) hits: AtomicU8,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn terms_come_out_as_they_went_in_or_do_not_fit() {
        let weights = [0, 1, 255, (1 << 12) - 1, 1 << 12, 1 << 56];
        let deadlines = [0, 1, 1_800_000_000_000, (1 << 42) - 1, 1 << 42, NEVER - 1, NEVER];
        let mut fitting = 0;
        for (weight, expires_at_ms) in
            weights.into_iter().flat_map(|weight| deadlines.map(|deadline| (weight, deadline)))
        {
            let Some(packed) = Packed::new(weight, expires_at_ms) else {
                assert!(weight >= 1 << 12 || expires_at_ms >= 1 << 42);
                continue;
            };
            fitting += 1;
            assert_eq!(packed.unpack(), Unpacked::Terms { weight, expires_at_ms });
            assert_eq!(packed.is_plain(), expires_at_ms == NEVER);
            assert_eq!(packed.plain_weight(), packed.is_plain().then_some(weight));
            assert!(!packed.is_spaced());
        }
        assert_eq!(fitting, 5 + 4 * 4);
        for is_spaced in [false, true] {
            let extra = Packed::extra(u32::MAX, is_spaced);
            assert_eq!((extra.unpack(), extra.is_plain()), (Unpacked::Extra(u32::MAX), false));
            assert_eq!(extra.is_spaced(), is_spaced);
        }
        assert_eq!(size_of::<Entry<u64, u64>>(), 24);
    }
}
