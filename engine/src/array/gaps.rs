//! Rows of an array in Fortran order: they lie in as many runs as the array has columns, with the
//! other rows between them.
//!
//! ```text
//! column 0              column 1
//! | 0 | 1 | 2 | 3 | 4 | 0 | 1 | 2 | 3 | 4 | …     rows 1..3 of 5:
//!     |<-run->|           |<-run->|
//!     |<------ step ----->|
//! ```

use std::ops::Range;

/// Where the runs lie in the bytes that begin with the first and end with the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gaps {
    /// Bytes of a run.
    pub(super) run: usize,
    /// Bytes from one to the next.
    pub(super) step: usize,
    /// How many there are: at least two.
    pub(super) count: usize,
}

impl Gaps {
    /// Bytes of all runs.
    pub(super) const fn len(&self) -> usize {
        self.run * self.count
    }

    /// Bytes from the begin of the first to the end of the last.
    pub(super) const fn span(&self) -> usize {
        self.step * (self.count - 1) + self.run
    }

    /// A run.
    pub(super) const fn at(&self, number: usize) -> Range<usize> {
        let from = self.step * number;
        from..from + self.run
    }
}

/// The rows of an array in Fortran order: which of its bytes they span, and where they lie in
/// these, if not in a row. `rows` has `count` of them, each `row_len` bytes with an element of
/// `item` bytes in each column, columns `step` bytes apart.
pub(super) fn rows_of(
    rows: Range<usize>,
    (item, row_len, step): (usize, usize, usize),
) -> (Range<usize>, Option<Gaps>) {
    let count = row_len.checked_div(item).unwrap_or(0);
    let gaps = Gaps { run: rows.len() * item, step, count };
    if gaps.len() == 0 {
        return (0..0, None);
    }
    let from = rows.start * item;
    let is_one = count == 1 || gaps.run == step;
    (from..from + gaps.span(), Some(gaps).filter(|_| !is_one))
}
