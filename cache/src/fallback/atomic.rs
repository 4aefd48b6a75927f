//! Changes that read a key and write it at one moment.
//!
//! While the first engine is well and the only one, it makes them itself, if it can. Otherwise
//! they are made of a lookup and a change under the key's stripe, which all changes take.

use larder_engine::{Atomic, Engine, Error, Expected, Outcome, Put, Result, Ttl, Value};

use super::Fallback;
use super::link::{Kind, Trouble};

impl Fallback {
    /// What the first engine can do, if it is the only one that counts for `key`.
    fn alone(&self, key: &[u8]) -> Option<&dyn Atomic> {
        let first = &self.inner.links[0];
        let is_alone = self.inner.reach() == 0 && first.is_well() && !first.stale.hides(key);
        first.engine().filter(|_| is_alone)?.atomic()
    }

    /// Lets the first engine do it, or else `otherwise`; both under the key's stripe.
    fn change<T>(
        &self,
        key: &[u8],
        direct: impl Fn(&dyn Atomic) -> Result<T>,
        otherwise: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.inner.open()?;
        let changed = {
            let _stripe = self.inner.stripe(key);
            match self.alone(key) {
                None => otherwise(),
                Some(_) => {
                    let first = &self.inner.links[0];
                    let change =
                        |engine: &dyn Engine| engine.atomic().map_or(Err(Error::Closed), &direct);
                    match first.attempt(Kind::Write, "change a value", change) {
                        Ok(changed) => Ok(changed),
                        Err(Trouble::Callers(error)) => Err(error),
                        Err(Trouble::Failed(error)) => {
                            self.inner.in_trouble();
                            Err(error)
                        }
                        Err(Trouble::NotTried) => otherwise(),
                    }
                }
            }
        };
        self.tend();
        changed
    }
}

impl Atomic for Fallback {
    fn put_if(
        &self,
        key: &[u8],
        value: &[u8],
        options: &Put<'_>,
        expected: Expected,
    ) -> Result<Outcome> {
        let direct = |atomic: &dyn Atomic| atomic.put_if(key, value, options, expected);
        self.change(key, direct, || {
            let version = self.inner.version(key)?;
            if !expected.is_met_by(version) {
                return Ok(Outcome::Conflict { version });
            }
            self.inner.put_under(key, value, options)
        })
    }

    fn take(&self, key: &[u8]) -> Result<Option<Value>> {
        self.change(
            key,
            |atomic| atomic.take(key),
            || {
                let value = self.inner.get(key)?;
                self.inner.remove_under(key)?;
                Ok(value)
            },
        )
    }

    fn touch(&self, key: &[u8], ttl: Ttl) -> Result<bool> {
        self.change(
            key,
            |atomic| atomic.touch(key, ttl),
            || {
                // What holds the value may be unable to change its expiry. Without it nothing is
                // answered past its time.
                self.inner.remove_under(key)
            },
        )
    }

    fn add_to(
        &self,
        key: &[u8],
        by: i64,
        initial: Option<i64>,
        options: &Put<'_>,
    ) -> Result<Option<i64>> {
        let direct = |atomic: &dyn Atomic| atomic.add_to(key, by, initial, options);
        self.change(key, direct, || {
            let old = self.inner.get(key)?;
            let number = match &old {
                None => initial,
                Some(value) => {
                    let bytes = <[u8; 8]>::try_from(&**value);
                    Some(
                        bytes
                            .map(i64::from_le_bytes)
                            .map_err(|_| Error::NotANumber { len: value.len() })?,
                    )
                }
            };
            let Some(value) = number else { return Ok(None) };
            let sum = value.checked_add(by).ok_or(Error::Overflow { value, by })?;
            let ttl = old.map_or(options.ttl, |old| crate::change::until(old.meta().expires_at_ms));
            let put = Put { ttl, ..*options };
            let _ = self.inner.put_under(key, &sum.to_le_bytes(), &put)?;
            Ok(Some(sum))
        })
    }
}
