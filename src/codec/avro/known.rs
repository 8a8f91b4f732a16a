//! Texts that stand side by side and come again and again: channel, stage, touchpoint and action of a
//! record have few combinations. One that has been seen is found by its bytes as a whole, and is neither
//! decoded nor checked again.
//!
//! What is known stays: whoever has read a text from here may keep it as long as the plan. So places are
//! those of the combinations that came first, and the table is bounded without any order of eviction.
//! The others are decoded, as without it.

use crate::codec::slots::Slot;
use crate::model::touchpoint::WordsHint;
use std::sync::OnceLock;

/// Places of the table.
const PLACES: usize = 512;
/// So many of them one combination may have: those behind its own, if others were there first.
const TRIED: usize = 4;
/// Longer ones are not kept.
const BYTES_MAX: usize = 128;

/// Slots whose texts are words: few, and short.
pub(super) const WORDS: [Slot; 4] = [Slot::Channel, Slot::Stage, Slot::Touchpoint, Slot::Action];

/// A text, and where it goes.
pub(super) type Text = (Slot, Box<str>);

/// The bytes of some fields, and their texts.
#[derive(Debug)]
pub(super) struct Combination {
    bytes: Box<[u8]>,
    pub(super) texts: Box<[Text]>,
    pub(super) hint: WordsHint,
}

/// The combinations that have been seen.
#[derive(Debug)]
pub(super) struct Known(Box<[OnceLock<Combination>]>);

impl Default for Known {
    fn default() -> Known {
        Known((0..PLACES).map(|_| OnceLock::new()).collect())
    }
}

impl Known {
    /// The combination that `bytes` are, whose texts `read` tells the first time; `None` if there is no
    /// place for it, or it cannot be read.
    #[inline]
    pub(super) fn find(
        &self,
        bytes: &[u8],
        read: impl FnOnce() -> Option<(Vec<Text>, WordsHint)>,
    ) -> Option<&Combination> {
        if bytes.len() > BYTES_MAX {
            return None;
        }
        let first = place(bytes);
        let mut places = (first..first + TRIED).map(|place| &self.0[place % PLACES]);
        let free = loop {
            let place = places.next()?;
            match place.get() {
                Some(known) if *known.bytes == *bytes => return Some(known),
                Some(_) => {}
                None => break place,
            }
        };
        let (texts, hint) = read()?;
        let made = Combination { bytes: bytes.into(), texts: texts.into(), hint };
        Some(free.get_or_init(|| made)).filter(|known| *known.bytes == *bytes)
    }
}

/// Where these bytes belong. It need not be hard to find others that belong there, too: these are
/// decoded, that is all.
fn place(bytes: &[u8]) -> usize {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks::<8>();
    let last = match bytes.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last),
        None => rest.iter().fold(0, |last, byte| last << 8 | u64::from(*byte)),
    };
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(MIX).rotate_left(29);
    let hash = words.iter().fold(last, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    mix(hash, bytes.len() as u64) as usize % PLACES
}
