//! What can be set: names, what is accepted, and how it is read and written.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use larder_engine::memory::PolicyKind;

use super::{Config, MemoryLimit, Scalar};
use crate::core::Mode;

/// One of the settings.
pub(super) struct Field {
    pub(super) name: &'static str,
    /// What can be given, to follow the word "give".
    pub(super) accepted: &'static str,
    /// Sets it; `None` if the value is not accepted.
    pub(super) set: fn(&mut Config, &Scalar) -> Option<()>,
    pub(super) get: fn(&Config) -> Option<Scalar>,
}

const SIZE: &str = "a size, as \"64MiB\" or a number of bytes";
const TIME: &str = "a time, as \"90s\" or \"2h 30m\"";
const YES_OR_NO: &str = "true or false";
const NAME: &str = "a name in quotes";

/// A field whose value is read by one function and written by another.
macro_rules! field {
    ($name:ident, $accepted:expr, $read:expr, $write:expr) => {
        Field {
            name: stringify!($name),
            accepted: $accepted,
            set: |config, given| {
                config.$name = Some($read(given)?);
                Some(())
            },
            get: |config| config.$name.as_ref().map($write),
        }
    };
}

pub(super) const FIELDS: &[Field] = &[
    field!(enabled, YES_OR_NO, yes_or_no, |value: &bool| Scalar::Bool(*value)),
    field!(
        engine,
        "the name of an engine, as \"two-level\", or a list of them",
        names,
        |names: &Vec<String>| match &**names {
            [name] => Scalar::Text(name.clone()),
            names => Scalar::List(names.to_vec()),
        }
    ),
    Field {
        name: "memory",
        accepted: "a size, as \"64MiB\" or a number of bytes, \"unlimited\" or \"off\"",
        set: |config, given| {
            config.memory = Some(match text(given).as_deref() {
                Some("unlimited") => MemoryLimit::Unlimited,
                Some("off") => MemoryLimit::Off,
                _ => MemoryLimit::Bytes(size(given)?),
            });
            Some(())
        },
        get: |config| match config.memory? {
            MemoryLimit::Bytes(bytes) => Some(write_size(&bytes)),
            MemoryLimit::Unlimited => Some(Scalar::Text("unlimited".to_owned())),
            MemoryLimit::Off => Some(Scalar::Text("off".to_owned())),
            MemoryLimit::Items(_) => None,
        },
    },
    Field {
        name: "memory_items",
        accepted: "a number of entries, and no memory beside it",
        set: |config, given| {
            if matches!(config.memory, Some(limit) if !matches!(limit, MemoryLimit::Items(_))) {
                return None;
            }
            config.memory = Some(MemoryLimit::Items(whole(given)?));
            Some(())
        },
        get: |config| match config.memory? {
            MemoryLimit::Items(items) => Some(write_whole(items)),
            _ => None,
        },
    },
    field!(
        policy,
        "the name of a policy, as \"s3fifo\", \"w-tinylfu\", \"lru\" or \"adaptive\"",
        |given| text(given)?.parse::<PolicyKind>().ok(),
        |policy: &PolicyKind| Scalar::Text(policy.to_string())
    ),
    field!(dir, "a path in quotes", |given| text(given).map(PathBuf::from), |dir: &PathBuf| {
        Scalar::Text(dir.to_string_lossy().into_owned())
    }),
    field!(app, NAME, text, |app: &String| Scalar::Text(app.clone())),
    field!(disk, SIZE, size, write_size),
    field!(mode, "\"write-through\" or \"write-on-evict\"", mode, |mode: &Mode| {
        Scalar::Text(
            match mode {
                Mode::WriteThrough => "write-through",
                Mode::WriteOnEvict => "write-on-evict",
            }
            .to_owned(),
        )
    }),
    field!(namespace, NAME, text, |name: &String| Scalar::Text(name.clone())),
    field!(ttl, TIME, time, write_time),
    field!(serve_stale, TIME, time, write_time),
    field!(serve_stale_on_error, TIME, time, write_time),
    field!(refresh_ahead, TIME, time, write_time),
    field!(refresh_early, "a number from 0, for never; 1 is good", number, |n: &f64| {
        Scalar::Float(*n)
    }),
    field!(jitter, "a number from 0 to 1", share, |n: &f64| Scalar::Float(*n)),
    field!(strict, YES_OR_NO, yes_or_no, |value: &bool| Scalar::Bool(*value)),
    field!(
        offline_after,
        "a number of failures from 1",
        |given| whole(given).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
        |n: &u32| Scalar::Int((*n).into())
    ),
    field!(backoff_first, TIME, time, write_time),
    field!(backoff_longest, TIME, time, write_time),
];

fn text(given: &Scalar) -> Option<String> {
    match given {
        Scalar::Text(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        _ => None,
    }
}

fn names(given: &Scalar) -> Option<Vec<String>> {
    match given {
        Scalar::List(names) => Some(names.clone()).filter(|names| !names.is_empty()),
        given => {
            let names = text(given)?;
            Some(names.split(',').map(|name| name.trim().to_owned()).collect())
        }
    }
}

fn yes_or_no(given: &Scalar) -> Option<bool> {
    match given {
        Scalar::Bool(value) => Some(*value),
        Scalar::Text(text) => match &**text {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn whole(given: &Scalar) -> Option<u64> {
    match given {
        Scalar::Int(number) => u64::try_from(*number).ok(),
        Scalar::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn number(given: &Scalar) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a setting that people write")]
    let number = match given {
        Scalar::Int(number) => Some(*number as f64),
        Scalar::Float(number) => Some(*number),
        Scalar::Text(text) => text.parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite() && *number >= 0.0)
}

fn share(given: &Scalar) -> Option<f64> {
    number(given).filter(|share| *share <= 1.0)
}

fn size(given: &Scalar) -> Option<u64> {
    match given {
        Scalar::Text(text) => text.parse::<ByteSize>().ok().map(|size| size.as_u64()),
        given => whole(given),
    }
}

fn time(given: &Scalar) -> Option<Duration> {
    humantime::parse_duration(&text(given)?).ok()
}

fn mode(given: &Scalar) -> Option<Mode> {
    match text(given)?.as_str() {
        "write-through" => Some(Mode::WriteThrough),
        "write-on-evict" => Some(Mode::WriteOnEvict),
        _ => None,
    }
}

/// To the byte, in words where they say it exactly.
fn write_size(bytes: &u64) -> Scalar {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let exact = units.iter().find(|(unit, _)| *bytes != 0 && bytes.is_multiple_of(*unit));
    Scalar::Text(match exact {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    })
}

fn write_whole(number: u64) -> Scalar {
    i64::try_from(number).map_or_else(|_| Scalar::Text(number.to_string()), Scalar::Int)
}

fn write_time(time: &Duration) -> Scalar {
    Scalar::Text(humantime::format_duration(*time).to_string())
}
