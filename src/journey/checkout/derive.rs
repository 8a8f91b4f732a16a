//! Checkouts as a function of the set of a customer's events: which events are one checkout.
//!
//! First the closure over the customer's keys. Then, in the order of events, a component that has
//! no checkout yet joins what is open in its session and has no other id of the same kind, latest
//! activity first; one that does not begin with a start looks next among the customer's open
//! checkouts, then among the abandoned ones that can be recovered; else it opens one of its own.
//! Within a component, a start that shares only the cart id with a checkout that is over begins a
//! new one, and so does a completion for which the checkout has expired or waited too long.

use super::closure::Closure;
use super::event::{CART_KEY, RichEvent};
use super::instance::{By, Instance, Rules, State};
use super::seed::Seed;
use crate::model::record::CheckoutKind;
use crate::model::taxonomy::Meaning;
use crate::model::time::EventTime;
use smallvec::{SmallVec, smallvec};

/// Checkouts in the making.
struct Derivation<'a> {
    closure: &'a Closure,
    rules: Rules<'a>,
    instances: Vec<Instance>,
    /// Latest instance of a component.
    current: SmallVec<[Option<usize>; 8]>,
    /// Instance of a component of the strong keys (checkout and order id) alone.
    by_strong: SmallVec<[Option<usize>; 8]>,
}

/// Derives the checkouts of `events`, which are sorted; time has passed up to `clock`.
pub(super) fn checkouts(
    seeds: &[Seed],
    events: &[&RichEvent],
    closure: &Closure,
    clock: Option<EventTime>,
    rules: Rules<'_>,
) -> Vec<Instance> {
    let mut derivation = Derivation {
        closure,
        rules,
        instances: Vec::new(),
        current: smallvec![None; closure.len()],
        by_strong: smallvec![None; closure.len()],
    };
    for (place, seed) in seeds.iter().enumerate() {
        if seed.kind() == CheckoutKind::Checkout {
            derivation.plant(place, seed);
        }
    }
    for (place, event) in events.iter().enumerate() {
        if !matches!(event.meaning, Meaning::Cart | Meaning::StorePurchase) {
            derivation.take(place, event);
        }
    }
    if let Some(clock) = clock {
        derivation.advance_all(clock);
    }
    derivation.instances
}

impl Derivation<'_> {
    fn plant(&mut self, place: usize, seed: &Seed) {
        let instance = seed.instance(place, self.closure);
        let at = self.instances.len();
        for key in &instance.keys {
            if let Some(root) = self.closure.root(*key) {
                self.current[root] = Some(at);
            }
            if let Some(root) = self.closure.strong_root(*key) {
                self.by_strong[root] = Some(at);
            }
        }
        self.instances.push(instance);
    }

    fn advance(&mut self, at: usize, to: EventTime) {
        let deadline = self.instances[at].deadline(self.rules);
        self.instances[at].advance(to, deadline, self.rules);
    }

    fn advance_all(&mut self, to: EventTime) {
        for at in 0..self.instances.len() {
            self.advance(at, to);
        }
    }

    fn take(&mut self, place: usize, event: &RichEvent) {
        let root = event.own_keys().find_map(|key| self.closure.root(key));
        let known = root.and_then(|root| self.current[root]);
        let found = match known {
            Some(latest) => {
                let strong = self.strong_instance(event);
                let at = strong.unwrap_or(latest);
                self.advance(at, event.time());
                let instance = &self.instances[at];
                let over = instance.is_over(event.time(), self.rules);
                let completed = matches!(instance.state, State::Completed(_))
                    || matches!(instance.state, State::Recovered { .. });
                match event.meaning {
                    Meaning::CheckoutStart if over && strong.is_none() => None,
                    Meaning::CheckoutComplete if over && !completed => None,
                    _ => Some((at, self.key_in_common(at, event))),
                }
            }
            None => self.join(event),
        };
        let (at, by) = match found {
            Some(found) => found,
            None if event.meaning == Meaning::CheckoutExpire => return,
            None => {
                self.instances.push(Instance::new(CheckoutKind::Checkout));
                let own = event.own_keys().next().map_or(By::Session, |(kind, _)| By::KEYS[kind]);
                (self.instances.len() - 1, own)
            }
        };
        let instance = &mut self.instances[at];
        instance.by = Some(instance.by.map_or(by, |known| known.min(by)));
        instance.apply(place, event);
        if let Some(root) = root {
            instance.kinds |= self.closure.kinds(root);
            if !instance.roots.contains(&root) {
                instance.roots.push(root);
            }
            self.current[root] = Some(at);
        }
        for key in event.own_keys().filter(|(kind, _)| *kind != CART_KEY) {
            if let Some(root) = self.closure.strong_root(key) {
                self.by_strong[root] = Some(at);
            }
        }
    }

    fn strong_instance(&self, event: &RichEvent) -> Option<usize> {
        event
            .own_keys()
            .filter_map(|key| self.closure.strong_root(key))
            .find_map(|root| self.by_strong[root])
    }

    /// The strongest key that the event shares with the instance, else the strongest it has.
    fn key_in_common(&self, at: usize, event: &RichEvent) -> By {
        let shared = event.own_keys().find(|key| self.instances[at].keys.contains(key));
        shared.or_else(|| event.own_keys().next()).map_or(By::Session, |(kind, _)| By::KEYS[kind])
    }

    /// Where a component goes whose first event this is.
    fn join(&mut self, event: &RichEvent) -> Option<(usize, By)> {
        self.advance_all(event.time());
        let root = event.own_keys().find_map(|key| self.closure.root(key));
        let kinds = root.map_or(0, |root| self.closure.kinds(root));
        let open = |i: &Instance| i.is_open();
        let in_session = |i: &Instance| i.is_open() && i.sessions.contains(&event.session);
        if let Some(at) = self.latest(kinds, in_session) {
            return Some((at, By::Session));
        }
        if event.meaning == Meaning::CheckoutStart {
            return None;
        }
        let abandoned = |i: &Instance| i.recoverable(event.time(), self.rules);
        let at = self.latest(kinds, open).or_else(|| self.latest(kinds, abandoned))?;
        Some((at, By::Customer))
    }

    /// The one with the latest activity among those without an id of the same kind.
    fn latest(&self, kinds: u8, fits: impl Fn(&Instance) -> bool) -> Option<usize> {
        let fitting =
            self.instances.iter().enumerate().filter(|(_, i)| i.kinds & kinds == 0 && fits(i));
        fitting.max_by_key(|(at, i)| (i.last.map(|l| l.time), *at)).map(|(at, _)| at)
    }
}
