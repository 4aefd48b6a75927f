//! The settings that a directory was last opened with, beside the store in it.
//!
//! They are a note, and never read as settings: what is given at an opening counts, and what is
//! different from the last time is told ([`Event::SettingsChanged`]). A note that cannot be read or
//! written is no trouble: the store is as it is.

use std::path::Path;

use super::fields::FIELDS;
use super::{Config, Scalar};
use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::event::Event;

/// The file that the note is in.
const NOTE: &str = "last-settings.toml";
/// Settings that say nothing about what is stored, or are elsewhere the next time.
const LEFT_OUT: [&str; 3] = ["dir", "app", "enabled"];

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// Compares the settings with those of the last opening, tells what is different, and notes
    /// those of now.
    pub(crate) fn note_settings(&self) {
        let now = self.options.settings.lock().clone();
        let Some(dir) = now.dir.as_deref().filter(|_| self.has_own_dir()) else { return };
        if let Ok(Some(last)) = Config::load_from(dir, NOTE) {
            let changes = differences(&last, &now);
            if changes.is_empty() {
                return;
            }
            self.events.push(|| Event::SettingsChanged { changes });
        }
        write(&now, dir);
    }

    /// Notes the settings as they are now.
    pub(super) fn record_settings(&self) {
        let now = self.options.settings.lock().clone();
        if let Some(dir) = now.dir.as_deref().filter(|_| self.has_own_dir()) {
            write(&now, dir);
        }
    }

    /// Whether this cache has the directory, and nobody else.
    fn has_own_dir(&self) -> bool {
        let is_open = |name: &str| matches!(name, "disk" | "two-level");
        match &self.options.fallback {
            Some(fallback) => fallback.links().iter().any(|it| is_open(it.name()) && it.is_open()),
            None => self.options.owns_lower && self.lower.is_some(),
        }
    }
}

fn write(now: &Config, dir: &Path) {
    // Best effort: see above.
    drop(now.save_to(dir, NOTE));
}

/// What is different, in words.
fn differences(last: &Config, now: &Config) -> Vec<String> {
    let shown = |value: Option<Scalar>| match value {
        None => "not set".to_owned(),
        Some(Scalar::Bool(value)) => value.to_string(),
        Some(Scalar::Int(value)) => value.to_string(),
        Some(Scalar::Float(value)) => value.to_string(),
        Some(Scalar::Text(value)) => format!("{value:?}"),
        Some(Scalar::List(values)) => format!("{values:?}"),
        Some(Scalar::Other(_)) => String::new(),
    };
    let kept = FIELDS.iter().filter(|field| !LEFT_OUT.contains(&field.name));
    let pairs = kept.map(|field| (field.name, (field.get)(last), (field.get)(now)));
    let different = pairs.filter(|(_, last, now)| last != now);
    different
        .map(|(name, was, is)| format!("{name} was {}, is {}", shown(was), shown(is)))
        .collect()
}
