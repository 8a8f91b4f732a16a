//! Texts that stand side by side and come again and again: channel, stage, touchpoint and action of a
//! record have few combinations. One that has been seen is found by its bytes as a whole, and is neither
//! decoded nor checked again.
//!
//! What is known stays: whoever has read a text from here may keep it as long as the plan. So a place
//! that two combinations fall to is that of the first, and the table is bounded without any order of
//! eviction. The others are decoded, as without it.

use crate::codec::slots::Slot;
use std::sync::OnceLock;
use xxhash_rust::xxh3::xxh3_64;

/// Places of the table.
const PLACES: usize = 512;
/// Longer ones are not kept.
const BYTES_MAX: usize = 128;

/// Slots whose texts are words: few, and short.
pub(super) const WORDS: [Slot; 4] = [Slot::Channel, Slot::Stage, Slot::Touchpoint, Slot::Action];

/// A text, and where it goes.
type Text = (Slot, Box<str>);

/// The bytes of some fields, and their texts.
#[derive(Debug)]
struct Combination {
    bytes: Box<[u8]>,
    texts: Box<[Text]>,
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
    /// The texts that `bytes` are, which `read` tells the first time; `None` if there is no place for
    /// them, or it cannot read them.
    #[inline]
    pub(super) fn texts(
        &self,
        bytes: &[u8],
        read: impl FnOnce() -> Option<Vec<Text>>,
    ) -> Option<&[Text]> {
        let place = &self.0[xxh3_64(bytes) as usize % PLACES];
        if place.get().is_none() && bytes.len() <= BYTES_MAX {
            let texts = read()?.into_boxed_slice();
            place.get_or_init(|| Combination { bytes: bytes.into(), texts });
        }
        place.get().filter(|known| *known.bytes == *bytes).map(|known| &*known.texts)
    }
}
