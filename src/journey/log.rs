//! The stored events of one customer, packed: they are most of what is kept.
//!
//! An event takes about 15 bytes, as its time is told from the one before and what is absent takes
//! none. Whoever works with events unpacks them all: a customer has dozens. One that has more than
//! [`PACKED_MAX`] keeps them as they are, so that no event costs more the more there are.

mod packing;

use super::customer::Stored;
use super::packed_bytes;
use super::profile::ProfileId;
use crate::model::time::EventTime;
use packing::{Reader, number, signed, write};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Events that are packed; beyond it they are kept plain.
const PACKED_MAX: usize = 256;
/// Bytes that one event takes, but for rare ones.
const ENTRY_USUAL: usize = 20;
/// Events that there is room for more when the room is not enough.
const GROW_BY: usize = 4;
/// Room that is left alone when events are forgotten.
const ROOM: usize = 48;

/// Bytes of one step of a path at most.
const STEP_MAX: usize = 16;

/// An event's own value: interned currency and minor units; all zero if there is none.
pub(super) type OwnValue = (u32, i64);

/// Events as they are worked with.
#[derive(Default, Debug, Serialize, Deserialize)]
pub(super) struct Unpacked {
    /// Sorted by their order.
    pub(super) events: Vec<Stored>,
    /// Value of each event.
    pub(super) values: Vec<OwnValue>,
}

impl Unpacked {
    fn clear(&mut self) {
        self.events.clear();
        self.values.clear();
    }

    /// Takes over `len` packed events.
    fn unpack(&mut self, len: usize, before: EventTime, bytes: &[u8]) {
        self.clear();
        self.events.reserve(len + 1);
        self.values.reserve(len + 1);
        for (event, value) in Reader::new(before, bytes) {
            self.events.push(event);
            self.values.push(value);
        }
    }

    /// Packs all events; returns the time that the first one is told from.
    fn pack(&self, bytes: &mut Vec<u8>) -> EventTime {
        bytes.clear();
        let first = self.events.first().map_or(EventTime::from_ms(0), |e| e.time);
        let mut last = first;
        for (event, value) in self.events.iter().zip(&self.values) {
            write(last, event, *value, bytes);
            last = event.time;
        }
        first
    }

    /// Puts an event in its place and returns that.
    pub(super) fn insert(&mut self, event: Stored, value: OwnValue) -> usize {
        let at = match self.events.last() {
            Some(last) if last.order() > event.order() => {
                self.events.partition_point(|e| e.order() < event.order())
            }
            _ => self.events.len(),
        };
        self.events.insert(at, event);
        self.values.insert(at, value);
        at
    }
}

/// Stored events, sorted by their order.
#[derive(Debug, Serialize)]
pub(super) struct Log {
    len: u32,
    /// Time of the last one, if there is any.
    last: EventTime,
    kept: Kept,
}

#[derive(Debug, Deserialize)]
enum Kept {
    /// `before` is the time that the first one is told from.
    Packed {
        before: EventTime,
        #[serde(with = "packed_bytes")]
        bytes: Vec<u8>,
    },
    Plain(Box<Unpacked>),
}

/// How events are written down: packed, as many as they are.
#[derive(Serialize)]
enum Written<'a> {
    Packed {
        before: EventTime,
        #[serde(with = "packed_bytes")]
        bytes: &'a [u8],
    },
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut packed = Vec::new();
        let (before, bytes) = match self {
            Kept::Packed { before, bytes } => (*before, bytes),
            Kept::Plain(plain) => (plain.pack(&mut packed), &packed),
        };
        Written::Packed { before, bytes }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Log {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Log, D::Error> {
        #[derive(Deserialize)]
        struct Read {
            len: u32,
            last: EventTime,
            kept: Kept,
        }
        let Read { len, last, mut kept } = Read::deserialize(deserializer)?;
        if let (true, Kept::Packed { before, bytes }) = (len as usize > PACKED_MAX, &kept) {
            let mut plain = Unpacked::default();
            plain.unpack(len as usize, *before, bytes);
            kept = Kept::Plain(Box::new(plain));
        }
        Ok(Log { len, last, kept })
    }
}

impl Default for Log {
    fn default() -> Log {
        let before = EventTime::from_ms(0);
        Log { len: 0, last: before, kept: Kept::Packed { before, bytes: Vec::new() } }
    }
}

impl Log {
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Something of what is packed, to have it in the cache.
    pub(super) fn far(&self) -> u64 {
        match &self.kept {
            Kept::Packed { bytes, .. } => {
                bytes.iter().step_by(64).map(|byte| u64::from(*byte)).sum()
            }
            Kept::Plain(_) => 0,
        }
    }

    /// Time of the first event.
    pub(super) fn first_time(&self) -> Option<EventTime> {
        match &self.kept {
            Kept::Plain(plain) => plain.events.first().map(|e| e.time),
            Kept::Packed { before, bytes } => {
                Reader::new(*before, bytes).next().map(|(e, _)| e.time)
            }
        }
    }

    /// Time of the last event.
    pub(super) fn last_time(&self) -> Option<EventTime> {
        Some(self.last).filter(|_| self.len > 0)
    }

    /// False if no event of this fingerprint is stored.
    pub(super) fn may_hold(&self, fingerprint: u64) -> bool {
        match &self.kept {
            // Whoever has so many is looked at more closely at once: that is no dearer.
            Kept::Plain(_) => true,
            // Fingerprints stand in there as they are.
            Kept::Packed { bytes, .. } => {
                memchr::memmem::find(bytes, &fingerprint.to_le_bytes()).is_some()
            }
        }
    }

    /// True if one of the last `recent` events, or one at `time`, fits.
    pub(super) fn any(
        &self,
        recent: usize,
        time: EventTime,
        fits: impl Fn(&Stored) -> bool,
    ) -> bool {
        let recent = self.len().saturating_sub(recent);
        match &self.kept {
            Kept::Plain(plain) => {
                let events = &plain.events;
                let at = events.partition_point(|e| e.time < time);
                events[recent..].iter().any(&fits)
                    || events[at..].iter().take_while(|e| e.time == time).any(&fits)
            }
            Kept::Packed { before, bytes } => Reader::new(*before, bytes)
                .enumerate()
                .any(|(at, (event, _))| (at >= recent || event.time == time) && fits(&event)),
        }
    }

    /// The events, for which `scratch` has room.
    pub(super) fn open<'a>(&'a self, scratch: &'a mut Unpacked) -> &'a Unpacked {
        match &self.kept {
            Kept::Plain(plain) => plain,
            Kept::Packed { before, bytes } => {
                scratch.unpack(self.len(), *before, bytes);
                scratch
            }
        }
    }

    /// Stores an event that comes after all others: no other is looked at.
    pub(super) fn push(&mut self, event: Stored, value: OwnValue, scratch: &mut Unpacked) {
        debug_assert!(self.last_time().is_none_or(|last| event.time > last), "it comes last");
        if self.len() >= PACKED_MAX {
            self.insert(event, value, scratch, |_, _| ());
            return;
        }
        if let Kept::Packed { before, bytes } = &mut self.kept {
            append(before, bytes, (self.len > 0).then_some(self.last), &event, value);
            (self.len, self.last) = (self.len + 1, event.time);
        } else if let Kept::Plain(plain) = &mut self.kept {
            plain.insert(event, value);
            (self.len, self.last) = (self.len + 1, event.time);
        }
    }

    /// Stores an event; calls `f` with all events and its place.
    pub(super) fn insert<T>(
        &mut self,
        event: Stored,
        value: OwnValue,
        scratch: &mut Unpacked,
        f: impl FnOnce(&[Stored], usize) -> T,
    ) -> T {
        self.len += 1;
        let time_before = self.last;
        self.last = if self.len == 1 { event.time } else { self.last.max(event.time) };
        if let Kept::Plain(plain) = &mut self.kept {
            let at = plain.insert(event, value);
            return f(&plain.events, at);
        }
        self.open(scratch);
        let at = scratch.insert(event, value);
        let all = &mut self.kept;
        match all {
            Kept::Packed { before, bytes } if at + 1 < scratch.events.len() => {
                *before = scratch.pack(bytes);
            }
            Kept::Packed { before, bytes } => {
                append(before, bytes, (at > 0).then_some(time_before), &event, value);
            }
            Kept::Plain(_) => {}
        }
        if scratch.events.len() > PACKED_MAX {
            self.kept = Kept::Plain(Box::new(std::mem::take(scratch)));
            let Kept::Plain(plain) = &self.kept else { return f(&[], 0) };
            return f(&plain.events, at);
        }
        f(&scratch.events, at)
    }

    /// Forgets the first `cut` events.
    pub(super) fn drop_first(&mut self, cut: usize) {
        if cut >= self.len() {
            *self = Log::default();
            return;
        }
        self.len -= u32::try_from(cut).expect("not more than there are");
        match &mut self.kept {
            Kept::Plain(plain) => {
                plain.events.drain(..cut);
                plain.values.drain(..cut);
                if plain.events.capacity() > 2 * plain.events.len() + 8 {
                    plain.events.shrink_to_fit();
                    plain.values.shrink_to_fit();
                }
            }
            Kept::Packed { before, bytes } => {
                let mut reader = Reader::new(*before, bytes);
                for _ in 0..cut {
                    reader.next();
                }
                let (time, left) = (reader.time, reader.bytes.len());
                *before = time;
                bytes.drain(..bytes.len() - left);
                if bytes.capacity() > 2 * bytes.len() + ROOM {
                    bytes.shrink_to(bytes.len() + ROOM);
                }
            }
        }
    }
}

/// What a session's record says of its first events: profile and time of each, packed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Path {
    len: u32,
    last: EventTime,
    #[serde(with = "packed_bytes")]
    bytes: Vec<u8>,
}

impl Path {
    pub(super) const EMPTY: Path = Path { len: 0, last: EventTime::from_ms(0), bytes: Vec::new() };

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn push(&mut self, profile: ProfileId, time: EventTime) {
        if self.bytes.capacity() - self.bytes.len() < STEP_MAX {
            self.bytes.reserve_exact(STEP_MAX);
        }
        signed(time.since(self.last).as_ms(), &mut self.bytes);
        number(u64::from(profile), &mut self.bytes);
        self.len += 1;
        self.last = time;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ProfileId, EventTime)> {
        let mut reader = Reader::new(EventTime::from_ms(0), &self.bytes);
        std::iter::from_fn(move || {
            let time = reader.time.as_ms() + reader.signed()?;
            reader.time = EventTime::from_ms(time);
            Some((reader.number()? as ProfileId, reader.time))
        })
    }
}

/// Packs an event behind the others, of which the last is of `last`; `before` is the time that the
/// first of all is told from.
fn append(
    before: &mut EventTime,
    bytes: &mut Vec<u8>,
    last: Option<EventTime>,
    event: &Stored,
    value: OwnValue,
) {
    if bytes.capacity() - bytes.len() < ENTRY_USUAL {
        // By some at once, but with millions of customers doubling would show.
        bytes.reserve_exact(GROW_BY * ENTRY_USUAL + bytes.len() / 8);
    }
    let from = last.unwrap_or_else(|| {
        *before = event.time;
        event.time
    });
    write(from, event, value, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored() -> impl Strategy<Value = (Stored, OwnValue)> {
        let time = prop_oneof![-5_000_i64..5_000, -1_i64 << 45..1_i64 << 45];
        let original = prop_oneof![Just(0), any::<i32>()];
        let tag = prop_oneof![Just(0), any::<u32>()];
        let value = prop_oneof![Just((0, 0)), (any::<u32>(), any::<i64>())];
        (time, any::<u64>(), original, any::<u32>(), tag, 0_u8..3, value).prop_map(
            |(time, fingerprint, original, profile, tag, rank, value)| {
                let time = EventTime::from_ms(time);
                (Stored { time, fingerprint, original, profile, tag, rank }, value)
            },
        )
    }

    #[test]
    fn a_path_gives_back_its_steps() {
        let steps = [(0, -5), (7, 1 << 45), (u32::MAX, (1 << 45) + 1), (1, 0)]
            .map(|(profile, ms)| (profile, EventTime::from_ms(ms)));
        let mut path = Path::EMPTY;
        for (profile, time) in steps {
            path.push(profile, time);
        }
        assert_eq!(path.iter().collect::<Vec<_>>(), steps);
        assert_eq!(path.len(), steps.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_log_is_a_sorted_list(
            // More than are packed, now and then.
            events in prop_oneof![
                3 => prop::collection::vec(stored(), 1..40),
                1 => prop::collection::vec(stored(), PACKED_MAX..PACKED_MAX + 20),
            ],
            cut in 0_usize..30,
        ) {
            let (mut log, mut list) = (Log::default(), Unpacked::default());
            let mut scratch = Unpacked::default();
            for (event, value) in &events {
                let place = list.insert(*event, *value);
                let told = log.insert(*event, *value, &mut scratch, |events, at| {
                    (events.len(), events[at], at)
                });
                prop_assert_eq!(told, (list.events.len(), *event, place));
            }
            check(&log, &list, &events[0].0);
            let cut = cut.min(list.events.len());
            log.drop_first(cut);
            list.events.drain(..cut);
            list.values.drain(..cut);
            check(&log, &list, &events[0].0);
            for (event, value) in &events[..events.len().min(3)] {
                list.insert(*event, *value);
                log.insert(*event, *value, &mut scratch, |_, _| ());
                check(&log, &list, event);
            }
        }
    }

    #[track_caller]
    fn check(log: &Log, list: &Unpacked, some: &Stored) {
        let mut scratch = Unpacked::default();
        let open = log.open(&mut scratch);
        assert_eq!((&open.events, &open.values), (&list.events, &list.values));
        assert_eq!(log.len(), list.events.len());
        assert_eq!(log.first_time(), list.events.first().map(|e| e.time));
        assert_eq!(log.last_time(), list.events.last().map(|e| e.time));
        for recent in [0, 3] {
            let fits = |e: &Stored| e.fingerprint == some.fingerprint;
            let late = list.events.len().saturating_sub(recent);
            let mut all = list.events.iter().enumerate();
            let known = all.any(|(at, e)| (at >= late || e.time == some.time) && fits(e));
            assert_eq!(log.any(recent, some.time, fits), known);
        }
    }
}
