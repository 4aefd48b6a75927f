//! Keys back from their bytes, for iteration.

use super::{KeyEncode, tag};

/// A key that can be read back from its bytes, so that [`Cache::iter`](crate::Cache::iter) can
/// give it out.
///
/// ```
/// use larder::{KeyDecode, KeyReader};
///
/// let mut bytes = KeyReader::new(b"\x12\x07\0\0\0");
/// assert_eq!(u32::decode(&mut bytes), Some(7));
/// ```
pub trait KeyDecode: KeyEncode + Sized {
    /// Reads a key off the front. `None`: these are not the bytes of such a key.
    fn decode(from: &mut KeyReader<'_>) -> Option<Self>;

    /// Reads what `encode_slice` wrote.
    #[doc(hidden)]
    fn decode_vec(from: &mut KeyReader<'_>) -> Option<Vec<Self>> {
        from.tag(tag::SEQ)?;
        let len = from.len()?;
        // No reservation: the length is a claim, each item takes at least a byte.
        (0..len).map(|_| Self::decode(from)).collect()
    }
}

/// Bytes of a key that are still to be read.
#[derive(Debug, Clone, Copy)]
pub struct KeyReader<'a>(&'a [u8]);

impl<'a> KeyReader<'a> {
    /// Reads `bytes` from the start.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether everything was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the next `len` bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Takes the shape of a derived type.
    #[doc(hidden)]
    pub fn shape(&mut self) -> Option<&'a str> {
        self.tag(tag::SHAPE)?;
        let len = self.len()?;
        std::str::from_utf8(self.take(len)?).ok()
    }

    /// How many bytes are left.
    pub(super) const fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn tag(&mut self, expected: u8) -> Option<()> {
        (self.byte()? == expected).then_some(())
    }

    pub(super) fn len(&mut self) -> Option<usize> {
        let mut len = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            len |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(len).ok();
            }
        }
        None
    }
}

impl KeyDecode for () {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::UNIT)
    }
}

impl KeyDecode for bool {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        match from.byte()? {
            tag::FALSE => Some(false),
            tag::TRUE => Some(true),
            _ => None,
        }
    }
}

impl KeyDecode for char {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::CHAR)?;
        char::from_u32(u32::from_le_bytes(from.array()?))
    }
}

impl KeyDecode for u8 {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::U8)?;
        from.byte()
    }

    fn decode_vec(from: &mut KeyReader<'_>) -> Option<Vec<Self>> {
        from.tag(tag::BYTES)?;
        let len = from.len()?;
        from.take(len).map(<[u8]>::to_vec)
    }
}

macro_rules! number {
    ($($number:ty, $tag:ident, $wide:ty, $narrow:expr;)*) => {$(
        impl KeyDecode for $number {
            fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
                from.tag(tag::$tag)?;
                $narrow(<$wide>::from_le_bytes(from.array()?))
            }

            fn decode_vec(from: &mut KeyReader<'_>) -> Option<Vec<Self>> {
                from.tag(tag::PACKED)?;
                from.tag(tag::$tag)?;
                let len = from.len()?;
                let bytes = from.take(len.checked_mul(size_of::<$wide>())?)?;
                let (items, _) = bytes.as_chunks();
                items.iter().map(|item| $narrow(<$wide>::from_le_bytes(*item))).collect()
            }
        }
    )*};
}

number! {
    u16, U16, u16, Some;
    u32, U32, u32, Some;
    u64, U64, u64, Some;
    u128, U128, u128, Some;
    usize, USIZE, u64, |wide| usize::try_from(wide).ok();
    i8, I8, i8, Some;
    i16, I16, i16, Some;
    i32, I32, i32, Some;
    i64, I64, i64, Some;
    i128, I128, i128, Some;
    isize, ISIZE, i64, |wide| isize::try_from(wide).ok();
    f32, F32, f32, Some;
    f64, F64, f64, Some;
}

impl KeyDecode for String {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::STR)?;
        let len = from.len()?;
        Self::from_utf8(from.take(len)?.to_vec()).ok()
    }
}

impl<T: KeyDecode> KeyDecode for Vec<T> {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        T::decode_vec(from)
    }
}

impl<T: KeyDecode, const N: usize> KeyDecode for [T; N] {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        T::decode_vec(from)?.try_into().ok()
    }
}

impl<T: KeyDecode> KeyDecode for Option<T> {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        match from.byte()? {
            tag::NONE => Some(None),
            tag::SOME => T::decode(from).map(Some),
            _ => None,
        }
    }
}

impl<T: KeyDecode> KeyDecode for Box<T> {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        T::decode(from).map(Self::new)
    }
}

macro_rules! tuple {
    ($arity:literal: $($item:ident)*) => {
        impl<$($item: KeyDecode),*> KeyDecode for ($($item,)*) {
            fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
                from.tag(tag::TUPLE)?;
                from.tag($arity)?;
                Some(($($item::decode(from)?,)*))
            }
        }
    };
}

tuple!(1: A);
tuple!(2: A B);
tuple!(3: A B C);
tuple!(4: A B C D);
tuple!(5: A B C D E);
tuple!(6: A B C D E F);
tuple!(7: A B C D E F G);
tuple!(8: A B C D E F G H);
tuple!(9: A B C D E F G H I);
tuple!(10: A B C D E F G H I J);
tuple!(11: A B C D E F G H I J K);
tuple!(12: A B C D E F G H I J K L);
