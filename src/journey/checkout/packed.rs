//! A customer's checkouts at rest. Most wait for hours or days, and packed they take a third of the
//! room; they are unpacked to be looked at, which is seldom.

use super::Checkouts;
use crate::journey::context::Context;
use crate::model::time::EventTime;
use serde::{Deserialize, Serialize};

/// Checkouts, packed.
#[derive(Default, Debug, Serialize, Deserialize)]
pub(in crate::journey) struct Packed {
    /// Empty if there is nothing.
    bytes: Box<[u8]>,
    /// When they want to be looked at.
    look: Option<EventTime>,
}

impl Packed {
    /// True if nothing is kept.
    pub(in crate::journey) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The checkouts; empty ones if nothing is kept.
    pub(in crate::journey) fn open(&self) -> Checkouts {
        match self.is_empty() {
            true => Checkouts::default(),
            false => postcard::from_bytes(&self.bytes).expect("packed by this program"),
        }
    }

    /// Keeps `checkouts`, which want to be looked at when the clock has passed `look`; at once if
    /// that is not known.
    pub(in crate::journey) fn keep(&mut self, checkouts: &Checkouts, look: Option<EventTime>) {
        self.look = look;
        self.bytes = match checkouts.is_empty() {
            true => Box::default(),
            false => {
                let bytes = postcard::to_extend(checkouts, Vec::with_capacity(512));
                bytes.expect("nothing in it has a length that is unknown").into_boxed_slice()
            }
        };
    }

    /// Changes what is kept. It wants to be looked at after that.
    pub(in crate::journey) fn change(&mut self, change: impl FnOnce(&mut Checkouts)) {
        let mut checkouts = self.open();
        change(&mut checkouts);
        self.keep(&checkouts, None);
    }

    /// When they want to be looked at; `None` if at once.
    pub(in crate::journey) fn waits(&self, ctx: &Context<'_>) -> Option<EventTime> {
        self.look.filter(|look| !ctx.passed(*look))
    }
}
