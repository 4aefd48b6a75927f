//! Files of safetensors: one JSON header, and the tensors behind it.
//!
//! # Invariants
//! 1. The header is read no further than the file is long, and every tensor that it states lies
//!    inside the file, before any is read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use larder_format::{ArrayDescriptor, DType, Excerpt, FormatError, Order};
use safetensors::tensor::{Dtype, Metadata};

use super::npy::{copy_pieces, reading};
use crate::disk::Disk;
use crate::engine::{Outcome, Put};
use crate::error::{Error, Result};

const WHAT: &str = "safetensors header";

/// Longest header, in bytes: as the crate and Python's package have it.
const HEADER_MAX: u64 = 100_000_000;

/// Bytes ahead of the header: its length.
const LENGTH_LEN: u64 = 8;

/// A file of tensors (`.safetensors`; feature `safetensors`).
///
/// ```no_run
/// # fn run(disk: &larder_engine::Disk) -> Result<(), larder_engine::Error> {
/// use larder_engine::{Put, Safetensors};
///
/// let mut file = Safetensors::open("model.safetensors")?;
/// for name in file.names() {
///     file.put(disk, &name, format!("model/{name}").as_bytes(), &Put::default())?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Safetensors {
    file: File,
    path: PathBuf,
    metadata: Metadata,
    /// Where the tensors begin.
    data_at: u64,
}

impl Safetensors {
    /// Opens a file, and reads what its tensors are.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, or its header is none;
    /// [`Error::Format`] when the file is shorter, or longer, than its header says.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let mut file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
        let file_len = file.metadata().map_err(|error| reading(&path, error))?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|error| reading(&path, error))?;
        let header_len = u64::from_le_bytes(length);
        let refuse = |field, found, allowed| {
            Error::format(&path, FormatError::Field { what: WHAT, field, found, allowed })
        };
        let most = HEADER_MAX.min(file_len.saturating_sub(LENGTH_LEN));
        if header_len > most {
            let allowed = "within the file, and at most 100,000,000";
            return Err(refuse("length", header_len, allowed));
        }
        let mut header = Vec::new();
        let read = Read::by_ref(&mut file).take(header_len).read_to_end(&mut header);
        read.map_err(|error| reading(&path, error))?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| reading(&path, error.into()))?;
        let data_at = LENGTH_LEN + header_len;
        let data_len = file_len.saturating_sub(data_at);
        if metadata.data_len() as u64 != data_len {
            let stated = metadata.data_len() as u64;
            return Err(refuse(
                "bytes of all tensors",
                stated,
                "what stands behind it in the file",
            ));
        }
        Ok(Self { file, path, metadata, data_at })
    }

    /// What the tensors are called, in the order in which they lie in the file.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Stores the tensor called `name` under `key`, in C order. A large one goes straight to a
    /// file of its own and is never in memory as a whole.
    ///
    /// # Errors
    /// As of [`Disk::put_array`]; [`Error::Format`] when its element type is none that a store
    /// holds, with what to do instead; [`Error::Io`] when the file cannot be read, or there is no
    /// such tensor (`NotFound`).
    pub fn put(
        &mut self,
        disk: &Disk,
        name: &str,
        key: &[u8],
        options: &Put<'_>,
    ) -> Result<Outcome> {
        self.put_with(disk, name, key, options, |_, _| {})
    }

    /// As [`put`](Self::put), saying now and then how many bytes of the array were read, and how
    /// many there are.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub fn put_with(
        &mut self,
        disk: &Disk,
        name: &str,
        key: &[u8],
        options: &Put<'_>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Outcome> {
        let path = self.path.join(name);
        let Some(info) = self.metadata.info(name) else {
            return Err(reading(&path, std::io::ErrorKind::NotFound.into()));
        };
        let shape: Vec<u64> = info.shape.iter().map(|axis| *axis as u64).collect();
        let descriptor =
            descriptor(info.dtype, &shape).map_err(|error| Error::format(&path, error))?;
        let at = self.data_at + info.data_offsets.0 as u64;
        self.file.seek(SeekFrom::Start(at)).map_err(|error| reading(&path, error))?;
        let file = &mut self.file;
        disk.pour_array(key, &descriptor, options, |take| {
            copy_pieces(file, &descriptor, &path, &mut progress, |piece| take(piece))
        })
    }
}

/// What a tensor is as an array.
fn descriptor(dtype: Dtype, shape: &[u64]) -> Result<ArrayDescriptor, FormatError> {
    let dtype = element(dtype).ok_or_else(|| FormatError::Unsupported {
        what: WHAT,
        at: LENGTH_LEN,
        found: Excerpt::of(dtype.to_string().as_bytes()),
        help: "convert it to BF16 or F16, or store its bytes as U8",
    })?;
    ArrayDescriptor::new(dtype, dtype.item_len().unwrap_or(1), Order::C, shape)
}

/// The element type; `None` for those of which no store has any.
const fn element(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::U16 => DType::U16,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::Bf16,
        Dtype::I32 => DType::I32,
        Dtype::U32 => DType::U32,
        Dtype::F32 => DType::F32,
        Dtype::C64 => DType::Complex64,
        Dtype::F64 => DType::F64,
        Dtype::I64 => DType::I64,
        Dtype::U64 => DType::U64,
        _ => return None,
    })
}
