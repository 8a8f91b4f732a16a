//! A customer as an entry: what is packed in memory is written down as it is.

use super::{Customer, Packed, Session};
use crate::engine::state::{StateError, decode, encode};
use crate::journey::context::Who;
use crate::journey::links::Marks;
use crate::journey::log::Log;
use crate::model::time::EventTime;
use serde::{Deserialize, Serialize};

const VALUES: u8 = 1;

/// A customer as it is written down. `T` borrows or owns.
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
