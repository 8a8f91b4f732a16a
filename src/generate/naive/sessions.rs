//! Sessions of one customer: the sorted events cut where the pause is too long, or as the source says.

use super::event::Event;
use super::settings::Settings;
use crate::model::record::{PathStep, SCHEMA_VERSION, SessionRecord, SessionStatus, Value};
use compact_str::{CompactString, format_compact};
use std::collections::{BTreeMap, BTreeSet};

/// Cuts a customer's sorted events into sessions: indexes, each session sorted, by first event.
pub(super) fn cut(events: &[Event], settings: &Settings) -> Vec<Vec<usize>> {
    let mut by_source: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut rest: Vec<usize> = Vec::new();
    for (i, event) in events.iter().enumerate() {
        match event.session_id.as_deref().filter(|_| settings.sessions_by_source) {
            Some(id) => by_source.entry(id).or_default().push(i),
            None => rest.push(i),
        }
    }
    let mut sessions: Vec<Vec<usize>> = by_source.into_values().collect();
    // Two events exactly the gap apart are one session; the earlier one's channel says the gap.
    let together = |a: &usize, b: &usize| {
        let gap = settings.session_gaps.get(&events[*a].channel).unwrap_or(&settings.session_gap);
        events[*b].at.since(events[*a].at) <= *gap
    };
    sessions.extend(rest.chunk_by(together).map(<[usize]>::to_vec));
    sessions.sort();
    sessions
}

/// The event that makes a session engaged: the first with an order, a second view, or 10 s of time.
pub(super) fn engaging(events: &[Event], session: &[usize], settings: &Settings) -> Option<usize> {
    let engages = |n: usize| {
        let so_far = &session[..=n];
        let views = so_far.iter().filter(|i| events[**i].action == "view").count();
        let last = &events[session[n]];
        let long = last.at.since(events[session[0]].at) >= settings.engaged_after;
        views >= 2 || long || last.is_order()
    };
    (0..session.len()).find(|n| engages(*n)).map(|n| session[n])
}

/// A session's record in its last revision.
///
/// `orders` are the indexes of the events that count as orders.
pub(super) fn record(
    (tenant, customer): (&CompactString, &CompactString),
    events: &[Event],
    session: &[usize],
    orders: &BTreeSet<usize>,
    settings: &Settings,
) -> SessionRecord {
    let first = &events[session[0]];
    let end = session.iter().map(|i| events[*i].at).max().unwrap_or(first.at);
    let channels: BTreeSet<&CompactString> = session.iter().map(|i| &events[*i].channel).collect();
    let rank = |i: &&usize| settings.taxonomy.stage_rank(&events[**i].stage);
    // `other` has no rank: it is reached only if nothing else is.
    let furthest = session.iter().max_by_key(rank).unwrap_or(&session[0]);
    let mut value = Value::new();
    for i in session {
        if let Some((currency, minor)) = money(&events[*i], orders.contains(i), settings) {
            *value.entry(currency).or_default() += i128::from(minor);
        }
    }
    value.retain(|_, minor| *minor != 0);
    let step = |i: &usize| PathStep {
        touchpoint: events[*i].touchpoint.clone(),
        action: events[*i].action.clone(),
        at: events[*i].at,
    };
    SessionRecord {
        schema_version: SCHEMA_VERSION,
        id: "".into(),
        tenant: tenant.clone(),
        customer: customer.clone(),
        session_id: format_compact!("{tenant}|{customer}|{}|{}", first.source, first.id),
        status: SessionStatus::Closed,
        merged_into: None,
        start: first.at,
        end,
        events: session.len() as i64,
        channels: channels.into_iter().cloned().collect(),
        entry_channel: first.channel.clone(),
        stage_reached: events[*furthest].stage.clone(),
        path: session.iter().take(settings.path_max).map(step).collect(),
        path_truncated: session.len() > settings.path_max,
        engaged: engaging(events, session, settings).is_some(),
        converted: session.iter().any(|i| orders.contains(i)),
        value,
        revision: 0,
        is_final: true,
    }
}

/// The money that an event brings, and its currency; `XXX` where the source named none.
pub(super) fn money(
    event: &Event,
    is_order: bool,
    settings: &Settings,
) -> Option<(CompactString, i64)> {
    let counts = if settings.value_of_events { event.value.is_some() } else { is_order };
    let currency = event.currency.clone().unwrap_or(crate::model::figures::NO_CURRENCY.into());
    counts.then(|| (currency, event.value.unwrap_or(0)))
}
