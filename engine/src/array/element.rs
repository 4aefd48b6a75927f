//! Which Rust type is which element type.
//!
//! Bytes become elements by checked casts alone: of the right length, aligned, and every one of
//! them a value of the type, which for [`bool`] is looked at one by one.
//!
//! # Invariants
//! 1. The size of a type is the item length that it states.
//! 2. All zeros are a value of every type: what is not written yet can be shown.

use larder_format::DType;

/// A type that arrays can be made of.
///
/// | Rust | element type | |
/// |---|---|---|
/// | `bool` | bool | |
/// | `i8` to `i64`, `u8` to `u64` | of the same name | |
/// | `f32`, `f64` | of the same name | |
/// | `[u8; N]` | bytes of one length | `N` above 0 |
/// | `half::f16`, `half::bf16` | f16, bf16 | feature `half` |
/// | `num_complex::Complex<f32>`, `Complex<f64>` | complex64, complex128 | feature `complex` |
///
/// It is sealed: what an element is stands in the format.
pub trait Element:
    sealed::Cast + Copy + PartialEq + std::fmt::Debug + Send + Sync + 'static
{
    /// The element type.
    const DTYPE: DType;
}

/// Bytes of an element, as arrays state it.
#[expect(clippy::cast_possible_truncation, reason = "types are far smaller")]
pub(super) const fn item_len<T: Element>() -> u32 {
    size_of::<T>() as u32
}

mod sealed {
    /// Between bytes and elements.
    pub trait Cast: Sized {
        /// The elements that bytes are; `None` if they are not whole ones, not aligned, or one
        /// of them is no value of the type.
        fn of_bytes(bytes: &[u8]) -> Option<&[Self]>;

        /// As [`of_bytes`](Self::of_bytes), to be changed.
        fn of_bytes_mut(bytes: &mut [u8]) -> Option<&mut [Self]>;

        /// The first element, wherever it lies.
        fn first_of(bytes: &[u8]) -> Option<Self>;

        /// The bytes that elements are.
        fn to_bytes(elements: &[Self]) -> &[u8];

        /// As many zeros.
        fn zeros(count: usize) -> Vec<Self>;
    }
}

macro_rules! element {
    (any [$($generics:tt)*] $type:ty, $dtype:expr) => {
        impl<$($generics)*> Element for $type {
            const DTYPE: DType = $dtype;
        }

        impl<$($generics)*> sealed::Cast for $type {
            #[inline]
            fn of_bytes(bytes: &[u8]) -> Option<&[Self]> {
                bytemuck::checked::try_cast_slice(bytes).ok()
            }

            #[inline]
            fn of_bytes_mut(bytes: &mut [u8]) -> Option<&mut [Self]> {
                bytemuck::checked::try_cast_slice_mut(bytes).ok()
            }

            #[inline]
            fn first_of(bytes: &[u8]) -> Option<Self> {
                bytemuck::checked::try_pod_read_unaligned(bytes.get(..size_of::<Self>())?).ok()
            }

            #[inline]
            fn to_bytes(elements: &[Self]) -> &[u8] {
                bytemuck::must_cast_slice(elements)
            }

            fn zeros(count: usize) -> Vec<Self> {
                vec![bytemuck::Zeroable::zeroed(); count]
            }
        }
    };
    ($type:ty, $dtype:expr) => {
        element!(any [] $type, $dtype);
    };
}

element!(bool, DType::Bool);
element!(i8, DType::I8);
element!(i16, DType::I16);
element!(i32, DType::I32);
element!(i64, DType::I64);
element!(u8, DType::U8);
element!(u16, DType::U16);
element!(u32, DType::U32);
element!(u64, DType::U64);
element!(f32, DType::F32);
element!(f64, DType::F64);
element!(any [const N: usize] [u8; N], DType::Bytes);
#[cfg(feature = "half")]
element!(half::f16, DType::F16);
#[cfg(feature = "half")]
element!(half::bf16, DType::Bf16);
#[cfg(feature = "complex")]
element!(num_complex::Complex<f32>, DType::Complex64);
#[cfg(feature = "complex")]
element!(num_complex::Complex<f64>, DType::Complex128);
