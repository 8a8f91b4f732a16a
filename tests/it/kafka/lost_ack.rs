//! An acknowledgement is lost with its connection, and the transaction is aborted then.

use super::broker::Broker;
use super::proxy::Proxy;
use super::support::{Copies, DEADLINE, copier, fill, read_all};
use super::{Silent, copying, start};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use touchline::kafka::exactly::core::Identity;
use touchline::kafka::group::{Assignment, Delivery, ExactlyOnce, Handle, Resume};
use touchline::kafka::topics::{Cleanup, Wanted, apply, plan};
use touchline::kafka::{Settings, Start, TopicPartition};
use touchline::model::ids::{NextOffset, PartitionId};
use touchline::model::time::Millis;

/// Settings of a worker that copies exactly once, without state.
pub(super) fn exactly_once(settings: Settings) -> Settings {
    let identity = Identity { generation: 1, fold_version: 1, fingerprint: 0, input_partitions: 1 };
    Settings {
        assignment: Assignment::Group,
        resume: Resume::AtPosition,
        commit_interval: Millis::from_ms(50),
        delivery: Delivery::ExactlyOnce(ExactlyOnce {
            instance: "a".to_owned(),
            changelog: None,
            inputs: None,
            identity,
            checkpoint_interval: Millis::from_secs(10),
            static_membership: false,
            standby_replicas: 0,
            local: None,
        }),
        ..settings
    }
}

/// Waits until everything below an offset of `in/0` is committed.
#[track_caller]
fn wait_committed(handle: &Handle, next: i64, proxy: &Proxy) {
    let at = TopicPartition::new("in", PartitionId::new(0));
    let wanted = Some(NextOffset::new(next));
    let done = handle.wait_until(DEADLINE, |p| p.get(&at).is_some_and(|p| p.done >= wanted));
    let (progress, failure) = (handle.progress(), handle.failure());
    assert!(done, "{next} is not committed: {progress:?}, {failure:?}, {:?}", proxy.seen());
}

/// The values that stand in partition 0 of a topic, in aborted transactions, too.
fn written(broker: &Broker, topic: &str) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("group.id", "written")
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let mut values = Vec::new();
    loop {
        match consumer.poll(Duration::from_secs(60)).expect("the end, at least") {
            Ok(record) => values.push(String::from_utf8_lossy(record.payload().unwrap()).into()),
            Err(KafkaError::PartitionEOF(_)) => return values,
            Err(error) => panic!("{error}"),
        }
    }
}

/// librdkafka 2.12 gives what is sent after an abort the sequence numbers of what it dropped: a broker
/// that has written that takes it for a repeat, acknowledges it, and does not write it.
#[test]
fn what_was_written_but_not_acknowledged_before_an_abort_is_written_again() {
    let mut proxy = None;
    let broker = Broker::start_behind(|port| proxy.insert(Proxy::before(port)).port());
    let proxy = proxy.expect("made with the broker");
    let connection = broker.connection();
    let wanted = ["in", "out"].map(|name| Wanted::ours(name, 1, Some(1), Cleanup::Delete, -1));
    apply(&connection, &plan(&wanted, &BTreeMap::new())).unwrap();
    fill(&connection, "in", 1, 0..100);
    let settings = exactly_once(copying(&connection, "in", Start::Earliest));
    let handle = start(settings, copier(Copies::Plain), Arc::new(Silent)).unwrap();
    wait_committed(&handle, 100, &proxy);

    proxy.lose_an_acknowledgement();
    // A single output: a repeat is told by the first and the last number of its batch.
    fill(&connection, "in", 1, 100..101);
    let seen = proxy.wait_for_abort(Duration::from_secs(60));
    assert_eq!((seen.acks_lost, seen.aborts), (1, 1), "{seen:?}\n{}", broker.log());
    assert!(seen.cut_off > 0 && seen.refused > 0, "{seen:?}");
    wait_committed(&handle, 101, &proxy);

    fill(&connection, "in", 1, 101..200);
    wait_committed(&handle, 200, &proxy);
    handle.stop();
    handle.join().unwrap();
    let expected: Vec<String> = (0..200).map(|n: i32| n.to_string()).collect();
    let (committed, written) = (read_all(&connection, "out"), written(&broker, "out"));
    let missing: Vec<_> = expected.iter().filter(|value| !committed.contains(value)).collect();
    let times = written.iter().filter(|value| *value == "100").count();
    let seen = proxy.seen();
    let what = format!("without {missing:?}; 100 was written {times} times; {seen:?}");
    assert_eq!(committed, expected, "{what}");
    // In the transaction that was aborted, and in the one that was committed.
    assert_eq!(times, 2, "{what}");
}
