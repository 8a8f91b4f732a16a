//! Carts of one customer: they live like checkouts, by cart id, else session, else customer, and end
//! with the order: the completion that completes or recovers a checkout.
//!
//! A cart whose deadline passes while a checkout of its cart id or session is open waits for that
//! checkout's end. Carts feed no figures.

use super::checkouts::{Checkout, Checkouts};
use super::correlate::CART;
use super::event::Event;
use super::known::{Known, Moment};
use super::settings::Settings;
use crate::model::record::Transition;
use crate::model::taxonomy::Meaning;
use crate::model::time::EventTime;
use compact_str::CompactString;
use std::collections::BTreeSet;

/// One cart.
pub(super) struct Cart {
    pub(super) events: Vec<usize>,
    ids: BTreeSet<CompactString>,
    known: Known,
    pub(super) at_start: Known,
    pub(super) outcome: Option<Moment>,
    pub(super) recovered: Option<Moment>,
}

struct Context<'a> {
    events: &'a [Event],
    session_of: &'a [usize],
    checkouts: &'a Checkouts,
    settings: &'a Settings,
}

impl Cart {
    fn is_in(&self, session: usize, session_of: &[usize]) -> bool {
        self.events.iter().any(|e| session_of[*e] == session)
    }

    fn last(&self) -> usize {
        self.events[self.events.len() - 1]
    }

    /// When it is abandoned if nothing more comes: its deadline, or the end of the checkouts of its
    /// ids or session that were open then.
    fn deadline(&self, cx: &Context<'_>) -> EventTime {
        let mut deadline = cx.events[self.last()].at.plus(cx.settings.cart_timeout);
        let spans: Vec<(EventTime, EventTime)> =
            cx.checkouts.all.iter().filter(|c| self.belongs(c, cx)).map(|c| span(c, cx)).collect();
        while let Some(end) = spans
            .iter()
            .filter(|(from, to)| *from <= deadline && deadline < *to)
            .map(|(_, to)| *to)
            .max()
        {
            deadline = end;
        }
        deadline
    }

    fn belongs(&self, checkout: &Checkout, cx: &Context<'_>) -> bool {
        let named = |id: &CompactString| checkout.keys.contains(&(CART, id.clone()));
        let here = |e: &usize| self.is_in(cx.session_of[*e], cx.session_of);
        self.ids.iter().any(named) || checkout.events.iter().any(here)
    }

    fn settle(&mut self, now: EventTime, cx: &Context<'_>) {
        if self.outcome.is_some() {
            return;
        }
        let age = cx.events[self.events[0]].at.plus(cx.settings.max_checkout_age);
        let deadline = self.deadline(cx);
        let (transition, at) = if self.known.value != Some(0) && deadline <= age {
            (Transition::Abandoned, deadline)
        } else {
            (Transition::Expired, age)
        };
        if at < now {
            let known = self.known.clone();
            self.outcome = Some(Moment { transition, at, rests_on: self.last(), known });
        }
    }

    /// True if it can be recovered by an order at `now`.
    fn waits(&self, now: EventTime, settings: &Settings) -> bool {
        self.recovered.is_none()
            && self.outcome.as_ref().is_some_and(|o| {
                o.transition == Transition::Abandoned && now <= o.at.plus(settings.max_recovery)
            })
    }

    fn order(&mut self, i: usize, cx: &Context<'_>) {
        let at = cx.events[i].at;
        let (transition, slot) = match &self.outcome {
            None => (Transition::Completed, &mut self.outcome),
            Some(_) if self.recovered.is_none() => (Transition::Recovered, &mut self.recovered),
            Some(_) => return,
        };
        self.known.learn(&cx.events[i]);
        let known = self.known.clone();
        *slot = Some(Moment { transition, at, rests_on: i, known });
    }
}

fn span(checkout: &Checkout, cx: &Context<'_>) -> (EventTime, EventTime) {
    let times = checkout.events.iter().map(|e| cx.events[*e].at);
    let from = times.min().unwrap_or(EventTime::MAX);
    (from, checkout.outcome.as_ref().map_or(EventTime::MAX, |o| o.at))
}

/// Finds all carts of a customer's sorted events.
pub(super) fn find(
    events: &[Event],
    session_of: &[usize],
    checkouts: &Checkouts,
    settings: &Settings,
) -> Vec<Cart> {
    let cx = Context { events, session_of, checkouts, settings };
    let mut all: Vec<Cart> = Vec::new();
    for (i, event) in events.iter().enumerate() {
        if !matches!(event.meaning, Meaning::Cart | Meaning::CheckoutComplete) {
            continue;
        }
        all.iter_mut().for_each(|c| c.settle(event.at, &cx));
        if event.meaning == Meaning::CheckoutComplete {
            if let Some(cart) = ordered(i, &all, &cx) {
                all[cart].order(i, &cx);
            }
            continue;
        }
        let at = which(i, &all, &cx).unwrap_or_else(|| {
            let (events, ids) = (Vec::new(), BTreeSet::new());
            let (known, at_start) = (Known::default(), Known::default());
            all.push(Cart { events, ids, known, at_start, outcome: None, recovered: None });
            all.len() - 1
        });
        let cart = &mut all[at];
        if cart.outcome.is_none() {
            cart.events.push(i);
            cart.ids.extend(event.keys.cart.clone());
            cart.known.learn(event);
            if cart.events.len() == 1 {
                cart.at_start = cart.known.clone();
            }
        }
    }
    all.iter_mut().for_each(|c| c.settle(EventTime::MAX, &cx));
    all
}

/// The open cart that an event without a cart of its id belongs to: that of its session, else of the
/// customer, latest activity first; none that has another id than `ids`.
fn open(i: usize, ids: &BTreeSet<CompactString>, all: &[Cart], cx: &Context<'_>) -> Option<usize> {
    let session = cx.session_of[i];
    let fits = |c: &Cart| c.outcome.is_none() && (ids.is_empty() || c.ids.is_empty());
    let here = |c: &Cart| fits(c) && c.is_in(session, cx.session_of);
    latest(all, here).or_else(|| latest(all, fits))
}

fn latest(all: &[Cart], fits: impl Fn(&Cart) -> bool) -> Option<usize> {
    (0..all.len()).filter(|c| fits(&all[*c])).max_by_key(|c| all[*c].last())
}

/// The cart that a cart event belongs to; none: a new one.
fn which(i: usize, all: &[Cart], cx: &Context<'_>) -> Option<usize> {
    let ids: BTreeSet<CompactString> = cx.events[i].keys.cart.clone().into_iter().collect();
    let Some(named) = latest(all, |c| !c.ids.is_disjoint(&ids)) else {
        return open(i, &ids, all, cx);
    };
    // What comes after the order is a new cart, although it has the old one's id.
    let ended_as = all[named].outcome.as_ref().map(|o| o.transition);
    let ordered = ended_as == Some(Transition::Completed) || all[named].recovered.is_some();
    (!ordered).then_some(named)
}

/// The cart that a completion ends.
fn ordered(i: usize, all: &[Cart], cx: &Context<'_>) -> Option<usize> {
    let checkout = &cx.checkouts.all[cx.checkouts.of_completion[&i]];
    let decides = |m: &Option<Moment>| {
        let sold = |t| matches!(t, Transition::Completed | Transition::Recovered);
        m.as_ref().is_some_and(|m| sold(m.transition) && m.rests_on == i)
    };
    if !decides(&checkout.outcome) && !decides(&checkout.recovered) {
        return None;
    }
    let ids: BTreeSet<CompactString> =
        checkout.keys.iter().filter(|(kind, _)| *kind == CART).map(|(_, id)| id.clone()).collect();
    let waits = |c: &Cart| c.waits(cx.events[i].at, cx.settings);
    if let Some(named) = latest(all, |c| !c.ids.is_disjoint(&ids)) {
        let alive = all[named].outcome.is_none() || waits(&all[named]);
        return alive.then_some(named);
    }
    let fits = |c: &Cart| waits(c) && (ids.is_empty() || c.ids.is_empty());
    open(i, &ids, all, cx).or_else(|| latest(all, fits))
}
