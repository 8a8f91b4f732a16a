//! The state of a role as it stands on the cluster: what is committed, what its changelog holds; and
//! starting anew.
//!
//! Everything is read as a reader of committed records sees it. Which transactions are open cannot be
//! asked through the client. What can be seen is that a topic goes on behind its last stable offset; and
//! whose transaction that is in the changelog can only be of who owns the partition, or of who committed
//! last for it. Both say who they are.

use super::client::{ASK_TIMEOUT, Connection, Quiet, create};
use super::error::Error;
use super::exactly::heir::{Seen, look};
use super::exactly::metadata::Committed;
use super::reader::{Go, Tail, Tailed};
use super::start::{Source, Start};
use super::task::TopicPartition;
use super::topics::{options, wait};
use crate::clock::Moment;
use crate::codec::checkpoint::{CHECKPOINT_KEY, Checkpoint, IDENTITY_KEY, Unframer};
use crate::model::ids::{NextOffset, PartitionId};
use rdkafka::admin::AdminClient;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// One partition of a role.
#[derive(Clone, Debug)]
pub struct PartitionState {
    /// The partition of the input, and of the changelog.
    pub partition: PartitionId,
    /// What the group has committed.
    pub committed: Option<Committed>,
    /// The last checkpoint in the changelog.
    pub checkpoint: Option<Checkpoint>,
    /// Keys that the changelog holds.
    pub entries: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
    /// Oldest offset of the input, and the end of what is committed of it.
    pub input: (NextOffset, NextOffset),
    /// True if the input goes on behind what is committed: whoever writes it has a transaction open.
    pub open_input: bool,
    /// True if the changelog does: a worker of the role has a transaction open.
    pub open_changelog: bool,
    /// Whose that can be.
    pub suspects: Vec<Suspect>,
}

/// A worker that may have a transaction open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suspect {
    /// Its transactional id.
    pub id: String,
    /// True if the group has given it the partition.
    pub owns: bool,
    /// True if it is a member of the group; else it is dead, or was away for too long.
    pub is_member: bool,
}

/// Who owns a partition, and who committed last for it.
fn suspects(seen: &Seen, at: &TopicPartition) -> Vec<Suspect> {
    let mut found: Vec<Suspect> = Vec::new();
    let owners = seen.members.iter().filter(|(_, owned)| owned.contains(at));
    let ids = owners.map(|(id, _)| id.as_str());
    let committed = seen.committed.get(at).and_then(|c| c.metadata.as_ref());
    for id in ids.chain(committed.map(|metadata| metadata.committer.as_str())) {
        if found.iter().all(|suspect| suspect.id != id) {
            let owned = seen.members.get(id);
            let owns = owned.is_some_and(|owned| owned.contains(at));
            found.push(Suspect { id: id.to_owned(), owns, is_member: owned.is_some() });
        }
    }
    found
}

#[derive(Default)]
struct Found {
    keys: BTreeMap<PartitionId, BTreeMap<Vec<u8>, usize>>,
    checkpoints: BTreeMap<PartitionId, Checkpoint>,
    unreadable: Option<String>,
    ended: BTreeSet<PartitionId>,
}

/// Reads the state of a role; `changelog` is as long as it is, so this can take a while.
///
/// # Errors
/// If a topic is missing, the cluster cannot be asked, or the changelog holds what cannot be read.
pub fn inspect(
    connection: &Connection,
    group: &str,
    input: &str,
    changelog: &str,
) -> Result<Vec<PartitionState>, Error> {
    let mut found = read(connection, changelog)?;
    let (asker, all) = (connection.asker()?, connection.uncommitted_asker()?);
    let count = asker.partitions(input)?;
    let named = (0..count).map(|p| TopicPartition::new(input, PartitionId::new(p)));
    let seen = look(connection, group, &named.collect::<Vec<_>>())?;
    (0..count)
        .map(PartitionId::new)
        .map(|partition| {
            let (low, stable) = asker.bounds(input, partition)?;
            let open_input = all.bounds(input, partition)?.1 > stable;
            let kept = asker.bounds(changelog, partition)?.1;
            let open_changelog = all.bounds(changelog, partition)?.1 > kept;
            let at = TopicPartition::new(input, partition);
            let keys = found.keys.remove(&partition).unwrap_or_default();
            Ok(PartitionState {
                partition,
                committed: seen.committed.get(&at).cloned(),
                checkpoint: found.checkpoints.remove(&partition),
                entries: keys.len(),
                bytes: keys.iter().map(|(key, value)| key.len() + value).sum(),
                input: (NextOffset::new(low), stable),
                open_input,
                open_changelog,
                suspects: if open_changelog { suspects(&seen, &at) } else { Vec::new() },
            })
        })
        .collect()
}

fn read(connection: &Connection, changelog: &str) -> Result<Found, Error> {
    let found: Arc<Mutex<Found>> = Arc::default();
    let kept = found.clone();
    let partitions = connection.asker()?.partitions(changelog)?;
    let mut unframer = Unframer::default();
    let sources = [Source::new(changelog, Start::Earliest)];
    let tail = Tail::start("state", connection, &sources, move |tailed| {
        let mut found = kept.lock().expect("no panic while held");
        match tailed {
            Tailed::Record(record) => {
                let key = record.key.unwrap_or_default();
                if key == CHECKPOINT_KEY {
                    match unframer.checkpoint(record.value.unwrap_or_default()) {
                        Ok(checkpoint) => {
                            found.checkpoints.insert(record.partition, checkpoint);
                        }
                        Err(error) => {
                            let (at, offset) = (record.partition, record.offset);
                            found.unreadable = Some(format!("{at} offset {offset}: {error}"));
                            return Go::Stop;
                        }
                    }
                    return Go::On;
                }
                if key == IDENTITY_KEY {
                    return Go::On;
                }
                let keys = found.keys.entry(record.partition).or_default();
                match record.value {
                    Some(value) => keys.insert(key.to_vec(), value.len()),
                    None => keys.remove(key),
                };
                Go::On
            }
            Tailed::End { partition, .. } => {
                found.ended.insert(partition);
                let all = i32::try_from(found.ended.len()).is_ok_and(|ended| ended >= partitions);
                if all { Go::Stop } else { Go::On }
            }
        }
    })?;
    tail.join()?;
    let found = std::mem::take(&mut *found.lock().expect("no panic while held"));
    match found.unreadable {
        Some(reason) => Err(Error::System(format!("{changelog}/{reason}"))),
        None => Ok(found),
    }
}

/// Deletes groups with their committed offsets, and topics; returns when the topics are gone.
///
/// # Errors
/// If a group still has members, or the cluster refuses.
pub fn delete(connection: &Connection, groups: &[&str], topics: &[&str]) -> Result<(), Error> {
    let admin: AdminClient<Quiet> = create(&connection.admin())?;
    let what = || format!("deleting the groups {}", groups.join(", "));
    let answers =
        wait(admin.delete_groups(groups, &options()))?.map_err(|e| Error::broker(what(), e))?;
    for answer in answers {
        if let Err((group, code)) = answer
            && code != rdkafka::types::RDKafkaErrorCode::GroupIdNotFound
        {
            let reason = format!("{code} (stop all processes; their session lasts 10 s more)");
            return Err(Error::broker(format!("deleting group {group}"), reason));
        }
    }
    let what = || format!("deleting the topics {}", topics.join(", "));
    let answers =
        wait(admin.delete_topics(topics, &options()))?.map_err(|e| Error::broker(what(), e))?;
    for answer in answers {
        if let Err((topic, code)) = answer
            && code != rdkafka::types::RDKafkaErrorCode::UnknownTopicOrPartition
        {
            return Err(Error::broker(format!("deleting topic {topic}"), code));
        }
    }
    let since = Moment::now();
    for topic in topics {
        while connection.asker()?.partitions(topic).is_ok() {
            if since.elapsed_secs() > ASK_TIMEOUT.as_secs_f64() {
                return Err(Error::broker(what(), "they are still there"));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
    Ok(())
}
