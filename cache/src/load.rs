//! Loading a value that is in neither tier, once.

use larder_engine::{Durability, Outcome, Put};

use crate::codec::Codec;
use crate::core::{Cached, Core};
use crate::entry::Encoded;
use crate::error::{Error, LoadError, Result};
use crate::flight::{Boarding, Lead};
use crate::key::Key;

impl<V: Cached, C: Codec<V>> Core<V, C> {
    /// The value of `key`, loaded if need be.
    pub(crate) fn get_or_load<E>(
        &self,
        key: &[u8],
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        if let Some(value) = self.get_with(key, V::clone)? {
            return Ok(value);
        }
        match self.flights.board(&Key::from(key)).map_err(|_| Error::Recursion)? {
            Boarding::Landed(value) => {
                self.counters.load_waits.add(1);
                Ok(value)
            }
            Boarding::Lead(lead) => self.lead(key, lead, load),
            Boarding::Alone(_alone) => self.run(load),
        }
    }

    fn lead<E>(
        &self,
        key: &[u8],
        lead: Lead<'_, V>,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        // Another flight may have landed between the miss and this one's start.
        if let Some(value) = self.peek(key)? {
            lead.land(|| value.clone());
            return Ok(value);
        }
        let value = self.run(load)?;
        match self.publish_value(key, value.clone(), &lead) {
            // Whoever changed the key meanwhile was first.
            Ok(None) => {
                let value = self.peek(key)?.unwrap_or(value);
                lead.land(|| value.clone());
                Ok(value)
            }
            // A value that neither tier takes is still the answer.
            Ok(Some(_)) => {
                lead.land(|| value.clone());
                Ok(value)
            }
            Err(error) => {
                lead.land(|| value);
                Err(error.into())
            }
        }
    }

    fn run<E>(&self, load: impl FnOnce() -> Result<V, E>) -> Result<V, LoadError<E>> {
        /// Counts a failure, unless it is told otherwise; a panic cannot tell.
        struct Failure<'a>(&'a crate::stats::Counter);
        impl Drop for Failure<'_> {
            fn drop(&mut self) {
                self.0.add(1);
            }
        }
        let failure = Failure(&self.counters.load_failures);
        let value = load().map_err(LoadError::Load)?;
        std::mem::forget(failure);
        self.counters.loads.add(1);
        Ok(value)
    }

    fn publish_value(&self, key: &[u8], value: V, lead: &Lead<'_, V>) -> Result<Option<Outcome>> {
        let (incoming, weight) = self.encode(key, value, Durability::None)?;
        self.publish(key, incoming, weight, lead)
    }

    /// Encodes, if need be, and inserts a value.
    pub(crate) fn insert_value(&self, key: &[u8], value: V, put: &Put) -> Result<Outcome> {
        let (incoming, weight) = self.encode(key, value, put.durability)?;
        self.insert(key, incoming, weight, put)
    }

    /// A value with its weight, and with its bytes if the store needs them at once.
    fn encode(
        &self,
        key: &[u8],
        value: V,
        durability: Durability,
    ) -> Result<(Encoded<'_, V, C>, u64)> {
        let codec = &self.options.codec;
        let mut bytes = Vec::new();
        let mut encode = |value: &V| match codec.as_bytes(value) {
            Some(bytes) => Ok(bytes.len()),
            None => codec.encode(value, &mut bytes).map(|()| bytes.len()),
        };
        let failed = |source| Error::Encode { source };
        // Bytes are made once, if they are certain to be needed; else they are only counted,
        // which also finds out early what has no bytes.
        let through = self.goes_through(0, durability);
        let encoded_len = match (through, &self.lower, &self.options.weigher) {
            (true, ..) => encode(&value).map_err(failed)?,
            (false, None, Some(_)) => 0,
            _ => codec.encoded_len(&value).map_err(failed)?,
        };
        let weight = self.weight(key.len(), encoded_len, &value);
        if !through && self.goes_through(weight, durability) {
            encode(&value).map_err(failed)?;
        }
        Ok((Encoded { codec, value, bytes }, weight))
    }
}
