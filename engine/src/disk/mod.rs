//! The disk store.

use std::sync::Arc;

/// A view of committed bytes in a mapped file; keeps the mapping alive.
#[derive(Clone)]
pub(crate) struct View(Arc<[u8]>);

impl View {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
