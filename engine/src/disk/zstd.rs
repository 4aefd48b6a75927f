//! zstd, with contexts that are kept for the next value, and a dictionary.
//!
//! Not here: what packed bytes look like, and what is asked of them (`compress.rs`).

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use parking_lot::Mutex;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use super::Disk;
use super::compress::Unreadable;
use crate::error::{Error, Result};

/// Contexts of a kind that are kept; more are made when more threads come, and dropped again.
const KEPT: usize = 4;

/// Most bytes of a dictionary: what zstd's own tool makes.
const DICTIONARY_MAX: usize = 110 << 10;

/// How values are compressed.
///
/// Values of `min_len` bytes or more are compressed one by one, and stored so where that saves
/// at least an eighth of them. A store may hold both sorts, and every store reads both: the
/// settings are about writing only, except for the dictionary. What is read is bounded: a
/// compressed value that is longer than the largest that the budget allows is a miss.
///
/// A compressed value is decompressed onto the heap whenever it is read, also by
/// [`Disk::get_with`]; values that come as a stream ([`Disk::put_reader`]) are compressed if
/// they need no file of their own.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use larder_engine::{Compression, Disk, Engine, Put};
///
/// let compression = Compression { level: 3, ..Compression::default() };
/// let disk = Disk::builder(dir.path().join("store")).compression(compression).open()?;
/// let _ = disk.put(b"key", &[7; 4000], &Put::default())?;
/// assert_eq!(disk.get(b"key")?.as_deref(), Some(&[7; 4000][..]));
/// assert!(disk.stats().compressed_saved_bytes > 3900);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// The level of zstd, up to 22; higher takes longer and saves more. 3 by default.
    pub level: i32,
    /// Values of fewer bytes are stored as they are. 256 by default.
    pub min_len: usize,
    /// What the values have in common, made by [`Disk::train_dictionary`] or zstd's own
    /// trainer. The store does not keep it: whoever reads values that were compressed with it
    /// has to give it again, as a value without its dictionary is a miss. None by default.
    pub dictionary: Option<Arc<[u8]>>,
}

impl Default for Compression {
    fn default() -> Self {
        Self { level: 3, min_len: 256, dictionary: None }
    }
}

impl Disk {
    /// Makes a dictionary of at most 110 KiB for [`Compression::dictionary`]: what the samples,
    /// which are values as they will be put, have in common. It takes some hundred of them, and
    /// in all a hundred times as many bytes as the dictionary is to have, to do well.
    ///
    /// ```
    /// use larder_engine::Disk;
    ///
    /// let value = |n: u32| format!("{{\"id\": {n}, \"name\": \"user {n}\", \"active\": true}}");
    /// let samples: Vec<String> = (0..2000).map(|n| value(n * 77)).collect();
    /// let dictionary = Disk::train_dictionary(&samples)?;
    /// assert!(dictionary.len() <= 110 << 10);
    /// # Ok::<(), larder_engine::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if there are too few samples, or they have nothing in common.
    pub fn train_dictionary(samples: &[impl AsRef<[u8]>]) -> Result<Arc<[u8]>> {
        match zstd::dict::from_samples(samples, DICTIONARY_MAX) {
            Ok(dictionary) => Ok(dictionary.into()),
            Err(error) => Err(Error::Config {
                option: "samples",
                value: format!("{} values ({error})", samples.len()),
                accepted: "some hundred values that have something in common are needed",
            }),
        }
    }
}

/// Contexts that are not in use.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Lends a context, made if none is left. What fails gives none back.
    fn lend<R>(&self, make: impl FnOnce() -> Option<T>, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let kept = self.0.lock().pop();
        let mut context = kept.or_else(make)?;
        let result = f(&mut context);
        let mut kept = self.0.lock();
        if kept.len() < KEPT {
            kept.push(context);
        }
        Some(result)
    }
}

/// Compresses and decompresses.
pub(super) struct Zstd {
    options: Option<Compression>,
    dictionary: Option<(NonZeroU32, Arc<[u8]>)>,
    compressors: Pool<Compressor<'static>>,
    decompressors: Pool<Decompressor<'static>>,
    /// With the dictionary loaded; a frame that needs none would come out wrong.
    with_dictionary: Pool<Decompressor<'static>>,
}

impl fmt::Debug for Zstd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.dictionary.as_ref().map(|(id, _)| id);
        let level = self.options.as_ref().map(|options| options.level);
        out.debug_struct("Zstd").field("level", &level).field("dictionary", &id).finish()
    }
}

impl Zstd {
    pub(super) fn new(options: Option<&Compression>) -> Result<Self> {
        let options = options.cloned();
        let config = |option, value, accepted| Err(Error::Config { option, value, accepted });
        if let Some(options) = &options
            && !zstd::compression_level_range().contains(&options.level)
        {
            let accepted = "zstd has the levels -131072 to 22";
            return config("compression.level", options.level.to_string(), accepted);
        }
        let mut dictionary = None;
        if let Some(bytes) = options.as_ref().and_then(|options| options.dictionary.clone()) {
            let id = zstd_safe::get_dict_id_from_dict(&bytes);
            let id = id.filter(|_| zstd_safe::DDict::try_create(&bytes).is_some());
            let Some(id) = id else {
                let accepted = "what Disk::train_dictionary or zstd --train made is accepted";
                return config(
                    "compression.dictionary",
                    format!("{} bytes", bytes.len()),
                    accepted,
                );
            };
            dictionary = Some((id, bytes));
        }
        Ok(Self {
            options,
            dictionary,
            compressors: Pool::new(),
            decompressors: Pool::new(),
            with_dictionary: Pool::new(),
        })
    }

    fn compressor(&self) -> Option<Compressor<'static>> {
        let level = self.options.as_ref()?.level;
        let Some((_, dictionary)) = &self.dictionary else { return Compressor::new(level).ok() };
        let mut compressor = Compressor::with_dictionary(level, dictionary).ok()?;
        compressor.include_checksum(true).ok()?;
        Some(compressor)
    }

    /// A frame of the value, if the capacity of `frame` is enough for it.
    pub(super) fn compress(&self, value: &[u8], mut frame: Vec<u8>) -> Option<Vec<u8>> {
        let compress = |context: &mut Compressor<'_>| context.compress_to_buffer(value, &mut frame);
        self.compressors.lend(|| self.compressor(), compress)?.ok()?;
        Some(frame)
    }

    /// Whether this is one frame of `len` bytes of value, and its dictionary the one given.
    pub(super) fn check(&self, frame: &[u8], len: u64) -> Result<(), Unreadable> {
        if zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len()) {
            return Err(Unreadable::NoFrame);
        }
        match zstd_safe::get_frame_content_size(frame) {
            Ok(Some(stated)) if stated == len => {}
            Ok(_) => return Err(Unreadable::Lie { len }),
            Err(_) => return Err(Unreadable::NoFrame),
        }
        let given = self.dictionary.as_ref().map(|(id, _)| *id);
        match zstd_safe::get_dict_id_from_frame(frame) {
            Some(needed) if given != Some(needed) => {
                let (needed, given) = (needed.get(), given.map(NonZeroU32::get));
                Err(Unreadable::Dictionary { needed, given })
            }
            _ => Ok(()),
        }
    }

    /// What a frame that was [checked](Self::check) holds, if the capacity of `value` is enough.
    pub(super) fn decompress(&self, frame: &[u8], mut value: Vec<u8>) -> Option<Vec<u8>> {
        let decompress =
            |context: &mut Decompressor<'_>| context.decompress_to_buffer(frame, &mut value);
        let done = match (&self.dictionary, zstd_safe::get_dict_id_from_frame(frame)) {
            (Some((_, dictionary)), Some(_)) => self
                .with_dictionary
                .lend(|| Decompressor::with_dictionary(dictionary).ok(), decompress),
            _ => self.decompressors.lend(|| Decompressor::new().ok(), decompress),
        };
        done?.ok()?;
        Some(value)
    }
}
