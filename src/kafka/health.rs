//! How the workers of a role are doing, as readiness and the console tell it.
//!
//! The client's own "all brokers down" error is never raised in the version that we build, so the state
//! of the brokers comes from its statistics, every five seconds.

use super::task::TopicPartition;
use crate::clock::Moment;
use crate::model::time::Millis;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A last stable offset that stands for longer than this before records that came since is worth an
/// alarm: transactions are open for milliseconds, and a dead worker's for 10 s and a clean-up interval.
const STANDS_TOO_LONG: Millis = Millis::from_secs(25);

/// State of one role's workers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// Brokers with a connection, and brokers known; `None` before the first statistics.
    pub brokers: Option<(usize, usize)>,
    /// Partitions whose task waits for something, and for what.
    pub waiting: BTreeMap<TopicPartition, String>,
    /// What the client complained about last, until all is well again.
    pub complaint: Option<String>,
    /// Partitions whose last stable offset stands while records come: where, and for how long.
    pub standing: BTreeMap<TopicPartition, (i64, Millis)>,
}

impl Health {
    /// True if no broker can be reached.
    pub fn is_cut_off(&self) -> bool {
        matches!(self.brokers, Some((0, _)))
    }

    /// The open transaction that keeps readers of committed records waiting for too long, in words.
    pub fn standing(&self) -> Option<String> {
        let too_long = |(_, (_, time)): &(&TopicPartition, &(i64, Millis))| *time > STANDS_TOO_LONG;
        let (at, (offset, time)) = self.standing.iter().find(too_long)?;
        Some(format!(
            "{at}: an open transaction has been keeping readers at offset {offset} for {time}; \
             `touchline state show` says beside which partitions one is open"
        ))
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

/// Where the last stable offset of a partition stands.
#[derive(Debug)]
struct Stable {
    at: i64,
    since: Moment,
    /// Log end when it came to stand.
    end: i64,
    /// True if the log went on since.
    waits: bool,
}

/// Where workers and client callbacks note what they see.
#[derive(Default, Debug)]
pub(super) struct Monitor {
    health: Mutex<Health>,
    stable: Mutex<BTreeMap<TopicPartition, Stable>>,
}

impl Monitor {
    fn with<T>(&self, f: impl FnOnce(&mut Health) -> T) -> T {
        f(&mut self.health.lock().expect("no panic while held"))
    }

    /// The last fetch told the last stable offset and the log end of a partition.
    pub(super) fn stable(&self, at: &TopicPartition, stable: i64, end: i64) {
        let mut known = self.stable.lock().expect("no panic while held");
        if stable >= end {
            known.remove(at);
            return;
        }
        match known.get_mut(at) {
            Some(standing) if standing.at == stable => standing.waits |= end > standing.end,
            _ => {
                let standing = Stable { at: stable, since: Moment::now(), end, waits: false };
                known.insert(at.clone(), standing);
            }
        }
    }

    /// For how long the last stable offset of a partition has been standing while records came.
    pub(super) fn stands(&self, at: &TopicPartition) -> Option<Millis> {
        let known = self.stable.lock().expect("no panic while held");
        known.get(at).filter(|standing| standing.waits).map(|standing| standing.since.elapsed())
    }

    /// A partition is not read any more.
    pub(super) fn forget(&self, at: &TopicPartition) {
        self.goes_on(at);
        self.stable.lock().expect("no panic while held").remove(at);
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
        let mut health = self.with(|health| health.clone());
        let known = self.stable.lock().expect("no panic while held");
        let waiting = known.iter().filter(|(_, standing)| standing.waits);
        health.standing = waiting.map(|(at, s)| (at.clone(), (s.at, s.since.elapsed()))).collect();
        health
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::PartitionId;

    #[test]
    fn a_stable_offset_that_stands_while_records_come_is_told() {
        let monitor = Monitor::default();
        let at = TopicPartition::new("orders", PartitionId::new(3));
        // An open transaction alone keeps nobody waiting.
        monitor.stable(&at, 10, 12);
        monitor.stable(&at, 10, 12);
        assert_eq!((monitor.stands(&at), monitor.health().standing.len()), (None, 0));
        monitor.stable(&at, 10, 13);
        assert!(monitor.stands(&at).is_some());
        assert_eq!(monitor.health().standing[&at].0, 10);
        // It is an alarm only after a while.
        assert_eq!(monitor.health().standing(), None);
        let standing = BTreeMap::from([(at.clone(), (10, Millis::from_secs(26)))]);
        let text = Health { standing, ..Health::default() }.standing().unwrap();
        assert!(text.starts_with("orders/3: an open transaction"), "{text}");
        monitor.stable(&at, 14, 15);
        assert_eq!(monitor.stands(&at), None);
        monitor.stable(&at, 14, 16);
        monitor.forget(&at);
        assert_eq!(monitor.stands(&at), None);
    }

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
