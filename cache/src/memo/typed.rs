//! A closure and its results, without a macro.

use std::any::type_name;
use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::call::Call;
use super::explain::Explanation;
use super::function::Function;
use super::handle::Handle;
use super::returns::Returns;
use super::setup::Rules;
use super::stats::FunctionStats;
use crate::cache::Cache;
use crate::codec::{Auto, Codec};
use crate::error::Result;
use crate::key::{KeyBuf, KeyEncode};

/// A function whose results are kept in a cache, under its arguments.
///
/// The function takes one argument by reference; several are a tuple, or a type that derives
/// [`KeyEncode`](trait@KeyEncode). What of its result is kept is decided by the type of the cache's values: see
/// [`Returns`]. What happens when threads, recursion or a failing store come into it: see
/// [the module](super).
///
/// ```
/// use larder::{Cache, Memo};
///
/// let ports = Cache::<String, u16>::builder().memory_items(1_000).build()?;
/// let ports = Memo::new(ports, |text: &str| text.parse::<u16>());
/// assert_eq!(ports.call("8080"), Ok(8080));
/// assert!(ports.call("port").is_err());
/// assert!(ports.is_cached("8080") && !ports.is_cached("port"));
/// # Ok::<(), larder::Error>(())
/// ```
///
/// A store in a directory lets results outlive the process. Give the function a
/// [name](MemoBuilder::name) or a [version](MemoBuilder::version) then: nothing else tells its results from those
/// of other functions over the same cache, or of the code as it was.
pub struct Memo<K, V, F, C = Auto>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    function: Function<V, C>,
    body: F,
    keys: PhantomData<fn(K)>,
}

// Without a function, so that its type need not be said where there is none yet.
impl<K, V, C> Memo<K, V, (), C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// Begins to set up a function over `cache`, with a name, a version or rules of its own.
    pub fn builder(cache: Cache<K, V, C>) -> MemoBuilder<K, V, C> {
        MemoBuilder { cache, rules: Rules::default() }
    }
}

impl<K, V, F, C> Memo<K, V, F, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// Keeps results of `body` in `cache`, whose keys are the arguments themselves: what the
    /// cache holds already counts as a result.
    pub fn new<Q, R>(cache: Cache<K, V, C>, body: F) -> Self
    where
        F: Fn(&Q) -> R,
        R: Returns<V>,
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let rules = Rules { shares: false, ..Rules::default() };
        let core = Arc::clone(cache.core());
        // There is no name that another could have.
        let registered = Function::register(&core, &rules, "").unwrap_or_default();
        Self { function: Function::new(core, rules, registered), body, keys: PhantomData }
    }

    /// The result for `args`, kept or computed.
    pub fn call<Q, R>(&self, args: &Q) -> R
    where
        F: Fn(&Q) -> R,
        R: Returns<V>,
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.function.find_or_run(&mut self.key(args), |_| (self.body)(args))
    }

    /// Computes the result for `args` whatever is kept, and keeps it in place of that. If it is
    /// not to be kept, what is kept stays.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use larder::{Cache, Memo};
    ///
    /// let counter = Cell::new(0);
    /// let next = |_: &u8| counter.replace(counter.get() + 1);
    /// let memo = Memo::new(Cache::<u8, u64>::builder().build()?, next);
    /// assert_eq!((memo.call(&0), memo.call(&0)), (0, 0));
    /// assert_eq!((memo.call_fresh(&0), memo.call(&0)), (1, 1));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn call_fresh<Q, R>(&self, args: &Q) -> R
    where
        F: Fn(&Q) -> R,
        R: Returns<V>,
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.function.run_fresh(&mut self.key(args), |_| (self.body)(args))
    }

    /// The result for `args`, if it is kept; the body is not run.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), or what the store says if the cache is strict.
    pub fn get<Q>(&self, args: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.asked(args).get()
    }

    /// Whether a call would find a result. What the cache cannot say counts as no.
    #[must_use]
    pub fn is_cached<Q>(&self, args: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.asked(args).is_cached()
    }

    /// Forgets the result for `args`: whether there was one. A call that is under way returns what it computes, and
    /// that is not kept.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub fn invalidate<Q>(&self, args: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.asked(args).invalidate()
    }

    /// Why a call would miss.
    #[must_use]
    pub fn explain<Q>(&self, args: &Q) -> Explanation
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.asked(args).explain()
    }

    /// A reference to the result for `args`, if it is kept.
    #[must_use]
    pub fn handle<Q>(&self, args: &Q) -> Option<Handle<V>>
    where
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        self.asked(args).handle()
    }

    /// The result that a handle refers to, if it is still kept.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub fn fetch(&self, handle: &Handle<V>) -> Result<Option<V>> {
        self.function.fetch(handle)
    }

    /// Forgets all results: see [`Function::clear`]. Without a name and a version, the whole
    /// cache is cleared.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    pub fn clear(&self) -> Result<u64> {
        self.function.clear()
    }

    /// What its calls came to.
    #[must_use]
    pub fn stats(&self) -> FunctionStats {
        self.function.stats()
    }

    /// Its results, without the body.
    #[must_use]
    pub const fn function(&self) -> &Function<V, C> {
        &self.function
    }

    fn key<Q: KeyEncode + ?Sized>(&self, args: &Q) -> KeyBuf {
        let mut key = self.function.begin();
        args.encode(&mut key);
        key
    }

    fn asked<Q: KeyEncode + ?Sized>(&self, args: &Q) -> Call<'_, V, C> {
        Call::new(&self.function, self.key(args))
    }
}

impl<K, V, F, C> fmt::Debug for Memo<K, V, F, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Memo").field(&self.function).finish()
    }
}

/// Sets up a [`Memo`].
///
/// ```
/// use larder::{Cache, Memo};
/// use std::time::Duration;
///
/// let cache = Cache::<(u32, u32), f64>::builder().build()?;
/// let ratio = Memo::builder(cache.clone())
///     .name("ratio")
///     .version(2)
///     .ttl(Duration::from_secs(3600))
///     .cache_if(|ratio| ratio.is_finite())
///     .build(|(one, two): &(u32, u32)| f64::from(*one) / f64::from(*two))?;
/// // Another function in the same cache.
/// let product = Memo::builder(cache)
///     .name("product")
///     .build(|(one, two): &(u32, u32)| f64::from(*one) * f64::from(*two))?;
/// assert_eq!((ratio.call(&(1, 2)), product.call(&(1, 2))), (0.5, 2.0));
/// assert!(ratio.call(&(1, 0)).is_infinite() && !ratio.is_cached(&(1, 0)));
/// # Ok::<(), larder::Error>(())
/// ```
#[must_use]
pub struct MemoBuilder<K, V, C = Auto>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    cache: Cache<K, V, C>,
    rules: Rules<V>,
}

impl<K, V, C> MemoBuilder<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    /// What tells the function's results from those of others in the same cache, also after a restart.
    pub fn name(mut self, name: &str) -> Self {
        self.rules.name = name.into();
        self
    }

    /// Which version of the code makes the results. Those of others are not seen, and stay until they are evicted.
    pub fn version(mut self, version: u64) -> Self {
        self.rules.version = Some(version);
        self
    }

    /// How long results are good, instead of what the cache says.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.rules.ttl = Some(ttl);
        self
    }

    /// Which results are kept; others are returned, and the next call runs again.
    pub fn cache_if(mut self, rule: impl Fn(&V) -> bool + Send + Sync + 'static) -> Self {
        self.rules.cache_if = Some(Arc::new(rule));
        self
    }

    /// Which results are still good when they are found; others are computed again. It runs where locks may be held, and
    /// must not use the cache.
    pub fn valid_if(mut self, rule: impl Fn(&V) -> bool + Send + Sync + 'static) -> Self {
        self.rules.valid_if = Some(Arc::new(rule));
        self
    }

    /// The function.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if another function has this name and version in the cache.
    #[track_caller]
    pub fn build<F, Q, R>(self, body: F) -> Result<Memo<K, V, F, C>>
    where
        F: Fn(&Q) -> R,
        R: Returns<V>,
        K: Borrow<Q>,
        Q: KeyEncode + ?Sized,
    {
        let core = Arc::clone(self.cache.core());
        let registered = Function::register(&core, &self.rules, &body_of::<F>())?;
        let function = Function::new(core, self.rules, registered);
        Ok(Memo { function, body, keys: PhantomData })
    }
}

/// What tells a body from others of the same process: of a function its type, of which closures and
/// pointers have no name of their own, so of them also where they are given.
#[track_caller]
fn body_of<F>() -> String {
    let name = type_name::<F>();
    let is_shared = ["{{closure}}", "(", "dyn "].iter().any(|part| name.contains(part));
    if is_shared { format!("{name} of {}", Location::caller()) } else { name.to_owned() }
}

impl<K, V, C> fmt::Debug for MemoBuilder<K, V, C>
where
    V: Clone + Send + Sync + 'static,
    C: Codec<V>,
{
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, version) = (&self.rules.name, self.rules.version);
        out.debug_struct("MemoBuilder").field("name", name).field("version", &version).finish()
    }
}
