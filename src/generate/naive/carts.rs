//! Carts of one customer: they live like checkouts, by cart id or session, and end with the order.
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

    /// True if the order `i` is of this cart: by id; or by session where one side has no id.
    fn is_ordered_by(&self, i: usize, cx: &Context<'_>) -> bool {
        let checkout = &cx.checkouts.all[cx.checkouts.of_completion[&i]];
        let ids: BTreeSet<&CompactString> =
            checkout.keys.iter().filter(|(kind, _)| *kind == CART).map(|(_, id)| id).collect();
        let named = self.ids.iter().any(|id| ids.contains(id));
        let unnamed = self.ids.is_empty() || ids.is_empty();
        named || unnamed && self.is_in(cx.session_of[i], cx.session_of)
    }

    fn order(&mut self, i: usize, cx: &Context<'_>) {
        let event = &cx.events[i];
        let (transition, slot) = match &self.outcome {
            None => (Transition::Completed, &mut self.outcome),
            Some(o) if o.transition == Transition::Abandoned && self.recovered.is_none() => {
                if event.at > o.at.plus(cx.settings.max_recovery) {
                    return;
                }
                (Transition::Recovered, &mut self.recovered)
            }
            Some(_) => return,
        };
        self.known.learn(event);
        let known = self.known.clone();
        *slot = Some(Moment { transition, at: event.at, rests_on: i, known });
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
            all.iter_mut().filter(|c| c.is_ordered_by(i, &cx)).for_each(|c| c.order(i, &cx));
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

/// The cart that a cart event belongs to; none: a new one.
fn which(i: usize, all: &[Cart], cx: &Context<'_>) -> Option<usize> {
    let id = &cx.events[i].keys.cart;
    let open_here =
        |c: &usize| all[*c].outcome.is_none() && all[*c].is_in(cx.session_of[i], cx.session_of);
    let numbers = || 0..all.len();
    let Some(id) = id else { return numbers().filter(open_here).max_by_key(|c| all[*c].last()) };
    if let Some(named) = numbers().rev().find(|c| all[*c].ids.contains(id)) {
        let ordered = all[named].outcome.as_ref().is_some_and(|o| {
            o.transition == Transition::Completed || all[named].recovered.is_some()
        });
        return (!ordered).then_some(named);
    }
    let unnamed = |c: &usize| open_here(c) && all[*c].ids.is_empty();
    numbers().filter(unnamed).max_by_key(|c| all[*c].last())
}
