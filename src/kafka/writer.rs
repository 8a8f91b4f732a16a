//! A plain writer with bounded memory: for the generator and for tests.
//!
//! [`Writer::send`] waits while too much is unacknowledged; [`Writer::flush`] waits for all
//! acknowledgements. Nothing is lost silently: a record that could not be delivered makes every later
//! call fail. It is idempotent, and waits for all in-sync replicas, as the workers do.

use super::client::{Connection, property_error};
use super::commit::{offer, serve, undelivered};
use super::error::Error;
use super::task::OutRecord;
use crate::clock::Moment;
use crate::model::time::Millis;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const WAIT: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Account {
    acknowledged: AtomicU64,
    bytes: AtomicU64,
    failed: Mutex<Option<Error>>,
}

impl ClientContext for Account {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl ProducerContext for Account {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, _: usize) {
        let message = match result {
            Ok(message) => {
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
                message
            }
            Err((error, message)) => {
                let (topic, reason) = (message.topic().to_owned(), error.to_string());
                let mut failed = self.failed.lock().expect("no panic while held");
                failed.get_or_insert(Error::Delivery { topic, reason });
                message
            }
        };
        let bytes = message.payload_len() + message.key_len();
        self.bytes.fetch_sub(bytes as u64, Ordering::SeqCst);
    }
}

/// A writer; what it has not flushed when it is dropped is lost.
pub struct Writer {
    producer: BaseProducer<Account>,
    in_flight_bytes: u64,
}

impl Writer {
    /// A writer with at most `in_flight_bytes` unacknowledged (one record more is always let in).
    pub fn new(connection: &Connection, in_flight_bytes: usize) -> Result<Writer, Error> {
        Writer::of(connection.producer(), in_flight_bytes)
    }

    /// The same for records that may be written twice. It need not ask for a producer's number first,
    /// which takes half a second of a start.
    pub fn repeating(connection: &Connection, in_flight_bytes: usize) -> Result<Writer, Error> {
        let mut config = connection.producer();
        config.set("enable.idempotence", "false");
        Writer::of(config, in_flight_bytes)
    }

    fn of(mut config: ClientConfig, in_flight_bytes: usize) -> Result<Writer, Error> {
        let kib = (in_flight_bytes / 512).max(4_096);
        config.set("queue.buffering.max.kbytes", kib.to_string());
        let made = config.create_with_context(Account::default());
        let producer = made.map_err(|e| property_error(&e))?;
        Ok(Writer { producer, in_flight_bytes: in_flight_bytes as u64 })
    }

    fn account(&self) -> &Account {
        self.producer.context()
    }

    fn check(&self) -> Result<(), Error> {
        let failed = self.account().failed.lock().expect("no panic while held");
        failed.clone().map_or(Ok(()), Err)
    }

    /// Hands one record to the client, waiting for room.
    pub fn send(&self, record: &OutRecord) -> Result<(), Error> {
        self.producer.poll(Duration::ZERO);
        self.check()?;
        while self.account().bytes.load(Ordering::SeqCst) >= self.in_flight_bytes {
            serve(&self.producer, WAIT);
            self.check()?;
        }
        self.account().bytes.fetch_add(record.len() as u64, Ordering::SeqCst);
        while !offer(&self.producer, record, 0).map_err(|e| undelivered(record, &e))? {
            self.check()?;
        }
        Ok(())
    }

    /// Waits until everything sent is acknowledged; returns how many records that are in all.
    pub fn flush(&self, most: Millis) -> Result<u64, Error> {
        let since = Moment::now();
        while self.producer.in_flight_count() > 0 {
            serve(&self.producer, WAIT);
            self.check()?;
            if since.elapsed() > most {
                let what = "waiting for the acknowledgement of records";
                return Err(Error::broker(what, "the brokers did not answer in time"));
            }
        }
        self.check()?;
        Ok(self.acknowledged())
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.account().acknowledged.load(Ordering::SeqCst)
    }
}
