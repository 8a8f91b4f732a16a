//! What all workers of a world share: brokers, groups, dice, time, and what the oracle will need.

use super::broker::{Broker, TxnId};
use super::group::Group;
use super::rng::Rng;
use std::collections::BTreeMap;
use touchline::codec::checkpoint::{CHECKPOINT_KEY, IDENTITY_KEY};
use touchline::kafka::TopicPartition;
use touchline::kafka::exactly::metadata::Metadata;
use touchline::model::ids::PartitionId;

/// An offset that a committed transaction carried, and what the oracle needs to follow it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at: TopicPartition,
    pub(crate) next: i64,
    pub(crate) metadata: Metadata,
    /// What the configuration said.
    pub(crate) config: u64,
    /// Checkpoints of it in the transaction: side inputs taken, and position.
    pub(crate) checkpoints: Vec<(u64, i64)>,
}

/// What a transaction is about, beside its records.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) steps: Vec<Step>,
    /// Whether it carries a checkpoint.
    pub(crate) has_checkpoint: bool,
    /// Whether it carries side inputs.
    pub(crate) has_ticks: bool,
}

/// How likely faults are, per thousand tries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Odds {
    pub(crate) lost: u64,
    pub(crate) abort: u64,
    pub(crate) unknown: u64,
    pub(crate) refuse: u64,
    pub(crate) forget: u64,
}

/// A local copy of one partition of a changelog.
#[derive(Clone, Default, Debug)]
pub(crate) struct Copy {
    pub(crate) identity: Vec<u8>,
    pub(crate) entries: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) checkpoint: Option<Vec<u8>>,
    /// It holds what is committed below.
    pub(crate) next: i64,
}

impl Copy {
    pub(crate) fn take(&mut self, key: &[u8], value: Option<&[u8]>) {
        match (key, value) {
            (IDENTITY_KEY, value) => self.identity = value.unwrap_or_default().to_vec(),
            (CHECKPOINT_KEY, value) => self.checkpoint = value.map(<[u8]>::to_vec),
            (key, Some(value)) => {
                self.entries.insert(key.to_vec(), value.to_vec());
            }
            (key, None) => {
                self.entries.remove(key);
            }
        }
    }
}

/// Shared by all workers.
pub(crate) struct Env {
    pub(crate) broker: Broker,
    pub(crate) groups: Vec<Group>,
    pub(crate) rng: Rng,
    pub(crate) time: i64,
    pub(crate) odds: Odds,
    /// Brokers hardly answer until then.
    pub(crate) slow_until: i64,
    /// Tasks of the first stage wait until then.
    pub(crate) waits_until: i64,
    /// How often each fault happened.
    pub(crate) cover: BTreeMap<&'static str, u64>,
    /// What processes have on their disks: local copies of changelogs.
    pub(crate) disks: BTreeMap<(String, PartitionId), Copy>,
    /// By transaction.
    pub(crate) facts: BTreeMap<TxnId, Facts>,
    /// Set if a message of interest is to be printed.
    pub(crate) trace: bool,
}

impl Env {
    /// A fault happened.
    pub(crate) fn hit(&mut self, what: &'static str) {
        *self.cover.entry(what).or_default() += 1;
        self.tell(|| what.to_owned());
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>7} {}", self.time, what());
        }
    }
}
