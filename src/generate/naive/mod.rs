//! The naive model: what the whole pipeline must have said in the end, computed from all touchpoints
//! at once.
//!
//! It is the oracle of the folds, so it shares nothing with them but the words of `model`: it sorts
//! each customer's events, cuts them into sessions, reads the definition of a checkout aloud, and
//! counts windows with sets. No slices, no partials, nothing incremental.
//!
//! Limits: everything is in memory (some 400 B per touchpoint). Who is told whether a touchpoint is
//! too late is told by the generator, as it depends on the order of arrival. Repeats are found by
//! (source, id) within a customer without regard to how long ago: the generator's come within minutes.
//! Dimensions beyond the built-in series, caps on their values, identity across keys and the stage
//! overrides that look at a customer's history are not modelled.

mod carts;
mod checkouts;
mod correlate;
mod customer;
mod event;
mod known;
mod sessions;
pub mod settings;
mod windows;

#[cfg(test)]
mod tests;

pub use settings::Settings;

use super::final_form::{FinalForm, FinalSummary};
use crate::model::taxonomy::Meaning;
use crate::model::touchpoint::Touchpoint;
use compact_str::CompactString;
use event::Event;
use std::collections::{BTreeMap, BTreeSet};
use windows::{Count, Counts};

/// Gathers what arrived.
pub struct Naive {
    settings: Settings,
    /// Events by tenant and customer.
    customers: BTreeMap<(CompactString, CompactString), Vec<Event>>,
    seen: BTreeSet<(CompactString, CompactString, CompactString, CompactString)>,
    counts: Counts,
    form: FinalForm,
    summary: FinalSummary,
}

impl Naive {
    /// Nothing arrived yet.
    pub fn new(settings: Settings) -> Naive {
        Naive {
            settings,
            customers: BTreeMap::new(),
            seen: BTreeSet::new(),
            counts: Counts::default(),
            form: FinalForm::new(),
            summary: FinalSummary::default(),
        }
    }

    /// A record arrived that nobody can read.
    pub fn add_poison(&mut self) {
        self.summary.events_in += 1;
        self.summary.dead_letter += 1;
    }

    /// A touchpoint arrived; `too_late` if it is more than the allowed lateness behind.
    ///
    /// In this order: bots, tests and facts are dropped (nobody remembers them, so repeats of them
    /// are no repeats), then repeats, then what is too late.
    pub fn add(&mut self, t: &Touchpoint, too_late: bool) {
        self.summary.events_in += 1;
        if t.is_bot || t.is_test || Meaning::of(&t.touchpoint, &t.action) == Meaning::Fact {
            self.summary.filtered += 1;
            return;
        }
        let customer = self.customer_of(t);
        if let Some(customer) = &customer {
            let name = (t.tenant.clone(), customer.clone(), t.source.clone(), t.id.clone());
            if self.settings.recognise_repeats && !self.seen.insert(name) {
                self.summary.duplicate += 1;
                return;
            }
        }
        if too_late {
            self.summary.late += 1;
            self.form.add_late(&t.tenant, customer.as_deref(), &t.id, t.event_time);
            return;
        }
        self.summary.counted += 1;
        let event = Event::new(t, &self.settings);
        match customer {
            Some(customer) => {
                self.customers.entry((t.tenant.clone(), customer)).or_default().push(event);
            }
            None => self.count_alone(&t.tenant, &event),
        }
    }

    /// The known id, else the anonymous one, unless it is everybody's.
    fn customer_of(&self, t: &Touchpoint) -> Option<CompactString> {
        let id = t.customer_id.as_ref().or(t.anonymous_id.as_ref())?;
        let settings = &self.settings;
        let usable =
            settings.follow_customers && !id.is_empty() && !settings.degenerate_ids.contains(id);
        usable.then(|| id.clone())
    }

    /// An event of nobody: events, orders and value, no more.
    fn count_alone(&mut self, tenant: &CompactString, event: &Event) {
        let mut counts = vec![Count::Event(None)];
        if event.is_order() {
            counts.push(Count::Order);
        }
        if let Some(money) = sessions::money(event, event.is_order(), &self.settings) {
            counts.push(self.counts.money(money));
        }
        self.counts.note(tenant, event.at, event, &counts);
    }

    /// Computes everything; no more touchpoints come.
    pub fn finish(mut self) -> (FinalForm, FinalSummary) {
        for (number, ((tenant, name), mut events)) in (0u32..).zip(self.customers) {
            events.sort_by(|a, b| a.order().cmp(&b.order()));
            let who = customer::Customer { tenant: &tenant, name: &name, number, events: &events };
            let (form, counts) = (&mut self.form, &mut self.counts);
            customer::compute(&who, &self.settings, form, counts, &mut self.summary);
        }
        self.counts.windows(&self.settings.windows, |w| self.form.add_window(&w));
        (self.form, self.summary)
    }
}
