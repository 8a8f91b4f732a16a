//! The shell against the embedded broker and against a real one: what is read, published and committed,
//! in which order, and when it ends.
#![cfg(test)]

#[path = "../kafka/broker.rs"]
pub(crate) mod broker;

mod faults;
mod lost_ack;
mod prompt;
mod proxy;
mod support;

pub(crate) use support::read_all;

use crate::kafka::support::{Copies, DEADLINE, all_of, copier, fill};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::collections::BTreeMap;
use std::sync::Arc;
use touchline::kafka::client::{self, end_offsets};
use touchline::kafka::embedded::Embedded;
use touchline::kafka::group::{Assignment, Resume, start};
use touchline::kafka::observer::Silent;
use touchline::kafka::{Connection, Error, Settings, Source, Start};
use touchline::model::ids::{NextOffset, PartitionId};
use touchline::model::time::Millis;

fn settings(connection: &Connection, start: Start) -> Settings {
    copying(connection, "in", start)
}

/// Settings that read a topic as the group `copy-` and its name.
fn copying(connection: &Connection, topic: &str, start: Start) -> Settings {
    let sources = vec![Source::new(topic, start)];
    Settings::new("copy", connection.clone(), format!("copy-{topic}"), sources)
}

/// Offsets that a group has committed.
fn committed(
    connection: &Connection,
    group: &str,
    topic: &str,
) -> Result<BTreeMap<PartitionId, NextOffset>, Error> {
    let found = client::committed(connection, group, topic)?;
    Ok(found.into_iter().map(|(partition, of)| (partition, of.next)).collect())
}

#[test]
fn a_bounded_run_folds_all_publishes_all_seals_all_and_commits_all() {
    let broker = Embedded::start([("in", 3), ("out", 2)]).unwrap();
    let connection = broker.connection();
    fill(&connection, "in", 3, 0..3_000);
    let mut settings = settings(&connection, Start::Earliest);
    settings.workers = 2;
    let handle = start(settings, copier(Copies::Sealed), Arc::new(Silent)).unwrap();
    let ends = [("in".to_owned(), end_offsets(&connection, "in").unwrap())].into();
    handle.finish_at(&ends);
    // What comes later is not part of the run.
    handle.join().unwrap();
    let (records, seals) = all_of(&read_all(&connection, "out"));
    assert_eq!(records, (0..3_000).collect::<Vec<_>>());
    assert_eq!(seals, ["in/0", "in/1", "in/2"]);
    assert_eq!(committed(&connection, "copy-in", "in").unwrap(), ends["in"]);
}

#[test]
fn an_empty_topic_is_at_its_end_at_once() {
    let broker = Embedded::start([("in", 2), ("out", 1)]).unwrap();
    let connection = broker.connection();
    let settings = settings(&connection, Start::Earliest);
    let handle = start(settings, copier(Copies::Sealed), Arc::new(Silent)).unwrap();
    handle.finish_at(&[("in".to_owned(), end_offsets(&connection, "in").unwrap())].into());
    handle.join().unwrap();
    let (records, seals) = all_of(&read_all(&connection, "out"));
    assert_eq!((records.len(), seals.len()), (0, 2));
}

#[test]
fn a_topic_that_is_missing_is_named() {
    let broker = Embedded::start([("out", 1)]).unwrap();
    let connection = broker.connection().with("allow.auto.create.topics", "false");
    let settings = settings(&connection, Start::Earliest);
    let failed = start(settings, copier(Copies::Plain), Arc::new(Silent)).err();
    assert_eq!(failed, Some(Error::MissingTopic("in".to_owned())));
}

#[test]
fn no_offset_is_committed_ahead_of_its_acknowledged_outputs() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("in", 1, 1).unwrap();
    cluster.create_topic("out", 1, 1).unwrap();
    let connection = Connection::to(&cluster.bootstrap_servers()).with("retry.backoff.ms", "20");
    fill(&connection, "in", 1, 0..2_000);
    // Every batch of outputs is refused some times; in between, one gets through.
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    cluster.request_errors(RDKafkaApiKey::Produce, &[refused; 15]);
    let mut settings = settings(&connection, Start::Earliest);
    settings.commit_interval = Millis::ZERO;
    settings.poll_records = 50;
    let handle = start(settings, copier(Copies::Plain), Arc::new(Silent)).unwrap();
    let mut seen = Vec::new();
    let since = touchline::clock::Moment::now();
    let zero = PartitionId::new(0);
    while seen.last() != Some(&2_000) {
        // The outputs are read after the commit, so they may be ahead, never behind.
        let done = committed(&connection, "copy-in", "in").unwrap().get(&zero).map(|n| n.get());
        let outputs = end_offsets(&connection, "out").unwrap()[&zero].get();
        assert!(done.unwrap_or(0) <= outputs, "committed {done:?} with {outputs} outputs");
        seen.extend(done);
        assert!(since.elapsed() < DEADLINE, "committed so far: {seen:?}");
    }
    handle.stop();
    handle.join().unwrap();
    let (records, _) = all_of(&read_all(&connection, "out"));
    assert_eq!(records, (0..2_000).collect::<Vec<_>>());
}

#[test]
fn an_output_that_is_refused_for_good_stops_the_worker_and_commits_nothing_behind_it() {
    let broker = Embedded::start([("in", 1), ("out", 1)]).unwrap();
    let connection = broker.connection().with("message.max.bytes", "2000");
    fill(&connection, "in", 1, 0..10);
    let settings = settings(&connection, Start::Earliest);
    let handle = start(settings, copier(Copies::TooLargeAt(5)), Arc::new(Silent)).unwrap();
    let failed = handle.join();
    assert!(matches!(&failed, Err(Error::Delivery { topic, .. }) if topic == "out"), "{failed:?}");
    assert_eq!(committed(&connection, "copy-in", "in").unwrap(), [].into());
}

#[test]
fn a_task_that_waits_gets_its_record_again_and_the_others_go_on() {
    let broker = Embedded::start([("in", 2), ("out", 1)]).unwrap();
    let connection = broker.connection();
    fill(&connection, "in", 2, 0..400);
    let settings = settings(&connection, Start::Earliest);
    // Partition 0 refuses its offset 50 three times, having appended an output each time.
    let handle = start(settings, copier(Copies::Busy), Arc::new(Silent)).unwrap();
    handle.finish_at(&[("in".to_owned(), end_offsets(&connection, "in").unwrap())].into());
    handle.join().unwrap();
    let (records, _) = all_of(&read_all(&connection, "out"));
    assert_eq!(records, (0..400).collect::<Vec<_>>());
}

#[test]
fn a_task_that_breaks_an_invariant_stops_its_role_with_the_reason() {
    let broker = Embedded::start([("in", 1), ("out", 1)]).unwrap();
    let connection = broker.connection();
    fill(&connection, "in", 1, 0..10);
    for (kind, part) in [(Copies::Fatal, "told so"), (Copies::Panics, "asserted so")] {
        let settings = settings(&connection, Start::Earliest);
        let handle = start(settings, copier(kind), Arc::new(Silent)).unwrap();
        let failed = handle.join().map_err(|e| e.to_string());
        assert!(failed.as_ref().is_err_and(|e| e.contains(part)), "{failed:?}");
    }
    assert_eq!(committed(&connection, "copy-in", "in").unwrap(), [].into());
}

#[test]
fn two_members_of_a_group_share_partitions_and_lose_nothing() {
    let broker = Embedded::start([("in", 4), ("out", 1)]).unwrap();
    let connection = broker.connection().with("session.timeout.ms", support::SESSION_TIMEOUT);
    rebalance(&connection, "in", "out");
}

/// One member reads, a second one joins, records keep coming, the first one leaves.
fn rebalance(connection: &Connection, topic: &str, out: &str) {
    fill(connection, topic, 4, 0..400);
    let member = || {
        let mut settings = copying(connection, topic, Start::Earliest);
        settings.assignment = Assignment::Group;
        settings.resume = Resume::AtPosition;
        start(settings, copier(Copies::Plain), Arc::new(Silent)).unwrap()
    };
    let first = member();
    assert!(first.wait_caught_up(DEADLINE), "{:?}", first.progress());
    let second = member();
    let shared = |positions: &_| support::owned(positions) == 2;
    assert!(second.wait_until(DEADLINE, shared), "{:?}", second.progress());
    assert!(first.wait_until(DEADLINE, shared), "{:?}", first.progress());
    fill(connection, topic, 4, 400..800);
    assert!(first.wait_caught_up(DEADLINE), "{:?}", first.progress());
    first.stop();
    first.join().unwrap();
    let alone = |positions: &_| support::owned(positions) == 4;
    assert!(second.wait_until(DEADLINE, alone), "{:?}", second.progress());
    fill(connection, topic, 4, 800..1_200);
    let ends = end_offsets(connection, topic).unwrap();
    second.finish_at(&[(topic.to_owned(), ends.clone())].into());
    second.join().unwrap();
    let (mut records, _) = all_of(&read_all(connection, out));
    // A member that takes over starts anew: records may come twice, none is missing.
    records.dedup();
    assert_eq!(records, (0..1_200).collect::<Vec<_>>());
    assert_eq!(committed(connection, &format!("copy-{topic}"), topic).unwrap(), ends);
}

#[test]
fn internal_topics_are_read_from_the_end_that_they_had_when_the_run_began() {
    let broker = Embedded::start([("in", 2), ("out", 1)]).unwrap();
    let connection = broker.connection();
    fill(&connection, "in", 2, 0..100);
    let before = end_offsets(&connection, "in").unwrap();
    fill(&connection, "in", 2, 100..150);
    let settings = settings(&connection, Start::At(before));
    let handle = start(settings, copier(Copies::Plain), Arc::new(Silent)).unwrap();
    assert!(handle.wait_caught_up(DEADLINE));
    handle.finish_at(&[("in".to_owned(), end_offsets(&connection, "in").unwrap())].into());
    handle.join().unwrap();
    let (records, _) = all_of(&read_all(&connection, "out"));
    assert_eq!(records, (100..150).collect::<Vec<_>>());
}

#[test]
fn silence_is_told_with_whether_the_end_was_seen() {
    let broker = Embedded::start([("in", 1), ("out", 1)]).unwrap();
    let connection = broker.connection();
    fill(&connection, "in", 1, 0..10);
    let mut settings = settings(&connection, Start::Latest);
    settings.idle_check = Millis::from_ms(20);
    // Publishes the first idle check of a caught-up partition that has waited for 100 ms.
    let handle = start(settings, copier(Copies::Idle), Arc::new(Silent)).unwrap();
    let idle = support::first_of(&connection, "out");
    assert_eq!(idle, "idle in/0");
    handle.stop();
    handle.join().unwrap();
}

mod real {
    //! The same against Apache Kafka, and what only that has: transactions, timestamps, topics.

    use super::broker::Broker;
    use super::support::{self, Copies, DEADLINE, all_of, copier, read_all, read_from};
    use super::{Silent, committed, copying, start};
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use rdkafka::{ClientConfig, Offset, TopicPartitionList};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;
    use touchline::clock::Moment;
    use touchline::kafka::client::end_offsets;
    use touchline::kafka::exactly::heir::end_orphaned;
    use touchline::kafka::state::{PartitionState, Suspect, inspect};
    use touchline::kafka::topics::{Change, Cleanup, Wanted, apply, describe, existing, plan};
    use touchline::kafka::writer::Writer;
    use touchline::kafka::{Connection, OutRecord, Source, Start, TopicPartition};
    use touchline::model::ids::PartitionId;
    use touchline::model::time::EventTime;

    /// A topic that keeps the producer's timestamps.
    fn plain(name: &str, partitions: i32) -> Wanted {
        let mut wanted = Wanted::ours(name, partitions, Some(1), Cleanup::Delete, -1);
        wanted.configs.remove("message.timestamp.type");
        wanted
    }

    /// The broker that all tests share, with topics of one's own.
    fn broker(topics: &[(&str, i32)]) -> (Arc<Broker>, Connection) {
        let broker = Broker::shared();
        let connection = broker.connection();
        let wanted: Vec<Wanted> = topics.iter().map(|(n, p)| plain(n, *p)).collect();
        apply(&connection, &plan(&wanted, &BTreeMap::new())).unwrap();
        (broker, connection)
    }

    #[test]
    fn a_bounded_run_and_a_rebalance() {
        let (broker, connection) = broker(&[("bounded.in", 4), ("bounded.out", 2)]);
        super::rebalance(&connection, "bounded.in", "bounded.out");
        let ends = end_offsets(&connection, "bounded.in").unwrap();
        let before = end_offsets(&connection, "bounded.out").unwrap();
        let mut settings = copying(&connection, "bounded.in", Start::Earliest);
        settings.workers = 3;
        let handle = start(settings, copier(Copies::Sealed), Arc::new(Silent)).unwrap();
        handle.finish_at(&[("bounded.in".to_owned(), ends.clone())].into());
        handle.join().unwrap();
        let source = Source::new("bounded.out", Start::At(before));
        let (records, seals) = all_of(&read_from(&connection, source));
        assert_eq!(records, (0..1_200).collect::<Vec<_>>(), "{}", broker.log());
        assert_eq!(seals.len(), 4);
        assert_eq!(committed(&connection, "copy-bounded.in", "bounded.in").unwrap(), ends);
    }

    #[test]
    fn the_end_behind_a_transaction_is_an_end_and_aborted_records_are_none() {
        let (broker, connection) = broker(&[("marker.in", 1), ("marker.out", 1)]);
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap())
            .set("transactional.id", "writer")
            .create()
            .unwrap();
        let most = Duration::from_secs(30);
        producer.init_transactions(most).unwrap();
        for (n, commit) in [(0, true), (1, false), (2, true)] {
            producer.begin_transaction().unwrap();
            let value = n.to_string();
            producer
                .send(BaseRecord::<str, str>::to("marker.in").key("k").payload(&value))
                .unwrap();
            producer.flush(most).unwrap();
            if commit {
                producer.commit_transaction(most).unwrap();
            } else {
                producer.abort_transaction(most).unwrap();
            }
        }
        let ends = end_offsets(&connection, "marker.in").unwrap();
        // Three records and three markers.
        assert_eq!(ends[&PartitionId::new(0)].get(), 6);
        let settings = copying(&connection, "marker.in", Start::Earliest);
        let handle = start(settings, copier(Copies::Sealed), Arc::new(Silent)).unwrap();
        assert!(handle.wait_caught_up(DEADLINE));
        handle.finish_at(&[("marker.in".to_owned(), ends.clone())].into());
        handle.join().unwrap();
        let (records, seals) = all_of(&read_all(&connection, "marker.out"));
        assert_eq!((records, seals.len()), (vec![0, 2], 1));
        assert_eq!(committed(&connection, "copy-marker.in", "marker.in").unwrap(), ends);
    }

    #[test]
    fn what_a_dead_worker_left_open_ends_when_another_takes_over() {
        let (broker, connection) = broker(&[("orphan.in", 2), ("orphan.out", 1)]);
        let client = |name: &str, value: &str| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", broker.bootstrap()).set(name, value);
            config
        };
        let most = Duration::from_secs(30);
        let mut config = client("transactional.id", "orphan-a-0");
        let dead: BaseProducer = config.set("transaction.timeout.ms", "600000").create().unwrap();
        dead.init_transactions(most).unwrap();
        let mut config = client("group.id", "orphan");
        config.set("client.id", "orphan-a-0").set("session.timeout.ms", "45000");
        let member: BaseConsumer = config.create().unwrap();
        let group = member.group_metadata().unwrap();
        let write = |committed| {
            dead.begin_transaction().unwrap();
            dead.send(BaseRecord::<str, str>::to("orphan.out").key("k").payload("0")).unwrap();
            let mut offsets = TopicPartitionList::new();
            let mut offset = offsets.add_partition("orphan.in", 0);
            offset.set_offset(Offset::Offset(0)).unwrap();
            offset.set_metadata("tl2 1 1 0 0 0 - orphan-a-0");
            dead.send_offsets_to_transaction(&offsets, &group, most).unwrap();
            dead.flush(most).unwrap();
            if committed {
                dead.commit_transaction(most).unwrap();
            }
        };
        let end = || end_offsets(&connection, "orphan.out").unwrap()[&PartitionId::new(0)].get();
        let wait_for = |wanted: i64| {
            let since = Moment::now();
            while end() < wanted {
                assert!(since.elapsed_secs() < 30.0, "{}", broker.log());
            }
        };
        // Each is a record and a marker.
        write(true);
        wait_for(2);
        write(false);
        let partitions = [0, 1].map(|p| TopicPartition::new("orphan.in", PartitionId::new(p)));
        let heir = |me: &str| end_orphaned(&connection, "orphan", me, &partitions).unwrap();
        // Its own restart does that with its producer; and who is a member is not dead.
        assert_eq!(heir("orphan-a-0"), [""; 0]);
        member.subscribe(&["orphan.in"]).unwrap();
        let since = Moment::now();
        while member.assignment().unwrap().count() == 0 {
            member.poll(Duration::from_millis(100));
            assert!(since.elapsed_secs() < 60.0, "{}", broker.log());
        }
        assert_eq!(heir("orphan-b-0"), [""; 0]);
        assert_eq!(end(), 2, "a reader waits");
        drop(member);
        assert_eq!(heir("orphan-b-0"), ["orphan-a-0"]);
        wait_for(4);
        assert!(dead.commit_transaction(most).is_err());
    }

    #[test]
    fn whose_transaction_is_open_is_told_as_far_as_it_can_be() {
        let (broker, connection) = broker(&[("whose.in", 2), ("whose.changelog", 2)]);
        let client = |name: &str, value: &str| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", broker.bootstrap()).set(name, value);
            config
        };
        let most = Duration::from_secs(30);
        let mut config = client("transactional.id", "whose-a-0");
        let worker: BaseProducer = config.set("transaction.timeout.ms", "600000").create().unwrap();
        worker.init_transactions(most).unwrap();
        let mut config = client("group.id", "whose");
        config.set("client.id", "whose-a-0").set("session.timeout.ms", "45000");
        let member: BaseConsumer = config.create().unwrap();
        let group = member.group_metadata().unwrap();
        let offsets = || {
            worker.begin_transaction().unwrap();
            let mut offsets = TopicPartitionList::new();
            let mut offset = offsets.add_partition("whose.in", 0);
            offset.set_offset(Offset::Offset(0)).unwrap();
            offset.set_metadata("tl2 1 1 0 0 0 - whose-a-0");
            worker.send_offsets_to_transaction(&offsets, &group, most).unwrap();
        };
        offsets();
        worker.commit_transaction(most).unwrap();
        let state = || inspect(&connection, "whose", "whose.in", "whose.changelog").unwrap();
        let open = |state: &[PartitionState]| -> Vec<_> {
            state.iter().map(|p| (p.open_input, p.open_changelog, p.suspects.clone())).collect()
        };
        let nothing = (false, false, Vec::new());
        assert_eq!(open(&state()), [nothing.clone(), nothing.clone()]);
        // Offsets of the open transaction keep those who ask for stable ones waiting, not us.
        offsets();
        let record = BaseRecord::<str, str>::to("whose.changelog").partition(0);
        worker.send(record.key("k").payload("v")).unwrap();
        worker.flush(most).unwrap();
        let suspect = |owns, is_member| Suspect { id: "whose-a-0".to_owned(), owns, is_member };
        let dead = (false, true, vec![suspect(false, false)]);
        assert_eq!(open(&state()), [dead, nothing.clone()]);
        member.subscribe(&["whose.in"]).unwrap();
        let since = Moment::now();
        while member.assignment().unwrap().count() == 0 {
            member.poll(Duration::from_millis(100));
            assert!(since.elapsed_secs() < 60.0, "{}", broker.log());
        }
        let owner = (false, true, vec![suspect(true, true)]);
        assert_eq!(open(&state()), [owner, nothing.clone()]);
        worker.abort_transaction(most).unwrap();
        while open(&state()) != [nothing.clone(), nothing.clone()] {
            assert!(since.elapsed_secs() < 90.0, "{}", broker.log());
        }
    }

    #[test]
    fn a_transaction_that_stays_open_before_records_is_a_health_state() {
        let (broker, connection) = broker(&[("stands.in", 1), ("stands.out", 1)]);
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap())
            .set("transactional.id", "stands")
            .create()
            .unwrap();
        let most = Duration::from_secs(30);
        producer.init_transactions(most).unwrap();
        producer.begin_transaction().unwrap();
        let open = BaseRecord::<str, str>::to("stands.in").key("k").payload("1000");
        producer.send(open).unwrap();
        producer.flush(most).unwrap();
        let settings = copying(&connection, "stands.in", Start::Earliest);
        let handle = start(settings, copier(Copies::Plain), Arc::new(Silent)).unwrap();
        let since = Moment::now();
        // Records go on coming behind it; nobody who reads what is committed gets them.
        while handle.health().standing.is_empty() {
            support::fill(&connection, "stands.in", 1, 0..1);
            assert!(since.elapsed() < DEADLINE, "{:?}", handle.health());
            std::thread::sleep(Duration::from_millis(500));
        }
        let (at, (offset, _)) = handle.health().standing.into_iter().next().unwrap();
        assert_eq!((at.to_string(), offset), ("stands.in/0".to_owned(), 0));
        producer.commit_transaction(most).unwrap();
        while !handle.health().standing.is_empty() {
            assert!(since.elapsed() < DEADLINE, "{:?}", handle.health());
            std::thread::sleep(Duration::from_millis(100));
        }
        handle.stop();
        handle.join().unwrap();
    }

    #[test]
    fn reading_starts_at_a_time() {
        let (_broker, connection) = broker(&[("time.in", 2), ("time.out", 1)]);
        let writer = Writer::new(&connection, 1 << 20).unwrap();
        let topic: Arc<str> = "time.in".into();
        for n in 0..100_i64 {
            let value = Some(n.to_string().into_bytes());
            let mut record = OutRecord::new(&topic, b"k".to_vec(), value);
            // Partition 1 ends long before the time asked for.
            record.partition = Some(PartitionId::new(i32::from(n < 20)));
            record.timestamp = Some(1_700_000_000_000 + n * 1_000);
            writer.send(&record).unwrap();
        }
        writer.flush(DEADLINE).unwrap();
        let from = Start::Time(EventTime::from_ms(1_700_000_070_000));
        let handle =
            start(copying(&connection, "time.in", from), copier(Copies::Plain), Arc::new(Silent))
                .unwrap();
        handle.finish_at(
            &[("time.in".to_owned(), end_offsets(&connection, "time.in").unwrap())].into(),
        );
        handle.join().unwrap();
        let (records, _) = all_of(&read_all(&connection, "time.out"));
        assert_eq!(records, (70..100).collect::<Vec<_>>());
    }

    #[test]
    fn topics_are_created_compared_and_never_changed() {
        let (_broker, connection) = broker(&[]);
        let ours = |partitions, retention| {
            Wanted::ours("alerts.active", partitions, Some(1), Cleanup::CompactDelete, retention)
        };
        let names = ["alerts.active", "orders"];
        let wanted = [ours(3, -1), Wanted::source("orders")];
        let changes = plan(&wanted, &existing(&connection, &names).unwrap());
        assert!(matches!(changes[..], [Change::Create(_), Change::Missing { .. }]), "{changes:?}");
        apply(&connection, &changes).unwrap();
        let there = existing(&connection, &names).unwrap();
        assert_eq!(describe(&plan(&wanted[..1], &there)), "all topics are as they should be\n");
        assert_eq!(there["alerts.active"].replication, 1);
        let differing = plan(&[ours(4, 5_000)], &there);
        assert_eq!(
            describe(&differing),
            "refused alerts.active: has 3 partitions, the configuration says 4; keys would move, so \
             change the configuration, or use another topic\n\
             differs alerts.active: retention.ms is -1, should be 5000\n"
        );
        apply(&connection, &differing).unwrap();
        assert_eq!(existing(&connection, &names).unwrap(), there);
        // Stamped by the broker, whatever the writer says.
        let writer = Writer::new(&connection, 1 << 20).unwrap();
        let mut record = OutRecord::new(&"alerts.active".into(), b"k".to_vec(), None);
        record.timestamp = Some(1_000);
        writer.send(&record).unwrap();
        writer.flush(DEADLINE).unwrap();
        assert_eq!(support::first_stamp(&connection, "alerts.active"), (true, true));
    }

    #[test]
    fn keys_go_where_java_sends_them_and_headers_come_through() {
        let (_broker, connection) = broker(&[("keyed", 8)]);
        let writer = Writer::new(&connection, 1 << 20).unwrap();
        let topic: Arc<str> = "keyed".into();
        let mut record = OutRecord::new(&topic, b"default|c-1".to_vec(), Some(b"v".to_vec()));
        record.headers = vec![("ce_id".into(), Some(b"1"[..].into())), ("none".into(), None)];
        writer.send(&record).unwrap();
        writer.flush(DEADLINE).unwrap();
        let ends = end_offsets(&connection, "keyed").unwrap();
        let used: Vec<i32> =
            ends.iter().filter(|(_, n)| n.get() > 0).map(|(p, _)| p.get()).collect();
        // org.apache.kafka.common.utils.Utils.toPositive(Utils.murmur2(key)) % 8
        assert_eq!(used, [support::murmur2(b"default|c-1") % 8]);
        let headers = support::first_headers(&connection, "keyed");
        assert_eq!(
            headers,
            [("ce_id".to_owned(), Some("1".to_owned())), ("none".to_owned(), None)]
        );
    }
}
