//! What a cache said on the side while it went on: shown as warnings at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use larder::Event;
use parking_lot::Mutex;

use crate::output::{self, count};

/// Different troubles that are kept.
const KINDS_MAX: usize = 10;

/// Collects troubles; clones collect together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Troubles(Arc<Mutex<BTreeMap<String, u64>>>);

impl Troubles {
    /// Takes note of an event, if it is one to worry about.
    pub(crate) fn note(&self, event: &Event) {
        let what = match event {
            Event::Failed { op, why } => format!("the disk tier cannot {op}: {why}"),
            Event::Undecodable { why } => format!("a stored value cannot be decoded: {why}"),
            Event::Lost { why } => format!("a value could not be kept: {why}"),
            Event::Bypassed => "the disk tier is bypassed until it can be cleared".to_owned(),
            _ => return,
        };
        let mut seen = self.0.lock();
        if seen.len() < KINDS_MAX || seen.contains_key(&what) {
            *seen.entry(what).or_default() += 1;
        }
    }

    /// Prints what was noted, and how often.
    pub(crate) fn warn(&self) {
        for (what, &times) in &*self.0.lock() {
            match times {
                1 => output::warn(what),
                _ => output::warn(&format!("{what} ({} times)", count(times))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_of_a_kind_are_counted_and_kinds_are_bounded() {
        let troubles = Troubles::default();
        for number in 0..100 {
            let why = format!("{}", number % 50);
            troubles.note(&Event::Undecodable { why });
        }
        troubles.note(&Event::Cleared);
        let seen = troubles.0.lock();
        assert_eq!(seen.len(), KINDS_MAX);
        assert!(seen.values().all(|&times| times == 2));
    }
}
