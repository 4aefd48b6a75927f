//! Promise: every engine keeps one contract, and the suite that says so can be believed.
//!
//! Method: the suite runs over each engine, and over an engine with one seeded bug after the
//! other, each of which it has to find.

mod buggy;
mod crowd;
mod engines;

use std::sync::Arc;
use std::thread;

use larder_engine::conformance::{self, Harness, Keeps, Liberties, Place, Plan};
use parking_lot::Mutex;

use buggy::{Bug, Buggy, Kept};

/// Engines with a seeded bug, or none.
struct Seeded {
    bug: Option<Bug>,
    evicts: bool,
}

impl Harness for Seeded {
    fn liberties(&self) -> Liberties {
        Liberties {
            may_evict: self.evicts,
            keeps: Keeps::Everything,
            default_ttl: None,
            admits_len: buggy::REFUSES_LEN - 1,
            refuses_len: Some(buggy::REFUSES_LEN),
        }
    }

    fn place(&self) -> Box<dyn Place> {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let (bug, evicts) = (self.bug, self.evicts);
        Box::new(move |clock| Ok(Box::new(Buggy::open(kept.clone(), clock, bug, evicts)) as _))
    }
}

/// Small, so that all bugs together take little; what is seldom is what it might miss.
const QUICK: Plan =
    Plan { seed: 7, sequences: 4, steps: 300, rounds: 6, threads: 3, first_only: true };

#[test]
fn an_engine_without_bugs_passes() {
    conformance::check(&Seeded { bug: None, evicts: false });
}

#[test]
fn an_evicting_engine_without_bugs_passes() {
    conformance::check(&Seeded { bug: None, evicts: true });
}

/// The first behaviour that a seeded bug breaks, and how.
fn caught(bug: Bug) -> Option<String> {
    // These show only where misses are excused.
    let evicts = matches!(
        bug,
        Bug::KeepsNothingAtAll | Bug::EvictedComesBack | Bug::EvictsTheNewAndKeepsTheOld
    );
    let report = conformance::run(&Seeded { bug: Some(bug), evicts }, &QUICK);
    let found = report.failures.first()?;
    Some(format!("{}: {:.200}", found.behaviour, found.what))
}

#[test]
fn every_seeded_bug_is_caught() {
    let halves = buggy::ALL.split_at(buggy::ALL.len() / 2);
    let run = |bugs: &[Bug]| bugs.iter().map(|&bug| (bug, caught(bug))).collect::<Vec<_>>();
    let found = thread::scope(|scope| {
        let other = scope.spawn(|| run(halves.1));
        [run(halves.0), other.join().expect("panics of engines are caught")].concat()
    });
    for (bug, caught) in &found {
        println!("{bug:?}: {}", caught.as_deref().unwrap_or("NOT CAUGHT"));
    }
    let missed: Vec<_> = found.iter().filter(|(_, caught)| caught.is_none()).collect();
    println!("{} of {} seeded bugs caught", found.len() - missed.len(), found.len());
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
