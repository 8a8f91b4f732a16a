//! Ends what dead workers left open, once their partitions have come to another.
//!
//! An open transaction hides whatever follows it from readers, the new owner's own restore among them,
//! until its coordinator looks for such and finds it too old: up to 20 s with the brokers' defaults.
//! Initialising the transactional id of the dead worker ends it at once. The id stands beside the
//! offsets that it committed last, and it is dead if it is none of the group's members. A worker that
//! was only away for a while has lost its partitions, too, and makes its producer anew.

use crate::kafka::client::{ASK_TIMEOUT, Connection, Quiet, committed_at, create, list_of};
use crate::kafka::error::Error;
use crate::kafka::task::TopicPartition;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use std::collections::BTreeSet;

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
    let mut config = connection.consumer(group);
    // What is committed now: a stable answer waits for the very transactions that are to be ended.
    config.set("isolation.level", "read_uncommitted");
    let consumer: BaseConsumer<Quiet> = create(&config)?;
    let asking = |e| Error::broker(format!("asking for the offsets of group {group}"), e);
    let found = consumer.committed_offsets(list_of(partitions), ASK_TIMEOUT).map_err(asking)?;
    let owners = found.elements().into_iter().filter_map(|e| committed_at(&e)?.metadata);
    let mut orphaned: BTreeSet<String> = owners.map(|m| m.committer.into()).collect();
    orphaned.remove(me);
    if orphaned.is_empty() {
        return Ok(Vec::new());
    }
    let asking = |e| Error::broker(format!("asking for the members of group {group}"), e);
    let groups = consumer.fetch_group_list(Some(group), ASK_TIMEOUT).map_err(asking)?;
    let Some(known) = groups.groups().iter().find(|known| known.name() == group) else {
        return Ok(Vec::new());
    };
    for member in known.members() {
        orphaned.remove(member.client_id());
    }
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
