//! Floats that are equal if they are near each other.
//!
//! Numbers are told apart by the nearest multiple of a tolerance: the quotient is rounded half
//! away from zero. So numbers on both sides of a border differ however near they are, and
//! equality stays transitive. Division and rounding are IEEE 754's, the same on all machines.

use super::{KeyBuf, KeyEncode, tag};

/// A number, or several, of which a key shall only say where they are to a tolerance.
///
/// As an argument of a memoised function it gives the function's body the exact number, and
/// looks for the result under the rounded one.
///
/// ```
/// use larder::{Cache, Rounded};
///
/// let cache = Cache::<(String, Rounded<f64>), u32>::builder().build()?;
/// assert!(cache.insert(("price".to_owned(), Rounded::new(1.002, 0.01)), 7)?.is_admitted());
/// assert_eq!(cache.get(&("price".to_owned(), Rounded::new(0.998, 0.01)))?, Some(7));
/// assert_eq!(cache.get(&("price".to_owned(), Rounded::new(1.02, 0.01)))?, None);
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Rounded<T> {
    value: T,
    tolerance: f64,
}

impl<T> Rounded<T> {
    /// Tells `value` apart to multiples of `tolerance`. One that is not above zero, or not
    /// finite, rounds nothing.
    pub const fn new(value: T, tolerance: f64) -> Self {
        Self { value, tolerance }
    }

    /// The exact value.
    ///
    /// ```
    /// assert_eq!(larder::Rounded::new(1.002, 0.01).into_inner(), 1.002);
    /// ```
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T: Tolerant> KeyEncode for Rounded<T> {
    #[inline]
    fn encode(&self, out: &mut KeyBuf) {
        self.value.encode_within(self.tolerance, out);
    }
}

/// What can be a key to a tolerance: floats, and what is made of them.
///
/// ```
/// use larder::{KeyBuf, Tolerant};
///
/// let key = |numbers: &[f64]| {
///     let mut key = KeyBuf::new();
///     numbers.encode_within(0.5, &mut key);
///     key.as_bytes().to_vec()
/// };
/// assert_eq!(key(&[0.9, 2.1]), key(&[1.1, 1.9]));
/// assert_ne!(key(&[0.9, 2.1]), key(&[0.4, 2.1]));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be rounded: only floats, and references, options, sequences and tuples of them"
)]
pub trait Tolerant {
    /// Appends the key of the nearest multiple of `tolerance`; see [`Rounded`].
    fn encode_within(&self, tolerance: f64, out: &mut KeyBuf);
}

impl Tolerant for f64 {
    #[inline]
    fn encode_within(&self, tolerance: f64, out: &mut KeyBuf) {
        if !(tolerance > 0.0 && tolerance.is_finite()) {
            return self.encode(out);
        }
        out.push(&[tag::ROUNDED]);
        let multiple = (self / tolerance).round();
        out.push(&super::encode::f64_bits(tolerance).to_le_bytes());
        out.push(&super::encode::f64_bits(multiple).to_le_bytes());
    }
}

impl Tolerant for f32 {
    #[inline]
    fn encode_within(&self, tolerance: f64, out: &mut KeyBuf) {
        f64::from(*self).encode_within(tolerance, out);
    }
}

impl<T: Tolerant> Tolerant for [T] {
    fn encode_within(&self, tolerance: f64, out: &mut KeyBuf) {
        out.tag_len(tag::SEQ, self.len());
        for item in self {
            item.encode_within(tolerance, out);
        }
    }
}

impl<T: Tolerant, const N: usize> Tolerant for [T; N] {
    fn encode_within(&self, tolerance: f64, out: &mut KeyBuf) {
        self.as_slice().encode_within(tolerance, out);
    }
}

impl<T: Tolerant> Tolerant for Vec<T> {
    fn encode_within(&self, tolerance: f64, out: &mut KeyBuf) {
        self.as_slice().encode_within(tolerance, out);
    }
}

impl<T: Tolerant> Tolerant for Option<T> {
    fn encode_within(&self, tolerance: f64, out: &mut KeyBuf) {
        match self {
            None => out.push(&[tag::NONE]),
            Some(item) => {
                out.push(&[tag::SOME]);
                item.encode_within(tolerance, out);
            }
        }
    }
}

macro_rules! pointer {
    ($($pointer:ty),*) => {$(
        impl<T: Tolerant + ?Sized> Tolerant for $pointer {
            #[inline]
            fn encode_within(&self, tolerance: f64, out: &mut KeyBuf) {
                (**self).encode_within(tolerance, out);
            }
        }
    )*};
}

pointer!(&T, Box<T>, std::sync::Arc<T>);

macro_rules! tuple {
    ($arity:literal: $($item:ident)*) => {
        impl<$($item: Tolerant),*> Tolerant for ($($item,)*) {
            fn encode_within(&self, tolerance: f64, out: &mut KeyBuf) {
                #[expect(non_snake_case, reason = "an item is named as its type")]
                let ($($item,)*) = self;
                out.push(&[tag::TUPLE, $arity]);
                $($item.encode_within(tolerance, out);)*
            }
        }
    };
}

tuple!(1: A);
tuple!(2: A B);
tuple!(3: A B C);
tuple!(4: A B C D);
