//! Foreign records from files, through ingest, into the offline folds.

use super::ingest_parts::{SourceParts, sources};
use super::offline::{Offline, Recorded};
use super::replay::Item;
use crate::codec::canonical::{decode_json_full, encode_json};
use crate::codec::murmur2::partition_of;
use crate::codec::recorded::Line;
use crate::config::{Format, Settings};
use crate::ingest::{CanonicalOut, Outcome, SourceRecord, SourceTask};
use crate::model::control::Control;
use crate::model::ids::PartitionId;
use crate::model::reject::Reject;
use crate::model::time::Millis;
use anyhow::bail;
use std::collections::BTreeMap;

/// One source whose records come from files. Every source partition that is met reports from then on;
/// one that has not been met yet holds nothing back.
pub(super) struct Ingested {
    source: SourceParts,
    tasks: BTreeMap<i32, SourceTask>,
    /// Next offset of each canonical partition.
    offsets: Vec<i64>,
    mapped: Vec<CanonicalOut>,
}

impl Ingested {
    /// Prepares the source called `name`. Without a record's own time of arrival there are no bounds
    /// for how old or how far ahead it may be.
    pub(super) fn new(settings: &Settings, name: &str) -> anyhow::Result<Ingested> {
        let mut settings = settings.clone();
        settings.time.max_age = Millis::from_hours(1_000_000);
        settings.time.max_future_skew = Millis::from_hours(1_000_000);
        let all = sources(&settings).map_err(anyhow::Error::msg)?;
        let Some(source) = all.into_values().find(|s| s.name == name) else {
            let known: Vec<&str> = settings.sources.keys().map(|k| k.as_str()).collect();
            bail!("there is no source {name}; the configuration has {}", known.join(", "));
        };
        if source.format == Format::CanonicalAvro {
            bail!("source {name} is Avro: record its canonical topic and replay that");
        }
        Ok(Ingested { source, tasks: BTreeMap::new(), offsets: Vec::new(), mapped: Vec::new() })
    }

    /// Takes one line: a recorded record of the source topic, or a foreign object.
    pub(super) fn take(
        &mut self,
        line: Result<Line<'_>, (Reject, &[u8])>,
        number: i64,
        offline: &mut Offline,
        emit: &mut dyn FnMut(Item<'_>),
    ) -> anyhow::Result<()> {
        let bytes;
        let (partition, offset, time, payload): (i32, i64, Option<i64>, &[u8]) = match &line {
            Ok(Line::Recorded(r)) => {
                let payload = r.value.as_deref().unwrap_or_default();
                (r.partition.get(), r.offset.get(), Some(r.timestamp), payload)
            }
            Ok(Line::Bare(value)) => {
                bytes = value.to_vec();
                (0, number, None, &bytes)
            }
            // What is no JSON is for the source's own rules to reject.
            Err((_, value)) => (0, number, None, value),
        };
        let record = SourceRecord {
            partition,
            offset,
            payload,
            key: None,
            headers: &[],
            broker_time: time,
            arrival: time.unwrap_or(0),
        };
        let outcome = self.fold(partition, &record, offline, emit);
        self.count(&outcome, offline);
        match &outcome {
            Outcome::Rejected(reject) => {
                let source = self.source.name.as_str();
                let partition = PartitionId::new(partition);
                emit(Item::Rejected { reject, source, partition, offset, value: payload });
            }
            Outcome::Mapped(_) => self.pass_on(offline, emit),
            Outcome::Filtered(_) => {}
        }
        Ok(())
    }

    fn fold(
        &mut self,
        partition: i32,
        record: &SourceRecord<'_>,
        offline: &mut Offline,
        emit: &mut dyn FnMut(Item<'_>),
    ) -> Outcome {
        if !self.tasks.contains_key(&partition) {
            self.tasks.insert(partition, self.source.task(partition));
            self.announce(partition, offline, emit);
        }
        let task = self.tasks.get_mut(&partition).expect("it has just been made");
        if self.source.format == Format::MappedJson {
            return task.on_record(record, &mut self.mapped);
        }
        if record.payload.is_empty() {
            return task.on_touchpoint(record, None, &mut self.mapped);
        }
        match decode_json_full(record.payload) {
            Ok((_, touchpoint)) => task.on_touchpoint(record, Some(touchpoint), &mut self.mapped),
            Err(reject) => Outcome::Rejected(reject),
        }
    }

    /// The mark before any data, to every canonical partition.
    fn announce(&mut self, partition: i32, offline: &mut Offline, emit: &mut dyn FnMut(Item<'_>)) {
        let of = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        let mark = Control::Mark(self.tasks[&partition].mark(false, Millis::ZERO, of));
        for canonical in 0..offline.partitions() {
            let offset = self.next_offset(canonical);
            offline.control(canonical, offset, &mark, &mut |fact| emit(Item::Fact(fact)));
        }
    }

    fn pass_on(&mut self, offline: &mut Offline, emit: &mut dyn FnMut(Item<'_>)) {
        let mut value = Vec::new();
        for mapped in std::mem::take(&mut self.mapped) {
            let partition = partition_of(&mapped.key, offline.partitions());
            let offset = self.next_offset(partition);
            value.clear();
            encode_json(Some(&mapped.origin), &mapped.touchpoint, &mut value);
            let record = Recorded { partition, offset, key: &mapped.key, value: &value };
            let origin = Some(crate::model::touchpoint::OriginRef {
                source: &mapped.origin.source,
                partition: mapped.origin.partition,
                offset: mapped.origin.offset,
                watermark: mapped.origin.watermark,
            });
            let view = mapped.touchpoint.view();
            offline.touchpoint(record, origin, &view, &mut |fact| emit(Item::Fact(fact)));
        }
    }

    fn next_offset(&mut self, partition: i32) -> i64 {
        let at = usize::try_from(partition).expect("partitions are not negative");
        if self.offsets.len() <= at {
            self.offsets.resize(at + 1, 0);
        }
        self.offsets[at] += 1;
        self.offsets[at] - 1
    }

    fn count(&self, outcome: &Outcome, offline: &mut Offline) {
        let name = self.source.name.to_string();
        offline.totals_mut().sources.entry(name).or_default().record(outcome);
    }
}
