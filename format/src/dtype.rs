//! The types that an array's elements can have.

/// The type of an array's elements; always little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DType {
    Bool = 1,
    I8 = 2,
    I16 = 3,
    I32 = 4,
    I64 = 5,
    U8 = 6,
    U16 = 7,
    U32 = 8,
    U64 = 9,
    /// IEEE 754 binary16.
    F16 = 10,
    /// The upper half of an `f32`.
    Bf16 = 11,
    F32 = 12,
    F64 = 13,
    /// Two `f32`: real, imaginary.
    Complex64 = 14,
    /// Two `f64`: real, imaginary.
    Complex128 = 15,
    /// Strings of bytes, all of one length.
    Bytes = 16,
}

impl DType {
    /// Every type, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Bool,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::F16,
        Self::Bf16,
        Self::F32,
        Self::F64,
        Self::Complex64,
        Self::Complex128,
        Self::Bytes,
    ];

    /// The type with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| *dtype as u8 == number)
    }

    /// Bytes of an element; `None` where the array says.
    #[must_use]
    pub const fn item_len(self) -> Option<u32> {
        Some(match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 | Self::Complex64 => 8,
            Self::Complex128 => 16,
            Self::Bytes => return None,
        })
    }

    /// NumPy's letter for the type, with its mark of byte order.
    pub(crate) const fn numpy(self) -> &'static str {
        match self {
            Self::Bool => "|b",
            Self::I8 => "|i",
            Self::U8 => "|u",
            Self::I16 | Self::I32 | Self::I64 => "<i",
            Self::U16 | Self::U32 | Self::U64 => "<u",
            Self::F16 | Self::F32 | Self::F64 => "<f",
            // NumPy has no such type: it reads two raw bytes, which packages for machine
            // learning then view as theirs.
            Self::Bf16 => "<V",
            Self::Complex64 | Self::Complex128 => "<c",
            Self::Bytes => "|S",
        }
    }
}
