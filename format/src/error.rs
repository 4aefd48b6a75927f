//! Why bytes were refused.

/// Why a structure could not be decoded.
///
/// Every variant names the structure (`what`) and holds what was expected and what was
/// found; whoever read the bytes adds the path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Fewer bytes than the structure needs.
    #[error("{what} is cut short: {needed} bytes needed, {found} found")]
    Truncated {
        /// The structure.
        what: &'static str,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that there were.
        found: u64,
    },
    /// The first bytes are not the structure's magic.
    #[error("not a {what}: magic is {found:#x}, expected {expected:#x}")]
    Magic {
        /// The structure.
        what: &'static str,
        /// The magic, as a little-endian number.
        expected: u64,
        /// What stood there.
        found: u64,
    },
    /// A newer larder wrote this.
    #[error(
        "{what} has format version {found}; this build reads up to {newest}: use a newer larder, \
         or another directory"
    )]
    Version {
        /// The structure.
        what: &'static str,
        /// Newest version this build reads.
        newest: u32,
        /// The version found.
        found: u32,
    },
    /// The store uses features that this build does not know.
    #[error("{what} uses unknown features {found:#x}: use a newer larder, or another directory")]
    Features {
        /// The structure.
        what: &'static str,
        /// The unknown feature bits.
        found: u64,
    },
    /// The checksum does not fit the bytes: damaged, torn, stale or misplaced.
    #[error("{what} fails its checksum: {found:#010x} computed, {expected:#010x} stored")]
    Checksum {
        /// The structure.
        what: &'static str,
        /// The stored checksum.
        expected: u32,
        /// The computed checksum.
        found: u32,
    },
    /// Whole, but of another store.
    #[error("{what} belongs to another store, {}", Uuid(found))]
    Foreign {
        /// The structure.
        what: &'static str,
        /// The uuid of the store that it belongs to.
        found: [u8; 16],
    },
    /// A field holds what it must not.
    #[error("{what}: {field} is {found}, allowed is {allowed}")]
    Field {
        /// The structure.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// The value found.
        found: u64,
        /// What is allowed, in words.
        allowed: &'static str,
    },
    /// A text does not read as it should.
    #[error("{what}: expected {expected} at byte {at}")]
    Syntax {
        /// The structure.
        what: &'static str,
        /// Where, in bytes from the start of the structure.
        at: u64,
        /// What should have come there, in words.
        expected: &'static str,
    },
    /// Well-formed, but nothing that a store holds.
    #[error("{what}: {found} at byte {at} cannot be stored: {help}")]
    Unsupported {
        /// The structure.
        what: &'static str,
        /// Where, in bytes from the start of the structure.
        at: u64,
        /// The text found.
        found: Excerpt,
        /// What to do instead.
        help: &'static str,
    },
}

/// The beginning of a text that may be hostile, for messages: what does not fit is cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Excerpt {
    bytes: [u8; EXCERPT_LEN],
    len: u8,
    is_cut: bool,
}

const EXCERPT_LEN: usize = 30;

impl Excerpt {
    /// Of a text.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        let mut bytes = [0; EXCERPT_LEN];
        for (place, byte) in bytes.iter_mut().zip(text) {
            *place = *byte;
        }
        let len = u8::try_from(text.len().min(EXCERPT_LEN)).unwrap_or_default();
        Self { bytes, len, is_cut: text.len() > EXCERPT_LEN }
    }
}

impl core::fmt::Display for Excerpt {
    /// In backquotes, with what is not printable ASCII escaped.
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = self.bytes.get(..self.len.into()).unwrap_or_default();
        let end = if self.is_cut { "…" } else { "" };
        write!(out, "`{}{end}`", text.escape_ascii())
    }
}

impl core::fmt::Debug for Excerpt {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, out)
    }
}

/// A uuid for people: 32 hex digits.
struct Uuid<'a>(&'a [u8; 16]);

impl core::fmt::Display for Uuid<'_> {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}
