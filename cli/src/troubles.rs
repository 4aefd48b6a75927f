//! What a cache said on the side while it went on: shown as warnings at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use larder::Event;
use parking_lot::Mutex;

use crate::output::{self, count};

/// What went wrong, in a few words, with the first reason given and how often it did.
type Seen = BTreeMap<String, (String, u64)>;

/// Collects troubles; clones collect together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Troubles(Arc<Mutex<Seen>>);

impl Troubles {
    /// Takes note of an event, if it is one to worry about.
    pub(crate) fn note(&self, event: &Event) {
        let (what, why) = match event {
            Event::Failed { op, why } => (format!("the disk tier cannot {op}"), why.clone()),
            Event::Undecodable { why } => {
                ("a stored value cannot be decoded".to_owned(), why.clone())
            }
            Event::Lost { why } => ("a value could not be kept".to_owned(), (*why).to_owned()),
            Event::Bypassed => (
                "the disk tier is not read any more".to_owned(),
                "too many changes could not be written to it".to_owned(),
            ),
            _ => return,
        };
        self.0.lock().entry(what).or_insert((why, 0)).1 += 1;
    }

    /// Prints what was noted, and how often.
    pub(crate) fn warn(&self) {
        for (what, (why, times)) in &*self.0.lock() {
            match times {
                1 => output::warn(&format!("{what}: {why}")),
                _ => output::warn(&format!("{what} ({} times, at first: {why})", count(*times))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_of_a_kind_are_counted_with_their_first_reason() {
        let troubles = Troubles::default();
        for number in 0..100 {
            troubles.note(&Event::Undecodable { why: number.to_string() });
        }
        troubles.note(&Event::Cleared);
        let seen = troubles.0.lock();
        assert_eq!(seen.len(), 1);
        assert!(seen.values().all(|seen| *seen == ("0".to_owned(), 100)));
    }
}
