//! What a worker's decisions are told in, and what they tell.

use super::super::pending::{Pending, SlotId};
use super::super::slot::Bounds;
use crate::codec::checkpoint::{CHECKPOINT_KEY, Checkpoint, IDENTITY_KEY};
use crate::kafka::task::{OutRecord, TopicPartition};
use crate::model::ids::NextOffset;
use crate::model::time::Millis;
use compact_str::CompactString;
use std::sync::Arc;

/// What a state belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Generation of the state.
    pub generation: u64,
    /// Version of the fold.
    pub fold_version: u32,
    /// Fingerprint of the configuration that the fold sees.
    pub fingerprint: u128,
    /// Partitions of the input topic.
    pub input_partitions: i32,
}

/// Settings of a worker's decisions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the role, for messages.
    pub role: &'static str,
    /// Transactional id.
    pub committer: CompactString,
    /// A number that no other run of a worker has, whatever its name: its commits say it, and names
    /// of new changelogs follow from it.
    pub run: u64,
    /// Topic that keeps the state; `None` for tasks without any.
    pub changelog: Option<Arc<str>>,
    /// Topic that tells which side inputs were taken; `None` for tasks that take none.
    pub inputs: Option<Arc<str>>,
    /// What the state belongs to.
    pub identity: Identity,
    /// Time between two commits.
    pub commit_interval: Millis,
    /// Time between two checkpoints of a partition.
    pub checkpoint_interval: Millis,
    /// Workers that keep a copy of a partition's state warm, besides its owner.
    pub standby_replicas: usize,
    /// Bytes of outputs that are not acknowledged, beyond which nothing more is read.
    pub in_flight_bytes: usize,
    /// The driver keeps local copies: [`Core::take_settled`](super::Core::take_settled).
    pub keeps_copies: bool,
}

impl Settings {
    /// True if a local copy may be begun with: it ends with this checkpoint and holds what the changelog
    /// of these bounds has below `next`. Whether it is of this changelog is told by the first record.
    pub fn may_begin_with(&self, copy: &Checkpoint, next: NextOffset, changelog: Bounds) -> bool {
        copy.generation == self.identity.generation
            && (changelog.low..=changelog.high).contains(&next)
    }
}

/// Where reading a partition starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Where the configuration says.
    Configured,
    /// At this offset.
    At(NextOffset),
}

/// What the driver has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Ask for the committed offset, as one that no transaction can change any more, and for the
    /// bounds of the input; answered by
    /// [`Core::committed`](super::Core::committed) or
    /// [`Core::not_answered`](super::Core::not_answered).
    AskCommitted(TopicPartition),
    /// Read this partition of the changelog from its beginning, as committed, or from where it was
    /// followed to. It may be told before the committed offset is known:
    /// [`Core::entry`](super::Core::entry),
    /// [`Core::changelog_end`](super::Core::changelog_end).
    ReadChangelog(TopicPartition),
    /// Ask who has committed for every partition of the input last:
    /// [`Core::owners`](super::Core::owners). Nothing depends on an answer.
    AskOwners,
    /// Read this partition of the changelog from its beginning, and whatever comes, with the same
    /// answers. It is another's; should it come, [`Command::ReadChangelog`] goes on with it.
    Follow(TopicPartition),
    /// Stop reading the changelog of this partition.
    CloseChangelog(TopicPartition),
    /// Read the input from here on; done with [`Core::reads`](super::Core::reads).
    Read(TopicPartition, Start),
    /// Stop reading the input.
    Pause(TopicPartition),
}

impl Command {
    /// True if it is of no use once this partition has gone.
    pub(super) fn is_of_stay(&self, at: &TopicPartition) -> bool {
        match self {
            Command::AskCommitted(of)
            | Command::ReadChangelog(of)
            | Command::Read(of, _)
            | Command::Pause(of) => of == at,
            Command::AskOwners | Command::Follow(_) | Command::CloseChangelog(_) => false,
        }
    }
}

/// An offset to be committed with a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetToCommit {
    /// Partition of the input.
    pub at: TopicPartition,
    /// Its outputs up to here are in this or an earlier transaction, and some of the record here as far
    /// as the metadata say so.
    pub next: NextOffset,
    /// What stands beside it.
    pub metadata: String,
}

/// One transaction: begin, produce, offsets, commit, in one burst.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub(super) outputs: Arc<Pending>,
    /// Offsets of every partition that outputs or checkpoints belong to.
    pub offsets: Vec<OffsetToCommit>,
}

impl Transaction {
    /// Records to produce, in order.
    pub fn outputs(&self) -> &[OutRecord] {
        self.outputs.records()
    }
}

/// What an acknowledged transaction has added to the changelog of a partition: a checkpoint.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Partition of the input.
    pub at: TopicPartition,
    pub(super) slot: SlotId,
    pub(super) changelog: Arc<str>,
    pub(super) outputs: Arc<Pending>,
}

impl Settled {
    fn records(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let of_slot = self.outputs.by_slot().filter(|(slot, _)| *slot == self.slot);
        let records = of_slot.flat_map(|(_, records)| records);
        let kept = records.filter(|record| record.topic == self.changelog);
        kept.map(|record| (record.key.as_deref().unwrap_or_default(), record.value.as_deref()))
    }

    /// Keys and framed values of its entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.records().filter(|(key, _)| ![CHECKPOINT_KEY, IDENTITY_KEY].contains(key))
    }

    /// The framed value of its checkpoint record; `None` if there is none.
    pub fn checkpoint(&self) -> Option<&[u8]> {
        let last = self.records().filter(|(key, _)| *key == CHECKPOINT_KEY).last();
        last.and_then(|(_, value)| value)
    }

    /// Bytes of its records.
    pub(in crate::kafka) fn bytes(&self) -> usize {
        self.records().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len)).sum()
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is committed: nothing but an ok from the commit says so.
    Committed,
    /// It is aborted: nothing of it will ever be read.
    Aborted,
    /// Nobody knows. The driver has initialised its producer again, so that nothing is pending.
    Unknown,
}

/// Whether the partitions of a worker are still its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Membership {
    /// They are, as far as the group goes: who is fenced is told by the commit.
    Same,
    /// It is no member at present: nothing must be committed.
    Nobody,
    /// It has joined anew, and others may have had these partitions: the worker has none any more.
    Another(Vec<TopicPartition>),
}

/// What folding a record came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Folded {
    /// It is in the state.
    Yes,
    /// It was not wanted now, or not any more.
    Skipped,
    /// Its task waits for something.
    Waits,
    /// There is no room for all of its outputs: it is to be given again before any other record, once
    /// [`Core::has_room`](super::Core::has_room).
    InPart,
}

/// A partition as the driver may show it.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The partition.
    pub at: &'a TopicPartition,
    /// The offset to fold next.
    pub next: Option<NextOffset>,
    /// True if its end has been seen and nothing came since.
    pub caught_up: bool,
    /// True while its state is brought back: restored, and folded to where the last commit was.
    pub restoring: bool,
    /// True if it is sealed for good.
    pub sealed: bool,
    /// Timestamp of the last record in ms; −1 if there is none.
    pub last_timestamp: i64,
}
