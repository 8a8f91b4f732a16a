//! A broker that refuses, hangs up, is away or is slow: what passes loses nothing and is got over soon,
//! what does not ends with a sentence that names it.

use super::support::{Copies, DEADLINE, SESSION_TIMEOUT, all_of, copier, fill, owned, read_all};
use super::{committed, settings};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use touchline::clock::Moment;
use touchline::kafka::client::{Ends, end_offsets};
use touchline::kafka::group::{Assignment, Handle, Resume, start};
use touchline::kafka::observer::Silent;
use touchline::kafka::reader::{Go, Tail, Tailed};
use touchline::kafka::writer::Writer;
use touchline::kafka::{Connection, Error, OutRecord, Settings, Source, Start};
use touchline::model::ids::PartitionId;
use touchline::model::time::Millis;

const PARTITIONS: i32 = 3;
/// Errors that pass, and brokers that come back, are got over within this: backoffs grow to seconds, not
/// to minutes.
const SOON: Millis = Millis::from_secs(25);

struct Cluster {
    mock: MockCluster<'static, DefaultProducerContext>,
    connection: Connection,
}

impl Cluster {
    fn new(brokers: i32) -> Cluster {
        let mock = MockCluster::new(brokers).unwrap();
        mock.create_topic("in", PARTITIONS, 1).unwrap();
        mock.create_topic("out", 1, 1).unwrap();
        let connection =
            Connection::to(&mock.bootstrap_servers()).with("session.timeout.ms", SESSION_TIMEOUT);
        Cluster { mock, connection }
    }

    fn settings(&self) -> Settings {
        let mut settings = settings(&self.connection, Start::Earliest);
        settings.commit_interval = Millis::from_ms(50);
        settings.poll_records = 50;
        settings
    }

    fn start(&self, settings: Settings) -> Handle {
        start(settings, copier(Copies::Plain), Arc::new(Silent)).unwrap()
    }

    fn ends(&self) -> Ends {
        [("in".to_owned(), end_offsets(&self.connection, "in").unwrap())].into()
    }

    /// Everything has come out, in order; once, or at least once.
    #[track_caller]
    fn check(&self, what: &str, count: i32, once: bool) {
        let values = read_all(&self.connection, "out");
        let (mut records, _) = all_of(&values);
        if !once {
            records.dedup();
        }
        assert_eq!(records, (0..count).collect::<Vec<_>>(), "{what}");
        for partition in 0..PARTITIONS {
            let numbers = values.iter().filter_map(|value| value.parse::<i32>().ok());
            let of: Vec<i32> = numbers.filter(|n| n % PARTITIONS == partition).collect();
            assert!(!once || of.is_sorted(), "{what}: {of:?}");
        }
        let ends = &self.ends()["in"];
        assert_eq!(&committed(&self.connection, "copy-in", "in").unwrap(), ends, "{what}");
    }
}

/// A bounded run during which requests of one kind are refused so many times.
#[track_caller]
fn refused(api: Api, code: Code, times: usize) {
    let what = format!("{api:?} {code:?}");
    let cluster = Cluster::new(1);
    fill(&cluster.connection, "in", PARTITIONS, 0..600);
    let ends = cluster.ends();
    let handle = cluster.start(cluster.settings());
    cluster.mock.request_errors(api, &vec![code; times]);
    let since = Moment::now();
    handle.finish_at(&ends);
    handle.join().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(since.elapsed() < SOON, "{what}: {}", since.elapsed());
    // What the run did not ask for must not meet the comparison.
    cluster.mock.clear_request_errors(api);
    // Nobody knows whether a request was executed whose connection was cut.
    cluster.check(&what, 600, code != Code::RD_KAFKA_RESP_ERR__TRANSPORT);
}

#[test]
fn refusals_of_leaders_that_pass_lose_nothing_and_repeat_nothing() {
    refused(Api::Produce, Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, 5);
    refused(Api::Produce, Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, 3);
    refused(Api::Produce, Code::RD_KAFKA_RESP_ERR__TRANSPORT, 3);
    refused(Api::Fetch, Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, 5);
    refused(Api::Fetch, Code::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE, 3);
    refused(Api::Fetch, Code::RD_KAFKA_RESP_ERR__TRANSPORT, 3);
    refused(Api::ListOffsets, Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, 3);
    refused(Api::Metadata, Code::RD_KAFKA_RESP_ERR__TRANSPORT, 3);
}

#[test]
fn refusals_of_coordinators_that_pass_lose_nothing_and_repeat_nothing() {
    refused(Api::InitProducerId, Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, 3);
    refused(Api::FindCoordinator, Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, 5);
    refused(Api::FindCoordinator, Code::RD_KAFKA_RESP_ERR__TRANSPORT, 2);
    refused(Api::OffsetCommit, Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR, 4);
    refused(Api::OffsetCommit, Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, 4);
    refused(Api::OffsetCommit, Code::RD_KAFKA_RESP_ERR__TRANSPORT, 2);
}

#[test]
fn a_member_whose_group_is_in_trouble_joins_again_and_loses_nothing() {
    let cluster = Cluster::new(1);
    fill(&cluster.connection, "in", PARTITIONS, 0..300);
    let mut settings = cluster.settings();
    (settings.assignment, settings.resume) = (Assignment::Group, Resume::AtPosition);
    let errors = |api: Api, codes: &[Code]| cluster.mock.request_errors(api, codes);
    errors(Api::FindCoordinator, &[Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE; 3]);
    errors(
        Api::JoinGroup,
        &[
            Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        ],
    );
    errors(Api::SyncGroup, &[Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS]);
    let handle = cluster.start(settings);
    assert!(handle.wait_caught_up(DEADLINE), "{:?}", handle.health());
    let troubles: [(&[Code], _); 3] = [
        (&[Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS], 300..400),
        (&[Code::RD_KAFKA_RESP_ERR__TRANSPORT; 3], 400..500),
        (&[Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID], 500..600),
    ];
    for (codes, numbers) in troubles {
        errors(Api::Heartbeat, codes);
        // Heartbeats go out twice a second.
        std::thread::sleep(Duration::from_millis(1_500));
        fill(&cluster.connection, "in", PARTITIONS, numbers.clone());
        let upto = i64::from(numbers.end / PARTITIONS);
        let all = |positions: &std::collections::BTreeMap<_, touchline::kafka::group::Position>| {
            let done = |p: &touchline::kafka::group::Position| {
                p.done.is_some_and(|done| done.get() >= upto)
            };
            owned(positions) == PARTITIONS as usize && positions.values().all(done)
        };
        assert!(handle.wait_until(DEADLINE, all), "{codes:?} {:?}", handle.progress());
    }
    handle.finish_at(&cluster.ends());
    handle.join().unwrap();
    // What was folded when the membership was lost comes again.
    cluster.check("group", 600, false);
}

#[test]
fn a_broker_that_is_away_is_noticed_and_got_over_soon_after_it_is_back() {
    let cluster = Cluster::new(1);
    fill(&cluster.connection, "in", PARTITIONS, 0..300);
    let handle = cluster.start(cluster.settings());
    assert!(handle.wait_caught_up(DEADLINE));
    cluster.mock.broker_down(-1).unwrap();
    let connection = &cluster.connection;
    std::thread::scope(|scope| {
        let writes = scope.spawn(|| fill(connection, "in", PARTITIONS, 300..600));
        let since = Moment::now();
        while !handle.health().is_cut_off() {
            assert!(since.elapsed() < DEADLINE, "{:?}", handle.health());
            std::thread::sleep(Duration::from_millis(100));
        }
        let problem = handle.health().problem();
        assert!(problem.as_ref().is_some_and(|p| p.contains("no broker can be reached")));
        // Backoffs have grown to their bound by then.
        std::thread::sleep(Duration::from_secs(8));
        assert!(handle.failure().is_none() && !writes.is_finished());
        cluster.mock.broker_up(-1).unwrap();
        let since = Moment::now();
        writes.join().unwrap();
        handle.finish_at(&cluster.ends());
        handle.join().unwrap();
        assert!(since.elapsed() < SOON, "{}", since.elapsed());
    });
    cluster.check("away", 600, false);
}

#[test]
fn slow_round_trips_slow_down_and_break_nothing() {
    let cluster = Cluster::new(1);
    fill(&cluster.connection, "in", PARTITIONS, 0..600);
    let ends = cluster.ends();
    cluster.mock.broker_round_trip_time(-1, Duration::from_millis(300)).unwrap();
    let since = Moment::now();
    let handle = cluster.start(cluster.settings());
    handle.finish_at(&ends);
    handle.join().unwrap();
    // Metadata, records, outputs and offsets are one round trip each at least.
    assert!(since.elapsed() > Millis::from_ms(1_000), "{}", since.elapsed());
    cluster.mock.broker_round_trip_time(-1, Duration::ZERO).unwrap();
    cluster.check("slow", 600, true);
}

#[test]
fn a_coordinator_and_leaders_that_move_lose_nothing() {
    let cluster = Cluster::new(3);
    let group = || MockCoordinator::Group("copy-in".to_owned());
    cluster.mock.coordinator(group(), 1).unwrap();
    fill(&cluster.connection, "in", PARTITIONS, 0..300);
    let handle = cluster.start(cluster.settings());
    assert!(handle.wait_caught_up(DEADLINE));
    for (round, broker) in (1..).zip([2, 3, 1]) {
        cluster.mock.coordinator(group(), broker).unwrap();
        cluster.mock.partition_leader("out", 0, Some(broker)).unwrap();
        for partition in 0..PARTITIONS {
            cluster.mock.partition_leader("in", partition, Some(1 + (broker + 1) % 3)).unwrap();
        }
        fill(&cluster.connection, "in", PARTITIONS, round * 300..(round + 1) * 300);
        let upto = i64::from((round + 1) * 300 / PARTITIONS);
        let since = Moment::now();
        while !handle.positions().values().all(|done| done.get() >= upto) {
            assert!(since.elapsed() < SOON, "{:?}", handle.progress());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    handle.finish_at(&cluster.ends());
    handle.join().unwrap();
    cluster.check("moves", 1_200, true);
}

/// What a run says that is refused for good.
fn refused_for_good(api: Api, code: Code) -> String {
    let cluster = Cluster::new(1);
    fill(&cluster.connection, "in", PARTITIONS, 0..300);
    let ends = cluster.ends();
    cluster.mock.request_errors(api, &[code; 100]);
    let handle = cluster.start(cluster.settings());
    handle.finish_at(&ends);
    let since = Moment::now();
    let error = handle.join().unwrap_err();
    assert!(since.elapsed() < SOON, "{api:?}: {}", since.elapsed());
    cluster.mock.clear_request_errors(api);
    let found = committed(&cluster.connection, "copy-in", "in").unwrap();
    let said = read_all(&cluster.connection, "out").len() as i64;
    assert!(found.values().map(|next| next.get()).sum::<i64>() <= said, "{found:?} of {said}");
    error.to_string()
}

#[test]
fn what_does_not_pass_ends_with_a_sentence_that_names_it() {
    let check = |api, code, parts: [&str; 2]| {
        let said = refused_for_good(api, code);
        assert!(parts.iter().all(|part| said.contains(part)), "{api:?}: {said}");
    };
    let topic = Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    check(Api::Produce, topic, ["an output to topic out", "authorization"]);
    check(Api::Fetch, topic, ["reading in/", "authorization"]);
    let gone = Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE;
    check(Api::Fetch, gone, ["the next record of in/", "is gone from the topic"]);
    let group = Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    check(Api::OffsetCommit, group, ["committing offsets failed", "uthorization"]);
}

#[test]
fn a_group_that_may_not_be_joined_is_complained_about_by_name() {
    let cluster = Cluster::new(1);
    let code = Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    cluster.mock.request_errors(Api::JoinGroup, &[code; 1_000]);
    let mut settings = cluster.settings();
    settings.assignment = Assignment::Group;
    let handle = cluster.start(settings);
    let since = Moment::now();
    let complains = || handle.health().complaint.is_some_and(|text| text.contains("uthorization"));
    while !complains() {
        assert!(since.elapsed() < DEADLINE, "{:?}", handle.health());
        std::thread::sleep(Duration::from_millis(100));
    }
    // Rights can be given while it waits.
    assert!(handle.failure().is_none() && owned(&handle.progress()) == 0);
    cluster.mock.clear_request_errors(Api::JoinGroup);
    assert!(handle.wait_caught_up(DEADLINE), "{:?}", handle.health());
    handle.stop();
    handle.join().unwrap();
}

#[test]
fn a_writer_sends_again_and_a_reader_reads_on() {
    let cluster = Cluster::new(1);
    let (say, heard) = sync_channel(1_000);
    let sources = [Source::new("out", Start::Earliest)];
    let say = Mutex::new(say);
    let tail = Tail::start("test-reader", &cluster.connection, &sources, move |came| {
        if let Tailed::Record(record) = came {
            let text = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            say.lock().unwrap().send(text.parse::<i32>().unwrap()).unwrap();
        }
        Go::On
    });
    let tail = tail.unwrap();
    let writer = Writer::new(&cluster.connection, 1 << 20).unwrap();
    let topic: Arc<str> = "out".into();
    let mut sent = 0;
    let mut write = |count: i32| {
        for n in sent..sent + count {
            let value = Some(n.to_string().into_bytes());
            let mut record = OutRecord::new(&topic, b"k".to_vec(), value);
            record.partition = Some(PartitionId::new(0));
            writer.send(&record).unwrap();
        }
        sent += count;
    };
    let mut expected = 0;
    let mut hear = |upto: i32| {
        while expected < upto {
            let number = heard.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(number, expected, "in order, each once");
            expected += 1;
        }
    };
    write(100);
    assert_eq!(writer.flush(DEADLINE).unwrap(), 100);
    hear(100);
    let away = [Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 4];
    cluster.mock.request_errors(Api::Produce, &away);
    cluster.mock.request_errors(Api::Fetch, &away);
    write(100);
    assert_eq!(writer.flush(DEADLINE).unwrap(), 200);
    hear(200);
    cluster.mock.broker_down(-1).unwrap();
    let cut_off = Moment::now();
    write(100);
    // Nothing is acknowledged by nobody.
    assert!(writer.flush(Millis::from_secs(2)).is_err());
    assert_eq!(writer.acknowledged(), 200);
    cluster.mock.broker_up(-1).unwrap();
    assert_eq!(writer.flush(DEADLINE).unwrap(), 300);
    hear(300);
    assert!(cut_off.elapsed() < SOON, "{}", cut_off.elapsed());
    let code = Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.mock.request_errors(Api::Produce, &[code; 10]);
    write(1);
    let failed = writer.flush(DEADLINE);
    assert!(matches!(&failed, Err(Error::Delivery { topic, .. }) if topic == "out"), "{failed:?}");
    assert!(tail.failure().is_none());
    drop(tail);
}
