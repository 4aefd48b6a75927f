//! In which order the entries of an index came.
//!
//! Each entry gets the next number when it comes, and keeps it. Of 64 numbers each one word says which
//! are taken: a page. Numbers are below `tail` and from `head` on; both are only bounds.

use serde::{Deserialize, Serialize};

use super::super::ground::{Edits, Plot, nonce};
use crate::error::Result;

/// Numbers of a page.
const PAGE: u64 = 64;
/// Pages that one change removes at most.
const PAGES_MAX: u64 = 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// Part of the names of everything: another one when all is cleared.
    pub(super) era: u64,
    pub(super) head: u64,
    pub(super) tail: u64,
    pub(super) len: u64,
    /// Entries that could not be read, and were taken out.
    pub(super) lost: u64,
    /// What was cleared, and is still to be removed.
    trash: Vec<Trash>,
}

/// Numbers whose records are still to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Trash {
    era: u64,
    from: u64,
    to: u64,
}

impl Default for Order {
    fn default() -> Self {
        Self { era: nonce(), head: 0, tail: 0, len: 0, lost: 0, trash: Vec::new() }
    }
}

/// What the key of a number is stored under.
pub(super) fn key_part(era: u64, number: u64) -> Vec<u8> {
    [b"n", &era.to_le_bytes()[..], &number.to_le_bytes()].concat()
}

/// What the page of a number is stored under.
pub(super) fn page_part(era: u64, number: u64) -> Vec<u8> {
    [b"p", &era.to_le_bytes()[..], &(number / PAGE).to_le_bytes()].concat()
}

/// What stands before a key in the name of its entry.
pub(super) fn entry_part(era: u64) -> Vec<u8> {
    [b"k", &era.to_le_bytes()[..]].concat()
}

const fn bit(number: u64) -> u64 {
    1 << (number % PAGE)
}

impl Order {
    /// Throws everything away. How much that was.
    pub(super) fn clear(&mut self) -> u64 {
        self.throw();
        std::mem::take(&mut self.len)
    }

    /// Which numbers of a page are taken. Of one that is missing, as it is damaged, all may be.
    fn page(&self, plot: &Plot, number: u64) -> Result<u64> {
        let found = plot.part(&page_part(self.era, number))?;
        let bits = found.and_then(|found| Some(u64::from_le_bytes(*found.first_chunk()?)));
        Ok(bits.unwrap_or(u64::MAX))
    }

    /// Whether a number is taken.
    pub(super) fn has(&self, plot: &Plot, number: u64) -> Result<bool> {
        let is_within = (self.head..self.tail).contains(&number);
        Ok(is_within && self.page(plot, number)? & bit(number) != 0)
    }

    /// The first number from this one on that is taken.
    pub(super) fn next(&self, plot: &Plot, from: u64) -> Result<Option<u64>> {
        let mut from = from.max(self.head);
        while from < self.tail {
            let rest = self.page(plot, from)? >> (from % PAGE);
            if rest != 0 {
                let number = from + u64::from(rest.trailing_zeros());
                return Ok((number < self.tail).then_some(number));
            }
            from = (from / PAGE + 1) * PAGE;
        }
        Ok(None)
    }

    /// The last number below this one that is taken.
    pub(super) fn previous(&self, plot: &Plot, below: u64) -> Result<Option<u64>> {
        let mut below = below.min(self.tail);
        while below > self.head {
            let last = below - 1;
            let rest = self.page(plot, last)? << (PAGE - 1 - last % PAGE);
            if rest != 0 {
                let number = last - u64::from(rest.leading_zeros());
                return Ok((number >= self.head).then_some(number));
            }
            below = last / PAGE * PAGE;
        }
        Ok(None)
    }

    /// Takes the next number, for a key.
    pub(super) fn add(&mut self, plot: &Plot, key: &[u8], edits: &mut Edits) -> Result<u64> {
        let number = self.tail;
        // The page of a number that begins one has nothing in it, whatever an older tail left there.
        let is_first = number.is_multiple_of(PAGE) || self.head == number;
        let page = if is_first { 0 } else { self.page(plot, number)? };
        // A damaged page says that all are taken, which later ones are not.
        let taken = page & (bit(number) - 1) | bit(number);
        edits.put(key_part(self.era, number), key.to_vec());
        edits.put(page_part(self.era, number), taken.to_le_bytes().to_vec());
        self.tail += 1;
        self.len += 1;
        Ok(number)
    }

    /// Gives a number back.
    pub(super) fn remove(&mut self, plot: &Plot, number: u64, edits: &mut Edits) -> Result<()> {
        self.len = self.len.saturating_sub(1);
        edits.remove(key_part(self.era, number));
        let left = self.page(plot, number)? & !bit(number);
        let (old_head, old_tail) = (self.head, self.tail);
        if number == old_head {
            let farthest = (number / PAGE + PAGES_MAX) * PAGE;
            let next = self.next_beside(plot, left, number)?;
            self.head = next.unwrap_or(old_tail).min(farthest.max(number + 1));
        } else if number + 1 == old_tail {
            let farthest = (number / PAGE).saturating_sub(PAGES_MAX) * PAGE;
            let previous = self.previous_beside(plot, left, number)?;
            self.tail = previous.map_or(old_head, |last| last + 1).max(farthest);
        }
        if self.head >= self.tail {
            (self.head, self.tail) = (old_head, old_tail);
            self.throw();
            return Ok(());
        }
        // The pages that lie outside now, of which this number's may be one.
        let below = old_head / PAGE..self.head / PAGE;
        let above = self.tail.div_ceil(PAGE)..old_tail.div_ceil(PAGE);
        let own = number / PAGE;
        if !below.contains(&own) && !above.contains(&own) {
            edits.put(page_part(self.era, number), left.to_le_bytes().to_vec());
        }
        below.chain(above).for_each(|page| edits.remove(page_part(self.era, page * PAGE)));
        Ok(())
    }

    /// Begins a new era, and has what is stored of this one removed.
    fn throw(&mut self) {
        if self.head < self.tail {
            self.trash.push(Trash { era: self.era, from: self.head, to: self.tail });
        }
        (self.era, self.head, self.tail) = (nonce(), 0, 0);
    }

    /// Takes so many numbers out of the trash at most, whose records are to be removed now.
    pub(super) fn sweep(&mut self, most: u64) -> Vec<(u64, u64)> {
        let mut swept = Vec::new();
        while let Some(trash) = self.trash.last_mut()
            && (swept.len() as u64) < most
        {
            let to = trash.to.min(trash.from + most - swept.len() as u64);
            swept.extend((trash.from..to).map(|number| (trash.era, number)));
            trash.from = to;
            if trash.from == trash.to {
                self.trash.pop();
            }
        }
        swept
    }

    pub(super) const fn has_trash(&self) -> bool {
        !self.trash.is_empty()
    }

    /// The next number behind one whose page is about to say this.
    fn next_beside(&self, plot: &Plot, left: u64, number: u64) -> Result<Option<u64>> {
        let above = left & !(bit(number) | (bit(number) - 1));
        let begin = number / PAGE * PAGE;
        match above {
            0 => self.next(plot, begin + PAGE),
            _ => {
                let next = begin + u64::from(above.trailing_zeros());
                Ok((next < self.tail).then_some(next))
            }
        }
    }

    /// The last number before one whose page is about to say this.
    fn previous_beside(&self, plot: &Plot, left: u64, number: u64) -> Result<Option<u64>> {
        let below = left & (bit(number) - 1);
        let begin = number / PAGE * PAGE;
        match below {
            0 => self.previous(plot, begin),
            _ => {
                let last = begin + u64::from(below.ilog2());
                Ok((last >= self.head).then_some(last))
            }
        }
    }
}
