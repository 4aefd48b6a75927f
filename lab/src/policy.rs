//! Everything that can be simulated under one name: policies that a cache can have, and the
//! optima that know the future.

use std::fmt;
use std::str::FromStr;

use larder_engine::memory::PolicyKind;
use larder_engine::memory::simulate::offline::{Foresight, Oracle};
use larder_engine::memory::simulate::{Simulate, Tally};

use crate::error::{Error, Result};
use crate::run::Chunk;

/// What leaves when room is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// A policy of the memory tier.
    Online(PolicyKind),
    /// One that knows the future.
    Offline(Oracle),
}

impl Policy {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let online = PolicyKind::ALL.iter().copied().map(Self::Online);
        online.chain(Oracle::ALL.iter().copied().map(Self::Offline))
    }

    /// The name, as it is parsed and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Online(kind) => kind.name(),
            Self::Offline(oracle) => oracle.name(),
        }
    }

    /// Whether it has to know when objects are asked for again.
    #[must_use]
    pub fn looks_ahead(self) -> bool {
        matches!(self, Self::Offline(_))
    }

    pub(crate) fn cache(self, capacity: u64) -> Cache {
        match self {
            Self::Online(kind) => Cache::Online(kind.simulate(capacity)),
            Self::Offline(oracle) => Cache::Offline(oracle.foresee(capacity)),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::all().find(|policy| policy.name() == name).ok_or_else(|| Error::Config {
            option: "policy",
            value: name.to_owned(),
            accepted: "give names that `larder simulate --help` lists, or all",
        })
    }
}

/// A simulated cache.
pub(crate) enum Cache {
    Online(Box<dyn Simulate>),
    Offline(Foresight),
}

impl Cache {
    pub(crate) fn run(&mut self, chunk: &Chunk, tally: &mut Tally) {
        match self {
            Self::Online(cache) => cache.run(&chunk.requests, tally),
            Self::Offline(cache) => cache.run(&chunk.requests, &chunk.nexts, tally),
        }
    }
}
