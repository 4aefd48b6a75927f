//! Fields in and out of byte slices, without a way to panic.

use crate::error::FormatError;

/// Reads fields one after the other. A read past the end yields zeros: the constructors in
/// this crate check the length first, so that it happens to no caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over `bytes`, which must hold at least `needed` of them.
    pub(crate) fn new(
        what: &'static str,
        bytes: &'a [u8],
        needed: usize,
    ) -> Result<Self, FormatError> {
        match bytes.get(..needed) {
            Some(rest) => Ok(Self { rest }),
            None => Err(FormatError::Truncated {
                what,
                needed: needed as u64,
                found: bytes.len() as u64,
            }),
        }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                *head
            }
            None => [0; N],
        }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

/// Writes fields one after the other into a structure of fixed size `N`; the rest stays zero.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    /// Appends a field; what does not fit is a bug of this crate, caught by its tests.
    #[inline]
    pub(crate) fn put(&mut self, field: &[u8]) -> &mut Self {
        let end = self.at.saturating_add(field.len());
        debug_assert!(end <= N, "structure of {N} bytes overflows");
        if let Some(place) = self.bytes.get_mut(self.at..end) {
            place.copy_from_slice(field);
        }
        self.at = end;
        self
    }

    /// Skips to an offset, leaving zeros.
    pub(crate) fn skip_to(&mut self, at: usize) -> &mut Self {
        debug_assert!(at >= self.at, "fields overlap");
        self.at = at;
        self
    }

    /// Ends without a checksum.
    #[inline]
    pub(crate) const fn into_bytes(self) -> [u8; N] {
        self.bytes
    }

    /// Fills in the checksum of everything behind the first four bytes, and ends.
    #[inline]
    pub(crate) fn seal(mut self, crc: impl FnOnce(&[u8]) -> u32) -> [u8; N] {
        if let Some((head, body)) = self.bytes.split_first_chunk_mut::<4>() {
            *head = crc(body).to_le_bytes();
        }
        self.bytes
    }
}

/// Compares a stored checksum with the computed one.
#[inline]
pub(crate) fn check_crc(what: &'static str, expected: u32, found: u32) -> Result<(), FormatError> {
    if expected == found { Ok(()) } else { Err(FormatError::Checksum { what, expected, found }) }
}

/// Compares a stored magic with the expected one.
pub(crate) fn check_magic(
    what: &'static str,
    expected: [u8; 4],
    found: [u8; 4],
) -> Result<(), FormatError> {
    if expected == found {
        return Ok(());
    }
    Err(FormatError::Magic {
        what,
        expected: u32::from_le_bytes(expected).into(),
        found: u32::from_le_bytes(found).into(),
    })
}

/// Compares a structure's version with the newest that this build reads.
pub(crate) const fn check_version(
    what: &'static str,
    newest: u32,
    found: u32,
) -> Result<(), FormatError> {
    if found == 0 || found > newest {
        return Err(FormatError::Version { what, newest, found });
    }
    Ok(())
}
