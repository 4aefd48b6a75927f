//! What a cache tells of itself, for `tracing` (feature `tracing`). Names, levels and fields
//! stand in `docs/observing.md`.

use larder_engine::Health;
use tracing::{error, info, warn};

use crate::event::Event;
use crate::health::Circuit;

/// Tells `tracing` of an event, under the target `larder`.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let cache = larder::Cache::<u64, String>::builder()
///     .disk(dir.path().join("store"))
///     .on_event(larder::trace_event)
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn trace_event(event: &Event) {
    match event {
        Event::Health { from, to: Health::Healthy } => {
            info!(target: "larder", ?from, "healthy again");
        }
        Event::Health { from, to: Health::Offline } => error!(target: "larder", ?from, "offline"),
        Event::Health { from, to } => warn!(target: "larder", ?from, ?to, "degraded"),
        Event::Failed { op, why } => warn!(target: "larder", op, why, "store failed"),
        Event::Undecodable { why } => warn!(target: "larder", why, "undecodable"),
        Event::Lost { why } => error!(target: "larder", why, "lost"),
        Event::Bypassed => error!(target: "larder", "bypassed"),
        Event::Circuit { engine, to: Circuit::Open, why } => {
            warn!(target: "larder", %engine, why, "engine away");
        }
        Event::Circuit { engine, to, .. } => info!(target: "larder", %engine, ?to, "engine tried"),
        Event::Usage { tier, percent, is_rising, used, budget } => {
            info!(target: "larder", tier, percent, is_rising, used, budget, "usage");
        }
        Event::SettingsChanged { changes } => {
            info!(target: "larder", changes = changes.join("; "), "settings changed");
        }
        Event::Switched { from, to } => {
            warn!(target: "larder", from = from.as_deref(), to = to.as_deref(), "switched");
        }
        Event::Cleared => warn!(target: "larder", "cleared"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{Level, Subscriber};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
    use tracing_subscriber::registry::Registry;

    use super::*;

    #[derive(Default, Clone)]
    struct Levels(Arc<Mutex<Vec<Level>>>);

    impl<S: Subscriber> Layer<S> for Levels {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.lock().expect("no panic").push(*event.metadata().level());
        }
    }

    #[test]
    fn a_store_that_fails_is_told_of_as_loudly_as_it_matters() {
        let levels = Levels::default();
        tracing::subscriber::with_default(Registry::default().with(levels.clone()), || {
            let health = |from, to| trace_event(&Event::Health { from, to });
            health(Health::Healthy, Health::Degraded);
            health(Health::Degraded, Health::Offline);
            health(Health::Offline, Health::Healthy);
        });
        let told = levels.0.lock().expect("no panic");
        assert_eq!(told[..], [Level::WARN, Level::ERROR, Level::INFO]);
    }
}
