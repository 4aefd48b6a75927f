//! Where work runs that may wait.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use futures_channel::oneshot;

use crate::error::{Error, Result};

/// Work that may wait for a disk or a lock.
pub type Work = Box<dyn FnOnce() + Send>;

/// Runs work that may wait, somewhere that does not hold up other futures.
///
/// Any function that takes [`Work`] will do: `|work| drop(smol::unblock(work))` and the like.
/// With the feature `tokio` a `tokio::runtime::Handle` does.
///
/// ```
/// use larder::{Offload, Work};
///
/// fn on_a_thread(work: Work) {
///     std::thread::spawn(work);
/// }
/// fn takes(_: impl Offload) {}
/// takes(on_a_thread);
/// ```
pub trait Offload: Send + Sync + 'static {
    /// Runs `work` once, soon. Who drops it instead makes the call that it belongs to fail with
    /// [`Error::Cancelled`].
    fn offload(&self, work: Work);
}

impl<F: Fn(Work) + Send + Sync + 'static> Offload for F {
    fn offload(&self, work: Work) {
        self(work);
    }
}

#[cfg(feature = "tokio")]
impl Offload for tokio::runtime::Handle {
    fn offload(&self, work: Work) {
        drop(self.spawn_blocking(work));
    }
}

/// Runs `work` elsewhere and waits for what it returns. A panic comes back with it.
pub(super) async fn elsewhere<R: Send + 'static>(
    offload: &dyn Offload,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R> {
    let (tell, told) = oneshot::channel();
    offload.offload(Box::new(move || {
        let done = catch_unwind(AssertUnwindSafe(work));
        // Whoever asked may have gone.
        drop(tell.send(done));
    }));
    match told.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(oneshot::Canceled) => Err(Error::Cancelled),
    }
}
