//! The stream of what arrives: visits by a daily pattern, their lines out of order, late, repeated and
//! spoilt.
//!
//! Memory is bounded by what is under way: scripts of visits in progress, follow-ups of the next
//! hours, and one number per customer. Arrival is measured on the clock of event time, and nothing
//! arrives before it happened.

use super::plan::Plan;
use super::rng::{Rng, mix};
use super::visit::{self, Line, Who};
use crate::model::time::{EventTime, Millis};
use crate::model::touchpoint::Touchpoint;
use std::collections::{BTreeMap, BTreeSet};

/// What one emission is.
#[derive(Clone, PartialEq, Debug)]
pub enum Payload {
    /// A touchpoint, for the first time.
    Touchpoint(Box<Touchpoint>),
    /// A touchpoint that was there before.
    Duplicate(Box<Touchpoint>),
    /// A touchpoint that comes hours late: every partition count must find it too late.
    TooLate(Box<Touchpoint>),
    /// One line of bytes that nobody can read; UTF-8, without a line end.
    Poison(Vec<u8>),
}

impl Payload {
    /// The touchpoint, unless it is poison.
    pub fn touchpoint(&self) -> Option<&Touchpoint> {
        match self {
            Payload::Touchpoint(t) | Payload::Duplicate(t) | Payload::TooLate(t) => Some(t),
            Payload::Poison(_) => None,
        }
    }
}

/// One record as it arrives.
#[derive(Clone, PartialEq, Debug)]
pub struct Emitted {
    /// Place in the order of arrival, from 0.
    pub index: u64,
    /// When it is written, on the clock of event time; never falling.
    pub arrival: EventTime,
    /// What it is.
    pub payload: Payload,
}

/// Touchpoints per visit, on average: measured, so that [`Plan::rate`] is met.
const PER_VISIT: f64 = 8.3;
/// Customers with an account for each touchpoint per second.
const CUSTOMERS_PER_RATE: f64 = 5_000.0;
/// Latest arrival of a late event: the journey's allowed lateness is an hour.
const LATE_MAX: i64 = 50 * 60_000;

/// Chance that a touchpoint comes out of order, late, twice; and that something spoilt follows it.
const OUT_OF_ORDER: f64 = 0.01;
const LATE: f64 = 0.005;
const TWICE: f64 = 0.003;
const POISON: f64 = 0.0005;

/// The traffic of a plan: endless unless the plan says where it ends.
pub struct Generator {
    plan: Plan,
    /// When visits begin, and who visits.
    rng: Rng,
    visits: u64,
    next_visit: EventTime,
    /// Until when each customer's last visit goes on.
    busy: Vec<EventTime>,
    /// What is under way, by arrival and number.
    pending: BTreeMap<(EventTime, u64), Payload>,
    scheduled: u64,
    emitted: u64,
    touchpoints: u64,
}

impl Generator {
    /// Starts the traffic of `plan`.
    pub fn new(plan: Plan) -> Generator {
        let customers = (plan.rate * CUSTOMERS_PER_RATE).clamp(200.0, 2_000_000.0) as usize;
        let mut generator = Generator {
            rng: Rng::new(mix(&[plan.seed, 0x7a0f])),
            visits: 0,
            next_visit: plan.start,
            busy: vec![EventTime::MIN; customers],
            pending: BTreeMap::new(),
            scheduled: 0,
            emitted: 0,
            touchpoints: 0,
            plan,
        };
        generator.pass_time();
        generator
    }

    /// Moves on to the next visit's start.
    fn pass_time(&mut self) {
        let per_second =
            self.plan.rate / PER_VISIT * daily(self.next_visit) * self.plan.boost(self.next_visit);
        let wait = self.rng.exponential(1_000.0 / per_second.max(1e-9)).min(3_600_000.0);
        self.next_visit = self.next_visit.plus(Millis::from_ms(wait as i64));
    }

    fn begin_visit(&mut self) {
        let start = self.next_visit;
        let who = self.choose(start);
        let lines = visit::script(&self.plan, self.visits, start, who.clone());
        if let (Who::Known(customer), Some(line)) = (who, lines.last()) {
            self.busy[customer as usize] = line.touchpoint.event_time;
        }
        for (n, line) in (0u64..).zip(lines) {
            if !self.plan.silent(&line.touchpoint.channel, line.touchpoint.event_time) {
                self.deliver(n, line);
            }
        }
        self.visits += 1;
        self.pass_time();
    }

    /// Who comes: never somebody whose last visit (its follow-ups included) still goes on.
    fn choose(&mut self, at: EventTime) -> Who {
        match self.rng.unit() {
            u if u < 0.01 => Who::Nobody,
            u if u < 0.013 => Who::Guest,
            u if u < 0.25 => Who::Anonymous,
            _ => {
                let customers = self.busy.len() as u64;
                let tried: BTreeSet<u64> = (0..8).map(|_| self.rng.below(customers)).collect();
                let free = tried.into_iter().find(|c| self.busy[*c as usize] < at);
                free.map_or(Who::Anonymous, Who::Known)
            }
        }
    }

    /// Decides when a line arrives, and what else does.
    fn deliver(&mut self, n: u64, line: Line) {
        // A stream of its own: what happens to one line changes no other.
        let mut rng = Rng::new(mix(&[self.plan.seed, self.visits, n, 0xa441]));
        let at = line.touchpoint.event_time;
        let after = |ms: i64| at.plus(Millis::from_ms(ms));
        let touchpoint = Box::new(line.touchpoint);
        let has_customer = touchpoint.customer_id.is_some() || touchpoint.anonymous_id.is_some();
        let filtered = touchpoint.is_bot || touchpoint.is_test;
        let (spoilt, twice, way) = (rng.chance(POISON), rng.chance(TWICE), rng.unit());
        if spoilt {
            let bytes = spoil(&touchpoint, &mut rng);
            self.schedule(after(0), Payload::Poison(bytes));
        }
        if line.inner && has_customer && !filtered && rng.chance(self.plan.too_late()) {
            let behind = rng.between(2 * 3_600_000, 5 * 3_600_000);
            return self.schedule(after(behind), Payload::TooLate(touchpoint));
        }
        if way < LATE {
            return self
                .schedule(after(rng.between(10_000, LATE_MAX)), Payload::Touchpoint(touchpoint));
        }
        let delay = if way < LATE + OUT_OF_ORDER { rng.between(200, 4_900) } else { 0 };
        if twice && has_customer {
            let again = after(delay + rng.between(1_000, 600_000));
            self.schedule(again, Payload::Duplicate(touchpoint.clone()));
        }
        self.schedule(after(delay), Payload::Touchpoint(touchpoint));
    }

    fn schedule(&mut self, arrival: EventTime, payload: Payload) {
        self.pending.insert((arrival, self.scheduled), payload);
        self.scheduled += 1;
    }
}

impl Iterator for Generator {
    type Item = Emitted;

    fn next(&mut self) -> Option<Emitted> {
        if self.plan.events.is_some_and(|n| self.touchpoints >= n) {
            return None;
        }
        // All that a visit sends arrives at its start or later, so the queue's head is next once it
        // lies before the next visit.
        while self.pending.keys().next().is_none_or(|(at, _)| *at >= self.next_visit) {
            if self.plan.until.is_some_and(|until| self.next_visit >= until) {
                break;
            }
            self.begin_visit();
        }
        let ((arrival, _), payload) = self.pending.pop_first()?;
        if self.plan.until.is_some_and(|until| arrival >= until) {
            return None;
        }
        self.touchpoints +=
            u64::from(matches!(payload, Payload::Touchpoint(_) | Payload::TooLate(_)));
        let index = self.emitted;
        self.emitted += 1;
        Some(Emitted { index, arrival, payload })
    }
}

/// Traffic at `at` as a share of the daily mean: smooth, highest at 16:00 UTC, a tenth of that at 4:00.
fn daily(at: EventTime) -> f64 {
    let hour = at.as_ms().rem_euclid(86_400_000) as f64 / 3_600_000.0;
    let wave = 0.5 - 0.5 * ((hour - 4.0) / 24.0 * std::f64::consts::TAU).cos();
    (0.1 + 0.9 * wave) / 0.55
}

/// One line that cannot be used: broken off, a required field missing, or of the wrong type.
fn spoil(touchpoint: &Touchpoint, rng: &mut Rng) -> Vec<u8> {
    let (id, at) = (&touchpoint.id, touchpoint.event_time.as_ms());
    let whole = format!(
        r#"{{"id":"poison-{id}","source":"web","event_time":{at},"channel":"web","touchpoint":"page","action":"view"}}"#
    );
    match rng.below(4) {
        0 => whole.as_bytes()[..whole.len() / 2].to_vec(),
        1 => whole.replace(r#""channel":"web","#, "").into_bytes(),
        2 => whole.replace(&format!(r#""event_time":{at}"#), r#""event_time":{}"#).into_bytes(),
        _ => format!("not a record at all: {id}").into_bytes(),
    }
}

#[cfg(test)]
mod tests;
