//! Keeps the generator from outrunning the readers: what the embedded broker drops is gone.

use super::lock;
use crate::app::pipeline::{Pipeline, Role};
use crate::clock::Moment;
use crate::config::Settings;
use crate::kafka::client::{self, Connection};
use crate::model::ids::PartitionId;
use crate::model::time::Millis;
use crate::model::topic::Topic;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Unread records of one partition above which the generator waits. Records are below 1.5 KB, so this
/// is a third of what the broker keeps.
const UNREAD_MAX: i64 = 1_200;
/// How often the ends of topics are asked for.
const ASK_EVERY: Millis = Millis::from_ms(60);

pub(super) struct Pace {
    connection: Connection,
    /// Topics, and the role that reads each.
    topics: Vec<(String, Role, Option<Topic>)>,
    asked: Moment,
}

impl Pace {
    pub(super) fn new(settings: &Settings, connection: &Connection, source: &str) -> Pace {
        let of = |topic: Topic, role| (settings.topic(topic).to_owned(), role, Some(topic));
        Pace {
            connection: connection.clone(),
            topics: vec![
                (source.to_owned(), Role::Ingest, None),
                of(Topic::Canonical, Role::Journey),
                of(Topic::Rollup, Role::Rollup),
                of(Topic::Live, Role::Relay),
                of(Topic::ChannelStage, Role::Relay),
            ],
            asked: Moment::now(),
        }
    }

    /// Waits until nobody is far behind.
    pub(super) fn wait(
        &mut self,
        pipeline: &Mutex<Pipeline>,
        stopped: &AtomicBool,
    ) -> anyhow::Result<()> {
        if self.asked.elapsed() < ASK_EVERY {
            return Ok(());
        }
        while self.is_ahead(pipeline)? && !stopped.load(Ordering::SeqCst) {
            if let Some(reason) = lock(pipeline).failure() {
                anyhow::bail!("{reason}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.asked = Moment::now();
        Ok(())
    }

    fn is_ahead(&self, pipeline: &Mutex<Pipeline>) -> anyhow::Result<bool> {
        for (name, role, topic) in &self.topics {
            let ends = client::end_offsets(&self.connection, name)?;
            let read = read(&lock(pipeline), name, *role, *topic);
            let behind = |(partition, end): (&PartitionId, &crate::model::ids::NextOffset)| {
                end.get() - read.get(partition).copied().unwrap_or(0) > UNREAD_MAX
            };
            if ends.iter().any(behind) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn read(
    pipeline: &Pipeline,
    name: &str,
    role: Role,
    topic: Option<Topic>,
) -> BTreeMap<PartitionId, i64> {
    if let (Role::Relay, Some(topic), Some(relay)) = (role, topic, pipeline.relay()) {
        let positions = relay.positions();
        let of_topic = positions.into_iter().filter(|((t, _), _)| *t == topic);
        return of_topic.map(|((_, partition), next)| (partition, next.get())).collect();
    }
    let Some(workers) = pipeline.workers(role) else { return BTreeMap::new() };
    let positions = workers.positions();
    let of_topic = positions.into_iter().filter(|(at, _)| &*at.topic == name);
    of_topic.map(|(at, next)| (at.partition, next.get())).collect()
}
