//! The state of a fold as entries: what changed since the last checkpoint out, everything in again.
//!
//! An entry is a key and a value. Keys start with a tag byte, are unambiguous, and sort like the
//! fields that they are made of; tag 0 is never used by a fold. Values start with a version byte.
//! Both are opaque to whoever stores them. What can be derived (timers, indexes, agendas) is no entry.
//!
//! Deliberately absent: checksums, compression and where entries go (`codec::checkpoint` and shells).

use crate::codec::packed;
use crate::model::dimension::{Dimension, Dimensions};
use hashbrown::HashSet;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use xxhash_rust::xxh3::xxh3_128;

/// One entry of a task's state: a key and its value, or a tombstone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Entry {
    /// Never empty, and its first byte is never 0.
    pub key: Vec<u8>,
    /// `None` says that the key is gone.
    pub value: Option<Vec<u8>>,
}

/// Why a state cannot be made from entries.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateError {
    /// A key of another version, or of something else.
    #[error("state entry with a key that means nothing: {0}")]
    Key(String),
    /// A value written by another version.
    #[error("state entry `{what}` has format version {found}, this program reads {known}")]
    Version {
        /// What the entry is of.
        what: &'static str,
        /// Version in the entry.
        found: u8,
        /// Version that this program knows.
        known: u8,
    },
    /// The right version, and yet it cannot be read.
    #[error("state entry `{0}` cannot be decoded")]
    Malformed(&'static str),
    /// The entries do not belong together.
    #[error("state is incomplete: {0}")]
    Incomplete(String),
    /// The state was made under settings that this fold cannot take over.
    #[error("state does not fit the configuration: {0}")]
    Settings(String),
}

/// A fold whose state can be written down in pieces and made again from them.
pub trait Checkpointed {
    /// Version of the fold: changes with whatever makes the same input give other outputs. 0 for a
    /// part of a fold, whose changes are the fold's.
    fn fold_version(&self) -> u32 {
        0
    }

    /// Appends the entries that changed since the last call, sorted by key, as they are at this
    /// moment. Afterwards nothing is dirty. After `new` all that was folded has changed; after
    /// `restored` nothing has, as it stands in the log that it was restored from. What came and went
    /// in between leaves no entry. Only between two inputs, never within one.
    fn take_dirty(&mut self, out: &mut Vec<Entry>);

    /// Makes the next [`Checkpointed::take_dirty`] write every entry that there is.
    fn mark_all(&mut self);

    /// Takes in one entry: later entries of a key replace earlier ones, `None` removes. Those of
    /// different keys come in any order. Only between `new` and `restored`.
    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError>;

    /// Everything has been restored: makes what is derived, and checks that nothing is missing.
    fn restored(&mut self) -> Result<(), StateError>;
}

/// Appends what is dirty in `inner`, with `prefix` before its keys.
pub fn take_nested(inner: &mut dyn Checkpointed, prefix: &[u8], out: &mut Vec<Entry>) {
    let start = out.len();
    inner.take_dirty(out);
    for entry in &mut out[start..] {
        entry.key.splice(0..0, prefix.iter().copied());
    }
}

/// Which parts of a state have changed, and which stand in the log.
///
/// Parts may change in any order: entries are sorted when they are taken.
#[derive(Clone, Debug)]
pub struct Dirty<P> {
    touched: HashSet<P, foldhash::fast::FixedState>,
    saved: HashSet<P, foldhash::fast::FixedState>,
}

impl<P: Eq + Hash> Default for Dirty<P> {
    fn default() -> Dirty<P> {
        Dirty { touched: HashSet::default(), saved: HashSet::default() }
    }
}

impl<P: Eq + Hash + Clone> Dirty<P> {
    /// A part changed, came to be, or is gone.
    pub fn touch(&mut self, part: P) {
        self.touched.insert(part);
    }

    /// A part is gone. What never stood in the log leaves nothing behind.
    pub fn remove(&mut self, part: P) {
        if self.saved.contains(&part) {
            self.touched.insert(part);
        } else {
            self.touched.remove(&part);
        }
    }

    /// A part was restored, or removed by a restored tombstone.
    pub fn note_restored(&mut self, part: P, is_there: bool) {
        if is_there {
            self.saved.insert(part);
        } else {
            self.saved.remove(&part);
        }
    }

    /// The parts that have changed, in no order.
    pub fn touched(&self) -> impl Iterator<Item = &P> {
        self.touched.iter()
    }

    /// All parts that stand in the log have changed (what is new has been touched anyway).
    pub fn touch_saved(&mut self) {
        self.touched.extend(self.saved.iter().cloned());
    }

    /// Appends an entry for every part that changed, sorted. `key` is the part's key, `value` its value
    /// now; `None` if the part is gone or empty.
    pub fn take(
        &mut self,
        out: &mut Vec<Entry>,
        mut key: impl FnMut(&P) -> Vec<u8>,
        mut value: impl FnMut(&P) -> Option<Vec<u8>>,
    ) {
        let start = out.len();
        for part in self.touched.drain() {
            let value = value(&part);
            let was_there = match value {
                Some(_) => !self.saved.insert(part.clone()),
                None => self.saved.remove(&part),
            };
            if value.is_some() || was_there {
                out.push(Entry { key: key(&part), value });
            }
        }
        // The order of the set is invisible.
        out[start..].sort_unstable();
    }
}

/// For small entries: all of them are made at every checkpoint, and those that differ from what was
/// written last are written.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    written: BTreeMap<Vec<u8>, Option<u128>>,
    seen: BTreeSet<Vec<u8>>,
}

impl Compared {
    /// Appends an entry if it is new or has changed.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>, out: &mut Vec<Entry>) {
        let hash = Some(xxh3_128(&value));
        self.seen.insert(key.clone());
        if self.written.get(&key) != Some(&hash) {
            self.written.insert(key.clone(), hash);
            out.push(Entry { key, value: Some(value) });
        }
    }

    /// Appends a tombstone for every entry that was not put since the last call.
    pub fn finish(&mut self, out: &mut Vec<Entry>) {
        let seen = std::mem::take(&mut self.seen);
        self.written.retain(|key, _| {
            let stays = seen.contains(key);
            if !stays {
                out.push(Entry { key: key.clone(), value: None });
            }
            stays
        });
    }

    /// An entry was restored.
    pub fn note_restored(&mut self, key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => self.written.insert(key.to_vec(), Some(xxh3_128(value))),
            None => self.written.remove(key),
        };
    }

    /// Whatever is put next is written.
    pub fn touch_all(&mut self) {
        self.written.values_mut().for_each(|hash| *hash = None);
    }
}

/// Writes a key field by field.
#[derive(Clone, Debug)]
pub struct KeyWriter(Vec<u8>);

impl KeyWriter {
    /// Starts a key with its tag, which is not 0.
    pub fn new(tag: u8) -> KeyWriter {
        KeyWriter(vec![tag])
    }

    /// Appends one byte.
    pub fn byte(mut self, byte: u8) -> KeyWriter {
        self.0.push(byte);
        self
    }

    /// Appends a number.
    pub fn u32(mut self, number: u32) -> KeyWriter {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Appends a signed number; negative ones sort first.
    pub fn i64(mut self, number: i64) -> KeyWriter {
        self.0.extend_from_slice(&(number.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        self
    }

    /// Appends a text; a prefix of another sorts first.
    pub fn text(mut self, text: &str) -> KeyWriter {
        for byte in text.bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xff);
            }
        }
        self.0.extend_from_slice(&[0, 1]);
        self
    }

    /// Appends dimensions; a prefix of others sorts first.
    pub fn dimensions(mut self, dimensions: &Dimensions) -> KeyWriter {
        for (dimension, value) in dimensions.pairs() {
            self = self.byte(1).text(dimension.name()).text(value);
        }
        self.byte(0)
    }

    /// Appends bytes as they are: nothing can follow them.
    pub fn rest(mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(bytes);
        self.0
    }

    /// The key.
    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a key field by field.
#[derive(Clone, Copy, Debug)]
pub struct KeyReader<'a> {
    whole: &'a [u8],
    left: &'a [u8],
}

impl<'a> KeyReader<'a> {
    /// Starts at the tag.
    pub fn new(key: &'a [u8]) -> KeyReader<'a> {
        KeyReader { whole: key, left: key }
    }

    /// Reads one byte.
    pub fn byte(&mut self) -> Result<u8, StateError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Reads a number.
    pub fn u32(&mut self) -> Result<u32, StateError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads a signed number.
    pub fn i64(&mut self) -> Result<i64, StateError> {
        self.array().map(|bytes| (u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed())
    }

    /// Reads a text.
    pub fn text(&mut self) -> Result<String, StateError> {
        let mut text = Vec::new();
        loop {
            match self.byte()? {
                0 => match self.byte()? {
                    1 => break,
                    0xff => text.push(0),
                    _ => return Err(self.error()),
                },
                byte => text.push(byte),
            }
        }
        String::from_utf8(text).map_err(|_| self.error())
    }

    /// Reads dimensions.
    pub fn dimensions(&mut self) -> Result<Dimensions, StateError> {
        let mut pairs = Vec::new();
        loop {
            match self.byte()? {
                0 => return Ok(Dimensions::new(pairs)),
                1 => {
                    let name = self.text()?;
                    let known = Dimension::ALL.iter().find(|d| d.name() == name);
                    let dimension = *known.ok_or_else(|| self.error())?;
                    pairs.push((dimension, self.text()?.into()));
                }
                _ => return Err(self.error()),
            }
        }
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.left
    }

    /// Refuses a key that goes on.
    pub fn done(self) -> Result<(), StateError> {
        if self.left.is_empty() { Ok(()) } else { Err(self.error()) }
    }

    /// The error that this key means nothing.
    pub fn error(&self) -> StateError {
        StateError::Key(self.whole.escape_ascii().to_string())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (head, left) = self.left.split_first_chunk::<N>().ok_or_else(|| self.error())?;
        self.left = left;
        Ok(*head)
    }
}

/// Writes a value: its version, then itself.
///
/// # Panics
/// If the value holds a sequence of unknown length; no state does.
pub fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.push(version);
    packed::append(value, &mut out);
    out
}

/// Reads a value that [`encode`] wrote; `what` names it in errors.
pub fn decode<T: DeserializeOwned>(
    what: &'static str,
    version: u8,
    bytes: &[u8],
) -> Result<T, StateError> {
    let Some((&found, body)) = bytes.split_first() else {
        return Err(StateError::Malformed(what));
    };
    if found != version {
        return Err(StateError::Version { what, found, known: version });
    }
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(StateError::Malformed(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_know_their_version() {
        let bytes = encode(3, &(7_u32, "seven"));
        assert_eq!(decode("x", 3, &bytes), Ok((7_u32, "seven".to_owned())));
        let other = StateError::Version { what: "x", found: 3, known: 4 };
        assert_eq!(decode::<(u32, String)>("x", 4, &bytes), Err(other));
        let malformed = Err(StateError::Malformed("x"));
        assert_eq!(decode::<(u32, String)>("x", 3, &[]), malformed);
        assert_eq!(decode::<(u32, String)>("x", 3, &bytes[..4]), malformed);
        assert_eq!(decode::<u32>("x", 3, &bytes), Err(StateError::Malformed("x")));
    }

    #[test]
    fn what_comes_and_goes_leaves_no_entry() {
        let mut dirty: Dirty<u8> = Dirty::default();
        let take = |dirty: &mut Dirty<u8>, there: bool| {
            let mut out = Vec::new();
            dirty.take(&mut out, |part| vec![*part], |_| there.then(|| vec![9]));
            out
        };
        let entry = |value: Option<u8>| Entry { key: vec![1], value: value.map(|v| vec![v]) };
        dirty.touch(1);
        assert_eq!(take(&mut dirty, false), []);
        dirty.touch(1);
        assert_eq!(take(&mut dirty, true), [entry(Some(9))]);
        assert_eq!(take(&mut dirty, true), []);
        dirty.touch_saved();
        assert_eq!(take(&mut dirty, true), [entry(Some(9))]);
        dirty.touch(1);
        assert_eq!(take(&mut dirty, false), [entry(None)]);
        dirty.note_restored(1, true);
        dirty.touch(1);
        assert_eq!(take(&mut dirty, false), [entry(None)]);
    }

    type Fields = (String, i64, u32);

    proptest! {
        #[test]
        fn keys_sort_like_their_fields_and_read_back(
            a in ("[a\0\u{1}\u{ff}]{0,4}", any::<i64>(), any::<u32>()),
            b in ("[a\0\u{1}\u{ff}]{0,4}", -2_i64..3, any::<u32>()),
        ) {
            let key = |f: &Fields| KeyWriter::new(1).text(&f.0).i64(f.1).u32(f.2).done();
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
            let bytes = key(&a);
            let mut reader = KeyReader::new(&bytes);
            prop_assert_eq!(reader.byte(), Ok(1));
            let read = (reader.text().unwrap(), reader.i64().unwrap(), reader.u32().unwrap());
            prop_assert_eq!(read, a);
            prop_assert_eq!(reader.done(), Ok(()));
            prop_assert!(KeyReader::new(&bytes[1..]).done().is_err());
        }
    }
}
