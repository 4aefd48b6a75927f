//! Every atomic of this crate comes from here, so that a model checker can supply its own.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
