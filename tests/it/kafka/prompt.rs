//! How soon something is committed.

use super::broker::Broker;
use super::lost_ack::exactly_once;
use super::support::{Copies, DEADLINE, copier};
use super::{Silent, copying, start};
use std::collections::BTreeMap;
use std::sync::Arc;
use touchline::clock::Moment;
use touchline::kafka::topics::{Cleanup, Wanted, apply, plan};
use touchline::kafka::writer::Writer;
use touchline::kafka::{OutRecord, Start, TopicPartition};
use touchline::model::ids::{NextOffset, PartitionId};
use touchline::model::time::Millis;

/// The client's own flush, with which its commits begin, takes 100 ms if anything is in flight, however
/// soon that is acknowledged. The quickest of many is what a busy machine leaves alone.
#[test]
fn a_commit_takes_no_longer_than_what_it_waits_for() {
    let broker = Broker::shared();
    let connection = broker.connection();
    let topics = ["prompt.in", "prompt.out"];
    let wanted = topics.map(|name| Wanted::ours(name, 1, Some(1), Cleanup::Delete, -1));
    apply(&connection, &plan(&wanted, &BTreeMap::new())).unwrap();
    let mut settings = exactly_once(copying(&connection, topics[0], Start::Earliest));
    settings.commit_interval = Millis::from_ms(5);
    let handle = start(settings, copier(Copies::Plain), Arc::new(Silent)).unwrap();
    let writer = Writer::new(&connection, 1 << 20).unwrap();
    let (topic, at) = (Arc::from(topics[0]), TopicPartition::new(topics[0], PartitionId::new(0)));
    let mut took = Vec::new();
    for n in 0..20 {
        let since = Moment::now();
        writer.send(&OutRecord::new(&topic, b"k".to_vec(), Some(b"v".to_vec()))).unwrap();
        writer.flush(DEADLINE).unwrap();
        let wanted = Some(NextOffset::new(n + 1));
        let done = handle.wait_until(DEADLINE, |p| p.get(&at).is_some_and(|p| p.done >= wanted));
        assert!(done, "{:?} {:?}", handle.progress(), handle.failure());
        took.push(since.elapsed().as_ms());
    }
    handle.stop();
    handle.join().unwrap();
    let quickest = took.iter().min().expect("many");
    assert!(*quickest < 95, "from a record to its commit: {took:?} ms");
}
