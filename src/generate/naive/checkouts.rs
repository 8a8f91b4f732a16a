//! Checkouts of one customer: the definition read aloud, one sorted event after the other.
//!
//! | event | while open | after completion | after abandonment | after expiry |
//! | --- | --- | --- | --- | --- |
//! | start | activity | of its ids: its start, if it has none; else a new checkout | nothing if of its ids | nothing if of its ids |
//! | other activity | activity | nothing | nothing | nothing |
//! | completion | `completed` | nothing (an order of its own id counts) | `recovered` within `max_recovery`, else a checkout of its own | a checkout of its own |
//! | cancel, expire | `expired` | nothing | nothing | nothing |
//!
//! All bounds are inclusive: what comes exactly at the deadline comes in time.

use super::correlate::{Components, Key, conflict, own_keys_of};
use super::event::Event;
use super::known::{Known, Moment};
use super::settings::Settings;
use crate::model::record::Transition;
use crate::model::taxonomy::Meaning;
use crate::model::time::EventTime;
use std::collections::{BTreeMap, BTreeSet};

/// One checkout.
pub(super) struct Checkout {
    /// Events that count for it, in order.
    pub(super) events: Vec<usize>,
    /// Ids of all groups that belong to it.
    pub(super) keys: BTreeSet<Key>,
    /// The first start event, else the first activity; none for a completion without a start.
    pub(super) start: Option<usize>,
    pub(super) last_activity: Option<usize>,
    deadline: EventTime,
    known: Known,
    /// `step` and `payment_failed`, in order.
    pub(super) happened: Vec<Moment>,
    /// What is known at the start.
    pub(super) at_start: Known,
    /// `completed`, `abandoned` or `expired`.
    pub(super) outcome: Option<Moment>,
    pub(super) recovered: Option<Moment>,
}

/// All checkouts of a customer, and which one each completion belongs to.
pub(super) struct Checkouts {
    pub(super) all: Vec<Checkout>,
    pub(super) of_completion: BTreeMap<usize, usize>,
}

impl Checkout {
    fn new(keys: BTreeSet<Key>) -> Checkout {
        Checkout {
            events: Vec::new(),
            keys,
            start: None,
            last_activity: None,
            deadline: EventTime::MAX,
            known: Known::default(),
            happened: Vec::new(),
            at_start: Known::default(),
            outcome: None,
            recovered: None,
        }
    }

    fn ended_as(&self, transition: Transition) -> bool {
        self.outcome.as_ref().is_some_and(|o| o.transition == transition)
    }

    /// Decides what follows from nothing having come before `now`.
    pub(super) fn settle(&mut self, now: EventTime, events: &[Event], settings: &Settings) {
        let (Some(start), Some(last), None) = (self.start, self.last_activity, &self.outcome)
        else {
            return;
        };
        let age = events[start].at.plus(settings.max_checkout_age);
        // Abandonment wins a tie with the age; value 0 is not abandonable.
        let (transition, at) = if self.known.value != Some(0) && self.deadline <= age {
            (Transition::Abandoned, self.deadline)
        } else {
            (Transition::Expired, age)
        };
        if at < now {
            let known = self.known.clone();
            self.outcome = Some(Moment { transition, at, rests_on: last, known });
        }
    }

    fn moment(&self, transition: Transition, i: usize, events: &[Event]) -> Moment {
        Moment { transition, at: events[i].at, rests_on: i, known: self.known.clone() }
    }

    fn activity(&mut self, i: usize, events: &[Event], settings: &Settings) {
        let event = &events[i];
        let is_start = event.meaning == Meaning::CheckoutStart;
        let starts =
            is_start && self.start.is_none_or(|s| events[s].meaning != Meaning::CheckoutStart);
        if self.outcome.is_none() {
            self.events.push(i);
            self.known.learn(event);
            self.last_activity = Some(i);
            let by_channel = settings.checkout_timeouts.get(&event.channel);
            self.deadline = event.at.plus(match event.meaning {
                Meaning::PaymentPending => settings.pending_timeout,
                _ => *by_channel.unwrap_or(&settings.checkout_timeout),
            });
            match event.meaning {
                Meaning::CheckoutStep | Meaning::PaymentInfo | Meaning::PaymentPending => {
                    self.happened.push(self.moment(Transition::Step, i, events));
                }
                Meaning::PaymentFailed => {
                    self.happened.push(self.moment(Transition::PaymentFailed, i, events));
                }
                _ => {}
            }
            if starts || self.start.is_none() {
                self.start = Some(i);
                self.at_start = self.known.clone();
            }
        } else if starts && self.ended_as(Transition::Completed) {
            // A start later than its completion: a clock that is off, not another checkout.
            self.events.push(i);
            self.start = Some(i);
            self.at_start.learn(event);
        }
    }

    /// Takes a completion; false if it is a checkout of its own.
    fn complete(&mut self, i: usize, events: &[Event], settings: &Settings) -> bool {
        let Some(outcome) = &self.outcome else {
            self.events.push(i);
            self.known.learn(&events[i]);
            self.outcome = Some(self.moment(Transition::Completed, i, events));
            return true;
        };
        match outcome.transition {
            Transition::Abandoned if self.recovered.is_none() => {
                if events[i].at > outcome.at.plus(settings.max_recovery) {
                    return false;
                }
                self.events.push(i);
                self.known.learn(&events[i]);
                self.recovered = Some(self.moment(Transition::Recovered, i, events));
                true
            }
            Transition::Expired => false,
            _ => true,
        }
    }
}

/// Finds all checkouts of a customer's sorted events; `session_of` numbers each event's session.
pub(super) fn find(events: &[Event], session_of: &[usize], settings: &Settings) -> Checkouts {
    let components = Components::new(events);
    let mut all: Vec<Checkout> = Vec::new();
    let mut bound: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut of_completion = BTreeMap::new();
    for i in (0..events.len()).filter(|i| events[*i].is_checkout()) {
        let event = &events[i];
        all.iter_mut().for_each(|c| c.settle(event.at, events, settings));
        let component = components.of(i);
        let target = match bound.get(&component) {
            Some(list) => within(i, list, &all, events),
            None => join(i, components.keys(component), &all, events, session_of, settings),
        };
        if target.is_none() && event.meaning == Meaning::CheckoutExpire {
            continue;
        }
        let mut at = target.unwrap_or(all.len());
        if at == all.len() {
            all.push(Checkout::new(components.keys(component).clone()));
        }
        match event.meaning {
            Meaning::CheckoutComplete => {
                if !all[at].complete(i, events, settings) {
                    all.push(Checkout::new(components.keys(component).clone()));
                    at = all.len() - 1;
                    all[at].complete(i, events, settings);
                }
                of_completion.insert(i, at);
            }
            Meaning::CheckoutExpire => expire(&mut all[at], i, events),
            _ => all[at].activity(i, events, settings),
        }
        all[at].keys.extend(components.keys(component).iter().cloned());
        let list = bound.entry(component).or_default();
        if !list.contains(&at) {
            list.push(at);
        }
    }
    all.iter_mut().for_each(|c| c.settle(EventTime::MAX, events, settings));
    Checkouts { all, of_completion }
}

/// An explicit end; the channel it counts for is that of the last activity.
fn expire(checkout: &mut Checkout, i: usize, events: &[Event]) {
    if checkout.outcome.is_none() {
        let rests_on = checkout.last_activity.unwrap_or(i);
        checkout.known.learn(&events[i]);
        let moment = checkout.moment(Transition::Expired, i, events);
        checkout.outcome = Some(Moment { rests_on, ..moment });
    }
}

/// Which of its group's checkouts an event belongs to; none: a new one.
fn within(i: usize, list: &[usize], all: &[Checkout], events: &[Event]) -> Option<usize> {
    let own = own_keys_of(&events[i]);
    let shares =
        |c: &usize| all[*c].events.iter().any(|e| !own_keys_of(&events[*e]).is_disjoint(&own));
    if let Some(named) = list.iter().rev().find(|c| shares(c)) {
        return Some(*named);
    }
    let latest = *list.last()?;
    let done = all[latest].ended_as(Transition::Completed) || all[latest].recovered.is_some();
    let begins = events[i].meaning == Meaning::CheckoutStart && done;
    (!begins).then_some(latest)
}

/// Which checkout a group joins with its first event; none: a new one.
fn join(
    i: usize,
    keys: &BTreeSet<Key>,
    all: &[Checkout],
    events: &[Event],
    session_of: &[usize],
    settings: &Settings,
) -> Option<usize> {
    let event = &events[i];
    let fits = |c: &usize| !conflict(&all[*c].keys, keys);
    let open = |c: &usize| all[*c].outcome.is_none() && fits(c);
    let here = |c: &usize| all[*c].events.iter().any(|e| session_of[*e] == session_of[i]);
    let left = |c: &usize| {
        let outcome = all[*c].outcome.as_ref().filter(|o| o.transition == Transition::Abandoned);
        let in_time = |o: &Moment| event.at <= o.at.plus(settings.max_recovery);
        fits(c) && all[*c].recovered.is_none() && outcome.is_some_and(in_time)
    };
    let latest = |c: &usize| all[*c].last_activity;
    let everyone = || 0..all.len();
    let in_session = everyone().filter(|c| open(c) && here(c)).max_by_key(latest);
    if in_session.is_some() || event.meaning == Meaning::CheckoutStart {
        return in_session;
    }
    let anywhere = everyone().filter(|c| open(c)).max_by_key(latest);
    anywhere.or_else(|| everyone().filter(|c| left(c)).max_by_key(latest))
}
