//! Arrays that lie anyhow, on their way to being packed: little-endian elements in a row, in C or
//! in Fortran order.
//!
//! ```text
//! what is asked for  bytes [from, to) of the packed array
//! boxes              at most two for each axis, in each of which all axes are whole but one
//! tiles              where the source lies densest along an axis that is not the packed array's
//!                    densest: squares over both, turned around in a buffer that fits the cache
//! ```
//!
//! A tile reads each line of the source once, from its start to its end, and writes whole lines.
//! So it does not matter that lines which are a power of two apart share their place in a cache.
//!
//! # Invariants
//! 1. Every element that the shape names lies inside the data: checked once, before any is read.
//! 2. Memory that is taken is bounded: one piece, whatever the array's size, and one tile.

use std::io;

use larder_format::{ArrayDescriptor, DType, Order};

use super::error::ArrayError;

/// Bytes of a piece, at least, unless the array is smaller.
const PIECE: usize = 1 << 20;

/// Bytes of a piece, at most, where more of the array at once saves reading it many times.
const PIECE_MAX: usize = 32 << 20;

/// Bytes of a tile, which with its lines of source and target fits the first cache.
const TILE: usize = 16 << 10;

/// Bytes that are read in a row where a tile is turned around.
const RUN: usize = 128;

/// Most axes.
const AXES: usize = larder_format::layout::ARRAY_AXES_MAX;

/// An array in memory that is strided, of the other byte order, or to be stored in another order
/// of axes than it lies in.
///
/// Nothing of it is copied before it is stored. Then it is packed in pieces, of 32 MiB at most.
///
/// ```
/// use larder_engine::{ArrayDescriptor, DType, Order, Strided};
///
/// // Every other column of a matrix of two rows and four columns, transposed.
/// let matrix = [1, 2, 3, 4, 5, 6, 7, 8_u8];
/// let wanted = ArrayDescriptor::new(DType::U8, 1, Order::C, &[2, 2])?;
/// let array = Strided::new(wanted, &matrix, 0, &[2, 4])?;
/// assert_eq!(array.to_vec(), [1, 5, 3, 7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a> {
    descriptor: ArrayDescriptor,
    data: &'a [u8],
    start: usize,
    strides: [isize; AXES],
    swapped: bool,
}

impl<'a> Strided<'a> {
    /// An array of which `descriptor` says what it shall be when it is stored: type, shape, and
    /// the order of axes. Its first element begins at byte `start` of `data`, and from one
    /// element to the next along an axis it is as many bytes as `strides` says, which may be
    /// none, or negative. Elements need not be aligned.
    ///
    /// # Errors
    /// [`ArrayError::Strides`] when there are not as many strides as axes,
    /// [`ArrayError::Outside`] when an element would lie outside of `data`.
    pub fn new(
        descriptor: ArrayDescriptor,
        data: &'a [u8],
        start: usize,
        strides: &[isize],
    ) -> Result<Self, ArrayError> {
        let (axes, given) = (descriptor.shape().len(), strides.len());
        if axes != given {
            return Err(ArrayError::Strides { axes, given });
        }
        // No sum of 32 such products overflows 128 bits.
        let (mut from, mut to) = (start as i128, start as i128 + i128::from(descriptor.item_len()));
        for (len, stride) in descriptor.shape().iter().zip(strides) {
            let reach = (i128::from(*len) - 1).max(0) * *stride as i128;
            if reach < 0 { from += reach } else { to += reach }
        }
        if !descriptor.is_empty() && (from < 0 || to > data.len() as i128) {
            return Err(ArrayError::Outside { from, to, found: data.len() as u64 });
        }
        let mut all = [0; AXES];
        all[..axes].copy_from_slice(strides);
        Ok(Self { descriptor, data, start, strides: all, swapped: false })
    }

    /// An array that lies packed in the order `lies`, of either byte order. Where that is not the
    /// descriptor's order, it is turned around when it is stored.
    ///
    /// # Errors
    /// [`ArrayError::Length`] when `data` is not as long as the descriptor says.
    pub fn packed(
        descriptor: ArrayDescriptor,
        lies: Order,
        data: &'a [u8],
    ) -> Result<Self, ArrayError> {
        let (needed, found) = (descriptor.data_len(), data.len() as u64);
        if needed != found {
            return Err(ArrayError::Length { shape: descriptor.shape().to_vec(), needed, found });
        }
        let (dtype, item_len, shape) =
            (descriptor.dtype(), descriptor.item_len(), descriptor.shape());
        let source =
            ArrayDescriptor::new(dtype, item_len, lies, shape).map_err(ArrayError::Impossible)?;
        // None is longer than the data, unless the array is empty and none is used.
        let strides = source.strides_bytes().into_iter();
        let strides = strides.map(|stride| isize::try_from(stride).unwrap_or(0));
        Self::new(descriptor, data, 0, &strides.collect::<Vec<_>>())
    }

    /// The same array, of elements whose most significant byte comes first. Of complex numbers
    /// that is so of each half; elements of one byte, and bytes, have no order.
    #[must_use]
    pub const fn big_endian(self) -> Self {
        Self { swapped: true, ..self }
    }

    /// What it shall be when it is stored.
    #[must_use]
    pub const fn descriptor(&self) -> &ArrayDescriptor {
        &self.descriptor
    }

    /// The elements as they shall be stored, if they lie so already.
    #[must_use]
    pub fn as_packed(&self) -> Option<&'a [u8]> {
        if self.descriptor.is_empty() {
            return Some(&[]);
        }
        let plan = Plan::of(self);
        let len = usize::try_from(self.descriptor.data_len()).ok()?;
        (plan.unit == 0 && plan.is_packed()).then(|| &self.data[self.start..self.start + len])
    }

    /// Packs the whole array on the heap.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        if let Some(packed) = self.as_packed() {
            return packed.to_vec();
        }
        let mut out = vec![0; usize::try_from(self.descriptor.data_len()).unwrap_or(usize::MAX)];
        Plan::of(self).fill(0, &mut out);
        out
    }

    /// Packs the whole array into `out`, which has to be as long as it.
    ///
    /// # Errors
    /// [`ArrayError::Length`] when it is not.
    pub fn pack_into(&self, out: &mut [u8]) -> Result<(), ArrayError> {
        let (needed, found) = (self.descriptor.data_len(), out.len() as u64);
        if needed != found {
            let shape = self.descriptor.shape().to_vec();
            return Err(ArrayError::Length { shape, needed, found });
        }
        match self.as_packed() {
            Some(packed) => out.copy_from_slice(packed),
            None => Plan::of(self).fill(0, out),
        }
        Ok(())
    }

    /// Hands the packed array over in pieces, one behind the other: all of it at once where it
    /// lies so already.
    ///
    /// # Errors
    /// What `take` returns, at once.
    pub fn for_each_piece<E>(&self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        match self.as_packed() {
            Some(packed) => take(packed),
            None => self.in_pieces_of(Plan::of(self).piece_len(), take),
        }
    }

    fn in_pieces_of<E>(
        &self,
        len: usize,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let plan = Plan::of(self);
        let mut left = self.descriptor.data_len();
        let mut piece = vec![0; (len - len % plan.item_len).max(plan.item_len)];
        let mut at = 0;
        while left > 0 {
            let fits = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            plan.fill(at, &mut piece[..fits]);
            take(&piece[..fits])?;
            at += (fits / plan.item_len) as u64;
            left -= fits as u64;
        }
        Ok(())
    }

    /// Writes the packed array.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_to(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        self.for_each_piece(|piece| writer.write_all(piece))
    }
}

/// Turns around the bytes of each number of `data`, which are whole elements of this type.
pub(super) fn turn_around(dtype: DType, data: &mut [u8]) {
    match swapped_bytes(dtype) {
        2 => turn_all::<2>(data),
        4 => turn_all::<4>(data),
        8 => turn_all::<8>(data),
        _ => {}
    }
}

fn turn_all<const U: usize>(data: &mut [u8]) {
    for number in data.as_chunks_mut::<U>().0 {
        *number = turned::<U, U>(*number);
    }
}

/// Bytes that are turned around in foreign elements of this type; 0 for none.
const fn swapped_bytes(dtype: DType) -> usize {
    match dtype {
        DType::Bool | DType::I8 | DType::U8 | DType::Bytes => 0,
        DType::I16 | DType::U16 | DType::F16 | DType::Bf16 => 2,
        DType::I32 | DType::U32 | DType::F32 | DType::Complex64 => 4,
        DType::I64 | DType::U64 | DType::F64 | DType::Complex128 => 8,
    }
}

/// An axis, as it is walked along.
#[derive(Debug, Clone, Copy, Default)]
struct Axis {
    len: usize,
    /// Bytes of source from one element to the next.
    stride: isize,
    /// Bytes of packed array likewise.
    packed: usize,
}

/// How an array is walked along: its axes in the order in which the packed array has them, the
/// densest last. Axes along which source and packed array go on alike are one.
#[derive(Debug)]
struct Plan<'a> {
    data: &'a [u8],
    start: usize,
    axes: [Axis; AXES],
    count: usize,
    item_len: usize,
    /// Bytes to turn around in each element.
    unit: usize,
}

impl<'a> Plan<'a> {
    fn of(array: &Strided<'a>) -> Self {
        let item_len = array.descriptor.item_len() as usize;
        let unit = if array.swapped { swapped_bytes(array.descriptor.dtype()) } else { 0 };
        let Strided { data, start, .. } = *array;
        let mut plan =
            Self { data, start, axes: [Axis::default(); AXES], count: 0, item_len, unit };
        let shape = array.descriptor.shape();
        for at in 0..shape.len() {
            let at = match array.descriptor.order() {
                Order::C => at,
                Order::Fortran => shape.len() - 1 - at,
            };
            // Within the data, unless the array is empty and nothing is read.
            plan.push(usize::try_from(shape[at]).unwrap_or(usize::MAX), array.strides[at]);
        }
        let mut packed = item_len;
        for axis in plan.axes[..plan.count].iter_mut().rev() {
            axis.packed = packed;
            packed = packed.saturating_mul(axis.len);
        }
        plan
    }

    /// Puts another axis inside of those that are there.
    fn push(&mut self, len: usize, stride: isize) {
        if len == 1 {
            return;
        }
        if let Some(outer) = self.axes[..self.count].last_mut()
            && isize::try_from(len).ok().and_then(|len| len.checked_mul(stride))
                == Some(outer.stride)
        {
            *outer = Axis { len: outer.len.saturating_mul(len), stride, packed: 0 };
            return;
        }
        self.axes[self.count] = Axis { len, stride, packed: 0 };
        self.count += 1;
    }

    fn axes(&self) -> &[Axis] {
        &self.axes[..self.count]
    }

    fn is_packed(&self) -> bool {
        match self.axes() {
            [] => true,
            [axis] => axis.stride == self.item_len as isize,
            _ => false,
        }
    }

    /// Bytes that are packed at a time: whole elements.
    fn piece_len(&self) -> usize {
        // Rows for a run along the axis on which the source is densest: then it is read once.
        let (row, rows) = match self.densest(self.axes()) {
            Some(axis) => (axis.packed, RUN.div_ceil(axis.stride.unsigned_abs())),
            None => (self.item_len, 1),
        };
        let len = row.saturating_mul(rows).clamp(PIECE, PIECE_MAX);
        let whole = if row <= len { row } else { self.item_len };
        (len - len % whole).max(self.item_len)
    }

    /// The axis along which the source lies densest, if that is not the innermost one.
    fn densest(&self, axes: &[Axis]) -> Option<Axis> {
        let (inner, outer) = axes.split_last()?;
        let steps = |axis: &&Axis| axis.stride.unsigned_abs();
        let axis = outer.iter().rev().filter(|axis| axis.stride != 0).min_by_key(steps)?;
        // Below a line at a time, the innermost axis reads well enough; so do large elements.
        let scattered = steps(&inner) > steps(&axis) && steps(&inner) >= RUN / 2;
        (scattered && self.item_len < RUN / 2 && steps(&axis) < RUN / 2).then_some(*axis)
    }

    /// Fills `out` with the packed array from element `at` on.
    fn fill(&self, at: u64, out: &mut [u8]) {
        match (self.item_len, self.unit) {
            (1, _) => self.boxes::<1, 0>(at, out),
            (2, 0) => self.boxes::<2, 0>(at, out),
            (2, 2) => self.boxes::<2, 2>(at, out),
            (4, 0) => self.boxes::<4, 0>(at, out),
            (4, 4) => self.boxes::<4, 4>(at, out),
            (8, 0) => self.boxes::<8, 0>(at, out),
            (8, 4) => self.boxes::<8, 4>(at, out),
            (8, 8) => self.boxes::<8, 8>(at, out),
            (16, 0) => self.boxes::<16, 0>(at, out),
            (16, 8) => self.boxes::<16, 8>(at, out),
            // Bytes of any length, which are never turned around.
            _ => self.boxes::<0, 0>(at, out),
        }
    }

    /// Takes the elements apart into boxes, and packs one after the other.
    ///
    /// `N` is the length of an element, 0 for any; `U` is how many bytes are turned around.
    fn boxes<const N: usize, const U: usize>(&self, at: u64, mut out: &mut [u8]) {
        let mut at = usize::try_from(at).unwrap_or(usize::MAX).saturating_mul(self.item_len);
        while !out.is_empty() {
            // The innermost axes that the place is at the start of, and that fit.
            let whole = self.axes().iter().rev().take_while(|axis| {
                let len = axis.len * axis.packed;
                at.is_multiple_of(len) && len <= out.len()
            });
            let split = self.count - whole.count();
            let (outer, inner) = self.axes().split_at(split);
            let mut from = self.start as isize;
            for axis in outer {
                from += (at / axis.packed % axis.len) as isize * axis.stride;
            }
            let mut boxed = [Axis::default(); AXES];
            boxed[1..=inner.len().min(AXES - 1)]
                .copy_from_slice(&inner[..inner.len().min(AXES - 1)]);
            let (boxed, len) = match outer.last() {
                // Of the next axis, as many as come before its end and fit.
                Some(axis) => {
                    let count =
                        (axis.len - at / axis.packed % axis.len).min(out.len() / axis.packed);
                    boxed[0] = Axis { len: count, ..*axis };
                    (&boxed[..=inner.len()], count * axis.packed)
                }
                None => (inner, out.len()),
            };
            let (now, later) = out.split_at_mut(len);
            self.pack::<N, U>(boxed, from, now);
            (at, out) = (at + len, later);
        }
    }

    /// Packs a box whose first element lies at `from`.
    fn pack<const N: usize, const U: usize>(&self, axes: &[Axis], from: isize, out: &mut [u8]) {
        let Some((inner, outer)) = axes.split_last() else {
            return self.row::<N, U>(from, self.item_len as isize, out);
        };
        let Some(across) = self.densest(axes) else {
            return walk(outer, from, |from, at| {
                self.row::<N, U>(from, inner.stride, &mut out[at..at + inner.len * inner.packed]);
            });
        };
        let mut others = [Axis::default(); AXES];
        let mut count = 0;
        for axis in outer.iter().filter(|axis| axis.packed != across.packed) {
            others[count] = *axis;
            count += 1;
        }
        walk(&others[..count], from, |from, at| {
            self.turn::<N, U>(across, *inner, from, &mut out[at..]);
        });
    }

    /// Packs a matrix whose rows lie along `inner`, in tiles that are read along `across`.
    fn turn<const N: usize, const U: usize>(
        &self,
        across: Axis,
        inner: Axis,
        from: isize,
        out: &mut [u8],
    ) {
        let item = self.item_len;
        let high = RUN.div_ceil(across.stride.unsigned_abs()).max(4).min(TILE / item);
        let wide = (TILE / item / high).max(1);
        let mut tile = [0; TILE];
        for top in (0..across.len).step_by(high) {
            let high = high.min(across.len - top);
            for left in (0..inner.len).step_by(wide) {
                let wide = wide.min(inner.len - left);
                for column in 0..wide {
                    let source = from
                        + top as isize * across.stride
                        + (left + column) as isize * inner.stride;
                    let places = tile[column * item..].chunks_mut(wide * item).take(high);
                    self.column::<N, U>(source, across.stride, high, places);
                }
                for (row, line) in tile.chunks_exact(wide * item).take(high).enumerate() {
                    let at = (top + row) * across.packed + left * item;
                    out[at..at + line.len()].copy_from_slice(line);
                }
            }
        }
    }

    /// Puts elements that are equally far apart at the start of each of `places`.
    #[inline]
    fn column<'t, const N: usize, const U: usize>(
        &self,
        from: isize,
        stride: isize,
        count: usize,
        places: impl Iterator<Item = &'t mut [u8]>,
    ) {
        let item = self.item_len;
        if N != 0 && stride == N as isize {
            let from = from as usize;
            let source = self.data[from..from + count * N].as_chunks::<N>().0;
            for (place, element) in places.zip(source) {
                place[..N].copy_from_slice(&turned::<N, U>(*element));
            }
            return;
        }
        let mut from = from;
        for place in places {
            self.element::<N, U>(from, &mut place[..item]);
            from = from.wrapping_add(stride);
        }
    }

    /// Packs elements that are equally far apart.
    #[inline]
    fn row<const N: usize, const U: usize>(&self, from: isize, stride: isize, out: &mut [u8]) {
        if stride == self.item_len as isize {
            let from = from as usize;
            let source = &self.data[from..from + out.len()];
            if U == 0 {
                return out.copy_from_slice(source);
            }
            for (to, element) in
                out.as_chunks_mut::<N>().0.iter_mut().zip(source.as_chunks::<N>().0)
            {
                *to = turned::<N, U>(*element);
            }
            return;
        }
        let mut from = from;
        for to in out.chunks_exact_mut(self.item_len) {
            self.element::<N, U>(from, to);
            // Behind the last element it may point anywhere, and is not used.
            from = from.wrapping_add(stride);
        }
    }

    /// Packs the element at `from`.
    #[inline]
    fn element<const N: usize, const U: usize>(&self, from: isize, to: &mut [u8]) {
        let source = &self.data[from as usize..];
        match (source.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
            (Some(source), Some(to)) if N != 0 => *to = turned::<N, U>(*source),
            _ => to.copy_from_slice(&source[..to.len()]),
        }
    }
}

/// Calls `each` with the place in source and packed array of every element of `axes`.
fn walk(axes: &[Axis], from: isize, mut each: impl FnMut(isize, usize)) {
    let mut places = [0; AXES];
    let (mut from, mut at) = (from, 0);
    loop {
        each(from, at);
        let mut turned = axes.len();
        loop {
            let Some(next) = turned.checked_sub(1) else { return };
            turned = next;
            let (axis, place) = (&axes[turned], &mut places[turned]);
            *place += 1;
            if *place < axis.len {
                from += axis.stride;
                at += axis.packed;
                break;
            }
            from -= (axis.len - 1) as isize * axis.stride;
            at -= (axis.len - 1) * axis.packed;
            *place = 0;
        }
    }
}

/// The element with the bytes of each `U` of it turned around.
#[inline]
fn turned<const N: usize, const U: usize>(mut element: [u8; N]) -> [u8; N] {
    if U != 0 {
        element.chunks_exact_mut(U).for_each(<[u8]>::reverse);
    }
    element
}

#[cfg(test)]
mod tests;
