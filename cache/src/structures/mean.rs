//! The mean of what was added.

use serde::{Deserialize, Serialize};

use super::ground::Plot;
use crate::error::Result;

/// The mean of all numbers that were added, since the beginning or since it was taken.
///
/// ```
/// use larder::structures::Structures;
///
/// let mean = Structures::in_memory(1 << 20)?.running_mean("latency")?;
/// for number in 0..10 {
///     mean.add(f64::from(number))?;
/// }
/// assert_eq!(mean.get()?, Some(4.5));
/// assert_eq!(mean.take()?, Some(4.5));
/// assert_eq!(mean.get()?, None);
/// # Ok::<(), larder::Error>(())
/// ```
///
/// # Errors
/// All methods: what the store said; [`Error::Rejected`](crate::Error::Rejected) if it is full.
#[derive(Debug, Clone)]
pub struct RunningMean {
    plot: Plot,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    sum: f64,
    count: u64,
}

impl Sum {
    #[expect(clippy::cast_precision_loss, reason = "a mean of so many is not more exact")]
    fn mean(self) -> Option<f64> {
        (self.count != 0).then(|| self.sum / self.count as f64)
    }
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl RunningMean {
    pub(super) const fn new(plot: Plot) -> Self {
        Self { plot }
    }

    /// Adds a number and returns the mean.
    pub fn add(&self, number: f64) -> Result<f64> {
        self.plot.update(|sum: &mut Sum| {
            sum.sum += number;
            sum.count += 1;
            Ok((sum.mean().unwrap_or(number), true))
        })
    }

    /// The mean; `None` if nothing was added.
    pub fn get(&self) -> Result<Option<f64>> {
        Ok(self.plot.root::<Sum>()?.root.mean())
    }

    /// How many numbers were added.
    pub fn count(&self) -> Result<u64> {
        Ok(self.plot.root::<Sum>()?.root.count)
    }

    /// The mean, which begins anew.
    pub fn take(&self) -> Result<Option<f64>> {
        self.plot.update(|sum: &mut Sum| {
            let taken = std::mem::take(sum);
            Ok((taken.mean(), taken.count != 0))
        })
    }
}
