//! From observations to metrics: the only module that knows `prometheus`.
//!
//! Limits: label values come from closed sets (taxonomy, enums, partitions); a metric refuses to grow
//! beyond [`SERIES_PER_METRIC_MAX`] label combinations, what is beyond is counted in
//! `touchline_label_overflow_total`. It does not sample, and nothing here feeds back into a fold.

mod logging;
mod metric;
mod observe;

pub use logging::{LogFormat, init};
pub use metric::{Kind, Metric};

use crate::model::record::AlertTransition;
use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, Opts, Registry, TextEncoder,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Label combinations per metric.
pub const SERIES_PER_METRIC_MAX: usize = 2_000;

#[derive(Clone)]
enum Family {
    Counter(CounterVec),
    Gauge(GaugeVec),
    Histogram(HistogramVec),
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    families: BTreeMap<Metric, Family>,
    seen: Mutex<BTreeMap<Metric, BTreeSet<String>>>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// Registers every metric of the table.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let mut families = BTreeMap::new();
        for metric in Metric::ALL {
            families.insert(*metric, register(&registry, *metric));
        }
        let metrics = Metrics { registry, families, seen: Mutex::default() };
        metrics.set(Metric::BuildInfo, &[env!("CARGO_PKG_VERSION")], 1.0);
        metrics
    }

    /// Adds `by` (not negative) to a counter.
    pub fn add(&self, metric: Metric, labels: &[&str], by: f64) {
        if let Some(Family::Counter(family)) = self.family(metric, labels) {
            family.with_label_values(labels).inc_by(by.max(0.0));
        }
    }

    /// Sets a gauge.
    pub fn set(&self, metric: Metric, labels: &[&str], to: f64) {
        if let Some(Family::Gauge(family)) = self.family(metric, labels) {
            family.with_label_values(labels).set(to);
        }
    }

    /// Records one value of a histogram, in seconds.
    pub fn time(&self, metric: Metric, labels: &[&str], secs: f64) {
        if let Some(Family::Histogram(family)) = self.family(metric, labels) {
            family.with_label_values(labels).observe(secs);
        }
    }

    /// Forgets all label combinations of a gauge: it is about to be set anew.
    pub fn reset(&self, metric: Metric) {
        if let Some(Family::Gauge(family)) = self.families.get(&metric) {
            family.reset();
        }
    }

    /// The text that `/metrics` serves.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        // Encoding into memory fails only on families without metrics, which gather() leaves out.
        if TextEncoder::new().encode(&self.registry.gather(), &mut out).is_err() {
            out.clear();
        }
        String::from_utf8(out).unwrap_or_default()
    }

    fn family(&self, metric: Metric, labels: &[&str]) -> Option<&Family> {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let combinations = seen.entry(metric).or_default();
        let key = labels.join("\u{1}");
        if !combinations.contains(&key) {
            if combinations.len() >= SERIES_PER_METRIC_MAX {
                if let Some(Family::Counter(overflow)) = self.families.get(&Metric::LabelOverflow) {
                    overflow.with_label_values(&[metric.name()]).inc();
                }
                return None;
            }
            combinations.insert(key);
        }
        self.families.get(&metric)
    }
}

/// An alert's step as a label value.
pub(crate) const fn transition_name(to: AlertTransition) -> &'static str {
    match to {
        AlertTransition::Pending => "pending",
        AlertTransition::Firing => "firing",
        AlertTransition::Amended => "amended",
        AlertTransition::Recovering => "recovering",
        AlertTransition::Resolved => "resolved",
        AlertTransition::Suppressed => "suppressed",
    }
}

fn register(registry: &Registry, metric: Metric) -> Family {
    let opts = Opts::new(metric.name(), metric.help());
    let labels = metric.labels();
    let valid = "names and labels of the table are valid and unique";
    let family = match metric.kind() {
        Kind::Counter => Family::Counter(CounterVec::new(opts, labels).expect(valid)),
        Kind::Gauge => Family::Gauge(GaugeVec::new(opts, labels).expect(valid)),
        Kind::Histogram => {
            let opts = HistogramOpts::from(opts).buckets(metric::BUCKETS_SECONDS.to_vec());
            Family::Histogram(HistogramVec::new(opts, labels).expect(valid))
        }
    };
    let collector: Box<dyn Collector> = match &family {
        Family::Counter(f) => Box::new(f.clone()),
        Family::Gauge(f) => Box::new(f.clone()),
        Family::Histogram(f) => Box::new(f.clone()),
    };
    registry.register(collector).expect(valid);
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_stops_growing_at_its_bound() {
        let metrics = Metrics::new();
        for i in 0..SERIES_PER_METRIC_MAX + 5 {
            metrics.add(Metric::UnknownWords, &[&i.to_string()], 1.0);
        }
        let text = metrics.text();
        let series =
            text.lines().filter(|l| l.starts_with("touchline_unknown_words_total")).count();
        assert_eq!(series, SERIES_PER_METRIC_MAX);
        let overflow = "touchline_label_overflow_total{metric=\"touchline_unknown_words_total\"} 5";
        assert!(text.contains(overflow));
    }
}
