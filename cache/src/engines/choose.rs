//! Which engine fits what is needed: one table, looked through from the top.

use std::fmt;
use std::sync::Arc;

use super::{EngineSettings, Engines, Unavailable};
use crate::error::{Error, Result};

/// What values have to outlive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Survives {
    /// Nothing: they may be gone when the process is.
    #[default]
    Nothing,
    /// The death of the process.
    Process,
    /// The loss of power, too.
    Power,
}

/// Who has to find what was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Sharing {
    /// The threads of one process.
    #[default]
    Threads,
    /// Several processes of one machine.
    Processes,
    /// Several machines.
    Machines,
}

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Kind {
    /// Whatever a codec makes bytes of.
    #[default]
    Encoded,
    /// Bytes as they are, or arrays: looked at where they lie, without a copy.
    InPlace,
    /// Handles, closures and the like, which mean nothing outside this process.
    Opaque,
}

/// What is asked of an engine, for one to be [chosen](Engines::choose).
///
/// ```
/// use larder::{EngineSettings, Engines, Needs, Survives};
///
/// let settings = EngineSettings::new().dir("/var/cache/pages");
/// let needs = Needs::new().value_bytes(4 << 10).survives(Survives::Process);
/// let choice = Engines::default().choose(&needs, &settings)?;
/// assert_eq!(choice.engine(), "two-level");
/// assert_eq!(choice.chain(), ["two-level", "memory"]);
/// assert!(choice.why().contains("outlive"));
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    value_bytes: u64,
    total_bytes: Option<u64>,
    survives: Survives,
    sharing: Sharing,
    kind: Kind,
}

impl Needs {
    /// Nothing in particular.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a value takes, as a rule.
    #[must_use]
    pub const fn value_bytes(mut self, bytes: u64) -> Self {
        self.value_bytes = bytes;
        self
    }

    /// What all values take that are worth keeping; 0 if nothing is to be kept.
    #[must_use]
    pub const fn total_bytes(mut self, bytes: u64) -> Self {
        self.total_bytes = Some(bytes);
        self
    }

    /// What values have to outlive.
    #[must_use]
    pub const fn survives(mut self, survives: Survives) -> Self {
        self.survives = survives;
        self
    }

    /// Who has to find them.
    #[must_use]
    pub const fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// What they are.
    #[must_use]
    pub const fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
}

/// Values from this size on are not worth a copy in memory beside the mapped file.
const LARGE: u64 = 256 << 10;

/// A row of the table.
pub(super) struct Row {
    applies: fn(&Needs, &EngineSettings) -> bool,
    /// In the order in which they are tried; `None` for those registered that can share so far.
    engines: &'static [&'static str],
    why: &'static str,
}

/// The first row that applies decides. `docs/guide/choosing-an-engine.md` has the same table.
pub(super) const ROWS: &[Row] = &[
    Row {
        applies: |needs, _| needs.total_bytes == Some(0),
        engines: &["null"],
        why: "nothing is to be kept",
    },
    Row {
        applies: |needs, _| needs.sharing == Sharing::Machines,
        engines: &[],
        why: "several machines have to find the values",
    },
    Row {
        applies: |needs, _| needs.kind == Kind::Opaque,
        engines: &["memory"],
        why: "the values mean nothing outside this process",
    },
    Row {
        applies: |needs, _| needs.sharing == Sharing::Processes,
        engines: &["disk", "memory"],
        why: "several processes have to find the values, and the memory of one does not hear of \
              what another changes",
    },
    Row {
        applies: |needs, _| needs.survives != Survives::Nothing && needs.kind == Kind::InPlace,
        engines: &["disk", "memory"],
        why: "the values have to outlive the process, and are looked at in the mapped file: the \
              page cache is their memory",
    },
    Row {
        applies: |needs, _| needs.survives != Survives::Nothing && needs.value_bytes >= LARGE,
        engines: &["disk", "memory"],
        why: "the values have to outlive the process, and are too large to be worth a second copy \
              in memory",
    },
    Row {
        applies: |needs, _| needs.survives != Survives::Nothing,
        engines: &["two-level", "memory"],
        why: "the values have to outlive the process, and are small enough to be kept in memory, \
              too",
    },
    Row {
        applies: |needs, settings| {
            settings.dir.is_some() && needs.total_bytes.is_some_and(|total| total > settings.memory)
        },
        engines: &["two-level", "memory"],
        why: "the values worth keeping are more than memory may hold, and there is a directory",
    },
    Row {
        applies: |_, _| true,
        engines: &["memory"],
        why: "nothing asks for more, and nothing is faster",
    },
];

/// Which engine was chosen, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    chain: Vec<Arc<str>>,
    why: &'static str,
    row: Option<usize>,
    passed_over: Vec<(Arc<str>, Unavailable)>,
}

impl Choice {
    /// The engine that is to serve.
    #[must_use]
    pub fn engine(&self) -> &str {
        self.chain.first().map_or("", |name| name)
    }

    /// It, and those that serve while those before them cannot.
    #[must_use]
    pub fn chain(&self) -> Vec<&str> {
        self.chain.iter().map(|name| &**name).collect()
    }

    /// What decided.
    #[must_use]
    pub const fn why(&self) -> &str {
        self.why
    }

    /// The row of the table that decided, from 1; `None` if the names were given.
    #[must_use]
    pub const fn row(&self) -> Option<usize> {
        self.row
    }

    /// Engines that would have been better, and why they cannot be used.
    #[must_use]
    pub fn passed_over(&self) -> &[(Arc<str>, Unavailable)] {
        &self.passed_over
    }

    /// Of names that somebody gave.
    pub(super) fn given(chain: Vec<Arc<str>>) -> Self {
        Self { chain, why: "it was named", row: None, passed_over: Vec::new() }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.chain().join(", then "), self.why)?;
        for (engine, why) in &self.passed_over {
            write!(out, "; not {engine}: {why}")?;
        }
        Ok(())
    }
}

impl Engines {
    /// The engine that fits best, those that serve while it cannot, and why. Opens nothing: what can
    /// be seen from the settings alone is looked at; [`available`](Self::available) tries them.
    ///
    /// The first row that applies decides:
    ///
    /// | | if | engines |
    /// |--:|---|---|
    /// | 1 | nothing is to be kept (`total_bytes` is 0) | `null` |
    /// | 2 | several machines share the values | the first one registered that lets them |
    /// | 3 | values are opaque | `memory` |
    /// | 4 | several processes share the values | `disk`, `memory` |
    /// | 5 | they have to outlive the process, and are looked at in place | `disk`, `memory` |
    /// | 6 | they have to outlive the process, and have 256 KiB or more | `disk`, `memory` |
    /// | 7 | they have to outlive the process | `two-level`, `memory` |
    /// | 8 | all are more than memory may hold, and there is a directory | `two-level`, `memory` |
    /// | 9 | always | `memory` |
    ///
    /// # Errors
    /// [`Error::Config`] if no engine can do what is needed.
    pub fn choose(&self, needs: &Needs, settings: &EngineSettings) -> Result<Choice> {
        let is_bound = needs.survives != Survives::Nothing || needs.sharing != Sharing::Threads;
        if needs.kind == Kind::Opaque && is_bound {
            let accepted = "opaque values stay in one process: leave out what they are to outlive, \
                            and who is to share them";
            let value = format!("{needs:?}");
            return Err(Error::Config { option: "needs", value, accepted });
        }
        // The last row applies always.
        let decisive = ROWS.iter().position(|row| (row.applies)(needs, settings)).unwrap_or(0);
        let row = &ROWS[decisive];
        let mut chain: Vec<Arc<str>> = row.engines.iter().map(|name| Arc::from(*name)).collect();
        if row.engines.is_empty() {
            let Some(shared) = self.shared_by(needs.sharing) else {
                let accepted = "no engine is shared by several machines: register one";
                let value = format!("{:?}", needs.sharing);
                return Err(Error::Config { option: "needs", value, accepted });
            };
            chain.extend([shared, Arc::from("memory")]);
        }
        let mut passed_over = Vec::new();
        chain.retain(|name| match self.unfit(name, settings) {
            None => true,
            Some(why) => {
                passed_over.push((Arc::clone(name), why));
                false
            }
        });
        Ok(Choice { chain, why: row.why, row: Some(decisive + 1), passed_over })
    }
}
