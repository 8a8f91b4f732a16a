//! State of one customer: its stored events and what is derived from them.
//!
//! Events are kept sorted for as long as one that is not too late could come before them, and for
//! deduplication, packed (see [`super::log`]), and a little longer while the customer is about, to be
//! forgotten together; an idle customer keeps one mark per series.

mod state;

pub(super) use state::saved_timer;

use super::checkout::{Checkouts, Packed, RichEvent};
use super::context::{Context, Who};
use super::links;
use super::log::{Log, OwnValue, Unpacked};
use super::profile::{ProfileId, Profiles};
use super::session_records;
use super::sessions::{self, Change, Session};
use crate::model::time::{EventTime, Millis};
use serde::{Deserialize, Serialize};

/// Age beyond the lateness floor at which the events of a customer who is about are forgotten: many at
/// once, since each time all are unpacked.
const TRIM_AFTER: Millis = Millis::from_mins(5);

/// Events kept per customer: half a megabyte when written down, and a record of the changelog takes
/// one. Beyond it the oldest are forgotten, and what comes before those is too late: as few as can be,
/// and as many at once as it takes not to unpack all of them too often.
const EVENTS_MAX: usize = 32_768;
const EVENTS_KEPT: usize = EVENTS_MAX / 32 * 31;

/// An event as it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) time: EventTime,
    #[serde(with = "postcard::fixint::le")]
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
#[derive(Debug)]
pub(super) enum Next {
    /// At once; then this event of a checkout is taken in.
    Now(Option<RichEvent>),
    /// When the clock passes this, at the latest.
    At(EventTime),
}

/// Everything that is known of one customer.
#[derive(Debug)]
pub(super) struct Customer {
    pub(super) who: Who,
    log: Log,
    marks: links::Marks,
    /// Follows from marks and stored events: not written down.
    tips: links::Tips,
    /// Sorted by their start.
    sessions: Vec<Session>,
    checkouts: Packed,
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
            log: Log::default(),
            marks: Vec::new(),
            tips: Vec::new(),
            sessions: Vec::new(),
            checkouts: Packed::default(),
            timer: None,
            is_dirty: false,
            is_saved: false,
        }
    }

    /// Something of each part of it, to have it in the cache.
    pub(super) fn near(&self) -> u64 {
        let own = self.who.tenant as usize ^ self.log.len() ^ self.marks.len() ^ self.tips.len();
        (own ^ self.sessions.len() ^ usize::from(self.checkouts.is_empty())) as u64
    }

    /// Something of what each part names.
    pub(super) fn far(&self) -> u64 {
        let sessions =
            self.sessions.last().map_or(0, |session| session.digest ^ session.facts.first);
        let tips = self.tips.first().map_or(0, |tip| tip.slice().number().cast_unsigned());
        self.log.far() ^ sessions ^ tips ^ self.checkouts.far()
    }

    /// True if nothing has come for longer than a session lasts, so that it may rest.
    pub(super) fn rests(&self, clock: Option<EventTime>, gap: Millis) -> bool {
        let over = |last: EventTime| clock.is_some_and(|clock| last.plus(gap) < clock);
        self.log.last_time().is_none_or(over)
    }

    /// True if this fingerprint was seen within the window, at a time near `time`.
    pub(super) fn knows(&self, time: EventTime, fingerprint: u64, ctx: &Context<'_>) -> bool {
        if ctx.settings.dedup_ids == 0 {
            return false;
        }
        let window = ctx.settings.dedup_window.as_ms();
        let same =
            |e: &Stored| e.fingerprint == fingerprint && time.since(e.time).as_ms().abs() <= window;
        (self.log.may_hold(fingerprint) && self.log.any(ctx.settings.dedup_ids, time, same))
            || (!self.checkouts.is_empty()
                && !self.remembers_all(time, ctx)
                && self.checkouts.knows(time, fingerprint, window))
    }

    /// True if everything within the window around `time` is among the ids looked at: nothing of it
    /// was too late, or has been forgotten.
    fn remembers_all(&self, time: EventTime, ctx: &Context<'_>) -> bool {
        let settings = ctx.settings;
        self.log.len() <= settings.dedup_ids && time.minus(settings.dedup_window) >= ctx.floor()
    }

    /// Takes in an event that is neither a repeat nor too late.
    pub(super) fn add(
        &mut self,
        event: Stored,
        rich: Option<RichEvent>,
        value: Option<(u32, i64)>,
        ctx: &mut Context<'_>,
    ) -> Next {
        self.trim(ctx);
        let change = self.store(event, value.unwrap_or_default(), ctx);
        let session = match &change {
            Change::Appended(first) => *first,
            Change::Regrouped(_) => sessions::session_of(&self.sessions, &event).unwrap_or(0),
        };
        let rich = rich.map(|rich| rich.in_session(session));
        if let Change::Regrouped(gone) = &change {
            for (old, into) in gone {
                session_records::merged(&self.who, old, *into, ctx);
            }
            self.reassign(ctx);
            return Next::Now(rich);
        }
        let closes = event.time.plus(ctx.profiles.get(event.profile).gap);
        match rich {
            rich if ctx.passed(closes) => Next::Now(rich),
            None => Next::At(closes),
            Some(rich) => match self.checkouts.add_ahead(rich, ctx) {
                Ok(seen) => Next::At(seen.min(closes)),
                Err(rich) => Next::Now(Some(rich)),
            },
        }
    }

    /// Stores an event, and what follows for distinct customers and sessions.
    fn store(&mut self, event: Stored, value: OwnValue, ctx: &mut Context<'_>) -> Change {
        let mut scratch = std::mem::take(ctx.scratch);
        let in_order = self.log.last_time().is_none_or(|last| event.time > last);
        let appended = match in_order {
            true => sessions::append(&mut self.sessions, &event, ctx),
            false => None,
        };
        let change = if let Some(session) = appended {
            if ctx.settings.distinct_customers {
                if self.tips.is_empty() {
                    self.tips = links::tips(&self.marks, &self.log.open(&mut scratch).events, ctx);
                }
                links::visit_last(&event, &mut self.tips, ctx);
            }
            self.log.push(event, value, &mut scratch);
            Change::Appended(session)
        } else {
            if !self.tips.is_empty() {
                links::remember(&event, &mut self.tips, ctx);
            }
            let (marks, sessions) = (&self.marks, &mut self.sessions);
            self.log.insert(event, value, &mut scratch, |events, at| {
                if ctx.settings.distinct_customers {
                    links::visit(events, at, marks, ctx);
                }
                sessions::add(sessions, events, at, ctx)
            })
        };
        *ctx.scratch = scratch;
        change
    }

    /// Gives an event that is too late for the figures its session.
    pub(super) fn add_late(&self, event: &Stored, rich: RichEvent) -> RichEvent {
        let session = sessions::session_of(&self.sessions, event);
        rich.in_session(session.unwrap_or(event.fingerprint))
    }

    /// Gives the events that are kept apart the sessions that they now belong to.
    fn reassign(&mut self, ctx: &Context<'_>) {
        if !self.checkouts.is_empty() {
            let mut checkouts = self.checkouts.take();
            checkouts.reassign(|event| sessions::session_of(&self.sessions, event));
            let rests = self.rests(ctx.clock, ctx.settings.session_gap);
            self.checkouts.keep(checkouts, None, rests, ctx);
        }
    }

    /// Derives the checkouts anew; sessions whose money changed may have to be published again.
    fn rethink(&mut self, checkouts: &mut Checkouts, ctx: &mut Context<'_>) {
        let of_customer = &self.sessions;
        let live = |ctx: &Context<'_>| sessions::live(of_customer, ctx);
        for session in checkouts.rethink(&self.who, live, ctx) {
            for touched in self.sessions.iter_mut().filter(|s| s.facts.first == session) {
                touched.dirty = true;
            }
        }
    }

    /// Takes in an event of a checkout, does what is due and returns when to look again; `None` if
    /// nothing is left to remember.
    pub(super) fn tend(
        &mut self,
        fresh: Option<RichEvent>,
        ctx: &mut Context<'_>,
    ) -> Option<EventTime> {
        let mut next: Option<EventTime> = None;
        let mut look_again = |at: Option<EventTime>| {
            next = match (next, at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        };
        // Records of sessions state the money of orders.
        let speaks = self.sessions.iter().any(|session| session_records::speaks(session, ctx));
        let waits = self.checkouts.waits(ctx).filter(|_| !speaks);
        let rest = fresh.is_none() && (self.checkouts.is_empty() || waits.is_some());
        let mut checkouts = match rest {
            true => None,
            false => Some(self.checkouts.take()),
        };
        if let Some(checkouts) = &mut checkouts {
            if let Some(fresh) = fresh {
                checkouts.add(fresh, ctx);
            }
            self.rethink(checkouts, ctx);
        }
        let earned = checkouts.as_ref().map_or(&[][..], |checkouts| checkouts.earned());
        let source = session_records::Source { who: &self.who, log: &self.log, earned };
        look_again(session_records::publish(&source, &mut self.sessions, ctx));
        self.trim(ctx);
        let rests = self.rests(ctx.clock, ctx.settings.session_gap);
        if let Some(mut checkouts) = checkouts {
            checkouts.settle(&sessions::live(&self.sessions, ctx), ctx);
            let next = checkouts.next_due(ctx);
            look_again(next);
            self.checkouts.keep(checkouts, next, rests, ctx);
        } else if !self.checkouts.is_empty() {
            look_again(waits);
            if rests {
                self.checkouts.rest(ctx);
            }
        }
        let settings = ctx.settings;
        if let Some(last) = self.log.last_time() {
            let needed = settings.allowed_lateness.max(settings.dedup_window);
            let keep = needed.max(settings.session_gap);
            look_again(Some(ctx.due_by_watermark(last.plus(keep))));
        } else if !self.marks.is_empty() {
            links::forget(&mut self.marks, ctx);
            let latest = self.marks.iter().map(|m| ctx.grid.end(m.slice())).max();
            let keep = settings.allowed_lateness.as_ms() + settings.longest_window.as_ms();
            let keep = Millis::from_ms(keep);
            look_again(latest.map(|at| ctx.due_by_watermark(at.plus(keep))));
        }
        next
    }

    /// True if events of this time have been forgotten: usually, because they are too late for
    /// anybody.
    pub(super) fn has_forgotten(&self, time: EventTime) -> bool {
        self.sessions.iter().any(|session| session.frozen_to().is_some_and(|to| time <= to))
    }

    /// Forgets events that nothing that is not too late can come before, and those that are too many.
    fn trim(&mut self, ctx: &mut Context<'_>) {
        let (Some(watermark), floor) = (ctx.watermark, ctx.floor()) else { return };
        let ripe = |first: EventTime| first.plus(TRIM_AFTER) < floor;
        let all = self.rests(ctx.clock, ctx.settings.session_gap)
            && self.log.last_time().is_some_and(|last| last < floor);
        let excess = (self.log.len() > EVENTS_MAX).then(|| self.log.len() - EVENTS_KEPT);
        if !all && excess.is_none() && !self.log.first_time().is_some_and(ripe) {
            return;
        }
        let mut scratch = std::mem::take(ctx.scratch);
        let Unpacked { events, values } = self.log.open(&mut scratch);
        let below = events.partition_point(|e| e.time < floor);
        let remembered = events.len().saturating_sub(ctx.settings.dedup_ids);
        let window = ctx.settings.dedup_window;
        let expired = events.partition_point(|e| e.time.plus(window) < watermark);
        // The bound on ids pushes out what is older than the floor anyway, not what is needed.
        let cut = below.min(expired.max(remembered)).max(excess.unwrap_or(0));
        ctx.counts.dedup_evicted += cut.saturating_sub(expired) as u64;
        for (event, value) in events[..cut].iter().zip(values) {
            if ctx.settings.distinct_customers {
                links::remember(event, &mut self.marks, ctx);
            }
            sessions::freeze(&mut self.sessions, event, *value, ctx);
        }
        *ctx.scratch = scratch;
        if cut > 0 {
            self.log.drop_first(cut);
            links::forget(&mut self.marks, ctx);
            if self.log.len() == 0 {
                self.tips = Vec::new();
            }
        }
    }
}
