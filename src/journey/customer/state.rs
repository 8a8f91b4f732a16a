//! A customer as an entry: what is packed in memory is written down as it is.

use super::{Customer, Packed, Session};
use crate::engine::state::{StateError, decode, encode};
use crate::journey::context::Who;
use crate::journey::links::Marks;
use crate::journey::log::Log;
use crate::model::time::EventTime;
use serde::{Deserialize, Serialize};

const VALUES: u8 = 1;

/// A customer as it is written down; the fields borrow or own. The timer comes first: see
/// [`saved_timer`].
#[derive(Serialize, Deserialize)]
struct Saved<L, M, S, C> {
    timer: Option<EventTime>,
    log: L,
    marks: M,
    sessions: S,
    checkouts: C,
}

type Written<'a> = Saved<&'a Log, &'a Marks, &'a [Session], &'a Packed>;
type Read = Saved<Log, Marks, Vec<Session>, Packed>;

/// The timer of a customer that was written down.
pub(in crate::journey) fn saved_timer(value: &[u8]) -> Result<Option<EventTime>, StateError> {
    match value.split_first() {
        Some((&VALUES, fields)) => postcard::take_from_bytes(fields)
            .map(|(timer, _)| timer)
            .map_err(|_| StateError::Malformed("customer")),
        Some((&found, _)) => Err(StateError::Version { what: "customer", found, known: VALUES }),
        None => Err(StateError::Malformed("customer")),
    }
}

impl Customer {
    pub(in crate::journey) fn save(&self) -> Vec<u8> {
        let Customer { timer, log, marks, sessions, checkouts, .. } = self;
        let saved: Written<'_> = Saved { timer: *timer, log, marks, sessions, checkouts };
        encode(VALUES, &saved)
    }

    pub(in crate::journey) fn restore(who: Who, value: &[u8]) -> Result<Customer, StateError> {
        let Saved { timer, log, marks, sessions, checkouts }: Read =
            decode("customer", VALUES, value)?;
        Ok(Customer { timer, log, marks, sessions, checkouts, ..Customer::new(who) })
    }
}
