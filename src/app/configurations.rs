//! `<app>.config`: what the folds have seen of configurations, by fingerprint.
//!
//! A checkpoint has the fingerprint of the configuration that it was made under. Before the first of a
//! run is written, the text behind its fingerprint stands here, so that what differs later can be told.
//! The topic is compacted; a text that stands there already is written again, which changes nothing.

use crate::config::{Settings, differences};
use crate::kafka::client::{Connection, partitions};
use crate::kafka::reader::{Go, Tail, Tailed};
use crate::kafka::task::OutRecord;
use crate::kafka::writer::Writer;
use crate::kafka::{Error, Source, Start};
use crate::model::ids::PartitionId;
use crate::model::time::Millis;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The brokers answered a moment ago.
const WITHIN: Millis = Millis::from_secs(30);
/// Differences that a message tells.
const TOLD: usize = 8;

fn key(fingerprint: u128) -> String {
    format!("{fingerprint:032x}")
}

/// Writes what the folds see of the configuration, and waits until it is there.
///
/// # Errors
/// If the brokers refuse it or do not answer.
pub(super) fn publish(settings: &Settings, connection: &Connection) -> Result<(), Error> {
    let writer = Writer::repeating(connection, 1 << 20)?;
    let topic: Arc<str> = settings.config_topic().into();
    let key = key(settings.fold_fingerprint()).into_bytes();
    let text = settings.fold_text().as_bytes().to_vec();
    let record = OutRecord::new(&topic, key, Some(text));
    writer.send(&OutRecord { partition: Some(PartitionId::new(0)), ..record })?;
    writer.flush(WITHIN).map(|_| ())
}

/// All texts by the fingerprint in hexadecimal digits.
///
/// # Errors
/// If the topic cannot be read.
pub(super) fn known(
    settings: &Settings,
    connection: &Connection,
) -> Result<BTreeMap<String, String>, Error> {
    let topic = settings.config_topic();
    partitions(connection, &topic)?;
    let found: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let kept = found.clone();
    let sources = [Source::new(&topic, Start::Earliest)];
    let tail = Tail::start("config", connection, &sources, move |tailed| match tailed {
        Tailed::Record(record) => {
            let text = |bytes: Option<&[u8]>| {
                String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
            };
            let mut found = kept.lock().expect("no panic while held");
            found.insert(text(record.key), text(record.value));
            Go::On
        }
        Tailed::End { .. } => Go::Stop,
    })?;
    tail.join()?;
    Ok(std::mem::take(&mut *found.lock().expect("no panic while held")))
}

/// How the present configuration differs from that of a fingerprint; empty if nothing is known of it,
/// or nothing does.
pub(super) fn difference(
    settings: &Settings,
    known: &BTreeMap<String, String>,
    fingerprint: u128,
) -> String {
    let Some(old) = known.get(&key(fingerprint)) else { return String::new() };
    let mut all = differences(old, settings.fold_text());
    let more = all.len().saturating_sub(TOLD);
    all.truncate(TOLD);
    if more > 0 {
        all.push(format!("{more} more"));
    }
    all.join(", ")
}

/// A failure in words: if another configuration is why, with what differs.
pub(super) fn explained(settings: &Settings, connection: &Connection, error: &Error) -> String {
    let Error::Configuration { fingerprint, .. } = error else { return error.to_string() };
    let known = known(settings, connection).unwrap_or_else(|unknown| {
        tracing::warn!(error = %unknown, "what differs cannot be told");
        BTreeMap::new()
    });
    match difference(settings, &known, *fingerprint) {
        none if none.is_empty() => error.to_string(),
        differs => format!("{error}; what differs: {differs}"),
    }
}
