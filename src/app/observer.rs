//! What workers tell, as metrics.

use super::summary::{SourceCounts, Totals};
use crate::kafka::observer::WorkerObserver;
use crate::kafka::task::TaskProgress;
use crate::model::ids::PartitionId;
use crate::model::reject::RejectReason;
use crate::telemetry::{Metric, Metrics};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Turns what workers tell into metrics.
pub struct ToMetrics {
    metrics: Arc<Metrics>,
    /// What held each task back when it was told last.
    holding: Mutex<BTreeMap<(&'static str, PartitionId), String>>,
}

impl ToMetrics {
    /// Fills `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> ToMetrics {
        ToMetrics { metrics, holding: Mutex::default() }
    }
}

impl WorkerObserver for ToMetrics {
    fn polled(&self, role: &'static str, records: usize, secs: f64) {
        self.metrics.add(Metric::RecordsIn, &[role], records as f64);
        self.metrics.add(Metric::BusySeconds, &[role, "poll"], secs);
    }

    fn folded(&self, role: &'static str, _records: usize, secs: f64) {
        self.metrics.add(Metric::BusySeconds, &[role, "fold"], secs);
    }

    fn produced(&self, role: &'static str, records: usize, _bytes: usize, secs: f64) {
        self.metrics.add(Metric::RecordsOut, &[role], records as f64);
        self.metrics.add(Metric::BusySeconds, &[role, "produce"], secs);
    }

    fn committed(&self, role: &'static str, secs: f64) {
        self.metrics.add(Metric::Commits, &[role, "ok"], 1.0);
        self.metrics.add(Metric::BusySeconds, &[role, "commit"], secs);
    }

    fn lag(&self, topic: &str, partition: PartitionId, records: i64, secs: f64) {
        let partition = partition.to_string();
        self.metrics.set(Metric::LagRecords, &[topic, &partition], records as f64);
        self.metrics.set(Metric::LagSeconds, &[topic, &partition], secs);
    }

    fn watermark(
        &self,
        role: &'static str,
        topic: &str,
        partition: PartitionId,
        progress: &TaskProgress,
    ) {
        // Source partitions of several topics share numbers: their topic tells them apart.
        let number = match role {
            "ingest" => format!("{topic}/{partition}"),
            _ => partition.to_string(),
        };
        let seconds = |ms: i64| ms as f64 / 1_000.0;
        if let Some(clock) = progress.clock {
            self.metrics.set(Metric::Clock, &[role, &number], seconds(clock.as_ms()));
        }
        if let Some(watermark) = progress.watermark {
            self.metrics.set(Metric::Watermark, &[role, &number], seconds(watermark.as_ms()));
        }
        let by = progress.holding_back.clone().unwrap_or_default();
        let mut holding = self.holding.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before = holding.insert((role, partition), by.clone()).unwrap_or_default();
        if before != by && !before.is_empty() {
            self.metrics.set(Metric::HoldingBack, &[role, &number, &before], 0.0);
        }
        if !by.is_empty() {
            self.metrics.set(Metric::HoldingBack, &[role, &number, &by], 1.0);
        }
    }

    fn restoring(&self, role: &'static str, partition: PartitionId, left: i64, secs: f64) {
        let partition = partition.to_string();
        self.metrics.set(Metric::RestoreLeft, &[role, &partition], left as f64);
        self.metrics.set(Metric::RestoreSecondsLeft, &[role, &partition], secs);
    }

    fn follows(&self, role: &'static str, partition: PartitionId, behind: Option<i64>) {
        let behind = behind.map_or(-1.0, |records| records as f64);
        self.metrics.set(Metric::StandbyBehind, &[role, &partition.to_string()], behind);
    }

    fn stands(&self, topic: &str, partition: PartitionId, secs: f64) {
        let partition = partition.to_string();
        self.metrics.set(Metric::StableOffsetStands, &[topic, &partition], secs);
    }

    fn full(&self, role: &'static str, what: &'static str, is_full: bool) {
        self.metrics.set(Metric::Full, &[role, what], f64::from(u8::from(is_full)));
    }

    fn rebalanced(&self, role: &'static str, assigned: bool, partitions: usize) {
        let result = if assigned { "assigned" } else { "revoked" };
        self.metrics.add(Metric::Rebalances, &[role, result], partitions as f64);
    }
}

/// Brings the counters of the sources up to the run's totals.
#[derive(Default)]
pub struct SourceExport {
    before: BTreeMap<String, SourceCounts>,
}

impl SourceExport {
    /// Adds what has been counted since the last call.
    pub fn export(&mut self, totals: &Totals, metrics: &Metrics) {
        for (name, now) in &totals.sources {
            let before = self.before.entry(name.clone()).or_default();
            let sum = |counts: &SourceCounts| -> (u64, u64, u64) {
                let rejected = counts.dead_letter.values().sum();
                (counts.mapped, counts.filtered.values().sum(), rejected)
            };
            let (new, old) = (sum(now), sum(before));
            for (outcome, n) in [
                ("mapped", new.0 - old.0),
                ("filtered", new.1 - old.1),
                ("rejected", new.2 - old.2),
            ] {
                metrics.add(Metric::SourceEvents, &[name, outcome], n as f64);
            }
            for (reason, n) in &now.dead_letter {
                let n = n - before.dead_letter.get(reason).unwrap_or(&0);
                let reason: RejectReason = *reason;
                metrics.add(Metric::RejectedEvents, &[name, reason.name()], n as f64);
            }
            *before = now.clone();
        }
    }
}
