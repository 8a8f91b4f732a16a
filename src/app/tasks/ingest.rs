//! The ingest task: source records in, canonical records and marks out.

use super::context::Context;
use super::decode::{Decoder, Undecoded};
use crate::app::ingest_parts::SourceParts;
use crate::clock::{self, Moment};
use crate::codec::canonical::{
    Needs, encode_avro, encode_control_avro, encode_control_json, encode_json,
};
use crate::codec::derived::header;
use crate::codec::murmur2::partition_of;
use crate::config::Format;
use crate::engine::progress::Report;
use crate::ingest::{CanonicalOut, MarkSchedule, Outcome, SourceRecord, SourceTask, is_ahead};
use crate::kafka::task::{OutRecord, Produced, Record, Task, TaskError, TaskFactory, TaskProgress};
use crate::model::control::{CONTROL_HEADER, Control};
use crate::model::ids::PartitionId;
use crate::model::reject::{Reject, RejectReason};
use crate::model::time::{EventTime, Millis};
use crate::model::topic::Topic;
use compact_str::CompactString;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// How often each canonical partition hears of each source partition at least.
const MARK_INTERVAL: Millis = Millis::from_secs(1);

/// How canonical records are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CanonicalEncoding {
    /// JSON, without a registry.
    Json,
    /// Avro in the Confluent wire format, by the registry's ids.
    Avro {
        /// Of the schema with origin.
        touchpoint: u32,
        /// Of control records.
        control: u32,
    },
}

/// What the ingest tasks of this process know of one another: only for holding back those ahead.
type Reports = Mutex<BTreeMap<(CompactString, i32), Report>>;

/// Makes ingest tasks.
pub struct Ingests {
    /// Shared context.
    pub context: Arc<Context>,
    /// Sources by topic.
    pub sources: BTreeMap<String, SourceParts>,
    /// Partitions of the canonical topic.
    pub canonical_partitions: i32,
    /// Source partitions in all.
    pub of: u32,
    /// Quiet time after which a partition is idle.
    pub idle_timeout: Millis,
    /// How far one source partition may be ahead of the slowest.
    pub max_drift: Millis,
    /// How records are written.
    pub encoding: CanonicalEncoding,
    /// Largest record that is decoded.
    pub max_bytes: usize,
    /// Progress of all tasks.
    pub reports: Arc<Reports>,
}

impl TaskFactory for Ingests {
    fn create(&self, topic: &str, partition: PartitionId) -> Result<Box<dyn Task>, String> {
        let source = self.sources.get(topic).ok_or_else(|| format!("{topic} is no source"))?;
        let canonical = u32::try_from(self.canonical_partitions).unwrap_or(1);
        Ok(Box::new(IngestTask {
            context: self.context.clone(),
            decoder: Decoder::new(self.context.clone(), self.max_bytes, Needs::default()),
            source: source.clone(),
            task: source.task(partition.get()),
            partition,
            marks: MarkSchedule::new(canonical),
            marked: None,
            canonical_partitions: self.canonical_partitions,
            of: self.of,
            idle_timeout: self.idle_timeout,
            max_drift: self.max_drift,
            read: 0,
            waits: false,
            encoding: self.encoding,
            reports: self.reports.clone(),
            mapped: Vec::new(),
        }))
    }
}

struct IngestTask {
    context: Arc<Context>,
    decoder: Decoder,
    source: SourceParts,
    task: SourceTask,
    partition: PartitionId,
    marks: MarkSchedule,
    /// When marks were written last; `None` before the first.
    marked: Option<Moment>,
    canonical_partitions: i32,
    of: u32,
    idle_timeout: Millis,
    max_drift: Millis,
    /// Bytes since it last waited for slower partitions.
    read: usize,
    /// It waits for slower partitions.
    waits: bool,
    encoding: CanonicalEncoding,
    reports: Arc<Reports>,
    /// Reused from record to record.
    mapped: Vec<CanonicalOut>,
}

impl IngestTask {
    /// Writes the marks that are due: before any data to every canonical partition.
    fn mark(&mut self, idle: bool, waited: Millis, out: &mut Produced) {
        let control = Control::Mark(self.task.mark(idle, waited, self.of));
        for partition in self.marks.due(idle) {
            let mut value = Vec::new();
            match self.encoding {
                CanonicalEncoding::Json => encode_control_json(&control, &mut value),
                CanonicalEncoding::Avro { control: id, .. } => {
                    encode_control_avro(id, &control, &mut value);
                }
            }
            out.records.push(OutRecord {
                topic: self.context.name(Topic::Canonical).clone(),
                partition: Some(partition),
                key: None,
                value: Some(value),
                headers: vec![header(CONTROL_HEADER, "mark")],
                timestamp: None,
            });
        }
        self.marked = Some(Moment::now());
        self.report(idle, waited);
    }

    fn report(&self, idle: bool, waited: Millis) {
        let mut reports = self.reports.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let key = (self.source.name.clone(), self.partition.get());
        reports.insert(key, self.task.report(idle, waited));
    }

    fn observe(&mut self) {
        let mut observations = Vec::new();
        self.task.observe(&mut observations);
        for observation in &observations {
            self.context.metrics.observe("ingest", self.partition.get(), observation);
        }
    }

    /// True if this partition is to wait for slower ones.
    fn is_ahead(&self) -> bool {
        let reports = self.reports.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        is_ahead(self.task.watermark(), reports.values(), self.max_drift)
    }

    /// Appends what the last record was mapped to: all of it, or nothing if one is too large to be
    /// produced.
    fn write(&mut self, out: &mut Produced) -> Result<(), Reject> {
        let before = out.records.len();
        for mapped in self.mapped.drain(..) {
            let partition = PartitionId::new(partition_of(&mapped.key, self.canonical_partitions));
            let mut value = Vec::with_capacity(512);
            let origin = Some(&mapped.origin);
            match self.encoding {
                CanonicalEncoding::Json => encode_json(origin, &mapped.touchpoint, &mut value),
                CanonicalEncoding::Avro { touchpoint: id, .. } => {
                    encode_avro(id, origin, &mapped.touchpoint, &mut value);
                }
            }
            if !self.context.fits(mapped.key.len() + value.len()) {
                out.records.truncate(before);
                return Err(Reject::whole(RejectReason::TooLarge));
            }
            self.marks.sent(partition);
            out.records.push(OutRecord {
                topic: self.context.name(Topic::Canonical).clone(),
                partition: Some(partition),
                key: Some(mapped.key),
                value: Some(value),
                headers: Vec::new(),
                timestamp: None,
            });
        }
        Ok(())
    }

    fn fold(&mut self, record: &Record<'_>) -> Result<Outcome, TaskError> {
        let headers: Vec<(&str, &[u8])> =
            record.headers.iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let payload = record.value.unwrap_or_default();
        let arrival = match record.timestamp_is_append {
            true => record.timestamp,
            false => clock::now().as_ms(),
        };
        let source = SourceRecord {
            partition: record.partition.get(),
            offset: record.offset.get(),
            payload,
            key: record.key,
            headers: &headers,
            broker_time: (record.timestamp >= 0).then_some(record.timestamp),
            arrival,
        };
        let avro = match self.source.format {
            Format::MappedJson => return Ok(self.task.on_record(&source, &mut self.mapped)),
            Format::CanonicalAvro => true,
            Format::CanonicalJson => false,
        };
        if payload.is_empty() {
            return Ok(self.task.on_touchpoint(&source, None, &mut self.mapped));
        }
        match self.decoder.decode_full(payload, avro) {
            Ok(touchpoint) => {
                Ok(self.task.on_touchpoint(&source, Some(touchpoint), &mut self.mapped))
            }
            Err(Undecoded::Retry(reason)) => Err(TaskError::Retry { reason }),
            Err(Undecoded::Reject(reject)) => Ok(Outcome::Rejected(reject)),
        }
    }

    fn count(&self, outcome: &Outcome) {
        let mut totals = self.context.totals();
        let counts = match totals.sources.get_mut(self.source.name.as_str()) {
            Some(counts) => counts,
            None => totals.sources.entry(self.source.name.to_string()).or_default(),
        };
        counts.record(outcome);
    }
}

impl Drop for IngestTask {
    /// Whoever owns the partition next knows how far it is; what was known here would hold back the
    /// others for ever.
    fn drop(&mut self) {
        let mut reports = self.reports.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        reports.remove(&(self.source.name.clone(), self.partition.get()));
    }
}

/// Records between two looks at whether this partition is too far ahead.
const DRIFT_EVERY: i64 = 256;
/// Bytes that are read between two waits for slower partitions: about what a fetch brings, which a
/// pause throws away. It bounds what lies in the canonical topic ahead of its watermark as well as
/// time does, and a backlog of few events an hour is not read one by one.
const READ_AT_LEAST: usize = 1 << 20;

impl Task for IngestTask {
    fn record(&mut self, record: &Record<'_>, out: &mut Produced) -> Result<(), TaskError> {
        if record.offset.get() % DRIFT_EVERY == 0 {
            self.report(false, Millis::ZERO);
            self.waits = self.read >= READ_AT_LEAST && self.is_ahead();
            if self.waits {
                self.read = 0;
                let reason = "slower source partitions (time.max_drift)".to_owned();
                return Err(TaskError::Retry { reason });
            }
        }
        let mut outcome = self.fold(record)?;
        self.read += record.value.map_or(0, <[u8]>::len);
        // Marks go before all data, and only once nothing can be put off: outputs of a record that is
        // tried again are dropped.
        if self.marked.is_none() {
            self.mark(false, Millis::ZERO, out);
        }
        if let Err(reject) = self.write(out) {
            outcome = Outcome::Rejected(reject);
        }
        self.count(&outcome);
        if let Outcome::Rejected(reject) = &outcome {
            out.records.push(self.context.dead_letter(record, reject));
        }
        Ok(())
    }

    fn idle(
        &mut self,
        waited: Millis,
        caught_up: bool,
        out: &mut Produced,
    ) -> Result<(), TaskError> {
        self.observe();
        let idle = caught_up && waited >= self.idle_timeout;
        if self.marked.is_none_or(|at| at.elapsed() >= MARK_INTERVAL) {
            let waited = if idle { waited } else { Millis::ZERO };
            self.mark(idle, waited, out);
        }
        Ok(())
    }

    fn may_go_on(&self) -> Option<bool> {
        self.waits.then(|| !self.is_ahead())
    }

    fn seal(&mut self, out: &mut Produced) -> Result<(), TaskError> {
        self.observe();
        // Everything has been read: this partition holds nobody back any more.
        self.mark(true, Millis::ZERO, out);
        Ok(())
    }

    fn resume(&mut self, watermark: Option<EventTime>) {
        self.task.resume(watermark);
    }

    fn progress(&self) -> TaskProgress {
        let watermark = self.task.watermark();
        TaskProgress { clock: watermark, watermark, holding_back: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::ingest_parts::sources;
    use crate::codec::derived::Encoding;
    use crate::config::Settings;
    use crate::kafka::task::Headers;
    use crate::model::ids::Offset;
    use crate::telemetry::Metrics;

    fn ingests() -> Ingests {
        let yaml = "sources: {shop: {topic: in, format: canonical_json, start: earliest}}\n\
                    time: {max_age: 10000d}\n";
        let settings = Settings::from_yaml_str("test", yaml, BTreeMap::new()).unwrap();
        let names = Topic::ALL.iter().map(|t| (*t, Arc::from(t.default_name()))).collect();
        let (json, metrics) = (Encoding::Json, Arc::new(Metrics::new()));
        let context = Context::new("test".into(), names, json, None, BTreeMap::new(), metrics);
        Ingests {
            context: Arc::new(context),
            sources: sources(&settings).unwrap(),
            canonical_partitions: 1,
            of: 2,
            idle_timeout: Millis::from_secs(5),
            max_drift: Millis::from_secs(600),
            encoding: CanonicalEncoding::Json,
            max_bytes: 1 << 20,
            reports: Arc::default(),
        }
    }

    fn fold(task: &mut dyn Task, partition: i32, minute: i64) -> Result<(), TaskError> {
        let value = format!(
            r#"{{"id": "{minute}", "source": "s", "event_time": {}, "channel": "web",
                 "touchpoint": "page", "action": "view"}}{}"#,
            1_700_000_000_000 + minute * 60_000,
            " ".repeat(READ_AT_LEAST / 2)
        );
        let record = Record {
            topic: "in",
            partition: PartitionId::new(partition),
            // One at which the drift is looked at.
            offset: Offset::new(minute * DRIFT_EVERY),
            timestamp: 1_700_000_000_000 + minute * 60_000,
            timestamp_is_append: true,
            key: None,
            value: Some(value.as_bytes()),
            headers: Headers::Pairs(&[]),
        };
        task.record(&record, &mut Produced::default())
    }

    #[test]
    fn a_partition_that_is_gone_holds_nobody_back() {
        let ingests = ingests();
        let task = |partition| ingests.create("in", PartitionId::new(partition)).unwrap();
        let (mut slow, mut fast) = (task(0), task(1));
        for _ in 0..2 {
            fold(&mut *slow, 0, 0).unwrap();
        }
        assert_eq!(fast.may_go_on(), None);
        for minute in [1, 100] {
            fold(&mut *fast, 1, minute).unwrap();
        }
        assert!(matches!(fold(&mut *fast, 1, 101), Err(TaskError::Retry { .. })));
        assert_eq!(fast.may_go_on(), Some(false));
        drop(slow);
        assert_eq!(fast.may_go_on(), Some(true));
        fold(&mut *fast, 1, 101).unwrap();
    }

    #[test]
    fn a_partition_reads_on_once_slower_ones_have_moved_and_at_least_what_a_fetch_brings() {
        let ingests = ingests();
        let task = |partition| ingests.create("in", PartitionId::new(partition)).unwrap();
        let (mut slow, mut fast) = (task(0), task(1));
        for _ in 0..2 {
            fold(&mut *slow, 0, 0).unwrap();
        }
        fold(&mut *fast, 1, 100).unwrap();
        // Too far ahead, but it has read half of a fetch only.
        fold(&mut *fast, 1, 101).unwrap();
        assert!(matches!(fold(&mut *fast, 1, 102), Err(TaskError::Retry { .. })));
        fold(&mut *slow, 0, 80).unwrap();
        assert_eq!(
            fast.may_go_on(),
            Some(false),
            "the slow one says what it read at its next look"
        );
        fold(&mut *slow, 0, 95).unwrap();
        fold(&mut *slow, 0, 96).unwrap();
        assert_eq!(fast.may_go_on(), Some(true));
        fold(&mut *fast, 1, 102).unwrap();
        assert_eq!(fast.may_go_on(), None);
    }
}
