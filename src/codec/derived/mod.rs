//! Facts to records of the derived topics, and back for those who read them (`relay`).
//!
//! | fact | topic | key |
//! | --- | --- | --- |
//! | session | `journeys.sessions` | `tenant\|customer\|session_id` |
//! | checkout | `checkout.lifecycle` | `instance` |
//! | late | `touchpoints.late` | as it came |
//! | live | `engagement.live` | `tenant\|window\|dimensions` |
//! | window | `engagement.channel_stage` | `tenant\|window\|start\|dimensions` |
//! | alert | `alerts.events`; `alerts.active` | `fingerprint` |
//! | flush | the repartition topic of `rollup` | number of the journey partition |
//!
//! Dimensions in keys: `name=value` joined by commas, sorted by name; the total has nothing after
//! the last bar. Of a value, `%`, `|`, `,` and `=` are written `%25`, `%7C`, `%2C`, `%3D`, so that
//! no two series share a key. `start` is in epoch milliseconds.
//!
//! Sums of money are integers of up to 128 bits in JSON and `long` in Avro, where they saturate at
//! ±2^63: with amounts of at most 10^15 that takes more than 9,000 such orders in one sum. Doubles
//! that are not finite become the largest double of their sign (0 for "not a number") in both.

mod records;

use super::avro::write::AvroWrite;
use super::canonical::{DecodeError, Schemas, decode_avro_tree};
use super::fields::FromTree;
use super::{flush, wire};
use crate::engine::Fact;
use crate::model::ids::PartitionId;
use crate::model::record::{
    AlertRecord, AlertTransition, CheckoutRecord, LateRecord, LiveRecord, SessionRecord,
    WindowRecord,
};
use crate::model::reject::{Reject, RejectReason};
use crate::model::time::EventTime;
use crate::model::topic::Topic;
use compact_str::{CompactString, ToCompactString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The value of a header: most of ours are no longer than that.
pub type HeaderValue = SmallVec<[u8; 32]>;

/// Name and value of a header.
pub type Header = (CompactString, Option<HeaderValue>);

/// A record to produce.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Produce {
    /// Where to.
    pub topic: Topic,
    /// The partition, where it is not the key that decides.
    pub partition: Option<PartitionId>,
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<Header>,
}

/// Ids that the registry gave the schemas of the derived topics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "one id per topic of that name")]
pub struct SchemaIds {
    pub sessions: u32,
    pub checkout_lifecycle: u32,
    pub live: u32,
    pub channel_stage: u32,
    pub alert_events: u32,
    pub alerts_active: u32,
}

impl SchemaIds {
    /// The topics that need an id.
    pub const TOPICS: [Topic; 6] = [
        Topic::Sessions,
        Topic::CheckoutLifecycle,
        Topic::Live,
        Topic::ChannelStage,
        Topic::AlertEvents,
        Topic::AlertsActive,
    ];

    /// Sets the id of a topic; others than [`SchemaIds::TOPICS`] have none.
    pub fn set(&mut self, topic: Topic, id: u32) {
        match topic {
            Topic::Sessions => self.sessions = id,
            Topic::CheckoutLifecycle => self.checkout_lifecycle = id,
            Topic::Live => self.live = id,
            Topic::ChannelStage => self.channel_stage = id,
            Topic::AlertEvents => self.alert_events = id,
            Topic::AlertsActive => self.alerts_active = id,
            Topic::Canonical | Topic::Rejected | Topic::Late | Topic::Rollup => {}
        }
    }
}

/// How derived records are written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// JSON, without a registry.
    Json,
    /// Avro in the Confluent wire format.
    Avro(SchemaIds),
}

/// Appends the records that `fact` stands for; `source` is what `ce_source` names.
pub fn encode(fact: &Fact, encoding: &Encoding, source: &str, out: &mut Vec<Produce>) {
    match fact {
        Fact::Session(record) => out.push(session(record, encoding, source)),
        Fact::Checkout(record) => out.push(checkout(record, encoding, source)),
        Fact::Late(record) => out.push(late(record, source)),
        Fact::Flush(partition, flush) => {
            let mut value = Vec::new();
            flush::encode(flush, &mut value);
            out.push(Produce {
                topic: Topic::Rollup,
                partition: Some(*partition),
                key: flush.partition.to_string().into_bytes(),
                value: Some(value),
                headers: Vec::new(),
            });
        }
        Fact::Live(record) => out.push(live(record, encoding, source)),
        Fact::Window(record) => out.push(window(record, encoding, source)),
        Fact::Alert(record) => alert(record, encoding, source, out),
    }
}

fn session(record: &SessionRecord, encoding: &Encoding, source: &str) -> Produce {
    let key = format!("{}|{}|{}", record.tenant, record.customer, record.session_id);
    let event = Event { id: &record.id, kind: "journeys.session.v1", time: record.end };
    let value = value(record, encoding, |ids| ids.sessions);
    produce(Topic::Sessions, key, value, event.headers(source))
}

fn checkout(record: &CheckoutRecord, encoding: &Encoding, source: &str) -> Produce {
    let event = Event { id: &record.id, kind: "checkout.lifecycle.v1", time: record.at };
    let value = value(record, encoding, |ids| ids.checkout_lifecycle);
    produce(Topic::CheckoutLifecycle, record.instance.to_string(), value, event.headers(source))
}

fn late(record: &LateRecord, source: &str) -> Produce {
    let event = Event { id: &record.id, kind: "touchpoints.late.v1", time: record.event_time };
    let mut headers = event.headers(source);
    headers.push(header("late.by_ms", record.late_by_ms.to_string()));
    headers.push(header("late.watermark", record.watermark.as_ms().to_string()));
    headers.push(header("late.origin", &record.origin));
    Produce {
        topic: Topic::Late,
        partition: None,
        key: record.key.clone(),
        value: Some(record.value.clone()),
        headers,
    }
}

fn live(record: &LiveRecord, encoding: &Encoding, source: &str) -> Produce {
    let key = live_key(&record.tenant, &record.window, &record.dimensions);
    let event = Event { id: &record.id, kind: "engagement.live.v1", time: record.end };
    let value = value(record, encoding, |ids| ids.live);
    produce(Topic::Live, key, value, event.headers(source))
}

fn window(record: &WindowRecord, encoding: &Encoding, source: &str) -> Produce {
    let key = window_key(&record.tenant, &record.window, record.start, &record.dimensions);
    let event = Event { id: &record.id, kind: "engagement.channel_stage.v1", time: record.end };
    let value = value(record, encoding, |ids| ids.channel_stage);
    produce(Topic::ChannelStage, key, value, event.headers(source))
}

fn alert(record: &AlertRecord, encoding: &Encoding, source: &str, out: &mut Vec<Produce>) {
    let record = &*finite(record);
    let key = || record.fingerprint.to_string();
    let event = Event { id: &record.id, kind: "alerts.event.v1", time: record.at };
    let events = value(record, encoding, |ids| ids.alert_events);
    out.push(produce(Topic::AlertEvents, key(), events, event.headers(source)));
    match record.transition {
        AlertTransition::Firing | AlertTransition::Amended => {
            let active = value(record, encoding, |ids| ids.alerts_active);
            out.push(produce(Topic::AlertsActive, key(), active, event.headers(source)));
        }
        AlertTransition::Resolved => {
            out.push(produce(Topic::AlertsActive, key(), None, event.headers(source)));
        }
        AlertTransition::Pending | AlertTransition::Recovering | AlertTransition::Suppressed => {}
    }
}

/// The record with every double finite: JSON has no others.
fn finite(record: &AlertRecord) -> Cow<'_, AlertRecord> {
    fn doubles(r: &mut AlertRecord) -> impl Iterator<Item = &mut f64> {
        let own = [
            &mut r.value,
            &mut r.expected,
            &mut r.lower,
            &mut r.upper,
            &mut r.effect,
            &mut r.p_value,
            &mut r.maturity,
            &mut r.completeness,
        ];
        own.into_iter().chain(r.contributors.iter_mut().flat_map(|c| [&mut c.effect, &mut c.value]))
    }
    let own = [
        record.value,
        record.expected,
        record.lower,
        record.upper,
        record.effect,
        record.p_value,
        record.maturity,
        record.completeness,
    ];
    let theirs = record.contributors.iter().flat_map(|c| [c.effect, c.value]);
    if own.into_iter().chain(theirs).all(f64::is_finite) {
        return Cow::Borrowed(record);
    }
    let mut record = record.clone();
    for double in doubles(&mut record) {
        *double = if double.is_nan() { 0.0 } else { double.clamp(f64::MIN, f64::MAX) };
    }
    Cow::Owned(record)
}

/// Key of `engagement.live`.
pub fn live_key(
    tenant: &str,
    window: &str,
    dimensions: &BTreeMap<CompactString, CompactString>,
) -> String {
    format!("{tenant}|{window}|{}", Series(dimensions))
}

/// Key of `engagement.channel_stage`.
pub fn window_key(
    tenant: &str,
    window: &str,
    start: EventTime,
    dimensions: &BTreeMap<CompactString, CompactString>,
) -> String {
    format!("{tenant}|{window}|{}|{}", start.as_ms(), Series(dimensions))
}

struct Series<'a>(&'a BTreeMap<CompactString, CompactString>);

impl std::fmt::Display for Series<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (name, value)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{name}=")?;
            for c in value.chars() {
                match c {
                    '%' => f.write_str("%25")?,
                    '|' => f.write_str("%7C")?,
                    ',' => f.write_str("%2C")?,
                    '=' => f.write_str("%3D")?,
                    other => f.write_char(other)?,
                }
            }
        }
        Ok(())
    }
}

/// The attributes of a CloudEvent.
struct Event<'a> {
    id: &'a str,
    kind: &'static str,
    time: EventTime,
}

impl Event<'_> {
    fn headers(&self, source: &str) -> Vec<Header> {
        vec![
            header("ce_id", self.id),
            header("ce_source", source),
            header("ce_type", self.kind),
            header("ce_specversion", "1.0"),
            header("ce_time", self.time.to_compact_string()),
        ]
    }
}

/// A header whose value is a text.
pub fn header(name: &'static str, text: impl AsRef<str>) -> Header {
    let value = HeaderValue::from_slice(text.as_ref().as_bytes());
    (CompactString::const_new(name), Some(value))
}

fn produce(topic: Topic, key: String, value: Option<Vec<u8>>, headers: Vec<Header>) -> Produce {
    Produce { topic, partition: None, key: key.into_bytes(), value, headers }
}

fn value<T: Serialize + AvroWrite>(
    record: &T,
    encoding: &Encoding,
    id: impl Fn(&SchemaIds) -> u32,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(512);
    match encoding {
        Encoding::Json => {
            serde_json::to_writer(&mut out, record).expect("a vector takes all, keys are text");
        }
        Encoding::Avro(ids) => {
            wire::frame(id(ids), &mut out);
            record.avro(&mut out);
        }
    }
    Some(out)
}

/// Reads a record of `journeys.sessions`.
pub fn decode_session(schemas: &Schemas, value: &[u8]) -> Result<SessionRecord, DecodeError> {
    decode(schemas, value)
}

/// Reads a record of `checkout.lifecycle`.
pub fn decode_checkout(schemas: &Schemas, value: &[u8]) -> Result<CheckoutRecord, DecodeError> {
    decode(schemas, value)
}

/// Reads a record of `engagement.live`.
pub fn decode_live(schemas: &Schemas, value: &[u8]) -> Result<LiveRecord, DecodeError> {
    decode(schemas, value)
}

/// Reads a record of `engagement.channel_stage`.
pub fn decode_window(schemas: &Schemas, value: &[u8]) -> Result<WindowRecord, DecodeError> {
    decode(schemas, value)
}

/// Reads a record of `alerts.events` or `alerts.active`.
pub fn decode_alert(schemas: &Schemas, value: &[u8]) -> Result<AlertRecord, DecodeError> {
    decode(schemas, value)
}

/// The first byte tells the format: `{` is JSON, anything else must be framed Avro.
fn decode<T: DeserializeOwned + FromTree>(
    schemas: &Schemas,
    value: &[u8],
) -> Result<T, DecodeError> {
    if value.first() != Some(&b'{') {
        let tree = decode_avro_tree(schemas, value)?;
        return Ok(T::from_tree(&tree, "")?);
    }
    serde_json::from_slice(value).map_err(|error| {
        let reason = match error.classify() {
            serde_json::error::Category::Data => RejectReason::WrongType,
            _ => RejectReason::MalformedJson,
        };
        Reject::whole(reason).into()
    })
}
