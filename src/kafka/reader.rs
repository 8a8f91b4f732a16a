//! A tailing reader: every partition of some topics, without a group and without commits.
//!
//! The relay and tests read with it. Records come in order per partition, on the reader's own thread,
//! with the end of each partition as an event of its own. It neither decodes nor keeps anything, and
//! it never ends by itself.

use super::batch::{BatchConsumer, Event};
use super::client::{Connection, property_error};
use super::error::Error;
use super::health::{Health, Monitor};
use super::start::{Source, Starts, settle};
use super::task::{Record, TopicPartition};
use crate::model::ids::{NextOffset, PartitionId};
use rdkafka::TopicPartitionList;
use rdkafka::error::RDKafkaErrorCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const RECORDS_PER_POLL: usize = 500;
const WAIT: Duration = Duration::from_millis(50);
const PREFETCH_KIB: &str = "8192";

/// What a reader says.
#[derive(Debug)]
pub enum Tailed<'a> {
    /// A record.
    Record(Record<'a>),
    /// A partition has been read to its end; comes again after every further record.
    End {
        /// Topic.
        topic: &'a str,
        /// Partition.
        partition: PartitionId,
        /// Offset that the next record will have at least.
        next: NextOffset,
    },
}

/// Whether a reader goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Go {
    /// Go on.
    On,
    /// That was enough.
    Stop,
}

/// A reader on its own thread; dropping it stops it and waits.
pub struct Tail {
    stopped: Arc<AtomicBool>,
    monitor: Arc<Monitor>,
    failure: Arc<Mutex<Option<Error>>>,
    partitions: usize,
    thread: Option<JoinHandle<()>>,
}

impl Tail {
    /// Starts to read `sources` and calls `f` with what comes, until it says stop.
    ///
    /// `name` is the thread's name and stands for the group that the client wants to have: nothing is
    /// ever committed to it.
    pub fn start(
        name: &str,
        connection: &Connection,
        sources: &[Source],
        mut f: impl FnMut(Tailed<'_>) -> Go + Send + 'static,
    ) -> Result<Tail, Error> {
        let starts = settle(connection, sources)?;
        let monitor: Arc<Monitor> = Arc::default();
        let mut consumer = consumer(name, connection, &starts, monitor.clone())?;
        let stopped = Arc::new(AtomicBool::new(false));
        let failure = Arc::new(Mutex::new(None));
        let (stop, fail) = (stopped.clone(), failure.clone());
        let run = move || {
            while !stop.load(Ordering::SeqCst) {
                match read(&mut consumer, &stop, &mut f) {
                    Ok(Go::On) => {}
                    Ok(Go::Stop) => return,
                    Err(error) => {
                        tracing::error!(%error, "a reader stopped");
                        *fail.lock().expect("no panic while held") = Some(error);
                        return;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|e| Error::System(format!("a thread for {name} could not be started: {e}")))?;
        let partitions = starts.len();
        Ok(Tail { stopped, monitor, failure, partitions, thread: Some(thread) })
    }

    /// How many partitions it reads.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Why it stopped, if it failed.
    pub fn failure(&self) -> Option<Error> {
        self.failure.lock().expect("no panic while held").clone()
    }

    /// True if its thread has ended.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        self.monitor.health()
    }

    /// Waits until it has stopped by itself.
    pub fn join(mut self) -> Result<(), Error> {
        self.wait();
        self.failure().map_or(Ok(()), Err)
    }

    fn wait(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            let reason = "its callback panicked".to_owned();
            let error = Error::Panic { role: "a reader".to_owned(), reason };
            self.failure.lock().expect("no panic while held").get_or_insert(error);
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wait();
    }
}

fn consumer(
    name: &str,
    connection: &Connection,
    starts: &Starts,
    monitor: Arc<Monitor>,
) -> Result<BatchConsumer, Error> {
    let mut config = connection.consumer(name);
    config.set("queued.max.messages.kbytes", PREFETCH_KIB);
    config.set("statistics.interval.ms", "5000");
    let mut consumer =
        BatchConsumer::new(&config, RECORDS_PER_POLL, monitor).map_err(|e| property_error(&e))?;
    let assigning = |e| Error::broker("assigning partitions", e);
    let mut list = TopicPartitionList::new();
    for (at, offset) in starts {
        list.add_partition_offset(&at.topic, at.partition.get(), *offset).map_err(assigning)?;
    }
    consumer.assign_fixed(&list).map_err(assigning)?;
    Ok(consumer)
}

fn read(
    consumer: &mut BatchConsumer,
    stop: &AtomicBool,
    f: &mut impl FnMut(Tailed<'_>) -> Go,
) -> Result<Go, Error> {
    consumer.serve().map_err(|e| Error::broker("serving the client", e))?;
    consumer.poll(WAIT);
    let mut go = Go::On;
    let mut failed = None;
    consumer.drain(|event| {
        if go == Go::Stop || failed.is_some() || stop.load(Ordering::Relaxed) {
            return;
        }
        match event {
            Event::Record(record) => go = f(Tailed::Record(record)),
            Event::End { topic, partition, next } => {
                go = f(Tailed::End { topic, partition, next });
            }
            Event::Failed { topic, partition, code } => {
                failed = fatal(TopicPartition::new(topic, partition), code);
            }
        }
    });
    failed.map_or(Ok(go), Err)
}

/// What an error while reading means: `None` for what the client gets over by itself.
pub(super) fn fatal(at: TopicPartition, code: RDKafkaErrorCode) -> Option<Error> {
    use RDKafkaErrorCode as Code;
    match code {
        Code::AutoOffsetReset | Code::OffsetOutOfRange => Some(Error::Gone { at }),
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            Some(Error::MissingTopic(at.topic.to_string()))
        }
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::Fatal => {
            Some(Error::Read { at, reason: code.to_string() })
        }
        _ => {
            tracing::debug!(%at, %code, "reading is retried by the client");
            None
        }
    }
}
