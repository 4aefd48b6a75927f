//! A stored array, whatever its elements are.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use larder_format::layout::NPY_HEADER_LEN;
use larder_format::{ArrayDescriptor, Compression, DType, Order};

use super::element::Element;
use super::error::{ArrayError, ElementName};
use super::packed::{Packed, uncompressed};
use super::plain::Plain;
use super::source::ArrayRef;
use super::view::ArrayView;
use crate::disk::{Hint, View};
use crate::value::{Meta, Value};

/// A view of a stored array of any type: for tools, and for who does not know beforehand.
///
/// It is [`typed`](Self::typed) to be looked at as elements. The same holds of it as of an
/// [`ArrayView`].
#[derive(Clone)]
pub struct AnyArray {
    /// Of what is seen, as if it were stored by itself.
    descriptor: ArrayDescriptor,
    shape: Box<[usize]>,
    meta: Meta,
    data: Data,
}

#[derive(Clone)]
enum Data {
    Plain(Plain),
    /// Some bytes of a compressed array, and those bytes once they were decoded.
    Packed(Arc<Packed>, Range<usize>, Arc<OnceLock<Result<Plain, ArrayError>>>),
}

impl AnyArray {
    /// An array whose stored bytes, behind the descriptor, are these.
    pub(super) fn of_stored(
        descriptor: ArrayDescriptor,
        stored: Plain,
        meta: Meta,
    ) -> Result<Self, ArrayError> {
        let data = match descriptor.compression() {
            Compression::None => Data::Plain(stored),
            Compression::ShuffledZstd => {
                let len = usize::try_from(descriptor.data_len());
                let len = len.map_err(|_| ArrayError::NoMemory { len: descriptor.data_len() })?;
                Data::Packed(Arc::new(Packed::open(descriptor, stored)?), 0..len, Arc::default())
            }
        };
        Self::over(uncompressed(&descriptor), data, meta)
    }

    fn over(descriptor: ArrayDescriptor, data: Data, meta: Meta) -> Result<Self, ArrayError> {
        let axes = descriptor.shape().iter().map(|axis| usize::try_from(*axis));
        let shape = axes.collect::<Result<_, _>>();
        let shape = shape.map_err(|_| ArrayError::NoMemory { len: descriptor.data_len() })?;
        Ok(Self { descriptor, shape, meta, data })
    }

    /// What is known about the value.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What is seen, as if it were an array by itself: uncompressed, whatever is stored.
    #[must_use]
    pub const fn descriptor(&self) -> &ArrayDescriptor {
        &self.descriptor
    }

    /// The type of the elements.
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
    pub const fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements from one to the next along each axis, outermost axis first. An axis of length
    /// zero counts as one of length one.
    #[must_use]
    pub fn strides(&self) -> Vec<usize> {
        let item_len = u64::from(self.item_len());
        let strides = self.descriptor.strides_bytes().into_iter();
        strides.map(|bytes| usize::try_from(bytes / item_len).unwrap_or(usize::MAX)).collect()
    }

    /// Bytes of data.
    pub(super) const fn data_len(&self) -> usize {
        match &self.data {
            Data::Plain(plain) => plain.len(),
            Data::Packed(_, range, _) => range.end - range.start,
        }
    }

    /// The data: elements in a row, little-endian, in the array's order. What was not checked
    /// yet is checked now, and what is compressed decoded, once for each view.
    ///
    /// # Errors
    /// [`ArrayError::Damaged`] names the first chunk that is not as it was written;
    /// [`ArrayError::Unpackable`] where decoding says so.
    #[inline]
    pub fn data(&self) -> Result<&[u8], ArrayError> {
        if let Data::Plain(plain) = &self.data
            && let Some(bytes) = plain.known()
        {
            return Ok(bytes);
        }
        self.data_in(0..self.data_len())
    }

    /// As [`data`](Self::data), of some bytes only; empty if there are no such.
    pub(super) fn data_in(&self, part: Range<usize>) -> Result<&[u8], ArrayError> {
        match &self.data {
            Data::Plain(plain) => plain.bytes(part),
            Data::Packed(packed, range, decoded) => {
                let decoded = decoded.get_or_init(|| packed.decode(range.clone()));
                decoded.as_ref().map_err(Clone::clone)?.bytes(part)
            }
        }
    }

    /// Some rows: along the first axis of an array in C order. Costs no look at the data, and
    /// the new view needs only the chunks that its own rows lie in.
    ///
    /// # Errors
    /// [`ArrayError::Rows`] if there are no such rows, [`ArrayError::Order`] in Fortran order
    /// (unless there is one axis), [`ArrayError::Axes`] without axes.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self, ArrayError> {
        let Some((count, rest)) = self.shape.split_first() else {
            return Err(ArrayError::Axes { stored: 0, asked: 1 });
        };
        if self.order() == Order::Fortran && !rest.is_empty() {
            return Err(ArrayError::Order { what: "a view of rows" });
        }
        let Range { start: from, end: to } = rows;
        if from > to || to > *count {
            return Err(ArrayError::Rows { from, to, rows: *count });
        }
        let row_len = self.data_len().checked_div(*count).unwrap_or(0);
        let part = from * row_len..to * row_len;
        let mut shape: Vec<u64> = self.descriptor.shape().to_vec();
        if let Some(first) = shape.first_mut() {
            *first = (to - from) as u64;
        }
        let descriptor = ArrayDescriptor::new(self.dtype(), self.item_len(), self.order(), &shape)
            .map_err(ArrayError::Impossible)?;
        let data = match &self.data {
            Data::Plain(plain) => Data::Plain(plain.part(part)),
            Data::Packed(packed, range, decoded) => match decoded.get() {
                Some(Ok(decoded)) => Data::Plain(decoded.part(part)),
                _ => {
                    let part = range.start + part.start..range.start + part.end;
                    Data::Packed(Arc::clone(packed), part, Arc::default())
                }
            },
        };
        Self::over(descriptor, data, self.meta)
    }

    /// The same array, seen as elements of a type.
    ///
    /// # Errors
    /// [`ArrayError::Element`] if it has others, [`ArrayError::Alignment`] if they do not lie
    /// where the type has to.
    pub fn typed<T: Element>(self) -> Result<ArrayView<T>, ArrayError> {
        ArrayView::new(self)
    }

    /// What the elements are, for messages.
    pub(super) const fn element(&self) -> ElementName {
        ElementName { dtype: self.descriptor.dtype(), item_len: self.descriptor.item_len() }
    }

    /// Where the data is, unchecked; `None` before it is decoded.
    pub(super) fn unchecked(&self) -> Option<&[u8]> {
        match &self.data {
            Data::Plain(plain) => Some(plain.unchecked()),
            Data::Packed(..) => None,
        }
    }

    /// The same on the heap, aligned to a page, holding no mapping.
    ///
    /// # Errors
    /// As of [`data`](Self::data); [`ArrayError::NoMemory`].
    pub fn to_owned(&self) -> Result<Self, ArrayError> {
        let data = Data::Plain(Plain::copied(self.data()?)?);
        self.still()?;
        Ok(Self { data, shape: self.shape.clone(), ..*self })
    }

    /// Whether what was read of the data since it was checked is what was stored: not if the file
    /// was cut short, where that is guarded against.
    pub(super) fn still(&self) -> Result<(), ArrayError> {
        match &self.data {
            Data::Plain(plain) => plain.still(),
            Data::Packed(..) => Ok(()),
        }
    }

    /// See [`Plain::up_to_next`].
    pub(super) fn up_to_next(&self, len: usize) -> usize {
        match &self.data {
            Data::Plain(plain) => plain.up_to_next(len),
            Data::Packed(..) => len,
        }
    }

    /// Tells the system what will be done with the data, where it lies in a file.
    pub(super) fn advise(&self, hint: Hint) -> bool {
        match &self.data {
            Data::Plain(plain) => plain.advise(hint),
            Data::Packed(..) => true,
        }
    }

    /// An array in memory, copied to the heap.
    ///
    /// # Errors
    /// [`ArrayError::NoMemory`].
    pub fn copied(array: &ArrayRef<'_>) -> Result<Self, ArrayError> {
        let data = Data::Plain(Plain::copied(array.data())?);
        Self::over(uncompressed(array.descriptor()), data, Meta::default())
    }

    /// The array whose bytes a value is, as [`Engine::get`](crate::Engine::get) gives them: where
    /// they lie, if that is aligned, or else copied to the heap. They are taken to be right, as
    /// they were checked when the value was got.
    ///
    /// # Errors
    /// [`ArrayError::NotAnArray`] if they are none; [`ArrayError::NoMemory`].
    pub fn of_value(value: &Value) -> Result<Self, ArrayError> {
        let (descriptor, at) = match value.view().and_then(View::as_npy) {
            Some(array) => (*array, NPY_HEADER_LEN),
            None => {
                let array = ArrayDescriptor::split(value).map_err(|_| ArrayError::NotAnArray)?.0;
                (array, array.encoded_len())
            }
        };
        let stored = match value.view() {
            Some(view) if is_aligned(view, at) => Plain::right(view.part(at..view.len())),
            _ => Plain::copied(value.get(at..).unwrap_or_default())?,
        };
        Self::of_stored(descriptor, stored, *value.meta())
    }

    /// Appends the bytes of the array: descriptor and data, as [`Disk`](crate::Disk) takes them
    /// with the codec [`CodecId::ARRAY`](crate::CodecId::ARRAY).
    ///
    /// # Errors
    /// As of [`data`](Self::data).
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ArrayError> {
        let data = self.data()?;
        out.extend_from_slice(&self.descriptor.encode());
        out.extend_from_slice(data);
        self.still()
    }

    /// Bytes that [`encode`](Self::encode) appends.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        self.descriptor.encoded_len().saturating_add(self.data_len())
    }

    /// Bytes of disk that stay taken for as long as this is held, whatever happens to the
    /// entry: the length of the mapped file, or 0 for what is on the heap.
    #[must_use]
    pub fn pinned_len(&self) -> u64 {
        match &self.data {
            Data::Plain(plain) => plain.pinned_len(),
            Data::Packed(packed, ..) => packed.pinned_len(),
        }
    }

    /// Whether it is stored compressed, and so decoded to the heap when it is looked at.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        matches!(self.data, Data::Packed(..))
    }

    /// The file that the data lies in, by its name in the store, and where in it; `None` for what
    /// is on the heap, or to be decoded.
    pub(crate) fn place(&self) -> Option<(String, u64)> {
        match &self.data {
            Data::Plain(plain) => plain.place(),
            Data::Packed(..) => None,
        }
    }

    /// Whether the data is looked at where it lies in a mapped file.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        match &self.data {
            Data::Plain(plain) => plain.is_mapped(),
            Data::Packed(..) => false,
        }
    }
}

/// Whether what begins there can be looked at as elements of any type.
fn is_aligned(view: &View, at: usize) -> bool {
    let data = view.bytes().get(at..).unwrap_or_default();
    data.as_ptr().cast::<u128>().is_aligned()
}

impl fmt::Debug for AnyArray {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AnyArray")
            .field("element", &format_args!("{}", self.element()))
            .field("shape", &self.shape)
            .field("order", &self.order())
            .field("is_mapped", &self.is_mapped())
            .finish_non_exhaustive()
    }
}
