//! NumPy's files as others write them: what stands before the data.
//!
//! ```text
//! | 93 'NUMPY' | version 2 | text length 2 or 4 | text: a Python dictionary, spaces, newline | data
//! |<------------------ 10 or 12 -------------->|
//! ```
//!
//! The text is a literal of Python with three keys, in any order: `descr`, the element type;
//! `fortran_order`; and `shape`. What is read here is what any NumPy since 1.0 has written,
//! that of Python 2 included (`3L`), and what other writers make of it: other spaces, quotes and
//! commas. Nothing else of Python is understood.
//!
//! Source: NumPy enhancement proposal 1, "A simple file format for NumPy arrays".
//!
//! # Invariants
//! 1. Nothing is reserved by a length that the file states, and nothing recurses: a header is at
//!    most 64 KiB, and is read once, from left to right.
//! 2. What is accepted is an array that a store can hold: a checked [`ArrayDescriptor`].

use crate::array::{ArrayDescriptor, Order};
use crate::bytes::Reader;
use crate::dtype::DType;
use crate::error::{Excerpt, FormatError};
use crate::layout::ARRAY_AXES_MAX;

const WHAT: &str = "NumPy header";

const MAGIC: [u8; 6] = *b"\x93NUMPY";

/// What has to be read of a file before the length of its header is known.
const PREFIX_LEN: usize = 12;

/// Longest text. Version 1.0 cannot state more, and the types that need more are refused anyway.
const TEXT_MAX: u64 = 0xFFFF;

/// What the header of a `.npy` file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NpyHeader {
    descriptor: ArrayDescriptor,
    big_endian: bool,
    data_at: usize,
}

impl NpyHeader {
    /// Bytes from the start of a file that [`header_len`](Self::header_len) needs.
    pub const PREFIX_LEN: usize = PREFIX_LEN;

    /// Length of the header that begins with `prefix`: what [`decode`](Self::decode) needs. At
    /// most 64 KiB and the prefix, whatever the file says.
    ///
    /// # Errors
    /// [`FormatError`] when this is no NumPy file, one of an unknown version, or its header is
    /// longer than that.
    pub fn header_len(prefix: &[u8]) -> Result<usize, FormatError> {
        let mut fields = Reader::new(WHAT, prefix, PREFIX_LEN)?;
        let magic: [u8; 6] = fields.array();
        if magic != MAGIC {
            let number = |[a, b, c, d, e, f]: [u8; 6]| u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
            let (expected, found) = (number(MAGIC), number(magic));
            return Err(FormatError::Magic { what: WHAT, expected, found });
        }
        let [major, minor] = fields.array();
        if !(1..=3).contains(&major) {
            return Err(FormatError::Version { what: WHAT, newest: 3, found: major.into() });
        }
        if minor != 0 {
            return Err(field("minor version", minor.into(), "0"));
        }
        let (start, text_len) = match major {
            1 => (10, u64::from(fields.u16())),
            _ => (PREFIX_LEN, u64::from(fields.u32())),
        };
        match usize::try_from(text_len) {
            Ok(len) if text_len <= TEXT_MAX => Ok(len.saturating_add(start)),
            _ => Err(field("text length", text_len, "at most 65535")),
        }
    }

    /// Decodes and checks the header at the start of `bytes`, which may go on behind it.
    ///
    /// ```
    /// use larder_format::{DType, NpyHeader, Order};
    ///
    /// let text = b"{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3)}\n";
    /// let file = [b"\x93NUMPY\x01\x00\x39\x00", &text[..]].concat();
    /// let header = NpyHeader::decode(&file)?;
    /// let array = header.descriptor();
    /// assert_eq!((array.dtype(), array.order(), array.shape()), (DType::F32, Order::Fortran, &[2, 3][..]));
    /// assert!(header.is_big_endian());
    /// assert_eq!(header.data_at(), file.len());
    /// # Ok::<(), larder_format::FormatError>(())
    /// ```
    ///
    /// # Errors
    /// [`FormatError`] as from [`header_len`](Self::header_len), and
    /// - [`FormatError::Truncated`] when `bytes` ends in the header;
    /// - [`FormatError::Syntax`] when the text is not such a dictionary, with the place;
    /// - [`FormatError::Unsupported`] when it is, of an array that no store can hold: of Python
    ///   objects, records, text, dates or long doubles; the message says what to do instead;
    /// - [`FormatError::Field`] when it has more than 32 axes, or more than 2^48 bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let data_at = Self::header_len(bytes)?;
        let start = if bytes.get(6) == Some(&1) { 10 } else { PREFIX_LEN };
        let text = bytes.get(start..data_at).ok_or(FormatError::Truncated {
            what: WHAT,
            needed: data_at as u64,
            found: bytes.len() as u64,
        })?;
        let mut text = Text { rest: text, at: start };
        let entries = text.dictionary()?;
        let at = text.at;
        let missing = |expected| FormatError::Syntax { what: WHAT, at: at as u64, expected };
        let element = entries.element.ok_or_else(|| missing("the key 'descr'"))?;
        let order = entries.order.ok_or_else(|| missing("the key 'fortran_order'"))?;
        let shape = entries.shape.ok_or_else(|| missing("the key 'shape'"))?;
        let Element { dtype, item_len, big_endian } = element;
        let descriptor = ArrayDescriptor::new(dtype, item_len, order, shape.axes());
        let descriptor = descriptor.map_err(|error| match error {
            FormatError::Field { field, found, allowed, .. } => {
                FormatError::Field { what: WHAT, field, found, allowed }
            }
            other => other,
        })?;
        Ok(Self { descriptor, big_endian, data_at })
    }

    /// Element type, item length, order and shape.
    #[must_use]
    pub const fn descriptor(&self) -> &ArrayDescriptor {
        &self.descriptor
    }

    /// Whether the most significant byte of each number comes first. Never so of elements of one
    /// byte and of bytes, which have no order.
    #[must_use]
    pub const fn is_big_endian(&self) -> bool {
        self.big_endian
    }

    /// Where the data starts: right behind the header. Its length is the descriptor's
    /// [`data_len`](ArrayDescriptor::data_len).
    #[must_use]
    pub const fn data_at(&self) -> usize {
        self.data_at
    }
}

/// What `descr` says.
#[derive(Debug, Clone, Copy)]
struct Element {
    dtype: DType,
    item_len: u32,
    big_endian: bool,
}

/// What `shape` says.
#[derive(Debug, Clone, Copy)]
struct Shape {
    lengths: [u64; ARRAY_AXES_MAX],
    count: usize,
}

impl Shape {
    fn axes(&self) -> &[u64] {
        self.lengths.get(..self.count).unwrap_or_default()
    }
}

/// The dictionary's entries that were met so far.
#[derive(Debug, Default)]
struct Entries {
    element: Option<Element>,
    order: Option<Order>,
    shape: Option<Shape>,
}

/// A Python literal, read from left to right.
#[derive(Debug)]
struct Text<'a> {
    rest: &'a [u8],
    /// Where `rest` starts in the file, for messages.
    at: usize,
}

impl<'a> Text<'a> {
    fn syntax(&self, expected: &'static str) -> FormatError {
        FormatError::Syntax { what: WHAT, at: self.at as u64, expected }
    }

    /// Refuses what stands at `at` and is `found`.
    fn unsupported(at: usize, found: &[u8], help: &'static str) -> FormatError {
        FormatError::Unsupported { what: WHAT, at: at as u64, found: Excerpt::of(found), help }
    }

    fn skip(&mut self, count: usize) -> &'a [u8] {
        let (skipped, rest) = self.rest.split_at_checked(count).unwrap_or((self.rest, &[]));
        self.rest = rest;
        self.at = self.at.saturating_add(skipped.len());
        skipped
    }

    /// Takes all bytes for which `wanted` holds.
    fn run(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.rest.iter().position(|byte| !wanted(*byte)).unwrap_or(self.rest.len());
        self.skip(len)
    }

    /// What comes behind white space.
    fn peek(&mut self) -> Option<u8> {
        self.run(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'\x0c'));
        self.rest.first().copied()
    }

    /// Takes `byte`, if it comes next behind white space.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.skip(1);
        }
        found
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), FormatError> {
        if self.take(byte) { Ok(()) } else { Err(self.syntax(expected)) }
    }

    /// The whole text.
    fn dictionary(&mut self) -> Result<Entries, FormatError> {
        let mut entries = Entries::default();
        self.expect(b'{', "a dictionary: `{`")?;
        while !self.take(b'}') {
            self.entry(&mut entries)?;
            if !self.take(b',') {
                self.expect(b'}', "`,` or `}`")?;
                break;
            }
        }
        match self.peek() {
            None => Ok(entries),
            Some(_) => Err(self.syntax("nothing but spaces and a newline behind `}`")),
        }
    }

    fn entry(&mut self, entries: &mut Entries) -> Result<(), FormatError> {
        const EXPECTED: &str = "one of the keys 'descr', 'fortran_order' and 'shape', once";
        self.peek();
        let before = FormatError::Syntax { what: WHAT, at: self.at as u64, expected: EXPECTED };
        let key = self.string(EXPECTED)?;
        self.expect(b':', "`:` behind a key")?;
        match key {
            b"descr" if entries.element.is_none() => entries.element = Some(self.element()?),
            b"fortran_order" if entries.order.is_none() => entries.order = Some(self.order()?),
            b"shape" if entries.shape.is_none() => entries.shape = Some(self.shape()?),
            _ => return Err(before),
        }
        Ok(())
    }

    /// A string in either kind of quotes, without escapes: no text that is accepted has any.
    fn string(&mut self, expected: &'static str) -> Result<&'a [u8], FormatError> {
        if matches!(self.peek(), Some(b'u' | b'U')) {
            // As Python 2 writes text.
            self.skip(1);
        }
        let quote = match self.rest.first() {
            Some(quote @ (b'\'' | b'"')) => *quote,
            _ => return Err(self.syntax(expected)),
        };
        self.skip(1);
        let text = self.run(|byte| byte != quote && byte != b'\\' && byte != b'\n');
        if self.rest.first() != Some(&quote) {
            return Err(self.syntax("the closing quote, and no escapes"));
        }
        self.skip(1);
        Ok(text)
    }

    fn order(&mut self) -> Result<Order, FormatError> {
        self.peek();
        for (word, order) in [("True", Order::Fortran), ("False", Order::C)] {
            let behind = self.rest.strip_prefix(word.as_bytes());
            if behind.is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_alphanumeric)) {
                self.skip(word.len());
                return Ok(order);
            }
        }
        Err(self.syntax("True or False"))
    }

    fn shape(&mut self) -> Result<Shape, FormatError> {
        let mut shape = Shape { lengths: [0; ARRAY_AXES_MAX], count: 0 };
        self.expect(b'(', "a tuple: `(`")?;
        while !self.take(b')') {
            let length = self.length()?;
            let place = shape.lengths.get_mut(shape.count);
            *place.ok_or_else(|| field("axes", 33, "at most 32"))? = length;
            shape.count = shape.count.saturating_add(1);
            if !self.take(b',') {
                if shape.count == 1 {
                    return Err(self.syntax("`,`: to Python, `(3)` is a number"));
                }
                self.expect(b')', "`,` or `)`")?;
                break;
            }
        }
        Ok(shape)
    }

    /// The length of an axis.
    fn length(&mut self) -> Result<u64, FormatError> {
        const HELP: &str = "an axis is 0 to 2^48 long";
        self.peek();
        let (at, start) = (self.at, self.rest);
        let negative = self.take(b'-');
        let digits = self.run(|byte| byte.is_ascii_digit());
        let number = start.get(..digits.len().saturating_add(usize::from(negative)));
        if digits.is_empty() || digits.len() > 1 && digits.starts_with(b"0") {
            return Err(self.syntax("the length of an axis"));
        }
        let value = digits.iter().try_fold(0_u64, |value, digit| {
            value.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')))
        });
        let value = value.filter(|value| !negative || *value == 0);
        let value = value.ok_or_else(|| Self::unsupported(at, number.unwrap_or(digits), HELP))?;
        if matches!(self.rest.first(), Some(b'L' | b'l')) {
            // As Python 2 writes a long integer.
            self.skip(1);
        }
        Ok(value)
    }

    fn element(&mut self) -> Result<Element, FormatError> {
        const RECORDS: &str = "store each field, as in `a['name']`, under a key of its own";
        let first = self.peek();
        let at = self.at;
        if let Some(b'[' | b'(' | b'{') = first {
            return Err(Self::unsupported(at, self.rest, RECORDS));
        }
        let descr = self.string("an element type as text, such as '<f4'")?;
        element(descr).map_err(|help| Self::unsupported(at, descr, help))
    }
}

/// What NumPy calls an element type: order of bytes, kind, and bytes of an element.
fn element(descr: &[u8]) -> Result<Element, &'static str> {
    const UNKNOWN: &str = "it is no element type that NumPy writes";
    let (order, kind) = match descr {
        [order @ (b'<' | b'>' | b'|' | b'='), kind @ ..] => (*order, kind),
        kind => (b'=', kind),
    };
    let (kind, digits) = kind.split_first().ok_or(UNKNOWN)?;
    let number = core::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'));
    let item_len: Option<u32> = number.and_then(|digits| digits.parse().ok());
    let (dtype, item_len) = match (*kind, item_len) {
        (b'?', None) if digits.is_empty() => (DType::Bool, 1),
        (b'b', Some(1)) => (DType::Bool, 1),
        (b'i', Some(1)) => (DType::I8, 1),
        (b'i', Some(2)) => (DType::I16, 2),
        (b'i', Some(4)) => (DType::I32, 4),
        (b'i', Some(8)) => (DType::I64, 8),
        (b'u', Some(1)) => (DType::U8, 1),
        (b'u', Some(2)) => (DType::U16, 2),
        (b'u', Some(4)) => (DType::U32, 4),
        (b'u', Some(8)) => (DType::U64, 8),
        (b'f', Some(2)) => (DType::F16, 2),
        (b'f', Some(4)) => (DType::F32, 4),
        (b'f', Some(8)) => (DType::F64, 8),
        (b'c', Some(8)) => (DType::Complex64, 8),
        (b'c', Some(16)) => (DType::Complex128, 16),
        (b'S', Some(len @ 1..)) => (DType::Bytes, len),
        (b'V', Some(2)) => (DType::Bf16, 2),
        (b'S', Some(0)) => return Err("elements of no bytes hold nothing"),
        (b'O', _) => {
            return Err("convert Python objects to numbers first, as in `a.astype('<f8')`");
        }
        (b'U', _) => {
            return Err("store text encoded, as in `numpy.char.encode(a, 'utf-8')`");
        }
        (b'T', _) => return Err("store text of any length as bytes, as in `a.astype('S')`"),
        (b'M' | b'm', _) => {
            return Err("store dates and times as numbers, as in `a.view('<i8')`");
        }
        (b'V', _) => return Err("store raw bytes as numbers, as in `a.view('u1')`"),
        (b'f' | b'c', Some(10 | 12 | 16 | 20 | 24 | 32)) => {
            return Err(
                "convert long doubles, which differ between machines, as in `a.astype('<f8')`",
            );
        }
        _ => return Err(UNKNOWN),
    };
    let has_order = item_len > 1 && dtype != DType::Bytes;
    let big_endian = match order {
        b'>' => true,
        b'<' => false,
        // That of the machine which reads it, to NumPy as well.
        _ => cfg!(target_endian = "big"),
    };
    Ok(Element { dtype, item_len, big_endian: has_order && big_endian })
}

const fn field(field: &'static str, found: u64, allowed: &'static str) -> FormatError {
    FormatError::Field { what: WHAT, field, found, allowed }
}
