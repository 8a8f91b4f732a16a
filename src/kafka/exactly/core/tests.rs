//! An outcome that nobody told, found out by what is committed; checkpoints that take turns.

use super::*;
use crate::codec::checkpoint::CHECKPOINT_KEY;
use crate::engine::state::{Checkpointed, StateError};
use crate::kafka::exactly::metadata::{Committed, Metadata};
use crate::kafka::task::{Headers, OutRecord, Task};
use crate::model::ids::{Offset, PartitionId};

/// Says what it is told; if it has a state, every record changes it.
struct Echo {
    state: Option<Changed>,
}

struct Changed;

impl Checkpointed for Changed {
    fn take_dirty(&mut self, out: &mut Vec<Entry>) {
        out.push(Entry { key: b"k".to_vec(), value: Some(b"v".to_vec()) });
    }

    fn mark_all(&mut self) {}

    fn restore(&mut self, _: &[u8], _: Option<&[u8]>) -> Result<(), StateError> {
        Ok(())
    }

    fn restored(&mut self) -> Result<(), StateError> {
        Ok(())
    }
}

impl Task for Echo {
    fn state(&mut self) -> Option<&mut dyn Checkpointed> {
        self.state.as_mut().map(|state| state as &mut dyn Checkpointed)
    }

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

struct Echoes {
    have_state: bool,
}

impl TaskFactory for Echoes {
    fn create(&self, _: &str, _: PartitionId) -> Result<Box<dyn Task>, String> {
        Ok(Box::new(Echo { state: self.have_state.then_some(Changed) }))
    }
}

fn settings(run: u64, changelog: Option<&str>) -> Settings {
    Settings {
        role: "echo",
        committer: "echo-0".into(),
        run,
        changelog: changelog.map(Arc::from),
        inputs: None,
        identity: Identity { generation: 1, fold_version: 0, fingerprint: 1, input_partitions: 1 },
        commit_interval: Millis::from_ms(100),
        checkpoint_interval: Millis::from_secs(10),
        standby_replicas: 0,
        in_flight_bytes: 1 << 20,
        keeps_copies: false,
    }
}

fn record(at: &TopicPartition, offset: i64) -> Record<'_> {
    Record {
        topic: &at.topic,
        partition: at.partition,
        offset: Offset::new(offset),
        timestamp: 0,
        timestamp_is_append: true,
        key: Some(b"k"),
        value: None,
        headers: Headers::NONE,
    }
}

/// A worker with one partition, whose first commit has an unknown outcome, and what it wanted to
/// commit.
fn in_doubt(run: u64) -> (Core, TopicPartition, Committed) {
    let mut core = Core::new(settings(run, None), Arc::new(Echoes { have_state: false }));
    let (at, now) = (TopicPartition::new("in", PartitionId::new(0)), Millis::from_secs(1));
    core.assign(at.clone(), now).unwrap();
    assert_eq!(core.commands(now), [Command::AskCommitted(at.clone())]);
    core.committed(&at, None, bounds(), now).unwrap();
    assert_eq!(core.commands(now), [Command::Read(at.clone(), Start::Configured)]);
    core.reads(&at);
    assert!(matches!(core.record(&record(&at, 0), now), Ok(Folded::Yes)));
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

#[test]
fn checkpoints_of_the_interval_take_turns() {
    let mut core = Core::new(settings(7, Some("changelog")), Arc::new(Echoes { have_state: true }));
    let all: Vec<TopicPartition> =
        (0..4).map(|p| TopicPartition::new("in", PartitionId::new(p))).collect();
    let mut now = Millis::from_secs(1);
    for at in &all {
        core.assign(at.clone(), now).unwrap();
        core.commands(now);
        core.committed(at, None, bounds(), now).unwrap();
        core.changelog_end(at, NextOffset::new(0), false, now).unwrap();
        core.commands(now);
        core.reads(at);
    }
    let mut carried: Vec<Vec<PartitionId>> = Vec::new();
    for round in 0..300 {
        now = Millis::from_ms(now.as_ms() + 100);
        for at in &all {
            assert!(matches!(core.record(&record(at, round), now), Ok(Folded::Yes)));
        }
        let transaction = core.begin(now, false).unwrap().expect("it is due");
        let is_checkpoint = |r: &&OutRecord| r.key.as_deref() == Some(CHECKPOINT_KEY);
        let checkpoints = transaction.outputs().iter().filter(is_checkpoint);
        carried.push(checkpoints.filter_map(|r| r.partition).collect());
        core.finished(Outcome::Committed);
    }
    assert_eq!(carried[0].len(), all.len(), "the first says that there is a state");
    assert!(carried[1..].iter().all(|of| of.len() <= 1), "{carried:?}");
    // Nothing says that the end is reached: every 5 s.
    for at in &all {
        let rounds = carried.iter().filter(|of| of.contains(&at.partition)).count();
        assert!((6..=7).contains(&rounds), "{rounds} checkpoints in 30 s of {at}");
    }
}
