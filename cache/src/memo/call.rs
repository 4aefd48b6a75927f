//! One call of a function, as the cache knows it: the function and its arguments.

use std::fmt;

use super::explain::Explanation;
use super::function::Function;
use super::handle::Handle;
use crate::codec::{Auto, Codec};
use crate::error::Result;
use crate::key::KeyBuf;

/// A call that is asked about and not made: what `#[cached]` generates as `NAME_call(…)`.
///
/// ```
/// #[larder::cached]
/// fn length(text: &str) -> usize {
///     text.len()
/// }
///
/// assert!(!length_call("larder").is_cached());
/// assert_eq!(length("larder"), 6);
/// assert_eq!(length_call("larder").get()?, Some(6));
/// assert!(length_call("larder").invalidate()?);
/// # Ok::<(), larder::Error>(())
/// ```
pub struct Call<'f, V, C = Auto>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    function: &'f Function<V, C>,
    key: Box<[u8]>,
}

#[expect(clippy::missing_errors_doc, reason = "the same for all, said on `get`")]
impl<'f, V, C> Call<'f, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// Of a key that was begun by the function.
    #[doc(hidden)]
    pub fn new(function: &'f Function<V, C>, mut key: KeyBuf) -> Self {
        Self { function, key: key.stored().into() }
    }

    /// Whether a call would find a result. What the cache cannot say counts as no.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        matches!(self.function.lookup(&self.key), Ok(Some(_)))
    }

    /// The result, if it is kept. This is no use: neither the eviction policy nor the function's figures hear of it.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), or what the store says if the cache is strict.
    pub fn get(&self) -> Result<Option<V>> {
        self.function.lookup(&self.key)
    }

    /// Forgets the result: whether there was one. A call that is under way returns what it
    /// computes, and that is not kept.
    pub fn invalidate(&self) -> Result<bool> {
        self.function.invalidate(&self.key)
    }

    /// A reference to the result, if it is kept.
    #[must_use]
    pub fn handle(&self) -> Option<Handle<V>> {
        let arguments = self.key.get(self.function.prefix.len()..)?;
        self.is_cached().then(|| Handle::new(self.function.id, arguments))
    }

    /// Why a call would miss.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        self.function.explain(&self.key)
    }
}

impl<V, C> fmt::Debug for Call<'_, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.function.name();
        out.debug_struct("Call").field("function", &name).field("key", &self.key).finish()
    }
}
