//! Behaviours of an engine's life: sync, close, open again.

use super::points::Behaviour;
use super::random::expand;
use super::report::{Stop, Verdict, ensure};
use super::trial::{End, LASTING, Trial};
use crate::CodecId;
use crate::engine::{Durability, Engine, Put, Ttl};
use crate::error::{Error, Result};
use std::time::Duration;

pub(super) const ALL: &[(&str, Behaviour)] = &[
    ("sync_changes_nothing", sync_changes_nothing),
    ("a_closed_engine_says_so", a_closed_engine_says_so),
    ("closing_ends_an_iteration", closing_ends_an_iteration),
    ("what_was_closed_is_there_again", |trial| what_was_put_is_there_again(trial, End::Close)),
    ("what_was_dropped_is_there_again", |trial| what_was_put_is_there_again(trial, End::Drop)),
    ("what_was_removed_stays_away_when_closed", |trial| the_removed_stay_away(trial, End::Close)),
    ("what_was_removed_stays_away_when_dropped", |trial| the_removed_stay_away(trial, End::Drop)),
    ("what_was_cleared_stays_away_when_closed", |trial| the_cleared_stay_away(trial, End::Close)),
    ("what_was_cleared_stays_away_when_dropped", |trial| the_cleared_stay_away(trial, End::Drop)),
    ("deadlines_outlast_reopening", deadlines_outlast_reopening),
    ("versions_grow_over_reopening", versions_grow_over_reopening),
];

fn sync_changes_nothing(trial: &mut Trial) -> Verdict {
    trial.engine().sync()?;
    let synced = Put { durability: Durability::Sync, ..LASTING };
    trial.put_with(b"synced", b"value", &synced)?;
    trial.put(b"not yet", b"value")?;
    trial.engine().sync()?;
    trial.engine().sync()?;
    trial.holds(b"synced", b"value")?;
    trial.holds(b"not yet", b"value")
}

/// Everything that can fail, by name.
fn calls(engine: &dyn Engine) -> [(&'static str, Result<()>); 8] {
    let listed = engine.iter().next().unwrap_or(Ok((Vec::new(), Vec::new().into())));
    [
        ("get", engine.get(b"key").map(drop)),
        ("version", engine.version(b"key").map(drop)),
        ("contains", engine.contains(b"key").map(drop)),
        ("put", engine.put(b"key", b"value", &LASTING).map(|_| ())),
        ("remove", engine.remove(b"key").map(drop)),
        ("clear", engine.clear().map(drop)),
        ("sync", engine.sync()),
        ("iter", listed.map(drop)),
    ]
}

fn a_closed_engine_says_so(trial: &mut Trial) -> Verdict {
    trial.put(b"key", b"value")?;
    for (call, said) in calls(trial.engine()) {
        ensure!(said.is_ok(), "{call} fails before closing: {said:?}");
    }
    trial.put(b"key", b"value")?;
    let held = trial.get(b"key")?;
    trial.engine().close()?;
    for _ in 0..2 {
        for (call, said) in calls(trial.engine()) {
            ensure!(matches!(said, Err(Error::Closed)), "{call} after closing says {said:?}");
        }
    }
    let again = trial.engine().close();
    ensure!(matches!(again, Ok(()) | Err(Error::Closed)), "closing a second time says {again:?}");
    // Neither fails, and neither may panic.
    let _ = (trial.engine().len(), trial.engine().stats());
    ensure!(held.is_none_or(|held| *held == *b"value"), "a value changed when its engine closed");
    Ok(())
}

fn closing_ends_an_iteration(trial: &mut Trial) -> Verdict {
    for n in 0..100_u8 {
        trial.put(&[n], &[n])?;
    }
    let mut entries = trial.engine().iter();
    entries.next().transpose()?;
    trial.engine().close()?;
    for entry in entries.take(200) {
        match entry {
            Ok((key, value)) => ensure!(*key == *value, "entry {key:?} is listed with {value:?}"),
            Err(Error::Closed) => return Ok(()),
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

fn what_was_put_is_there_again(trial: &mut Trial, end: End) -> Verdict {
    if !trial.keeps_after(end) {
        return Err(Stop::DoesNotApply("such an engine does not promise that"));
    }
    const COUNT: u64 = 300;
    let most = trial.liberties.admits_len;
    let codec = |n: u64| CodecId { id: u8::try_from(n % 250).unwrap_or(0), version: 3 };
    let len = |n: u64| match n % 50 {
        0 => 0,
        1 => 70_000.min(most),
        2 => 33_000.min(most),
        rest => usize::try_from(rest * 7).unwrap_or(0),
    };
    let mut versions = Vec::new();
    for n in 0..COUNT {
        trial.put(&n.to_le_bytes(), b"replaced below")?;
        let options = Put { codec: codec(n), ..LASTING };
        versions.push(trial.put_with(&n.to_le_bytes(), &expand(n, len(n)), &options)?);
    }
    let large = expand(1, most);
    trial.put(b"large", &large)?;
    let reopened = |trial: &Trial| -> Verdict {
        for (n, version) in (0..).zip(&versions) {
            trial.holds(&u64::to_le_bytes(n), &expand(n, len(n)))?;
            if let Some(value) = trial.get(&u64::to_le_bytes(n))? {
                let meta = value.meta();
                ensure!(meta.codec == codec(n), "entry {n} came back as {:?}", meta.codec);
                ensure!(
                    meta.version == *version,
                    "entry {n} was put as version {version}, came back as {}",
                    meta.version
                );
            }
        }
        trial.holds(b"large", &large)?;
        let len = trial.engine().len();
        let least = if trial.liberties.may_evict { 0 } else { COUNT + 1 };
        ensure!(
            (least..=COUNT + 1).contains(&len),
            "{} entries were left, len says {len}",
            COUNT + 1
        );
        Ok(())
    };
    trial.reopen(end)?;
    reopened(trial)?;
    trial.reopen(end)?;
    reopened(trial)
}

fn the_removed_stay_away(trial: &mut Trial, end: End) -> Verdict {
    for n in 0..100_u64 {
        trial.put(&n.to_le_bytes(), b"in an earlier life")?;
    }
    trial.reopen(end)?;
    for n in (0..100_u64).step_by(2) {
        trial.put(&n.to_le_bytes(), b"removed below")?;
    }
    for n in 0..50_u64 {
        trial.engine().remove(&n.to_le_bytes())?;
    }
    for _ in 0..2 {
        trial.reopen(end)?;
        for n in 0..100_u64 {
            match n {
                0..50 => trial.lacks(&n.to_le_bytes())?,
                _ if n % 2 == 0 => trial.holds(&n.to_le_bytes(), b"removed below")?,
                _ => trial.holds(&n.to_le_bytes(), b"in an earlier life")?,
            }
        }
    }
    Ok(())
}

fn the_cleared_stay_away(trial: &mut Trial, end: End) -> Verdict {
    for n in 0..200_u64 {
        trial.put(&n.to_le_bytes(), &expand(n, 300))?;
    }
    trial.reopen(end)?;
    trial.engine().clear()?;
    trial.put(b"after", b"clear")?;
    for _ in 0..2 {
        trial.reopen(end)?;
        trial.holds(b"after", b"clear")?;
        for n in 0..200_u64 {
            let found = trial.get(&n.to_le_bytes())?;
            ensure!(found.is_none(), "entry {n} was cleared and is back");
        }
        let len = trial.engine().len();
        ensure!(len <= 1, "one entry was put after clear, len says {len}");
    }
    Ok(())
}

fn deadlines_outlast_reopening(trial: &mut Trial) -> Verdict {
    let until = |ms: u64| Put { ttl: Ttl::After(Duration::from_millis(ms)), ..LASTING };
    trial.put_with(b"short", b"value", &until(100))?;
    trial.put_with(b"long", b"value", &until(200))?;
    trial.put_with(b"dead", b"old", &until(300))?;
    trial.put_with(b"dead", b"new", &until(0))?;
    trial.clock.advance(99);
    trial.reopen(End::Close)?;
    trial.holds(b"short", b"value")?;
    trial.lacks(b"dead")?;
    trial.clock.advance(1);
    trial.lacks(b"short")?;
    trial.clock.advance(99);
    trial.reopen(End::Close)?;
    trial.lacks(b"short")?;
    trial.lacks(b"dead")?;
    trial.holds(b"long", b"value")?;
    trial.clock.advance(1);
    trial.lacks(b"long")
}

fn versions_grow_over_reopening(trial: &mut Trial) -> Verdict {
    let mut last = 0;
    for round in 0..6_u8 {
        let version = trial.put(b"key", &[round])?;
        ensure!(version > last || round == 0, "round {round} got version {version} after {last}");
        last = version;
        if round % 2 == 0 {
            trial.engine().remove(b"key")?;
        }
        trial.reopen(End::Close)?;
    }
    Ok(())
}
