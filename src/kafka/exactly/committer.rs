//! Does transactions, on a thread of its own: the worker goes on folding meanwhile.
//!
//! The classes of errors, as the client tells them: *retriable*: the same call again (after a time-out
//! nothing else is legal); *abortable*: abort, and the worker sends again what is still its own;
//! anything else, fenced among it: nobody knows, so the producer is made anew, which ends whatever its
//! predecessor left open, and the worker finds out by the committed offset.
//!
//! After an abort, too, the producer is made anew. librdkafka (2.12) goes on with the sequence numbers
//! of the messages that it drops at an abort. Among these are such as were sent, and written, but not
//! acknowledged before their connection broke: what is sent next then bears the numbers of what the
//! broker has, which takes it for a repeat and says that it is written. It is not, and the commit that
//! follows succeeds without it.

use super::core::{Outcome, Transaction};
use crate::clock::Moment;
use crate::codec::checkpoint::CHECKPOINT_KEY;
use crate::kafka::client::{
    ASK_TIMEOUT, Connection, TRANSACTION_TIMEOUT, property_error, set_transaction_timeout,
};
use crate::kafka::commit::{drain, offer};
use crate::kafka::error::Error;
use crate::kafka::health::Monitor;
use crate::kafka::task::OutRecord;
use crate::model::ids::{NextOffset, PartitionId};
use rdkafka::client::ClientContext;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One call; a time-out repeats it.
const CALL: Duration = Duration::from_secs(5);
/// One call to abort, which waits for reports that are served between calls.
const ABORT: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(20);
/// So long after the time-out of a transaction its coordinator has decided.
const DECIDED_AFTER: Duration = Duration::from_secs(5);
/// The longest time-out that a transaction is given.
const TIMEOUT_MOST: Duration = Duration::from_secs(120);
/// Kinds of records, told to the client and told back when they are delivered: only where checkpoint
/// records went is of interest.
const OTHER: usize = 0;
const CHECKPOINT: usize = 1;
/// Fences in a row after which another process with the same name must be assumed.
const FENCES_MOST: u32 = 3;

/// What one worker hands to its committer.
struct Job {
    transaction: Transaction,
    group: ConsumerGroupMetadata,
}

/// What became of a job.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) outcome: Result<Outcome, Error>,
    pub(crate) secs: f64,
    /// Partitions of the changelog that a checkpoint record was written to, and the offset behind it.
    pub(crate) checkpoints: BTreeMap<PartitionId, NextOffset>,
}

/// A transactional producer on its thread.
pub(crate) struct Committer {
    jobs: SyncSender<Job>,
    reports: Receiver<Report>,
    stopped: Arc<AtomicBool>,
}

struct Reports {
    monitor: Arc<Monitor>,
    checkpoints: Arc<Mutex<BTreeMap<PartitionId, NextOffset>>>,
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        self.monitor.note(&format!("{error}: {reason}"));
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    /// A record that could not be delivered makes the transaction abortable: the commit says so.
    fn delivery(&self, result: &DeliveryResult<'_>, kind: usize) {
        match result {
            Ok(message) if kind == CHECKPOINT => {
                let next = NextOffset::new(message.offset() + 1);
                let mut checkpoints = self.checkpoints.lock().expect("no panic while held");
                checkpoints.insert(PartitionId::new(message.partition()), next);
            }
            Ok(_) => {}
            Err((error, _)) => {
                self.monitor.note(&format!("an output was not delivered: {error}"));
            }
        }
    }
}

impl Committer {
    /// Starts the thread, which initialises the transactional id: that ends what a predecessor left
    /// open.
    pub(crate) fn start(
        connection: &Connection,
        id: &str,
        in_flight_bytes: usize,
        monitor: Arc<Monitor>,
    ) -> Result<Committer, Error> {
        let config = connection.transactional(id, in_flight_bytes);
        let stopped = Arc::new(AtomicBool::new(false));
        let (jobs, taken): (SyncSender<Job>, Receiver<Job>) = sync_channel(1);
        let (say, reports) = sync_channel(1);
        let mut work = Work {
            config,
            monitor,
            producer: None,
            checkpoints: Arc::default(),
            fences: 0,
            timeout: TRANSACTION_TIMEOUT,
            stopped: stopped.clone(),
        };
        // Fails early if a property is wrong.
        let made = work.make()?;
        let run = move || {
            // Beside whatever the worker does until it has something to commit: a coordinator that has
            // to end the transaction of a predecessor first takes a second.
            if let Err(error) = work.initialise(made) {
                // The first transaction tries again, and says what is wrong.
                tracing::warn!(%error, "transactions are not initialised yet");
            }
            while let Ok(job) = taken.recv() {
                let since = Moment::now();
                let outcome = work.transact(&job);
                let checkpoints =
                    std::mem::take(&mut *work.checkpoints.lock().expect("no panic while held"));
                let report = Report { outcome, secs: since.elapsed_secs(), checkpoints };
                drop(job);
                if say.send(report).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name(format!("commit {id}")).spawn(run).map_err(|e| {
            Error::System(format!("a thread for commits could not be started: {e}"))
        })?;
        Ok(Committer { jobs, reports, stopped })
    }

    /// Hands over a transaction; the last one must have been reported.
    pub(crate) fn submit(&self, transaction: Transaction, group: ConsumerGroupMetadata) {
        // The thread ends only with us.
        let _taken = self.jobs.send(Job { transaction, group });
    }

    /// What became of the last one; waits up to `wait`.
    pub(crate) fn report(&self, wait: Duration) -> Option<Report> {
        match self.reports.recv_timeout(wait) {
            Ok(report) => Some(report),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Report {
                outcome: Err(Error::System("the thread for commits is gone".to_owned())),
                secs: 0.0,
                checkpoints: BTreeMap::new(),
            }),
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

/// Why a transaction was not committed.
enum Refused {
    Abort(KafkaError),
    Unknown(KafkaError),
}

struct Work {
    config: ClientConfig,
    monitor: Arc<Monitor>,
    producer: Option<BaseProducer<Reports>>,
    /// What the job under way has written.
    checkpoints: Arc<Mutex<BTreeMap<PartitionId, NextOffset>>>,
    /// In a row.
    fences: u32,
    /// After which the coordinator aborts a transaction.
    timeout: Duration,
    stopped: Arc<AtomicBool>,
}

impl Work {
    /// The producer, made if there is none.
    fn producer(&mut self) -> Result<&BaseProducer<Reports>, Error> {
        if self.producer.is_none() {
            let made = self.make()?;
            self.initialise(made)?;
        }
        Ok(self.producer.as_ref().expect("made above"))
    }

    fn make(&self) -> Result<BaseProducer<Reports>, Error> {
        let (monitor, checkpoints) = (self.monitor.clone(), self.checkpoints.clone());
        let context = Reports { monitor, checkpoints };
        let mut config = self.config.clone();
        set_transaction_timeout(&mut config, self.timeout);
        config.create_with_context(context).map_err(|e| property_error(&e))
    }

    /// Ends what a predecessor of the same name left open.
    fn initialise(&mut self, made: BaseProducer<Reports>) -> Result<(), Error> {
        let since = Moment::now();
        while let Err(error) = made.init_transactions(CALL) {
            let again = is_retriable(&error) && !self.stopped.load(Ordering::SeqCst);
            if !again && since.elapsed_secs() > ASK_TIMEOUT.as_secs_f64() || is_fatal(&error) {
                return Err(Error::broker("initialising transactions", error));
            }
            self.monitor.note(&format!("initialising transactions: {error}"));
            std::thread::sleep(PAUSE);
        }
        self.producer = Some(made);
        Ok(())
    }

    fn transact(&mut self, job: &Job) -> Result<Outcome, Error> {
        let (stopped, monitor) = (self.stopped.clone(), self.monitor.clone());
        let timeout = self.timeout;
        let producer = self.producer()?;
        let since = Moment::now();
        let refused = match attempt(producer, job, timeout, &stopped) {
            Ok(()) => {
                self.fences = 0;
                return Ok(Outcome::Committed);
            }
            Err(refused) => refused,
        };
        let error = match refused {
            Refused::Abort(error) => {
                tracing::debug!(%error, "a transaction is aborted");
                monitor.note(&format!("a transaction is aborted: {error}"));
                match abort(producer, &stopped) {
                    Ok(()) => {
                        self.make_anew()?;
                        return Ok(Outcome::Aborted);
                    }
                    Err(error) => error,
                }
            }
            Refused::Unknown(error) => error,
        };
        tracing::warn!(%error, "the producer is made anew");
        monitor.note(&format!("the producer is made anew: {error}"));
        let took = since.elapsed_secs();
        if took >= timeout.as_secs_f64() {
            // Its coordinator gave up on it, which looks like a fence. What comes next is as large.
            self.timeout = (timeout * 2).min(TIMEOUT_MOST);
            let records = job.transaction.outputs().len();
            let next = self.timeout.as_secs();
            tracing::warn!(
                records,
                took,
                next,
                "a transaction took too long; the next has more time"
            );
        } else if is_fence(&error) {
            self.fences += 1;
            if self.fences >= FENCES_MOST {
                return Err(Error::Fenced { reason: error.to_string() });
            }
        }
        self.make_anew()?;
        Ok(Outcome::Unknown)
    }

    fn make_anew(&mut self) -> Result<(), Error> {
        self.producer = None;
        self.producer().map(drop)
    }
}

/// Begin, produce, offsets, commit.
fn attempt(
    producer: &BaseProducer<Reports>,
    job: &Job,
    timeout: Duration,
    stopped: &AtomicBool,
) -> Result<(), Refused> {
    let within = timeout + DECIDED_AFTER;
    let Job { transaction, group } = job;
    producer.begin_transaction().map_err(refused)?;
    for record in transaction.outputs() {
        send(producer, record).map_err(Refused::Abort)?;
    }
    let mut offsets = TopicPartitionList::new();
    for offset in &transaction.offsets {
        let (topic, partition) = (&*offset.at.topic, offset.at.partition.get());
        let mut element = offsets.add_partition(topic, partition);
        element.set_offset(Offset::Offset(offset.next.get())).map_err(Refused::Abort)?;
        element.set_metadata(&offset.metadata);
    }
    again(within, stopped, || producer.send_offsets_to_transaction(&offsets, group, CALL))?;
    again(within, stopped, || {
        // The client would wait for them in steps of 100 ms.
        drain(producer, CALL);
        match producer.in_flight_count() {
            0 => producer.commit_transaction(CALL),
            _ => Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)),
        }
    })
}

/// Repeats a call while the client says that it may be repeated, but not for ever: beyond the time-out
/// of the transaction its coordinator has decided, and the committed offset tells how.
fn again(
    within: Duration,
    stopped: &AtomicBool,
    call: impl Fn() -> Result<(), KafkaError>,
) -> Result<(), Refused> {
    let since = Moment::now();
    loop {
        match call() {
            Ok(()) => return Ok(()),
            Err(error) if is_retriable(&error) && !stopped.load(Ordering::SeqCst) => {
                if since.elapsed_secs() > within.as_secs_f64() {
                    return Err(Refused::Unknown(error));
                }
                tracing::debug!(%error, "a call is repeated");
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(refused(error)),
        }
    }
}

fn refused(error: KafkaError) -> Refused {
    match &error {
        KafkaError::Transaction(e) if e.is_fatal() => Refused::Unknown(error),
        KafkaError::Transaction(e) if e.txn_requires_abort() => Refused::Abort(error),
        // Waiting for deliveries failed: nothing has been committed.
        KafkaError::Flush(_) => Refused::Abort(error),
        _ => Refused::Unknown(error),
    }
}

fn send(producer: &BaseProducer<Reports>, record: &OutRecord) -> Result<(), KafkaError> {
    let is_checkpoint = record.key.as_deref() == Some(CHECKPOINT_KEY);
    let kind = if is_checkpoint { CHECKPOINT } else { OTHER };
    while !offer(producer, record, kind)? {}
    Ok(())
}

fn abort(producer: &BaseProducer<Reports>, stopped: &AtomicBool) -> Result<(), KafkaError> {
    loop {
        // Reports of what is dropped must be served, or aborting waits for them.
        match producer.abort_transaction(ABORT) {
            Ok(()) => return Ok(()),
            Err(error) if is_retriable(&error) && !stopped.load(Ordering::SeqCst) => {
                drain(producer, PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(e) => {
            e.is_retriable() || e.code() == RDKafkaErrorCode::OperationTimedOut
        }
        KafkaError::Flush(code) => *code == RDKafkaErrorCode::OperationTimedOut,
        _ => false,
    }
}

fn is_fatal(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(e) if e.is_fatal())
}

fn is_fence(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced)
    )
}
