//! A customer's checkouts at rest. Most wait for hours or days, and packed they take a third of the
//! room; while the customer is about, or something is due within the hour, they stay as they are worked
//! with.

use super::{Checkouts, EVENTS_MAX, RichEvent};
use crate::codec::packed;
use crate::journey::context::Context;
use crate::journey::packed_bytes;
use crate::model::time::{EventTime, Millis};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// What one change adds, usually.
const ROOM: usize = 192;
/// What is due within this is not worth packing: an abandonment is decided within the half hour after
/// the last activity, and settles in the one after that.
const SOON: Millis = Millis::from_mins(31);

/// Checkouts, packed or waiting for the next event.
#[derive(Default, Debug)]
pub(in crate::journey) struct Packed {
    /// Empty if there is nothing, or if they are open.
    bytes: Box<[u8]>,
    open: Option<Box<Checkouts>>,
    /// When they want to be looked at.
    look: Option<EventTime>,
}

/// How they are written down, open or not.
#[derive(Serialize, Deserialize)]
struct Saved<B: AsRef<[u8]> + From<Vec<u8>>> {
    #[serde(with = "packed_bytes")]
    bytes: B,
    look: Option<EventTime>,
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Cow<'_, [u8]> = match &self.open {
            Some(checkouts) => pack(checkouts).into(),
            None => (&*self.bytes).into(),
        };
        Saved { bytes, look: self.look }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Packed, D::Error> {
        let Saved { bytes, look } = Saved::<Box<[u8]>>::deserialize(deserializer)?;
        Ok(Packed { bytes, open: None, look })
    }
}

fn pack(checkouts: &Checkouts) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROOM * (1 + checkouts.events.len()));
    packed::append(checkouts, &mut bytes);
    bytes
}

fn unpack(bytes: &[u8]) -> Box<Checkouts> {
    match bytes.is_empty() {
        true => Box::default(),
        false => Box::new(postcard::from_bytes(bytes).expect("packed by this program")),
    }
}

impl Packed {
    /// True if nothing is kept.
    pub(in crate::journey) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.open.is_none()
    }

    /// True if an event of this fingerprint is kept, with a time within `window_ms` of `time`.
    pub(in crate::journey) fn knows(
        &self,
        time: EventTime,
        fingerprint: u64,
        window_ms: i64,
    ) -> bool {
        match &self.open {
            Some(checkouts) => checkouts.knows(time, fingerprint, window_ms),
            // Fingerprints stand in there as they are: few are found that are not known.
            None => {
                memchr::memmem::find(&self.bytes, &fingerprint.to_le_bytes()).is_some()
                    && unpack(&self.bytes).knows(time, fingerprint, window_ms)
            }
        }
    }

    /// Something of what is kept, to have it in the cache.
    pub(in crate::journey) fn far(&self) -> u64 {
        match &self.open {
            Some(checkouts) => checkouts.events.len() as u64,
            None => u64::from(self.bytes.first().copied().unwrap_or_default()),
        }
    }

    /// Takes the checkouts out, empty ones if nothing is kept: to be kept again.
    pub(in crate::journey) fn take(&mut self) -> Box<Checkouts> {
        self.open.take().unwrap_or_else(|| unpack(&std::mem::take(&mut self.bytes)))
    }

    /// Keeps `checkouts`, which want to be looked at when the clock has passed `look`; at once if
    /// that is not known. They rest if `rests` says that the customer does.
    pub(in crate::journey) fn keep(
        &mut self,
        checkouts: Box<Checkouts>,
        look: Option<EventTime>,
        rests: bool,
        ctx: &Context<'_>,
    ) {
        *self = Packed { look, ..Packed::default() };
        if !checkouts.is_empty() {
            self.open = Some(checkouts);
        }
        if rests {
            self.rest(ctx);
        }
    }

    /// Takes in an event that the clock has not passed, so that nothing rests on it yet; returns when
    /// to look at it. It comes back if there is more to do.
    pub(in crate::journey) fn add_ahead(
        &mut self,
        event: RichEvent,
        ctx: &Context<'_>,
    ) -> Result<EventTime, RichEvent> {
        let unsettled = self.look.is_none() && !self.is_empty();
        if ctx.passed(event.time()) || unsettled {
            return Err(event);
        }
        let mut checkouts = self.take();
        let seen = match checkouts.events.len() < EVENTS_MAX {
            true => Ok(checkouts.add(event, ctx)),
            false => Err(event),
        };
        self.open = Some(checkouts);
        let seen = seen?;
        let look = self.look.map_or(seen, |look| look.min(seen));
        self.look = Some(look);
        Ok(look)
    }

    /// Packs what is open, unless it is wanted soon.
    pub(in crate::journey) fn rest(&mut self, ctx: &Context<'_>) {
        let soon = |look: EventTime| ctx.clock.is_some_and(|clock| look.since(clock) <= SOON);
        if !self.look.is_some_and(soon)
            && let Some(checkouts) = self.open.take()
        {
            self.bytes = pack(&checkouts).into_boxed_slice();
        }
    }

    /// When they want to be looked at; `None` if at once.
    pub(in crate::journey) fn waits(&self, ctx: &Context<'_>) -> Option<EventTime> {
        self.look.filter(|look| !ctx.passed(*look))
    }
}
