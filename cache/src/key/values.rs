//! Values of the standard library as keys: times, addresses, paths, ranges, results, and
//! numbers in wrappings that do not count.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::{NonZero, Saturating, Wrapping};
use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{KeyBuf, KeyDecode, KeyEncode, KeyReader, tag};

impl KeyEncode for Ordering {
    fn encode(&self, out: &mut KeyBuf) {
        out.tagged(tag::ORDERING, (*self as i8).to_le_bytes());
    }
}

impl KeyDecode for Ordering {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::ORDERING)?;
        match i8::from_le_bytes(from.array()?) {
            -1 => Some(Self::Less),
            0 => Some(Self::Equal),
            1 => Some(Self::Greater),
            _ => None,
        }
    }
}

impl KeyEncode for Duration {
    fn encode(&self, out: &mut KeyBuf) {
        out.tagged(tag::DURATION, self.as_secs().to_le_bytes());
        out.push(&self.subsec_nanos().to_le_bytes());
    }
}

impl KeyDecode for Duration {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::DURATION)?;
        let secs = u64::from_le_bytes(from.array()?);
        let nanos = u32::from_le_bytes(from.array()?);
        // More would be a second form of another duration.
        (nanos < 1_000_000_000).then(|| Self::new(secs, nanos))
    }
}

impl KeyEncode for SystemTime {
    fn encode(&self, out: &mut KeyBuf) {
        // Nanoseconds of 64 bits of seconds take 94 bits.
        let nanos = |of: Duration| i128::try_from(of.as_nanos()).unwrap_or(i128::MAX);
        let since = match self.duration_since(UNIX_EPOCH) {
            Ok(after) => nanos(after),
            Err(before) => -nanos(before.duration()),
        };
        out.tagged(tag::SYSTEM_TIME, since.to_le_bytes());
    }
}

impl KeyDecode for SystemTime {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::SYSTEM_TIME)?;
        let since = i128::from_le_bytes(from.array()?);
        let nanos = since.unsigned_abs();
        let secs = u64::try_from(nanos / 1_000_000_000).ok()?;
        let distance = Duration::new(secs, u32::try_from(nanos % 1_000_000_000).ok()?);
        let time = if since < 0 {
            UNIX_EPOCH.checked_sub(distance)
        } else {
            UNIX_EPOCH.checked_add(distance)
        };
        // A clock with coarser steps would make another time of it.
        time.filter(|time| match time.duration_since(UNIX_EPOCH) {
            Ok(after) => since >= 0 && after == distance,
            Err(before) => since < 0 && before.duration() == distance,
        })
    }
}

impl KeyEncode for Ipv4Addr {
    fn encode(&self, out: &mut KeyBuf) {
        out.tagged(tag::IPV4, self.octets());
    }
}

impl KeyDecode for Ipv4Addr {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::IPV4)?;
        from.array::<4>().map(Self::from)
    }
}

impl KeyEncode for Ipv6Addr {
    fn encode(&self, out: &mut KeyBuf) {
        out.tagged(tag::IPV6, self.octets());
    }
}

impl KeyDecode for Ipv6Addr {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::IPV6)?;
        from.array::<16>().map(Self::from)
    }
}

impl KeyEncode for SocketAddrV4 {
    fn encode(&self, out: &mut KeyBuf) {
        out.tagged(tag::SOCKET_V4, self.ip().octets());
        out.push(&self.port().to_le_bytes());
    }
}

impl KeyDecode for SocketAddrV4 {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::SOCKET_V4)?;
        let ip = Ipv4Addr::from(from.array::<4>()?);
        Some(Self::new(ip, u16::from_le_bytes(from.array()?)))
    }
}

impl KeyEncode for SocketAddrV6 {
    fn encode(&self, out: &mut KeyBuf) {
        out.tagged(tag::SOCKET_V6, self.ip().octets());
        out.push(&self.port().to_le_bytes());
        out.push(&self.flowinfo().to_le_bytes());
        out.push(&self.scope_id().to_le_bytes());
    }
}

impl KeyDecode for SocketAddrV6 {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::SOCKET_V6)?;
        let ip = Ipv6Addr::from(from.array::<16>()?);
        let port = u16::from_le_bytes(from.array()?);
        let flow = u32::from_le_bytes(from.array()?);
        Some(Self::new(ip, port, flow, u32::from_le_bytes(from.array()?)))
    }
}

/// An enum of two that are told apart by their own tags.
macro_rules! either {
    ($($both:ident: $one:ident $two:ident;)*) => {$(
        impl KeyEncode for $both {
            fn encode(&self, out: &mut KeyBuf) {
                match self {
                    Self::V4(one) => one.encode(out),
                    Self::V6(two) => two.encode(out),
                }
            }
        }

        impl KeyDecode for $both {
            fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
                let start = *from;
                if let Some(one) = $one::decode(from) {
                    return Some(Self::V4(one));
                }
                *from = start;
                $two::decode(from).map(Self::V6)
            }
        }
    )*};
}

either! {
    IpAddr: Ipv4Addr Ipv6Addr;
    SocketAddr: SocketAddrV4 SocketAddrV6;
}

impl KeyEncode for OsStr {
    fn encode(&self, out: &mut KeyBuf) {
        let bytes = self.as_encoded_bytes();
        let tag = if std::str::from_utf8(bytes).is_ok() { tag::OS_STR } else { tag::OS_BYTES };
        out.tag_len(tag, bytes.len());
        out.push(bytes);
    }
}

impl KeyEncode for OsString {
    fn encode(&self, out: &mut KeyBuf) {
        (**self).encode(out);
    }
}

impl KeyDecode for OsString {
    /// What is no UTF-8 comes back on Unix only.
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        let kind = from.byte()?;
        let len = from.len()?;
        let bytes = from.take(len)?;
        match (kind, std::str::from_utf8(bytes)) {
            (tag::OS_STR, Ok(text)) => Some(text.into()),
            #[cfg(unix)]
            (tag::OS_BYTES, Err(_)) => {
                use std::os::unix::ffi::OsStrExt as _;
                Some(OsStr::from_bytes(bytes).to_owned())
            }
            _ => None,
        }
    }
}

impl KeyEncode for Path {
    fn encode(&self, out: &mut KeyBuf) {
        out.tag_len(tag::PATH, self.components().count());
        for component in self.components() {
            match component {
                Component::Prefix(prefix) => {
                    out.push(&[0]);
                    prefix.as_os_str().encode(out);
                }
                Component::RootDir => out.push(&[1]),
                Component::CurDir => out.push(&[2]),
                Component::ParentDir => out.push(&[3]),
                Component::Normal(name) => {
                    out.push(&[4]);
                    name.encode(out);
                }
            }
        }
    }
}

impl KeyEncode for PathBuf {
    fn encode(&self, out: &mut KeyBuf) {
        (**self).encode(out);
    }
}

impl KeyDecode for PathBuf {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        let start = from.remaining();
        let bytes = *from;
        from.tag(tag::PATH)?;
        let mut path = Self::new();
        for _ in 0..from.len()? {
            match from.byte()? {
                0 | 4 => path.push(OsString::decode(from)?),
                1 => path.push(std::path::MAIN_SEPARATOR_STR),
                2 => path.push("."),
                3 => path.push(".."),
                _ => return None,
            }
        }
        // Components that no path has in this place would be a second form of another path.
        let mut again = KeyBuf::new();
        path.encode(&mut again);
        let mut bytes = bytes;
        (again.as_bytes() == bytes.take(start - from.remaining())?).then_some(path)
    }
}

/// Wrappings that are as what they hold.
macro_rules! transparent {
    ($($wrapper:ident),*) => {$(
        impl<T: KeyEncode> KeyEncode for $wrapper<T> {
            #[inline]
            fn encode(&self, out: &mut KeyBuf) {
                self.0.encode(out);
            }
        }

        impl<T: KeyDecode> KeyDecode for $wrapper<T> {
            fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
                T::decode(from).map(Self)
            }
        }
    )*};
}

transparent!(Wrapping, Saturating);

macro_rules! non_zero {
    ($($number:ty)*) => {$(
        impl KeyEncode for NonZero<$number> {
            #[inline]
            fn encode(&self, out: &mut KeyBuf) {
                self.get().encode(out);
            }
        }

        impl KeyDecode for NonZero<$number> {
            fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
                <$number>::decode(from).and_then(Self::new)
            }
        }
    )*};
}

non_zero!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

/// Ranges that are told by a tag and their ends.
macro_rules! ranges {
    ($($range:ident $tag:ident: $($end:ident)*;)*) => {$(
        impl<T: KeyEncode> KeyEncode for $range<T> {
            fn encode(&self, out: &mut KeyBuf) {
                out.push(&[tag::$tag]);
                $(self.$end.encode(out);)*
            }
        }

        impl<T: KeyDecode> KeyDecode for $range<T> {
            fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
                from.tag(tag::$tag)?;
                Some(Self { $($end: T::decode(from)?),* })
            }
        }
    )*};
}

ranges! {
    Range RANGE: start end;
    RangeFrom RANGE_FROM: start;
    RangeTo RANGE_TO: end;
    RangeToInclusive RANGE_TO_INCLUSIVE: end;
}

impl<T: KeyEncode + PartialOrd> KeyEncode for RangeInclusive<T> {
    fn encode(&self, out: &mut KeyBuf) {
        out.push(&[tag::RANGE_INCLUSIVE]);
        self.start().encode(out);
        self.end().encode(out);
        // One that was iterated to its end is equal to no other with these ends.
        self.is_empty().encode(out);
    }
}

impl<T: KeyDecode + PartialOrd> KeyDecode for RangeInclusive<T> {
    /// One that was iterated to its end does not come back.
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::RANGE_INCLUSIVE)?;
        let range = Self::new(T::decode(from)?, T::decode(from)?);
        (bool::decode(from)? == range.is_empty()).then_some(range)
    }
}

impl KeyEncode for RangeFull {
    fn encode(&self, out: &mut KeyBuf) {
        out.push(&[tag::RANGE_FULL]);
    }
}

impl KeyDecode for RangeFull {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        from.tag(tag::RANGE_FULL).map(|()| Self)
    }
}

impl<T: KeyEncode, E: KeyEncode> KeyEncode for Result<T, E> {
    fn encode(&self, out: &mut KeyBuf) {
        match self {
            Ok(item) => {
                out.push(&[tag::OK]);
                item.encode(out);
            }
            Err(error) => {
                out.push(&[tag::ERR]);
                error.encode(out);
            }
        }
    }
}

impl<T: KeyDecode, E: KeyDecode> KeyDecode for Result<T, E> {
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        match from.byte()? {
            tag::OK => T::decode(from).map(Ok),
            tag::ERR => E::decode(from).map(Err),
            _ => None,
        }
    }
}

/// Owners that are read as something else, and made of it.
macro_rules! owned {
    ($([$($generic:tt)*] $owner:ty: $read:ty;)*) => {$(
        impl<$($generic)*> KeyDecode for $owner {
            fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
                <$read>::decode(from).map(Self::from)
            }
        }
    )*};
}

owned! {
    [] Box<str>: String;
    [] Rc<str>: String;
    [] Arc<str>: String;
    [] Box<Path>: PathBuf;
    [] Arc<Path>: PathBuf;
    [] Box<OsStr>: OsString;
    [T: KeyDecode] Box<[T]>: Vec<T>;
    [T: KeyDecode] Rc<[T]>: Vec<T>;
    [T: KeyDecode] Arc<[T]>: Vec<T>;
    [T: KeyDecode] Rc<T>: T;
    [T: KeyDecode] Arc<T>: T;
}

impl<T> KeyDecode for Cow<'_, T>
where
    T: KeyEncode + ToOwned + ?Sized,
    T::Owned: KeyDecode,
{
    fn decode(from: &mut KeyReader<'_>) -> Option<Self> {
        T::Owned::decode(from).map(Cow::Owned)
    }
}
