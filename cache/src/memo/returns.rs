//! What of a function's result is kept.

use std::convert::Infallible;

/// A result of which a value of type `V` is kept: the result itself, what is in `Ok`, or what is in
/// `Some`.
///
/// ```
/// use larder::{Cache, Memo};
///
/// let parse = |text: &str| text.parse::<u32>().ok();
/// // A cache of numbers keeps numbers; one of options keeps that there is none, too.
/// let numbers = Memo::new(Cache::<String, u32>::builder().build()?, parse);
/// let answers = Memo::new(Cache::<String, Option<u32>>::builder().build()?, parse);
/// assert_eq!((numbers.call("seven"), answers.call("seven")), (None, None));
/// assert_eq!((numbers.is_cached("seven"), answers.is_cached("seven")), (false, true));
/// # Ok::<(), larder::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "nothing in `{Self}` can be kept in a cache of `{V}`",
    note = "a cache of `V` keeps functions that return `V`, `Result<V, _>` or `Option<V>`"
)]
pub trait Returns<V>: Sized {
    /// What is returned but not kept.
    type Missed;

    /// What is to be kept, or what is not.
    ///
    /// # Errors
    /// What is not kept.
    fn split(self) -> Result<V, Self::Missed>;

    /// The result that has this kept value.
    fn kept(value: V) -> Self;

    /// The result that is not kept.
    fn missed(missed: Self::Missed) -> Self;
}

impl<V> Returns<V> for V {
    type Missed = Infallible;

    #[inline]
    fn split(self) -> Result<V, Infallible> {
        Ok(self)
    }

    #[inline]
    fn kept(value: V) -> Self {
        value
    }

    fn missed(missed: Infallible) -> Self {
        match missed {}
    }
}

impl<V, E> Returns<V> for Result<V, E> {
    type Missed = E;

    #[inline]
    fn split(self) -> Self {
        self
    }

    #[inline]
    fn kept(value: V) -> Self {
        Ok(value)
    }

    #[inline]
    fn missed(missed: E) -> Self {
        Err(missed)
    }
}

impl<V> Returns<V> for Option<V> {
    type Missed = ();

    #[inline]
    fn split(self) -> Result<V, ()> {
        self.ok_or(())
    }

    #[inline]
    fn kept(value: V) -> Self {
        Some(value)
    }

    #[inline]
    fn missed((): ()) -> Self {
        None
    }
}
