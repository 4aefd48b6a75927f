//! What is known of an entry that does not fit into its word: a time to idle, a cost, marks.
//!
//! # Liveness
//! An entry is live while now < deadline and all its marks are valid (`marks.rs`). With a time to
//! idle, every use moves the deadline: to now + idle, but never past a last moment.
//!
//! Whoever finds the deadline passed, makes that final before telling anybody: otherwise a
//! lookup that has asked for the time and then lost the processor could move the deadline
//! afterwards, and what one thread has missed another would find again. So both the end and the
//! moving are exchanges of what was seen; of two, the first wins, and the other looks again.
//!
//! # Invariants
//! 1. The deadline never lies behind `until_ms`. Without a time to idle it is that, and never
//!    changes; with one it is never `NEVER`.
//! 2. It only grows, until it is `OVER`, which is for good.
//!
//! # Orderings
//! All Relaxed. The deadline is one word, whose changes have one order; who was told by another
//! thread what that has seen, sees that or what came later. It guards nothing else: the entry
//! was filled before it could be found, and stays until its readers are gone (`table.rs`).

use super::marks::{Mark, Marks, TagCell};
use crate::clock::{NEVER, is_live};
use crate::sync::{AtomicU64, Ordering, Turn};

/// A deadline that has passed for good.
const OVER: u64 = 0;

/// Why an entry is not live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dead {
    Expired,
    Invalidated,
}

/// Everything that is known of an entry beside its key and its value.
#[derive(Debug)]
pub(crate) struct Extra {
    pub(crate) weight: u64,
    pub(crate) cost: u64,
    expires_at_ms: AtomicU64,
    until_ms: u64,
    /// How long it lives after a use; `NEVER`, if that does not matter.
    idle_ms: u64,
    marks: Marks,
    turn: Turn,
}

impl Extra {
    /// Of an entry that expires at some time, and of which nothing else is known.
    pub(crate) fn new(weight: u64, expires_at_ms: u64) -> Self {
        Self {
            weight,
            cost: 1,
            expires_at_ms: AtomicU64::new(expires_at_ms),
            until_ms: expires_at_ms,
            idle_ms: NEVER,
            marks: None,
            turn: Turn::default(),
        }
    }

    /// The same, which also expires when it has not been used for so long; not, for `NEVER`.
    pub(crate) fn with_idle(self, idle_ms: u64, now_ms: u64) -> Self {
        if idle_ms == NEVER {
            return self;
        }
        let expires_at_ms = moved(now_ms, idle_ms, self.until_ms);
        Self { expires_at_ms: AtomicU64::new(expires_at_ms), idle_ms, ..self }
    }

    /// The same with a cost.
    pub(crate) fn with_cost(self, cost: u64) -> Self {
        Self { cost, ..self }
    }

    /// The same with marks.
    pub(crate) fn with_marks(self, marks: Marks) -> Self {
        Self { marks, ..self }
    }

    /// Its deadline as it is now; 0, if it is known to have passed.
    pub(crate) fn expires_at_ms(&self) -> u64 {
        self.expires_at_ms.load(Ordering::Relaxed)
    }

    /// Weight and deadline, if that is all there is to say.
    pub(crate) fn as_plain(&self) -> Option<(u64, u64)> {
        let is_plain = self.idle_ms == NEVER && self.cost == 1 && self.marks.is_none();
        is_plain.then_some((self.weight, self.until_ms))
    }

    /// Its marks.
    pub(crate) fn marks(&self) -> &[Mark] {
        self.marks.as_deref().unwrap_or_default()
    }

    /// Checks invariant 1.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let (now, until_ms) = (self.expires_at_ms(), self.until_ms);
        let is_right =
            if self.idle_ms == NEVER { now == until_ms } else { now <= until_ms && now != NEVER };
        if is_right { Ok(()) } else { Err(format!("lives until {now} ms, at most {until_ms} ms")) }
    }

    /// The namespace that its key belongs to: the first of its marks, if any is.
    pub(crate) fn space(&self) -> Option<&TagCell> {
        let first = self.marks().first()?.cell();
        first.is_space().then_some(&**first)
    }

    /// For the insert, once the entry can be found: takes the counts that nobody has taken.
    pub(crate) fn settle_marks(&self) {
        for mark in self.marks() {
            let _ = mark.is_valid();
        }
    }

    /// Whether it is live at a time that is only asked for if it matters; as a use, or not.
    pub(crate) fn look(&self, now_ms: impl FnOnce() -> u64, is_use: bool) -> Result<(), Dead> {
        if !self.marks().iter().all(Mark::is_valid) {
            return Err(Dead::Invalidated);
        }
        self.turn.take();
        let mut deadline_ms = self.expires_at_ms();
        if deadline_ms == NEVER {
            return Ok(());
        }
        let now_ms = now_ms();
        loop {
            let is_live = is_live(deadline_ms, now_ms);
            let next_ms = if !is_live {
                OVER
            } else if is_use && self.idle_ms != NEVER {
                moved(now_ms, self.idle_ms, self.until_ms)
            } else {
                deadline_ms
            };
            // Without a time to idle, a deadline that has passed has passed for all.
            let changes = self.idle_ms != NEVER
                && if is_live { next_ms > deadline_ms } else { deadline_ms != OVER };
            if changes {
                self.turn.take();
                // Relaxed: see the header.
                let (now, relaxed) = (&self.expires_at_ms, Ordering::Relaxed);
                if let Err(moved) = now.compare_exchange(deadline_ms, next_ms, relaxed, relaxed) {
                    deadline_ms = moved;
                    continue;
                }
            }
            return if is_live { Ok(()) } else { Err(Dead::Expired) };
        }
    }
}

/// The deadline of an entry that is used now.
fn moved(now_ms: u64, idle_ms: u64, until_ms: u64) -> u64 {
    now_ms.saturating_add(idle_ms).min(until_ms).min(NEVER - 1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn live(extra: &Extra, now_ms: u64) -> bool {
        extra.look(|| now_ms, false).is_ok()
    }

    #[test]
    fn a_use_moves_the_deadline_and_a_glance_does_not() {
        let extra = Extra::new(1, 1_000).with_idle(100, 500);
        assert_eq!(extra.expires_at_ms(), 600);
        assert!(live(&extra, 599));
        assert_eq!(extra.expires_at_ms(), 600);
        assert_eq!(extra.look(|| 599, true), Ok(()));
        assert_eq!(extra.expires_at_ms(), 699);
        assert_eq!(extra.look(|| 510, true), Ok(()), "by a thread whose time is long past");
        assert_eq!(extra.expires_at_ms(), 699);
        for now_ms in (650..1_000).step_by(50) {
            assert_eq!(extra.look(|| now_ms, true), Ok(()));
        }
        assert_eq!(extra.expires_at_ms(), 1_000, "never past the last moment");
        assert_eq!(extra.look(|| 1_000, true), Err(Dead::Expired));
    }

    #[test]
    fn what_was_seen_dead_is_never_live_again() {
        let extra = Extra::new(1, NEVER).with_idle(100, 500);
        assert!(!live(&extra, 600));
        assert_eq!(
            extra.look(|| 599, true),
            Err(Dead::Expired),
            "its time is past, but it is late"
        );
        assert_eq!(extra.expires_at_ms(), OVER);
    }

    #[test]
    fn the_time_is_not_asked_for_what_never_expires() {
        let cell = Arc::<TagCell>::default();
        let marks: Marks = Some(Box::new([Mark::new(Arc::clone(&cell))]));
        let extra = Extra::new(1, NEVER).with_cost(5).with_marks(marks);
        extra.settle_marks();
        let never = || unreachable!("it never expires");
        assert_eq!(extra.look(never, true), Ok(()));
        cell.invalidate();
        assert_eq!(extra.look(never, true), Err(Dead::Invalidated));
        assert_eq!(extra.as_plain(), None);
        assert_eq!(Extra::new(3, 7).as_plain(), Some((3, 7)));
        assert_eq!(size_of::<Extra>(), 56);
    }
}
