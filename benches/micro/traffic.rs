//! The input of all parts: a shop's traffic by `touchline::generate`, the same in every run.
//!
//! It goes through `ingest` as shipped, so that the canonical records carry their origin and the
//! source's watermark, as they do in the canonical topic.

use touchline::app::ingest_parts::sources;
use touchline::app::parts::Parts;
use touchline::codec::canonical::{
    Schemas, canonical_with_origin_schema, encode_avro, encode_json,
};
use touchline::config::Settings;
use touchline::generate::{Generator, Plan, Scenario};
use touchline::ingest::{CanonicalOut, Outcome, SourceRecord, SourceTask};
use touchline::model::control::{Control, Mark};
use touchline::model::ids::PartitionId;
use touchline::model::time::{EventTime, Millis};
use touchline::model::touchpoint::Touchpoint;

/// The shipped configuration with two sources: one that is canonical, and one that is mapped.
const CONFIG: &str = "\
sources:
  canonical: {topic: canonical, format: canonical_json, start: earliest}
  mapped:
    topic: mapped
    format: mapped_json
    mapping: config/mappings/shop.yaml
    start: earliest
";
/// Touchpoints per second of event time, as a mean over the day; customers come with it.
const RATE: f64 = 6.0;
/// Monday, 2026-03-02, 12:00 UTC: traffic is half as high again as the day's mean.
const START: EventTime = EventTime::from_ms(1_772_452_800_000);
/// The registry's id of the schema that canonical records are written with.
const SCHEMA_ID: u32 = 1;

/// The configuration that everything is made from.
pub(crate) fn settings() -> Settings {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/micro.yaml");
    Settings::from_yaml_str(file, CONFIG, []).expect("the benchmark's configuration is valid")
}

/// What the folds are made from.
pub(crate) fn parts(settings: &Settings) -> Parts {
    let mut parts = Parts::new(settings);
    parts.set_direct(false);
    parts
}

/// The task of a source's one partition, before any data.
pub(crate) fn task(settings: &Settings, source: &str) -> SourceTask {
    let sources = sources(settings).expect("the shipped mapping compiles");
    sources[source].task(0)
}

/// Schemas as a journey task knows them.
pub(crate) fn schemas() -> Schemas {
    let mut schemas = Schemas::new();
    let known = schemas.insert(SCHEMA_ID, canonical_with_origin_schema());
    known.expect("our own schema is one");
    schemas
}

/// What arrives, in order, and when; records that nobody can read are left out.
pub(crate) fn arrivals(count: usize) -> impl Iterator<Item = (EventTime, Touchpoint)> {
    let mut plan = Plan::new(Scenario::Shop, 1);
    plan.rate = RATE;
    let generator = Generator::new(plan.starting(START));
    let readable = generator.filter_map(|e| Some((e.arrival, e.payload.touchpoint()?.clone())));
    readable.take(count)
}

/// Canonical records as `ingest` makes them.
pub(crate) struct Canonical {
    task: SourceTask,
    offset: i64,
}

impl Canonical {
    pub(crate) fn new(settings: &Settings) -> Canonical {
        Canonical { task: task(settings, "canonical"), offset: 0 }
    }

    /// What `ingest` says before any data.
    pub(crate) fn mark(&self) -> Control {
        let mark: Mark = self.task.mark(false, Millis::ZERO, 1);
        Control::Mark(mark)
    }

    /// The canonical record of one touchpoint.
    pub(crate) fn record(&mut self, arrival: EventTime, touchpoint: Touchpoint) -> CanonicalOut {
        let record = source_record(self.offset, b"", arrival);
        self.offset += 1;
        let mut out = Vec::new();
        let outcome = self.task.on_touchpoint(&record, Some(touchpoint), &mut out);
        assert_eq!(outcome, Outcome::Mapped(1), "the generator's touchpoints are valid");
        out.remove(0)
    }
}

/// A record of a source topic.
pub(crate) fn source_record(offset: i64, payload: &[u8], arrival: EventTime) -> SourceRecord<'_> {
    SourceRecord {
        partition: 0,
        offset,
        payload,
        key: None,
        headers: &[],
        broker_time: Some(arrival.as_ms()),
        arrival: arrival.as_ms(),
    }
}

/// A canonical record's value in Avro.
pub(crate) fn avro(record: &CanonicalOut) -> Vec<u8> {
    let mut value = Vec::new();
    encode_avro(SCHEMA_ID, Some(&record.origin), &record.touchpoint, &mut value);
    value
}

/// A canonical record's value in JSON.
pub(crate) fn json(record: &CanonicalOut) -> Vec<u8> {
    let mut value = Vec::new();
    encode_json(Some(&record.origin), &record.touchpoint, &mut value);
    value
}

/// The one partition of everything.
pub(crate) const PARTITION: PartitionId = PartitionId::new(0);
