//! Checkouts and carts of one customer: a pure derivation over the set of its events, made anew
//! whenever the set or the clock moves, and the difference to what was said before.
//!
//! | file | what |
//! | --- | --- |
//! | `event` | what is kept of an event |
//! | `closure` | which ids name the same thing |
//! | `derive` | which events are one checkout |
//! | `carts` | the same for carts |
//! | `instance` | the state machine of one |
//! | `figures` | what they count for |
//! | `publish` | what is said about them |
//! | `packed` | how they are kept |
//! | `seed` | what is left when nothing but a recovery can come |
//!
//! Limits: [`SEEN_MAX`] events that the clock has passed are kept per customer, [`EVENTS_MAX`] in all,
//! and [`SEEDS_MAX`] settled instances; beyond them the oldest settle early. Whoever has more than
//! [`CROWDED`] of the former is looked at once in [`CROWDED_EVERY`]. Records follow all events, figures
//! only those that were not too late: a completion that is too late is published, and counted nowhere.

mod carts;
mod closure;
mod derive;
mod event;
mod figures;
mod instance;
mod packed;
mod publish;
mod seed;

pub(super) use event::RichEvent;
pub(super) use packed::Packed;

use super::cells::Post;
use super::context::{Context, Who};
use super::customer::Stored;
use super::session_records::Earned;
use crate::model::record::CheckoutKind;
use crate::model::taxonomy::Meaning;
use crate::model::time::{EventTime, Millis, SliceGrid};
use closure::Closure;
use event::ORDER_KEY;
use figures::{Figured, OrdersDone, figures};
use instance::{Instance, Rules};
use publish::Published;
use seed::{Kept, Seed};
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};
use std::collections::BTreeMap;

/// Events kept per customer that the clock has passed, and with those that it has not; beyond it the
/// oldest settle before their time.
const SEEN_MAX: usize = 512;
const EVENTS_MAX: usize = 4_096;
/// So many settle at once then, at least: each time all are derived anew.
const SETTLED_MIN: usize = 64;
/// A customer with more events than this that the clock has passed is looked at once in
/// [`CROWDED_EVERY`] of event time, and not at each event: as all are derived from all, each would cost
/// more the more there are.
const CROWDED: usize = 128;
const CROWDED_EVERY: Millis = Millis::from_secs(1);
/// How often it is tried to settle what could not be settled when it was due.
const SETTLE_EVERY: Millis = Millis::from_mins(15);
/// Settled instances kept per customer.
const SEEDS_MAX: usize = 128;

/// Checkouts and carts of one customer.
#[derive(Default, Debug, Serialize, Deserialize)]
pub(super) struct Checkouts {
    /// Sorted by the customer's order.
    events: Vec<RichEvent>,
    seeds: Vec<Seed>,
    published: Vec<Published>,
    /// What has been counted for instances that are not settled; sorted.
    posted: Vec<Post>,
    earned: Vec<Earned>,
    orders_done: OrdersDone,
    /// When the derivation has something new to say by time alone.
    due: Option<EventTime>,
    /// True if the set of events or their sessions have changed since the last derivation.
    stale: bool,
    /// The clock at the last derivation: the events that it had passed were seen then.
    seen_at: Option<EventTime>,
    /// Nothing could settle at the last try: not tried again before the clock has passed this.
    settle_after: Option<EventTime>,
}

/// Some of a customer's events, in their order.
type Events<'a> = SmallVec<[&'a RichEvent; 16]>;

/// Checkouts, then carts, as derived from one set of events when time has passed up to `clock`.
fn derive(
    seeds: &[Seed],
    events: &[&RichEvent],
    clock: Option<EventTime>,
    ctx: &Context<'_>,
) -> (Vec<Instance>, Vec<Instance>) {
    let rules = Rules { settings: ctx.settings, profiles: ctx.profiles };
    let closure = Closure::of(seeds, events);
    let checkouts = derive::checkouts(seeds, events, &closure, clock, rules);
    let carts = carts::carts(seeds, events, &closure, &checkouts, clock, rules);
    (checkouts, carts)
}

impl Checkouts {
    /// True if an event of this fingerprint is kept, with a time within `window_ms` of `time`.
    pub(super) fn knows(&self, time: EventTime, fingerprint: u64, window_ms: i64) -> bool {
        self.events.iter().any(|e| {
            e.fingerprint() == fingerprint && time.since(e.time()).as_ms().abs() <= window_ms
        })
    }

    /// Keeps an event, and returns when it is to be seen: nothing rests on it before the clock has
    /// passed that.
    pub(super) fn add(&mut self, event: RichEvent, ctx: &Context<'_>) -> EventTime {
        let order = event.stored.order();
        let at = self.events.partition_point(|e| e.stored.order() < order);
        let seen = match ctx.passed(event.time()) {
            true => {
                self.stale = true;
                event.time()
            }
            false => {
                let seen = self.seen_from(event.time(), ctx);
                self.due = Some(self.due.map_or(seen, |due| due.min(seen)));
                seen
            }
        };
        if self.events.len() == self.events.capacity() {
            self.events.reserve_exact(1 + self.events.len() / 16);
        }
        self.events.insert(at, event);
        seen
    }

    /// When an event of this time is to be seen: as soon as the clock has passed it, or a little later
    /// together with others.
    fn seen_from(&self, time: EventTime, ctx: &Context<'_>) -> EventTime {
        let grid = SliceGrid::new(CROWDED_EVERY);
        match self.number_seen(ctx) > CROWDED {
            true => grid.end(grid.slice(time)),
            false => time,
        }
    }

    /// Gives the events the sessions that they belong to now.
    pub(super) fn reassign(&mut self, session_of: impl Fn(&Stored) -> Option<u64>) {
        for event in &mut self.events {
            let session = session_of(&event.stored).unwrap_or(event.session);
            self.stale |= session != event.session;
            event.session = session;
        }
    }

    /// Money of orders, by session.
    pub(super) fn earned(&self) -> &[Earned] {
        &self.earned
    }

    /// True if nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.seeds.is_empty() && self.orders_done.is_empty()
    }

    /// Derives everything anew and says what is new: signed counts first, then records. Returns the
    /// sessions whose money changed. Sessions in `live` may still change.
    pub(super) fn rethink(
        &mut self,
        who: &Who,
        live: impl FnOnce(&Context<'_>) -> SmallVec<[u64; 8]>,
        ctx: &mut Context<'_>,
    ) -> Vec<u64> {
        if !self.stale && !self.due.is_some_and(|due| ctx.passed(due)) {
            return Vec::new();
        }
        self.forget(ctx);
        // Whatever can have settled has, before the next event is seen, so that what it joins does not
        // depend on when anybody looked in between.
        let before = |e: &RichEvent| self.seen_at.is_some_and(|clock| clock > e.time());
        let before = self.events.partition_point(before);
        if !self.stale && before > 0 && self.events[0].time() < ctx.floor() {
            let live = live(ctx);
            self.settle_among(before, &live, ctx);
        }
        self.stale = false;
        self.seen_at = ctx.clock;
        let (checkouts, carts, figured) = self.derived(self.number_seen(ctx), ctx);
        let touched = self.correct(figured, ctx);
        for kind in [&checkouts, &carts] {
            let published = &mut self.published;
            publish::publish(who, kind, &self.events, &self.seeds, published, ctx);
        }
        self.due = self.fate(&checkouts, &carts, ctx);
        touched
    }

    /// Checkouts and carts of the first `seen` events, and what they amount to.
    fn derived(&self, seen: usize, ctx: &Context<'_>) -> (Vec<Instance>, Vec<Instance>, Figured) {
        let seen = self.first(seen);
        let (checkouts, carts) = derive(&self.seeds, &seen, self.seen_at, ctx);
        let figured = self.figured(&checkouts, &seen, ctx);
        (checkouts, carts, figured)
    }

    /// How many events the clock has passed: all rests on these, as nothing that is not late can come
    /// between them any more, and so does not depend on the order of arrival.
    fn number_seen(&self, ctx: &Context<'_>) -> usize {
        self.events.partition_point(|e| ctx.passed(e.time()))
    }

    fn first(&self, n: usize) -> Events<'_> {
        self.events[..n].iter().collect()
    }

    /// When the clock alone makes something new: an instance is decided, or an event is seen.
    fn fate(
        &self,
        checkouts: &[Instance],
        carts: &[Instance],
        ctx: &Context<'_>,
    ) -> Option<EventTime> {
        let next = self.events.get(self.number_seen(ctx)).map(|e| self.seen_from(e.time(), ctx));
        [next, due(checkouts, carts, ctx)].into_iter().flatten().min()
    }

    /// Figures rest on those that were not too late; `checkouts` are derived from all that were seen.
    fn figured(&self, checkouts: &[Instance], seen: &[&RichEvent], ctx: &Context<'_>) -> Figured {
        if !seen.iter().any(|e| e.late) {
            return figures(checkouts, seen, &self.seeds, &self.orders_done, ctx);
        }
        let timely: Events<'_> = seen.iter().copied().filter(|e| !e.late).collect();
        let closure = Closure::of(&self.seeds, &timely);
        let rules = Rules { settings: ctx.settings, profiles: ctx.profiles };
        let checkouts = derive::checkouts(&self.seeds, &timely, &closure, self.seen_at, rules);
        figures(&checkouts, &timely, &self.seeds, &self.orders_done, ctx)
    }

    /// Counts the difference to what has been counted; returns the sessions whose money changed.
    fn correct(&mut self, figured: Figured, ctx: &mut Context<'_>) -> Vec<u64> {
        let steps = difference(&self.posted, &figured.posts);
        if !steps.is_empty() {
            steps.iter().for_each(|(post, sign)| ctx.post_all(post, *sign));
            self.posted = figured.posts.to_vec();
        }
        if self.earned == figured.earned {
            return Vec::new();
        }
        let old = std::mem::replace(&mut self.earned, figured.earned);
        self.earned.shrink_to_fit();
        let changed = |a: &[Earned], b: &[Earned]| -> Vec<u64> {
            a.iter().filter(|e| !b.contains(e)).map(|e| e.session).collect()
        };
        let mut touched = changed(&old, &self.earned);
        touched.extend(changed(&self.earned, &old));
        touched
    }

    /// Forgets what is older than any look-back.
    fn forget(&mut self, ctx: &Context<'_>) {
        if let Some(watermark) = ctx.watermark {
            let published = &self.published;
            // A seed that goes on keeps its place while it does.
            let in_use = |seed: &Seed| published.iter().any(|p| p.anchor == seed.anchor);
            self.seeds.retain(|seed| seed.until >= watermark || in_use(seed));
            self.orders_done.retain(|(_, until)| *until >= watermark);
        }
    }

    /// Turns instances that nothing in time can change into seeds, the oldest first, and forgets
    /// what is older than any look-back. Sessions in `live` may still change.
    pub(super) fn settle(&mut self, live: &[u64], ctx: &mut Context<'_>) {
        self.forget(ctx);
        let old = self.events.first().is_some_and(|e| e.time() < ctx.floor());
        let waits = self.settle_after.is_some_and(|at| !ctx.passed(at));
        let seen = self.number_seen(ctx);
        if (!old || waits) && !self.is_full(seen) {
            return;
        }
        self.settle_after = match self.settle_among(seen, live, ctx) {
            true => None,
            false => ctx.clock.map(|clock| clock.plus(SETTLE_EVERY)),
        };
    }

    /// True if there is no room for more, `seen` of them passed by the clock.
    fn is_full(&self, seen: usize) -> bool {
        seen > SEEN_MAX || self.events.len() > EVENTS_MAX
    }

    /// Settles what can be among the first `seen` events; false if there is nothing.
    fn settle_among(&mut self, seen: usize, live: &[u64], ctx: &Context<'_>) -> bool {
        if !self.is_full(seen) && self.events.first().is_none_or(|e| live.contains(&e.session)) {
            return false;
        }
        // What has not been said yet does not settle.
        let (checkouts, carts) = derive(&self.seeds, &self.first(seen), self.seen_at, ctx);
        let cut = self.settled_before((&checkouts, &carts), seen, live, ctx);
        if cut > 0 {
            self.drop_first(cut, (&checkouts, &carts), seen, ctx);
        }
        cut > 0
    }

    /// Drops the first `cut` of the `seen` events; the instances that they make up become seeds.
    fn drop_first(
        &mut self,
        cut: usize,
        (checkouts, carts): (&[Instance], &[Instance]),
        seen: usize,
        ctx: &Context<'_>,
    ) {
        let closure = Closure::of(&self.seeds, &self.first(seen));
        let settings = ctx.settings;
        let keep = settings.max_recovery.max(settings.t_merge);
        for instance in checkouts.iter().chain(carts) {
            let gone = instance.events.first().is_some_and(|place| *place < cut);
            if gone {
                let latest = instance.latest(&self.events);
                let until = latest.plus(keep).plus(settings.allowed_lateness);
                self.plant(instance, until, &closure);
            }
        }
        for event in &self.events[..cut] {
            if event.meaning == Meaning::StorePurchase && event.keys[ORDER_KEY] != 0 {
                let until = event.time().plus(keep).plus(settings.allowed_lateness);
                self.orders_done.reserve_exact(1);
                self.orders_done.push((event.keys[ORDER_KEY], until));
            }
        }
        self.events.drain(..cut);
        self.events.shrink_to_fit();
        let excess = self.seeds.len().saturating_sub(SEEDS_MAX);
        self.seeds.drain(..excess);
        // What the settled ones counted for stays counted.
        let (checkouts, carts, figured) = self.derived(seen.saturating_sub(cut), ctx);
        self.due = self.fate(&checkouts, &carts, ctx);
        self.posted = figured.posts.to_vec();
        self.earned = figured.earned;
        self.earned.shrink_to_fit();
    }

    /// Makes a seed of an instance; one that goes on from a seed replaces it.
    fn plant(&mut self, instance: &Instance, until: EventTime, closure: &Closure) {
        let seed = instance.seed.map(|place| self.seeds[place].clone());
        let anchored = |p: &Published| {
            p.kind == instance.kind
                && (seed.as_ref().is_some_and(|seed| seed.anchor == p.anchor)
                    || instance.events.iter().any(|e| self.events[*e].fingerprint() == p.anchor))
        };
        let Some(at) = self.published.iter().position(anchored) else { return };
        let published = self.published.remove(at);
        self.published.shrink_to_fit();
        let own = instance.events.iter().map(|place| &self.events[*place]);
        let completions =
            || own.clone().filter(|e| e.meaning == Meaning::CheckoutComplete && !e.late);
        let keys = completions().map(|e| e.keys[ORDER_KEY]);
        let mut orders: Vec<u64> = keys.filter(|key| *key != 0).collect();
        let mut ordered = completions().next().is_some();
        if let Some(seed) = &seed {
            orders.extend(seed.orders.iter().copied());
            ordered |= seed.ordered;
        }
        let kept = Kept { orders, ordered, until };
        let planted = Seed::of(instance, &published, &self.events, closure, kept);
        match instance.seed {
            Some(place) => self.seeds[place] = planted,
            None => {
                self.seeds.reserve_exact(1);
                self.seeds.push(planted);
            }
        }
    }

    /// Number of events, from the oldest, whose instances are all settled and do not reach beyond
    /// them; the instances are those of the first `seen`.
    fn settled_before(
        &self,
        (checkouts, carts): (&[Instance], &[Instance]),
        seen: usize,
        live: &[u64],
        ctx: &Context<'_>,
    ) -> usize {
        let floor = ctx.floor();
        let full = self.is_full(seen);
        // Up to where each event's instances reach; `None` if one of them is not settled.
        let mut reach: SmallVec<[Option<usize>; 16]> = (0..self.events.len()).map(Some).collect();
        let mut assigned: SmallVec<[bool; 32]> = smallvec![false; self.events.len()];
        for instance in checkouts.iter().chain(carts) {
            let Some(last) = instance.events.last() else { continue };
            let decided = instance.decided_at().is_some_and(|at| ctx.passed(at));
            let old = instance.latest(&self.events) < floor;
            for place in &instance.events {
                assigned[*place] = true;
                reach[*place] = reach[*place].filter(|_| decided && (old || full));
                reach[*place] = reach[*place].map(|far| far.max(*last));
            }
        }
        // What belongs to none (a cancellation of nothing) still connects keys of later events.
        let seen = self.first(seen);
        let closure = Closure::of(&self.seeds, &seen);
        let root = |event: &RichEvent| event.own_keys().find_map(|key| closure.root(key));
        if assigned[..seen.len()].contains(&false) {
            let mut last_of: BTreeMap<usize, usize> = BTreeMap::new();
            last_of.extend(seen.iter().enumerate().filter_map(|(at, e)| Some((root(e)?, at))));
            for (place, event) in seen.iter().enumerate() {
                let connected = root(event).and_then(|root| last_of.get(&root));
                if let (false, Some(last)) = (assigned[place], connected) {
                    reach[place] = Some(*last);
                }
            }
        }
        let (mut cut, mut far) = (0, 0);
        for (place, event) in self.events.iter().enumerate() {
            let settled = full || (event.time() < floor && !live.contains(&event.session));
            let Some(reach) = reach[place].filter(|_| settled) else { break };
            far = far.max(reach);
            // Time in which one of them could have been joined must be over before the next event.
            let next = self.events.get(place + 1).map_or(EventTime::MAX, |e| e.time());
            let ended = |i: &Instance| {
                i.events.first().is_none_or(|first| *first > place) || i.latest(&self.events) < next
            };
            if far == place && checkouts.iter().chain(carts).all(ended) {
                cut = place + 1;
            }
        }
        match full {
            // Else the oldest events are dropped, and their instances go on without them.
            true => cut.max(SETTLED_MIN),
            false => cut,
        }
    }

    /// When to look again, by time or because something will have settled.
    pub(super) fn next_due(&self, ctx: &Context<'_>) -> Option<EventTime> {
        let settings = ctx.settings;
        // While something is undecided, nothing settles before that is.
        let settled = self.events.last().map(|e| {
            let at = e.time().max(self.due.unwrap_or(EventTime::MIN));
            at.plus(settings.allowed_lateness).plus(settings.session_gap)
        });
        let seeds = self.seeds.iter().map(|seed| seed.until);
        let forgotten = seeds.chain(self.orders_done.iter().map(|(_, until)| *until));
        // What could not be done now is tried again, but not at every record.
        let again = ctx.now.unwrap_or(EventTime::MIN).plus(SETTLE_EVERY);
        let failed = |at: EventTime| ctx.watermark.is_some_and(|watermark| watermark > at);
        let tidy = forgotten.chain(settled).map(|at| match failed(at) {
            true => again,
            false => ctx.due_by_watermark(at),
        });
        self.due.into_iter().chain(tidy).min()
    }
}

/// When the clock alone decides one of the instances.
fn due(checkouts: &[Instance], carts: &[Instance], ctx: &Context<'_>) -> Option<EventTime> {
    let rules = Rules { settings: ctx.settings, profiles: ctx.profiles };
    let fate = |i: &Instance| {
        let deadline = match i.kind {
            CheckoutKind::Checkout => i.deadline(rules),
            CheckoutKind::Cart => carts::held_deadline(i, checkouts, rules),
        };
        i.fate(deadline, rules).map(|fate| fate.at)
    };
    checkouts.iter().chain(carts).filter_map(fate).min()
}

/// What must be added (1) and taken back (−1) to get from `old` to `new`, both sorted.
fn difference(old: &[Post], new: &[Post]) -> SmallVec<[(Post, i64); 8]> {
    let (mut a, mut b) = (old.iter().peekable(), new.iter().peekable());
    let mut steps = SmallVec::new();
    loop {
        match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x == y => {
                a.next();
                b.next();
            }
            (Some(x), y) if y.is_none_or(|y| x < y) => {
                steps.push((**x, -1));
                a.next();
            }
            (_, Some(y)) => {
                steps.push((**y, 1));
                b.next();
            }
            _ => return steps,
        }
    }
}
