//! Behaviours of time: when a value dies, and what is left of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::points::Behaviour;
use super::report::{Verdict, ensure};
use super::trial::{LASTING, Trial};
use crate::clock::NEVER;
use crate::engine::{Put, Ttl};

pub(super) const ALL: &[(&str, Behaviour)] = &[
    ("a_value_lives_while_now_is_below_its_deadline", a_value_lives_to_its_deadline),
    ("a_ttl_of_zero_is_dead_at_once", a_ttl_of_zero_is_dead_at_once),
    ("a_dead_put_removes_the_old_value", a_dead_put_removes_the_old_value),
    ("a_deadline_can_be_a_time_of_the_wall_clock", a_deadline_can_be_a_time),
    ("a_put_replaces_the_expiry", a_put_replaces_the_expiry),
    ("a_ttl_that_overflows_never_expires", a_ttl_that_overflows_never_expires),
    ("the_default_ttl_is_the_one_set_up", the_default_ttl_is_the_one_set_up),
    ("remove_of_an_expired_key_is_false", remove_of_an_expired_key_is_false),
    ("what_expires_is_not_listed", what_expires_is_not_listed),
    ("a_dead_key_can_be_put_again", a_dead_key_can_be_put_again),
];

const fn after_ms(ms: u64) -> Put<'static> {
    Put { ttl: Ttl::After(Duration::from_millis(ms)), ..LASTING }
}

fn at_ms(ms: u64) -> Put<'static> {
    Put { ttl: Ttl::At(UNIX_EPOCH + Duration::from_millis(ms)), ..LASTING }
}

/// The value says when it dies.
fn dies_at(trial: &Trial, key: &[u8], deadline_ms: u64) -> Verdict {
    if let Some(value) = trial.get(key)? {
        let says = value.meta().expires_at_ms;
        ensure!(says == deadline_ms, "expires at {deadline_ms}, its value says {says}");
    }
    Ok(())
}

fn a_value_lives_to_its_deadline(trial: &mut Trial) -> Verdict {
    for ttl_ms in [1, 2, 1_000, 86_400_000, 10_000_000_000] {
        trial.put_with(b"key", b"value", &after_ms(ttl_ms))?;
        trial.holds(b"key", b"value")?;
        dies_at(trial, b"key", trial.now_ms() + ttl_ms)?;
        trial.clock.advance(ttl_ms - 1);
        trial.holds(b"key", b"value")?;
        trial.clock.advance(1);
        trial.lacks(b"key")?;
        trial.clock.advance(1);
        trial.lacks(b"key")?;
    }
    Ok(())
}

fn a_ttl_of_zero_is_dead_at_once(trial: &mut Trial) -> Verdict {
    trial.put_with(b"key", b"value", &after_ms(0))?;
    trial.lacks(b"key")?;
    trial.put_with(b"key", b"value", &after_ms(1))?;
    trial.holds(b"key", b"value")
}

fn a_dead_put_removes_the_old_value(trial: &mut Trial) -> Verdict {
    let past = Put { ttl: Ttl::At(UNIX_EPOCH), ..LASTING };
    let before_1970 = SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(1));
    let odd = Put { ttl: before_1970.map_or(Ttl::After(Duration::ZERO), Ttl::At), ..LASTING };
    let dead = [after_ms(0), at_ms(trial.now_ms()), at_ms(trial.now_ms() - 1), past, odd];
    trial.put(b"other", b"untouched")?;
    for options in dead {
        trial.put(b"key", b"old")?;
        trial.holds(b"key", b"old")?;
        trial.put_with(b"key", b"dead on arrival", &options)?;
        trial.lacks(b"key")?;
    }
    trial.holds(b"other", b"untouched")
}

fn a_deadline_can_be_a_time(trial: &mut Trial) -> Verdict {
    let deadline_ms = trial.now_ms() + 777;
    trial.put_with(b"key", b"value", &at_ms(deadline_ms))?;
    dies_at(trial, b"key", deadline_ms)?;
    trial.clock.advance(776);
    trial.holds(b"key", b"value")?;
    trial.clock.advance(1);
    trial.lacks(b"key")
}

fn a_put_replaces_the_expiry(trial: &mut Trial) -> Verdict {
    trial.put_with(b"longer", b"old", &after_ms(10))?;
    trial.put_with(b"longer", b"new", &after_ms(20))?;
    trial.put_with(b"shorter", b"old", &after_ms(20))?;
    trial.put_with(b"shorter", b"new", &after_ms(10))?;
    trial.put_with(b"permanent", b"old", &after_ms(10))?;
    trial.put(b"permanent", b"new")?;
    dies_at(trial, b"permanent", NEVER)?;
    trial.clock.advance(10);
    trial.holds(b"longer", b"new")?;
    trial.lacks(b"shorter")?;
    trial.clock.advance(10);
    trial.lacks(b"longer")?;
    trial.clock.advance(1 << 40);
    trial.holds(b"permanent", b"new")
}

fn a_ttl_that_overflows_never_expires(trial: &mut Trial) -> Verdict {
    let forever = Put { ttl: Ttl::After(Duration::MAX), ..LASTING };
    trial.put_with(b"key", b"value", &forever)?;
    dies_at(trial, b"key", NEVER)?;
    trial.clock.advance(1 << 50);
    trial.holds(b"key", b"value")
}

fn the_default_ttl_is_the_one_set_up(trial: &mut Trial) -> Verdict {
    let default = trial.liberties.default_ttl;
    let deadline_ms = Ttl::Default.deadline_ms(trial.now_ms(), default);
    trial.put_with(b"key", b"value", &Put::default())?;
    trial.put(b"permanent", b"value")?;
    dies_at(trial, b"key", deadline_ms)?;
    if deadline_ms == NEVER {
        trial.clock.advance(1 << 40);
        return trial.holds(b"key", b"value");
    }
    trial.clock.advance(deadline_ms - trial.now_ms() - 1);
    trial.holds(b"key", b"value")?;
    trial.clock.advance(1);
    trial.lacks(b"key")?;
    trial.holds(b"permanent", b"value")
}

fn remove_of_an_expired_key_is_false(trial: &mut Trial) -> Verdict {
    trial.put_with(b"asked", b"value", &after_ms(10))?;
    trial.put_with(b"not asked", b"value", &after_ms(10))?;
    trial.clock.advance(10);
    trial.lacks(b"asked")?;
    for key in [&b"asked"[..], b"not asked"] {
        ensure!(!trial.engine().remove(key)?, "remove of what has expired says true");
        trial.lacks(key)?;
    }
    Ok(())
}

fn what_expires_is_not_listed(trial: &mut Trial) -> Verdict {
    for n in 0..100_u64 {
        let options = if n % 2 == 0 { after_ms(1 + n) } else { LASTING };
        trial.put_with(&n.to_le_bytes(), b"value", &options)?;
    }
    trial.clock.advance(50);
    // An even n below 50 is dead: it was given 1 + n ms.
    let mut listed = 0;
    for entry in trial.engine().iter() {
        let (key, _) = entry?;
        let n = u64::from_le_bytes(key.try_into().unwrap_or_default());
        ensure!(n % 2 == 1 || n >= 50, "entry {n} is dead and is listed");
        listed += 1;
    }
    let (least, most) = if trial.liberties.may_evict { (0, 75) } else { (75, 75) };
    ensure!((least..=most).contains(&listed), "75 entries are live, {listed} are listed");
    let len = trial.engine().len();
    ensure!((least..=100).contains(&len), "between 75 and 100 entries are there, len says {len}");
    Ok(())
}

fn a_dead_key_can_be_put_again(trial: &mut Trial) -> Verdict {
    let mut last = 0;
    for round in 0..10_u8 {
        let version = trial.put_with(b"key", &[round], &after_ms(5))?;
        ensure!(version > last || round == 0, "version {version} came after {last}");
        last = version;
        trial.holds(b"key", &[round])?;
        trial.clock.advance(5);
        trial.lacks(b"key")?;
    }
    Ok(())
}
