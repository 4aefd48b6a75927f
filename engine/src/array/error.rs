//! What can be wrong with an array, or with what is asked of it.

use std::fmt;

use larder_format::{DType, FormatError};

/// Why an array cannot be stored, or not be looked at as was asked.
///
/// Where two things do not agree, the message names both.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArrayError {
    /// There is no such array: too many axes, or more bytes than there can be.
    #[error("there is no such array")]
    Impossible(#[source] FormatError),
    /// There are more or fewer elements than the shape says.
    #[error("an array of shape {shape:?} takes {needed} bytes, and there are {found}")]
    Length {
        /// Length of each axis, outermost first.
        shape: Vec<u64>,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// There are not as many strides as axes.
    #[error("an array of {axes} axes was given with {given} strides")]
    Strides {
        /// How many axes there are.
        axes: usize,
        /// How many strides.
        given: usize,
    },
    /// With these strides some element would lie outside of the data.
    #[error("the elements lie in bytes {from} to {to}, and there are bytes 0 to {found}")]
    Outside {
        /// Where the first of them begins.
        from: i128,
        /// Where the last of them ends.
        to: i128,
        /// Bytes that there are.
        found: u64,
    },
    /// The array has elements of another type.
    #[error("the array is of {stored}, and was asked for as one of {asked}")]
    Element {
        /// What it has.
        stored: ElementName,
        /// What was asked for.
        asked: ElementName,
    },
    /// The array has another number of axes.
    #[error("the array has {stored} axes, and was asked for with {asked}")]
    Axes {
        /// How many it has.
        stored: usize,
        /// How many were asked for.
        asked: usize,
    },
    /// The elements do not lie where their type has to.
    #[error("the array lies at a multiple of {found} bytes, and {element} needs one of {needed}")]
    Alignment {
        /// What they are.
        element: ElementName,
        /// What they need, in bytes.
        needed: usize,
        /// What their place is a multiple of.
        found: usize,
    },
    /// The value under the key is no array.
    #[error("the value is no array: get it as bytes")]
    NotAnArray,
    /// Rows were asked for that are not there.
    #[error("rows {from} to {to} were asked for, and the array has {rows}")]
    Rows {
        /// The first one.
        from: usize,
        /// One past the last one.
        to: usize,
        /// Length of the first axis; 1 without axes.
        rows: usize,
    },
    /// A slice was asked for of rows of an array in Fortran order.
    #[error(
        "the rows of an array in Fortran order do not lie in a row: look at them with get, pieces \
         or ndarray, or make a copy with to_owned"
    )]
    Gaps,
    /// A chunk does not agree with its checksum. What lies in others can be read.
    #[error(
        "chunk {chunk} of {chunks} of the array is damaged, in {place}: remove it, or make it again"
    )]
    Damaged {
        /// Which one, from 0.
        chunk: u64,
        /// How many there are.
        chunks: u64,
        /// The file, and where in it.
        place: String,
    },
    /// A byte is no value of the element type: neither 0 nor 1, of a bool.
    #[error("the array holds what is no {element}")]
    NoValue {
        /// The type.
        element: ElementName,
    },
    /// The compressed data is not what a larder writes.
    #[error("the compressed data cannot be decoded: remove the array, or make it again")]
    Unpackable,
    /// There is no memory to decode it to.
    #[error("there is no memory for the {len} bytes of it")]
    NoMemory {
        /// Bytes that it takes.
        len: u64,
    },
    /// This build cannot read what is stored, or not write what was asked for.
    #[error("the array is compressed, and this build is without feature zstd")]
    Unsupported,
}

/// An element type, for messages: its name and the length of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementName {
    /// The type.
    pub dtype: DType,
    /// Bytes of an element.
    pub item_len: u32,
}

impl fmt::Display for ElementName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            DType::Bytes => write!(out, "strings of {} bytes", self.item_len),
            dtype => out.write_str(&format!("{dtype:?}").to_lowercase()),
        }
    }
}
