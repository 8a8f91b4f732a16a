//! Questions to the coordinator and to leaders.

use super::{ASK_WITHIN, ExactWorker};
use crate::kafka::client::{committed_at, edges, list_of};
use crate::kafka::error::Error;
use crate::kafka::exactly::core::Bounds;
use crate::kafka::exactly::metadata::Committed;
use crate::kafka::task::TopicPartition;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Who owns what is only good to know.
const OWNERS_WITHIN: Duration = Duration::from_millis(300);

impl ExactWorker {
    /// Asks the coordinator for committed offsets that no transaction can change any more.
    pub(super) fn ask(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let client = self.consumer.client();
        let list = list_of(partitions);
        let edge = |edge| edges(client, &list, edge, ASK_WITHIN).map_err(|e| e.to_string());
        let bounds = edge(Offset::Beginning).and_then(|low| Ok((low, edge(Offset::End)?)));
        let found = client.committed_offsets(list, ASK_WITHIN).map_err(|e| e.to_string());
        let found = found.and_then(|found| Ok((found, bounds?)));
        let mut answers = Vec::new();
        for at in partitions {
            let answer = match &found {
                Ok((found, (low, high))) => {
                    let bounds = low.get(at).zip(high.get(at));
                    answer(found, at)
                        .zip(bounds.map(|(low, high)| Bounds { low: *low, high: *high }))
                }
                Err(error) => {
                    tracing::debug!(%at, %error, "the committed offset is asked for again");
                    self.around.monitor.note(&format!("asking for the offset of {at}: {error}"));
                    None
                }
            };
            answers.push((at, answer));
        }
        let now = self.now();
        for (at, answer) in answers {
            match answer {
                Some((committed, bounds)) => {
                    // What another worker of this process left is no earlier process's.
                    if committed.is_some() && self.around.shared.done(at).is_none() {
                        self.around.shared.resumed.store(true, Ordering::SeqCst);
                    }
                    self.core.committed(at, committed, bounds, now)?;
                }
                None => self.core.not_answered(at, now),
            }
        }
        Ok(())
    }

    /// Asks who has committed for every partition of the input last.
    pub(super) fn ask_owners(&mut self) {
        let list = list_of(self.around.starts.keys());
        let found = match self.consumer.client().committed_offsets(list, OWNERS_WITHIN) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "who owns what is asked for again");
                return;
            }
        };
        let mut owners = BTreeMap::new();
        for at in self.around.starts.keys() {
            if let Some(Some(Committed { metadata: Some(metadata), .. })) = answer(&found, at) {
                owners.insert(at.clone(), metadata.committer);
            }
        }
        self.core.owners(&owners);
    }
}

/// What the coordinator says of one partition; the outer `None` if it says nothing.
fn answer(found: &TopicPartitionList, at: &TopicPartition) -> Option<Option<Committed>> {
    let element = found.find_partition(&at.topic, at.partition.get())?;
    if element.error().is_err() {
        return None;
    }
    Some(committed_at(&element))
}
