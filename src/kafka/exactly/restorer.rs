//! Reads partitions of a changelog from their beginning, as committed, beside the worker's input.

use super::core::Core;
use crate::clock::Moment;
use crate::kafka::batch::{BatchConsumer, Event};
use crate::kafka::client::{Connection, property_error};
use crate::kafka::error::Error;
use crate::kafka::health::Monitor;
use crate::kafka::reader::fatal;
use crate::kafka::task::TopicPartition;
use crate::model::ids::{NextOffset, PartitionId};
use crate::model::time::Millis;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Records taken per poll: the input of other partitions is read in between.
const RECORDS_PER_POLL: usize = 10_000;
const PREFETCH_KIB: &str = "65536";
/// How often a changelog at its end is looked at again.
const LOOK_EVERY: Millis = Millis::from_ms(50);

/// Partitions that came together and are restored together.
pub(super) struct Restorer {
    consumer: BatchConsumer,
    /// By partition of the changelog: that of the input, and the end, once it has been seen.
    open: BTreeMap<PartitionId, (TopicPartition, Option<NextOffset>)>,
    /// Where each partition of the changelog begins.
    first: BTreeMap<PartitionId, NextOffset>,
    changelog: Arc<str>,
    looked: Moment,
    since: Moment,
    entries: u64,
}

impl Restorer {
    pub(super) fn start(
        connection: &Connection,
        group: &str,
        changelog: &Arc<str>,
        partitions: Vec<TopicPartition>,
        monitor: Arc<Monitor>,
    ) -> Result<Restorer, Error> {
        let mut config = connection.consumer(group);
        config.set("queued.max.messages.kbytes", PREFETCH_KIB);
        let consumer = BatchConsumer::new(&config, RECORDS_PER_POLL, monitor)
            .map_err(|e| property_error(&e))?;
        let assigning = |e| Error::broker("assigning partitions of the changelog", e);
        let mut list = TopicPartitionList::new();
        for at in &partitions {
            list.add_partition_offset(changelog, at.partition.get(), Offset::Beginning)
                .map_err(assigning)?;
        }
        consumer.assign_fixed(&list).map_err(assigning)?;
        let asker = connection.asker()?;
        let mut first = BTreeMap::new();
        for at in &partitions {
            let (low, _) = asker.bounds(changelog, at.partition)?;
            first.insert(at.partition, NextOffset::new(low));
        }
        let open = partitions.into_iter().map(|at| (at.partition, (at, None))).collect();
        let changelog = changelog.clone();
        let (looked, since) = (Moment::now(), Moment::now());
        Ok(Restorer { consumer, open, first, changelog, looked, since, entries: 0 })
    }

    /// A partition is restored, or gone.
    pub(super) fn close(&mut self, at: &TopicPartition) {
        if self.open.get(&at.partition).is_some_and(|(of, _)| of == at) {
            self.open.remove(&at.partition);
            let (entries, secs) = (self.entries, self.since.elapsed_secs());
            tracing::info!(%at, entries, secs, left = self.open.len(), "state restored");
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.open.is_empty()
    }

    /// Hands on what came; waits up to `wait` for it.
    pub(super) fn read(
        &mut self,
        core: &mut Core,
        now: Millis,
        wait: Duration,
    ) -> Result<(), Error> {
        self.consumer.serve().map_err(|e| Error::broker("serving the client", e))?;
        self.consumer.poll(wait);
        let Restorer { consumer, open, changelog, entries, .. } = self;
        let mut failed = Ok(());
        consumer.drain(|event| {
            if failed.is_err() {
                return;
            }
            match event {
                Event::Record(record) => {
                    let Some((at, end)) = open.get_mut(&record.partition) else { return };
                    *end = None;
                    *entries += 1;
                    failed = core.entry(at, record.key.unwrap_or_default(), record.value);
                }
                Event::End { partition, next, .. } => {
                    if let Some((_, end)) = open.get_mut(&partition) {
                        *end = Some(next);
                    }
                }
                Event::Failed { partition, code, .. } => {
                    let at = TopicPartition::new(changelog, partition);
                    failed = fatal(at, code).map_or(Ok(()), Err);
                }
            }
        });
        failed?;
        if self.looked.elapsed() < LOOK_EVERY && wait.is_zero() {
            return Ok(());
        }
        self.looked = Moment::now();
        for (partition, (at, end)) in &self.open {
            let Some(end) = end else { continue };
            let changelog = TopicPartition::new(&self.changelog, *partition);
            let known = self.consumer.known_end(&changelog);
            let open = known.is_some_and(|known| known > *end);
            core.changelog_end(at, self.first[partition], open, now)?;
        }
        Ok(())
    }
}
