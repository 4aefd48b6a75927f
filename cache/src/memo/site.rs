//! Where `#[cached]` keeps what it generates: one function for each instance of a generic one.
//!
//! A `static` within a generic function is one for all its instances, and its type cannot name
//! their parameters. A closure there does have a type of its own in each instance, also where
//! only the `impl` around it is generic, which a macro does not see. So that type is what
//! instances are told apart by, in memory by its id, in the store by its name.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::sync::OnceLock;

use parking_lot::RwLock;

type Shared = &'static (dyn Any + Send + Sync);

/// The functions that one `#[cached]` stands for.
#[doc(hidden)]
pub struct Site {
    /// The instance that was called first; mostly there is no other.
    first: OnceLock<(TypeId, Shared)>,
    others: RwLock<Vec<(TypeId, Shared)>>,
}

impl Site {
    /// Of nothing yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "for a static")]
    pub const fn new() -> Self {
        Self { first: OnceLock::new(), others: RwLock::new(Vec::new()) }
    }

    /// What was built for the instance whose closure this is. Built once, and never dropped.
    #[inline]
    pub fn get<M: 'static, T: Any + Send + Sync>(
        &'static self,
        _instance: &M,
        build: impl Fn(&'static str) -> T,
    ) -> &'static T {
        let id = TypeId::of::<M>();
        if let Some((first, shared)) = self.first.get()
            && *first == id
            && let Some(shared) = shared.downcast_ref()
        {
            return shared;
        }
        self.get_or_build(id, || build(type_name::<M>()))
    }

    #[cold]
    fn get_or_build<T: Any + Send + Sync>(
        &'static self,
        id: TypeId,
        build: impl Fn() -> T,
    ) -> &'static T {
        let built = || (id, &*Box::leak(Box::new(build())) as Shared);
        let (first, shared) = *self.first.get_or_init(built);
        if first == id
            && let Some(shared) = shared.downcast_ref()
        {
            return shared;
        }
        let find = |others: &[(TypeId, Shared)]| {
            let found = others.iter().find(|(other, _)| *other == id);
            found.and_then(|(_, shared)| shared.downcast_ref())
        };
        if let Some(shared) = find(&self.others.read()) {
            return shared;
        }
        let mut others = self.others.write();
        if let Some(shared) = find(&others) {
            return shared;
        }
        let shared: &'static T = Box::leak(Box::new(build()));
        others.push((id, shared));
        shared
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Site").finish_non_exhaustive()
    }
}
