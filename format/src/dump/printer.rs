//! Lines of a dump: an offset, up to 16 bytes in hex, and what they mean.

use core::fmt::{self, Display, Formatter};

use crate::error::FormatError;
use crate::fields::{Field, Show, Structure};
use crate::layout::UNIT;
use crate::record::{Flags, Kind};
use crate::segment::{Committed, SegmentState};
use crate::{DType, ExternalClass};

/// Bytes of hex in a line.
const WIDTH: usize = 16;
/// Lines of bytes that nobody can explain, before the rest is left out.
const RAW_LINES: usize = 4;
/// Bytes of a key, before the rest is left out.
const KEY_SHOWN: usize = 64;

/// Why a dump ends early.
pub(crate) enum Stop {
    /// It is as long as it may get.
    Limit,
    /// The writer refused.
    Write(fmt::Error),
}

impl From<fmt::Error> for Stop {
    fn from(error: fmt::Error) -> Self {
        Self::Write(error)
    }
}

pub(crate) type Printed = Result<(), Stop>;

pub(crate) struct Printer<'a, W> {
    pub(crate) bytes: &'a [u8],
    pub(crate) out: W,
    pub(crate) lines_left: usize,
}

impl<'a, W: fmt::Write> Printer<'a, W> {
    /// What lies between two offsets, as far as there is something.
    pub(crate) fn slice(&self, from: usize, to: usize) -> &'a [u8] {
        let to = to.min(self.bytes.len());
        self.bytes.get(from..to).unwrap_or_default()
    }

    fn count_line(&mut self) -> Printed {
        self.lines_left = self.lines_left.checked_sub(1).ok_or(Stop::Limit)?;
        Ok(())
    }

    /// A line of its own.
    pub(crate) fn title(&mut self, text: fmt::Arguments<'_>) -> Printed {
        self.count_line()?;
        Ok(writeln!(self.out, "{text}")?)
    }

    /// A line that says what is wrong with the lines before it.
    pub(crate) fn bad(&mut self, reason: impl Display) -> Printed {
        self.title(format_args!("!! {reason}"))
    }

    /// A line that says what is wrong, if something is.
    pub(crate) fn check<T>(&mut self, checked: Result<T, FormatError>) -> Result<Option<T>, Stop> {
        match checked {
            Ok(value) => Ok(Some(value)),
            Err(reason) => self.bad(reason).map(|()| None),
        }
    }

    /// A line about `len` bytes at `at`.
    pub(crate) fn line(&mut self, at: usize, len: usize, meaning: fmt::Arguments<'_>) -> Printed {
        self.count_line()?;
        let bytes = self.slice(at, at.saturating_add(len.min(WIDTH)));
        Ok(writeln!(self.out, "  {at:08x}  {:<32}  {meaning}", HexBytes(bytes))?)
    }

    /// A line without its bytes.
    pub(crate) fn elided(&mut self, at: usize, meaning: fmt::Arguments<'_>) -> Printed {
        self.count_line()?;
        Ok(writeln!(self.out, "  {at:08x}  {:<32}  {meaning}", "…")?)
    }

    /// The fields of a structure at `at`, whole or not.
    pub(crate) fn structure(&mut self, structure: &Structure, at: usize) -> Printed {
        let end = at.saturating_add(structure.len);
        if self.slice(at, end).len() < structure.len {
            self.raw(at, end)?;
            return self.bad(format_args!("{} is cut short", structure.name));
        }
        structure.fields.iter().try_for_each(|field| self.field(field, at))
    }

    /// A field of a structure at `at`.
    pub(crate) fn field(&mut self, field: &Field, at: usize) -> Printed {
        let field_at = at.saturating_add(field.offset);
        let end = field_at.saturating_add(field.len);
        let bytes = self.slice(field_at, end);
        match field.show {
            Show::Zeros => self.zeros(field_at, end),
            Show::Secret => {
                self.elided(field_at, format_args!("{}: {} bytes", field.name, field.len))
            }
            _ => self.line(field_at, field.len, format_args!("{}", Meaning(field, bytes))),
        }
    }

    /// Bytes that should be zero.
    pub(crate) fn zeros(&mut self, from: usize, to: usize) -> Printed {
        let bytes = self.slice(from, to);
        if bytes.is_empty() {
            return Ok(());
        }
        if is_zero(bytes) {
            return self.elided(from, format_args!("{} zero bytes", bytes.len()));
        }
        self.raw(from, to)?;
        self.bad("not zero, though nothing should be here")
    }

    /// Bytes without a meaning: some lines of them, runs of zeros as one.
    pub(crate) fn raw(&mut self, from: usize, to: usize) -> Printed {
        let to = to.min(self.bytes.len());
        let mut at = from;
        for _ in 0..RAW_LINES {
            if at >= to {
                return Ok(());
            }
            let rest = self.slice(at, to);
            let run = rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len());
            // Whole units only, so that what follows lines up with records.
            let run = if run == rest.len() { run } else { run & !(UNIT - 1) };
            if run >= WIDTH {
                self.elided(at, format_args!("{run} zero bytes"))?;
                at = at.saturating_add(run);
            } else {
                let len = rest.len().min(WIDTH);
                self.line(
                    at,
                    len,
                    format_args!("{}", Text(self.slice(at, at.saturating_add(len)))),
                )?;
                at = at.saturating_add(len);
            }
        }
        if at < to {
            self.elided(at, format_args!("{} more bytes", to.saturating_sub(at)))?;
        }
        Ok(())
    }

    /// The first bytes of something that belongs to the caller.
    pub(crate) fn data(&mut self, name: &str, at: usize, len: usize) -> Printed {
        if len == 0 {
            return Ok(());
        }
        let bytes = self.slice(at, at.saturating_add(len));
        if bytes.len() < len {
            self.bad(format_args!("{name} is cut short"))?;
        }
        if bytes.len() > WIDTH && is_zero(bytes) {
            return self.elided(at, format_args!("{name}: {} zero bytes", bytes.len()));
        }
        let (text, more) =
            (Text(self.slice(at, at.saturating_add(len.min(WIDTH)))), Dots(len > WIDTH));
        self.line(at, len, format_args!("{name}: {len} bytes {text}{more}"))
    }

    /// A key.
    pub(crate) fn key(&mut self, at: usize, len: usize) -> Printed {
        let text = Text(self.slice(at, at.saturating_add(len.min(KEY_SHOWN))));
        self.line(at, len, format_args!("key: {len} bytes {text}{}", Dots(len > KEY_SHOWN)))
    }
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Bytes in hex, without spaces.
struct HexBytes<'a>(&'a [u8]);

impl Display for HexBytes<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
        // `{:<32}` does not reach a type that writes by itself.
        let missing =
            out.width().unwrap_or_default().saturating_sub(self.0.len().saturating_mul(2));
        (0..missing).try_for_each(|_| out.write_str(" "))
    }
}

/// Bytes as quoted text; what is not printable ASCII is escaped.
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl Display for Text<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "\"{}\"", self.0.escape_ascii())
    }
}

/// Says that something goes on.
struct Dots(bool);

impl Display for Dots {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0 { "…" } else { "" })
    }
}

/// A kind of record, for people.
pub(crate) const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Value => "value",
        Kind::Tombstone => "tombstone",
        Kind::TagInvalidation => "tag invalidation",
        Kind::BatchBegin => "batch begin",
        Kind::BatchCommit => "batch commit",
        Kind::Seal => "seal",
    }
}

const FLAG_NAMES: [(Flags, &str); 7] = [
    (Flags::EXPIRES, "expires"),
    (Flags::REPLACED, "replaced"),
    (Flags::MOVED, "moved"),
    (Flags::EXTERNAL, "external"),
    (Flags::COMPRESSED, "compressed"),
    (Flags::ARRAY, "array"),
    (Flags::BATCHED, "batched"),
];

/// A field's name and value.
struct Meaning<'a>(&'a Field, &'a [u8]);

impl Display for Meaning<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self(field, bytes) = *self;
        let number = number(bytes);
        let [low, high] = [number & 0xFFFF_FFFF, number >> 32];
        write!(out, "{}", field.name)?;
        match field.show {
            Show::Number => write!(out, " {number}"),
            Show::Hex => write!(out, " {number:#x}"),
            Show::Bytes => Ok(()),
            Show::Secret | Show::Zeros => write!(out, ": {} bytes", bytes.len()),
            Show::Text => write!(out, " {}", Text(bytes)),
            Show::Kind => write!(out, " {}", kind_of(number)),
            Show::Flags => FLAG_NAMES
                .iter()
                .filter(|(flag, _)| number & u64::from(flag.bits()) != 0)
                .try_for_each(|(_, name)| write!(out, " {name}")),
            Show::Layout => {
                write!(out, " aligned to 2^{}, {} tags", number & 0xF, number >> 4)
            }
            Show::SessionFlags => {
                out.write_str(if number & 1 == 0 { "" } else { " clean" })?;
                out.write_str(if number & 2 == 0 { "" } else { " suspect" })
            }
            Show::Generations => write!(out, " {low}, moving out of {high}"),
            Show::Committed => {
                let tail = Committed::from_bits(number).tail();
                write!(out, " up to {tail:#x}, {high} footer entries")
            }
            Show::State => match (number, SegmentState::from_bits(number)) {
                (2, _) => write!(out, " sealed"),
                (3, _) => write!(out, " retiring"),
                (_, state) => write!(out, " {number} ({state:?})"),
            },
            Show::Place => {
                let replaced = if number >> 31 & 1 == 0 { "" } else { ", replaced" };
                let kind = kind_of(number >> 28 & 7);
                write!(out, " {kind} at {:#x}{replaced}", (number & 0x0FFF_FFFF) << 4)
            }
            Show::Delta if low == u32::MAX.into() => write!(out, " stands in the record"),
            Show::Delta => write!(out, " base + {number}"),
            Show::Class => match u8::try_from(number).ok().and_then(ExternalClass::from_u8) {
                Some(class) => write!(out, " {class:?}"),
                None => write!(out, " {number}"),
            },
            Show::DType => match u8::try_from(number).ok().and_then(DType::from_u8) {
                Some(dtype) => write!(out, " {dtype:?}"),
                None => write!(out, " {number}"),
            },
        }
    }
}

fn kind_of(number: u64) -> &'static str {
    u8::try_from(number).ok().and_then(Kind::from_u8).map_or("unknown", kind_name)
}

/// Up to 8 bytes as a little-endian number.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
