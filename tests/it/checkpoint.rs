//! Whatever a fold is, and wherever it is written down and made again: nobody can tell.
//!
//! Three folds get the same inputs: one is left alone; one is written down at every cut; one is, at
//! every cut, written down, dropped, and made again from the log of all entries so far, from the last
//! entry of each key, or from a copy of some of the log and what came since. All that they say, and all
//! that they write down, must be equal.

#![allow(clippy::unwrap_used, reason = "a helper of tests that cannot go on says where")]

use std::collections::BTreeMap;
use touchline::engine::Output;
use touchline::engine::state::{Checkpointed, Entry};
use xxhash_rust::xxh3::xxh3_64;

/// What is left of a log to be restored from.
#[derive(Clone, Copy)]
pub(crate) enum Kept {
    All,
    /// The last entry of each key.
    Compacted,
    /// A copy of its first half, in the order of a hash and without keys that have gone; then the rest.
    Copied,
}

impl Kept {
    const EACH: [Kept; 3] = [Kept::All, Kept::Compacted, Kept::Copied];

    pub(crate) fn of(number: usize) -> Kept {
        Kept::EACH[number % 3]
    }
}

/// Entries as a changelog keeps them.
#[derive(Default)]
pub(crate) struct Log {
    entries: Vec<Entry>,
}

impl Log {
    /// Writes down what is dirty; returns it.
    pub(crate) fn write(&mut self, fold: &mut impl Checkpointed) -> Vec<Entry> {
        let dirty = dirty(fold);
        self.entries.extend(dirty.iter().cloned());
        dirty
    }

    /// Makes a fold again.
    pub(crate) fn restore(&self, fold: &mut impl Checkpointed, kept: Kept) {
        let last = |of: &[Entry]| -> BTreeMap<Vec<u8>, usize> {
            of.iter().enumerate().map(|(place, entry)| (entry.key.clone(), place)).collect()
        };
        let entries: Vec<&Entry> = match kept {
            Kept::All => self.entries.iter().collect(),
            Kept::Compacted => {
                let last = last(&self.entries);
                let stays = |(place, entry): &(usize, &Entry)| last[&entry.key] == *place;
                self.entries.iter().enumerate().filter(stays).map(|(_, entry)| entry).collect()
            }
            Kept::Copied => {
                let (copied, rest) = self.entries.split_at(self.entries.len() / 2);
                let copied = last(copied).into_values().map(|place| &copied[place]);
                let mut copied: Vec<&Entry> =
                    copied.filter(|entry| entry.value.is_some()).collect();
                copied.sort_by_key(|entry| xxh3_64(&entry.key));
                copied.into_iter().chain(rest).collect()
            }
        };
        for entry in entries {
            fold.restore(&entry.key, entry.value.as_deref()).unwrap();
        }
        fold.restored().unwrap();
        assert_eq!(dirty(fold), [], "what was restored is in the log already");
    }
}

/// What is dirty: sorted, each key once.
pub(crate) fn dirty(fold: &mut impl Checkpointed) -> Vec<Entry> {
    let mut out = Vec::new();
    fold.take_dirty(&mut out);
    assert!(
        out.is_sorted_by(|a, b| a.key < b.key),
        "entries are sorted, and each key is there once"
    );
    assert!(out.iter().all(|entry| entry.key.first().is_some_and(|tag| *tag != 0)));
    out
}

/// Everything that there is. Leaves nothing dirty.
pub(crate) fn all(fold: &mut impl Checkpointed) -> Vec<Entry> {
    fold.mark_all();
    dirty(fold).into_iter().filter(|entry| entry.value.is_some()).collect()
}

/// Fails with the first entry that is not the same.
#[track_caller]
fn same(a: &[Entry], b: &[Entry], input: usize) {
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a, b, "before input {input}");
    }
    assert_eq!(a.len(), b.len(), "before input {input}: {:?}", a.get(b.len()).or(b.get(a.len())));
}

/// Feeds inputs `0..inputs` and cuts before those in `cuts`. Returns the number of entries written.
pub(crate) fn check<F: Checkpointed>(
    make: impl Fn() -> F,
    inputs: usize,
    cuts: &[usize],
    mut feed: impl FnMut(&mut F, usize, &mut Vec<Output>),
) -> usize {
    let (mut alone, mut written, mut torn) = (make(), make(), make());
    let (mut log, mut other) = (Log::default(), Log::default());
    let (mut expected, mut got) = (Vec::new(), Vec::new());
    for input in 0..inputs {
        if cuts.contains(&input) {
            let entries = log.write(&mut torn);
            same(&entries, &other.write(&mut written), input);
            let restored = |kept| {
                let mut again = make();
                log.restore(&mut again, kept);
                again
            };
            // To look at everything is to write it: what goes on is another one.
            same(&all(&mut restored(Kept::of(input))), &all(&mut torn), input);
            torn = restored(Kept::of(input + 1));
        }
        expected.clear();
        feed(&mut alone, input, &mut expected);
        got.clear();
        feed(&mut written, input, &mut got);
        assert_eq!(got, expected, "writing down is not seen, input {input}");
        got.clear();
        feed(&mut torn, input, &mut got);
        assert_eq!(got, expected, "input {input}");
    }
    log.write(&mut torn);
    same(&all(&mut torn), &all(&mut alone), inputs);
    log.entries.len()
}

/// For alert engines of tests, which remember nothing.
macro_rules! remembers_nothing {
    ($name:ty) => {
        impl touchline::engine::state::Checkpointed for $name {
            fn take_dirty(&mut self, _: &mut Vec<touchline::engine::state::Entry>) {}
            fn mark_all(&mut self) {}
            fn restore(
                &mut self,
                _: &[u8],
                _: Option<&[u8]>,
            ) -> Result<(), touchline::engine::state::StateError> {
                panic!("there is nothing to restore")
            }
            fn restored(&mut self) -> Result<(), touchline::engine::state::StateError> {
                Ok(())
            }
        }
    };
}
pub(crate) use remembers_nothing;
