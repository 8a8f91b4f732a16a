//! A consumer group as its coordinator sees it: members, generations, cooperative assignment.

use super::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use touchline::kafka::TopicPartition;

/// Number of a member, new with every join.
pub(crate) type MemberId = u64;

#[derive(Debug, Default)]
struct Member {
    /// What it says it owns.
    owned: BTreeSet<TopicPartition>,
    /// What it was given.
    given: BTreeSet<TopicPartition>,
    joined: bool,
    heard: i64,
}

/// The coordinator of one group.
#[derive(Debug)]
pub(crate) struct Group {
    partitions: Vec<TopicPartition>,
    members: BTreeMap<MemberId, Member>,
    pub(crate) generation: u64,
    ids: MemberId,
    /// Since when a rebalance is under way.
    rebalancing: Option<i64>,
}

/// What a heartbeat is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Beat {
    Fine,
    Rejoin,
    Unknown,
}

impl Group {
    pub(crate) fn new(partitions: Vec<TopicPartition>) -> Group {
        Group { partitions, members: BTreeMap::new(), generation: 0, ids: 0, rebalancing: None }
    }

    /// Joins, or joins again; returns the member's number.
    pub(crate) fn join(
        &mut self,
        member: Option<MemberId>,
        owned: &BTreeSet<TopicPartition>,
        now: i64,
    ) -> MemberId {
        let known = member.filter(|id| self.members.contains_key(id));
        let id = known.unwrap_or_else(|| {
            self.ids += 1;
            self.ids
        });
        let member = self.members.entry(id).or_default();
        member.owned = if known.is_some() { owned.clone() } else { BTreeSet::new() };
        member.joined = true;
        member.heard = now;
        if self.rebalancing.is_none() {
            self.start(now);
            self.members.get_mut(&id).expect("just joined").joined = true;
        }
        id
    }

    fn start(&mut self, now: i64) {
        self.rebalancing = Some(now);
        for member in self.members.values_mut() {
            member.joined = false;
        }
    }

    pub(crate) fn leave(&mut self, id: MemberId, now: i64) {
        if self.members.remove(&id).is_some() && self.rebalancing.is_none() {
            self.start(now);
        }
    }

    pub(crate) fn beat(&mut self, id: MemberId, now: i64) -> Beat {
        let Some(member) = self.members.get_mut(&id) else { return Beat::Unknown };
        member.heard = now;
        if self.rebalancing.is_some() && !member.joined { Beat::Rejoin } else { Beat::Fine }
    }

    /// What a member that joined was given, once the rebalance is over.
    pub(crate) fn sync(
        &self,
        id: MemberId,
    ) -> Result<Option<(u64, BTreeSet<TopicPartition>)>, Beat> {
        let Some(member) = self.members.get(&id) else { return Err(Beat::Unknown) };
        if self.rebalancing.is_some() {
            return Ok(None);
        }
        Ok(Some((self.generation, member.given.clone())))
    }

    /// True if a member of this generation may commit offsets.
    pub(crate) fn allows(&self, id: MemberId, generation: u64) -> bool {
        self.members.contains_key(&id) && generation == self.generation
    }

    /// Who was given a partition in this generation.
    pub(crate) fn owner(&self, at: &TopicPartition) -> Option<MemberId> {
        self.members.iter().find(|(_, m)| m.given.contains(at)).map(|(id, _)| *id)
    }

    pub(crate) fn is_settled(&self) -> bool {
        let given: usize = self.members.values().map(|m| m.given.len()).sum();
        self.rebalancing.is_none() && given == self.partitions.len()
    }

    /// Lets the coordinator act: drops silent members, ends a rebalance. Returns members dropped.
    pub(crate) fn step(&mut self, now: i64, session: i64, within: i64, rng: &mut Rng) -> usize {
        let before = self.members.len();
        let late = self.rebalancing.is_some_and(|since| since + within < now);
        self.members.retain(|_, m| m.heard + session >= now && (m.joined || !late));
        let dropped = before - self.members.len();
        if dropped > 0 && self.rebalancing.is_none() {
            self.start(now);
        }
        if self.rebalancing.is_some() && self.members.values().all(|m| m.joined) {
            self.assign(rng);
        }
        dropped
    }

    /// Somebody wants other owners: a new member elsewhere, or a changed subscription.
    pub(crate) fn rebalance(&mut self, now: i64) {
        if self.rebalancing.is_none() && !self.members.is_empty() {
            self.start(now);
        }
    }

    fn assign(&mut self, rng: &mut Rng) {
        self.rebalancing = None;
        self.generation += 1;
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let mut load: BTreeMap<MemberId, usize> = ids.iter().map(|id| (*id, 0)).collect();
        let most = self.partitions.len().div_ceil(ids.len());
        let mut given: BTreeMap<MemberId, BTreeSet<TopicPartition>> = BTreeMap::new();
        let mut free = Vec::new();
        for at in &self.partitions {
            let owner = self.members.iter().find(|(_, m)| m.owned.contains(at)).map(|(id, _)| *id);
            match owner {
                // It stays, unless others have too little, or the dice say otherwise.
                Some(id) if load[&id] < most && !rng.permille(100) => {
                    *load.get_mut(&id).expect("a member") += 1;
                    given.entry(id).or_default().insert(at.clone());
                }
                // Given to nobody before its owner has let it go.
                Some(_) => {}
                None => free.push(at.clone()),
            }
        }
        for at in free {
            let least = *load.values().min().expect("not empty");
            let choice: Vec<MemberId> =
                load.iter().filter(|(_, n)| **n == least).map(|(id, _)| *id).collect();
            let id = choice[rng.below(choice.len())];
            *load.get_mut(&id).expect("a member") += 1;
            given.entry(id).or_default().insert(at);
        }
        for (id, member) in &mut self.members {
            member.given = given.remove(id).unwrap_or_default();
        }
    }
}
