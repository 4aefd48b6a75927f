//! Arrays: what the elements are, how many of them, and where they start.
//!
//! ```text
//! | head 32 | axes 8 × n | zeros to alignment | data, if it is in the same place |
//! |<--- descriptor_len --------------------->|
//! ```
//!
//! In a segment the descriptor stands at the start of the record's value, which is aligned;
//! as its length is a multiple of the alignment, so is the data. In an external file the
//! descriptor stands behind the data, and the data behind a NumPy header of one page.
//!
//! # Invariants
//! 1. `data_len` is the product of the axes and the element size, computed without overflow.
//! 2. So is the product without the axes of length zero: strides always fit.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use crate::bytes::{Reader, Writer, check_magic, check_version};
use crate::dtype::DType;
use crate::error::FormatError;
use crate::layout::{
    ARRAY_AXES_MAX, ARRAY_HEAD_LEN, ARRAY_MAGIC, ARRAY_VERSION, EXTERNAL_DATA_MAX, NPY_HEADER_LEN,
};

const WHAT: &str = "array descriptor";

const NPY_MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";

/// Which axis lies densest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Order {
    /// The last one: C, Rust, NumPy's default.
    C = 0,
    /// The first one: Fortran, Julia, R.
    Fortran = 1,
}

/// What the data's place in the file is a multiple of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Alignment {
    /// A cache line, and the widest vector registers.
    Line = 6,
    /// 256 bytes.
    Wide = 8,
    /// A page: the data can be mapped by itself.
    Page = 12,
}

impl Alignment {
    const fn from_log2(log2: u8) -> Option<Self> {
        Some(match log2 {
            6 => Self::Line,
            8 => Self::Wide,
            12 => Self::Page,
            _ => return None,
        })
    }

    /// The alignment that an encoded descriptor states, as far as it is one.
    #[must_use]
    pub fn of_encoded(descriptor: &[u8]) -> Option<Self> {
        if !descriptor.starts_with(&ARRAY_MAGIC) {
            return None;
        }
        Self::from_log2(*descriptor.get(13)?)
    }

    /// As a power of two.
    #[must_use]
    pub const fn log2(self) -> u8 {
        self as u8
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        1 << self.log2()
    }
}

/// How the data is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    /// As it is; can be viewed in place.
    None = 0,
    /// In pieces, the bytes of the elements regrouped by significance, then zstd.
    ShuffledZstd = 1,
}

/// What an array is. Every value of this type is consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrayDescriptor {
    dtype: DType,
    order: Order,
    item_len: u32,
    alignment: Alignment,
    compression: Compression,
    chunk_log2: u8,
    axes: u8,
    shape: [u64; ARRAY_AXES_MAX],
    data_len: u64,
}

impl ArrayDescriptor {
    /// Bytes of data in a chunk, as a power of two, unless something else is asked for.
    pub const CHUNK_LOG2: u8 = 16;

    /// An uncompressed array with the given element type, bytes of an element, order and
    /// shape, aligned to cache lines. `shape` counts elements, outermost axis first; without
    /// axes there is one element.
    ///
    /// ```
    /// use larder_format::{ArrayDescriptor, DType, Order};
    ///
    /// let image = ArrayDescriptor::new(DType::F32, 4, Order::C, &[480, 640])?;
    /// assert_eq!(image.data_len(), 480 * 640 * 4);
    /// assert_eq!(image.descr(), "<f4");
    /// # Ok::<(), larder_format::FormatError>(())
    /// ```
    ///
    /// # Errors
    /// [`FormatError::Field`] when the element size does not belong to the type, there are
    /// more than 32 axes, or the data would be longer than 2^48 bytes.
    pub fn new(
        dtype: DType,
        item_len: u32,
        order: Order,
        shape: &[u64],
    ) -> Result<Self, FormatError> {
        if item_len == 0 || dtype.item_len().is_some_and(|len| len != item_len) {
            return Err(field("item length", item_len.into(), "the size of the element type"));
        }
        let mut axes = [0; ARRAY_AXES_MAX];
        let place = axes.get_mut(..shape.len());
        let place = place.ok_or_else(|| field("axes", shape.len() as u64, "at most 32"))?;
        place.copy_from_slice(shape);
        let mut least = u64::from(item_len);
        for axis in shape.iter().filter(|axis| **axis != 0) {
            least = least
                .checked_mul(*axis)
                .filter(|len| *len <= EXTERNAL_DATA_MAX)
                .ok_or_else(|| field("shape", *axis, "at most 2^48 bytes over all axes"))?;
        }
        Ok(Self {
            dtype,
            order,
            item_len,
            alignment: Alignment::Line,
            compression: Compression::None,
            chunk_log2: Self::CHUNK_LOG2,
            axes: u8::try_from(shape.len()).unwrap_or_default(),
            shape: axes,
            data_len: if shape.contains(&0) { 0 } else { least },
        })
    }

    /// The same array at another alignment.
    #[must_use]
    pub const fn with_alignment(self, alignment: Alignment) -> Self {
        Self { alignment, ..self }
    }

    /// The same array stored in another way.
    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// The same array in chunks of `1 << log2` bytes.
    ///
    /// # Errors
    /// [`FormatError::Field`] unless `log2` is from 16 to 20.
    pub fn with_chunk_log2(self, log2: u8) -> Result<Self, FormatError> {
        if !(16..=20).contains(&log2) {
            return Err(field("chunk size", log2.into(), "16 to 20 (a power of two)"));
        }
        Ok(Self { chunk_log2: log2, ..self })
    }

    /// The type of the elements.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Which axis lies densest.
    #[must_use]
    pub const fn order(&self) -> Order {
        self.order
    }

    /// Bytes of an element.
    #[must_use]
    pub const fn item_len(&self) -> u32 {
        self.item_len
    }

    /// What the data's place is a multiple of.
    #[must_use]
    pub const fn alignment(&self) -> Alignment {
        self.alignment
    }

    /// How the data is stored.
    #[must_use]
    pub const fn compression(&self) -> Compression {
        self.compression
    }

    /// Bytes of data that are compressed at a time, as a power of two.
    #[must_use]
    pub const fn chunk_log2(&self) -> u8 {
        self.chunk_log2
    }

    /// Length of each axis in elements, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        self.shape.get(..usize::from(self.axes)).unwrap_or(&self.shape)
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.data_len.checked_div(self.item_len.into()).unwrap_or_default()
    }

    /// Whether an axis is of length zero.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.data_len == 0
    }

    /// Bytes of data, before compression.
    #[must_use]
    pub const fn data_len(&self) -> u64 {
        self.data_len
    }

    /// Bytes from one element to the next along each axis, outermost axis first. An axis of
    /// length zero counts as one of length one.
    #[must_use]
    pub fn strides_bytes(&self) -> Vec<u64> {
        let mut step = u64::from(self.item_len);
        let mut pass = |axis: &u64| {
            let stride = step;
            step = step.saturating_mul((*axis).max(1));
            stride
        };
        match self.order {
            Order::Fortran => self.shape().iter().map(pass).collect(),
            Order::C => {
                let mut strides: Vec<u64> = self.shape().iter().rev().map(&mut pass).collect();
                strides.reverse();
                strides
            }
        }
    }

    /// Bytes that [`encode`](Self::encode) gives: a multiple of the alignment.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        ARRAY_HEAD_LEN
            .saturating_add((self.axes as usize) << 3)
            .next_multiple_of(self.alignment.bytes())
    }

    /// Encodes the descriptor. The payload CRC of its record or the tail CRC of its file
    /// covers it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let len = self.encoded_len();
        let mut out = Writer::<ARRAY_HEAD_LEN>::new();
        out.put(&ARRAY_MAGIC).put(&[ARRAY_VERSION, self.dtype as u8, self.order as u8, self.axes]);
        out.put(&self.item_len.to_le_bytes());
        out.put(&[self.chunk_log2, self.alignment.log2(), self.compression as u8]).skip_to(16);
        out.put(&u32::try_from(len).unwrap_or_default().to_le_bytes()).skip_to(24);
        out.put(&self.data_len.to_le_bytes());
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&out.into_bytes());
        bytes.extend(self.shape().iter().flat_map(|axis| axis.to_le_bytes()));
        bytes.resize(len, 0);
        bytes
    }

    /// Decodes and checks the descriptor at the start of `bytes`.
    ///
    /// # Errors
    /// [`FormatError`] when the bytes are no descriptor, a newer one, cut short, or one of an
    /// impossible array.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Reader::new(WHAT, bytes, ARRAY_HEAD_LEN)?;
        check_magic(WHAT, ARRAY_MAGIC, fields.array())?;
        let [version, dtype, order, axes] = fields.array();
        check_version(WHAT, ARRAY_VERSION.into(), version.into())?;
        let item_len = fields.u32();
        let [chunk_log2, align_log2, compression, zero] = fields.array();
        let descriptor_len = fields.u32();
        let zeros = fields.u32() | u32::from(zero);
        let data_len = fields.u64();
        if zeros != 0 {
            return Err(field("reserved", zeros.into(), "0"));
        }
        let dtype =
            DType::from_u8(dtype).ok_or_else(|| field("element type", dtype.into(), "1 to 16"))?;
        let order = match order {
            0 => Order::C,
            1 => Order::Fortran,
            _ => return Err(field("order", order.into(), "0 (C) or 1 (Fortran)")),
        };
        let alignment = Alignment::from_log2(align_log2)
            .ok_or_else(|| field("alignment", align_log2.into(), "6, 8 or 12 (a power of two)"))?;
        let compression = match compression {
            0 => Compression::None,
            1 => Compression::ShuffledZstd,
            _ => return Err(field("compression", compression.into(), "0 or 1")),
        };
        if usize::from(axes) > ARRAY_AXES_MAX {
            return Err(field("axes", axes.into(), "at most 32"));
        }
        let shape_end = ARRAY_HEAD_LEN.saturating_add(usize::from(axes) << 3);
        let shape = bytes.get(ARRAY_HEAD_LEN..shape_end).ok_or(FormatError::Truncated {
            what: WHAT,
            needed: shape_end as u64,
            found: bytes.len() as u64,
        })?;
        let mut lengths = [0; ARRAY_AXES_MAX];
        for (length, axis) in lengths.iter_mut().zip(shape.as_chunks().0) {
            *length = u64::from_le_bytes(*axis);
        }
        let shape = lengths.get(..usize::from(axes)).unwrap_or_default();
        let array = Self::new(dtype, item_len, order, shape)?
            .with_alignment(alignment)
            .with_compression(compression)
            .with_chunk_log2(chunk_log2)?;
        if array.data_len != data_len {
            return Err(field("data length", data_len, "what shape and element size give"));
        }
        let len = array.encoded_len();
        if u32::try_from(len) != Ok(descriptor_len) {
            let allowed = "head and shape, rounded up to the alignment";
            return Err(field("descriptor length", descriptor_len.into(), allowed));
        }
        let Some(padding) = bytes.get(shape_end..len) else {
            let found = bytes.len() as u64;
            return Err(FormatError::Truncated { what: WHAT, needed: len as u64, found });
        };
        if padding.iter().any(|byte| *byte != 0) {
            return Err(field("padding", 1, "zeros"));
        }
        Ok(array)
    }

    /// Decodes the value of an array record: the descriptor and the stored data behind it.
    /// Uncompressed data is exactly [`data_len`](Self::data_len) long.
    ///
    /// # Errors
    /// [`FormatError`] as from [`decode`](Self::decode), or when the data has another length.
    pub fn split(value: &[u8]) -> Result<(Self, &[u8]), FormatError> {
        let array = Self::decode(value)?;
        let data = value.get(array.encoded_len()..).unwrap_or_default();
        if array.compression == Compression::None && data.len() as u64 != array.data_len {
            return Err(field("stored data", data.len() as u64, "the descriptor's data length"));
        }
        Ok((array, data))
    }

    /// The element type as NumPy writes it: `<f4`, `|b1`, `|S5`; `<V2` for bfloat16.
    #[must_use]
    pub fn descr(&self) -> String {
        format!("{}{}", self.dtype.numpy(), self.item_len)
    }

    /// A NumPy file header, version 1.0, of exactly one page.
    ///
    /// Needs no version 2.0: 32 axes of 20 digits leave most of the page free.
    /// Source: NumPy enhancement proposal 1, "A simple file format for NumPy arrays".
    #[must_use]
    pub fn npy_header(&self) -> Vec<u8> {
        let fortran = if self.order == Order::Fortran { "True" } else { "False" };
        let mut shape = String::new();
        for axis in self.shape() {
            // Writing to a string does not fail.
            let _ = write!(shape, "{axis}, ");
        }
        // Python writes `()`, `(3,)` and `(3, 4)`.
        let shape = if self.axes == 1 { shape.trim_end() } else { shape.trim_end_matches(", ") };
        let text = format!(
            "{{'descr': '{}', 'fortran_order': {fortran}, 'shape': ({shape}), }}",
            self.descr()
        );
        let mut header = Vec::with_capacity(NPY_HEADER_LEN);
        header.extend_from_slice(NPY_MAGIC);
        header.extend_from_slice(&NPY_TEXT_LEN.to_le_bytes());
        header.extend_from_slice(text.as_bytes());
        debug_assert!(header.len() < NPY_HEADER_LEN, "the text leaves room for the newline");
        header.resize(NPY_HEADER_LEN.saturating_sub(1), b' ');
        header.push(b'\n');
        header
    }
}

/// Bytes of text in the NumPy header, padding and newline included.
#[expect(clippy::cast_possible_truncation, reason = "4096 - 10")]
const NPY_TEXT_LEN: u16 = (NPY_HEADER_LEN - NPY_MAGIC.len() - 2) as u16;

const fn field(field: &'static str, found: u64, allowed: &'static str) -> FormatError {
    FormatError::Field { what: WHAT, field, found, allowed }
}
