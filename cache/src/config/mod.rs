//! Settings of a cache, from a file, the environment, or code.
//!
//! Everything goes through one table (`fields.rs`): what a file may say, what the environment may
//! override, what is written out, and what is accepted. All that is wrong is told at once.

mod fields;
mod live;
mod problems;
mod record;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder_engine::memory::PolicyKind;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use self::fields::FIELDS;
pub use self::live::Reconfigured;
pub use self::problems::{ConfigError, Problem};
use crate::builder::Builder;
use crate::core::Mode;
use crate::error::{Error, Result};
use crate::places;

/// The file in which settings lie beside a store.
const FILE: &str = "settings.toml";

/// Memory that a cache may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryLimit {
    /// So many bytes, keys and administration included.
    Bytes(u64),
    /// So many entries, whatever they weigh.
    Items(u64),
    /// As much as there is.
    Unlimited,
    /// None: every value is read from the store.
    Off,
}

/// The settings of a cache: as a [`Builder`] takes them, in a form that can be written down.
///
/// Sizes are written `"64MiB"`, times `"90s"`, `"2h 30m"`. Whatever is left out is as a builder has it.
///
/// | field | accepted | |
/// |---|---|---|
/// | `enabled` | `true`, `false` | a cache that is not keeps nothing and loads each time |
/// | `engine` | names of [engines](crate::Engines), or `"auto"` | [`Builder::engines`] |
/// | `memory` | a size, `"unlimited"`, `"off"` | [`Builder::memory`] |
/// | `memory_items` | a number | [`Builder::memory_items`] |
/// | `policy` | a name: `"s3fifo"`, … | [`Builder::policy`] |
/// | `dir` | a path | [`Builder::disk`] |
/// | `app` | a name | a directory of that name where the system keeps caches ([`cache_dir`](crate::cache_dir)) |
/// | `disk` | a size | [`Builder::disk_budget`] |
/// | `mode` | `"write-through"`, `"write-on-evict"` | [`Builder::mode`] |
/// | `namespace` | a name | [`Builder::namespace`] |
/// | `ttl`, `serve_stale`, `serve_stale_on_error`, `refresh_ahead` | a time | the builder's |
/// | `refresh_early`, `jitter` | a number | the builder's |
/// | `strict` | `true`, `false` | [`Builder::strict`] |
/// | `offline_after` | a number | [`Builder::offline_after`] |
/// | `backoff_first`, `backoff_longest` | a time | [`Builder::backoff`] |
///
/// In the environment each has the name `LARDER_` and the field's in capitals. `LARDER_DISABLE=1`
/// switches every cache off, whatever its settings say.
///
/// ```
/// use larder::{Cache, Config};
///
/// # let home = tempfile::tempdir()?;
/// let text = r#"
///     memory = "32MiB"
///     ttl = "15m"
///     mode = "write-through"
/// "#;
/// let mut config = Config::from_toml(text)?.with_env()?;
/// config.dir = Some(home.path().join("pages"));
/// let cache = config.builder::<String, String>()?.build()?;
///
/// let error = Config::from_toml("memory = \"lots\"\nttll = \"15m\"").unwrap_err();
/// assert_eq!(error.problems().len(), 2);
/// assert!(error.to_string().contains("did you mean ttl?"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the table above says it")]
pub struct Config {
    pub enabled: Option<bool>,
    pub engine: Option<Vec<String>>,
    pub memory: Option<MemoryLimit>,
    pub policy: Option<PolicyKind>,
    pub dir: Option<PathBuf>,
    pub app: Option<String>,
    pub disk: Option<u64>,
    pub mode: Option<Mode>,
    pub namespace: Option<String>,
    pub ttl: Option<Duration>,
    pub serve_stale: Option<Duration>,
    pub serve_stale_on_error: Option<Duration>,
    pub refresh_ahead: Option<Duration>,
    pub refresh_early: Option<f64>,
    pub jitter: Option<f64>,
    pub strict: Option<bool>,
    pub offline_after: Option<u32>,
    pub backoff_first: Option<Duration>,
    pub backoff_longest: Option<Duration>,
}

/// What a file can say in one place.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<String>),
    #[serde(skip_serializing)]
    Other(IgnoredAny),
}

impl Config {
    /// Reads settings in the format of TOML.
    ///
    /// # Errors
    /// [`ConfigError`] with all that is wrong: what is no TOML, fields that there are not, values
    /// that are not accepted.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let given: BTreeMap<String, Scalar> =
            toml::from_str(text).map_err(|error| ConfigError::of_file(error.to_string()))?;
        Self::from_fields(given)
    }

    /// Reads settings from a TOML file.
    ///
    /// # Errors
    /// [`ConfigError`] with all that is wrong, the file's name in front.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path);
        let config = text.map_err(|error| ConfigError::of_file(error.to_string()));
        config.and_then(|text| Self::from_toml(&text)).map_err(|error| error.within(path))
    }

    fn from_fields(given: BTreeMap<String, Scalar>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut problems = Vec::new();
        for (name, value) in given {
            match FIELDS.iter().find(|field| field.name == name) {
                None => {
                    problems.push(Problem::unknown(&name, FIELDS.iter().map(|field| field.name)))
                }
                Some(field) => {
                    if (field.set)(&mut config, &value).is_none() {
                        problems.push(Problem::refused(field.name, &value, field.accepted));
                    }
                }
            }
        }
        ConfigError::of(problems).map_or(Ok(config), Err)
    }

    /// The same settings, with what the environment says instead: `LARDER_MEMORY=64MiB`.
    ///
    /// # Errors
    /// [`ConfigError`] with all values that are not accepted, and variables whose names are nearly
    /// that of one.
    pub fn with_env(self) -> Result<Self, ConfigError> {
        self.with_vars(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// As [`with_env`](Self::with_env), from variables that are given.
    ///
    /// # Errors
    /// As [`with_env`](Self::with_env).
    pub fn with_vars(
        mut self,
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        for (variable, value) in vars {
            let Some(name) = variable.strip_prefix("LARDER_") else { continue };
            if name == "DISABLE" {
                // Whoever builds a cache looks at it.
                continue;
            }
            let lower = name.to_lowercase();
            match FIELDS.iter().find(|field| field.name == lower) {
                Some(field) => {
                    let value = Scalar::Text(value);
                    if (field.set)(&mut self, &value).is_none() {
                        problems.push(Problem::refused(&variable, &value, field.accepted));
                    }
                }
                // Others may have variables of that prefix, too.
                None => problems
                    .extend(Problem::misspelt(&variable, FIELDS.iter().map(|field| field.name))),
            }
        }
        ConfigError::of(problems).map_or(Ok(self), Err)
    }

    /// A builder that is set up so, for a cache of these types. Whatever cannot be written down (a
    /// codec, a weigher, an observer) can be added.
    ///
    /// # Errors
    /// [`Error::Config`] if the system has no place for the caches of an [`app`](Self::app), or
    /// both that and a `dir` are given; what else cannot be is told by [`Builder::build`].
    pub fn builder<K, V>(&self) -> Result<Builder<K, V>> {
        let mut builder = Builder::new().enabled(self.enabled.unwrap_or(true));
        let dir = match (&self.dir, &self.app) {
            (Some(_), Some(app)) => {
                let accepted = "either dir or app";
                return Err(Error::Config { option: "app", value: format!("{app:?}"), accepted });
            }
            (Some(dir), None) => Some(dir.clone()),
            (None, Some(app)) if self.enabled != Some(false) => {
                Some(places::cache_dir(app)?.join("store"))
            }
            (None, _) => None,
        };
        builder = match self.memory {
            None => builder,
            Some(MemoryLimit::Bytes(bytes)) => builder.memory(bytes),
            Some(MemoryLimit::Items(items)) => builder.memory_items(items),
            Some(MemoryLimit::Unlimited) => builder.memory_unbounded(),
            Some(MemoryLimit::Off) => builder.no_memory(),
        };
        /// What is given goes to the builder.
        macro_rules! apply {
            ($($value:expr => $method:ident;)*) => {
                $(if let Some(value) = $value { builder = builder.$method(value); })*
            };
        }
        apply! {
            self.engine.clone() => engines;
            self.policy => policy;
            dir => disk;
            self.disk => disk_budget;
            self.mode => mode;
            self.namespace.as_deref() => namespace;
            self.ttl => ttl;
            self.serve_stale => serve_stale;
            self.serve_stale_on_error => serve_stale_on_error;
            self.refresh_ahead => refresh_ahead;
            self.refresh_early => refresh_early;
            self.jitter => jitter;
            self.strict => strict;
            self.offline_after => offline_after;
        }
        if self.backoff_first.is_some() || self.backoff_longest.is_some() {
            let first = self.backoff_first.unwrap_or(Duration::from_millis(500));
            builder = builder
                .backoff(first, self.backoff_longest.unwrap_or(Duration::from_secs(60)).max(first));
        }
        Ok(builder)
    }

    /// Writes the settings to a file beside a store, in its directory, where
    /// [`load`](Self::load) finds them.
    ///
    /// # Errors
    /// [`Error::Settings`] if it cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.save_to(dir.as_ref(), FILE)
    }

    fn save_to(&self, dir: &Path, name: &str) -> Result<()> {
        let path = dir.join(name);
        let failed = |source| Error::Settings { op: "write", path: path.clone(), source };
        let text = toml::to_string(self).map_err(|error| failed(std::io::Error::other(error)))?;
        // In one step, so that nobody reads half of it.
        let temporary = dir.join(format!("{name}.{}", std::process::id()));
        std::fs::write(&temporary, text).map_err(failed)?;
        std::fs::rename(&temporary, &path).map_err(failed)
    }

    /// The settings that were [saved](Self::save) with a store; `None` if there are none.
    ///
    /// # Errors
    /// [`ConfigError`] with all that is wrong with the file.
    pub fn load(dir: impl AsRef<Path>) -> Result<Option<Self>, ConfigError> {
        Self::load_from(dir.as_ref(), FILE)
    }

    fn load_from(dir: &Path, name: &str) -> Result<Option<Self>, ConfigError> {
        let path = dir.join(name);
        if path.exists() { Self::from_file(path).map(Some) } else { Ok(None) }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let given = BTreeMap::<String, Scalar>::deserialize(from)?;
        Self::from_fields(given).map_err(D::Error::custom)
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for field in FIELDS {
            if let Some(value) = (field.get)(self) {
                map.serialize_entry(field.name, &value)?;
            }
        }
        map.end()
    }
}
