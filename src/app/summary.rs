//! The summary of a run: what went in, what became of it, what was found, what it cost.
//!
//! Two sums must hold, and are checked wherever a summary is made: per source `records_in = mapped +
//! dead_letter + filtered`, and over touchpoints `events_in = counted + duplicate + late +
//! dead_letter + filtered`. `counted` is what `rollup` applied or holds for a
//! step that has not come, as its tasks say when they are sealed at the end of a bounded run. Without
//! that (a stop in mid-stream) flushes may be on their way: what journey flushed counts then, less what
//! `rollup` found past finality.

use crate::engine::{Fact, Output};
use crate::ingest::Outcome;
use crate::kafka::memory;
use crate::model::figures::Figures;
use crate::model::ids::PartitionId;
use crate::model::observation::Observation;
use crate::model::record::{AlertTransition, CheckoutKind, Transition};
use crate::model::reject::{FilterReason, RejectReason};
use serde::Serialize;
use std::collections::BTreeMap;

/// What became of a source's records.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct SourceCounts {
    /// Records read.
    pub records_in: u64,
    /// Records that gave touchpoints.
    pub mapped: u64,
    /// Touchpoints that they gave.
    pub touchpoints: u64,
    /// Records sent to `touchpoints.rejected`, by reason.
    pub dead_letter: BTreeMap<RejectReason, u64>,
    /// Records left out, by reason.
    pub filtered: BTreeMap<FilterReason, u64>,
}

impl SourceCounts {
    fn dead_letters(&self) -> u64 {
        self.dead_letter.values().sum()
    }

    fn left_out(&self) -> u64 {
        self.filtered.values().sum()
    }

    /// Counts one record by what became of it.
    pub fn record(&mut self, outcome: &Outcome) {
        self.records_in += 1;
        match outcome {
            Outcome::Mapped(touchpoints) => {
                self.mapped += 1;
                self.touchpoints += touchpoints;
            }
            Outcome::Filtered(reason) => *self.filtered.entry(*reason).or_default() += 1,
            Outcome::Rejected(reject) => {
                *self.dead_letter.entry(reject.reason).or_default() += 1;
            }
        }
    }

    /// True if every record is accounted for.
    pub fn adds_up(&self) -> bool {
        self.records_in == self.mapped + self.dead_letters() + self.left_out()
    }
}

/// What the tasks of a run have counted so far.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// By source.
    pub sources: BTreeMap<String, SourceCounts>,
    touchpoints_in: u64,
    applied: i64,
    /// By rollup partition, once it is sealed: events that wait for the end of their slice.
    waiting: BTreeMap<PartitionId, i64>,
    duplicate: u64,
    late_in_journey: u64,
    late_in_rollup: u64,
    filtered: u64,
    figures: Figures,
    retracted: u64,
    fired: u64,
    resolved: u64,
}

impl Totals {
    /// Takes in what a journey task said. Flushes tell the signed figures, observations the rest.
    pub fn observe_journey(&mut self, output: &Output) {
        match output {
            Output::Fact(Fact::Flush(_, flush)) => {
                for tenant in &flush.tenants {
                    let total = tenant.series.iter().position(|s| s.is_total());
                    let of_total = tenant.cells.iter().filter(|c| Some(c.series as usize) == total);
                    for cell in of_total {
                        self.figures.add(&cell.figures, 1);
                    }
                }
            }
            Output::Fact(_) => {}
            Output::Observation(Observation::Late(n)) => self.late_in_journey += n,
            Output::Observation(observation) => self.observe_one(observation),
        }
    }

    /// Takes in what a rollup task said.
    pub fn observe_rollup(&mut self, output: &Output) {
        match output {
            Output::Observation(Observation::Late(n)) => self.late_in_rollup += n,
            Output::Observation(observation) => self.observe_one(observation),
            Output::Fact(_) => {}
        }
    }

    fn observe_one(&mut self, observation: &Observation) {
        match observation {
            Observation::EventsIn(n) => self.touchpoints_in += n,
            Observation::Counted(n) => self.applied += n,
            Observation::Duplicate(n) => self.duplicate += n,
            Observation::Filtered { n, .. } => self.filtered += n,
            Observation::Checkout { kind: CheckoutKind::Checkout, transition, n, .. }
                if *transition == Transition::Retracted =>
            {
                self.retracted += n;
            }
            Observation::Alert { to: AlertTransition::Firing, .. } => self.fired += 1,
            Observation::Alert { to: AlertTransition::Resolved, .. } => self.resolved += 1,
            _ => {}
        }
    }

    /// A rollup task has folded all of its input; so many events wait for their step there.
    pub fn seal_rollup(&mut self, partition: PartitionId, waiting: i64) {
        self.waiting.insert(partition, waiting);
    }

    /// What `rollup` has; without its word at the end, what it was sent.
    fn counted(&self) -> u64 {
        let flushed = || self.figures.events - self.late_in_rollup as i64;
        let counted = match self.waiting.is_empty() {
            true => flushed(),
            false => self.applied + self.waiting.values().sum::<i64>(),
        };
        u64::try_from(counted).unwrap_or(0)
    }

    /// Touchpoints that `rollup` has applied; after a close these are all that were counted.
    pub fn applied(&self) -> i64 {
        self.applied
    }

    /// Alerts fired and resolved so far.
    pub fn alerts(&self) -> (u64, u64) {
        (self.fired, self.resolved)
    }

    /// The summary, with what the run has cost so far.
    pub fn summary(&self, elapsed_s: f64) -> Summary {
        let dead_letter = self.sources.values().map(SourceCounts::dead_letters).sum::<u64>();
        let left_out = self.sources.values().map(SourceCounts::left_out).sum::<u64>();
        let cost = Cost::of_this_process();
        Summary {
            events_in: self.touchpoints_in + dead_letter + left_out,
            counted: self.counted(),
            duplicate: self.duplicate,
            late: self.late_in_journey + self.late_in_rollup,
            dead_letter,
            filtered: self.filtered + left_out,
            sessions: self.figures.sessions,
            checkouts: Checkouts {
                started: self.figures.checkouts_started,
                completed: self.figures.checkouts_completed,
                abandoned: self.figures.checkouts_abandoned,
                recovered: self.figures.checkouts_recovered,
                retracted: self.retracted,
            },
            alerts: Alerts { fired: self.fired, resolved: self.resolved },
            elapsed_s,
            cpu_s: cost.cpu_s,
            peak_rss_bytes: cost.peak_rss_bytes,
        }
    }
}

/// `summary.json`: names and sum are a contract.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it; the module documentation has the sums")]
pub struct Summary {
    pub events_in: u64,
    pub counted: u64,
    pub duplicate: u64,
    pub late: u64,
    pub dead_letter: u64,
    pub filtered: u64,
    pub sessions: i64,
    pub checkouts: Checkouts,
    pub alerts: Alerts,
    pub elapsed_s: f64,
    pub cpu_s: f64,
    pub peak_rss_bytes: u64,
}

/// Checkouts of a summary; `abandoned` is net of `retracted`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Checkouts {
    pub started: i64,
    pub completed: i64,
    pub abandoned: i64,
    pub recovered: i64,
    pub retracted: u64,
}

/// Alerts of a summary.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Alerts {
    pub fired: u64,
    pub resolved: u64,
}

impl Summary {
    /// True if every event is accounted for.
    pub fn adds_up(&self) -> bool {
        let ends = self.counted + self.duplicate + self.late + self.dead_letter + self.filtered;
        self.events_in == ends
    }

    /// As it is written to `summary.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The same without what was measured: two replays of the same input say the same.
    pub fn counts_json(&self) -> String {
        let mut all = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = all.as_object_mut() {
            fields.retain(|name, _| {
                !matches!(name.as_str(), "elapsed_s" | "cpu_s" | "peak_rss_bytes")
            });
        }
        serde_json::to_string_pretty(&all).unwrap_or_default()
    }
}

/// Processor time and memory of this process, from `/proc`; zero where there is none.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// User and system time of all threads, s.
    pub cpu_s: f64,
    /// Most resident memory so far, bytes.
    pub peak_rss_bytes: u64,
}

/// Clock ticks per second in `/proc/self/stat`: 100 on every Linux since 2.6 (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

impl Cost {
    /// Up to now.
    pub fn of_this_process() -> Cost {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name in parentheses may contain spaces; what follows it starts with field 3.
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        let peak_rss_bytes = memory::told("self", "VmHWM").unwrap_or(0);
        Cost { cpu_s: (ticks(11) + ticks(12)) / TICKS_PER_SECOND, peak_rss_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_ends_in_one_of_five_ways() {
        let mut totals = Totals::default();
        for observation in [
            Observation::EventsIn(10),
            Observation::Duplicate(2),
            Observation::Late(1),
            Observation::Filtered { reason: FilterReason::Bot, n: 1 },
        ] {
            totals.observe_journey(&Output::Observation(observation));
        }
        totals.figures.events = 6;
        totals.observe_rollup(&Output::Observation(Observation::Late(2)));
        let source = totals.sources.entry("shop".to_owned()).or_default();
        source.records_in = 12;
        source.mapped = 10;
        source.dead_letter.insert(RejectReason::MalformedJson, 1);
        source.filtered.insert(FilterReason::Tombstone, 1);
        assert!(source.adds_up());
        let summary = totals.summary(1.0);
        assert_eq!((summary.events_in, summary.dead_letter, summary.filtered), (12, 1, 2));
        assert_eq!((summary.counted, summary.late), (4, 3));
        // The word of `rollup` counts, once there is one: an event that got lost shows.
        for (partition, waiting, counted) in [(0, 1, 3), (1, 1, 4)] {
            totals.applied = 2;
            totals.seal_rollup(PartitionId::new(partition), waiting);
            let summary = totals.summary(1.0);
            assert_eq!((summary.counted, summary.adds_up()), (counted, counted == 4));
        }
        assert!(summary.adds_up());
        assert!(summary.peak_rss_bytes > 0 || !cfg!(target_os = "linux"));
    }
}
