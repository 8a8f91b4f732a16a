//! Sessions of one customer, as a function of the set of events that were not too late.
//!
//! An event that comes in order is added to the running facts of its session. Any other makes the
//! sessions at its place anew from the stored events; what differs is corrected by signed counts
//! and, where records were published, by further revisions. Events that have left the store are
//! frozen into the facts of their session: nothing can come before them any more.
//!
//! The id is that of the first event, so it, too, depends on the set alone: an event that comes to
//! lie before a published session makes an older session, into which the younger one is merged.
//! Not done: a session that was merged and is split off again by an event of a channel with a
//! shorter gap, all after publication, is published again under its old id.

use super::cells::What;
use super::context::{Context, Who};
use super::customer::Stored;
use super::log::{OwnValue, Path};
use super::profile::ProfileId;
use crate::model::time::{EventTime, Millis};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Time between first and last event that makes a session engaged.
const ENGAGED_AFTER: Millis = Millis::from_secs(10);
/// Views that make a session engaged.
const ENGAGED_VIEWS: u8 = 2;

/// What is kept of a session while events come in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) start: EventTime,
    pub(super) end: EventTime,
    /// Fingerprint of the first event.
    pub(super) first: u64,
    pub(super) first_profile: ProfileId,
    pub(super) last_profile: ProfileId,
    pub(super) events: u32,
    views: u8,
    pub(super) converted: bool,
    /// The event that made it engaged.
    pub(super) engaged: Option<(EventTime, ProfileId)>,
}

impl Facts {
    fn begin(event: &Stored, ctx: &Context<'_>) -> Facts {
        let mut facts = Facts {
            start: event.time,
            end: event.time,
            first: event.fingerprint,
            first_profile: event.profile,
            last_profile: event.profile,
            events: 0,
            views: 0,
            converted: false,
            engaged: None,
        };
        facts.push(event, ctx);
        facts
    }

    /// Adds the next event in the customer's order.
    fn push(&mut self, event: &Stored, ctx: &Context<'_>) {
        let profile = ctx.profiles.get(event.profile);
        self.end = event.time;
        self.last_profile = event.profile;
        self.events += 1;
        self.views = self.views.saturating_add(u8::from(profile.view));
        self.converted |= profile.is_order();
        let long = self.end.since(self.start) >= ENGAGED_AFTER;
        if self.engaged.is_none() && (long || self.views >= ENGAGED_VIEWS || self.converted) {
            self.engaged = Some((event.time, event.profile));
        }
    }

    fn takes(&self, event: &Stored, ctx: &Context<'_>) -> bool {
        event.time.since(self.end) <= ctx.profiles.get(self.last_profile).gap
    }

    fn post(&self, ctx: &mut Context<'_>, sign: i64) {
        ctx.post(self.start, self.first_profile, What::Session, sign);
        if let Some((at, profile)) = self.engaged {
            ctx.post(at, profile, What::Engaged, sign);
        }
    }
}

/// What the record of a session needs of events that have left the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Frozen {
    facts: Facts,
    /// Profile and time of the first events.
    pub(super) path: Path,
    /// A profile of each channel, in order of appearance.
    pub(super) channels: Vec<ProfileId>,
    /// The profile of the highest stage.
    pub(super) stage: ProfileId,
    /// Values of all events, by currency (only if events' values are summed).
    pub(super) value: Vec<(u32, i128)>,
}

/// One session.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Session {
    /// The source's session, 0 if sessions are made by the gap.
    pub(super) tag: u32,
    pub(super) facts: Facts,
    pub(super) frozen: Option<Box<Frozen>>,
    /// Records published.
    pub(super) revisions: u32,
    /// True once late events have changed what was published.
    pub(super) amended: bool,
    /// True if what was published may have changed.
    pub(super) dirty: bool,
    /// Hash of what was published.
    pub(super) digest: u64,
}

impl Session {
    fn new(tag: u32, facts: Facts) -> Session {
        Session { tag, facts, frozen: None, revisions: 0, amended: false, dirty: true, digest: 0 }
    }

    /// Time of the latest of its events that have left the store.
    pub(super) fn frozen_to(&self) -> Option<EventTime> {
        self.frozen.as_ref().map(|frozen| frozen.facts.end)
    }

    /// When it ends unless something comes: the clock must pass this.
    pub(super) fn closes(&self, ctx: &Context<'_>) -> EventTime {
        self.facts.end.plus(ctx.profiles.get(self.facts.last_profile).gap)
    }

    /// From when on nothing can change it: clock and watermark must pass this.
    pub(super) fn settles(&self, ctx: &Context<'_>) -> EventTime {
        self.closes(ctx).plus(ctx.settings.allowed_lateness)
    }

    /// True if nothing can change it any more.
    pub(super) fn is_final(&self, ctx: &Context<'_>) -> bool {
        let settled = self.settles(ctx);
        ctx.passed(settled) && ctx.watermark.is_some_and(|watermark| watermark > settled)
    }

    /// True if a stored event is one of this session's.
    pub(super) fn has(&self, event: &Stored) -> bool {
        self.tag == event.tag && (self.facts.start..=self.facts.end).contains(&event.time)
    }
}

/// Those that may still change.
pub(super) fn live(sessions: &[Session], ctx: &Context<'_>) -> SmallVec<[u64; 8]> {
    sessions.iter().filter(|s| !s.is_final(ctx)).map(|s| s.facts.first).collect()
}

/// What adding an event did to a customer's sessions.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// It belongs to the session that begins with the event of this fingerprint; no other changed.
    Appended(u64),
    /// Sessions were made anew; these published ones are no more, and where their first event went.
    Regrouped(Vec<(Session, u64)>),
}

impl PartialEq for Session {
    fn eq(&self, other: &Session) -> bool {
        (self.tag, &self.facts) == (other.tag, &other.facts)
    }
}
impl Eq for Session {}

/// Takes an event that comes after all stored ones into the sessions (sorted by their start), if it
/// follows what is known of them: the first event of its session.
pub(super) fn append(
    sessions: &mut Vec<Session>,
    event: &Stored,
    ctx: &mut Context<'_>,
) -> Option<u64> {
    let latest = latest(sessions, event.tag);
    if latest.is_some_and(|place| event.time <= sessions[place].facts.end) {
        return None;
    }
    Some(go_on(sessions, latest, event, ctx))
}

/// Takes `events[at]`, which has just been stored, into the sessions (sorted by their start).
pub(super) fn add(
    sessions: &mut Vec<Session>,
    events: &[Stored],
    at: usize,
    ctx: &mut Context<'_>,
) -> Change {
    let event = &events[at];
    let latest = latest(sessions, event.tag);
    let last = at + 1 == events.len();
    let follows = |end: EventTime| event.time > end || (last && event.time == end);
    if latest.is_some_and(|place| !follows(sessions[place].facts.end)) {
        if let Some(session) = slip_in(sessions, events, at, ctx) {
            return Change::Appended(session);
        }
        return Change::Regrouped(regroup(sessions, events, at, ctx));
    }
    Change::Appended(go_on(sessions, latest, event, ctx))
}

/// The session that an event of this tag can go on with.
fn latest(sessions: &[Session], tag: u32) -> Option<usize> {
    match tag {
        0 => sessions.iter().rposition(|s| s.tag == 0),
        _ => sessions.iter().position(|s| s.tag == tag),
    }
}

/// Adds an event to the session at `latest`, which it follows, or begins a new one; the first event
/// of its session.
fn go_on(
    sessions: &mut Vec<Session>,
    latest: Option<usize>,
    event: &Stored,
    ctx: &mut Context<'_>,
) -> u64 {
    let takes = |session: &Session| event.tag != 0 || session.facts.takes(event, ctx);
    if let Some(place) = latest.filter(|place| takes(&sessions[*place])) {
        let session = &mut sessions[place];
        let before = session.facts.engaged;
        session.facts.push(event, ctx);
        session.dirty = true;
        if let (None, Some((at, profile))) = (before, session.facts.engaged) {
            ctx.post(at, profile, What::Engaged, 1);
        }
        return session.facts.first;
    }
    let facts = Facts::begin(event, ctx);
    let first = facts.first;
    facts.post(ctx, 1);
    insert(sessions, Session::new(event.tag, facts));
    first
}

/// Adds `events[at]` in the middle of a session that has not closed, if nothing but the number of its
/// events depends on it; the first event of that session. However many events it has, none is looked
/// at but the next.
fn slip_in(
    sessions: &mut [Session],
    events: &[Stored],
    at: usize,
    ctx: &Context<'_>,
) -> Option<u64> {
    let event = &events[at];
    let next = events[at + 1..].iter().find(|e| e.tag == event.tag)?;
    // Of one moment with the last it may be, as long as that stays the last.
    let inside =
        |s: &Session| s.tag == event.tag && s.facts.start < event.time && next.time <= s.facts.end;
    let session = sessions.iter_mut().find(|s| inside(s) && !ctx.passed(s.closes(ctx)))?;
    let profile = ctx.profiles.get(event.profile);
    let held_together = event.tag != 0 || next.time.since(event.time) <= profile.gap;
    let is_plain = match session.facts.engaged {
        Some((engaged, _)) => event.time > engaged,
        None => !profile.view && !profile.is_order(),
    };
    if !held_together || !is_plain {
        return None;
    }
    session.facts.events += 1;
    session.facts.views = session.facts.views.saturating_add(u8::from(profile.view));
    session.facts.converted |= profile.is_order();
    session.dirty = true;
    Some(session.facts.first)
}

fn insert(sessions: &mut Vec<Session>, session: Session) {
    let place = sessions.partition_point(|s| s.facts.start <= session.facts.start);
    sessions.reserve_exact(1);
    sessions.insert(place, session);
}

/// Makes the sessions around `events[at]` anew; returns the published ones that are no more.
fn regroup(
    sessions: &mut Vec<Session>,
    events: &[Stored],
    at: usize,
    ctx: &mut Context<'_>,
) -> Vec<(Session, u64)> {
    let event = &events[at];
    let mut old: Vec<Session> = Vec::new();
    // By the gap: the last that starts no later, and the first that starts later.
    let before = sessions
        .iter()
        .rposition(|s| s.tag == event.tag && (event.tag != 0 || s.facts.start <= event.time));
    if let Some(place) = before {
        old.push(sessions.remove(place));
    }
    let after = sessions.iter().position(|s| s.tag == event.tag && s.facts.start > event.time);
    if let Some(place) = after {
        old.push(sessions.remove(place));
    }
    let frozen = old.first_mut().and_then(|s| s.frozen.take());
    // Every stored event comes after those that are frozen.
    let from = match (&frozen, old.first()) {
        (None, Some(s)) => s.facts.start.min(event.time),
        _ => EventTime::MIN,
    };
    let to = old.iter().map(|s| s.facts.end).max().unwrap_or(event.time).max(event.time);
    let low = events.partition_point(|e| e.time < from);
    let high = events.partition_point(|e| e.time <= to);
    let mut made: Vec<Session> = Vec::new();
    if let Some(frozen) = frozen {
        let mut session = Session::new(event.tag, frozen.facts.clone());
        session.frozen = Some(frozen);
        made.push(session);
    }
    for next in events[low..high].iter().filter(|e| e.tag == event.tag) {
        match made.last_mut() {
            Some(last) if event.tag != 0 || last.facts.takes(next, ctx) => {
                last.facts.push(next, ctx);
            }
            _ => made.push(Session::new(event.tag, Facts::begin(next, ctx))),
        }
    }
    let mut gone = Vec::new();
    for session in old {
        session.facts.post(ctx, -1);
        match made.iter_mut().find(|new| new.facts.first == session.facts.first) {
            Some(new) => {
                new.revisions = session.revisions;
                new.amended = session.amended;
                new.digest = session.digest;
            }
            None if session.revisions > 0 => {
                let start = session.facts.start;
                let into =
                    made.iter().find(|new| (new.facts.start..=new.facts.end).contains(&start));
                gone.push((session, into.map_or(0, |new| new.facts.first)));
            }
            None => {}
        }
    }
    for session in made {
        session.facts.post(ctx, 1);
        insert(sessions, session);
    }
    gone
}

/// Keeps what a session's record needs of an event that is about to leave the store.
pub(super) fn freeze(
    sessions: &mut [Session],
    event: &Stored,
    (currency, minor): OwnValue,
    ctx: &Context<'_>,
) {
    let Some(session) = sessions.iter_mut().find(|s| s.has(event)) else { return };
    let frozen = match &mut session.frozen {
        Some(frozen) => {
            frozen.facts.push(event, ctx);
            frozen
        }
        none => none.insert(Box::new(Frozen {
            facts: Facts::begin(event, ctx),
            path: Path::EMPTY,
            channels: Vec::new(),
            stage: event.profile,
            value: Vec::new(),
        })),
    };
    let profile = ctx.profiles.get(event.profile);
    if frozen.path.len() < ctx.settings.path_max {
        frozen.path.push(event.profile, event.time);
    }
    if !frozen.channels.iter().any(|c| ctx.profiles.get(*c).channel == profile.channel) {
        frozen.channels.reserve_exact(1);
        frozen.channels.push(event.profile);
    }
    if profile.stage_rank > ctx.profiles.get(frozen.stage).stage_rank {
        frozen.stage = event.profile;
    }
    if minor != 0 {
        match frozen.value.iter_mut().find(|(c, _)| *c == currency) {
            Some((_, sum)) => *sum += i128::from(minor),
            None => {
                frozen.value.reserve_exact(1);
                frozen.value.push((currency, i128::from(minor)));
            }
        }
    }
}

/// The session that an event of this time and tag belongs to.
pub(super) fn session_of(sessions: &[Session], event: &Stored) -> Option<u64> {
    sessions.iter().find(|s| s.has(event)).map(|s| s.facts.first)
}

/// The name of a session in records.
pub(super) fn session_id(ctx: &Context<'_>, who: &Who, first: u64) -> compact_str::CompactString {
    super::context::name_of("session", ctx.profiles.tenant(who.tenant), &who.customer, first)
}
