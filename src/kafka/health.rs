//! How the workers of a role are doing, as readiness and the console tell it.
//!
//! The client's own "all brokers down" error is never raised in the version that we build, so the state
//! of the brokers comes from its statistics, every five seconds.

use super::task::TopicPartition;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// State of one role's workers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// Brokers with a connection, and brokers known; `None` before the first statistics.
    pub brokers: Option<(usize, usize)>,
    /// Partitions whose task waits for something, and for what.
    pub waiting: BTreeMap<TopicPartition, String>,
    /// What the client complained about last, until all is well again.
    pub complaint: Option<String>,
}

impl Health {
    /// True if no broker can be reached.
    pub fn is_cut_off(&self) -> bool {
        matches!(self.brokers, Some((0, _)))
    }

    /// What is wrong, in one line; `None` if nothing is.
    pub fn problem(&self) -> Option<String> {
        if self.is_cut_off() {
            let reason = self.complaint.as_deref().unwrap_or("no connection");
            return Some(format!("no broker can be reached: {reason}"));
        }
        let (at, reason) = self.waiting.iter().next()?;
        Some(format!("{at} and {} more wait: {reason}", self.waiting.len() - 1))
    }
}

/// Where workers and client callbacks note what they see.
#[derive(Default, Debug)]
pub(super) struct Monitor(Mutex<Health>);

impl Monitor {
    fn with<T>(&self, f: impl FnOnce(&mut Health) -> T) -> T {
        f(&mut self.0.lock().expect("no panic while held"))
    }

    pub(super) fn brokers(&self, up: usize, known: usize) {
        self.with(|health| {
            if health.brokers.is_some_and(|(before, _)| (before == 0) != (up == 0)) {
                tracing::warn!(up, known, "brokers that can be reached");
            }
            health.brokers = Some((up, known));
            if up > 0 {
                health.complaint = None;
            }
        });
    }

    pub(super) fn note(&self, complaint: &str) {
        tracing::debug!(complaint, "kafka client");
        self.with(|health| health.complaint = Some(complaint.to_owned()));
    }

    pub(super) fn waits(&self, at: &TopicPartition, reason: &str) {
        self.with(|health| health.waiting.insert(at.clone(), reason.to_owned()));
    }

    pub(super) fn goes_on(&self, at: &TopicPartition) {
        self.with(|health| health.waiting.remove(at));
    }

    pub(super) fn health(&self) -> Health {
        self.with(|health| health.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::PartitionId;

    #[test]
    fn problems_are_named_the_brokers_first() {
        let monitor = Monitor::default();
        assert_eq!(monitor.health().problem(), None);
        let at = TopicPartition::new("orders", PartitionId::new(3));
        monitor.waits(&at, "registry down");
        let waiting = monitor.health().problem();
        assert_eq!(waiting.as_deref(), Some("orders/3 and 0 more wait: registry down"));
        monitor.note("connection refused");
        monitor.brokers(0, 3);
        let cut_off = monitor.health().problem();
        assert_eq!(cut_off.as_deref(), Some("no broker can be reached: connection refused"));
        monitor.brokers(1, 3);
        monitor.goes_on(&at);
        assert_eq!(monitor.health().problem(), None);
        assert_eq!(monitor.health().complaint, None);
    }
}
