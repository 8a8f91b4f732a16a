//! What stands in the files of a local copy of a changelog partition.
//!
//! A *record* is a key and its framed value, as in the changelog; without a value the key is gone:
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | length of the key, little endian |
//! | 4 | length of the value, little endian; all ones: there is none |
//! | rest | key, value |
//!
//! A *block* is what was written at once: its length and its crc32c (4 bytes each, little endian), then
//! records. A [`Manifest`] says which blocks of which files are the copy; it stands in the frame of
//! state entries ([`checkpoint`](super::checkpoint)), which bears a version and a checksum.
//! Deliberately absent: files, and when a copy may be used (`kafka::local`).

use super::checkpoint::{CheckpointError, Framer, Unframer};
use crate::model::ids::NextOffset;
use serde::{Deserialize, Serialize};

/// Bytes before a block's records.
const BLOCK_HEAD: usize = 8;
/// Length of a value that is not there.
const NONE: u32 = u32::MAX;
/// Version of files and manifest.
const VERSION: u8 = 1;

/// What is wrong with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LocalError {
    /// A block ends before its length, or its bytes are others.
    #[error("a block is torn or damaged")]
    Block,
    /// A block's records are not.
    #[error("a record cannot be read")]
    Record,
    /// The manifest is of another version.
    #[error("written by another version")]
    Version,
    /// The manifest's frame is damaged.
    #[error("{0}")]
    Frame(#[from] CheckpointError),
}

/// One file of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FileEntry {
    /// How often it has been rewritten: part of its name.
    pub rewritten: u32,
    /// Bytes that belong to the copy; what comes behind them does not.
    pub length: u64,
    /// Its length when it had been rewritten last.
    pub base: u64,
}

/// What a copy is, written when all of it stands in its files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The copy holds what is committed of the changelog below this offset.
    pub next: NextOffset,
    /// When it was written: wall clock, ms since 1970.
    pub written_at: i64,
    /// The framed value of the last checkpoint record among it.
    pub checkpoint: Vec<u8>,
    /// Its files, by number.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = vec![VERSION];
        super::packed::append(self, &mut body);
        let mut out = Vec::new();
        Framer::default().entry(&body, &mut out);
        out
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is damaged, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, LocalError> {
        let mut unframer = Unframer::default();
        let body = unframer.entry(bytes)?;
        let Some((&VERSION, body)) = body.split_first() else { return Err(LocalError::Version) };
        match postcard::take_from_bytes(body) {
            Ok((manifest, [])) => Ok(manifest),
            _ => Err(LocalError::Record),
        }
    }
}

/// Appends a record.
///
/// # Panics
/// If the key or the value has 4 GiB: a broker takes no such record.
pub fn put_record(key: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("records have a bound");
    out.extend_from_slice(&length(key).to_le_bytes());
    out.extend_from_slice(&value.map_or(NONE, length).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value.unwrap_or_default());
}

/// Appends a block of `records`.
///
/// # Panics
/// If it has 4 GiB.
pub fn put_block(records: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(records.len()).expect("blocks have a bound");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(records).to_le_bytes());
    out.extend_from_slice(records);
}

/// Length of a block of so many bytes of records.
pub const fn block_length(records: usize) -> u64 {
    (BLOCK_HEAD + records) as u64
}

/// One record: key, and value if it has one.
pub type LocalRecord<'a> = (&'a [u8], Option<&'a [u8]>);

/// The records of blocks, one after the other; ends after an error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    /// Behind the block that is being read.
    rest: &'a [u8],
    /// What is left of it.
    block: &'a [u8],
}

impl<'a> Records<'a> {
    /// The records of whole blocks.
    pub const fn of_blocks(blocks: &'a [u8]) -> Records<'a> {
        Records { rest: blocks, block: &[] }
    }

    /// Records that stand in no block.
    pub const fn bare(records: &'a [u8]) -> Records<'a> {
        Records { rest: &[], block: records }
    }

    fn read(&mut self) -> Result<Option<LocalRecord<'a>>, LocalError> {
        while self.block.is_empty() {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let (length, rest) = number(self.rest).ok_or(LocalError::Block)?;
            let (sum, rest) = number(rest).ok_or(LocalError::Block)?;
            let (block, rest) = rest.split_at_checked(length as usize).ok_or(LocalError::Block)?;
            if crc32c::crc32c(block) != sum {
                return Err(LocalError::Block);
            }
            (self.block, self.rest) = (block, rest);
        }
        let (key, rest) = number(self.block).ok_or(LocalError::Record)?;
        let (value, rest) = number(rest).ok_or(LocalError::Record)?;
        let (key, rest) = rest.split_at_checked(key as usize).ok_or(LocalError::Record)?;
        let length = if value == NONE { 0 } else { value as usize };
        let (bytes, rest) = rest.split_at_checked(length).ok_or(LocalError::Record)?;
        self.block = rest;
        Ok(Some((key, (value != NONE).then_some(bytes))))
    }
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*head), rest))
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<LocalRecord<'a>, LocalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read().transpose();
        if let Some(Err(_)) = read {
            (self.rest, self.block) = (&[], &[]);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (Vec<u8>, Option<Vec<u8>>);

    fn blocks(of: &[Vec<Owned>]) -> Vec<u8> {
        let mut out = Vec::new();
        for block in of {
            let mut records = Vec::new();
            block.iter().for_each(|(k, v)| put_record(k, v.as_deref(), &mut records));
            let before = out.len();
            put_block(&records, &mut out);
            assert_eq!((out.len() - before) as u64, block_length(records.len()));
        }
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Owned>, LocalError> {
        let owned = |(k, v): LocalRecord<'_>| (k.to_vec(), v.map(<[u8]>::to_vec));
        Records::of_blocks(bytes).map(|record| record.map(owned)).collect()
    }

    #[test]
    fn a_manifest_reads_back_and_damage_is_refused() {
        let manifest = Manifest {
            next: NextOffset::new(7),
            written_at: -1,
            checkpoint: b"framed".to_vec(),
            files: vec![FileEntry { rewritten: 1, length: 2, base: 1 }; 300],
        };
        let mut bytes = manifest.to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes), Ok(manifest));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let damaged = Manifest::from_bytes(&bytes);
        assert_eq!(damaged, Err(LocalError::Frame(CheckpointError::Checksum)));
        let mut other = Vec::new();
        Framer::default().entry(&[VERSION + 1], &mut other);
        assert_eq!(Manifest::from_bytes(&other), Err(LocalError::Version));
    }

    proptest! {
        #[test]
        fn records_read_back_and_damage_is_refused(
            of in prop::collection::vec(
                prop::collection::vec(
                    (prop::collection::vec(any::<u8>(), 0..9),
                     prop::option::of(prop::collection::vec(any::<u8>(), 0..9))),
                    0..4),
                1..4),
            at in any::<prop::sample::Index>(),
            flip in 1_u8..=255,
        ) {
            let bytes = blocks(&of);
            prop_assert_eq!(read(&bytes), Ok(of.concat()));
            let at = at.index(bytes.len());
            let cut = read(&bytes[..at]);
            // Cut between two blocks it is a shorter file: the manifest knows the length.
            prop_assert!(cut.is_err() || of.concat().starts_with(&cut.unwrap()));
            let mut bad = bytes.clone();
            bad[at] ^= flip;
            prop_assert!(read(&bad).is_err(), "byte {}", at);
        }
    }
}
