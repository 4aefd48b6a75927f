//! When each object is asked for again: what the optimum needs, and few traces say.
//!
//! A first pass over a trace writes the object of every request to a temporary file. The file is
//! then read backwards, block by block, and each object replaced by the number of the request
//! that asks for it next, which a table of the objects met so far knows. Memory is bounded by
//! the number of different objects, and every byte is read and written in sequence.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::trace::Access;

/// Requests in a block of the file.
const BLOCK: usize = 64 << 10;
const WORD: usize = size_of::<u64>();

/// Takes down the object of every request.
#[derive(Debug)]
pub struct LinksBuilder {
    file: BufWriter<File>,
    dir: PathBuf,
    count: u64,
}

/// The next use of the object of every request, in a temporary file that goes with this.
#[derive(Debug)]
pub struct Links {
    file: File,
    dir: PathBuf,
    left: u64,
    buffer: Vec<u8>,
}

impl LinksBuilder {
    /// Makes the file, of 8 bytes a request, in `dir`, or in the system's temporary directory.
    ///
    /// # Errors
    /// [`Error::Io`]: no file can be made there.
    pub fn new(dir: Option<&Path>) -> Result<Self> {
        let dir = dir.map_or_else(std::env::temp_dir, Path::to_owned);
        let file =
            tempfile::tempfile_in(&dir).map_err(Error::io("used for a temporary file", &dir))?;
        Ok(Self { file: BufWriter::with_capacity(BLOCK * WORD, file), dir, count: 0 })
    }

    /// Takes down the object of the next request.
    ///
    /// # Errors
    /// [`Error::Io`]: the file cannot be written, for want of space perhaps.
    pub fn push(&mut self, id: u64) -> Result<()> {
        self.count += 1;
        self.file
            .write_all(&id.to_le_bytes())
            .map_err(Error::io("used for a temporary file", &self.dir))
    }

    /// Finds all next uses.
    ///
    /// # Errors
    /// [`Error::Io`]: the file cannot be written or read.
    pub fn finish(self) -> Result<Links> {
        let Self { file, dir, count } = self;
        let link = || -> io::Result<File> {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            link(&mut file, count)?;
            Ok(file)
        };
        let file = link().map_err(Error::io("used for a temporary file", &dir))?;
        Ok(Links { file, dir, left: count, buffer: Vec::new() })
    }
}

fn link(file: &mut File, count: u64) -> io::Result<()> {
    let mut next_of = HashMap::<u64, u64, foldhash::fast::FixedState>::default();
    let mut block = Vec::new();
    let mut end = count;
    while end > 0 {
        let begin = (end - 1) / BLOCK as u64 * BLOCK as u64;
        let at = SeekFrom::Start(begin * WORD as u64);
        block.resize(usize::try_from(end - begin).unwrap_or(BLOCK) * WORD, 0);
        file.seek(at)?;
        file.read_exact(&mut block)?;
        let (words, _) = block.as_chunks_mut::<WORD>();
        for (at, word) in words.iter_mut().enumerate().rev() {
            let (id, number) = (u64::from_le_bytes(*word), begin + at as u64 + 1);
            let next = next_of.insert(id, number).unwrap_or(Access::NEVER);
            *word = next.to_le_bytes();
        }
        file.seek(at)?;
        file.write_all(&block)?;
        end = begin;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

impl Links {
    /// Says of the next `accesses`, which have to come in the order in which they were taken
    /// down, when their objects are asked for again. Whoever reads on behind the last of them
    /// is told that nothing comes again.
    ///
    /// # Errors
    /// [`Error::Io`]: the file cannot be read.
    pub fn fill(&mut self, accesses: &mut [Access]) -> Result<()> {
        let there = accesses.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.buffer.resize(there * WORD, 0);
        self.file
            .read_exact(&mut self.buffer)
            .map_err(Error::io("used for a temporary file", &self.dir))?;
        self.left -= there as u64;
        let (words, _) = self.buffer.as_chunks::<WORD>();
        let nexts = words.iter().map(|&word| u64::from_le_bytes(word));
        for (access, next) in accesses.iter_mut().zip(nexts.chain(std::iter::repeat(Access::NEVER)))
        {
            access.next = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked(ids: &[u64], chunk: usize) -> Vec<u64> {
        let mut builder = LinksBuilder::new(None).unwrap();
        ids.iter().for_each(|&id| builder.push(id).unwrap());
        let mut links = builder.finish().unwrap();
        let mut accesses: Vec<Access> = ids.iter().map(|&id| Access::new(id, 1)).collect();
        accesses.chunks_mut(chunk).for_each(|chunk| links.fill(chunk).unwrap());
        accesses.iter().map(|access| access.next).collect()
    }

    #[test]
    fn each_request_knows_the_next_for_its_object() {
        let never = Access::NEVER;
        assert_eq!(linked(&[7, 8, 7, 7, 9, 8], 2), [3, 6, 4, never, never, never]);
        assert_eq!(linked(&[], 1), [0_u64; 0]);
    }

    #[test]
    fn blocks_meet_without_a_seam() {
        for length in [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
            let ids: Vec<u64> = (0..length as u64).map(|at| at % 1000).collect();
            for (at, next) in linked(&ids, 777).into_iter().enumerate() {
                let expected = if at + 1000 < length { at as u64 + 1001 } else { Access::NEVER };
                assert_eq!(next, expected, "{at} of {length}");
            }
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = LinksBuilder::new(Some(Path::new("/nowhere/at/all"))).expect_err("refused");
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
