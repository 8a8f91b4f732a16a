//! Everything about one customer: sessions, checkouts, carts, orders, and the counts that follow.

use super::carts::{self, Cart};
use super::checkouts::{self, Checkout, Checkouts};
use super::event::Event;
use super::known::{Known, Moment, Subject};
use super::sessions;
use super::settings::Settings;
use super::windows::{Count, Counts};
use crate::generate::final_form::{FinalForm, FinalSummary};
use crate::model::record::{CheckoutKind, Transition};
use crate::model::time::EventTime;
use compact_str::{CompactString, format_compact};
use std::collections::BTreeSet;

/// A customer with all events, sorted.
pub(super) struct Customer<'a> {
    pub(super) tenant: &'a CompactString,
    pub(super) name: &'a CompactString,
    pub(super) number: u32,
    pub(super) events: &'a [Event],
}

/// Computes one customer's facts and counts.
pub(super) fn compute(
    who: &Customer<'_>,
    settings: &Settings,
    form: &mut FinalForm,
    counts: &mut Counts,
    summary: &mut FinalSummary,
) {
    let events = who.events;
    let sessions = sessions::cut(events, settings);
    let mut session_of = vec![0; events.len()];
    for (number, session) in sessions.iter().enumerate() {
        session.iter().for_each(|i| session_of[*i] = number);
    }
    let checkouts = checkouts::find(events, &session_of, settings);
    let carts = carts::find(events, &session_of, &checkouts, settings);
    let orders = orders(events, &checkouts);

    for (i, event) in events.iter().enumerate() {
        let mut what = vec![Count::Event(settings.distinct_customers.then_some(who.number))];
        if orders.contains(&i) {
            what.push(Count::Order);
        }
        if let Some(money) = sessions::money(event, orders.contains(&i), settings) {
            what.push(counts.money(money));
        }
        counts.note(who.tenant, event.at, event, &what);
    }
    for session in &sessions {
        let first = &events[session[0]];
        counts.note(who.tenant, first.at, first, &[Count::Session]);
        if let Some(i) = sessions::engaging(events, session, settings) {
            counts.note(who.tenant, events[i].at, &events[i], &[Count::Engaged]);
        }
        let key = (who.tenant, who.name);
        form.add_session(&sessions::record(key, events, session, &orders, settings));
        summary.sessions += 1;
    }
    let unique = unique_abandoners(&checkouts, settings);
    for (number, checkout) in checkouts.all.iter().enumerate() {
        count_checkout(who, checkout, unique.contains(&number), counts, summary);
        publish_checkout(who, number, checkout, form);
    }
    for (number, cart) in carts.iter().enumerate() {
        publish_cart(who, number, cart, form);
    }
}

/// The events that count as orders: each once, by order id, else once per checkout.
fn orders(events: &[Event], checkouts: &Checkouts) -> BTreeSet<usize> {
    let mut by_id = BTreeSet::new();
    let mut by_checkout = BTreeSet::new();
    let mut counts = |i: &usize| match (&events[*i].keys.order, checkouts.of_completion.get(i)) {
        (Some(id), _) => by_id.insert(id.clone()),
        (None, Some(checkout)) => by_checkout.insert(*checkout),
        // In the store nothing else tells two purchases apart.
        (None, None) => true,
    };
    (0..events.len()).filter(|i| events[*i].is_order()).filter(|i| counts(i)).collect()
}

/// The checkouts whose abandonment is the first of its customer's run.
fn unique_abandoners(checkouts: &Checkouts, settings: &Settings) -> BTreeSet<usize> {
    let abandoned = |c: &Checkout| {
        c.outcome.as_ref().filter(|o| o.transition == Transition::Abandoned).map(|o| o.at)
    };
    let mut all: Vec<(EventTime, usize)> = checkouts
        .all
        .iter()
        .enumerate()
        .filter_map(|(number, c)| abandoned(c).map(|at| (at, number)))
        .collect();
    all.sort();
    let mut run: Option<EventTime> = None;
    let mut unique = BTreeSet::new();
    for (at, number) in all {
        if run.is_none_or(|first| at > first.plus(settings.merge)) {
            run = Some(at);
            unique.insert(number);
        }
    }
    unique
}

fn count_checkout(
    who: &Customer<'_>,
    checkout: &Checkout,
    unique: bool,
    counts: &mut Counts,
    summary: &mut FinalSummary,
) {
    let totals = &mut summary.checkouts;
    let mut cohort = Vec::new();
    if checkout.start.is_some() {
        totals.started += 1;
        cohort.extend([Count::Started, Count::CohortStarted]);
    }
    for moment in [&checkout.outcome, &checkout.recovered].into_iter().flatten() {
        let what = match moment.transition {
            Transition::Completed => {
                totals.completed += 1;
                Count::Completed
            }
            Transition::Recovered => {
                totals.recovered += 1;
                Count::Recovered
            }
            Transition::Abandoned => {
                totals.abandoned += 1;
                cohort.push(Count::CohortAbandoned);
                if unique {
                    cohort.push(Count::UniqueAbandoner);
                }
                Count::Abandoned
            }
            _ => {
                cohort.push(Count::CohortExpired);
                continue;
            }
        };
        counts.note(who.tenant, moment.at, &who.events[moment.rests_on], &[what]);
    }
    if let Some(start) = checkout.start {
        let start = &who.events[start];
        counts.note(who.tenant, start.at, start, &cohort);
    }
}

fn publish_checkout(who: &Customer<'_>, number: usize, checkout: &Checkout, form: &mut FinalForm) {
    let at = |i: usize| who.events[i].at;
    let completed_at = checkout.outcome.as_ref().map_or(EventTime::MAX, |o| o.at);
    let subject = Subject {
        tenant: who.tenant,
        customer: who.name,
        kind: CheckoutKind::Checkout,
        instance: format_compact!("{}|{}|checkout|{number}", who.tenant, who.name),
        started_at: checkout.start.map_or(completed_at, at),
        last_activity: checkout.last_activity.map_or(completed_at, at),
    };
    let started = checkout.start.map(|i| moment(Transition::Started, i, who, &checkout.at_start));
    let moments = started
        .iter()
        .chain(&checkout.happened)
        .chain(&checkout.outcome)
        .chain(&checkout.recovered);
    for (revision, moment) in (0i64..).zip(moments) {
        form.add_checkout(&moment.record(&subject, who.events, revision));
    }
}

fn publish_cart(who: &Customer<'_>, number: usize, cart: &Cart, form: &mut FinalForm) {
    let (first, last) = (cart.events[0], cart.events[cart.events.len() - 1]);
    let subject = Subject {
        tenant: who.tenant,
        customer: who.name,
        kind: CheckoutKind::Cart,
        instance: format_compact!("{}|{}|cart|{number}", who.tenant, who.name),
        started_at: who.events[first].at,
        last_activity: who.events[last].at,
    };
    let started = moment(Transition::Started, first, who, &cart.at_start);
    let moments = [started].into_iter().chain(cart.outcome.clone()).chain(cart.recovered.clone());
    for (revision, moment) in (0i64..).zip(moments) {
        form.add_checkout(&moment.record(&subject, who.events, revision));
    }
}

fn moment(transition: Transition, i: usize, who: &Customer<'_>, known: &Known) -> Moment {
    Moment { transition, at: who.events[i].at, rests_on: i, known: known.clone() }
}
