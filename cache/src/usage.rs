//! Telling of room that gets short, in memory and in the store.
//!
//! Looked at once in a while, by whoever changes something: a look at a store is a sum of counters.

use larder_engine::Stats;

use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::event::Event;
use crate::sync::{AtomicU32, AtomicUsize, Ordering};

/// Changes between two looks.
const EVERY: u32 = 64;

/// Shares of a budget, in percent, and which of them were exceeded when last looked at.
#[derive(Debug)]
pub(crate) struct Watch {
    /// In ascending order.
    percents: Box<[u8]>,
    changes: AtomicU32,
    memory: AtomicUsize,
    store: AtomicUsize,
}

impl Watch {
    pub(crate) fn new(percents: &[u8]) -> Self {
        let mut percents = percents.to_vec();
        percents.sort_unstable();
        percents.dedup();
        Self {
            percents: percents.into(),
            changes: AtomicU32::new(0),
            memory: AtomicUsize::new(0),
            store: AtomicUsize::new(0),
        }
    }

    /// Whether this change is one to look after.
    fn is_time(&self) -> bool {
        // Relaxed: a count.
        self.changes.fetch_add(1, Ordering::Relaxed).is_multiple_of(EVERY)
    }

    /// What there is to tell of a tier, if another share is exceeded than before.
    fn look(
        &self,
        tier: &'static str,
        level: &AtomicUsize,
        used: u64,
        budget: u64,
    ) -> Option<Event> {
        let exceeds = |percent: &&u8| {
            u128::from(used) * 100 >= u128::from(**percent) * u128::from(budget.max(1))
        };
        let now = self.percents.iter().take_while(exceeds).count();
        // Relaxed: who looks at the same time tells of the same.
        let before = level.swap(now, Ordering::Relaxed);
        let crossed = if now > before { now.checked_sub(1)? } else { now };
        let percent = *self.percents.get(crossed)?;
        let is_rising = now > before;
        (now != before).then_some(Event::Usage { tier, percent, is_rising, used, budget })
    }
}

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// After a change: tells of room that gets short, or does not any more.
    #[inline]
    pub(crate) fn watch_usage(&self) {
        if let Some(watch) = self.options.watch.as_ref().filter(|watch| watch.is_time()) {
            self.look_at_usage(watch);
        }
    }

    #[cold]
    fn look_at_usage(&self, watch: &Watch) {
        let tell = |tier, level, stats: Stats| {
            let (used, budget) = (stats.used_bytes, stats.budget_bytes);
            if budget != 0
                && budget != u64::MAX
                && let Some(event) = watch.look(tier, level, used, budget)
            {
                self.events.push(|| event);
            }
        };
        let mut memory = Stats::default();
        memory.used_bytes = self.memory.weight();
        memory.budget_bytes = self.memory.capacity().limit().unwrap_or(u64::MAX);
        tell("memory", &watch.memory, memory);
        if let Some(lower) = &self.lower {
            tell("store", &watch.store, lower.engine.stats());
        }
    }
}
