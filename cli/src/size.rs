//! Sizes in bytes, as people write them.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;

/// A number of bytes: `512`, `64KiB`, `1.5GiB`; `KB`, `MB`, `GB` are powers of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ACCEPTED: &str = "not a size: write bytes, as in 512, 64KiB, 1.5GiB or 10MB";
        match text.trim().parse::<ByteSize>() {
            // What does not fit comes back as the largest number.
            Ok(ByteSize(u64::MAX)) => Err("larger than any disk".to_owned()),
            Ok(ByteSize(bytes)) => Ok(Self(bytes)),
            Err(_) => Err(ACCEPTED.to_owned()),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize(self.0).display().iec().fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("512", 512),
            ("0", 0),
            ("64MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("1.5 GiB", 3 << 29),
            ("10MB", 10_000_000),
            ("64kib", 64 << 10),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "-1", "lots", "12 apples", "1e999", "99999999999999999999EiB", "."] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_powers_of_two() {
        assert_eq!(Size(64 << 20).to_string(), "64.0 MiB");
        assert_eq!(Size(17).to_string(), "17 B");
    }
}
