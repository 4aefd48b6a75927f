//! An array that somebody has in memory, to be stored.

use larder_format::{Alignment, ArrayDescriptor, Compression, DType, Order};

use super::element::{Element, item_len};
use super::error::ArrayError;

/// Bytes that are compressed at a time, as a power of two: below that frames get longer, above it
/// a row costs more.
#[cfg(feature = "zstd")]
const PACKED_CHUNK_LOG2: u8 = 17;

/// An array in memory: what its elements are, its shape, and its data in one piece.
///
/// Nothing of it is copied before it is stored. The data is little-endian and packed: elements
/// stand in a row, in C or in Fortran order.
///
/// ```
/// use larder_engine::ArrayRef;
///
/// let image = [0.0_f32, 0.5, 1.0, 0.0, 0.5, 1.0];
/// let array = ArrayRef::new(&image, &[2, 3])?;
/// assert_eq!(array.shape(), [2, 3]);
/// assert!(ArrayRef::new(&image, &[2, 2]).is_err());
/// # Ok::<(), larder_engine::ArrayError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ArrayRef<'a> {
    descriptor: ArrayDescriptor,
    data: &'a [u8],
}

impl<'a> ArrayRef<'a> {
    /// An array in C order, the last axis densest. `shape` counts elements, outermost axis
    /// first; without axes there is one element.
    ///
    /// # Errors
    /// [`ArrayError::Length`] unless there are as many elements as the shape says,
    /// [`ArrayError::Impossible`] for more than 32 axes or 2^48 bytes.
    pub fn new<T: Element>(data: &'a [T], shape: &[usize]) -> Result<Self, ArrayError> {
        Self::in_order(data, shape, Order::C)
    }

    /// An array in Fortran order, the first axis densest. Otherwise as [`new`](Self::new).
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn fortran<T: Element>(data: &'a [T], shape: &[usize]) -> Result<Self, ArrayError> {
        Self::in_order(data, shape, Order::Fortran)
    }

    fn in_order<T: Element>(
        data: &'a [T],
        shape: &[usize],
        order: Order,
    ) -> Result<Self, ArrayError> {
        Self::from_bytes(T::DTYPE, item_len::<T>(), order, shape, T::to_bytes(data))
    }

    /// An array whose elements are these bytes: little-endian, packed, in this order. They may
    /// lie anywhere. `item_len` is the length of an element in bytes, which counts for
    /// [`DType::Bytes`] and must be the type's for every other.
    ///
    /// ```
    /// use larder_engine::{ArrayRef, DType, Order};
    ///
    /// let words = ArrayRef::from_bytes(DType::Bytes, 3, Order::C, &[2], b"onetwo")?;
    /// assert_eq!(words.item_len(), 3);
    /// # Ok::<(), larder_engine::ArrayError>(())
    /// ```
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn from_bytes(
        dtype: DType,
        item_len: u32,
        order: Order,
        shape: &[usize],
        data: &'a [u8],
    ) -> Result<Self, ArrayError> {
        let shape: Vec<u64> = shape.iter().map(|axis| *axis as u64).collect();
        let descriptor =
            ArrayDescriptor::new(dtype, item_len, order, &shape).map_err(ArrayError::Impossible)?;
        Self::described(descriptor, data)
    }

    /// An array that a descriptor describes, with its alignment and compression.
    ///
    /// # Errors
    /// [`ArrayError::Length`] if the data is not as long as the descriptor says.
    pub fn described(descriptor: ArrayDescriptor, data: &'a [u8]) -> Result<Self, ArrayError> {
        let (needed, found) = (descriptor.data_len(), data.len() as u64);
        if needed != found {
            return Err(ArrayError::Length { shape: descriptor.shape().to_vec(), needed, found });
        }
        Ok(Self { descriptor, data })
    }

    /// The array whose bytes these are, as [`AnyArray::encode`](super::AnyArray::encode) writes
    /// them; `None` if they are none, or compressed.
    pub(crate) fn of_encoded(bytes: &'a [u8]) -> Option<Self> {
        let (descriptor, data) = ArrayDescriptor::split(bytes).ok()?;
        (descriptor.compression() == Compression::None).then_some(Self { descriptor, data })
    }

    /// The same array, to be stored at a multiple of 256 bytes or of a page instead of 64
    /// bytes. In a file of its own its data always begins at a page.
    #[must_use]
    pub const fn aligned_to(self, alignment: Alignment) -> Self {
        Self { descriptor: self.descriptor.with_alignment(alignment), ..self }
    }

    /// The same array, to be stored compressed if that makes it smaller by an eighth at least
    /// (feature `zstd`): in chunks of 128 KiB whose bytes are regrouped by significance.
    /// Looking at it then decodes it to the heap.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn compressed(self) -> Self {
        let packed = self.descriptor.with_compression(Compression::ShuffledZstd);
        let descriptor = packed.with_chunk_log2(PACKED_CHUNK_LOG2).unwrap_or(packed);
        Self { descriptor, ..self }
    }

    /// What it is.
    #[must_use]
    pub const fn descriptor(&self) -> &ArrayDescriptor {
        &self.descriptor
    }

    /// The type of its elements.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.descriptor.dtype()
    }

    /// Bytes of an element.
    #[must_use]
    pub const fn item_len(&self) -> u32 {
        self.descriptor.item_len()
    }

    /// Which axis lies densest.
    #[must_use]
    pub const fn order(&self) -> Order {
        self.descriptor.order()
    }

    /// Length of each axis in elements, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        self.descriptor.shape()
    }

    /// Whether it is to be stored compressed.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.descriptor.compression() != Compression::None
    }

    /// The elements, as bytes.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }
}
