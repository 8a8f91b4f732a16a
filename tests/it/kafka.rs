//! The shell against the embedded broker and against a real one: what is read, published and committed,
//! in which order, and when it ends.

#[path = "../kafka/broker.rs"]
pub mod broker;

mod support;

use crate::kafka::support::{Copies, DEADLINE, all_of, copier, fill, read_all};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::sync::Arc;
use touchline::kafka::client::{committed, end_offsets};
use touchline::kafka::embedded::Embedded;
use touchline::kafka::group::{Assignment, Resume, start};
use touchline::kafka::observer::Silent;
use touchline::kafka::{Connection, Error, Settings, Source, Start};
use touchline::model::ids::{NextOffset, PartitionId};
use touchline::model::time::Millis;

fn settings(connection: &Connection, start: Start) -> Settings {
    Settings::new("copy", connection.clone(), "copy", vec![Source::new("in", start)])
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
    assert_eq!(committed(&connection, "copy", "in").unwrap(), ends["in"]);
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
        let done = committed(&connection, "copy", "in").unwrap().get(&zero).map(|n| n.get());
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
    assert_eq!(committed(&connection, "copy", "in").unwrap(), [].into());
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
    assert_eq!(committed(&connection, "copy", "in").unwrap(), [].into());
}

#[test]
fn two_members_of_a_group_share_partitions_and_lose_nothing() {
    let broker = Embedded::start([("in", 4), ("out", 1)]).unwrap();
    rebalance(&broker.connection());
}

/// One member reads, a second one joins, records keep coming, the first one leaves.
fn rebalance(connection: &Connection) {
    fill(connection, "in", 4, 0..400);
    let member = || {
        let mut settings = settings(connection, Start::Earliest);
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
    fill(connection, "in", 4, 400..800);
    assert!(first.wait_caught_up(DEADLINE), "{:?}", first.progress());
    first.stop();
    first.join().unwrap();
    let alone = |positions: &_| support::owned(positions) == 4;
    assert!(second.wait_until(DEADLINE, alone), "{:?}", second.progress());
    fill(connection, "in", 4, 800..1_200);
    let ends = end_offsets(connection, "in").unwrap();
    second.finish_at(&[("in".to_owned(), ends.clone())].into());
    second.join().unwrap();
    let (mut records, _) = all_of(&read_all(connection, "out"));
    // A member that takes over starts anew: records may come twice, none is missing.
    records.dedup();
    assert_eq!(records, (0..1_200).collect::<Vec<_>>());
    assert_eq!(committed(connection, "copy", "in").unwrap(), ends);
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
    let published = |positions: &_| support::done(positions, 0) == Some(NextOffset::new(10));
    assert!(!handle.wait_until(Millis::from_ms(1), published));
    let idle = support::first_of(&connection, "out");
    assert_eq!(idle, "idle in/0");
    handle.stop();
    handle.join().unwrap();
}
