//! What loaders return.

use larder_engine::{Cost, Durability, Put, Ttl};

/// What a loader made, and how it is to be kept. A plain value is kept as the cache is set up.
///
/// ```
/// use larder::{Cache, LoadError, Loaded};
/// use std::convert::Infallible;
/// use std::time::Duration;
///
/// let users = Cache::<u32, Option<String>>::builder().build()?;
/// // That there is no such user is remembered as well, but not for as long.
/// let find = |id: u32| (id == 7).then(|| "Ada".to_owned());
/// let user = users.get_or_load(&8, || {
///     let user = find(8);
///     let seconds = if user.is_some() { 3600 } else { 10 };
///     Ok::<_, Infallible>(Loaded::new(user).expires_after(Duration::from_secs(seconds)))
/// })?;
/// assert_eq!(user, None);
/// // A value that is not kept is an answer all the same.
/// users.get_or_load(&9, || Ok::<_, Infallible>(Loaded::new(find(9)).not_kept()))?;
/// assert!(users.contains(&8)? && !users.contains(&9)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<V> {
    pub(crate) value: V,
    /// How long it took to make, if the loader says so.
    pub(crate) cost: Option<Cost>,
    pub(crate) ttl: Ttl,
    pub(crate) durability: Durability,
    pub(crate) tags: Vec<Vec<u8>>,
    pub(crate) is_kept: bool,
}

impl<V> Loaded<V> {
    /// A value that is kept as the cache is set up.
    #[must_use]
    pub const fn new(value: V) -> Self {
        let (ttl, durability) = (Ttl::Default, Durability::None);
        Self { value, cost: None, ttl, durability, tags: Vec::new(), is_kept: true }
    }

    /// When it expires.
    #[must_use]
    pub fn ttl(self, ttl: Ttl) -> Self {
        Self { ttl, ..self }
    }

    /// It expires this long from when it is stored.
    #[must_use]
    pub fn expires_after(self, ttl: std::time::Duration) -> Self {
        self.ttl(Ttl::After(ttl))
    }

    /// What it must survive before it is given out.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// What is saved if it need not be made again; the time that the loader took, if nothing is said.
    #[must_use]
    pub fn cost(self, cost: Cost) -> Self {
        Self { cost: Some(cost), ..self }
    }

    /// What it can be invalidated by ([`Cache::invalidate_tag`](crate::Cache::invalidate_tag)), at most
    /// 15 tags.
    #[must_use]
    pub fn tags(self, tags: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let tags = tags.into_iter().map(|tag| tag.as_ref().to_vec()).collect();
        Self { tags, ..self }
    }

    /// It is the answer to those who wait for it now, and not stored.
    #[must_use]
    pub fn not_kept(self) -> Self {
        Self { is_kept: false, ..self }
    }

    /// What was loaded.
    pub const fn value(&self) -> &V {
        &self.value
    }

    /// Its tags, to be lent to [`put`](Self::put).
    pub(crate) fn borrowed_tags(&self) -> Vec<&[u8]> {
        self.tags.iter().map(|tag| &**tag).collect()
    }

    pub(crate) fn put<'t>(&self, tags: &'t [&'t [u8]]) -> Put<'t> {
        let cost = self.cost.unwrap_or_default();
        Put { ttl: self.ttl, durability: self.durability, cost, tags, ..Put::default() }
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}
