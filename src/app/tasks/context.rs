//! What the tasks of all roles share.

use crate::app::summary::Totals;
use crate::codec::derived::{Encoding, Header, HeaderValue, Produce, encode, header};
use crate::engine::Fact;
use crate::kafka::registry::Registry;
use crate::kafka::task::{OutRecord, Produced, Record};
use crate::model::reject::Reject;
use crate::model::topic::Topic;
use crate::telemetry::Metrics;
use compact_str::CompactString;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Shared by every task of the process; nothing in it is needed per record but topic names.
pub struct Context {
    /// Name of the application.
    pub app: CompactString,
    /// Names of our topics.
    pub names: BTreeMap<Topic, Arc<str>>,
    /// How derived records are written.
    pub encoding: Encoding,
    /// The registry, if there is one.
    pub registry: Option<Arc<Registry>>,
    /// Writer schemas from files, by id.
    pub schemas: BTreeMap<u32, String>,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Largest record that the client produces.
    pub message_bytes: usize,
    /// Counts of the run.
    totals: Mutex<Totals>,
}

/// The client's own bound (`message.max.bytes`) where the configuration has none.
const MESSAGE_BYTES: usize = 1_000_000;
/// What framing and our own headers take of it at most.
const MESSAGE_ROOM: usize = 4_096;

impl Context {
    /// A context with nothing counted.
    pub fn new(
        app: CompactString,
        names: BTreeMap<Topic, Arc<str>>,
        encoding: Encoding,
        registry: Option<Arc<Registry>>,
        schemas: BTreeMap<u32, String>,
        metrics: Arc<Metrics>,
    ) -> Context {
        let message_bytes = MESSAGE_BYTES;
        let totals = Mutex::default();
        Context { app, names, encoding, registry, schemas, metrics, message_bytes, totals }
    }

    /// Takes the bound of a configuration.
    pub fn with_message_bytes(mut self, properties: &BTreeMap<String, String>) -> Context {
        let configured = properties.get("message.max.bytes").and_then(|text| text.parse().ok());
        self.message_bytes = configured.unwrap_or(MESSAGE_BYTES);
        self
    }

    /// True if a record with key and value of so many bytes in all can be produced.
    pub fn fits(&self, bytes: usize) -> bool {
        bytes + MESSAGE_ROOM <= self.message_bytes
    }

    /// The counts of the run. Hold it for moments only: once per record or batch.
    pub fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Name of one of our topics.
    pub fn name(&self, topic: Topic) -> &Arc<str> {
        self.names.get(&topic).expect("every topic has a name")
    }

    /// Encodes a fact into records to produce. `scratch` is reused between calls.
    pub fn produce(&self, fact: &Fact, scratch: &mut Vec<Produce>, out: &mut Produced) {
        encode(fact, &self.encoding, &self.app, scratch);
        for produce in scratch.drain(..) {
            out.records.push(OutRecord {
                topic: self.name(produce.topic).clone(),
                partition: produce.partition,
                key: Some(produce.key),
                value: produce.value,
                headers: produce.headers,
                timestamp: None,
            });
        }
    }

    /// The dead letter of a record: its bytes, key and headers as they came, and why. What would be
    /// too large for the client is cut off, so that no record stops a task: `dlq.truncated` then has
    /// the length that the value had.
    pub fn dead_letter(&self, record: &Record<'_>, reject: &Reject) -> OutRecord {
        let mut headers: Vec<Header> = record
            .headers
            .iter()
            .map(|(n, v)| (n.into(), v.map(HeaderValue::from_slice)))
            .collect();
        let of_headers: usize =
            headers.iter().map(|(n, v)| n.len() + v.as_ref().map_or(0, |v| v.len()) + 16).sum();
        let mut key = record.key;
        let mut used = MESSAGE_ROOM + of_headers + key.map_or(0, <[u8]>::len);
        if used > self.message_bytes {
            (key, used) = (None, MESSAGE_ROOM);
            headers.clear();
        }
        let room = self.message_bytes.saturating_sub(used);
        let value = record.value.map(|value| &value[..value.len().min(room)]);
        let whole = record.value.map_or(0, <[u8]>::len);
        headers.push(header("dlq.reason", reject.reason.name()));
        headers.push(header("dlq.field", reject.field.as_deref().unwrap_or_default()));
        headers.push(header("dlq.topic", record.topic));
        headers.push(header("dlq.partition", record.partition.to_string()));
        headers.push(header("dlq.offset", record.offset.to_string()));
        if whole > room {
            headers.push(header("dlq.truncated", whole.to_string()));
        }
        OutRecord {
            topic: self.name(Topic::Rejected).clone(),
            partition: None,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers,
            timestamp: None,
        }
    }
}
