//! What the tasks of all roles share.

use crate::app::summary::Totals;
use crate::codec::derived::{Encoding, Produce, encode};
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
    /// Counts of the run.
    totals: Mutex<Totals>,
}

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
        Context { app, names, encoding, registry, schemas, metrics, totals: Mutex::default() }
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
            let headers = produce.headers.into_iter();
            out.records.push(OutRecord {
                topic: self.name(produce.topic).clone(),
                partition: produce.partition,
                key: Some(produce.key),
                value: produce.value,
                headers: headers.map(|(n, v)| (CompactString::const_new(n), Some(v))).collect(),
                timestamp: None,
            });
        }
    }

    /// The dead letter of a record: its bytes, key and headers as they came, and why.
    pub fn dead_letter(&self, record: &Record<'_>, reject: &Reject) -> OutRecord {
        let mut headers: Vec<(CompactString, Option<Vec<u8>>)> =
            record.headers.iter().map(|(n, v)| (n.into(), v.map(<[u8]>::to_vec))).collect();
        let mut say = |name: &'static str, text: String| {
            headers.push((CompactString::const_new(name), Some(text.into_bytes())));
        };
        say("dlq.reason", reject.reason.name().to_owned());
        say("dlq.field", reject.field.clone().unwrap_or_default());
        say("dlq.topic", record.topic.to_owned());
        say("dlq.partition", record.partition.to_string());
        say("dlq.offset", record.offset.to_string());
        OutRecord {
            topic: self.name(Topic::Rejected).clone(),
            partition: None,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers,
            timestamp: None,
        }
    }
}
