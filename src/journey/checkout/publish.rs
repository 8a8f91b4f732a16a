//! Records of checkouts and carts: the difference between what is derived and what was published.
//!
//! A transition is published once the clock has passed its event time: until then an event that is
//! out of order can still come before it, and what is published within the bound for disorder does
//! not depend on the order of arrival. What later events change is published again, `retracted`
//! first where an abandonment is taken back (also one that late activity moves: so the number of
//! `abandoned` less that of `retracted` is right at any time). Any other outcome stands until the
//! next one: a cart whose order turns out to be another's was `completed` and becomes `abandoned`. A
//! late event that only changes what a record says (the step, the payment method …) makes it be said
//! again as well: what is said last does not depend on the order of arrival.

use super::event::{Detail, Face, RichEvent, View};
use super::instance::{By, Entry, Instance, Point, State};
use super::seed::Seed;
use crate::engine::Fact;
use crate::journey::context::{Context, Pieces, Who, name_of};
use crate::journey::profile::ProfileId;
use crate::model::record::{CheckoutKind, CheckoutRecord, SCHEMA_VERSION, Transition};
use crate::model::taxonomy::Meaning;
use crate::model::time::EventTime;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::hash::{Hash as _, Hasher as _};
use xxhash_rust::xxh3::xxh3_64;

/// What has been published of one instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Published {
    pub(super) kind: CheckoutKind,
    /// Fingerprint of its first event when it was first published: names it for good.
    #[serde(with = "postcard::fixint::le")]
    pub(super) anchor: u64,
    /// Records so far.
    pub(super) revision: i64,
    pub(super) started: Option<EventTime>,
    /// Fingerprints of the steps and failures published, each with what it said.
    pub(super) told: Vec<(u64, u64)>,
    /// How it ended, as published.
    pub(super) outcome: Vec<Told>,
    /// Hash of all that the records rest on: while it is the same, there is nothing to say. 0 if it
    /// is not known, as after a restore.
    #[serde(skip)]
    pub(super) rests_on: u64,
}

/// A transition of an outcome as it was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Told {
    transition: Transition,
    at: EventTime,
    /// Hash of what else it said; 0 for a settled one, which nothing changes.
    #[serde(with = "postcard::fixint::le")]
    content: u64,
}

/// The transitions that lead to a state.
pub(super) fn outcome_of(state: State) -> Vec<Told> {
    let told = |transition, at| Told { transition, at, content: 0 };
    match state {
        State::Open => vec![],
        State::Completed(by) => vec![told(Transition::Completed, by.time)],
        State::Abandoned { deadline } => vec![told(Transition::Abandoned, deadline)],
        State::Recovered { deadline, by } => {
            vec![told(Transition::Abandoned, deadline), told(Transition::Recovered, by.time)]
        }
        State::Expired(at) => vec![told(Transition::Expired, at)],
    }
}

impl Instance {
    /// Latest known values at `at`, or with the event at `place`.
    pub(super) fn face_at<'a>(
        &'a self,
        events: &'a [RichEvent],
        at: EventTime,
        place: Option<usize>,
    ) -> View<'a> {
        let mut face = self.face.as_deref().map(Face::view).unwrap_or_default();
        // After abandonment activity changes nothing, only a completion does.
        let deadline = self.abandoned_at();
        for event in &self.events {
            let rich = &events[*event];
            let counts = rich.meaning == Meaning::CheckoutComplete
                || deadline.is_none_or(|deadline| rich.time() <= deadline);
            if counts && rich.time() <= at && place.is_none_or(|place| *event <= place) {
                face.update(rich);
            }
        }
        face
    }
}

/// Publishes what is new about the derived instances; `published` follows.
pub(super) fn publish(
    who: &Who,
    derived: &[Instance],
    events: &[RichEvent],
    seeds: &[Seed],
    published: &mut Vec<Published>,
    ctx: &mut Context<'_>,
) {
    for instance in derived.iter().filter(|i| !i.events.is_empty()) {
        let visible: SmallVec<[Entry; 6]> =
            instance.transitions().into_iter().filter(|e| ctx.passed(e.at)).collect();
        let seed = instance.seed.map(|place| &seeds[place]);
        if let Some(seed) = seed
            && !published.iter().any(|p| p.kind == instance.kind && p.anchor == seed.anchor)
        {
            published.reserve_exact(1);
            published.push(seed.published());
        }
        let place_of = |p: &Published| match seed {
            Some(seed) if seed.anchor == p.anchor => Some(0),
            _ => instance
                .events
                .iter()
                .position(|event| events[*event].fingerprint() == p.anchor)
                .map(|place| place + 1),
        };
        let mut own: SmallVec<[(usize, usize); 4]> = published
            .iter()
            .enumerate()
            .filter(|(_, p)| p.kind == instance.kind && starts_one(p, instance, events))
            .filter_map(|(at, p)| place_of(p).map(|place| (place, at)))
            .collect();
        own.sort_unstable();
        let survivor = match own.first() {
            Some((_, at)) => *at,
            None if visible.is_empty() => continue,
            None => {
                published.reserve_exact(1);
                published.push(Published {
                    kind: instance.kind,
                    anchor: events[instance.events[0]].fingerprint(),
                    revision: 0,
                    started: None,
                    told: Vec::new(),
                    outcome: Vec::new(),
                    rests_on: 0,
                });
                published.len() - 1
            }
        };
        let teller = Teller { who, instance, events };
        let rests_on = teller.rests_on(&visible, seed);
        if own.len() <= 1 && published[survivor].rests_on == rests_on {
            continue;
        }
        published[survivor].rests_on = rests_on;
        let into = published[survivor].anchor;
        let mut younger: Vec<usize> = own.iter().skip(1).map(|(_, at)| *at).collect();
        for at in &younger {
            teller.merge(&mut published[*at], into, ctx);
        }
        teller.tell(&mut published[survivor], &visible, ctx);
        younger.sort_unstable();
        for at in younger.into_iter().rev() {
            published.remove(at);
        }
    }
}

/// A completion belongs to its checkout and to a cart: it names a cart only if the cart is of it.
fn starts_one(published: &Published, instance: &Instance, events: &[RichEvent]) -> bool {
    published.kind == CheckoutKind::Checkout
        || instance.seed.is_some()
        || instance.events.iter().any(|place| {
            events[*place].fingerprint() == published.anchor
                && events[*place].meaning == Meaning::Cart
        })
}

struct Teller<'a> {
    who: &'a Who,
    instance: &'a Instance,
    events: &'a [RichEvent],
}

impl Teller<'_> {
    /// Hash of what the records rest on: the events, which do not change, and the transitions.
    fn rests_on(&self, visible: &[Entry], seed: Option<&Seed>) -> u64 {
        let mut bytes: SmallVec<[u8; 256]> = SmallVec::new();
        let mut push = |number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        push(seed.map_or(0, |seed| seed.anchor));
        push(self.instance.events.len() as u64);
        for place in &self.instance.events {
            push(self.events[*place].fingerprint());
        }
        for entry in visible {
            push(entry.transition as u64);
            push(entry.at.as_ms().cast_unsigned());
            push(entry.event.map_or(u64::MAX, |place| place as u64));
        }
        xxh3_64(&bytes).max(1)
    }

    fn tell(&self, published: &mut Published, visible: &[Entry], ctx: &mut Context<'_>) {
        let told =
            |e: &Entry| Told { transition: e.transition, at: e.at, content: self.content(e, ctx) };
        let mut outcome: Vec<Told> =
            visible.iter().filter(|e| e.transition.is_outcome()).map(told).collect();
        if self.instance.seed.is_some() {
            // A settled instance's own outcome is not among the transitions of its later events.
            let mut full = outcome_of(self.instance.state);
            full.retain(|t| ctx.passed(t.at));
            for told in &mut full {
                let is = |o: &&Told| (o.transition, o.at) == (told.transition, told.at);
                *told = outcome.iter().find(is).copied().unwrap_or(*told);
            }
            outcome = full;
        }
        let abandoned =
            |list: &[Told]| list.iter().find(|t| t.transition == Transition::Abandoned).copied();
        let recovered = |list: &[Told]| list.iter().any(|t| t.transition == Transition::Recovered);
        // What recovered it may turn out to be another's: then only the abandonment is left.
        let still = recovered(&outcome) || !recovered(&published.outcome);
        if let Some(told) = abandoned(&published.outcome)
            && (abandoned(&outcome) != Some(told) || !still)
        {
            let at = outcome.last().map_or(self.last_activity(EventTime::MAX), |told| told.at);
            let entry = Entry { transition: Transition::Retracted, at, event: None };
            self.say(published, &entry, None, ctx);
            published.outcome.clear();
        }
        for entry in visible {
            match entry.transition {
                Transition::Started => {
                    if published.started != Some(entry.at) {
                        self.say(published, entry, None, ctx);
                        published.started = Some(entry.at);
                    }
                }
                Transition::Step | Transition::PaymentFailed => {
                    self.tell_step(published, entry, ctx);
                }
                transition => {
                    let is = |t: &&Told| (t.transition, t.at) == (transition, entry.at);
                    let now = outcome.iter().find(is);
                    if now.is_none_or(|now| !published.outcome.contains(now)) {
                        self.say(published, entry, None, ctx);
                    }
                }
            }
        }
        outcome.shrink_to_fit();
        published.outcome = outcome;
    }

    /// Says a step or a failed payment, if it has not been said like this.
    fn tell_step(&self, published: &mut Published, entry: &Entry, ctx: &mut Context<'_>) {
        let Some(place) = entry.event else { return };
        let fingerprint = self.events[place].fingerprint();
        let told = (fingerprint, self.content(entry, ctx));
        match published.told.iter_mut().find(|(of, _)| *of == fingerprint) {
            Some(before) if *before == told => return,
            Some(before) => *before = told,
            None => {
                published.told.reserve_exact(1);
                published.told.push(told);
            }
        }
        self.say(published, entry, None, ctx);
    }

    /// Hash of what a record says beside its transition, time and names.
    fn content(&self, entry: &Entry, ctx: &Context<'_>) -> u64 {
        let face = self.instance.face_at(self.events, entry.at, entry.event);
        // By time alone it rests on the last activity, which its record names.
        let rests_on = entry.event.is_none().then(|| self.last_activity(entry.at).as_ms());
        let channel = ctx.profiles.get(self.profile(entry)).channel.as_str();
        let mut hasher = Pieces::default();
        (channel, rests_on, &face.texts, face.step, face.value, face.currency).hash(&mut hasher);
        hasher.finish().max(1)
    }

    /// Where the event is at home that a transition rests on.
    fn profile(&self, entry: &Entry) -> ProfileId {
        let instance = self.instance;
        match (entry.event, entry.transition, instance.started()) {
            (Some(place), ..) => self.events[place].profile(),
            (None, Transition::Started, Some(start)) => start.profile,
            _ => {
                let active = self.activity(entry.at).or(instance.last);
                active.map_or(self.events[instance.events[0]].profile(), |point| point.profile)
            }
        }
    }

    /// The last record of one that turned out to be part of an older one.
    fn merge(&self, published: &mut Published, into: u64, ctx: &mut Context<'_>) {
        let abandoned = published.outcome.iter().any(|t| t.transition == Transition::Abandoned);
        let transition = if abandoned { Transition::Retracted } else { Transition::Expired };
        let at = self.last_activity(EventTime::MAX);
        self.say(published, &Entry { transition, at, event: None }, Some(into), ctx);
    }

    /// Time of the latest activity up to `at`.
    fn last_activity(&self, at: EventTime) -> EventTime {
        let kept = self.activity(at).map(|point| point.time);
        kept.or(self.instance.last.map(|l| l.time)).unwrap_or(at)
    }

    /// The latest activity among the kept events up to `at`.
    fn activity(&self, at: EventTime) -> Option<Point> {
        let activity = self.instance.events.iter().map(|place| &self.events[*place]).filter(|e| {
            (e.meaning.is_checkout_activity() || e.meaning == Meaning::Cart) && e.time() <= at
        });
        activity.max_by_key(|e| e.time()).map(|e| Point { time: e.time(), profile: e.profile() })
    }

    fn say(
        &self,
        published: &mut Published,
        entry: &Entry,
        merged_into: Option<u64>,
        ctx: &mut Context<'_>,
    ) {
        let instance = self.instance;
        let channel = ctx.profiles.get(self.profile(entry)).channel.clone();
        ctx.counts.checkout(published.kind, &channel, entry.transition);
        if !ctx.settings.transitions.contains(&entry.transition) {
            return;
        }
        let tenant = ctx.profiles.tenant(self.who.tenant).clone();
        let word = match published.kind {
            CheckoutKind::Checkout => "checkout",
            CheckoutKind::Cart => "cart",
        };
        let name = |anchor| name_of(word, &tenant, &self.who.customer, anchor);
        let face = instance.face_at(self.events, entry.at, entry.event);
        let currency = face.currency.map(|id| CompactString::from(ctx.profiles.currency(id)));
        let record = CheckoutRecord {
            schema_version: SCHEMA_VERSION,
            id: ctx.ids.next(),
            instance: name(published.anchor),
            kind: published.kind,
            transition: entry.transition,
            revision: published.revision,
            at: entry.at,
            decided_at: ctx.clock.unwrap_or(entry.at),
            started_at: instance.started().map_or(entry.at, |start| start.time),
            last_activity: self.last_activity(entry.at),
            step: face.step,
            step_name: face.text(Detail::StepName),
            channel,
            value: face.value,
            currency,
            payment_method: face.text(Detail::PaymentMethod),
            shipping_method: face.text(Detail::ShippingMethod),
            coupon: face.text(Detail::Coupon),
            account_type: face.text(Detail::AccountType),
            error_code: face.text(Detail::ErrorCode),
            correlated_by: instance.by.unwrap_or(By::Session).name().into(),
            merged_into: merged_into.map(name),
            customer: self.who.customer.clone(),
            tenant,
        };
        published.revision += 1;
        ctx.say(Fact::Checkout(Box::new(record)));
    }
}
