//! Samples against the whole: what is estimated of a load, and what is true of it.

use super::{Advisor, Request, Sample, Shards, Tally, mix};
use crate::memory::policy::PolicyKind;

const CAPACITIES: [u64; 5] = [100, 1_000, 5_000, 10_000, 30_000];

/// Loads of 60,000 requests for up to 40,000 keys, with their names.
fn loads() -> Vec<(&'static str, Vec<Request>)> {
    let unit = |at: u64| (mix(at) >> 11) as f64 / (1_u64 << 53) as f64;
    // Popularity falls with the rank: the integral of a power law, turned around.
    #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
    let skewed = |at: u64, keys: f64, power: f64| (unit(at).powf(power) * keys) as u64;
    let load = |which: u64, of: &dyn Fn(u64) -> u64| {
        // No two loads share a key: their samples are independent.
        (0..60_000).map(|at| Request::new(which << 50 | of(at))).collect::<Vec<_>>()
    };
    let weigh = |next: Request| next.weighing(1 + mix(next.key) % 7);
    vec![
        ("skewed", load(1, &|at| skewed(at, 40_000.0, 4.0))),
        ("even", load(2, &|at| skewed(at, 15_000.0, 1.0))),
        ("loop", load(3, &|at| at % 7_000)),
        (
            "scans",
            load(4, &|at| if at % 3 == 0 { 1 << 40 | at } else { skewed(at, 20_000.0, 3.0) }),
        ),
        ("hot", load(7, &|at| if at % 3 == 0 { at % 6 / 3 } else { 2 + at / 6 })),
        ("recent", load(5, &|at| (at - skewed(at, 5_000.0, 2.0).min(at)) / 5)),
        ("weighted", load(6, &|at| skewed(at, 20_000.0, 3.0)).into_iter().map(weigh).collect()),
    ]
}

fn exact(kind: PolicyKind, capacity: u64, load: &[Request]) -> f64 {
    let mut tally = Tally::default();
    kind.simulate(capacity).run(load, &mut tally);
    1.0 - tally.hit_ratio()
}

#[test]
fn a_sample_of_everything_is_exact_at_every_capacity() {
    for (name, load) in loads().into_iter().filter(|(name, _)| *name != "weighted") {
        let load = &load[..30_000];
        let mut shards = Shards::fixed_rate(1.0).unwrap();
        load.iter().for_each(|request| assert!(shards.request(request)));
        let curve = shards.curve();
        // Distances below 64 have buckets of their own; above, the ends of buckets are exact.
        for capacity in (1..63).step_by(9).chain(curve.capacities().skip(64).step_by(90)) {
            let (estimate, exact) = (curve.at(capacity), exact(PolicyKind::Lru, capacity, load));
            assert!(
                (estimate.miss_ratio - exact).abs() < 1e-9,
                "{name} {capacity}: {estimate:?} {exact}"
            );
            assert_eq!((estimate.low, estimate.high), (estimate.miss_ratio, estimate.miss_ratio));
        }
        // Inside of a bucket, the bound is the bucket.
        for capacity in [333, 4_000] {
            let (found, exact) = (curve.at(capacity), exact(PolicyKind::Lru, capacity, load));
            let slack = 1e-9;
            assert!(found.low - slack <= exact && exact <= found.high + slack, "{name}: {found:?}");
        }
    }
}

#[test]
fn the_exact_miss_ratio_of_lru_lies_within_the_bound() {
    let (mut outside, mut all) = (Vec::new(), 0);
    let mut errors = 0.0;
    for (name, load) in loads() {
        let exact = CAPACITIES.map(|capacity| exact(PolicyKind::Lru, capacity, &load));
        let samplers = [
            Shards::fixed_rate(0.02).unwrap(),
            Shards::fixed_rate(0.1).unwrap(),
            Shards::fixed_size(256).unwrap(),
            Shards::fixed_size(2_048).unwrap(),
        ];
        for (which, mut shards) in samplers.into_iter().enumerate() {
            for request in &load {
                shards.request(request);
            }
            let curve = shards.curve();
            for (capacity, exact) in CAPACITIES.into_iter().zip(exact) {
                let found = curve.at(capacity);
                all += 1;
                errors += (found.miss_ratio - exact).abs();
                if !(found.low..=found.high).contains(&exact) {
                    outside.push(format!("{name}, sampler {which}, {capacity}: {exact} {found:?}"));
                }
            }
        }
    }
    assert!(outside.len() * 100 <= all, "more than 1 % of {all} outside: {outside:#?}");
    let mean = errors / all as f64;
    assert!(mean < 0.02, "mean absolute error {mean}");
}

#[test]
fn the_bound_is_narrow_where_the_sample_is_large() {
    let load = &loads()[0].1;
    let width = |samples| -> f64 {
        let mut shards = Shards::fixed_size(samples).unwrap();
        load.iter().for_each(|request| _ = shards.request(request));
        let found = shards.curve().at(5_000);
        found.high - found.low
    };
    let (few, many) = (width(256), width(8_192));
    assert!(many < 0.06 && many < few / 2.0, "{few} {many}");
}

#[test]
fn a_fixed_size_is_kept() {
    let mut shards = Shards::fixed_size(500).unwrap();
    for key in 0..200_000 {
        shards.request(&Request::new(key));
    }
    let keys = shards.keys();
    assert!((180_000..220_000).contains(&keys), "{keys}");
    assert!(shards.sample().rate() < 0.004, "{}", shards.sample().rate());
    assert!(shards.allocated_bytes() < 400 << 10, "{}", shards.allocated_bytes());
    assert_eq!(shards.requests(), 200_000);
}

#[test]
fn miniatures_tell_what_a_policy_would_do() {
    let policies = [PolicyKind::Fifo, PolicyKind::S3Fifo, PolicyKind::Arc];
    let (mut outside, mut all) = (Vec::new(), 0);
    for (name, load) in loads() {
        let capacities = [500, 1_000, 2_000, 4_000, 8_000, 16_000];
        let mut advisor = Advisor::over(0.05, &capacities, &policies).unwrap();
        let sample = advisor.sample();
        load.iter().filter(|next| sample.has(next.key)).for_each(|next| advisor.record(next));
        advisor.count(load.len() as u64);
        for kind in policies {
            for capacity in [2_000, 8_000] {
                let found = advisor.at(kind, capacity).unwrap();
                let exact = exact(kind, capacity, &load);
                all += 1;
                if !(found.low..=found.high).contains(&exact) {
                    outside.push(format!("{name}, {kind}, {capacity}: {exact} {found:?}"));
                }
            }
        }
    }
    assert!(outside.len() * 20 <= all, "more than 5 % of {all} outside: {outside:#?}");
}

#[test]
fn a_cache_that_counts_late_or_not_at_all_is_advised_as_well() {
    let load = &loads()[1].1;
    let mut advisor = Advisor::new(0.05, 8_000, &[PolicyKind::Fifo]).unwrap();
    let sample = advisor.sample();
    load.iter().filter(|next| sample.has(next.key)).for_each(|next| advisor.record(next));
    let uncounted = advisor.at(PolicyKind::Fifo, 8_000).unwrap().miss_ratio;
    advisor.count(load.len() as u64);
    let counted = advisor.at(PolicyKind::Fifo, 8_000).unwrap().miss_ratio;
    assert!((uncounted - counted).abs() < 0.05, "{uncounted} {counted}");
    assert_eq!(advisor.at(PolicyKind::S3Fifo, 8_000), None, "not tried");
    assert_eq!(advisor.at(PolicyKind::Fifo, 80_000), None, "beyond what is tried");
}

#[test]
fn a_new_start_says_how_a_warm_cache_does() {
    let mut advisor = Advisor::new(0.2, 4_000, &[PolicyKind::S3Fifo]).unwrap();
    let sample = advisor.sample();
    for round in 0..2 {
        for key in (0..3_000).filter(|&key| sample.has(key)) {
            advisor.record(&Request::new(key));
        }
        advisor.count(3_000);
        for kind in [PolicyKind::Lru, PolicyKind::S3Fifo] {
            let found = advisor.at(kind, 4_000).unwrap().miss_ratio;
            assert!(if round == 0 { found > 0.8 } else { found == 0.0 }, "{kind}: {found}");
        }
        advisor.start_over();
    }
}

#[test]
fn rates_that_make_no_sample_are_refused() {
    for rate in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY, 1e-12] {
        assert!(Sample::of(rate).is_err(), "{rate}");
    }
    assert!(Shards::fixed_size(15).is_err());
    assert_eq!(Sample::of(1.0).map(|all| all.has(7)).ok(), Some(true));
}
