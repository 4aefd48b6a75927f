//! References to results.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::versions::FunctionId;

/// A reference to a result of type `V` of one version of one function: its arguments as a key, a
/// few bytes more, or a digest of long ones. It can be serialised, sent to another process with the same store, and
/// exchanged for the result there by [`Function::fetch`](super::Function::fetch). The result may be gone by then.
///
/// ```
/// use larder::{Cache, Memo};
///
/// let double = Memo::new(Cache::<u64, u64>::builder().build()?, |n: &u64| n * 2);
/// assert_eq!(double.handle(&4), None);
/// double.call(&4);
/// let handle = double.handle(&4).expect("kept");
/// assert_eq!(double.fetch(&handle)?, Some(8));
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Handle<V> {
    function: Option<FunctionId>,
    arguments: Box<[u8]>,
    #[serde(skip)]
    value: PhantomData<fn() -> V>,
}

impl<V> Handle<V> {
    pub(super) fn new(function: Option<FunctionId>, arguments: &[u8]) -> Self {
        Self { function, arguments: arguments.into(), value: PhantomData }
    }

    /// The arguments, if they are those of this function.
    pub(super) fn arguments_of(&self, function: Option<FunctionId>) -> Option<&[u8]> {
        (self.function == function).then_some(&*self.arguments)
    }
}

// Derived ones would ask the same of `V`.

impl<V> Clone for Handle<V> {
    fn clone(&self) -> Self {
        Self::new(self.function, &self.arguments)
    }
}

impl<V> PartialEq for Handle<V> {
    fn eq(&self, other: &Self) -> bool {
        (self.function, &self.arguments) == (other.function, &other.arguments)
    }
}

impl<V> Eq for Handle<V> {}

impl<V> Hash for Handle<V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.function, &self.arguments).hash(state);
    }
}

impl<V> fmt::Debug for Handle<V> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.function.map(u64::from_le_bytes);
        write!(out, "Handle({id:x?}, {:02x?})", self.arguments)
    }
}
