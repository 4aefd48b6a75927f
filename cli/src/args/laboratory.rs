//! What can be typed to the commands of the laboratory.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use larder_lab::Policy;
use larder_lab::generate::Kind;

use super::threads;
use crate::reading::Reading;
use crate::size::Size;

/// Simulate caches over traces, to compare policies
///
/// Nothing is stored: a cache is only its keys, and a miss inserts. All caches run side by side
/// over one pass of the trace. Before it, one more pass counts the objects if some capacity is a
/// share of them, and, where the trace does not say when objects are asked for again, links them
/// for the policies that know the future; these are a floor that no cache can reach.
#[derive(Debug, clap::Args)]
pub(crate) struct Simulate {
    /// The traces, plain or compressed by zstd
    #[arg(required = true)]
    pub(crate) traces: Vec<PathBuf>,
    /// Policies, parted by commas; all for each of them
    #[arg(long, default_value = "all", value_delimiter = ',', value_parser = policy())]
    pub(crate) policy: Vec<PolicyName>,
    /// Capacities, parted by commas: a share of all objects' bytes, or of their number where
    /// each counts 1 (0.01, 1%); a number of bytes, or of objects where each counts 1 (5000);
    /// or a size (64MiB)
    #[arg(long, default_value = "0.001,0.01,0.1", value_delimiter = ',')]
    pub(crate) capacity: Vec<Asked>,
    /// Each object counts 1, whatever its size
    #[arg(long)]
    pub(crate) ignore_size: bool,
    #[command(flatten)]
    pub(crate) reading: Reading,
    /// Stop after this many requests
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Threads that simulate [default: one per processor]
    #[arg(long, value_parser = threads)]
    pub(crate) threads: Option<usize>,
    /// Directory for the temporary file that links requests, 8 bytes each [default: the system's]
    #[arg(long, value_name = "DIR")]
    pub(crate) temp: Option<PathBuf>,
    /// Draw miss ratio against capacity to FILE, which ends in .svg or .png; of several traces,
    /// each to a file of its own, whose name ends in that of the trace
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Print comma-separated lines
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Estimate the miss ratio at every capacity from a sample
///
/// For LRU by spatial sampling (SHARDS) in one pass, in memory that depends on the sample alone.
/// For other policies by miniature simulation, in a second pass: a small cache for the sampled
/// objects stands for a large one for all. Bounds hold with about 99 % certainty: they come from
/// the spread of 16 parts of the sample, and from how far sampled distances may be off.
#[derive(Debug, clap::Args)]
pub(crate) struct Mrc {
    /// The trace, plain or compressed by zstd
    pub(crate) trace: PathBuf,
    /// Sample this share of the objects
    #[arg(long, conflicts_with = "samples")]
    pub(crate) rate: Option<f64>,
    /// Sample up to this many objects
    #[arg(long, value_name = "N", default_value_t = 8192)]
    pub(crate) samples: usize,
    /// Policies, parted by commas; all for each of them
    #[arg(long, default_value = "lru", value_delimiter = ',', value_parser = online())]
    pub(crate) policy: Vec<PolicyName>,
    /// Capacities, as for simulate, of what the sample says of the whole [default: 24 at equal
    /// ratios, up to where everything fits]
    #[arg(long, value_delimiter = ',')]
    pub(crate) capacity: Vec<Asked>,
    /// Each object counts 1, whatever its size
    #[arg(long)]
    pub(crate) ignore_size: bool,
    #[command(flatten)]
    pub(crate) reading: Reading,
    /// Stop after this many requests
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Draw miss ratio against capacity to FILE, which ends in .svg or .png
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Make up a trace
///
/// The same options give the same trace. Objects are asked for by popularity: that of rank r in
/// proportion to 1 / r^skew. On top of that,
/// `scan` reads LENGTH objects in order that come only once, after every PERIOD requests;
/// `one-hit` asks for objects that come only once, with a SHARE of its requests;
/// `shifting` moves popularity on by LENGTH objects, every PERIOD requests;
/// `bursts` asks for an object LENGTH times on average while it is hot, for 64 at a time;
/// `mix` is half zipf, and fifths of loop and one-hit, and a tenth of bursts.
/// `uniform` and `loop` know no popularity.
#[derive(Debug, clap::Args)]
pub(crate) struct Generate {
    /// The habit of the load
    #[arg(long, value_parser = kind())]
    pub(crate) kind: Kind,
    /// The trace, which ends in .oracleGeneral or .csv, and perhaps in .zst after that
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Where chance begins
    #[arg(long, default_value = "1")]
    pub(crate) seed: u64,
    /// Number of requests
    #[arg(long, value_name = "N", default_value = "1000000")]
    pub(crate) requests: u64,
    /// Number of objects, without those that come once
    #[arg(long, value_name = "N", default_value = "100000")]
    pub(crate) objects: u64,
    /// Exponent of the popularity; 0 makes all objects alike
    #[arg(long, default_value = "0.9")]
    pub(crate) skew: f64,
    /// Share of the requests that is for objects that come once
    #[arg(long, default_value = "0.3")]
    pub(crate) share: f64,
    /// Requests between two events [default: a twentieth of all]
    #[arg(long, value_name = "N")]
    pub(crate) period: Option<u64>,
    /// Length of an event [default: a quarter of the objects for scan, a tenth for shifting, 8 for
    /// bursts and mix]
    #[arg(long, value_name = "N")]
    pub(crate) length: Option<u64>,
    /// Size of the objects, or its median
    #[arg(long, default_value = "1")]
    pub(crate) size: Size,
    /// Draw sizes from a log-normal distribution with this deviation of the logarithm
    #[arg(long, value_name = "SIGMA")]
    pub(crate) size_sigma: Option<f64>,
}

/// A policy by its name, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyName {
    All,
    One(Policy),
}

impl PolicyName {
    /// The policies that are named, each once, in their order; `fit` may leave some out of all.
    pub(crate) fn expand(names: &[Self], fit: impl Fn(Policy) -> bool) -> Vec<Policy> {
        let mut policies = Vec::new();
        for &name in names {
            let all = Policy::all().filter(|&policy| name == Self::All && fit(policy));
            let one = if let Self::One(policy) = name { Some(policy) } else { None };
            for policy in all.chain(one) {
                if !policies.contains(&policy) {
                    policies.push(policy);
                }
            }
        }
        policies
    }
}

fn policy() -> impl clap::builder::TypedValueParser<Value = PolicyName> {
    named(Policy::all())
}

/// Policies that a cache can have.
fn online() -> impl clap::builder::TypedValueParser<Value = PolicyName> {
    named(Policy::all().filter(|policy| !policy.looks_ahead()))
}

fn named(
    policies: impl Iterator<Item = Policy>,
) -> impl clap::builder::TypedValueParser<Value = PolicyName> {
    let names = ["all"].into_iter().chain(policies.map(Policy::name));
    PossibleValuesParser::new(names).try_map(|name| match name.as_str() {
        "all" => Ok(PolicyName::All),
        name => name.parse().map(PolicyName::One),
    })
}

fn kind() -> impl clap::builder::TypedValueParser<Value = Kind> {
    let names = Kind::ALL.iter().map(|kind| kind.name());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Kind>())
}

/// A capacity, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Asked {
    /// A share of everything.
    Share(f64),
    /// Bytes, or objects where each counts 1.
    Units(u64),
    /// Bytes.
    Bytes(u64),
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let share = |number: &str, whole: f64| match number.trim().parse::<f64>() {
            Ok(number) if number > 0.0 && number <= whole => Ok(Self::Share(number / whole)),
            _ => Err("a share lies above 0, and is at most 1 or 100%".to_owned()),
        };
        if let Some(percent) = text.strip_suffix('%') {
            return share(percent, 100.0);
        }
        if let Ok(units) = text.parse() {
            return if units == 0 {
                Err("must be 1 or more".to_owned())
            } else {
                Ok(Self::Units(units))
            };
        }
        if text.parse::<f64>().is_ok() {
            return share(text, 1.0);
        }
        match text.parse::<Size>() {
            Ok(Size(bytes)) if bytes > 0 => Ok(Self::Bytes(bytes)),
            _ => Err("write a share (0.01, 1%), a number (5000) or a size (64MiB)".to_owned()),
        }
    }
}

impl Asked {
    /// What it comes to, where all objects together are `whole`: rounded down, but at least 1.
    pub(crate) fn of(self, whole: u64) -> u64 {
        match self {
            Self::Units(units) | Self::Bytes(units) => units,
            Self::Share(share) => {
                #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
                #[expect(clippy::cast_sign_loss, reason = "no share is negative")]
                let part = (share * whole as f64).floor() as u64;
                part.max(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_read_as_people_write_them() {
        for (text, asked) in [
            ("0.001", Asked::Share(0.001)),
            ("1.0", Asked::Share(1.0)),
            ("5%", Asked::Share(0.05)),
            ("1", Asked::Units(1)),
            ("5000", Asked::Units(5000)),
            ("64MiB", Asked::Bytes(64 << 20)),
        ] {
            assert_eq!(text.parse(), Ok(asked), "{text}");
        }
        for text in ["0", "0.0", "1.1", "-5", "101%", "lots", "", "nan", "0MiB"] {
            assert!(text.parse::<Asked>().is_err(), "{text}");
        }
        assert_eq!(Asked::Share(0.001).of(35_070), 35);
        assert_eq!(Asked::Share(0.001).of(10), 1);
    }
}
