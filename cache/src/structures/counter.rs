//! A whole number under a name.

use super::ground::Plot;
use crate::error::{Error, Result};

/// A whole number that any number of threads may add to: no addition is lost.
///
/// ```
/// use larder::structures::Structures;
///
/// let visits = Structures::in_memory(1 << 20)?.counter("visits")?;
/// assert_eq!(visits.add(5)?, 5);
/// assert_eq!(visits.add(-2)?, 3);
/// assert_eq!(visits.set(0)?, 3);
/// # Ok::<(), larder::Error>(())
/// ```
///
/// # Errors
/// All methods: what the store said; [`Error::Rejected`] if it is full.
#[derive(Debug, Clone)]
pub struct Counter {
    plot: Plot,
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl Counter {
    pub(super) const fn new(plot: Plot) -> Self {
        Self { plot }
    }

    /// The number; 0 to begin with.
    pub fn get(&self) -> Result<i64> {
        Ok(self.plot.root()?.root)
    }

    /// Adds to the number and returns the sum.
    ///
    /// # Errors
    /// As of [`Counter`], and [`Error::Overflow`] if the sum does not fit; the number is then as it was.
    pub fn add(&self, by: i64) -> Result<i64> {
        self.plot.update(|number: &mut i64| {
            *number = number.checked_add(by).ok_or(Error::Overflow)?;
            Ok((*number, by != 0))
        })
    }

    /// Sets the number and returns what it was.
    pub fn set(&self, to: i64) -> Result<i64> {
        self.plot.update(|number: &mut i64| Ok((std::mem::replace(number, to), true)))
    }
}
