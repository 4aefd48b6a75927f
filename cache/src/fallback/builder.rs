//! How engines that stand in for each other are set up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder_engine::{Clock, Engine, Error, Result, SystemClock};

use super::back::Returning;
use super::link::{Common, Link, Opener, Trouble};
use super::{Fallback, Inner, LINKS_MAX};
use crate::event::{Event, Events};
use crate::health::Patience;
use crate::stripe::Stripes;
use crate::sync::{AtomicBool, AtomicUsize, Mutex};

/// Sets up a [`Fallback`].
#[must_use = "nothing is opened before `build`"]
pub struct FallbackBuilder {
    engines: Vec<(Arc<str>, Opener)>,
    patience: Patience,
    retries: u32,
    clock: Arc<dyn Clock>,
    events: Arc<Events>,
    emits: bool,
    in_background: bool,
}

impl FallbackBuilder {
    pub(super) fn new() -> Self {
        Self {
            engines: Vec::new(),
            patience: Patience::default(),
            retries: 1,
            clock: Arc::new(SystemClock),
            events: Arc::new(Events::new(None)),
            emits: false,
            in_background: true,
        }
    }

    /// One more engine, for when all before it cannot be relied on. The first is the one that is
    /// wanted.
    pub fn or(
        mut self,
        name: impl Into<Arc<str>>,
        open: impl Fn() -> Result<Arc<dyn Engine>> + Send + Sync + 'static,
    ) -> Self {
        self.engines.push((name.into(), Box::new(open)));
        self
    }

    /// After how many failures in a row an engine is not tried for a while; 5 if nothing is
    /// said. Those that will not pass count as so many.
    pub const fn offline_after(mut self, failures: u32) -> Self {
        self.patience.limit = failures;
        self
    }

    /// How long it is not tried: at first, and at most. The pause doubles with every attempt that
    /// fails. Half a second and a minute if nothing is said.
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.patience.first = first;
        self.patience.longest = longest;
        self
    }

    /// The share of a pause, from 0 to 1, that may be left out by chance; a tenth if nothing is
    /// said.
    pub const fn backoff_jitter(mut self, share: f64) -> Self {
        self.patience.jitter = share;
        self
    }

    /// How often an operation that failed for a passing reason is tried again at once, before it
    /// counts as a failure; once if nothing is said.
    pub const fn retries(mut self, count: u32) -> Self {
        self.retries = count;
        self
    }

    /// Called with what happens: [`Event::Circuit`], [`Event::Switched`] and failures. It must not
    /// use a cache over this engine. (One that is set up by
    /// [`Builder::engines`](crate::Builder::engines) tells the cache's own observer instead.)
    pub fn on_event(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.events = Arc::new(Events::new(Some(Arc::new(observer))));
        self.emits = true;
        self
    }

    /// Where time comes from, for the pauses.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Whether engines that were away are brought back by a thread of its own, as they are if nothing
    /// is said, or by whoever comes by when their pause is over.
    pub const fn in_background(mut self, background: bool) -> Self {
        self.in_background = background;
        self
    }

    /// Builds the engine, and opens the first one that can be.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no engine, or more than 8, and for pauses that cannot be; whatever the
    /// last engine says if none can be opened.
    pub fn build(self) -> Result<Fallback> {
        let refuse =
            |option, value: String, accepted| Err(Error::Config { option, value, accepted });
        if !(1..=LINKS_MAX).contains(&self.engines.len()) {
            return refuse("engines", self.engines.len().to_string(), "1 to 8 are accepted");
        }
        if self.patience.limit == 0 {
            return refuse("offline_after", "0".to_owned(), "at least 1 failure");
        }
        if self.patience.first > self.patience.longest {
            let value = format!("{:?}", self.patience.first);
            return refuse("backoff", value, "at most the longest pause");
        }
        if !(0.0..=1.0).contains(&self.patience.jitter) {
            let value = self.patience.jitter.to_string();
            return refuse("backoff_jitter", value, "a share from 0 to 1");
        }
        let common = Common {
            patience: self.patience,
            retries: self.retries,
            clock: self.clock,
            events: Arc::clone(&self.events),
        };
        let links = self.engines.into_iter().enumerate();
        let links = links.map(|(at, (name, open))| Link::new(name, open, at == 0, &common));
        let inner = Arc::new(Inner {
            links: links.collect(),
            stripes: Stripes::default(),
            reach: AtomicUsize::new(0),
            troubled: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            serves: Mutex::new(0),
            events: self.events,
            emits: self.emits,
        });
        let mut last = None;
        let is_opened = inner.links.iter().any(|link| {
            let opened = link.open();
            if let Err(Trouble::Failed(error)) = opened {
                last = Some(error);
                return false;
            }
            opened.is_ok()
        });
        inner.look();
        inner.emit();
        match last {
            Some(error) if !is_opened => Err(error),
            _ => Ok(Fallback { inner, returning: Returning::new(self.in_background) }),
        }
    }
}

impl FallbackBuilder {
    /// Tells somebody else's events, who gives them out.
    pub(crate) fn events(mut self, events: Arc<Events>) -> Self {
        self.events = events;
        self.emits = false;
        self
    }

    pub(crate) fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }
}

impl fmt::Debug for FallbackBuilder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.engines.iter().map(|(name, _)| name).collect();
        out.debug_struct("FallbackBuilder").field("engines", &names).finish_non_exhaustive()
    }
}
