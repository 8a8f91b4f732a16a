//! Reads partitions of a changelog from their beginning, as committed, beside the worker's input.

use super::core::Core;
use crate::clock::Moment;
use crate::kafka::batch::{BatchConsumer, Event};
use crate::kafka::client::{Connection, property_error};
use crate::kafka::error::Error;
use crate::kafka::health::Monitor;
use crate::kafka::observer::WorkerObserver;
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
/// Copies are kept beside the work.
const RECORDS_PER_POLL_FOLLOWED: usize = 1_000;
/// What is read ahead: the client counts it per partition.
const PREFETCH_KIB: usize = 96 << 10;
const PREFETCH_KIB_LEAST: usize = 4 << 10;
/// A changelog is read as fast as it goes.
const IN_BULK: [(&str, &str); 4] = [
    ("fetch.message.max.bytes", "2097152"),
    ("fetch.max.bytes", "16777216"),
    ("queued.min.messages", "1000000"),
    // Its end is told at once.
    ("fetch.wait.max.ms", "20"),
];
/// How often a changelog at its end is looked at again.
const LOOK_EVERY: Millis = Millis::from_ms(50);

const TELL_EVERY: Millis = Millis::from_secs(1);
/// How often the log says how long it will take.
const LOG_EVERY: Millis = Millis::from_secs(5);

/// What a changelog is read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// The partition is ours, and waits.
    Restore,
    /// The partition is another's, and a copy of its state is kept.
    Follow,
}

/// One partition of the changelog.
struct Open {
    mode: Mode,
    /// The partition of the input that it belongs to.
    at: TopicPartition,
    /// Where it begins, and where it ended when reading it began.
    first: NextOffset,
    until: NextOffset,
    /// The offset to read next.
    next: NextOffset,
    /// The end, once it has been seen.
    end: Option<NextOffset>,
}

impl Open {
    fn left(&self) -> i64 {
        (self.until.get() - self.next.get()).max(0)
    }

    /// Seconds that are left if it goes on as in the first `secs`.
    fn secs_left(&self, secs: f64) -> f64 {
        let read = (self.next.get() - self.first.get()).max(1);
        secs * self.left() as f64 / read as f64
    }
}

/// Partitions that came together and are restored together.
pub(super) struct Restorer {
    consumer: BatchConsumer,
    /// By partition of the changelog.
    open: BTreeMap<PartitionId, Open>,
    /// Restored, or gone, and not told yet.
    closed: Vec<PartitionId>,
    changelog: Arc<str>,
    looked: Moment,
    told: Moment,
    logged: Moment,
    since: Moment,
    entries: u64,
}

impl Restorer {
    pub(super) fn start(
        connection: &Connection,
        group: &str,
        changelog: &Arc<str>,
        partitions: Vec<TopicPartition>,
        mode: Mode,
        monitor: Arc<Monitor>,
    ) -> Result<Restorer, Error> {
        let mut config = connection.consumer(group);
        let kib = (PREFETCH_KIB / partitions.len().max(1)).max(PREFETCH_KIB_LEAST);
        config.set("queued.max.messages.kbytes", kib.to_string());
        let records = match mode {
            Mode::Restore => RECORDS_PER_POLL,
            Mode::Follow => RECORDS_PER_POLL_FOLLOWED,
        };
        for (name, value) in IN_BULK {
            config.set(name, value);
        }
        let consumer =
            BatchConsumer::new(&config, records, monitor).map_err(|e| property_error(&e))?;
        let assigning = |e| Error::broker("assigning partitions of the changelog", e);
        let mut list = TopicPartitionList::new();
        for at in &partitions {
            list.add_partition_offset(changelog, at.partition.get(), Offset::Beginning)
                .map_err(assigning)?;
        }
        consumer.assign_fixed(&list).map_err(assigning)?;
        let asker = connection.asker()?;
        let mut open = BTreeMap::new();
        let named = || partitions.iter().map(|at| (&**changelog, at.partition));
        let first = asker.edges(named(), Offset::Beginning)?;
        let until = asker.edges(named(), Offset::End)?;
        for at in partitions {
            let of = TopicPartition::new(changelog, at.partition);
            let (first, until) = (first[&of], until[&of]);
            open.insert(at.partition, Open { mode, at, first, until, next: first, end: None });
        }
        let now = Moment::now();
        Ok(Restorer {
            consumer,
            open,
            closed: Vec::new(),
            changelog: changelog.clone(),
            looked: now,
            told: now,
            logged: now,
            since: now,
            entries: 0,
        })
    }

    /// A partition is restored, or gone.
    pub(super) fn close(&mut self, at: &TopicPartition) {
        if self.open.get(&at.partition).is_some_and(|open| open.at == *at) {
            let mode = self.open.remove(&at.partition).map_or(Mode::Follow, |open| open.mode);
            self.closed.push(at.partition);
            let (entries, secs) = (self.entries, self.since.elapsed_secs());
            if mode == Mode::Follow {
                return;
            }
            tracing::info!(%at, entries, secs, left = self.open.len(), "state restored");
        }
    }

    /// A partition that was followed has come: true if it is one of these.
    pub(super) fn promote(&mut self, at: &TopicPartition) -> bool {
        let Some(open) = self.open.get_mut(&at.partition) else { return false };
        if open.at != *at {
            return false;
        }
        open.mode = Mode::Restore;
        // It is looked at once: what there is may be all.
        (self.since, self.entries, self.looked) = (Moment::now(), 0, self.told);
        true
    }

    /// True if a partition of ours waits for it.
    pub(super) fn is_busy(&self) -> bool {
        self.open.values().any(|open| open.mode == Mode::Restore)
    }

    pub(super) fn is_over(&self) -> bool {
        // What is over has to be told first.
        self.open.is_empty() && self.closed.is_empty()
    }

    /// Hands on what came; tells how much that was.
    pub(super) fn read(&mut self, core: &mut Core, now: Millis) -> Result<usize, Error> {
        self.consumer.serve().map_err(|e| Error::broker("serving the client", e))?;
        let got = self.consumer.poll(Duration::ZERO);
        let Restorer { consumer, open, changelog, entries, .. } = self;
        let mut failed = Ok(());
        consumer.drain(|event| {
            if failed.is_err() {
                return;
            }
            match event {
                Event::Record(record) => {
                    let Some(open) = open.get_mut(&record.partition) else { return };
                    (open.end, open.next) = (None, record.offset.next());
                    *entries += 1;
                    core.entry(&open.at, record.key.unwrap_or_default(), record.value);
                }
                Event::End { partition, next, .. } => {
                    if let Some(open) = open.get_mut(&partition) {
                        (open.end, open.next) = (Some(next), next);
                    }
                }
                Event::Failed { partition, code, .. } => {
                    let at = TopicPartition::new(changelog, partition);
                    failed = fatal(at, code).map_or(Ok(()), Err);
                }
            }
        });
        failed?;
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(got);
        }
        self.looked = Moment::now();
        for (partition, Open { at, first, end, .. }) in &self.open {
            let Some(end) = *end else { continue };
            let changelog = TopicPartition::new(&self.changelog, *partition);
            let known = self.consumer.known_end(&changelog);
            core.changelog_end(at, *first, known.is_some_and(|known| known > end), now)?;
        }
        Ok(got)
    }

    /// Says how far it is.
    pub(super) fn tell(&mut self, role: &'static str, observer: &dyn WorkerObserver) {
        for partition in self.closed.drain(..) {
            observer.restoring(role, partition, 0, 0.0);
            observer.follows(role, partition, None);
        }
        if self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Moment::now();
        let secs = self.since.elapsed_secs();
        for (partition, open) in &self.open {
            match open.mode {
                Mode::Restore => {
                    observer.restoring(role, *partition, open.left(), open.secs_left(secs));
                }
                Mode::Follow => {
                    let end = TopicPartition::new(&self.changelog, *partition);
                    let end = self.consumer.known_end(&end).unwrap_or(open.until);
                    let behind = (end.get() - open.next.get()).max(0);
                    observer.follows(role, *partition, Some(behind));
                }
            }
        }
        let waiting = || self.open.values().filter(|open| open.mode == Mode::Restore);
        let partitions = waiting().count();
        if self.logged.elapsed() < LOG_EVERY || partitions == 0 {
            return;
        }
        self.logged = Moment::now();
        let left: i64 = waiting().map(Open::left).sum();
        let secs = waiting().map(|open| open.secs_left(secs)).fold(0.0, f64::max);
        let entries = self.entries;
        tracing::info!(role, partitions, entries, left, secs, "state is being restored");
    }
}
