//! The commit step: outputs are produced, acknowledged, and only then are positions committed.
//!
//! [`CommitStep`] is all that the worker knows of it, so that a transactional step can replace
//! [`AckedCommit`] and nothing else. A step of the worker is handed over as a whole: its outputs, and
//! the positions that hold once they are published. Steps are done in the order of their hand-over.
//!
//! Outputs are kept until they are acknowledged, here in the client's own queue: it sends them again
//! (idempotent, to all in-sync replicas) until `message.timeout.ms` is over. Then the worker stops with
//! the reason, and nothing that rests on the lost output is ever committed.

use super::batch::BatchConsumer;
use super::client::property_error;
use super::error::Error;
use super::health::Monitor;
use super::task::{OutRecord, TopicPartition};
use crate::clock::Moment;
use crate::model::ids::NextOffset;
use crate::model::time::Millis;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Between two tries of a commit that is waited for.
const COMMIT_AGAIN: Duration = Duration::from_millis(100);

/// How long a full queue is waited for before it is tried again.
const QUEUE_FULL: Duration = Duration::from_millis(20);

/// Between two looks for acknowledgements.
const SERVE_EVERY: Duration = Duration::from_millis(1);

/// True for what a coordinator says, or its absence, while it moves or comes back. The client does not
/// repeat a commit that somebody waits for.
fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::WaitingForCoordinator
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
                | Code::RequestTimedOut
                | Code::OperationTimedOut
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
        )
    )
}

/// What one round of a worker has to publish.
#[derive(Default, Debug)]
pub(super) struct Step {
    /// Outputs in order.
    pub(super) outputs: Vec<OutRecord>,
    /// Positions that rest on them and on what was handed over before.
    pub(super) positions: Vec<(TopicPartition, NextOffset)>,
}

/// A step that is published.
#[derive(Debug)]
pub(super) struct Done {
    /// Its positions.
    pub(super) positions: Vec<(TopicPartition, NextOffset)>,
    /// Time since it was handed over.
    pub(super) took_secs: f64,
}

/// How outputs and positions become durable.
pub(super) trait CommitStep {
    /// Takes over a step and empties it. May wait for room in the client, not for its being done.
    fn hand_over(&mut self, step: &mut Step) -> Result<(), Error>;

    /// Moves on what is under way, waiting up to `wait` for something to happen; returns the steps
    /// that are done since, in order.
    fn advance(&mut self, consumer: &BatchConsumer, wait: Duration) -> Result<Vec<Done>, Error>;

    /// Bytes of outputs that are handed over and not yet acknowledged.
    fn bytes_in_flight(&self) -> usize;

    /// True if every step that was handed over is done.
    fn is_idle(&self) -> bool;

    /// Commits what is done and waits for it; a coordinator that is not there is asked again `within`.
    fn commit_now(&mut self, consumer: &BatchConsumer, within: Millis) -> Result<(), Error>;

    /// Forgets positions of partitions that belong to somebody else now.
    fn forget(&mut self, partitions: &[TopicPartition]);
}

struct Open {
    unacknowledged: usize,
    positions: Vec<(TopicPartition, NextOffset)>,
    since: Moment,
}

#[derive(Default)]
struct Flight {
    /// Number of the oldest open step.
    first: usize,
    open: VecDeque<Open>,
    bytes: usize,
    failed: Option<Error>,
}

/// Counts acknowledgements per step. The client calls it on the worker's thread.
pub(super) struct Deliveries {
    flight: Mutex<Flight>,
    monitor: Arc<Monitor>,
}

impl Deliveries {
    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().expect("no panic while held")
    }
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        self.monitor.note(&format!("{error}: {reason}"));
    }
}

impl ProducerContext for Deliveries {
    /// Number of the step.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, step: usize) {
        let mut flight = self.flight();
        let message = match result {
            Ok(message) => message,
            Err((error, message)) => {
                let (topic, reason) = (message.topic().to_owned(), error.to_string());
                flight.failed.get_or_insert(Error::Delivery { topic, reason });
                message
            }
        };
        flight.bytes = flight.bytes.saturating_sub(message.payload_len() + message.key_len());
        if result.is_ok() {
            let at = step - flight.first;
            flight.open[at].unacknowledged -= 1;
        }
    }
}

/// At least once: commits positions some time after their outputs are acknowledged.
pub(super) struct AckedCommit {
    producer: BaseProducer<Deliveries>,
    /// All that is done, by partition.
    done: BTreeMap<TopicPartition, NextOffset>,
    uncommitted: bool,
    committed: Moment,
    interval: Millis,
}

impl AckedCommit {
    pub(super) fn new(
        config: &ClientConfig,
        interval: Millis,
        monitor: Arc<Monitor>,
    ) -> Result<AckedCommit, Error> {
        let deliveries = Deliveries { flight: Mutex::default(), monitor };
        let producer = config.create_with_context(deliveries).map_err(|e| property_error(&e))?;
        Ok(AckedCommit {
            producer,
            done: BTreeMap::new(),
            uncommitted: false,
            committed: Moment::now(),
            interval,
        })
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.producer.context().flight()
    }

    fn check(&self) -> Result<(), Error> {
        self.flight().failed.clone().map_or(Ok(()), Err)
    }

    fn send(&self, record: &OutRecord, step: usize) -> Result<(), Error> {
        while !offer(&self.producer, record, step).map_err(|e| undelivered(record, &e))? {
            self.check()?;
        }
        Ok(())
    }

    fn commit(&mut self, consumer: &BatchConsumer, mode: CommitMode) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (at, next) in &self.done {
            list.add_partition_offset(&at.topic, at.partition.get(), Offset::Offset(next.get()))?;
        }
        self.uncommitted = false;
        self.committed = Moment::now();
        if list.count() == 0 {
            return Ok(());
        }
        consumer.client().commit(&list, mode)
    }
}

/// Hands a record to the client; `step` comes back with its acknowledgement. False if its queue is
/// full: some of it has been waited for, and the record is to be offered again.
pub(super) fn offer<C: ProducerContext<DeliveryOpaque = usize>>(
    producer: &BaseProducer<C>,
    record: &OutRecord,
    step: usize,
) -> Result<bool, KafkaError> {
    match producer.send(base_record(record, step)) {
        Ok(()) => Ok(true),
        Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
            serve(producer, QUEUE_FULL);
            Ok(false)
        }
        Err((error, _)) => Err(error),
    }
}

/// The client takes a record on no account.
pub(super) fn undelivered(record: &OutRecord, error: &KafkaError) -> Error {
    Error::Delivery { topic: record.topic.to_string(), reason: error.to_string() }
}

/// The client's form of a record; `step` comes back with its acknowledgement.
fn base_record(record: &OutRecord, step: usize) -> BaseRecord<'_, [u8], [u8], usize> {
    let mut base = BaseRecord::with_opaque_to(&record.topic, step);
    base.key = record.key.as_deref();
    base.payload = record.value.as_deref();
    base.partition = record.partition.map(|p| p.get());
    base.timestamp = record.timestamp;
    if !record.headers.is_empty() {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: value.as_deref() });
        }
        base.headers = Some(headers);
    }
    base
}

/// Hands out what the brokers have acknowledged meanwhile; waits up to `most` for something that has
/// not come. The client's own call with a time goes on for all of that time, whatever comes.
pub(super) fn serve<C: ProducerContext>(producer: &BaseProducer<C>, most: Duration) {
    let since = Moment::now();
    loop {
        let before = producer.in_flight_count();
        producer.poll(Duration::ZERO);
        let came = producer.in_flight_count() < before;
        if came || before == 0 || since.elapsed_secs() >= most.as_secs_f64() {
            return;
        }
        std::thread::sleep(SERVE_EVERY);
    }
}

/// Waits up to `most` until everything that was sent is acknowledged.
pub(super) fn drain<C: ProducerContext>(producer: &BaseProducer<C>, most: Duration) {
    let since = Moment::now();
    while producer.in_flight_count() > 0 && since.elapsed_secs() < most.as_secs_f64() {
        serve(producer, SERVE_EVERY);
    }
}

impl CommitStep for AckedCommit {
    fn hand_over(&mut self, step: &mut Step) -> Result<(), Error> {
        let number = {
            let mut flight = self.flight();
            flight.open.push_back(Open {
                unacknowledged: step.outputs.len(),
                positions: std::mem::take(&mut step.positions),
                since: Moment::now(),
            });
            flight.bytes += step.outputs.iter().map(OutRecord::len).sum::<usize>();
            flight.first + flight.open.len() - 1
        };
        for record in step.outputs.drain(..) {
            self.send(&record, number)?;
        }
        Ok(())
    }

    fn advance(&mut self, consumer: &BatchConsumer, wait: Duration) -> Result<Vec<Done>, Error> {
        serve(&self.producer, wait);
        self.check()?;
        let mut done = Vec::new();
        {
            let mut flight = self.producer.context().flight();
            while flight.open.front().is_some_and(|step| step.unacknowledged == 0) {
                let Some(step) = flight.open.pop_front() else { break };
                flight.first += 1;
                done.push(Done { positions: step.positions, took_secs: step.since.elapsed_secs() });
            }
        }
        for (at, next) in done.iter().flat_map(|d| &d.positions) {
            self.done.insert(at.clone(), *next);
            self.uncommitted = true;
        }
        let due = self.committed.elapsed() >= self.interval;
        if due && consumer.client().context().commit_failed.swap(false, Ordering::SeqCst) {
            self.uncommitted = true;
        }
        if due && self.uncommitted {
            // Nothing rests on these commits but the monitoring of lag: the next one makes it good.
            if let Err(error) = self.commit(consumer, CommitMode::Async) {
                tracing::warn!(%error, "offsets could not be committed");
            }
        }
        Ok(done)
    }

    fn bytes_in_flight(&self) -> usize {
        self.flight().bytes
    }

    fn is_idle(&self) -> bool {
        self.flight().open.is_empty()
    }

    fn commit_now(&mut self, consumer: &BatchConsumer, within: Millis) -> Result<(), Error> {
        let since = Moment::now();
        loop {
            let error = match self.commit(consumer, CommitMode::Sync) {
                Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {
                    return Ok(());
                }
                Err(error) => error,
            };
            if !passes(&error) || since.elapsed() > within {
                return Err(Error::broker("committing offsets", error));
            }
            tracing::debug!(%error, "offsets are committed again");
            std::thread::sleep(COMMIT_AGAIN);
        }
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for at in partitions {
            self.done.remove(at);
        }
    }
}
