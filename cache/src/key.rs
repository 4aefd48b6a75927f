//! Keys as canonical bytes: one identity for memory and disk.
//!
//! A key is encoded once and both tiers know it by its bytes, so that they cannot disagree
//! about which keys are equal. The bytes are
//!
//! - **injective**: everything starts with a tag for its type, and what varies in length is
//!   preceded by that length, so different keys give different bytes, inside tuples too;
//! - **canonical**: `str` and `String`, `[T]`, `[T; N]` and `Vec<T>`, `T` and `&T` give the same
//!   bytes; `-0.0` is `0.0` and there is one NaN;
//! - **frozen**: little-endian, explicit widths, the same on every machine and in every version
//!   (golden bytes in the tests).
//!
//! | tag | what follows |
//! |---|---|
//! | `01` `()` | nothing |
//! | `02` `03` `false` `true` | nothing |
//! | `04` `char` | `u32` |
//! | `10`–`14` `u8` `u16` `u32` `u64` `u128` | the number |
//! | `15` `usize` | as `u64` |
//! | `18`–`1c` `i8` `i16` `i32` `i64` `i128` | the number |
//! | `1d` `isize` | as `i64` |
//! | `20` `21` `f32` `f64` | its bits |
//! | `30` string | length, UTF-8 |
//! | `31` bytes: a sequence of `u8` | length, bytes |
//! | `32` packed: a sequence of other numbers | tag of the number, length, numbers |
//! | `33` sequence of anything else | length, items |
//! | `40` `41` `None` `Some` | nothing; the item |
//! | `42` tuple | arity as one byte, items |
//! | `50` namespace, before the key itself | length, UTF-8 |
//!
//! Lengths are counted in items and written in base 128, least significant group first, with
//! the top bit set in all bytes but the last.

mod buf;
mod decode;
mod encode;

pub(crate) use buf::Key;
pub use buf::KeyBuf;
pub use decode::{KeyDecode, KeyReader};
pub use encode::KeyEncode;

/// The tags, in the order of the table above.
pub(crate) mod tag {
    pub(crate) const UNIT: u8 = 0x01;
    pub(crate) const FALSE: u8 = 0x02;
    pub(crate) const TRUE: u8 = 0x03;
    pub(crate) const CHAR: u8 = 0x04;
    pub(crate) const U8: u8 = 0x10;
    pub(crate) const U16: u8 = 0x11;
    pub(crate) const U32: u8 = 0x12;
    pub(crate) const U64: u8 = 0x13;
    pub(crate) const U128: u8 = 0x14;
    pub(crate) const USIZE: u8 = 0x15;
    pub(crate) const I8: u8 = 0x18;
    pub(crate) const I16: u8 = 0x19;
    pub(crate) const I32: u8 = 0x1a;
    pub(crate) const I64: u8 = 0x1b;
    pub(crate) const I128: u8 = 0x1c;
    pub(crate) const ISIZE: u8 = 0x1d;
    pub(crate) const F32: u8 = 0x20;
    pub(crate) const F64: u8 = 0x21;
    pub(crate) const STR: u8 = 0x30;
    pub(crate) const BYTES: u8 = 0x31;
    pub(crate) const PACKED: u8 = 0x32;
    pub(crate) const SEQ: u8 = 0x33;
    pub(crate) const NONE: u8 = 0x40;
    pub(crate) const SOME: u8 = 0x41;
    pub(crate) const TUPLE: u8 = 0x42;
    pub(crate) const NAMESPACE: u8 = 0x50;
}
