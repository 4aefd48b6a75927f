//! Made-up loads, each with one habit of real ones, the same for the same seed.
//!
//! | kind | what | parameters |
//! |---|---|---|
//! | `zipf` | each request for an object drawn by popularity | `skew` |
//! | `uniform` | each object as likely as any other | |
//! | `loop` | all objects in order, over and over | |
//! | `scan` | `zipf`; after every `period` requests, `length` objects in order that come only once | `skew`, `period`, `length` |
//! | `one-hit` | `zipf`; a `share` of the requests is for objects that come only once | `skew`, `share` |
//! | `shifting` | `zipf`; every `period` requests, popularity moves on by `length` objects | `skew`, `period`, `length` |
//! | `bursts` | objects drawn as in `zipf` come `length` times on average while they are hot, several at a time | `skew`, `length` |
//! | `mix` | half `zipf`, and fifths of `loop` and `one-hit`, and a tenth of `bursts`, over objects of their own | `skew` |
//!
//! Popularity is Zipf's: the object of rank r is asked for in proportion to 1 / r^`skew`.
//! Object 0 is the most popular. Sizes are a function of the object: 1, or drawn from a
//! log-normal distribution.
//!
//! The generator is PCG-64 and the distributions are those of `rand_distr`: a seed gives the
//! same load as long as their versions stay.

use std::fmt;
use std::str::FromStr;

use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp1, LogNormal, Zipf};
use rand_pcg::Pcg64;

use crate::error::{Error, Result};
use crate::trace::{Access, SIZE_MAX};

/// Requests in a second of a made-up trace.
const RATE: u64 = 1000;
/// Objects that are hot at a time in `bursts`.
const HOT: usize = 64;
/// Where the objects of the parts of `mix` begin, and those that come once.
const APART: u64 = 1 << 40;

/// The habit of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// By popularity.
    Zipf,
    /// All alike.
    Uniform,
    /// In order, over and over.
    Loop,
    /// By popularity, interrupted by scans.
    Scan,
    /// By popularity, among many that come once.
    OneHit,
    /// By a popularity that moves on.
    Shifting,
    /// Often for a while, then no more.
    Bursts,
    /// Some of everything.
    Mix,
}

impl Kind {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Zipf,
        Self::Uniform,
        Self::Loop,
        Self::Scan,
        Self::OneHit,
        Self::Shifting,
        Self::Bursts,
        Self::Mix,
    ];

    /// The name, as it is parsed and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zipf => "zipf",
            Self::Uniform => "uniform",
            Self::Loop => "loop",
            Self::Scan => "scan",
            Self::OneHit => "one-hit",
            Self::Shifting => "shifting",
            Self::Bursts => "bursts",
            Self::Mix => "mix",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|kind| kind.name() == name);
        found.copied().ok_or_else(|| Error::Config {
            option: "kind",
            value: name.to_owned(),
            accepted: "give one of zipf, uniform, loop, scan, one-hit, shifting, bursts, mix",
        })
    }
}

/// How large objects are.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Sizes {
    /// All alike, in bytes.
    Constant(u32),
    /// Half of them below the median, in bytes; `sigma` is the deviation of the logarithm: at
    /// 1, two of three lie within a factor of e.
    LogNormal {
        /// The median.
        median: f64,
        /// The deviation.
        sigma: f64,
    },
}

/// A load to make up. [`Load::new`] has a value for everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// The habit.
    pub kind: Kind,
    /// Where chance begins.
    pub seed: u64,
    /// Requests.
    pub requests: u64,
    /// Objects, without those that come once.
    pub objects: u64,
    /// Exponent of the popularity: 0 makes all alike; most real loads have 0.6 to 1.2.
    pub skew: f64,
    /// Share of the requests that is for objects that come once, from 0 to 1.
    pub share: f64,
    /// Requests between two events.
    pub period: u64,
    /// Length of an event: objects, or requests for one object.
    pub length: u64,
    /// How large objects are.
    pub sizes: Sizes,
}

impl Load {
    /// A load with the usual parameters of its kind.
    #[must_use]
    pub fn new(kind: Kind, requests: u64, objects: u64) -> Self {
        let length = match kind {
            Kind::Bursts | Kind::Mix => 8,
            Kind::Scan => objects / 4,
            _ => objects / 10,
        };
        Self {
            kind,
            seed: 1,
            requests,
            objects,
            skew: 0.9,
            share: 0.3,
            period: (requests / 20).max(1),
            length: length.max(1),
            sizes: Sizes::Constant(1),
        }
    }

    /// The requests, one after the other, in little memory. `next` of each is unknown.
    ///
    /// ```
    /// use larder_lab::generate::{Kind, Load};
    /// let ids = |seed| -> Vec<u64> {
    ///     let load = Load { seed, ..Load::new(Kind::Zipf, 1_000, 100) };
    ///     load.accesses().unwrap().map(|access| access.id).collect()
    /// };
    /// assert_eq!(ids(7), ids(7));
    /// assert_ne!(ids(7), ids(8));
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`]: a parameter is out of range.
    pub fn accesses(&self) -> Result<impl Iterator<Item = Access> + use<>> {
        let load = self.clone();
        self.check()?;
        let mut source = Source::new(&load)?;
        let sizes = Sizing::new(&load)?;
        Ok((0..load.requests).map(move |at| {
            let id = source.next(at);
            let time = u32::try_from(at / RATE).unwrap_or(u32::MAX);
            Access { time, ..Access::new(id, sizes.of(id)) }
        }))
    }

    fn check(&self) -> Result<()> {
        let refuse =
            |option, value: String, accepted| Err(Error::Config { option, value, accepted });
        if !(1..APART).contains(&self.objects) {
            return refuse("objects", self.objects.to_string(), "from 1 to 2^40");
        }
        if !(0.0..=10.0).contains(&self.skew) {
            return refuse("skew", self.skew.to_string(), "from 0 to 10");
        }
        if !(0.0..=1.0).contains(&self.share) {
            return refuse("share", self.share.to_string(), "from 0 to 1");
        }
        if self.period == 0 || !(1..APART).contains(&self.length) {
            return refuse("period or length", "0".to_owned(), "1 or more");
        }
        Ok(())
    }
}

/// Where requests come from.
struct Source {
    load: Load,
    random: Pcg64,
    popularity: Zipf<f64>,
    /// The next object that comes only once.
    fresh: u64,
    /// What is left of a scan.
    scanning: u64,
    /// Requests since the last scan.
    calm: u64,
    /// Objects that are hot, and how often they come yet.
    hot: Vec<(u64, u64)>,
    looped: u64,
}

impl Source {
    fn new(load: &Load) -> Result<Self> {
        // Zipf's distribution refuses nothing that `check` has let pass.
        let popularity = Zipf::new(load.objects as f64, load.skew).map_err(|_| Error::Config {
            option: "skew",
            value: load.skew.to_string(),
            accepted: "from 0 to 10",
        })?;
        let random = Pcg64::seed_from_u64(load.seed);
        Ok(Self {
            load: load.clone(),
            random,
            popularity,
            fresh: APART,
            scanning: 0,
            calm: 0,
            hot: Vec::new(),
            looped: 0,
        })
    }

    fn next(&mut self, at: u64) -> u64 {
        match self.load.kind {
            Kind::Zipf => self.popular(),
            Kind::Uniform => self.random.random_range(0..self.load.objects),
            Kind::Loop => self.in_order(self.load.objects),
            Kind::Scan => self.scan(),
            Kind::OneHit => self.among_once(self.load.share),
            Kind::Shifting => {
                let moved = (at / self.load.period).wrapping_mul(self.load.length);
                (self.popular() + moved % self.load.objects) % self.load.objects
            }
            Kind::Bursts => self.burst(),
            Kind::Mix => match self.random.random_range(0..10) {
                0..5 => self.popular(),
                5 | 6 => 2 * APART + self.in_order((self.load.objects / 4).max(1)),
                7 | 8 => self.once(),
                _ => 3 * APART + self.burst(),
            },
        }
    }

    /// An object by its popularity.
    fn popular(&mut self) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
        #[expect(clippy::cast_sign_loss, reason = "ranks begin at 1")]
        let rank = self.popularity.sample(&mut self.random) as u64;
        rank.clamp(1, self.load.objects) - 1
    }

    /// One that was never asked for, and never will be again.
    fn once(&mut self) -> u64 {
        self.fresh += 1;
        self.fresh - 1
    }

    fn scan(&mut self) -> u64 {
        if self.calm == self.load.period {
            (self.calm, self.scanning) = (0, self.load.length);
        }
        match self.scanning.checked_sub(1) {
            Some(left) => {
                self.scanning = left;
                self.once()
            }
            None => {
                self.calm += 1;
                self.popular()
            }
        }
    }

    fn among_once(&mut self, share: f64) -> u64 {
        if self.random.random_bool(share) { self.once() } else { self.popular() }
    }

    fn in_order(&mut self, objects: u64) -> u64 {
        let id = self.looped;
        self.looped = (id + 1) % objects;
        id
    }

    /// One of those that are hot; when it has come often enough, another takes its place.
    fn burst(&mut self) -> u64 {
        while self.hot.len() < HOT {
            let next = self.ignite();
            self.hot.push(next);
        }
        let at = self.random.random_range(0..HOT);
        let (id, left) = self.hot[at];
        self.hot[at] = if left > 1 { (id, left - 1) } else { self.ignite() };
        id
    }

    /// An object, and how often it will come: at least once, `length` times on average.
    fn ignite(&mut self) -> (u64, u64) {
        let more: f64 = Exp1.sample(&mut self.random);
        #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
        #[expect(clippy::cast_sign_loss, reason = "nothing here is negative")]
        let times = (more * (self.load.length - 1) as f64).round() as u64 + 1;
        (self.popular(), times)
    }
}

/// The size of each object.
struct Sizing {
    seed: u64,
    sizes: Sizes,
    normal: LogNormal<f64>,
}

impl Sizing {
    fn new(load: &Load) -> Result<Self> {
        let refuse = |value: String| Error::Config {
            option: "sizes",
            value,
            accepted: "a size from 1 byte to 1 GiB, and a deviation from 0 to 10",
        };
        let (median, sigma) = match load.sizes {
            Sizes::Constant(size) => (f64::from(size), 0.0),
            Sizes::LogNormal { median, sigma } => (median, sigma),
        };
        if !(1.0..=f64::from(SIZE_MAX)).contains(&median) || !(0.0..=10.0).contains(&sigma) {
            return Err(refuse(format!("{median} with a deviation of {sigma}")));
        }
        let normal =
            LogNormal::new(median.ln(), sigma).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { seed: load.seed, sizes: load.sizes, normal })
    }

    fn of(&self, id: u64) -> u32 {
        match self.sizes {
            Sizes::Constant(size) => size,
            Sizes::LogNormal { .. } => {
                let mut random =
                    Pcg64::seed_from_u64(self.seed ^ id.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                // The first words of neighbouring seeds are alike.
                random.next_u64();
                let size = self.normal.sample(&mut random);
                #[expect(clippy::cast_possible_truncation, reason = "within the bounds")]
                #[expect(clippy::cast_sign_loss, reason = "within the bounds")]
                let size = size.round().clamp(1.0, f64::from(SIZE_MAX)) as u32;
                size
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn made(load: &Load) -> Vec<Access> {
        load.accesses().unwrap().collect()
    }

    fn counts(load: &Load) -> HashMap<u64, u64> {
        let mut counts = HashMap::new();
        made(load).iter().for_each(|access| *counts.entry(access.id).or_default() += 1);
        counts
    }

    #[test]
    fn a_seed_gives_one_load_and_another_seed_another() {
        for &kind in Kind::ALL {
            let load = Load::new(kind, 5_000, 300);
            let first = made(&load);
            assert_eq!(first.len(), 5_000);
            assert_eq!(first, made(&load), "{kind}");
            let other = made(&Load { seed: 2, ..load });
            assert!(kind == Kind::Loop || first != other, "{kind}");
        }
    }

    #[test]
    fn loads_are_the_same_as_ever() {
        // If this fails, seeds that users have noted give other loads from now on: say so.
        let ids = |kind| -> Vec<u64> {
            made(&Load::new(kind, 8, 1000)).iter().map(|access| access.id).collect()
        };
        assert_eq!(ids(Kind::Loop), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(ids(Kind::Zipf), [398, 531, 2, 59, 0, 174, 16, 103]);
    }

    #[test]
    fn popularity_falls_as_zipf_says() {
        let load = Load { skew: 1.0, ..Load::new(Kind::Zipf, 200_000, 1_000) };
        let counts = counts(&load);
        let harmonic: f64 = (1..=1000).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1, 2, 5, 20, 100] {
            let expected = 200_000.0 / harmonic / rank as f64;
            let found = counts[&(rank - 1)] as f64;
            assert!((found - expected).abs() < 5.0 * expected.sqrt(), "{rank}: {found} {expected}");
        }
        assert!(counts.keys().all(|&id| id < 1000));
    }

    #[test]
    fn each_kind_has_its_habit() {
        let of = |kind| counts(&Load::new(kind, 20_000, 500));
        let once = |counts: &HashMap<u64, u64>| {
            counts
                .iter()
                .filter(|&(&id, _)| id >= APART)
                .inspect(|(_, n)| assert_eq!(**n, 1))
                .count()
        };
        assert!(of(Kind::Loop).values().all(|&times| times == 40));
        assert!(of(Kind::Uniform).values().all(|&times| (10..90).contains(&times)));
        assert_eq!(once(&of(Kind::Scan)), 17 * 125, "in 17 rounds of 1,000 and 125");
        assert!((5_500..6_500).contains(&once(&of(Kind::OneHit))));
        let shifting = made(&Load::new(Kind::Shifting, 20_000, 500));
        let most = |part: &[Access]| {
            let mut counts = [0; 500];
            part.iter().for_each(|access| counts[usize::try_from(access.id).unwrap()] += 1);
            counts.iter().enumerate().max_by_key(|&(_, times)| times).unwrap().0
        };
        assert_eq!((most(&shifting[..1000]), most(&shifting[1000..2000])), (0, 50));
        let bursts = Load { skew: 0.0, ..Load::new(Kind::Bursts, 20_000, 100_000) };
        let drawn = counts(&bursts).len();
        assert!((2_200..2_900).contains(&drawn), "20,000 requests in bursts of 8: {drawn}");
        assert!(of(Kind::Mix).keys().any(|&id| id >= 3 * APART));
    }

    #[test]
    fn sizes_belong_to_objects_and_spread_around_their_median() {
        let sizes = Sizes::LogNormal { median: 4096.0, sigma: 1.0 };
        let load = Load { sizes, ..Load::new(Kind::Uniform, 20_000, 2_000) };
        let mut size_of = HashMap::new();
        for access in made(&load) {
            assert_eq!(*size_of.entry(access.id).or_insert(access.size), access.size);
        }
        let below = size_of.values().filter(|&&size| size < 4096).count();
        assert!((900..1100).contains(&below), "{below}");
        let near = size_of.values().filter(|&&size| (1507..11_134).contains(&size)).count();
        assert!((1290..1440).contains(&near), "{near}");
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        let load = Load::new(Kind::Zipf, 10, 10);
        for bad in [
            Load { objects: 0, ..load.clone() },
            Load { skew: -1.0, ..load.clone() },
            Load { skew: f64::NAN, ..load.clone() },
            Load { share: 1.5, ..load.clone() },
            Load { period: 0, ..load.clone() },
            Load { length: 0, ..load.clone() },
            Load { sizes: Sizes::Constant(0), ..load.clone() },
            Load { sizes: Sizes::LogNormal { median: 10.0, sigma: -1.0 }, ..load.clone() },
        ] {
            assert!(bad.accesses().is_err(), "{bad:?}");
        }
        assert_eq!(Load { requests: 0, ..load }.accesses().unwrap().count(), 0);
    }
}
