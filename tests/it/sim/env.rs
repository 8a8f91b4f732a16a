//! What all workers of a world share: brokers, groups, dice, time, and what the oracle will need.

use super::broker::{Broker, TxnId};
use super::group::Group;
use super::rng::Rng;
use std::collections::BTreeMap;
use touchline::kafka::TopicPartition;
use touchline::kafka::exactly::metadata::Metadata;

/// An offset that a committed transaction carried, and what the oracle needs to follow it.
#[derive(Clone, Debug)]
pub struct Step {
    pub at: TopicPartition,
    pub next: i64,
    pub metadata: Metadata,
    /// What the configuration said.
    pub config: u64,
    /// Number of a tick, how far it let the clock go, and the position that it was applied at.
    pub ticks: Vec<(u64, i64, i64)>,
}

/// What a transaction is about, beside its records.
#[derive(Clone, Debug)]
pub struct Facts {
    pub steps: Vec<Step>,
    /// Whether it carries a checkpoint.
    pub has_checkpoint: bool,
}

/// How likely faults are, per thousand tries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds {
    pub lost: u64,
    pub abort: u64,
    pub unknown: u64,
    pub refuse: u64,
    pub forget: u64,
}

/// Shared by all workers.
pub struct Env {
    pub broker: Broker,
    pub groups: Vec<Group>,
    pub rng: Rng,
    pub time: i64,
    pub odds: Odds,
    /// Brokers hardly answer until then.
    pub slow_until: i64,
    /// Tasks of the first stage wait until then.
    pub waits_until: i64,
    /// How often each fault happened.
    pub cover: BTreeMap<&'static str, u64>,
    /// By transaction.
    pub facts: BTreeMap<TxnId, Facts>,
    /// Set if a message of interest is to be printed.
    pub trace: bool,
}

impl Env {
    /// A fault happened.
    pub fn hit(&mut self, what: &'static str) {
        *self.cover.entry(what).or_default() += 1;
        self.tell(|| what.to_owned());
    }

    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>7} {}", self.time, what());
        }
    }
}
