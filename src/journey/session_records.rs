//! Records of sessions: when the clock passes the end of one, when late events change it, and once
//! more when nothing can change it any more.

use super::context::{Context, Who};
use super::log::{Log, Unpacked};
use super::profile::ProfileId;
use super::sessions::{Session, session_id};
use crate::engine::Fact;
use crate::model::dimension::OTHER;
use crate::model::figures::Money;
use crate::model::record::{PathStep, SCHEMA_VERSION, SessionRecord, SessionStatus, Value};
use crate::model::time::EventTime;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use xxhash_rust::xxh3::xxh3_64;

/// Money that counts for sessions: when, whose event, how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Earned {
    /// Fingerprint of the event.
    pub(super) fingerprint: u64,
    pub(super) session: u64,
    pub(super) currency: u32,
    pub(super) minor: i64,
}

/// What records are made of, beside the session itself.
pub(super) struct Source<'a> {
    pub(super) who: &'a Who,
    /// Stored events.
    pub(super) log: &'a Log,
    /// Money of orders.
    pub(super) earned: &'a [Earned],
}

/// True if there may be something to publish about the session now.
pub(super) fn speaks(session: &Session, ctx: &Context<'_>) -> bool {
    let closes = session.closes(ctx);
    let settled = closes.plus(ctx.settings.allowed_lateness);
    ctx.passed(closes) && (session.dirty || ctx.passed(settled))
}

/// Publishes what is due; drops sessions that are final. Returns when to look again.
pub(super) fn publish(
    source: &Source<'_>,
    sessions: &mut Vec<Session>,
    ctx: &mut Context<'_>,
) -> Option<EventTime> {
    let mut next: Option<EventTime> = None;
    let mut look_again = |at: EventTime| next = Some(next.map_or(at, |n: EventTime| n.min(at)));
    sessions.retain_mut(|session| {
        let closes = session.closes(ctx);
        if !ctx.passed(closes) {
            look_again(closes);
            return true;
        }
        let is_final = session.is_final(ctx);
        if session.dirty || is_final {
            say(source, session, is_final, ctx);
        }
        if !is_final {
            look_again(ctx.due_by_watermark(session.settles(ctx)));
        }
        !is_final
    });
    sessions.shrink_to_fit();
    next
}

/// Publishes the session if what there is to say is new.
fn say(source: &Source<'_>, session: &mut Session, is_final: bool, ctx: &mut Context<'_>) {
    session.dirty = false;
    let mut scratch = std::mem::take(ctx.scratch);
    let mut record = record(source.who, session, source.log.open(&mut scratch), source.earned, ctx);
    *ctx.scratch = scratch;
    let digest = digest(&record);
    let changed = session.revisions > 0 && digest != session.digest;
    session.amended |= changed;
    if session.revisions > 0 && !changed && !is_final {
        return;
    }
    session.digest = digest;
    if session.amended {
        record.status = SessionStatus::Amended;
    }
    record.revision = i64::from(session.revisions);
    record.is_final = is_final;
    record.id = ctx.ids.next();
    session.revisions += 1;
    ctx.say(Fact::Session(Box::new(record)));
}

/// Takes a published session back: it has become part of the one that begins with `into`.
pub(super) fn merged(who: &Who, session: &Session, into: u64, ctx: &mut Context<'_>) {
    let mut record = record(who, session, &Unpacked::default(), &[], ctx);
    record.status = SessionStatus::Merged;
    record.merged_into = Some(session_id(ctx, who, into));
    record.revision = i64::from(session.revisions);
    record.is_final = true;
    record.id = ctx.ids.next();
    ctx.say(Fact::Session(Box::new(record)));
}

fn record(
    who: &Who,
    session: &Session,
    stored: &Unpacked,
    earned: &[Earned],
    ctx: &Context<'_>,
) -> SessionRecord {
    let facts = &session.facts;
    let mut path: Vec<(ProfileId, EventTime)> = Vec::new();
    let mut channels: Vec<ProfileId> = vec![facts.first_profile];
    let mut stage = facts.first_profile;
    let mut money = Money::none();
    if let Some(frozen) = &session.frozen {
        path.extend(frozen.path.iter());
        channels.clone_from(&frozen.channels);
        stage = frozen.stage;
        for (currency, minor) in &frozen.value {
            money.add(ctx.profiles.currency(*currency), *minor);
        }
    }
    // Live events follow the frozen ones; a session's own lie between its start and end.
    let from = stored.events.partition_point(|e| e.time < facts.start);
    let live = stored.events.iter().zip(&stored.values).skip(from);
    for (event, (currency, minor)) in live.take_while(|(e, _)| e.time <= facts.end) {
        if event.tag != session.tag {
            continue;
        }
        if *minor != 0 {
            money.add(ctx.profiles.currency(*currency), i128::from(*minor));
        }
        let profile = ctx.profiles.get(event.profile);
        if path.len() < ctx.settings.path_max {
            path.push((event.profile, event.time));
        }
        if !channels.iter().any(|c| ctx.profiles.get(*c).channel == profile.channel) {
            channels.push(event.profile);
        }
        if profile.stage_rank > ctx.profiles.get(stage).stage_rank {
            stage = event.profile;
        }
    }
    for order in earned.iter().filter(|e| e.session == facts.first) {
        money.add(ctx.profiles.currency(order.currency), i128::from(order.minor));
    }
    let value: Value = money.sums().iter().cloned().collect();
    let reached = ctx.profiles.get(stage);
    SessionRecord {
        schema_version: SCHEMA_VERSION,
        id: CompactString::default(),
        tenant: ctx.profiles.tenant(who.tenant).clone(),
        customer: who.customer.clone(),
        session_id: session_id(ctx, who, facts.first),
        status: SessionStatus::Closed,
        merged_into: None,
        start: facts.start,
        end: facts.end,
        events: i64::from(facts.events),
        entry_channel: ctx.profiles.get(facts.first_profile).channel.clone(),
        channels: channels.iter().map(|c| ctx.profiles.get(*c).channel.clone()).collect(),
        stage_reached: if reached.stage_rank == 0 {
            CompactString::const_new(OTHER)
        } else {
            reached.stage.clone()
        },
        path_truncated: path.len() < facts.events as usize,
        path: path
            .into_iter()
            .map(|(profile, at)| {
                let profile = ctx.profiles.get(profile);
                PathStep {
                    touchpoint: profile.touchpoint.clone(),
                    action: profile.action.clone(),
                    at,
                }
            })
            .collect(),
        engaged: facts.engaged.is_some(),
        converted: facts.converted,
        value,
        revision: 0,
        is_final: false,
    }
}

/// Hash of everything in the record that events can change.
fn digest(record: &SessionRecord) -> u64 {
    let mut bytes = Vec::with_capacity(1_024);
    for number in [
        record.start.as_ms(),
        record.end.as_ms(),
        record.events,
        i64::from(record.engaged),
        i64::from(record.converted),
        record.path.len() as i64,
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let end = |bytes: &mut Vec<u8>| bytes.push(0xFF);
    let say = |text: &str, bytes: &mut Vec<u8>| {
        bytes.extend_from_slice(text.as_bytes());
        end(bytes);
    };
    for channel in &record.channels {
        say(channel, &mut bytes);
    }
    say(&record.stage_reached, &mut bytes);
    for step in &record.path {
        say(&step.touchpoint, &mut bytes);
        say(&step.action, &mut bytes);
        push_decimal(step.at.as_ms(), &mut bytes);
        end(&mut bytes);
    }
    for (currency, minor) in &record.value {
        say(currency, &mut bytes);
        write!(bytes, "{minor}").expect("a vector takes all");
        end(&mut bytes);
    }
    xxh3_64(&bytes)
}

/// Appends a number as it is written; a path has many.
fn push_decimal(number: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let (mut left, mut at) = (number.unsigned_abs(), digits.len());
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_ever() {
        for number in [0, 7, -1, 10, 1_767_225_600_000, i64::MIN, i64::MAX] {
            let mut bytes = Vec::new();
            push_decimal(number, &mut bytes);
            assert_eq!(bytes, number.to_string().into_bytes());
        }
    }
}
