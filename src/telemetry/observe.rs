//! The table from observation to metric.

use super::{Metric, Metrics};
use crate::model::observation::Observation;
use crate::model::record::{CheckoutKind, Transition};

impl Metrics {
    /// Counts what a task of `role` on `partition` observed.
    pub fn observe(&self, role: &str, partition: i32, observation: &Observation) {
        let outcome = |name: &str, n: u64| self.add(Metric::Touchpoints, &[name], n as f64);
        match observation {
            Observation::EventsIn(n) => outcome("in", *n),
            Observation::Duplicate(n) => outcome("duplicate", *n),
            Observation::Late(n) => outcome("late", *n),
            Observation::Counted(n) => outcome("counted", u64::try_from(*n).unwrap_or(0)),
            Observation::Filtered { reason, n } => {
                outcome("filtered", *n);
                self.add(Metric::FilteredTouchpoints, &[reason.name()], *n as f64);
            }
            Observation::Events { channel, stage, n } => {
                self.add(Metric::Events, &[channel, stage], *n as f64);
            }
            Observation::Sessions { channel, n } => {
                self.add(Metric::Sessions, &[channel], *n as f64);
            }
            Observation::EngagedSessions { channel, n } => {
                self.add(Metric::EngagedSessions, &[channel], *n as f64);
            }
            Observation::Orders { channel, n } => {
                self.add(Metric::Orders, &[channel], *n as f64);
            }
            Observation::Revenue { currency, minor } => {
                self.add(Metric::Revenue, &[currency], *minor as f64);
            }
            Observation::Checkout { kind: CheckoutKind::Checkout, channel, transition, n } => {
                if let Some(metric) = checkout_metric(*transition) {
                    self.add(metric, &[channel], *n as f64);
                }
            }
            Observation::Checkout { kind: CheckoutKind::Cart, .. } => {}
            Observation::DedupEvicted(n) => self.add(Metric::DedupEvicted, &[], *n as f64),
            Observation::Overflow { dimension, n } => {
                self.add(Metric::LabelOverflow, &[dimension], *n as f64);
            }
            Observation::WindowRevisions { view, n } => {
                self.add(Metric::WindowRevisions, &[view], *n as f64);
            }
            Observation::Alert { alert, to, delay_ms } => {
                self.add(Metric::AlertTransitions, &[alert, super::transition_name(*to)], 1.0);
                if *to == crate::model::record::AlertTransition::Firing {
                    self.time(Metric::AlertDelay, &[alert], *delay_ms as f64 / 1_000.0);
                }
            }
            Observation::Tests { detector, n } => {
                self.add(Metric::AlertTests, &[detector], *n as f64);
            }
            Observation::State { store, entries } => {
                let labels = [role, &partition.to_string(), store];
                self.set(Metric::StateEntries, &labels, *entries as f64);
            }
            Observation::Timers(n) => {
                self.set(Metric::TimersPending, &[role, &partition.to_string()], *n as f64);
            }
            Observation::UnknownWord { dimension, n } => {
                self.add(Metric::UnknownWords, &[dimension], *n as f64);
            }
            Observation::RepeatedFlush => self.add(Metric::RepeatedFlushes, &[], 1.0),
        }
    }
}

fn checkout_metric(transition: Transition) -> Option<Metric> {
    match transition {
        Transition::Started => Some(Metric::CheckoutsStarted),
        Transition::Completed => Some(Metric::CheckoutsCompleted),
        Transition::Abandoned => Some(Metric::CheckoutsAbandoned),
        Transition::Recovered => Some(Metric::CheckoutsRecovered),
        Transition::Retracted => Some(Metric::CheckoutsRetracted),
        Transition::Expired => Some(Metric::CheckoutsExpired),
        Transition::PaymentFailed => Some(Metric::PaymentsFailed),
        Transition::Step => None,
    }
}
