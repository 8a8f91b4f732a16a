//! Consumption in batches through the C interface, which the client's Rust wrapper does not offer.
//!
//! Besides being cheaper per record it is the only way to learn *which topic* reached its end: the
//! wrapper's end-of-partition error names the partition alone.
//!
//! The queues of the assigned partitions are forwarded to one private queue, and only that one is read;
//! the client's own queue keeps serving events through `poll`. Rebalances are not answered inside the
//! client's callback: they are noted, and the worker answers them when it has flushed what belongs to
//! the partitions that go. Rules of the client, each found the hard way:
//!
//! - Never consume from the client's main queue: it would undo every rebalance.
//! - `rd_kafka_consume_batch_queue` takes an end-of-partition event for a record and moves the client's
//!   position one too far (librdkafka #4844). Every cooperative rebalance pauses the partitions that
//!   stay and resumes them at that position: a record would be lost, or the partition fail for being
//!   out of range. So it is noted whose last event was no record, and those are set back before a
//!   rebalance is answered, which is when the client resumes them.
//! - It waits for a full batch until its time is up, however much has come: the first message is
//!   waited for alone.
//! - A partition may be paused while a batch is being taken: what was taken then comes once more.
//!   Whoever folds passes over offsets that it has seen.
//! - One `poll` serves one event, and returns nothing whether it did or not.
//! - While the client closes it may serve one more rebalance: by then the private queue is gone, and
//!   the answer must be given at once, or closing hangs.
#![expect(unsafe_code, reason = "reading a queue of one's own has no safe wrapper")]

use super::client::list_of;
use super::health::Monitor;
use super::task::{AHEAD, Headers, Record, TopicPartition, Upcoming};
use crate::clock::Moment;
use crate::model::ids::{NextOffset, Offset, PartitionId};
use rdkafka::bindings as ffi;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset as KafkaOffset, TopicPartitionList};
use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often events of the client's own queue are served at least.
pub(super) const SERVE_EVERY_MS: i64 = 50;

/// How long the client may take to set itself to another offset.
const SEEK_WITHIN: Duration = Duration::from_secs(5);

/// Bounds one serving, should events come as fast as they are served.
const EVENTS_PER_SERVE: usize = 1_000;

/// What came out of the queue.
pub(super) enum Event<'a> {
    /// A record.
    Record(Record<'a>),
    /// The end of a partition: `next` is the offset that the next record will have at least.
    End { topic: &'a str, partition: PartitionId, next: NextOffset },
    /// Reading a partition failed.
    Failed { topic: &'a str, partition: PartitionId, code: RDKafkaErrorCode },
}

impl Event<'_> {
    fn place(&self) -> (&str, PartitionId) {
        match self {
            Event::Record(record) => (record.topic, record.partition),
            Event::End { topic, partition, .. } | Event::Failed { topic, partition, .. } => {
                (topic, *partition)
            }
        }
    }

    fn is_of(&self, at: &TopicPartition) -> bool {
        let (topic, partition) = self.place();
        partition == at.partition && *topic == *at.topic
    }

    fn at(&self) -> TopicPartition {
        let (topic, partition) = self.place();
        TopicPartition::new(topic, partition)
    }
}

/// A rebalance that waits for its answer.
#[derive(Debug)]
pub(super) enum Change {
    /// These come.
    Assign(Vec<TopicPartition>),
    /// These go; `lost` tells that they have gone already.
    Revoke { partitions: Vec<TopicPartition>, lost: bool },
}

struct Queue(*mut ffi::rd_kafka_queue_t);
// SAFETY: the client's queues are locked internally; only the owning `BatchConsumer` reads from it.
unsafe impl Send for Queue {}

/// Notes what the client tells through callbacks.
pub(super) struct Watch {
    changes: Mutex<Vec<Change>>,
    closing: AtomicBool,
    /// Set when a commit was refused: what is done must be committed again.
    pub(super) commit_failed: AtomicBool,
    monitor: Arc<Monitor>,
}

impl ClientContext for Watch {
    fn stats(&self, statistics: Statistics) {
        let up = statistics.brokers.values().filter(|b| b.nodeid >= 0 && b.state == "UP").count();
        let known = statistics.brokers.values().filter(|b| b.nodeid >= 0).count();
        self.monitor.brokers(up, known);
        for (topic, partitions) in &statistics.topics {
            for (number, partition) in &partitions.partitions {
                // Where nothing is fetched nothing is known.
                if partition.ls_offset >= 0 && partition.fetch_state == "active" {
                    let at = TopicPartition::new(topic, PartitionId::new(*number));
                    self.monitor.stable(&at, partition.ls_offset, partition.hi_offset);
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.monitor.note(&format!("{error}: {reason}"));
    }
}

impl ConsumerContext for Watch {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let assign = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::SeqCst) {
            // Nobody will read what would be assigned now.
            if !assign && let Err(error) = release(consumer, list) {
                tracing::debug!(%error, "unassignment while closing failed");
            }
            return;
        }
        let partitions = list
            .elements()
            .iter()
            .map(|e| TopicPartition::new(e.topic(), PartitionId::new(e.partition())))
            .collect();
        let change = if assign {
            Change::Assign(partitions)
        } else {
            Change::Revoke { partitions, lost: consumer.assignment_lost() }
        };
        self.changes.lock().expect("no panic while held").push(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        match result {
            Ok(()) => {}
            // Nothing new to commit.
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => {
                self.monitor.note(&format!("commit of offsets: {error}"));
                self.commit_failed.store(true, Ordering::SeqCst);
            }
        }
    }
}

fn release(consumer: &BaseConsumer<Watch>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    }
}

/// One consumer, read in batches by one thread.
pub(super) struct BatchConsumer {
    consumer: BaseConsumer<Watch>,
    queue: Queue,
    buffer: Vec<*mut ffi::rd_kafka_message_t>,
    /// Messages in the buffer that have been handed out, and destroyed.
    passed: usize,
    filled: usize,
    /// Names of the topics read: a record's is one of them, found sooner than it is decoded.
    topics: Vec<Box<str>>,
    /// Partitions whose last event was no record, and where to go on in them: the client is one too far.
    ahead: Vec<(TopicPartition, NextOffset)>,
    served: Option<Moment>,
}

// SAFETY: moved to its thread before use; buffer and queue are used by the owner only.
unsafe impl Send for BatchConsumer {}

impl BatchConsumer {
    /// Makes a consumer that reads up to `size` records at a time.
    pub(super) fn new(
        config: &ClientConfig,
        size: usize,
        monitor: Arc<Monitor>,
    ) -> KafkaResult<BatchConsumer> {
        let watch = Watch {
            changes: Mutex::new(Vec::new()),
            closing: AtomicBool::new(false),
            commit_failed: AtomicBool::new(false),
            monitor,
        };
        let consumer: BaseConsumer<Watch> = config.create_with_context(watch)?;
        // SAFETY: the client is alive; the queue is destroyed before it, in `drop`.
        let queue = unsafe { ffi::rd_kafka_queue_new(consumer.client().native_ptr()) };
        let buffer = vec![std::ptr::null_mut(); size.max(1)];
        Ok(BatchConsumer {
            consumer,
            queue: Queue(queue),
            buffer,
            passed: 0,
            filled: 0,
            topics: Vec::new(),
            ahead: Vec::new(),
            served: None,
        })
    }

    /// Stops fetching a partition.
    pub(super) fn pause(&self, at: &TopicPartition) -> KafkaResult<()> {
        self.consumer.pause(&list_of([at]))
    }

    /// Sets the client to another offset of a partition; what it has fetched of it is dropped.
    pub(super) fn seek(&mut self, at: &TopicPartition, offset: KafkaOffset) -> KafkaResult<()> {
        self.ahead.retain(|(ahead, _)| ahead != at);
        self.consumer.seek(&at.topic, at.partition.get(), offset, SEEK_WITHIN)
    }

    /// Fetches a partition again.
    pub(super) fn resume(&self, at: &TopicPartition) -> KafkaResult<()> {
        self.consumer.resume(&list_of([at]))
    }

    /// The client, for everything else but reading.
    pub(super) fn client(&self) -> &BaseConsumer<Watch> {
        &self.consumer
    }

    /// Makes the client deliver these partitions to the private queue.
    fn forward(&mut self, list: &TopicPartitionList) {
        let client = self.consumer.client().native_ptr();
        for element in list.elements() {
            if !self.topics.iter().any(|name| **name == *element.topic()) {
                self.topics.push(element.topic().into());
            }
            let topic = CString::new(element.topic()).expect("topic names have no NUL");
            // SAFETY: client and private queue are alive; the reference that get_partition takes is
            // given back.
            unsafe {
                let q =
                    ffi::rd_kafka_queue_get_partition(client, topic.as_ptr(), element.partition());
                ffi::rd_kafka_queue_forward(q, self.queue.0);
                ffi::rd_kafka_queue_destroy(q);
            }
        }
    }

    /// Reads exactly these partitions from the offsets given, without being assigned by the group.
    pub(super) fn assign_fixed(&mut self, list: &TopicPartitionList) -> KafkaResult<()> {
        self.forward(list);
        self.consumer.assign(list)
    }

    /// Answers an assignment of the group: reads these, too, from the offsets given.
    pub(super) fn assign(&mut self, list: &TopicPartitionList) -> KafkaResult<()> {
        self.set_back()?;
        self.forward(list);
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(list),
            _ => self.consumer.assign(list),
        }
    }

    /// Answers a revocation.
    pub(super) fn unassign(&mut self, list: &TopicPartitionList) -> KafkaResult<()> {
        let gone =
            |at: &TopicPartition| list.find_partition(&at.topic, at.partition.get()).is_some();
        self.ahead.retain(|(at, _)| !gone(at));
        self.set_back()?;
        release(&self.consumer, list)
    }

    /// Sets the client back to where the next record is, where it went one too far.
    fn set_back(&mut self) -> KafkaResult<()> {
        let ahead = std::mem::take(&mut self.ahead);
        if !matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Cooperative) {
            // All partitions go, or come anew with their offsets.
            return Ok(());
        }
        for (at, next) in ahead {
            match self.seek(&at, KafkaOffset::Offset(next.get())) {
                // It is not read any more.
                Err(KafkaError::Seek(_)) if !self.is_assigned(&at)? => {}
                done => done?,
            }
        }
        Ok(())
    }

    fn is_assigned(&self, at: &TopicPartition) -> KafkaResult<bool> {
        let assignment = self.consumer.assignment()?;
        Ok(assignment.find_partition(&at.topic, at.partition.get()).is_some())
    }

    /// Notes whose position a batch that was just taken leaves one too far.
    fn note_ends(&mut self, taken: usize) {
        for message in &self.buffer[..taken] {
            // SAFETY: what has been taken and not been passed is alive.
            let message = unsafe { &**message };
            let is_record = message.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
            if is_record && self.ahead.is_empty() {
                continue;
            }
            // SAFETY: as above; it is looked at here only.
            let event = unsafe { view(message, &self.topics) };
            let known = self.ahead.iter().position(|(at, _)| event.is_of(at));
            if let Some(known) = known {
                self.ahead.swap_remove(known);
            }
            if !is_record && message.offset >= 0 {
                self.ahead.push((event.at(), NextOffset::new(message.offset)));
            }
        }
    }

    /// Name of this consumer as a member of its group; `None` while it is none. Who falls out of the
    /// group and joins again gets another.
    pub(super) fn member(&self) -> Option<String> {
        let client = self.consumer.client().native_ptr();
        // SAFETY: the client is alive; what it returns is a text of ours or null, and freed here.
        unsafe {
            let name = ffi::rd_kafka_memberid(client);
            if name.is_null() {
                return None;
            }
            let member = CStr::from_ptr(name).to_string_lossy().into_owned();
            ffi::rd_kafka_mem_free(client, name.cast());
            Some(member).filter(|member| !member.is_empty())
        }
    }

    /// Rebalances that wait for their answer.
    pub(super) fn take_changes(&self) -> Vec<Change> {
        let watch = self.consumer.context();
        std::mem::take(&mut *watch.changes.lock().expect("no panic while held"))
    }

    /// Serves the client's events (rebalances, statistics, commits) if it is time.
    pub(super) fn serve(&mut self) -> KafkaResult<()> {
        if self.served.is_some_and(|at| at.elapsed().as_ms() < SERVE_EVERY_MS) {
            return Ok(());
        }
        self.served = Some(Moment::now());
        // One call serves one event at most, and says neither whether it did nor whether more wait.
        for _ in 0..EVENTS_PER_SERVE {
            match self.consumer.poll(Duration::ZERO) {
                // Partitions are forwarded before they are assigned: nothing comes this way.
                Some(Ok(_)) => debug_assert!(false, "a record came by the client's own queue"),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    return Err(KafkaError::MessageConsumptionFatal(code));
                }
                Some(Err(error)) => self.consumer.context().monitor.note(&error.to_string()),
                None => {}
            }
            if self.events_waiting() == 0 {
                break;
            }
        }
        Ok(())
    }

    fn events_waiting(&self) -> usize {
        // SAFETY: the client is alive; the reference to its queue is given back.
        unsafe {
            let queue = ffi::rd_kafka_queue_get_consumer(self.consumer.client().native_ptr());
            if queue.is_null() {
                return 0;
            }
            let waiting = ffi::rd_kafka_queue_length(queue);
            ffi::rd_kafka_queue_destroy(queue);
            waiting
        }
    }

    /// Takes what came from the queue; waits up to `wait` if nothing is there. Returns how many events
    /// it were, which [`BatchConsumer::drain`] hands out. What is still held comes first.
    pub(super) fn poll(&mut self, wait: Duration) -> usize {
        if !self.holds_some() {
            (self.passed, self.filled) = (0, self.fill(wait));
        }
        self.filled - self.passed
    }

    /// Hands what was taken to `f`, in order.
    pub(super) fn drain(&mut self, mut f: impl FnMut(Event<'_>)) {
        while self.drain_some(|event| {
            f(event);
            ControlFlow::Continue(())
        }) {}
    }

    /// Hands the next [`AHEAD`] to `f`, in order, until it breaks: that event and those behind it are
    /// held. True if it did not, and some are left.
    pub(super) fn drain_some(&mut self, mut f: impl FnMut(Event<'_>) -> ControlFlow<()>) -> bool {
        let last = self.filled.min(self.passed + AHEAD);
        while let Some(message) = self.buffer[..last].get(self.passed) {
            // SAFETY: the message is ours, and alive until it is destroyed below.
            if f(unsafe { view(&**message, &self.topics) }).is_break() {
                return false;
            }
            // SAFETY: it has been passed, so that nobody looks at it again.
            unsafe { ffi::rd_kafka_message_destroy(*message) };
            self.passed += 1;
        }
        self.holds_some()
    }

    /// Of the records that [`BatchConsumer::drain_some`] hands out next, those of one partition that
    /// come in a row.
    pub(super) fn upcoming(&self) -> Option<Upcoming<'_>> {
        let held = self.buffer[self.passed..self.filled].iter().take(AHEAD);
        // SAFETY: what has not been passed is alive, and is not passed while `self` is borrowed.
        let mut held = held.map(|message| unsafe { &**message });
        let first = held.next()?;
        // SAFETY: as above.
        let Event::Record(record) = (unsafe { view(first, &self.topics) }) else { return None };
        let Record { topic, partition, key, .. } = record;
        let of_run = |m: &&ffi::rd_kafka_message_t| {
            let is_record = m.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
            is_record && (m.rkt, m.partition) == (first.rkt, first.partition)
        };
        // SAFETY: a key is as long as its message says, and lives as long.
        let others = held.take_while(of_run).filter_map(|m| unsafe { bytes(m.key, m.key_len) });
        Some(Upcoming { topic, partition, keys: key.into_iter().chain(others).collect() })
    }

    /// True if something that was taken has not been handed out.
    pub(super) fn holds_some(&self) -> bool {
        self.passed < self.filled
    }

    /// Drops what is held of a partition: it is to be read from another position.
    pub(super) fn forget(&mut self, at: &TopicPartition) {
        let held = self.passed..self.filled;
        self.filled = self.passed;
        for place in held {
            let message = self.buffer[place];
            // SAFETY: what has not been passed is alive, and destroyed at most once.
            unsafe {
                if view(&*message, &self.topics).is_of(at) {
                    ffi::rd_kafka_message_destroy(message);
                    continue;
                }
            }
            self.buffer[self.filled] = message;
            self.filled += 1;
        }
    }

    fn fill(&mut self, wait: Duration) -> usize {
        let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive; the message returned is ours to destroy.
        let first = unsafe { ffi::rd_kafka_consume_queue(self.queue.0, millis) };
        if first.is_null() {
            return 0;
        }
        self.buffer[0] = first;
        let rest = &mut self.buffer[1..];
        // SAFETY: the queue is alive; the client writes so many messages at most, which are then ours
        // to destroy. Nobody else reads from this client: see `Queue`.
        let taken = unsafe {
            ffi::rd_kafka_consume_batch_queue(self.queue.0, 0, rest.as_mut_ptr(), rest.len())
        };
        let filled = 1 + usize::try_from(taken).unwrap_or(0);
        self.note_ends(filled);
        filled
    }

    /// Log end of a partition as the last fetch told, without asking anybody.
    pub(super) fn known_end(&self, at: &TopicPartition) -> Option<NextOffset> {
        let topic = CString::new(&*at.topic).ok()?;
        let (mut low, mut high) = (-1_i64, -1_i64);
        // SAFETY: all pointers are to live values of ours.
        let err = unsafe {
            ffi::rd_kafka_get_watermark_offsets(
                self.consumer.client().native_ptr(),
                topic.as_ptr(),
                at.partition.get(),
                &mut low,
                &mut high,
            )
        };
        let known = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0;
        known.then(|| NextOffset::new(high))
    }
}

impl Drop for BatchConsumer {
    fn drop(&mut self) {
        self.drain(|_| {});
        self.consumer.context().closing.store(true, Ordering::SeqCst);
        // Rebalances that nobody will answer any more keep the client from closing.
        for change in self.take_changes() {
            if let Change::Revoke { partitions, .. } = change
                && let Err(error) = release(&self.consumer, &list_of(&partitions))
            {
                tracing::debug!(%error, "unassignment while closing failed");
            }
        }
        // SAFETY: nobody reads the queue any more or can forward to it; partitions that are forwarded
        // hold references of their own.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue.0) };
    }
}

/// The event that a message is; its topic is among those known, or not.
///
/// # Safety
/// The message must live as long as what is returned.
unsafe fn view<'a>(message: &'a ffi::rd_kafka_message_t, topics: &'a [Box<str>]) -> Event<'a> {
    let topic = if message.rkt.is_null() {
        ""
    } else {
        // SAFETY: the message holds a reference to its topic, whose name ends with NUL.
        let name = unsafe { CStr::from_ptr(ffi::rd_kafka_topic_name(message.rkt)) };
        match topics.iter().find(|known| known.as_bytes() == name.to_bytes()) {
            Some(known) => known,
            None => name.to_str().unwrap_or(""),
        }
    };
    let partition = PartitionId::new(message.partition);
    match message.err {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
            return Event::End { topic, partition, next: NextOffset::new(message.offset) };
        }
        code => return Event::Failed { topic, partition, code: code.into() },
    }
    let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message is alive, `kind` is ours.
    let timestamp = unsafe { ffi::rd_kafka_message_timestamp(message, &mut kind) };
    // SAFETY: key and payload are as long as the message says and live as long as it.
    let (key, value) =
        unsafe { (bytes(message.key, message.key_len), bytes(message.payload, message.len)) };
    Event::Record(Record {
        topic,
        partition,
        offset: Offset::new(message.offset),
        timestamp,
        timestamp_is_append: kind
            == ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME,
        key,
        value,
        headers: Headers::Message(MessageHeaders { message, alive: PhantomData }),
    })
}

/// # Safety
/// `at` must be null or point to `len` bytes that live for `'a`.
unsafe fn bytes<'a>(at: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at.cast(), len) })
}

/// Headers inside a record of the client.
#[derive(Clone, Copy, Debug)]
pub struct MessageHeaders<'a> {
    message: *const ffi::rd_kafka_message_t,
    alive: PhantomData<&'a ()>,
}

impl<'a> MessageHeaders<'a> {
    /// The first header at `at` or behind it whose name is UTF-8; moves `at` to it.
    pub(super) fn next_from(self, at: &mut usize) -> Option<(&'a str, Option<&'a [u8]>)> {
        let mut headers = std::ptr::null_mut();
        // SAFETY: the message is alive for `'a`; it parses its headers once and owns them.
        let err = unsafe { ffi::rd_kafka_message_headers(self.message, &mut headers) };
        if err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        loop {
            let (mut name, mut value, mut len) = (std::ptr::null(), std::ptr::null(), 0);
            // SAFETY: the headers live as long as the message; the three outputs are ours.
            let err = unsafe {
                ffi::rd_kafka_header_get_all(headers, *at, &mut name, &mut value, &mut len)
            };
            if err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            // SAFETY: names end with NUL, values are as long as told; both live as long as the message.
            let (name, value) = unsafe { (CStr::from_ptr(name), bytes(value, len)) };
            match name.to_str() {
                Ok(name) => return Some((name, value)),
                Err(_) => *at += 1,
            }
        }
    }
}
