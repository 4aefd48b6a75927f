//! Looks for the share at which most requests hit, by trying.

/// The first step, and the one after a change of the load: a sixteenth of the capacity.
const STEP: f64 = 0.0625;
/// What is left of a step after each sample.
const DECAY: f64 = 0.98;
/// A change of the hit ratio that means that the load is another one.
const RESTART: f64 = 0.05;

/// Climbs the hill of hit ratios over shares.
///
/// After each sample of requests it moves the share by a step: on in the same direction if
/// more hit than in the sample before, back if fewer did. Steps shrink, until the hit ratio
/// jumps.
///
/// Source: Einziger, Eytan, Friedman, Manes, "Adaptive software cache management", Middleware
/// 2018, section 4.1, with the constants of Caffeine (`BoundedLocalCache`).
#[derive(Debug)]
pub(super) struct Climber {
    hits: usize,
    requests: usize,
    ratio_before: f64,
    /// Signed: where to go if more hit than before.
    step: f64,
}

impl Default for Climber {
    fn default() -> Self {
        Self { hits: 0, requests: 0, ratio_before: 0.0, step: -STEP }
    }
}

impl Climber {
    /// Counts a request. Once there are `period` of them: how far to move the share.
    pub(super) fn count(&mut self, hit: bool, period: usize) -> Option<f64> {
        self.requests += 1;
        self.hits += usize::from(hit);
        if self.requests < period {
            return None;
        }
        let ratio = self.hits as f64 / self.requests as f64;
        let change = ratio - self.ratio_before;
        let way = if change >= 0.0 { self.step } else { -self.step };
        self.step = if change.abs() >= RESTART { STEP.copysign(way) } else { DECAY * way };
        (self.hits, self.requests, self.ratio_before) = (0, 0, ratio);
        Some(way)
    }

    /// The share could not move: it is at the end of its range.
    pub(super) const fn turn(&mut self) {
        self.step = -self.step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Climbs a hill whose top is at `top`, and says where it has got to.
    fn climb(climber: &mut Climber, mut share: f64, top: f64, samples: usize) -> f64 {
        for _ in 0..samples {
            let ratio = 0.6 - 0.2 * (share - top).abs();
            for at in 0..1_000 {
                if let Some(way) = climber.count(f64::from(at) < ratio * 1_000.0, 1_000) {
                    let moved = (share + way).clamp(0.01, 0.8);
                    if moved == share {
                        climber.turn();
                    }
                    share = moved;
                }
            }
        }
        share
    }

    #[test]
    fn finds_the_top_and_finds_it_again() {
        let mut climber = Climber::default();
        let found = climb(&mut climber, 0.01, 0.5, 150);
        assert!((found - 0.5).abs() < 0.05, "{found}");
        // The load changes: a jump starts large steps again.
        climb(&mut climber, found, 3.0, 1);
        let found = climb(&mut climber, found, 0.1, 150);
        assert!((found - 0.1).abs() < 0.05, "{found}");
    }
}
