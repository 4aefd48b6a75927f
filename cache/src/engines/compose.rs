//! What names of engines mean for a cache.
//!
//! Memory over a store never fails, so it stays whatever serves below it:
//!
//! | first name | memory | below, for each name |
//! |---|---|---|
//! | `null` | off | nothing, and the cache is switched off |
//! | `memory` | on | nothing: memory does not fail |
//! | `disk` | off | `disk`, `two-level`: the store; `memory`: an engine in memory; `null`: nothing |
//! | `two-level`, one's own | on | the same, but `memory`: nothing, as it is there already |
//!
//! Names after `memory` or `null` would never be asked.

use std::sync::Arc;

use larder_engine::Engine;

use super::choose::{Choice, Needs};
use super::{EngineSettings, Engines, Known, Null, Open};
use crate::error::{Error, Result};
use crate::event::Events;
use crate::fallback::Fallback;
use crate::health::Patience;

/// What a builder was told of engines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    pub(crate) names: Vec<String>,
    pub(crate) registry: Engines,
    pub(crate) needs: Option<Needs>,
}

/// What is below memory; and that once more, if it is several engines.
type Opened = (Option<Arc<dyn Engine>>, Option<Arc<Fallback>>);

/// What a cache is made of.
#[derive(Debug)]
pub(crate) struct Composition {
    pub(crate) choice: Choice,
    pub(crate) has_memory: bool,
    /// The names of the engines below memory, each once; none without a store.
    below: Vec<Arc<str>>,
}

impl Selection {
    /// Whether anything was said.
    pub(crate) fn is_some(&self) -> bool {
        !self.names.is_empty() || self.needs.is_some()
    }

    /// What is to be built; `None` if nothing was said.
    ///
    /// # Errors
    /// [`Error::Unavailable`] of names that there are not, or that lack a directory.
    pub(crate) fn compose(&self, settings: &EngineSettings) -> Result<Option<Composition>> {
        if !self.is_some() {
            return Ok(None);
        }
        let is_auto = self.names.iter().all(|name| name == "auto");
        let choice = if is_auto {
            self.registry.choose(&self.needs.unwrap_or_default(), settings)?
        } else {
            for name in &self.names {
                if let Some(why) = self.registry.unfit(name, settings) {
                    return Err(Error::Unavailable { engine: name.as_str().into(), why });
                }
            }
            Choice::given(self.names.iter().map(|name| name.as_str().into()).collect())
        };
        let has_memory = !matches!(choice.engine(), "disk" | "null" | "");
        let mut below: Vec<Arc<str>> = Vec::new();
        for name in choice.chain() {
            let store = match name {
                "two-level" => "disk",
                // Memory is above already.
                "memory" if has_memory => "null",
                name => name,
            };
            if !below.iter().any(|known| **known == *store) {
                below.push(store.into());
            }
            if matches!(name, "memory" | "null") {
                break;
            }
        }
        if matches!(choice.engine(), "memory" | "null" | "") {
            below.clear();
        }
        Ok(Some(Composition { choice, has_memory, below }))
    }
}

impl Composition {
    pub(crate) fn has_store(&self) -> bool {
        !self.below.is_empty()
    }

    /// Opens what is below memory: one engine, or several that stand in for each other.
    ///
    /// # Errors
    /// [`Error::Engine`] if none can be opened.
    pub(crate) fn open(
        &self,
        registry: &Engines,
        settings: &EngineSettings,
        patience: Patience,
        events: &Arc<Events>,
    ) -> Result<Opened> {
        if let [name] = &*self.below {
            return Ok((Some(registry.open(name, settings)?), None));
        }
        if self.below.is_empty() {
            return Ok((None, None));
        }
        let builder = Fallback::builder().clock(Arc::clone(&settings.clock));
        let mut builder = builder.patience(patience).events(Arc::clone(events));
        for name in &self.below {
            let shown = if self.has_memory && &**name == "null" { "memory" } else { name };
            let open: Open = match registry.find(name) {
                Some(Known { open: Ok(open), .. }) => Arc::clone(open),
                _ => Arc::new(|_| Ok(Arc::new(Null::default()))),
            };
            let settings = settings.clone();
            builder = builder.or(shown, move || open(&settings));
        }
        let fallback =
            builder.build().map_err(|source| Error::Engine { op: "be opened", source })?;
        let fallback = Arc::new(fallback);
        Ok((Some(Arc::<Fallback>::clone(&fallback)), Some(fallback)))
    }
}
