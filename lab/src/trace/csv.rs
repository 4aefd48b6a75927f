//! `csv` traces: one request a line.
//!
//! Without more said, a line is `id[,size]`: ids are numbers below 2^64, sizes are bytes and 1
//! if left out. [`Columns`] says otherwise. Empty lines and lines that start with `#` do not
//! count, and a first line that begins with a letter or a quotation mark where a number should
//! be is a header. Quotation marks inside a line mean nothing.

use std::io::BufRead;
use std::str::FromStr;

use super::lines::Lines;
use super::{Access, Broken, text_id};
use crate::error::Error;

/// Most columns that can be named.
const COLUMNS_MAX: usize = 64;

/// What a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Column {
    /// The object, as a number below 2^64.
    Id,
    /// The object, as any text.
    Key,
    /// The size in bytes.
    Size,
    /// What a miss costs, as a number below 2^32.
    Cost,
    /// Seconds since any moment; a fraction is cut off.
    Time,
    /// Nothing that matters.
    Skip,
}

/// What the columns of a line are, from the left, and what parts them.
///
/// ```
/// use larder_lab::trace::{Column, Columns};
/// let columns: Columns = "time,id,-,size".parse().unwrap();
/// assert_eq!(columns.names(), [Column::Time, Column::Id, Column::Skip, Column::Size]);
/// assert!("time,size".parse::<Columns>().is_err(), "nothing says which object");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    names: Vec<Column>,
    separator: u8,
    /// Lines may lack the last column, but have no more: nothing was said about them.
    implied: bool,
}

impl Default for Columns {
    fn default() -> Self {
        Self { names: vec![Column::Id, Column::Size], separator: b',', implied: true }
    }
}

impl FromStr for Columns {
    type Err = Error;

    /// Reads `id`, `key`, `size`, `cost`, `time` and `-`, parted by commas. A line may have more
    /// columns than are named.
    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse =
            |accepted| Error::Config { option: "columns", value: text.to_owned(), accepted };
        let column = |name: &str| match name.trim() {
            "id" => Ok(Column::Id),
            "key" => Ok(Column::Key),
            "size" => Ok(Column::Size),
            "cost" => Ok(Column::Cost),
            "time" => Ok(Column::Time),
            "-" => Ok(Column::Skip),
            _ => Err(refuse("name them id, key, size, cost, time or -, as in time,id,-,size")),
        };
        let names = text.split(',').map(column).collect::<Result<Vec<_>, _>>()?;
        let times = |wanted: &[Column]| names.iter().filter(|name| wanted.contains(name)).count();
        if times(&[Column::Id, Column::Key]) != 1 {
            return Err(refuse("exactly one column is id or key"));
        }
        if [Column::Size, Column::Cost, Column::Time].iter().any(|&name| times(&[name]) > 1) {
            return Err(refuse("size, cost and time stand at most once"));
        }
        if names.len() > COLUMNS_MAX {
            return Err(refuse("at most 64 columns"));
        }
        Ok(Self { names, separator: b',', implied: false })
    }
}

impl Columns {
    /// The columns, from the left.
    #[must_use]
    pub fn names(&self) -> &[Column] {
        &self.names
    }

    /// Parts columns by this byte instead of a comma. A space stands for any white space.
    ///
    /// # Errors
    /// [`Error::Config`]: it is no ASCII character, or one that numbers or lines are made of.
    pub fn separated_by(self, separator: char) -> Result<Self, Error> {
        match u8::try_from(separator) {
            Ok(byte)
                if byte.is_ascii()
                    && !byte.is_ascii_alphanumeric()
                    && !b"\r\n.#-".contains(&byte) =>
            {
                Ok(Self { separator: byte, ..self })
            }
            _ => Err(Error::Config {
                option: "separator",
                value: format!("{separator:?}"),
                accepted: "one ASCII character that is no letter, digit, dot, minus or #",
            }),
        }
    }
}

/// Reads lines until the bytes end.
pub(super) struct Csv<R> {
    lines: Lines<R>,
    columns: Columns,
    /// Whether a line that counts was seen: only the first of them may be a header.
    begun: bool,
}

impl<R: BufRead> Csv<R> {
    pub(super) fn new(bytes: R, columns: &Columns) -> Self {
        Self { lines: Lines::new(bytes), columns: columns.clone(), begun: false }
    }

    pub(super) fn next(&mut self) -> Result<Option<Access>, Broken> {
        while self.lines.advance()? {
            let header = !self.begun && self.is_header();
            self.begun = true;
            if !header {
                let access = self.parse()?;
                self.lines.counts();
                return Ok(Some(access));
            }
        }
        Ok(None)
    }

    /// Whether the line is made of names: the first column that should be a number begins with
    /// a letter or a quotation mark. Where all columns are text, nothing can tell.
    fn is_header(&self) -> bool {
        let number = |column: &Column| !matches!(column, Column::Key | Column::Skip);
        let Some(at) = self.columns.names.iter().position(number) else {
            return false;
        };
        let field = self.fields().nth(at).unwrap_or_default();
        field.starts_with(|c: char| c.is_alphabetic() || c == '"')
    }

    fn fields(&self) -> impl Iterator<Item = &str> {
        let separator = char::from(self.columns.separator);
        let text = self.lines.text();
        let (words, parts) = match separator {
            ' ' => (Some(text.split_ascii_whitespace()), None),
            _ => (None, Some(text.split(separator).map(str::trim))),
        };
        words.into_iter().flatten().chain(parts.into_iter().flatten())
    }

    fn parse(&self) -> Result<Access, Broken> {
        let mut access = Access::new(0, 1);
        let mut fields = self.fields();
        for (at, &column) in self.columns.names.iter().enumerate() {
            let Some(field) = fields.next() else {
                if self.columns.implied && at > 0 {
                    break;
                }
                let found = format!("has {at} columns");
                let expected = "as many columns as are named, or more";
                return Err(self.lines.broken(found, expected));
            };
            match column {
                Column::Id => {
                    access.id = self.number(field, "a number below 2^64 for an id")?;
                }
                Column::Key => access.id = text_id(&[field.as_bytes()]),
                Column::Size => {
                    let size = self.number(field, "a size in bytes, as a number")?;
                    access.size = self.lines.believable(size)?;
                }
                Column::Cost => {
                    access.cost = self.number(field, "a cost, as a number below 2^32")?
                }
                Column::Time => {
                    let whole = field.split_once('.').map_or(field, |(whole, _)| whole);
                    let time: u64 = self.number(whole, "a time in seconds, as a number")?;
                    access.time = u32::try_from(time).unwrap_or(u32::MAX);
                }
                Column::Skip => {}
            }
        }
        if self.columns.implied && fields.next().is_some() {
            return Err(self
                .lines
                .wrong(self.lines.text(), "id[,size]; other columns have to be named"));
        }
        Ok(access)
    }

    fn number<N: FromStr>(&self, field: &str, expected: &'static str) -> Result<N, Broken> {
        field.parse().map_err(|_| self.lines.wrong(field, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], columns: &Columns) -> Result<Vec<Access>, Broken> {
        let mut csv = Csv::new(text, columns);
        std::iter::from_fn(|| csv.next().transpose()).collect()
    }

    fn all(text: &[u8]) -> Result<Vec<(u64, u32)>, Broken> {
        let accesses = read(text, &Columns::default())?;
        Ok(accesses.iter().map(|access| (access.id, access.size)).collect())
    }

    #[test]
    fn ids_come_with_or_without_a_size() {
        assert_eq!(
            all(b"1,10\n2\n 3 , 0 \r\n18446744073709551615,7").unwrap(),
            [(1, 10), (2, 1), (3, 0), (u64::MAX, 7)]
        );
    }

    #[test]
    fn a_header_comments_and_empty_lines_do_not_count() {
        assert_eq!(all(b"# made by hand\n\nid,size\n1,2\n# end\n").unwrap(), [(1, 2)]);
    }

    #[test]
    fn named_columns_are_found_wherever_they_stand() {
        let columns: Columns = "time,key,-,size,cost".parse().unwrap();
        let text = b"time,key,op,size,cost\n7.25,a b,get,10,3,more\n8,a b,get,11,4\n9,c,set,1,1\n";
        let read = read(text, &columns).unwrap();
        assert_eq!((read[0].time, read[0].size, read[0].cost), (7, 10, 3));
        assert_eq!(read[0].id, read[1].id);
        assert_ne!(read[1].id, read[2].id);
    }

    #[test]
    fn other_separators_part_columns_as_well() {
        for (separator, text) in [(';', "5;6\n"), ('\t', "5\t6\n"), (' ', "5   6\n"), ('|', "5|6")]
        {
            let columns = "id,size".parse::<Columns>().unwrap().separated_by(separator).unwrap();
            let read = read(text.as_bytes(), &columns).unwrap();
            assert_eq!(read, [Access::new(5, 6)], "{separator:?}");
        }
        for separator in ['1', 'a', '\n', 'é', '.'] {
            assert!(Columns::default().separated_by(separator).is_err(), "{separator:?}");
        }
    }

    #[test]
    fn columns_that_make_no_sense_are_refused() {
        for text in ["", "size", "id,key", "id,size,size", "id,what", &["id"; 65].join(",-")] {
            assert!(text.parse::<Columns>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bad_line_is_refused_with_its_number() {
        let bad: [(&[u8], u64); 8] = [
            (b"1\nid\n", 2),
            (b"id\nid\n", 2),
            (b"1,2,3\n", 1),
            (b"1\n2\n-3\n", 3),
            (b"1,x\n", 1),
            (b"1,9999999999\n", 1),
            (b"1\n\xff\xfe\n", 2),
            (b"1,2000000000\n", 1),
        ];
        for (text, number) in bad {
            let error = format!("{:?}", all(text).expect_err("refused"));
            assert!(error.contains(&format!("Line({number})")), "{error}");
        }
    }

    #[test]
    fn text_without_requests_or_lines_is_refused() {
        assert!(all(b"just a sentence").is_err());
        assert!(all(b"# nothing\n").is_err());
        assert!(all(&[b'7'; 5_000]).is_err());
    }
}
