//! Arrays: stored as they are, and looked at where they lie.
//!
//! | file | what |
//! |---|---|
//! | `element.rs` | which Rust type is which element type |
//! | `source.rs` | an array in memory, to be stored |
//! | `error.rs` | what can be wrong |

mod element;
mod error;
mod source;

pub use element::Element;
pub use error::{ArrayError, ElementName};
pub use source::ArrayRef;
