//! Engines by name: which there are, whether they can be used, and which one fits.
//!
//! | file | what |
//! |---|---|
//! | `available.rs` | whether an engine can be used, and why not |
//! | `choose.rs` | which one fits what is needed: one table |
//! | `compose.rs` | what names mean for a cache |
//! | `null.rs` | the engine that keeps nothing |

mod available;
mod choose;
mod compose;
mod null;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::memory::{Memory, PolicyKind};
use larder_engine::{Clock, Disk, Engine, Error as EngineError, SystemClock};

pub use self::available::{Availability, Unavailable};
pub use self::choose::{Choice, Kind, Needs, Sharing, Survives};
pub(crate) use self::compose::{Composition, Selection};
pub use self::null::Null;
use crate::error::{Error, Result};
use crate::two_level::TwoLevel;

/// What engines are opened with. An engine takes what concerns it.
///
/// ```
/// use larder::EngineSettings;
///
/// let settings = EngineSettings::new().dir("/var/cache/pages").memory(32 << 20);
/// assert_eq!(settings.memory, 32 << 20);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EngineSettings {
    /// Where an engine keeps its files.
    pub dir: Option<PathBuf>,
    /// Bytes in memory.
    pub memory: u64,
    /// What leaves memory.
    pub policy: PolicyKind,
    /// Bytes on disk.
    pub disk_budget: Option<u64>,
    /// How long values live of which nothing is said.
    pub ttl: Option<Duration>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            dir: None,
            memory: 64 << 20,
            policy: PolicyKind::default(),
            disk_budget: None,
            ttl: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl EngineSettings {
    /// 64 MiB of memory, no directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where an engine keeps its files.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Bytes in memory.
    #[must_use]
    pub const fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// What leaves memory.
    #[must_use]
    pub const fn policy(mut self, policy: PolicyKind) -> Self {
        self.policy = policy;
        self
    }

    /// Bytes on disk.
    #[must_use]
    pub const fn disk_budget(mut self, bytes: u64) -> Self {
        self.disk_budget = Some(bytes);
        self
    }

    /// How long values live of which nothing is said.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Where time comes from.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

type Open = Arc<dyn Fn(&EngineSettings) -> larder_engine::Result<Arc<dyn Engine>> + Send + Sync>;

/// What is known of an engine.
#[derive(Clone)]
struct Known {
    name: Arc<str>,
    /// `None` where it is not compiled, with the feature that it needs.
    open: Result<Open, Arc<str>>,
    needs_dir: bool,
    sharing: Sharing,
}

/// The engines that can be asked for by name.
///
/// | name | what it is | for a [`Cache`](crate::Cache) |
/// |---|---|---|
/// | `memory` | [`Memory`] | memory alone |
/// | `disk` | [`Disk`] | no copies in memory: every value is read from the store |
/// | `two-level` | [`TwoLevel`] | memory over a store |
/// | `null` | [`Null`] | switched off |
/// | your own | what you register | memory over it |
///
/// ```
/// use larder::{Cache, Engines, EngineSettings, Sharing};
/// use std::sync::Arc;
///
/// let mut engines = Engines::default();
/// engines.register("mine", Sharing::Threads, |settings| {
///     // Whatever implements `Engine`.
///     # let _ = settings;
///     Ok(Arc::new(larder::Null::default()))
/// })?;
/// let settings = EngineSettings::new();
/// for engine in engines.available(&settings) {
///     println!("{engine}");
/// }
/// let mine = engines.available(&settings).into_iter().find(|it| &*it.engine == "mine");
/// assert!(mine.is_some_and(|it| it.is_available()));
///
/// let cache = Cache::<u32, String>::builder().registry(engines).engines(["mine"]).build()?;
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone)]
pub struct Engines {
    known: Vec<Known>,
}

impl Default for Engines {
    fn default() -> Self {
        let known = |name: &str, needs_dir, sharing, open: Open| Known {
            name: name.into(),
            open: Ok(open),
            needs_dir,
            sharing,
        };
        Self {
            known: vec![
                known("memory", false, Sharing::Threads, Arc::new(memory)),
                known("disk", true, Sharing::Processes, Arc::new(disk)),
                known("two-level", true, Sharing::Threads, Arc::new(two_level)),
                known("null", false, Sharing::Threads, Arc::new(|_| Ok(Arc::new(Null::default())))),
            ],
        }
    }
}

fn memory(settings: &EngineSettings) -> larder_engine::Result<Arc<dyn Engine>> {
    let memory =
        Memory::builder(settings.memory).policy(settings.policy).clock(Arc::clone(&settings.clock));
    let memory = settings.ttl.into_iter().fold(memory, |memory, ttl| memory.ttl(ttl));
    Ok(Arc::new(memory.build()?))
}

fn disk(settings: &EngineSettings) -> larder_engine::Result<Arc<dyn Engine>> {
    let Some(dir) = &settings.dir else {
        let accepted = "a directory: give one with `.disk(dir)`, or `dir = …`";
        return Err(EngineError::Config {
            option: "disk",
            value: "not given".to_owned(),
            accepted,
        });
    };
    let mut disk = Disk::builder(dir).clock(Arc::clone(&settings.clock));
    if let Some(bytes) = settings.disk_budget {
        disk = disk.budget(bytes);
    }
    if let Some(ttl) = settings.ttl {
        disk = disk.ttl(ttl);
    }
    Ok(Arc::new(disk.open()?))
}

fn two_level(settings: &EngineSettings) -> larder_engine::Result<Arc<dyn Engine>> {
    let both = TwoLevel::builder(disk(settings)?)
        .memory(settings.memory)
        .policy(settings.policy)
        .clock(Arc::clone(&settings.clock));
    let both = settings.ttl.into_iter().fold(both, |both, ttl| both.ttl(ttl));
    both.build().map(|both| Arc::new(both) as Arc<dyn Engine>).map_err(crate::two_level::plain)
}

impl Engines {
    /// Adds an engine of your own. `sharing` says who finds what was put into it; `open` is called when
    /// it is needed, and called again after a pause if it fails.
    ///
    /// # Errors
    /// [`Error::Config`] if the name is taken, empty, or `auto`.
    pub fn register(
        &mut self,
        name: impl Into<Arc<str>>,
        sharing: Sharing,
        open: impl Fn(&EngineSettings) -> larder_engine::Result<Arc<dyn Engine>> + Send + Sync + 'static,
    ) -> Result<()> {
        self.add(Known { name: name.into(), open: Ok(Arc::new(open)), needs_dir: false, sharing })
    }

    /// Says of a name that it would be an engine with another feature switched on, for
    /// [`available`](Self::available) to tell.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn register_missing(
        &mut self,
        name: impl Into<Arc<str>>,
        feature: impl Into<Arc<str>>,
    ) -> Result<()> {
        let open = Err(feature.into());
        self.add(Known { name: name.into(), open, needs_dir: false, sharing: Sharing::Threads })
    }

    fn add(&mut self, known: Known) -> Result<()> {
        let name = &known.name;
        if name.is_empty() || &**name == "auto" || self.find(name).is_some() {
            let value = format!("{name:?}");
            let accepted = "a name that no engine has yet";
            return Err(Error::Config { option: "engine", value, accepted });
        }
        self.known.push(known);
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Known> {
        self.known.iter().find(|known| *known.name == *name)
    }

    /// The names of all engines.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|known| &*known.name)
    }

    /// Opens an engine for plain bytes.
    ///
    /// ```
    /// use larder::{EngineSettings, Engines, Put};
    ///
    /// let engine = Engines::default().open("memory", &EngineSettings::new())?;
    /// assert!(engine.put(b"key", b"value", &Put::default())?.is_admitted());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a name that there is not, or without the directory that it needs;
    /// [`Error::Engine`] with what the engine says.
    pub fn open(&self, name: &str, settings: &EngineSettings) -> Result<Arc<dyn Engine>> {
        if let Some(why) = self.unfit(name, settings) {
            return Err(Error::Unavailable { engine: name.into(), why });
        }
        let open = self.find(name).and_then(|known| known.open.as_ref().ok());
        let open =
            open.ok_or_else(|| Error::Unavailable { engine: name.into(), why: self.unknown() })?;
        open(settings).map_err(|source| Error::Engine { op: "be opened", source })
    }

    /// Whether each engine can be used with these settings, and why not: by trying. A store that lies
    /// in the directory is opened and closed again; otherwise a small one is made there for a moment.
    /// An engine of your own is opened and closed, too.
    #[must_use]
    pub fn available(&self, settings: &EngineSettings) -> Vec<Availability> {
        // One directory is tried once.
        let tried = settings.dir.as_deref().map(available::try_dir);
        let availability = |known: &Known| {
            let found = match (self.unfit(&known.name, settings), &known.open) {
                (Some(why), _) => Err(why),
                (None, Ok(_)) if known.needs_dir => tried.clone().unwrap_or(Ok(None)),
                (None, Ok(open)) => match open(settings).and_then(|engine| engine.close()) {
                    Ok(()) => Ok(None),
                    Err(error) => Err((&error).into()),
                },
                (None, Err(_)) => Ok(None),
            };
            let (unavailable, note) = match found {
                Ok(note) => (None, note),
                Err(why) => (Some(why), None),
            };
            Availability { engine: Arc::clone(&known.name), unavailable, note }
        };
        self.known.iter().map(availability).collect()
    }

    /// Why an engine cannot be used, as far as that can be seen without opening it.
    fn unfit(&self, name: &str, settings: &EngineSettings) -> Option<Unavailable> {
        match self.find(name) {
            None => Some(self.unknown()),
            Some(Known { open: Err(feature), .. }) => {
                Some(Unavailable::Feature { feature: Arc::clone(feature) })
            }
            Some(known) if known.needs_dir && settings.dir.is_none() => {
                Some(Unavailable::NoDirectory)
            }
            Some(_) => None,
        }
    }

    fn unknown(&self) -> Unavailable {
        Unavailable::Unknown { known: self.names().collect::<Vec<_>>().join(", ") }
    }

    /// The first of one's own engines that is shared so far.
    fn shared_by(&self, sharing: Sharing) -> Option<Arc<str>> {
        let fits = |known: &&Known| known.sharing >= sharing && known.open.is_ok();
        self.known.iter().find(fits).map(|known| Arc::clone(&known.name))
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.names()).finish()
    }
}
