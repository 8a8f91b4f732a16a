//! An outcome that nobody told, found out by what is committed.

use super::*;
use crate::kafka::exactly::metadata::{Committed, Metadata};
use crate::kafka::task::{Headers, OutRecord, Task};
use crate::model::ids::{Offset, PartitionId};

/// Says what it is told.
struct Echo;

impl Task for Echo {
    fn record(&mut self, record: &Record<'_>, out: &mut Produced) -> Result<(), TaskError> {
        let key = record.key.unwrap_or_default().to_vec();
        out.records.push(OutRecord::new(&"out".into(), key, None));
        Ok(())
    }

    fn idle(&mut self, _: Millis, _: bool, _: &mut Produced) -> Result<(), TaskError> {
        Ok(())
    }

    fn seal(&mut self, _: &mut Produced) -> Result<(), TaskError> {
        Ok(())
    }
}

struct Echoes;

impl TaskFactory for Echoes {
    fn create(&self, _: &str, _: PartitionId) -> Result<Box<dyn Task>, String> {
        Ok(Box::new(Echo))
    }
}

/// A worker with one partition, whose first commit has an unknown outcome, and what it wanted to
/// commit.
fn in_doubt(run: u64) -> (Core, TopicPartition, Committed) {
    let identity = Identity { generation: 1, fold_version: 1, fingerprint: 1, input_partitions: 1 };
    let settings = Settings {
        role: "echo",
        committer: "echo-0".into(),
        run,
        changelog: None,
        inputs: None,
        identity,
        commit_interval: Millis::from_ms(100),
        checkpoint_interval: Millis::from_secs(10),
        standby_replicas: 0,
        in_flight_bytes: 1 << 20,
        keeps_copies: false,
    };
    let mut core = Core::new(settings, Arc::new(Echoes));
    let (at, now) = (TopicPartition::new("in", PartitionId::new(0)), Millis::from_secs(1));
    core.assign(at.clone(), now).unwrap();
    assert_eq!(core.commands(now), [Command::AskCommitted(at.clone())]);
    core.committed(&at, None, bounds(), now).unwrap();
    assert_eq!(core.commands(now), [Command::Read(at.clone(), Start::Configured)]);
    core.reads(&at);
    let record = Record {
        topic: &at.topic,
        partition: at.partition,
        offset: Offset::new(0),
        timestamp: 0,
        timestamp_is_append: true,
        key: Some(b"k"),
        value: None,
        headers: Headers::NONE,
    };
    assert!(matches!(core.record(&record, now), Ok(Folded::Yes)));
    let transaction = core.begin(now, true).unwrap().expect("something waits");
    let [offset] = &transaction.offsets[..] else { panic!("one partition") };
    let metadata: Metadata = offset.metadata.parse().unwrap();
    let committed = Committed { next: offset.next, metadata: Some(metadata) };
    core.finished(Outcome::Unknown);
    (core, at, committed)
}

fn bounds() -> Bounds {
    Bounds { low: NextOffset::new(0), high: NextOffset::new(1) }
}

#[test]
fn an_unknown_outcome_is_told_by_the_committed_offset() {
    let now = Millis::from_secs(2);
    let (mut core, at, committed) = in_doubt(7);
    core.committed(&at, Some(committed.clone()), bounds(), now).unwrap();
    assert!(!core.is_flying() && core.is_quiet(), "it was committed");

    let (mut core, at, _) = in_doubt(7);
    let metadata = Metadata { commit: 0, ..committed.metadata.unwrap() };
    let before = Committed { next: NextOffset::new(0), metadata: Some(metadata) };
    core.committed(&at, Some(before), bounds(), now).unwrap();
    let again = core.begin(now, true).unwrap().expect("it is sent again");
    assert_eq!(again.outputs().len(), 1);
}

#[test]
fn the_commit_of_a_successor_of_the_same_name_and_number_is_not_ours() {
    let (mut core, at, ours) = in_doubt(7);
    let (_, _, theirs) = in_doubt(8);
    let numbers = |c: &Committed| c.metadata.as_ref().map(|m| (m.commit, m.committer.clone()));
    assert_eq!(numbers(&ours), numbers(&theirs));
    let now = Millis::from_secs(2);
    core.committed(&at, Some(theirs), bounds(), now).unwrap();
    assert!(core.is_flying(), "nothing of it is taken for committed");
    core.commands(now);
    assert!(!core.is_flying(), "and nothing is left that would tell");
    assert_eq!(core.slots[0].published, None);
}
