//! Running the body on a miss, once for all who wait for it: loading (`load.rs`) for who needs the value
//! whatever the cache says, and decides what is kept.

use super::function::Function;
use super::notes::Note;
use super::returns::Returns;
use crate::codec::Codec;
use crate::error::LoadError;
use crate::flight::Asker;
use crate::key::{Key, KeyBuf};
use crate::load::Sharing;
use crate::loaded::Loaded;
use crate::stats::Counter;

/// What the caller of a body says of its result.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Extra {
    pub(super) tags: Vec<Vec<u8>>,
}

impl Extra {
    /// Marks the result with a tag.
    pub fn tag(&mut self, tag: impl AsRef<[u8]>) {
        self.tags.push(tag.as_ref().to_vec());
    }
}

/// Counts a panic.
pub(super) struct Running<'a>(pub(super) &'a Counter);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.add(1);
        }
    }
}

impl<V: Clone + Send + Sync + 'static, C: Codec<V>> Function<V, C> {
    /// Runs `body` after a miss, or waits for who does.
    #[doc(hidden)]
    #[cold]
    pub fn run<R: Returns<V>>(&self, key: &mut KeyBuf, body: impl FnOnce(&mut Extra) -> R) -> R {
        if self.is_disabled() {
            self.counters.misses.add(1);
            return self.alone(body);
        }
        let key = key.stored();
        self.discard_invalid(key);
        let mut body = Some(body);
        let load = || {
            let body = body.take();
            let body = body.unwrap_or_else(|| unreachable!("a loader runs once"));
            self.execute(key, body)
        };
        let is_simple = self.core.options.freshness.is_simple();
        let answer = if is_simple {
            // It was looked for already.
            let (key, asker) = (&Key::from(key), &Asker::thread());
            self.core.board(key, None, asker, &Sharing::FORGIVING, load)
        } else {
            self.core.get_or_load(key, &Sharing::FORGIVING, load)
        };
        let has_run = body.is_none();
        match answer {
            Ok(value) => {
                self.count(has_run, is_simple);
                if has_run {
                    self.check_stored(key);
                }
                R::kept(value)
            }
            Err(LoadError::Load(missed)) => {
                self.count(has_run, is_simple);
                R::missed(missed)
            }
            Err(LoadError::Cache(error)) => match body {
                // What the cache cannot do: among it a call within the same call.
                Some(body) => {
                    self.counters.misses.add(1);
                    self.alone(body)
                }
                None => unreachable!("what was loaded is the answer, and not: {error}"),
            },
        }
    }

    /// Runs `body` whatever is kept, and keeps what it returns.
    #[doc(hidden)]
    pub fn run_fresh<R: Returns<V>>(
        &self,
        key: &mut KeyBuf,
        body: impl FnOnce(&mut Extra) -> R,
    ) -> R {
        self.counters.fresh.add(1);
        if self.is_disabled() {
            return self.alone(body);
        }
        let key = key.stored();
        match self.execute(key, body) {
            Ok(loaded) => R::kept(self.keep(key, loaded)),
            Err(missed) => R::missed(missed),
        }
    }

    /// Stores what was computed in place of what is there.
    pub(super) fn keep(&self, key: &[u8], loaded: Loaded<V>) -> V {
        if loaded.is_kept {
            // If it cannot be stored, that is seen below.
            let tags = loaded.borrowed_tags();
            drop(self.core.insert_value(key, loaded.value.clone(), &loaded.put(&tags)));
            self.check_stored(key);
        }
        loaded.value
    }

    pub(super) fn count(&self, has_run: bool, is_simple: bool) {
        match (has_run, is_simple) {
            (true, _) => self.counters.misses.add(1),
            (false, true) => {
                self.counters.misses.add(1);
                self.counters.waits.add(1);
            }
            // What is past its time may serve.
            (false, false) => self.counters.hit(),
        }
    }

    /// Runs `body`, and says what is to be done with its result.
    fn execute<R: Returns<V>>(
        &self,
        key: &[u8],
        body: impl FnOnce(&mut Extra) -> R,
    ) -> Result<Loaded<V>, R::Missed> {
        self.counters.runs.add(1);
        let running = Running(&self.counters.failures);
        let mut extra = Extra::default();
        let result = body(&mut extra).split();
        drop(running);
        self.judge(key, result, extra)
    }

    /// What is to be done with a result.
    pub(super) fn judge<E>(
        &self,
        key: &[u8],
        result: Result<V, E>,
        extra: Extra,
    ) -> Result<Loaded<V>, E> {
        let value = result.inspect_err(|_| {
            self.counters.failures.add(1);
            self.notes.write(key, Note::NotKept);
        })?;
        if self.rules.cache_if.as_ref().is_some_and(|keeps| !keeps(&value)) {
            self.counters.skipped.add(1);
            self.notes.write(key, Note::NotKept);
            return Ok(Loaded::new(value).not_kept());
        }
        let loaded = self.loaded(value, extra);
        // Before it is stored, so that the note of an invalidation comes after this one.
        let expires_at_ms =
            loaded.ttl.deadline_ms(self.core.now_ms(), self.core.options.freshness.ttl());
        let tagged_at = (!loaded.tags.is_empty()).then(|| self.core.invalidated.now());
        self.notes.write(key, Note::Stored { expires_at_ms, tagged_at });
        Ok(loaded)
    }

    /// Notes and counts it if what was computed is not there.
    pub(super) fn check_stored(&self, key: &[u8]) {
        let Some(Note::Stored { expires_at_ms, .. }) = self.notes.read(key) else { return };
        let is_live = larder_engine::clock::is_live(expires_at_ms, self.core.now_ms());
        if is_live && !matches!(self.core.version(key), Ok(Some(_))) {
            self.counters.uncached.add(1);
            self.notes.write(key, Note::NotKept);
        }
    }

    /// Runs `body` and keeps nothing.
    pub(super) fn alone<R: Returns<V>>(&self, body: impl FnOnce(&mut Extra) -> R) -> R {
        self.counters.uncached.add(1);
        self.counters.runs.add(1);
        let running = Running(&self.counters.failures);
        let result = body(&mut Extra::default()).split();
        drop(running);
        self.counters.failures.add(u64::from(result.is_err()));
        match result {
            Ok(value) => R::kept(value),
            Err(missed) => R::missed(missed),
        }
    }

    /// Lets go of a result that is there and not valid any more.
    fn discard_invalid(&self, key: &[u8]) {
        if let Some(valid) = &self.rules.valid_if {
            // What cannot be removed is found once more.
            drop(self.core.discard_if(key, |value| !valid(value)));
        }
    }
}
