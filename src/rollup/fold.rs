//! The fold itself: takes flushes, finds the next step, has every tenant concerned make it.

mod state;

use super::inbox::{Inbox, Moment};
use super::settings::{Plan, Settings};
use super::step::AlertEngine;
use super::tenant::Tenant;
use crate::engine::{Fold, Output, PART};
use crate::model::figures::Flush;
use crate::model::observation::Observation;
use crate::model::time::{EventTime, Slice};
use compact_str::CompactString;
use std::collections::{BTreeMap, BTreeSet};

pub use state::FOLD_VERSION;
pub(super) use state::{
    BUCKET, EVIDENCE, HEAD, JOURNEY, LIVE, PANES, SERIES, TENANT, VALUES, WINDOW,
};

/// What comes in.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A journey task's flush, in the order of its partition's log.
    Flush(&'a Flush),
}

/// One rollup partition.
pub struct Rollup {
    plan: Plan,
    inbox: Inbox,
    tenants: BTreeMap<CompactString, Tenant>,
    /// The next step of each tenant that needs one without new cells.
    agenda: BTreeSet<(Slice, CompactString)>,
    next: BTreeMap<CompactString, Slice>,
    alerts: Box<dyn AlertEngine + Send>,
    /// Restored keys that this configuration has no use for: the log forgets them, too.
    obsolete: BTreeSet<Vec<u8>>,
    /// True while steps that the present flush asks for are still to be made.
    underway: bool,
}

impl Rollup {
    /// A partition to which nothing has come yet.
    ///
    /// # Panics
    /// If a slide is no multiple of the slice or does not divide its window; configuration checks
    /// that first.
    pub fn new(settings: Settings, alerts: Box<dyn AlertEngine + Send>) -> Rollup {
        Rollup {
            plan: Plan::new(&settings),
            inbox: Inbox::new(&settings),
            tenants: BTreeMap::new(),
            agenda: BTreeSet::new(),
            next: BTreeMap::new(),
            alerts,
            obsolete: BTreeSet::new(),
            underway: false,
        }
    }

    /// The clock; `None` before every journey partition has reported.
    pub fn clock(&self) -> Option<EventTime> {
        self.inbox.clock()
    }

    /// The watermark; `None` while there is no clock.
    pub fn watermark(&self) -> Option<EventTime> {
        self.inbox.watermark()
    }

    /// The journey partition that holds the clock back.
    pub fn holding_back(&self) -> Option<i32> {
        self.inbox.holding_back()
    }

    /// Events taken over whose step has not come: they are applied at the end of their slice.
    pub fn waiting(&self) -> i64 {
        let of_totals = |tenant: &CompactString, series| {
            self.tenants.get(tenant).is_some_and(|tenant| tenant.is_total(series))
        };
        self.inbox.waiting(of_totals)
    }

    /// Takes over what a flush says; false if it said so before.
    fn take(&mut self, flush: &Flush, out: &mut Vec<Output>) -> bool {
        if !self.inbox.accept(flush) {
            out.push(Output::Observation(Observation::RepeatedFlush));
            return false;
        }
        for of_tenant in &flush.tenants {
            let name = &of_tenant.tenant;
            let tenant = self
                .tenants
                .entry(name.clone())
                .or_insert_with(|| Tenant::new(name.clone(), &self.plan));
            let numbers: Vec<u32> = of_tenant.series.iter().map(|s| tenant.series(s)).collect();
            self.inbox.put(flush.partition, of_tenant, &numbers);
        }
        self.inbox.report(flush);
        true
    }

    /// Makes every step whose end the clock has reached, and at which something may happen; true if
    /// there are more than one part has room for.
    fn advance(&mut self, out: &mut Vec<Output>) -> bool {
        let Some(clock) = self.inbox.clock() else { return false };
        let full = out.len() + PART;
        loop {
            let asked = self.agenda.first().map(|(step, _)| *step);
            let next = asked.into_iter().chain(self.inbox.next_step()).min();
            let Some(step) = next.filter(|step| self.plan.grid.end(*step) <= clock) else {
                return false;
            };
            if out.len() >= full {
                return true;
            }
            self.step(step, out);
        }
    }

    fn step(&mut self, step: Slice, out: &mut Vec<Output>) {
        let now: Moment = self.inbox.moment(step);
        let mut buckets = self.inbox.take(step);
        let mut names: BTreeSet<CompactString> = buckets.keys().cloned().collect();
        while self.agenda.first().is_some_and(|(at, _)| *at <= step) {
            names.extend(self.agenda.pop_first().map(|(_, name)| name));
        }
        for name in names {
            let tenant = self.tenants.get_mut(&name).expect("cells and agenda name known tenants");
            let bucket = buckets.remove(&name);
            let next = tenant.step(&now, bucket, &self.plan, self.alerts.as_mut(), out);
            if let Some(old) = self.next.remove(&name) {
                self.agenda.remove(&(old, name.clone()));
            }
            if let Some(next) = next {
                self.agenda.insert((next, name.clone()));
                self.next.insert(name, next);
            }
        }
    }
}

impl Fold for Rollup {
    type Input<'a> = Input<'a>;

    fn fold_part(&mut self, input: Input<'_>, out: &mut Vec<Output>) -> bool {
        let Input::Flush(flush) = input;
        if !self.underway && !self.take(flush, out) {
            return false;
        }
        self.underway = self.advance(out);
        self.underway
    }
}
