//! What the state of a customer may reach while it changes: settings, times, and where counts and
//! facts go.

use super::cells::{Partials, Post, What};
use super::counts::Counts;
use super::links::Neighbours;
use super::log::Unpacked;
use super::profile::{ProfileId, Profiles, TenantId};
use super::settings::Settings;
use crate::engine::{Fact, Output};
use crate::model::ids::{PartitionId, hex};
use crate::model::time::{EventTime, Millis, Slice, SliceGrid};
use compact_str::CompactString;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

/// Names facts by where in the log they came about.
#[derive(Debug, Default)]
pub(super) struct FactIds {
    prefix: Vec<u8>,
    offset: i64,
    side_input: u64,
    ordinal: u64,
}

impl FactIds {
    pub(super) fn new(app: &str, generation: u64, partition: PartitionId) -> FactIds {
        let prefix = format!("{app}\0journey\0{generation}\0{partition}\0").into_bytes();
        FactIds { prefix, offset: -1, side_input: 0, ordinal: 0 }
    }

    /// A record is the next input.
    pub(super) fn record(&mut self, offset: i64) {
        self.offset = offset;
        self.ordinal = 0;
    }

    /// A side input is next; the position stays.
    pub(super) fn side_input(&mut self, number: u64) {
        self.side_input = number;
        self.ordinal = 0;
    }

    /// Offset of the last record and number of the last side input.
    pub(super) fn saved(&self) -> (i64, u64) {
        (self.offset, self.side_input)
    }

    /// Goes on from there.
    pub(super) fn restore(&mut self, (offset, side_input): (i64, u64)) {
        (self.offset, self.side_input) = (offset, side_input);
    }

    pub(super) fn last_side_input(&self) -> u64 {
        self.side_input
    }

    pub(super) fn next(&mut self) -> CompactString {
        let name = self.prefix.len();
        for number in [self.offset as u64, self.side_input, self.ordinal] {
            self.prefix.extend_from_slice(&number.to_le_bytes());
        }
        let hash = xxh3_128(&self.prefix);
        self.prefix.truncate(name);
        self.ordinal += 1;
        hex(hash)
    }
}

/// Everything outside of one customer.
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    pub(super) grid: SliceGrid,
    pub(super) profiles: &'a Profiles,
    pub(super) partials: &'a mut Partials,
    pub(super) counts: &'a mut Counts,
    pub(super) ids: &'a mut FactIds,
    pub(super) out: &'a mut Vec<Output>,
    /// Room for a customer's events; whoever uses it takes it out.
    pub(super) scratch: &'a mut Unpacked,
    /// The same for the neighbours of a visited slice.
    pub(super) neighbours: &'a mut Vec<Neighbours>,
    /// The task's clock, or just after the due time of the timer that fires.
    pub(super) clock: Option<EventTime>,
    /// The slice whose step comes next: that of the task's clock, or of the timer's due time.
    pub(super) slice: Option<Slice>,
    /// The task's clock.
    pub(super) now: Option<EventTime>,
    /// The task's watermark, but not beyond `clock`: while timers catch up, neither does it.
    pub(super) watermark: Option<EventTime>,
    /// The task's watermark.
    pub(super) reached: Option<EventTime>,
}

impl Context<'_> {
    /// Events older than this are too late.
    pub(super) fn floor(&self) -> EventTime {
        self.watermark.map_or(EventTime::MIN, |w| w.minus(self.settings.allowed_lateness))
    }

    /// True once the clock is later than `at`.
    pub(super) fn passed(&self, at: EventTime) -> bool {
        self.clock.is_some_and(|clock| clock > at)
    }

    /// When to look again at something that is due at `due` by the watermark.
    pub(super) fn due_by_watermark(&self, due: EventTime) -> EventTime {
        let (Some(now), Some(watermark)) = (self.now, self.reached) else { return due };
        // What has passed fires yet, in its turn, while timers are catching up with the clock.
        let in_turn = watermark > due && self.clock.is_some_and(|clock| clock <= due);
        if now <= due || in_turn {
            return due;
        }
        // The watermark is behind: no sooner than its distance, and not at every record.
        now.plus(due.since(watermark).max(Millis::from_secs(1)))
    }

    /// Counts something that happened at `at` in the series of `profile`.
    pub(super) fn post(&mut self, at: EventTime, profile: ProfileId, what: What, sign: i64) {
        let post = Post { slice: self.grid.slice(at), profile, what };
        self.post_all(&post, sign);
    }

    /// Counts what was put together before.
    pub(super) fn post_all(&mut self, post: &Post, sign: i64) {
        self.partials.post(self.profiles, self.slice, post, sign);
    }

    pub(super) fn say(&mut self, fact: Fact) {
        self.out.push(Output::Fact(fact));
    }
}

/// Name of something of a customer's that begins with the event of this fingerprint.
pub(super) fn name_of(kind: &str, tenant: &str, customer: &str, fingerprint: u64) -> CompactString {
    let mut bytes = Vec::with_capacity(kind.len() + tenant.len() + customer.len() + 11);
    for part in [kind, tenant, customer] {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0xFF);
    }
    bytes.extend_from_slice(&fingerprint.to_le_bytes());
    hex(xxh3_128(&bytes))
}

/// Bytes that fit into the room of [`Pieces`].
const PIECES: usize = 256;

/// Takes in what is to be hashed, to hash it in one piece: starting a hash that takes pieces costs
/// more than most hashes. The result is the same.
#[derive(Debug)]
pub(super) struct Pieces {
    room: [u8; PIECES],
    length: usize,
    /// All, once they are more than there is room for.
    many: Vec<u8>,
}

impl Default for Pieces {
    fn default() -> Pieces {
        Pieces { room: [0; PIECES], length: 0, many: Vec::new() }
    }
}

impl Pieces {
    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        self.many.extend_from_slice(&self.room[..self.length]);
        self.many.extend_from_slice(bytes);
        self.length = 0;
    }
}

impl std::hash::Hasher for Pieces {
    // Numbers come here, too, each with a length that is known then.
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        match self.room[self.length..].get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.spill(bytes),
        }
    }

    fn finish(&self) -> u64 {
        let rest = &self.room[..self.length];
        match self.many.is_empty() {
            true => xxh3_64(rest),
            false => xxh3_64(&[&self.many, rest].concat()),
        }
    }
}

/// Identity of an event within its customer: hash of its source and id.
pub(super) fn fingerprint(source: &str, id: &str) -> u64 {
    // In one piece if it fits: starting a hash that takes pieces costs more than the hash.
    let mut whole = [0; 256];
    let length = source.len() + 1 + id.len();
    if length <= whole.len() {
        whole[..source.len()].copy_from_slice(source.as_bytes());
        whole[source.len() + 1..length].copy_from_slice(id.as_bytes());
        return xxh3_64(&whole[..length]);
    }
    let mut hash = Xxh3::new();
    hash.update(source.as_bytes());
    hash.update(&[0]);
    hash.update(id.as_bytes());
    hash.digest()
}

/// Who a state belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Who {
    pub(super) tenant: TenantId,
    pub(super) customer: CompactString,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{Hash, Hasher};

    #[test]
    fn pieces_hash_as_by_a_hash_that_takes_pieces() {
        let text = "x".repeat(3 * PIECES);
        for length in (0..text.len()).chain([0, text.len()]) {
            let what = (&text[..length], Some(7_i64), [Some("y"), None], Some(3_u32), length, 1_u8);
            let (mut pieces, mut expected) = (Pieces::default(), Xxh3::new());
            what.hash(&mut pieces);
            what.hash(&mut expected);
            assert_eq!(pieces.finish(), expected.digest(), "{length}");
        }
    }
}
