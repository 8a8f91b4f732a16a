//! Ends what dead workers left open, once their partitions have come to another.
//!
//! An open transaction hides whatever follows it from readers, the new owner's own restore among them,
//! until its coordinator looks for such and finds it too old: up to 20 s with the brokers' defaults.
//! Initialising the transactional id of the dead worker ends it at once. The id stands beside the
//! offsets that it committed last, and it is dead if it is none of the group's members. A worker that
//! was only away for a while has lost its partitions, too, and makes its producer anew.

use crate::kafka::client::{ASK_TIMEOUT, Connection, Quiet, committed_at, create, list_of};
use crate::kafka::error::Error;
use crate::kafka::exactly::metadata::Committed;
use crate::kafka::task::TopicPartition;
use crate::model::ids::PartitionId;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use std::collections::{BTreeMap, BTreeSet};

/// What a group's coordinator says of its members and offsets.
#[derive(Debug)]
pub(in crate::kafka) struct Seen {
    /// As committed now, whatever is under way.
    pub(in crate::kafka) committed: BTreeMap<TopicPartition, Committed>,
    /// Partitions by the name of the member that has them; the name is its transactional id.
    pub(in crate::kafka) members: BTreeMap<String, BTreeSet<TopicPartition>>,
}

/// Asks for the members of `group` and what it has committed for `partitions`.
pub(in crate::kafka) fn look(
    connection: &Connection,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<Seen, Error> {
    let asker = asker(connection, group)?;
    let committed = committed_now(&asker, group, partitions)?;
    Ok(Seen { committed, members: members(&asker, group)? })
}

/// A client that is told what is committed now: a stable answer waits for the very transactions that
/// are of interest.
fn asker(connection: &Connection, group: &str) -> Result<BaseConsumer<Quiet>, Error> {
    let mut config = connection.consumer(group);
    config.set("isolation.level", "read_uncommitted");
    create(&config)
}

fn committed_now(
    asker: &BaseConsumer<Quiet>,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Committed>, Error> {
    let asking = |e| Error::broker(format!("asking for the offsets of group {group}"), e);
    let found = asker.committed_offsets(list_of(partitions), ASK_TIMEOUT).map_err(asking)?;
    let committed = found.elements().into_iter().filter_map(|e| {
        let at = TopicPartition::new(e.topic(), PartitionId::new(e.partition()));
        Some((at, committed_at(&e)?))
    });
    Ok(committed.collect())
}

/// Partitions by the name of the member that has them.
fn members(
    asker: &BaseConsumer<Quiet>,
    group: &str,
) -> Result<BTreeMap<String, BTreeSet<TopicPartition>>, Error> {
    let asking = |e| Error::broker(format!("asking for the members of group {group}"), e);
    let groups = asker.fetch_group_list(Some(group), ASK_TIMEOUT).map_err(asking)?;
    let known = groups.groups().iter().find(|known| known.name() == group);
    let members = known.into_iter().flat_map(|known| known.members()).map(|member| {
        let owned = member.assignment().and_then(assigned).unwrap_or_default();
        (member.client_id().to_owned(), owned)
    });
    Ok(members.collect())
}

/// Reads what the group's protocol says that a member was given; `None` if it says something else.
fn assigned(mut bytes: &[u8]) -> Option<BTreeSet<TopicPartition>> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (head, rest) = bytes.split_first_chunk::<N>()?;
        *bytes = rest;
        Some(*head)
    }
    let _version = take::<2>(&mut bytes)?;
    let mut found = BTreeSet::new();
    for _ in 0..i32::from_be_bytes(take(&mut bytes)?) {
        let length = usize::try_from(i16::from_be_bytes(take(&mut bytes)?)).ok()?;
        let (topic, rest) = bytes.split_at_checked(length)?;
        let topic = std::str::from_utf8(topic).ok()?;
        bytes = rest;
        for _ in 0..i32::from_be_bytes(take(&mut bytes)?) {
            let partition = PartitionId::new(i32::from_be_bytes(take(&mut bytes)?));
            found.insert(TopicPartition::new(topic, partition));
        }
    }
    Some(found)
}

/// Ends what dead workers of `group` left open that owned one of `partitions`, and tells their
/// transactional ids; `me` is the id of the worker that owns them now.
///
/// # Errors
/// If the brokers do not answer.
pub fn end_orphaned(
    connection: &Connection,
    group: &str,
    me: &str,
    partitions: &[TopicPartition],
) -> Result<Vec<String>, Error> {
    let asker = asker(connection, group)?;
    let committed = committed_now(&asker, group, partitions)?;
    let owners = committed.into_values().filter_map(|committed| committed.metadata);
    let mut orphaned: BTreeSet<String> = owners.map(|m| m.committer.into()).collect();
    orphaned.remove(me);
    if orphaned.is_empty() {
        return Ok(Vec::new());
    }
    let members = members(&asker, group)?;
    orphaned.retain(|id| !members.contains_key(id));
    for id in &orphaned {
        let producer: BaseProducer<Quiet> = create(&connection.transactional(id, 0))?;
        let ending = |e| Error::broker(format!("ending what {id} left open"), e);
        producer.init_transactions(ASK_TIMEOUT).map_err(ending)?;
    }
    Ok(orphaned.into_iter().collect())
}

/// The same on a thread of its own: the worker goes on meanwhile.
pub(super) fn end_orphaned_meanwhile(
    connection: &Connection,
    group: &str,
    me: &str,
    partitions: &[TopicPartition],
) {
    let (connection, group, me) = (connection.clone(), group.to_owned(), me.to_owned());
    let partitions = partitions.to_vec();
    let run = move || match end_orphaned(&connection, &group, &me, &partitions) {
        Ok(ended) => {
            for id in ended {
                tracing::info!(group, id, "ended what a worker that is gone had left open");
            }
        }
        // They end by themselves, only later.
        Err(error) => {
            tracing::warn!(group, %error, "transactions of the dead are left to time out")
        }
    };
    if let Err(error) = std::thread::Builder::new().name("heir".to_owned()).spawn(run) {
        tracing::warn!(%error, "transactions of the dead are left to time out");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read_and_what_is_none_is_not() {
        let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, 2, b'i', b'n', 0, 0, 0, 2];
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 7]);
        let at = |p| TopicPartition::new("in", PartitionId::new(p));
        assert_eq!(assigned(&bytes), Some(BTreeSet::from([at(0), at(7)])));
        for cut in 0..bytes.len() {
            assert_eq!(assigned(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(assigned(&[0, 1, 0, 0, 0, 0, 9, 9]), Some(BTreeSet::new()));
        assert_eq!(assigned(&[0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0]), None);
    }
}
