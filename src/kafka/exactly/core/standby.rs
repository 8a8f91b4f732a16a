//! Copies of states that others own, kept warm: whoever takes such a partition over has no restore.
//!
//! A copy follows the changelog as committed, so that it is always what some whole checkpoints say. A
//! partition that comes brings its copy along, and what is left to read is what came since.
//!
//! Who follows what needs no protocol of its own. The metadata of the committed offsets say which
//! worker owns each partition, so every worker can see the others that own something. Of those, and
//! itself, without the owner's instance, the first by a hash of worker and partition follow it. Where
//! two see different owners for a while a partition has a copy more, or less; nothing rests on it.
//!
//! The group's assignor knows nothing of copies: with two instances the one that is left has them all;
//! with more, one in so many other instances gets a partition that it has no copy of, and restores.

use super::super::slot::Found;
use super::{Command, Core};
use crate::codec::checkpoint::{CHECKPOINT_KEY, IDENTITY_KEY, Unframer};
use crate::engine::state::Checkpointed;
use crate::kafka::task::{Task, TopicPartition};
use crate::model::time::Millis;
use compact_str::CompactString;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// How often it is looked who owns what.
const LOOK_EVERY: Millis = Millis::from_secs(5);

/// The state of a partition that another worker owns, as its changelog says.
pub(super) struct Standby {
    at: TopicPartition,
    task: Box<dyn Task>,
    found: Found,
}

/// Who follows what.
#[derive(Default)]
pub(super) struct Standbys {
    warm: Vec<Standby>,
    look_at: Millis,
    /// Changelogs that this program cannot read: of another version, most likely.
    refused: BTreeSet<TopicPartition>,
}

impl Standbys {
    /// True if it is time to look who owns what.
    pub(super) fn wants_owners(&mut self, now: Millis) -> bool {
        let due = self.look_at <= now;
        if due {
            self.look_at = Millis::from_ms(now.as_ms() + LOOK_EVERY.as_ms());
        }
        due
    }

    /// Hands out the copy of a partition, if there is one.
    pub(super) fn take(&mut self, at: &TopicPartition) -> Option<(Box<dyn Task>, Found)> {
        let place = self.warm.iter().position(|standby| standby.at == *at)?;
        let Standby { task, found, .. } = self.warm.swap_remove(place);
        Some((task, found))
    }

    /// A record of a changelog; `Err` says why the copy is of no use.
    pub(super) fn entry(
        &mut self,
        unframer: &mut Unframer,
        at: &TopicPartition,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), String> {
        let Some(standby) = self.warm.iter_mut().find(|s| s.at == *at) else { return Ok(()) };
        let state = standby.task.state().expect("only tasks with state are followed");
        take_entry(unframer, state, &mut standby.found, key, value)
    }

    /// What was read into a copy is of no use.
    pub(super) fn begin_anew(&mut self, at: &TopicPartition, task: Box<dyn Task>) {
        if let Some(standby) = self.warm.iter_mut().find(|s| s.at == *at) {
            (standby.task, standby.found) = (task, Found::default());
        }
    }

    pub(super) fn refuse(&mut self, at: &TopicPartition) {
        self.warm.retain(|standby| standby.at != *at);
        self.refused.insert(at.clone());
    }

    pub(super) fn has(&self, at: &TopicPartition) -> bool {
        self.warm.iter().any(|standby| standby.at == *at)
    }
}

/// Takes in one record of a changelog.
pub(super) fn take_entry(
    unframer: &mut Unframer,
    state: &mut dyn Checkpointed,
    found: &mut Found,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), String> {
    if key == CHECKPOINT_KEY {
        let read = unframer.checkpoint(value.unwrap_or_default()).map_err(|e| e.to_string())?;
        found.checkpoint = Some(read);
        return Ok(());
    }
    if key == IDENTITY_KEY {
        let text = unframer.entry(value.unwrap_or_default()).map_err(|e| e.to_string())?;
        found.changelog = CompactString::from_utf8(text).map_err(|e| e.to_string())?;
        return Ok(());
    }
    let value =
        value.map(|framed| unframer.entry(framed)).transpose().map_err(|e| e.to_string())?;
    state.restore(key, value.as_deref()).map_err(|e| e.to_string())
}

/// A worker's name without its number: the instance that it runs in.
fn instance(worker: &str) -> &str {
    worker.rsplit_once('-').map_or(worker, |(instance, _)| instance)
}

/// True if `me` is among the first `copies` workers for a partition that `owner` has.
fn is_chosen(
    me: &str,
    owner: &str,
    workers: &BTreeSet<&str>,
    at: &TopicPartition,
    copies: usize,
) -> bool {
    let others = workers.iter().filter(|worker| instance(worker) != instance(owner));
    let rank = |worker: &str| xxh3_64(format!("{worker} {at}").as_bytes());
    let mut ranked: Vec<(u64, &str)> = others.map(|worker| (rank(worker), *worker)).collect();
    ranked.sort_unstable();
    ranked.iter().take(copies).any(|(_, worker)| *worker == me)
}

impl Core {
    /// Who has committed for each partition of the input last: answers [`Command::AskOwners`].
    pub fn owners(&mut self, owners: &BTreeMap<TopicPartition, CompactString>) {
        let me = self.settings.committer.as_str();
        let mut workers: BTreeSet<&str> = owners.values().map(CompactString::as_str).collect();
        workers.insert(me);
        let copies = self.settings.standby_replicas;
        let wanted: BTreeSet<&TopicPartition> = owners
            .iter()
            .filter(|(at, owner)| is_chosen(me, owner, &workers, at, copies))
            .map(|(at, _)| at)
            .filter(|at| !self.slots.iter().any(|slot| slot.at == **at))
            .filter(|at| !self.standbys.refused.contains(*at))
            .collect();
        for gone in self.standbys.warm.extract_if(.., |s| !wanted.contains(&s.at)) {
            self.commands.push(Command::CloseChangelog(gone.at));
        }
        for at in wanted {
            if self.standbys.has(at) {
                continue;
            }
            let Ok(mut task) = self.factory.create(&at.topic, at.partition) else { continue };
            if task.state().is_none() {
                continue;
            }
            self.standbys.warm.push(Standby { at: at.clone(), task, found: Found::default() });
            self.commands.push(Command::Follow(at.clone()));
        }
    }

    /// Partitions whose state it keeps warm.
    pub fn standbys(&self) -> impl Iterator<Item = &TopicPartition> {
        self.standbys.warm.iter().map(|standby| &standby.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::PartitionId;

    #[test]
    fn every_partition_has_its_copies_and_none_where_it_is_owned() {
        let workers = ["g-a-0", "g-a-1", "g-b-0", "g-c-0"];
        let all = BTreeSet::from(workers);
        let mut of_c = 0;
        for partition in 0..60 {
            let at = TopicPartition::new("in", PartitionId::new(partition));
            let chosen = |copies: usize| -> Vec<&str> {
                let is = |me: &&str| is_chosen(me, "g-a-1", &all, &at, copies);
                workers.into_iter().filter(is).collect()
            };
            let one = chosen(1);
            assert!(one == ["g-b-0"] || one == ["g-c-0"], "{one:?}");
            assert_eq!(chosen(2), ["g-b-0", "g-c-0"]);
            assert_eq!(chosen(0), [""; 0]);
            of_c += usize::from(one == ["g-c-0"]);
        }
        assert!((15..=45).contains(&of_c), "{of_c} of 60");
    }
}
