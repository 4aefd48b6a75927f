//! Settings that change while the cache is in use.

use larder_engine::Error as EngineError;
use larder_engine::memory::Capacity;

use super::fields::FIELDS;
use super::problems::{ConfigError, Problem};
use super::{Config, MemoryLimit, Scalar};
use crate::cache::Cache;
use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::error::chain;

/// What became of settings that were given to a cache in use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconfigured {
    changed: Vec<&'static str>,
    needs_reopening: Vec<&'static str>,
}

impl Reconfigured {
    /// Settings that are different now.
    #[must_use]
    pub fn changed(&self) -> &[&'static str] {
        &self.changed
    }

    /// Settings that would be different, and count only when the cache is built with them.
    #[must_use]
    pub fn needs_reopening(&self) -> &[&'static str] {
        &self.needs_reopening
    }
}

/// Settings that can change while the cache is in use.
const LIVE: [&str; 7] =
    ["memory", "memory_items", "disk", "ttl", "refresh_ahead", "refresh_early", "jitter"];

impl<K, V, C> Cache<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// Changes settings while the cache is in use. What is left out stays as it is, what is as it
    /// was counts as left out.
    ///
    /// | setting | from now on |
    /// |---|---|
    /// | `memory`, `memory_items` | in the unit that the cache was built with; what does not fit leaves at once |
    /// | `disk` | at most what the cache was built with; what does not fit leaves at once, the oldest first |
    /// | `ttl` | of values that are inserted from now on |
    /// | `refresh_ahead`, `refresh_early`, `jitter` | at once |
    /// | all others | need a reopening, and the answer says so |
    ///
    /// ```
    /// use larder::{Cache, Config};
    ///
    /// let cache = Cache::<u32, u32>::builder().build()?;
    /// let config = Config::from_toml("memory = \"8MiB\"\nttl = \"1h\"\nstrict = true")?;
    /// let changed = cache.reconfigure(&config)?;
    /// assert_eq!(changed.changed(), ["memory", "ttl"]);
    /// assert_eq!(changed.needs_reopening(), ["strict"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] with all that cannot be; then nothing has changed, unless it was the disk that
    /// failed while it was told.
    pub fn reconfigure(&self, config: &Config) -> Result<Reconfigured, ConfigError> {
        self.core().reconfigure(config)
    }
}

impl<V: Cached, C: Codec<V>> Core<V, C> {
    fn reconfigure(&self, then: &Config) -> Result<Reconfigured, ConfigError> {
        // Held all the while: one at a time.
        let mut now = self.options.settings.lock();
        let mut answer = Reconfigured::default();
        for field in FIELDS {
            let given = (field.get)(then);
            if given.is_none() || given == (field.get)(&now) {
                continue;
            }
            let is_live = LIVE.contains(&field.name);
            let list = if is_live { &mut answer.changed } else { &mut answer.needs_reopening };
            list.push(field.name);
        }
        answer.changed.sort_unstable();
        let is_given = |name: &str| answer.changed.contains(&name);
        let mut problems = Vec::new();
        let mut refuse = |field: &'static str, accepted: &str| {
            let found = FIELDS.iter().find(|known| known.name == field);
            let given = found.and_then(|known| (known.get)(then));
            let given = given.unwrap_or_else(|| Scalar::Text(String::new()));
            problems.push(Problem::refused(field, &given, accepted));
        };
        let capacity = then.memory.map(|limit| match limit {
            MemoryLimit::Bytes(bytes) => Capacity::weight(bytes),
            MemoryLimit::Items(items) => Capacity::items(items),
            MemoryLimit::Unlimited => Capacity::Unbounded,
            MemoryLimit::Off => Capacity::Disabled,
        });
        let capacity = capacity.filter(|_| is_given("memory") || is_given("memory_items"));
        match (self.memory.capacity(), capacity) {
            (_, None)
            | (Capacity::Weight(_), Some(Capacity::Weight(_)))
            | (Capacity::Items(_), Some(Capacity::Items(_))) => {}
            (Capacity::Weight(_), Some(Capacity::Items(_))) => {
                refuse("memory_items", "memory instead: the cache was built with a size");
            }
            (Capacity::Items(_), Some(_)) => {
                refuse("memory", "memory_items instead: the cache was built to count entries");
            }
            (_, Some(Capacity::Items(_))) => refuse("memory_items", "it when the cache is built"),
            (_, Some(_)) => refuse("memory", "at least 1 byte, or something else when it is built"),
        }
        if is_given("disk") && self.lower.is_none() {
            refuse("disk", "a directory when the cache is built");
        }
        if is_given("ttl") && then.ttl.is_some_and(|ttl| ttl.as_millis() == 0) {
            refuse("ttl", "at least 1 ms");
        }
        if is_given("jitter") && then.jitter.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            refuse("jitter", "a number from 0 to 1");
        }
        if is_given("refresh_early") && then.refresh_early.is_some_and(|n| !(0.0..1e6).contains(&n))
        {
            refuse("refresh_early", "a number from 0, for never, to 1,000,000");
        }
        if let Some(error) = ConfigError::of(std::mem::take(&mut problems)) {
            return Err(error);
        }

        // First what may fail.
        let mut failed = |field: &'static str, error: &EngineError| {
            let given = FIELDS.iter().find(|known| known.name == field);
            let given = given.and_then(|known| (known.get)(then));
            let given = given.unwrap_or_else(|| Scalar::Text(String::new()));
            let accepted = match error {
                EngineError::Config { accepted, .. } => (*accepted).to_owned(),
                error => format!("it once more: {}", chain(error)),
            };
            problems.push(Problem::refused(field, &given, &accepted));
        };
        if let (Some(bytes), Some(lower)) = (then.disk.filter(|_| is_given("disk")), &self.lower) {
            match lower.engine.set_budget(bytes) {
                Ok(()) => now.disk = Some(bytes),
                Err(error) => failed("disk", &error),
            }
        }
        if let Some(capacity) = capacity.filter(|_| problems.is_empty()) {
            match self.memory.resize(capacity) {
                Ok(()) => now.memory = then.memory,
                Err(error) => {
                    let accepted = match &error {
                        EngineError::Config { accepted, .. } => (*accepted).to_owned(),
                        error => chain(error),
                    };
                    let given = Scalar::Text(format!("{capacity:?}"));
                    problems.push(Problem::refused("memory", &given, &accepted));
                }
            }
        }
        if let Some(error) = ConfigError::of(problems) {
            return Err(error);
        }
        if is_given("ttl") {
            self.options.freshness.set_ttl(then.ttl);
            now.ttl = then.ttl;
        }
        let mut freshness = self.options.freshness.now();
        if let Some(time) = then.refresh_ahead.filter(|_| is_given("refresh_ahead")) {
            freshness.ahead_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4);
            now.refresh_ahead = Some(time);
        }
        if let Some(beta) = then.refresh_early.filter(|_| is_given("refresh_early")) {
            freshness.beta = beta;
            now.refresh_early = Some(beta);
        }
        if let Some(share) = then.jitter.filter(|_| is_given("jitter")) {
            freshness.jitter = share;
            now.jitter = Some(share);
        }
        self.options.freshness.set(freshness);
        drop(now);
        // What left memory is on its way to the store.
        self.drain();
        self.record_settings();
        self.events.emit();
        Ok(answer)
    }
}
