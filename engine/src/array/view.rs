//! A stored array, seen as elements of a type.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use larder_format::Order;

use super::any::AnyArray;
use super::element::{Element, item_len};
use super::error::{ArrayError, ElementName};
use super::source::ArrayRef;
use crate::value::Meta;

/// Bytes that [`ArrayView::pieces`] shows at a time: what stays near the processor between being
/// summed and being looked at.
const PIECE: usize = 256 << 10;

/// A stored array: its elements, where they lie.
///
/// Cloning it, or taking rows of it, copies no element. A view keeps the mapping of its file
/// alive, and the disk space under it, whatever eviction, compaction, removal or another process
/// does; the elements never change under it. Hold it briefly, or
/// [`to_owned`](Self::to_owned) it.
///
/// Elements are compared with their checksums when they are asked for, as [`Check`](super::Check)
/// says, in chunks of 64 KiB. A chunk that is damaged fails what needs it, and nothing else.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
/// use larder_engine::{ArrayRef, Put};
///
/// let table: Vec<f64> = (0..12).map(f64::from).collect();
/// let put = disk.put_array(b"table", &ArrayRef::new(&table, &[4, 3])?, &Put::default())?;
/// assert!(put.is_admitted());
///
/// let view = disk.get_array::<f64>(b"table")?.ok_or("just put")?;
/// assert_eq!((view.shape(), view.as_slice()?), (&[4, 3][..], &table[..]));
/// assert_eq!(view.rows(1..2)?.as_slice()?, [3.0, 4.0, 5.0]);
/// assert_eq!(view.get(&[3, 2])?, Some(11.0));
/// assert!(disk.get_array::<f32>(b"table").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ArrayView<T> {
    array: AnyArray,
    elements: PhantomData<fn() -> T>,
}

impl<T: Element> ArrayView<T> {
    pub(super) fn new(array: AnyArray) -> Result<Self, ArrayError> {
        let asked = ElementName { dtype: T::DTYPE, item_len: item_len::<T>() };
        let stored = array.element();
        if stored != asked {
            return Err(ArrayError::Element { stored, asked });
        }
        let view = Self { array, elements: PhantomData };
        if let Some(bytes) = view.array.unchecked()
            && !bytes.is_empty()
            && !bytes.as_ptr().cast::<T>().is_aligned()
        {
            return Err(view.misaligned(bytes));
        }
        Ok(view)
    }

    #[cold]
    fn misaligned(&self, bytes: &[u8]) -> ArrayError {
        let found = 1 << bytes.as_ptr().addr().trailing_zeros().min(12);
        ArrayError::Alignment { element: self.array.element(), needed: align_of::<T>(), found }
    }

    /// All elements, in the array's order.
    ///
    /// # Errors
    /// [`ArrayError::Damaged`] names the first chunk that is not as it was written,
    /// [`ArrayError::NoValue`] says that a `bool` is neither 0 nor 1, and [`ArrayError::Gaps`] that
    /// these are rows of an array in Fortran order, which do not lie in a row.
    #[inline]
    pub fn as_slice(&self) -> Result<&[T], ArrayError> {
        self.elements_of(self.array.data()?)
    }

    #[inline]
    fn elements_of<'a>(&self, bytes: &'a [u8]) -> Result<&'a [T], ArrayError> {
        if bytes.is_empty() {
            return Ok(&[]);
        }
        T::of_bytes(bytes).ok_or_else(|| {
            if bytes.as_ptr().cast::<T>().is_aligned() {
                ArrayError::NoValue { element: self.array.element() }
            } else {
                self.misaligned(bytes)
            }
        })
    }

    /// The element at a place, one number for each axis; `None` if there is none. Needs only the
    /// chunk that it lies in.
    ///
    /// # Errors
    /// As of [`as_slice`](Self::as_slice); [`ArrayError::Axes`] for more or fewer numbers than
    /// there are axes.
    pub fn get(&self, at: &[usize]) -> Result<Option<T>, ArrayError> {
        let shape = self.shape();
        if at.len() != shape.len() {
            return Err(ArrayError::Axes { stored: shape.len(), asked: at.len() });
        }
        if at.iter().zip(shape).any(|(at, len)| at >= len) {
            return Ok(None);
        }
        // Which element in the order of the data: below their number, as each place is below
        // the length of its axis.
        let step = |place: usize, (at, len): (&usize, &usize)| place * len + at;
        let place = match self.array.order() {
            Order::C => at.iter().zip(shape).fold(0, step),
            Order::Fortran => at.iter().zip(shape).rev().fold(0, step),
        };
        let from = self.array.place_of(place, at.first().copied().unwrap_or(0));
        let bytes = self.array.data_in(from..from + size_of::<T>())?;
        let element = || ArrayError::NoValue { element: self.array.element() };
        T::first_of(bytes).map(Some).ok_or_else(element)
    }

    /// All elements that the view spans.
    #[cfg(feature = "ndarray")]
    pub(super) fn spanned(&self) -> Result<&[T], ArrayError> {
        self.elements_of(self.array.spanned()?)
    }

    /// All elements, some at a time, each lot checked just before it comes: for passes over
    /// arrays that are larger than the processor's caches, which then come from memory once.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
    /// # use larder_engine::{ArrayRef, Put};
    /// # let _ = disk.put_array(b"key", &ArrayRef::new(&[1.0_f32; 90_000], &[300, 300])?, &Put::default())?;
    /// let view = disk.get_array::<f32>(b"key")?.ok_or("just put")?;
    /// let mut sum = 0.0;
    /// for piece in view.pieces() {
    ///     sum += piece?.iter().sum::<f32>();
    /// }
    /// assert_eq!(sum, 90_000.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pieces(&self) -> impl Iterator<Item = Result<&[T], ArrayError>> {
        let size = size_of::<T>();
        let whole = move |bytes: usize| (bytes / size).max(1) * size;
        // Pieces end where chunks do, as far as elements let them; and where runs do.
        let first = whole(self.array.up_to_next(PIECE));
        let cut = move |run: Range<usize>| {
            let (mut from, mut step) = (run.start, first);
            std::iter::from_fn(move || {
                let part = from..run.end.min(from + step);
                (from, step) = (part.end, whole(PIECE));
                (!part.is_empty()).then_some(part)
            })
        };
        self.array.runs().flat_map(cut).map(|part| self.elements_of(self.array.data_in(part)?))
    }

    /// Some rows; see [`AnyArray::rows`].
    ///
    /// # Errors
    /// As of [`AnyArray::rows`].
    pub fn rows(&self, rows: Range<usize>) -> Result<Self, ArrayError> {
        Self::new(self.array.rows(rows)?)
    }

    /// An array in memory, copied to the heap; in C order.
    ///
    /// # Errors
    /// As of [`ArrayRef::new`]; [`ArrayError::NoMemory`].
    pub fn copied(elements: &[T], shape: &[usize]) -> Result<Self, ArrayError> {
        Self::new(AnyArray::copied(&ArrayRef::new(elements, shape)?)?)
    }

    /// The same on the heap, aligned to a page, holding no mapping.
    ///
    /// # Errors
    /// As of [`as_slice`](Self::as_slice); [`ArrayError::NoMemory`].
    pub fn to_owned(&self) -> Result<Self, ArrayError> {
        Self::new(self.array.to_owned()?)
    }
}

impl<T> ArrayView<T> {
    /// Length of each axis in elements, outermost first.
    #[must_use]
    pub const fn shape(&self) -> &[usize] {
        self.array.shape()
    }

    /// Length of each axis, of an array with `N` of them.
    ///
    /// # Errors
    /// [`ArrayError::Axes`] if it has more or fewer.
    pub fn shape_of<const N: usize>(&self) -> Result<[usize; N], ArrayError> {
        let stored = self.shape().len();
        self.shape().try_into().map_err(|_| ArrayError::Axes { stored, asked: N })
    }

    /// Whether the elements lie in a row; see [`AnyArray::is_contiguous`].
    #[must_use]
    pub const fn is_contiguous(&self) -> bool {
        self.array.is_contiguous()
    }

    /// Elements from one to the next along each axis; see [`AnyArray::strides`].
    #[must_use]
    pub fn strides(&self) -> Vec<usize> {
        self.array.strides()
    }

    /// Number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.array.data_len() / size_of::<T>()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.array.data_len() == 0
    }

    /// Which axis lies densest.
    #[must_use]
    pub const fn order(&self) -> Order {
        self.array.order()
    }

    /// What is known about the value.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        self.array.meta()
    }

    /// Bytes of disk that stay taken while it is held; see [`AnyArray::pinned_len`].
    #[must_use]
    pub fn pinned_len(&self) -> u64 {
        self.array.pinned_len()
    }

    /// Whether the elements are looked at where they lie in a mapped file.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.array.is_mapped()
    }

    /// The same, whatever its elements are.
    #[must_use]
    pub const fn as_any(&self) -> &AnyArray {
        &self.array
    }

    /// The same, whatever its elements are.
    #[must_use]
    pub fn into_any(self) -> AnyArray {
        self.array
    }
}

impl<T> Clone for ArrayView<T> {
    fn clone(&self) -> Self {
        Self { array: self.array.clone(), elements: PhantomData }
    }
}

impl<T> fmt::Debug for ArrayView<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.array.fmt(out)
    }
}
