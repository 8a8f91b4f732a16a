//! State of one customer: its stored events and what is derived from them.
//!
//! Events are kept sorted for as long as one that is not too late could come before them, and for
//! deduplication. `EVENT_SIZE` states what one costs; an idle customer keeps one mark per series.

mod state;

use super::checkout::{Checkouts, RichEvent};
use super::context::{Context, Who};
use super::profile::{ProfileId, Profiles};
use super::session_records::{self, Earned};
use super::sessions::{self, Change, Session};
use super::{cells::What, links};
use crate::model::time::EventTime;
use serde::{Deserialize, Serialize};

/// Bytes of one stored event.
const EVENT_SIZE: usize = 32;
const _: () = assert!(std::mem::size_of::<Stored>() == EVENT_SIZE);

/// An event as it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) time: EventTime,
    pub(super) fingerprint: u64,
    /// Original event time less event time, in ms, as far as it can be said.
    pub(super) original: i32,
    pub(super) profile: ProfileId,
    /// The source's session, 0 if sessions are made by the gap.
    pub(super) tag: u32,
    /// Place among events of one moment.
    pub(super) rank: u8,
}

impl Stored {
    /// Makes a stored event; `original` is its original event time.
    pub(super) fn new(
        time: EventTime,
        original: Option<EventTime>,
        fingerprint: u64,
        profile: ProfileId,
        tag: u32,
        profiles: &Profiles,
    ) -> Stored {
        let ms = original.map_or(0, |o| o.since(time).as_ms());
        let original = ms.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        let rank = profiles.get(profile).life_cycle_rank();
        Stored { time, fingerprint, original, profile, tag, rank }
    }

    /// The order of a customer's events.
    pub(super) fn order(&self) -> (EventTime, i32, u8, u64) {
        (self.time, self.original, self.rank, self.fingerprint)
    }
}

/// When a customer must be tended to after an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// At once.
    Now,
    /// When the clock passes this, at the latest.
    At(EventTime),
}

/// Everything that is known of one customer.
#[derive(Debug)]
pub(super) struct Customer {
    pub(super) who: Who,
    /// Sorted by their order.
    events: Vec<Stored>,
    marks: links::Marks,
    /// Sorted by their start.
    sessions: Vec<Session>,
    checkouts: Option<Box<Checkouts>>,
    /// Values of stored events, only if events' values are summed.
    earned: Vec<Earned>,
    /// When its timer is due.
    pub(super) timer: Option<EventTime>,
    /// It has changed since it was written down.
    pub(super) is_dirty: bool,
    /// It has been written down.
    pub(super) is_saved: bool,
}

impl Customer {
    pub(super) fn new(who: Who) -> Customer {
        Customer {
            who,
            events: Vec::new(),
            marks: Vec::new(),
            sessions: Vec::new(),
            checkouts: None,
            earned: Vec::new(),
            timer: None,
            is_dirty: false,
            is_saved: false,
        }
    }

    /// True if this fingerprint was seen within the window, at a time near `time`.
    pub(super) fn knows(&self, time: EventTime, fingerprint: u64, ctx: &Context<'_>) -> bool {
        let window = ctx.settings.dedup_window.as_ms();
        let same =
            |e: &Stored| e.fingerprint == fingerprint && time.since(e.time).as_ms().abs() <= window;
        let recent = self.events.len().saturating_sub(ctx.settings.dedup_ids);
        let at = self.events.partition_point(|e| e.time < time);
        self.events[recent..].iter().any(same)
            || self.events[at..].iter().take_while(|e| e.time == time).any(same)
            || self.checkouts.as_ref().is_some_and(|c| c.knows(time, fingerprint, window))
    }

    /// Takes in an event that is neither a repeat nor too late.
    pub(super) fn add(
        &mut self,
        event: Stored,
        rich: Option<RichEvent>,
        value: Option<(u32, i64)>,
        ctx: &mut Context<'_>,
    ) -> Next {
        if self.events.len() == self.events.capacity() {
            self.trim(ctx);
            if self.events.len() == self.events.capacity() {
                // Growing by a quarter: with millions of events, doubling would show.
                self.events.reserve_exact(4 + self.events.len() / 4);
            }
        }
        let at = match self.events.last() {
            Some(last) if last.order() > event.order() => {
                self.events.partition_point(|e| e.order() < event.order())
            }
            _ => self.events.len(),
        };
        self.events.insert(at, event);
        links::visit(&self.events, at, &self.marks, ctx);
        let change = sessions::add(&mut self.sessions, &self.events, at, ctx);
        let session = match &change {
            Change::Appended(first) => *first,
            Change::Regrouped(_) => sessions::session_of(&self.sessions, &event).unwrap_or(0),
        };
        if let Some((currency, minor)) = value {
            let fingerprint = event.fingerprint;
            self.earned.push(Earned { fingerprint, session, currency, minor });
        }
        let mut tend = rich.is_some();
        if let Change::Regrouped(gone) = &change {
            for (old, into) in gone {
                session_records::merged(&self.who, old, *into, ctx);
            }
            self.reassign();
            tend = true;
        }
        if let Some(mut rich) = rich {
            rich.session = session;
            self.checkouts.get_or_insert_default().add(rich);
        }
        let closes = event.time.plus(ctx.profiles.get(event.profile).gap);
        if tend || ctx.passed(closes) { Next::Now } else { Next::At(closes) }
    }

    /// Takes in an event that is too late for the figures.
    pub(super) fn add_late(&mut self, event: &Stored, mut rich: RichEvent) {
        let session = sessions::session_of(&self.sessions, event);
        rich.session = session.unwrap_or(event.fingerprint);
        self.checkouts.get_or_insert_default().add(rich);
    }

    /// Gives the events that are kept apart the sessions that they now belong to.
    fn reassign(&mut self) {
        let sessions = &self.sessions;
        for earned in &mut self.earned {
            if let Some(event) = self.events.iter().find(|e| e.fingerprint == earned.fingerprint) {
                earned.session = sessions::session_of(sessions, event).unwrap_or(0);
            }
        }
        if let Some(checkouts) = &mut self.checkouts {
            checkouts.reassign(|event| sessions::session_of(sessions, event));
        }
    }

    /// Derives the checkouts anew; sessions whose money changed may have to be published again.
    fn rethink(&mut self, ctx: &mut Context<'_>) {
        let Some(checkouts) = &mut self.checkouts else { return };
        for session in checkouts.rethink(&self.who, ctx) {
            for touched in self.sessions.iter_mut().filter(|s| s.facts.first == session) {
                touched.dirty = true;
            }
        }
    }

    /// Does what is due and returns when to look again; `None` if nothing is left to remember.
    pub(super) fn tend(&mut self, ctx: &mut Context<'_>) -> Option<EventTime> {
        let mut next: Option<EventTime> = None;
        let mut look_again = |at: Option<EventTime>| {
            next = match (next, at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        };
        self.rethink(ctx);
        let by_value = ctx.settings.value_of_events;
        let earned = match &self.checkouts {
            Some(checkouts) if !by_value => checkouts.earned(),
            _ => self.earned.as_slice(),
        };
        let sessions = &mut self.sessions;
        look_again(session_records::publish(&self.who, sessions, &self.events, earned, ctx));
        self.trim(ctx);
        if let Some(checkouts) = &mut self.checkouts {
            let live: Vec<u64> = self.sessions.iter().map(|s| s.facts.first).collect();
            checkouts.settle(&live, ctx);
            look_again(checkouts.next_due(ctx));
            if checkouts.is_empty() {
                self.checkouts = None;
            }
        }
        let settings = ctx.settings;
        if let Some(last) = self.events.last() {
            let keep = settings.allowed_lateness.max(settings.dedup_window);
            look_again(Some(ctx.due_by_watermark(last.time.plus(keep))));
        } else if !self.marks.is_empty() {
            links::forget(&mut self.marks, ctx);
            let latest = self.marks.iter().map(|(_, slice)| ctx.grid.end(*slice)).max();
            let keep = settings.allowed_lateness.as_ms() + settings.longest_window.as_ms();
            let keep = crate::model::time::Millis::from_ms(keep);
            look_again(latest.map(|at| ctx.due_by_watermark(at.plus(keep))));
        }
        next
    }

    /// Forgets events that nothing that is not too late can come before.
    fn trim(&mut self, ctx: &mut Context<'_>) {
        let (Some(watermark), floor) = (ctx.watermark, ctx.floor()) else { return };
        let below = self.events.partition_point(|e| e.time < floor);
        let remembered = self.events.len().saturating_sub(ctx.settings.dedup_ids);
        let window = ctx.settings.dedup_window;
        let expired = self.events.partition_point(|e| e.time.plus(window) < watermark);
        // The bound on ids pushes out what is older than the floor anyway, not what is needed.
        let cut = below.min(expired.max(remembered));
        ctx.counts.dedup_evicted += cut.saturating_sub(expired) as u64;
        if cut == 0 {
            return;
        }
        for event in &self.events[..cut] {
            links::remember(event, &mut self.marks, ctx);
            let place = self.earned.iter().position(|e| e.fingerprint == event.fingerprint);
            let earned = place.map(|at| self.earned.swap_remove(at));
            let value = earned.map(|e| (e.currency, e.minor));
            sessions::freeze(&mut self.sessions, event, value, ctx);
        }
        self.events.drain(..cut);
        if self.events.is_empty() {
            self.events = Vec::new();
        } else if self.events.capacity() > 2 * self.events.len() + 8 {
            self.events.shrink_to(self.events.len() + 4);
        }
    }

    /// Counts what an event stands for by itself.
    pub(super) fn count(
        time: EventTime,
        profile: ProfileId,
        value: Option<(u32, i64)>,
        ctx: &mut Context<'_>,
    ) {
        ctx.post(time, profile, What::Event, 1);
        if let Some((currency, minor)) = value.filter(|(_, minor)| *minor != 0) {
            ctx.post(time, profile, What::Value { currency, minor }, 1);
        }
    }
}
