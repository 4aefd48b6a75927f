//! Interleaved repeats over stores.

use std::path::PathBuf;

use larder_rivals::disk::engines;
use larder_rivals::{DiskEngine, Result};

use crate::report::{Group, Row};
use crate::timed::Took;

/// What all measurements of stores have in common.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where stores are made.
    pub dir: PathBuf,
    /// The stores.
    pub engines: Vec<DiskEngine>,
    /// Repeats of each measurement.
    pub repeats: usize,
    /// Threads that work at once.
    pub threads: usize,
}

/// What a workload is called.
#[derive(Debug)]
pub struct Title {
    /// For programs.
    pub workload: String,
    /// For people, with its sizes.
    pub title: String,
    /// What the caches and the state of the stores are like.
    pub regime: &'static str,
}

/// The stores of these names, or all.
///
/// # Errors
/// A name that no store has.
pub fn named(names: &[String]) -> Result<Vec<DiskEngine>> {
    let mut engines = engines();
    let known: Vec<_> = engines.iter().map(|engine| engine.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("no engine {unknown}: there are {}", known.join(", ")).into());
    }
    engines.retain(|engine| asked(names, engine.name));
    Ok(engines)
}

/// Whether a name is among those that were asked for.
#[must_use]
pub fn asked(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|asked| asked == name)
}

impl Setup {
    /// Measures every engine once in each round, beginning with another one each time, so that
    /// what disturbs the machine disturbs all alike. Returns what each engine's rounds did.
    ///
    /// # Errors
    /// The first error, with the names of workload and engine.
    pub fn rounds<T>(
        &self,
        workload: &str,
        mut measure: impl FnMut(usize, &DiskEngine) -> Result<T>,
    ) -> Result<Vec<Vec<T>>> {
        let mut samples: Vec<Vec<T>> = self.engines.iter().map(|_| Vec::new()).collect();
        for round in 0..self.repeats {
            for turn in 0..self.engines.len() {
                let at = (round + turn) % self.engines.len();
                let engine = &self.engines[at];
                let sample = measure(at, engine)
                    .map_err(|error| format!("{workload} of {}: {error}", engine.name))?;
                samples[at].push(sample);
            }
        }
        Ok(samples)
    }

    /// Compares, prints and keeps what [`Self::rounds`] of so many operations found.
    pub fn speeds(
        &self,
        title: Title,
        operations: u64,
        samples: &[Vec<Took>],
        note: impl Fn(&DiskEngine) -> String,
        groups: &mut Vec<Group>,
    ) {
        let row = |(engine, samples): (&DiskEngine, &Vec<Took>)| Row {
            note: note(engine),
            ..Row::new(engine.name, engine.settings, operations, samples)
        };
        let mut group = Group {
            workload: title.workload,
            title: title.title,
            regime: title.regime,
            threads: self.threads,
            operations,
            rows: self.engines.iter().zip(samples).map(row).collect(),
        };
        group.compare();
        group.print();
        groups.push(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_refused_and_known_ones_are_kept() {
        assert!(named(&["larder".to_owned(), "postgres".to_owned()]).is_err());
        let names: Vec<_> = named(&["redb".to_owned()]).unwrap().iter().map(|e| e.name).collect();
        assert_eq!(names, ["redb"]);
    }

    #[test]
    fn each_round_begins_with_another_engine() {
        let engines = named(&["larder".to_owned(), "redb".to_owned()]).unwrap();
        let setup = Setup { dir: PathBuf::new(), engines, repeats: 2, threads: 1 };
        let mut turns = Vec::new();
        let samples = setup.rounds("none", |at, _| {
            turns.push(at);
            Ok(turns.len())
        });
        assert_eq!(samples.unwrap(), [[1, 4], [2, 3]]);
        assert_eq!(turns, [0, 1, 1, 0]);
    }
}
