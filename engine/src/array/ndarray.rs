//! To and from `ndarray`.

use ndarray::{ArrayBase, ArrayViewD, Data, Dimension, IxDyn, ShapeBuilder as _};

use larder_format::Order;

use super::element::Element;
use super::error::ArrayError;
use super::source::ArrayRef;
use super::view::ArrayView;
use crate::disk::Disk;
use crate::engine::{Outcome, Put};
use crate::error::Result;

impl<T: Element> ArrayView<T> {
    /// The elements as `ndarray` sees them, where they lie, in either order.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let disk = larder_engine::Disk::builder(dir.path().join("store")).open()?;
    /// use larder_engine::Put;
    /// use ndarray::{Axis, array};
    ///
    /// let table = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    /// // In memory the axes of a transposed array stand the other way round.
    /// assert!(disk.put_ndarray(b"key", &table.t(), &Put::default())?.is_admitted());
    /// let view = disk.get_array::<f64>(b"key")?.ok_or("just put")?;
    /// assert_eq!(view.ndarray()?, table.t().into_dyn());
    /// assert_eq!(view.ndarray_of::<ndarray::Ix2>()?.sum_axis(Axis(0)), array![6.0, 15.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As of [`as_slice`](Self::as_slice).
    pub fn ndarray(&self) -> Result<ArrayViewD<'_, T>, ArrayError> {
        if !self.is_contiguous() {
            let shape = IxDyn(self.shape()).strides(IxDyn(&self.strides()));
            let impossible = |_| ArrayError::Gaps;
            return ArrayViewD::from_shape(shape, self.spanned()?).map_err(impossible);
        }
        let is_fortran = self.order() == Order::Fortran;
        let shape = IxDyn(self.shape()).set_f(is_fortran);
        let length = |_| ArrayError::Length {
            shape: self.shape().iter().map(|axis| *axis as u64).collect(),
            needed: self.as_any().descriptor().data_len(),
            found: (self.len() * size_of::<T>()) as u64,
        };
        ArrayViewD::from_shape(shape, self.as_slice()?).map_err(length)
    }

    /// As [`ndarray`](Self::ndarray), with as many axes as the type says.
    ///
    /// # Errors
    /// [`ArrayError::Axes`] if there are more or fewer.
    pub fn ndarray_of<D: Dimension>(&self) -> Result<ndarray::ArrayView<'_, T, D>, ArrayError> {
        let stored = self.shape().len();
        let asked = D::NDIM.unwrap_or(stored);
        self.ndarray()?.into_dimensionality().map_err(|_| ArrayError::Axes { stored, asked })
    }
}

impl Disk {
    /// Stores an array of `ndarray`: without a copy in memory if its elements stand in a row, in C
    /// or in Fortran order; else packed in C order first.
    ///
    /// # Errors
    /// As of [`put_array`](Self::put_array).
    pub fn put_ndarray<T: Element, S: Data<Elem = T>, D: Dimension>(
        &self,
        key: &[u8],
        array: &ArrayBase<S, D>,
        options: &Put<'_>,
    ) -> Result<Outcome> {
        if let Some(elements) = array.as_slice() {
            return self.put_array(key, &ArrayRef::new(elements, array.shape())?, options);
        }
        if let Some(elements) = array.t().as_slice() {
            return self.put_array(key, &ArrayRef::fortran(elements, array.shape())?, options);
        }
        let packed: Vec<T> = array.iter().copied().collect();
        self.put_array(key, &ArrayRef::new(&packed, array.shape())?, options)
    }
}
