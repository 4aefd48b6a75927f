//! Keys on the command line: text as it is, other bytes as `0x` and hex digits.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::str::FromStr;

/// A key as typed: `0x` and pairs of hex digits, or none, stand for those bytes, anything else
/// for its own UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) Vec<u8>);

impl FromStr for Key {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let hex = text.strip_prefix("0x").and_then(bytes_of_hex);
        Ok(Self(hex.unwrap_or_else(|| text.as_bytes().to_vec())))
    }
}

fn bytes_of_hex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Shows a key so that typing it gives the same key again.
pub(crate) fn show(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if is_tame(text) => text.to_owned(),
        _ => hex(key),
    }
}

/// Text that can stand in a line of a listing and does not read as hex.
fn is_tame(text: &str) -> bool {
    !text.is_empty()
        && !text.chars().any(char::is_control)
        && text.trim() == text
        && text.strip_prefix("0x").and_then(bytes_of_hex).is_none()
}

/// `0x` and two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("0x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_typed() {
        let keys: [&[u8]; 11] = [
            b"",
            b"0x",
            b"plain",
            b"two words",
            b"0xff",
            b"0xf",
            b"0xnohex",
            b"\0\xff",
            b" edge",
            b"a\nb",
            b"k\xc3\xa4se".as_slice(),
        ];
        for key in keys {
            let shown = show(key);
            assert_eq!(shown.parse::<Key>().unwrap().0, key, "{shown}");
        }
    }

    #[test]
    fn hex_stands_for_bytes_and_other_text_for_itself() {
        assert_eq!("0x00ff".parse::<Key>().unwrap().0, [0, 255]);
        assert_eq!("0x".parse::<Key>().unwrap().0, b"");
        assert_eq!("0x123".parse::<Key>().unwrap().0, b"0x123");
        assert_eq!(show(b"\x01\x02"), "0x0102");
        assert_eq!(show(b"plain"), "plain");
    }
}
