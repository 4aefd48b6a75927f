//! Types that can be keys.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use super::{KeyBuf, tag};

/// A key: something with canonical, injective, frozen bytes (see [`larder::key`](crate::key)).
///
/// Implement it for a type of your own by encoding a tuple of what makes it equal, led by a
/// name, so that it stays apart from other types:
///
/// ```
/// use larder::{KeyBuf, KeyEncode};
///
/// struct Page { book: String, number: u32 }
///
/// impl KeyEncode for Page {
///     fn encode(&self, out: &mut KeyBuf) {
///         ("page", &self.book, self.number).encode(out);
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key: it has no canonical bytes",
    note = "implement `larder::KeyEncode` by encoding a tuple of its parts"
)]
pub trait KeyEncode {
    /// Appends the key's bytes. Equal keys must give equal bytes, different keys different
    /// ones, neither a prefix of the other; a type that is borrowed as another (as `String` is
    /// as `str`) must give the other's bytes.
    fn encode(&self, out: &mut KeyBuf);

    /// Appends a sequence of keys. Numbers have a shorter form.
    #[doc(hidden)]
    #[inline]
    fn encode_slice(items: &[Self], out: &mut KeyBuf)
    where
        Self: Sized,
    {
        out.tag_len(tag::SEQ, items.len());
        for item in items {
            item.encode(out);
        }
    }
}

impl KeyEncode for () {
    #[inline]
    fn encode(&self, out: &mut KeyBuf) {
        out.push(&[tag::UNIT]);
    }
}

impl KeyEncode for bool {
    #[inline]
    fn encode(&self, out: &mut KeyBuf) {
        out.push(&[if *self { tag::TRUE } else { tag::FALSE }]);
    }
}

impl KeyEncode for char {
    #[inline]
    fn encode(&self, out: &mut KeyBuf) {
        out.tagged(tag::CHAR, u32::from(*self).to_le_bytes());
    }
}

impl KeyEncode for u8 {
    #[inline]
    fn encode(&self, out: &mut KeyBuf) {
        out.tagged(tag::U8, [*self]);
    }

    #[inline]
    fn encode_slice(items: &[Self], out: &mut KeyBuf) {
        out.tag_len(tag::BYTES, items.len());
        out.push(items);
    }
}

/// Numbers: `$canonical` makes what is written of the number, `$stands` says whether that is as it
/// stands in memory, but for its width and the order of its bytes.
macro_rules! number {
    ($($number:ty, $tag:ident, $canonical:expr, $stands:expr;)*) => {$(
        impl KeyEncode for $number {
            #[inline]
            fn encode(&self, out: &mut KeyBuf) {
                out.tagged(tag::$tag, $canonical(*self).to_le_bytes());
            }

            #[inline]
            fn encode_slice(items: &[Self], out: &mut KeyBuf) {
                out.push(&[tag::PACKED]);
                out.tag_len(tag::$tag, items.len());
                const LEN: usize = $canonical(0 as $number).to_le_bytes().len();
                // Where numbers stand in memory as they are written, nothing has to be made of them.
                const STEP: usize = 512;
                for items in items.chunks(STEP * 16) {
                    if cfg!(target_endian = "little")
                        && size_of::<$number>() == LEN
                        && items.iter().fold(true, |all, item| all & $stands(*item))
                    {
                        out.push(bytemuck::cast_slice(items));
                        continue;
                    }
                    for items in items.chunks(STEP) {
                        let mut bytes = [[0_u8; LEN]; STEP];
                        for (bytes, item) in bytes.iter_mut().zip(items) {
                            *bytes = $canonical(*item).to_le_bytes();
                        }
                        out.push(bytes[..items.len()].as_flattened());
                    }
                }
            }
        }
    )*};
}

number! {
    u16, U16, same, always;
    u32, U32, same, always;
    u64, U64, same, always;
    u128, U128, same, always;
    usize, USIZE, usize_bits, always;
    i8, I8, same, always;
    i16, I16, same, always;
    i32, I32, same, always;
    i64, I64, same, always;
    i128, I128, same, always;
    isize, ISIZE, isize_bits, always;
    f32, F32, f32_bits, |item: f32| f32_bits(item) == item.to_bits();
    f64, F64, f64_bits, |item: f64| f64_bits(item) == item.to_bits();
}

const fn always<T: Copy>(_: T) -> bool {
    true
}

const fn same<T: Copy>(number: T) -> T {
    number
}

/// No machine has a wider `usize`.
const fn usize_bits(number: usize) -> u64 {
    number as u64
}

const fn isize_bits(number: isize) -> i64 {
    number as i64
}

const fn f32_bits(number: f32) -> u32 {
    if number.is_nan() {
        0x7fc0_0000
    } else if number == 0.0 {
        0
    } else {
        number.to_bits()
    }
}

pub(super) const fn f64_bits(number: f64) -> u64 {
    if number.is_nan() {
        0x7ff8_0000_0000_0000
    } else if number == 0.0 {
        0
    } else {
        number.to_bits()
    }
}

impl KeyEncode for str {
    #[inline]
    fn encode(&self, out: &mut KeyBuf) {
        out.tag_len(tag::STR, self.len());
        out.push(self.as_bytes());
    }
}

impl KeyEncode for String {
    #[inline]
    fn encode(&self, out: &mut KeyBuf) {
        (**self).encode(out);
    }
}

impl<T: KeyEncode> KeyEncode for [T] {
    #[inline]
    fn encode(&self, out: &mut KeyBuf) {
        T::encode_slice(self, out);
    }
}

impl<T: KeyEncode> KeyEncode for Vec<T> {
    #[inline]
    fn encode(&self, out: &mut KeyBuf) {
        T::encode_slice(self, out);
    }
}

impl<T: KeyEncode, const N: usize> KeyEncode for [T; N] {
    #[inline]
    fn encode(&self, out: &mut KeyBuf) {
        T::encode_slice(self, out);
    }
}

impl<T: KeyEncode> KeyEncode for Option<T> {
    #[inline]
    fn encode(&self, out: &mut KeyBuf) {
        match self {
            None => out.push(&[tag::NONE]),
            Some(item) => {
                out.push(&[tag::SOME]);
                item.encode(out);
            }
        }
    }
}

macro_rules! pointer {
    ($($pointer:ty),*) => {$(
        impl<T: KeyEncode + ?Sized> KeyEncode for $pointer {
            #[inline]
            fn encode(&self, out: &mut KeyBuf) {
                (**self).encode(out);
            }
        }
    )*};
}

pointer!(&T, Box<T>, Rc<T>, Arc<T>);

impl<T: KeyEncode + ToOwned + ?Sized> KeyEncode for Cow<'_, T> {
    #[inline]
    fn encode(&self, out: &mut KeyBuf) {
        (**self).encode(out);
    }
}

macro_rules! tuple {
    ($arity:literal: $($item:ident)*) => {
        impl<$($item: KeyEncode),*> KeyEncode for ($($item,)*) {
            #[inline]
            fn encode(&self, out: &mut KeyBuf) {
                #[expect(non_snake_case, reason = "an item is named as its type")]
                let ($($item,)*) = self;
                out.push(&[tag::TUPLE, $arity]);
                $($item.encode(out);)*
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
