//! A customer as an entry: times as differences, fingerprints as they are.

use super::{Checkouts, Customer, Earned, Session, Stored};
use crate::engine::state::{StateError, decode, encode};
use crate::journey::context::Who;
use crate::journey::profile::{ProfileId, SeriesId};
use crate::model::time::{EventTime, Millis, Slice};
use serde::{Deserialize, Serialize};

const VALUES: u8 = 1;

/// Time since the event before, fingerprint, original time, profile, session, rank.
type SavedEvent = (Millis, [u8; 8], i32, ProfileId, u32, u8);

/// A customer as it is written down. `T` borrows or owns.
#[derive(Serialize, Deserialize)]
struct Saved<S, C, E> {
    timer: Option<EventTime>,
    events: Vec<SavedEvent>,
    /// Room for more events: events are trimmed when it is used up, and that can be seen.
    room: usize,
    /// Slices since the first one's.
    marks: Vec<(SeriesId, i64)>,
    sessions: S,
    checkouts: C,
    earned: E,
}

type Written<'a> = Saved<&'a [Session], Option<&'a Checkouts>, &'a [Earned]>;
type Read = Saved<Vec<Session>, Option<Box<Checkouts>>, Vec<Earned>>;

impl Customer {
    pub(in crate::journey) fn save(&self) -> Vec<u8> {
        let mut before = EventTime::from_ms(0);
        let save = |event: &Stored| {
            let since = event.time.since(before);
            before = event.time;
            let fingerprint = event.fingerprint.to_le_bytes();
            (since, fingerprint, event.original, event.profile, event.tag, event.rank)
        };
        let events = self.events.iter().map(save).collect();
        let mut first = 0;
        let marks = self.marks.iter().map(|(series, slice)| {
            let since = slice.number() - first;
            first = slice.number();
            (*series, since)
        });
        let saved: Written<'_> = Saved {
            timer: self.timer,
            events,
            room: self.events.capacity() - self.events.len(),
            marks: marks.collect(),
            sessions: &self.sessions,
            checkouts: self.checkouts.as_deref(),
            earned: &self.earned,
        };
        encode(VALUES, &saved)
    }

    pub(in crate::journey) fn restore(who: Who, value: &[u8]) -> Result<Customer, StateError> {
        /// More room than that is damage.
        const ROOM_MAX: usize = 1 << 20;
        let saved: Read = decode("customer", VALUES, value)?;
        if saved.room > ROOM_MAX {
            return Err(StateError::Malformed("customer"));
        }
        let mut events = Vec::with_capacity(saved.events.len() + saved.room);
        let mut time = EventTime::from_ms(0);
        for (since, fingerprint, original, profile, tag, rank) in saved.events {
            time = time.plus(since);
            let fingerprint = u64::from_le_bytes(fingerprint);
            events.push(Stored { time, fingerprint, original, profile, tag, rank });
        }
        let mut first = 0_i64;
        let mut marks = Vec::with_capacity(saved.marks.len());
        for (series, since) in saved.marks {
            first = first.saturating_add(since);
            marks.push((series, Slice::from_number(first)));
        }
        let mut customer = Customer::new(who);
        customer.timer = saved.timer;
        customer.events = events;
        customer.marks = marks;
        customer.sessions = saved.sessions;
        customer.checkouts = saved.checkouts;
        customer.earned = saved.earned;
        Ok(customer)
    }
}
