//! `topics`: what the configuration needs, against what exists.

use super::pipeline::Role;
use crate::config::{DeliveryMode, IngestMode, Settings};
use crate::kafka::client::{self, Connection};
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
    let connection = Connection::new(settings.kafka.clone());
    let direct = match settings.ingest {
        IngestMode::Direct => settings.sources.values().next(),
        IngestMode::Canonical => None,
    };
    let direct = direct.and_then(|source| client::partitions(&connection, &source.topic).ok());
    let wanted = wanted(settings, direct);
    let names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
    let existing = topics::existing(&connection, &names)?;
    Ok(topics::plan(&wanted, &existing))
}

fn needed(settings: &Settings) -> impl Iterator<Item = Topic> {
    let direct = settings.ingest == IngestMode::Direct;
    Topic::ALL.into_iter().filter(move |t| !(direct && *t == Topic::Canonical))
}

fn wanted(settings: &Settings, direct_partitions: Option<i32>) -> Vec<Wanted> {
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
    let (changelogs, inputs) = kept(settings, direct_partitions);
    wanted.extend(changelogs.into_iter().chain(inputs));
    wanted
}

/// Topics beside the folds, with as many partitions as their input has: those that keep state (and that
/// of configurations), and those that tell which side inputs were taken, for as long as the canonical
/// topic is kept.
fn kept(settings: &Settings, direct_partitions: Option<i32>) -> (Vec<Wanted>, Vec<Wanted>) {
    if settings.delivery.mode == DeliveryMode::AtLeastOnce {
        return Default::default();
    }
    let of = |topic: Topic| settings.topics.get(&topic);
    let copies = of(Topic::Rollup).map(|t| t.replication_factor).filter(|n| *n > 0);
    let journey = direct_partitions.or(of(Topic::Canonical).map(|t| t.partitions));
    let rollup = of(Topic::Rollup).map(|t| t.partitions);
    let retention = of(Topic::Canonical).and_then(|t| t.retention).map_or(FOR_EVER, |r| r.as_ms());
    let (mut changelogs, mut inputs) = (Vec::new(), Vec::new());
    for (role, partitions) in [(Role::Journey, journey), (Role::Rollup, rollup)] {
        let Some(partitions) = partitions else { continue };
        let changelog = settings.changelog(role.name());
        changelogs.push(Wanted::changelog(&changelog, partitions, copies));
        let name = settings.inputs(role.name());
        inputs.push(Wanted::ours(&name, partitions, copies, Cleanup::Delete, retention));
    }
    changelogs.push(Wanted::changelog(&settings.config_topic(), 1, copies));
    (changelogs, inputs)
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
    let names = |wanted: Vec<Wanted>| wanted.into_iter().map(|wanted| wanted.name);
    let (changelogs, inputs) = kept(settings, Some(1));
    let changelogs: Vec<String> = names(changelogs).collect();
    Access {
        reads: sources.chain(internal).chain(changelogs.clone()).collect(),
        writes: own.iter().cloned().chain(changelogs).chain(names(inputs)).collect(),
        application: settings.app.name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[track_caller]
    fn check(yaml: &str, direct: Option<i32>, expected: &[&str]) {
        let settings = Settings::from_yaml_str("test", yaml, BTreeMap::new()).unwrap();
        let (changelogs, inputs) = kept(&settings, direct);
        let line = |wanted: Wanted| {
            let partitions = wanted.partitions.unwrap_or_default();
            let retention = &wanted.configs["retention.ms"];
            format!("{} {partitions} {} {retention}", wanted.name, wanted.configs["cleanup.policy"])
        };
        let found: Vec<String> = changelogs.into_iter().chain(inputs).map(line).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_lies_beside_the_folds_has_the_partitions_of_their_input() {
        check(
            "app: {name: shop}\ntopics: {canonical: {partitions: 6, retention: 1d}}",
            None,
            &[
                "shop.journey.changelog 6 compact -1",
                "shop.rollup.changelog 1 compact -1",
                "shop.config 1 compact -1",
                "shop.journey.inputs 6 delete 86400000",
                "shop.rollup.inputs 1 delete 86400000",
            ],
        );
        check(
            "app: {name: shop}\ningest: direct\ntopics: {canonical: {retention: forever}}",
            Some(4),
            &[
                "shop.journey.changelog 4 compact -1",
                "shop.rollup.changelog 1 compact -1",
                "shop.config 1 compact -1",
                "shop.journey.inputs 4 delete -1",
                "shop.rollup.inputs 1 delete -1",
            ],
        );
        check("delivery: {mode: at_least_once}", None, &[]);
    }
}
