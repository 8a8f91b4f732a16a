//! Where reading starts: always where the configuration says, never at committed offsets.
//!
//! All start positions are settled once, before the first record is read, as numbers wherever that is
//! possible. So a partition that moves from one worker to another starts where the first one started.

use super::client::{ASK_TIMEOUT, Asker, Connection};
use super::error::Error;
use super::task::TopicPartition;
use crate::model::ids::{NextOffset, PartitionId};
use crate::model::time::EventTime;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;

/// Where the reading of a topic starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Start {
    /// At the oldest record that is there.
    Earliest,
    /// At the end, as it is when the workers start.
    Latest,
    /// At the first record whose timestamp is this or later, or at the end.
    Time(EventTime),
    /// At these offsets; partitions that are not named start at their oldest record.
    ///
    /// Internal topics are read from the end that they had at the start of the run (see
    /// [`end_offsets`](super::client::end_offsets)), so that one run never reads another one's records.
    At(BTreeMap<PartitionId, NextOffset>),
}

/// A topic to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Name of the topic.
    pub topic: String,
    /// Where to start.
    pub start: Start,
}

impl Source {
    /// A topic and where to start.
    pub fn new(topic: impl Into<String>, start: Start) -> Source {
        Source { topic: topic.into(), start }
    }
}

/// Start positions of every partition of the sources.
pub(super) type Starts = BTreeMap<TopicPartition, Offset>;

/// Asks the cluster for the partitions of all sources and settles where each starts.
pub(super) fn settle(connection: &Connection, sources: &[Source]) -> Result<Starts, Error> {
    let asker = connection.asker()?;
    let mut starts = Starts::new();
    for source in sources {
        let count = asker.partitions(&source.topic)?;
        let partitions = (0..count).map(PartitionId::new);
        let at = |p| TopicPartition::new(&source.topic, p);
        match &source.start {
            Start::Earliest => starts.extend(partitions.map(|p| (at(p), Offset::Beginning))),
            Start::Latest => {
                for p in partitions {
                    starts.insert(at(p), end(&asker, &source.topic, p)?);
                }
            }
            Start::Time(time) => starts.extend(by_time(&asker, &source.topic, count, *time)?),
            Start::At(offsets) => starts.extend(partitions.map(|p| {
                let known = offsets.get(&p).map(|next| Offset::Offset(next.get()));
                (at(p), known.unwrap_or(Offset::Beginning))
            })),
        }
    }
    Ok(starts)
}

fn end(asker: &Asker, topic: &str, partition: PartitionId) -> Result<Offset, Error> {
    Ok(Offset::Offset(asker.bounds(topic, partition)?.1.get()))
}

fn by_time(asker: &Asker, topic: &str, count: i32, time: EventTime) -> Result<Starts, Error> {
    let what = || format!("asking for the offsets of topic {topic} at {time}");
    let mut times = TopicPartitionList::new();
    for p in 0..count {
        // The interface wants the time where the offset stands.
        times
            .add_partition_offset(topic, p, Offset::Offset(time.as_ms().max(0)))
            .map_err(|e| Error::broker(what(), e))?;
    }
    let found = asker.ask(what, |c| c.offsets_for_times(times.clone(), ASK_TIMEOUT))?;
    let mut starts = Starts::new();
    for element in found.elements() {
        element.error().map_err(|e| Error::broker(what(), e))?;
        let partition = PartitionId::new(element.partition());
        let offset = match element.offset() {
            Offset::Offset(n) => Offset::Offset(n),
            // Nothing is that young: start with what comes next.
            _ => end(asker, topic, partition)?,
        };
        starts.insert(TopicPartition::new(topic, partition), offset);
    }
    Ok(starts)
}
