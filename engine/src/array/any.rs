//! A stored array, whatever its elements are.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use larder_format::layout::NPY_HEADER_LEN;
use larder_format::npy::NpyHeader;
use larder_format::{ArrayDescriptor, Compression, DType, Order};

use super::element::Element;
use super::error::{ArrayError, ElementName};
use super::gaps::{Gaps, rows_of};
use super::packed::{Packed, uncompressed};
use super::plain::Plain;
use super::source::ArrayRef;
use super::strided::turn_around;
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
    /// Where the elements lie in `data`, unless they lie in a row.
    gaps: Option<Gaps>,
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
        Ok(Self { descriptor, shape, meta, data, gaps: None })
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
        let item_len = self.item_bytes();
        let strides = self.descriptor.strides_bytes().into_iter();
        let elements = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX) / item_len;
        let mut strides: Vec<usize> = strides.map(elements).collect();
        if let Some(gaps) = &self.gaps {
            // Of all axes but the first, which is densest, as if there were all rows.
            let (rows, step) = (gaps.run / item_len, gaps.step / item_len);
            strides.iter_mut().skip(1).for_each(|stride| *stride = *stride / rows * step);
        }
        strides
    }

    fn item_bytes(&self) -> usize {
        usize::try_from(self.item_len()).unwrap_or(usize::MAX).max(1)
    }

    /// Bytes of data.
    pub(super) const fn data_len(&self) -> usize {
        match &self.gaps {
            Some(gaps) => gaps.len(),
            None => self.span(),
        }
    }

    /// Bytes that the data spans.
    const fn span(&self) -> usize {
        match &self.data {
            Data::Plain(plain) => plain.len(),
            Data::Packed(_, range, _) => range.end - range.start,
        }
    }

    /// Whether the elements lie in a row. Those of some [rows](Self::rows) of an array in Fortran
    /// order do not.
    #[must_use]
    pub const fn is_contiguous(&self) -> bool {
        self.gaps.is_none()
    }

    /// Where the elements lie that lie in a row, in the order of the array.
    pub(super) fn runs(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (gaps, len) = (self.gaps, self.span());
        let count = gaps.map_or(usize::from(len > 0), |gaps| gaps.count);
        (0..count).map(move |number| gaps.map_or(0..len, |gaps| gaps.at(number)))
    }

    /// Where an element lies: the one at `place` of an array with all rows in a row, of which its
    /// first axis is `row`.
    pub(super) fn place_of(&self, place: usize, row: usize) -> usize {
        let item = self.item_bytes();
        match &self.gaps {
            Some(gaps) => (place - row) / (gaps.run / item) * gaps.step + row * item,
            None => place * item,
        }
    }

    /// All that the data spans, of which its runs are checked.
    #[cfg(feature = "ndarray")]
    pub(super) fn spanned(&self) -> Result<&[u8], ArrayError> {
        if let Data::Plain(plain) = &self.data {
            self.runs().try_for_each(|run| plain.bytes(run).map(drop))?;
            return Ok(plain.unchecked());
        }
        self.data_in(0..self.span())
    }

    /// The data: elements in a row, little-endian, in the array's order. What was not checked
    /// yet is checked now, and what is compressed decoded, once for each view.
    ///
    /// # Errors
    /// [`ArrayError::Damaged`] names the first chunk that is not as it was written;
    /// [`ArrayError::Unpackable`] where decoding says so; [`ArrayError::Gaps`] if it does not lie
    /// in a row ([`is_contiguous`](Self::is_contiguous)).
    #[inline]
    pub fn data(&self) -> Result<&[u8], ArrayError> {
        if self.gaps.is_some() {
            return Err(ArrayError::Gaps);
        }
        if let Data::Plain(plain) = &self.data
            && let Some(bytes) = plain.known()
        {
            return Ok(bytes);
        }
        self.data_in(0..self.span())
    }

    /// As [`data`](Self::data), of some of the bytes that it spans; empty if there are no such.
    pub(super) fn data_in(&self, part: Range<usize>) -> Result<&[u8], ArrayError> {
        match &self.data {
            Data::Plain(plain) => plain.bytes(part),
            Data::Packed(packed, range, decoded) => {
                let decoded = decoded.get_or_init(|| packed.decode(range.clone()));
                decoded.as_ref().map_err(Clone::clone)?.bytes(part)
            }
        }
    }

    /// Some rows: along the first axis. Costs no look at the data, and the new view needs only
    /// the chunks that its own rows lie in.
    ///
    /// Of an array in Fortran order each row lies in pieces, one in each column. A view of some of
    /// its rows has one element of theirs after the other where they lie: they can be looked at one
    /// by one ([`get`](ArrayView::get)), a column at a time ([`pieces`](ArrayView::pieces)), and
    /// with their strides (`ndarray`), be copied ([`to_owned`](Self::to_owned)) and written out; there
    /// is no slice of them ([`ArrayError::Gaps`]).
    ///
    /// # Errors
    /// [`ArrayError::Rows`] if there are no such rows, [`ArrayError::Axes`] without axes.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self, ArrayError> {
        let Some(count) = self.shape.first() else {
            return Err(ArrayError::Axes { stored: 0, asked: 1 });
        };
        let Range { start: from, end: to } = rows;
        if from > to || to > *count {
            return Err(ArrayError::Rows { from, to, rows: *count });
        }
        let row_len = self.data_len().checked_div(*count).unwrap_or(0);
        let (part, gaps) = match self.order() {
            Order::C => (from * row_len..to * row_len, None),
            Order::Fortran => {
                let item = self.item_bytes();
                let step = self.gaps.map_or(count * item, |gaps| gaps.step);
                rows_of(from..to, (item, row_len, step))
            }
        };
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
        Ok(Self { gaps, ..Self::over(descriptor, data, self.meta)? })
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
        let copied = match self.gaps {
            None => Plain::copied(self.data()?)?,
            Some(gaps) => Plain::made(gaps.len(), |out| {
                let runs = out.chunks_exact_mut(gaps.run).zip(self.runs());
                runs.map(|(out, run)| Ok((out, self.data_in(run)?)))
                    .try_for_each(|run| run.map(|(out, run)| out.copy_from_slice(run)))
            })?,
        };
        self.still()?;
        Ok(Self { data: Data::Plain(copied), shape: self.shape.clone(), gaps: None, ..*self })
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

    /// The array whose bytes a value is, as [`Engine::get`](crate::Engine::get) gives them, or
    /// those of a NumPy file that anybody wrote: where they lie, if that is aligned, or else copied
    /// to the heap. They are taken to be right, as they were checked when the value was got.
    ///
    /// # Errors
    /// [`ArrayError::NotAnArray`] if they are none, or a NumPy file of what cannot be stored;
    /// [`ArrayError::NoMemory`].
    pub fn of_value(value: &Value) -> Result<Self, ArrayError> {
        let (descriptor, at, is_turned) = match value.view().and_then(View::as_npy) {
            Some(array) => (*array, NPY_HEADER_LEN, false),
            None => match ArrayDescriptor::split(value) {
                Ok((array, _)) => (array, array.encoded_len(), false),
                Err(_) => {
                    let npy = NpyHeader::decode(value).map_err(|_| ArrayError::NotAnArray)?;
                    (*npy.descriptor(), npy.data_at(), npy.is_big_endian())
                }
            },
        };
        // Of what is compressed, the descriptor says how long the data is once it is decoded.
        let end = match (descriptor.compression(), usize::try_from(descriptor.data_len())) {
            (Compression::None, Ok(len)) => at.saturating_add(len),
            _ => value.len(),
        };
        let data = value.get(at..end).ok_or(ArrayError::NotAnArray)?;
        let stored = match value.view() {
            Some(view) if !is_turned && is_aligned(view, at) => Plain::right(view.part(at..end)),
            _ => Plain::made(data.len(), |out| {
                out.copy_from_slice(data);
                if is_turned {
                    turn_around(descriptor.dtype(), out);
                }
                Ok(())
            })?,
        };
        Self::of_stored(descriptor, stored, *value.meta())
    }

    /// Appends the bytes of the array, or nothing: descriptor and data, as [`Disk`](crate::Disk) takes them
    /// with the codec [`CodecId::ARRAY`](crate::CodecId::ARRAY).
    ///
    /// # Errors
    /// As of [`data`](Self::data).
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ArrayError> {
        let before = out.len();
        out.extend_from_slice(&self.descriptor.encode());
        let copied = self.runs().try_for_each(|run| {
            out.extend_from_slice(self.data_in(run)?);
            Ok(())
        });
        copied.and_then(|()| self.still()).inspect_err(|_| out.truncate(before))
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
