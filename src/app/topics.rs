//! `topics`: what the configuration needs, against what exists.

use crate::config::{IngestMode, Settings};
use crate::kafka::client::Connection;
use crate::kafka::topics::{self, Access, Change, Cleanup, Wanted};
use crate::model::topic::Topic;
use anyhow::bail;

/// Kept for ever.
const FOR_EVER: i64 = -1;

/// What `apply` would do, and the access rights that the pipeline needs.
///
/// # Errors
/// If the cluster cannot be asked.
pub fn plan(settings: &Settings) -> anyhow::Result<String> {
    let changes = changes(settings)?;
    let access = topics::acls(&access(settings));
    Ok(format!("{}\naccess rights that are needed:\n{access}", topics::describe(&changes)))
}

/// Creates what is missing.
///
/// # Errors
/// If something cannot be brought about: the message says what is in the way.
pub fn apply(settings: &Settings) -> anyhow::Result<String> {
    let changes = changes(settings)?;
    let refused: Vec<String> =
        changes.iter().filter(|c| c.is_refusal()).map(ToString::to_string).collect();
    if !refused.is_empty() {
        bail!("nothing was changed: {}", refused.join("; "));
    }
    topics::apply(&Connection::new(settings.kafka.clone()), &changes)?;
    Ok(topics::describe(&changes))
}

fn changes(settings: &Settings) -> anyhow::Result<Vec<Change>> {
    let wanted = wanted(settings);
    let names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
    let existing = topics::existing(&Connection::new(settings.kafka.clone()), &names)?;
    Ok(topics::plan(&wanted, &existing))
}

fn needed(settings: &Settings) -> impl Iterator<Item = Topic> {
    let direct = settings.ingest == IngestMode::Direct;
    Topic::ALL.into_iter().filter(move |t| !(direct && *t == Topic::Canonical))
}

fn wanted(settings: &Settings) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> =
        settings.sources.values().map(|source| Wanted::source(&source.topic)).collect();
    for topic in needed(settings) {
        let Some(set) = settings.topics.get(&topic) else { continue };
        let cleanup = match (set.compact, set.retention.is_some()) {
            (true, true) => Cleanup::CompactDelete,
            (true, false) => Cleanup::Compact,
            (false, _) => Cleanup::Delete,
        };
        let retention = set.retention.map_or(FOR_EVER, |r| r.as_ms());
        let copies = Some(set.replication_factor).filter(|n| *n > 0);
        wanted.push(Wanted::ours(&set.name, set.partitions, copies, cleanup, retention));
    }
    wanted
}

fn access(settings: &Settings) -> Access {
    let own: Vec<String> = needed(settings).map(|t| settings.topic(t).to_owned()).collect();
    let sources = settings.sources.values().map(|s| s.topic.clone());
    let read = [
        Topic::Canonical,
        Topic::Rollup,
        Topic::Live,
        Topic::ChannelStage,
        Topic::AlertEvents,
        Topic::AlertsActive,
    ];
    let internal = read.iter().map(|t| settings.topic(*t).to_owned()).filter(|n| own.contains(n));
    Access {
        reads: sources.chain(internal).collect(),
        writes: own.clone(),
        application: settings.app.name.to_string(),
    }
}
