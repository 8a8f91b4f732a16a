//! Carts: instances of kind `cart`, which a checkout holds open and an order completes.
//!
//! A cart is not abandoned while a checkout of its keys or session is open: its deadline moves to
//! the end of that checkout. The completion of a checkout completes the cart of the checkout's keys,
//! which the completion itself need not name, else the open one of its session, else of the customer.

use super::closure::Closure;
use super::event::{CART_KEY, RichEvent};
use super::instance::{By, Instance, Point, Rules};
use super::seed::Seed;
use crate::model::record::{CheckoutKind, Transition};
use crate::model::taxonomy::Meaning;
use crate::model::time::EventTime;
use smallvec::{SmallVec, smallvec};

struct Carts<'a> {
    closure: &'a Closure,
    checkouts: &'a [Instance],
    rules: Rules<'a>,
    instances: Vec<Instance>,
    /// Latest cart of a component.
    current: SmallVec<[Option<usize>; 8]>,
}

/// Derives the carts of `events`, which are sorted; time has passed up to `clock`.
pub(super) fn carts(
    seeds: &[Seed],
    events: &[&RichEvent],
    closure: &Closure,
    checkouts: &[Instance],
    clock: Option<EventTime>,
    rules: Rules<'_>,
) -> Vec<Instance> {
    let current = smallvec![None; closure.len()];
    let mut carts = Carts { closure, checkouts, rules, instances: Vec::new(), current };
    for (place, seed) in seeds.iter().enumerate() {
        if seed.kind() == CheckoutKind::Cart {
            let instance = seed.instance(place, closure);
            for root in &instance.roots {
                carts.current[*root] = Some(carts.instances.len());
            }
            carts.instances.push(instance);
        }
    }
    for (place, event) in events.iter().enumerate() {
        match event.meaning {
            Meaning::Cart => carts.activity(place, event),
            Meaning::CheckoutComplete => {
                if let Some(checkout) = decided_by(checkouts, place) {
                    carts.order(place, event, checkout);
                }
            }
            _ => {}
        }
    }
    if let Some(clock) = clock {
        carts.advance_all(clock);
    }
    carts.instances
}

/// The checkout that the completion at `place` completed or recovered.
fn decided_by(checkouts: &[Instance], place: usize) -> Option<&Instance> {
    checkouts.iter().find(|checkout| {
        checkout.log.iter().any(|entry| {
            entry.event == Some(place)
                && matches!(entry.transition, Transition::Completed | Transition::Recovered)
        })
    })
}

/// The deadline that counts for an open cart: while a checkout of its keys or session is open, it
/// is that checkout's end; `None` while nobody knows that.
pub(super) fn held_deadline(
    cart: &Instance,
    checkouts: &[Instance],
    rules: Rules<'_>,
) -> Option<EventTime> {
    let mut deadline = cart.deadline(rules)?;
    let related = |c: &&Instance| {
        c.roots.iter().any(|root| cart.roots.contains(root))
            || c.sessions.iter().any(|session| cart.sessions.contains(session))
    };
    let spans: SmallVec<[_; 4]> =
        checkouts.iter().filter(related).filter_map(Instance::span).collect();
    loop {
        let holds = |(from, to): &&(EventTime, Option<EventTime>)| {
            *from <= deadline && to.is_none_or(|to| to > deadline)
        };
        match spans.iter().find(holds) {
            None => return Some(deadline),
            Some((_, end)) => deadline = (*end)?,
        }
    }
}

impl Carts<'_> {
    fn advance(&mut self, at: usize, to: EventTime) {
        if self.instances[at].is_open() {
            let deadline = held_deadline(&self.instances[at], self.checkouts, self.rules);
            self.instances[at].advance(to, deadline, self.rules);
        }
    }

    fn advance_all(&mut self, to: EventTime) {
        for at in 0..self.instances.len() {
            self.advance(at, to);
        }
    }

    fn root(&self, event: &RichEvent) -> Option<usize> {
        event.own_keys().find_map(|key| self.closure.root(key))
    }

    fn known(&mut self, event: &RichEvent) -> Option<(usize, By)> {
        let at = self.current[self.root(event)?]?;
        self.advance(at, event.time());
        let by = event.own_keys().next().map_or(By::Session, |(kind, _)| By::KEYS[kind]);
        Some((at, by))
    }

    fn activity(&mut self, place: usize, event: &RichEvent) {
        let found = match self.known(event) {
            Some((at, _)) if self.instances[at].is_over(event.time(), self.rules) => None,
            Some(found) => Some(found),
            None => {
                self.advance_all(event.time());
                let kinds = self.root(event).map_or(0, |root| self.closure.kinds(root));
                self.latest_open(event.session, kinds)
            }
        };
        let own = event.own_keys().next().map_or(By::Session, |(kind, _)| By::KEYS[kind]);
        let (at, by) = found.unwrap_or_else(|| {
            self.instances.push(Instance::new(CheckoutKind::Cart));
            (self.instances.len() - 1, own)
        });
        self.instances[at].apply(place, event);
        self.attach(at, by, event);
    }

    /// Takes the order of a checkout to the cart that it completes.
    fn order(&mut self, place: usize, event: &RichEvent, checkout: &Instance) {
        let at = event.time();
        let named = checkout.roots.iter().filter_map(|root| self.current[*root]);
        let named = named.max_by_key(|cart| (self.instances[*cart].last.map(|l| l.time), *cart));
        let found = match named {
            Some(cart) => {
                self.advance(cart, at);
                if self.instances[cart].is_over(at, self.rules) {
                    return;
                }
                // By its own id, if that names the cart, too.
                let own = event.own_keys().next().map(|(kind, _)| By::KEYS[kind]);
                let names = self.root(event).and_then(|root| self.current[root]) == Some(cart);
                Some((cart, own.filter(|_| names).unwrap_or(By::Customer)))
            }
            None => {
                self.advance_all(at);
                // One that has an id is another's, if the checkout has one, too.
                let kinds = checkout.kinds & (1 << CART_KEY);
                self.latest_open(event.session, kinds).or_else(|| {
                    let waits = |i: &Instance| i.recoverable(at, self.rules);
                    Some((self.latest(kinds, waits)?, By::Customer))
                })
            }
        };
        let Some((cart, by)) = found else { return };
        let instance = &mut self.instances[cart];
        instance.events.push(place);
        instance.complete(place, Point { time: at, profile: event.profile() });
        self.attach(cart, by, event);
    }

    fn attach(&mut self, at: usize, by: By, event: &RichEvent) {
        let root = self.root(event);
        let instance = &mut self.instances[at];
        instance.by = Some(instance.by.map_or(by, |known| known.min(by)));
        if let Some(root) = root {
            instance.kinds |= self.closure.kinds(root);
            if !instance.roots.contains(&root) {
                instance.roots.push(root);
            }
            self.current[root] = Some(at);
        }
    }

    fn latest_open(&self, session: u64, kinds: u8) -> Option<(usize, By)> {
        let here = |i: &Instance| i.is_open() && i.sessions.contains(&session);
        let in_session = self.latest(kinds, here).map(|at| (at, By::Session));
        in_session.or_else(|| Some((self.latest(kinds, Instance::is_open)?, By::Customer)))
    }

    /// The latest that fits and has no id of these kinds.
    fn latest(&self, kinds: u8, fits: impl Fn(&Instance) -> bool) -> Option<usize> {
        let fitting =
            self.instances.iter().enumerate().filter(|(_, i)| i.kinds & kinds == 0 && fits(i));
        fitting.max_by_key(|(at, i)| (i.last.map(|l| l.time), *at)).map(|(at, _)| at)
    }
}
