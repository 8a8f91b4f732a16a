//! A broker inside this process: librdkafka's mock cluster, for the demo and for tests.
//!
//! What it does *not* do, so that nobody is surprised:
//!
//! - It keeps 100,000 records or 5 MiB per partition, whichever is less, and drops older ones
//!   **silently**: whoever writes must be paced by the positions of whoever reads.
//! - It neither creates topics on request nor knows their settings: no retention, no compaction, no
//!   broker time; topics are made by [`Embedded::start`] and [`Embedded::create`].
//! - No TLS, no SASL, no access rights, no disk: everything is gone with it.
//!
//! Consumer groups, idempotent producers, end-of-partition events and offsets work as on a real
//! broker. A group takes 3 s to form, as its first rebalance is delayed by that.

use super::client::Connection;
use super::error::Error;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Records that a partition keeps at most.
pub const RECORDS_KEPT: u64 = 100_000;
/// Bytes that a partition keeps at most.
pub const BYTES_KEPT: u64 = 5 << 20;

struct Create {
    topic: String,
    partitions: i32,
    answer: SyncSender<Result<(), String>>,
}

/// The broker; it ends when this is dropped, after all clients please.
pub struct Embedded {
    bootstrap: String,
    /// `None` only while dropping: hanging up ends the thread.
    requests: Option<SyncSender<Create>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts a broker with these topics, each with its number of partitions.
    pub fn start<'t>(topics: impl IntoIterator<Item = (&'t str, i32)>) -> Result<Embedded, Error> {
        let (requests, received) = sync_channel(1);
        let (ready, bootstrap) = sync_channel(1);
        // The cluster may not change threads, so one keeps it.
        let thread = std::thread::Builder::new()
            .name("embedded-broker".to_owned())
            .spawn(move || keep(&ready, &received))
            .map_err(|e| failed(e.to_string()))?;
        let bootstrap = bootstrap
            .recv()
            .unwrap_or_else(|_| Err("its thread ended".to_owned()))
            .map_err(failed)?;
        let broker = Embedded { bootstrap, requests: Some(requests), thread: Some(thread) };
        for (topic, partitions) in topics {
            broker.create(topic, partitions)?;
        }
        Ok(broker)
    }

    /// Makes a topic.
    pub fn create(&self, topic: &str, partitions: i32) -> Result<(), Error> {
        let (answer, answered) = sync_channel(1);
        let request = Create { topic: topic.to_owned(), partitions, answer };
        let requests = self.requests.as_ref().expect("there until dropped");
        let sent = requests.send(request).map_err(|e| e.to_string());
        sent.and_then(|()| answered.recv().map_err(|e| e.to_string())?)
            .map_err(|e| failed(format!("topic {topic}: {e}")))
    }

    /// How to reach it.
    pub fn connection(&self) -> Connection {
        Connection::to(&self.bootstrap)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the embedded broker broke down");
        }
    }
}

fn failed(reason: String) -> Error {
    Error::broker("starting the embedded broker", reason)
}

fn keep(ready: &SyncSender<Result<String, String>>, requests: &Receiver<Create>) {
    let cluster: MockCluster<'_, DefaultProducerContext> = match MockCluster::new(1) {
        Ok(cluster) => cluster,
        Err(error) => {
            let _asker_is_gone = ready.send(Err(error.to_string()));
            return;
        }
    };
    let _asker_is_gone = ready.send(Ok(cluster.bootstrap_servers()));
    while let Ok(Create { topic, partitions, answer }) = requests.recv() {
        let made = cluster.create_topic(&topic, partitions, 1).map_err(|e| e.to_string());
        let _asker_is_gone = answer.send(made);
    }
}
