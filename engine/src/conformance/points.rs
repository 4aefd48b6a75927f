//! Behaviours of single entries: get, put, remove, keys, values, versions, counters.

use super::random::expand;
use super::report::{Stop, Verdict, ensure};
use super::trial::{LASTING, Trial};
use crate::CodecId;
use crate::engine::{Outcome, Put, Rejection};
use crate::error::Error;
use larder_format::layout::KEY_LEN_MAX;

pub(super) type Behaviour = fn(&mut Trial) -> Verdict;

pub(super) const ALL: &[(&str, Behaviour)] = &[
    ("what_was_never_put_is_absent", what_was_never_put_is_absent),
    ("what_was_put_is_there", what_was_put_is_there),
    ("a_put_replaces_the_value", a_put_replaces_the_value),
    ("a_put_replaces_the_codec", a_put_replaces_the_codec),
    ("values_of_every_size_come_back_whole", values_of_every_size_come_back_whole),
    ("a_value_can_change_its_size", a_value_can_change_its_size),
    ("keys_may_be_any_bytes", keys_may_be_any_bytes),
    ("keys_that_begin_alike_are_distinct", keys_that_begin_alike_are_distinct),
    ("keys_of_the_maximal_length_work", keys_of_the_maximal_length_work),
    ("a_longer_key_is_an_error", a_longer_key_is_an_error),
    ("a_value_over_the_limit_is_refused", a_value_over_the_limit_is_refused),
    ("remove_says_whether_it_did", remove_says_whether_it_did),
    ("a_removed_key_can_be_put_again", a_removed_key_can_be_put_again),
    ("versions_grow", versions_grow),
    ("only_get_counts_as_a_lookup", only_get_counts_as_a_lookup),
    ("counters_count_what_was_done", counters_count_what_was_done),
];

fn what_was_never_put_is_absent(trial: &mut Trial) -> Verdict {
    trial.lacks(b"absent")?;
    ensure!(!trial.engine().remove(b"absent")?, "remove of what was never put says true");
    trial.put(b"present", b"value")?;
    for near in [&b"presen"[..], b"present\0", b"Present", b""] {
        trial.lacks(near)?;
    }
    Ok(())
}

fn what_was_put_is_there(trial: &mut Trial) -> Verdict {
    trial.put(b"key", b"value")?;
    trial.holds(b"key", b"value")?;
    trial.holds(b"key", b"value")
}

fn a_put_replaces_the_value(trial: &mut Trial) -> Verdict {
    trial.put(b"other", b"untouched")?;
    for round in 0..20_u64 {
        let value = expand(round, 100);
        trial.put(b"key", &value)?;
        trial.holds(b"key", &value)?;
    }
    trial.holds(b"other", b"untouched")
}

fn a_put_replaces_the_codec(trial: &mut Trial) -> Verdict {
    let codecs = [
        CodecId::RAW,
        CodecId { id: 1, version: 7 },
        CodecId { id: 200, version: 255 },
        CodecId { id: 1, version: 8 },
        CodecId::RAW,
    ];
    for codec in codecs {
        trial.put_with(b"key", b"same bytes", &Put { codec, ..LASTING })?;
        if let Some(value) = trial.get(b"key")? {
            let found = value.meta().codec;
            ensure!(found == codec, "put with {codec:?}, came back with {found:?}");
        }
        trial.holds(b"key", b"same bytes")?;
    }
    Ok(())
}

/// Around every boundary that an engine is likely to have: alignment, copy or write, inline
/// or not, checksum chunks, segments.
fn sizes(trial: &Trial) -> Vec<usize> {
    const KIB: usize = 1 << 10;
    let most = trial.liberties.admits_len;
    let mut sizes = vec![0, 1, 15, 16, 17, 255, 256, 4095, 4096, 4097, 31 * KIB];
    for boundary in [32 * KIB, 64 * KIB, 128 * KIB, 1024 * KIB, 4096 * KIB] {
        sizes.extend([boundary - 1, boundary, boundary + 1]);
    }
    sizes.retain(|&size| size < most);
    sizes.push(most);
    sizes
}

fn values_of_every_size_come_back_whole(trial: &mut Trial) -> Verdict {
    for (seed, size) in (0..).zip(sizes(trial)) {
        let value = expand(seed, size);
        let key = format!("{size} bytes");
        trial.put(key.as_bytes(), &value)?;
        trial.holds(key.as_bytes(), &value)?;
    }
    // Again, with everything in place; zeros, too, which look like nothing on disk.
    for (seed, size) in (0..).zip(sizes(trial)) {
        let key = format!("{size} bytes");
        trial.holds(key.as_bytes(), &expand(seed, size))?;
        trial.put(key.as_bytes(), &vec![0; size])?;
        trial.holds(key.as_bytes(), &vec![0; size])?;
    }
    Ok(())
}

fn a_value_can_change_its_size(trial: &mut Trial) -> Verdict {
    let most = trial.liberties.admits_len;
    for (seed, size) in (0..).zip([10, most, 0, 70_000, 1, 33_000, most, 16]) {
        let value = expand(seed, size.min(most));
        trial.put(b"key", &value)?;
        trial.holds(b"key", &value)?;
    }
    Ok(())
}

fn keys_may_be_any_bytes(trial: &mut Trial) -> Verdict {
    let mut keys: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    keys.extend((0..=255).map(|byte| vec![byte; 9]));
    keys.push(Vec::new());
    keys.push("schlüssel/鍵".as_bytes().to_vec());
    for key in &keys {
        trial.put(key, &[b"of ", &key[..]].concat())?;
    }
    for key in &keys {
        trial.holds(key, &[b"of ", &key[..]].concat())?;
    }
    Ok(())
}

fn keys_that_begin_alike_are_distinct(trial: &mut Trial) -> Verdict {
    let whole = expand(1, 300);
    for len in 0..whole.len() {
        trial.put(&whole[..len], &expand(2, len))?;
    }
    for len in (0..whole.len()).step_by(2) {
        ensure!(
            trial.engine().remove(&whole[..len])? || trial.liberties.may_evict,
            "a key of {len} bytes was not there to be removed"
        );
    }
    for len in 0..whole.len() {
        match len % 2 {
            0 => {
                let found = trial.get(&whole[..len])?;
                ensure!(found.is_none(), "a removed key of {len} bytes is there");
            }
            _ => trial.holds(&whole[..len], &expand(2, len))?,
        }
    }
    Ok(())
}

fn keys_of_the_maximal_length_work(trial: &mut Trial) -> Verdict {
    let mut keys = vec![vec![b'k'; KEY_LEN_MAX]; 4];
    keys[1][0] = b'x';
    keys[2][KEY_LEN_MAX - 1] = b'x';
    keys[3].pop();
    for (seed, key) in (0..).zip(&keys) {
        trial.put(key, &expand(seed, 1_000))?;
    }
    for (seed, key) in (0..).zip(&keys) {
        trial.holds(key, &expand(seed, 1_000))?;
    }
    for key in &keys {
        let removed = trial.engine().remove(key)?;
        ensure!(removed || trial.liberties.may_evict, "a long key could not be removed");
        trial.lacks(key)?;
    }
    Ok(())
}

fn a_longer_key_is_an_error(trial: &mut Trial) -> Verdict {
    let longest = vec![b'k'; KEY_LEN_MAX];
    trial.put(&longest, b"fits")?;
    trial.put(b"", b"empty key")?;
    for over in [1, 2, 64 << 10] {
        let long = vec![b'k'; KEY_LEN_MAX + over];
        match trial.engine().put(&long, b"does not fit", &LASTING) {
            Err(Error::KeyTooLong { len, max }) => ensure!(
                (len, max) == (long.len(), KEY_LEN_MAX),
                "a key of {} bytes is reported as {len} of {max}",
                long.len()
            ),
            other => {
                return Err(Stop::Broken(format!("a put of a too long key gives {other:?}")));
            }
        }
        // It cannot be there, and asking for it may be an error; it must not reach another.
        for said in [
            trial.engine().get(&long).map(|value| value.is_some()),
            trial.engine().contains(&long),
            trial.engine().version(&long).map(|version| version.is_some()),
            trial.engine().remove(&long),
        ] {
            ensure!(
                matches!(said, Ok(false) | Err(Error::KeyTooLong { .. })),
                "a question about a too long key gives {said:?}"
            );
        }
        trial.holds(&longest, b"fits")?;
        trial.holds(b"", b"empty key")?;
    }
    Ok(())
}

fn a_value_over_the_limit_is_refused(trial: &mut Trial) -> Verdict {
    let Some(len) = trial.liberties.refuses_len else {
        return Err(Stop::DoesNotApply("it refuses no value"));
    };
    trial.put(b"key", b"old")?;
    trial.put(b"other", b"untouched")?;
    let rejected = trial.engine().stats().rejected;
    for key in [&b"key"[..], b"new"] {
        match trial.engine().put(key, &expand(1, len), &LASTING)? {
            Outcome::Rejected(Rejection::TooLarge { weight, limit }) => ensure!(
                weight > limit && weight >= u64::try_from(len).unwrap_or(u64::MAX),
                "{len} bytes are refused as weighing {weight} where {limit} would do"
            ),
            other => {
                return Err(Stop::Broken(format!("a value of {len} bytes gives {other:?}")));
            }
        }
    }
    ensure!(
        trial.engine().stats().rejected == rejected + 2,
        "2 values were refused, the counter went from {rejected} to {}",
        trial.engine().stats().rejected
    );
    trial.lacks(b"new")?;
    trial.holds(b"key", b"old")?;
    trial.holds(b"other", b"untouched")
}

fn remove_says_whether_it_did(trial: &mut Trial) -> Verdict {
    trial.put(b"key", b"value")?;
    trial.put(b"other", b"untouched")?;
    let removed = trial.engine().remove(b"key")?;
    ensure!(removed || trial.liberties.may_evict, "remove of a live key says false");
    trial.lacks(b"key")?;
    ensure!(!trial.engine().remove(b"key")?, "a second remove says true");
    trial.lacks(b"key")?;
    trial.holds(b"other", b"untouched")
}

fn a_removed_key_can_be_put_again(trial: &mut Trial) -> Verdict {
    for round in 0..10_u64 {
        let value = expand(round, 500);
        trial.put(b"key", &value)?;
        trial.holds(b"key", &value)?;
        let removed = trial.engine().remove(b"key")?;
        ensure!(removed || trial.liberties.may_evict, "remove {round} says false");
        trial.lacks(b"key")?;
    }
    Ok(())
}

fn versions_grow(trial: &mut Trial) -> Verdict {
    let mut last = None;
    for round in 0..60_u64 {
        // The same bytes again are a write as well.
        let version = trial.put(b"key", &expand(round / 2, 20))?;
        ensure!(last < Some(version), "put {round} got version {version} after {last:?}");
        last = Some(version);
        let said = trial.engine().version(b"key")?;
        ensure!(
            said == last || trial.evicted(said.is_none()),
            "put said version {version}, the engine says {said:?}"
        );
        trial.holds(b"key", &expand(round / 2, 20))?;
        match round % 8 {
            3 => drop(trial.engine().remove(b"key")?),
            6 => drop(trial.engine().clear()?),
            _ => {}
        }
    }
    Ok(())
}

fn only_get_counts_as_a_lookup(trial: &mut Trial) -> Verdict {
    trial.put(b"key", b"value")?;
    let lookups = |trial: &Trial| {
        let stats = trial.engine().stats();
        (stats.hits, stats.misses)
    };
    let (mut hits, mut misses) = lookups(trial);
    for _ in 0..5 {
        for key in [&b"key"[..], b"absent"] {
            trial.engine().contains(key)?;
            trial.engine().version(key)?;
        }
    }
    let now = lookups(trial);
    ensure!(now == (hits, misses), "contains and version moved {:?} to {now:?}", (hits, misses));
    for key in [&b"key"[..], b"absent", b"key", b"absent", b"absent"] {
        match trial.get(key)? {
            Some(_) => hits += 1,
            None => misses += 1,
        }
        let now = lookups(trial);
        ensure!(
            now == (hits, misses),
            "hits and misses are {now:?} instead of {:?}",
            (hits, misses)
        );
    }
    Ok(())
}

fn counters_count_what_was_done(trial: &mut Trial) -> Verdict {
    let before = trial.engine().stats();
    trial.put(b"a", b"12345")?;
    trial.put(b"a", b"1234567")?;
    trial.put(b"bb", b"")?;
    let after = trial.engine().stats();
    let (inserts, put_bytes) = (after.inserts - before.inserts, after.put_bytes - before.put_bytes);
    ensure!(inserts == 3, "3 values were admitted, inserts grew by {inserts}");
    ensure!(put_bytes == 16, "16 bytes were put, put_bytes grew by {put_bytes}");
    if !trial.liberties.may_evict {
        ensure!(after.entries == 2, "2 entries are held, the counter says {}", after.entries);
        trial.engine().remove(b"a")?;
        trial.engine().remove(b"a")?;
        let removes = trial.engine().stats().removes - before.removes;
        ensure!(removes == 1, "1 value was removed, removes grew by {removes}");
        let entries = trial.engine().stats().entries;
        ensure!(entries == 1, "1 entry is held, the counter says {entries}");
    }
    let (used, budget) = (after.used_bytes, after.budget_bytes);
    ensure!(used <= budget, "{used} bytes are in use, the budget is {budget}");
    Ok(())
}
