//! The topics and access rights that the configuration needs, against those that exist.
//!
//! [`plan`] is pure; [`existing`] asks and [`apply`] creates. What differs in a topic that exists is
//! told, never changed: partition counts of internal topics are fixed at creation, and settings of a
//! topic with data in it are the owner's to change. Nothing is ever deleted.

use super::client::{Asker, Connection, Quiet, create};
use super::error::Error;
use crate::clock::Moment;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// What becomes of old records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cleanup {
    /// Old segments are deleted.
    Delete,
    /// The last record of a key stays.
    Compact,
    /// Both.
    CompactDelete,
}

impl Cleanup {
    /// The value of `cleanup.policy`.
    pub const fn policy(self) -> &'static str {
        match self {
            Cleanup::Delete => "delete",
            Cleanup::Compact => "compact",
            Cleanup::CompactDelete => "compact,delete",
        }
    }
}

/// A topic that is needed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Name.
    pub name: String,
    /// Number of partitions; `None` takes whatever a topic of others has, and cannot be created.
    pub partitions: Option<i32>,
    /// Copies of each partition; `None` is the cluster's default.
    pub replication: Option<i32>,
    /// Settings.
    pub configs: BTreeMap<String, String>,
}

impl Wanted {
    /// A topic that we write: stamped with broker time, so that retention and compaction do not act on
    /// event time; `retention_ms` of −1 keeps for ever.
    pub fn ours(
        name: &str,
        partitions: i32,
        replication: Option<i32>,
        cleanup: Cleanup,
        retention_ms: i64,
    ) -> Wanted {
        let mut configs = BTreeMap::from([
            ("message.timestamp.type".to_owned(), "LogAppendTime".to_owned()),
            ("cleanup.policy".to_owned(), cleanup.policy().to_owned()),
        ]);
        if cleanup != Cleanup::Compact {
            configs.insert("retention.ms".to_owned(), retention_ms.to_string());
        }
        if cleanup != Cleanup::Delete {
            // Readers that start late see every tombstone within a day.
            configs.insert("max.compaction.lag.ms".to_owned(), "86400000".to_owned());
        }
        Wanted { name: name.to_owned(), partitions: Some(partitions), replication, configs }
    }

    /// A topic that keeps state: it is never cut, and tombstones free what they delete within a day. The
    /// last segment is never compacted, and a restart reads it whole: it ends at 50 MiB, as Kafka
    /// Streams has it, not at 1 GiB.
    pub fn changelog(name: &str, partitions: i32, replication: Option<i32>) -> Wanted {
        let mut wanted = Wanted::ours(name, partitions, replication, Cleanup::Compact, -1);
        let more =
            [("retention.ms", "-1"), ("segment.ms", "3600000"), ("segment.bytes", "52428800")];
        wanted.configs.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
        wanted
    }

    /// A topic that others own and we read: it must be there.
    pub fn source(name: &str) -> Wanted {
        Wanted {
            name: name.to_owned(),
            partitions: None,
            replication: None,
            configs: BTreeMap::new(),
        }
    }
}

/// A topic that exists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Existing {
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of its first partition.
    pub replication: i32,
    /// Its settings, those by default included.
    pub configs: BTreeMap<String, String>,
}

/// A step from what exists to what is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// To be created.
    Create(Wanted),
    /// A source topic that is not there: its owner must create it.
    Missing {
        /// Name.
        topic: String,
    },
    /// Another number of partitions than wanted: refused, as keys would move.
    Partitions {
        /// Name.
        topic: String,
        /// As it is.
        existing: i32,
        /// As it should be.
        wanted: i32,
    },
    /// A setting differs: told, not changed.
    Config {
        /// Name of the topic.
        topic: String,
        /// Name of the setting.
        name: String,
        /// As it is; empty if the broker does not know it.
        existing: String,
        /// As it should be.
        wanted: String,
    },
}

impl Change {
    /// True if the pipeline must not run before this is resolved by hand.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Change::Missing { .. } | Change::Partitions { .. })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Create(wanted) => {
                write!(f, "create {}", wanted.name)?;
                if let Some(partitions) = wanted.partitions {
                    write!(f, " partitions={partitions}")?;
                }
                if let Some(replication) = wanted.replication {
                    write!(f, " replication={replication}")?;
                }
                wanted.configs.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
            }
            Change::Missing { topic } => {
                write!(f, "missing {topic}: a source topic, to be created by its owner")
            }
            Change::Partitions { topic, existing, wanted } => write!(
                f,
                "refused {topic}: has {existing} partitions, the configuration says {wanted}; keys \
                 would move, so change the configuration, or use another topic"
            ),
            Change::Config { topic, name, existing, wanted } => {
                let existing = if existing.is_empty() { "unset" } else { existing };
                write!(f, "differs {topic}: {name} is {existing}, should be {wanted}")
            }
        }
    }
}

/// What is to be done, in the order of `wanted`.
pub fn plan(wanted: &[Wanted], existing: &BTreeMap<String, Existing>) -> Vec<Change> {
    wanted.iter().flat_map(|topic| changes(topic, existing.get(&topic.name))).collect()
}

fn changes(wanted: &Wanted, existing: Option<&Existing>) -> Vec<Change> {
    let topic = wanted.name.clone();
    let Some(existing) = existing else {
        return match wanted.partitions {
            Some(_) => vec![Change::Create(wanted.clone())],
            None => vec![Change::Missing { topic }],
        };
    };
    let mut changes = Vec::new();
    if let Some(count) = wanted.partitions
        && count != existing.partitions
    {
        let (topic, existing) = (topic.clone(), existing.partitions);
        changes.push(Change::Partitions { topic, existing, wanted: count });
    }
    for (name, value) in &wanted.configs {
        let found = existing.configs.get(name).map_or("", String::as_str);
        if !same(found, value) {
            changes.push(Change::Config {
                topic: topic.clone(),
                name: name.clone(),
                existing: found.to_owned(),
                wanted: value.clone(),
            });
        }
    }
    changes
}

/// Lists are the same in any order.
fn same(a: &str, b: &str) -> bool {
    let items = |list: &str| {
        let mut items: Vec<String> = list.split(',').map(|i| i.trim().to_owned()).collect();
        items.sort_unstable();
        items
    };
    items(a) == items(b)
}

/// The text of a plan: one line per change, or that there is none.
pub fn describe(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "all topics are as they should be\n".to_owned();
    }
    changes.iter().map(|change| format!("{change}\n")).collect()
}

/// Those of the topics that exist, with their settings.
pub fn existing(
    connection: &Connection,
    names: &[&str],
) -> Result<BTreeMap<String, Existing>, Error> {
    let asker = connection.asker()?;
    let mut found = BTreeMap::new();
    for name in names {
        match asker.partitions(name) {
            Ok(partitions) => {
                let replication = replication(&asker, name)?;
                let configs = BTreeMap::new();
                found.insert((*name).to_owned(), Existing { partitions, replication, configs });
            }
            Err(Error::MissingTopic(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let wanted: Vec<&str> = found.keys().map(String::as_str).collect();
    let mut configs = describe_configs(connection, &wanted)?;
    for (name, topic) in &mut found {
        topic.configs = configs.remove(name).unwrap_or_default();
    }
    Ok(found)
}

fn replication(asker: &Asker, topic: &str) -> Result<i32, Error> {
    use rdkafka::consumer::Consumer;
    let what = || format!("asking for topic {topic}");
    let metadata = asker.ask(what, |c| c.fetch_metadata(Some(topic), TIMEOUT))?;
    let first = metadata.topics().first().and_then(|t| t.partitions().first());
    Ok(first.map_or(0, |p| i32::try_from(p.replicas().len()).unwrap_or(i32::MAX)))
}

fn describe_configs(
    connection: &Connection,
    names: &[&str],
) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let what = || "asking for the settings of topics".to_owned();
    let admin: AdminClient<Quiet> = create(&connection.admin())?;
    let resources: Vec<ResourceSpecifier<'_>> =
        names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let answers = wait(admin.describe_configs(&resources, &options()))?
        .map_err(|e| Error::broker(what(), e))?;
    let mut found = BTreeMap::new();
    // The answers come in the order of the questions.
    for (name, answer) in names.iter().zip(answers) {
        let resource = answer.map_err(|e| Error::broker(what(), e))?;
        let entries = resource.entries.into_iter().filter_map(|e| Some((e.name, e.value?)));
        found.insert((*name).to_owned(), entries.collect());
    }
    Ok(found)
}

/// Creates what the plan says is to be created, and waits until it can be used; leaves the rest alone.
pub fn apply(connection: &Connection, changes: &[Change]) -> Result<(), Error> {
    let creates = changes.iter().filter_map(|change| match change {
        Change::Create(wanted) => Some(wanted),
        _ => None,
    });
    let admin: AdminClient<Quiet> = create(&connection.admin())?;
    let asker = connection.asker()?;
    for wanted in creates {
        let what = || format!("creating topic {}", wanted.name);
        let replication = TopicReplication::Fixed(wanted.replication.unwrap_or(-1));
        let mut topic = NewTopic::new(&wanted.name, wanted.partitions.unwrap_or(-1), replication);
        for (name, value) in &wanted.configs {
            topic = topic.set(name, value);
        }
        let answers = wait(admin.create_topics([&topic], &options()))?
            .map_err(|e| Error::broker(what(), e))?;
        for answer in answers {
            answer.map_err(|(_, code)| Error::broker(what(), code))?;
        }
        await_topic(&asker, &wanted.name)?;
    }
    Ok(())
}

/// Waits until brokers answer for a topic: the controller has it first.
fn await_topic(asker: &Asker, topic: &str) -> Result<(), Error> {
    let since = Moment::now();
    loop {
        match asker.partitions(topic) {
            Err(_) if since.elapsed_secs() < TIMEOUT.as_secs_f64() => std::thread::sleep(PAUSE),
            result => return result.map(drop),
        }
    }
}

pub(super) fn options() -> AdminOptions {
    // Answered when all brokers know the topic.
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

pub(super) fn wait<F: Future>(asked: F) -> Result<F::Output, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|e| Error::System(format!("no runtime to wait in: {e}")))?;
    Ok(runtime.block_on(asked))
}

/// What the pipeline is called and uses, for the access rights that it needs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Topics that are read.
    pub reads: Vec<String>,
    /// Topics that are written.
    pub writes: Vec<String>,
    /// Prefix of all groups and transactional ids: the name of the application.
    pub application: String,
}

/// The access rights needed, one per line, as `operation resource type name`.
pub fn acls(access: &Access) -> String {
    let mut lines = Vec::new();
    for topic in &access.reads {
        lines.push(format!("allow Read, Describe topic literal {topic}"));
    }
    for topic in &access.writes {
        lines.push(format!("allow Write, Describe, DescribeConfigs topic literal {topic}"));
    }
    let application = &access.application;
    lines.push(format!("allow Read, Describe group prefixed {application}"));
    lines.push(format!("allow Write, Describe transactional-id prefixed {application}"));
    lines.push("allow IdempotentWrite cluster (brokers before 2.8 only)".to_owned());
    lines.push("allow Create cluster (for `topics apply` only)".to_owned());
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(partitions: i32) -> Wanted {
        Wanted::ours("alerts.events", partitions, Some(3), Cleanup::CompactDelete, 604_800_000)
    }

    fn there(partitions: i32, changed: &[(&str, &str)]) -> BTreeMap<String, Existing> {
        let mut configs = ours(1).configs;
        for (name, value) in changed {
            configs.insert((*name).to_owned(), (*value).to_owned());
        }
        let topic = Existing { partitions, replication: 1, configs };
        [("alerts.events".to_owned(), topic)].into()
    }

    #[track_caller]
    fn check(wanted: Wanted, existing: &BTreeMap<String, Existing>, expected: &str) {
        assert_eq!(describe(&plan(&[wanted], existing)), expected);
    }

    #[test]
    fn a_plan_creates_refuses_and_tells() {
        let all_well = "all topics are as they should be\n";
        check(
            ours(4),
            &BTreeMap::new(),
            "create alerts.events partitions=4 replication=3 cleanup.policy=compact,delete \
             max.compaction.lag.ms=86400000 message.timestamp.type=LogAppendTime \
             retention.ms=604800000\n",
        );
        check(ours(4), &there(4, &[]), all_well);
        check(ours(4), &there(4, &[("cleanup.policy", "delete,compact")]), all_well);
        check(
            ours(4),
            &there(6, &[("retention.ms", "1000")]),
            "refused alerts.events: has 6 partitions, the configuration says 4; keys would move, so \
             change the configuration, or use another topic\n\
             differs alerts.events: retention.ms is 1000, should be 604800000\n",
        );
        check(Wanted::source("alerts.events"), &there(6, &[]), all_well);
        check(
            Wanted::source("orders"),
            &there(6, &[]),
            "missing orders: a source topic, to be created by its owner\n",
        );
    }

    #[test]
    fn access_rights_are_named_by_operation() {
        let access = Access {
            reads: vec!["orders".to_owned()],
            writes: vec!["alerts.events".to_owned()],
            application: "shop".to_owned(),
        };
        let text = acls(&access);
        assert!(text.starts_with("allow Read, Describe topic literal orders\n"));
        assert!(
            text.contains("allow Write, Describe, DescribeConfigs topic literal alerts.events")
        );
        assert!(text.contains("allow Read, Describe group prefixed shop\n"));
        assert!(text.contains("allow Write, Describe transactional-id prefixed shop\n"));
    }
}
