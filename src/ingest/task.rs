//! What `ingest` keeps per source partition: the highest event time, hence its watermark.
//!
//! Nothing else is remembered, and nothing depends on where a batch ends. A record that is rejected
//! or filtered does not move the watermark. The canonical key decides the partition; it is
//! `tenant|customer`, and the event's id where there is no customer, so that such events spread.

use super::mapping::Mapping;
use super::record::{Outcome, SourceRecord};
use super::rules::{Rules, UnknownWords, customer};
use crate::codec::canonical::canonical_key;
use crate::engine::progress::Report;
use crate::model::control::Mark;
use crate::model::observation::Observation;
use crate::model::reject::{FilterReason, Reject};
use crate::model::time::{EventTime, Millis};
use crate::model::touchpoint::{Origin, Touchpoint};
use compact_str::CompactString;
use std::sync::Arc;

/// One canonical record to write.
#[derive(Clone, PartialEq, Debug)]
pub struct CanonicalOut {
    /// `tenant|customer`, or the event's id.
    pub key: Vec<u8>,
    /// Where it comes from, and how far its source partition had got.
    pub origin: Origin,
    /// The touchpoint.
    pub touchpoint: Touchpoint,
}

/// One source partition.
#[derive(Clone, Debug)]
pub struct SourceTask {
    source: CompactString,
    partition: i32,
    max_out_of_orderness: Millis,
    rules: Arc<Rules>,
    /// `None` for a source of canonical touchpoints.
    mapping: Option<Arc<Mapping>>,
    max_event_time: Option<EventTime>,
    unknown: UnknownWords,
    /// Reused from record to record.
    mapped: Vec<Touchpoint>,
}

impl SourceTask {
    /// Begins a partition of the source named `source`, before any data.
    pub fn new(
        source: &str,
        partition: i32,
        max_out_of_orderness: Millis,
        rules: Arc<Rules>,
        mapping: Option<Arc<Mapping>>,
    ) -> SourceTask {
        SourceTask {
            source: source.into(),
            partition,
            max_out_of_orderness,
            rules,
            mapping,
            max_event_time: None,
            unknown: UnknownWords::default(),
            mapped: Vec::new(),
        }
    }

    /// One record of a source with a mapping; appends what follows from it to `out`.
    ///
    /// # Panics
    /// If the source has no mapping: its records are decoded, and go to [`Self::on_touchpoint`].
    pub fn on_record(&mut self, record: &SourceRecord<'_>, out: &mut Vec<CanonicalOut>) -> Outcome {
        let mapping = Arc::clone(self.mapping.as_ref().expect("a source of JSON has a mapping"));
        let mut mapped = std::mem::take(&mut self.mapped);
        let outcome = match mapping.map(record, &self.rules, &mut mapped) {
            Outcome::Mapped(_) => self.accept(record, mapped.drain(..), out),
            other => other,
        };
        mapped.clear();
        self.mapped = mapped;
        outcome
    }

    /// One record of a source of canonical touchpoints, decoded (`None`: a tombstone).
    pub fn on_touchpoint(
        &mut self,
        record: &SourceRecord<'_>,
        touchpoint: Option<Touchpoint>,
        out: &mut Vec<CanonicalOut>,
    ) -> Outcome {
        match touchpoint {
            None => Outcome::Filtered(FilterReason::Tombstone),
            Some(touchpoint) => self.accept(record, std::iter::once(touchpoint), out),
        }
    }

    /// Takes all touchpoints of a record, or none.
    fn accept(
        &mut self,
        record: &SourceRecord<'_>,
        touchpoints: impl Iterator<Item = Touchpoint>,
        out: &mut Vec<CanonicalOut>,
    ) -> Outcome {
        let before = (out.len(), self.max_event_time, self.unknown);
        for mut touchpoint in touchpoints {
            if let Err(reject) = self.take(record, &mut touchpoint) {
                out.truncate(before.0);
                (self.max_event_time, self.unknown) = (before.1, before.2);
                return Outcome::Rejected(reject);
            }
            let watermark = self.watermark().expect("a touchpoint was taken");
            let origin = Origin {
                source: self.source.clone(),
                partition: self.partition,
                offset: record.offset,
                watermark,
            };
            out.push(CanonicalOut { key: key(&touchpoint), origin, touchpoint });
        }
        Outcome::Mapped((out.len() - before.0) as u64)
    }

    fn take(
        &mut self,
        record: &SourceRecord<'_>,
        touchpoint: &mut Touchpoint,
    ) -> Result<(), Reject> {
        self.rules.finish(touchpoint, record.arrival, &mut self.unknown)?;
        self.max_event_time = self.max_event_time.max(Some(touchpoint.event_time));
        Ok(())
    }

    /// Goes on where an earlier task left off: what it says of its source is not less than before.
    pub fn resume(&mut self, watermark: Option<EventTime>) {
        let reached = watermark.map(|w| w.plus(self.max_out_of_orderness));
        self.max_event_time = self.max_event_time.max(reached);
    }

    /// Highest event time less the bound for disorder; `None` before any data.
    pub fn watermark(&self) -> Option<EventTime> {
        self.max_event_time.map(|time| time.minus(self.max_out_of_orderness))
    }

    /// What this partition says of its progress. `waited` is the monotonic time since its last
    /// record, counted only while it is caught up and idle.
    pub fn report(&self, idle: bool, waited: Millis) -> Report {
        let watermark = self.watermark();
        let moved = if idle { waited } else { Millis::ZERO };
        Report { watermark, clock: watermark.map(|w| w.plus(moved)), idle }
    }

    /// The same as a control record; `of` is the number of source partitions in all.
    pub fn mark(&self, idle: bool, waited: Millis, of: u32) -> Mark {
        let Report { watermark, clock, idle } = self.report(idle, waited);
        let (source, partition) = (self.source.clone(), self.partition);
        Mark { source, partition, watermark, clock, idle, of }
    }

    /// Appends what was worth counting since the last call.
    pub fn observe(&mut self, out: &mut Vec<Observation>) {
        self.unknown.drain(out);
    }
}

/// The key of a touchpoint in the canonical topic.
pub fn key(touchpoint: &Touchpoint) -> Vec<u8> {
    match customer(touchpoint) {
        Some(customer) => {
            let mut key = Vec::with_capacity(touchpoint.tenant.len() + 1 + customer.len());
            canonical_key(&touchpoint.tenant, customer, &mut key);
            key
        }
        None => touchpoint.id.as_bytes().to_vec(),
    }
}

/// True if a partition with this watermark is ahead of the slowest of `all` by more than
/// `max_drift`: it is to be paused.
///
/// Idle partitions hold nobody back, nor do those that have had no data yet.
pub fn is_ahead<'a>(
    watermark: Option<EventTime>,
    all: impl Iterator<Item = &'a Report>,
    max_drift: Millis,
) -> bool {
    let slowest = all.filter(|report| !report.idle).filter_map(|report| report.watermark).min();
    watermark.zip(slowest).is_some_and(|(mine, slowest)| mine.since(slowest) > max_drift)
}
