//! Behaviours of an engine as a whole: count, list, clear.

use std::collections::BTreeMap;

use super::points::Behaviour;
use super::random::expand;
use super::report::{Verdict, ensure};
use super::trial::{Trial, show};

pub(super) const ALL: &[(&str, Behaviour)] = &[
    ("len_counts_keys", len_counts_keys),
    ("iteration_yields_each_entry_once", iteration_yields_each_entry_once),
    ("iteration_outlasts_changes", iteration_outlasts_changes),
    ("iterations_do_not_disturb_each_other", iterations_do_not_disturb_each_other),
    ("an_empty_engine_lists_nothing", an_empty_engine_lists_nothing),
    ("clear_removes_everything_and_counts_it", clear_removes_everything_and_counts_it),
    ("clear_during_iteration_ends_it_well", clear_during_iteration_ends_it_well),
    ("a_held_value_keeps_its_bytes", a_held_value_keeps_its_bytes),
    ("many_entries_do_not_mix", many_entries_do_not_mix),
];

fn key(n: u64) -> Vec<u8> {
    format!("entry {n}").into_bytes()
}

fn len_counts_keys(trial: &mut Trial) -> Verdict {
    let len_is = |trial: &Trial, expected: u64, after: &str| -> Verdict {
        let len = trial.engine().len();
        let least = if trial.liberties.may_evict { 0 } else { expected };
        ensure!((least..=expected).contains(&len), "len is {len} after {after}, not {expected}");
        let is_empty = trial.engine().is_empty();
        ensure!(is_empty == (len == 0), "len is {len}, is_empty says {is_empty}");
        Ok(())
    };
    len_is(trial, 0, "opening")?;
    for n in 0..50 {
        trial.put(&key(n), b"value")?;
        len_is(trial, n + 1, "a put")?;
    }
    for n in 0..50 {
        trial.put(&key(n), b"another value")?;
    }
    len_is(trial, 50, "overwriting")?;
    for n in 0..20 {
        trial.engine().remove(&key(n))?;
        trial.engine().remove(&key(n))?;
    }
    len_is(trial, 30, "removing 20, twice")?;
    trial.engine().remove(b"never put")?;
    len_is(trial, 30, "removing what was never put")
}

/// What iteration yields, checked to be no key twice.
fn listed(trial: &Trial) -> Verdict<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in trial.engine().iter() {
        let (key, value) = entry?;
        let said = trial.engine().version(&key)?;
        ensure!(
            said == Some(value.meta().version) || trial.evicted(said.is_none()),
            "{} is listed with version {}, the engine says {said:?}",
            show(&key),
            value.meta().version
        );
        let twice = all.insert(key.clone(), value.to_vec());
        ensure!(twice.is_none(), "{} is listed twice", show(&key));
    }
    Ok(all)
}

fn iteration_yields_each_entry_once(trial: &mut Trial) -> Verdict {
    let mut expected = BTreeMap::new();
    for n in 0..700_u64 {
        let len = usize::try_from(n % 90).unwrap_or(0);
        expected.insert(key(n), expand(n, len));
        trial.put(&key(n), &expand(n, len))?;
    }
    for n in (0..700).step_by(5) {
        expected.insert(key(n), expand(n, 33));
        trial.put(&key(n), &expand(n, 33))?;
    }
    for n in (0..700).step_by(4) {
        expected.remove(&key(n));
        trial.engine().remove(&key(n))?;
    }
    for _ in 0..2 {
        let found = listed(trial)?;
        for (key, value) in &found {
            ensure!(
                expected.get(key) == Some(value),
                "{} is listed with {}",
                show(key),
                show(value)
            );
        }
        ensure!(
            found.len() == expected.len() || trial.liberties.may_evict,
            "{} entries are there, {} are listed",
            expected.len(),
            found.len()
        );
    }
    Ok(())
}

fn iteration_outlasts_changes(trial: &mut Trial) -> Verdict {
    const STAYING: u64 = 300;
    let of = |kind: &str, n: u64| format!("{kind} {n}").into_bytes();
    for n in 0..STAYING {
        trial.put(&of("stays", n), &expand(n, 60))?;
        trial.put(&of("goes", n), &expand(n, 60))?;
    }
    let mut seen = BTreeMap::<Vec<u8>, u64>::new();
    for (step, entry) in (0..).zip(trial.engine().iter()) {
        let (found, value) = entry?;
        let text = String::from_utf8_lossy(&found).into_owned();
        let n = text.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(u64::MAX);
        ensure!(*value == *expand(n, 60), "{text} is listed with {}", show(&value));
        *seen.entry(found).or_default() += 1;
        // Enough of them that tables grow under the iterator. An iterator that went after
        // whatever came would never end.
        ensure!(step < 100 * STAYING, "iteration does not end while entries come");
        for new in 8 * step..8 * step + 8 {
            if new < 8 * STAYING {
                trial.put(&of("comes", new), &expand(new, 60))?;
            }
        }
        trial.engine().remove(&of("goes", step))?;
    }
    for (found, count) in &seen {
        ensure!(*count == 1, "{} was listed {count} times", show(found));
    }
    for n in 0..STAYING {
        let stayed = seen.contains_key(&of("stays", n));
        ensure!(stayed || trial.liberties.may_evict, "entry {n} stayed and was not listed");
    }
    Ok(())
}

fn iterations_do_not_disturb_each_other(trial: &mut Trial) -> Verdict {
    for n in 0..20 {
        trial.put(&key(n), b"value")?;
    }
    let mut pairs = 0;
    for outer in trial.engine().iter() {
        outer?;
        for inner in trial.engine().iter() {
            inner?;
            pairs += 1;
        }
    }
    ensure!(pairs == 400 || trial.liberties.may_evict, "20 × 20 entries gave {pairs} pairs");
    // One that is given up halfway leaves nothing behind that would hinder a write.
    let mut abandoned = trial.engine().iter();
    let _ = abandoned.next();
    drop(abandoned);
    trial.put(&key(0), b"new")?;
    trial.holds(&key(0), b"new")
}

fn an_empty_engine_lists_nothing(trial: &mut Trial) -> Verdict {
    ensure!(trial.engine().iter().next().is_none(), "a new engine lists an entry");
    ensure!(trial.engine().clear()? == 0, "clear of a new engine counts something");
    trial.put(b"key", b"value")?;
    trial.engine().remove(b"key")?;
    ensure!(trial.engine().iter().next().is_none(), "an emptied engine lists an entry");
    Ok(())
}

fn clear_removes_everything_and_counts_it(trial: &mut Trial) -> Verdict {
    for round in 0..3_u64 {
        for n in 0..200 {
            trial.put(&key(n), &expand(n + round, 100))?;
        }
        let cleared = trial.engine().clear()?;
        let least = if trial.liberties.may_evict { 0 } else { 200 };
        ensure!((least..=200).contains(&cleared), "200 entries were cleared as {cleared}");
        let len = trial.engine().len();
        ensure!(len == 0, "len is {len} after clear");
        for n in 0..200 {
            let found = trial.get(&key(n))?;
            ensure!(found.is_none(), "entry {n} is there after clear");
        }
        ensure!(trial.engine().iter().next().is_none(), "something is listed after clear");
        ensure!(!trial.engine().remove(&key(1))?, "remove after clear says true");
        ensure!(trial.engine().clear()? == 0, "a second clear counts something");
        trial.put(&key(7), b"after clear")?;
        trial.holds(&key(7), b"after clear")?;
    }
    Ok(())
}

fn clear_during_iteration_ends_it_well(trial: &mut Trial) -> Verdict {
    for n in 0..500 {
        trial.put(&key(n), b"value")?;
    }
    let mut entries = trial.engine().iter();
    for _ in 0..10 {
        entries.next().transpose()?;
    }
    trial.engine().clear()?;
    let mut rest = 0;
    for entry in entries {
        let (found, value) = entry?;
        ensure!(*value == *b"value", "{} is listed with {}", show(&found), show(&value));
        rest += 1;
    }
    ensure!(rest <= 490, "{rest} more entries are listed of 490");
    trial.put(b"key", b"value")?;
    trial.holds(b"key", b"value")
}

fn a_held_value_keeps_its_bytes(trial: &mut Trial) -> Verdict {
    let most = trial.liberties.admits_len;
    let mut held = Vec::new();
    for (seed, size) in (0..).zip([0, 1, 100, 5_000, 40_000, 70_000, 300_000]) {
        let value = expand(seed, size.min(most));
        trial.put(&key(seed), &value)?;
        held.extend(trial.get(&key(seed))?.map(|found| (found, value)));
    }
    let unchanged = |after: &str| -> Verdict {
        for (found, value) in &held {
            ensure!(
                **found == **value,
                "a held value of {} bytes is {} after {after}",
                value.len(),
                show(found)
            );
        }
        Ok(())
    };
    for n in 0..7 {
        trial.put(&key(n), &expand(100 + n, 5_000))?;
    }
    unchanged("an overwrite")?;
    for n in 0..7 {
        trial.engine().remove(&key(n))?;
    }
    unchanged("a remove")?;
    trial.engine().clear()?;
    unchanged("a clear")?;
    let other = expand(200, 20_000.min(most));
    for n in 0..400 {
        trial.put(&key(n % 50), &other)?;
    }
    unchanged("writing more")?;
    trial.engine().close()?;
    unchanged("closing")
}

fn many_entries_do_not_mix(trial: &mut Trial) -> Verdict {
    const COUNT: u64 = 5_000;
    for n in 0..COUNT {
        trial.put(&key(n), &expand(n, 40))?;
    }
    for n in (0..COUNT).step_by(3) {
        trial.engine().remove(&key(n))?;
    }
    for n in (0..COUNT).step_by(7) {
        trial.put(&key(n), &expand(n, 50))?;
    }
    for n in 0..COUNT {
        let key = key(n);
        match (n % 3, n % 7) {
            (_, 0) => trial.holds(&key, &expand(n, 50))?,
            (0, _) => {
                let found = trial.get(&key)?;
                ensure!(found.is_none(), "{} came back", show(&key));
            }
            _ => trial.holds(&key, &expand(n, 40))?,
        }
    }
    Ok(())
}
