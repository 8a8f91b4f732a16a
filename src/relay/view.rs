//! What the derived topics say now: read by the console, the API, `/metrics` and the pusher.

use crate::model::record::{AlertRecord, AlertTransition, LiveRecord, WindowRecord};
use crate::model::time::EventTime;
use crate::telemetry::{Metric, Metrics};
use compact_str::CompactString;
use dashmap::DashMap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Past alert records that are kept for the console.
pub const RECENT_ALERTS_MAX: usize = 1_000;
/// Latest aligned windows that are kept per series and length.
pub const COHORTS_PER_SERIES_MAX: usize = 48;
/// Rolling figures that are kept, one per series and length; beyond it new series are left out.
pub const SERIES_MAX: usize = 200_000;

/// One record of a derived topic, decoded.
#[derive(Clone, PartialEq, Debug)]
pub enum Update {
    /// Of `engagement.live`.
    Live(Box<LiveRecord>),
    /// Of `engagement.channel_stage`.
    Window(Box<WindowRecord>),
    /// Of `alerts.events`.
    Alert(Box<AlertRecord>),
    /// Of `alerts.active`: what is firing under a fingerprint, or that nothing is any more.
    Active(CompactString, Option<Box<AlertRecord>>),
}

/// The view. All methods may be called from any thread.
#[derive(Default)]
pub struct View {
    live: DashMap<String, LiveRecord>,
    windows: DashMap<String, VecDeque<WindowRecord>>,
    active: DashMap<CompactString, AlertRecord>,
    recent: Mutex<VecDeque<AlertRecord>>,
    newest_ms: AtomicI64,
    changes: AtomicU64,
    caught_up: AtomicBool,
}

impl View {
    /// Takes one record in.
    pub fn apply(&self, update: Update) {
        match update {
            Update::Live(record) => self.apply_live(*record),
            Update::Window(record) => self.apply_window(*record),
            Update::Alert(record) => self.apply_alert(*record),
            Update::Active(fingerprint, Some(record)) => {
                self.active.insert(fingerprint, *record);
            }
            Update::Active(fingerprint, None) => {
                self.active.remove(&fingerprint);
            }
        }
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn apply_live(&self, record: LiveRecord) {
        self.newest_ms.fetch_max(record.end.as_ms(), Ordering::AcqRel);
        let key = series_key(&record.tenant, &record.window, &record.dimensions);
        if self.live.len() < SERIES_MAX || self.live.contains_key(&key) {
            self.live.insert(key, record);
        }
    }

    fn apply_window(&self, record: WindowRecord) {
        let key = series_key(&record.tenant, &record.window, &record.dimensions);
        if self.windows.len() >= SERIES_MAX && !self.windows.contains_key(&key) {
            return;
        }
        let mut windows = self.windows.entry(key).or_default();
        let at = windows.partition_point(|w| w.start < record.start);
        match windows.get_mut(at) {
            Some(same) if same.start == record.start => *same = record,
            _ => windows.insert(at, record),
        }
        while windows.len() > COHORTS_PER_SERIES_MAX {
            windows.pop_front();
        }
    }

    fn apply_alert(&self, record: AlertRecord) {
        let mut recent = self.recent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        recent.push_back(record);
        while recent.len() > RECENT_ALERTS_MAX {
            recent.pop_front();
        }
    }

    /// Says whether all topics have been read to their ends.
    pub fn set_caught_up(&self, caught_up: bool) {
        self.caught_up.store(caught_up, Ordering::Release);
    }

    /// True while all topics have been read to their ends.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// How many records have been taken in: changes whenever the view does.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// End of the newest rolling window: how far the pipeline has got in event time.
    pub fn newest(&self) -> Option<EventTime> {
        match self.newest_ms.load(Ordering::Acquire) {
            0 => None,
            ms => Some(EventTime::from_ms(ms)),
        }
    }

    /// Latest rolling figures that `keep` wants, sorted by tenant, window and dimensions.
    pub fn live(&self, keep: impl Fn(&LiveRecord) -> bool) -> Vec<LiveRecord> {
        let mut found: Vec<LiveRecord> = self
            .live
            .iter()
            .filter(|entry| keep(entry.value()))
            .map(|e| e.value().clone())
            .collect();
        found.sort_by(|a, b| {
            (&a.tenant, &a.window, &a.dimensions).cmp(&(&b.tenant, &b.window, &b.dimensions))
        });
        found
    }

    /// Latest aligned windows that `keep` wants, sorted by tenant, window, dimensions and start.
    pub fn windows(&self, keep: impl Fn(&WindowRecord) -> bool) -> Vec<WindowRecord> {
        let mut found: Vec<WindowRecord> = Vec::new();
        for entry in &self.windows {
            found.extend(entry.value().iter().filter(|w| keep(w)).cloned());
        }
        found.sort_by(|a, b| {
            (&a.tenant, &a.window, &a.dimensions, a.start).cmp(&(
                &b.tenant,
                &b.window,
                &b.dimensions,
                b.start,
            ))
        });
        found
    }

    /// What is firing now, sorted by fingerprint.
    pub fn active(&self) -> Vec<AlertRecord> {
        let mut found: Vec<AlertRecord> = self.active.iter().map(|e| e.value().clone()).collect();
        found.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
        found
    }

    /// Past alert records, oldest first.
    pub fn recent(&self) -> Vec<AlertRecord> {
        let recent = self.recent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        recent.iter().cloned().collect()
    }

    /// How many episodes have fired and how many of them are resolved, of those remembered.
    pub fn episodes(&self) -> (usize, usize) {
        let mut last: BTreeMap<CompactString, (bool, bool)> = BTreeMap::new();
        for record in self.recent() {
            let entry = last.entry(record.episode).or_default();
            entry.0 |= record.transition == AlertTransition::Firing;
            entry.1 |= record.transition == AlertTransition::Resolved;
        }
        let fired = last.values().filter(|(fired, _)| *fired).count();
        (fired, last.values().filter(|(fired, resolved)| *fired && *resolved).count())
    }

    /// Sets the business gauges from what the view says now. Tenants are added up, as no tenant is a
    /// label; ratios are of the latest mature cohort per channel.
    pub fn export(&self, metrics: &Metrics) {
        self.export_customers(metrics);
        self.export_ratios(metrics);
        metrics.reset(Metric::AlertsActive);
        metrics.reset(Metric::RevenueAtRisk);
        let mut counts: BTreeMap<(CompactString, &'static str), f64> = BTreeMap::new();
        let mut risks: BTreeMap<(CompactString, CompactString), f64> = BTreeMap::new();
        for alert in self.active() {
            let severity = severity_name(&alert);
            *counts.entry((alert.alert.clone(), severity)).or_default() += 1.0;
            for (currency, minor) in &alert.at_risk {
                let key = (currency.clone(), alert.alert.clone());
                *risks.entry(key).or_default() += *minor as f64;
            }
        }
        for ((alert, severity), n) in counts {
            metrics.set(Metric::AlertsActive, &[&alert, severity], n);
        }
        for ((currency, alert), minor) in risks {
            metrics.set(Metric::RevenueAtRisk, &[&currency, &alert], minor);
        }
    }

    fn export_customers(&self, metrics: &Metrics) {
        let mut sums: BTreeMap<(CompactString, CompactString), i64> = BTreeMap::new();
        for entry in &self.live {
            let record = entry.value();
            let stage = match record.dimensions.len() {
                0 => CompactString::default(),
                1 => match record.dimensions.get("stage") {
                    Some(stage) => stage.clone(),
                    None => continue,
                },
                _ => continue,
            };
            *sums.entry((record.window.clone(), stage)).or_default() += record.customers;
        }
        for ((window, stage), n) in sums {
            metrics.set(Metric::ActiveCustomers, &[&window, &stage], n as f64);
        }
    }

    fn export_ratios(&self, metrics: &Metrics) {
        type Latest = (EventTime, i64, i64);
        let mut latest: BTreeMap<(CompactString, CompactString), Latest> = BTreeMap::new();
        for entry in &self.windows {
            let Some(record) = entry
                .value()
                .iter()
                .rev()
                .find(|w| w.abandonment.mature && w.abandonment.started > 0)
            else {
                continue;
            };
            let channel = match record.dimensions.len() {
                0 => CompactString::default(),
                1 if record.dimensions.contains_key("channel") => {
                    record.dimensions["channel"].clone()
                }
                _ => continue,
            };
            let cohort = &record.abandonment;
            let decided = cohort.started - cohort.expired - cohort.undecided;
            let slot =
                latest.entry((channel, record.window.clone())).or_insert((record.start, 0, 0));
            if record.start > slot.0 {
                *slot = (record.start, 0, 0);
            }
            if record.start == slot.0 {
                *slot = (slot.0, slot.1 + cohort.abandoned, slot.2 + decided);
            }
        }
        for ((channel, window), (_, abandoned, decided)) in latest {
            if decided > 0 {
                let ratio = abandoned as f64 / decided as f64;
                metrics.set(Metric::AbandonmentRatio, &[&channel, &window], ratio);
            }
        }
        for alert in self.active().iter().filter(|a| a.alert == "CheckoutAbandonmentSpike") {
            let channel = alert.dimensions.get("channel").cloned().unwrap_or_default();
            let labels = [channel.as_str(), alert.window.as_str()];
            metrics.set(Metric::AbandonmentExpected, &labels, alert.expected);
            metrics.set(Metric::AbandonmentLower, &labels, alert.lower);
            metrics.set(Metric::AbandonmentUpper, &labels, alert.upper);
        }
    }
}

/// The severity as a label value.
pub fn severity_name(alert: &AlertRecord) -> &'static str {
    use crate::model::record::Severity;
    match alert.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

fn series_key(
    tenant: &str,
    window: &str,
    dimensions: &BTreeMap<CompactString, CompactString>,
) -> String {
    let mut key = format!("{tenant}|{window}|");
    for (name, value) in dimensions {
        key.push_str(name);
        key.push('=');
        key.push_str(value);
        key.push(',');
    }
    key
}

#[cfg(test)]
mod tests;
