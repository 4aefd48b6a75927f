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
//! | `05` `Ordering` | `ff`, `00` or `01` |
//! | `06` `Duration` | seconds as `u64`, nanoseconds as `u32` |
//! | `07` `SystemTime` | nanoseconds since 1970 as `i128` |
//! | `08` `09` `Ipv4Addr` `Ipv6Addr` | the address as it is written, 4 or 16 bytes |
//! | `0a` `SocketAddrV4` | address, port as `u16` |
//! | `0b` `SocketAddrV6` | address, port as `u16`, flow information and scope as `u32` |
//! | `10`–`14` `u8` `u16` `u32` `u64` `u128` | the number |
//! | `15` `usize` | as `u64` |
//! | `18`–`1c` `i8` `i16` `i32` `i64` `i128` | the number |
//! | `1d` `isize` | as `i64` |
//! | `20` `21` `f32` `f64` | its bits |
//! | `22` rounded float | bits of the tolerance and of the number of tolerances, as `f64` |
//! | `30` string | length, UTF-8 |
//! | `31` bytes: a sequence of `u8` | length, bytes |
//! | `32` packed: a sequence of other numbers | tag of the number, length, numbers |
//! | `33` sequence of anything else | length, items |
//! | `34` set | length, items in the order of their bytes |
//! | `35` map | length, keys and values in the order of the keys' bytes |
//! | `36` `37` `OsStr`: UTF-8, or not | length, UTF-8; length, bytes of the platform |
//! | `38` `Path` | length, components: a byte for its kind, the name if it has one as `OsStr` |
//! | `40` `41` `None` `Some` | nothing; the item |
//! | `42` tuple | arity as one byte, items |
//! | `43` `44` `a..b`, `a..=b` | both ends; for the second also whether it is empty |
//! | `45` `46` `47` `48` `a..`, `..b`, `..=b`, `..` | the end, if there is one |
//! | `4a` `4b` `Ok` `Err` | the item |
//! | `4c` a derived type | its shape as length and UTF-8, fields |
//! | `50` namespace, before the key itself | length, UTF-8 |
//! | `51` function, before the arguments | 8 bytes: see [`memo`](crate::memo#functions-in-one-cache) |
//! | `52` digest of a key | 32 bytes |
//! | `53` list of a function's versions | length of its name, UTF-8 |
//! | `54` part of a [structure](crate::structures) | what it is as one byte, length of its name, UTF-8, the part |
//! | `55` [shelf](crate::Shelf), before its keys | length of its name, UTF-8, version as `u32` |
//!
//! Lengths are counted in items and written in base 128, least significant group first, with
//! the top bit set in all bytes but the last.
//!
//! # What is equal
//! `NonZero`, `Wrapping`, `Saturating` and pointers are as what they hold; a `HashMap` is as a
//! `BTreeMap`, whatever its hasher and order. An `IpAddr` is as the address it holds. Paths are compared as [`Path`](std::path::Path)
//! does: by components, so that `a//b/` is `a/b`, and the separators of the platform do not
//! show. What is no UTF-8 in an `OsStr` is the same on every machine of one platform only.
//! A clock that counts in coarser steps than another has keys of its own.
//!
//! The shape of a derived type is its name, and those of its variant and fields:
//! `Size{height,width}`, `Shape::Circle(1)`. Fields are encoded in the order of their names.
//!
//! # Long keys
//! A key of more than 32 KiB, with its namespace, is stored under the BLAKE3 digest of its bytes,
//! 256 bits: nobody knows how to make two keys with the same one. It is digested while it
//! is encoded, so that it need not be in memory as a whole. Shorter keys are stored, and
//! compared, in full. [`Cache::iter`](crate::Cache::iter) passes over digests.

mod buf;
mod collections;
mod decode;
mod encode;
mod rounded;
mod values;

pub(crate) use buf::Key;
pub use buf::KeyBuf;
pub use decode::{KeyDecode, KeyReader};
pub use encode::KeyEncode;
pub use rounded::{Rounded, Tolerant};

/// The tags, in the order of the table above.
pub(crate) mod tag {
    pub(crate) const UNIT: u8 = 0x01;
    pub(crate) const FALSE: u8 = 0x02;
    pub(crate) const TRUE: u8 = 0x03;
    pub(crate) const CHAR: u8 = 0x04;
    pub(crate) const ORDERING: u8 = 0x05;
    pub(crate) const DURATION: u8 = 0x06;
    pub(crate) const SYSTEM_TIME: u8 = 0x07;
    pub(crate) const IPV4: u8 = 0x08;
    pub(crate) const IPV6: u8 = 0x09;
    pub(crate) const SOCKET_V4: u8 = 0x0a;
    pub(crate) const SOCKET_V6: u8 = 0x0b;
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
    pub(crate) const ROUNDED: u8 = 0x22;
    pub(crate) const STR: u8 = 0x30;
    pub(crate) const BYTES: u8 = 0x31;
    pub(crate) const PACKED: u8 = 0x32;
    pub(crate) const SEQ: u8 = 0x33;
    pub(crate) const SET: u8 = 0x34;
    pub(crate) const MAP: u8 = 0x35;
    pub(crate) const OS_STR: u8 = 0x36;
    pub(crate) const OS_BYTES: u8 = 0x37;
    pub(crate) const PATH: u8 = 0x38;
    pub(crate) const NONE: u8 = 0x40;
    pub(crate) const SOME: u8 = 0x41;
    pub(crate) const TUPLE: u8 = 0x42;
    pub(crate) const RANGE: u8 = 0x43;
    pub(crate) const RANGE_INCLUSIVE: u8 = 0x44;
    pub(crate) const RANGE_FROM: u8 = 0x45;
    pub(crate) const RANGE_TO: u8 = 0x46;
    pub(crate) const RANGE_TO_INCLUSIVE: u8 = 0x47;
    pub(crate) const RANGE_FULL: u8 = 0x48;
    pub(crate) const OK: u8 = 0x4a;
    pub(crate) const ERR: u8 = 0x4b;
    pub(crate) const SHAPE: u8 = 0x4c;
    pub(crate) const NAMESPACE: u8 = 0x50;
    pub(crate) const FUNCTION: u8 = 0x51;
    pub(crate) const DIGEST: u8 = 0x52;
    pub(crate) const VERSIONS: u8 = 0x53;
    pub(crate) const STRUCTURE: u8 = 0x54;
    pub(crate) const SHELF: u8 = 0x55;
    /// Of no key: see `idle.rs`.
    pub(crate) const IDLE: u8 = 0x56;
}
