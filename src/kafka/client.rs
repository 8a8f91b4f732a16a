//! Connection to a cluster: librdkafka's properties as the configuration's `kafka:` map has them.
//!
//! Most properties are passed through, so TLS, SASL and OAuth work as librdkafka documents them. Some
//! belong to the engine, as its promises rest on them; [`Connection::check`] refuses those.

use super::error::Error;
use super::exactly::metadata::Committed;
use super::task::TopicPartition;
use crate::clock::Moment;
use crate::model::ids::{NextOffset, PartitionId};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::time::Duration;

/// How long a question to the cluster may take.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(20);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Properties of consumers that cannot be changed.
const CONSUMER_FIXED: [(&str, &str); 5] = [
    // Nothing is read from a place that nobody asked for.
    ("auto.offset.reset", "error"),
    // A commit says that the outputs are acknowledged, which only the worker knows.
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // The only way to know that a topic with transactions has been read to its end.
    ("enable.partition.eof", "true"),
    ("isolation.level", "read_committed"),
];

/// Properties of producers that cannot be changed.
const PRODUCER_FIXED: [(&str, &str); 3] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    // Keys go where Java clients would send them.
    ("partitioner", "murmur2_random"),
];

const CONSUMER_DEFAULTS: [(&str, &str); 6] = [
    ("fetch.wait.max.ms", "100"),
    // Queues are kept small, and nothing is fetched for so long once one is full: at the default of 1 s
    // a worker mostly waits, and at 50 ms still half of its time.
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.message.max.bytes", "262144"),
    ("fetch.max.bytes", "2097152"),
    ("queued.min.messages", "10000"),
    ("reconnect.backoff.max.ms", "2000"),
];

/// Not allowed under `group.protocol: consumer`, where the broker decides them.
const CLASSIC_GROUP_DEFAULTS: [(&str, &str); 3] = [
    ("partition.assignment.strategy", "cooperative-sticky"),
    // A cooperative join takes two rounds, each as long as a heartbeat.
    ("heartbeat.interval.ms", "500"),
    ("session.timeout.ms", "10000"),
];

const PRODUCER_DEFAULTS: [(&str, &str); 5] = [
    ("linger.ms", "5"),
    ("compression.type", "lz4"),
    ("batch.size", "1000000"),
    ("queue.buffering.max.messages", "500000"),
    ("reconnect.backoff.max.ms", "2000"),
];

/// After which a coordinator aborts a transaction: a dead worker's must not block readers for long.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// What transactions need: outputs come in bursts, so waiting for more only stalls the commit.
const TRANSACTIONAL: [(&str, &str); 3] = [
    ("linger.ms", "0"),
    ("retry.backoff.ms", "5"),
    // The client asks three times in a few milliseconds who coordinates the group. While coordinators
    // move nobody does; then `send_offsets_to_transaction` waits, whatever its time-out, until some
    // connection comes or goes (librdkafka #5456): a silent one has to go before the transaction does.
    ("connections.max.idle.ms", "6000"),
];

/// Gives transactions so long, and their records a little less.
pub(super) fn set_transaction_timeout(config: &mut ClientConfig, timeout: Duration) {
    let ms = timeout.as_millis();
    config.set("transaction.timeout.ms", ms.to_string());
    config.set("message.timeout.ms", (ms - 1_000).to_string());
}

/// Partitions as the client lists them.
pub(super) fn list_of<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for at in partitions {
        list.add_partition(&at.topic, at.partition.get());
    }
    list
}

/// Ends of topics, by topic and partition.
pub type Ends = BTreeMap<String, BTreeMap<PartitionId, NextOffset>>;

/// How to reach one cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection(BTreeMap<String, String>);

impl fmt::Debug for Connection {
    /// Names the properties only: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Connection {
    /// A connection by librdkafka's properties; `bootstrap.servers` must be among them.
    pub fn new(properties: BTreeMap<String, String>) -> Connection {
        Connection(properties)
    }

    /// A plain connection to `host:port,…`.
    pub fn to(bootstrap: &str) -> Connection {
        Connection(BTreeMap::from([("bootstrap.servers".to_owned(), bootstrap.to_owned())]))
    }

    /// The same with one property set.
    pub fn with(mut self, property: &str, value: &str) -> Connection {
        self.0.insert(property.to_owned(), value.to_owned());
        self
    }

    /// Addresses of the brokers to ask first.
    pub fn bootstrap(&self) -> &str {
        self.0.get("bootstrap.servers").map_or("", String::as_str)
    }

    /// Checks names and values of all properties by making clients, which does not wait for brokers.
    pub fn check(&self) -> Result<(), Error> {
        if self.bootstrap().is_empty() {
            return Err(Error::Property("`bootstrap.servers` is missing".to_owned()));
        }
        for (name, ours) in CONSUMER_FIXED.iter().chain(&PRODUCER_FIXED) {
            if self.0.get(*name).is_some_and(|given| given != ours) {
                let text = format!("`{name}` is always `{ours}` and cannot be changed");
                return Err(Error::Property(text));
            }
        }
        if self.0.contains_key("group.id") || self.0.contains_key("transactional.id") {
            let text = "`group.id` and `transactional.id` follow from the name of the application";
            return Err(Error::Property(text.to_owned()));
        }
        let _: BaseConsumer<Quiet> = create(&self.consumer("touchline-check"))?;
        let _: BaseProducer<Quiet> = create(&self.producer())?;
        Ok(())
    }

    /// Properties of a consumer.
    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        let new_protocol = self.0.get("group.protocol").is_some_and(|p| p == "consumer");
        let group_defaults = CLASSIC_GROUP_DEFAULTS.iter().filter(|_| !new_protocol);
        for (name, value) in CONSUMER_DEFAULTS.iter().chain(group_defaults) {
            config.set(*name, *value);
        }
        self.apply(&mut config, &CONSUMER_FIXED);
        config.set("group.id", group);
        config
    }

    /// Properties of a producer.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in PRODUCER_DEFAULTS {
            config.set(name, value);
        }
        self.apply(&mut config, &PRODUCER_FIXED);
        config
    }

    /// Properties of a transactional producer.
    pub(super) fn transactional(&self, id: &str, in_flight_bytes: usize) -> ClientConfig {
        let mut config = self.producer();
        for (name, value) in TRANSACTIONAL {
            config.set(name, value);
        }
        set_transaction_timeout(&mut config, TRANSACTION_TIMEOUT);
        config.set("transactional.id", id);
        let kib = (in_flight_bytes / 512).max(4_096);
        config.set("queue.buffering.max.kbytes", kib.to_string());
        config
    }

    /// Properties of a client that neither reads nor writes.
    pub(super) fn admin(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        self.apply(&mut config, &[]);
        config
    }

    fn apply(&self, config: &mut ClientConfig, fixed: &[(&str, &str)]) {
        config.set("client.id", "touchline");
        // Small requests one after the other are what transactions and starts are made of; each would
        // wait 40 ms for the acknowledgement of the one before.
        config.set("socket.nagle.disable", "true");
        for (name, value) in &self.0 {
            config.set(name, value);
        }
        for (name, value) in fixed {
            config.set(*name, *value);
        }
    }

    /// Makes a client that only asks.
    pub(super) fn asker(&self) -> Result<Asker, Error> {
        // Log ends are asked as a reader of committed records sees them.
        let mut config = self.admin();
        config.set("isolation.level", "read_committed");
        Ok(Asker(create(&config)?))
    }

    /// The same, but log ends are those of what is not committed, too.
    pub(super) fn uncommitted_asker(&self) -> Result<Asker, Error> {
        let mut config = self.admin();
        config.set("isolation.level", "read_uncommitted");
        Ok(Asker(create(&config)?))
    }
}

pub(super) fn create<T: FromClientConfigAndContext<Quiet>>(
    config: &ClientConfig,
) -> Result<T, Error> {
    config.create_with_context(Quiet).map_err(|e| property_error(&e))
}

/// Says a refused property in one sentence.
pub(super) fn property_error(error: &KafkaError) -> Error {
    Error::Property(match error {
        KafkaError::ClientConfig(_, text, name, _) => format!("`{name}`: {text}"),
        KafkaError::ClientCreation(text) => text.clone(),
        other => other.to_string(),
    })
}

/// A context that tells nobody but the debug log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "kafka client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Quiet {}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// A client that asks for metadata and offsets.
pub(super) struct Asker(BaseConsumer<Quiet>);

impl Asker {
    /// Asks, and asks again while no broker can be reached: the client gives up on the first broken
    /// connection, which is what a broker that just starts looks like.
    pub(super) fn ask<T>(
        &self,
        what: impl Fn() -> String,
        question: impl Fn(&BaseConsumer<Quiet>) -> Result<T, KafkaError>,
    ) -> Result<T, Error> {
        use RDKafkaErrorCode as Code;
        let since = Moment::now();
        loop {
            let error = match question(&self.0) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let patient = matches!(
                error.rdkafka_error_code(),
                Some(
                    Code::BrokerTransportFailure
                        | Code::AllBrokersDown
                        | Code::LeaderNotAvailable
                        | Code::NotLeaderForPartition
                        // The broker left the cluster while it was asked.
                        | Code::DestroyBroker
                )
            );
            if !patient || since.elapsed().as_secs_f64() > ASK_TIMEOUT.as_secs_f64() {
                return Err(Error::broker(what(), error));
            }
            // Serves the client for a while; what it says is in the debug log.
            let _said = self.0.poll(ASK_AGAIN);
        }
    }

    /// How many partitions `topic` has.
    pub(super) fn partitions(&self, topic: &str) -> Result<i32, Error> {
        let what = || format!("asking for topic {topic} at its brokers");
        let metadata = self.ask(what, |c| c.fetch_metadata(Some(topic), ASK_TIMEOUT))?;
        let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
            return Err(Error::MissingTopic(topic.to_owned()));
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                return Err(Error::MissingTopic(topic.to_owned()));
            }
            Some(code) => return Err(Error::broker(what(), code)),
        }
        match i32::try_from(found.partitions().len()) {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(Error::MissingTopic(topic.to_owned())),
        }
    }

    /// First and next offset of a partition, as a reader of committed records sees them.
    pub(super) fn bounds(
        &self,
        topic: &str,
        partition: PartitionId,
    ) -> Result<(i64, NextOffset), Error> {
        let what = || format!("asking for the end of {topic}/{partition}");
        let (low, high) =
            self.ask(what, |c| c.fetch_watermarks(topic, partition.get(), ASK_TIMEOUT))?;
        Ok((low, NextOffset::new(high)))
    }

    /// The first offsets of partitions (`Offset::Beginning`) or the next ones (`Offset::End`), in one
    /// question per broker.
    pub(super) fn edges<'t>(
        &self,
        partitions: impl IntoIterator<Item = (&'t str, PartitionId)>,
        edge: Offset,
    ) -> Result<Edges, Error> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition(topic, partition.get());
        }
        let what = || "asking where topics begin or end".to_owned();
        let mut found = self.ask(what, |client| edges(client, &list, edge, ASK_TIMEOUT))?;
        // What a leader did not tell is asked again, with the patience that it takes.
        for element in list.elements() {
            let at = TopicPartition::new(element.topic(), PartitionId::new(element.partition()));
            if let Entry::Vacant(missing) = found.entry(at) {
                let (low, high) = self.bounds(&missing.key().topic, missing.key().partition)?;
                missing.insert(match edge {
                    Offset::Beginning => NextOffset::new(low),
                    _ => high,
                });
            }
        }
        Ok(found)
    }

    /// The offset behind the last record of each partition of `topics` that this client may see.
    pub(super) fn ends<'t>(
        &self,
        topics: impl IntoIterator<Item = &'t str>,
    ) -> Result<Ends, Error> {
        let mut partitions = Vec::new();
        for topic in topics {
            partitions.extend((0..self.partitions(topic)?).map(|p| (topic, PartitionId::new(p))));
        }
        let mut ends: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
        for (at, next) in self.edges(partitions, Offset::End)? {
            ends.entry(at.topic.to_string()).or_default().insert(at.partition, next);
        }
        Ok(ends)
    }
}

/// Offsets at one edge of partitions.
pub(super) type Edges = BTreeMap<TopicPartition, NextOffset>;

/// The same as [`Asker::edges`] by a client that is connected already, or is about to be.
pub(super) fn edges_by<'t, C: ConsumerContext>(
    client: &BaseConsumer<C>,
    connection: &Connection,
    partitions: impl Iterator<Item = (&'t str, PartitionId)> + Clone,
    edge: Offset,
) -> Result<Edges, Error> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions.clone() {
        list.add_partition(topic, partition.get());
    }
    match edges(client, &list, edge, ASK_TIMEOUT) {
        Ok(found) if found.len() == list.count() => Ok(found),
        _ => connection.asker()?.edges(partitions, edge),
    }
}

/// Asks where partitions begin or end; those that are not told are left out.
pub(super) fn edges<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    partitions: &TopicPartitionList,
    edge: Offset,
    within: Duration,
) -> Result<Edges, KafkaError> {
    let mut asked = TopicPartitionList::new();
    for element in partitions.elements() {
        // The protocol has two special times: the beginning and the end.
        asked.add_partition_offset(element.topic(), element.partition(), edge)?;
    }
    let found = client.offsets_for_times(asked, within)?;
    let known = found.elements().into_iter().filter_map(|e| match (e.error(), e.offset()) {
        (Ok(()), Offset::Offset(next)) => {
            let at = TopicPartition::new(e.topic(), PartitionId::new(e.partition()));
            Some((at, NextOffset::new(next)))
        }
        _ => None,
    });
    Ok(known.collect())
}

/// How many partitions `topic` has; [`Error::MissingTopic`] if it does not exist.
pub fn partitions(connection: &Connection, topic: &str) -> Result<i32, Error> {
    connection.asker()?.partitions(topic)
}

/// The offset behind the last committed record of each partition of `topic`.
pub fn end_offsets(
    connection: &Connection,
    topic: &str,
) -> Result<BTreeMap<PartitionId, NextOffset>, Error> {
    Ok(connection.asker()?.ends([topic])?.remove(topic).unwrap_or_default())
}

/// The same for several topics at once.
pub fn all_end_offsets<'t>(
    connection: &Connection,
    topics: impl IntoIterator<Item = &'t str>,
) -> Result<Ends, Error> {
    connection.asker()?.ends(topics)
}

/// The offset behind the last record of each partition of `topics`, committed or not. A transaction is
/// acknowledged before its markers are written: until then the last committed record lies before it.
pub fn all_written_ends<'t>(
    connection: &Connection,
    topics: impl IntoIterator<Item = &'t str>,
) -> Result<Ends, Error> {
    connection.uncommitted_asker()?.ends(topics)
}

/// Offsets that `group` has committed for `topic`; partitions without one are absent.
pub fn committed(
    connection: &Connection,
    group: &str,
    topic: &str,
) -> Result<BTreeMap<PartitionId, Committed>, Error> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, connection.asker()?.partitions(topic)? - 1);
    let consumer: BaseConsumer<Quiet> = create(&connection.consumer(group))?;
    let found = consumer
        .committed_offsets(list, ASK_TIMEOUT)
        .map_err(|e| Error::broker(format!("asking for the offsets of group {group}"), e))?;
    let offsets = found
        .elements()
        .into_iter()
        .filter_map(|e| Some((PartitionId::new(e.partition()), committed_at(&e)?)));
    Ok(offsets.collect())
}

/// The committed offset of one partition in an answer of the coordinator, if there is one.
pub(super) fn committed_at(element: &TopicPartitionListElem<'_>) -> Option<Committed> {
    let Offset::Offset(next) = element.offset() else { return None };
    Some(Committed { next: NextOffset::new(next), metadata: element.metadata().parse().ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(property: &str, value: &str, expected: Result<(), &str>) {
        let got = Connection::to("127.0.0.1:1").with(property, value).check();
        match (got, expected) {
            (Ok(()), Ok(())) => {}
            (Err(e), Err(part)) if e.to_string().contains(part) => {}
            (got, expected) => panic!("{property}={value}: got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn properties_are_passed_through_and_checked() {
        check("client.id", "shop", Ok(()));
        check("linger.ms", "20", Ok(()));
        check("acks", "all", Ok(()));
        check("acks", "1", Err("`acks` is always `all`"));
        check("group.id", "mine", Err("follow from the name of the application"));
        check("lingering.ms", "20", Err("`lingering.ms`: "));
        check("linger.ms", "soon", Err("`linger.ms`: "));
        check("security.protocol", "sasl", Err("`security.protocol`: "));
        check("ssl.ca.location", "/nowhere/ca.pem", Ok(()));
        check("bootstrap.servers", "", Err("`bootstrap.servers` is missing"));
        // The broker decides what the classic protocol's defaults say.
        check("group.protocol", "consumer", Ok(()));
    }

    #[test]
    fn secrets_do_not_reach_debug_output() {
        let connection = Connection::to("h:1").with("sasl.password", "hunter2");
        assert!(!format!("{connection:?}").contains("hunter2"));
    }

    /// Coordinators that move leave nobody to coordinate for a moment.
    #[test]
    fn a_transaction_outlasts_a_group_without_coordinator() {
        use rdkafka::mocking::MockCluster;
        use rdkafka::producer::{DefaultProducerContext, Producer};
        use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
        use rdkafka::{Offset, TopicPartitionList};
        let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
        cluster.create_topic("in", 1, 1).unwrap();
        let connection = Connection::to(&cluster.bootstrap_servers());
        let producer: BaseProducer = connection.transactional("app-0", 1 << 20).create().unwrap();
        let reader: BaseConsumer = connection.consumer("app").create().unwrap();
        producer.init_transactions(Duration::from_secs(5)).unwrap();
        producer.begin_transaction().unwrap();
        let none = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE;
        cluster.request_errors(RDKafkaApiKey::FindCoordinator, &[none; 4]);
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset("in", 0, Offset::Offset(1)).unwrap();
        let group = reader.group_metadata().unwrap();
        // Without our settings it never returns.
        let sent = producer.send_offsets_to_transaction(&offsets, &group, Duration::from_secs(5));
        sent.unwrap();
        producer.commit_transaction(Duration::from_secs(5)).unwrap();
    }
}
