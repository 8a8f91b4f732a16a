//! What checkouts count for: posts of figures and cohorts, orders and their money.
//!
//! Completed and abandoned go to the series of the event that they rest on, cohorts to that of the
//! start, all to the slice of the moment that made them true. Orders count once by order id within
//! the customer, else once per checkout; the first event of an order is the one that counts.

use super::event::{ORDER_KEY, RichEvent};
use super::instance::{Instance, Point, State};
use super::seed::Seed;
use crate::journey::cells::{Post, What};
use crate::journey::context::Context;
use crate::journey::session_records::Earned;
use crate::model::taxonomy::Meaning;
use crate::model::time::EventTime;
use smallvec::{SmallVec, smallvec};

/// Orders whose events are gone: their keys, and until when they are remembered.
pub(super) type OrdersDone = Vec<(u64, EventTime)>;

/// What checkouts count for.
pub(super) type Posts = SmallVec<[Post; 8]>;

/// What a customer's checkouts amount to.
#[derive(Default, Debug)]
pub(super) struct Figured {
    /// Sorted.
    pub(super) posts: Posts,
    pub(super) earned: Vec<Earned>,
}

/// Adds up instances derived from events that were not too late.
pub(super) fn figures(
    checkouts: &[Instance],
    events: &[&RichEvent],
    seeds: &[Seed],
    done: &OrdersDone,
    ctx: &Context<'_>,
) -> Figured {
    let mut figured = Figured::default();
    let unique = unique_abandoners(checkouts, ctx);
    for (place, instance) in checkouts.iter().enumerate() {
        outcome(instance, seeds, unique.contains(&place), &mut figured.posts, ctx);
    }
    for place in orders(checkouts, events, seeds, done) {
        let event = events[place];
        let at = Point { time: event.time(), profile: event.profile() };
        figured.posts.push(post(at, What::Order, ctx));
        let minor = event.value.unwrap_or(0);
        if minor != 0 && !ctx.settings.value_of_events {
            let currency = event.currency.unwrap_or(0);
            figured.posts.push(post(at, What::Value { currency, minor }, ctx));
            figured.earned.push(Earned {
                fingerprint: event.fingerprint(),
                session: event.session,
                currency,
                minor,
            });
        }
    }
    figured.posts.sort_unstable();
    figured
}

fn post(at: Point, what: What, ctx: &Context<'_>) -> Post {
    Post { slice: ctx.grid.slice(at.time), profile: at.profile, what }
}

fn outcome(
    instance: &Instance,
    seeds: &[Seed],
    unique: bool,
    posts: &mut Posts,
    ctx: &Context<'_>,
) {
    let decided = instance.decided_at().map(|at| ctx.grid.slice(at));
    let started = instance.started();
    if let Some(seed) = instance.seed.map(|place| &seeds[place]) {
        // All else was posted before it settled.
        match (instance.state, started) {
            (State::Recovered { by, .. }, _) if matches!(seed.state(), State::Abandoned { .. }) => {
                posts.push(post(by, What::Recovered, ctx));
            }
            (State::Completed(_), Some(start)) if !seed.has_started() => {
                posts.push(post(start, What::Started, ctx));
                posts.push(post(start, What::CohortStarted, ctx));
                let completed = decided.map(What::CohortCompleted);
                posts.extend(completed.map(|what| post(start, what, ctx)));
            }
            _ => {}
        }
        return;
    }
    let mut cohort = |what: Option<What>| {
        if let (Some(start), Some(what)) = (started, what) {
            posts.push(post(start, what, ctx));
        }
    };
    cohort(Some(What::Started));
    cohort(Some(What::CohortStarted));
    match instance.state {
        State::Open => {}
        State::Completed(by) => {
            cohort(decided.map(What::CohortCompleted));
            posts.push(post(by, What::Completed, ctx));
        }
        State::Expired(_) => cohort(decided.map(What::CohortExpired)),
        State::Abandoned { deadline } | State::Recovered { deadline, .. } => {
            let at = ctx.grid.slice(deadline);
            cohort(Some(What::CohortAbandoned(at)));
            cohort(unique.then_some(What::CohortUnique(at)));
            if let Some(last) = instance.last {
                let rests_on = Point { time: deadline, profile: last.profile };
                posts.push(post(rests_on, What::Abandoned, ctx));
            }
            if let State::Recovered { by, .. } = instance.state {
                posts.push(post(by, What::Recovered, ctx));
            }
        }
    }
}

/// The abandoned ones that are the first of their run.
fn unique_abandoners(checkouts: &[Instance], ctx: &Context<'_>) -> SmallVec<[usize; 4]> {
    let mut abandoned: SmallVec<[(EventTime, usize); 4]> = checkouts
        .iter()
        .enumerate()
        .filter_map(|(place, i)| i.abandoned_at().map(|at| (at, place)))
        .collect();
    abandoned.sort_unstable();
    let mut run: Option<EventTime> = None;
    let mut unique = SmallVec::new();
    for (at, place) in abandoned {
        if run.is_none_or(|first| at > first.plus(ctx.settings.t_merge)) {
            run = Some(at);
            unique.push(place);
        }
    }
    unique
}

/// Places of the events that are an order's first.
fn orders(
    checkouts: &[Instance],
    events: &[&RichEvent],
    seeds: &[Seed],
    done: &OrdersDone,
) -> SmallVec<[usize; 4]> {
    let mut seen: SmallVec<[u64; 8]> = done.iter().map(|(key, _)| *key).collect();
    seen.extend(seeds.iter().flat_map(|seed| seed.orders.iter().copied()));
    let mut first_seen = |key: u64| {
        let is_new = !seen.contains(&key);
        if is_new {
            seen.push(key);
        }
        is_new
    };
    let mut instance_of: SmallVec<[Option<usize>; 16]> = smallvec![None; events.len()];
    // Per checkout: whether it has an order, and whether an id names that.
    let mut standing: SmallVec<[(bool, bool); 4]> = SmallVec::new();
    for (at, instance) in checkouts.iter().enumerate() {
        for place in &instance.events {
            instance_of[*place] = Some(at);
        }
        let seed = instance.seed.map(|place| &seeds[place]);
        standing.push(seed.map_or((false, false), |s| (s.ordered, !s.orders.is_empty())));
    }
    let mut places = SmallVec::new();
    for (place, event) in events.iter().enumerate() {
        let key = event.keys[ORDER_KEY];
        let counts = match (event.meaning, instance_of[place]) {
            (Meaning::StorePurchase, _) => key == 0 || first_seen(key),
            (Meaning::CheckoutComplete, Some(at)) => {
                let (ordered, named) = standing[at];
                standing[at] = (true, named || key != 0);
                // The first id that comes after an order without one names that order.
                match key {
                    0 => !ordered,
                    key => first_seen(key) && (named || !ordered),
                }
            }
            _ => false,
        };
        if counts {
            places.push(place);
        }
    }
    places
}
