//! The local copy of one partition of a changelog: files, and their manifest.
//!
//! ```text
//! <partition>/manifest      which bytes of which files are the copy
//! <partition>/07.3          file 7, rewritten three times
//! ```
//!
//! A key always goes to the same file, by its hash, so that each file can be rewritten by itself: once
//! half of it is out of date, the last record of each key is copied to another file. What is not in the
//! manifest is none of the copy, and the manifest is replaced as a whole: whenever the process dies, the
//! copy is what the last manifest says. Nothing is flushed to the disk; if the machine dies, checksums
//! tell what did not get there, and the changelog has everything.

use crate::codec::local::{
    FileEntry, LocalError, Manifest, Records, block_length, put_block, put_record,
};
use crate::kafka::error::Error;
use hashbrown::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// Files of a copy: a power of two.
const FILES: usize = 64;
/// What waits in memory until it is written.
const WAITING_BYTES: usize = 2 << 20;
/// Smaller files are not rewritten.
const REWRITE_FROM: u64 = 128 << 10;
/// Bytes read to rewrite files, per byte that was appended: two would do in the long run.
const REWRITE_SHARE: u64 = 4;
const MANIFEST: &str = "manifest";

/// Why a copy cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Local(#[from] LocalError),
}

impl From<CopyError> for Error {
    fn from(error: CopyError) -> Error {
        Error::System(format!("the local copy of a state: {error}"))
    }
}

/// The copy of one partition.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    entries: Vec<FileEntry>,
    /// Records that are to be appended, by file.
    waiting: Vec<Vec<u8>>,
    waiting_bytes: usize,
    /// Bytes appended since files were rewritten last.
    appended: u64,
}

/// The file that a key belongs to.
fn file_of(key: &[u8]) -> usize {
    (xxh3_64(key) >> 32) as usize % FILES
}

fn path_of(dir: &Path, number: usize, rewritten: u32) -> PathBuf {
    dir.join(format!("{number:02}.{rewritten}"))
}

/// The first `length` bytes of a file.
fn read_file(dir: &Path, number: usize, entry: &FileEntry) -> Result<Vec<u8>, CopyError> {
    let mut bytes = Vec::with_capacity(entry.length as usize);
    if entry.length > 0 {
        let file = File::open(path_of(dir, number, entry.rewritten))?;
        file.take(entry.length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != entry.length {
            return Err(LocalError::Block.into());
        }
    }
    Ok(bytes)
}

/// The manifest of a copy, if there is one that can be read.
pub(super) fn manifest(dir: &Path) -> Option<Manifest> {
    let manifest = Manifest::from_bytes(&fs::read(dir.join(MANIFEST)).ok()?).ok()?;
    (manifest.files.len() == FILES).then_some(manifest)
}

/// The blocks of one file of a copy; `None` behind the last one.
pub(super) fn blocks(
    dir: &Path,
    manifest: &Manifest,
    number: usize,
) -> Result<Option<Vec<u8>>, CopyError> {
    let entry = manifest.files.get(number);
    entry.map(|entry| read_file(dir, number, entry)).transpose()
}

impl Files {
    /// Goes on with the copy that a manifest describes.
    pub(super) fn go_on(dir: &Path, manifest: &Manifest) -> Files {
        Files::of(dir, manifest.files.clone())
    }

    /// Begins a copy of nothing.
    pub(super) fn anew(dir: &Path) -> Result<Files, CopyError> {
        fs::create_dir_all(dir)?;
        // First: without it there is no copy.
        match fs::remove_file(dir.join(MANIFEST)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        remove_all_but(dir, &[])?;
        Ok(Files::of(dir, vec![FileEntry::default(); FILES]))
    }

    fn of(dir: &Path, entries: Vec<FileEntry>) -> Files {
        let waiting = vec![Vec::new(); FILES];
        Files { dir: dir.to_owned(), entries, waiting, waiting_bytes: 0, appended: 0 }
    }

    /// Appends a record; it belongs to the copy from the next [`Files::mark`] on.
    pub(super) fn append(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), CopyError> {
        let waiting = &mut self.waiting[file_of(key)];
        let before = waiting.len();
        put_record(key, value, waiting);
        self.waiting_bytes += waiting.len() - before;
        if self.waiting_bytes > WAITING_BYTES { self.write() } else { Ok(()) }
    }

    /// Writes what waits behind the files as they are.
    fn write(&mut self) -> Result<(), CopyError> {
        let mut block = Vec::new();
        for (number, waiting) in self.waiting.iter_mut().enumerate() {
            if waiting.is_empty() {
                continue;
            }
            let entry = &mut self.entries[number];
            block.clear();
            put_block(waiting, &mut block);
            let path = path_of(&self.dir, number, entry.rewritten);
            let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
            // What stands behind its length was written and never belonged to the copy.
            file.set_len(entry.length)?;
            file.seek(SeekFrom::Start(entry.length))?;
            file.write_all(&block)?;
            entry.length += block_length(waiting.len());
            self.appended += block.len() as u64;
            // Not kept: all partitions together would hold many.
            *waiting = Vec::new();
        }
        self.waiting_bytes = 0;
        Ok(())
    }

    /// Everything appended belongs to the copy: it holds what is committed below `next`.
    pub(super) fn mark(&mut self, manifest: Manifest) -> Result<(), CopyError> {
        self.write()?;
        let old = self.rewrite()?;
        let new = self.dir.join("manifest.new");
        let manifest = Manifest { files: self.entries.clone(), ..manifest };
        fs::write(&new, manifest.to_bytes())?;
        fs::rename(&new, self.dir.join(MANIFEST))?;
        for path in old {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Rewrites the files that have grown most, in proportion to what was appended. Returns those that
    /// can go once the manifest does not name them any more.
    fn rewrite(&mut self) -> Result<Vec<PathBuf>, CopyError> {
        let mut due: Vec<usize> = (0..FILES).filter(|n| is_due(&self.entries[*n])).collect();
        due.sort_by_key(|n| std::cmp::Reverse(self.entries[*n].length - self.entries[*n].base));
        let mut left = (std::mem::take(&mut self.appended) * REWRITE_SHARE).cast_signed();
        let mut old = Vec::new();
        for number in due {
            let entry = self.entries[number];
            if left <= 0 {
                break;
            }
            left -= entry.length.cast_signed();
            let block = newest(&read_file(&self.dir, number, &entry)?)?;
            let rewritten = entry.rewritten.wrapping_add(1);
            fs::write(path_of(&self.dir, number, rewritten), &block)?;
            let length = block.len() as u64;
            self.entries[number] = FileEntry { rewritten, length, base: length };
            old.push(path_of(&self.dir, number, entry.rewritten));
        }
        Ok(old)
    }

    /// Removes what no manifest names: left by a process that died while it rewrote a file.
    pub(super) fn remove_strangers(&self) -> Result<(), CopyError> {
        let named = |number: usize| path_of(&self.dir, number, self.entries[number].rewritten);
        let mut keep: Vec<PathBuf> = (0..FILES).map(named).collect();
        keep.push(self.dir.join(MANIFEST));
        remove_all_but(&self.dir, &keep)
    }
}

fn remove_all_but(dir: &Path, keep: &[PathBuf]) -> Result<(), CopyError> {
    for found in fs::read_dir(dir)? {
        let path = found?.path();
        if !keep.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// True if half of a file may be out of date.
fn is_due(entry: &FileEntry) -> bool {
    entry.length > 2 * entry.base && entry.length > REWRITE_FROM
}

/// One block with the last record of each key that has a value.
fn newest(blocks: &[u8]) -> Result<Vec<u8>, LocalError> {
    let mut last: HashMap<&[u8], Option<&[u8]>> = HashMap::new();
    for record in Records::of_blocks(blocks) {
        let (key, value) = record?;
        last.insert(key, value);
    }
    let mut records = Vec::with_capacity(blocks.len() / 2);
    for (key, value) in last {
        if value.is_some() {
            put_record(key, value, &mut records);
        }
    }
    let mut block = Vec::with_capacity(records.len() + 8);
    if !records.is_empty() {
        put_block(&records, &mut block);
    }
    Ok(block)
}
