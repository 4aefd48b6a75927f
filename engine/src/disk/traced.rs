//! What goes on in a store, for `tracing`: events become events, work becomes spans (feature
//! `tracing`).
//!
//! Names, levels and fields stand in `docs/observing.md`.

use std::any::Any;
use std::sync::Arc;

use tracing::{Level, debug, error, event, info, span, warn};

use super::observer::{Event, Observer, Work};
use crate::stats::Recovery;

/// Tells `tracing` what goes on in a store, under the target `larder`.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # use std::sync::Arc;
/// use larder_engine::{Disk, Tracing};
///
/// let tracing = Arc::new(Tracing::new("sessions"));
/// let disk = Disk::builder(dir.path().join("store")).observer(tracing).open()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tracing {
    store: Arc<str>,
}

impl Tracing {
    /// For a store of this name, which stands in the field `store` of everything that is told.
    #[must_use]
    pub fn new(store: impl Into<Arc<str>>) -> Self {
        Self { store: store.into() }
    }
}

impl Observer for Tracing {
    fn event(&self, event: &Event) {
        let store = &*self.store;
        match event {
            Event::Recovered { recovery, records, open_us } => {
                let recovery = recovery.name();
                // Levels are a part of what is compiled in, so that there are two of these.
                if recovery == Recovery::Rebuilt.name() {
                    event!(target: "larder", Level::WARN, store, recovery, records, open_us, "opened");
                } else {
                    info!(target: "larder", store, recovery, records, open_us, "opened");
                }
            }
            Event::Unmapped { why } => warn!(target: "larder", store, why, "unmapped"),
            Event::Adopted { pid } => info!(target: "larder", store, pid, "adopted"),
            Event::Rolled { segment } => debug!(target: "larder", store, segment, "rolled"),
            Event::Reclaimed { segment, moved, dropped, compacted } => {
                debug!(target: "larder", store, segment, moved, dropped, compacted, "reclaimed");
            }
            Event::Grown { slots } => info!(target: "larder", store, slots, "grown"),
            Event::SyncFailed => error!(target: "larder", store, "sync failed"),
            Event::Corrupt => warn!(target: "larder", store, "corrupt"),
            Event::Full { needed, budget } => {
                warn!(target: "larder", store, needed, budget, "full")
            }
            Event::MaintenanceFailed { error } => {
                let error = error.as_deref().map_or_else(|| "a panic".to_owned(), chain);
                error!(target: "larder", store, error, "maintenance failed");
            }
        }
    }

    fn enter(&self, work: Work) -> Option<Box<dyn Any>> {
        let store = &*self.store;
        // A span's name is a part of what is compiled in.
        let span = match work {
            Work::Open => span!(target: "larder", Level::INFO, "open", store),
            Work::Rebuild => span!(target: "larder", Level::INFO, "rebuild", store),
            Work::Maintain => span!(target: "larder", Level::DEBUG, "maintain", store),
            Work::Compact => span!(target: "larder", Level::INFO, "compact", store),
            Work::Purge => span!(target: "larder", Level::INFO, "purge", store),
            Work::Trim => span!(target: "larder", Level::INFO, "trim", store),
            Work::Clear => span!(target: "larder", Level::INFO, "clear", store),
            Work::Sync => span!(target: "larder", Level::DEBUG, "sync", store),
            Work::Close => span!(target: "larder", Level::INFO, "close", store),
        };
        (!span.is_disabled()).then(|| Box::new(span.entered()) as Box<dyn Any>)
    }
}

/// An error and its causes, outermost first.
fn chain(error: &crate::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(found) = cause {
        text.push_str(": ");
        text.push_str(&found.to_string());
        cause = found.source();
    }
    text
}
